/**
 * How a TLS connection ends, as one state machine.
 *
 * Theory of operation. A TLS connection is two directions that end on their own, plus one caller
 * who decides whether to wait. So the state is three small states, one for each:
 *
 * - `send`: what has become of our right to write. It is over, properly, once our close_notify has
 *   been handed to the transport.
 * - `receive`: what has become of the peer's bytes. They are known to be complete only once an
 *   authenticated close_notify has arrived. Everything else that can happen to this direction
 *   (EOF, reset, alert, giving up) leads to a state that no later event can turn into `closed`.
 * - `caller`: whether the local party waits for the peer, chose not to, ran out of time, or
 *   cancelled. These say why a direction was left unfinished; they never say that it was finished.
 *
 * Each event moves the three independently, by the tables below, which are total: the compiler
 * rejects a table that lacks a state or an event. Nothing here performs I/O, reads a clock or
 * returns a promise; the stream feeds events in and acts on the state that comes out. The one-word
 * verdict is computed from the state by `verdictOf` and is never stored.
 *
 * Sources: RFC 9846 (TLS 1.3) section 6.1, RFC 5246 (TLS 1.2) section 7.2.1.
 */

/** Where in the byte stream the transport ended; after the handshake it may be unknown. */
export type CutPoint = 'handshake' | 'record-boundary' | 'inside-record' | 'unknown';

/** How the transport ended: FIN, RST, or another error of the transport. Neither is closure. */
export type CutCause = 'eof' | 'reset' | 'error';

/**
 * What a claim that close_notify crossed the wire rests on: `openssl`, OpenSSL said which alert it was;
 * `record`, its record was decrypted and authenticated here; `inferred`, the TLS engine did what it does
 * for close_notify, and nothing more is known.
 */
export type Evidence = 'openssl' | 'record' | 'inferred';

/** A fatal alert as far as it is known. `authenticated` is false for one sent in the clear. */
export interface AlertDetail {
  /** AlertDescription (RFC 9846 section 6), or null where the engine did not say which. */
  readonly code: number | null;
  /** The name in the standard's spelling, such as `bad_record_mac`; 'unknown' without a code. */
  readonly name: string;
  readonly authenticated: boolean;
}

/** The sending direction. */
export type SendState =
  | { readonly kind: 'handshaking' }
  | { readonly kind: 'open' }
  /** shutdown was called; what was written before it, then close_notify, are on their way out. */
  | { readonly kind: 'closing' }
  /** close_notify was handed to the transport, at this time. */
  | { readonly kind: 'closed'; readonly at: number; readonly evidence: Evidence }
  /** A fatal alert was sent instead. */
  | { readonly kind: 'alerted'; readonly alert: AlertDetail }
  /** The transport took no more bytes before close_notify was out. */
  | { readonly kind: 'cut' }
  /** The caller gave the transport up before close_notify was out. */
  | { readonly kind: 'abandoned' };

/**
 * The receiving direction. Where it has ended without close_notify, `lacking` says whether bytes may be missing that
 * somebody here wanted.
 */
export type ReceiveState =
  | { readonly kind: 'handshaking' }
  | { readonly kind: 'open' }
  /** An authenticated close_notify arrived, at this time: the peer's bytes are complete. */
  | { readonly kind: 'closed'; readonly at: number; readonly evidence: Evidence }
  /** The caller closes: it wants no more bytes, only to know whether the peer's close_notify comes. */
  | { readonly kind: 'closing' }
  /** A fatal alert arrived. */
  | { readonly kind: 'alerted'; readonly alert: AlertDetail; readonly lacking: boolean }
  /** We refused the peer's bytes (a record that does not authenticate, say) and sent an alert. */
  | { readonly kind: 'rejected'; readonly alert: AlertDetail; readonly lacking: boolean }
  /** The transport ended before close_notify. */
  | {
      readonly kind: 'truncated';
      readonly cause: CutCause;
      readonly where: CutPoint;
      /** The transport's own error code, such as `ECONNRESET`; null for EOF. */
      readonly code: string | null;
      readonly lacking: boolean;
    }
  /** Nobody looked at the transport any more, before close_notify came. */
  | { readonly kind: 'abandoned'; readonly lacking: boolean };

