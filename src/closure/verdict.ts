/**
 * From the states to what people ask: the one-word verdict, the record of the closure, and the
 * error code that Boost.Asio would have reported.
 */
import type {
  AlertDetail,
  ClosureState,
  CutCause,
  CutPoint,
  Evidence,
  ReceiveKind,
  SendKind,
  TransportEnd,
} from './machine.ts';

/**
 * How a connection ended, in one word.
 *
 * - `open`: nothing has ended yet, or only one direction has.
 * - `secure`: close_notify sent and received.
 * - `one-sided`: only one close_notify crossed, and that was permitted: ours was sent and by choice
 *   not waited for (nothing is known of the peer's last bytes), or the peer's came and the transport
 *   was gone before ours could follow (`received` is then set: the peer's bytes are complete).
 * - `truncated`: the transport ended before the peer's close_notify.
 * - `alert`: a fatal alert, sent or received.
 * - `aborted`: the caller cancelled or closed the transport first.
 * - `timed-out`: a deadline passed while waiting.
 */
export type Verdict =
  | 'open'
  | 'secure'
  | 'one-sided'
  | 'truncated'
  | 'alert'
  | 'aborted'
  | 'timed-out';

/** The verdict of a state. Total: the compiler rejects a state that has none. */
export function verdictOf(state: ClosureState): Verdict {
  switch (state.receive.kind) {
    case 'alerted':
    case 'rejected':
      return 'alert';
    case 'truncated':
      return 'truncated';
    case 'closed':
      return afterPeersCloseNotify(state);
    case 'handshaking':
    case 'open':
      return gaveUp(state) ?? waived(state) ?? 'open';
    case 'closing':
      return gaveUp(state) ?? 'open';
    case 'abandoned':
      // Behind close() the peer's end may be here before our close_notify is out: then only one direction has ended.
      return gaveUp(state) ?? waived(state) ?? (state.send.kind === 'closing' ? 'open' : 'aborted');
  }
}

/** The peer's bytes are complete; what is left is whether ours ended as they should. */
function afterPeersCloseNotify(state: ClosureState): Verdict {
  switch (state.send.kind) {
    case 'closed':
      return 'secure';
    case 'alerted':
      return 'alert';
    case 'cut':
      return 'one-sided';
    case 'abandoned':
      return gaveUp(state) ?? 'aborted';
    case 'handshaking':
    case 'open':
    case 'closing':
      return gaveUp(state) ?? 'open';
  }
}

/** A caller whose wait ended without an answer. */
function gaveUp({ caller }: ClosureState): Verdict | null {
  if (caller.kind === 'expired') return 'timed-out';
  if (caller.kind === 'cancelled') return 'aborted';
  return null;
}

/** A caller who chose not to wait, once close_notify is out. */
function waived({ caller, send }: ClosureState): Verdict | null {
  return caller.kind === 'waived' && send.kind === 'closed' ? 'one-sided' : null;
}

/** A close_notify that crossed the wire. */
export interface Crossed {
  /** Milliseconds since the connection's start. */
  readonly at: number;
  /** What the claim rests on. */
  readonly evidence: Evidence;
}

/** A fatal alert, and who sent it. */
export type DirectedAlert = AlertDetail & { readonly direction: 'sent' | 'received' };

/** Where and how the transport ended. */
export interface Truncation {
  readonly where: CutPoint;
  readonly cause: CutCause;
  /** The transport's own error code, such as `ECONNRESET`; null for EOF. */
  readonly code: string | null;
}

