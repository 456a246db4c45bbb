/**
 * TLS handshake messages, as far as closing and client certificates need them. Pure.
 * RFC 9846 section 4 (TLS 1.3), RFC 5246 section 7.4 (TLS 1.2).
 */
import { MalformedError } from '../errors.ts';
import { list, Reader } from './reader.ts';

/** HandshakeType. */
export const HANDSHAKE_TYPE = {
  helloRequest: 0,
  clientHello: 1,
  serverHello: 2,
  newSessionTicket: 4,
  endOfEarlyData: 5,
  encryptedExtensions: 8,
  certificate: 11,
  serverKeyExchange: 12,
  certificateRequest: 13,
  serverHelloDone: 14,
  certificateVerify: 15,
  clientKeyExchange: 16,
  finished: 20,
  certificateStatus: 22,
  keyUpdate: 24,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(HANDSHAKE_TYPE).map(([name, code]) => [
    code,
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  ]),
);

/** The message's name in the standard's spelling, such as `certificate_request`. */
export function handshakeName(type: number): string {
  return NAMES.get(type) ?? `handshake_${type}`;
}

/** A whole handshake message. */
export interface HandshakeMessage {
  readonly type: number;
  /** The message after its 4-byte header. */
  readonly body: Uint8Array;
}

/** Messages longer than this are refused: no certificate flight needs it, and memory is finite. */
export const MAX_HANDSHAKE_LENGTH = 1 << 20;

/**
 * Joins handshake messages that records carry in pieces, or several to a record.
 */
export class HandshakeReader {
  #pending: Uint8Array = new Uint8Array(0);

  /** Whether a message has begun and not ended. */
  get midMessage(): boolean {
    return this.#pending.length > 0;
  }

