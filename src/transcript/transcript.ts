/**
 * The record of what happened on a connection, as one party saw it: `record: true` makes one
 * (`stream.transcript`), or pass one as `record`; then draw it, or save it.
 *
 * Theory of operation. A connection may live for days, and a transcript must not grow with it. Two
 * rules bound it. What repeats is folded: records and application data of one direction become one
 * entry until something else happens. And of the entries only the first and the last are kept; the
 * middle is dropped and counted. What tells how the connection ended (close_notify, alerts, the
 * transport's end, the verdict) is dropped only after everything else.
 *
 * There are two sources. The stream tells what it did and found (`observe`). And where the bytes and
 * the key log are handed in as well (`onBytes`, `onSecret`), the transcript reads along: each record
 * is told of with its header, and with what was found inside once it was decrypted. The two meet in
 * alerts. That bytes look like a close_notify proves nothing by itself; the entry becomes one of
 * type 'close-notify' when the stream says so.
 *
 * kept-entries.ts holds to both rules; records.ts tells of records, and of what was read in them.
 */

import type { Verdict } from '../closure/verdict.ts';
import { checkOptionNames } from '../option-names.ts';
import { parseKeyLogLine } from '../record/keys.ts';
import type { TranscriptEntry } from './entries.ts';
import { type Event, type Kept, KeptEntries } from './kept-entries.ts';
import type { Direction, Observation, Observer } from './observer.ts';
import { MOST_SECRETS, RecordTeller } from './records.ts';
import { cutText, readTranscriptJson, savedEntry, type TranscriptJson } from './transcript-json.ts';

/** Options of a transcript. */
export interface TranscriptOptions {
  /** The most entries that are kept: half from the beginning, half from the end. 200 by default. */
  readonly limit?: number | undefined;
  /**
   * Whether to read along, which decrypts each record a second time; true by default. Without it
   * there are no messages by name, and no alerts but those that the stream tells of.
   */
  readonly decode?: boolean | undefined;
  /**
   * Whether to keep the lines of the key log, and to save them. Whoever has them and the bytes can
   * read everything; false by default.
   */
  readonly secrets?: boolean | undefined;
  /** What to call this party in a drawing. */
  readonly local?: string | undefined;
  /** What to call the other party. */
  readonly peer?: string | undefined;
}

/** The least limit that leaves room for a beginning and an end. */
const LEAST_LIMIT = 8;

/** Keeps what happened on a connection, in bounded memory. */
export class Transcript implements Observer {
  readonly #kept: KeptEntries;
  readonly #records: RecordTeller;
  readonly #secrets: string[] | null;
  #stopped = false;
  #verdict: Verdict = 'open';
  #origin: number | null = null;
  #protocol: string | null = null;

  /** What to call this party in a drawing; null without a name. */
  readonly local: string | null;
  /** What to call the other party; null without a name. */
  readonly peer: string | null;
  /** Takes every byte that crosses the wire; absent with `decode: false`. */
  readonly onBytes?: (direction: Direction, bytes: Uint8Array, at: number) => void;
  /** Takes each line of the key log; absent with `decode: false` and no `secrets`. */
  readonly onSecret?: (line: string) => void;

  /** @throws {OptionError}, and {RangeError} for a limit that is not a whole number of at least 8. */
  constructor(options: TranscriptOptions = {}) {
    checkOptionNames(options, ['limit', 'decode', 'secrets', 'local', 'peer']);
    const { limit = 200, decode = true, secrets = false } = options;
    if (!Number.isInteger(limit) || limit < LEAST_LIMIT) {
      throw new RangeError(`limit must be a whole number, at least ${LEAST_LIMIT}`);
    }
    this.#kept = new KeptEntries(limit);
    this.#records = new RecordTeller(this.#kept);
    this.#secrets = secrets ? [] : null;
    this.local = options.local === undefined ? null : cutText(options.local);
    this.peer = options.peer === undefined ? null : cutText(options.peer);
    // Present only where wanted: a stream hands out no bytes that nobody takes.
    if (decode) this.onBytes = (direction, bytes, at) => this.#onBytes(direction, bytes, at);
    if (decode || secrets) this.onSecret = (line) => this.#onSecret(line);
  }

  /** What is kept, in order. `dropped` entries are missing after the first `head` of them. */
  get entries(): readonly TranscriptEntry[] {
    this.#records.settle('sent');
    this.#records.settle('received');
    return this.#kept.all;
  }

  /** How many entries of the beginning are complete: after these come the dropped ones, if any. */
  get head(): number {
    return this.#kept.head;
  }

