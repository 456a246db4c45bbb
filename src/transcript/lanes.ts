/**
 * From transcripts to a drawing that no printer has touched yet: rows in the order of time, each in
 * the lane of the party that did something, or an arrow from one lane to the other.
 *
 * Theory of operation. There are always two lanes. Either both parties were recorded, or one was and
 * the other lane shows only what reached it. Each transcript yields the rows of its own lane. Where
 * both ends are known, what one sent and the other received is one arrow: the sender's row stays,
 * and the receiver's tells whether it arrived. An arrow that has no receiver is the interesting
 * case: close_notify that nobody read.
 *
 * The reader wants to know which side failed to do what. So an EOF or reset says in words whether
 * close_notify came before it, a close_notify that was waited for in vain is a row of its own, and
 * at the foot of each lane stands whether that party sent close_notify.
 */
import type { CutPoint } from '../closure/machine.ts';
import type { Verdict } from '../closure/verdict.ts';
import type { Observation } from '../stream/observer.ts';
import type { EventEntry, HandshakeEntry, TrafficEntry, Transcript } from './transcript.ts';

/** 0 is on the left. */
export type Lane = 0 | 1;

/** How a row is meant: `good` is closure, `bad` its failure, `warn` a limit, `quiet` background. */
export type Tone = 'plain' | 'quiet' | 'good' | 'warn' | 'bad';

/** What crosses between the lanes; each has a glyph of its own. */
export type ArrowStyle = 'data' | 'close-notify' | 'alert' | 'eof' | 'reset' | 'missing';

/** What all rows have. */
export interface RowBase {
  /** Milliseconds on the clock of the left lane. */
  readonly at: number;
  /** How it is meant. */
  readonly tone: Tone;
  /** What a reader reads. */
  readonly text: string;
}

/** What one party did or found. */
export interface StepRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'step';
  /** Whose it is. */
  readonly lane: Lane;
}

/** Both lanes together: the handshake. */
export interface SpanRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'span';
}

/** What crossed from one lane to the other, or should have. */
export interface ArrowRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'arrow';
  /** Where it begins. */
  readonly from: Lane;
  /** What crossed. */
  readonly style: ArrowStyle;
  /** False where the other party never read it. */
  readonly arrives: boolean;
}

/** Entries that a transcript has dropped. */
export interface GapRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'gap';
}

/** One row of a drawing. */
export type Row = StepRow | SpanRow | ArrowRow | GapRow;

/** What stands at the foot of a lane. */
export interface Foot {
  /** Null for a party that was not recorded. */
  readonly verdict: Verdict | null;
  /** What brought the verdict, in a few words; empty where it says all. */
  readonly why: string;
  /** Whether this party sent close_notify; null where nobody can know. */
  readonly sentCloseNotify: boolean | null;
  /** Whether the other party waited for it, or read on to its end, in vain. */
  readonly missed: boolean;
}

/** A drawing as data. */
export interface Drawing {
  /** The lanes' names, left and right. */
  readonly names: readonly [string, string];
  /** In the order of time. */
  readonly rows: readonly Row[];
  /** What stands under the lanes. */
  readonly feet: readonly [Foot, Foot];
}

/** A party that was recorded. */
export interface RecordedLane {
  /** What stands above the lane. */
  readonly name: string;
  /** What the party saw. */
  readonly transcript: Transcript;
}

/** Options of a drawing. */
export interface DrawingOptions {
  /** The TLS version, which a transcript does not know: `TLSv1.3`. */
  readonly protocol?: string | undefined;
  /**
   * What to add to the times of the right lane to get the clock of the left one, in milliseconds.
   * By default both were recorded in this process.
   */
  readonly offset?: number | undefined;
  /** Whether to show how the connection came to be, before the handshake; true by default. */
  readonly opening?: boolean | undefined;
  /**
   * Whether it is known that no application data crossed. Records that say so in their header then
   * hold messages of TLS 1.3 itself: session tickets, for the most part.
   */
  readonly idle?: boolean | undefined;
}

/** A row while the lanes are still being put together. */
type Draft = Row & {
  /** Orders rows of one instant: the order of their own transcript. */
  readonly index: number;
  /** The lane that told of it. */
  readonly teller: Lane;
  /** What the other lane may have told of the same thing, from the other end. */
  readonly match?: string;
  readonly end?: 'sent' | 'received';
};

