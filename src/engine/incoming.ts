/** Bytes that were decrypted and are nobody's yet. */
import type { Buffer } from 'node:buffer';

/** With as many, nothing more is read. */
const ENOUGH = 65_536;

export class Incoming {
  readonly #chunks: Buffer[] = [];
  #length = 0;

  /** Whether more may come. */
  get wants(): boolean {
    return this.#length < ENOUGH;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** @returns at most so many bytes; null where there are none. */
  take(most: number): Uint8Array | null {
    const first = this.#chunks.shift();
    if (first === undefined) return null;
    if (first.length <= most) {
      this.#length -= first.length;
      return first;
    }
    this.#chunks.unshift(first.subarray(most));
    this.#length -= most;
    return first.subarray(0, most);
  }
}
