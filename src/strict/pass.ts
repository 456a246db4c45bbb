/**
 * The pass: what Node's `tls.TLSSocket` is put on instead of the transport. It changes nothing and shows every byte.
 *
 * Theory of operation. Bytes, EOF, FIN, errors and backpressure go through as they are. The bytes of both
 * directions are shown in order and before they go on: what the transport received before TLS gets it, what TLS
 * made before the transport gets it. What TLS made is told a second time once the transport has taken it.
 *
 * Node puts TLS on the handle of a `net.Socket`, in C++, or on any Duplex by way of a handle whose other side is
 * JavaScript, a `JSStream`, and two more streams around it. These end an event loop later than a handle, fail for
 * what a handle lets pass, and know no addresses. So the pass is such a handle itself, with what Node asks of the
 * socket around it, and does for each call what the handle of a TCP socket does (Node's src/stream_wrap.cc).
 *
 * Nobody who listens to a `net.Socket` under TLS hears of what TLS reads and writes there, and neither the state of
 * its streams nor their errors have a part in it. So a `net.Socket` is used by the methods with which it serves its
 * own streams (`_read`, `_write`, `_writev`, `_final`), and what it has read is taken from its `push`. Any other
 * Duplex is used by its events and public methods, as Node does.
 *
 * Bytes that libuv reads end each callback with the queues of `nextTick` and of promises; those that JavaScript gives
 * do not. So one record is given at a time, and the queues are emptied behind each (queues.ts).
 *
 * Not documented, all of it used by Node's own TLS on a Duplex since Node 10: `_handle` and its `_parent`, where the
 * class `JSStream` is found; what it is asked for (`readBuffer`, `emitEOF`, `finishWrite`, `finishShutdown`) and asks
 * for (the methods of `PassHandle`); and what a TLS socket asks of the socket below it (the members of `Pass`).
 */
import { EventEmitter } from 'node:events';
import net from 'node:net';
import { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import tls, { type TLSSocket } from 'node:tls';
import { getSystemErrorMap } from 'node:util';
import { RuntimeError } from '../errors.ts';
import { IS_NODE, process } from '../runtime.ts';
import { emptyQueues, withEmptyQueues } from './queues.ts';
import { type Above, type Below, below } from './transport-below.ts';

/** Who is shown the bytes. */
export interface PassObserver {
  /**
   * Bytes that the transport has received.
   *
   * @returns after how many of these bytes the first record ends; all of them where none does.
   */
  onReceived(bytes: Uint8Array): number;
  /**
   * TLS has been given those bytes.
   *
   * @param data how many bytes of application data it gave for them.
   */
  onGiven(data: number): void;
  /** Bytes that are about to be written to the transport. */
  onSending(bytes: Uint8Array): void;
  /** The transport has taken this many bytes, counted from the first. */
  onSent(total: number): void;
  /** Whether TLS has sent the last that it had to say. */
  readonly saidLast: boolean;
  /** The connection is over. */
  onClose(): void;
}

/** A write or an end that TLS waits for. */
type Request = object;

interface JsStream {
  readBuffer(bytes: Uint8Array): void;
  emitEOF(): void;
  /** The status is 0 or a negative error number, here and below. */
  finishWrite(request: Request, status: number): void;
  finishShutdown(request: Request, status: number): void;
}

/** A `JSStream` with the methods that TLS calls, by itself and for its TLS socket. */
interface PassHandle extends JsStream {
  pass: Pass;
}

type PassHandleClass = new () => PassHandle;

function handleClassOf(JsStream: new () => JsStream): PassHandleClass {
  return class extends JsStream implements PassHandle {
    declare pass: Pass;

    onreadstart(): number {
      this.pass.onReadStart();
      return 0;
    }

    onreadstop(): number {
      this.pass.onReadStop();
      return 0;
    }

    onwrite(request: Request, buffers: Uint8Array[]): number {
      this.pass.onWrite(request, buffers);
      return 0;
    }

    onshutdown(request: Request): number {
      this.pass.onShutdown(request);
      return 0;
    }

    isClosing(): boolean {
      return this.pass.destroyed;
    }

    // What a TLS socket asks of its own handle is asked of this one.

    getpeername(out: object): number {
      return this.#name(out, 'remote');
    }

    getsockname(out: object): number {
      return this.#name(out, 'local');
    }

    /** As libuv: nothing for a socket that has no such address. */
    #name(out: object, side: 'remote' | 'local'): number {
      const { socket } = this.pass;
      const address = socket?.[`${side}Address`];
      if (address === undefined) return NO_ADDRESS;
      Object.assign(out, {
        address,
        family: socket?.[`${side}Family`],
        port: socket?.[`${side}Port`],
      });
      return 0;
    }

    setNoDelay(on: boolean): number {
      this.pass.socket?.setNoDelay(on);
      return 0;
    }

    /** @param delay in seconds. */
    setKeepAlive(on: boolean, delay: number): number {
      this.pass.socket?.setKeepAlive(on, delay * 1000);
      return 0;
    }

    ref(): void {
      this.pass.socket?.ref();
    }

    unref(): void {
      this.pass.socket?.unref();
    }
  };
}

