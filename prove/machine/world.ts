/**
 * Two parties that both run the real closure machine, and the network between them.
 *
 * Theory of operation. A world is two parties and two wires. A wire is the queue of what is under
 * way in one direction, so "delayed" needs no move of its own: it is every order in which something
 * else moves first. From a world, `expand` gives every world that one move leads to, and a move is
 * whatever one of these may do next:
 *
 * - a party's caller: write, read, shutdown with and without waiting, close with and without waiting,
 *   abort, unwrap, cancel; what HTTP knows of its messages; and its clock: a deadline passes, whenever
 *   a call waits;
 * - a party's TLS: encrypt the next write, put close_notify behind the last one;
 * - the network, which an attacker may own: deliver the next thing, cut with FIN between two records
 *   or inside one, reset, fail, change a record's bytes, forge a close_notify before there are keys.
 *
 * What a party does between two events of its machine is what src/stream/connection.ts and closing.ts do, in as
 * many words: which events it dispatches and in what order, when it lets go of the transport, what
 * `shutdown`, `close` and `read` return. (That the real stream keeps to this is for the part `lockstep`.)
 *
 * Beside its machine each party carries the *truth*: what really happened to it, written down by the
 * world and never read by the machine. The invariants hold one against the other.
 *
 * Writes are bounded, and nothing else grows, so the worlds are finite in number. Parties are
 * interned, so that equal ones are one object, and a world is four small numbers. A move concerns one
 * party, what it is sent and what it sends, and never looks at the other party; so the moves of a
 * party in front of a wire are worked out once, and used in every world that has the two.
 */
import type {
  AlertDetail,
  ClosureEvent,
  ClosureState,
  EventType,
} from '../../src/closure/machine.ts';
import type { Closure, Verdict } from '../../src/closure/verdict.ts';

/** The code under proof: the library's own, or a mutant of it. */
export interface Subject {
  readonly INITIAL: ClosureState;
  readonly step: (state: ClosureState, event: ClosureEvent, at: number) => ClosureState;
  readonly verdictOf: (state: ClosureState) => Verdict;
  readonly closureOf: (state: ClosureState) => Closure;
}

/** The rules that a pair of parties plays by. */
export interface Rules {
  readonly version: 'TLSv1.2' | 'TLSv1.3';
  /** Of A and of B: whether the peer's close_notify is answered as it comes, or when told. */
  readonly answers: readonly [Answer, Answer];
  /** The policy of both: whether a missing close_notify is an error, or only reported. */
  readonly requireCloseNotify: boolean;
  /** An honest network only delivers and delays; a hostile one does whatever an attacker may. */
  readonly network: 'honest' | 'hostile';
  /** How many writes each may make. */
  readonly writes: readonly [number, number];
  /** How often each may call `shutdown`. */
  readonly shutdowns: number;
  /** Whether HTTP reads, and may find that it has all when its connection ends. */
  readonly idles?: boolean;
}

export type Answer = 'at-once' | 'when-told';

/** A is 0, B is 1. */
export type Side = 0 | 1;

/**
 * What is under way, first to arrive first; equal ones are one object. In `items` each is one letter: the handshake's last message (h), a
 * record of data (d), close_notify (n), a fatal alert (x), plaintext of the transport's next protocol
 * (t); then at most one end: FIN between records (f), FIN inside a record (F), reset (r), another
 * error (e). A wire whose EOF was delivered is `.`; one that nothing can come from any more is `!`.
 */
export interface Wire {
  readonly id: number;
  readonly items: string;
  /** What it becomes when these are put on it, as far as that was asked before. */
  readonly joined: Map<string, Wire>;
}

/** How the peer's bytes ended, as the world knows it: the first thing that happened to them. */
export type ReceiveEnd =
  | 'closed'
  | 'eof handshake'
  | 'eof record-boundary'
  | 'eof inside-record'
  | 'reset'
  | 'error'
  | 'alerted'
  | 'refused'
  | 'abandoned';

/** How our own direction ended, likewise. */
export type SendEnd = 'said' | 'alerted' | 'cut' | 'abandoned';

