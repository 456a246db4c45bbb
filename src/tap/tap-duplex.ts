/**
 * A tap as a Duplex, for TLS engines that take one as their transport: those of Bun and Deno, and that of
 * Node where it is not as js-stream.ts expects it.
 */
import { Duplex } from 'node:stream';
import { type Above, TAP, type Tap } from './tap.ts';

export class TapDuplex extends Duplex implements Above {
  readonly [TAP] = true;
  readonly #tap: Tap;

  constructor(tap: Tap) {
    // It never ends its readable side, so for it the option means nothing.
    super({ allowHalfOpen: tap.halfOpen });
    this.#tap = tap;
    tap.attach(this);
    // The engine pauses and resumes it; 'resume' is when it is ready for more.
    this.on('resume', () => tap.wanted());
  }

  get wants(): boolean {
    return this.readableFlowing === true;
  }

  /**
   * By 'data' rather than push(): that hands a chunk on at once in some states of the stream and buffers it
   * in others, and everything here rests on 'at once'.
   */
  feed(bytes: Uint8Array): void {
    this.emit('data', bytes);
  }

  override _read(): void {
    // The engine is fed by the tap.
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    this.#tap.send([chunk], done);
  }

  override _writev(
    chunks: Array<{ chunk: Uint8Array; encoding: BufferEncoding }>,
    done: () => void,
  ): void {
    this.#tap.send(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  override _final(done: () => void): void {
    this.#tap.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#tap.gone();
    done(error);
  }
}
