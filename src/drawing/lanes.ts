/**
 * From transcripts to a drawing that no printer has touched yet: rows in the order of time, each in
 * the lane of the party that did something, or an arrow from one lane to the other.
 *
 * Theory of operation. There are always two lanes. Either both parties were recorded, or one was and
 * the other lane shows only what reached it. A party that was recorded has three layers: its
 * application calls, its TLS sends alerts, its transport ends; a party that was not is one line, for
 * nobody saw inside it. Each transcript yields the rows of its own lane. Where both ends are known,
 * what one sent and the other received is one arrow: the sender's row stays, and the receiver's tells
 * whether it arrived. An arrow that has no receiver is the interesting case: close_notify that nobody
 * read.
 *
 * The reader wants to know which side failed to do what. So an EOF or reset says in words whether
 * close_notify came before it, a truncation tears the whole drawing, a close_notify that was waited
 * for in vain is a row of its own, a long wait takes its share of the height, and at the foot of each
 * lane stands whether that party sent close_notify.
 */
import type { CutPoint } from '../closure/machine.ts';
import type { Verdict } from '../closure/verdict.ts';
import { CONTENT_TYPE } from '../record/record.ts';
import type {
  EventEntry,
  HandshakeEntry,
  RecordDetail,
  TrafficEntry,
  TranscriptEntry,
  UnreadableEntry,
} from '../transcript/entries.ts';
import type { Observation } from '../transcript/observer.ts';
import type { Transcript } from '../transcript/transcript.ts';
import type { ArrowRow, Detail, Drawing, Foot, Lane, Row, StepRow } from './drawing.ts';
import { tellStory } from './story.ts';

/** A party that was recorded. */
export interface RecordedLane {
  /** What stands above the lane. */
  readonly name: string;
  /** What the party saw. */
  readonly transcript: Transcript;
}

/** Options of a drawing. */
export interface DrawingOptions {
  /** The TLS version, such as `TLSv1.3`; by default the transcript's own. */
  readonly protocol?: string | undefined;
  /**
   * What to add to the times of the right lane to get the clock of the left one, in milliseconds.
   * By default both were recorded on this machine.
   */
  readonly offset?: number | undefined;
  /** Whether to show how the connection came to be, before the handshake; true by default. */
  readonly opening?: boolean | undefined;
  /**
   * Whether it is known that no application data crossed. Records that say so in their header, and
   * that could not be read, then hold messages of TLS 1.3 itself: session tickets, for the most part.
   */
  readonly idle?: boolean | undefined;
  /**
   * Whether to draw by the clock; true by default. Without it rows stand in the order of cause and
   * effect, which is the same in every run, and there are no times and no waits.
   */
  readonly timed?: boolean | undefined;
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
  /** Where both lanes told of it: its index in the other lane. */
  readonly otherIndex?: number;
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
  const { opening = true, idle = false, timed = true } = options;
  const protocol = options.protocol ?? left.transcript.protocol;
  const reading: Reading = {
    span: protocol === null ? 'handshake' : `handshake ${protocol}`,
    opening,
    idle,
  };
  const both = typeof right !== 'string';
  const names = [left.name, both ? right.name : right] as const;
  const offset = !both
    ? 0
    : (options.offset ?? (right.transcript.origin ?? 0) - (left.transcript.origin ?? 0));
  const story = tellStory(
    left.transcript,
    { local: names[0], peer: names[1], protocol },
    both ? { transcript: right.transcript, offset } : null,
  );
  const leftDrafts = new LaneReader(0, left.transcript, 0, reading).read();
  if (!both) {
    return {
      names,
      known: [true, false],
      timed,
      rows: inOrder(leftDrafts, timed),
      feet: [footOf(left.transcript, null), footOfUnrecorded(left.transcript)],
      story,
    };
  }
  const rightDrafts = new LaneReader(1, right.transcript, offset, reading).read();
  return {
    names,
    known: [true, true],
    timed,
    rows: inOrder(join([...leftDrafts, ...rightDrafts]), timed),
    feet: [footOf(left.transcript, right.transcript), footOf(right.transcript, left.transcript)],
    story,
  };
}

