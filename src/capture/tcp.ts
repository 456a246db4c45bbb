/**
 * From captured segments to connections, and to the two byte streams of one of them.
 *
 * Theory of operation. A capture has segments in the order in which they passed, which is neither
 * complete nor free of repetition. Each direction is put together as its receiver would: by sequence
 * number, which wraps around, from the number that SYN named. What comes too early waits for what is
 * missing. What never comes, because the capture lacks it, becomes a gap once the waiting has grown
 * too large or the capture is over, and is told of as such: after a gap nobody can say what crossed.
 *
 * Where segments overlap, what came first stays. Endpoints differ in this, and somebody on the path
 * can make use of that to show the capture other bytes than the receiver took; but TLS authenticates
 * what is put together here, so such bytes end in a record that cannot be read, not in a false one.
 */
import type { Segment } from './packet.ts';

/** Which end of a TCP connection: 0 opened it. */
export type End = 0 | 1;

/** What happened in one direction of a connection. Times are nanoseconds. */
export type TcpEvent =
  | { readonly type: 'data'; readonly from: End; readonly at: bigint; readonly bytes: Uint8Array }
  /** Bytes that crossed, or must have, and were not captured. */
  | { readonly type: 'gap'; readonly from: End; readonly at: bigint; readonly length: number }
  | { readonly type: 'open' | 'fin' | 'rst'; readonly from: End; readonly at: bigint };

/** A connection of a capture, before anybody looked into it. */
export interface TcpConnection {
  /** Counted from 1, in the order of first packets. */
  readonly number: number;
  /** Address and port of who opened it, and of who took it. */
  readonly client: string;
  readonly server: string;
  /** Nanoseconds since 1970 of its first packet. */
  readonly at: bigint;
  /** Segments of it. */
  readonly packets: number;
  /** Payload bytes of them, repetitions included. */
  readonly bytes: number;
  /** Whether a TLS handshake begins in it. */
  readonly tls: boolean;
}

/** A connection while its packets are counted. */
type Counted = { -readonly [Key in keyof TcpConnection]: TcpConnection[Key] } & {
  /** The number in its opener's SYN; null where that was not captured. */
  initial: number | null;
};

/** Connections that are told apart; packets of more are not looked at. */
const MAX_CONNECTIONS = 65_536;

/** Tells the connections of a capture apart. */
export class ConnectionTable {
  readonly #connections: Counted[] = [];
  /** The latest connection between two ends. */
  readonly #latest = new Map<string, Counted>();
  /** Segments of connections beyond what is told apart. */
  ignored = 0;

  /** All so far, in the order of their first packets. */
  get connections(): readonly TcpConnection[] {
    return this.#connections;
  }

  /**
   * The connection of a segment.
   *
   * @returns its number, and which end sent the segment; null for one too many.
   */
  place(segment: Segment, at: bigint): { number: number; from: End } | null {
    const { source, destination } = segment;
    const key = source < destination ? `${source} ${destination}` : `${destination} ${source}`;
    let connection = this.#latest.get(key);
    // The same two ports again, for another connection.
    const opens = segment.syn && !segment.ack;
    if (connection === undefined || (opens && connection.initial !== segment.sequence)) {
      if (this.#connections.length === MAX_CONNECTIONS) {
        this.ignored++;
        return null;
      }
      connection = this.#begin(segment, at);
      this.#latest.set(key, connection);
    }
    connection.packets++;
    connection.bytes += segment.length;
    connection.tls ||= beginsTls(segment.payload);
    return { number: connection.number, from: source === connection.client ? 0 : 1 };
  }

  #begin(segment: Segment, at: bigint): Counted {
    const { source, destination } = segment;
    const opens = segment.syn && !segment.ack;
    // Without its beginning: servers have the lower port.
    const fromServer = segment.syn
      ? segment.ack
      : segment.sourcePort < segment.destinationPort && !startsClientHello(segment.payload);
    const [client, server] = fromServer ? [destination, source] : [source, destination];
    const connection: Counted = {
      number: this.#connections.length + 1,
      client,
      server,
      at,
      packets: 0,
      bytes: 0,
      tls: false,
      initial: opens ? segment.sequence : null,
    };
    this.#connections.push(connection);
    return connection;
  }
}

/** Whether bytes begin with the record of a ClientHello. */
export function startsClientHello(bytes: Uint8Array): boolean {
  return startsHandshake(bytes) && bytes[5] === 1;
}

/** Whether bytes begin with a handshake record of a ClientHello or ServerHello. */
export function startsHandshake(bytes: Uint8Array): boolean {
  return (
    bytes.length >= 6 &&
    bytes[0] === 22 &&
    bytes[1] === 3 &&
    (bytes[2] as number) <= 4 &&
    (bytes[5] === 1 || bytes[5] === 2)
  );
}

const beginsTls = startsClientHello;

/** Bytes of one direction that wait for what is missing before them. */
const MAX_WAITING = 4 << 20;

/** Segments that wait. */
const MAX_WAITING_SEGMENTS = 4_096;

/** No window of TCP is larger (RFC 7323): a receiver drops what lies further off. */
const MAX_WINDOW = 1 << 30;

interface Waiting {
  /** Its place in the stream. */
  readonly from: number;
  readonly bytes: Uint8Array;
}

