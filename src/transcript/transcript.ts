/**
 * The record of what happened on a connection, as one party saw it: pass one as `record` to
 * `connect` or `accept`, then draw it.
 *
 * Theory of operation. A connection may live for days, and a transcript must not grow with it. Two
 * rules bound it. What repeats is folded: records and application data of one direction become one
 * entry until something else happens. And of the entries only the first and the last are kept; the
 * middle is dropped and counted. What tells how the connection ended (close_notify, alerts, the
 * transport's end, the verdict) is dropped only after everything else.
 *
 * A record that carried an alert or close_notify is told of twice: once as a record by its header,
 * and once as what was in it. The transcript keeps the second, and its size.
 */
import type { Verdict } from '../closure/verdict.ts';
import { CONTENT_TYPE } from '../record/record.ts';
import type { Direction, Observation, Observer } from '../stream/observer.ts';

/** When an entry began and ended, in milliseconds since the connection's start. */
export interface EntryTimes {
  /** When it began. */
  readonly at: number;
  /** The same as `at`, but for entries that were folded from several observations. */
  readonly until: number;
}

/**
 * Records that say 'application data' in their header, and what went through `read` or `write`, of
 * one direction, with nothing else in between. In TLS 1.3 such records may hold other things, such
 * as session tickets.
 */
export interface TrafficEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'traffic';
  /** Which way it went. */
  readonly direction: Direction;
  /** Records on the wire. */
  readonly records: number;
  /** Their bytes, without the headers. */
  readonly wireBytes: number;
  /** Calls of `read` or `write`. */
  readonly calls: number;
  /** The application's bytes in them. */
  readonly bytes: number;
}

/** Other records of one direction: those of the handshake, for the most part. */
export interface HandshakeEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'handshake';
  /** Which way they went. */
  readonly direction: Direction;
  /** Records on the wire. */
  readonly records: number;
  /** Their bytes, without the headers. */
  readonly wireBytes: number;
}

/** One observation that is kept as it came. */
export interface EventEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'event';
  /** Never one of type `record` or `data`: those are folded. */
  readonly observation: Observation;
}

/** What the caller had to say, by `note`. */
export interface NoteEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'note';
  /** The remark. */
  readonly text: string;
}

/** One entry of a transcript. */
export type TranscriptEntry = TrafficEntry | HandshakeEntry | EventEntry | NoteEntry;

/** Options of a transcript. */
export interface TranscriptOptions {
  /** The most entries that are kept: half from the beginning, half from the end. 200 by default. */
  readonly limit?: number | undefined;
}

/** What is being folded: an entry that can still grow. */
type Growing<Entry> = { -readonly [Key in keyof Entry]: Entry[Key] };
type Fold = Growing<TrafficEntry> | Growing<HandshakeEntry>;
type Kept = Fold | EventEntry | NoteEntry;

/** The least limit that leaves room for a beginning and an end. */
const LEAST_LIMIT = 8;

/** What tells how a connection began and ended. Few of each can happen. */
const DECISIVE: ReadonlySet<Observation['type']> = new Set([
  'phase',
  'alert',
  'close-notify',
  'transport-eof',
  'transport-reset',
  'transport-error',
  'transport-closed',
  'verdict',
]);

