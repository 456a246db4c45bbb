/**
 * One machine, and every sequence of events there is, of any length, in any order, also those that no
 * stream dispatches.
 *
 * Theory of operation. A second account of closing stands beside the machine: a *history*. It knows
 * no states and no table. It only remembers, of what has happened so far, the first event that ended
 * each direction, what the caller said last that counts, and how the transport first ended; from that
 * it says what the state, the verdict and the record have to be. History and machine are moved by the
 * same events, and the pairs of both are finite in number; so when all pairs have been looked at,
 * with every event in each, all sequences have been.
 */
import type {
  AlertDetail,
  ClosureEvent,
  ClosureState,
  CutPoint,
  EventType,
  ReceiveState,
  SendState,
} from '../../src/closure/machine.ts';
import type { Closure, Verdict } from '../../src/closure/verdict.ts';
import { type Subject, stateKey } from './world.ts';

/** An event, and when. */
interface Happened {
  readonly event: ClosureEvent;
  readonly at: number;
}

/** What counts of a sequence of events. */
interface History {
  readonly established: boolean;
  /** What ended the peer's bytes first, and our own direction. */
  readonly received: Happened | null;
  readonly sent: Happened | null;
  /** Which of the two was close_notify, and first. */
  readonly first: 'local' | 'peer' | null;
  /** shutdown was called while our direction was open. */
  readonly asked: boolean;
  /** The caller wanted no more of the peer's bytes, before anything had ended them. */
  readonly done: boolean;
  /** HTTP said that nothing was missing, when they had ended. */
  readonly idle: boolean;
  /** What the caller wants of the peer's close_notify, in the machine's words. */
  readonly word: ClosureState['caller']['kind'];
  readonly transport: ClosureState['transport'];
}

/** A sequence after which the machine is not what its history says. */
export interface Mismatch {
  readonly what: string;
  /** The events, the first first; none shorter will do. */
  readonly events: readonly EventType[];
}

/** What was looked at. */
export interface Histories {
  /** Pairs of a history and a state. */
  readonly pairs: number;
  readonly steps: number;
  /** Each combination of the three states that can be reached, with the verdict it has to have. */
  readonly verdicts: ReadonlyMap<string, Verdict>;
  readonly mismatch: Mismatch | null;
}

/** How closely to look. */
export interface HistoryOptions {
  /**
   * `all` compares the whole state, `seen` only what a caller is shown: verdict and closure. What
   * passes `seen` is, to every caller and for ever, no other machine.
   */
  readonly look?: 'all' | 'seen' | undefined;
  /** Whether events vary in what they bring (times, alerts, places); they do by default. */
  readonly varied?: boolean | undefined;
}

/** Looks at all sequences of events, or up to the first mismatch. */
export function allHistories(subject: Subject, options: HistoryOptions = {}): Histories {
  const { look = 'all', varied = true } = options;
  const events = eventsOf(varied);
  interface Pair {
    readonly state: ClosureState;
    readonly history: History;
    readonly from: Pair | null;
    readonly by: EventType | null;
  }
  const start: Pair = { state: subject.INITIAL, history: NOTHING, from: null, by: null };
  const seen = new Set<string>([keyOf(start)]);
  const queue: Pair[] = [start];
  const verdicts = new Map<string, Verdict>();
  let steps = 0;
  for (const pair of queue) {
    for (const { event, at } of events) {
      steps++;
      const state = subject.step(pair.state, event, at);
      const history = learn(pair.history, event, at);
      const next: Pair = { state, history, from: pair, by: event.type };
      const key = keyOf(next);
      // The stream tells by the object whether anything has changed.
      const copied =
        look === 'all' && state !== pair.state && stateKey(state) === stateKey(pair.state);
      if (!copied && seen.has(key)) continue;
      seen.add(key);
      const what = copied
        ? 'nothing has changed, and the state is another object'
        : compare(subject, state, history, look);
      if (what !== null) {
        const path: EventType[] = [];
        for (let at: Pair | null = next; at?.by != null; at = at.from) path.unshift(at.by);
        return { pairs: seen.size, steps, verdicts, mismatch: { what, events: path } };
      }
      const expected = stateOf(history);
      verdicts.set(kindsOf(expected), verdictOf(history));
      queue.push(next);
    }
  }
  return { pairs: seen.size, steps, verdicts, mismatch: null };
}

/** The kinds of a state's three parts, in a line. */
export function kindsOf({ receive, send, caller }: ClosureState): string {
  return `${receive.kind} ${send.kind} ${caller.kind}`;
}

// ---- what a history says

