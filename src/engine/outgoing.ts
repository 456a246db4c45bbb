/**
 * What was written and TLS has not taken. The first write of a turn of the event loop goes to TLS at once, for a peer
 * that waits for it. Those behind it go together, since each call costs the same, however few bytes it has. What TLS
 * does not take for now waits here, where it can be discarded.
 */
import { Buffer } from 'node:buffer';
import type { Writable } from 'node:stream';
import { IS_BUN, process } from '../runtime.ts';

/** Small writes are joined up to so many bytes; as many may wait here before the writer should. */
const TOGETHER = 65_536;

/** The tap, as far as it matters here. */
interface Below {
  /** Whether this is a call of TLS, in which it loses what it is given. */
  readonly feeding: boolean;
  /** Whether the transport has taken all that TLS has made. */
  readonly taken: boolean;
}

export class Outgoing {
  readonly #socket: Writable;
  readonly #tap: Below;
  #chunks: Uint8Array[] = [];
  #length = 0;
  #scheduled = false;
  /** Bytes that were written, and how many of them the transport had taken when it last had taken all. */
  #written = 0;
  #taken = 0;
  /** What was not sent when the transport refused a write; null while it has not. */
  #lost: number | null = null;

  constructor(socket: Writable, tap: Below) {
    this.#socket = socket;
    this.#tap = tap;
  }

  /** Bytes that wait here. */
  get length(): number {
    return this.#length;
  }

  /** Whether more can be written without a wait. */
  get writable(): boolean {
    return this.#length < TOGETHER && !this.#socket.writableNeedDrain;
  }

  /** Bytes that were written and are not known to have been taken by the transport. */
  get unsent(): number {
    if (this.#lost !== null) return this.#lost;
    const waiting = this.#length + this.#socket.writableLength;
    // Bun says that TLS has written what the transport has not taken. All since it last had taken all may be that.
    return IS_BUN && waiting === 0 && !this.#tap.taken ? this.#written - this.#taken : waiting;
  }

  /** The transport did not take a write. TLS is told that it did, and so are those behind it. */
  onRefused(): void {
    this.#lost ??= this.unsent;
  }

  /** Takes a copy. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (IS_BUN && this.unsent === 0) this.#taken = this.#written;
    this.#written += bytes.length;
    if (this.#lost !== null) this.#lost += bytes.length;
    this.#chunks.push(Buffer.from(bytes));
    this.#length += bytes.length;
    if (this.#scheduled) return;
    if (!this.#tap.feeding) this.flush();
    this.#scheduled = true;
    process.nextTick(endOfTurn, this);
  }

  /** @internal */
  onTurnEnd(): void {
    this.#scheduled = false;
    this.flush();
  }

  /** Gives TLS as much as it takes. */
  flush(): void {
    while (this.#length > 0 && !this.#socket.writableNeedDrain) this.#socket.write(this.#next());
  }

  /** The next bytes: as many small chunks as fit, or one large one. */
  #next(): Uint8Array {
    let count = 0;
    let length = 0;
    do {
      length += (this.#chunks[count++] as Uint8Array).length;
    } while (length + (this.#chunks[count]?.length ?? TOGETHER) <= TOGETHER);
    this.#length -= length;
    return Buffer.concat(this.#chunks.splice(0, count), length);
  }

  /** Forgets what waits here. @returns how many bytes that were. */
  discard(): number {
    const discarded = this.#length;
    this.#chunks = [];
    this.#length = 0;
    return discarded;
  }
}

const endOfTurn = (outgoing: Outgoing) => outgoing.onTurnEnd();
