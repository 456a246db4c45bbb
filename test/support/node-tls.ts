/** Plain `node:tls` as a party of the conformance kit, used as its documentation says. */
import { once } from 'node:events';
import tls from 'node:tls';
import type { Adapter, Party } from '../../src/testing/index.ts';

export const nodeTls: Adapter = {
  name: 'node:tls',
  async open({ role, version, transport, credentials, deadline }) {
    const { key, cert, ca, servername } = credentials;
    const only = { minVersion: version, maxVersion: version } as const;
    if (role === 'client') {
      const socket = tls.connect({ ...only, socket: transport, ca, servername });
      const party = new NodeParty(socket);
      // Its own way to say that nothing was heard for so long.
      socket.setTimeout(deadline, () => socket.destroy(new Error('timed out')));
      await Promise.race([once(socket, 'secureConnect'), party.closed]);
      return party;
    }
    const server = tls.createServer({ ...only, key, cert, handshakeTimeout: deadline });
    return new Promise((resolve, reject) => {
      server.on('secureConnection', (socket) => {
        socket.setTimeout(deadline, () => socket.destroy(new Error('timed out')));
        resolve(new NodeParty(socket));
      });
      server.on('tlsClientError', reject);
      // As the documentation has it: "any Duplex stream can be passed".
      server.emit('connection', transport);
    });
  },
};

class NodeParty implements Party {
  readonly #socket: tls.TLSSocket;
  #error: Error | null = null;
  #ended = false;
  #over = false;
  /** Rejects once the socket is closed. */
  readonly closed: Promise<never>;

  constructor(socket: tls.TLSSocket) {
    this.#socket = socket;
    socket.on('error', (error) => {
      this.#error = error;
    });
    socket.on('end', () => {
      this.#ended = true;
    });
    this.closed = once(socket, 'close').then(() => {
      this.#over = true;
      throw this.#error ?? new Error('closed without an end');
    });
    this.closed.catch(() => {});
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  async read(): Promise<Uint8Array | null> {
    for (;;) {
      const bytes = this.#socket.read() as Uint8Array | null;
      if (bytes !== null) return bytes;
      if (this.#ended) return null;
      if (this.#error !== null) throw this.#error;
      if (this.#over) throw new Error('closed without an end');
      await new Promise<void>((resolve) => {
        const names = ['readable', 'end', 'error', 'close'] as const;
        const done = () => {
          for (const name of names) this.#socket.off(name, done);
          resolve();
        };
        for (const name of names) this.#socket.on(name, done);
      });
    }
  }

  async closeWrite(): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.end(resolve));
  }

  async close(): Promise<void> {
    this.#socket.end();
    this.#socket.resume();
    await this.closed.catch(() => {});
  }

  destroy(): void {
    this.#socket.destroy();
  }
}