function inOrder(drafts: Draft[], timed: boolean): Row[] {
  const ordered = timed ? byClock(drafts) : byCause(drafts);
  const rows = ordered.map(
    ({ index: _, teller: __, match: ___, end: ____, otherIndex: _____, ...row }, place): Row =>
      timed ? row : { ...row, at: place },
  );
  return timed ? withWaits(rows) : rows;
}

/** Earlier first; in one instant, what one party told stays in its order. */
const byClock = (drafts: Draft[]): Draft[] =>
  drafts.sort((a, b) => a.at - b.at || (a.teller === b.teller ? a.index - b.index : 0));

/**
 * In the order of cause and effect: a party goes on until it needs what the other one has not sent
 * yet. Only what the applications ask for is put in the order of the clock: who began what is what
 * a drawing is about, and it is their doing, not an accident of the run.
 */
function byCause(drafts: Draft[]): Draft[] {
  const place = (draft: Draft, lane: Lane) =>
    draft.teller === lane ? draft.index : draft.otherIndex;
  const lanes = ([0, 1] as const).map((lane) =>
    drafts
      .filter((draft) => place(draft, lane) !== undefined)
      .sort((a, b) => (place(a, lane) ?? 0) - (place(b, lane) ?? 0)),
  );
  const isCall = (draft: Draft) => draft.kind === 'step' && draft.flow === 'down';
  const calls = byClock(drafts.filter(isCall));
  const ordered = new Set<Draft>();
  /** What a lane can go on with: of its own, and no call that is not due. */
  const next = (lane: Lane): Draft | null => {
    const rows = lanes[lane] as Draft[];
    while (rows[0] !== undefined && ordered.has(rows[0])) rows.shift();
    const head = rows[0];
    if (head === undefined || head.teller !== lane) return null;
    return isCall(head) && head !== calls[0] ? null : head;
  };
  let lane: Lane = 0;
  while (ordered.size < drafts.length) {
    if (next(lane) === null) lane = other(lane);
    // If neither can, clocks disagree with causes: then any order is as good.
    const draft = next(lane) ?? drafts.find((one) => !ordered.has(one));
    if (draft === undefined) break;
    ordered.add(draft);
    if (draft === calls[0]) calls.shift();
    else if (isCall(draft)) calls.splice(calls.indexOf(draft), 1);
  }
  return [...ordered];
}

/** A wait is worth showing from this many milliseconds, and this share of the whole, on. */
const LONG_WAIT = { ms: 50, share: 0.15 };

/** Rows, and the long waits between them. */
function withWaits(rows: readonly Row[]): Row[] {
  const whole = (rows.at(-1)?.at ?? 0) - (rows[0]?.at ?? 0);
  return rows.flatMap((row, index) => {
    const before = rows[index - 1];
    const ms = before === undefined ? 0 : row.at - before.at;
    const share = whole > 0 ? ms / whole : 0;
    // Before the handshake is complete its records cross, and are not drawn.
    const busy = row.kind === 'span';
    if (before === undefined || busy || ms < LONG_WAIT.ms || share < LONG_WAIT.share) return [row];
    const text = `nothing for ${durationText(ms)}`;
    const { at } = before;
    return [{ kind: 'wait', at, ms, share, tone: 'quiet', text, details: [] }, row];
  });
}

/** How long, in words: `300 ms`, `5.0 s`. */
export const durationText = (ms: number): string =>
  ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;

