/**
 * TLS sockets for programs that were written for Node's own, strict about their ending.
 *
 * Theory of operation. In a TlsStream we act for the caller: answer a close_notify, keep the transport,
 * wait kindly. Here the program at the socket goes on deciding as it always did, and everything is to
 * happen as on a plain socket, but for one thing: a stream that the transport cut gives an error where
 * Node gives 'end'. So the socket is Node's `tls.TLSSocket`, made by Node, and a guard watches it:
 *
 * - on the kernel's socket nothing is put in between: how it ends can be asked (kernel-socket.ts);
 * - on any other transport a tap is, and the guard makes the transport follow the socket (FIN behind
 *   our close_notify, destroyed when the socket is) and the socket follow the transport.
 *
 * The guard feeds the closure machine, so that the ending has a verdict, and tells
 * `diagnostics_channel` what it did. Errors that Node gives anyway stay Node's: a reset is ECONNRESET,
 * for programs that try again when they see it, and a cut during the handshake is what `tls.connect`
 * calls it.
 */
import { channel } from 'node:diagnostics_channel';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import {
  type AlertDetail,
  type ClosureEvent,
  type CutCause,
  type CutPoint,
  INITIAL,
  step,
} from '../closure/machine.ts';
import { type Closure, closureOf } from '../closure/verdict.ts';
import { OptionError, type TruncatedError } from '../errors.ts';
import { parseAlert } from '../record/alert.ts';
import { type EngineError, eventOf } from '../stream/diagnose.ts';
import {
  type ConnectionOptions,
  connectSocket,
  Engine,
  type EngineEvents,
  type Outcome,
  type Owner,
  type Server,
  type TLSSocket,
} from '../stream/engine.ts';
import { stakeOf, trustsResets } from '../stream/http-messages.ts';
import { ignoreErrors } from '../stream/transport.ts';
import { truncatedError } from '../stream/truncation.ts';
import { isKernelSocket, onKernelSocket } from '../tap/kernel-socket.ts';
import { causeOf, Tap, type TransportEnding } from '../tap/tap.ts';

/** What to do about a truncation: raise it, or let it pass as Node does and only report it. */
export type Strictness = 'error' | 'report';

/** Options of `secureSocket`: those of `tls.connect`, and ours. */
export interface SecureSocketOptions extends ConnectionOptions {
  readonly autoSelectFamily?: boolean | undefined;
  readonly autoSelectFamilyAttemptTimeout?: number | undefined;
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  readonly family?: number | undefined;
  readonly hints?: number | undefined;
  readonly highWaterMark?: number | undefined;
  /** Whether the socket stays writable after the peer's close_notify; false by default. */
  readonly allowHalfOpen?: boolean | undefined;
  /** `error` by default. */
  readonly mode?: Strictness | undefined;
}

/** What the channel `close-notify.connect` carries: a connection that is made strict. */
export interface ConnectMessage {
  readonly socket: TLSSocket;
  readonly mode: Strictness;
}

/** What the channel `close-notify.truncated` carries. */
export interface TruncatedMessage {
  readonly socket: TLSSocket;
  readonly error: TruncatedError;
  /**
   * `error`: the program got an error. `end`: it saw an ordinary end, because it asked only for a
   * report, or because HTTP knew that nothing was missing.
   */
  readonly outcome: Outcome;
}

/** What the channel `close-notify.closure` carries: a connection is over. */
export interface ClosureMessage {
  readonly socket: TLSSocket;
  readonly closure: Closure;
}

const connects = channel('close-notify.connect');
const truncations = channel('close-notify.truncated');
const closures = channel('close-notify.closure');

const guards = new WeakMap<TLSSocket, Guard>();

/**
 * How the connection of a strict socket ended, or stands.
 *
 * @returns null for a socket that is not one of ours.
 */
export function socketClosure(socket: TLSSocket): Closure | null {
  return guards.get(socket)?.closure ?? null;
}