  /**
   * Takes the content of one record of type handshake.
   *
   * @returns the messages that are complete now, in order.
   * @throws {MalformedError} for a message that claims more than `MAX_HANDSHAKE_LENGTH`.
   */
  push(content: Uint8Array): HandshakeMessage[] {
    const bytes = concat(this.#pending, content);
    const messages: HandshakeMessage[] = [];
    let at = 0;
    while (bytes.length - at >= 4) {
      const header = new Reader(bytes.subarray(at, at + 4));
      const type = header.uint(1);
      const length = header.uint(3);
      if (length > MAX_HANDSHAKE_LENGTH) {
        throw new MalformedError(`a handshake message of ${length} bytes`, at);
      }
      if (bytes.length - at < 4 + length) break;
      // A copy: Buffer's own slice() would be a view of memory that is used again.
      messages.push({ type, body: Uint8Array.from(bytes.subarray(at + 4, at + 4 + length)) });
      at += 4 + length;
    }
    this.#pending = Uint8Array.from(bytes.subarray(at));
    return messages;
  }
}

/** What a ClientHello or ServerHello says of the keys to come. */
export interface Hello {
  /** 0x0303 for TLS 1.2, 0x0304 for TLS 1.3. */
  readonly version: number;
  readonly random: Uint8Array;
  /** The suite that a server chose. */
  readonly cipherSuite: number;
  /** A ServerHello that asks for another ClientHello (RFC 9846 section 4.1.4). */
  readonly retry: boolean;
  readonly extensions: ReadonlyMap<number, Uint8Array>;
}

/** SHA-256 of "HelloRetryRequest", the random by which one is known (RFC 9846 section 4.1.3). */
const RETRY_RANDOM = 'cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c';

const SUPPORTED_VERSIONS = 43;

/** @throws {MalformedError} */
export function parseServerHello(body: Uint8Array): Hello {
  const reader = new Reader(body);
  const legacyVersion = reader.uint(2);
  const random = reader.bytes(32);
  reader.vector(1);
  const cipherSuite = reader.uint(2);
  reader.uint(1);
  const extensions = reader.left > 0 ? parseExtensions(reader.vector(2)) : new Map();
  reader.end();
  const chosen = extensions.get(SUPPORTED_VERSIONS);
  return {
    version: chosen === undefined ? legacyVersion : new Reader(chosen).uint(2),
    random,
    cipherSuite,
    retry: hex(random) === RETRY_RANDOM,
    extensions,
  };
}

/** The random of a ClientHello, by which a key log names a connection. @throws {MalformedError} */
export function parseClientRandom(body: Uint8Array): Uint8Array {
  const reader = new Reader(body);
  reader.uint(2);
  return reader.bytes(32);
}

/** @throws {MalformedError}, also for an extension that comes twice. */
export function parseExtensions(bytes: Uint8Array): Map<number, Uint8Array> {
  const extensions = new Map<number, Uint8Array>();
  for (const [type, data] of list(bytes, (r) => [r.uint(2), r.vector(2)] as const)) {
    if (extensions.has(type)) throw new MalformedError(`extension ${type} comes twice`, 0);
    extensions.set(type, data);
  }
  return extensions;
}

/** One OID filter of a TLS 1.3 request (RFC 9846 section 4.2.5), both parts as DER. */
export interface OidFilter {
  readonly oid: Uint8Array;
  readonly values: Uint8Array;
}

/** What a server asks of a client certificate. */
export interface CertificateRequest {
  readonly version: 'TLSv1.2' | 'TLSv1.3';
  /** The DER of each distinguished name, in the server's order; empty where it names none. */
  readonly authorities: readonly Uint8Array[];
  /** Whether a TLS 1.3 request has the certificate_authorities extension at all. */
  readonly namesAuthorities: boolean;
  /** SignatureScheme numbers that the certificate's key must sign with. */
  readonly signatureAlgorithms: readonly number[];
  /** SignatureScheme numbers for the signatures on the chain; null where not said (TLS 1.3). */
  readonly signatureAlgorithmsCert: readonly number[] | null;
  /** ClientCertificateType numbers (TLS 1.2), or null. */
  readonly certificateTypes: readonly number[] | null;
  /** (TLS 1.3), or null. */
  readonly oidFilters: readonly OidFilter[] | null;
  /** Empty but for post-handshake authentication (TLS 1.3). */
  readonly context: Uint8Array;
}

const uint16s = (bytes: Uint8Array): number[] => list(bytes, (r) => r.uint(2));

/** "opaque DistinguishedName<1..2^16-1>": a name is never empty. */
const names = (bytes: Uint8Array): Uint8Array[] => list(bytes, (r) => r.vector(2, 1));

/** RFC 5246 section 7.4.4. @throws {MalformedError} */
export function parseCertificateRequest12(body: Uint8Array): CertificateRequest {
  const reader = new Reader(body);
  const certificateTypes = [...reader.vector(1, 1)];
  const signatureAlgorithms = uint16s(reader.vector(2));
  const authorities = names(reader.vector(2));
  reader.end();
  return {
    version: 'TLSv1.2',
    authorities,
    namesAuthorities: true,
    signatureAlgorithms,
    signatureAlgorithmsCert: null,
    certificateTypes,
    oidFilters: null,
    context: new Uint8Array(0),
  };
}

const SIGNATURE_ALGORITHMS = 13;
const CERTIFICATE_AUTHORITIES = 47;
const OID_FILTERS = 48;
const SIGNATURE_ALGORITHMS_CERT = 50;

/** RFC 9846 section 4.3.2. @throws {MalformedError} */
export function parseCertificateRequest13(body: Uint8Array): CertificateRequest {
  const reader = new Reader(body);
  const context = reader.vector(1);
  const extensions = parseExtensions(reader.vector(2));
  reader.end();
  const algorithms = extensions.get(SIGNATURE_ALGORITHMS);
  if (algorithms === undefined) {
    // "The "signature_algorithms" extension MUST be specified".
    throw new MalformedError('a CertificateRequest without signature_algorithms', 0);
  }
  const whole = (bytes: Uint8Array, min: number): Uint8Array => {
    const r = new Reader(bytes);
    const content = r.vector(2, min);
    r.end();
    return content;
  };
  const authorities = extensions.get(CERTIFICATE_AUTHORITIES);
  const forChain = extensions.get(SIGNATURE_ALGORITHMS_CERT);
  const filters = extensions.get(OID_FILTERS);
  return {
    version: 'TLSv1.3',
    // "DistinguishedName authorities<3..2^16-1>".
    authorities: authorities === undefined ? [] : names(whole(authorities, 3)),
    namesAuthorities: authorities !== undefined,
    signatureAlgorithms: uint16s(whole(algorithms, 2)),
    signatureAlgorithmsCert: forChain === undefined ? null : uint16s(whole(forChain, 2)),
    certificateTypes: null,
    oidFilters:
      filters === undefined
        ? null
        : list(whole(filters, 0), (r) => ({ oid: r.vector(1, 1), values: r.vector(2) })),
    context,
  };
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b;
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/** Lower-case hexadecimal. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
