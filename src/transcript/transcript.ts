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
 * A key may come later than the record that needs it. Headers wait for what is in their records, in
 * a queue for each direction; whatever happens next in that direction ends the wait, and the record
 * is then one whose content is not known.
 */
import type { Verdict } from '../closure/verdict.ts';
import { type Decoded, WireDecoder } from '../record/decoder.ts';
import { HANDSHAKE_TYPE, handshakeName } from '../record/handshake.ts';
import { parseKeyLogLine } from '../record/keys.ts';
import { CONTENT_TYPE, RecordScanner } from '../record/record.ts';
import type {
  EventEntry,
  HandshakeEntry,
  MessageCount,
  NoteEntry,
  RecordDetail,
  TrafficEntry,
  TranscriptEntry,
  UnreadableEntry,
} from './entries.ts';
import type { Direction, Observation, Observer } from './observer.ts';
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

/** What is being folded: an entry that can still grow. */
type Growing<Entry> = { -readonly [Key in keyof Entry]: Entry[Key] };
type Fold = Growing<TrafficEntry> | (Growing<HandshakeEntry> & { messages: MessageCount[] });
type HandshakeFold = Extract<Fold, { type: 'handshake' }>;
type Event = Growing<EventEntry>;
type Kept = Fold | Event | UnreadableEntry | NoteEntry;

/** A record's header, waiting for what is in it. */
interface Header {
  readonly at: number;
  readonly contentType: number;
  readonly length: number;
}

/** What is known of a direction's records while it is read along. */
interface Reading {
  readonly scanner: RecordScanner;
  /** Records that have not been decrypted yet. */
  readonly waiting: Header[];
  /** Records that were told of without their content, and may still be decrypted. */
  passed: number;
  unreadable: boolean;
  /** Alerts that were read, and that the stream has not told of: nor of those the other way round. */
  unconfirmed: Event | null;
  unseen: Event | null;
}

/** The least limit that leaves room for a beginning and an end. */
const LEAST_LIMIT = 8;

/** Records of a direction that may wait for a key. */
const MOST_WAITING = 64;

/** Kinds of messages in one entry. No handshake needs as many; a hostile one would. */
const MOST_MESSAGES = 32;

