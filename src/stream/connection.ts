/**
 * One connection as its stream sees it: the engine below, the ending, and everybody who waits for something.
 *
 * Theory of operation. The engine reports here, and the stream's calls come from above. Each report becomes one event
 * of the closure machine, and the state that comes out is all that a call looks at to decide whether it may return.
 * Every call that waits is a question, asked again whenever something changes. So there is one place where waits,
 * deadlines and signals meet, and no other machine beside the one of closure/machine.ts.
 */
import { performance } from 'node:perf_hooks';
import type { Duplex } from 'node:stream';
import {
  alertEvent,
  Ending,
  type SeenAlert,
  type TransportEnding,
  transportEvent,
  type Way,
} from '../closure/ending.ts';
import type { AlertDetail, ClosureEvent, Evidence } from '../closure/machine.ts';
import type { Policy } from '../closure/policy.ts';
import { type Closure, verdictOf } from '../closure/verdict.ts';
import type { Engine, EngineEvents, EngineFailure, TlsInfo } from '../engine/contract.ts';
import { engineError } from '../engine/failure.ts';
import { truncatedError } from '../engine/truncation.ts';
import {
  AbortedError,
  type CloseNotifyError,
  type Phase,
  ShutdownError,
  TimeoutError,
} from '../errors.ts';
import { alertName } from '../record/alert.ts';
import { apart } from '../runtime.ts';
import { type Observation, type Observer, tell } from '../transcript/observer.ts';
import { ignoreErrors } from '../transport/goodbye.ts';
import { type Patience, Questions, type WaitOptions } from '../wait.ts';
import { Idleness } from './idle.ts';
import { StreamWait, type Waiting } from './waiting.ts';

/** What a connection is made with. */
export interface ConnectionOptions {
  readonly transport: Duplex;
  readonly policy: Policy;
  readonly observer?: Observer | undefined;
  /** `performance.now()` at the connection's start, from which its times count. */
  readonly startedAt: number;
  readonly onSession?: ((session: Uint8Array) => void) | undefined;
  /** Begins the handshake. @throws {OptionError} for options that the engine does not take. */
  readonly start: (events: EngineEvents, linger: number) => Engine;
}

export class Connection implements EngineEvents {
  readonly transport: Duplex;
  readonly policy: Policy;
  readonly observer: Observer | undefined;
  readonly onSession: EngineEvents['onSession'];
  readonly engine: Engine;
  readonly ending = new Ending<CloseNotifyError>();
  readonly questions = new Questions();
  /** What the program has heard, by a call that rejected. Whoever closes does not say it again. */
  readonly heard = {
    /** That bytes which were written may be lost: `write` or `shutdown` failed with the connection. */
    loss: false,
    /** That something is wrong with the connection; a write or shutdown that gave up says that, too. */
    trouble: false,
  };
  /** The engine has let go of the transport. */
  released = false;
  /**
   * `late`: application bytes that a shutdown found unread. `unsent`: bytes that were accepted for writing, and
   * discarded or not known to have been taken by the transport when it took no more. `heard`: how often the peer sent
   * something behind its handshake, bytes or a ticket.
   */
  readonly counters = { late: 0, unsent: 0, heard: 0 };
  /** Told once, when the connection fails after its handshake. */
  onFailed: () => void = () => {};
  readonly #startedAt: number;
  readonly #idleness: Idleness;
  /** Why the transport takes no more. */
  sendError: Error | null = null;

  /** @throws {OptionError} */
  constructor(options: ConnectionOptions) {
    this.transport = options.transport;
    this.policy = options.policy;
    this.observer = options.observer;
    const { onSession } = options;
    this.onSession =
      onSession &&
      ((session) => {
        this.#hear();
        apart(() => onSession(session));
      });
    this.#startedAt = options.startedAt;
    this.#idleness = new Idleness(this.policy.idleTimeout, (ms) => this.#onIdle(ms));
    // It refuses options before it touches the transport.
    this.engine = options.start(this, this.policy.linger.time);
  }

  /** How the connection ended, or stands. */
  get closure(): Closure {
    return this.ending.closure(this.counters);
  }

  /** Why reads and writes fail from now on: what ended the connection first. */
  get failure(): CloseNotifyError | null {
    return this.ending.failure;
  }

  get established(): boolean {
    // Some runtimes report while the engine is still being made.
    const engine: Engine | undefined = this.engine;
    return (engine?.info ?? null) !== null;
  }

  /**
   * Whether the caller wants the peer's missing close_notify reported rather than raised. That the transport broke, or
   * ended during the handshake, is an error all the same.
   */
  get onlyReports(): boolean {
    return !this.policy.requireCloseNotify && this.established;
  }

