/**
 * A TLS stream that knows how it ended: the face of a connection, and nothing else. What stands behind a method is in
 * reading.ts, writing.ts and closing.ts, on the state in connection.ts.
 */
import { X509Certificate } from 'node:crypto';
import type { Closure } from '../closure/verdict.ts';
import type { TlsInfo } from '../engine/contract.ts';
import { UsageError } from '../errors.ts';
import { TruncationTranscript } from '../transcript/on-truncation.ts';
import { Transcript } from '../transcript/transcript.ts';
import type { WaitOptions } from '../wait.ts';
import { type CloseOptions, Closing, type ShutdownOptions, type Unwrapped } from './closing.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import type { DuplexOptions, TlsDuplex } from './duplex.ts';
import { Faces } from './faces.ts';
import {
  addressOf,
  callTransport,
  exportKeyingMaterial,
  summarize,
  type TransportMembers,
} from './peer.ts';
import { Reading } from './reading.ts';
import { Writing } from './writing.ts';

/** What `TlsStream.open` needs. */
export interface OpenOptions extends ConnectionOptions {
  /** Of this side. */
  readonly role: 'client' | 'server';
  readonly signal?: AbortSignal | undefined;
}

/** TLS over a transport, with a verdict on how it ended. Made by `connect`, `accept`, `createServer`. */
export class TlsStream implements AsyncDisposable, TransportMembers {
  readonly #role: 'client' | 'server';
  readonly #connection: Connection;
  readonly #reading: Reading;
  readonly #writing: Writing;
  readonly #closing: Closing;
  /** Who has the stream, where its own methods have it not. */
  #faces: Faces | null = null;
  #certificate: X509Certificate | null = null;
  #chain: readonly X509Certificate[] | null = null;

  static {
    // Not among the types: what a compiler sees, it refuses by itself.
    Object.defineProperty(TlsStream.prototype, 'socket', {
      get() {
        throw new UsageError('ERR_TLS_REMOVED', 'a TlsStream has no socket any more', {
          hint: 'toDuplex() gives a Node Duplex that is strict alike; secureSocket() is a real tls.TLSSocket',
        });
      },
    });
  }

  /** @internal Begins the handshake, and waits for its end. */
  static async open(options: OpenOptions): Promise<TlsStream> {
    const stream = new TlsStream(options);
    await stream.#handshake(options.signal);
    return stream;
  }

