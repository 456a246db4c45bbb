/**
 * A TLS stream that knows how it ended.
 *
 * Theory of operation. Three parts report here: the tap (records, the transport's ending), the
 * engine (handshake done, close_notify, errors), and the caller (through the methods). Each report
 * becomes one event for the closure machine, through `#dispatch`, and the state that comes out is
 * the only thing that the methods look at to decide whether they may return. Every call that waits
 * is a question asked of that state again whenever something changes (`#until`), so there is one
 * place where waits, deadlines and signals meet.
 *
 * What was decrypted and nobody has read waits in the engine, or in the socket once that was taken. There
 * is one buffer besides: what `shutdown` had to take out of the way of the close_notify behind it.
 */
import { Buffer } from 'node:buffer';
import type { X509Certificate } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { Duplex } from 'node:stream';
import {
  type AlertDetail,
  type ClosureEvent,
  type CutPoint,
  INITIAL,
  step,
} from '../closure/machine.ts';
import type { Policy } from '../closure/policy.ts';
import { type Closure, closureOf, verdictOf } from '../closure/verdict.ts';
import { type EngineError, engineError, eventOf } from '../engine/failure.ts';
import { truncatedError } from '../engine/truncation.ts';
import {
  AbortError,
  AbortedError,
  AlertError,
  type CloseNotifyError,
  OptionError,
  type Phase,
  ShutdownError,
  TimeoutError,
  UsageError,
} from '../errors.ts';
import { parseAlert } from '../record/alert.ts';
import { apart, process } from '../runtime.ts';
import { Tap, type TapEvents, type TransportEnding } from '../tap/tap.ts';
import {
  checkWaitOptions,
  Patience,
  type Question,
  Questions,
  Wait,
  type WaitOptions,
  withLimits,
} from '../wait.ts';
import type { DuplexOptions, TlsDuplex } from './duplex.ts';
import type { Engine, EngineEvents, TLSSocket } from './engine.ts';
import { Faces } from './faces.ts';
import { type Observation, type Observer, tell } from './observer.ts';
import { Outbox } from './outbox.ts';
import {
  addressOf,
  callTransport,
  certificateChain,
  exportKeyingMaterial,
  peerCertificate,
  sessionOf,
  summarize,
  type TransportMembers,
} from './peer.ts';
import { Transcript } from './transcript.ts';
import { closeTransport, ignoreErrors } from './transport.ts';

/** What the handshake agreed on. */
export interface TlsInfo {
  /** `TLSv1.2` or `TLSv1.3`. */
  readonly protocol: string;
  /** The cipher suite's standard name, such as `TLS_AES_128_GCM_SHA256`. */
  readonly cipher: string;
  /** The application protocol agreed on by ALPN, or null. */
  readonly alpn: string | null;
  /** The name that the client asked for (SNI), or null. */
  readonly servername: string | null;
  /** Whether the peer's certificate verified. On a server without `requestCert`: false. */
  readonly authorized: boolean;
  /** Why not, as a code such as `CERT_HAS_EXPIRED`; null where it did. */
  readonly authorizationError: string | null;
  /** Whether an earlier session was resumed. */
  readonly resumed: boolean;
}

/** Options of `shutdown`. */
export interface ShutdownOptions extends WaitOptions {
  /** Whether to wait for the peer's close_notify; true by default. */
  readonly wait?: boolean | undefined;
  /** What to do with data that nobody reads; the stream's policy by default. */
  readonly unread?: Policy['unread'] | undefined;
}

/** Options of `close`. */
export type CloseOptions = ShutdownOptions;

/** A transport, taken back. */
export interface Unwrapped {
  /** The transport, paused, with the listeners that it had before, and none of ours. */
  readonly transport: Duplex;
  /** What the peer sent after its close_notify, as far as it was read from the transport. */
  readonly trailing: Uint8Array;
}

/** What `TlsStream.open` needs. */
export interface OpenOptions {
  readonly role: 'client' | 'server';
  readonly transport: Duplex;
  readonly head?: Uint8Array | undefined;
  readonly policy: Policy;
  readonly signal?: AbortSignal | undefined;
  readonly observer?: Observer | undefined;
  /** `performance.now()` at the connection's start, from which its times count. */
  readonly startedAt: number;
  /** Begins the handshake. */
  readonly start: (tap: Tap, events: EngineEvents) => Engine;
}

/** What all waits of one kind have in common. */
interface WaitKind<T, A = undefined> {
  readonly phase: Phase;
  /** What did not happen in time. */
  readonly message: string;
  /**
   * Whether running out of time or being cancelled is an event of the closure: the handshake and the
   * shutdown end that way, a read does not.
   */
  readonly ends?: boolean;
  /** Undefined for as long as there is none. */
  answer(stream: TlsStream, argument: A): T | undefined;
  /** Told when the wait begins, and when it is over, before its promise settles. */
  during?(stream: TlsStream, waiting: boolean): void;
}