  /** How many entries of the middle were dropped. */
  get dropped(): number {
    return this.#kept.dropped;
  }

  /** The verdict as it was observed last. */
  get verdict(): Verdict {
    return this.#verdict;
  }

  /** Who this party is in the handshake: known from the first byte that was read along, or null. */
  get role(): 'client' | 'server' | null {
    return this.#records.role;
  }

  /** The TLS version that the handshake agreed on, such as `TLSv1.3`; null before, or if not told. */
  get protocol(): string | null {
    return this.#protocol;
  }

  /** The lines of the key log, in the form of RFC 9850; null unless they were asked for. */
  get secrets(): readonly string[] | null {
    return this.#secrets;
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
        this.#records.observe(observation, at);
        return;
      case 'data': {
        const fold = this.#kept.traffic(observation.direction, at, null);
        fold.calls++;
        fold.bytes += observation.bytes;
        fold.until = at;
        return;
      }
      case 'alert':
      case 'close-notify':
        if (this.#records.told(observation, at)) return;
        break;
      case 'transport-eof':
      case 'transport-reset':
      case 'transport-error':
        this.#records.settle('received');
        break;
      case 'verdict':
        this.#verdict = observation.verdict;
        break;
      case 'phase':
        this.#protocol = observation.protocol ?? this.#protocol;
        break;
      default:
    }
    const entry: Event = { type: 'event', at, until: at, observation };
    this.#kept.add(entry);
    // A fatal alert of ours is told of by its cause, and goes out afterwards.
    if (observation.type === 'alert') this.#records.expect(observation.direction, entry);
  }

  /** Adds a remark of the caller's own at this moment, such as the outcome of a call. */
  note(text: string, at = this.#origin === null ? 0 : performance.now() - this.#origin): void {
    if (this.#stopped) return;
    this.#kept.add({ type: 'note', at, until: at, text: cutText(text) });
  }

  /**
   * Forgets the data that has crossed so far, and what TLS sent beside it: it took that to get where
   * something begins.
   */
  forgetTraffic(): void {
    const gone = (one: Kept) => one.type === 'traffic' || (one.type === 'handshake' && one.post);
    for (const entry of this.#kept.all.filter(gone)) this.#kept.remove(entry);
  }

  /** Keeps nothing that comes later: the clean-up after an experiment, for instance. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * The transcript as the published JSON Schema (`close-notify/transcript.schema.json`) has it, for
   * `JSON.stringify`. No secrets are in it unless the transcript was made to keep them.
   */
  toJSON(): TranscriptJson {
    const entries = this.entries;
    return {
      format: 'close-notify-transcript',
      version: 1,
      local: this.local,
      peer: this.peer,
      role: this.#records.role,
      protocol: this.#protocol === null ? null : cutText(this.#protocol),
      verdict: this.#verdict,
      origin: this.#origin === null ? null : performance.timeOrigin + this.#origin,
      head: this.#kept.head,
      dropped: this.#kept.dropped,
      entries: entries.map(savedEntry),
      ...(this.#secrets === null ? {} : { secrets: [...this.#secrets] }),
    };
  }

  /**
   * Reads what `toJSON` gave, after `JSON.parse`. It may come from anybody: whatever is not in
   * the published form is refused. The transcript is complete, and keeps nothing more.
   *
   * @throws {OptionError} which says where it departs from the form.
   */
  static fromJSON(json: unknown): Transcript {
    const read = readTranscriptJson(json);
    const transcript = new Transcript({
      limit: Math.max(LEAST_LIMIT, 2 * read.entries.length),
      decode: false,
      secrets: read.secrets !== undefined,
      ...(read.local === null ? {} : { local: read.local }),
      ...(read.peer === null ? {} : { peer: read.peer }),
    });
    transcript.#kept.restore(read.entries, read.head, read.dropped);
    transcript.#secrets?.push(...(read.secrets ?? []));
    transcript.#verdict = read.verdict;
    transcript.#origin = read.origin === null ? null : read.origin - performance.timeOrigin;
    transcript.#records.role = read.role;
    transcript.#protocol = read.protocol;
    transcript.#stopped = true;
    return transcript;
  }

  #onBytes(direction: Direction, bytes: Uint8Array, at: number): void {
    if (!this.#stopped) this.#records.push(direction, bytes, at);
  }

  #onSecret(line: string): void {
    if (this.#stopped) return;
    const text = line.trimEnd();
    if (this.#secrets !== null && this.#secrets.length < MOST_SECRETS && parseKeyLogLine(text)) {
      this.#secrets.push(text);
    }
    if (this.onBytes !== undefined) this.#records.addSecret(text);
  }
}
