/** How a call of a stream waits: for an answer that the connection's state gives, a deadline, or a signal. */
import type { Duplex } from 'node:stream';
import type { Call } from '../call-site.ts';
import type { ClosureEvent } from '../closure/machine.ts';
import type { Closure } from '../closure/verdict.ts';
import { AbortError, type Phase, TimeoutError } from '../errors.ts';
import type { Observation } from '../transcript/observer.ts';
import type { Questions } from '../wait.ts';
import { type Question, Wait } from '../wait.ts';
import { noteOrigin } from './origin.ts';

/** What is waited for. */
export interface Waiting<T> {
  readonly phase: Phase;
  /** What did not happen in time. */
  readonly message: string;
  /** What the caller can do about that. */
  readonly hint?: (() => string | undefined) | undefined;
  /**
   * Whether running out of time or being cancelled is an event of the closure: the handshake and the shutdown end that
   * way, a read does not.
   */
  readonly ends?: boolean | undefined;
  /** The stream's method that rejects with what ends this wait. */
  readonly call?: Call | undefined;
  /** Asked whenever something has changed. @returns undefined for as long as there is no answer. @throws a failure. */
  answer(): T | undefined;
  /** Told when the wait is over, before its promise settles. */
  over?(): void;
}

/** The connection, as far as a wait has to do with it. */
interface Waited {
  readonly transport: Duplex;
  readonly questions: Questions;
  readonly closure: Closure;
  hear(phase: Phase, error: unknown): void;
  observe(observation: Observation): void;
  dispatch(event: ClosureEvent): void;
}

export class StreamWait<T> extends Wait<T> implements Question {
  readonly #connection: Waited;
  readonly #waiting: Waiting<T>;

  constructor(connection: Waited, waiting: Waiting<T>) {
    super();
    this.#connection = connection;
    this.#waiting = waiting;
  }

  protected override get call(): Call | null {
    return this.#waiting.call ?? null;
  }

  ask(): void {
    try {
      const found = this.#waiting.answer();
      if (found !== undefined) this.resolve(found);
    } catch (error) {
      this.#connection.hear(this.#waiting.phase, error);
      this.reject(error);
    }
  }

  override reject(error: unknown): void {
    noteOrigin(error, this.#connection.transport);
    super.reject(error);
  }

  protected override begin(): void {
    this.#connection.questions.add(this);
    this.ask();
  }

  protected override end(): void {
    this.#connection.questions.delete(this);
    this.#waiting.over?.();
  }

  protected override onDeadline(ms: number): Error {
    const { phase, message, ends, hint } = this.#waiting;
    const connection = this.#connection;
    connection.observe({ type: 'deadline', phase, ms });
    if (ends) connection.dispatch({ type: 'deadline' });
    const { closure } = connection;
    const error = new TimeoutError(`${message} within ${ms} ms`, {
      phase,
      closure,
      hint: hint?.(),
    });
    connection.hear(phase, error);
    noteOrigin(error, connection.transport);
    return error;
  }

  protected override onAbort(reason: unknown): Error {
    const { phase, ends } = this.#waiting;
    const connection = this.#connection;
    connection.observe({ type: 'call', name: 'cancel', detail: phase });
    if (ends) connection.dispatch({ type: 'cancel' });
    const error = new AbortError({ phase, closure: connection.closure, cause: reason });
    connection.hear(phase, error);
    noteOrigin(error, connection.transport);
    return error;
  }
}
