/**
 * The TLS engine: Node's `tls`, on top of a tap. With context.ts and socket-members.ts, all that touches
 * `node:tls`, so that another engine can take its place.
 *
 * What the engine adds to a `TLSSocket` is small: it sees the socket end, decides from the tap
 * whether a close_notify did that, and keeps every other end from looking like one.
 */
import { Buffer } from 'node:buffer';
import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { clientContext } from '../engine/context.ts';
import type { EngineError } from '../engine/failure.ts';
import { CONTENT_TYPE } from '../record/record.ts';
import { IS_NODE, process } from '../runtime.ts';
import { endByMessages, failMessages, isAbandoned, stakeOf } from '../strict/http-messages.ts';
import { type EngineHandle, type TapSocket, tapSocket } from '../tap/js-stream.ts';
import type { SeenRecord, Tap } from '../tap/tap.ts';
import { TapDuplex } from '../tap/tap-duplex.ts';
import { type Gathered, gather } from './gather.ts';
import { Inbox } from './inbox.ts';
import { judgeNames, lendMembers, type SocketOwner } from './socket-members.ts';

export type { ConnectionOptions, Server, TLSSocket } from 'node:tls';

/** What the engine reports. */
export interface EngineEvents {
  /** The handshake is complete and, on a client, the server's certificate was accepted. */
  onSecure(socket: tls.TLSSocket): void;
  /** An authenticated close_notify arrived. */
  onCloseNotify(): void;
  /** A close_notify arrived during the handshake, in the clear: it proves nothing. */
  onEarlyCloseNotify(): void;
  /**
   * The engine failed: a fatal alert, bad bytes, or a certificate that does not verify, in which
   * case `unauthorized` says why.
   */
  onError(error: EngineError, unauthorized: string | null): void;
  /** Where present: `take` has bytes that it had not. Told within the feeding of the engine. */
  onData?(): void;
  /** Where present: each line of the key log. */
  readonly onSecret?: ((line: string) => void) | undefined;
  /** Whether each record is to be told before the next one is looked at. */
  readonly stepwise?: boolean | undefined;
}

/** Options of `tls.connect` that mean something over a given transport. */
export type ClientTlsOptions = Omit<
  tls.ConnectionOptions,
  'socket' | 'host' | 'path' | 'port' | 'lookup' | 'allowHalfOpen' | 'onread' | 'signal'
> & { readonly host?: string | undefined; readonly highWaterMark?: number | undefined };

/** Options of `tls.createServer`. */
export type ServerTlsOptions = tls.TlsOptions;

/**
 * The TLS side of a server, built once for many connections: certificates, keys, tickets. It never
 * listens; connections are given to it.
 *
 * @throws whatever `tls.createServer` throws for options it does not take.
 */
export function createContext(options: ServerTlsOptions): tls.Server {
  return tls.createServer(options);
}

/**
 * As `tls.connect`, but for a session to resume. Given it as an option, Node 20 decodes it twice, for the socket and
 * once more behind it, each time as long as a tenth of a whole connection. Here it gets it once, while
 * it takes its transport for one that is not connected yet.
 */
function connectOver(below: TapSocket, options: tls.ConnectionOptions): tls.TLSSocket {
  const { session, ...others } = options;
  // Whatever else it may be, Node says what it makes of it. The method is not documented.
  const { setSession } = tls.TLSSocket.prototype as { setSession?: (session: Uint8Array) => void };
  if (!(session instanceof Uint8Array) || setSession === undefined) return tls.connect(options);
  below.connecting = true;
  const socket = tls.connect(others);
  setSession.call(socket, session);
  below.connected();
  return socket;
}

/** The same options with a context that others with equal ones may share. */
function withContext<Options extends tls.ConnectionOptions>(options: Options): Options {
  return { ...options, secureContext: options.secureContext ?? clientContext(options) };
}