/** What really happened to a party. */
export interface Truth {
  readonly established: boolean;
  readonly received: ReceiveEnd | null;
  readonly sent: SendEnd | null;
  /** Whose close_notify this party saw pass first: its own leaving, or the peer's coming. */
  readonly first: 'local' | 'peer' | null;
  /** The first wait that ended without an answer. */
  readonly gaveUp: 'deadline' | 'cancel' | null;
  /** Whether the caller chose not to insist on the peer's close_notify, before it gave up. */
  readonly waived: boolean;
  /** Whether the caller had called `close` or `abort` before anything ended the peer's bytes. */
  readonly done: boolean;
  /** Whether HTTP, once they had ended, found that none was missing. */
  readonly idle: boolean;
  /** Whether a call has said that writes may be lost. Kept only while some may be. */
  readonly told: boolean;
  /** The first end of the transport. */
  readonly transport: ClosureState['transport'];
}

/** One party: its machine, what surrounds it in the stream, and the truth. */
export interface Party {
  readonly id: number;
  readonly state: ClosureState;
  /** Of `state`, by the code under proof. */
  readonly verdict: Verdict;
  readonly closure: Closure;
  /** Writes that were accepted and that the transport has not taken. */
  readonly pending: number;
  /** Records of data handed to the transport. */
  readonly wrote: number;
  /** Accepted writes that were discarded, for a TLS 1.2 peer that closed. */
  readonly discarded: number;
  /** Records of data that arrived, and how many of them nobody has read. */
  readonly got: number;
  readonly unread: number;
  /** A `shutdown` that has not settled, by whether it waits. */
  readonly call: '' | 'wait' | 'waive';
  /** How many times it was called. */
  readonly calls: number;
  readonly close: 'no' | 'wait' | 'waive' | 'done';
  /** Reads and writes fail from now on. */
  readonly failed: boolean;
  readonly tap: 'fed' | 'stopped' | 'detached';
  /** Our side of the transport. */
  readonly out: 'open' | 'fin' | 'gone' | 'released';
  readonly truth: Truth;
}

/** Both parties, and what is under way between them. */
export interface World {
  readonly parties: readonly [Party, Party];
  /** From A to B, from B to A. */
  readonly wires: readonly [Wire, Wire];
}

/** Who moved, and what it did. */
export interface Move {
  /** Null for the network. */
  readonly by: Side | null;
  /** For the network: the party that it happens to. */
  readonly to: Side;
  readonly what: string;
}

/** A move of one party, or of the network on its wire, and what it changes. */
export interface Step {
  readonly move: Move;
  readonly before: Party;
  readonly after: Party;
  /** What is left of what is under way to the party. */
  readonly in: Wire;
  /** The items that it put on its own wire, if that still takes any. */
  readonly sent: string;
  /** How a `shutdown` settled by it. */
  readonly settled: 'resolved' | 'resolved without waiting' | 'rejected' | null;
  /** How a `close` settled by it. */
  readonly closed: 'resolved' | 'rejected' | null;
  /** What a `read` gave: bytes, null for the end, or an error. */
  readonly read: 'bytes' | 'null' | 'error' | null;
}

/** A step, and the world that it leads to. */
export interface Edge {
  readonly step: Step;
  readonly world: World;
}

/**
 * The clock of the worlds: each kind of event has its own hour. So a state that remembers the time
 * of the wrong event is seen, and the same events in another order are no other world.
 */
export const HOUR: Readonly<Record<EventType, number>> = {
  established: 1,
  shutdown: 2,
  'close-notify-sent': 3,
  'close-notify-received': 4,
  'alert-sent': 5,
  'alert-received': 6,
  'transport-eof': 7,
  'transport-reset': 8,
  'transport-error': 9,
  'send-failed': 10,
  wait: 11,
  waive: 12,
  deadline: 13,
  cancel: 14,
  abandon: 15,
  release: 16,
  close: 17,
  idle: 18,
};

/** A state as a short text: equal ones have equal texts. */
export function stateKey({ send, receive, caller, initiator, transport }: ClosureState): string {
  return `${directionKey(send)}|${directionKey(receive)}|${caller.kind}|${initiator}|${transport}`;
}

