/**
 * A Node `Duplex` over a TLS stream: `stream.toDuplex()`.
 *
 * Theory of operation. The Duplex adds no buffer and no state machine of its own: Node's `Readable` asks for bytes
 * when it has room, and each time one `read()` of the stream answers; Node's `Writable` hands over one chunk, and
 * asks again when the stream's `write()` has resolved. So backpressure is that of the stream, both ways.
 *
 * What needs care is how it ends:
 *
 * - The peer's close_notify is 'end'. Any other ending is an 'error', the one that `read()` rejects with. The stream
 *   tells it behind all bytes, and so does the Duplex: what waits in its own buffer is read first.
 * - An HTTP reader is special (http-messages.ts at the root): where it has no message in progress, nothing is incomplete,
 *   and where it has one, that message fails. One that has paused within what it took will read again.
 * - A failed write would make Node destroy the Duplex at once, and with it bytes that had arrived and that nobody
 *   has read yet, such as the answer of a server that refuses an upload. So if the peer's direction is over and
 *   somebody reads, the writer is told only when the reader has everything.
 * - `destroy()` without an error means two things in Node. The Duplex destroys itself when both sides have ended,
 *   and `for await` destroys it when it has read to the end. Then nothing is missing, and the stream is closed
 *   kindly. Anything else gives up: the stream is aborted. So it is, too, where written bytes have not reached the
 *   stream yet: a close_notify behind them would tell the peer that it has everything.
 */
import { Duplex } from 'node:stream';
import { callSite } from '../call-site.ts';
import { OptionError } from '../errors.ts';
import {
  endByMessages,
  failMessages,
  isAbandoned,
  isPausedWithin,
  stakeOf,
} from '../http-messages.ts';
import { checkOptionNames } from '../option-names.ts';
import { process } from '../runtime.ts';
import { addressOf, callTransport, type TransportMembers } from './peer.ts';
import { finishWriting, type Source } from './source.ts';

/** Options of `stream.toDuplex()`. Sizes are in bytes; all defaults are those of Node's Duplex. */
export interface DuplexOptions {
  /** Up to how many bytes wait in the Duplex for its reader. */
  readonly readableHighWaterMark?: number | undefined;
  /** From how many bytes on `write()` returns false. */
  readonly writableHighWaterMark?: number | undefined;
  /** Whether the writing side stays open after 'end'; true by default, as in Node. */
  readonly allowHalfOpen?: boolean | undefined;
}

type Done = (error?: Error | null) => void;

/**
 * A `Duplex` whose 'end' is the peer's close_notify, and nothing else. Made by `stream.toDuplex()`.
 *
 * Beside what each Duplex has, it has the members of a `net.Socket` that HTTP agents and drivers use.
 */
export class TlsDuplex extends Duplex implements TransportMembers {
  /** As on a `tls.TLSSocket`: frameworks tell https from http by it. */
  readonly encrypted = true;
  /** Milliseconds of `setTimeout`; 0 for none. */
  timeout = 0;

  readonly #source: Source;
  readonly #transport: Duplex;
  /** The peer's end has come. */
  #ended = false;
  /** Bytes that the stream's write has, and has not resolved for. */
  #writing = 0;
  /** What reading the stream has failed with. It is told here once nothing is left to read. */
  #readFailure: Error | null = null;
  /** The same for writing. */
  #writeFailure: Error | null = null;
  /** Tells a writer of a failure; held until the reader has everything. */
  #tellWriter: (() => void) | null = null;
  /** `destroySoon` was called. */
  #soon = false;
  #idle: NodeJS.Timeout | null = null;

  /** @internal */
  constructor(source: Source, transport: Duplex, options: DuplexOptions) {
    super(checkOptions(options));
    this.#source = source;
    this.#transport = transport;
  }

  // ---- what Node's streams call