/** One connection's engine. */
export class Engine implements SocketOwner {
  readonly #tap: Tap;
  /** What the socket is on, where that is no Duplex. */
  #below: TapSocket | null = null;
  #transport: Duplex | null = null;
  #judging = false;
  readonly #events: EngineEvents;
  #socket: tls.TLSSocket | null = null;
  #secure = false;
  /** Whether a record that we send can be an alert; what Bun says of the protocol is gone with the end. */
  #looksLikeAlert: (record: SeenRecord) => boolean = isAlert;
  #failed = false;
  /** `push` as the socket had it, which ends its stream when given null. */
  #push: tls.TLSSocket['push'] | null = null;
  /** Whether somebody besides us has the socket, to hear its 'end'. */
  #handedOut = false;
  /** The end that came before. */
  #heldEnd = false;
  #unsent = 0;
  /** What `take` has not taken; empty once somebody has the socket. */
  readonly #inbox = new Inbox();
  /** What the engine has decrypted within the feeding that goes on; null where it comes by push. */
  #gathered: Gathered | null = null;

  private constructor(tap: Tap, events: EngineEvents) {
    this.#tap = tap;
    this.#events = events;
  }

  /**
   * Begins a handshake as a client.
   *
   * @throws whatever `tls.connect` throws for options it does not take.
   */
  static client(
    tap: Tap,
    options: ClientTlsOptions,
    transport: Duplex,
    events: EngineEvents,
  ): Engine {
    const engine = new Engine(tap, events);
    tap.gatherFlights();
    // Looked up at each call: tls.connect may be replaced, by our own `register` or somebody's tracing.
    // `register` knows a tap when it sees one, and leaves it alone.
    // A program's own check is left as it is.
    const byNames = IS_NODE && options.checkServerIdentity === undefined;
    const check = byNames ? { checkServerIdentity: judgeNames(() => socket) } : {};
    const below = engine.#putBelow(tap, transport);
    const all = { ...withContext(options), ...check, socket: below };
    const socket: tls.TLSSocket =
      engine.#below === null ? tls.connect(all) : connectOver(engine.#below, all);
    engine.#adopt(socket, transport);
    engine.#judging = byNames;
    const { onSecret } = events;
    if (onSecret !== undefined) socket.on('keylog', (line) => onSecret(line.toString('latin1')));
    // Node emits 'secureConnect' only once the certificate has been judged.
    socket.once('secureConnect', () => {
      engine.#judging = false;
      engine.#onSecure();
    });
    return engine;
  }

  /**
   * Begins a handshake as a server, with the contexts, keys and callbacks of `server`.
   */
  static server(tap: Tap, server: tls.Server, transport: Duplex, events: EngineEvents): Engine {
    const engine = new Engine(tap, events);
    // Any Duplex can be injected into a tls.Server as a connection, and gets all that the server
    // does for its own (client certificates judged, SNI, ALPN, tickets). But the server then says
    // only "here is a secure socket", not which connection it belongs to. So this connection gets a
    // view of the server that tells by itself.
    const view: tls.Server = Object.create(server);
    view.emit = (name: string | symbol, ...args: unknown[]): boolean => {
      if (name === 'secureConnection') {
        engine.#adopt(args[0] as tls.TLSSocket, transport);
        engine.#onSecure();
        return true;
      }
      if (name === 'tlsClientError') {
        engine.#onError(args[0] as Error, args[1] as tls.TLSSocket);
        return true;
      }
      if (name === 'keylog' && events.onSecret !== undefined) {
        events.onSecret((args[0] as Buffer).toString('latin1'));
        return true;
      }
      return server.emit(name, ...args);
    };
    // A server asks its sockets for the key log only if somebody listens to it.
    if (events.onSecret !== undefined) {
      view.listenerCount = (name) => (name === 'keylog' ? 1 : server.listenerCount(name));
    }
    const below = engine.#putBelow(tap, transport);
    if (TELLS_ON_SERVER) engine.#hearOnServer(below, server, transport);
    EventEmitter.prototype.emit.call(view, 'connection', below);
    return engine;
  }