const other = (lane: Lane): Lane => (lane === 0 ? 1 : 0);

/**
 * Puts one or two transcripts into lanes.
 *
 * @param left the party whose view it is.
 * @param right the other party, or just its name where it was not recorded.
 */
export function drawLanes(
  left: RecordedLane,
  right: RecordedLane | string,
  options: DrawingOptions = {},
): Drawing {
  const { protocol, opening = true, idle = false } = options;
  const reading: Reading = {
    span: protocol === undefined ? 'handshake' : `handshake ${protocol}`,
    opening,
    idle,
  };
  if (typeof right === 'string') {
    const drafts = new LaneReader(0, left.transcript, 0, reading).read();
    return {
      names: [left.name, right],
      rows: inOrder(drafts),
      feet: [footOf(left.transcript, null), footOfUnrecorded(left.transcript)],
    };
  }
  const offset = options.offset ?? (right.transcript.origin ?? 0) - (left.transcript.origin ?? 0);
  const drafts = join([
    ...new LaneReader(0, left.transcript, 0, reading).read(),
    ...new LaneReader(1, right.transcript, offset, reading).read(),
  ]);
  return {
    names: [left.name, right.name],
    rows: inOrder(drafts),
    feet: [footOf(left.transcript, right.transcript), footOf(right.transcript, left.transcript)],
  };
}

/** Earlier first; in one instant, what one party told stays in its order. */
function inOrder(drafts: Draft[]): Row[] {
  return drafts
    .sort((a, b) => a.at - b.at || (a.teller === b.teller ? a.index - b.index : 0))
    .map(({ index: _, teller: __, match: ___, end: ____, ...row }) => row);
}

/** Both ends told: what left one and reached the other becomes one row. */
function join(drafts: Draft[]): Draft[] {
  const joined: Draft[] = [];
  const arrived = new Set<Draft>();
  const spans = drafts.filter(({ kind }) => kind === 'span');
  const firstSpan = spans.sort((a, b) => a.at - b.at)[0];
  for (const draft of drafts) {
    if (draft.kind === 'span' ? draft !== firstSpan : draft.end === 'received') continue;
    if (draft.kind !== 'arrow' || draft.match === undefined) {
      joined.push(draft);
      continue;
    }
    const arrival = drafts.find(
      (one) =>
        one.kind === 'arrow' &&
        one.end === 'received' &&
        one.match === draft.match &&
        one.teller !== draft.teller &&
        !arrived.has(one),
    );
    if (arrival === undefined || arrival.kind !== 'arrow') {
      joined.push({ ...draft, arrives: draft.style !== 'close-notify' && draft.style !== 'alert' });
      continue;
    }
    arrived.add(arrival);
    // Sending is told of when the transport has taken the bytes; they may be read before that.
    const at = Math.min(draft.at, arrival.at);
    // How a transport ended is for the receiver to say: the sender cannot choose between FIN and RST.
    const { style, text, tone } = draft.match === 'end' ? arrival : draft;
    joined.push({ ...draft, at, style, text, tone });
  }
  // What arrived without having been told of at its other end, or what the sender's lane has dropped.
  // Data is left to its sender, since the two ends fold it differently.
  const rest = drafts.filter(
    (one) => one.end === 'received' && !arrived.has(one) && one.match !== 'data',
  );
  return [...joined, ...rest];
}

/** How transcripts are read. */
interface Reading {
  /** The text of the handshake's row. */
  readonly span: string;
  readonly opening: boolean;
  readonly idle: boolean;
}

/** Reads one transcript into the rows that its party can tell of. */
class LaneReader {
  readonly #lane: Lane;
  readonly #transcript: Transcript;
  readonly #offset: number;
  readonly #span: string;
  readonly #opening: boolean;
  readonly #idle: boolean;
  readonly #drafts: Draft[] = [];
  /** Whether close_notify, or another alert that explains an end, has gone by. */
  readonly #explained = { sent: false, received: false };
  readonly #closed = { sent: false, received: false };
  /** Whether the transport has ended on one side: the other's end is then no more than a consequence. */
  #over = false;