  /** @internal */
  override _read(): void {
    this.#source.read().then(
      (bytes) => {
        this.#active();
        if (bytes === null) this.#ended = true;
        this.push(bytes);
      },
      (error) => {
        this.#readFailure = error;
        this.#failWhenRead();
      },
    );
  }

  /** Whoever takes bytes out of a Readable (a pipe, an iterator, a listener to 'data') does it by this. */
  override read(size?: number): Buffer | null {
    const bytes = super.read(size);
    // Later, because what was read may be put back by `unshift`.
    if (this.#readFailure !== null) process.nextTick(this.#failWhenRead);
    return bytes;
  }

  readonly #failWhenRead = () => {
    const error = this.#readFailure;
    if (error === null || this.readableLength > 0 || this.destroyed) return;
    if (isPausedWithin(this)) return;
    const stake = stakeOf(this);
    // HTTP knows by itself that it has lost nothing, or which message is cut. It then hears 'close' alone.
    if (stake === 'safe') this.#source.idle();
    if (stake === 'safe' || isAbandoned(this)) this.destroy();
    else if (stake === 'unknown' || !endByMessages(this, error, () => this.destroy())) {
      this.destroy(error);
    }
  };

  /** @internal */
  override _write(chunk: Uint8Array, _encoding: string, done: Done): void {
    this.#active();
    this.#writing = chunk.length;
    this.#settle(
      this.#source.write(chunk),
      () => {
        this.#writing = 0;
        this.#active();
        done();
      },
      done,
    );
  }

  /** @internal */
  override _final(done: Done): void {
    this.#settle(finishWriting(this.#source), done, done);
  }

  #settle(work: Promise<void>, onDone: () => void, onError: Done): void {
    work.then(onDone, (error) => {
      if (this.#source.receiving) {
        // The stream goes on; it was this call that it refused.
        onError(error);
        return;
      }
      this.#writeFailure = error;
      // A Readable that nobody has begun to read would never get there.
      if (this.destroyed || this.readableEnded || this.readableFlowing === null) {
        onError(error);
        return;
      }
      this.#tellWriter = () => onError(error);
      this.once('end', this.#release);
    });
  }

  readonly #release = () => {
    const tell = this.#tellWriter;
    this.#tellWriter = null;
    tell?.();
  };

  /** @internal */
  override _destroy(error: Error | null, done: Done): void {
    this.#stopIdle();
    this.#release();
    // Node's HTTP client would take what it has of a body for the whole.
    if (error !== null) failMessages(this, error);
    const source = this.#source;
    const failed =
      error === null
        ? this.#readFailure !== null
        : error === this.#readFailure || error === this.#writeFailure;
    if (failed) {
      // The stream has ended by itself. Our alert may still be on its way, so the transport is closed kindly; who
      // waits for the error need not wait for that. A Duplex fails once: that bytes of ours are lost as well, which
      // close() rejects with, is in the closure (`unsent`).
      source.close().catch(() => {});
      done(error);
      return;
    }
    const allWritten = this.writableLength === this.#writing;
    if (error === null && allWritten && (this.#ended || this.#soon)) {
      source.close().then(() => done(null), done);
      return;
    }
    source.abort();
    source.closed.then(() => done(error));
  }

  // ---- iteration

  /**
   * As Node's, but for what becomes of the Duplex behind the last chunk. Node destroys it with an AbortError there,
   * also when all was read, because the writing side is still open.
   */
  override iterator(options?: {
    readonly destroyOnReturn?: boolean;
  }): NodeJS.AsyncIterator<Buffer> {
    return this.#iterate(options?.destroyOnReturn !== false);
  }

  /** As `iterator()`, and the Duplex is destroyed behind it. */
  override [Symbol.asyncIterator](): NodeJS.AsyncIterator<Buffer> {
    return this.#iterate(true);
  }

  async *#iterate(destroys: boolean): AsyncGenerator<Buffer, void, undefined> {
    try {
      yield* super.iterator({ destroyOnReturn: false });
    } catch (error) {
      throw callSite(this.#iterate)(error);
    } finally {
      if (destroys) this.destroy();
    }
  }

  // ---- as a net.Socket has them

  /** Ends, then closes as soon as close_notify has gone out; what the peer still sends is discarded. */
  destroySoon(): void {
    this.#soon = true;
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /**
   * Emits 'timeout' when nothing has been read or written for so many milliseconds; 0 stops that. Nothing is
   * closed by it.
   */
  setTimeout(milliseconds: number, onTimeout?: () => void): this {
    this.#stopIdle();
    this.timeout = milliseconds;
    if (milliseconds > 0 && !this.destroyed) {
      // As Node's own, it keeps no process alive.
      this.#idle = setTimeout(() => this.emit('timeout'), milliseconds).unref();
    }
    if (onTimeout !== undefined) {
      if (milliseconds > 0) this.once('timeout', onTimeout);
      else this.off('timeout', onTimeout);
    }
    return this;
  }

  #active(): void {
    this.#idle?.refresh();
  }

  #stopIdle(): void {
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#idle = null;
  }

  /** The peer's address; undefined where the transport has none, or no longer. */
  get remoteAddress(): string | undefined {
    return addressOf(this.#transport, 'remoteAddress');
  }

  /** The peer's port. */
  get remotePort(): number | undefined {
    return addressOf(this.#transport, 'remotePort');
  }

  /** `IPv4` or `IPv6`. */
  get remoteFamily(): string | undefined {
    return addressOf(this.#transport, 'remoteFamily');
  }

  /** This side's address. */
  get localAddress(): string | undefined {
    return addressOf(this.#transport, 'localAddress');
  }

  /** This side's port. */
  get localPort(): number | undefined {
    return addressOf(this.#transport, 'localPort');
  }

  /** `IPv4` or `IPv6`. */
  get localFamily(): string | undefined {
    return addressOf(this.#transport, 'localFamily');
  }

  /** As `net.Socket`'s; nothing on a transport that has none. */
  setNoDelay(noDelay?: boolean): this {
    callTransport(this.#transport, 'setNoDelay', noDelay);
    return this;
  }

  /** As `net.Socket`'s; the delay is in milliseconds. */
  setKeepAlive(enable?: boolean, initialDelay?: number): this {
    callTransport(this.#transport, 'setKeepAlive', enable, initialDelay);
    return this;
  }

  /** The connection keeps the process alive, as it does by default. */
  ref(): this {
    callTransport(this.#transport, 'ref');
    return this;
  }

  /** The connection alone does not keep the process alive. */
  unref(): this {
    callTransport(this.#transport, 'unref');
    return this;
  }
}

/** @throws {OptionError} */
function checkOptions(options: DuplexOptions): Record<string, unknown> {
  checkOptionNames(options, ['readableHighWaterMark', 'writableHighWaterMark', 'allowHalfOpen']);
  const checked: Record<string, unknown> = {};
  for (const name of ['readableHighWaterMark', 'writableHighWaterMark'] as const) {
    const bytes = options[name];
    if (bytes === undefined) continue;
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new OptionError(`${name} must be a whole number of bytes, 0 or more`);
    }
    checked[name] = bytes;
  }
  const { allowHalfOpen } = options;
  if (allowHalfOpen !== undefined) {
    if (typeof allowHalfOpen !== 'boolean')
      throw new OptionError('allowHalfOpen must be a boolean');
    checked['allowHalfOpen'] = allowHalfOpen;
  }
  return checked;
}
