/**
 * A write that failed while an answer may have arrived.
 *
 * Theory of operation. Node destroys a socket for a write that fails, and with it what the kernel still holds: the
 * answer of a server that refuses an upload, say. So the writer is told behind what there is to read. That asks for
 * somebody who reads. A program that waits for its write before it reads on would wait for ever, so it is told as soon
 * as something has come, or the end has, and was not taken within the same turn of the event loop; and at once where it
 * pauses the socket.
 */
import type { Readable } from 'node:stream';
import type { EngineError } from '../engine/failure.ts';
import { hasEnded } from './reading.ts';

/** How a stream is told of a write. */
export type Done = (error?: Error | null) => void;

export class FailedWrite {
  readonly #socket: Readable;
  #kept: { readonly error: EngineError; readonly done: Done } | null = null;
  /** Fails the socket for what else waits for its reader; null where nothing does. */
  giveUp: (() => void) | null = null;

  /** @param socket whose writes these are. */
  constructor(socket: Readable) {
    this.#socket = socket;
  }

  /** What it failed with; null where none has, or it was told. */
  get error(): EngineError | null {
    return this.#kept?.error ?? null;
  }

  /** A write has failed, of a socket that is being read. */
  keep(error: EngineError, done: Done): void {
    this.#kept = { error, done };
    // Who pauses may be waiting for this very write.
    this.#socket.once('pause', () => this.tell());
    this.checkReader();
  }

  /** Node has bytes for the socket's reader, or the end. */
  onPush(): void {
    if (this.#kept !== null) this.checkReader();
  }

  /**
   * Whoever reads takes what has come within this turn of the event loop. Who does not (an iterator whose body waits
   * for its write, say) may be waiting for what is kept from it.
   */
  checkReader(): void {
    setImmediate(() => {
      const socket = this.#socket;
      const isOver = hasEnded(socket) && !socket.readableEnded;
      if (socket.readableLength === 0 && !isOver) return;
      if (this.giveUp !== null) this.giveUp();
      else this.tell();
    });
  }

  /** Nothing more comes of the peer. Who has read all may hear of the write. */
  tellBehindEnd(): void {
    if (this.#kept !== null) this.#socket.once('end', () => this.tell());
  }

  /** Node destroys the socket for it. */
  tell(): void {
    const kept = this.#kept;
    this.#kept = null;
    kept?.done(kept.error);
  }
}
