/**
 * The tapped engine: `node:tls` on a tap, by its documented API alone, on Node, Deno and Bun. It is plain on purpose:
 * every other engine is held against it.
 *
 * Theory of operation. The tap feeds TLS record by record, and TLS gives what it decrypts by `push` within that call;
 * from there it goes into a queue for `take`. The TLS socket's own streams are not used for reading, so its end and its
 * pauses mean nothing here. What is known of alerts comes from the tap, which reads the records.
 *
 * Where a runtime gives no key log (Deno), close_notify is inferred: TLS ends its stream within the feeding of a
 * record, which it does for nothing else. `TlsInfo.evidence` says so.
 *
 * An engine that fails may have an alert to send, behind writes that are still on their way. So a failure is told once
 * that alert has left, or cannot leave.
 */
import { Buffer } from 'node:buffer';
import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import { performance } from 'node:perf_hooks';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import tls from 'node:tls';
import { closes, type SeenAlert, type TransportEnding, type Way } from '../closure/ending.ts';
import type { Evidence } from '../closure/machine.ts';
import type { EndingAlert } from '../record/conversation.ts';
import { IS_BUN, IS_DENO, process } from '../runtime.ts';
import { Tap, type TapEvents, type TapOptions } from '../tap/tap.ts';
import { after } from '../wait.ts';
import { checkAlpn, clientContext, refusalOf } from './context.ts';
import type { Engine, EngineEvents, EngineFailure, Peer, TlsInfo } from './contract.ts';
import { inferredAlert } from './failure.ts';
import type { ClientTlsOptions, EngineOptions, ServerTlsOptions } from './options.ts';
import { Outgoing } from './outgoing.ts';
import { PeerOfSocket } from './peer.ts';

/** Whether the runtime gives the key log. */
const HAS_KEY_LOG = !IS_DENO;

/** What this engine's claims rest on, on this runtime. */
export const EVIDENCE: Evidence = HAS_KEY_LOG ? 'record' : 'inferred';

/** Decrypted bytes that wait for `take`; with as many, TLS is fed no more. */
const WAITING = 65_536;

/** Chunks are joined up to so many bytes: whoever reads small records has many at a time. */
const JOINED = 8_192;

/** Where a connection is told of whose endings nothing can be claimed. */
const unwatched = channel('close-notify.unwatched');

export class TappedEngine implements Engine, TapEvents {
  readonly peer: Peer;
  readonly #events: EngineEvents;
  readonly #linger: number;
  readonly #transport: Duplex;
  readonly #tap: Tap;
  #socket: tls.TLSSocket | null = null;
  #outgoing: Outgoing | null = null;
  #info: TlsInfo | null = null;
  readonly #incoming: Uint8Array[] = [];
  #waiting = 0;
  #given = 0;
  /** Alerts that nobody was told of: TLS is still being fed, or the handshake is not complete. */
  readonly #alerts: Told[] = [];
  #closing: 'no' | 'asked' | 'ended' = 'no';
  /** A fatal alert came; TLS is to fail of it. */
  #doomed = false;
  #failing = false;