const numbers = new Map([...getSystemErrorMap()].map(([number, [name]]) => [name, number]));
const CANCELED = numbers.get('ECANCELED') as number;
const BROKEN_PIPE = numbers.get('EPIPE') as number;
const BAD_DESCRIPTOR = numbers.get('EBADF') as number;
const NO_ADDRESS = numbers.get('EINVAL') as number;

function statusOf(error: (Error & { code?: string }) | null | undefined): number {
  return error ? (numbers.get(error.code ?? '') ?? BROKEN_PIPE) : 0;
}

/** Null where there is none; looked for once. */
let Handle: PassHandleClass | null | undefined;

/** Whether this runtime's TLS can be put on a pass. */
export function canPass(): boolean {
  if (Handle === undefined) {
    const found = findJsStream();
    Handle = found === null ? null : handleClassOf(found);
  }
  return Handle !== null;
}

function findJsStream(): (new () => JsStream) | null {
  if (!IS_NODE) return null;
  // With an authority of its own, or Node would read all that it trusts.
  const secureContext = tls.createSecureContext({ ca: [] });
  const socket = new tls.TLSSocket(new Duplex({ read() {}, write() {} }), { secureContext });
  const { _handle } = socket as unknown as { readonly _handle?: { readonly _parent?: JsStream } };
  const found = _handle?._parent?.constructor as (new () => JsStream) | undefined;
  socket.destroy();
  const methods = ['readBuffer', 'emitEOF', 'finishWrite', 'finishShutdown'] as const;
  const known =
    found?.name === 'JSStream' &&
    methods.every((name) => typeof found.prototype[name] === 'function');
  return known ? found : null;
}

export class Pass extends EventEmitter implements Above {
  // What a TLS socket asks of the socket that it is put on.
  _handle: PassHandle | null;
  readonly _parent = null;
  /** What `tls.connect` checks the certificate against when it is given a socket and no name. */
  readonly _host: string | undefined;
  readonly readableLength = 0;
  readonly writableLength = 0;
  allowHalfOpen: boolean;
  connecting: boolean;

  /** The transport, where it is a `net.Socket`. */
  readonly socket: net.Socket | null;
  /** Whether no code of a program's is being run when the transport gives bytes. */
  readonly fromKernel: boolean;
  /** The TLS socket, once it is known. */
  tls: TLSSocket | null = null;
  /** How the TLS socket fails when the transport cannot be read any more. */
  onReadError: (error: Error) => void = () => {};
  /** Whether the TLS socket has failed. */
  hasFailed: () => boolean = () => false;
  /** Told that TLS was given the transport's end. */
  onEnded: () => void = () => {};
  /** Told that the transport has failed. Returns what TLS is to be told; null where it is not. */
  onFailure: (error: Error) => Error | null = (error) => error;
  /** Whether listeners of the TLS socket are being called within that. */
  calling = false;
  /** What a listener of the TLS socket threw while it was given bytes. */
  #thrown: { readonly error: unknown } | null = null;

  readonly #observer: PassObserver;
  readonly #below: Below;
  /** What TLS has not been given: it did not read, or a listener threw. The end is null. */
  readonly #received: Array<Uint8Array | null> = [];
  /** What is left of the chunk that is being given. */
  #chunk: Uint8Array | null = null;
  #reading = false;
  /** The transport has ended, or failed and somebody sees to that. */
  #over = false;
  /** What the transport says to have taken behind its failure has not left. */
  #failed = false;
  #destroying = false;
  #giving = false;
  #writing: Request | null = null;
  #written = 0;
  #ending: Request | null = null;

  /**
   * @param connecting whether TLS is to wait for `connected`.
   * @param fromKernel see there.
   */
  constructor(transport: Duplex, observer: PassObserver, connecting: boolean, fromKernel: boolean) {
    super();
    if (!canPass()) {
      throw new RuntimeError(
        'without the add-on a drop-in cannot be had here: Node is not as expected',
        {
          hint: 'install close-notify-native, or use connect() and accept()',
        },
      );
    }
    this._handle = new (Handle as PassHandleClass)();
    this._handle.pass = this;
    this._host = (transport as { _host?: string })._host;
    this.allowHalfOpen = transport.allowHalfOpen;
    this.connecting = connecting;
    this.socket = transport instanceof net.Socket ? transport : null;
    this.fromKernel = fromKernel;
    this.#observer = observer;
    this.#below = below(transport, this);
  }

  get destroyed(): boolean {
    return this._handle === null;
  }

  /** Whether TLS is being given bytes: what its callbacks throw would break it off in the middle. */
  get giving(): boolean {
    return this.#giving;
  }

  /** Keeps what a callback of TLS threw until TLS is done with what it was given. */
  onThrown(error: unknown): void {
    this.#thrown ??= { error };
  }

  /** The transport is connected: TLS begins. */
  connected(): void {
    this.connecting = false;
    this.emit('connect');
  }

  destroy(): this {
    this.#destroying = true;
    if (this._handle !== null) this.#below.destroy();
    return this;
  }

  // ---- for the transport

