/**
 * Waiting, in the one way that every call of this library waits: for a condition, until a deadline,
 * under an AbortSignal. Whatever ends the wait, its timer and its listener are gone.
 */
import { performance } from 'node:perf_hooks';
import { type Call, callSite, rejectingAwaiters } from './call-site.ts';
import { checkDeadline } from './closure/policy.ts';
import { AbortError, OptionError, type Phase } from './errors.ts';
import { checkOptionNames } from './option-names.ts';

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

const WAIT_OPTIONS = ['signal', 'deadline'] as const;

/**
 * @param others what the call takes besides.
 * @throws {OptionError} for a signal or deadline that is none, and for an option that there is not.
 */
export function checkWaitOptions(
  options: WaitOptions | undefined,
  ...others: readonly string[]
): void {
  if (options === undefined) return;
  checkOptionNames(options, [...WAIT_OPTIONS, ...others]);
  const { signal, deadline } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new OptionError('signal must be an AbortSignal');
  }
  if (deadline !== undefined) checkDeadline(deadline, 'deadline');
}

/** setTimeout's longest delay; beyond it Node would fire at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

/**
 * Calls `then` after so many milliseconds (never, for Infinity).
 *
 * @param alive whether that keeps the process alive.
 * @returns what stops it.
 */
export function after(milliseconds: number, then: () => void, alive = true): () => void {
  const timer = timerFor({ onTimeOver: then }, milliseconds);
  if (!alive) timer?.unref();
  return () => clearTimeout(timer);
}

/** Who is told that its time is over. */
interface Waiter {
  onTimeOver(): void;
}

/** None where it would never fire. */
function timerFor(waiter: Waiter, milliseconds: number): NodeJS.Timeout | undefined {
  return milliseconds > LONGEST_TIMER ? undefined : setTimeout(timeOver, milliseconds, waiter);
}

const timeOver = (waiter: Waiter) => waiter.onTimeOver();

/**
 * A timer for waits of which one follows the other, such as the reads of a stream: one of each wait's own
 * costs as much as all the rest of a short wait. One timer is kept instead, which looks when it fires whether
 * the wait of that time has waited long enough. While nobody waits it keeps no process alive.
 */
export class Patience implements Waiter {
  #timer: NodeJS.Timeout | null = null;
  /** When the timer fires, and when the wait is over; `performance.now()`. */
  #firesAt = 0;
  #overAt = 0;
  #waiter: Waiter | null = null;
  #ended = false;

  /** Whether somebody waits. */
  get busy(): boolean {
    return this.#waiter !== null;
  }

