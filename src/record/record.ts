/**
 * TLS record framing: a 5-byte header (type, version, length), then that many bytes.
 * RFC 9846 section 5.1, RFC 5246 section 6.2.1.
 */

/** ContentType. */
export const CONTENT_TYPE = {
  changeCipherSpec: 20,
  alert: 21,
  handshake: 22,
  applicationData: 23,
} as const;

/** Bytes of a record's header. */
export const HEADER_LENGTH = 5;

/** A record's header, where a whole one stands at `at`; null where none does. */
export function peekHeader(
  bytes: Uint8Array,
  at: number,
): { readonly type: number; readonly length: number } | null {
  // The major version is 3 in all of SSL 3.0 to TLS 1.3.
  if (at + HEADER_LENGTH > bytes.length || bytes[at + 1] !== 3) return null;
  return { type: bytes[at] as number, length: lengthAt(bytes, at) };
}

/** The length in the header at `at`. */
function lengthAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at + 3] as number) << 8) | (bytes[at + 4] as number);
}

/**
 * What is told of each record as its last byte goes by.
 *
 * @param type ContentType as on the wire: in TLS 1.3 all protected records say `applicationData`.
 * @param length bytes after the header.
 * @param alert the body of an alert record of two bytes, which is one in the clear; otherwise null.
 */
export type OnRecord = (type: number, length: number, alert: Uint8Array | null) => void;

/**
 * Follows record boundaries through a byte stream that arrives in pieces of any size, without
 * holding or joining them. It judges nothing: a header that no TLS stack would take is for the TLS
 * stack to refuse.
 */
export class RecordScanner {
  /** Header bytes seen of the current record. */
  #have = 0;
  #type = 0;
  #length = 0;
  /** Body bytes of the current record that are still to come; meaningful once the header is in. */
  #left = 0;
  /** The body so far, of a record that may be an alert in the clear. */
  #body: number[] | null = null;

  readonly #onRecord: OnRecord;

  constructor(onRecord: OnRecord) {
    this.#onRecord = onRecord;
  }

  /** Whether the bytes so far end where a record ends (or none came at all). */
  get atBoundary(): boolean {
    return this.#have === 0;
  }

  /**
   * Takes bytes from `chunk`, beginning at `from`, up to the end of the current record or of the
   * chunk, whichever comes first.
   *
   * @returns the index after the last byte taken; greater than `from` whenever bytes were left.
   */
  take(chunk: Uint8Array, from: number): number {
    const at = this.#takeHeader(chunk, from);
    if (this.#have < HEADER_LENGTH) return at;
    const end = Math.min(at + this.#left, chunk.length);
    if (this.#type === CONTENT_TYPE.alert && this.#length === 2) {
      this.#body ??= [];
      this.#body.push(...chunk.subarray(at, end));
    }
    this.#left -= end - at;
    if (this.#left === 0) this.#finish();
    return end;
  }

  #takeHeader(chunk: Uint8Array, from: number): number {
    let at = from;
    if (this.#have === 0 && at + HEADER_LENGTH <= chunk.length) {
      this.#have = HEADER_LENGTH;
      this.#type = chunk[at] as number;
      this.#length = lengthAt(chunk, at);
      this.#left = this.#length;
      return at + HEADER_LENGTH;
    }
    for (; this.#have < HEADER_LENGTH && at < chunk.length; at++, this.#have++) {
      const byte = chunk[at] as number;
      if (this.#have === 0) this.#type = byte;
      // Behind two bytes of version.
      else if (this.#have === 3) this.#length = byte << 8;
      else if (this.#have === 4) this.#left = this.#length |= byte;
    }
    return at;
  }

  /** ContentType of the record that was taken from last. */
  get type(): number {
    return this.#type;
  }

  /** Its length, after the header. */
  get length(): number {
    return this.#length;
  }

  #finish(): void {
    const alert = this.#body === null ? null : Uint8Array.from(this.#body);
    this.#have = 0;
    this.#body = null;
    this.#onRecord(this.#type, this.#length, alert);
  }
}
