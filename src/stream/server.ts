/** A TLS server that hands out streams. */
import net from 'node:net';
import type { ServerContext } from '../engine/tapped.ts';
import { OptionError } from '../errors.ts';
import type { Observer } from '../transcript/observer.ts';
import {
  type AcceptOptions,
  acceptWith,
  type CheckedStreamOptions,
  checkStreamOptions,
  contextOf,
  observerOf,
} from './connect.ts';
import type { TlsStream } from './tls-stream.ts';

/** Options of `createServer`. */
export interface ServerOptions extends Omit<AcceptOptions, 'head' | 'signal' | 'record'> {
  /**
   * Told of every connection whose handshake failed, and of every `onStream` that threw. Without
   * it, failed handshakes are dropped silently, as `tls.Server` does without a 'tlsClientError'
   * listener (anyone can cause them), and what `onStream` throws becomes an unhandled rejection.
   */
  readonly onError?: ((error: Error, transport: net.Socket) => void) | undefined;
  /** Makes the observer of each connection; `true` makes a transcript, in `stream.transcript`. */
  readonly record?: true | ((transport: net.Socket) => Observer | undefined) | undefined;
}

/** Called with each established stream. When it throws or rejects, the stream is aborted. */
export type OnStream = (stream: TlsStream, transport: net.Socket) => unknown;

/** A listening server. */
export class TlsServer implements AsyncDisposable {
  readonly #server: net.Server;
  readonly #transports = new Set<net.Socket>();

  /** @internal */
  constructor(options: ServerOptions, onStream: OnStream) {
    const { onError, record, ...acceptOptions } = options;
    const checked = checkStreamOptions(acceptOptions);
    if (typeof onStream !== 'function') throw new OptionError('onStream must be a function');
    // Certificates that cannot be used are an error here, not at the first connection.
    const context = contextOf(acceptOptions);
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, (transport) => {
      this.#transports.add(transport);
      transport.once('close', () => this.#transports.delete(transport));
      const observer = observerOf(record === true ? true : record?.(transport));
      void serve(context, transport, { ...checked, observer }, onStream, onError);
    });
  }

  /**
   * Starts listening.
   *
   * @param port a TCP port; 0 (the default) takes a free one.
   * @param host an address to listen on; all of them by default, as in Node.
   * @returns the port.
   * @throws the system's error, such as EADDRINUSE.
   */
  listen(port = 0, host?: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        resolve(this.port);
      });
    });
  }

  /** The port it listens on. */
  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new TypeError('not listening');
    return address.port;
  }

  /** Connections that are open, established or not. */
  get connections(): number {
    return this.#transports.size;
  }

  /** Stops listening, and waits for the open connections to end; `abort: true` destroys them. */
  async close(options: { readonly abort?: boolean } = {}): Promise<void> {
    const open = [...this.#transports];
    const closed = open.map(
      (transport) => new Promise((resolve) => transport.once('close', resolve)),
    );
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    if (options.abort) for (const transport of open) transport.destroy();
    await Promise.all([stopped, ...closed]);
  }

  /** Stops listening and destroys the open connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close({ abort: true });
  }
}

/** One connection, from its handshake to the end of what `onStream` does with it. */
async function serve(
  context: ServerContext,
  transport: net.Socket,
  options: CheckedStreamOptions,
  onStream: OnStream,
  onError: ServerOptions['onError'],
): Promise<void> {
  let stream: TlsStream;
  try {
    stream = await acceptWith(context, transport, options);
  } catch (error) {
    transport.destroy();
    onError?.(error as Error, transport);
    return;
  }
  try {
    await onStream(stream, transport);
  } catch (error) {
    stream.abort();
    if (onError === undefined) throw error;
    onError(error as Error, transport);
  }
}

/**
 * A server that handshakes on each connection and hands the stream to `onStream`. Call `listen`.
 *
 * @throws {OptionError} for options that TLS does not take, such as an unreadable key.
 */
export function createServer(options: ServerOptions, onStream: OnStream): TlsServer {
  return new TlsServer(options, onStream);
}
