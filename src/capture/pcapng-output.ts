/**
 * What becomes of that which is to be written: kept until somebody asks for the file, within a limit, or rendered at
 * once and handed on, piece by piece.
 */
import { header, secretsBlock, statisticsBlock } from './pcapng-block.ts';
import type { Ends } from './pcapng-packet.ts';
import { type Event, type From, Renderer } from './pcapng-renderer.ts';

/** Takes what happened on a connection, and makes a file of it. */
export interface Output {
  /** How many packets were not kept, because there were too many bytes. */
  readonly dropped: number;
  /** A line of the key log, with its newline. */
  secret(line: string): void;
  add(event: Event): void;
  /** The handshake is complete: no secret of it is still to come. */
  established(): void;
  /**
   * The file so far; empty where it was handed on.
   *
   * @param ends whose packets they are.
   * @param at the time of the last thing that happened, in nanoseconds since 1970.
   */
  bytes(ends: Ends, at: bigint): Uint8Array;
}

/** What a packet costs beside its bytes, about. */
const PACKET_COST = 128;

/** Keeps everything, up to a limit in bytes. */
export class Kept implements Output {
  readonly #limit: number;
  readonly #secrets: string[] = [];
  readonly #events: Event[] = [];
  #size = 0;
  #dropped = 0;
  /** Where each side's packets that were not kept are told of. */
  readonly #drops: Record<From, number | null> = { local: null, peer: null };

  constructor(limit: number) {
    this.#limit = limit;
  }

  get dropped(): number {
    return this.#dropped;
  }

  secret(line: string): void {
    this.#secrets.push(line);
  }

  add(event: Event): void {
    const traffic = event.type === 'data' || event.type === 'unseen';
    const size = PACKET_COST + (event.type === 'data' ? event.bytes.length : 0);
    // How the connection began and ended is kept whatever came between.
    if (traffic && (this.#dropped > 0 || this.#size + size > this.#limit)) {
      this.#drop(event);
      return;
    }
    this.#size += size;
    this.#events.push(event);
  }

  established(): void {}

  bytes(ends: Ends, at: bigint): Uint8Array {
    const parts = [header()];
    // First of all, so that no reader has to come back for packets that it could not decrypt.
    if (this.#secrets.length > 0) parts.push(secretsBlock(this.#secrets));
    const renderer = new Renderer(ends);
    for (const event of this.#events) parts.push(...renderer.render(event));
    if (this.#dropped > 0) parts.push(statisticsBlock(at, this.#events.length, this.#dropped));
    return Buffer.concat(parts);
  }

  /** One entry for each side tells of all that was not kept: the numbers of FIN still fit then. */
  #drop(event: Extract<Event, { type: 'data' | 'unseen' }>): void {
    this.#dropped++;
    const length = event.type === 'data' ? event.bytes.length : event.length;
    const index = this.#drops[event.from];
    const earlier = index === null ? undefined : this.#events[index];
    if (index !== null && earlier?.type === 'unseen') {
      this.#events[index] = { ...earlier, length: earlier.length + length };
      return;
    }
    this.#drops[event.from] = this.#events.length;
    this.#events.push({ type: 'unseen', at: event.at, from: event.from, length });
  }
}

/** No handshake is larger, in bytes: a flood before its end does not wait for keys. */
const MOST_HELD = 4 << 20;

/**
 * Hands on each piece as soon as it can be read.
 *
 * Wireshark asks for the handshake keys of both sides when it sees the ServerHello, and a client makes its own
 * known only at the end of the handshake: until then everything waits. Later secrets, those of a renegotiation,
 * come within the call that feeds the engine.
 */
export class HandedOn implements Output {
  readonly dropped = 0;
  readonly #sink: (bytes: Uint8Array) => void;
  readonly #ends: () => Ends;
  #renderer: Renderer | null = null;
  #held: Event[] = [];
  #heldBytes = 0;
  #established = false;

  /** @param ends asked once, with the first piece. */
  constructor(sink: (bytes: Uint8Array) => void, ends: () => Ends) {
    this.#sink = sink;
    this.#ends = ends;
  }

  secret(line: string): void {
    this.#begin();
    this.#sink(secretsBlock([line]));
  }

  add(event: Event): void {
    this.#held.push(event);
    this.#heldBytes += event.type === 'data' ? event.bytes.length : 0;
    const over = event.type === 'fin' || event.type === 'rst';
    if (over || this.#heldBytes > MOST_HELD) this.#release();
    else if (this.#established) {
      if (event.from === 'peer') process.nextTick(() => this.#release());
      else this.#release();
    }
  }

  established(): void {
    this.#established = true;
    this.#release();
  }

  bytes(): Uint8Array {
    return new Uint8Array(0);
  }

  #release(): void {
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    for (const event of held) {
      for (const block of this.#begin().render(event)) this.#sink(block);
    }
  }

  #begin(): Renderer {
    if (this.#renderer === null) {
      this.#sink(header());
      this.#renderer = new Renderer(this.#ends());
    }
    return this.#renderer;
  }
}