  private constructor(options: EngineOptions, role: TapOptions['role']) {
    const { transport, head, events, linger } = options;
    this.#events = events;
    this.#linger = linger;
    this.#transport = transport;
    this.#tap = new Tap({ transport, role, head, readable: HAS_KEY_LOG }, this);
    this.peer = new PeerOfSocket(() => this.#socket);
  }

  /** Begins a handshake as a client. @throws {OptionError} for options that `tls.connect` does not take. */
  static client(options: EngineOptions, tlsOptions: ClientTlsOptions): TappedEngine {
    checkAlpn(tlsOptions);
    const engine = new TappedEngine(options, 'client');
    try {
      const secureContext =
        tlsOptions.secureContext ?? clientContext(tlsOptions as tls.ConnectionOptions);
      // Looked up at each call: tls.connect may be replaced, by our own `register` or somebody's tracing. `register`
      // knows a tap when it sees one, and leaves it alone.
      const session = tlsOptions.session && Buffer.from(tlsOptions.session);
      const socket = tls.connect({ ...tlsOptions, session, secureContext, socket: engine.#tap });
      engine.#adopt(socket);
      socket.on('keylog', (line) => engine.#onSecret(line));
      socket.on('error', (error) => engine.#onError(error, socket));
      // Told only once the certificate has been judged.
      socket.once('secureConnect', () => engine.#onSecure(socket));
      const { onSession } = options.events;
      if (onSession !== undefined) socket.on('session', onSession);
    } catch (error) {
      engine.#tap.detach(true);
      throw refusalOf(error as Error, tlsOptions);
    }
    return engine;
  }

  /** Begins a handshake as a server. */
  static server(options: EngineOptions, context: TappedContext): TappedEngine {
    const engine = new TappedEngine(options, 'server');
    context.accept(engine.#tap, {
      onSecret: (line) => engine.#onSecret(line),
      onSocket: (socket) => {
        engine.#adopt(socket);
        socket.on('error', (error) => engine.#onError(error, socket));
        engine.#onSecure(socket);
      },
      onError: (error, socket) => engine.#onError(error, socket),
    });
    return engine;
  }

  get info(): TlsInfo | null {
    return this.#info;
  }

  #adopt(socket: tls.TLSSocket): void {
    this.#socket = socket;
    this.#outgoing = new Outgoing(socket, this.#tap);
    socket.push = (chunk: Uint8Array | null) => this.#onPush(chunk);
    socket.on('drain', () => this.#onDrain());
  }

  // ---- the handshake

  #onSecret(line: Buffer): void {
    this.#tap.secret(line);
    this.#events.onSecret?.(line.toString('latin1'));
  }

  #onSecure(socket: tls.TLSSocket): void {
    if (this.#info !== null || this.#failing) return;
    const reason = this.#tap.unreadable;
    this.#info = {
      protocol: socket.getProtocol() ?? 'unknown',
      cipher: socket.getCipher().standardName ?? socket.getCipher().name,
      alpn: socket.alpnProtocol || null,
      servername: (socket as { servername?: string | false }).servername || null,
      authorized: socket.authorized,
      authorizationError: (socket.authorizationError as unknown as string | null) || null,
      resumed: socket.isSessionReused(),
      engine: 'tapped',
      evidence: EVIDENCE,
    };
    if (HAS_KEY_LOG && reason !== null && unwatched.hasSubscribers) {
      unwatched.publish({ socket: this.#transport, reason });
    }
    this.#events.onSecure(this.#info);
    if (!this.#tap.feeding) this.onFed();
  }

  // ---- reading

  /** @internal */
  get wants(): boolean {
    return this.#waiting < WAITING;
  }

  /** @internal */
  get given(): number {
    return this.#given;
  }

  #onPush(chunk: Uint8Array | null): boolean {
    if (chunk === null) {
      // TLS ends its stream also when its socket goes away. Only within the feeding of a record is that about what the
      // peer sent.
      if (!HAS_KEY_LOG && this.#tap.feeding && !this.#failing)
        this.#infer('received', CLOSE_NOTIFY);
      return false;
    }
    if (chunk.length === 0) return true;
    this.#given += chunk.length;
    this.#waiting += chunk.length;
    this.#incoming.push(chunk);
    return true;
  }

  take(most = Number.POSITIVE_INFINITY): Uint8Array | null {
    let first = this.#incoming.shift();
    if (first === undefined) return null;
    if (first.length > most) {
      this.#incoming.unshift(first.subarray(most));
      first = first.subarray(0, most);
    }
    const chunks = [first];
    let { length } = first;
    for (let next = this.#incoming[0]; next !== undefined; next = this.#incoming[0]) {
      if (length + next.length > Math.min(JOINED, most)) break;
      chunks.push(next);
      length += next.length;
      this.#incoming.shift();
    }
    const wanted = this.wants;
    this.#waiting -= length;
    // Behind this call: whoever waits would be asked, and take what comes next, before this has returned.
    if (!wanted && this.wants) process.nextTick(feedMore, this.#tap);
    return chunks.length === 1 ? first : Buffer.concat(chunks, length);
  }

  pause(): void {
    this.#tap.hold();
  }

  resume(): void {
    this.#tap.unhold();
  }

  // ---- writing

  get writable(): boolean {
    return this.#outgoing?.writable ?? false;
  }

  write(bytes: Uint8Array): boolean {
    this.#outgoing?.push(bytes);
    return this.writable;
  }

  #onDrain(): void {
    this.#outgoing?.flush();
    if (this.writable) this.#events.onDrain();
    this.#endWhenDue();
  }

  get unsent(): number {
    return this.#outgoing?.unsent ?? 0;
  }

  /** @internal Once the transport has refused a write, TLS is told that it took it, and those behind it. */
  onRefused(): void {
    this.#outgoing?.onRefused();
  }

  closeWrite(): void {
    if (this.#closing !== 'no') return;
    this.#closing = 'asked';
    // Within a call of TLS its shutdown would have it read on. What is written within this turn goes out before.
    setImmediate(() => this.#endWhenDue());
    if (!this.#tap.feeding) this.#endWhenDue();
  }

  /** Ends TLS once all that waits was given to it, and no renegotiation is going on: within one it sends no alert. */
  #endWhenDue(): void {
    const { feeding, handshaking } = this.#tap;
    if (this.#closing !== 'asked' || feeding || handshaking || this.#failing) return;
    this.#outgoing?.flush();
    if ((this.#outgoing?.length ?? 0) > 0) return;
    this.#closing = 'ended';
    if (!HAS_KEY_LOG) this.#socket?.once('finish', () => this.#inferSent());
    this.#socket?.end();
  }

  discardWrites(): number {
    return this.#outgoing?.discard() ?? 0;
  }

  // ---- what the tap tells

  /** @internal TLS has been fed a record. */
  onFed(): void {
    if (this.#given > 0 && this.#incoming.length > 0) this.#events.onReadable();
    this.#tellAlerts();
    this.#endWhenDue();
  }

  /** @internal */
  onAlert(way: Way, alert: EndingAlert, at: number): void {
    this.#alerts.push({ way, alert, at });
    if (way === 'received' && alert.authenticated) this.#tap.stop();
    if (!this.#tap.feeding) this.#tellAlerts();
  }

  /** Tells of alerts, the ones behind a Finished not before the handshake is complete. */
  #tellAlerts(): void {
    const waits = this.#info === null && !this.#failing;
    for (const one of this.#alerts.splice(0)) {
      if (waits && one.alert.authenticated) this.#alerts.push(one);
      else if (one.way === 'received' && this.#hasLost) this.#failOfLoss();
      else {
        this.#events.onAlert(one.way, one.alert, EVIDENCE, one.at);
        if (one.way === 'received') this.#expectFailure(one.alert);
      }
    }
  }

  /**
   * Whether TLS gave less than the records had that it was fed: it has failed, and may not have said so yet. What the
   * peer says behind that proves nothing of what came before.
   */
  get #hasLost(): boolean {
    const received = this.#tap.receivedData;
    return received !== null && received !== this.#given;
  }

  #failOfLoss(): void {
    // Its own error says more, if there is one.
    const error = new Error('TLS did not give all data that it was fed');
    setImmediate(() => this.#fail({ error, unauthorized: null }));
  }

  /** An alert other than close_notify ends TLS, which may not say so. */
  #expectFailure(alert: SeenAlert): void {
    if (closes(alert)) return;
    const name = alert.description === null ? 'unknown' : `${alert.description}`;
    this.#doomed = true;
    setImmediate(() =>
      this.#fail({ error: new Error(`the peer sent alert ${name}`), unauthorized: null }),
    );
  }

  /** @internal */
  onTransportEnd(ending: TransportEnding): void {
    // Whoever sends a fatal alert closes behind it, and the alert is what ended TLS.
    if (!this.#failing && !this.#doomed) this.#events.onTransportEnd(ending);
  }

  /** @internal */
  onSendFailed(error: Error): void {
    this.#events.onSendFailed(error);
  }

  /** @internal */
  get onRecord(): EngineEvents['onRecord'] {
    return this.#events.onRecord;
  }

  /** @internal */
  get onBytes(): EngineEvents['onBytes'] {
    return this.#events.onBytes;
  }

  #infer(way: Way, alert: SeenAlert): void {
    if (this.#info === null && way === 'received') {
      this.#alerts.push({ way, alert: { ...alert, authenticated: false }, at: performance.now() });
      return;
    }
    if (way === 'received') this.#tap.stop();
    this.#alerts.push({ way, alert, at: performance.now() });
    if (!this.#tap.feeding) this.#tellAlerts();
  }

  #inferSent(): void {
    this.#whenSettled(() => this.#infer('sent', CLOSE_NOTIFY));
  }

  // ---- the end

  #onError(error: Error & { readonly code?: string }, socket: tls.TLSSocket): void {
    const why =
      this.#info === null ? (socket.authorizationError as unknown as string | null) : null;
    if (!HAS_KEY_LOG && why === null) {
      const inferred = inferredAlert(error, this.#info !== null);
      if (inferred !== null) this.#alerts.push({ ...inferred, at: performance.now() });
    }
    this.#fail({ error, unauthorized: why || null });
  }

  #fail(failure: EngineFailure): void {
    if (this.#failing) return;
    this.#failing = true;
    const stop = after(this.#linger, tell);
    const events = this.#events;
    let told = false;
    const engine = this;
    function tell(): void {
      if (told) return;
      told = true;
      stop();
      engine.#tellAlerts();
      events.onFailure(failure);
    }
    // Told within the feeding of a record, which may be an alert that has not been read yet.
    if (this.#tap.feeding) setImmediate(() => this.#whenSettled(tell));
    else this.#whenSettled(tell);
  }

  /**
   * Calls back once TLS has nothing more to send and the transport has taken all. TLS hands over what it has behind a
   * write only in the turn after that write is done, so it takes two quiet turns to know.
   */
  #whenSettled(then: () => void, quiet = 0): void {
    if (this.#doomed || (this.#tap.saidLast && this.#tap.settled)) then();
    else if (quiet > 2) then();
    else setImmediate(() => this.#whenSettled(then, this.#tap.settled ? quiet + 1 : 0));
  }

  get trailingLength(): number {
    return this.#tap.unfedLength;
  }

  release(back: boolean): Uint8Array {
    return this.#tap.detach(back);
  }

  destroy(): void {
    this.#failing = true;
    this.discardWrites();
    this.#socket?.destroy();
    this.#tap.destroy();
  }
}

/** An alert, and when it crossed. */
interface Told {
  readonly way: Way;
  readonly alert: SeenAlert;
  readonly at: number;
}

const feedMore = (tap: Tap) => tap.wanted();

const CLOSE_NOTIFY: SeenAlert = { level: 1, description: 0, authenticated: true };

/** The longest that Node has. */
const FOR_EVER = 2 ** 31 - 1;

/** Who is told of one connection of a server. */
interface Accepted {
  onSecret(line: Buffer): void;
  onSocket(socket: tls.TLSSocket): void;
  onError(error: Error, socket: tls.TLSSocket): void;
}

/**
 * The TLS side of a server, built once for many connections: certificates, keys, tickets. It never listens; connections
 * are given to it.
 */
export class TappedContext {
  readonly #options: ServerTlsOptions;
  readonly #server: tls.Server;

  /** @throws {OptionError} for options that `tls.createServer` does not take. */
  constructor(options: ServerTlsOptions) {
    checkAlpn(options);
    this.#options = options;
    try {
      this.#server = this.#make();
    } catch (cause) {
      throw refusalOf(cause as Error, options);
    }
  }

  #make(): tls.Server {
    // The stream's own deadline ends a handshake, however long that is.
    const server = tls.createServer({ ...this.#options, handshakeTimeout: FOR_EVER });
    // A server asks its sockets for the key log only if somebody listens to it.
    return server.on('keylog', () => {});
  }

  /**
   * Any Duplex can be given to a `tls.Server` as a connection, and gets all that the server does for its own (client
   * certificates judged, SNI, ALPN, tickets). But the server says only "here is a secure socket", not which connection
   * it belongs to. So each connection gets a view of the server that tells by itself. Bun tells on the server, whatever
   * its listener is called on: there each connection has a server of its own, which resumes
   * no session of another.
   */
  accept(transport: Duplex, accepted: Accepted): void {
    const server = this.#server;
    const tell = (name: string | symbol, args: readonly unknown[]): boolean => {
      if (name === 'secureConnection') accepted.onSocket(args[0] as tls.TLSSocket);
      else if (name === 'tlsClientError') {
        accepted.onError(args[0] as Error, args[1] as tls.TLSSocket);
      } else if (name === 'keylog') accepted.onSecret(args[0] as Buffer);
      else return false;
      return true;
    };
    if (IS_BUN) {
      const own = this.#make();
      for (const name of ['secureConnection', 'tlsClientError', 'keylog']) {
        own.on(name, (...args: unknown[]) => tell(name, args));
      }
      own.emit('connection', transport);
      return;
    }
    const view: tls.Server = Object.create(server);
    view.emit = (name: string | symbol, ...args: unknown[]): boolean =>
      tell(name, args) || server.emit(name, ...args);
    EventEmitter.prototype.emit.call(view, 'connection', transport);
  }
}
