/** The lines of a channel: what is written, what is held back, what is on its way, and how it is cut. */
import type { Carrier, MemoryEnd } from '../transport/pair.ts';

/** What the reader of a line that is cut sees: FIN, or a connection that was reset. */
export type Cut = 'fin' | 'reset';

/** How the bytes of one write are cut up, or changed, on their way: each piece is one segment. */
export type Segmentation = (chunk: Uint8Array) => Iterable<Uint8Array>;

/** Options of a channel; each holds for both directions. */
export interface ChannelOptions {
  /** Pieces of at most 64 KiB by default, which is what one read of a socket gives. */
  readonly segments?: Segmentation | undefined;
  /**
   * When a segment that flows or is delivered arrives: at once (the default), in a turn of the event
   * loop of its own, or after so many milliseconds.
   */
  readonly delay?: 'none' | 'turn' | number | undefined;
  /** Bytes that an end buffers for its reader, and for its writer. Node's default by default. */
  readonly highWaterMark?: number | undefined;
  /** Bytes that a held line takes before it lets the writer wait; `Infinity` by default. */
  readonly capacity?: number | undefined;
  /** What an end that is destroyed looks like at the other end; 'fin' by default. */
  readonly onDestroy?: Cut | undefined;
  /** Whether lines keep what was written, as `line.sent`; true by default. */
  readonly record?: boolean | undefined;
}

function* likeTcp(chunk: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < chunk.length; at += 65_536) yield chunk.subarray(at, at + 65_536);
}

/** What waits in a line. */
type Item =
  | {
      readonly kind: 'bytes';
      readonly bytes: Buffer;
      /** Whether the writer wrote them; injected bytes have no place in the count. */
      readonly written: boolean;
      /** Lets the writer go on, where it still waits. */
      readonly done: (() => void) | null;
    }
  | { readonly kind: Cut };

/** The error of a transport that was reset, as a socket has it. */
export function resetError(): Error & { readonly code: string } {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
}

/** One direction of a channel. */
export class Line implements Carrier {
  readonly #segments: Segmentation;
  #capacity: number;
  readonly #onDestroy: Cut;
  readonly #record: boolean;
  readonly #sent: Buffer[] = [];

  #holding = false;
  /** What is held back, one item for each write. */
  #held: Item[] = [];
  /** Writers that a held line has no capacity for. */
  #waiting: Array<() => void> = [];
  readonly #delivery: Delivery;
  /** Nothing that is written passes any more. */
  #severed = false;
  /** The writer has ended its side, or is gone. */
  #ended = false;

  /** @internal */
  constructor(reader: MemoryEnd, options: ChannelOptions) {
    this.#segments = options.segments ?? likeTcp;
    this.#capacity = options.capacity ?? Number.POSITIVE_INFINITY;
    this.#onDestroy = options.onDestroy ?? 'fin';
    this.#record = options.record ?? true;
    this.#delivery = new Delivery(reader, options.delay ?? 'none', () => this.#sever());
  }

  // ---- looking