/** One direction. */
class Half {
  readonly #end: End;
  readonly #report: (event: TcpEvent) => void;
  /** The place of the next byte, counted from the direction's first. */
  #next = 0;
  /** The sequence number of place 0; null before anything was captured. */
  #base: number | null = null;
  /** By place. */
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #fin: number | null = null;
  #over = false;
  #reset = false;

  constructor(end: End, report: (event: TcpEvent) => void) {
    this.#end = end;
    this.#report = report;
  }

  take(segment: Segment, at: bigint): void {
    // Behind FIN only RST can come, where the other side still sends.
    if (this.#reset || (this.#over && !segment.rst)) return;
    const { syn, payload, length } = segment;
    const first = (segment.sequence + (syn ? 1 : 0)) >>> 0;
    if (this.#base === null) this.#base = first;
    const place = this.#placeOf(first);
    if (segment.rst) {
      // "If the RST bit is set and the sequence number is outside the current receive window,
      // silently drop the segment" (RFC 9293 section 3.10.7.4). The number before the next is that
      // of a FIN that was captured.
      if (place < this.#next - 1 || place > this.#next + MAX_WINDOW) return;
      if (!this.#over) this.#giveUpWaiting(at);
      this.#over = true;
      this.#reset = true;
      this.#report({ type: 'rst', from: this.#end, at });
      return;
    }
    if (place > this.#next + MAX_WINDOW) return;
    if (payload.length > 0) this.#data(place, payload, at);
    if (segment.fin) this.#fin ??= place + length;
    this.#finish(at);
  }

  /** The capture is over: what waits will not be reached any more. */
  end(at: bigint): void {
    if (this.#over) return;
    this.#giveUpWaiting(at);
    this.#gapTo(this.#fin, at);
    this.#finish(at);
  }

  /** A sequence number's place, near the next: numbers wrap around at 2^32. */
  #placeOf(sequence: number): number {
    const expected = ((this.#base ?? 0) + this.#next) >>> 0;
    return this.#next + ((sequence - expected) | 0);
  }

  #data(place: number, payload: Uint8Array, at: bigint): void {
    if (place > this.#next) {
      this.#wait(place, payload, at);
      return;
    }
    // What is here already was sent again.
    this.#deliver(payload.subarray(Math.min(payload.length, this.#next - place)), at);
    this.#resume(at);
  }

  #deliver(bytes: Uint8Array, at: bigint): void {
    // FIN is the last thing that a side sends: what claims to lie behind it is not its own.
    const room = this.#fin === null ? bytes.length : Math.max(0, this.#fin - this.#next);
    const fitting = bytes.subarray(0, room);
    if (fitting.length === 0) return;
    this.#next += fitting.length;
    this.#report({ type: 'data', from: this.#end, at, bytes: fitting });
  }

  #wait(place: number, payload: Uint8Array, at: bigint): void {
    let index = this.#waiting.length;
    while (index > 0 && (this.#waiting[index - 1] as Waiting).from > place) index--;
    // Sent again while it waits: one of them is enough.
    const before = this.#waiting[index - 1];
    if (before?.from === place && before.bytes.length >= payload.length) return;
    // A copy, which does not hold the chunk of the file that it came in.
    this.#waiting.splice(index, 0, { from: place, bytes: Uint8Array.from(payload) });
    this.#waitingBytes += payload.length;
    if (this.#waitingBytes > MAX_WAITING || this.#waiting.length > MAX_WAITING_SEGMENTS) {
      this.#giveUpWaiting(at);
    }
  }

  /** Delivers what waited for nothing but what is there now. */
  #resume(at: bigint): void {
    let count = 0;
    for (const { from, bytes } of this.#waiting) {
      if (from > this.#next) break;
      count++;
      this.#waitingBytes -= bytes.length;
      this.#deliver(bytes.subarray(Math.min(bytes.length, this.#next - from)), at);
    }
    if (count > 0) this.#waiting.splice(0, count);
  }

  #giveUpWaiting(at: bigint): void {
    while (this.#waiting.length > 0) {
      this.#gapTo((this.#waiting[0] as Waiting).from, at);
      this.#resume(at);
    }
  }

  #gapTo(place: number | null, at: bigint): void {
    if (place === null || place <= this.#next) return;
    const length = place - this.#next;
    this.#next = place;
    this.#report({ type: 'gap', from: this.#end, at, length });
  }

  #finish(at: bigint): void {
    if (this.#fin === null || this.#next < this.#fin) return;
    this.#over = true;
    this.#report({ type: 'fin', from: this.#end, at });
  }
}

/** Puts the two directions of one connection together. */
export class TcpStreams {
  readonly #halves: readonly [Half, Half];
  readonly #report: (event: TcpEvent) => void;
  #opened = false;
  #last = 0n;

  constructor(report: (event: TcpEvent) => void) {
    this.#report = report;
    this.#halves = [new Half(0, report), new Half(1, report)];
  }

  /** A segment that `from` sent. */
  take(segment: Segment, from: End, at: bigint): void {
    // Clocks are set, and captures of several interfaces merged: time only goes on here.
    if (at > this.#last) this.#last = at;
    if (!this.#opened && segment.syn && segment.ack) {
      this.#opened = true;
      this.#report({ type: 'open', from, at: this.#last });
    }
    this.#halves[from].take(segment, this.#last);
  }

  /** The capture is over. */
  end(): void {
    for (const half of this.#halves) half.end(this.#last);
  }
}
