/**
 * One schedule, driven through two real streams, and held against the closure machine.
 *
 * Theory of operation. A schedule is a list of choices. After each of them both streams stand still
 * (`settle`), and what crossed the wire in between is known to the byte, because the channel recorded
 * it. From that alone, and from the calls that the schedule made, the oracle writes down what happened
 * to each party as events of `closure/machine.ts`: a close_notify left, because an alert record is on
 * the line; one arrived, because all of its bytes were delivered; the transport was given up, because
 * the stream has failed, or its close is over. It asks the streams nothing. The machine, fed with these
 * events, then has to say what the streams say: verdict, incomplete, sent, received, who began, where a
 * truncation was.
 *
 * The machine cannot say whether anything happens at all, so the oracle also holds the calls to rules
 * of their own: a write is taken exactly while writing is possible, a read gives null only behind a
 * close_notify that was delivered and every byte before it, a shutdown waits only while there is
 * something to wait for, a close exactly until both directions have ended, and it never fails, since
 * here no byte is lost; FIN comes out exactly when a stream closes or has failed; and once all
 * deadlines have passed, nothing waits.
 */
import { createSecureContext } from 'node:tls';
import { type ClosureEvent, type ClosureState, INITIAL, step } from '../../src/closure/machine.ts';
import { closureOf } from '../../src/closure/verdict.ts';
import type { CloseNotifyError } from '../../src/errors.ts';
import { CONTENT_TYPE, HEADER_LENGTH } from '../../src/record/record.ts';
import type { TlsStream } from '../../src/stream/tls-stream.ts';
import {
  type ChannelEnd,
  type Credentials,
  type Line,
  type Lockstep,
  lockstep,
  ROLES,
  type Role,
  settle,
  type Version,
} from '../../src/testing/index.ts';

// `waive` and `leave` are shutdown and close with `wait: false`. `drop`: somebody on this side destroys the transport
// under the stream.
const CALLS = [
  ...(['write', 'read', 'shutdown', 'waive', 'close', 'leave'] as const),
  ...(['abort', 'drop', 'deadline'] as const),
];
const MOVES = ['deliver', 'cut', 'cut-inside', 'reset'] as const;
type Call = (typeof CALLS)[number];
type Move = (typeof MOVES)[number];

/** `client:write` is a call of the client's; `to-client:cut` happens to what comes to the client. */
export type Choice = `${Role}:${Call}` | `to-${Role}:${Move}`;

/** Every choice that there is, whether or not it can be made at some point. */
export const CHOICES: readonly Choice[] = ROLES.flatMap((role) => [
  ...CALLS.map((call): Choice => `${role}:${call}`),
  ...MOVES.map((move): Choice => `to-${role}:${move}`),
]);

/** A stream did not do what the machine or a rule says. */
export class Disagreement extends Error {
  override readonly name = 'Disagreement';
}

/** Deadlines by which a timer tells whose it is. */
const DEADLINES = {
  client: { shutdown: 1_001, close: 1_002 },
  server: { shutdown: 2_001, close: 2_002 },
} as const satisfies Record<Role, object>;
/** How long a transport lingers behind its stream, likewise. */
const LINGER = { client: 1_003, server: 2_003 } as const satisfies Record<Role, number>;
const FOREVER = { read: Number.POSITIVE_INFINITY, write: Number.POSITIVE_INFINITY } as const;

/** What became of a call; null while it waits. */
type Outcome =
  | null
  | { readonly ok: unknown; readonly error?: never }
  | { readonly ok?: never; readonly error: CloseNotifyError };

interface Pending {
  readonly call: 'read' | 'shutdown' | 'waive' | 'close' | 'leave';
  outcome: Outcome;
}

/** A record on the line: what it is, and where in the line it ends. */
interface SentRecord {
  readonly kind: 'data' | 'close-notify';
  readonly end: number;
}

const CONTEXT = createSecureContext();

const opposite = (role: Role): Role => (role === 'client' ? 'server' : 'client');

/** One of the two, with everything that the oracle knows of it. */
class Side {
  readonly role: Role;
  readonly stream: TlsStream;
  readonly transport: ChannelEnd;
  readonly #tls13: boolean;
  /** What the machine says. */
  state: ClosureState;
  #at = 1;

