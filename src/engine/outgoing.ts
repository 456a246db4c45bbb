/**
 * What was written and TLS has not taken. The first write of a turn of the event loop goes to TLS at once, for a peer
 * that waits for it. Those behind it go together, since each call costs the same, however few bytes it has. What TLS
 * does not take for now waits here, where it can be discarded.
 */
import { Buffer } from 'node:buffer';
import type { Writable } from 'node:stream';
import { process } from '../runtime.ts';

/** Small writes are joined up to so many bytes; as many may wait here before the writer should. */
const TOGETHER = 65_536;

export class Outgoing {
  readonly #socket: Writable;
  readonly #isWithin: () => boolean;
  #chunks: Uint8Array[] = [];
  #length = 0;
  #scheduled = false;

  /** @param isWithin whether this is a call of TLS, in which it loses what it is given. */
  constructor(socket: Writable, isWithin: () => boolean) {
    this.#socket = socket;
    this.#isWithin = isWithin;
  }

  /** Bytes that wait here. */
  get length(): number {
    return this.#length;
  }

  /** Whether more can be written without a wait. */
  get writable(): boolean {
    return this.#length < TOGETHER && !this.#socket.writableNeedDrain;
  }

  /** Takes a copy. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(Buffer.from(bytes));
    this.#length += bytes.length;
    if (this.#scheduled) return;
    if (!this.#isWithin()) this.flush();
    this.#scheduled = true;
    process.nextTick(endOfTurn, this);
  }

  /** @internal */
  onTurnEnd(): void {
    this.#scheduled = false;
    this.flush();
  }

  /** Gives TLS as much as it takes. */
  flush(): void {
    while (this.#length > 0 && !this.#socket.writableNeedDrain) this.#socket.write(this.#next());
  }

  /** The next bytes: as many small chunks as fit, or one large one. */
  #next(): Uint8Array {
    let count = 0;
    let length = 0;
    do {
      length += (this.#chunks[count++] as Uint8Array).length;
    } while (length + (this.#chunks[count]?.length ?? TOGETHER) <= TOGETHER);
    this.#length -= length;
    return Buffer.concat(this.#chunks.splice(0, count), length);
  }

  /** Forgets what waits here. @returns how many bytes that were. */
  discard(): number {
    const discarded = this.#length;
    this.#chunks = [];
    this.#length = 0;
    return discarded;
  }
}

const endOfTurn = (outgoing: Outgoing) => outgoing.onTurnEnd();