  /**
   * Bun tells of a connection on the server itself, whoever its listener is called on. Which connection
   * it is, its socket knows: somewhere in it is what it was put on.
   */
  #hearOnServer(below: Duplex, server: tls.Server, transport: Duplex): void {
    const mine = (socket: object | undefined) =>
      socket !== undefined &&
      Reflect.ownKeys(socket).some(
        (key) => (socket as Record<symbol, unknown>)[key as symbol] === below,
      );
    const onSecure = (socket: tls.TLSSocket) => {
      if (!mine(socket)) return;
      forget();
      this.#adopt(socket, transport);
      this.#onSecure();
    };
    const onError = (error: Error, socket: tls.TLSSocket) => {
      if (!mine(socket)) return;
      forget();
      this.#onError(error, socket);
    };
    const forget = () => {
      server.off('secureConnection', onSecure);
      server.off('tlsClientError', onError);
    };
    // As many as there are handshakes.
    server.setMaxListeners(0);
    server.on('secureConnection', onSecure);
    server.on('tlsClientError', onError);
    below.once('close', forget);
  }

  /** What TLS on this tap is to be put on: to Node's types a Duplex, and no more. */
  #putBelow(tap: Tap, transport: Duplex): Duplex {
    // With an authority of its own, or Node would read all that it trusts.
    const putTls = (on: Duplex) =>
      new tls.TLSSocket(on, { secureContext: tls.createSecureContext({ ca: [] }) });
    this.#below = tapSocket(tap, transport, putTls);
    return this.#below === null ? new TapDuplex(tap) : (this.#below as unknown as Duplex);
  }

  /** The TLS socket; on a server, null until the handshake is complete. */
  get socket(): tls.TLSSocket | null {
    return this.#socket;
  }

  /**
   * Somebody will listen to the socket. It gets what nobody has taken, and as 'end' is told only once,
   * one that came before is told now.
   */
  handOut(): void {
    this.#handedOut = true;
    if (this.#below?.endsAtOnce) this.#socket?.end();
    this.#inbox.drain((chunk) => this.#pushOn(chunk));
    if (!this.#heldEnd) return;
    this.#heldEnd = false;
    this.pretendEnd();
  }

  /** Whether `take` has to look into the socket, which tells 'readable'. */
  get handedOut(): boolean {
    return this.#handedOut;
  }

  /** Bytes that `discardWrites` has discarded. */
  get unsent(): number {
    return this.#unsent;
  }

  get #isTls13(): boolean {
    return this.#socket?.getProtocol() === 'TLSv1.3';
  }

  /** Takes decrypted bytes. */
  take(): Uint8Array | null {
    const socket = this.#socket;
    const wasFull = this.#inboxIsFull;
    const bytes = this.#inbox.take();
    if (bytes === null) return this.#handedOut && socket !== null ? socket.read() : null;
    if (wasFull && !this.#inboxIsFull && socket?.destroyed === false) socket._read(0);
    return bytes;
  }

  /** It holds as much as the socket would, and whoever feeds the engine was told so. */
  get #inboxIsFull(): boolean {
    return this.#socket !== null && this.#inbox.length >= this.#socket.readableHighWaterMark;
  }

  /** @returns whether more is wanted. */
  #receive(chunk: Uint8Array): boolean {
    this.#inbox.push(chunk);
    this.#events.onData?.();
    return !this.#inboxIsFull;
  }

  #pushOn(chunk: unknown, encoding?: BufferEncoding): boolean {
    return this.#push?.call(this.#socket as tls.TLSSocket, chunk, encoding) ?? false;
  }

  /** Ends our side: what was written before goes out, then close_notify. */
  end(): void {
    if (!this.endAtOnce()) this.#socket?.end();
  }

  /**
   * The same without the socket's stream, and within this call. Not to be called while the engine is fed.
   *
   * @returns false where the stream has something in it, or somebody else has it, and nothing has happened.
   */
  endAtOnce(): boolean {
    const socket = this.#socket;
    if (this.#below === null || this.#handedOut || !this.#secure) return false;
    if (socket === null || socket.destroyed || socket.writableLength > 0) return false;
    const { _handle: handle } = socket as unknown as { readonly _handle: EngineHandle };
    return this.#below.endEngine(handle, this.#looksLikeAlert);
  }

  /** Discards what was written but not yet encrypted; `end` then sends close_notify at once. */
  discardWrites(): void {
    const socket = this.#socket;
    if (socket === null || socket.writableLength === 0) return;
    const discard = (chunk: Uint8Array | string, encoding: BufferEncoding) => {
      this.#unsent += Buffer.byteLength(chunk, encoding);
    };
    socket._write = (chunk: Uint8Array | string, encoding, done) => {
      discard(chunk, encoding);
      done();
    };
    socket._writev = (chunks, done) => {
      for (const { chunk, encoding } of chunks) discard(chunk, encoding);
      done();
    };
  }

  /**
   * Ends a socket whose stream was cut: whoever reads it gets what was decrypted before, then `error`,
   * never 'end'. Only an HTTP reader that has no message in progress sees an end as Node's own: it
   * knows by itself what it has.
   */
  fail(error: Error): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#afterReading(() => {
      const socket = this.#socket;
      const stake = socket === null ? 'unknown' : stakeOf(socket);
      const byMessage =
        socket !== null &&
        stake === 'at-stake' &&
        endByMessages(socket, error, () => this.pretendEnd());
      if (stake === 'safe') this.pretendEnd();
      else if (!byMessage) this.destroy(socket !== null && isAbandoned(socket) ? undefined : error);
    });
  }

  /** Ends the socket as if closed, though it was not: for callers who asked only for a report. */
  pretendEnd(): void {
    const socket = this.#socket;
    if (socket === null || this.#push === null || socket.destroyed) return;
    if (!this.#handedOut) {
      this.#heldEnd = true;
      return;
    }
    this.#pushOn(null);
    socket.read(0);
  }

  /** Destroys the socket, and with it the tap. The transport is left alone. */
  destroy(error?: Error): void {
    this.#failed = true;
    if (this.#socket !== null) this.#socket.destroy(error);
    else this.#tap.destroy();
  }

  /** Runs `then` once the socket's decrypted bytes have been read. */
  #afterReading(then: () => void): void {
    if (!this.#inbox.isEmpty) {
      this.#inbox.onceEmpty(() => this.#afterReading(then));
      return;
    }
    const socket = this.#socket;
    if (socket === null || socket.readableLength === 0) {
      then();
      return;
    }
    // Whoever takes bytes out of a Readable (a pipe, an iterator, 'data') does it through read().
    const read = socket.read;
    socket.read = (size?: number) => {
      const chunk = read.call(socket, size);
      if (socket.readableLength === 0 && socket.read !== read) {
        socket.read = read;
        // By then they may have put some of it back.
        process.nextTick(() => this.#afterReading(then));
      }
      return chunk;
    };
  }

  #onSecure(): void {
    this.#secure = true;
    if (this.#isTls13) this.#looksLikeAlert = looksLikeAlert13;
    this.#tap.establish();
    // Who listens to each record wants to hear of it before what it brought.
    if (!this.#events.stepwise) {
      this.#tap.batch(this.#isTls13 ? looksLikeData13 : isData);
    }
    if (this.#socket !== null) this.#events.onSecure(this.#socket);
  }

  #onError(error: Error, socket: tls.TLSSocket): void {
    this.#deliver();
    if (this.#failed) return;
    const why = socket.authorizationError as unknown as string | null;
    this.#failed = true;
    this.#events.onError(error, this.#secure ? null : why || null);
    // After the handshake Node emits 'error' for what TLS refuses, but leaves the socket standing.
    this.#afterReading(() => this.destroy());
  }

  #adopt(socket: tls.TLSSocket, transport: Duplex): void {
    this.#socket = socket;
    socket.on('error', (error) => {
      // Before anyone else hears of it: Node's HTTP parser would take what it has for the whole.
      if (this.#secure) failMessages(socket, error);
      this.#onError(error, socket);
    });
    this.#push = socket.push;
    this.#transport = transport;
    lendMembers(socket, this);
    this.#gather(this.#tap, socket);
  }

  // ---- as the owner of a socket on a tap

  /** @internal */
  get transport(): Duplex {
    return this.#transport as Duplex;
  }

  /** @internal */
  get judging(): boolean {
    return this.#judging;
  }

  /**
   * @internal The socket calls _final when all that was written has been encrypted and taken by the tap, and
   * in it has close_notify made.
   */
  onFinal(
    final: (done: (error?: Error | null) => void) => void,
    done: (error?: Error | null) => void,
  ): void {
    if (this.#below?.endsAtOnce) {
      done();
      return;
    }
    const tap = this.#tap;
    if (this.#secure) tap.expectCloseNotify(this.#looksLikeAlert);
    // Deno calls back before it has written close_notify, and a socket that has ended on both sides
    // is then destroyed with it unsent. So nothing is final here before it went out.
    final((error) => {
      if (error || !this.#secure) done(error);
      else tap.afterCloseNotify(done);
    });
  }

  /** @internal */
  onRead(): void {
    if (this.#pauses) this.#tap.resume();
  }

  /** Whether nobody else tells the tap that the socket has enough. */
  get #pauses(): boolean {
    return PAUSE_IS_UNTOLD || this.#gathered !== null;
  }

  /** @internal */
  onPush(chunk: unknown, encoding: BufferEncoding | undefined): boolean {
    const tap = this.#tap;
    const socket = this.#socket as tls.TLSSocket;
    if (chunk !== null) {
      const more = this.#handedOut
        ? this.#pushOn(chunk, encoding)
        : this.#receive(chunk as Uint8Array);
      if (!more && this.#pauses) tap.pause();
      return more;
    }
    this.#deliver();
    // Node ends the stream also when its handle goes away. Only an end within the feeding of a
    // record is about what the peer sent.
    if (!tap.feeding || this.#failed) return false;
    // And a handshake that failed in this very record destroys the socket, which ends it too; its
    // error is told a little later.
    if (socket.destroyed) return false;
    if (!this.#secure) {
      this.#events.onEarlyCloseNotify();
      return false;
    }
    tap.stop('closed');
    this.#events.onCloseNotify();
    // Writes that wait would have gone out behind close_notify: then ours was not the last word.
    if (ANSWERS_BY_ITSELF && socket.writableLength === 0) tap.takeReply(this.#looksLikeAlert);
    this.#heldEnd = !this.#handedOut;
    return this.#heldEnd ? false : this.#pushOn(null);
  }

  #gather(tap: Tap, socket: tls.TLSSocket): void {
    const gathered = gather(socket, () => this.#deliver());
    if (gathered === null) return;
    this.#gathered = gathered;
    tap.feedBy((bytes, alone, feed) => {
      gathered.during(bytes, alone, feed);
      this.#deliver();
    });
  }

  /** Hands on what has been decrypted, as Node does for each record. */
  #deliver(): void {
    const gathered = this.#gathered;
    if (gathered === null) return;
    let threw = true;
    try {
      for (let piece = gathered.take(); piece !== null; piece = gathered.take()) {
        this.#socket?.push(piece);
      }
      threw = false;
    } finally {
      // Whoever got that piece did; the next one is not to wait until something else comes.
      if (threw) process.nextTick(() => this.#deliver());
    }
  }
}

/** Bun tells of a server's connections on the server itself, never on a view of it. */
const TELLS_ON_SERVER = 'bun' in process.versions;

/** Bun's engine answers close_notify within the feeding of it, in both versions. */
const ANSWERS_BY_ITSELF = 'bun' in process.versions;

/**
 * Deno's engine does not tell the tap when the socket has enough. It takes all the same, keeps the rest to
 * itself, and with it the end, which would then seem not to have come.
 */
const PAUSE_IS_UNTOLD = 'deno' in process.versions;

/** TLS 1.2 names the content type of a protected record in its header. */
const isAlert = ({ type }: SeenRecord): boolean => type === CONTENT_TYPE.alert;

/**
 * TLS 1.3 hides it (RFC 9846 section 5.2). But of what may follow the last application data, only an
 * alert is two bytes long; with the type byte and the AEAD's tag (16 bytes, or 8 for CCM_8) that
 * makes 19 or 11. Handshake messages (tickets, KeyUpdate) are longer, and Node adds no padding.
 */
const looksLikeAlert13 = ({ type, length }: SeenRecord): boolean =>
  type === CONTENT_TYPE.applicationData && (length === 19 || length === 11);

const isData = ({ type }: SeenRecord): boolean => type === CONTENT_TYPE.applicationData;

/** What is too long for an alert, unless it is padded: more than two bytes, a type byte and a tag. */
const looksLikeData13 = ({ type, length }: SeenRecord): boolean =>
  type === CONTENT_TYPE.applicationData && length > 19;