/** What the local party wants of the peer's close_notify. */
export type CallerState =
  | { readonly kind: 'using' }
  | { readonly kind: 'waiting' }
  /** Chose not to wait. */
  | { readonly kind: 'waived' }
  /** A deadline passed while waiting. */
  | { readonly kind: 'expired' }
  /** Cancelled while waiting. */
  | { readonly kind: 'cancelled' };

/** How the transport under the connection ended, for the record; no verdict comes from it alone. */
export type TransportEnd = 'eof' | 'reset' | 'error' | 'destroyed' | 'closed' | 'released' | null;

/** The whole state of a connection's ending. */
export interface ClosureState {
  readonly send: SendState;
  readonly receive: ReceiveState;
  readonly caller: CallerState;
  /** Who sent close_notify first. */
  readonly initiator: 'local' | 'peer' | null;
  readonly transport: TransportEnd;
}

/** What can happen to a connection. */
export type ClosureEvent =
  /** The handshake is complete: from here on, alerts are authenticated. */
  | { readonly type: 'established' }
  /** The caller asked for close_notify to be sent. */
  | { readonly type: 'shutdown' }
  /** Our close_notify was handed to the transport. */
  | { readonly type: 'close-notify-sent'; readonly evidence: Evidence }
  | { readonly type: 'close-notify-received'; readonly evidence: Evidence }
  | { readonly type: 'alert-sent'; readonly alert: AlertDetail }
  | { readonly type: 'alert-received'; readonly alert: AlertDetail }
  | { readonly type: 'transport-eof'; readonly where: CutPoint }
  | { readonly type: 'transport-reset'; readonly where: CutPoint; readonly code: string }
  | { readonly type: 'transport-error'; readonly where: CutPoint; readonly code: string }
  /** The caller wants no more bytes: `close()`, `abort()`. */
  | { readonly type: 'close' }
  /** Who reads the bytes knows by itself that none is missing: HTTP, with no message in progress. */
  | { readonly type: 'idle' }
  /** The transport takes no more bytes of ours. What it has received may still be read. */
  | { readonly type: 'send-failed' }
  /** The caller waits for the peer's close_notify. */
  | { readonly type: 'wait' }
  /** The caller chose not to wait for it. */
  | { readonly type: 'waive' }
  /** A deadline passed while the caller waited. */
  | { readonly type: 'deadline' }
  /** The caller cancelled while it waited. */
  | { readonly type: 'cancel' }
  /** The caller gave the transport up: nothing that comes later is looked at. */
  | { readonly type: 'abandon'; readonly how: 'destroyed' | 'closed' }
  /** The caller took the transport back after both close_notify. */
  | { readonly type: 'release' };

export type EventType = ClosureEvent['type'];
/**
 * What has become of our sending direction: `closed`, close_notify was handed to the transport; `closing`, it is on its
 * way; `alerted`, a fatal alert was sent instead; `cut`, the transport took no more before it was out; `abandoned`, we
 * gave the transport up first.
 */
export type SendKind =
  | 'handshaking'
  | 'open'
  | 'closing'
  | 'closed'
  | 'alerted'
  | 'cut'
  | 'abandoned';
/**
 * What has become of the peer's bytes: `closed`, an authenticated close_notify came behind them, and they are complete;
 * `closing`, we are closing and want no more of them; `alerted`, a fatal alert came; `rejected`, we refused them with one; `truncated`, the transport ended first;
 * `abandoned`, we gave the transport up first.
 */
