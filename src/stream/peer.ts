/**
 * Who is at the other end, and through what: certificates, keys and sessions from Node's TLS socket, addresses and
 * socket options from the transport.
 *
 * All of it is optional: Deno and Bun lack some members, a transport in memory has no address, and a socket that
 * was let go has forgotten most. What is not there is null or undefined, and never an exception.
 */
import { Buffer } from 'node:buffer';
import { X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { Closure } from '../closure/verdict.ts';
import { OptionError } from '../errors.ts';

/** What a stream and its Duplex have of a `net.Socket`. */
export interface TransportMembers {
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly remoteFamily: string | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  readonly localFamily: string | undefined;
  setNoDelay(noDelay?: boolean): unknown;
  setKeepAlive(enable?: boolean, initialDelay?: number): unknown;
  ref(): unknown;
  unref(): unknown;
}

type Address = {
  [Name in keyof TransportMembers as TransportMembers[Name] extends string | number | undefined
    ? Name
    : never]: TransportMembers[Name];
};

/** An address or port of a transport; undefined where it has none, or is closed. */
export function addressOf<Name extends keyof Address>(
  transport: Duplex,
  name: Name,
): Address[Name] {
  return (transport as unknown as Address)[name];
}

/** Sets a socket option of a transport; nothing where the transport has no such option. */
export function callTransport(
  transport: Duplex,
  name: 'setNoDelay' | 'setKeepAlive' | 'ref' | 'unref',
  ...args: unknown[]
): void {
  const method = (transport as unknown as Record<string, unknown>)[name];
  if (typeof method === 'function') method.apply(transport, args);
}

/**
 * The peer's certificate chain as Node knows it: the peer's own certificate first, each followed by its issuer. It
 * includes an issuer from this side's trust store, where the peer did not send it.
 *
 * @returns an empty list where the peer presented none, or the socket was let go.
 */
export function certificateChain(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  const first = orNull(() => socket.getPeerCertificate(true));
  const seen = new Set<object>();
  for (let one = first; one?.raw !== undefined && !seen.has(one); one = issuerOf(one)) {
    seen.add(one);
    const certificate = parse(one.raw);
    if (certificate === null) break;
    chain.push(certificate);
  }
  return chain;
}

// A certificate that signs itself is its own issuer.
const issuerOf = (one: DetailedPeerCertificate) => one.issuerCertificate ?? null;

/** The peer's own certificate alone, which takes a tenth of the time of the chain. */
export function peerCertificate(socket: TLSSocket): X509Certificate | null {
  const raw = orNull(() => socket.getPeerCertificate(false))?.raw;
  return raw === undefined ? null : parse(raw);
}

const parse = (raw: Uint8Array) => orNull(() => new X509Certificate(raw));

/**
 * Keying material for another protocol, bound to this connection (RFC 9846 section 7.5, RFC 5705).
 *
 * @param length how many bytes.
 * @returns null where the runtime has no exporter, or the socket was let go.
 * @throws {OptionError}
 */
export function exportKeyingMaterial(
  socket: TLSSocket,
  length: number,
  label: string,
  context?: Uint8Array,
): Buffer | null {
  if (!Number.isSafeInteger(length) || length < 1) {
    throw new OptionError('length must be a whole number of bytes, 1 or more');
  }
  if (typeof label !== 'string') throw new OptionError('label must be a string');
  if (context !== undefined && !(context instanceof Uint8Array)) {
    throw new OptionError('context must be a Uint8Array');
  }
  // Deno and Bun may lack it; a socket that was let go has no keys.
  if (socket.destroyed || typeof socket.exportKeyingMaterial !== 'function') return null;
  // No context and an empty one are two things in TLS 1.2, so it is passed on only where it was given.
  const exporter = socket.exportKeyingMaterial as (
    ...args: [length: number, label: string, context?: Buffer]
  ) => Buffer;
  try {
    return context === undefined
      ? exporter.call(socket, length, label)
      : exporter.call(socket, length, label, bufferOf(context));
  } catch (cause) {
    if (!isFromOpenssl(cause)) return null;
    throw new OptionError('the exporter refuses this length or label', { cause });
  }
}

const bufferOf = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Any other error is of a runtime that has the method by name only. */
const isFromOpenssl = (error: unknown) =>
  String((error as { code?: unknown } | null)?.code).startsWith('ERR_SSL') ||
  (error as { code?: unknown } | null)?.code === 'ERR_CRYPTO_OPERATION_FAILED';

/**
 * The session, for `connect({ session })`. In TLS 1.3 it can be resumed only once the server's ticket has come,
 * which it does after the handshake: `onSession` hears of each.
 */
export function sessionOf(socket: TLSSocket): Buffer | null {
  return orNull(() => socket.getSession());
}

/** What `console.log(stream)` shows of a stream. */
export interface Summary {
  readonly role: 'client' | 'server';
  readonly protocol: string;
  readonly cipher: string;
  readonly servername: string | null;
  readonly transport: Duplex;
  readonly closure: Closure;
}

/** One line, such as `TlsStream { client TLSv1.3 TLS_AES_128_GCM_SHA256, peer localhost 127.0.0.1:443, open }`. */
export function summarize(summary: Summary): string {
  const { role, protocol, cipher, servername, transport, closure } = summary;
  const address = addressOf(transport, 'remoteAddress');
  const host = address?.includes(':') ? `[${address}]` : address;
  const place = host === undefined ? null : `${host}:${addressOf(transport, 'remotePort')}`;
  // A server's servername is its own.
  const peer = [role === 'client' ? servername : null, place].filter((part) => part !== null);
  const parts = [`${role} ${protocol} ${cipher}`];
  if (peer.length > 0) parts.push(`peer ${peer.join(' ')}`);
  parts.push(closure.verdict);
  return `TlsStream { ${parts.join(', ')} }`;
}

/** What the runtime has to say, or null where it has not, or not any more. */
function orNull<T>(ask: () => T): NonNullable<T> | null {
  try {
    return ask() ?? null;
  } catch {
    // A member that is missing, or a socket without its handle: there is nothing to tell.
    return null;
  }
}