/**
 * A strict TLS socket, for any place that takes one: `createConnection`, `stream`, a driver's hook.
 * It is returned at once, connecting, exactly as from `tls.connect`, whose options it takes
 * (`socket` too: any Duplex as the transport).
 *
 * When the transport ends without close_notify it emits 'error' (`ERR_TLS_TRUNCATED`) instead of 'end',
 * after the data that came. An HTTP reader without a message in progress is spared.
 *
 * @param listener for 'secureConnect'.
 * @throws whatever `tls.connect` throws, and {OptionError} for `mode`.
 */
export function secureSocket(options: SecureSocketOptions, listener?: () => void): TLSSocket {
  const { mode = 'error', ...tlsOptions } = options;
  checkMode(mode);
  return openStrict(() => connectSocket(tlsOptions, listener), tlsOptions, mode, listener);
}

/** Whether the sockets that `tls.connect` opens can be watched, once that is known. */
let watchable: boolean | null = null;

/**
 * @internal A strict socket with these options.
 *
 * @param make has Node make it, listener and all.
 */
export function openStrict(
  make: () => TLSSocket,
  options: ConnectionOptions,
  mode: Strictness,
  listener?: () => void,
): TLSSocket {
  const given: Duplex | undefined = options.socket ?? undefined;
  if (given !== undefined && !isKernelSocket(given)) return overTap(given, options, mode, listener);
  if (given !== undefined || watchable !== false) {
    const socket = make();
    const guarded = guardSocket(socket, mode);
    if (given === undefined) watchable = guarded;
    if (guarded) return socket;
    // Nothing is handed out that could end like a plain socket.
    socket.on('error', () => {});
    socket.destroy();
    if (given !== undefined)
      throw new OptionError('a TLS socket on this transport cannot be watched');
  }
  // A runtime whose sockets are not Node's own inside: ours is the transport then, and a tap is on it.
  const transport = net.connect({ ...(options as net.NetConnectOpts), allowHalfOpen: true });
  const { allowHalfOpen = false } = options as { allowHalfOpen?: boolean | undefined };
  const socket = overTap(transport, options, mode, listener, allowHalfOpen);
  if (options.timeout) socket.setTimeout(options.timeout);
  return socket;
}

/**
 * @internal Guards a socket that Node has made; one that has a guard already gets this mode.
 *
 * @returns false where it cannot be watched.
 */
export function guardSocket(socket: TLSSocket, mode: Strictness): boolean {
  const guard = guards.get(socket);
  if (guard !== undefined) guard.mode = mode;
  else if (onKernelSocket(socket)) Guard.watch(socket, mode);
  else return false;
  return true;
}

/**
 * @internal A TLS socket on a transport that is not the kernel's.
 *
 * @param halfOpen whether it stays writable after the peer's close_notify; as the transport by default,
 *   as in Node.
 */
export function overTap(
  transport: Duplex,
  options: ConnectionOptions,
  mode: Strictness,
  listener?: () => void,
  halfOpen: boolean = transport.allowHalfOpen,
): TLSSocket {
  // Node takes this from the transport, to check the certificate against.
  const host = options.host ?? (transport as { _host?: string })._host;
  const named = host === undefined ? {} : { host };
  const start: Start = (tap, events, owner) =>
    Engine.client(tap, { ...options, ...named }, transport, events, owner);
  const guard = Guard.overTap(transport, mode, start, halfOpen);
  const socket = guard.socket as TLSSocket;
  if (listener !== undefined) socket.once('secureConnect', listener);
  return socket;
}

/** @internal A connection of `server` that is not the kernel's; `listener` is what the server does with it. */
export function guardConnection(
  server: Server,
  transport: Duplex,
  mode: Strictness,
  listener: (this: Server, transport: Duplex) => void,
): void {
  const start: Start = (tap, events, owner) =>
    Engine.server(tap, server, transport, events, owner, listener);
  Guard.overTap(transport, mode, start, transport.allowHalfOpen);
}