export type ReceiveKind =
  | 'handshaking'
  | 'open'
  | 'closing'
  | 'closed'
  | 'alerted'
  | 'rejected'
  | 'truncated'
  | 'abandoned';
export type CallerKind = CallerState['kind'];

type Table<Kind extends string> = Readonly<Record<Kind, Readonly<Record<EventType, Kind>>>>;

/** Every event leaves the state as it is, but for those named. */
const stay = <Kind extends string>(
  kind: Kind,
  moves: Partial<Record<EventType, Kind>> = {},
): Readonly<Record<EventType, Kind>> => ({
  established: kind,
  shutdown: kind,
  'close-notify-sent': kind,
  'close-notify-received': kind,
  'alert-sent': kind,
  'alert-received': kind,
  'transport-eof': kind,
  'transport-reset': kind,
  'transport-error': kind,
  'send-failed': kind,
  close: kind,
  idle: kind,
  wait: kind,
  waive: kind,
  deadline: kind,
  cancel: kind,
  abandon: kind,
  release: kind,
  ...moves,
});

/** Ends of the sending direction that are the same wherever it was still alive. */
const sendEnds = {
  'alert-sent': 'alerted',
  'alert-received': 'cut',
  'transport-reset': 'cut',
  'transport-error': 'cut',
  'send-failed': 'cut',
  abandon: 'abandoned',
} as const;

/**
 * The sending direction.
 *
 * EOF from the peer does not end it: a transport may be half-closed, and RFC 9846 section 6.1 lets
 * each party close its own direction. `handshaking` ignores `shutdown` and `close-notify-sent`:
 * without keys there is nothing that the peer could trust.
 */
export const SEND_TABLE: Table<SendKind> = {
  handshaking: stay('handshaking', { ...sendEnds, established: 'open' }),
  open: stay('open', { ...sendEnds, shutdown: 'closing', 'close-notify-sent': 'closed' }),
  closing: stay('closing', { ...sendEnds, 'close-notify-sent': 'closed' }),
  closed: stay('closed'),
  alerted: stay('alerted'),
  cut: stay('cut'),
  abandoned: stay('abandoned'),
};

/** Ends of the receiving direction without close_notify; none of them leads any further. */
const receiveEnds = {
  'alert-sent': 'rejected',
  'alert-received': 'alerted',
  'transport-eof': 'truncated',
  'transport-reset': 'truncated',
  'transport-error': 'truncated',
  abandon: 'abandoned',
} as const;

/**
 * The receiving direction. The only way to `closed` is a close_notify that arrives while `open`:
 * "This alert notifies the recipient that the sender will not send any more messages on this
 * connection" (RFC 9846 section 6.1). During the handshake it is in the clear and proves nothing.
 */
export const RECEIVE_TABLE: Table<ReceiveKind> = {
  handshaking: stay('handshaking', { ...receiveEnds, established: 'open' }),
  open: stay('open', { ...receiveEnds, 'close-notify-received': 'closed', close: 'closing' }),
  // Who closes wants no more, so nothing can be cut.
  closing: stay('closing', {
    ...receiveEnds,
    'close-notify-received': 'closed',
    'transport-eof': 'abandoned',
    'transport-reset': 'abandoned',
    'transport-error': 'abandoned',
  }),
  // "Any data received after a closure alert has been received MUST be ignored": all that follows
  // is the transport's business.
  closed: stay('closed'),
  alerted: stay('alerted'),
  rejected: stay('rejected'),
  truncated: stay('truncated'),
  abandoned: stay('abandoned'),
};

/**
 * The caller. `expired` and `cancelled` stay: asking again does not undo that an earlier wait ended
 * without an answer. An answer that still comes is seen in `receive`, and that alone decides.
 */
export const CALLER_TABLE: Table<CallerKind> = {
  using: stay('using', {
    wait: 'waiting',
    waive: 'waived',
    deadline: 'expired',
    cancel: 'cancelled',
  }),
  waiting: stay('waiting', {
    waive: 'waived',
    deadline: 'expired',
    cancel: 'cancelled',
  }),
  waived: stay('waived', { deadline: 'expired', cancel: 'cancelled' }),
  expired: stay('expired'),
  cancelled: stay('cancelled'),
};