  private constructor(options: OpenOptions) {
    this.#role = options.role;
    this.#connection = new Connection(options);
    this.#reading = new Reading(this.#connection, this.read);
    this.#writing = new Writing(this.#connection, this.write);
    this.#closing = new Closing(this.#connection, this.#reading, this.#writing, this.shutdown);
    const { observer } = options;
    if (observer instanceof TruncationTranscript) {
      void this.#closing.over.then((closure) => observer.conclude(closure));
    }
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

  /**
   * The record of what happened, where `record` asked for one or passed one; otherwise null. One that was asked for
   * 'on-truncation' is null until bytes may be missing.
   */
  get transcript(): Transcript | null {
    const { observer, closure } = this.#connection;
    if (observer instanceof TruncationTranscript && closure.incomplete !== true) return null;
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
   * @throws {UsageError} `ERR_TLS_READ_PENDING` while another read waits; `ERR_TLS_TAKEN` once `toDuplex()` or
   *   `readable` was asked for.
   */
  read(options?: WaitOptions): Promise<Uint8Array | null> {
    return this.#untaken('read') ?? this.#reading.read(options);
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
   * @throws {UsageError} `ERR_TLS_TAKEN` once `toDuplex()` or `writable` was asked for.
   * @throws {TruncatedError | AlertError | AbortedError | TimeoutError | AbortError}
   */
  write(data: Uint8Array | string, options?: WaitOptions): Promise<void> {
    return this.#untaken('write') ?? this.#writing.write(data, options);
  }

  /** @returns a rejection where a face has this direction. */
  #untaken(direction: 'read' | 'write'): Promise<never> | null {
    try {
      this.#faces?.refuseCall(direction);
      return null;
    } catch (error) {
      return Promise.reject(error);
    }
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
   * 'I am done': close_notify and FIN go out behind everything written. It is over at the peer's close_notify or at its
   * FIN, whichever is first; a peer that says neither is left at the deadline (`deadlines.close`, which covers all of
   * this). With `wait: false` it is over once ours is handed to the transport. The transport then lingers by itself
   * (`linger`), so that nothing of ours is lost on its way; `closed` tells when it is gone.
   *
   * What the peer does not say is no error, since nobody wants more of it: the verdict is `secure` with its
   * close_notify, and `one-sided` without. A connection that was cut before keeps its verdict.
   *
   * @returns the closure. Calling it again gives the same promise.
   * @throws {ShutdownError | TimeoutError} where bytes that were written are not known to have been taken by the
   *   transport, and neither `write` nor `shutdown` has failed with that; `cause` is what the connection failed with.
   * @throws {AbortError} when cancelled; the transport is destroyed then.
   */
  close(options: CloseOptions = {}): Promise<Closure> {
    return this.#closing.close(options);
  }

  /**
   * As `close()`, but where a call has told the program of the trouble it does not reject: the program may be throwing
   * just that. After a `close()` of the program's own it only waits for that. So it rejects only for lost bytes that
   * nobody has heard of; with an error of the program's own beside it, the two come in a SuppressedError.
   *
   * @throws {ShutdownError | TimeoutError}
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closing.dispose();
  }

  /** Drops the transport now, without an alert. Pending calls reject with `ERR_TLS_ABORTED`. */
  abort(): void {
    this.#closing.abort();
  }

  // ---- its other faces

  get #otherFaces(): Faces {
    const connection = this.#connection;
    const reading = this.#reading;
    this.#faces ??= new Faces(
      {
        read: () => reading.read(FOR_EVER),
        write: (bytes) => this.#writing.write(bytes, FOR_EVER),
        shutdown: () => this.shutdown({ wait: false, ...FOR_EVER }),
        close: () => this.close(),
        idle: () => connection.dispatch({ type: 'idle' }),
        abort: () => this.abort(),
        closed: this.closed,
        get receiving() {
          return connection.ending.state.receive.kind === 'open' && connection.failure === null;
        },
        get reading() {
          return reading.pending;
        },
      },
      connection.transport,
      () => this.closure,
    );
    return this.#faces;
  }

  /**
   * The stream as a Node `Duplex`: for pipes, HTTP and drivers. It is made once, and given again by each call. From
   * then on `read`, `write` and iteration reject with `ERR_TLS_TAKEN`; `shutdown`, `close` and `abort` work on.
   *
   * - 'end' is the peer's close_notify. Any other ending is an 'error', the one that `read` rejects with, behind all
   *   bytes that came before.
   * - `end()` sends close_notify behind all that was written, and does not wait for the peer's: reading goes on.
   * - When both sides have ended, the stream is closed as by `close()`; then comes 'close'.
   * - `destroy()` before that, or with an error, is `abort()`.
   *
   * It waits without deadlines, as Node's streams do.
   *
   * @throws {UsageError} `ERR_TLS_TAKEN` where `readable` or `writable` was asked for before;
   *   `ERR_TLS_READ_PENDING` while a read waits.
   * @throws {OptionError}
   */
  toDuplex(options?: DuplexOptions): TlsDuplex {
    const duplex = this.#otherFaces.toDuplex(options);
    this.#reading.taken = true;
    return duplex;
  }

  /**
   * What the peer sends, as a WHATWG byte stream. Once it was asked for, `read` rejects with `ERR_TLS_TAKEN`.
   *
   * It closes with the peer's close_notify, and errors with what `read` rejects with, behind all bytes. `cancel()`
   * is `abort()`.
   *
   * @throws {UsageError} `ERR_TLS_TAKEN` after `toDuplex()`; `ERR_TLS_READ_PENDING` while a read waits.
   */
  get readable(): ReadableStream<Uint8Array> {
    const { readable } = this.#otherFaces;
    this.#reading.taken = true;
    return readable;
  }

  /**
   * What is sent to the peer, as a WHATWG stream of bytes. Once it was asked for, `write` rejects with
   * `ERR_TLS_TAKEN`.
   *
   * Its `close()` sends close_notify behind all that was written, and does not wait for the peer's. Its `abort()` is
   * the stream's. Where `readable` was taken, too, the stream is closed when both have ended.
   *
   * @throws {UsageError} `ERR_TLS_TAKEN` after `toDuplex()`.
   */
  get writable(): WritableStream<Uint8Array> {
    return this.#otherFaces.writable;
  }

  // ---- the other end

  /** The peer's certificate; null where it presented none. To be asked for before the stream is closed. */
  get peerCertificate(): X509Certificate | null {
    if (this.#certificate !== null) return this.#certificate;
    const own = this.#connection.engine.peer.certificate();
    if (own !== null) this.#certificate = new X509Certificate(own);
    return this.#certificate;
  }

  /**
   * The peer's certificate and those above it, each followed by its issuer, with the one that this side trusts.
   * To be asked for before the stream is closed.
   */
  get peerCertificateChain(): readonly X509Certificate[] {
    if (this.#chain !== null) return this.#chain;
    const chain = this.#connection.engine.peer
      .certificates()
      .map((der) => new X509Certificate(der));
    if (chain.length > 0) this.#chain = chain;
    return chain;
  }

  /**
   * Keying material for another protocol, bound to this connection (RFC 5705; RFC 9846 section 7.5).
   *
   * @param length how many bytes.
   * @returns null where the runtime has no exporter, or the stream is closed.
   * @throws {OptionError}
   */
  exportKeyingMaterial(length: number, label: string, context?: Uint8Array): Uint8Array | null {
    return exportKeyingMaterial(this.#connection.engine.peer, length, label, context);
  }

  /**
   * The session, for `connect({ session })`. In TLS 1.3 it can be resumed only once the server's ticket has come;
   * the option `onSession` hears of that. Null where there is none, or the stream is closed.
   */
  getSession(): Uint8Array | null {
    return this.#connection.engine.peer.session();
  }

  /** The peer's address; undefined where the transport has none, or is closed. */
  get remoteAddress(): string | undefined {
    return addressOf(this.#connection.transport, 'remoteAddress');
  }

  /** The peer's port. */
  get remotePort(): number | undefined {
    return addressOf(this.#connection.transport, 'remotePort');
  }

  /** `IPv4` or `IPv6`. */
  get remoteFamily(): string | undefined {
    return addressOf(this.#connection.transport, 'remoteFamily');
  }

  /** This side's address. */
  get localAddress(): string | undefined {
    return addressOf(this.#connection.transport, 'localAddress');
  }

  /** This side's port. */
  get localPort(): number | undefined {
    return addressOf(this.#connection.transport, 'localPort');
  }

  /** `IPv4` or `IPv6`. */
  get localFamily(): string | undefined {
    return addressOf(this.#connection.transport, 'localFamily');
  }

  /** As `net.Socket`'s; nothing on a transport that has none. */
  setNoDelay(noDelay?: boolean): this {
    callTransport(this.#connection.transport, 'setNoDelay', noDelay);
    return this;
  }

  /** As `net.Socket`'s; the delay is in milliseconds. */
  setKeepAlive(enable?: boolean, initialDelay?: number): this {
    callTransport(this.#connection.transport, 'setKeepAlive', enable, initialDelay);
    return this;
  }

  /** The connection keeps the process alive, as it does by default. */
  ref(): this {
    callTransport(this.#connection.transport, 'ref');
    return this;
  }

  /** The connection alone does not keep the process alive. */
  unref(): this {
    callTransport(this.#connection.transport, 'unref');
    return this;
  }

  /** @internal What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return summarize({
      role: this.#role,
      ...this.tls,
      transport: this.#connection.transport,
      closure: this.closure,
    });
  }
}

/** Node's streams know no deadlines. */
const FOR_EVER = { deadline: Number.POSITIVE_INFINITY };