/** One direction as a short text, with all that it remembers. */
export function directionKey(part: ClosureState['send'] | ClosureState['receive']): string {
  if ('lacking' in part && !part.lacking)
    return `${directionKey({ ...part, lacking: true })}, not lacking`;
  switch (part.kind) {
    case 'closed':
      return `closed at ${part.at}`;
    case 'alerted':
    case 'rejected':
      return `${part.kind} ${part.alert.name} ${part.alert.code} ${part.alert.authenticated}`;
    case 'truncated':
      return `truncated ${part.cause} ${part.where} ${part.code}`;
    default:
      return part.kind;
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type Draft = Writable<Omit<Party, 'id' | 'verdict' | 'closure' | 'truth'>> & {
  truth: Writable<Truth>;
};

/** A party about to move: what it changes is its own until it is interned. */
interface Turn {
  readonly side: Side;
  readonly me: Draft;
  in: string;
  sent: string;
  settled: Step['settled'];
  closed: Step['closed'];
  read: Step['read'];
}

/** Two parties and two wires fill the 52 bits that a number holds exactly. */
const MOST_PARTIES = 2 ** 18;
const MOST_WIRES = 2 ** 8;

const ENDED = /[fFre.!]$/;
const RECORD = /^[hdnx]/;

/** All worlds of one set of rules, for one subject. */
export class Model {
  readonly rules: Rules;
  readonly start: World;
  readonly #subject: Subject;
  readonly #mirrored: boolean;
  readonly #onStep: ((step: Step) => void) | undefined;
  readonly #parties = new Map<string, Party>();
  readonly #wires = new Map<string, Wire>();
  /** By party, side and wire. */
  readonly #steps = new Map<number, readonly Step[]>();

  /** `onStep` is told of each step of a party, once, when it is worked out. */
  constructor(rules: Rules, subject: Subject, onStep?: (step: Step) => void) {
    this.rules = rules;
    this.#subject = subject;
    this.#mirrored = rules.answers[0] === rules.answers[1] && rules.writes[0] === rules.writes[1];
    this.#onStep = onStep;
    const fresh: Draft = {
      state: subject.INITIAL,
      pending: 0,
      wrote: 0,
      discarded: 0,
      got: 0,
      unread: 0,
      call: '',
      calls: 0,
      close: 'no',
      failed: false,
      tap: 'fed',
      out: 'open',
      truth: {
        established: false,
        received: null,
        sent: null,
        first: null,
        gaveUp: null,
        waived: false,
        done: false,
        idle: false,
        told: false,
        transport: null,
      },
    };
    const party = this.#intern(fresh);
    // Each party's last handshake message is under way: nobody is done before it has arrived.
    const wire = this.#wire('h');
    this.start = { parties: [party, party], wires: [wire, wire] };
  }

  /** Every move, and where it leads. */
  expand(world: World): Edge[] {
    const edges: Edge[] = [];
    for (const side of [0, 1] as const) {
      for (const step of this.stepsFrom(world, side)) {
        edges.push({ step, world: this.after(world, step) });
      }
    }
    return edges;
  }

  /** The moves that concern one party, whoever makes them. */
  stepsFrom({ parties, wires }: World, side: Side): readonly Step[] {
    return side === 0
      ? this.#stepsOf(0, parties[0], wires[1])
      : this.#stepsOf(1, parties[1], wires[0]);
  }

  /** Where a step leads. */
  after({ parties, wires }: World, { move, after, sent, in: left }: Step): World {
    return move.to === 0
      ? { parties: [after, parties[1]], wires: [this.#join(wires[0], sent), left] }
      : { parties: [parties[0], after], wires: [left, this.#join(wires[1], sent)] };
  }

  /**
   * A number for each world: equal for equal ones, and for no others but its mirror image, where
   * both parties play by the same rules.
   */
  keyOf({ parties: [a, b], wires: [ab, ba] }: World): number {
    return this.#key(a, b, ab, ba);
  }

  /** The same of the world that a step leads to, before there is one. */
  keyAfter({ parties, wires }: World, { move, after, sent, in: left }: Step): number {
    return move.to === 0
      ? this.#key(after, parties[1], this.#join(wires[0], sent), left)
      : this.#key(parties[0], after, left, this.#join(wires[1], sent));
  }

  #key(a: Party, b: Party, ab: Wire, ba: Wire): number {
    const key = ((a.id * MOST_PARTIES + b.id) * MOST_WIRES + ab.id) * MOST_WIRES + ba.id;
    if (!this.#mirrored) return key;
    const mirror = ((b.id * MOST_PARTIES + a.id) * MOST_WIRES + ba.id) * MOST_WIRES + ab.id;
    return key < mirror ? key : mirror;
  }

  #wire(items: string): Wire {
    const known = this.#wires.get(items);
    if (known !== undefined) return known;
    const wire: Wire = { id: this.#wires.size, items, joined: new Map() };
    if (wire.id >= MOST_WIRES) throw new RangeError('too many wires to be told apart');
    this.#wires.set(items, wire);
    return wire;
  }

  /** What is put on a wire behind its end is lost. */
  #join(wire: Wire, sent: string): Wire {
    if (sent === '') return wire;
    const known = wire.joined.get(sent);
    if (known !== undefined) return known;
    const joined = ENDED.test(wire.items) ? wire : this.#wire(wire.items + sent);
    wire.joined.set(sent, joined);
    return joined;
  }

  #stepsOf(side: Side, before: Party, wire: Wire): readonly Step[] {
    const key = (before.id * MOST_WIRES + wire.id) * 2 + side;
    const known = this.#steps.get(key);
    if (known !== undefined) return known;
    const steps: Step[] = [];
    const attempt: Try = (by, what, act) => {
      const me: Draft = { ...before, truth: { ...before.truth } };
      const turn: Turn = {
        ...{ side, me, in: wire.items, sent: '' },
        ...{ settled: null, closed: null, read: null },
      };
      act(turn);
      // What a party that let go of its transport would be sent, nobody can tell from nothing.
      if (me.tap === 'detached') turn.in = '!';
      const { sent, settled, closed, read } = turn;
      const left = this.#wire(turn.in);
      const after = this.#intern(me);
      const still = after === before && left === wire && sent === '';
      if (still && settled === null && closed === null && read === null) return;
      const move = { by, to: side, what };
      const step = { move, before, after, in: left, sent, settled, closed, read };
      this.#onStep?.(step);
      steps.push(step);
    };
    this.#callerMoves(side, before, attempt);
    this.#tlsMoves(side, before, attempt);
    this.#networkMoves(before, wire.items, attempt);
    this.#steps.set(key, steps);
    return steps;
  }

  // ---- what the caller may do

  #callerMoves(side: Side, me: Party, move: Try): void {
    if (!me.truth.established) {
      // The stream is not there yet: `connect` and `accept` take a deadline and a signal.
      if (me.tap !== 'detached') {
        for (const type of ['deadline', 'cancel'] as const) {
          move(side, `${WORDS[type]} during the handshake`, (turn) => {
            this.#giveUp(turn, type);
            this.#drop(turn);
          });
        }
      }
      return;
    }
    if (me.pending + me.wrote + me.discarded < (this.rules.writes[side] ?? 0)) {
      move(side, 'write', ({ me }) => {
        if (me.failed) tell(me);
        else if (me.state.send.kind === 'open') me.pending++;
        else if (me.state.send.kind === 'cut') tell(me);
      });
    }
    move(side, 'read', (turn) => this.#read(turn));
    if (me.call === '' && me.calls < this.rules.shutdowns) {
      for (const kind of ['wait', 'waive'] as const) {
        move(side, kind === 'wait' ? 'shutdown()' : 'shutdown({ wait: false })', (turn) => {
          turn.me.calls++;
          turn.me.call = kind;
          this.#shutdown(turn, kind);
        });
      }
    }
    for (const type of ['deadline', 'cancel'] as const) {
      if (me.call !== '') {
        move(side, `${WORDS[type]} in shutdown`, (turn) => {
          turn.me.call = '';
          turn.settled = 'rejected';
          this.#giveUp(turn, type);
        });
      }
      if (isClosing(me)) {
        move(side, `${WORDS[type]} in close`, (turn) => this.#endClose(turn, type));
      }
    }
    // Taken back, it is the next protocol's.
    if (me.out !== 'released') {
      if (me.close === 'no') {
        for (const kind of ['wait', 'waive'] as const) {
          move(side, kind === 'wait' ? 'close()' : 'close({ wait: false })', (turn) =>
            this.#close(turn, kind),
          );
        }
      }
      move(side, 'abort()', (turn) => this.#abort(turn));
    }
    const { send, receive } = me.state;
    if (send.kind === 'closed' && receive.kind === 'closed' && me.tap !== 'detached') {
      move(side, 'unwrap(), then plaintext', (turn) => {
        const { me } = turn;
        me.truth.transport ??= 'released';
        this.#dispatch(turn, { type: 'release' });
        me.tap = 'detached';
        // The transport's next protocol writes to it, where it still can.
        if (me.out === 'open') put(turn, 't');
        me.out = 'released';
      });
    }
    if (this.rules.idles && me.truth.received !== null && !me.truth.idle) {
      move(side, 'HTTP finds that nothing is missing', (turn) => {
        turn.me.truth.idle = true;
        this.#dispatch(turn, { type: 'idle' });
      });
    }
  }

  /**
   * `shutdown`: asks for close_notify, and waits or not. What has failed stays as it ended: nothing is asked for
   * any more, and the call is answered with the failure.
   */
  #shutdown(turn: Turn, kind: 'wait' | 'waive'): void {
    const { me } = turn;
    if (me.failed) {
      this.#settle(turn);
      return;
    }
    if (kind === 'waive') waive(me);
    this.#dispatch(turn, { type: kind });
    if (me.state.send.kind === 'open') this.#dispatch(turn, { type: 'shutdown' });
  }

  /** `close`: the caller wants no more bytes. close_notify goes out, unless the stream has failed. */
  #close(turn: Turn, kind: 'wait' | 'waive'): void {
    const { me } = turn;
    // What has failed stays as it ended: nobody chooses afterwards not to have waited.
    if (!me.failed) {
      this.#wantsNoMore(turn);
      waive(me);
      this.#dispatch(turn, { type: 'waive' });
    }
    if (kind === 'waive' && me.tap === 'fed') me.tap = 'stopped';
    if (me.state.send.kind === 'open' && !me.failed) this.#dispatch(turn, { type: 'shutdown' });
    me.close = kind;
    this.#settle(turn);
  }

  #abort(turn: Turn): void {
    const { me } = turn;
    this.#wantsNoMore(turn);
    me.unread = 0;
    // It has the last word: a close that still waits has no more to say.
    if (isClosing(me)) turn.closed = 'resolved';
    if (me.close !== 'no') me.close = 'done';
    this.#abandoned(me, 'destroyed');
    me.state = this.#step(me.state, { type: 'abandon', how: 'destroyed' });
    me.failed = true;
    this.#settle(turn);
    this.#destroyTransport(turn);
  }

  #wantsNoMore({ me }: Turn): void {
    if (me.truth.received === null) me.truth.done = true;
    me.state = this.#step(me.state, { type: 'close' });
  }

  #giveUp(turn: Turn, type: 'deadline' | 'cancel'): void {
    turn.me.truth.gaveUp ??= type;
    this.#dispatch(turn, { type });
  }

  #read(turn: Turn): void {
    const { me } = turn;
    const { receive } = me.state;
    if (me.unread > 0) {
      me.unread = 0;
      turn.read = 'bytes';
    } else if (receive.kind === 'closed') turn.read = 'null';
    else if (me.failed) {
      turn.read = 'error';
      tell(me);
    } else if (receive.kind === 'truncated' && !this.rules.requireCloseNotify) turn.read = 'null';
  }

  // ---- what TLS does by itself

  #tlsMoves(side: Side, me: Party, move: Try): void {
    const alive = me.truth.established && !me.failed && me.out === 'open' && me.tap !== 'detached';
    if (alive && me.pending > 0) {
      move(side, 'encrypts a write', (turn) => {
        turn.me.pending--;
        turn.me.wrote++;
        put(turn, 'd');
      });
    }
    if (alive && me.pending === 0 && me.state.send.kind === 'closing') {
      move(side, 'sends close_notify', (turn) => {
        const { me } = turn;
        put(turn, 'n');
        me.truth.sent ??= 'said';
        me.truth.first ??= 'local';
        this.#dispatch(turn, { type: 'close-notify-sent', evidence: 'record' });
      });
    }
  }

  // ---- what the network does

  #networkMoves(me: Party, wire: string, move: Try): void {
    if (me.tap === 'detached' || wire === '!') return;
    const next = wire[0];
    // close({ wait: false }) has paused the transport: of its own ends only errors are still told.
    const paused = me.tap === 'stopped' && me.truth.received !== 'closed';
    if (next !== undefined && next !== '.' && !(paused && (next === 'f' || next === 'F'))) {
      move(null, `delivers ${ITEMS[next]}`, (turn) => {
        turn.in = wire.slice(1);
        if (next === 'f' || next === 'F') turn.in = '.';
        if (next === 'r' || next === 'e') turn.in = '!';
        this.#arrive(turn, next);
      });
    }
    if (this.rules.network === 'honest') return;
    const replace = (what: string, by: string) =>
      move(null, what, (turn) => {
        turn.in = by;
      });
    if (!ENDED.test(wire)) {
      replace('cuts with FIN between records', 'f');
      if (RECORD.test(wire)) replace('cuts with FIN inside a record', 'F');
    }
    if (!/[re]$/.test(wire)) {
      replace('resets', 'r');
      replace('fails the transport', 'e');
    }
    const engineReads = me.tap === 'fed' && !me.failed;
    if (engineReads && RECORD.test(wire)) {
      move(null, 'changes a record', (turn) => {
        turn.in = wire.slice(1);
        this.#refuse(turn);
      });
    }
    if (engineReads && !me.truth.established) {
      move(null, 'forges close_notify, before there are keys', (turn) => {
        // The machine has to hold by itself, so it is told what an engine with no guard would tell.
        this.#dispatch(turn, { type: 'close-notify-received', evidence: 'record' });
        this.#onAlert(turn, FORGED);
      });
    }
  }

  #arrive(turn: Turn, item: string): void {
    const { me } = turn;
    // After close_notify, and after a failure, nothing that comes is looked at but the transport's end.
    const read = me.tap === 'fed' && !me.failed;
    switch (item) {
      case 'f':
      case 'F':
        this.#onEof(turn, item === 'F');
        break;
      case 'r':
      case 'e':
        this.#onBroken(turn, item);
        break;
      case 'h':
        if (!read) break;
        me.truth.established = true;
        this.#dispatch(turn, { type: 'established' });
        break;
      case 'd':
        if (!read) break;
        me.got++;
        me.unread++;
        break;
      case 'n':
        if (read) this.#onCloseNotify(turn);
        break;
      case 'x':
        if (read) this.#onAlert(turn, FATAL);
        break;
      case 't':
        // Nobody sends it to a party that reads TLS still. One that does all the same is refused.
        if (read) this.#refuse(turn);
        break;
    }
  }

  #onCloseNotify(turn: Turn): void {
    const { me } = turn;
    me.tap = 'stopped';
    me.truth.received ??= 'closed';
    me.truth.first ??= 'peer';
    this.#dispatch(turn, { type: 'close-notify-received', evidence: 'record' });
    if (this.rules.answers[turn.side] === 'when-told' || me.state.send.kind !== 'open') return;
    if (this.rules.version === 'TLSv1.2') {
      me.discarded += me.pending;
      me.pending = 0;
    }
    this.#dispatch(turn, { type: 'shutdown' });
  }

  #onAlert(turn: Turn, alert: AlertDetail): void {
    const { truth } = turn.me;
    truth.received ??= 'alerted';
    truth.sent ??= 'cut';
    this.#dispatch(turn, { type: 'alert-received', alert });
    this.#onFailure(turn);
  }

  #refuse(turn: Turn): void {
    const { truth } = turn.me;
    truth.received ??= 'refused';
    truth.sent ??= 'alerted';
    const alert = { ...BAD_MAC, authenticated: truth.established };
    put(turn, 'x');
    this.#dispatch(turn, { type: 'alert-sent', alert });
    this.#onFailure(turn);
  }

  /** TLS itself has failed, of an alert that came or went. */
  #onFailure(turn: Turn): void {
    const { me } = turn;
    if (me.truth.established) {
      this.#abandoned(me, 'destroyed');
      this.#fail(turn, { type: 'abandon', how: 'destroyed' });
    } else this.#drop(turn);
  }

  #onEof(turn: Turn, inside: boolean): void {
    const { me } = turn;
    const { established } = me.truth;
    const where = !established ? 'handshake' : inside ? 'inside-record' : 'record-boundary';
    me.truth.received ??= `eof ${where}`;
    me.truth.transport ??= 'eof';
    const event: ClosureEvent = { type: 'transport-eof', where };
    const { kind } = me.state.receive;
    const reported = established && !this.rules.requireCloseNotify;
    if (kind === 'closing' || kind === 'closed' || reported) this.#dispatch(turn, event);
    else this.#fail(turn, event);
    if (!established) this.#drop(turn);
  }

  #onBroken(turn: Turn, item: 'r' | 'e'): void {
    const { me } = turn;
    const { established } = me.truth;
    const where = established ? 'record-boundary' : 'handshake';
    me.truth.received ??= item === 'r' ? 'reset' : 'error';
    me.truth.sent ??= 'cut';
    me.truth.transport ??= item === 'r' ? 'reset' : 'error';
    if (me.out === 'open') me.out = 'gone';
    const event: ClosureEvent =
      item === 'r'
        ? { type: 'transport-reset', where, code: 'ECONNRESET' }
        : { type: 'transport-error', where, code: 'ETIMEDOUT' };
    // Behind close(), also where the peer's FIN was before it: nobody wants more.
    const { kind } = me.state.receive;
    if (kind === 'closing' || kind === 'abandoned') this.#dispatch(turn, event);
    else this.#fail(turn, event);
    if (!established) this.#drop(turn);
  }

  // ---- letting go of the transport

  /** A handshake that failed: `connect` rejects, and nobody ever has the stream. */
  #drop(turn: Turn): void {
    const { me } = turn;
    this.#abandoned(me, 'destroyed');
    me.failed = true;
    this.#dispatch(turn, { type: 'abandon', how: 'destroyed' });
    this.#destroyTransport(turn);
  }

  #destroyTransport(turn: Turn): void {
    const { me } = turn;
    if (me.out === 'open') {
      put(turn, 'f');
      me.out = 'gone';
    }
    me.tap = 'detached';
  }

  /** The end of a `close`: of its own, or of its caller's patience. */
  #endClose(turn: Turn, why: 'deadline' | 'cancel' | null): void {
    const { me } = turn;
    me.close = 'done';
    const lost = mayBeLost(me) && me.state.send.kind !== 'closed' && !me.truth.told;
    turn.closed = lost || why === 'cancel' ? 'rejected' : 'resolved';
    if (why === 'cancel') this.#giveUp(turn, why);
    const { send, receive } = me.state;
    if (send.kind !== 'closed' || receive.kind !== 'closed') {
      this.#abandoned(me, 'closed');
      this.#fail(turn, { type: 'abandon', how: 'closed' }, why !== null);
    }
    if (why === null) this.#sayGoodbye(turn);
    else this.#destroyTransport(turn);
  }

  /** FIN, and whatever comes is no longer looked at. */
  #sayGoodbye(turn: Turn): void {
    const { me } = turn;
    if (me.tap === 'detached') return;
    me.tap = 'detached';
    this.#sendFin(turn);
    this.#abandoned(me, 'closed');
    this.#dispatch(turn, { type: 'abandon', how: 'closed' });
  }

  #sendFin(turn: Turn): void {
    if (turn.me.out !== 'open') return;
    put(turn, 'f');
    turn.me.out = 'fin';
  }

  #abandoned({ truth }: Draft, how: 'destroyed' | 'closed'): void {
    truth.received ??= 'abandoned';
    truth.sent ??= 'abandoned';
    truth.transport ??= how;
  }

  // ---- the machine

  #step(state: ClosureState, event: ClosureEvent): ClosureState {
    return this.#subject.step(state, event, HOUR[event.type]);
  }

  #dispatch(turn: Turn, event: ClosureEvent): void {
    turn.me.state = this.#step(turn.me.state, event);
    this.#settle(turn);
  }

  /**
   * One that fails the stream: the failure stands before anyone who waits is told. What has failed has no use for its
   * transport, unless the transport goes anyway.
   */
  #fail(turn: Turn, event: ClosureEvent, goes = false): void {
    const { me } = turn;
    const first = !me.failed;
    me.failed = true;
    this.#dispatch(turn, event);
    if (first && !goes && me.truth.established) this.#sayGoodbye(turn);
  }

  /** Every call that waits asks its question again. */
  #settle(turn: Turn): void {
    const { me } = turn;
    if (me.call !== '') {
      const outcome = this.#outcome(me, me.call === 'wait');
      if (outcome !== null) {
        turn.settled = outcome;
        me.call = '';
        if (outcome === 'rejected') tell(me);
      }
    }
    if (!isClosing(me)) return;
    const { send, receive } = me.state;
    if (send.kind === 'open' || send.kind === 'closing') return;
    // FIN goes out with close_notify: who waits for FIN need not be waited for.
    if (send.kind === 'closed') this.#sendFin(turn);
    const ended = receive.kind !== 'open' && receive.kind !== 'closing';
    if (ended || me.close === 'waive') this.#endClose(turn, null);
  }

  /** What a waiting `shutdown` makes of the state: nothing yet, or how it settles. */
  #outcome(me: Draft, wait: boolean): Step['settled'] {
    const { send, receive } = me.state;
    if (send.kind === 'closed' && receive.kind === 'closed') return 'resolved';
    if (send.kind === 'closed' && !wait) return 'resolved without waiting';
    if (send.kind === 'cut' && receive.kind === 'closed') return 'resolved';
    if (me.failed || (send.kind === 'cut' && !wait)) return 'rejected';
    const reported = receive.kind === 'truncated' && !this.rules.requireCloseNotify;
    return reported && send.kind === 'closed' ? 'resolved' : null;
  }

  #intern(draft: Draft): Party {
    const { state, truth: t } = draft;
    const key = `${stateKey(state)}/${draft.pending},${draft.wrote},${draft.discarded},${draft.got},${draft.unread},${draft.call},${draft.calls},${draft.close},${draft.failed},${draft.tap},${draft.out}/${t.established},${t.received},${t.sent},${t.first},${t.gaveUp},${t.waived},${t.done},${t.idle},${t.told},${t.transport}`;
    const known = this.#parties.get(key);
    if (known !== undefined) return known;
    if (this.#parties.size >= MOST_PARTIES)
      throw new RangeError('too many parties to be told apart');
    const party: Party = {
      ...draft,
      id: this.#parties.size,
      verdict: this.#subject.verdictOf(state),
      closure: this.#subject.closureOf(state),
    };
    this.#parties.set(key, party);
    return party;
  }
}