/** Both ends told: what left one and reached the other becomes one row. */
function join(drafts: Draft[]): Draft[] {
  const joined: Draft[] = [];
  const arrived = new Set<Draft>();
  const spans = drafts.filter(({ kind }) => kind === 'span').sort((a, b) => a.at - b.at);
  const [firstSpan, secondSpan] = spans;
  for (const draft of drafts) {
    if (draft.kind === 'span' ? draft !== firstSpan : draft.end === 'received') continue;
    if (draft.kind === 'span' && secondSpan !== undefined) {
      joined.push({ ...draft, otherIndex: secondSpan.index });
      continue;
    }
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
    const { style, text, tone, details } = draft.match === 'end' ? arrival : draft;
    joined.push({ ...draft, at, style, text, tone, details, otherIndex: arrival.index });
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
  readonly #spanText: string;
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
    this.#spanText = span;
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
    // It is told of a moment after it was over; a server has sent its tickets by then.
    const over =
      established < 0
        ? -1
        : entries.findIndex(
            (entry, index) =>
              index === established ||
              (entry.type === 'handshake' ? entry.post : entry.type === 'traffic'),
          );
    for (const [index, entry] of entries.entries()) {
      if (dropped > 0 && index === head) {
        const text = `${count(dropped, 'entry', 'entries')} not kept`;
        this.#add({ kind: 'gap', at: entry.at, tone: 'quiet', text, details: [] });
      }
      if (index === over) this.#span(entries.slice(0, over), entry.at);
      switch (entry.type) {
        case 'handshake':
          // The handshake is one row, once it is complete.
          if (index >= over) this.#handshake(entry);
          break;
        case 'traffic':
          this.#traffic(entry);
          break;
        case 'event':
          if (index !== established) this.#event(entry);
          break;
        case 'unreadable':
          this.#unreadable(entry);
          break;
        case 'note':
          this.#step(entry.at, entry.text, { flow: /^\w+\(\)/.test(entry.text) ? 'up' : null });
      }
    }
    return this.#drafts;
  }

  #span(entries: readonly TranscriptEntry[], at: number): void {
    const details = entries.flatMap((entry) =>
      entry.type === 'handshake' && entry.messages.length > 0
        ? [{ label: entry.direction, value: messagesText(entry) }]
        : [],
    );
    this.#add({ kind: 'span', at, tone: 'plain', text: this.#spanText, details });
  }

  #handshake(entry: HandshakeEntry): void {
    const { direction, records, wireBytes, messages, post, at } = entry;
    const details = [
      ...(messages.length === 0 ? [] : [{ label: 'messages', value: messagesText(entry) }]),
      recordsDetail(records, wireBytes),
    ];
    const [first] = messages;
    const text =
      first === undefined
        ? `handshake: ${count(records, 'record')}, ${count(wireBytes, 'byte')}`
        : !post
          ? `handshake: ${namesText(entry)}`
          : messages.length === 1 && first.name === 'new_session_ticket'
            ? count(first.count, 'session ticket')
            : messages.length === 1 && first.name === 'key_update'
              ? first.count === 1
                ? 'KeyUpdate'
                : `${first.count} KeyUpdates`
              : namesText(entry);
    this.#arrow(at, direction, { style: 'data', match: 'data', tone: 'quiet', text, details });
  }

  #traffic(entry: TrafficEntry): void {
    const { direction, records, wireBytes, calls, bytes, at, decrypted } = entry;
    const sent = direction === 'sent';
    const call = () => {
      if (calls === 0) return;
      const times = calls === 1 ? '' : ` ${calls.toLocaleString('en-US')} times`;
      this.#step(at, `${sent ? 'write' : 'read'}${times}: ${count(bytes, 'byte')}`, {
        flow: sent ? 'down' : 'up',
      });
    };
    // A write comes before its records, a read after them.
    if (sent) call();
    if (records > 0) {
      const idle = !decrypted && this.#idle;
      const what = decrypted ? 'data: ' : '';
      this.#arrow(at, direction, {
        style: 'data',
        match: 'data',
        tone: 'quiet',
        text: idle
          ? `${count(records, 'record')} without data (session tickets)`
          : `${what}${count(records, 'record')}, ${count(wireBytes, 'byte')}`,
        details: [
          recordsDetail(records, wireBytes),
          {
            label: 'inside',
            value: decrypted ? 'application data' : 'not decrypted: only the headers are known',
          },
        ],
      });
    }
    if (!sent) call();
  }

  #unreadable({ at, direction, reason }: UnreadableEntry): void {
    const text = `what is ${direction} from here on cannot be decrypted: ${reason}`;
    this.#step(at, text, { layer: 'tls', tone: 'quiet' });
  }

  #event({ at, observation, record }: EventEntry): void {
    switch (observation.type) {
      case 'phase':
        if (this.#opening) {
          const text = observation.name === 'resolve' ? 'resolved' : 'connected';
          this.#step(at, text, { layer: 'transport', tone: 'quiet' });
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
          details: alertDetails(record, { code: 0, name: 'close_notify' }),
        });
        return;
      case 'alert': {
        const { direction, alert } = observation;
        const details = alertDetails(record, alert);
        if (!alert.authenticated) {
          details.push({ label: 'authentic', value: 'no: in the clear, anyone can have sent it' });
        }
        // Bytes that look like close_notify are none until the stream says so; a warning ends nothing.
        const ends = alert.code !== 0 && alert.name !== 'user_canceled' && alert.code !== 100;
        if (ends) this.#explained[direction] = true;
        this.#arrow(at, direction, {
          style: 'alert',
          match: 'alert',
          tone: ends ? 'bad' : 'warn',
          text: alert.code === 0 ? 'alert close_notify, to no effect' : `alert ${alert.name}`,
          details,
        });
        return;
      }
      case 'transport-eof':
        this.#end(at, 'received', 'eof', 'FIN', observation.where);
        return;
      case 'transport-reset':
        this.#end(at, 'received', 'reset', 'RST', observation.where, observation.code);
        return;
      case 'transport-error':
        this.#step(at, `the transport failed: ${observation.code}`, {
          layer: 'transport',
          tone: 'bad',
        });
        if (!this.#explained.received && observation.where !== 'handshake') this.#tear(at);
        return;
      case 'transport-closed':
        // Destroyed with bytes unread, the kernel sends RST, otherwise FIN. Nobody tells us which.
        if (observation.how === 'end') this.#end(at, 'sent', 'eof', 'FIN', null);
        else this.#end(at, 'sent', 'eof', 'FIN or RST', null);
        return;
      case 'deadline': {
        const { phase, ms } = observation;
        const after = ms === undefined ? '' : ` of ${durationText(ms)}`;
        this.#step(at, `the deadline${after} for ${phase} has passed`, { tone: 'warn' });
        if (phase === 'shutdown' && !this.#closed.received) {
          this.#arrow(at, 'received', {
            style: 'missing',
            tone: 'bad',
            text: 'close_notify never came',
            details: [],
          });
        }
        return;
      }
      case 'trailing':
        this.#step(at, `trailing data: ${count(observation.bytes, 'byte')}`, {
          layer: 'transport',
        });
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
      case 'cancel': {
        const text = detail === null ? 'cancelled' : `cancelled ${detail}()`;
        this.#step(at, text, { tone: 'warn', flow: 'down' });
        return;
      }
      case 'abort':
        this.#step(at, 'abort(): drops the transport', { flow: 'down' });
        return;
      default: {
        const text = detail === null ? `${name}()` : `${name}({ ${detail} })`;
        this.#step(at, text, { flow: 'down' });
      }
    }
  }

  /** An end of the transport: in itself neither good nor bad, but it is no closure. */
  #end(
    at: number,
    end: 'sent' | 'received',
    style: 'eof' | 'reset',
    name: string,
    where: CutPoint | null,
    code: string | null = null,
  ): void {
    const fine = this.#explained[end] || this.#over;
    this.#over = true;
    const place =
      where === 'handshake'
        ? ' during the handshake'
        : where === 'inside-record'
          ? ' inside a record'
          : '';
    const details: Detail[] = [];
    if (where !== null) details.push({ label: 'where', value: PLACES[where] });
    if (code !== null) details.push({ label: 'error', value: code });
    this.#arrow(at, end, {
      style,
      match: 'end',
      tone: fine ? 'quiet' : 'bad',
      text: fine
        ? name
        : where === 'handshake'
          ? `${name}${place}`
          : `${name}${place} without close_notify`,
      details,
    });
    if (!fine && end === 'received' && where !== 'handshake') this.#tear(at);
  }

  #tear(at: number): void {
    const text = 'TRUNCATED: the last bytes may be missing';
    this.#add({ kind: 'tear', at, tone: 'bad', text, details: [] });
  }

  #arrow(
    at: number,
    end: 'sent' | 'received',
    arrow: Pick<ArrowRow, 'style' | 'tone' | 'text' | 'details'> & { match?: string },
  ): void {
    const from = end === 'sent' ? this.#lane : other(this.#lane);
    const { match, ...rest } = arrow;
    this.#add(
      { kind: 'arrow', at, from, arrives: true, ...rest },
      match === undefined ? {} : { match, end },
    );
  }

  #step(at: number, text: string, step: Partial<Pick<StepRow, 'layer' | 'flow' | 'tone'>>): void {
    const how = { layer: 'application', flow: null, tone: 'plain', ...step } as const;
    this.#add({ kind: 'step', lane: this.#lane, at, text, details: [], ...how });
  }

  #add(row: Row, ends: Pick<Draft, 'match' | 'end'> = {}): void {
    const draft = { ...row, at: row.at + this.#offset, index: this.#drafts.length };
    this.#drafts.push({ ...draft, teller: this.#lane, ...ends });
  }
}