/** Keeps what happened on a connection, in bounded memory. */
export class Transcript implements Observer {
  readonly #headLimit: number;
  readonly #tailLimit: number;
  readonly #head: Kept[] = [];
  readonly #tail: Kept[] = [];
  #dropped = 0;
  #stopped = false;
  #verdict: Verdict = 'open';
  #origin: number | null = null;
  /** The length of the last record in each direction, while its entry is known. */
  readonly #lastRecord: Record<Direction, { fold: Fold; length: number } | null> = {
    sent: null,
    received: null,
  };
  /** An alert was told of before its record: the next record of this direction is it. */
  readonly #recordToCome: Record<Direction, boolean> = { sent: false, received: false };

  /** @throws {RangeError} for a limit that is not a whole number of at least 8. */
  constructor({ limit = 200 }: TranscriptOptions = {}) {
    if (!Number.isInteger(limit) || limit < LEAST_LIMIT) {
      throw new RangeError(`limit must be a whole number, at least ${LEAST_LIMIT}`);
    }
    this.#headLimit = Math.floor(limit / 2);
    this.#tailLimit = limit - this.#headLimit;
  }

  /** What is kept, in order. `dropped` entries are missing after the first `head` of them. */
  get entries(): readonly TranscriptEntry[] {
    return [...this.#head, ...this.#tail];
  }

  /** How many entries of the beginning are complete: after these come the dropped ones, if any. */
  get head(): number {
    return this.#head.length;
  }

  /** How many entries of the middle were dropped. */
  get dropped(): number {
    return this.#dropped;
  }

  /** The verdict as it was observed last. */
  get verdict(): Verdict {
    return this.#verdict;
  }

  /**
   * The connection's start on this process's clock (`performance.now()`), to put two transcripts of
   * one process on one clock. Null before the first observation. It is known to within what it took
   * to make an observation, which is microseconds.
   */
  get origin(): number | null {
    return this.#origin;
  }

  /** Keeps one observation; `at` is milliseconds since the connection's start. */
  observe(observation: Observation, at: number): void {
    if (this.#stopped) return;
    // Each call comes a little later than the time that it tells of. The least difference is best.
    const origin = performance.now() - at;
    this.#origin = this.#origin === null ? origin : Math.min(this.#origin, origin);
    switch (observation.type) {
      case 'record':
        this.#record(observation, at);
        return;
      case 'data': {
        const fold = this.#traffic(observation.direction, at);
        fold.calls++;
        fold.bytes += observation.bytes;
        fold.until = at;
        return;
      }
      case 'alert':
      case 'close-notify':
        this.#takeBackRecord(observation);
        break;
      case 'verdict':
        this.#verdict = observation.verdict;
        break;
      default:
    }
    this.#add({ type: 'event', at, until: at, observation });
  }

  /** Adds a remark of the caller's own at this moment, such as the outcome of a call. */
  note(text: string): void {
    if (this.#stopped) return;
    const at = this.#origin === null ? 0 : performance.now() - this.#origin;
    this.#add({ type: 'note', at, until: at, text });
  }

  /** Keeps nothing that comes later: the clean-up after an experiment, for instance. */
  stop(): void {
    this.#stopped = true;
  }

  #record(record: Extract<Observation, { type: 'record' }>, at: number): void {
    const { direction, contentType, length } = record;
    if (this.#recordToCome[direction]) {
      this.#recordToCome[direction] = false;
      if (contentType === CONTENT_TYPE.alert || isAlertSized(length)) return;
    }
    const fold =
      contentType === CONTENT_TYPE.applicationData
        ? this.#traffic(direction, at)
        : this.#handshake(direction, at);
    fold.records++;
    fold.wireBytes += length;
    fold.until = at;
    this.#lastRecord[direction] = { fold, length };
  }

  /** The alert's own record, which is the last one of that direction, is not one of data. */
  #takeBackRecord({ type, direction }: { type: string; direction: Direction }): void {
    const last = this.#lastRecord[direction];
    this.#lastRecord[direction] = null;
    // A fatal alert of ours is told of by its cause, and goes out afterwards.
    if (type === 'alert' && direction === 'sent' && last?.length !== 2) {
      this.#recordToCome.sent = true;
      return;
    }
    if (last === null) return;
    const { fold, length } = last;
    fold.records--;
    fold.wireBytes -= length;
    const empty = fold.records === 0 && (fold.type === 'handshake' || fold.calls === 0);
    if (!empty) return;
    for (const list of [this.#tail, this.#head]) {
      const index = list.lastIndexOf(fold);
      if (index >= 0) list.splice(index, 1);
    }
  }

  #traffic(direction: Direction, at: number): Growing<TrafficEntry> {
    const last = this.#last;
    if (last?.type === 'traffic' && last.direction === direction) return last;
    const counts = { records: 0, wireBytes: 0, calls: 0, bytes: 0 };
    const fold = { type: 'traffic' as const, direction, at, until: at, ...counts };
    this.#add(fold);
    return fold;
  }

  #handshake(direction: Direction, at: number): Growing<HandshakeEntry> {
    const last = this.#last;
    if (last?.type === 'handshake' && last.direction === direction) return last;
    const counts = { records: 0, wireBytes: 0 };
    const fold = { type: 'handshake' as const, direction, at, until: at, ...counts };
    this.#add(fold);
    return fold;
  }

  get #last(): Kept | undefined {
    return this.#tail.at(-1) ?? this.#head.at(-1);
  }

  #add(entry: Kept): void {
    // Once the tail is in use the head is closed, also when a record taken back leaves room in it.
    if (this.#tail.length === 0 && this.#dropped === 0 && this.#head.length < this.#headLimit) {
      this.#head.push(entry);
      return;
    }
    this.#tail.push(entry);
    if (this.#tail.length <= this.#tailLimit) return;
    const idle = this.#tail.findIndex((one) => !isDecisive(one));
    // The last one is still being filled.
    this.#tail.splice(idle < 0 || idle === this.#tail.length - 1 ? 0 : idle, 1);
    this.#dropped++;
  }
}

/** TLS 1.3 hides the type; an alert is two bytes, the type and the tag (see stream/engine.ts). */
const isAlertSized = (length: number): boolean => length === 19 || length === 11;

function isDecisive(entry: Kept): boolean {
  return entry.type === 'event' && DECISIVE.has(entry.observation.type);
}
