/**
 * Decrypted bytes that nobody has taken, while nobody has the TLS socket: its own queue costs a turn of
 * microtasks and a copy for what the stream's `read` can have as it came.
 */
import { Buffer } from 'node:buffer';
import { process } from '../runtime.ts';
import { Fifo } from '../tap/fifo.ts';

/** Chunks are joined to no more than this, since joining copies them. */
const JOINED = 8_192;

export class Inbox {
  readonly #chunks = new Fifo<Uint8Array>();
  #length = 0;
  #onEmpty: (() => void) | null = null;

  get isEmpty(): boolean {
    return this.#chunks.isEmpty;
  }

  /** Bytes in it. */
  get length(): number {
    return this.#length;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** Takes the next bytes out, as they came where they are many, and joined where they are few. */
  take(): Uint8Array | null {
    const first = this.#chunks.shift();
    if (first === null) return null;
    const bytes = this.#joinsNext(first.length) ? this.#join(first) : first;
    this.#length -= bytes.length;
    if (this.#chunks.isEmpty && this.#onEmpty !== null) {
      process.nextTick(this.#onEmpty);
      this.#onEmpty = null;
    }
    return bytes;
  }

  /** Takes all of it out by `take`, chunk by chunk. */
  drain(take: (chunk: Uint8Array) => void): void {
    for (const chunk of this.#chunks.drain()) take(chunk);
    this.#length = 0;
    const onEmpty = this.#onEmpty;
    this.#onEmpty = null;
    onEmpty?.();
  }

  /** Has `then` called once what is in it has been taken. */
  onceEmpty(then: () => void): void {
    this.#onEmpty = then;
  }

  /** Whether the next chunk is to be joined to so many bytes. */
  #joinsNext(length: number): boolean {
    const next = this.#chunks.first;
    return next !== null && length + next.length <= JOINED;
  }

  #join(first: Uint8Array): Uint8Array {
    const chunks = [first];
    let { length } = first;
    while (this.#joinsNext(length)) {
      const next = this.#chunks.shift() as Uint8Array;
      chunks.push(next);
      length += next.length;
    }
    return Buffer.concat(chunks, length);
  }
}