const PLACES: Readonly<Record<CutPoint, string>> = {
  handshake: 'before the handshake was complete',
  'record-boundary': 'between two records',
  'inside-record': 'in the middle of a record',
  unknown: 'not known',
};

const CONTENT_TYPES: ReadonlyMap<number, string> = new Map([
  [CONTENT_TYPE.changeCipherSpec, 'change_cipher_spec'],
  [CONTENT_TYPE.alert, 'alert'],
  [CONTENT_TYPE.handshake, 'handshake'],
  [CONTENT_TYPE.applicationData, 'application_data'],
]);

function recordsDetail(records: number, wireBytes: number): Detail {
  return { label: 'records', value: `${count(records, 'record')}, ${count(wireBytes, 'byte')}` };
}

/** The header of an alert's record, and the two bytes that were in it. */
function alertDetails(
  record: RecordDetail | undefined,
  { code, name }: { readonly code: number | null; readonly name: string },
): Detail[] {
  const description = `description ${code ?? '?'} (${name})`;
  if (record === undefined) return [{ label: 'alert', value: description }];
  const { contentType, length, level } = record;
  const type = `type ${contentType} (${CONTENT_TYPES.get(contentType) ?? 'unknown'})`;
  return [
    { label: 'header', value: `${type}, length ${length}` },
    { label: 'encrypted', value: record.protected ? 'yes' : 'no' },
    { label: 'alert', value: `level ${level === 'fatal' ? 2 : 1} (${level}), ${description}` },
  ];
}

const messagesText = ({ messages }: HandshakeEntry): string =>
  messages
    .map(({ name, count: times, bytes }) =>
      times === 1 ? `${name} (${bytes})` : `${times} ${name} (${bytes})`,
    )
    .join(', ');

const namesText = ({ messages }: HandshakeEntry): string =>
  messages.map(({ name }) => name).join(', ');

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

const count = (many: number, unit: string, units = `${unit}s`): string =>
  `${many.toLocaleString('en-US')} ${many === 1 ? unit : units}`;
