/**
 * Waiting, in the one way that every call of this library waits: for a condition, until a deadline,
 * under an AbortSignal. Whatever ends the wait, its timer and its listener are gone.
 */
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
 * Runs `start` with a pair of callbacks and settles with whichever comes first: one of the two, the
 * deadline, or the signal. `start` may return a function that undoes what it began.
 */
export function withLimits<T>(
  start: (
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ) => (() => void) | undefined,
  options: WaitOptions,
  handlers: WaitHandlers,
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
    stopTimer = after(deadline, () => settle() && reject(handlers.onDeadline(deadline)));
  });
}

/** The handlers of a wait whose only trace is its error. */
export function abortsWith(phase: Phase, onDeadline: WaitHandlers['onDeadline']): WaitHandlers {
  return { onDeadline, onAbort: (reason) => new AbortError({ phase, cause: reason }) };
}
