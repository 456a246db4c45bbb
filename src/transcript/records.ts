/**
 * The records of a connection, told as entries: by their headers alone, or read along with the bytes and the key log.
 *
 * Theory of operation. Headers wait for what is in their records, in a queue for each direction, since a key may come
 * later than the record that needs it; whatever happens next in that direction ends the wait, and the record is then
 * one whose content is not known (`settle`). An alert has two tellers, the stream and the decoder, and either may be
 * first: who comes second finds the entry and adds to it (`told`, `expect`).
 */
import { type Decoded, WireDecoder } from '../record/decoder.ts';
import { HANDSHAKE_TYPE, handshakeName } from '../record/handshake.ts';
import { parseKeyLogLine } from '../record/keys.ts';
import { CONTENT_TYPE, RecordScanner } from '../record/record.ts';
import type { RecordDetail } from './entries.ts';
import type { Event, Fold, HandshakeFold, KeptEntries } from './kept-entries.ts';
import type { Direction, Observation } from './observer.ts';
import { cutText } from './transcript-json.ts';

type AlertObservation = Extract<Observation, { type: 'alert' | 'close-notify' }>;

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

/** Records of a direction that may wait for a key. */
const MOST_WAITING = 64;

/** Kinds of messages in one entry. No handshake needs as many; a hostile one would. */
const MOST_MESSAGES = 32;

/** Lines of the key log that are kept, or wait for the first byte: a connection has five, each of its renegotiations one more. */
export const MOST_SECRETS = 64;

/** Tells of records, in entries that it keeps. */
export class RecordTeller {
  readonly #kept: KeptEntries;
  /** Who this party is in the handshake: known from the first byte that was read along. */
  role: 'client' | 'server' | null = null;
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
  #early: string[] = [];
  /** The time of the bytes that are being read. */
  #now = 0;
  /** The length of the last record in each direction whose content is not known. */
  readonly #lastRecord: Record<Direction, { fold: Fold; length: number } | null> = {
    sent: null,
    received: null,
  };
  /** An alert was told of before its record: the next record of this direction is it. */
  readonly #recordToCome: Record<Direction, boolean> = { sent: false, received: false };

  constructor(kept: KeptEntries) {
    this.#kept = kept;
  }

  /** Bytes of one direction, to read along. */
  push(direction: Direction, bytes: Uint8Array, at: number): void {
    const decoder = this.#decoder ?? this.#begin(direction, bytes);
    if (decoder === null) return;
    this.#now = at;
    const reading = this.#readings[direction];
    for (let from = 0; from < bytes.length; ) from = reading.scanner.take(bytes, from);
    if (!reading.unreadable) decoder.push(this.#sender(direction), bytes);
    if (reading.unreadable || reading.waiting.length > MOST_WAITING) this.settle(direction);
  }

  /** A line of the key log, which may come before the first byte. */
  addSecret(line: string): void {
    if (this.#decoder !== null) this.#addSecret(line);
    else if (this.#early.length < MOST_SECRETS) this.#early.push(line);
  }

  /** A record that crossed, by its header. Where the bytes are at hand, they tell of it themselves. */
  observe(record: Extract<Observation, { type: 'record' }>, at: number): void {
    if (this.#decoder === null) this.#record(record, at);
  }

  /** Ends the wait for keys in one direction: tells of its records by their headers. */
  settle(direction: Direction): void {
    const reading = this.#readings[direction];
    for (const { at, contentType, length } of reading.waiting.splice(0)) {
      if (!reading.unreadable) reading.passed++;
      this.#record({ direction, contentType, length }, at);
    }
  }

  /** The stream tells of an alert. @returns whether it was read already, and so has an entry. */
  told(observation: AlertObservation, at: number): boolean {
    this.settle(observation.direction);
    if (this.#confirm(observation, at)) return true;
    this.#takeBack(observation);
    return false;
  }

  /** The stream has told of this alert first: its record may still be read. */
  expect(direction: Direction, entry: Event): void {
    this.#readings[direction].unseen = entry;
  }

  /** Whether this is the alert that was read a moment ago. */
  #confirm(observation: AlertObservation, at: number): boolean {
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

  /** The alert's own record, which is the last one of that direction, is not one of data. */
  #takeBack({ type, direction }: AlertObservation): void {
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
    if (fold.records === 0 && (fold.type === 'handshake' || fold.calls === 0))
      this.#kept.remove(fold);
  }

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

  /** The first byte of TLS comes from the client, and begins a record of the handshake. */
  #begin(direction: Direction, bytes: Uint8Array): WireDecoder | null {
    if (bytes[0] !== CONTENT_TYPE.handshake) return null;
    this.role = direction === 'sent' ? 'client' : 'server';
    const decoder = new WireDecoder((decoded) => this.#onDecoded(decoded));
    this.#decoder = decoder;
    for (const line of this.#early.splice(0)) this.#addSecret(line);
    // What its header has told of already, its bytes tell again.
    for (const { fold } of Object.values(this.#lastRecord).filter((last) => last !== null)) {
      this.#kept.remove(fold);
    }
    return decoder;
  }

  #addSecret(line: string): void {
    const entry = parseKeyLogLine(line);
    if (entry !== null) this.#decoder?.addSecret(entry);
  }

  #sender(direction: Direction): 'client' | 'server' {
    return (direction === 'sent') === (this.role === 'client') ? 'client' : 'server';
  }

  #onDecoded(decoded: Decoded): void {
    const direction = decoded.sender === this.role ? 'sent' : 'received';
    const reading = this.#readings[direction];
    switch (decoded.type) {
      case 'record': {
        const header = this.#headerOf(reading);
        if (header === null) return;
        this.#lastRecord[direction] = null;
        const { contentType } = decoded;
        if (contentType === CONTENT_TYPE.applicationData) {
          count(this.#kept.traffic(direction, header.at, true), header);
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
          const fold = this.#kept.handshake(direction, header.at, post);
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
        this.#kept.add(entry);
        reading.unconfirmed = entry;
        return;
      }
      case 'unreadable':
        reading.unreadable = true;
        this.#kept.add({
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
      state.fold = this.#kept.handshake(direction, this.#now, state.post, true);
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
        ? this.#kept.traffic(direction, at, false)
        : this.#kept.handshake(direction, at, false);
    count(fold, { at, length });
    this.#lastRecord[direction] = { fold, length };
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

/** TLS 1.3 hides which record is an alert: its two bytes, the hidden type and a tag of 16 or 8 bytes are all of it. */
const isAlertSized = (length: number): boolean => length === 19 || length === 11;