  /** Everything that was written, delivered or not. Empty with `record: false`. */
  get sent(): Buffer {
    return Buffer.concat(this.#sent);
  }

  /** How many of the written bytes the reader was given. */
  get passed(): number {
    return this.#delivery.passed;
  }

  /** The bytes that are held back. */
  get held(): Buffer {
    return Buffer.concat(this.#held.map((item) => (item.kind === 'bytes' ? item.bytes : EMPTY)));
  }

  /** What `deliverWrite` would bring: a write, an ending, or null for nothing. */
  get next(): 'bytes' | Cut | null {
    return this.#held[0]?.kind ?? null;
  }

  /** Whether it has been cut, or has delivered its end. */
  get severed(): boolean {
    return this.#severed;
  }

  // ---- the hand on the wire

  /** Holds back what is written from now on, endings too. */
  hold(): void {
    this.#holding = true;
  }

  /** Holds back what is written from now on, and lets the writer wait from its next write on. */
  clog(): void {
    this.#capacity = 0;
    this.hold();
  }

  /** Lets go: what is held back goes out, and what is written from now on flows. */
  flow(): void {
    this.#holding = false;
    for (const item of this.#held.splice(0)) this.#send(item);
    this.#letWrite();
  }

  /** Delivers up to `bytes` held bytes as one segment, across writes. @returns how many it were. */
  deliver(bytes: number = Number.POSITIVE_INFINITY): number {
    const parts: Buffer[] = [];
    let left = bytes;
    while (left > 0) {
      const item = this.#held[0];
      if (item?.kind !== 'bytes') break;
      const part = item.bytes.subarray(0, left);
      parts.push(part);
      left -= part.length;
      if (part.length === item.bytes.length) this.#held.shift();
      else this.#held[0] = { ...item, bytes: item.bytes.subarray(part.length) };
    }
    const segment = Buffer.concat(parts);
    if (segment.length > 0) {
      this.#delivery.put({ kind: 'bytes', bytes: segment, written: true, done: null });
    }
    this.#letWrite();
    return segment.length;
  }

  /** Delivers the next held write, or the ending behind the last one. @returns whether there was. */
  deliverWrite(): boolean {
    const item = this.#held.shift();
    if (item === undefined) return false;
    this.#delivery.put(item);
    this.#letWrite();
    return true;
  }

  /** Takes the bytes that are held back off the line: the reader will not get them from it. */
  take(): Buffer {
    const { held } = this;
    this.#held = this.#held.filter(({ kind }) => kind !== 'bytes');
    this.#letWrite();
    return held;
  }

  /** Hands the reader a segment that nobody wrote, behind what is on its way. */
  inject(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#delivery.put({ kind: 'bytes', bytes: Buffer.from(bytes), written: false, done: null });
  }

  /**
   * Cuts the line: nothing that is held or written from now on arrives, and the writer is not told. The
   * reader gets FIN behind what is on its way to it, or a reset, which overtakes that.
   */
  cut(how: Cut): void {
    if (this.#severed) return;
    this.#sever();
    if (how === 'fin') this.#delivery.put({ kind: how });
    else this.#delivery.finish(how);
  }

  /** Cuts the line once `offset` of the written bytes have passed, at once if they have. */
  cutAt(offset: number, how: Cut): void {
    if (this.#delivery.cutAt(offset, how)) this.cut(how);
  }

  // ---- what the ends tell it

  /** @internal */
  write(chunk: Uint8Array, done: () => void): void {
    // A copy: the writer may use its memory again.
    const bytes = Buffer.from(chunk);
    if (this.#record) this.#sent.push(bytes);
    if (this.#severed || this.#delivery.over) {
      // The network swallows it.
      process.nextTick(done);
      return;
    }
    if (this.#holding) {
      this.#held.push({ kind: 'bytes', bytes, written: true, done: null });
      this.#waiting.push(done);
      this.#letWrite();
      return;
    }
    this.#send({ kind: 'bytes', bytes, written: true, done });
  }

  /** @internal */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#holding) this.#held.push({ kind: 'fin' });
    else this.#send({ kind: 'fin' });
  }

  /** @internal */
  gone(): void {
    if (this.#ended && this.#onDestroy === 'fin') return;
    this.#ended = true;
    const item: Item = { kind: this.#onDestroy };
    if (this.#holding) this.#held.push(item);
    else process.nextTick(() => this.#send(item));
  }

  /** @internal */
  room(): void {
    if (this.#delivery.over) this.#dropHeld();
    this.#delivery.room();
  }

  // ---- moving

  /** Cuts a write into segments and puts them on their way; its writer goes on behind the last. */
  #send(item: Item): void {
    if (item.kind !== 'bytes') {
      this.#delivery.put(item);
      return;
    }
    for (const piece of this.#segments(item.bytes)) {
      this.#delivery.add({ kind: 'bytes', bytes: Buffer.from(piece), written: true, done: null });
    }
    this.#delivery.put({ kind: 'bytes', bytes: EMPTY, written: true, done: item.done });
  }

  /** Lets writers go on for as long as what is held is within the capacity. */
  #letWrite(): void {
    let held = this.#held.reduce(
      (sum, item) => sum + (item.kind === 'bytes' ? item.bytes.length : 0),
      0,
    );
    if (!this.#holding || this.#severed) held = 0;
    if (held > this.#capacity) return;
    for (const done of this.#waiting.splice(0)) process.nextTick(done);
  }

  /** Nothing passes any more. */
  #sever(): void {
    this.#severed = true;
    this.#dropHeld();
  }

  /** Nobody gets it; the writers go on all the same. */
  #dropHeld(): void {
    this.#held = [];
    this.#letWrite();
  }
}

/** What is on its way to the reader, one item for each segment. */
class Delivery {
  readonly #reader: MemoryEnd;
  readonly #delay: 'none' | 'turn' | number;
  readonly #onFinish: () => void;
  readonly #moving: Item[] = [];
  /** The reader's buffer is full. */
  #full = false;
  #pumping = false;
  #scheduled = false;
  #passed = 0;
  #cutAt: { readonly offset: number; readonly how: Cut } | null = null;

  /** @param onFinish told when the reader is about to get its ending. */
  constructor(reader: MemoryEnd, delay: 'none' | 'turn' | number, onFinish: () => void) {
    this.#reader = reader;
    this.#delay = delay;
    this.#onFinish = onFinish;
  }

  /** How many of the written bytes the reader was given. */
  get passed(): number {
    return this.#passed;
  }

  /** Whether nobody reads any more. */
  get over(): boolean {
    return this.#reader.destroyed;
  }

  /** Ends once so many of the written bytes have passed. @returns whether they have. */
  cutAt(offset: number, how: Cut): boolean {
    this.#cutAt = { offset, how };
    return this.#passed >= offset;
  }

  /** Puts it behind what is on its way; what comes behind it sets all in motion. */
  add(item: Item): void {
    this.#moving.push(item);
  }

  /** Puts it behind what is on its way, and hands over what the reader takes. */
  put(item: Item): void {
    this.#moving.push(item);
    this.#pump();
  }

  #pump(): void {
    if (this.#pumping || this.#scheduled) return;
    if (this.#delay !== 'none') {
      this.#schedule(this.#delay);
      return;
    }
    this.#pumping = true;
    try {
      while (this.#one());
    } finally {
      this.#pumping = false;
    }
  }

  #schedule(delay: 'turn' | number): void {
    if (this.#moving.length === 0 || this.#full) return;
    this.#scheduled = true;
    const run = () => {
      this.#scheduled = false;
      this.#one();
      this.#pump();
    };
    if (delay === 'turn') setImmediate(run);
    else setTimeout(run, delay);
  }

  /** Hands over one segment. @returns whether to go on. */
  #one(): boolean {
    if (this.#full) return false;
    const item = this.#moving.shift();
    if (item === undefined) return false;
    if (item.kind !== 'bytes') {
      this.finish(item.kind);
      return false;
    }
    if (item.done !== null) process.nextTick(item.done);
    let { bytes } = item;
    const cut = item.written ? this.#cutAt : null;
    const reached = cut !== null && this.#passed + bytes.length >= cut.offset;
    if (reached) bytes = bytes.subarray(0, cut.offset - this.#passed);
    if (item.written) this.#passed += bytes.length;
    if (bytes.length > 0 && !this.#reader.arrive(bytes)) this.#full = true;
    if (reached) this.finish(cut.how);
    return !this.#full;
  }

  /** The reader has room again, or is gone. */
  room(): void {
    this.#full = false;
    if (this.over) this.#drop();
    else this.#pump();
  }

  /** The reader gets its ending, and nobody what is still on its way. */
  finish(how: Cut): void {
    this.#onFinish();
    this.#drop();
    if (how === 'fin') this.#reader.arriveEnd();
    else this.#reader.destroy(resetError());
  }

  /** Nobody gets it; the writers go on all the same. */
  #drop(): void {
    for (const item of this.#moving.splice(0)) {
      if (item.kind === 'bytes' && item.done !== null) process.nextTick(item.done);
    }
  }
}

const EMPTY = Buffer.alloc(0);