  constructor(
    lane: Lane,
    transcript: Transcript,
    offset: number,
    { span, opening, idle }: Reading,
  ) {
    this.#lane = lane;
    this.#transcript = transcript;
    this.#offset = offset;
    this.#span = span;
    this.#opening = opening;
    this.#idle = idle;
  }

  read(): Draft[] {
    const { entries, head, dropped } = this.#transcript;
    const established = entries.findIndex(
      (entry) =>
        entry.type === 'event' &&
        entry.observation.type === 'phase' &&
        entry.observation.name === 'handshake',
    );
    for (const [index, entry] of entries.entries()) {
      if (dropped > 0 && index === head) {
        this.#add({
          kind: 'gap',
          at: entry.at,
          tone: 'quiet',
          text: `${dropped} entries not kept`,
        });
      }
      switch (entry.type) {
        case 'handshake':
        case 'traffic':
          // The handshake is one row, once it is complete.
          if (index > established) this.#traffic(entry, established >= 0);
          break;
        case 'event':
          this.#event(entry);
          break;
        case 'note':
          this.#step(entry.at, entry.text);
      }
    }
    return this.#drafts;
  }

  #traffic(entry: TrafficEntry | HandshakeEntry, established: boolean): void {
    const { direction, records, wireBytes, at } = entry;
    const sent = direction === 'sent';
    const call = () => {
      if (entry.type !== 'traffic' || entry.calls === 0) return;
      const times = entry.calls === 1 ? '' : ` ${entry.calls} times`;
      this.#step(at, `${sent ? 'write' : 'read'}${times}: ${plural(entry.bytes, 'byte')}`);
    };
    // A write comes before its records, a read after them.
    if (sent) call();
    if (records > 0) {
      const count = plural(records, 'record');
      const bytes = plural(wireBytes, 'byte');
      this.#arrow(at, direction, {
        style: 'data',
        match: 'data',
        tone: 'quiet',
        text: established
          ? this.#idle
            ? `${count} without data (session tickets)`
            : `${count}, ${bytes}`
          : `handshake: ${count}, ${bytes}`,
      });
    }
    if (!sent) call();
  }

  #event({ at, observation }: EventEntry): void {
    switch (observation.type) {
      case 'phase':
        if (observation.name === 'handshake') {
          this.#add({ kind: 'span', at, tone: 'plain', text: this.#span });
        } else if (this.#opening) {
          this.#step(at, observation.name === 'resolve' ? 'resolved' : 'connected', 'quiet');
        }
        return;
      case 'call':
        this.#call(at, observation);
        return;
      case 'close-notify':
        this.#explained[observation.direction] = true;
        this.#closed[observation.direction] = true;
        this.#arrow(at, observation.direction, {
          style: 'close-notify',
          match: 'close-notify',
          tone: 'good',
          text: 'close_notify',
        });
        return;
      case 'alert':
        this.#explained[observation.direction] = true;
        this.#arrow(at, observation.direction, {
          style: 'alert',
          match: 'alert',
          tone: 'bad',
          text: `alert ${observation.alert.name}`,
        });
        return;
      case 'transport-eof':
        this.#end(at, 'received', 'eof', 'FIN', observation.where);
        return;
      case 'transport-reset':
        this.#end(at, 'received', 'reset', 'RST', observation.where);
        return;
      case 'transport-error':
        this.#step(at, `the transport failed: ${observation.code}`, 'bad');
        return;
      case 'transport-closed':
        // Destroyed with bytes unread, the kernel sends RST, otherwise FIN. Nobody tells us which.
        if (observation.how === 'end') this.#end(at, 'sent', 'eof', 'FIN', null);
        else this.#end(at, 'sent', 'eof', 'FIN or RST', null);
        return;
      case 'deadline':
        this.#step(at, `the deadline for ${observation.phase} has passed`, 'warn');
        if (observation.phase === 'shutdown' && !this.#closed.received) {
          this.#arrow(at, 'received', {
            style: 'missing',
            tone: 'bad',
            text: 'close_notify never came',
          });
        }
        return;
      case 'trailing':
        this.#step(at, `trailing data: ${plural(observation.bytes, 'byte')}`);
        return;
      case 'verdict':
      case 'record':
      case 'data':
        // A verdict stands at the foot; records and data are folded into entries of their own.
        return;
    }
  }

  #call(at: number, { name, detail }: Extract<Observation, { type: 'call' }>): void {
    switch (name) {
      case 'cancel':
        this.#step(at, detail === null ? 'cancelled' : `cancelled ${detail}()`, 'warn');
        return;
      case 'abort':
        this.#step(at, 'abort(): drops the transport', 'plain');
        return;
      default:
        this.#step(at, detail === null ? `${name}()` : `${name}({ ${detail} })`);
    }
  }

  /** An end of the transport: in itself neither good nor bad, but it is no closure. */
  #end(
    at: number,
    end: 'sent' | 'received',
    style: 'eof' | 'reset',
    name: string,
    where: CutPoint | null,
  ): void {
    const fine = this.#explained[end] || this.#over;
    this.#over = true;
    const place =
      where === 'handshake'
        ? ' during the handshake'
        : where === 'inside-record'
          ? ' inside a record'
          : '';
    this.#arrow(at, end, {
      style,
      match: 'end',
      tone: fine ? 'quiet' : 'bad',
      text: fine
        ? name
        : where === 'handshake'
          ? `${name}${place}`
          : `${name}${place} without close_notify`,
    });
  }

  #arrow(
    at: number,
    end: 'sent' | 'received',
    arrow: { style: ArrowStyle; tone: Tone; text: string; match?: string },
  ): void {
    const from = end === 'sent' ? this.#lane : other(this.#lane);
    const { match, ...rest } = arrow;
    this.#add(
      { kind: 'arrow', at, from, arrives: true, ...rest },
      match === undefined ? {} : { match, end },
    );
  }

  #step(at: number, text: string, tone: Tone = 'plain'): void {
    this.#add({ kind: 'step', lane: this.#lane, at, tone, text });
  }

  #add(row: Row, ends: Pick<Draft, 'match' | 'end'> = {}): void {
    const draft = { ...row, at: row.at + this.#offset, index: this.#drafts.length };
    this.#drafts.push({ ...draft, teller: this.#lane, ...ends });
  }
}

