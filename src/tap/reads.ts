/**
 * Reading from the kernel, for sockets that we open or accept.
 *
 * Theory of operation. What is read goes into one memory that all of them share, and on to a sink before anything
 * else is read, so that no read takes memory of its own. How much of it a socket's next read may fill depends on
 * the last one: twice as much where that filled all that it might, and 64 KB again, as in Node, where the reader
 * had not taken it by the end of the turn, since what a slow reader has in front of it waits in memory of ours.
 * Fewer and larger reads cost less: a sender who waits for room is woken for each, and goes on in the meantime
 * only where there is much of it. No more than a few sockets have that at a time: what many decrypt in the meantime
 * is too much for the garbage collector to see the end of young. One that reads little is on its way back.
 *
 * libuv reads on for as long as reads come out full, up to 32 times, which are a megabyte each here. So there is a
 * limit of our own to what a socket reads before others have their turn.
 */
import { Buffer } from 'node:buffer';
import type net from 'node:net';
import type { Duplex } from 'node:stream';
import { IS_NODE } from '../runtime.ts';
import { atEndOfTurn, type EndOfTurn } from './turn.ts';
import { readInto } from './user-buffer.ts';

/** Takes bytes that were read, and copies what it keeps; pauses the transport when it has enough. */
export type Sink = (bytes: Uint8Array) => void;

/** Pages of it that nothing was read into are never touched. */
const MEMORY = Buffer.allocUnsafeSlow(1_048_576).buffer as ArrayBuffer;

const LEAST = 65_536;

/** What a read may fill, from the least to all of it. */
const VIEWS = [LEAST, 131_072, 262_144, 524_288, 1_048_576].map(
  (length) => new Uint8Array(MEMORY, 0, length),
);

/** Bytes that a socket reads in bulk in one turn of the event loop. */
const IN_TURN = 4_194_304;

/** So many sockets may read more than the least. */
const FEW = 32;

/** Sockets that do. */
let grown = 0;

/** What the last reading filled. The next one, of small messages, often has as many bytes. */
let filled: Uint8Array = new Uint8Array(MEMORY, 0, 0);

/** One socket's reading. */
export class Reads implements EndOfTurn {
  /** Who has what is read; null for whoever reads the socket. */
  #sink: Sink | null = null;
  #socket: net.Socket | null = null;
  /** Which of VIEWS the next read may fill, and which one the kernel was given. */
  #next = 0;
  #given = 0;
  /** The reader has not kept up with what was read last. */
  #slow = false;
  #inTurn = 0;
  #stopped = false;

  /** For a socket that is about to be made. */
  readonly onread: net.OnReadOpts = {
    buffer: () => this.#view(),
    callback: (length) => this.#onRead(length),
  };

  /** Tells whose reading it is. */
  adopt(socket: net.Socket): void {
    this.#socket = socket;
    readsOf.set(socket, this);
  }

  /**
   * Asked after each read, and for each new handle of the socket: where it did not say, bytes would go to memory of
   * the kernel's choice, and those of another connection be taken for them.
   *
   * @returns where to read into.
   */
  #view(): Uint8Array {
    this.#given = this.#next;
    return VIEWS[this.#given] as Uint8Array;
  }

  /** @returns whether to read on. */
  #onRead(length: number): boolean {
    if (filled.length !== length) filled = new Uint8Array(MEMORY, 0, length);
    if (this.#sink === null) return this.#socket?.push(Buffer.from(filled)) ?? false;
    this.#sink(filled);
    if (length < (VIEWS[this.#given] as Uint8Array).length) {
      if (length < LEAST) this.#resize(this.#given - 1);
      return true;
    }
    if (this.#inTurn === 0) atEndOfTurn(this);
    this.#inTurn += length;
    this.#resize(this.#slow ? 0 : this.#given + 1);
    this.#slow = false;
    this.#stopped = this.#inTurn >= IN_TURN;
    return !this.#stopped;
  }

  #resize(step: number): void {
    // Who has let go of the sink in the meantime wants none.
    const most = this.#sink === null || (this.#next === 0 && grown >= FEW) ? 0 : VIEWS.length - 1;
    const next = Math.max(0, Math.min(step, most));
    grown += Number(next > 0) - Number(this.#next > 0);
    this.#next = next;
  }

  divert(sink: Sink | null): void {
    this.#sink = sink;
    if (sink === null) this.#resize(0);
  }

  onTurnEnd(): void {
    const stopped = this.#stopped;
    this.#inTurn = 0;
    this.#stopped = false;
    if (this.#sink === null || this.#socket === null) return;
    if (this.#socket.isPaused()) this.#slow = true;
    else if (stopped) this.#socket.resume();
  }
}

const readsOf = new WeakMap<Duplex, Reads>();

/** Reading for a socket that is about to be made; null where Node's sockets are not known to do as documented. */
export function newReads(): Reads | null {
  return IS_NODE ? new Reads() : null;
}

/** The same for a socket that a server of ours has accepted, before anything is read from it. */
export function shareReads(socket: net.Socket): void {
  const reads = new Reads();
  if (readInto(socket, reads.onread)) reads.adopt(socket);
}

/**
 * Has what is read from a socket that we opened or accepted given to `sink`, instead of to whoever reads
 * the socket; null ends that.
 */
export function divertReads(transport: Duplex, sink: Sink | null): void {
  readsOf.get(transport)?.divert(sink);
}
