/**
 * The saved form of a transcript: what `schema/transcript.schema.json` publishes, as types, and the
 * reader that holds strangers' files to it. A test holds the reader and the schema to each other.
 *
 * The reader copies field by field what it knows and refuses the rest, so that nothing that a file
 * smuggles in gets any further.
 */
import type { Verdict } from '../closure/verdict.ts';
import { OptionError } from '../errors.ts';
import type { TranscriptEntry } from './entries.ts';
import type { Direction, Observation } from './observer.ts';

/** A transcript as JSON has it. */
export interface TranscriptJson {
  readonly format: 'close-notify-transcript';
  readonly version: 1;
  /** What to call the party whose view it is, and the other one; null without names. */
  readonly local: string | null;
  readonly peer: string | null;
  /** Who the party is in the handshake. */
  readonly role: 'client' | 'server' | null;
  /** The TLS version, such as `TLSv1.3`. */
  readonly protocol: string | null;
  readonly verdict: Verdict;
  /** When the connection began, in milliseconds since 1970 (UTC). */
  readonly origin: number | null;
  /** Entries before the first that was dropped. */
  readonly head: number;
  /** How many were dropped. */
  readonly dropped: number;
  readonly entries: readonly TranscriptEntry[];
  /** Lines of the key log (RFC 9850); only where the transcript was made to keep them. */
  readonly secrets?: readonly string[];
}

/** The longest text of a saved transcript, in characters. */
const MOST_TEXT = 1_000;
/** The most entries of one. */
const MOST_ENTRIES = 100_000;
/** The most messages of an entry, and lines of a key log. */
const MOST_ITEMS = 1_000;

/** What a saved transcript has room for. */
export const cutText = (text: string): string => [...String(text)].slice(0, MOST_TEXT).join('');

/** An entry to save: a copy, in which no text of a peer's or a transport's is too long. */
export function savedEntry(entry: TranscriptEntry): TranscriptEntry {
  const copy = structuredClone(entry) as { -readonly [Key in keyof TranscriptEntry]: unknown };
  return shorten(copy) as TranscriptEntry;
}

function shorten(value: unknown): unknown {
  if (typeof value === 'string') return cutText(value);
  if (Array.isArray(value)) return value.map(shorten);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, one]) => one !== undefined);
  return Object.fromEntries(kept.map(([key, one]) => [key, shorten(one)]));
}

const VERDICTS: readonly Verdict[] = [
  ...(['open', 'secure', 'one-sided', 'truncated', 'alert', 'aborted', 'timed-out'] as const),
];
const DIRECTIONS: readonly Direction[] = ['sent', 'received'];
const PLACES = ['handshake', 'record-boundary', 'inside-record', 'unknown'] as const;

/** @throws {OptionError} which says where the value departs from the form. */
export function readTranscriptJson(json: unknown): TranscriptJson {
  const top = new Fields(json, '');
  const read: TranscriptJson = {
    format: top.one('format', ['close-notify-transcript']),
    version: top.one('version', [1]),
    local: top.nullable('local', (at) => at.text('local')),
    peer: top.nullable('peer', (at) => at.text('peer')),
    role: top.nullable('role', (at) => at.one('role', ['client', 'server'])),
    protocol: top.nullable('protocol', (at) => at.text('protocol')),
    verdict: top.one('verdict', VERDICTS),
    origin: top.nullable('origin', (at) => at.number('origin')),
    head: top.count('head'),
    dropped: top.count('dropped'),
    entries: top.list('entries', MOST_ENTRIES, readEntry),
    ...top.optional('secrets', (at) => ({
      secrets: at.list('secrets', MOST_ITEMS, (one, path) => text(one, path)),
    })),
  };
  top.done();
  if (read.head > read.entries.length) fail('/head', 'must not be more than there are entries');
  return read;
}

function readEntry(json: unknown, path: string): TranscriptEntry {
  const entry = new Fields(json, path);
  const times = { at: entry.number('at'), until: entry.number('until') };
  const type = entry.one('type', ['traffic', 'handshake', 'event', 'unreadable', 'note']);
  const read = (): TranscriptEntry => {
    switch (type) {
      case 'traffic':
        return {
          ...{ type, ...times, direction: entry.one('direction', DIRECTIONS) },
          records: entry.count('records'),
          wireBytes: entry.count('wireBytes'),
          calls: entry.count('calls'),
          bytes: entry.count('bytes'),
          decrypted: entry.boolean('decrypted'),
        };
      case 'handshake':
        return {
          ...{ type, ...times, direction: entry.one('direction', DIRECTIONS) },
          records: entry.count('records'),
          wireBytes: entry.count('wireBytes'),
          messages: entry.list('messages', MOST_ITEMS, (one, at) => {
            const message = new Fields(one, at);
            const copy = {
              name: message.text('name'),
              count: message.count('count'),
              bytes: message.count('bytes'),
            };
            message.done();
            return copy;
          }),
          post: entry.boolean('post'),
        };
      case 'event':
        return {
          ...{ type, ...times, observation: readObservation(entry.take('observation'), path) },
          ...entry.optional('record', (at) => {
            const record = new Fields(at.take('record'), `${path}/record`);
            const copy = {
              contentType: record.byte('contentType'),
              length: record.count('length'),
              protected: record.boolean('protected'),
              level: record.one('level', ['warning', 'fatal']),
            };
            record.done();
            return { record: copy };
          }),
        };
      case 'unreadable':
        return {
          ...{ type, ...times, direction: entry.one('direction', DIRECTIONS) },
          reason: entry.text('reason'),
        };
      case 'note':
        return { type, ...times, text: entry.text('text') };
    }
  };
  const copy = read();
  entry.done();
  return copy;
}