/** The observations of a transcript, without what was folded. */
function eventsOf(transcript: Transcript): Observation[] {
  return transcript.entries.flatMap((entry) => (entry.type === 'event' ? [entry.observation] : []));
}

const closeNotify = (events: Observation[], direction: 'sent' | 'received') =>
  events.some((one) => one.type === 'close-notify' && one.direction === direction);

/** Verdicts of a party that read to the end, or waited, without finding close_notify. */
const MISSED: ReadonlySet<Verdict> = new Set(['truncated', 'timed-out']);

function footOf(transcript: Transcript, otherTranscript: Transcript | null): Foot {
  const events = eventsOf(transcript);
  const { verdict } = transcript;
  const sentCloseNotify = closeNotify(events, 'sent');
  const missed = otherTranscript !== null && MISSED.has(otherTranscript.verdict);
  return {
    verdict,
    why: whyOf(verdict, events),
    sentCloseNotify,
    missed: missed && !sentCloseNotify,
  };
}

function whyOf(verdict: Verdict, events: Observation[]): string {
  switch (verdict) {
    case 'truncated': {
      const end = events.find(
        ({ type }) =>
          type === 'transport-eof' || type === 'transport-reset' || type === 'transport-error',
      );
      if (end?.type === 'transport-eof') return 'FIN came instead';
      if (end?.type === 'transport-reset') return 'RST came instead';
      return 'no close_notify';
    }
    case 'alert': {
      const alert = events.findLast((one) => one.type === 'alert');
      return alert?.type === 'alert' ? alert.alert.name : '';
    }
    case 'one-sided':
      return closeNotify(events, 'received') ? 'our answer was not taken' : 'did not wait';
    case 'timed-out':
      return 'none came';
    default:
      return '';
  }
}

/** What is known of a party by the other's transcript alone. */
function footOfUnrecorded(transcript: Transcript): Foot {
  const sent = closeNotify(eventsOf(transcript), 'received');
  // Who did not wait for the end, or left before it, cannot say that nothing was sent.
  const missed = !sent && MISSED.has(transcript.verdict);
  return { verdict: null, why: '', sentCloseNotify: sent ? true : missed ? false : null, missed };
}

const plural = (count: number, unit: string): string =>
  `${count.toLocaleString('en-US')} ${unit}${count === 1 ? '' : 's'}`;
