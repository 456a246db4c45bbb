/**
 * When what is written goes out. The first write of a turn of the event loop goes at once, for a peer that waits for
 * it. Those behind it go together at the turn's end, since each record and each call of the kernel costs the same,
 * however few bytes it has. And no writer keeps the event loop for itself.
 *
 * What goes together is copied into one buffer of the thread first, since each call of the add-on costs more than a
 * short copy. The buffer is of one writer at a time: when another one writes, the add-on keeps what the first has there
 * until the turn's end.
 */
import { Buffer } from 'node:buffer';
import { setImmediate } from 'node:timers';
import { process } from '../runtime.ts';

/** Bytes that may wait for the transport before the writer should. */
const ENOUGH = 65_536;

/** So much is written in one turn; then others have theirs. */
const IN_A_TURN = 1 << 20;

/** So many bytes are worth a call of their own: a record's worth. */
const LARGE = 16_384;

/** The thread's buffer, and whose bytes are in it. */
const together = Buffer.allocUnsafeSlow(ENOUGH);
let writer: Pace | null = null;

/** Who writes. */
export interface Paced {
  /** TLS gets these bytes, whose memory is used again behind this call. @param now whether they go out at once. */
  onWrite(bytes: Uint8Array, now: boolean): void;
  /** The same at the end of a turn. @param bytes null where they are with TLS already. */
  onTurnEnd(bytes: Uint8Array | null): void;
  /** A writer that was stopped may go on. */
  onWritable(): void;
}

export class Pace {
  readonly #paced: Paced;
  /** Bytes that TLS has, in records or not, and the transport has not taken. */
  pending = 0;
  /** Of what was written, bytes that TLS has and the transport is not known to have taken. */
  untaken = 0;
  /** Bytes in the thread's buffer. */
  #gathered = 0;
  #written = 0;
  #scheduled = false;

  constructor(paced: Paced) {
    this.#paced = paced;
  }

  /** Whether more can be written without a wait. What is gathered does not count: it goes at the turn's end. */
  get writable(): boolean {
    return this.pending < ENOUGH && this.#written < IN_A_TURN;
  }

  /** Bytes that were written and are not known to have been taken. */
  get unsent(): number {
    return this.untaken + this.#gathered;
  }

  write(bytes: Uint8Array): void {
    const { length } = bytes;
    const before = this.#written;
    this.#written += length;
    if (before < IN_A_TURN && this.#written >= IN_A_TURN) setImmediate(nextTurn, this);
    if (!this.#scheduled) {
      this.#scheduled = true;
      process.nextTick(endOfTurn, this);
      this.#paced.onWrite(bytes, true);
    } else if (length >= LARGE) {
      this.flush(false);
      this.#paced.onWrite(bytes, true);
    } else {
      this.#gather(bytes);
    }
  }

  #gather(bytes: Uint8Array): void {
    if (this.#gathered + bytes.length > together.length) this.flush(true);
    if (writer !== this) {
      writer?.flush(false);
      writer = this;
    }
    together.set(bytes, this.#gathered);
    this.#gathered += bytes.length;
  }

  /** TLS gets what is gathered. @param now whether it goes out at once. */
  flush(now: boolean): void {
    const bytes = this.#taken();
    if (bytes !== null) this.#paced.onWrite(bytes, now);
  }

  #taken(): Uint8Array | null {
    const length = this.#gathered;
    if (length === 0) return null;
    this.#gathered = 0;
    return together.subarray(0, length);
  }

  /** Forgets what is gathered. @returns how many bytes that were. */
  discard(): number {
    const discarded = this.#gathered;
    this.#gathered = 0;
    return discarded;
  }

  /** @internal */
  end(): void {
    this.#scheduled = false;
    if (this.#written < IN_A_TURN) this.#written = 0;
    const bytes = this.#taken();
    if (writer === this) writer = null;
    this.#paced.onTurnEnd(bytes);
  }

  /** @internal */
  goOn(): void {
    this.#written = 0;
    this.#paced.onWritable();
  }
}

const endOfTurn = (pace: Pace) => pace.end();
const nextTurn = (pace: Pace) => pace.goOn();