  /** Records that left since the handshake. */
  readonly sent: SentRecord[] = [];
  /** Bytes of the line out that have been looked at. */
  seen: number;
  /** Bytes of the line in, and records of it, that were delivered. */
  arrivedRecords = 0;
  /** Reads fail from now on, behind what has come. */
  failed = false;
  /** It has let go of its transport. */
  gaveUp = false;
  closing: 'no' | 'close' | 'leave' | 'over' = 'no';
  /** What its transport has delivered of an ending. */
  lineEnded: 'fin' | 'reset' | null = null;

  written = 0;
  accepted = 0;
  /** Data records that arrived while they were looked at, and bytes that were read. */
  arrivedBytes = 0;
  readBytes = 0;
  aborted = false;
  readonly pending: Pending[] = [];

  constructor(role: Role, stream: TlsStream, transport: ChannelEnd, version: Version) {
    this.role = role;
    this.stream = stream;
    this.transport = transport;
    this.#tls13 = version === 'TLSv1.3';
    this.state = step(INITIAL, { type: 'established' }, 0);
    this.seen = transport.line.sent.length;
  }

  event(event: ClosureEvent): void {
    this.state = step(this.state, event, this.#at++);
  }

  /** Whether more of the peer's may be looked at. */
  get receiving(): boolean {
    const { kind } = this.state.receive;
    return kind === 'open' || kind === 'closing';
  }

  giveUp(how: 'closed' | 'destroyed'): void {
    if (!this.gaveUp) this.event({ type: 'abandon', how });
    this.gaveUp = true;
  }

  /** What has failed lets go of its transport, and so does a close that is over. */
  conclude(): void {
    const { send } = this.state;
    if (this.closing === 'close' || this.closing === 'leave') {
      const left = send.kind === 'open' || send.kind === 'closing';
      if (!left && (this.closing === 'leave' || !this.receiving)) this.endClose();
    }
    if (this.failed) this.giveUp('closed');
  }

  endClose(): void {
    const { send, receive } = this.state;
    this.closing = 'over';
    if (send.kind !== 'closed' || receive.kind !== 'closed') this.failed = true;
    this.giveUp('closed');
  }

  /** The timers of its own by which a wait of its ends, or its transport. */
  get limits(): readonly number[] {
    return [...Object.values(DEADLINES[this.role]), LINGER[this.role]];
  }

  /** Records that left since this was called last. */
  look(): SentRecord[] {
    const bytes = this.transport.line.sent;
    const fresh: SentRecord[] = [];
    while (this.seen + HEADER_LENGTH <= bytes.length) {
      const type = bytes[this.seen] as number;
      const length = bytes.readUInt16BE(this.seen + 3);
      this.seen += HEADER_LENGTH + length;
      // A data record of these schedules is never as short as an alert.
      const alert = this.#tls13
        ? type === CONTENT_TYPE.applicationData && length === 2 + 1 + 16
        : type === CONTENT_TYPE.alert;
      fresh.push({ kind: alert ? 'close-notify' : 'data', end: this.seen });
    }
    if (this.seen !== bytes.length) throw new Disagreement(`${this.role} wrote half a record`);
    this.sent.push(...fresh);
    return fresh;
  }
}

/** One data record's worth; never as long as an alert. */
const DATA = Buffer.from('eight by');

/** What a run found. */
export interface Run {
  /** The choices that could be made next. */
  readonly enabled: readonly Choice[];
  /** Both verdicts at the end of the schedule. */
  readonly verdicts: readonly [string, string];
  /** Everything by which the oracle can tell two ends of schedules apart. */
  readonly situation: string;
}

/** Options of the streams of all runs. */
export interface Setup {
  readonly version: Version;
  readonly credentials: Credentials;
}

/** Options objects are kept, because contexts are made once for each. */
const servers = new Map<Setup, object>();

/**
 * Makes the choices, one after the other, then lets all deadlines pass. With `skip`, choices that
 * cannot be made are passed over.
 *
 * @throws {Disagreement} naming the choice after which a stream was wrong.
 */
export async function run(
  setup: Setup,
  schedule: readonly Choice[],
  { skip = false } = {},
): Promise<Run> {
  using world = await World.make(setup);
  for (const [at, choice] of schedule.entries()) {
    if (skip && !world.enabled().includes(choice)) continue;
    try {
      await world.choose(choice);
    } catch (error) {
      throw wrong(error, setup, schedule, at);
    }
  }
  const found = {
    enabled: world.enabled(),
    verdicts: world.verdicts,
    situation: world.situation(),
  };
  try {
    await world.finish();
  } catch (error) {
    throw wrong(error, setup, schedule, schedule.length);
  }
  return found;
}

function wrong(error: unknown, setup: Setup, schedule: readonly Choice[], at: number): unknown {
  if (!(error instanceof Disagreement)) return error;
  const where = at < schedule.length ? `at step ${at + 1}` : 'once all deadlines had passed';
  return new Disagreement(`${setup.version}, ${schedule.join(' ')}: ${where}: ${error.message}`);
}

class World implements Disposable {
  readonly #pair: Lockstep;
  readonly #sides: Readonly<Record<Role, Side>>;
  readonly #tls12: boolean;

