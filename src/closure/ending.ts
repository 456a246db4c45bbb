/**
 * The ending of one connection while it happens: the machine's state, its clock, and what the connection failed with
 * first.
 *
 * One for all who watch a connection: the stream, the guard of a drop-in, a captured connection that is replayed. They
 * tell what they saw, an alert or the transport's end, in the words of the wire. Here it becomes the event of the
 * machine, so that the same sight means the same in all three.
 */
import {
  type AlertDetail,
  type ClosureEvent,
  type ClosureState,
  type CutCause,
  type CutPoint,
  type Evidence,
  INITIAL,
  step,
} from './machine.ts';
import { type Closure, type Counters, closureOf } from './verdict.ts';

/** An alert as it crossed the wire. */
export interface SeenAlert {
  /** AlertLevel: 1 warning, 2 fatal; null where it is not known. */
  readonly level: number | null;
  /** AlertDescription (RFC 9846 section 6), 0 is close_notify; null where it is not known. */
  readonly description: number | null;
  /** Whether it came behind its sender's first Finished, so that nobody else can have sent it. */
  readonly authenticated: boolean;
}

/** How the transport ended, once all that it delivered has been looked at. */
export interface TransportEnding {
  /** 'destroyed' is an end that the peer had no part in: somebody here destroyed the transport. */
  readonly cause: CutCause | 'destroyed';
  readonly error: (Error & { readonly code?: string }) | null;
  readonly where: 'record-boundary' | 'inside-record' | 'unknown';
}

/** Which way something went. */
export type Way = 'sent' | 'received';

const CLOSE_NOTIFY = 0;
const WARNING = 1;

/**
 * Whether an alert closes its direction: an authenticated close_notify, and nothing else. In TLS 1.2 one that calls
 * itself fatal is a fatal alert (RFC 5246 section 7.2: "Alert messages with a level of fatal result in the immediate
 * termination of the connection"). In TLS 1.3 the level says nothing, and who sees it there says 1.
 */
export function closes({ level, description, authenticated }: SeenAlert): boolean {
  return authenticated && description === CLOSE_NOTIFY && level === WARNING;
}

/** The event of an alert that ends its direction. */
export function alertEvent(
  way: Way,
  alert: SeenAlert,
  name: string,
  evidence: Evidence,
): ClosureEvent {
  if (closes(alert)) return { type: `close-notify-${way}`, evidence };
  const detail: AlertDetail = {
    code: alert.description,
    name,
    authenticated: alert.authenticated,
  };
  return { type: `alert-${way}`, alert: detail };
}

/** The event of a transport that has ended. @param code the transport's own, of a reset or an error. */
export function transportEvent(
  cause: CutCause,
  where: CutPoint,
  code: string | null,
): Extract<ClosureEvent, { readonly where: CutPoint }> {
  return cause === 'eof'
    ? { type: 'transport-eof', where }
    : { type: `transport-${cause}`, where, code: code ?? 'UNKNOWN' };
}

/** One event, behind the one that happened before it. */
interface Happened {
  readonly event: ClosureEvent;
  at: number;
  /** Behind this event. */
  readonly state: ClosureState;
  before: Happened | null;
}

export class Ending<Failure extends Error = Error> {
  #last: Happened | null = null;
  #failure: Failure | null = null;
  #closure: Closure | null = null;

  get state(): ClosureState {
    return this.#last?.state ?? INITIAL;
  }

  /** What the connection failed with first: what fails later is a consequence. */
  get failure(): Failure | null {
    return this.#failure;
  }

  /** The record of it, made anew only when something has changed. */
  closure(counters?: Counters): Closure {
    const { late = 0, unsent = 0 } = counters ?? {};
    const known = this.#closure;
    if (known?.late === late && known.unsent === unsent) return known;
    this.#closure = closureOf(this.state, { late, unsent });
    return this.#closure;
  }

  /**
   * Something happened, `at` milliseconds since the connection's start. What crossed earlier may be known later: then
   * it takes its place among what is known already.
   *
   * @returns whether the state has changed.
   */
  happened(event: ClosureEvent, at: number): boolean {
    const { state } = this;
    const later: Happened[] = [];
    for (; this.#last !== null && this.#last.at > at; this.#last = this.#last.before) {
      later.push(this.#last);
    }
    this.#append(event, at);
    for (let one = later.pop(); one !== undefined; one = later.pop()) {
      this.#append(one.event, one.at);
    }
    if (this.state === state) return false;
    this.#closure = null;
    return true;
  }

  #append(event: ClosureEvent, at: number): void {
    this.#last = { event, at, state: step(this.state, event, at), before: this.#last };
  }

  /** What happens from here on is later than all that is known: lets go of what would give anything an earlier place. */
  conclude(): void {
    if (this.#last === null) return;
    this.#last.at = Number.NEGATIVE_INFINITY;
    this.#last.before = null;
  }

  /** @returns what the connection failed with first: the one that is made here, unless it has failed before. */
  fail(failure: (closure: Closure) => Failure, counters?: Counters): Failure {
    this.#failure ??= failure(this.closure(counters));
    return this.#failure;
  }

  /** Whatever failed before, from here on it is the caller who wants no more. */
  forgive(): void {
    this.#failure = null;
  }
}
