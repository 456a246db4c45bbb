/**
 * What Node's TLS knows of the peer. All of it is optional: Deno and Bun lack some members, and a socket that was let go
 * has forgotten most. What is not there is null, and never an exception.
 */
import { Buffer } from 'node:buffer';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { Peer } from './contract.ts';

export class PeerOfSocket implements Peer {
  readonly #socketOf: () => TLSSocket | null;

  /** @param socketOf gives the TLS socket, or null while there is none. */
  constructor(socketOf: () => TLSSocket | null) {
    this.#socketOf = socketOf;
  }

  /** It alone takes a tenth of the time of the chain. */
  certificate(): Uint8Array | null {
    const socket = this.#socketOf();
    // The second knows that of a resumed session, too. But in Node 20 it takes it away: whoever asks next gets none.
    return (
      orNull(() => socket?.getPeerCertificate(false).raw) ??
      orNull(() => socket?.getPeerX509Certificate()?.raw)
    );
  }

  certificates(): readonly Uint8Array[] {
    const chain: Uint8Array[] = [];
    const first = orNull(() => this.#socketOf()?.getPeerCertificate(true));
    const seen = new Set<object>();
    for (let one = first; one?.raw !== undefined && !seen.has(one); one = issuerOf(one)) {
      seen.add(one);
      chain.push(one.raw);
    }
    const own = this.certificate();
    return chain.length > 0 || own === null ? chain : [own];
  }

  exportKeyingMaterial(length: number, label: string, context?: Uint8Array): Uint8Array | null {
    const socket = this.#socketOf();
    if (socket === null || socket.destroyed) return null;
    if (typeof socket.exportKeyingMaterial !== 'function') return null;
    const args: unknown[] = [length, label];
    // No context and an empty one are two things in TLS 1.2, so it is passed on only where it was given.
    if (context !== undefined) args.push(Buffer.from(context));
    try {
      return socket.exportKeyingMaterial(...(args as [number, string, Buffer]));
    } catch (error) {
      // Any other error is of a runtime that has the method by name only.
      if (isFromOpenssl(error)) throw error;
      return null;
    }
  }

  session(): Uint8Array | null {
    return orNull(() => this.#socketOf()?.getSession());
  }
}

// A certificate that signs itself is its own issuer.
const issuerOf = (one: DetailedPeerCertificate) => one.issuerCertificate ?? null;

const isFromOpenssl = (error: unknown) =>
  /^ERR_(?:SSL|CRYPTO_OPERATION_FAILED)/.test(String((error as { code?: unknown } | null)?.code));

/** What the runtime has to say, or null where it has not, or not any more. */
function orNull<T>(ask: () => T): NonNullable<T> | null {
  try {
    return ask() ?? null;
  } catch {
    // A member that is missing, or a socket without its handle: there is nothing to tell.
    return null;
  }
}