  static async make(setup: Setup): Promise<World> {
    const { version, credentials } = setup;
    let server = servers.get(setup);
    if (server === undefined) {
      const { key, cert } = credentials;
      server = {
        ...{ key, cert, minVersion: version, maxVersion: version },
        deadlines: { ...DEADLINES.server, ...FOREVER },
        linger: { time: LINGER.server },
      };
      servers.set(setup, server);
    }
    const pair = await lockstep({
      version,
      credentials,
      client: {
        // Whom one talks to is not the matter here, and what it costs to find out is left out.
        rejectUnauthorized: false,
        secureContext: CONTEXT,
        deadlines: { ...DEADLINES.client, ...FOREVER },
        linger: { time: LINGER.client },
      },
      server,
    });
    return new World(pair, version);
  }

  private constructor(pair: Lockstep, version: Version) {
    this.#pair = pair;
    this.#tls12 = version === 'TLSv1.2';
    const [near, far] = pair.wire.ends;
    this.#sides = {
      client: new Side('client', pair.client, near, version),
      server: new Side('server', pair.server, far, version),
    };
  }

  get verdicts(): [string, string] {
    return [this.#pair.client.closure.verdict, this.#pair.server.closure.verdict];
  }

  /** What can be chosen and would do something. */
  enabled(): Choice[] {
    const { pending } = this.#pair.clock;
    return ROLES.flatMap((role): Choice[] => {
      const side = this.#sides[role];
      const incoming = this.#lineTo(role);
      const able: Record<Call | Move, boolean> = {
        write: true,
        read: !side.pending.some(({ call, outcome }) => call === 'read' && outcome === null),
        shutdown: true,
        waive: true,
        close: side.closing === 'no',
        leave: side.closing === 'no',
        abort: !side.aborted,
        // Behind EOF a stream is told of it by its next write only.
        drop: side.lineEnded === null && !side.transport.destroyed,
        deadline: pending.some((delay) => side.limits.includes(delay)),
        deliver: incoming.next !== null,
        cut: side.lineEnded === null,
        'cut-inside': side.lineEnded === null && incoming.next === 'bytes',
        reset: side.lineEnded === null && !side.transport.destroyed,
      };
      return [
        ...CALLS.filter((call) => able[call]).map((call): Choice => `${role}:${call}`),
        ...MOVES.filter((move) => able[move]).map((move): Choice => `to-${role}:${move}`),
      ];
    });
  }

  /** The states of both, what is on its way, what was read of what arrived, what waits. */
  situation(): string {
    return ROLES.map((role) => {
      const side = this.#sides[role];
      const { send, receive, caller, initiator, transport } = side.state;
      const timers = this.#pair.clock.pending.filter((delay) => side.limits.includes(delay));
      const way = this.#sides[opposite(role)].sent.slice(side.arrivedRecords);
      return [
        ...[send.kind, receive.kind, caller.kind, initiator, transport],
        ...['where' in receive ? `${receive.where} ${receive.cause}` : '', side.gaveUp],
        ...['lacking' in receive && receive.lacking, side.closing, side.failed],
        ...[side.lineEnded, this.#lineTo(role).severed, this.#lineTo(role).next],
        ...[way.map(({ kind }) => kind), side.arrivedBytes - side.readBytes, timers],
        side.pending.map(({ call, outcome }) => `${call}${outcome === null ? '?' : '!'}`),
      ].join();
    }).join(' / ');
  }

  #lineTo(role: Role): Line {
    return role === 'client' ? this.#pair.wire.back : this.#pair.wire.forth;
  }

  async choose(choice: Choice): Promise<void> {
    const [who, what] = choice.split(':') as [string, Call | Move];
    const role = who.replace('to-', '') as Role;
    const side = this.#sides[role];
    if (who === role) await this.#call(side, what as Call);
    else await this.#move(side, what as Move);
    this.#compare(choice);
  }

  // ---- calls

  async #call(side: Side, call: Call): Promise<void> {
    const { stream } = side;
    // What has failed stays as it ended: no call asks for anything any more.
    const alive = !side.failed;
    const ends = alive && side.state.send.kind === 'open';
    switch (call) {
      case 'write':
        return this.#write(side);
      case 'read':
        this.#begin(side, call, stream.read());
        break;
      case 'shutdown':
        if (alive) side.event({ type: 'wait' });
        if (ends) side.event({ type: 'shutdown' });
        this.#begin(side, call, stream.shutdown());
        return this.#after(side, ends);
      case 'waive':
        if (alive) side.event({ type: 'waive' });
        if (ends) side.event({ type: 'shutdown' });
        this.#begin(side, call, stream.shutdown({ wait: false }));
        return this.#after(side, ends);
      case 'close':
      case 'leave':
        if (alive) side.event({ type: 'close' });
        if (alive) side.event({ type: 'waive' });
        if (ends) side.event({ type: 'shutdown' });
        side.closing = call;
        this.#begin(side, call, stream.close({ wait: call === 'close' }));
        return this.#after(side, ends);
      case 'abort':
        side.aborted = true;
        side.event({ type: 'close' });
        side.failed = true;
        side.giveUp('destroyed');
        stream.abort();
        break;
      case 'drop':
        if (!side.gaveUp) side.failed = true;
        side.giveUp('destroyed');
        side.transport.destroy();
        break;
      case 'deadline': {
        const { shutdown, close } = DEADLINES[side.role];
        const { pending } = this.#pair.clock;
        // Only a wait for close_notify is the closure's: whoever closes does not insist on it.
        if (pending.includes(shutdown)) side.event({ type: 'deadline' });
        if (pending.includes(close)) side.endClose();
        this.#pair.clock.expire((delay) => side.limits.includes(delay));
        break;
      }
    }
    await this.#after(side, false);
  }