  onBytes(bytes: Uint8Array): boolean {
    this.#received.push(bytes);
    this.#give();
    return this.#reading;
  }

  onEnd(): void {
    this.#over = true;
    this.#received.push(null);
    this.#give();
  }

  onError(error: Error): void {
    this.#failed = true;
    const told = this.onFailure(error);
    this.#over ||= told === null;
    // Whoever was given the socket in this turn is to be able to listen to it. It is closed behind that.
    if (told === null) return;
    setImmediate(() => {
      // A write of its own may have failed TLS by then.
      if (!this.hasFailed()) this.emit('error', told);
    });
  }

  onClose(): void {
    const handle = this._handle;
    if (handle === null) return;
    // A Duplex closes behind its end or its failure by itself, and TLS has still to be read.
    if (this.#over && !this.#destroying) return;
    this._handle = null;
    this.#observer.onClose();
    this.#finishWrite(handle, CANCELED);
    this.#finishShutdown(handle, CANCELED);
    this.emit('close');
  }

  /** Gives TLS what it reads; a chunk that has been begun is given whole, as one that libuv has read. */
  #give(): void {
    // What is read within is given behind what is being given.
    if (this.#giving) return;
    this.#giving = true;
    try {
      while (this._handle !== null) {
        if (this.#chunk !== null) this.#giveRecord(this._handle, this.#chunk);
        else if (!this.#reading || this.#received.length === 0) break;
        else {
          const next = this.#received.shift() as Uint8Array | null;
          if (next === null) {
            this._handle.emitEOF();
            this.onEnded();
          } else this.#chunk = next;
        }
        this.#throw();
      }
    } finally {
      this.#giving = false;
      // A listener threw. What is left is given behind whoever hears of that.
      if (this.#chunk !== null && this._handle !== null) process.nextTick(() => this.#goOn());
    }
  }

  #goOn(): void {
    this.#give();
    if (this.#reading && this._handle !== null) this.#below.read();
  }

  /** Gives TLS the chunk up to a record's end. */
  #giveRecord(handle: PassHandle, chunk: Uint8Array): void {
    const end = this.#observer.onReceived(chunk);
    const record = chunk.subarray(0, end);
    this.#chunk = end < chunk.length ? chunk.subarray(end) : null;
    const { tls } = this;
    const before = tls?.bytesRead ?? 0;
    try {
      // HTTP/2 calls back for each frame.
      if (this.fromKernel && tls?.alpnProtocol === 'h2') {
        withEmptyQueues(() => handle.readBuffer(record));
      } else {
        handle.readBuffer(record);
      }
    } finally {
      this.#observer.onGiven((tls?.bytesRead ?? 0) - before);
    }
    if (this.fromKernel && this.#chunk !== null) emptyQueues();
  }

  #throw(): void {
    const thrown = this.#thrown;
    this.#thrown = null;
    if (thrown !== null) throw thrown.error;
  }

  // ---- for TLS

  /** @internal */
  onReadStart(): void {
    this.#reading = true;
    // Within a call of TLS it cannot be given anything.
    if (this.#received.length > 0) process.nextTick(() => this.#goOn());
    else this.#below.read();
  }

  /** @internal */
  onReadStop(): void {
    this.#reading = false;
  }

  /** @internal */
  onWrite(request: Request, buffers: readonly Uint8Array[]): void {
    this.#writing = request;
    // Whoever destroyed it cancels the write in a moment.
    if (this._handle === null) return;
    const finish = (status: number) => {
      if (this._handle !== null && this.#writing === request) {
        this.#finishWrite(this._handle, status);
      }
    };
    if (this.socket?.destroyed) {
      // As libuv, whose descriptor is closed at once.
      setImmediate(finish, BAD_DESCRIPTOR);
      return;
    }
    for (const bytes of buffers) {
      this.#observer.onSending(bytes);
      this.#written += bytes.length;
    }
    const total = this.#written;
    let within = true;
    this.#below.write(buffers, (error) => {
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
    handle.finishWrite(request, status);
    if (this._handle !== null && this.#writing === null) this.#end();
  }

  /**
   * @internal Where TLS waits for the end of a write, close_notify is not written yet (on a handle of the kernel's it
   * never is, in Node 20 to 24). FIN has to wait for it. And a transport that is TLS itself fails writes that it has
   * not told of when it ends.
   */
  onShutdown(request: Request): void {
    this.#ending = request;
    const mayFollow = this.#observer.saidLast && !(this.socket instanceof tls.TLSSocket);
    if (this.#writing === null || mayFollow) process.nextTick(() => this.#end());
  }

  #ended = false;

  #end(): void {
    if (this.#ending === null || this.#ended || this._handle === null) return;
    this.#ended = true;
    this.#below.end((error) => {
      if (this._handle !== null) this.#finishShutdown(this._handle, statusOf(error));
    });
  }

  #finishShutdown(handle: JsStream, status: number): void {
    const request = this.#ending;
    this.#ending = null;
    if (request !== null) handle.finishShutdown(request, status);
  }
}
// A TLS socket asks whether it is one. Of what it would inherit it uses the methods of EventEmitter alone.
Object.setPrototypeOf(Pass.prototype, net.Socket.prototype);