/** @internal @throws {OptionError} */
export function checkMode(mode: unknown): asserts mode is Strictness {
  if (mode !== 'error' && mode !== 'report') {
    throw new OptionError("mode must be 'error' or 'report'");
  }
}

/** Begins the handshake. */
type Start = (tap: Tap, events: EngineEvents, owner: Owner) => Engine;

class Guard {
  mode: Strictness;
  /** Set by whoever makes the guard, before anything can be reported. */
  #engine: Engine | null = null;
  #state = INITIAL;
  #established = false;
  /** The alert that we sent in the clear, during the handshake. */
  #sentAlert: AlertDetail | null = null;

  private constructor(mode: Strictness) {
    this.mode = mode;
  }

  /** For a socket on the kernel's own, whose handshake a server may have completed already. */
  static watch(socket: TLSSocket, mode: Strictness): void {
    const guard = new Guard(mode);
    const established = (socket as { secureConnecting?: boolean }).secureConnecting === false;
    guard.#engine = Engine.watch(
      socket,
      {
        ...guard.#events(),
        onEof: () => guard.#onTransportEnd('eof', 'unknown', null),
        onTransportError: (error) =>
          guard.#onTransportEnd(causeOf(error), 'unknown', error) ?? error,
        onCloseNotifySent: () => guard.#dispatch({ type: 'close-notify-sent' }),
      },
      established,
    );
    guard.#adopt(socket);
    if (established) guard.#onSecure(socket);
    socket.once('close', () => guard.#onClosed());
  }

  /** For any transport. @throws whatever `start` throws. */
  static overTap(transport: Duplex, mode: Strictness, start: Start, halfOpen: boolean): Guard {
    const guard = new Guard(mode);
    const tap = new Tap(
      transport,
      {
        onRecord: (direction, _type, _length, body) => {
          if (direction === 'received' || body === null || guard.#established) return;
          const alert = parseAlert(body);
          if (alert !== null) guard.#sentAlert = { ...alert, authenticated: false };
        },
        onTransportEnd: (ending) => guard.#onTapEnd(ending),
        onCloseNotifySent: () => guard.#dispatch({ type: 'close-notify-sent' }),
        // The program ended its side: FIN follows close_notify, as on a plain socket.
        onFinished: () => {
          if (!transport.destroyed) transport.end();
        },
        onDestroyed: () => guard.#letGo(tap, transport),
      },
      undefined,
      halfOpen,
    );
    try {
      guard.#engine = start(tap, guard.#events(), 'program');
    } catch (error) {
      tap.detach();
      tap.unmute();
      throw error;
    }
    const { socket } = guard.#engine;
    if (socket !== null) {
      guard.#adopt(socket);
      followConnecting(socket, transport);
    }
    return guard;
  }

  get socket(): TLSSocket | null {
    return this.#engine?.socket ?? null;
  }

  get closure(): Closure {
    return closureOf(this.#state, { late: 0, unsent: 0 });
  }

  #adopt(socket: TLSSocket): void {
    guards.set(socket, this);
    if (connects.hasSubscribers) {
      connects.publish({ socket, mode: this.mode } satisfies ConnectMessage);
    }
  }

  // ---- reports from below

  #events(): EngineEvents {
    return {
      onSecure: (socket) => this.#onSecure(socket),
      onCloseNotify: () => this.#dispatch({ type: 'close-notify-received' }),
      onEarlyCloseNotify: () => this.#onEarlyCloseNotify(),
      onError: (error, unauthorized) => this.#onEngineError(error, unauthorized),
      strict: () => this.mode === 'error',
    };
  }