const NOTHING: History = {
  established: false,
  received: null,
  sent: null,
  first: null,
  asked: false,
  done: false,
  idle: false,
  word: 'using',
  transport: null,
};

const ENDS_SENDING: ReadonlySet<EventType> = new Set([
  'alert-sent',
  'alert-received',
  'transport-reset',
  'transport-error',
  'abandon',
]);

/** What the caller may still be told to want: nobody who gave up, or chose, goes back. */
const STRENGTH: Readonly<Record<History['word'], number>> = {
  using: 0,
  waiting: 1,
  waived: 2,
  expired: 3,
  cancelled: 3,
};
const WORDS: Partial<Record<EventType, History['word']>> = {
  wait: 'waiting',
  waive: 'waived',
  deadline: 'expired',
  cancel: 'cancelled',
};
const ENDS: Partial<Record<EventType, History['transport']>> = {
  'transport-eof': 'eof',
  'transport-reset': 'reset',
  'transport-error': 'error',
  release: 'released',
};

function learn(known: History, event: ClosureEvent, at: number): History {
  const { type } = event;
  const { established } = known;
  const endsReceiving =
    ENDS_SENDING.has(type) ||
    type === 'transport-eof' ||
    (type === 'close-notify-received' && established);
  const endsSending =
    ENDS_SENDING.has(type) ||
    type === 'send-failed' ||
    (type === 'close-notify-sent' && established);
  const received = known.received ?? (endsReceiving ? { event, at } : null);
  const sent = known.sent ?? (endsSending ? { event, at } : null);
  const closedNow =
    received !== known.received && type === 'close-notify-received'
      ? 'peer'
      : sent !== known.sent && type === 'close-notify-sent'
        ? 'local'
        : null;
  const word = WORDS[type];
  return {
    established: established || type === 'established',
    received,
    sent,
    first: known.first ?? closedNow,
    done: known.done || (type === 'close' && established && known.received === null),
    idle: known.idle || (type === 'idle' && known.received !== null),
    asked: known.asked || (type === 'shutdown' && established && known.sent === null),
    word: word !== undefined && STRENGTH[word] > STRENGTH[known.word] ? word : known.word,
    transport: known.transport ?? (type === 'abandon' ? event.how : (ENDS[type] ?? null)),
  };
}

function stateOf(history: History): ClosureState {
  const { word, first, transport } = history;
  return {
    receive: receiveOf(history),
    send: sendOf(history),
    caller: { kind: word },
    initiator: first,
    transport,
  };
}

function receiveOf({ received, established, done, idle }: History): ReceiveState {
  if (received === null) {
    return { kind: done ? 'closing' : established ? 'open' : 'handshaking' };
  }
  const { event, at } = received;
  const lacking = !done && !idle;
  switch (event.type) {
    case 'close-notify-received':
      return { kind: 'closed', at, evidence: event.evidence };
    case 'alert-received':
      return { kind: 'alerted', alert: event.alert, lacking };
    case 'alert-sent':
      return { kind: 'rejected', alert: event.alert, lacking };
    case 'transport-eof':
      if (done) break;
      return { kind: 'truncated', cause: 'eof', where: event.where, code: null, lacking };
    case 'transport-reset':
      if (done) break;
      return { kind: 'truncated', cause: 'reset', where: event.where, code: event.code, lacking };
    case 'transport-error':
      if (done) break;
      return { kind: 'truncated', cause: 'error', where: event.where, code: event.code, lacking };
  }
  return { kind: 'abandoned', lacking };
}

function sendOf({ sent, established, asked }: History): SendState {
  if (sent === null) return { kind: asked ? 'closing' : established ? 'open' : 'handshaking' };
  const { event, at } = sent;
  switch (event.type) {
    case 'close-notify-sent':
      return { kind: 'closed', at, evidence: event.evidence };
    case 'alert-sent':
      return { kind: 'alerted', alert: event.alert };
    case 'abandon':
      return { kind: 'abandoned' };
    default:
      return { kind: 'cut' };
  }
}

function verdictOf({ received, sent, word, done, asked }: History): Verdict {
  const vain = word === 'expired' ? 'timed-out' : word === 'cancelled' ? 'aborted' : null;
  const closed = sent?.event.type === 'close-notify-sent';
  const oneSided = word === 'waived' && closed ? 'one-sided' : null;
  switch (received?.event.type) {
    case undefined:
      return vain ?? (done ? null : oneSided) ?? 'open';
    case 'abandon':
      return vain ?? oneSided ?? 'aborted';
    case 'alert-sent':
    case 'alert-received':
      return 'alert';
    case 'close-notify-received':
      if (closed) return 'secure';
      if (sent === null) return vain ?? 'open';
      if (sent.event.type === 'alert-sent') return 'alert';
      return sent.event.type === 'abandon' ? (vain ?? 'aborted') : 'one-sided';
    default:
      if (!done) return 'truncated';
      return vain ?? oneSided ?? (sent === null && asked ? 'open' : 'aborted');
  }
}

