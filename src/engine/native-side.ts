/**
 * What a client or a server adds to the native engine: what it asks OpenSSL for, how it judges its peer, which of the
 * program's callbacks it calls.
 *
 * Verification is Node's, by the same steps (`onConnectSecure` and `onServerSocketSecure` in its `internal/tls/wrap`):
 * OpenSSL is told to go on whatever it finds, and the certificate is judged when the handshake is complete.
 */
import { Buffer } from 'node:buffer';
import { X509Certificate } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import tls from 'node:tls';
import type {
  EngineBinding,
  NativeConnection,
  NativeContext,
  NativeInfo,
  NativeOptions,
} from '../add-on.ts';
import { OptionError } from '../errors.ts';
import { parseCertificateRequest12, parseCertificateRequest13 } from '../record/handshake.ts';
import { nativeForeignContext, nativeIdentityContext, unwrapSession } from './native-context.ts';
import type {
  ClientIdentity,
  ClientTlsOptions,
  EngineOptions,
  ServerTlsOptions,
} from './options.ts';

/** OpenSSL's. */
const VERIFY_PEER = 1;
const FAIL_IF_NO_PEER_CERT = 2;

/** What stands on one side only. */
export interface Side {
  /** What the connection is made with. */
  readonly native: NativeOptions;
  /** What the peer's certificate is judged to be. @throws what the program's function throws. */
  judge(info: NativeInfo, chain: () => Uint8Array[]): Judgement;
  /** Whom the session is of. */
  readonly name: string | null;
  /**
   * The certificate to present; null for the one that the connection has. A server is asked where its client gives a
   * name, a client where its server sends a CertificateRequest.
   */
  readonly certificateFor:
    | ((connection: NativeConnection, request: Uint8Array) => Promise<NativeContext | null>)
    | null;
  /** The peer renegotiates (TLS 1.2). @returns why the connection fails; null where it goes on. */
  onRenegotiation(): Error | null;
  /** What a callback of the program's has thrown within a call of OpenSSL. */
  error: Error | null;
  readonly chooseProtocol: ((offered: Uint8Array, servername: string) => number | undefined) | null;
}

export interface Judgement {
  readonly authorized: boolean;
  /** A code such as `CERT_HAS_EXPIRED`. */
  readonly authorizationError: string | null;
  /** Why the connection fails; null where it goes on. */
  readonly failure: Error | null;
}

/**
 * @param context the connection's own.
 * @throws {OptionError}
 */
export function clientSide(
  binding: EngineBinding,
  options: ClientTlsOptions,
  context: NativeContext,
  certificateFor: EngineOptions['certificateFor'],
): Side {
  const { servername, host, rejectUnauthorized, session, ALPNProtocols } = options;
  const name = servername || host || 'localhost';
  const verified = rejectUnauthorized !== false;
  const resumed = unwrapSession(session, name, verified);
  return {
    native: {
      ...(servername && { servername: Buffer.from(servername) }),
      ...(resumed && { session: resumed }),
      ...alpnOf(ALPNProtocols),
    },
    name,
    certificateFor:
      certificateFor === undefined
        ? null
        : presenting(certificateFor, context, (identity) =>
            nativeIdentityContext(binding, identity, options.ciphers),
          ),
    chooseProtocol: null,
    onRenegotiation: () => null,
    error: null,
    judge: (info, chain) => judgeServer(options, name, verified, info, chain),
  };
}