/** Lines of the key log that are kept: a connection has five, each of its renegotiations one more. */
const MOST_SECRETS = 64;

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
  readonly #secrets: string[] | null;
  #dropped = 0;
  #stopped = false;
  #verdict: Verdict = 'open';
  #origin: number | null = null;
  #role: 'client' | 'server' | null = null;
  #protocol: string | null = null;
  #decoder: WireDecoder | null = null;
  readonly #readings: Record<Direction, Reading> = {
    sent: this.#reading('sent'),
    received: this.#reading('received'),
  };
  /** The record that an alert has just come in. */
  #alertRecord: Omit<RecordDetail, 'level'> | null = null;
  /** Each direction's handshake: the entry that the last record was told of in. */
  readonly #handshakes: Record<Direction, { fold: HandshakeFold | null; post: boolean }> = {
    sent: { fold: null, post: false },
    received: { fold: null, post: false },
  };
  /** Key log lines that came before the first byte. */
  #earlySecrets: string[] = [];
  /** The time of the bytes that are being read. */
  #now = 0;
  /** The length of the last record in each direction whose content is not known. */
  readonly #lastRecord: Record<Direction, { fold: Fold; length: number } | null> = {
    sent: null,
    received: null,
  };
  /** An alert was told of before its record: the next record of this direction is it. */
  readonly #recordToCome: Record<Direction, boolean> = { sent: false, received: false };

  /** What to call this party in a drawing; null without a name. */
  readonly local: string | null;
  /** What to call the other party; null without a name. */
  readonly peer: string | null;
  /** Takes every byte that crosses the wire; absent with `decode: false`. */
  readonly onBytes?: (direction: Direction, bytes: Uint8Array, at: number) => void;
  /** Takes each line of the key log; absent with `decode: false` and no `secrets`. */
  readonly onSecret?: (line: string) => void;

  /** @throws {RangeError} for a limit that is not a whole number of at least 8. */
  constructor(options: TranscriptOptions = {}) {
    const { limit = 200, decode = true, secrets = false } = options;
    if (!Number.isInteger(limit) || limit < LEAST_LIMIT) {
      throw new RangeError(`limit must be a whole number, at least ${LEAST_LIMIT}`);
    }
    this.#headLimit = Math.floor(limit / 2);
    this.#tailLimit = limit - this.#headLimit;
    this.#secrets = secrets ? [] : null;
    this.local = options.local === undefined ? null : cutText(options.local);
    this.peer = options.peer === undefined ? null : cutText(options.peer);
    // Present only where wanted: a stream hands out no bytes that nobody takes.
    if (decode) this.onBytes = (direction, bytes, at) => this.#onBytes(direction, bytes, at);
    if (decode || secrets) this.onSecret = (line) => this.#onSecret(line);
  }

  /** What is kept, in order. `dropped` entries are missing after the first `head` of them. */
  get entries(): readonly TranscriptEntry[] {
    this.#settle('sent');
    this.#settle('received');
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

  /** Who this party is in the handshake: known from the first byte that was read along, or null. */
  get role(): 'client' | 'server' | null {
    return this.#role;
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
        // Where the bytes are at hand, they have told of it already, or are about to.
        if (this.#decoder === null) this.#record(observation, at);
        return;
      case 'data': {
        const fold = this.#traffic(observation.direction, at, null);
        fold.calls++;
        fold.bytes += observation.bytes;
        fold.until = at;
        return;
      }
      case 'alert':
      case 'close-notify':
        this.#settle(observation.direction);
        if (this.#confirm(observation, at)) return;
        this.#takeBackRecord(observation);
        break;
      case 'transport-eof':
      case 'transport-reset':
      case 'transport-error':
        this.#settle('received');
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
    this.#add(entry);
    // A fatal alert of ours is told of by its cause, and goes out afterwards.
    if (observation.type === 'alert') this.#readings[observation.direction].unseen = entry;
  }

  /** Adds a remark of the caller's own at this moment, such as the outcome of a call. */
  note(text: string, at = this.#origin === null ? 0 : performance.now() - this.#origin): void {
    if (this.#stopped) return;
    this.#add({ type: 'note', at, until: at, text: cutText(text) });
  }

  /**
   * Forgets the data that has crossed so far, and what TLS sent beside it: it took that to get where
   * something begins.
   */
  forgetTraffic(): void {
    const gone = (one: Kept) => one.type === 'traffic' || (one.type === 'handshake' && one.post);
    for (const entry of [...this.#head, ...this.#tail].filter(gone)) this.#remove(entry);
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
      role: this.#role,
      protocol: this.#protocol === null ? null : cutText(this.#protocol),
      verdict: this.#verdict,
      origin: this.#origin === null ? null : performance.timeOrigin + this.#origin,
      head: this.#head.length,
      dropped: this.#dropped,
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
    transcript.#head.push(...(read.entries.slice(0, read.head) as Kept[]));
    transcript.#tail.push(...(read.entries.slice(read.head) as Kept[]));
    transcript.#secrets?.push(...(read.secrets ?? []));
    transcript.#dropped = read.dropped;
    transcript.#verdict = read.verdict;
    transcript.#origin = read.origin === null ? null : read.origin - performance.timeOrigin;
    transcript.#role = read.role;
    transcript.#protocol = read.protocol;
    transcript.#stopped = true;
    return transcript;
  }

  // ---- reading along

  #reading(direction: Direction): Reading {
    return {
      scanner: new RecordScanner((contentType, length) => {
        this.#readings[direction].waiting.push({ at: this.#now, contentType, length });
      }),
      waiting: [],
      passed: 0,
      unreadable: false,
      unconfirmed: null,
      unseen: null,
    };
  }

  #onBytes(direction: Direction, bytes: Uint8Array, at: number): void {
    if (this.#stopped) return;
    const decoder = this.#decoder ?? this.#begin(direction, bytes);
    if (decoder === null) return;
    this.#now = at;
    const reading = this.#readings[direction];
    for (let from = 0; from < bytes.length; ) from = reading.scanner.take(bytes, from);
    if (!reading.unreadable) decoder.push(this.#sender(direction), bytes);
    if (reading.unreadable || reading.waiting.length > MOST_WAITING) this.#settle(direction);
  }

  /** The first byte of TLS comes from the client, and begins a record of the handshake. */
  #begin(direction: Direction, bytes: Uint8Array): WireDecoder | null {
    if (bytes[0] !== CONTENT_TYPE.handshake) return null;
    this.#role = direction === 'sent' ? 'client' : 'server';
    const decoder = new WireDecoder((decoded) => this.#onDecoded(decoded));
    this.#decoder = decoder;
    for (const line of this.#earlySecrets.splice(0)) this.#addSecret(line);
    // What its header has told of already, its bytes tell again.
    for (const { fold } of Object.values(this.#lastRecord).filter((last) => last !== null)) {
      this.#remove(fold);
    }
    return decoder;
  }

  #onSecret(line: string): void {
    if (this.#stopped) return;
    const text = line.trimEnd();
    if (this.#secrets !== null && this.#secrets.length < MOST_SECRETS && parseKeyLogLine(text)) {
      this.#secrets.push(text);
    }
    if (this.onBytes === undefined) return;
    if (this.#decoder !== null) this.#addSecret(text);
    else if (this.#earlySecrets.length < MOST_SECRETS) this.#earlySecrets.push(text);
  }

  #addSecret(line: string): void {
    const entry = parseKeyLogLine(line);
    if (entry !== null) this.#decoder?.addSecret(entry);
  }

  #sender(direction: Direction): 'client' | 'server' {
    return (direction === 'sent') === (this.#role === 'client') ? 'client' : 'server';
  }

  #onDecoded(decoded: Decoded): void {
    const direction = decoded.sender === this.#role ? 'sent' : 'received';
    const reading = this.#readings[direction];
    switch (decoded.type) {
      case 'record': {
        const header = this.#headerOf(reading);
        if (header === null) return;
        this.#lastRecord[direction] = null;
        const { contentType } = decoded;
        if (contentType === CONTENT_TYPE.applicationData) {
          count(this.#traffic(direction, header.at, true), header);
        } else if (contentType === CONTENT_TYPE.alert) {
          // Told of with its alert, which comes next.
          const { length } = header;
          this.#alertRecord = {
            contentType: header.contentType,
            length,
            protected: decoded.protected,
          };
          this.#now = header.at;
        } else {
          const post = decoded.protected && this.#handshakes[direction].post;
          const fold = this.#handshake(direction, header.at, post);
          count(fold, header);
          if (contentType === CONTENT_TYPE.changeCipherSpec) {
            addMessage(fold, 'change_cipher_spec', header.length);
          }
          this.#handshakes[direction].fold = fold;
        }
        return;
      }
      case 'handshake':
        this.#onMessage(direction, decoded);
        return;
      case 'alert': {
        const { code, name, level } = decoded.alert;
        const record = this.#alertRecord;
        this.#alertRecord = null;
        const known = reading.unseen;
        const told = known?.observation.type === 'alert' ? known.observation.alert : null;
        if (known !== null && told !== null && (told.code === null || told.code === code)) {
          reading.unseen = null;
          this.#recordToCome[direction] = false;
          if (record !== null) known.record = { ...record, level };
          return;
        }
        const at = this.#now;
        const alert = { code, name, authenticated: decoded.authenticated };
        const entry: Event = {
          ...{ type: 'event', at, until: at },
          observation: { type: 'alert', direction, alert },
          ...(record !== null && { record: { ...record, level } }),
        };
        this.#add(entry);
        reading.unconfirmed = entry;
        return;
      }
      case 'unreadable':
        reading.unreadable = true;
        this.#add({
          ...{ type: 'unreadable', at: this.#now, until: this.#now },
          ...{ direction, reason: cutText(decoded.reason) },
        });
    }
  }

  #onMessage(direction: Direction, decoded: Extract<Decoded, { type: 'handshake' }>): void {
    const { messageType, body, tls13 } = decoded;
    const state = this.#handshakes[direction];
    const name = handshakeName(messageType);
    if (
      state.fold === null ||
      (state.fold.messages.length >= MOST_MESSAGES && name !== last(state.fold))
    ) {
      state.fold = this.#handshake(direction, this.#now, state.post, true);
    }
    addMessage(state.fold, name, body.length + 4);
    if (tls13 && messageType === HANDSHAKE_TYPE.finished) state.post = true;
  }

  /** The header of the record that was decrypted; null where it was told of without its content. */
  #headerOf(reading: Reading): Header | null {
    if (reading.passed > 0) {
      reading.passed--;
      return null;
    }
    return reading.waiting.shift() ?? null;
  }

  /** Tells of the records that still wait for a key, by their headers. */
  #settle(direction: Direction): void {
    const reading = this.#readings[direction];
    for (const { at, contentType, length } of reading.waiting.splice(0)) {
      if (!reading.unreadable) reading.passed++;
      this.#record({ direction, contentType, length }, at);
    }
  }

  /** The stream tells of an alert: is it the one that was read a moment ago? */
  #confirm(observation: Extract<Observation, { type: 'alert' | 'close-notify' }>, at: number) {
    const reading = this.#readings[observation.direction];
    const entry = reading.unconfirmed;
    if (entry === null || entry.observation.type !== 'alert') return false;
    const code = observation.type === 'alert' ? observation.alert.code : 0;
    if (code !== null && entry.observation.alert.code !== code) return false;
    reading.unconfirmed = null;
    if (observation.type === 'close-notify') entry.observation = observation;
    entry.until = Math.max(entry.at, at);
    return true;
  }

  // ---- records by their headers alone

  #record(
    { direction, contentType, length }: Omit<Extract<Observation, { type: 'record' }>, 'type'>,
    at: number,
  ): void {
    if (this.#recordToCome[direction]) {
      this.#recordToCome[direction] = false;
      if (contentType === CONTENT_TYPE.alert || isAlertSized(length)) return;
    }
    const fold =
      contentType === CONTENT_TYPE.applicationData
        ? this.#traffic(direction, at, false)
        : this.#handshake(direction, at, false);
    count(fold, { at, length });
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
    if (fold.records === 0 && (fold.type === 'handshake' || fold.calls === 0)) this.#remove(fold);
  }

  // ---- entries

  /** @param decrypted null for application data, which goes with records of either kind. */
  #traffic(direction: Direction, at: number, decrypted: boolean | null): Growing<TrafficEntry> {
    const last = this.#last;
    if (
      last?.type === 'traffic' &&
      last.direction === direction &&
      (decrypted === null || last.decrypted === decrypted || last.records === 0)
    ) {
      last.decrypted = decrypted ?? last.decrypted;
      return last;
    }
    const counts = { records: 0, wireBytes: 0, calls: 0, bytes: 0, decrypted: decrypted ?? false };
    const fold = { type: 'traffic' as const, direction, at, until: at, ...counts };
    this.#add(fold);
    return fold;
  }

  #handshake(direction: Direction, at: number, post: boolean, fresh = false): HandshakeFold {
    const last = this.#last;
    const same = last?.type === 'handshake' && last.direction === direction && last.post === post;
    if (same && !fresh) return last as HandshakeFold;
    const fold: HandshakeFold = {
      ...{ type: 'handshake', direction, at, until: at },
      ...{ records: 0, wireBytes: 0, messages: [], post },
    };
    this.#add(fold);
    return fold;
  }

  get #last(): Kept | undefined {
    return this.#tail.at(-1) ?? this.#head.at(-1);
  }

  #remove(entry: Kept): void {
    for (const list of [this.#tail, this.#head]) {
      const index = list.lastIndexOf(entry);
      if (index >= 0) list.splice(index, 1);
    }
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

function count(fold: Fold, { at, length }: { at: number; length: number }): void {
  fold.records++;
  fold.wireBytes += length;
  fold.until = Math.max(fold.until, at);
}

const last = ({ messages }: HandshakeFold): string | undefined => messages.at(-1)?.name;

function addMessage(fold: HandshakeFold, name: string, bytes: number): void {
  const { messages } = fold;
  const before = messages.at(-1);
  if (before?.name === name) {
    messages[messages.length - 1] = {
      name,
      count: before.count + 1,
      bytes: before.bytes + bytes,
    };
  } else {
    messages.push({ name, count: 1, bytes });
  }
}

/** TLS 1.3 hides the type; an alert is two bytes, the type and the tag (see stream/engine.ts). */
const isAlertSized = (length: number): boolean => length === 19 || length === 11;

function isDecisive(entry: Kept): boolean {
  return entry.type === 'event' && DECISIVE.has(entry.observation.type);
}