/** TLS over a transport, with a verdict on how it ended. Made by `connect`, `accept`, `createServer`. */
export class TlsStream implements AsyncDisposable, TransportMembers {
  readonly #role: 'client' | 'server';
  readonly #transport: Duplex;
  readonly #policy: Policy;
  readonly #observer: Observer | undefined;
  readonly #startedAt: number;
  readonly #tap: Tap;
  readonly #engine: Engine;

  #state = INITIAL;
  #snapshot: Closure | null = null;
  #info: TlsInfo | null = null;
  /** Why reads and writes fail from now on. Set once, by what ended the stream first. */
  #failure: CloseNotifyError | null = null;
  /** Whether a call has rejected with the failure already. */
  #reported = false;
  /** The alert that we sent in the clear, during the handshake: it explains why that failed. */
  #sentAlert: AlertDetail | null = null;

  /** Questions to ask again when something changes. */
  readonly #questions = new Questions();
  /** Of reads, and of writes: each often one after the other. */
  #readPatience: Patience | null = null;
  #writePatience: Patience | null = null;
  #listening = false;
  #drainListening = false;
  #reading = false;
  /** What shutdown took out of the socket's way. */
  readonly #kept: Uint8Array[] = [];
  #keptBytes = 0;
  #late = 0;
  /** What is written; made by the first write. */
  #outbox: Outbox | null = null;

  /** Whether the caller has used the stream's own methods, and whether it has taken the socket. */
  #driven = false;
  #lent = false;
  /** abort() was called: what was not read by then is gone. */
  #aborted = false;
  /** The tap has let go of the transport. */
  #released = false;
  /** The caller has taken the transport back. */
  #unwrapped = false;
  #closing: Promise<Closure> | null = null;
  #isClosing = false;
  #goodbye: Promise<void> | null = null;
  /** Who has the stream, where its own methods have it not. */
  #faces: Faces | null = null;
  #peerCertificate: X509Certificate | null = null;
  #peerCertificateChain: X509Certificate[] | null = null;
  readonly #over: { readonly promise: Promise<Closure>; readonly resolve: () => void };

  /** What is told from below, in one object: as closures it would be a dozen for each connection. */
  static readonly #Reports = class implements TapEvents, EngineEvents {
    readonly #stream: TlsStream;
    readonly stepwise: boolean;
    readonly onBytes: TapEvents['onBytes'];
    readonly onSecret: EngineEvents['onSecret'];

    constructor(stream: TlsStream, observer: Observer | undefined) {
      this.#stream = stream;
      this.stepwise = observer !== undefined;
      this.onBytes = observer?.onBytes
        ? (direction, bytes) => apart(() => observer.onBytes?.(direction, bytes, stream.#now()))
        : undefined;
      this.onSecret = observer?.onSecret
        ? (line) => apart(() => observer.onSecret?.(line))
        : undefined;
    }

    onRecord(
      direction: 'sent' | 'received',
      type: number,
      length: number,
      alert: Uint8Array | null,
    ): void {
      this.#stream.#onRecord(direction, type, length, alert);
    }

    onTransportEnd(ending: TransportEnding): void {
      this.#stream.#onTransportEnd(ending);
    }

    onCloseNotifySent(): void {
      this.#stream.#onCloseNotifySent();
    }

    onDestroyed(): void {
      this.#stream.#onTapDestroyed();
    }

    onSecure(socket: TLSSocket): void {
      this.#stream.#onSecure(socket);
    }

    onData(): void {
      this.#stream.#ask();
    }

    onCloseNotify(): void {
      this.#stream.#onCloseNotify();
    }

    onEarlyCloseNotify(): void {
      this.#stream.#onEarlyCloseNotify();
    }

    onError(error: EngineError, unauthorized: string | null): void {
      this.#stream.#onEngineError(error, unauthorized);
    }
  };

  /** @internal */
  static async open(options: OpenOptions): Promise<TlsStream> {
    const stream = new TlsStream(options);
    await stream.#handshake(options.signal);
    return stream;
  }

  private constructor(options: OpenOptions) {
    this.#role = options.role;
    let over = () => {};
    const promise = new Promise<Closure>((resolve) => {
      over = () => resolve(this.closure);
    });
    this.#over = { promise, resolve: over };
    this.#transport = options.transport;
    this.#policy = options.policy;
    const { observer } = options;
    this.#observer = observer;
    this.#startedAt = options.startedAt;
    const reports = new TlsStream.#Reports(this, observer);
    this.#tap = new Tap(options.transport, reports, options.head);
    try {
      this.#engine = options.start(this.#tap, reports);
    } catch (cause) {
      // The engine refused its options before it touched the transport.
      this.#tap.detach();
      this.#tap.unmute();
      throw new OptionError((cause as Error).message, { cause });
    }
  }

  // ---- what a caller sees

  /** How the connection ended, or stands. A frozen snapshot, replaced when something changes. */
  get closure(): Closure {
    this.#snapshot ??= closureOf(this.#state, { late: this.#late, unsent: this.#unsent });
    return this.#snapshot;
  }

  get #unsent(): number {
    return this.#engine.unsent + (this.#outbox?.dropped ?? 0);
  }

