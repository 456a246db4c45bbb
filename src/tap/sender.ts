/**
 * What the TLS engine writes, on its way to the transport.
 *
 * Theory of operation. Most of it goes to the transport as it comes. Two kinds wait for more of the same turn of
 * the event loop, to go out in one write:
 *
 * 1. What the engine wrote while it was fed, where whoever feeds it says so: the answers to the rest of what
 *    came, a request behind the end of the handshake, close_notify behind session tickets.
 * 2. Bulk. A write to the kernel costs more than the system call: it wakes whoever sleeps at the other end, who
 *    has read it all before the next one comes where we are the slower. So of a turn's large writes the first
 *    goes out at once, and those behind it together, but never more than the kernel has just taken without
 *    keeping us waiting (`#room`): a peer that reads slowly has no more of our memory than of the kernel's. And
 *    never more, over all streams, than the processor's own memory holds (`TOGETHER`).
 *
 * The engine's buffers are copies, made for one write, and garbage as soon as the kernel has copied them in turn.
 * So whoever made them may give them back at once (`Free`, memory.ts).
 */
import type { Duplex } from 'node:stream';
import { process } from '../runtime.ts';
import { copiesAtOnce, type HandleWriter } from './handle-writer.ts';
import { atEndOfTurn, type EndOfTurn } from './turn.ts';

type SendError = Error & { readonly code?: string };

/** What a sender reports. */
export interface SenderEvents {
  /** The transport took what close_notify was in. */
  onCloseNotifyTaken(): void;
  /** The transport failed to take something. */
  onSendError(error: SendError): void;
}

/** Takes back the memory of what the transport has taken. */
export type Free = (chunks: readonly Uint8Array[]) => void;

/** A write of so many bytes is bulk, and its memory worth giving back. */
const BULK = 16_384;

/** Bytes of bulk that wait together, over all streams: with more of them each write goes through slower memory. */
const TOGETHER = 524_288;

const NOTHING = () => {};

/** Bytes of bulk that wait. */
let waiting = 0;

export class Sender implements EndOfTurn {
  readonly #transport: Duplex;
  readonly #events: SenderEvents;
  #writer: HandleWriter | null = null;

  /** Writes that the transport has taken but not yet called back for; what waits here counts as one. */
  #unflushed = 0;
  /** Continues the engine once the transport has drained. */
  #onDrained: (() => void) | null = null;
  #onAllTaken: (() => void) | null = null;
  #detached = false;

  /** Of those, the ones with more in them than close_notify; one that has failed stays among them. */
  #untaken = 0;

  /** What waits, and the bytes of close_notify in it. */
  #held: Uint8Array[] = [];
  #heldCloseNotify = 0;
  #heldFree: Free | undefined;
  /** Bytes of bulk among it. */
  #bulk = 0;
  /** Something was sent in bulk in this turn. */
  #inTurn = false;
  /** Bytes that the kernel has taken at once since it last did not. */
  #room = 0;
  #releasing = false;
  /** Within `during`, and whether close_notify has been taken in it. */
  #during = false;
  #takenDuring = false;

  constructor(transport: Duplex, events: SenderEvents) {
    this.#transport = transport;
    this.#events = events;
  }

  /** Writes by `writer` as far as it can. */
  writeBy(writer: HandleWriter): void {
    this.#writer = writer;
  }

  /** Whether something was sent that the transport has not taken. */
  get busy(): boolean {
    return this.#unflushed > 0;
  }

  /** Whether the transport has taken all that was sent, but for bulk that waits for more of it. */
  get settled(): boolean {
    return this.#unflushed === 0 || (this.#unflushed === 1 && this.#bulk > 0);
  }

  /** Whether the transport has taken all that was sent, but for close_notify. */
  get hasSentAll(): boolean {
    return this.#untaken === 0 && !this.holds;
  }

  /** Whether something waits. */
  get holds(): boolean {
    return this.#held.length > 0;
  }

  /** Whether what waits will be released at the end of this turn. */
  get releasing(): boolean {
    return this.#releasing;
  }

