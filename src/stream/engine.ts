/**
 * The TLS engine: Node's `tls`, on top of a tap. The only file that touches `node:tls`, so that
 * another engine can take its place.
 *
 * What the engine adds to a `TLSSocket` is small: it sees the socket end, decides from the tap
 * whether a close_notify did that, and keeps every other end from looking like one.
 */
import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { CONTENT_TYPE } from '../record/record.ts';
import type { EngineError } from './diagnose.ts';
import type { SeenRecord, Tap } from './tap.ts';

export type { Server, TLSSocket } from 'node:tls';

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
  /** Where present: each line of the key log. */
  readonly onSecret?: ((line: string) => void) | undefined;
}

/** Options of `tls.connect` that mean something over a given transport. */
export type ClientTlsOptions = Omit<
  tls.ConnectionOptions,
  'socket' | 'host' | 'path' | 'port' | 'lookup' | 'allowHalfOpen' | 'onread' | 'signal'
> & { readonly host?: string | undefined };

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

/** One connection's engine. */
export class Engine {
  readonly #tap: Tap;
  readonly #events: EngineEvents;
  #socket: tls.TLSSocket | null = null;
  #secure = false;
  #failed = false;
  /** `push` as the socket had it, which ends its stream when given null. */
  #push: ((chunk: unknown) => boolean) | null = null;
  #unsent = 0;

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
    const socket = tls.connect({ ...options, socket: tap });
    engine.#adopt(socket, transport);
    const { onSecret } = events;
    if (onSecret !== undefined) socket.on('keylog', (line) => onSecret(line.toString('latin1')));
    // Node emits 'secureConnect' only once the certificate has been judged.
    socket.once('secureConnect', () => engine.#onSecure());
    return engine;
  }

  /** Begins a handshake as a server, with the contexts, keys and callbacks of `server`. */
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
    EventEmitter.prototype.emit.call(view, 'connection', tap);
    return engine;
  }

  /** The TLS socket; on a server, null until the handshake is complete. */
  get socket(): tls.TLSSocket | null {
    return this.#socket;
  }

  /** Bytes that `discardWrites` has discarded. */
  get unsent(): number {
    return this.#unsent;
  }

  /** Ends our side: what was written before goes out, then close_notify. */
  end(): void {
    this.#socket?.end();
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
   * Fails the socket: whoever reads it gets what was decrypted before, then `error`, never 'end'.
   */
  fail(error: Error): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#afterReading(() => this.destroy(error));
  }

  /** Ends the socket as if closed, though it was not: for callers who asked only for a report. */
  pretendEnd(): void {
    if (this.#socket === null || this.#push === null) return;
    this.#push(null);
    this.#socket.read(0);
  }

  /** Destroys the socket, and with it the tap. The transport is left alone. */
  destroy(error?: Error): void {
    this.#failed = true;
    if (this.#socket !== null) this.#socket.destroy(error);
    else this.#tap.destroy();
  }

  /** Runs `then` once the socket's decrypted bytes have been read. */
  #afterReading(then: () => void): void {
    const socket = this.#socket;
    if (socket === null || socket.readableLength === 0) {
      then();
      return;
    }
    // Whoever takes bytes out of a Readable (a pipe, an iterator, 'data') does it through read().
    const read = socket.read;
    socket.read = (size?: number) => {
      const chunk = read.call(socket, size);
      if (socket.readableLength === 0) {
        socket.read = read;
        process.nextTick(then);
      }
      return chunk;
    };
  }

  #onSecure(): void {
    this.#secure = true;
    if (this.#socket !== null) this.#events.onSecure(this.#socket);
  }

  #onError(error: Error, socket: tls.TLSSocket): void {
    if (this.#failed) return;
    this.#failed = true;
    const why = socket.authorizationError as unknown as string | null;
    this.#events.onError(error, this.#secure ? null : why || null);
    // After the handshake Node emits 'error' but leaves the socket standing.
    this.#afterReading(() => this.destroy());
  }

  #adopt(socket: tls.TLSSocket, transport: Duplex): void {
    this.#socket = socket;
    lendAddresses(socket, transport);
    socket.on('error', (error) => this.#onError(error, socket));

    // The socket calls _final when all that was written has been encrypted and taken by the tap, and
    // in it has close_notify made.
    const final = socket._final;
    socket._final = (done) => {
      const tls13 = socket.getProtocol() === 'TLSv1.3';
      if (this.#secure) this.#tap.expectCloseNotify(tls13 ? looksLikeAlert13 : isAlert);
      final.call(socket, done);
    };

    const push = socket.push;
    this.#push = (chunk) => push.call(socket, chunk);
    socket.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
      if (chunk !== null) return push.call(socket, chunk, encoding);
      // Node ends the stream also when its handle goes away. Only an end within the feeding of a
      // record is about what the peer sent.
      if (!this.#tap.feeding || this.#failed) return false;
      // And a handshake that failed in this very record destroys the socket, which ends it too; its
      // error is told a little later.
      if (socket.destroyed) return false;
      if (!this.#secure) {
        this.#events.onEarlyCloseNotify();
        return false;
      }
      this.#tap.stop();
      this.#events.onCloseNotify();
      return push.call(socket, null);
    };
  }
}

/** TLS 1.2 names the content type of a protected record in its header. */
const isAlert = ({ type }: SeenRecord): boolean => type === CONTENT_TYPE.alert;

/**
 * TLS 1.3 hides it (RFC 9846 section 5.2). But of what may follow the last application data, only an
 * alert is two bytes long; with the type byte and the AEAD's tag (16 bytes, or 8 for CCM_8) that
 * makes 19 or 11. Handshake messages (tickets, KeyUpdate) are longer, and Node adds no padding.
 */
const looksLikeAlert13 = ({ type, length }: SeenRecord): boolean =>
  type === CONTENT_TYPE.applicationData && (length === 19 || length === 11);

/** The members of a net.Socket that a TLS socket on a Duplex lacks, taken from the transport. */
const ADDRESSES = [
  'remoteAddress',
  'remotePort',
  'remoteFamily',
  'localAddress',
  'localPort',
  'localFamily',
] as const;
const METHODS = ['setNoDelay', 'setKeepAlive', 'ref', 'unref', 'address'] as const;

function lendAddresses(socket: tls.TLSSocket, transport: Duplex): void {
  const source = transport as unknown as Record<string, unknown>;
  for (const name of ADDRESSES) {
    Object.defineProperty(socket, name, { configurable: true, get: () => source[name] });
  }
  for (const name of METHODS) {
    const method = source[name];
    if (typeof method !== 'function') continue;
    Object.defineProperty(socket, name, {
      configurable: true,
      writable: true,
      value: (...args: unknown[]) => {
        const result = method.apply(transport, args);
        // The chainable ones return the socket that they were called on.
        return result === transport ? socket : result;
      },
    });
  }
}
