/** Two ends of a transport in memory: what is written at one is read at the other. */
import { Duplex } from 'node:stream';

class End extends Duplex {
  peer: End | null = null;
  /** Lets the writer go on once the reader has taken what was written. */
  #taken: (() => void) | null = null;

  override _read(): void {
    const taken = this.#taken;
    this.#taken = null;
    taken?.();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    this.peer?.deliver(chunk, done);
  }

  override _final(done: () => void): void {
    this.peer?.deliver(null, done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // As with TCP, the other end sees that nothing more comes.
    const { peer } = this;
    if (peer !== null && !peer.destroyed && !peer.readableEnded) {
      process.nextTick(() => peer.deliver(null, () => {}));
    }
    done(error);
  }

  deliver(chunk: Uint8Array | null, done: () => void): void {
    if (this.destroyed || this.#ended) {
      done();
      return;
    }
    if (chunk === null) this.#ended = true;
    if (this.push(chunk) || chunk === null) process.nextTick(done);
    else this.#taken = done;
  }

  #ended = false;
}

/** A connected pair of transports, with backpressure and half-close. */
export function memoryPair(): [Duplex, Duplex] {
  const a = new End({ allowHalfOpen: true });
  const b = new End({ allowHalfOpen: true });
  a.peer = b;
  b.peer = a;
  return [a, b];
}