/** A connection before its first byte. */
export const INITIAL: ClosureState = {
  send: { kind: 'handshaking' },
  receive: { kind: 'handshaking' },
  caller: { kind: 'using' },
  initiator: null,
  transport: null,
};

/**
 * The state after `event`, which happened `at` milliseconds on whatever clock the caller keeps.
 * Returns `state` itself where the event changes nothing.
 */
export function step(state: ClosureState, event: ClosureEvent, at: number): ClosureState {
  const send = nextSend(state.send, event, at);
  const receive = nextReceive(state.receive, event, at);
  const caller = nextCaller(state.caller, event);
  const transport = nextTransport(state.transport, event);
  const initiator =
    state.initiator ??
    (send !== state.send && send.kind === 'closed'
      ? 'local'
      : receive !== state.receive && receive.kind === 'closed'
        ? 'peer'
        : null);
  if (
    send === state.send &&
    receive === state.receive &&
    caller === state.caller &&
    transport === state.transport
  ) {
    return state;
  }
  return { send, receive, caller, initiator, transport };
}

/** The table says where to; the event brings what the new state has to remember. */
function nextSend(state: SendState, event: ClosureEvent, at: number): SendState {
  const kind = SEND_TABLE[state.kind][event.type];
  if (kind === state.kind) return state;
  switch (kind) {
    case 'closed':
      return { kind, at, evidence: evidenceOf(event) };
    case 'alerted':
      return { kind, alert: alertOf(event) };
    default:
      return { kind };
  }
}

const CAUSES: Partial<Record<EventType, CutCause>> = {
  'transport-eof': 'eof',
  'transport-reset': 'reset',
};

function nextReceive(state: ReceiveState, event: ClosureEvent, at: number): ReceiveState {
  const kind = RECEIVE_TABLE[state.kind][event.type];
  if (event.type === 'idle' && 'lacking' in state && state.lacking) {
    return { ...state, lacking: false };
  }
  if (kind === state.kind) return state;
  const lacking = state.kind !== 'closing';
  switch (kind) {
    case 'closed':
      return { kind, at, evidence: evidenceOf(event) };
    case 'alerted':
    case 'rejected':
      return { kind, alert: alertOf(event), lacking };
    case 'truncated':
      return {
        kind,
        cause: CAUSES[event.type] ?? 'error',
        where: 'where' in event ? event.where : 'record-boundary',
        code: 'code' in event ? event.code : null,
        lacking,
      };
    case 'abandoned':
      return { kind, lacking };
    default:
      return { kind };
  }
}

function nextCaller(state: CallerState, event: ClosureEvent): CallerState {
  const kind = CALLER_TABLE[state.kind][event.type];
  return kind === state.kind ? state : { kind };
}

/** The first end counts: a reset after EOF changes nothing that was not already over. */
function nextTransport(state: TransportEnd, event: ClosureEvent): TransportEnd {
  switch (event.type) {
    case 'transport-eof':
      return state ?? 'eof';
    case 'transport-reset':
      return state ?? 'reset';
    case 'transport-error':
      return state ?? 'error';
    case 'abandon':
      return state ?? event.how;
    case 'release':
      return state ?? 'released';
    default:
      return state;
  }
}

const UNKNOWN_ALERT: AlertDetail = { code: null, name: 'unknown', authenticated: false };

/** The tables lead to `closed` only by an event that carries it. */
function evidenceOf(event: ClosureEvent): Evidence {
  return 'evidence' in event ? event.evidence : 'inferred';
}

function alertOf(event: ClosureEvent): AlertDetail {
  return 'alert' in event ? event.alert : UNKNOWN_ALERT;
}
