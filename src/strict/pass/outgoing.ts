/**
 * What goes out on a pass: the writes of TLS, and its end.
 *
 * TLS has one write on its way, and waits to be told of it. Where it ends meanwhile, close_notify is not written yet (on
 * a handle of the kernel's it never is, in Node 20 to 24), and FIN has to wait for it.
 */
import type net from 'node:net';
import { setImmediate } from 'node:timers';
import { TLSSocket } from 'node:tls';
import { process } from '../../runtime.ts';
import { type JsStream, type Request, STATUS, statusOf } from './handle.ts';
import type { PassObserver } from './observer.ts';
import type { Transport } from './transport.ts';

export class Outgoing {
  /** Null once the pass is closed. */
  #handle: JsStream | null;
  readonly #observer: PassObserver;
  readonly #transport: Transport;
  readonly #socket: net.Socket | null;
  readonly #callTls: (call: () => void) => void;
  /** What the transport says to have taken behind its failure has not left. */
  #failed = false;
  /** The write that TLS waits for. */
  #writing: Request | null = null;
  /** How many bytes were written. */
  #written = 0;
  /** The end that TLS waits for. */
  #ending: Request | null = null;
  #ended = false;

  /**
   * @param socket the transport itself, where it is a `net.Socket`.
   * @param callTls calls TLS, where that may call listeners.
   */
  constructor(
    handle: JsStream,
    observer: PassObserver,
    transport: Transport,
    socket: net.Socket | null,
    callTls: (call: () => void) => void,
  ) {
    this.#handle = handle;
    this.#observer = observer;
    this.#transport = transport;
    this.#socket = socket;
    this.#callTls = callTls;
  }

  /** The transport has failed. */
  onFailure(): void {
    this.#failed = true;
  }

  /** The pass is closed. */
  close(): void {
    const handle = this.#handle;
    this.#handle = null;
    if (handle === null) return;
    this.#finishWrite(handle, STATUS.canceled);
    this.#finishShutdown(handle, STATUS.canceled);
  }

  write(request: Request, buffers: readonly Uint8Array[]): void {
    this.#writing = request;
    // Whoever destroyed it cancels the write in a moment.
    if (this.#handle === null) return;
    const finish = (status: number) => {
      if (this.#handle !== null && this.#writing === request) {
        this.#finishWrite(this.#handle, status);
      }
    };
    if (this.#ended) {
      // OpenSSL answers a KeyUpdate behind its own close_notify, too, where nothing may be sent any more (RFC 9846
      // section 6.1). A Duplex that has ended would fail for it.
      setImmediate(finish, 0);
      return;
    }
    if (this.#socket?.destroyed) {
      // As libuv, whose descriptor is closed at once.
      setImmediate(finish, STATUS.badDescriptor);
      return;
    }
    for (const bytes of buffers) {
      this.#observer.onSending(bytes);
      this.#written += bytes.length;
    }
    const total = this.#written;
    let within = true;
    this.#transport.write(buffers, (error) => {
      if (!error && !this.#failed) this.#observer.onSent(total);
      // TLS takes no answer within its call. Node, too, lets it go on in the next phase of the event loop.
      if (within) setImmediate(finish, statusOf(error));
      else finish(statusOf(error));
    });
    within = false;
  }

  #finishWrite(handle: JsStream, status: number): void {
    const request = this.#writing;
    if (request === null) return;
    this.#writing = null;
    try {
      // HTTP/2 stops reading while it writes. It goes on within this call, with all frames that have come meanwhile.
      this.#callTls(() => handle.finishWrite(request, status));
    } finally {
      if (this.#handle !== null && this.#writing === null) this.#end();
    }
  }

  /** TLS ends. A transport that is TLS itself fails writes that it has not told of when it ends. */
  shutdown(request: Request): void {
    this.#ending = request;
    const mayFollow = this.#observer.saidLast && !(this.#socket instanceof TLSSocket);
    if (this.#writing === null || mayFollow) process.nextTick(() => this.#end());
  }

  #end(): void {
    if (this.#ending === null || this.#ended || this.#handle === null) return;
    this.#ended = true;
    this.#transport.end((error) => {
      if (this.#handle !== null) this.#finishShutdown(this.#handle, statusOf(error));
    });
  }

  #finishShutdown(handle: JsStream, status: number): void {
    const request = this.#ending;
    this.#ending = null;
    if (request !== null) handle.finishShutdown(request, status);
  }
}
