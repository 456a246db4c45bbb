/**
 * Whether anything crosses a connection.
 *
 * A byte crosses all the time, so it costs no more than a look at the clock; one timer looks when it fires whether
 * the silence has lasted long enough, and waits for the rest otherwise. As a timeout of Node's sockets it keeps no
 * process alive.
 */
import { performance } from 'node:perf_hooks';

/** The longest delay of a timer. */
const LONGEST = 2 ** 31 - 1;

export class Idleness {
  readonly #milliseconds: number;
  readonly #onIdle: (milliseconds: number) => void;
  #timer: NodeJS.Timeout | null = null;
  /** When the last byte crossed; `performance.now()`. */
  #last = 0;

  /** @param onIdle told once, when nothing has crossed for so many milliseconds. */
  constructor(milliseconds: number, onIdle: (milliseconds: number) => void) {
    this.#milliseconds = milliseconds;
    this.#onIdle = onIdle;
  }

  /** Whether it is ever told. */
  get matters(): boolean {
    return this.#milliseconds <= LONGEST;
  }

  /** Silence counts from here. */
  begin(): void {
    this.active();
    if (this.matters) this.#wait(this.#milliseconds);
  }

  /** A byte has crossed. Bound, since whoever sees bytes is given it. */
  readonly active = (): void => {
    this.#last = performance.now();
  };

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #wait(milliseconds: number): void {
    this.#timer = setTimeout(() => this.#look(), milliseconds).unref();
  }

  #look(): void {
    this.#timer = null;
    const left = this.#last + this.#milliseconds - performance.now();
    // Timers may fire a little early by this clock.
    if (left >= 1) this.#wait(Math.ceil(left));
    else this.#onIdle(this.#milliseconds);
  }
}
