/**
 * The pass: what Node's `tls.TLSSocket` is put on instead of the transport. It changes nothing and shows every byte.
 *
 * Theory of operation. Bytes, EOF, FIN, errors and backpressure go through as they are. The bytes of both
 * directions are shown in order and before they go on: what the transport received before TLS gets it (incoming.ts),
 * what TLS made before the transport gets it (outgoing.ts). What TLS made is told a second time once the transport has
 * taken it.
 *
 * To Node's TLS a pass is the `net.Socket` that it is put on. Above, it has a handle (handle.ts) and the few members
 * that a TLS socket asks of the socket below it, which are not documented. Below, it has the transport (transport.ts).
 */
import { EventEmitter } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import type { TLSSocket } from 'node:tls';
import { type HandleOwner, type JsStream, newHandle } from './handle.ts';
import { Incoming } from './incoming.ts';
import type { PassObserver } from './observer.ts';
import { Outgoing } from './outgoing.ts';
import { type Transport, type TransportUser, transportOf } from './transport.ts';

export class Pass extends EventEmitter implements HandleOwner, TransportUser {
  // What a TLS socket asks of the socket that it is put on.
  _handle: JsStream | null;
  /** What `tls.connect` checks the certificate against when it is given a socket and no name. */
  readonly _host: string | undefined;
  allowHalfOpen: boolean;
  connecting: boolean;

  /** The transport, where it is a `net.Socket`. */
  readonly socket: net.Socket | null;
  /** Whether no code of a program's is being run when the transport gives bytes. */
  readonly fromKernel: boolean;
  readonly incoming: Incoming;
  readonly outgoing: Outgoing;
  /** Told that the transport has failed. Returns what TLS is to be told; null where it is not. */
  onFailure: (error: Error) => Error | null = (error) => error;
  readonly #observer: PassObserver;
  readonly #transport: Transport;
  /** The TLS socket, once it is known. */
  #tls: TLSSocket | null = null;
  /** The transport has ended, or failed and somebody sees to that. */
  #over = false;
  #destroying = false;

  /**
   * @param connecting whether TLS is to wait for `connected`.
   * @param fromKernel see there.
   * @throws {RuntimeError} where Node is not as expected.
   */
  constructor(transport: Duplex, observer: PassObserver, connecting: boolean, fromKernel: boolean) {
    super();
    const handle = newHandle(this);
    this._handle = handle;
    this._host = (transport as { _host?: string })._host;
    this.allowHalfOpen = transport.allowHalfOpen;
    this.connecting = connecting;
    this.socket = transport instanceof net.Socket ? transport : null;
    this.fromKernel = fromKernel;
    this.#observer = observer;
    this.incoming = new Incoming(handle, observer, fromKernel, () => this.#transport.read());
    this.#transport = transportOf(transport, this);
    this.outgoing = new Outgoing(handle, observer, this.#transport, this.socket, (call) =>
      this.incoming.callTls(call),
    );
  }

  get _parent(): null {
    return null;
  }

  get readableLength(): number {
    return 0;
  }

  get writableLength(): number {
    return 0;
  }

  get destroyed(): boolean {
    return this._handle === null;
  }

  /** The TLS socket on it is known. */
  adopt(socket: TLSSocket): void {
    this.#tls = socket;
    this.incoming.tls = socket;
  }

  /** The transport is connected: TLS begins. */
  connected(): void {
    this.connecting = false;
    this.emit('connect');
  }

  destroy(): this {
    this.#destroying = true;
    if (this._handle !== null) this.#transport.destroy();
    return this;
  }

  // ---- for the transport

  onBytes(bytes: Uint8Array): boolean {
    return this.incoming.add(bytes);
  }

  onEnd(): void {
    this.#over = true;
    this.incoming.add(null);
  }

  onReadError(error: Error): void {
    if (this.#tls !== null) {
      this.#tls.destroy(error);
      return;
    }
    // A server says with its first records which socket is this connection's. Before that, TLS is told by the pass.
    this.emit('error', error);
    this.destroy();
  }

  onError(error: Error): void {
    this.outgoing.onFailure();
    const told = this.onFailure(error);
    this.#over ||= told === null;
    // Whoever was given the socket in this turn is to be able to listen to it. It is closed behind that.
    if (told === null) return;
    setImmediate(() => {
      // A write of its own may have failed TLS by then.
      if (!this.#tls?.errored) this.emit('error', told);
    });
  }

  onClose(): void {
    if (this._handle === null) return;
    // A Duplex closes behind its end or its failure by itself, and TLS has still to be read.
    if (this.#over && !this.#destroying) return;
    this._handle = null;
    this.#observer.onClose();
    this.incoming.close();
    this.outgoing.close();
    this.emit('close');
  }
}
// A TLS socket asks whether it is one. Of what it would inherit it uses the methods of EventEmitter alone.
Object.setPrototypeOf(Pass.prototype, net.Socket.prototype);
