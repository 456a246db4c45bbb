/**
 * A TLS server that hands out streams, and survives its clients.
 *
 * Theory of operation. Anyone can connect and then do anything, so nothing that a client does may end the process or
 * leave something open. Each connection is served by one function, in which everything that can fail is caught: the
 * program's `record`, the handshake, the program's `onStream`. Whatever it was, the transport is gone afterwards. Then
 * the error is told. If it is of the connection (origin.ts decides that), `onError` hears of it and the channel
 * `close-notify.server-error`. If it is a bug of the program's own, `onError` hears of it, and without `onError` it
 * becomes an unhandled rejection: it is never lost.
 *
 * Closing is one process, however often and with whatever limits it is asked for: the server accepts no more, each
 * program is told by its signal, and the process is over when no connection is left. Who does not want to wait so long
 * has the rest aborted, which brings that process to its end.
 */
import { channel } from 'node:diagnostics_channel';
import net from 'node:net';
import { callSite } from '../call-site.ts';
import type { ServerContext } from '../engine/open.ts';
import type { ServerTlsOptions } from '../engine/options.ts';
import { AbortError, AbortedError, OptionError } from '../errors.ts';
import { checkOptionNames } from '../option-names.ts';
import type { Observer } from '../transcript/observer.ts';
import { checkWaitOptions, withLimits } from '../wait.ts';
import {
  type AcceptOptions,
  acceptWith,
  type CheckedStreamOptions,
  checkStreamOptions,
  contextOf,
  observerOf,
  peerOf,
} from './connect.ts';
import { checkNames, checkTlsNames, optionsFor, SERVER_OPTIONS } from './options.ts';
import { isOfConnection, rejectedCallOn } from './origin.ts';
import { type OnStreamContext, Served } from './served.ts';
import type { TlsStream } from './tls-stream.ts';

/** Options of `createServer`. */
export interface ServerOptions extends Omit<AcceptOptions, 'head' | 'signal' | 'record'> {
  /**
   * Told of every connection whose handshake failed, and of what `onStream` and `record` threw. The transport is null
   * for an error of the server itself, such as EMFILE when it accepts a connection.
   *
   * Without it, what clients cause is told to the channel `close-notify.server-error` alone, and a bug of the program's
   * own becomes an unhandled rejection.
   */
  readonly onError?: ((error: Error, transport: net.Socket | null) => void) | undefined;
  /** Makes the observer of each connection; `true` and `'on-truncation'` as in `accept`. */
  readonly record?:
    | true
    | 'on-truncation'
    | ((transport: net.Socket) => Observer | undefined)
    | undefined;
  /** How many connections may be open at once; any number by default. Further ones are dropped. */
  readonly maxConnections?: number | undefined;
  /** Turns Nagle's algorithm off; true by default, as for `connect`. */
  readonly noDelay?: boolean | undefined;
  /** TCP keep-alive; off by default. */
  readonly keepAlive?: boolean | undefined;
  /** Milliseconds of silence before the first keep-alive probe. */
  readonly keepAliveInitialDelay?: number | undefined;
  /** Addresses that are not served (Node 22 and later). */
  readonly blockList?: net.BlockList | undefined;
  /** Told of each connection that `maxConnections` drops, as 'drop' of a `net.Server` tells it. */
  readonly onDrop?: ((connection: net.DropArgument) => void) | undefined;
}

/**
 * Called with each established stream.
 *
 * When it throws or rejects, the stream is aborted. An error that the stream has failed with goes to `onError` and
 * the channel `close-notify.server-error`; any other is a bug, and without `onError` an unhandled rejection.
 */
export type OnStream = (
  stream: TlsStream,
  transport: net.Socket,
  context: OnStreamContext,
) => unknown;

/** Options of `server.close`. */
export interface ServerCloseOptions {
  /** Milliseconds until the connections that are left are aborted; 0 aborts all at once. `Infinity` by default. */
  readonly deadline?: number | undefined;
  /** Aborts the connections that are left, and `close` rejects with an `AbortError`. */
  readonly signal?: AbortSignal | undefined;
}

/** What the channel `close-notify.server-error` carries: what a client, or the system, has done to a server. */
export interface ServerErrorMessage {
  readonly error: Error;
  /** The client's address; null where there is none. */
  readonly host: string | null;
  readonly port: number | null;
  /** The name that the client asked for; null without one, and before the handshake is complete. */
  readonly servername: string | null;
  /** The TLS version, such as `TLSv1.3`; null before the handshake is complete. */
  readonly protocol: string | null;
  readonly role: 'server';
  /** Null for an error of the server itself. */
  readonly transport: net.Socket | null;
}

/** Where a server listens: of a path the path, and null where the system does not tell (a descriptor of a pipe). */
export type ServerAddress = net.AddressInfo | string | null;

