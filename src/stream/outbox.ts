/**
 * What a stream writes, on its way to the TLS socket.
 *
 * Theory of operation. A flush of the TLS engine costs the same for one small message as for many, so small
 * writes wait, as copies, until the caller's turn is over, and go to the socket together. Only the first one
 * after something was read does not, so that a peer who waits for it has it before the caller turns to waiting
 * in its turn. Large writes go to the socket as they are, behind what waits.
 *
 * A caller's memory is its own again as soon as a write returns: bytes that the socket encrypts at once go to
 * it themselves, all others as copies.
 */
import { Buffer } from 'node:buffer';
import { IS_NODE, process } from '../runtime.ts';
import { writesAsNode } from '../tap/handle-writer.ts';
import type { Tap } from '../tap/tap.ts';
import type { TLSSocket } from './engine.ts';

/** A write of up to so many bytes waits for others of its turn. */
const SMALL = 32_768;

/** Bytes that go to the socket together; more of them would only take memory. */
const TOGETHER = 65_536;

/** Memory that holds as many, whatever is added last. */
const ROOM = TOGETHER + SMALL;

/**
 * Such memory, for the next stream to gather in: what is encrypted at once leaves it free again, so that one
 * that writes much goes through memory that is in the caches.
 */
let spare: Buffer | null = null;

function roomFor(bytes: number): Buffer {
  const room = spare;
  if (room === null || bytes > room.length) return Buffer.allocUnsafe(bytes);
  spare = null;
  return room;
}

export class Outbox {
  readonly #socket: TLSSocket;
  readonly #tap: Pick<Tap, 'feeding' | 'settled'>;
  /** Copies of this turn's small writes. */
  #memory: Buffer | null = null;
  #length = 0;
  /** Whether the next small write goes out at once: an answer, to which no other may come. */
  #prompt = true;
  #dropped = 0;

  constructor(socket: TLSSocket, tap: Pick<Tap, 'feeding' | 'settled'>) {
    this.#socket = socket;
    this.#tap = tap;
  }

  /** Bytes that `drop` has dropped. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Whether nothing waits. */
  get isEmpty(): boolean {
    return this.#memory === null;
  }

  /** Something was read, to which the next write may be the answer. */
  onRead(): void {
    this.#prompt = true;
  }

  /** @returns whether the caller may write more without a wait. */
  post(data: Uint8Array | string): boolean {
    return this.#post(data) || this.#isAlone(data);
  }

  /** @returns false when the socket wants no more for now. */
  #post(data: Uint8Array | string): boolean {
    // Node loses what is written from within its TLS engine, in a 'session' listener for instance.
    const inside = this.#tap.feeding;
    if (data.length > SMALL && !inside) {
      this.flush();
      return this.#give(data);
    }
    if (this.#memory === null && this.#prompt && !inside) {
      this.#prompt = false;
      return this.#give(data);
    }
    this.#gather(typeof data === 'string' ? Buffer.from(data) : data);
    if (this.#length >= TOGETHER && !inside) return this.flush();
    return !this.#socket.writableNeedDrain;
  }

  #gather(bytes: Uint8Array): void {
    const end = this.#length + bytes.length;
    let memory = this.#memory;
    if (memory === null) process.nextTick(flush, this);
    if (memory === null || end > memory.length) {
      const room = roomFor(memory === null ? end : Math.max(end, ROOM));
      if (memory !== null) room.set(memory.subarray(0, this.#length));
      memory = room;
    }
    memory.set(bytes, this.#length);
    this.#memory = memory;
    this.#length = end;
  }

  /** Writes to the socket: the bytes themselves where they are encrypted at once, and else a copy. */
  #give(data: Uint8Array | string): boolean {
    const socket = this.#socket;
    const atOnce =
      IS_NODE && socket.writableLength === 0 && socket.writableCorked === 0 && writesAsNode(socket);
    return socket.write(atOnce || typeof data === 'string' ? data : Buffer.from(data));
  }

  /**
   * Whether these bytes are all that the socket has not done with, though the transport has taken them: it
   * will have as soon as this turn's calls are over.
   */
  #isAlone(data: Uint8Array | string): boolean {
    return (
      this.#socket.writableLength === data.length && this.#memory === null && this.#tap.settled
    );
  }

  /**
   * Has the socket take what waits.
   *
   * @returns false when it wants no more for now.
   */
  flush(): boolean {
    const memory = this.#memory;
    if (memory === null) return true;
    const bytes = memory.subarray(0, this.#length);
    // Whoever hears of the write, and writes in turn, begins anew.
    this.#memory = null;
    this.#length = 0;
    if (memory.length !== ROOM) return this.#socket.write(bytes);
    const more = this.#give(bytes);
    spare = memory;
    return more;
  }

  /** Drops what waits, so that close_notify can go out at once. */
  drop(): void {
    this.#dropped += this.#length;
    this.clear();
  }

  /** Forgets what waits: nothing is sent any more. */
  clear(): void {
    if (this.#memory?.length === ROOM) spare = this.#memory;
    this.#memory = null;
    this.#length = 0;
  }
}

const flush = (outbox: Outbox) => outbox.flush();