  async #write(side: Side): Promise<void> {
    const able = side.state.send.kind === 'open';
    const writing: Pending['outcome'][] = [null];
    side.written++;
    side.stream.write(DATA).then(
      () => {
        writing[0] = { ok: true };
      },
      (error) => {
        writing[0] = { error };
      },
    );
    await settle();
    const [outcome] = writing;
    if (!outcome) throw new Disagreement(`${side.role}'s write waits, though nothing is full`);
    const fresh = side.look();
    if (able !== (outcome.error === undefined)) {
      throw new Disagreement(
        `${side.role}'s write ${outcome.error === undefined ? 'was taken' : `failed (${outcome.error.code})`}, but the machine's send is ${side.state.send.kind}`,
      );
    }
    if (fresh.length !== (able ? 1 : 0) || fresh.some(({ kind }) => kind !== 'data')) {
      throw new Disagreement(`${side.role}'s write put ${fresh.length} records on the line`);
    }
    this.#lookForFin(side);
  }

  #begin(side: Side, call: Pending['call'], promise: Promise<unknown>): void {
    const entry: Pending = { call, outcome: null };
    promise.then(
      (ok) => {
        entry.outcome = { ok };
        if (call !== 'read') return;
        side.readBytes += (ok as Uint8Array | null)?.length ?? 0;
      },
      (error) => {
        entry.outcome = { error };
      },
    );
    side.pending.push(entry);
  }

  // ---- the wire

  async #move(side: Side, move: Move): Promise<void> {
    const line = this.#lineTo(side.role);
    const from = this.#sides[opposite(side.role)];
    let ending: 'fin' | 'reset' | null = null;
    let inside = false;
    switch (move) {
      case 'deliver':
        if (line.next === 'fin') ending = 'fin';
        line.deliverWrite();
        break;
      case 'cut-inside': {
        const length = HEADER_LENGTH + line.held.readUInt16BE(3);
        line.deliver(Math.floor(length / 2));
        inside = true;
        ending = 'fin';
        line.cut('fin');
        break;
      }
      case 'cut':
        ending = 'fin';
        line.cut('fin');
        break;
      case 'reset':
        ending = 'reset';
        line.cut('reset');
        break;
    }
    let answers = false;
    for (const record of from.sent.slice(side.arrivedRecords)) {
      if (record.end > line.passed) break;
      side.arrivedRecords++;
      if (record.kind === 'data') {
        if (side.receiving) side.arrivedBytes += DATA.length;
        continue;
      }
      const before = side.state;
      side.event({ type: 'close-notify-received', evidence: 'record' });
      if (side.state === before) continue;
      // "The other party MUST respond with a close_notify alert of its own" (RFC 5246 section 7.2.1).
      answers = this.#tls12 && side.state.send.kind === 'open';
      if (answers) side.event({ type: 'shutdown' });
    }
    if (ending !== null) {
      side.lineEnded = ending;
      const where = inside ? 'inside-record' : 'record-boundary';
      if (!side.gaveUp) {
        // Who closes is not cut. Behind close_notify only FIN is as it should be.
        const { kind } = side.state.receive;
        if (kind !== 'closing' && !(kind === 'closed' && ending === 'fin')) side.failed = true;
        if (ending === 'fin') side.event({ type: 'transport-eof', where });
        else side.event({ type: 'transport-reset', where, code: 'ECONNRESET' });
      }
    }
    await this.#after(side, answers);
  }

  /** What left since, and what has ended by it. `asked` says that close_notify must have left. */
  async #after(side: Side, asked: boolean): Promise<void> {
    await settle();
    const fresh = side.look();
    const notify = fresh.filter(({ kind }) => kind === 'close-notify').length;
    if (fresh.length !== notify) throw new Disagreement(`${side.role} sent data by itself`);
    if (notify > 0) side.event({ type: 'close-notify-sent', evidence: 'record' });
    const most = asked ? 1 : 0;
    if (notify !== most) {
      throw new Disagreement(
        `${side.role} sent ${notify} close_notify where ${asked ? 'one was' : 'none was'} due`,
      );
    }
    side.conclude();
    this.#lookForFin(side);
    // Nothing that happens to one moves the other, but through the wire.
    const other = this.#sides[opposite(side.role)];
    if (other.look().length > 0) throw new Disagreement(`${other.role} sent something unasked`);
  }

  /** "closing its write side of the connection" (RFC 9846 section 6.1): behind close_notify, and not before. */
  #lookForFin(side: Side): void {
    const { transport } = side;
    const due = side.gaveUp || (side.closing !== 'no' && side.state.send.kind === 'closed');
    if ((transport.writableEnded || transport.destroyed) === due) return;
    throw new Disagreement(
      `${side.role} sent ${due ? 'no FIN where one was' : 'FIN where none was'} due`,
    );
  }

  // ---- judging

  #compare(choice: Choice): void {
    for (const role of ROLES) {
      const side = this.#sides[role];
      this.#compareClosure(side);
      this.#compareCalls(side, choice);
    }
  }

  #compareClosure(side: Side): void {
    const said = side.stream.closure;
    const due = closureOf(side.state);
    const short = (closure: typeof said) =>
      JSON.stringify({
        verdict: closure.verdict,
        incomplete: closure.incomplete,
        sent: closure.sent !== null,
        received: closure.received !== null,
        initiator: closure.initiator,
        truncation: closure.truncation,
        send: closure.send,
        receive: closure.receive,
        // Behind close_notify nobody reads on, and so nobody is told of FIN.
        transportEnd: closure.receive === 'closed' ? null : closure.transportEnd,
      });
    if (short(said) !== short(due)) {
      throw new Disagreement(
        `${side.role} says ${short(said)}, and the machine says ${short(due)}`,
      );
    }
    if (said.verdict !== 'secure') return;
    // `secure` is a promise about bytes.
    const from = this.#sides[opposite(side.role)];
    const all = from.sent.filter(({ kind }) => kind === 'data').length * DATA.length;
    if (side.arrivedBytes !== all) {
      throw new Disagreement(`${side.role} says secure with ${side.arrivedBytes} of ${all} bytes`);
    }
  }

  #compareCalls(side: Side, choice: Choice): void {
    const { send, receive, caller } = side.state;
    const fail = (what: string) => {
      throw new Disagreement(
        `${side.role}'s ${what}, with send ${send.kind}, receive ${receive.kind}, caller ${caller.kind}, after ${choice}`,
      );
    };
    const unread = side.arrivedBytes - side.readBytes;
    for (const { call, outcome } of side.pending) {
      if (call === 'read') {
        if (outcome === null) {
          if (!side.receiving || unread > 0) fail('read waits');
        } else if (outcome.error !== undefined) {
          if (receive.kind === 'closed' && !side.aborted) {
            fail(`read failed (${outcome.error.code})`);
          }
          if (unread > 0 && !side.aborted) fail(`read failed before ${unread} bytes were read`);
        } else if (outcome.ok === null && (receive.kind !== 'closed' || unread > 0)) {
          fail('read gave null');
        }
        continue;
      }
      if (call === 'close' || call === 'leave') {
        const waits = outcome === null;
        if (waits === (side.closing === 'over' || side.aborted)) {
          fail(waits ? 'close waits' : 'close is over');
        }
        // No byte of these schedules is lost: the lines take all.
        if (outcome?.error !== undefined) fail(`close failed (${outcome.error.code})`);
        continue;
      }
      if (outcome !== null) continue;
      if (call === 'waive' && send.kind === 'closed') fail('shutdown without a wait waits');
      if (call === 'shutdown' && (!side.receiving || side.failed)) fail('shutdown waits');
      if (
        call === 'shutdown' &&
        !this.#pair.clock.pending.includes(DEADLINES[side.role].shutdown)
      ) {
        fail('shutdown waits without a deadline');
      }
    }
    // Outcomes are looked at once: what a call said stays said.
    for (let at = side.pending.length - 1; at >= 0; at--) {
      const { call, outcome } = side.pending[at] as Pending;
      if (outcome === null) continue;
      side.pending.splice(at, 1);
      if (call !== 'shutdown' && call !== 'waive') continue;
      if (outcome.error === undefined) {
        const done = receive.kind === 'closed' && (send.kind === 'closed' || send.kind === 'cut');
        if (!done && !(call === 'waive' && send.kind === 'closed')) fail(`${call} resolved`);
      } else if (call === 'shutdown' && send.kind === 'closed' && receive.kind === 'closed') {
        if (!side.aborted) fail(`shutdown failed (${outcome.error.code})`);
      }
    }
  }

  /** "Every wait ends": with no help from the peer, once its deadlines have passed. */
  async finish(): Promise<void> {
    for (const role of ROLES) {
      const side = this.#sides[role];
      if (side.closing === 'no' && !side.aborted) await this.choose(`${role}:close`);
    }
    for (let rounds = 0; this.#pair.clock.pending.length > 0; rounds++) {
      if (rounds === 4) throw new Disagreement('deadlines come without end');
      for (const role of ROLES) await this.choose(`${role}:deadline`);
    }
    for (const role of ROLES) {
      const { stream, pending, transport } = this.#sides[role];
      const [waiting] = pending;
      if (waiting !== undefined) {
        throw new Disagreement(`${role}'s ${waiting.call} waits with no deadline left`);
      }
      if (!transport.destroyed) throw new Disagreement(`${role}'s transport is still open`);
      let ended = false;
      stream.closed.then(() => {
        ended = true;
      });
      await settle();
      if (!ended) throw new Disagreement(`${role}'s transport is closed, and \`closed\` waits`);
    }
  }

  [Symbol.dispose](): void {
    this.#pair[Symbol.dispose]();
  }
}