  /** @throws why nothing more can be written. */
  mayWrite(): void {
    const { send, initiator } = this.ending.state;
    if (this.failure !== null) {
      this.hear('write', this.failure);
      throw this.failure;
    }
    if (send.kind === 'open') return;
    if (send.kind === 'cut') {
      this.heard.loss = true;
      throw new ShutdownError('the transport takes no more', {
        closure: this.closure,
        cause: this.sendError,
        hint: 'what the peer has sent can still be read',
      });
    }
    throw new ShutdownError('write after shutdown', {
      closure: this.closure,
      hint:
        initiator === 'peer'
          ? 'the peer closed first, and TLS 1.2 asks for an answer at once'
          : 'close_notify is the last thing that a party sends',
    });
  }

  // ---- what the engine reports

  onSecure(_info: TlsInfo): void {
    this.#idleness.begin();
    this.dispatch({ type: 'established' });
  }

  onReadable(): void {
    this.#hear();
  }

  #hear(): void {
    this.counters.heard++;
    this.questions.ask();
  }

  onDrain(): void {
    this.#idleness.active();
    this.questions.ask();
  }

  onAlert(way: Way, alert: SeenAlert, evidence: Evidence, at: number): void {
    const name = alert.description === null ? 'unknown' : alertName(alert.description);
    const event = alertEvent(way, alert, name, evidence);
    if (event.type !== `alert-${way}`) {
      this.observe({ type: 'close-notify', direction: way });
      this.dispatch(event, at - this.#startedAt);
      if (way === 'received') this.#answer();
      return;
    }
    const { alert: detail } = event as { readonly alert: AlertDetail };
    this.observe({ type: 'alert', direction: way, alert: detail });
    this.dispatch(event);
  }

  onTransportEnd({ cause, error, where }: TransportEnding): void {
    const because = error === null ? {} : { cause: error };
    if (cause === 'destroyed') {
      this.fail(
        { type: 'abandon', how: 'destroyed' },
        (closure) =>
          new AbortedError('the transport was destroyed on this side', { closure, ...because }),
      );
      return;
    }
    const place = this.established ? where : 'handshake';
    const event = transportEvent(cause, place, error?.code ?? null);
    this.observe(event);
    const { receive } = this.ending.state;
    const whole = receive.kind === 'closed';
    if (receive.kind === 'closing' || receive.kind === 'abandoned') {
      // Behind close(), also where FIN was before: nobody wants more of the peer. Whether it has got all of ours is
      // another question.
      this.sendError ??= error;
      this.dispatch(event);
    } else if (cause === 'eof' && (whole || this.onlyReports)) {
      this.dispatch(event);
    } else if (whole) {
      this.fail(
        event,
        (closure) =>
          new ShutdownError('the transport broke after the peer had closed: nothing can be sent', {
            closure,
            ...because,
          }),
      );
    } else {
      this.fail(event, (closure) => truncatedError(cause, place, closure, error));
    }
  }

  onSendFailed(error: Error): void {
    this.sendError = error;
    this.dispatch({ type: 'send-failed' });
  }

  onFailure(failure: EngineFailure): void {
    this.fail({ type: 'abandon', how: 'destroyed' }, (closure) =>
      engineError(failure, this.established, closure),
    );
  }

  get onRecord(): EngineEvents['onRecord'] {
    if (this.observer === undefined) return undefined;
    return (direction, contentType, length) =>
      this.observe({ type: 'record', direction, contentType, length });
  }

  get onBytes(): EngineEvents['onBytes'] {
    const { observer } = this;
    if (observer?.onBytes !== undefined) {
      return (way, bytes) => {
        this.#idleness.active();
        apart(() => observer.onBytes?.(way, bytes, this.now()));
      };
    }
    return this.#idleness.matters ? this.#idleness.active : undefined;
  }

  get onSecret(): EngineEvents['onSecret'] {
    const { observer } = this;
    if (observer?.onSecret === undefined) return undefined;
    return (line) => apart(() => observer.onSecret?.(line));
  }

  // ---- acting on it

  /** Nothing has crossed for so long. Who closes has a deadline for that, and who has shut down has all it wanted. */
  #onIdle(ms: number): void {
    const { send, receive } = this.ending.state;
    const over = send.kind === 'closed' && receive.kind === 'closed';
    if (over || receive.kind === 'closing' || this.failure !== null) return;
    this.observe({ type: 'deadline', phase: 'open', ms });
    // Nobody is asked before the failure stands.
    this.ending.happened({ type: 'deadline' }, this.now());
    this.fail(
      { type: 'abandon', how: 'destroyed' },
      (closure) =>
        new TimeoutError(`nothing was received or sent for ${ms} ms`, {
          phase: 'open',
          closure,
          hint: 'send something now and then, or raise idleTimeout',
        }),
    );
  }

  /** The peer has closed. See `Policy.answer` for what each standard asks for. */
  #answer(): void {
    const { answer } = this.policy;
    const tls12 = this.engine.info?.protocol !== 'TLSv1.3';
    if (answer === 'when-told' || (answer === 'by-version' && !tls12)) return;
    if (this.ending.state.send.kind !== 'open') return;
    if (tls12) this.counters.unsent += this.engine.discardWrites();
    this.sendCloseNotify();
  }

  /** Sends close_notify behind everything written, unless that is done or cannot be. */
  sendCloseNotify(): void {
    if (this.ending.state.send.kind !== 'open' || this.failure !== null) return;
    this.dispatch({ type: 'shutdown' });
    this.engine.closeWrite();
  }

  /** Whether bytes that were written are not known to have been taken by the transport. */
  get untaken(): boolean {
    const { kind } = this.ending.state.send;
    const isLeft = kind === 'open' || kind === 'closing';
    return this.counters.unsent > 0 || (isLeft && this.engine.unsent > 0);
  }

  /** Whether bytes that the caller had written were discarded for our answer to close_notify. */
  get discarded(): boolean {
    return this.counters.unsent > 0;
  }

  /** The engine lets go of the transport. @returns what came after the peer's close_notify. */
  release(back: boolean): Uint8Array {
    this.#idleness.stop();
    const closed = this.ending.state.receive.kind === 'closed';
    const trailing = closed && !this.released ? this.engine.trailingLength : 0;
    if (trailing > 0) this.observe({ type: 'trailing', bytes: trailing });
    this.released = true;
    return this.engine.release(back);
  }

  /** The transport goes now. */
  dropTransport(): void {
    const { transport } = this;
    this.release(false);
    ignoreErrors(transport);
    if (transport.destroyed) return;
    this.observe({ type: 'transport-closed', how: 'destroy' });
    transport.destroy();
  }

  /** A call rejects. @param phase which one. */
  hear(phase: Phase, error: unknown): void {
    const { heard } = this;
    const ofSending = phase === 'write' || phase === 'shutdown';
    const failed = error === this.failure;
    heard.loss ||= failed && ofSending;
    heard.trouble ||= failed || ofSending;
  }

  // ---- state

  /**
   * Moves the state on, then asks every waiting question again.
   *
   * @param at when it happened, in milliseconds since the connection's start.
   */
  dispatch(event: ClosureEvent, at: number = this.now()): void {
    this.#step(event, at);
    this.questions.ask();
  }

  /**
   * The same for an event that fails the stream: no question is asked before the failure stands. The first failure
   * stays; later ones are its consequences.
   */
  fail(event: ClosureEvent, failure: (closure: Closure) => CloseNotifyError): void {
    this.#step(event, this.now());
    const first = this.failure === null;
    this.ending.fail(failure, this.counters);
    this.questions.ask();
    if (first && this.established) this.onFailed();
  }

  #step(event: ClosureEvent, at: number): void {
    const before = this.ending.state;
    const { kind } = before.send;
    // The engine's word counts only as long as it is at work.
    const unsent = kind === 'open' || kind === 'closing' ? this.engine.unsent : 0;
    this.ending.happened(event, at);
    const { send } = this.ending.state;
    if (send.kind === 'cut' || send.kind === 'abandoned' || send.kind === 'alerted') {
      this.counters.unsent += unsent;
    }
    const verdict = verdictOf(this.ending.state);
    if (verdict !== verdictOf(before)) this.observe({ type: 'verdict', verdict });
  }

  /** Waits for an answer; see `Waiting`. @param deadline where the options say none. */
  until<T>(
    waiting: Waiting<T>,
    options: WaitOptions,
    deadline: number,
    patience?: Patience,
  ): Promise<T> {
    const limits = options.deadline === undefined ? { signal: options.signal, deadline } : options;
    return new StreamWait(this, waiting).within(
      limits,
      patience?.busy === true ? undefined : patience,
    );
  }

  /** Milliseconds since the connection's start. */
  now(): number {
    return performance.now() - this.#startedAt;
  }

  observe(observation: Observation): void {
    if (this.observer !== undefined) tell(this.observer, observation, this.now());
  }
}
