/** What OpenSSL knows of the peer of a native connection. */
import { Buffer } from 'node:buffer';
import type { NativeConnection } from '../add-on.ts';
import type { Peer } from './contract.ts';
import { wrapSession } from './native-context.ts';

/** It knows it until the connection is destroyed. */
export class NativePeer implements Peer {
  readonly #connection: NativeConnection;
  readonly #name: string | null;

  constructor(connection: NativeConnection, name: string | null) {
    this.#connection = connection;
    this.#name = name;
  }

  certificate(): Uint8Array | null {
    return this.#ask((connection) => connection.certificate(), null);
  }

  certificates(): readonly Uint8Array[] {
    return this.#ask((connection) => connection.chain(), []);
  }

  exportKeyingMaterial(length: number, label: string, context?: Uint8Array): Uint8Array | null {
    if (this.#connection.isDestroyed()) return null;
    const bytes = this.#connection.exportKeyingMaterial(length, Buffer.from(label), context);
    if (bytes === null) throw new Error('OpenSSL exports no such keying material');
    return bytes;
  }

  session(): Uint8Array | null {
    const der = this.#ask((connection) => connection.session(), null);
    if (der === null || this.#name === null) return der;
    return wrapSession(der, this.#name);
  }

  #ask<T>(ask: (connection: NativeConnection) => T, otherwise: T): T {
    return this.#connection.isDestroyed() ? otherwise : ask(this.#connection);
  }
}
