/** TLS sessions for the next connection to the same place, as Node's agents keep them. */
import type { TLSSocket } from 'node:tls';

/** The newest session of each key, up to a number of keys; the oldest key goes first. */
export class SessionCache {
  readonly #limit: number;
  readonly #sessions = new Map<string, Buffer>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(key: string): Buffer | undefined {
    return this.#sessions.get(key);
  }

  /** Keeps what the socket's server hands out, and forgets it when the connection fails. */
  follow(key: string, socket: TLSSocket): void {
    if (this.#limit === 0) return;
    socket.on('session', (session: Buffer) => this.#set(key, session));
    socket.once('close', (failed: boolean) => {
      if (failed) this.#sessions.delete(key);
    });
  }

  #set(key: string, session: Buffer): void {
    this.#sessions.delete(key);
    for (const oldest of this.#sessions.keys()) {
      if (this.#sessions.size < this.#limit) break;
      this.#sessions.delete(oldest);
    }
    this.#sessions.set(key, session);
  }
}