function closureOf(history: History): Closure {
  const [receive, send] = [receiveOf(history), sendOf(history)];
  const alert =
    receive.kind === 'alerted'
      ? { ...receive.alert, direction: 'received' as const }
      : receive.kind === 'rejected'
        ? { ...receive.alert, direction: 'sent' as const }
        : send.kind === 'alerted'
          ? { ...send.alert, direction: 'sent' as const }
          : null;
  const facts = {
    verdict: verdictOf(history),
    incomplete: 'lacking' in receive ? receive.lacking : receive.kind === 'closed' ? false : null,
    initiator: history.first,
    sent: send.kind === 'closed' ? { at: send.at, evidence: send.evidence } : null,
    received: receive.kind === 'closed' ? { at: receive.at, evidence: receive.evidence } : null,
    alert,
    truncation:
      receive.kind === 'truncated'
        ? { where: receive.where, cause: receive.cause, code: receive.code }
        : null,
    transportEnd: history.transport,
    send: send.kind,
    receive: receive.kind,
    late: 0,
    unsent: 0,
  };
  return facts as Closure;
}

function compare(
  subject: Subject,
  state: ClosureState,
  history: History,
  look: 'all' | 'seen',
): string | null {
  if (look === 'all') {
    const [is, says] = [stateKey(state), stateKey(stateOf(history))];
    if (is !== says) return `the state is ${is}, and its history says ${says}`;
  }
  const [verdict, due] = [subject.verdictOf(state), verdictOf(history)];
  if (verdict !== due) return `the verdict is ${verdict}, and its history says ${due}`;
  const [closure, record] = [subject.closureOf(state), closureOf(history)];
  for (const name of Object.keys(record) as Array<keyof Closure>) {
    const [is, says] = [JSON.stringify(closure[name]), JSON.stringify(record[name])];
    if (is !== says) return `${name} is ${is}, and its history says ${says}`;
  }
  return null;
}

function keyOf({ state, history }: { state: ClosureState; history: History }): string {
  const { established, asked, done, idle } = history;
  return `${stateKey(state)} / ${stateKey(stateOf(history))} ${established} ${asked} ${done} ${idle}`;
}

// ---- what can happen

const ALERTS: readonly AlertDetail[] = [
  { code: 40, name: 'handshake_failure', authenticated: true },
  { code: null, name: 'unknown', authenticated: false },
];
const PLACES: readonly CutPoint[] = ['record-boundary', 'inside-record', 'handshake', 'unknown'];

/** Every kind of event, and with `varied` all that it may bring, at one of two times. */
function eventsOf(varied: boolean): Happened[] {
  const all: { readonly [T in EventType]: ReadonlyArray<Extract<ClosureEvent, { type: T }>> } = {
    established: [{ type: 'established' }],
    shutdown: [{ type: 'shutdown' }],
    'close-notify-sent': [{ type: 'close-notify-sent', evidence: 'record' }],
    'close-notify-received': [{ type: 'close-notify-received', evidence: 'record' }],
    'alert-sent': ALERTS.map((alert) => ({ type: 'alert-sent', alert })),
    'alert-received': ALERTS.map((alert) => ({ type: 'alert-received', alert })),
    'transport-eof': PLACES.map((where) => ({ type: 'transport-eof', where })),
    'transport-reset': PLACES.map((where) => ({ type: 'transport-reset', where, code: 'EPIPE' })),
    'transport-error': PLACES.map((where) => ({ type: 'transport-error', where, code: 'EIO' })),
    'send-failed': [{ type: 'send-failed' }],
    close: [{ type: 'close' }],
    idle: [{ type: 'idle' }],
    wait: [{ type: 'wait' }],
    waive: [{ type: 'waive' }],
    deadline: [{ type: 'deadline' }],
    cancel: [{ type: 'cancel' }],
    abandon: [
      { type: 'abandon', how: 'closed' },
      { type: 'abandon', how: 'destroyed' },
    ],
    release: [{ type: 'release' }],
  };
  const kinds: ReadonlyArray<readonly ClosureEvent[]> = Object.values(all);
  const chosen = kinds.flatMap((kind) => (varied ? kind : kind.slice(0, 1)));
  const times = varied ? [1, 2] : [1];
  return chosen.flatMap((event) => times.map((at) => ({ event, at })));
}