  /** What the handshake agreed on. */
  get tls(): TlsInfo {
    if (this.#info === null) throw new TypeError('the handshake is not complete');
    return this.#info;
  }

  /** The record of what happened, where `record` asked for one or passed one; otherwise null. */
  get transcript(): Transcript | null {
    return this.#observer instanceof Transcript ? this.#observer : null;
  }

  /**
   * The TLS socket itself: a real `tls.TLSSocket`, strict in that a truncated stream gives 'error'
   * (`ERR_TLS_TRUNCATED`) where plain Node gives 'end'. For pipes, `https` and drivers, at full
   * speed. Use either the socket or the stream's own read and write, not both at once.
   */
  get socket(): TLSSocket {
    this.#lent = true;
    if (!this.#tap.feeding) this.#outbox?.flush();
    this.#engine.handOut();
    // A call that waits for bytes now has to hear of them from the socket, unless its 'data' is taken.
    if (!this.#questions.isEmpty) process.nextTick(() => this.#listen());
    return this.#tlsSocket;
  }

  get #tlsSocket(): TLSSocket {
    const socket = this.#engine.socket;
    if (socket === null) throw new TypeError('the handshake is not complete');
    return socket;
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
    try {
      this.#faces?.refuseCall('read');
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#read(options);
  }

  #read(options?: WaitOptions): Promise<Uint8Array | null> {
    try {
      if (options !== undefined) {
        checkWaitOptions(options);
        throwIfAborted(options.signal, 'read');
      }
      if (this.#reading) {
        throw new UsageError('ERR_TLS_READ_PENDING', 'another read is waiting', {
          phase: 'read',
          closure: this.closure,
          hint: 'await the first read before the next one',
        });
      }
      this.#driven = true;
      this.#listen();
      // What is there already takes no wait.
      const bytes = this.#aborted ? null : this.#takeBytes();
      return bytes === null ? this.#readLater(options) : Promise.resolve(this.#observeRead(bytes));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #readLater(options: WaitOptions = {}): Promise<Uint8Array | null> {
    const deadline = this.#policy.deadlines.read;
    this.#readPatience ??= new Patience();
    return this.#until(TlsStream.#READ, undefined, options, deadline, this.#readPatience);
  }

  static readonly #READ: WaitKind<Uint8Array | null> = {
    phase: 'read',
    message: 'no data came',
    answer(stream) {
      const bytes = stream.#take();
      return bytes === undefined ? undefined : stream.#observeRead(bytes);
    },
    during(stream, reading) {
      stream.#reading = reading;
      // A shutdown may have waited for room, or for its turn to take what is unread.
      if (!reading && !stream.#questions.isEmpty) process.nextTick(TlsStream.#askLater, stream);
    },
  };

  #observeRead(bytes: Uint8Array | null): Uint8Array | null {
    if (bytes !== null) {
      this.#outbox?.onRead();
      if (this.#observer !== undefined) {
        this.#observe({ type: 'data', direction: 'received', bytes: bytes.length });
      }
    }
    return bytes;
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
   * @throws {ShutdownError} after shutdown, or after our close_notify answered the peer's.
   * @throws {UsageError} `ERR_TLS_TAKEN` once `toDuplex()` or `writable` was asked for.
   * @throws {TruncatedError | AlertError | AbortedError | TimeoutError | AbortError}
   */
  write(data: Uint8Array | string, options?: WaitOptions): Promise<void> {
    try {
      this.#faces?.refuseCall('write');
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#write(data, options);
  }

  #write(data: Uint8Array | string, options?: WaitOptions): Promise<void> {
    try {
      if (options !== undefined) {
        checkWaitOptions(options);
        throwIfAborted(options.signal, 'write');
      }
      if (typeof data !== 'string' && !(data instanceof Uint8Array)) {
        throw new OptionError('data must be a Uint8Array or a string');
      }
      this.#driven = true;
      this.#mayWrite();
      if (this.#observer !== undefined) {
        this.#observe({ type: 'data', direction: 'sent', bytes: Buffer.byteLength(data) });
      }
      if (data.length === 0) return DONE;
      const socket = this.#tlsSocket;
      this.#outbox ??= new Outbox(socket, this.#tap);
      // Most writes need not wait, and then not a promise of their own either.
      return this.#outbox.post(data) ? DONE : this.#drained(socket, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #drained(socket: TLSSocket, options: WaitOptions = {}): Promise<void> {
    this.#listenForDrain(socket);
    const deadline = this.#policy.deadlines.write;
    this.#writePatience ??= new Patience();
    await this.#until(TlsStream.#WRITE, socket, options, deadline, this.#writePatience);
  }

  static readonly #WRITE: WaitKind<true, TLSSocket> = {
    phase: 'write',
    message: 'the peer does not read: nothing was taken',
    answer(stream, socket) {
      if (stream.#failure !== null) throw stream.#failure;
      switch (stream.#state.send.kind) {
        case 'open':
          return socket.writableNeedDrain ? undefined : true;
        case 'closing':
          return undefined;
        default:
          // close_notify went out behind these bytes, unless they were discarded for it.
          if (stream.#unsent > 0) stream.#mayWrite();
          return true;
      }
    },
  };

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
    try {
      checkShutdownOptions(options);
      throwIfAborted(options.signal, 'shutdown');
      this.#observeCall('shutdown', options);
      return this.#shutdown(options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #shutdown(options: ShutdownOptions): Promise<Closure> {
    const { wait = true, unread = this.#policy.unread } = options;
    this.#driven = true;
    // What has failed stays as it ended, whatever the caller now asks for.
    if (this.#failure === null) this.#dispatch({ type: wait ? 'wait' : 'waive' });
    this.#sendCloseNotify(true);
    this.#listen();
    const how = { wait, unread };
    // What stands already takes no wait.
    if (this.#failure === null && options.signal?.aborted !== true) {
      const closure = TlsStream.#SHUTDOWN.answer(this, how);
      if (closure !== undefined) return Promise.resolve(closure);
    }
    return this.#until(TlsStream.#SHUTDOWN, how, options, this.#policy.deadlines.shutdown);
  }

  static readonly #SHUTDOWN: WaitKind<
    Closure,
    { readonly wait: boolean; readonly unread: Policy['unread'] }
  > = {
    phase: 'shutdown',
    message: 'the peer sent no close_notify',
    ends: true,
    answer(stream, { wait, unread }) {
      stream.#collect(unread);
      // As it is now: the promise settles a little later.
      return stream.#isShutDown(wait) ? stream.closure : undefined;
    },
  };

  /**
   * After a full shutdown, takes the transport back for plaintext, or for TLS again. Data that was
   * not read stays readable.
   *
   * @throws {UsageError} `ERR_TLS_NOT_SHUTDOWN` unless both close_notify have been exchanged, or
   *   when the transport was closed or taken back already.
   */
  async unwrap(): Promise<Unwrapped> {
    const { send, receive } = this.#state;
    if (send.kind !== 'closed' || receive.kind !== 'closed' || this.#released) {
      throw new UsageError(
        'ERR_TLS_NOT_SHUTDOWN',
        this.#released
          ? 'the transport has been closed or taken back already'
          : 'unwrap needs both close_notify to have been exchanged',
        {
          closure: this.closure,
          hint: 'await shutdown() first; its verdict must be secure',
        },
      );
    }
    this.#observe({ type: 'call', name: 'unwrap', detail: null });
    this.#driven = true;
    this.#unwrapped = true;
    this.#keepUnread();
    const trailing = this.#detach();
    this.#tap.unmute();
    if (trailing.length > 0) this.#observe({ type: 'trailing', bytes: trailing.length });
    this.#dispatch({ type: 'release' });
    this.#engine.destroy();
    this.#over.resolve();
    return { transport: this.#transport, trailing };
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
  async close(options: CloseOptions = {}): Promise<Closure> {
    checkShutdownOptions(options);
    const closing = this.#closing;
    if (closing === null) {
      this.#isClosing = true;
      this.#closing = this.#close(options);
      return this.#closing;
    }
    return withLimits<Closure>(
      (resolve) => {
        closing.then(resolve, () => resolve(this.closure));
        return undefined;
      },
      options,
      {
        onDeadline: (ms) =>
          new TimeoutError(`the stream was not closed within ${ms} ms`, {
            phase: 'close',
            closure: this.closure,
          }),
        onAbort: (cause) => new AbortError({ phase: 'close', closure: this.closure, cause }),
      },
    );
  }

  /** Closes. After an error that was already thrown it only cleans up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Drops the transport now, without an alert. Pending calls reject with `ERR_TLS_ABORTED`. */
  abort(): void {
    if (this.#unwrapped) return;
    this.#observe({ type: 'call', name: 'abort', detail: null });
    this.#aborted = true;
    this.#outbox?.clear();
    // Whatever failed before, from here on it is the caller who wants no more.
    this.#failure = null;
    this.#end(
      { type: 'abandon', how: 'destroyed' },
      (closure) => new AbortedError('the stream was aborted', { closure }),
    );
    this.#dropTransport();
    this.#engine.destroy();
  }

  // ---- its other faces

  get #otherFaces(): Faces {
    const stream = this;
    this.#faces ??= new Faces(
      {
        read: () => this.#read(FOR_EVER),
        write: (bytes) => this.#write(bytes, FOR_EVER),
        shutdown: () => this.shutdown({ wait: false, ...FOR_EVER }),
        close: () => this.close(),
        abort: () => this.abort(),
        closed: this.closed,
        get receiving() {
          return stream.#state.receive.kind === 'open' && stream.#failure === null;
        },
        get reading() {
          return stream.#reading;
        },
      },
      this.#transport,
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
    return this.#otherFaces.toDuplex(options);
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
    return this.#otherFaces.readable;
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

  /** The closure, once it is final and the transport was let go. Never rejects. */
  get closed(): Promise<Closure> {
    return this.#over.promise;
  }

  // ---- the other end

  /** The peer's certificate; null where it presented none. To be asked for before the stream is closed. */
  get peerCertificate(): X509Certificate | null {
    this.#peerCertificate ??= peerCertificate(this.#tlsSocket);
    return this.#peerCertificate;
  }

  /**
   * The peer's certificate and those above it, each followed by its issuer, with the one that this side trusts.
   * To be asked for before the stream is closed.
   */
  get peerCertificateChain(): readonly X509Certificate[] {
    if (this.#peerCertificateChain !== null) return this.#peerCertificateChain;
    const chain = certificateChain(this.#tlsSocket);
    if (chain.length > 0) this.#peerCertificateChain = chain;
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
    return exportKeyingMaterial(this.#tlsSocket, length, label, context);
  }

  /**
   * The session, for `connect({ session })`. In TLS 1.3 it can be resumed only once the server's ticket has come;
   * the option `onSession` hears of that. Null where there is none, or the stream is closed.
   */
  getSession(): Uint8Array | null {
    return sessionOf(this.#tlsSocket);
  }

  /** The peer's address; undefined where the transport has none, or is closed. */
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

  /** @internal What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return summarize({
      role: this.#role,
      ...this.tls,
      transport: this.#transport,
      closure: this.closure,
    });
  }

  // ---- the handshake

  async #handshake(signal: AbortSignal | undefined): Promise<void> {
    try {
      const deadline = this.#policy.deadlines.handshake;
      await this.#until(TlsStream.#HANDSHAKE, undefined, { signal }, deadline);
    } catch (error) {
      this.#dispatch({ type: 'abandon', how: 'destroyed' });
      // An alert that explains our refusal is on its way out: let it arrive.
      if (this.#state.receive.kind === 'rejected' && !signal?.aborted) {
        const drop = () => this.#transport.destroy();
        signal?.addEventListener('abort', drop);
        const goodbye = this.#sayGoodbye();
        this.#engine.destroy();
        await goodbye;
        signal?.removeEventListener('abort', drop);
      } else {
        this.#dropTransport();
        this.#engine.destroy();
      }
      throw error;
    }
    this.#observe({ type: 'phase', name: 'handshake', protocol: this.#info?.protocol });
  }

  static readonly #HANDSHAKE: WaitKind<true> = {
    phase: 'handshake',
    message: 'the TLS handshake was not completed',
    ends: true,
    answer(stream) {
      if (stream.#failure !== null) throw stream.#failure;
      return stream.#info === null ? undefined : true;
    },
  };

  #onSecure(socket: TLSSocket): void {
    this.#info = {
      protocol: socket.getProtocol() ?? 'unknown',
      cipher: socket.getCipher().standardName ?? socket.getCipher().name,
      alpn: socket.alpnProtocol || null,
      servername: (socket as { servername?: string | false }).servername || null,
      authorized: socket.authorized,
      authorizationError: (socket.authorizationError as unknown as string | null) || null,
      resumed: socket.isSessionReused(),
    };
    this.#dispatch({ type: 'established' });
  }

  // ---- reports from below

  #onRecord(
    direction: 'sent' | 'received',
    type: number,
    length: number,
    body: Uint8Array | null,
  ): void {
    if (this.#observer !== undefined) {
      this.#observe({ type: 'record', direction, contentType: type, length });
    }
    const alert = body === null ? null : parseAlert(body);
    if (alert === null || this.#info !== null) return;
    const detail = { code: alert.code, name: alert.name, authenticated: false };
    if (direction === 'sent') this.#sentAlert = detail;
    this.#observe({ type: 'alert', direction, alert: detail });
  }

  #onCloseNotify(): void {
    this.#observe({ type: 'close-notify', direction: 'received' });
    this.#dispatch({ type: 'close-notify-received', evidence: 'inferred' });
    const { answer } = this.#policy;
    this.#answerForSocket();
    const tls12 = this.#info?.protocol !== 'TLSv1.3';
    if (answer === 'when-told' || (answer === 'by-version' && !tls12)) return;
    if (this.#state.send.kind !== 'open') return;
    if (tls12) {
      this.#outbox?.drop();
      this.#engine.discardWrites();
    }
    this.#sendCloseNotify();
  }

  /** Whoever uses the socket alone expects it to end itself after 'end', as Node's do. */
  #answerForSocket(): void {
    this.#tlsSocket.once('end', () => {
      const alone = this.#lent && !this.#driven;
      if (alone && this.#policy.answer !== 'when-told') this.#sendCloseNotify();
    });
  }

  #onEarlyCloseNotify(): void {
    const alert = { code: 0, name: 'close_notify', authenticated: false };
    this.#end(
      { type: 'alert-received', alert },
      (closure) =>
        new AlertError('the peer sent close_notify before the handshake was complete', {
          phase: 'handshake',
          closure,
        }),
    );
  }

  #onEngineError(error: EngineError, unauthorized: string | null): void {
    const established = this.#info !== null;
    const failure = { error, unauthorized, established };
    const event = eventOf(failure, this.#sentAlert);
    // One in the clear has been told as it went by.
    if (established && event.type !== 'abandon') {
      const direction = event.type === 'alert-sent' ? 'sent' : 'received';
      this.#observe({ type: 'alert', direction, alert: event.alert });
    }
    this.#end(event, (closure) => engineError(failure, event, closure));
  }

  #onTransportEnd(ending: TransportEnding): void {
    this.#afterTransport(ending);
    // The transport is gone by itself.
    if (ending.cause !== 'eof') this.#over.resolve();
  }

  #afterTransport({ cause, error, insideRecord }: TransportEnding): void {
    const because = error === null ? {} : { cause: error };
    if (cause === 'destroyed') {
      const failure = this.#end(
        { type: 'abandon', how: 'destroyed' },
        (closure) =>
          new AbortedError('the transport was destroyed on this side', { closure, ...because }),
      );
      this.#engine.fail(failure);
      return;
    }
    const where: CutPoint =
      this.#info === null ? 'handshake' : insideRecord ? 'inside-record' : 'record-boundary';
    const event: ClosureEvent & Observation =
      cause === 'eof'
        ? { type: 'transport-eof', where }
        : { type: `transport-${cause}`, where, code: error?.code ?? 'UNKNOWN' };
    this.#observe(event);
    if (this.#state.receive.kind === 'closed') {
      if (cause === 'eof') {
        this.#dispatch(event);
        return;
      }
      this.#end(
        event,
        (closure) =>
          new ShutdownError('the transport broke after the peer had closed: nothing can be sent', {
            closure,
            ...because,
          }),
      );
      return;
    }
    if (cause === 'eof' && this.#onlyReports) {
      this.#dispatch(event);
      this.#answerForSocket();
      this.#engine.pretendEnd();
      return;
    }
    const failure = this.#end(event, (closure) => truncatedError(cause, where, closure, error));
    this.#engine.fail(failure);
  }

  /**
   * Whether the caller wants the peer's missing close_notify reported rather than raised. That the
   * transport broke, or ended during the handshake, is an error all the same.
   */
  get #onlyReports(): boolean {
    return !this.#policy.requireCloseNotify && this.#info !== null;
  }

  #onCloseNotifySent(): void {
    this.#observe({ type: 'close-notify', direction: 'sent' });
    this.#dispatch({ type: 'close-notify-sent', evidence: 'inferred' });
  }

  /** The engine let go: it was destroyed, by itself after both ends, by a failure, or by a user. */
  #onTapDestroyed(): void {
    // A handshake that fails destroys the socket first and tells its error after.
    if (this.#released || this.#info === null) return;
    const { send, receive } = this.#state;
    const over = send.kind === 'closed' && receive.kind !== 'open' && this.#failure === null;
    // The transport stays for unwrap() or close(), unless only the socket was used.
    if (over && (this.#driven || !this.#lent)) return;
    if (!over && this.#failure === null) {
      this.#end(
        { type: 'abandon', how: 'destroyed' },
        (closure) =>
          new AbortedError('the TLS socket was destroyed on this side', {
            closure,
            cause: this.#engine.socket?.errored ?? undefined,
          }),
      );
      this.#dropTransport();
      return;
    }
    void this.#sayGoodbye();
  }

  // ---- acting on it

  /**
   * @param asked whether a call of the caller's own asks for it. All others are told of something within a call
   *   of the engine's, or of the socket's, that others are told within, too, and may still write in.
   */
  #sendCloseNotify(asked = false): void {
    if (this.#state.send.kind !== 'open' || this.#failure !== null) return;
    this.#dispatch({ type: 'shutdown' });
    if (asked && this.#isIdle && this.#engine.endAtOnce()) return;
    process.nextTick(TlsStream.#endEngine, this);
  }

  /** Nothing is on its way that this call could be within. */
  get #isIdle(): boolean {
    return this.#observer === undefined && !this.#tap.feeding && this.#outbox?.isEmpty !== false;
  }

  static readonly #endEngine = (stream: TlsStream) => {
    stream.#outbox?.flush();
    stream.#engine.end();
  };

  async #close(options: CloseOptions): Promise<Closure> {
    this.#observeCall('close', options);
    this.#driven = true;
    if (this.#unwrapped) return this.closure;
    if (this.#aborted) {
      await this.#sayGoodbye();
      return this.closure;
    }
    // From here on nothing that the peer says is looked at, so the outcome hangs on no race.
    if (options.wait === false) this.#tap.stop('waived');
    const known = this.#failure !== null && this.#reported;
    const { caller } = this.#state;
    try {
      // An earlier shutdown has waited in vain, and said so.
      if (caller.kind !== 'expired' && caller.kind !== 'cancelled') await this.#shutdown(options);
    } catch (error) {
      if (!known) throw error;
    } finally {
      const { send, receive } = this.#state;
      if (send.kind !== 'closed' || receive.kind !== 'closed') {
        this.#end(
          { type: 'abandon', how: 'closed' },
          (closure) => new AbortedError('the stream was closed', { closure }),
        );
      }
      // Reads go on to get what had arrived, and null where the peer's close_notify had, too.
      this.#keepUnread();
      const goodbye = this.#sayGoodbye();
      this.#engine.destroy();
      await goodbye;
    }
    return this.closure;
  }

  /** FIN and a kind wait for the peer's, once. */
  #sayGoodbye(): Promise<void> {
    this.#goodbye ??= this.#endTransport();
    return this.#goodbye;
  }

  async #endTransport(): Promise<void> {
    this.#letGo();
    this.#dispatch({ type: 'abandon', how: 'closed' });
    if (!this.#transport.destroyed) this.#observe({ type: 'transport-closed', how: 'end' });
    await closeTransport(this.#transport, this.#policy.deadlines.close);
    this.#over.resolve();
  }

  #dropTransport(): void {
    this.#letGo();
    ignoreErrors(this.#transport);
    if (!this.#transport.destroyed) {
      this.#observe({ type: 'transport-closed', how: 'destroy' });
      this.#transport.destroy();
    }
    // Later, so that it is told behind what the caller of abort() sees at once.
    queueMicrotask(this.#over.resolve);
  }

  #letGo(): void {
    const trailing = this.#state.receive.kind === 'closed' ? this.#tap.unfedLength : 0;
    if (trailing > 0) this.#observe({ type: 'trailing', bytes: trailing });
    this.#detach();
  }

  /** @returns what came after the peer's close_notify. */
  #detach(): Uint8Array {
    this.#released = true;
    this.#readPatience?.end();
    this.#writePatience?.end();
    return this.#tap.detach();
  }

  /** Whether a shutdown has all that it waits for. @throws what the stream has failed with. */
  #isShutDown(wait: boolean): boolean {
    const { send, receive } = this.#state;
    if (this.#aborted) throw this.#failure;
    if (send.kind === 'closed' && (receive.kind === 'closed' || !wait)) return true;
    // The peer closed, then its transport broke: it did not want our answer.
    if (send.kind === 'cut' && receive.kind === 'closed') return true;
    if (this.#failure !== null) throw this.#failure;
    return receive.kind === 'truncated' && send.kind === 'closed' && this.#onlyReports;
  }

  // ---- reading and writing

  #take(): Uint8Array | null | undefined {
    if (this.#aborted) throw this.#failure;
    const bytes = this.#takeBytes();
    if (bytes !== null) return bytes;
    const { receive } = this.#state;
    if (receive.kind === 'closed') return null;
    if (this.#failure !== null) throw this.#failure;
    return receive.kind === 'truncated' && this.#onlyReports ? null : undefined;
  }

  #takeBytes(): Uint8Array | null {
    const kept = this.#kept.shift();
    if (kept === undefined) return this.#takeOut();
    this.#keptBytes -= kept.length;
    return kept;
  }

  /** Moves what nobody reads out of the way of the close_notify behind it. */
  #collect(unread: Policy['unread']): void {
    // Whoever listens to the socket's 'data' is its reader, paused or not.
    const socket = this.#engine.socket;
    const taken = socket?.readableFlowing === true || (socket?.listenerCount('data') ?? 0) > 0;
    if (this.#reading || taken || (this.#faces?.reads && !this.#isClosing)) return;
    while (unread === 'discard' || this.#keptBytes < this.#policy.unreadLimit) {
      const chunk = this.#takeOut();
      if (chunk === null) return;
      this.#late += chunk.length;
      this.#snapshot = null;
      if (unread === 'keep') this.#keep(chunk);
    }
  }

  /** What nobody has read moves out of the socket, which is about to go. */
  #keepUnread(): void {
    for (let chunk = this.#takeOut(); chunk !== null; chunk = this.#takeOut()) this.#keep(chunk);
  }

  #takeOut(): Uint8Array | null {
    return this.#engine.take();
  }

  #keep(chunk: Uint8Array): void {
    this.#kept.push(chunk);
    this.#keptBytes += chunk.length;
  }

  #mayWrite(): void {
    if (this.#state.send.kind === 'open' && this.#failure === null) return;
    if (this.#failure !== null) throw this.#failure;
    throw new ShutdownError('write after shutdown', {
      closure: this.closure,
      hint:
        this.#state.initiator === 'peer'
          ? 'the peer closed first, and TLS 1.2 asks for an answer at once'
          : 'close_notify is the last thing that a party sends',
    });
  }

  /** Have the socket say when there is something to read, if somebody has it. */
  #listen(): void {
    const socket = this.#engine.socket;
    if (this.#listening || socket === null || !this.#engine.handedOut) return;
    if (socket.readableFlowing === true) return;
    // Whoever listens to 'data' is its reader. A stream that has a listener to 'readable' never flows.
    if (socket.listenerCount('data') > 0) return;
    this.#listening = true;
    socket.on('readable', () => this.#ask());
  }

  #listenForDrain(socket: TLSSocket): void {
    if (this.#drainListening) return;
    this.#drainListening = true;
    socket.on('drain', () => this.#ask());
  }

  // ---- waiting

  #ask(): void {
    this.#questions.ask();
  }

  static readonly #askLater = (stream: TlsStream) => stream.#ask();

  /**
   * Waits until the answer is something other than undefined, or thrown.
   *
   * @param deadline where the options say none.
   * @param patience keeps the deadline, unless another wait has it.
   */
  #until<T, A>(
    kind: WaitKind<T, A>,
    argument: A,
    options: WaitOptions,
    deadline: number,
    patience?: Patience,
  ): Promise<T> {
    const limits = options.deadline === undefined ? { signal: options.signal, deadline } : options;
    const wait = new TlsStream.#Wait(this, kind, argument);
    return wait.within(limits, patience?.busy === true ? undefined : patience);
  }

  static readonly #Wait = class<T, A> extends Wait<T> implements Question {
    readonly #stream: TlsStream;
    readonly #kind: WaitKind<T, A>;
    readonly #argument: A;

    constructor(stream: TlsStream, kind: WaitKind<T, A>, argument: A) {
      super();
      this.#stream = stream;
      this.#kind = kind;
      this.#argument = argument;
    }

    ask(): void {
      try {
        const found = this.#kind.answer(this.#stream, this.#argument);
        if (found !== undefined) this.resolve(found);
      } catch (error) {
        if (error === this.#stream.#failure) this.#stream.#reported = true;
        this.reject(error);
      }
    }

    protected override begin(): void {
      this.#stream.#questions.add(this);
      this.#kind.during?.(this.#stream, true);
      this.ask();
    }

    protected override end(): void {
      this.#stream.#questions.delete(this);
      this.#kind.during?.(this.#stream, false);
    }

    protected override onDeadline(ms: number): Error {
      const stream = this.#stream;
      const { phase, message, ends } = this.#kind;
      stream.#observe({ type: 'deadline', phase, ms });
      if (ends) stream.#dispatch({ type: 'deadline' });
      return new TimeoutError(`${message} within ${ms} ms`, {
        phase,
        closure: stream.closure,
        hint: stream.#timeoutHint(phase),
      });
    }

    protected override onAbort(reason: unknown): Error {
      const stream = this.#stream;
      const { phase, ends } = this.#kind;
      stream.#observe({ type: 'call', name: 'cancel', detail: phase });
      if (ends) stream.#dispatch({ type: 'cancel' });
      return new AbortError({ phase, closure: stream.closure, cause: reason });
    }
  };

  #timeoutHint(phase: Phase): string | undefined {
    if (phase !== 'shutdown') return undefined;
    return this.#keptBytes >= this.#policy.unreadLimit && this.#keptBytes > 0
      ? 'unread data is in the way, up to unreadLimit: read it, or shut down with unread: discard'
      : "the peer's last bytes may be missing; wait: false does without its answer";
  }

  // ---- state

  /** Moves the state on, then asks every waiting question again. */
  #dispatch(event: ClosureEvent): void {
    this.#step(event);
    this.#ask();
  }

