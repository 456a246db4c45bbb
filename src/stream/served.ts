/** One connection of a server, from the transport to its end. */
import type net from 'node:net';
import type { Origin } from './origin.ts';
import type { TlsStream } from './tls-stream.ts';

/** What `onStream` is given beside the stream and its transport. */
export interface OnStreamContext {
  /**
   * Aborted when `server.close()` is called: the program is to come to an end with this stream. Each connection has a
   * signal of its own, so that listeners to it go with the connection.
   */
  readonly signal: AbortSignal;
}

export class Served {
  readonly transport: net.Socket;
  /** The client's address, which a transport that has ended no longer knows; null where it has none. */
  readonly host: string | null;
  readonly port: number | null;
  readonly context: OnStreamContext;
  /** Null until the handshake is complete. */
  stream: TlsStream | null = null;
  /** Made only for a program that looks at the signal. */
  #controller: AbortController | null = null;
  #draining = false;

  constructor(transport: net.Socket) {
    this.transport = transport;
    this.host = transport.remoteAddress ?? null;
    this.port = transport.remotePort ?? null;
    const signal = () => this.#signal();
    this.context = {
      get signal() {
        return signal();
      },
    };
  }

  #signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#draining) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  /** Where an error must come from to be this connection's. To be asked before the stream is aborted because of it. */
  origin(stream: TlsStream): Origin {
    const { transport } = this;
    return { transport, closure: stream.closure, reason: this.#controller?.signal.reason };
  }

  /** Tells the program that the server closes. */
  drain(): void {
    this.#draining = true;
    this.#controller?.abort();
  }

  /** Ends it now. */
  abort(): void {
    this.stream?.abort();
    // The stream has no transport any more, where the program took it back.
    this.transport.destroy();
  }

  /** Resolves when the transport tells that it is closed; to be asked before. */
  closed(): Promise<void> {
    return new Promise((resolve) => this.transport.once('close', () => resolve()));
  }
}