function readObservation(json: unknown, entryPath: string): Observation {
  const path = `${entryPath}/observation`;
  const fields = new Fields(json, path);
  const type = fields.one('type', [
    ...(['phase', 'call', 'alert', 'close-notify', 'transport-eof', 'transport-reset'] as const),
    ...(['transport-error', 'transport-closed', 'deadline', 'trailing', 'verdict'] as const),
  ]);
  const read = (): Observation => {
    switch (type) {
      case 'phase':
        return {
          ...{ type, name: fields.one('name', ['resolve', 'connect', 'handshake']) },
          ...fields.optional('protocol', (at) => ({ protocol: at.text('protocol') })),
        };
      case 'call':
        return {
          type,
          name: fields.one('name', ['shutdown', 'close', 'abort', 'unwrap', 'cancel']),
          detail: fields.nullable('detail', (at) => at.text('detail')),
        };
      case 'alert': {
        const direction = fields.one('direction', DIRECTIONS);
        const alert = new Fields(fields.take('alert'), `${path}/alert`);
        const copy = {
          code: alert.nullable('code', (at) => at.byte('code')),
          name: alert.text('name'),
          authenticated: alert.boolean('authenticated'),
        };
        alert.done();
        return { type, direction, alert: copy };
      }
      case 'close-notify':
        return { type, direction: fields.one('direction', DIRECTIONS) };
      case 'transport-eof':
        return { type, where: fields.one('where', PLACES) };
      case 'transport-reset':
      case 'transport-error':
        return { type, where: fields.one('where', PLACES), code: fields.text('code') };
      case 'transport-closed':
        return { type, how: fields.one('how', ['end', 'destroy']) };
      case 'deadline':
        return {
          ...{ type, phase: fields.text('phase') },
          ...fields.optional('ms', (at) => ({ ms: at.number('ms') })),
        };
      case 'trailing':
        return { type, bytes: fields.count('bytes') };
      case 'verdict':
        return { type, verdict: fields.one('verdict', VERDICTS) };
    }
  };
  const copy = read();
  fields.done();
  return copy;
}

/** The fields of an object that is not trusted, each looked at before it is used. */
class Fields {
  readonly #object: Readonly<Record<string, unknown>>;
  readonly #path: string;
  readonly #taken = new Set<string>();

  constructor(json: unknown, path: string) {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      fail(path, 'must be an object');
    }
    this.#object = json as Readonly<Record<string, unknown>>;
    this.#path = path;
  }

  /** The value as it is, which must be there. */
  take(name: string): unknown {
    this.#taken.add(name);
    // Never what an object inherits.
    if (!Object.hasOwn(this.#object, name)) fail(`${this.#path}/${name}`, 'is missing');
    return this.#object[name];
  }

  text(name: string): string {
    return text(this.take(name), `${this.#path}/${name}`);
  }

  number(name: string): number {
    const value = this.take(name);
    if (typeof value !== 'number' || !Number.isFinite(value) || Math.abs(value) > MOST_MS) {
      return fail(`${this.#path}/${name}`, 'must be a number of milliseconds');
    }
    return value;
  }

  count(name: string): number {
    const value = this.take(name);
    if (!Number.isSafeInteger(value) || (value as number) < 0) {
      fail(`${this.#path}/${name}`, 'must be a whole number, not negative');
    }
    return value as number;
  }

  byte(name: string): number {
    const value = this.count(name);
    if (value > 255) fail(`${this.#path}/${name}`, 'must be at most 255');
    return value;
  }

  boolean(name: string): boolean {
    const value = this.take(name);
    if (typeof value !== 'boolean') fail(`${this.#path}/${name}`, 'must be true or false');
    return value as boolean;
  }

  one<const T>(name: string, values: readonly T[]): T {
    const value = this.take(name);
    const found = values.indexOf(value as T);
    if (found < 0) fail(`${this.#path}/${name}`, `must be ${values.join(' or ')}`);
    return values[found] as T;
  }

  nullable<T>(name: string, read: (fields: Fields) => T): T | null {
    return this.take(name) === null ? null : read(this);
  }

  optional<T extends object>(name: string, read: (fields: Fields) => T): T | Record<never, never> {
    return Object.hasOwn(this.#object, name) ? read(this) : {};
  }

  list<T>(name: string, most: number, read: (one: unknown, path: string) => T): T[] {
    const path = `${this.#path}/${name}`;
    const value = this.take(name);
    if (!Array.isArray(value)) return fail(path, 'must be a list');
    if (value.length > most) fail(path, `must have at most ${most} items`);
    return value.map((one, index) => read(one, `${path}/${index}`));
  }

  /** @throws {OptionError} if there is a field that nobody asked for. */
  done(): void {
    const unknown = Object.keys(this.#object).find((name) => !this.#taken.has(name));
    if (unknown !== undefined) {
      fail(this.#path, `must not have the field ${JSON.stringify(cutText(unknown))}`);
    }
  }
}

/** Times further from zero than this are none: some 30,000 years. */
const MOST_MS = 1e15;

function text(value: unknown, path: string): string {
  if (typeof value !== 'string') return fail(path, 'must be a text');
  // A code unit may be half a character, so no text is longer than its length.
  if (value.length > MOST_TEXT && [...value].length > MOST_TEXT) {
    fail(path, `must have at most ${MOST_TEXT} characters`);
  }
  return value;
}

function fail(path: string, problem: string): never {
  throw new OptionError(`not a transcript: ${path === '' ? 'it' : path} ${problem}`);
}