  #onSecure(socket: TLSSocket): void {
    this.#established = true;
    this.#dispatch({ type: 'established' });
    if (!guards.has(socket)) this.#adopt(socket);
  }

  /** In the clear it proves nothing, and Node ends the handshake as for EOF. */
  #onEarlyCloseNotify(): void {
    const alert = { code: 0, name: 'close_notify', authenticated: false };
    this.#dispatch({ type: 'alert-received', alert });
    this.#endHandshake();
  }

  #onEngineError(error: EngineError, unauthorized: string | null): void {
    const failure = { error, unauthorized, established: this.#established };
    this.#dispatch(eventOf(failure, this.#sentAlert));
  }

  #onTapEnd({ cause, error, insideRecord }: TransportEnding): void {
    if (cause === 'destroyed') {
      this.#dispatch({ type: 'abandon', how: 'destroyed' });
      this.#engine?.destroy();
      return;
    }
    const where = insideRecord ? 'inside-record' : 'record-boundary';
    const whole = this.#state.receive.kind === 'closed';
    const failure = this.#onTransportEnd(cause, where, error);
    if (cause === 'eof') return;
    if (failure !== null && whole) this.#engine?.failBelowAfterReading(failure);
    else if (failure !== null) this.#engine?.failBelow(failure);
    else this.#engine?.destroy();
  }

  /**
   * The transport has ended. After EOF it does what is to be done; after an error it
   *
   * @returns what the socket is to fail with.
   */
  #onTransportEnd(cause: CutCause, place: CutPoint, error: TransportEnding['error']): Error | null {
    const socket = this.socket;
    const where = this.#established ? place : 'handshake';
    const whole = this.#state.receive.kind === 'closed';
    this.#dispatch(
      cause === 'eof'
        ? { type: 'transport-eof', where }
        : { type: `transport-${cause}`, where, code: error?.code ?? 'UNKNOWN' },
    );
    if (whole || !this.#established || socket === null) {
      if (cause === 'eof' && !whole) this.#endHandshake();
      return error;
    }
    const truncated = truncatedError(cause, where, this.closure, error);
    const tell = (outcome: Outcome) => this.#tell(socket, truncated, outcome);
    if (cause !== 'eof') {
      tell('error');
      // An error already, and programs look for its code. Only who takes it for an end gets another.
      const mistaken = trustsResets(socket) && stakeOf(socket) === 'at-stake';
      return this.mode === 'error' && mistaken ? truncated : error;
    }
    if (this.mode === 'report') {
      this.#engine?.pretendEnd();
      tell('end');
    } else {
      this.#engine?.fail(truncated, tell);
    }
    return null;
  }

  #endHandshake(): void {
    if (this.socket === null) this.#engine?.destroy();
    else this.#engine?.pretendEnd();
  }

  /** The socket on a tap is gone, and so is the transport's reason to be. */
  #letGo(tap: Tap, transport: Duplex): void {
    const { send, receive } = this.#state;
    tap.detach();
    ignoreErrors(transport);
    const over = send.kind === 'closed' && receive.kind === 'closed';
    if (over && !transport.writableFinished && !transport.destroyed) {
      // Our last bytes are on their way to the kernel.
      transport.once('finish', () => transport.destroy());
      transport.end();
    } else {
      transport.destroy();
    }
    this.#onClosed();
  }

  #onClosed(): void {
    const { send, receive } = this.#state;
    const over = send.kind === 'closed' && receive.kind === 'closed';
    this.#dispatch({ type: 'abandon', how: over ? 'closed' : 'destroyed' });
    const { socket } = this;
    if (socket !== null && closures.hasSubscribers) {
      closures.publish({ socket, closure: this.closure } satisfies ClosureMessage);
    }
  }

  #tell(socket: TLSSocket, error: TruncatedError, outcome: Outcome): void {
    if (truncations.hasSubscribers) {
      truncations.publish({ socket, error, outcome } satisfies TruncatedMessage);
    }
  }

  #dispatch(event: ClosureEvent): void {
    this.#state = step(this.#state, event, performance.now());
  }
}

/** A socket on a transport that is connecting still is connecting too, and tells when it is over. */
function followConnecting(socket: TLSSocket, transport: Duplex): void {
  if ((transport as { connecting?: boolean }).connecting !== true) return;
  const follower = socket as { connecting: boolean };
  follower.connecting = true;
  transport.once('connect', () => {
    if (socket.destroyed) return;
    follower.connecting = false;
    socket.emit('connect');
  });
}
