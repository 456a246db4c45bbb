/** What an engine has of a transport: its events, and what stands back for them. */
import net from 'node:net';
import type { Duplex } from 'node:stream';

export type TransportError = Error & { readonly code?: string; readonly syscall?: string };

/** Errors by which a transport says that the peer reset it. */
const RESETS: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);

/** What an error of the transport says of how it ended. */
export function causeOf({ code }: { readonly code?: string }): 'reset' | 'error' {
  return code !== undefined && RESETS.has(code) ? 'reset' : 'error';
}

export interface TransportEvents {
  onData(chunk: unknown): void;
  onEnd(): void;
  onError(error: TransportError): void;
  onClose(): void;
  /** A write failed of a socket that may still be read. */
  onWriteError(error: TransportError): void;
}

/** Who reads and writes a socket's descriptor in its stead. */
export interface Reader {
  /** The socket's stream wants it to read. */
  onWanted(): void;
  /** Whether it keeps the process alive. */
  setReference(referenced: boolean): void;
  /** How many bytes went. */
  bytes(sent: boolean): number;
}

/** Our listeners on a transport, and those that stand back for them. */
export class TransportListeners {
  readonly #transport: Duplex;
  readonly #events: TransportEvents;
  readonly #allowHalfOpen: boolean;
  /** Of others, for `restore`. */
  readonly #muted: Array<readonly [string, () => void]> = [];
  // biome-ignore lint/suspicious/noExplicitAny: the listeners of events with different arguments
  readonly #ours: ReadonlyArray<readonly [string, (...args: any[]) => void]>;
  /** What was replaced on the transport itself. */
  readonly #replaced: string[] = [];
  #idle = false;

  constructor(transport: Duplex, events: TransportEvents) {
    this.#transport = transport;
    this.#events = events;
    // A transport that ends its own side when the peer ends (the default of net.Socket) would send FIN before our
    // close_notify: "Each party MUST send a close_notify alert before closing its write side of the connection"
    // (RFC 9846 section 6.1).
    this.#allowHalfOpen = transport.allowHalfOpen;
    transport.allowHalfOpen = true;
    this.#mute();
    this.#ours = [
      ['data', (chunk: unknown) => events.onData(chunk)],
      ['end', () => events.onEnd()],
      ['error', (error: TransportError) => events.onError(error)],
      ['close', () => events.onClose()],
    ];
    for (const [name, listener] of this.#ours) transport.on(name, listener);
    if (transport instanceof net.Socket) this.#outliveWriteErrors(transport);
  }

  /**
   * Whoever listened to the bytes so far (a plaintext dialogue that ended in STARTTLS) would now get ciphertext. Node
   * takes a socket's handle away from them just the same.
   */
  #mute(): void {
    const transport = this.#transport;
    for (const name of ['data', 'readable', 'end']) {
      for (const listener of transport.rawListeners(name)) {
        // Node's own, on every net.Socket; it does nothing on one that is half-open.
        if (listener.name === 'onReadableStreamEnd') continue;
        this.#muted.push([name, listener as () => void]);
        transport.off(name, listener as () => void);
      }
    }
  }

  #replace(name: string, value: unknown): void {
    Object.defineProperty(this.#transport, name, {
      configurable: true,
      writable: true,
      value,
    });
    this.#replaced.push(name);
  }

  /** A `net.Socket` whose write failed goes on being read. */
  #outliveWriteErrors(socket: net.Socket): void {
    const { destroy } = socket;
    let outlived = false;
    this.#replace('destroy', (error?: TransportError, ...rest: []) => {
      const ofWrite = error?.syscall === 'write' && !socket.readableEnded && !outlived;
      if (!ofWrite) return destroy.call(socket, error, ...rest);
      outlived = true;
      this.#events.onWriteError(error);
      return socket;
    });
  }

  /** Has a socket do nothing by itself: somebody else reads and writes its descriptor. */
  idle(reader: Reader): void {
    const socket = this.#transport as net.Socket;
    this.#replace('_read', () => reader.onWanted());
    this.#idle = true;
    for (const name of ['ref', 'unref'] as const) {
      const method = socket[name];
      this.#replace(name, () => {
        reader.setReference(name === 'ref');
        return method.call(socket);
      });
    }
    // These two stay, with what went by then.
    for (const name of ['bytesRead', 'bytesWritten'] as const) {
      const own = (
        Object.getOwnPropertyDescriptor(socket, name) ??
        Object.getOwnPropertyDescriptor(net.Socket.prototype, name)
      )?.get;
      if (own === undefined) continue;
      const get = () => (own.call(socket) as number) + reader.bytes(name === 'bytesWritten');
      Object.defineProperty(socket, name, { configurable: true, get });
    }
  }

  /** Has the socket read by itself again. */
  unidle(): void {
    if (this.#idle) Reflect.deleteProperty(this.#transport, '_read');
    this.#idle = false;
  }

  /**
   * Reads on behind a failed write. Node's streams tell of no end then, so it is taken from `push`.
   *
   * @param ended called at the end of what comes.
   */
  afterWriteError(ended: () => void): void {
    const transport = this.#transport;
    // What waits in the stream's own buffer. Each chunk that `read` returns it emits as 'data', too: that one is taken.
    while (transport.read() !== null) {}
    this.#replace('push', (chunk: Uint8Array | null) => {
      if (chunk === null) ended();
      else this.#events.onData(chunk);
      return true;
    });
    // Nobody would read it any more.
    if (transport.isPaused() || transport.destroyed) ended();
  }

  /** Takes ours away. The transport is paused. */
  remove(): void {
    const transport = this.#transport;
    for (const [name, listener] of this.#ours) transport.off(name, listener);
    for (const name of this.#replaced) Reflect.deleteProperty(transport, name);
    transport.pause();
    transport.allowHalfOpen = this.#allowHalfOpen;
  }

  /** Those who listened to the transport before hear of it again. */
  restore(): void {
    for (const [name, listener] of this.#muted.splice(0)) this.#transport.on(name, listener);
    // Listening to 'data' sets a stream going.
    this.#transport.pause();
  }
}
