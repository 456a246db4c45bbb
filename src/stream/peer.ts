/**
 * Who is at the other end, and through what: what the engine knows of the peer, and the addresses and socket options of
 * the transport. A transport in memory has none; then an address is undefined, and an option does nothing.
 */
import type { Duplex } from 'node:stream';
import type { Closure } from '../closure/verdict.ts';
import type { Peer } from '../engine/contract.ts';
import { OptionError } from '../errors.ts';
import { hostAndPort } from '../server-name.ts';

/** What a stream and its Duplex have of a `net.Socket`. */
export interface TransportMembers {
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly remoteFamily: string | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  readonly localFamily: string | undefined;
  /** Turns Nagle's algorithm off, or on again. */
  setNoDelay(noDelay?: boolean): unknown;
  /** TCP keep-alive; the delay is in milliseconds. */
  setKeepAlive(enable?: boolean, initialDelay?: number): unknown;
  /** The connection keeps the process alive. */
  ref(): unknown;
  /** The connection alone does not. */
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
 * Keying material for another protocol, bound to this connection (RFC 9846 section 7.5, RFC 5705).
 *
 * @param length how many bytes.
 * @returns null where the runtime has no exporter, or the connection is over.
 * @throws {OptionError}
 */
export function exportKeyingMaterial(
  peer: Peer,
  length: number,
  label: string,
  context?: Uint8Array,
): Uint8Array | null {
  if (!Number.isSafeInteger(length) || length < 1 || length > MAX_EXPORTED) {
    throw new OptionError(`length must be a whole number of bytes, 1 to ${MAX_EXPORTED}`);
  }
  if (typeof label !== 'string') throw new OptionError('label must be a string');
  if (context !== undefined && !(context instanceof Uint8Array)) {
    throw new OptionError('context must be a Uint8Array');
  }
  try {
    return peer.exportKeyingMaterial(length, label, context);
  } catch (cause) {
    throw new OptionError('the exporter refuses this length or label', { cause });
  }
}

/** HKDF makes no more: 255 times the length of its hash (RFC 5869 section 2.3), of SHA-256 here. */
const MAX_EXPORTED = 255 * 32;

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
  const place =
    address === undefined ? null : hostAndPort(address, addressOf(transport, 'remotePort'));
  // A server's servername is its own.
  const peer = [role === 'client' ? servername : null, place].filter((part) => part !== null);
  const parts = [`${role} ${protocol} ${cipher}`];
  if (peer.length > 0) parts.push(`peer ${peer.join(' ')}`);
  parts.push(closure.verdict);
  return `TlsStream { ${parts.join(', ')} }`;
}
