/**
 * Two ends of a transport in memory: what is written at one is read at the other.
 *
 * An end knows how to be a Duplex; what is in between is a `Carrier`. The one here hands everything
 * straight over; `close-notify/testing` has one that can be held, cut and looked at.
 */
import { Duplex } from 'node:stream';

/** What carries the bytes of one direction. */
export interface Carrier {
  /** Takes one write; `done` lets the writer go on. The bytes are the writer's again after that. */
  write(chunk: Uint8Array, done: () => void): void;
  /** The writer has ended its side. */
  end(): void;
  /** The writer is gone; it may have ended before. */
  gone(): void;
  /** The reader has room. */
  room(): void;
}

/** One end. Its carriers are set once both ends are there. */
export class MemoryEnd extends Duplex {
  /** Takes what is written here. */
  outgoing: Carrier | null = null;
  /** Is told when this end has room for more. */
  incoming: Carrier | null = null;
  #over = false;

  constructor(highWaterMark?: number) {
    super({ allowHalfOpen: true, ...(highWaterMark === undefined ? {} : { highWaterMark }) });
  }

  /** Hands bytes to the reader. @returns whether it has room for more. */
  arrive(chunk: Uint8Array): boolean {
    return this.#over || this.destroyed || this.push(chunk);
  }

  /** Nothing more comes: the reader sees FIN. */
  arriveEnd(): void {
    if (this.#over || this.destroyed) return;
    this.#over = true;
    this.push(null);
  }

  /** @internal */
  override _read(): void {
    this.incoming?.room();
  }

  /** @internal */
  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    this.outgoing?.write(chunk, done);
  }

  /** @internal */
  override _final(done: () => void): void {
    this.outgoing?.end();
    done();
  }

  /** @internal */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.outgoing?.gone();
    // Nobody reads here any more: whoever waits for room would wait for ever.
    this.incoming?.room();
    done(error);
  }
}

/** Joins two ends, each with the carrier of what it writes. */
export function join(a: MemoryEnd, b: MemoryEnd, forth: Carrier, back: Carrier): void {
  a.outgoing = b.incoming = forth;
  b.outgoing = a.incoming = back;
}

/** Hands everything straight to `reader`; a writer that is gone has ended, as with TCP. */
class Straight implements Carrier {
  readonly #reader: MemoryEnd;
  /** Lets the writer go on once the reader has taken what was written. */
  #waiting: (() => void) | null = null;

  constructor(reader: MemoryEnd) {
    this.#reader = reader;
  }

  write(chunk: Uint8Array, done: () => void): void {
    if (this.#reader.arrive(chunk)) process.nextTick(done);
    else this.#waiting = done;
  }

  end(): void {
    this.#reader.arriveEnd();
  }

  gone(): void {
    process.nextTick(() => this.#reader.arriveEnd());
  }

  room(): void {
    const done = this.#waiting;
    this.#waiting = null;
    if (done !== null) process.nextTick(done);
  }
}

/** A connected pair of transports, with backpressure and half-close. */
export function memoryPair(): [Duplex, Duplex] {
  const a = new MemoryEnd();
  const b = new MemoryEnd();
  join(a, b, new Straight(b), new Straight(a));
  return [a, b];
}
