/**
 * WHATWG streams over a TLS stream: `stream.readable` and `stream.writable`.
 *
 * Theory of operation. Each of the two is made when it is asked for, and takes its direction of the stream. The
 * readable has no buffer: a `pull` is one `read()` of the stream, and there is one only while somebody waits for
 * bytes. The writable hands over one chunk, and the next when the stream's `write()` has resolved.
 *
 * Where both were taken, nobody is left who would close the stream. So it is closed kindly when both have ended,
 * and aborted when both are over and one of them has failed. Where only one was taken, the stream is its owner's.
 */
import type {
  ReadableByteStreamController,
  WritableStreamDefaultController,
} from 'node:stream/web';
import { AbortedError, OptionError } from '../errors.ts';
import { finishWriting, type Source } from './source.ts';

/** How one of the two directions stands: not taken, in use, ended with close_notify, or failed. */
type Side = 'free' | 'open' | 'ended' | 'failed';

/** Both streams of one TLS stream. */
export class WebStreams {
  readonly #source: Source;
  #readable: ReadableStream<Uint8Array> | null = null;
  #writable: WritableStream<Uint8Array> | null = null;
  #readSide: Side = 'free';
  #writeSide: Side = 'free';
  #readController: ReadableByteStreamController | null = null;
  #writeController: WritableStreamDefaultController | null = null;
  /** What reading has failed with, for a writable that is made later. */
  #failure: unknown = null;

  constructor(source: Source) {
    this.#source = source;
  }

  /** Whether reading is taken. */
  get reads(): boolean {
    return this.#readSide !== 'free';
  }

  /** Whether writing is taken. */
  get writes(): boolean {
    return this.#writeSide !== 'free';
  }

  get readable(): ReadableStream<Uint8Array> {
    this.#readable ??= this.#makeReadable();
    return this.#readable;
  }

  get writable(): WritableStream<Uint8Array> {
    this.#writable ??= this.#makeWritable();
    return this.#writable;
  }

  #makeReadable(): ReadableStream<Uint8Array> {
    this.#readSide = 'open';
    return new ReadableStream({
      type: 'bytes',
      start: (controller) => {
        this.#readController = controller;
      },
      pull: (controller) => this.#pull(controller),
      cancel: async (reason) => {
        this.#readSide = 'failed';
        // As in a TransformStream: who gives up one side gives up the other.
        this.#failWritable(reason ?? givenUp());
        await this.#abort();
      },
    });
  }

  async #pull(controller: ReadableByteStreamController): Promise<void> {
    let bytes: Uint8Array | null;
    try {
      bytes = await this.#source.read();
    } catch (error) {
      if (this.#readSide !== 'open') return;
      this.#readSide = 'failed';
      this.#failure = error;
      this.#failWritable(error);
      this.#settle();
      throw error;
    }
    // Cancelled meanwhile: nobody wants them.
    if (this.#readSide !== 'open') return;
    if (bytes !== null) {
      // A copy, because a byte stream takes the whole ArrayBuffer behind what it is given, and our memory has
      // other bytes in it, too.
      controller.enqueue(new Uint8Array(bytes));
      return;
    }
    this.#readSide = 'ended';
    controller.close();
    // A reader that brought its own memory waits until it is given back.
    controller.byobRequest?.respond(0);
    this.#settle();
  }

  #makeWritable(): WritableStream<Uint8Array> {
    this.#writeSide = 'open';
    return new WritableStream<Uint8Array>({
      start: (controller) => {
        this.#writeController = controller;
        if (this.#readSide === 'failed') this.#failWritable(this.#failure ?? givenUp());
      },
      write: (chunk) => this.#orFail(() => this.#source.write(bytesOf(chunk))),
      close: () =>
        this.#orFail(async () => {
          await finishWriting(this.#source);
          this.#writeSide = 'ended';
          this.#settle();
        }),
      abort: async (reason) => {
        this.#writeSide = 'failed';
        if (this.#readSide === 'open') {
          this.#readSide = 'failed';
          this.#readController?.error(reason ?? givenUp());
        }
        await this.#abort();
      },
    });
  }

  async #orFail(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#writeSide = 'failed';
      // The readable goes on: bytes that came before may be there still, and behind them the error.
      this.#settle();
      throw error;
    }
  }

  #failWritable(error: unknown): void {
    if (this.#writeSide !== 'open') return;
    this.#writeSide = 'failed';
    this.#writeController?.error(error);
  }

  async #abort(): Promise<void> {
    this.#source.abort();
    await this.#source.closed;
  }

  /** Ends the stream when both sides are over. */
  #settle(): void {
    const over = (side: Side) => side === 'ended' || side === 'failed';
    if (!over(this.#readSide) || !over(this.#writeSide)) return;
    // Both streams have told their endings, so what close() could reject with was told, too. A failed stream has an
    // alert on its way, perhaps; one whose writing alone failed must not look whole to the peer.
    if (this.#readSide === 'ended' && this.#writeSide === 'failed') this.#source.abort();
    else this.#source.close().catch(() => {});
  }
}

const givenUp = () => new AbortedError('the other direction of the stream was given up');

/** @throws {OptionError} for what holds no bytes. */
function bytesOf(chunk: unknown): Uint8Array {
  if (chunk instanceof Uint8Array) return chunk;
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  if (ArrayBuffer.isView(chunk)) {
    return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
  throw new OptionError('a chunk must be a Uint8Array, another view of bytes, or an ArrayBuffer');
}