/** @throws {OptionError} */
export function serverSide(binding: EngineBinding, options: ServerTlsOptions): Side {
  const { requestCert, rejectUnauthorized, ALPNProtocols, ALPNCallback, SNICallback, tickets } =
    options;
  const rejects = rejectUnauthorized !== false;
  const verify = requestCert ? VERIFY_PEER | (rejects ? FAIL_IF_NO_PEER_CERT : 0) : 0;
  return {
    native: {
      server: true,
      verify,
      ...(tickets !== undefined && { ticketCount: tickets }),
      ...alpnOf(ALPNProtocols),
    },
    name: null,
    certificateFor:
      SNICallback === undefined
        ? null
        : async (connection) => {
            const found = await ask(SNICallback, connection.servername() ?? '');
            return found && nativeForeignContext(binding, found);
          },
    chooseProtocol:
      ALPNCallback === undefined
        ? null
        : (offered, asked) => chooseProtocol(ALPNCallback, offered, asked),
    onRenegotiation: renegotiations(),
    error: null,
    judge: (info) => judgeClient(requestCert === true, rejects, info),
  };
}

/** What a client presents at each request. What it has presented before is not presented again by itself. */
function presenting(
  certificateFor: NonNullable<EngineOptions['certificateFor']>,
  own: NativeContext,
  contextOf: (identity: ClientIdentity) => NativeContext,
): NonNullable<Side['certificateFor']> {
  let presented = false;
  return async (connection, message) => {
    const tls13 = connection.info().protocol === 'TLSv1.3';
    const parse = tls13 ? parseCertificateRequest13 : parseCertificateRequest12;
    // Not parts of Node's Buffer: the program is given them.
    const request = parse(Uint8Array.from(message));
    const identity = await certificateFor(request);
    if (identity === null) return presented ? own : null;
    presented = true;
    return contextOf(identity);
  };
}

/** As Node limits them: `tls.CLIENT_RENEG_LIMIT` within `tls.CLIENT_RENEG_WINDOW` seconds. */
function renegotiations(): () => Error | null {
  let count = 0;
  let last = 0;
  return () => {
    const now = performance.now();
    count = now - last >= tls.CLIENT_RENEG_WINDOW * 1000 ? 1 : count + 1;
    last = now;
    if (count <= tls.CLIENT_RENEG_LIMIT) return null;
    const error = new Error('TLS session renegotiation attack detected');
    return Object.assign(error, { code: 'ERR_TLS_SESSION_ATTACK' });
  };
}

/** As on the wire: each protocol behind its length. Bytes are taken as they are, as Node does. */
function alpnOf(protocols: ClientTlsOptions['ALPNProtocols']): { readonly alpn?: Uint8Array } {
  if (protocols === undefined || protocols === null) return {};
  if (ArrayBuffer.isView(protocols)) {
    return { alpn: Buffer.from(protocols.buffer, protocols.byteOffset, protocols.byteLength) };
  }
  const all = protocols.flatMap((one) => {
    const name = typeof one === 'string' ? Buffer.from(one) : one;
    if (name.length === 0 || name.length > 255) {
      throw new OptionError('each of ALPNProtocols must have 1 to 255 bytes');
    }
    return [Buffer.of(name.length), name];
  });
  return { alpn: Buffer.concat(all) };
}

// ---- judging

function judgeServer(
  options: ClientTlsOptions,
  name: string,
  verified: boolean,
  info: NativeInfo,
  chain: () => Uint8Array[],
): Judgement {
  const { minDHSize = 1024, checkServerIdentity = tls.checkServerIdentity } = options;
  if (info.dhBits > 0 && info.dhBits < minDHSize) {
    const error = new Error(`DH parameter size ${info.dhBits} is less than ${minDHSize}`);
    const failure = Object.assign(error, { code: 'ERR_TLS_DH_PARAM_SIZE' });
    return { authorized: false, authorizationError: null, failure };
  }
  const error =
    info.code !== null
      ? verifyError(info)
      : info.resumed
        ? undefined
        : identityError(checkServerIdentity, name, chain());
  if (error === undefined) return AUTHORIZED;
  const authorizationError = (error as { code?: string }).code || error.message;
  return { authorized: false, authorizationError, failure: verified ? error : null };
}

const AUTHORIZED: Judgement = { authorized: true, authorizationError: null, failure: null };

