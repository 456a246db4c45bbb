/**
 * A TLS stream that knows how it ended: the face of a connection, and nothing else. What stands behind a method is in
 * reading.ts, writing.ts and closing.ts, on the state in connection.ts.
 */
import { X509Certificate } from 'node:crypto';
import type { Closure } from '../closure/verdict.ts';
import type { TlsInfo } from '../engine/contract.ts';
import { Transcript } from '../transcript/transcript.ts';
import type { WaitOptions } from '../wait.ts';
import { type CloseOptions, Closing, type ShutdownOptions, type Unwrapped } from './closing.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import { Reading } from './reading.ts';
import { Writing } from './writing.ts';

/** What `TlsStream.open` needs. */
export interface OpenOptions extends ConnectionOptions {
  readonly signal?: AbortSignal | undefined;
}

/** TLS over a transport, with a verdict on how it ended. Made by `connect`, `accept`, `createServer`. */
export class TlsStream implements AsyncDisposable {
  readonly #connection: Connection;
  readonly #reading: Reading;
  readonly #writing: Writing;
  readonly #closing: Closing;

  /** @internal Begins the handshake, and waits for its end. */
  static async open(options: OpenOptions): Promise<TlsStream> {
    const stream = new TlsStream(options);
    await stream.#handshake(options.signal);
    return stream;
  }

  private constructor(options: OpenOptions) {
    this.#connection = new Connection(options);
    this.#reading = new Reading(this.#connection);
    this.#writing = new Writing(this.#connection);
    this.#closing = new Closing(this.#connection, this.#reading, this.#writing);
  }

  async #handshake(signal: AbortSignal | undefined): Promise<void> {
    const connection = this.#connection;
    try {
      await connection.until<true>(
        {
          phase: 'handshake',
          message: 'the TLS handshake was not completed',
          ends: true,
          answer: () => {
            if (connection.failure !== null) throw connection.failure;
            return connection.established ? true : undefined;
          },
        },
        { signal },
        connection.policy.deadlines.handshake,
      );
    } catch (error) {
      connection.dispatch({ type: 'abandon', how: 'destroyed' });
      // An alert that explains our refusal is on its way out: let it arrive.
      if (connection.ending.state.receive.kind === 'rejected' && !signal?.aborted) {
        const drop = () => connection.transport.destroy();
        signal?.addEventListener('abort', drop);
        await this.#closing.goodbye();
        signal?.removeEventListener('abort', drop);
      } else {
        this.#closing.drop();
      }
      throw error;
    }
    connection.observe({
      type: 'phase',
      name: 'handshake',
      protocol: connection.engine.info?.protocol,
    });
  }

  /** How the connection ended, or stands. A frozen snapshot, replaced when something changes. */
  get closure(): Closure {
    return this.#connection.closure;
  }

  /** The closure, once the ending is final and the transport is let go. Never rejects. */
  get closed(): Promise<Closure> {
    return this.#closing.over;
  }

  /** What the handshake agreed on. */
  get tls(): TlsInfo {
    const { info } = this.#connection.engine;
    if (info === null) throw new TypeError('the handshake is not complete');
    return info;
  }

  /** The peer's certificate, verified or not; null where it presented none. */
  get peerCertificate(): X509Certificate | null {
    return this.peerCertificateChain[0] ?? null;
  }

  /** The peer's certificate, then those of its issuers, as far as they are known. */
  get peerCertificateChain(): readonly X509Certificate[] {
    return this.#connection.engine.peer.certificates().map((der) => new X509Certificate(der));
  }

  /** The record of what happened, where `record` asked for one or passed one; otherwise null. */
  get transcript(): Transcript | null {
    const { observer } = this.#connection;
    return observer instanceof Transcript ? observer : null;
  }

  /**
   * The next bytes from the peer; null once the peer's close_notify has come and all is read.
   *
   * Cancelling a read, by signal or deadline, loses no data: the next read gets it.
   *
   * @throws {TruncatedError} when the transport ended without close_notify, after all bytes that
   *   came before were read.
   * @throws {AlertError | AbortedError | TimeoutError | AbortError}
   * @throws {UsageError} `ERR_TLS_READ_PENDING` while another read waits.
   */
  read(options?: WaitOptions): Promise<Uint8Array | null> {
    return this.#reading.read(options);
  }

  /** Reads until the peer's close_notify. Throws where `read` rejects, so never on a truncation. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const bytes = await this.read();
      if (bytes === null) return;
      yield bytes;
    }
  }

  /**
   * Writes bytes (a string as UTF-8). Resolves when the stream can take more; `shutdown` and
   * `close` wait until all of it is handed to the transport, which it is by the end of this turn of the event
   * loop unless the transport is full. The caller's memory is its own again as soon as this returns.
   *
   * Cancelling stops the wait, not the bytes.
   *
   * @throws {ShutdownError} after shutdown, after our close_notify answered the peer's, or when the transport takes
   *   no more while what the peer sent can still be read.
   * @throws {TruncatedError | AlertError | AbortedError | TimeoutError | AbortError}
   */
  write(data: Uint8Array | string, options?: WaitOptions): Promise<void> {
    return this.#writing.write(data, options);
  }

  /**
   * TLS closure: sends close_notify behind everything written, and waits for the peer's. The
   * transport is kept, for `unwrap` or `close`.
   *
   * With `wait: false` it resolves once close_notify is handed to the transport; reading can go on
   * (half-close), and a close_notify that comes later still makes the verdict `secure`. Without it,
   * data that arrives before the peer's close_notify stays readable. Calling it again joins the
   * wait, or gives the same closure.
   *
   * @returns the closure: `secure`, or `one-sided` where that was permitted.
   * @throws {TruncatedError | AlertError | AbortedError} for any other ending.
   * @throws {TimeoutError} when the deadline passes first; the verdict is then `timed-out`.
   * @throws {AbortError} when cancelled; the verdict is then `aborted`. An already aborted signal
   *   sends nothing.
   */
  shutdown(options: ShutdownOptions = {}): Promise<Closure> {
    return this.#closing.shutdown(options);
  }

  /**
   * After a full shutdown, takes the transport back for plaintext, or for TLS again. Data that was
   * not read stays readable.
   *
   * @throws {UsageError} `ERR_TLS_NOT_SHUTDOWN` unless both close_notify have been exchanged, or
   *   when the transport was closed or taken back already.
   */
  unwrap(): Promise<Unwrapped> {
    return this.#closing.unwrap();
  }

  /**
   * Shutdown, then the transport: FIN, and reading on until the peer's FIN so that nothing of ours
   * is lost on its way (at most `deadlines.close`). With `wait: false` the peer's close_notify is not
   * looked at any more. Whatever happens, the transport is closed when this settles. Calling it
   * again waits for the same, and gives the closure.
   *
   * @returns the closure.
   * @throws as `shutdown`, unless an earlier call has already rejected with that error.
   */
  close(options: CloseOptions = {}): Promise<Closure> {
    return this.#closing.close(options);
  }

  /** Closes. After an error that was already thrown it only cleans up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Drops the transport now, without an alert. Pending calls reject with `ERR_TLS_ABORTED`. */
  abort(): void {
    this.#closing.abort();
  }
}
