/**
 * One transcript read into the rows that its party can tell of: what its application did, what it sent and received,
 * and how its transport ended.
 */
import type { CutPoint } from '../closure/machine.ts';
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
import type { ArrowRow, Detail, Lane, Row, StepRow } from './drawing.ts';
import { type Draft, other } from './order.ts';
import { count, durationText } from './words.ts';

/** How transcripts are read. */
export interface Reading {
  /** The text of the handshake's row. */
  readonly span: string;
  readonly opening: boolean;
  readonly idle: boolean;
}

/** Reads one transcript into the rows that its party can tell of. */
export class LaneReader {
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
    // Where no data crossed, none was cut; but for half a record, which somebody began.
    const harmless = this.#idle && where === 'record-boundary';
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
      tone: fine ? 'quiet' : harmless ? 'warn' : 'bad',
      text: fine
        ? name
        : where === 'handshake'
          ? `${name}${place}`
          : `${name}${place} without close_notify`,
      details,
    });
    if (!fine && !harmless && end === 'received' && where !== 'handshake') this.#tear(at);
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