  /**
   * Sends.
   *
   * @param closeNotify how many bytes of it are close_notify.
   * @param hold whether it is to wait for `release`, or for something that is not to.
   * @param done called when the transport wants more, perhaps within this call.
   * @param free called once the transport has taken all of it, where that is worth it.
   */
  send(
    chunks: readonly Uint8Array[],
    closeNotify: number,
    hold: boolean,
    done: () => void,
    free: Free | undefined,
  ): void {
    const first = this.#held.length === 0;
    if (first) this.#unflushed++;
    let bytes = 0;
    for (const { length } of chunks) bytes += length;
    const bulk = bytes >= BULK && closeNotify === 0;
    const waits = hold || (bulk && this.#waits(bytes));
    if (first && !waits) {
      this.#deliver(chunks, bytes, closeNotify, done, bulk ? free : undefined);
      return;
    }
    this.#held.push(...chunks);
    this.#heldCloseNotify ||= closeNotify;
    if (bulk) {
      this.#heldFree = free;
      this.#bulk += bytes;
      waiting += bytes;
    }
    if (waits) done();
    else this.release(done);
  }

  /** Whether bulk may wait for more of it. */
  #waits(bytes: number): boolean {
    if (this.#writer === null) return false;
    if (!this.#inTurn) {
      this.#inTurn = true;
      atEndOfTurn(this);
      return false;
    }
    return this.#bulk + bytes < this.#room && waiting + bytes < TOGETHER;
  }

  /** @internal */
  onTurnEnd(): void {
    this.#inTurn = false;
    this.#releasing = false;
    this.release();
  }

  /** What waits goes out once the callbacks of this turn are over, if not before. */
  releaseLater(): void {
    if (this.#releasing) return;
    this.#releasing = true;
    atEndOfTurn(this);
  }

  /**
   * Sends what waits.
   *
   * @param done as for `send`.
   */
  release(done: () => void = NOTHING): void {
    if (this.#held.length === 0) return;
    const held = this.#held;
    const closeNotify = this.#heldCloseNotify;
    const free = this.#heldFree;
    const bulk = this.#bulk;
    this.#held = [];
    this.#heldCloseNotify = 0;
    this.#heldFree = undefined;
    this.#bulk = 0;
    waiting -= bulk;
    this.#deliver(held, bulk, closeNotify, done, free);
  }

  /** Gives it to the transport. */
  #deliver(
    chunks: readonly Uint8Array[],
    bytes: number,
    closeNotifyBytes: number,
    done: () => void,
    free: Free | undefined,
  ): void {
    const closeNotify = closeNotifyBytes > 0;
    const alone = closeNotify && chunks.length === 1 && chunks[0]?.length === closeNotifyBytes;
    const counted = alone ? 0 : 1;
    this.#untaken += counted;
    // By this side, in the meantime: that it was not written is no news.
    if (this.#transport.destroyed) return;
    const outcome = this.#writer?.write(chunks) ?? null;
    if (outcome === 'taken') {
      this.#untaken -= counted;
      this.#room = Math.min(this.#room + bytes, TOGETHER);
      free?.(chunks);
      // Not within the call of the engine that made it.
      if (closeNotify && this.#during) {
        this.#takenDuring = true;
      } else if (closeNotify || this.#onAllTaken !== null) {
        process.nextTick(Sender.#settleTaken, this, closeNotify);
      } else {
        this.#unflushed--;
      }
      done();
      return;
    }
    this.#room = 0;
    if (outcome !== null) {
      outcome.onDone = (error) => {
        if (error === null) {
          this.#untaken -= counted;
          free?.(chunks);
        }
        if (this.#settle(closeNotify, error) && !this.#detached) done();
      };
      return;
    }
    let untold = free !== undefined && copiesAtOnce(this.#transport) ? free : undefined;
    const tellTaken = () => {
      untold?.(chunks);
      untold = undefined;
    };
    let more: boolean;
    try {
      more = this.#write(chunks, (error) => {
        if (!error) {
          this.#untaken -= counted;
          tellTaken();
        }
        this.#settle(closeNotify, error ?? null);
      });
    } catch (error) {
      // The engine above is native code: an exception would have nobody to catch it.
      this.#events.onSendError(error as Error);
      return;
    }
    // A transport that took all of it at once still calls back later. Where many connections write in one
    // turn, what they sent would until then fill memory that no cache holds.
    if (this.#transport.writableLength === 0) tellTaken();
    if (more) {
      done();
      return;
    }
    const earlier = this.#onDrained;
    this.#onDrained = () => {
      earlier?.();
      done();
    };
  }

  static readonly #settleTaken = (sender: Sender, closeNotify: boolean) =>
    sender.#settle(closeNotify, null);

  /** The transport has taken a write, or failed to. @returns whether it has. */
  #settle(closeNotify: boolean, error: SendError | null): boolean {
    this.#unflushed--;
    if (error !== null) {
      this.#events.onSendError(error);
      return false;
    }
    if (closeNotify) this.#events.onCloseNotifyTaken();
    if (this.#unflushed === 0) {
      const onAllTaken = this.#onAllTaken;
      this.#onAllTaken = null;
      onAllTaken?.();
    }
    return true;
  }

  /** Calls back once the transport has taken all of it, at once if it has. */
  onceTaken(then: () => void): void {
    if (this.#unflushed === 0) {
      then();
      return;
    }
    const earlier = this.#onAllTaken;
    this.#onAllTaken = () => {
      earlier?.();
      then();
    };
  }

  /** Together; a transport calls back in order, so the last chunk speaks for all. */
  #write(chunks: readonly Uint8Array[], onWritten: (error?: Error | null) => void): boolean {
    const transport = this.#transport;
    const last = chunks.length - 1;
    if (last === 0) return transport.write(chunks[0], onWritten);
    transport.cork();
    try {
      for (let i = 0; i < last; i++) transport.write(chunks[i]);
      return transport.write(chunks[last], onWritten);
    } finally {
      transport.uncork();
    }
  }

  /** Makes a call of the engine, and tells right behind it what the kernel has taken of close_notify. */
  during<T>(call: (on: T) => void, on: T): void {
    this.#during = true;
    try {
      call(on);
    } finally {
      this.#during = false;
    }
    if (!this.#takenDuring) return;
    this.#takenDuring = false;
    this.#settle(true, null);
  }

  /** The transport has drained. */
  onDrain(): void {
    const drained = this.#onDrained;
    this.#onDrained = null;
    drained?.();
  }

  /** Sends what waits. From then on the engine is not told to go on. */
  detach(): void {
    this.release();
    this.#detached = true;
  }
}