/** What is listening already: a descriptor, or a server or socket of Node's. */
export type ListenHandle = { readonly fd: number } | net.Server | net.Socket;

SERVER_OPTIONS satisfies Readonly<Record<keyof ServerOptions, unknown>>;

const serverError = channel('close-notify.server-error');

/** A listening server. */
export class TlsServer implements AsyncDisposable {
  readonly #server: net.Server;
  readonly #onStream: OnStream;
  readonly #hooks: Pick<ServerOptions, 'onError' | 'onDrop' | 'record'>;
  readonly #checked: CheckedStreamOptions;
  #options: ServerTlsOptions;
  #context: ServerContext;
  #maxConnections = Number.POSITIVE_INFINITY;
  readonly #open = new Set<Served>();
  readonly #streams = new Set<TlsStream>();
  #pending = 0;
  /** Ends a `listen` that waits. */
  #stopListen: ((error: Error) => void) | null = null;
  /** Undoes that the signal of `listen` closes the server. */
  #forgetSignal: () => void = () => {};
  /** Resolves when no connection is left. */
  #closing: Promise<void> | null = null;

  /** @internal */
  constructor(options: ServerOptions, onStream: OnStream) {
    checkServerOptions(options, onStream);
    const { onError, record, maxConnections, onDrop, ...acceptOptions } = options;
    this.#checked = checkStreamOptions(acceptOptions);
    this.#hooks = { onError, record, onDrop };
    this.#onStream = onStream;
    if (maxConnections !== undefined) this.maxConnections = maxConnections;
    this.#options = acceptOptions;
    // Certificates that cannot be used are an error here, not at the first connection.
    this.#context = contextOf(acceptOptions);
    const listening = optionsFor(SERVER_OPTIONS, 'transport', options);
    try {
      this.#server = net.createServer(
        { noDelay: true, ...listening, allowHalfOpen: true },
        (transport) => this.#accept(transport),
      );
    } catch (cause) {
      throw new OptionError((cause as Error).message, { cause });
    }
    this.#server.on('error', (error) => {
      if (this.#stopListen === null) this.#tell(error, null, true);
      else this.#stopListen(error);
    });
  }

  // ---- listening

  /**
   * Starts listening, on a TCP port by default: 0 takes a free one. It takes what `listen` of a `net.Server` takes.
   * A `signal` in the options closes the server as `close()` does.
   *
   * @param host an address to listen on; all of them by default, as in Node.
   * @param backlog how many connections may wait to be accepted.
   * @returns where it listens: `server.address()`.
   * @throws the system's error, such as EADDRINUSE, and Node's for arguments that it does not take.
   * @throws {AbortError} when the signal was aborted before it listened.
   * @throws {AbortedError} when `close` was called before it listened.
   */
  listen(port?: number, host?: string, backlog?: number): Promise<net.AddressInfo>;
  /** Starts listening on a TCP port. */
  listen(port: number, backlog: number): Promise<net.AddressInfo>;
  /** Starts listening on a path: a Unix domain socket, or a named pipe. */
  listen(path: string, backlog?: number): Promise<string>;
  /** Starts listening where the options say. */
  listen(options: net.ListenOptions & { readonly port: number }): Promise<net.AddressInfo>;
  /** Starts listening on a path: a Unix domain socket, or a named pipe. */
  listen(
    options: net.ListenOptions & { readonly path: string; readonly port?: undefined },
  ): Promise<string>;
  /** Starts listening where the options say, or on what is listening already. */
  listen(options: net.ListenOptions | ListenHandle, backlog?: number): Promise<ServerAddress>;
  async listen(...args: unknown[]): Promise<ServerAddress> {
    const { signal, rest } = splitSignal(args);
    checkWaitOptions({ signal });
    if (signal?.aborted) throw new AbortError({ cause: signal.reason });
    if (this.#stopListen !== null || this.#closing !== null) {
      const error = new Error(`the server is ${this.#closing === null ? 'starting' : 'closing'}`);
      throw Object.assign(error, { code: 'ERR_SERVER_ALREADY_LISTEN' });
    }
    const server = this.#server;
    if (signal !== undefined) {
      const onAbort = () => {
        this.#stopListen?.(new AbortError({ cause: signal.reason }));
        void this.close();
      };
      signal.addEventListener('abort', onAbort);
      this.#forgetSignal = () => signal.removeEventListener('abort', onAbort);
    }
    let onListening = () => {};
    try {
      await new Promise<void>((resolve, reject) => {
        onListening = resolve;
        this.#stopListen = reject;
        server.once('listening', onListening);
        server.listen(...(rest as []));
      });
    } catch (error) {
      this.#forgetSignal();
      throw callSite(this.listen)(error);
    } finally {
      this.#stopListen = null;
      server.off('listening', onListening);
    }
    return this.address();
  }

  /** Where it listens; null where it does not, or the system does not tell. */
  address(): ServerAddress {
    return this.#server.address();
  }

  /** The port it listens on. @throws {TypeError} where it listens on none. */
  get port(): number {
    const address = this.address();
    if (address === null || typeof address === 'string') {
      throw new TypeError('not listening on a port');
    }
    return address.port;
  }

  // ---- what it has

  /** Connections that are open, established or not. */
  get connections(): number {
    return this.#open.size;
  }

  /** Connections that are in their handshake. */
  get pending(): number {
    return this.#pending;
  }

  /** The streams that are established, and have not let their transport go. It changes as they come and go. */
  get streams(): ReadonlySet<TlsStream> {
    return this.#streams;
  }

  /** How many connections may be open at once; `Infinity` for any number. Further ones are dropped. */
  get maxConnections(): number {
    return this.#maxConnections;
  }

  /** Further connections than that are dropped. @throws {OptionError} for what is no number, 0 or more. */
  set maxConnections(most: number) {
    if (typeof most !== 'number' || !(most >= 0)) {
      throw new OptionError('maxConnections must be a number, 0 or more');
    }
    this.#maxConnections = most;
  }

  /**
   * Has new connections use other TLS options: a renewed certificate, for instance. Open connections, and those in
   * their handshake, stay as they are.
   *
   * Options that are not named stay as they were, but `pfx` takes the place of `key` and `cert`, and these that of
   * `pfx`. Sessions of before are not resumed, unless `ticketKeys` were given.
   *
   * @throws {OptionError} for options that TLS does not take; all stays as it was.
   */
  setSecureContext(options: ServerTlsOptions): void {
    checkTlsNames(options);
    const { key, cert, pfx, ...others } = this.#options;
    const identity =
      options.pfx !== undefined
        ? {}
        : options.key || options.cert
          ? { key, cert }
          : { key, cert, pfx };
    const next = { ...others, ...identity, ...options };
    this.#context = contextOf(next);
    this.#options = next;
  }

  // ---- one connection

  #accept(transport: net.Socket): void {
    if (this.#open.size >= this.#maxConnections) {
      const connection = addressesOf(transport);
      transport.destroy();
      this.#hooks.onDrop?.(connection);
      return;
    }
    const served = new Served(transport);
    this.#open.add(served);
    transport.once('close', () => {
      this.#open.delete(served);
      if (served.stream !== null) this.#streams.delete(served.stream);
    });
    // A transport that its program has taken back may fail when nobody listens.
    transport.on('error', (error) => {
      if (transport.listenerCount('error') === 1) this.#tell(error, served, true);
    });
    void this.#serve(served);
  }

  /** From the handshake to the end of what `onStream` does. It rejects with the program's bugs alone. */
  async #serve(served: Served): Promise<void> {
    const stream = await this.#handshake(served);
    if (stream === null) return;
    const { transport } = served;
    try {
      await this.#onStream(stream, transport, served.context);
    } catch (error) {
      const ofConnection = isOfConnection(error, served.origin(stream));
      stream.abort();
      this.#tell(error, served, ofConnection);
    }
  }

  /** @returns null where there is no stream, which has been told. */
  async #handshake(served: Served): Promise<TlsStream | null> {
    const { transport } = served;
    this.#pending++;
    try {
      const observer = observerFor(this.#hooks.record, transport);
      const stream = await acceptWith(this.#context, transport, { ...this.#checked, observer });
      served.stream = stream;
      this.#streams.add(stream);
      void stream.closed.then(() => this.#streams.delete(stream));
      return stream;
    } catch (error) {
      transport.destroy();
      this.#tell(error, served, rejectedCallOn(error, transport));
      return null;
    } finally {
      this.#pending--;
    }
  }

  /** Tells of an error. @throws it where it is the program's, and nobody asked to be told. */
  #tell(error: unknown, served: Served | null, ofConnection: boolean): void {
    if (ofConnection && serverError.hasSubscribers) {
      const message: ServerErrorMessage = {
        error: error as Error,
        host: served?.host ?? null,
        port: served?.port ?? null,
        servername: served?.stream?.tls.servername ?? null,
        protocol: served?.stream?.tls.protocol ?? null,
        role: 'server',
        transport: served?.transport ?? null,
      };
      serverError.publish(message);
    }
    const { onError } = this.#hooks;
    if (onError !== undefined) onError(error as Error, served?.transport ?? null);
    else if (!ofConnection) throw error;
  }

  // ---- closing

  /**
   * Stops accepting, tells each `onStream` by its signal, and waits until no connection is left. Connections that are
   * in their handshake still get their `onStream`, with a signal that is aborted already.
   *
   * Without a deadline it waits as long as there is a connection, as `close` of a `net.Server` does. Calling it again
   * waits for the same, with limits of its own: so a second call can cut short what a first one waits for.
   *
   * @throws {AbortError} when the signal was aborted. Nothing is left open then either.
   */
  async close(options: ServerCloseOptions = {}): Promise<void> {
    checkCloseOptions(options);
    const { deadline = Number.POSITIVE_INFINITY, signal } = options;
    this.#closing ??= this.#drain();
    const closing = this.#closing;
    if (deadline === 0) this.#abortAll();
    try {
      await withLimits<void>(
        (resolve) => {
          void closing.then(resolve);
          return undefined;
        },
        { signal, deadline: deadline === 0 ? Number.POSITIVE_INFINITY : deadline },
        {
          onDeadline: () => DEADLINE,
          onAbort: (cause) => new AbortError({ phase: 'close', cause }),
        },
      );
    } catch (error) {
      this.#abortAll();
      await closing;
      if (error !== DEADLINE) throw callSite(this.close)(error);
    }
  }

  /** Closes, and aborts the open connections at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close({ deadline: 0 });
  }

  async #drain(): Promise<void> {
    this.#forgetSignal();
    this.#stopListen?.(new AbortedError('the server was closed before it listened'));
    // Calls back when no transport is left, with an error only where it did not listen. A transport may be left, and
    // still be about to close.
    const left = [...this.#open].map((served) => served.closed());
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const served of this.#open) served.drain();
    await Promise.all([stopped, ...left]);
    this.#closing = null;
  }

  #abortAll(): void {
    for (const served of this.#open) served.abort();
  }
}

/** Told to nobody: `close` ends by it. */
const DEADLINE = new Error('the deadline of close has passed');

/** What `listen` of a net.Server takes, on Node 20 to 26. */
const LISTEN_OPTIONS = [
  'backlog',
  'exclusive',
  'fd',
  'host',
  'ipv6Only',
  'path',
  'port',
  'readableAll',
  'reusePort',
  'signal',
  'writableAll',
] as const;

/** The signal of `listen` is ours: Node's would close the server and tell nobody. */
function splitSignal(args: readonly unknown[]): {
  readonly signal: AbortSignal | undefined;
  readonly rest: readonly unknown[];
} {
  const [first, ...others] = args;
  const isHandle = first instanceof net.Server || first instanceof net.Socket;
  if (typeof first !== 'object' || first === null || isHandle) {
    return { signal: undefined, rest: args };
  }
  checkOptionNames(first, LISTEN_OPTIONS);
  if (!('signal' in first)) return { signal: undefined, rest: args };
  const { signal, ...options } = first as net.ListenOptions;
  return { signal: signal as AbortSignal | undefined, rest: [options, ...others] };
}

/** @throws what the program's function throws. @throws {OptionError} where it gives something else. */
function observerFor(record: ServerOptions['record'], transport: net.Socket): Observer | undefined {
  if (typeof record !== 'function') return observerOf(record, () => peerOf(transport));
  const observer = record(transport);
  if (observer !== undefined && typeof observer?.observe !== 'function') {
    throw new OptionError('record must give undefined or have an observe method');
  }
  return observer;
}

function addressesOf(transport: net.Socket): net.DropArgument {
  const { localAddress, localPort, localFamily, remoteAddress, remotePort, remoteFamily } =
    transport;
  const all = { localAddress, localPort, localFamily, remoteAddress, remotePort, remoteFamily };
  return all as net.DropArgument;
}

/** @throws {OptionError} */
function checkServerOptions(options: ServerOptions, onStream: OnStream): void {
  checkNames(SERVER_OPTIONS, options);
  if (typeof onStream !== 'function') throw new OptionError('onStream must be a function');
  for (const name of ['onError', 'onDrop'] as const) {
    const hook = options[name];
    if (hook !== undefined && typeof hook !== 'function') {
      throw new OptionError(`${name} must be a function`);
    }
  }
  const { record } = options;
  const words: readonly unknown[] = [undefined, true, 'on-truncation'];
  if (!words.includes(record) && typeof record !== 'function') {
    throw new OptionError("record must be true, 'on-truncation' or a function");
  }
}

/** @throws {OptionError} */
function checkCloseOptions(options: ServerCloseOptions): void {
  const atOnce = typeof options === 'object' && options?.deadline === 0;
  checkWaitOptions(atOnce ? { ...options, deadline: undefined } : options);
}

/**
 * A server that handshakes on each connection and hands the stream to `onStream`. Call `listen`.
 *
 * @throws {OptionError} for options that TLS does not take, such as an unreadable key.
 */
export function createServer(options: ServerOptions, onStream: OnStream): TlsServer {
  return new TlsServer(options, onStream);
}