  /**
   * Tells `waiter` after so many milliseconds, unless `stop` is called first. For one at a time.
   *
   * @returns false where it never will, and somebody else may have it.
   */
  start(milliseconds: number, waiter: Waiter): boolean {
    if (milliseconds > LONGEST_TIMER) return false;
    this.#overAt = performance.now() + milliseconds;
    this.#waiter = waiter;
    if (this.#timer !== null && this.#firesAt <= this.#overAt) this.#timer.ref();
    else this.#set(milliseconds);
    return true;
  }

  stop(): void {
    this.#waiter = null;
    if (this.#ended) this.#clear();
    else this.#timer?.unref();
  }

  /** From here on no timer is kept for a next wait. */
  end(): void {
    this.#ended = true;
    if (this.#waiter === null) this.#clear();
  }

  #clear(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #set(milliseconds: number): void {
    this.#clear();
    this.#firesAt = performance.now() + milliseconds;
    this.#timer = setTimeout(timeOver, milliseconds, this);
  }

  /** @internal */
  onTimeOver(): void {
    this.#timer = null;
    const waiter = this.#waiter;
    if (waiter === null) return;
    const left = this.#overAt - performance.now();
    // Timers may fire a little early by this clock.
    if (left >= 1) {
      this.#set(Math.ceil(left));
      return;
    }
    this.#waiter = null;
    waiter.onTimeOver();
  }
}

/** What has to be asked again whenever something changes. */
export interface Question {
  ask(): void;
}

/**
 * All that wait for an answer. Mostly one does, for one message after the other, and a Set that is emptied each
 * time takes new memory each time.
 */
export class Questions {
  #first: Question | null = null;
  #rest: Set<Question> | null = null;

  get isEmpty(): boolean {
    return this.#first === null && (this.#rest === null || this.#rest.size === 0);
  }

  add(question: Question): void {
    if (this.#first === null) {
      this.#first = question;
      return;
    }
    this.#rest ??= new Set();
    this.#rest.add(question);
  }

  delete(question: Question): void {
    if (this.#first === question) this.#first = null;
    else this.#rest?.delete(question);
  }

  /** Asks each of them, but for those that come meanwhile, which ask by themselves, or go. */
  ask(): void {
    this.#first?.ask();
    if (this.#rest === null) return;
    for (const question of this.#rest) question.ask();
  }
}

/**
 * One wait, for a value, a deadline or a signal, whichever comes first.
 *
 * A stream that is read makes one for each message. So it is one object, and what is done is on its prototype:
 * a dozen closures would have to be made for each, and V8 forgets what it has compiled for a closure once no
 * closure of that place is left.
 */
export abstract class Wait<T> implements Waiter {
  readonly #promise: Promise<T>;
  #resolve!: (value: T | PromiseLike<T>) => void;
  #reject!: (error: unknown) => void;
  #settled = false;
  /** The caller has the promise. */
  #returned = false;
  #deadline = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #patience: Patience | undefined;
  #signal: AbortSignal | undefined;

  constructor() {
    this.#promise = new Promise<T>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Begins what is waited for; it may be settled within that. */
  protected abstract begin(): void;
  /** Undoes what `begin` began, before the promise settles. */
  protected abstract end(): void;
  /** The errors to reject with. */
  protected abstract onDeadline(milliseconds: number): Error;
  protected abstract onAbort(reason: unknown): Error;

  /** The public method that returns the promise: its caller's frames go into the error's stack. Null where none is. */
  protected get call(): Call | null {
    return null;
  }

  /**
   * Waits.
   *
   * @param patience keeps the deadline, where one wait follows the other.
   */
  within(
    { signal, deadline = Number.POSITIVE_INFINITY }: WaitOptions,
    patience?: Patience,
  ): Promise<T> {
    this.#begin(signal, deadline, patience);
    this.#returned = true;
    return this.#promise;
  }

  #begin(signal: AbortSignal | undefined, deadline: number, patience: Patience | undefined): void {
    if (signal?.aborted) {
      this.#settled = true;
      this.#fail(this.onAbort(signal.reason));
      return;
    }
    this.begin();
    if (this.#settled) return;
    this.#deadline = deadline;
    if (signal !== undefined) {
      this.#signal = signal;
      signal.addEventListener('abort', this);
      if (signal.aborted) {
        this.handleEvent();
        return;
      }
    }
    if (patience === undefined) {
      this.#timer = timerFor(this, deadline);
    } else if (patience.start(deadline, this)) {
      this.#patience = patience;
    }
  }

  get settled(): boolean {
    return this.#settled;
  }

  resolve(value: T): void {
    if (this.#settle()) this.#resolve(value);
  }

  reject(error: unknown): void {
    if (this.#settle()) this.#fail(error);
  }

  /** Rejects, with the frames of whoever called. */
  #fail(error: unknown): void {
    const { call } = this;
    if (call === null) this.#reject(error);
    else if (this.#returned) this.#resolve(rejectingAwaiters(error));
    else this.#reject(callSite(call)(error));
  }

  #settle(): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#patience?.stop();
    this.#signal?.removeEventListener('abort', this);
    this.end();
    return true;
  }

  /** @internal */
  onTimeOver(): void {
    if (this.#settle()) this.#fail(this.onDeadline(this.#deadline));
  }

  /** @internal The signal has been aborted. */
  handleEvent(): void {
    if (this.#settle()) this.#fail(this.onAbort(this.#signal?.reason));
  }
}

type Start<T> = (
  resolve: (value: T) => void,
  reject: (error: unknown) => void,
) => (() => void) | undefined;

/** A wait by callbacks. */
class CallbackWait<T> extends Wait<T> {
  readonly #start: Start<T>;
  readonly #handlers: WaitHandlers;
  #undo: (() => void) | undefined;

  constructor(start: Start<T>, handlers: WaitHandlers) {
    super();
    this.#start = start;
    this.#handlers = handlers;
  }

  protected begin(): void {
    try {
      this.#undo = this.#start(
        (value) => this.resolve(value),
        (error) => this.reject(error),
      );
    } catch (error) {
      this.reject(error);
    }
    // Settled before it could be said how to undo it.
    if (this.settled) this.#undo?.();
  }

  protected end(): void {
    this.#undo?.();
  }

  protected onDeadline(milliseconds: number): Error {
    return this.#handlers.onDeadline(milliseconds);
  }

  protected onAbort(reason: unknown): Error {
    return this.#handlers.onAbort(reason);
  }
}

/**
 * Runs `start` with a pair of callbacks and settles with whichever comes first: one of the two, the
 * deadline, or the signal. `start` may return a function that undoes what it began.
 */
export function withLimits<T>(
  start: Start<T>,
  options: WaitOptions,
  handlers: WaitHandlers,
): Promise<T> {
  return new CallbackWait(start, handlers).within(options);
}

/** The handlers of a wait whose only trace is its error. */
export function abortsWith(phase: Phase, onDeadline: WaitHandlers['onDeadline']): WaitHandlers {
  return { onDeadline, onAbort: (reason) => new AbortError({ phase, cause: reason }) };
}