  /**
   * The same for an event that fails the stream: no question is asked before the failure stands.
   * The first failure stays; later ones are its consequences.
   */
  #end(event: ClosureEvent, failure: (closure: Closure) => CloseNotifyError): CloseNotifyError {
    this.#step(event);
    this.#failure ??= failure(this.closure);
    this.#ask();
    return this.#failure;
  }

  #step(event: ClosureEvent): void {
    const state = this.#state;
    const next = step(state, event, this.#now());
    if (next === state) return;
    this.#state = next;
    this.#snapshot = null;
    if (this.#observer === undefined) return;
    const verdict = verdictOf(next);
    if (verdict !== verdictOf(state)) this.#observe({ type: 'verdict', verdict });
  }

  #observeCall(name: 'shutdown' | 'close', { wait = true }: ShutdownOptions): void {
    this.#observe({ type: 'call', name, detail: wait ? null : 'wait: false' });
  }

  #now(): number {
    return performance.now() - this.#startedAt;
  }

  #observe(observation: Observation): void {
    if (this.#observer !== undefined) tell(this.#observer, observation, this.#now());
  }
}

const DONE: Promise<void> = Promise.resolve();
/** A Duplex waits without a deadline. */
const FOR_EVER = { deadline: Number.POSITIVE_INFINITY } as const;

function throwIfAborted(signal: AbortSignal | undefined, phase: Phase): void {
  if (signal?.aborted) throw new AbortError({ phase, cause: signal.reason });
}

function checkShutdownOptions(options: ShutdownOptions): void {
  checkWaitOptions(options);
  if (options.wait !== undefined && typeof options.wait !== 'boolean') {
    throw new OptionError('wait must be a boolean');
  }
  if (options.unread !== undefined && options.unread !== 'keep' && options.unread !== 'discard') {
    throw new OptionError("unread must be 'keep' or 'discard'");
  }
}
