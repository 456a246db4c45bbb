/** A cursor over bytes in the TLS presentation language (RFC 9846 section 3). Pure. */
import { MalformedError } from '../errors.ts';

/** Reads numbers and vectors in order; every read checks that the bytes are there. */
export class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Bytes that have not been read. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** An unsigned big-endian number of `size` bytes, 1 to 4. */
  uint(size: 1 | 2 | 3 | 4): number {
    let value = 0;
    for (const byte of this.bytes(size)) value = value * 256 + byte;
    return value;
  }

  /** The next `length` bytes: a view, not a copy. */
  bytes(length: number): Uint8Array {
    if (length > this.left) {
      throw new MalformedError(`${length} bytes wanted, ${this.left} left`, this.#at);
    }
    const start = this.#at;
    this.#at += length;
    return this.#bytes.subarray(start, this.#at);
  }

  /** A vector: a length of `size` bytes, then that many bytes, of which there must be `min`. */
  vector(size: 1 | 2 | 3, min = 0): Uint8Array {
    const at = this.#at;
    const length = this.uint(size);
    if (length < min) throw new MalformedError(`a vector of ${length} bytes, at least ${min}`, at);
    return this.bytes(length);
  }

  /** @throws {MalformedError} unless everything has been read. */
  end(): void {
    if (this.left > 0) throw new MalformedError(`${this.left} bytes too many`, this.#at);
  }
}

/** Reads a whole vector's content as a list. */
export function list<T>(bytes: Uint8Array, item: (reader: Reader) => T): T[] {
  const reader = new Reader(bytes);
  const items: T[] = [];
  while (reader.left > 0) items.push(item(reader));
  return items;
}
