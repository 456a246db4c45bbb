/** What Node's TLS knows of the peer, as far as the runtime says it. */
import type { TLSSocket } from 'node:tls';
import type { Peer } from './contract.ts';

type Certificate = ReturnType<TLSSocket['getPeerX509Certificate']>;

export class PeerOfSocket implements Peer {
  readonly #socketOf: () => TLSSocket | null;
  #certificates: readonly Uint8Array[] | null = null;

  /** @param socketOf gives the TLS socket, or null while there is none. */
  constructor(socketOf: () => TLSSocket | null) {
    this.#socketOf = socketOf;
  }

  certificates(): readonly Uint8Array[] {
    const socket = this.#socketOf();
    if (this.#certificates === null && socket !== null) {
      const found = chainOf(socket);
      // A socket that is destroyed has forgotten them, or never had any.
      if (found.length > 0) this.#certificates = found;
    }
    return this.#certificates ?? [];
  }

  exportKeyingMaterial(length: number, label: string, context?: Uint8Array): Uint8Array {
    const socket = this.#socketOf();
    if (typeof socket?.exportKeyingMaterial !== 'function') {
      throw new Error('this runtime exports no keying material');
    }
    // Node's types ask for a context, which the RFC and Node do not.
    const args = [length, label, context && Buffer.from(context)] as [number, string, Buffer];
    return socket.exportKeyingMaterial(...args);
  }

  session(): Uint8Array | null {
    return this.#socketOf()?.getSession?.() ?? null;
  }
}

/** In DER, the peer's own first. A root that the peer did not send is not in it. */
function chainOf(socket: TLSSocket): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  const own = socket.getPeerX509Certificate?.();
  for (let one: Certificate = own; one !== undefined; one = one.issuerCertificate) {
    chain.push(one.raw);
    if (one.issuerCertificate === one) break;
  }
  if (chain.length > 0) return chain;
  // Runtimes that lack it have the older one.
  const { raw } = socket.getPeerCertificate?.() ?? {};
  return raw === undefined ? [] : [raw];
}