type Try = (by: Side | null, what: string, act: (turn: Turn) => void) => void;

const WORDS = { deadline: 'a deadline passes', cancel: 'cancels' } as const;

const ITEMS: Readonly<Record<string, string>> = {
  h: 'the end of the handshake',
  d: 'data',
  n: 'close_notify',
  x: 'a fatal alert',
  t: 'plaintext',
  f: 'FIN',
  F: 'FIN inside a record',
  r: 'RST',
  e: 'an error of the transport',
};

const FATAL: AlertDetail = { code: 20, name: 'bad_record_mac', authenticated: true };
const BAD_MAC: Omit<AlertDetail, 'authenticated'> = { code: 20, name: 'bad_record_mac' };
const FORGED: AlertDetail = { code: 0, name: 'close_notify', authenticated: false };

/** Whether a `close` waits. */
export const isClosing = ({ close }: Pick<Party, 'close'>) => close === 'wait' || close === 'waive';

/** Whether the transport is not known to have taken all that was written. */
export const mayBeLost = ({ pending, discarded }: Pick<Party, 'pending' | 'discarded'>) =>
  pending + discarded > 0;

/** A call has said so. */
function tell(me: Draft): void {
  if (mayBeLost(me)) me.truth.told = true;
}

/** Nobody who gave up chooses afterwards not to have waited. */
function waive({ truth }: Draft): void {
  if (truth.gaveUp === null) truth.waived = true;
}

/** Puts something on our wire. */
function put(turn: Turn, item: string): void {
  turn.sent += item;
}
