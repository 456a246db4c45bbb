/**
 * Cuts a byte stream that arrives in pieces of any size into its records. Holds one record at most, and only where a
 * piece ends inside it.
 */
import { HEADER_LENGTH } from './record.ts';

/** A record as it crossed the wire. */
export interface WireRecord {
  readonly header: Uint8Array;
  /** Null for one that is too long to be wanted. */
  readonly body: Uint8Array | null;
  /** How many bytes of the stream there are to this record's end. */
  readonly end: number;
}

/** TLSCiphertext.length in TLS 1.2 (RFC 5246 section 6.2.3): no version allows more. */
const MAX_LENGTH = (1 << 14) + 2048;

export class RecordCutter {
  readonly #header = new Uint8Array(HEADER_LENGTH);
  /** How much of the header is there. */
  #have = 0;
  /** Whether the body is. */
  #wanted = false;
  /** It, where it came in pieces. */
  #body: Uint8Array | null = null;
  #length = 0;
  /** Bytes of the body that are still to come. */
  #left = 0;
  #total = 0;
  #lost = false;
  #record: WireRecord | null = null;

  /** The record that ends where `take` stopped. Its memory is the chunk's where it could be. */
  get record(): WireRecord | null {
    return this.#record;
  }

  /** Whether the bytes so far end where a record ends, or none came at all. */
  get atBoundary(): boolean {
    return this.#have === 0;
  }

  /** Whether something came that no TLS stack takes for a record's header. Nothing behind it is cut. */
  get lost(): boolean {
    return this.#lost;
  }

  /**
   * Takes bytes from `chunk`, beginning at `from`, up to the end of the current record or of the chunk.
   *
   * @param wanted whether a record's body is, by its length; by its type as well.
   * @returns the index after the last byte taken; greater than `from` whenever bytes were left.
   */
  take(chunk: Uint8Array, from: number, wanted: (type: number, length: number) => boolean): number {
    this.#record = null;
    if (this.#lost) return chunk.length;
    let at = from;
    while (this.#have < HEADER_LENGTH && at < chunk.length) {
      this.#header[this.#have++] = chunk[at++] as number;
      if (this.#have === HEADER_LENGTH) this.#begin(wanted);
    }
    if (this.#lost) return chunk.length;
    if (this.#have < HEADER_LENGTH) return this.#taken(from, at);
    const end = Math.min(at + this.#left, chunk.length);
    const piece = chunk.subarray(at, end);
    const whole = piece.length === this.#length;
    if (this.#wanted && !whole) {
      this.#body ??= new Uint8Array(this.#length);
      this.#body.set(piece, this.#length - this.#left);
    }
    this.#left -= piece.length;
    this.#taken(from, end);
    if (this.#left > 0) return end;
    const body = this.#wanted ? (whole ? piece : this.#body) : null;
    this.#record = { header: this.#header.slice(), body, end: this.#total };
    this.#have = 0;
    this.#body = null;
    return end;
  }

  #taken(from: number, to: number): number {
    this.#total += to - from;
    return to;
  }

  #begin(wanted: (type: number, length: number) => boolean): void {
    const [type, major, , high, low] = this.#header as unknown as [
      number,
      number,
      number,
      number,
      number,
    ];
    this.#length = (high << 8) | low;
    this.#left = this.#length;
    // The major version is 3 in all of SSL 3.0 to TLS 1.3.
    this.#lost = major !== 3 || type < 20 || type > 24 || this.#length > MAX_LENGTH;
    this.#wanted = !this.#lost && wanted(type, this.#length);
  }
}
