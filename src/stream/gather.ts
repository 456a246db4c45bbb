/**
 * Decrypted bytes, gathered: what the records of one feeding held comes in one piece.
 *
 * Theory of operation. For each record Node takes 64 KB of memory, cuts it down to what was in the record,
 * wraps it, and queues it. With records of 64 bytes that is most of what receiving costs; with large ones it
 * is what makes the garbage. A `net.Socket` that opens its own connection can do without (its option
 * `onread`): there the bytes go into one memory again and again, and a callback is told how many. Node does
 * not pass that option on where TLS is put on a given stream. So here it is set the way that the
 * constructor of `net.Socket` would have set it, and all sockets share one memory: the engine decrypts
 * only while it is fed, and what a feeding brought is copied out before anybody else is fed. Only a socket
 * that receives in bulk gets memory of its own, which is handed out as it is and not used again: one copy
 * less. Where the engine writes next is said when it has written, so a socket goes over to that once the
 * shared memory is at its end, and back with the first record of a feeding that is no bulk.
 *
 * The parts are not documented (user-buffer.ts). How many bytes came is what Node itself says to the
 * callback. Where a part is missing, nothing is changed.
 */
import { Buffer } from 'node:buffer';
import { process } from '../runtime.ts';
import { Fifo } from '../tap/fifo.ts';
import { keepFreed } from '../tap/memory.ts';
import { userBufferOf } from '../tap/user-buffer.ts';
import type { TLSSocket } from './engine.ts';

/** Where decrypted bytes go first. As long as several feedings, so that few end at its end. */
const MEMORY = Buffer.allocUnsafeSlow(262_144);

/** With less room than a record may need, the engine begins elsewhere: at the front again, or anew. */
const ROOM = 16_384;

/** A feeding of so many bytes, which may hold a whole record of the largest, is bulk. */
const BULK = 16_384;

/** Memory that bulk is decrypted into and handed out with: what one reading of the kernel brings. */
const SLAB = 65_536;

/** Where the last record that came alone was. The next one is often as long. */
let place: Uint8Array = MEMORY.subarray(0, 0);

/** A copy of what is in MEMORY. */
function copyOf(from: number, length: number): Buffer {
  if (place.byteOffset !== from || place.length !== length) {
    place = new Uint8Array(MEMORY.buffer, from, length);
  }
  const copy = Buffer.allocUnsafe(length);
  copy.set(place);
  return copy;
}

/** Who is being fed. */
let current: Gathered | null = null;

/** What one socket has decrypted and nobody has taken. */
export class Gathered {
  /** MEMORY, or one of our own for bulk. */
  #memory: Buffer = MEMORY;
  #bulk = false;
  #alone = false;
  /** In the memory: what came since the last piece, and where the engine writes next. */
  #from = 0;
  #to = 0;
  readonly #pieces = new Fifo<Uint8Array>();
  readonly #stray: () => void;

  /** @param stray called should something come while nothing is fed, with nobody to take it. */
  constructor(stray: () => void) {
    this.#stray = stray;
  }

  /**
   * Feeds ciphertext by `feed`. What others were in the middle of gathering is out of the way of what it
   * brings.
   *
   * @param alone whether it is of one record.
   */
  during(bytes: Uint8Array, alone: boolean, feed: (bytes: Uint8Array) => void): void {
    const outer = current;
    this.#bulk = bytes.length >= BULK;
    this.#alone = alone && !this.#bulk;
    if (outer !== null) outer.#cut();
    current = this;
    try {
      feed(bytes);
    } finally {
      this.#cut();
      current = outer;
    }
  }

  /** Takes the next piece. One by one, for whoever gets it may throw. */
  take(): Uint8Array | null {
    this.#cut();
    return this.#pieces.shift();
  }

  /**
   * @internal The engine wrote so many bytes.
   *
   * @returns whether it is to write somewhere else next.
   */
  add(length: number): boolean {
    if (this.#alone && this.#memory === MEMORY && current === this) {
      // Nothing comes to join it, so it is copied out now, and the place is free again.
      this.#pieces.push(copyOf(this.#to, length));
      return false;
    }
    this.#to += length;
    const shared = this.#memory === MEMORY;
    if (this.#memory.length - this.#to < ROOM || (!shared && !this.#bulk)) {
      this.#cut();
      if (this.#bulk) keepFreed();
      this.#memory = this.#bulk ? Buffer.allocUnsafeSlow(SLAB) : MEMORY;
      this.#from = 0;
      this.#to = 0;
    }
    if (current === this) return true;
    this.#cut();
    // Not within this call: whoever takes it may throw, and the engine would not hear where it is to go on.
    process.nextTick(this.#stray);
    return true;
  }

  /** @internal Where it is to write next. */
  get next(): Uint8Array {
    return this.#memory.subarray(this.#to);
  }

  #cut(): void {
    if (this.#from === this.#to) return;
    // Whoever keeps a piece keeps all that it was cut from: no more than four times of what it has.
    const length = this.#to - this.#from;
    const lasts = this.#memory !== MEMORY && length * 4 >= SLAB;
    const piece = this.#memory.subarray(this.#from, this.#to);
    this.#pieces.push(lasts ? piece : Buffer.from(piece));
    this.#from = this.#to;
  }
}

/**
 * Gathers what a TLS socket decrypts, from here on, instead of pushing it.
 *
 * @param stray as for `Gathered`.
 * @returns where it is; null where that cannot be done, and everything is as it was.
 */
export function gather(socket: TLSSocket, stray: () => void): Gathered | null {
  const parts = userBufferOf(socket);
  if (parts === null) return null;
  const { own, handle, kBuffer, kBufferCb, kBufferGen } = parts;
  const gathered = new Gathered(stray);
  let memory = gathered.next;
  let moves = false;
  own[kBufferCb] = (length: number) => {
    moves = gathered.add(length);
    return true;
  };
  own[kBufferGen] = () => {
    if (!moves) return null;
    memory = gathered.next;
    return memory;
  };
  const { onread } = handle;
  // Only for the time of the call: a socket that has a memory of its own stops reading when it is paused,
  // and would not hear of the peer's end.
  handle.onread = function (bytes) {
    own[kBuffer] = memory;
    try {
      return onread.call(this, bytes);
    } finally {
      own[kBuffer] = null;
    }
  };
  handle.useUserBuffer(memory);
  return gathered;
}