/** What every closure has. */
export interface ClosureFacts {
  /** The judgement, in one word. */
  readonly verdict: Verdict;
  /**
   * Whether what this side has read may lack bytes of the peer's: the question that a program has to ask before it
   * uses them.
   *
   * - `null` while the peer's direction is open.
   * - `false` when the peer's close_notify came; when `close()`, disposal or `abort()` was called before the transport
   *   ended, so that nobody wanted more; when HTTP had no message in progress.
   * - `true` otherwise.
   */
  readonly incomplete: boolean | null;
  /** Who sent close_notify first; null while nobody has. */
  readonly initiator: 'local' | 'peer' | null;
  /** Our close_notify, once it was handed to the transport; null before. */
  readonly sent: Crossed | null;
  /** The peer's close_notify, once it came, authenticated; null before. */
  readonly received: Crossed | null;
  /** The fatal alert behind the verdict `alert`. */
  readonly alert: DirectedAlert | null;
  /** Where and how the transport ended, behind the verdict `truncated`. */
  readonly truncation: Truncation | null;
  /**
   * How the transport ended: `eof` (FIN) or `reset` (RST) by the peer, `error` of its own,
   * `destroyed` or `closed` by us, `released` to the caller by `unwrap`; null while it is in use.
   */
  readonly transportEnd: TransportEnd;
  /** What has become of our sending direction. */
  readonly send: SendKind;
  /** What has become of the peer's bytes. */
  readonly receive: ReceiveKind;
  /** Application bytes that our shutdown found unread, kept or discarded. */
  readonly late: number;
  /**
   * Bytes that this side wrote and that are lost, as far as is known: a TLS 1.2 peer closed first, and they were
   * discarded for our answer; or the transport had not taken them when it took no more, or was given up. Of a socket of
   * Node's own always 0: what is taken of its bytes, its program hears by its writes.
   */
  readonly unsent: number;
}

/** Nothing has ended yet, or only one direction has. */
export interface OpenClosure extends ClosureFacts {
  readonly verdict: 'open';
  readonly incomplete: false | null;
  readonly truncation: null;
}

/** Both close_notify crossed. */
export interface SecureClosure extends ClosureFacts {
  readonly verdict: 'secure';
  readonly incomplete: false;
  readonly sent: Crossed;
  readonly received: Crossed;
  readonly alert: null;
  readonly truncation: null;
}

/** One close_notify crossed, and that was permitted. */
export interface OneSidedClosure extends ClosureFacts {
  readonly verdict: 'one-sided';
  readonly alert: null;
  readonly truncation: null;
}

/** The transport ended before the peer's close_notify. */
export interface TruncatedClosure extends ClosureFacts {
  readonly verdict: 'truncated';
  readonly incomplete: boolean;
  readonly received: null;
  readonly truncation: Truncation;
}

/** A fatal alert crossed. */
export interface AlertClosure extends ClosureFacts {
  readonly verdict: 'alert';
  readonly incomplete: boolean;
  readonly alert: DirectedAlert;
  readonly truncation: null;
}

/** The caller gave up, by itself or by a deadline. */
export interface GivenUpClosure extends ClosureFacts {
  readonly verdict: 'aborted' | 'timed-out';
  readonly truncation: null;
}

/**
 * The record of how a connection ended, or stands: one type for each verdict, told apart by `verdict`. A snapshot: it
 * does not change.
 */
export type Closure =
  | OpenClosure
  | SecureClosure
  | OneSidedClosure
  | TruncatedClosure
  | AlertClosure
  | GivenUpClosure;

/** What a closure counts beside its states. */
export interface Counters {
  readonly late: number;
  readonly unsent: number;
}

const NO_COUNTERS: Counters = { late: 0, unsent: 0 };

function crossed(direction: ClosureState['send'] | ClosureState['receive']): Crossed | null {
  if (direction.kind !== 'closed') return null;
  return { at: direction.at, evidence: direction.evidence };
}

/** See `Closure.incomplete`. */
function incompleteOf(receive: ClosureState['receive']): boolean | null {
  if ('lacking' in receive) return receive.lacking;
  return receive.kind === 'closed' ? false : null;
}

function alertOf({ send, receive }: ClosureState): DirectedAlert | null {
  if (receive.kind === 'alerted') return { ...receive.alert, direction: 'received' };
  if (receive.kind === 'rejected') return { ...receive.alert, direction: 'sent' };
  return send.kind === 'alerted' ? { ...send.alert, direction: 'sent' } : null;
}

/** The record of a state. */
export function closureOf(state: ClosureState, counters: Counters = NO_COUNTERS): Closure {
  const { send, receive } = state;
  const facts: ClosureFacts = {
    verdict: verdictOf(state),
    incomplete: incompleteOf(receive),
    initiator: state.initiator,
    sent: crossed(send),
    received: crossed(receive),
    alert: alertOf(state),
    truncation:
      receive.kind === 'truncated'
        ? { where: receive.where, cause: receive.cause, code: receive.code }
        : null,
    transportEnd: state.transport,
    send: send.kind,
    receive: receive.kind,
    late: counters.late,
    unsent: counters.unsent,
  };
  // Which facts go with which verdict is how the verdict was made; a test walks through all states.
  return Object.freeze(facts) as Closure;
}