function judgeClient(asked: boolean, rejects: boolean, info: NativeInfo): Judgement {
  if (!asked) return { authorized: false, authorizationError: null, failure: null };
  if (info.code === null && info.hasCertificate) return AUTHORIZED;
  const error = verifyError(info.code === null ? NO_CERTIFICATE : info);
  return { authorized: false, authorizationError: error.code, failure: rejects ? error : null };
}

/** A session was resumed in which the client had none. */
const NO_CERTIFICATE = {
  code: 'UNABLE_TO_GET_ISSUER_CERT',
  reason: 'unable to get issuer certificate',
};

function verifyError({ code, reason }: Pick<NativeInfo, 'code' | 'reason'>) {
  return Object.assign(new Error(reason ?? 'unknown'), { code: code ?? 'UNSPECIFIED' });
}

/** Node's own, to which a certificate without its issuers is enough. */
const nodesCheck = tls.checkServerIdentity;

function identityError(
  check: typeof tls.checkServerIdentity,
  name: string,
  chain: readonly Uint8Array[],
): Error | undefined {
  const [own] = chain;
  if (check === nodesCheck && own !== undefined) {
    // Where a name in it fits, nothing else of the certificate is looked at.
    const subjectaltname = alternativeNames(own);
    if (subjectaltname !== '') {
      const error = check(name, { subjectaltname } as unknown as tls.PeerCertificate);
      if (error === undefined) return undefined;
    }
  }
  return check(name, legacy(chain.map((der) => new X509Certificate(der))));
}

/** The names in certificates that came before: to read one takes a tenth of a connection's whole CPU time. */
const known = new Map<string, string>();
const KNOWN = 64;

/** What Node calls `subjectaltname`; empty where there is none. */
function alternativeNames(der: Uint8Array): string {
  const key = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('latin1');
  const names = known.get(key) ?? new X509Certificate(der).subjectAltName ?? '';
  // Again, so that it is the last.
  known.delete(key);
  known.set(key, names);
  for (const oldest of known.keys()) {
    if (known.size <= KNOWN) break;
    known.delete(oldest);
  }
  return names;
}

/** What `getPeerCertificate(true)` of a TLS socket gives. */
function legacy(chain: readonly X509Certificate[]): tls.DetailedPeerCertificate {
  const objects = chain.map((one) => one.toLegacyObject() as tls.DetailedPeerCertificate);
  for (const [i, one] of objects.entries()) {
    const issuer = objects[i + 1];
    if (issuer !== undefined) one.issuerCertificate = issuer;
    else if (chain[i]?.checkIssued(chain[i])) one.issuerCertificate = one;
  }
  return objects[0] ?? ({} as tls.DetailedPeerCertificate);
}

// ---- what a program's callbacks give

function ask(
  callback: NonNullable<ServerTlsOptions['SNICallback']>,
  servername: string,
): Promise<tls.SecureContext | null> {
  return new Promise((resolve, reject) => {
    callback(servername, (error, context) => {
      if (error) reject(error);
      else resolve(context ?? null);
    });
  });
}

/** @returns where the chosen protocol stands in what was offered; undefined where none is. */
function chooseProtocol(
  callback: NonNullable<ServerTlsOptions['ALPNCallback']>,
  offered: Uint8Array,
  servername: string,
): number | undefined {
  const places = new Map<string, number>();
  for (let at = 0; at < offered.length; at += 1 + (offered[at] as number)) {
    const protocol = Buffer.from(offered).toString('latin1', at + 1, at + 1 + (offered[at] ?? 0));
    if (!places.has(protocol)) places.set(protocol, at);
  }
  const protocols = [...places.keys()];
  const chosen = callback({ servername, protocols });
  if (chosen === undefined) return undefined;
  const place = places.get(chosen);
  if (place !== undefined) return place;
  const error = new TypeError(
    `ALPN callback returned a value (${chosen}) that did not match any of the client's offered protocols (${protocols.join(', ')})`,
  );
  throw Object.assign(error, { code: 'ERR_TLS_ALPN_CALLBACK_INVALID_RESULT' });
}
