/**
 * When what is written goes out. The first write of a turn of the event loop goes at once, for a peer that waits for
 * it. Those behind it go together at the turn's end, since each record and each call of the kernel costs the same,
 * however few bytes it has. And no writer keeps the event loop for itself.
 */
import { setImmediate } from 'node:timers';
import { process } from '../runtime.ts';

/** Bytes that may wait for the transport before the writer should. */
const ENOUGH = 65_536;

/** So much is written in one turn; then others have theirs. */
const IN_A_TURN = 1 << 20;

/** Who is told. */
export interface Paced {
  onTurnEnd(): void;
  /** A writer that was stopped may go on. */
  onWritable(): void;
}

export class Pace {
  readonly #paced: Paced;
  /** Bytes that the transport has not taken. */
  pending = 0;
  #written = 0;
  #scheduled = false;

  constructor(paced: Paced) {
    this.#paced = paced;
  }

  /** Whether more can be written without a wait. */
  get writable(): boolean {
    return this.pending < ENOUGH && this.#written < IN_A_TURN;
  }

  /** So many bytes are being written. @returns whether they are to go out at once. */
  write(length: number): boolean {
    const first = !this.#scheduled;
    if (first) {
      this.#scheduled = true;
      process.nextTick(endOfTurn, this);
    }
    const before = this.#written;
    this.#written += length;
    if (before < IN_A_TURN && this.#written >= IN_A_TURN) setImmediate(nextTurn, this);
    return first || this.pending + length >= ENOUGH;
  }

  /** @internal */
  end(): void {
    this.#scheduled = false;
    if (this.#written < IN_A_TURN) this.#written = 0;
    this.#paced.onTurnEnd();
  }

  /** @internal */
  goOn(): void {
    this.#written = 0;
    this.#paced.onWritable();
  }
}

const endOfTurn = (pace: Pace) => pace.end();
const nextTurn = (pace: Pace) => pace.goOn();
