/**
 * Waiting, in the one way that every call of this library waits: for a condition, until a deadline,
 * under an AbortSignal. Whatever ends the wait, its timer and its listener are gone.
 */
import { performance } from 'node:perf_hooks';
import { checkDeadline } from '../closure/policy.ts';
import { AbortError, OptionError, type Phase } from '../errors.ts';

/** Limits of one call. */
export interface WaitOptions {
  /** Cancels the wait; it then rejects with an `AbortError`. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until the wait rejects with `ERR_TLS_TIMEOUT`; `Infinity` for none. */
  readonly deadline?: number | undefined;
}

/** What a wait does when its limits end it: each returns the error to reject with. */
export interface WaitHandlers {
  onDeadline(milliseconds: number): Error;
  onAbort(reason: unknown): Error;
}

/** @throws {OptionError} for a signal or deadline that is none. */
export function checkWaitOptions(options: WaitOptions | undefined): void {
  if (options === undefined) return;
  if (typeof options !== 'object' || options === null) {
    throw new OptionError('options must be an object');
  }
  const { signal, deadline } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new OptionError('signal must be an AbortSignal');
  }
  if (deadline === undefined) return;
  try {
    checkDeadline(deadline, 'deadline');
  } catch (cause) {
    throw new OptionError((cause as Error).message, { cause });
  }
}

/** setTimeout's longest delay; beyond it Node would fire at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** Calls `then` after so many milliseconds (never, for Infinity). @returns what stops that. */
export function after(milliseconds: number, then: () => void): () => void {
  if (milliseconds > LONGEST_TIMER) return () => {};
  const timer = setTimeout(then, milliseconds);
  return () => clearTimeout(timer);
}

/**
 * `after`, for waits of which one follows the other, such as the reads of a stream: a timer of each one's own
 * costs as much as all the rest of a short wait. One timer is kept instead, which looks when it fires whether
 * the wait of that time has waited long enough. While nobody waits it keeps no process alive.
 */
export class Patience {
  #timer: NodeJS.Timeout | null = null;
  /** When the timer fires, and when the wait is over; `performance.now()`. */
  #firesAt = 0;
  #overAt = 0;
  #then: (() => void) | null = null;
  #ended = false;

  /** Whether somebody waits. */
  get busy(): boolean {
    return this.#then !== null;
  }

  /** Calls `then` after so many milliseconds, unless `stop` is called first. For one wait at a time. */
  start(milliseconds: number, then: () => void): void {
    if (milliseconds > LONGEST_TIMER) return;
    this.#overAt = performance.now() + milliseconds;
    this.#then = then;
    if (this.#timer !== null && this.#firesAt <= this.#overAt) this.#timer.ref();
    else this.#set(milliseconds);
  }

  stop(): void {
    this.#then = null;
    if (this.#ended) this.#clear();
    else this.#timer?.unref();
  }

  /** From here on no timer is kept for a next wait. */
  end(): void {
    this.#ended = true;
    if (this.#then === null) this.#clear();
  }

  #clear(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #set(milliseconds: number): void {
    this.#clear();
    this.#firesAt = performance.now() + milliseconds;
    this.#timer = setTimeout(() => this.#fire(), milliseconds);
  }

  #fire(): void {
    this.#timer = null;
    const then = this.#then;
    if (then === null) return;
    const left = this.#overAt - performance.now();
    // Timers may fire a little early by this clock.
    if (left >= 1) {
      this.#set(Math.ceil(left));
      return;
    }
    this.#then = null;
    then();
  }
}

/**
 * What those who wait ask again whenever something changes. Mostly one waits, for one message after the other,
 * and a Set that is emptied each time takes new memory each time.
 */
export class Questions {
  #first: (() => void) | null = null;
  #rest: Set<() => void> | null = null;

  get isEmpty(): boolean {
    return this.#first === null && (this.#rest === null || this.#rest.size === 0);
  }

  add(question: () => void): void {
    if (this.#first === null) {
      this.#first = question;
      return;
    }
    this.#rest ??= new Set();
    this.#rest.add(question);
  }

  delete(question: () => void): void {
    if (this.#first === question) this.#first = null;
    else this.#rest?.delete(question);
  }

  /** Asks each of them, but for those that come meanwhile, which ask by themselves, or go. */
  ask(): void {
    this.#first?.();
    if (this.#rest === null) return;
    for (const question of this.#rest) question();
  }
}

/**
 * Runs `start` with a pair of callbacks and settles with whichever comes first: one of the two, the
 * deadline, or the signal. `start` may return a function that undoes what it began.
 *
 * @param patience keeps the deadline, where one wait follows the other.
 */
export function withLimits<T>(
  start: (
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ) => (() => void) | undefined,
  options: WaitOptions,
  handlers: WaitHandlers,
  patience?: Patience,
): Promise<T> {
  const { signal, deadline = Number.POSITIVE_INFINITY } = options;
  return new Promise<T>((resolve, reject) => {
    if (signal?.aborted) {
      reject(handlers.onAbort(signal.reason));
      return;
    }
    // A read of a busy stream makes one of these for each message: what is not needed is not made.
    let stopTimer: (() => void) | undefined;
    let onAbort: (() => void) | undefined;
    let undo: (() => void) | undefined;
    let settled = false;
    const settle = (): boolean => {
      if (settled) return false;
      settled = true;
      stopTimer?.();
      patience?.stop();
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
      undo?.();
      return true;
    };
    undo = start(
      (value) => settle() && resolve(value),
      (error) => settle() && reject(error),
    );
    if (settled) {
      undo?.();
      return;
    }
    if (signal !== undefined) {
      onAbort = () => settle() && reject(handlers.onAbort(signal.reason));
      signal.addEventListener('abort', onAbort);
    }
    const onDeadline = () => {
      if (settle()) reject(handlers.onDeadline(deadline));
    };
    if (patience === undefined) stopTimer = after(deadline, onDeadline);
    else patience.start(deadline, onDeadline);
  });
}

/** The handlers of a wait whose only trace is its error. */
export function abortsWith(phase: Phase, onDeadline: WaitHandlers['onDeadline']): WaitHandlers {
  return { onDeadline, onAbort: (reason) => new AbortError({ phase, cause: reason }) };
}
