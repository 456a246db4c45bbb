/**
 * The short way between a tap and Node's TLS engine.
 *
 * Theory of operation. Node puts TLS on a Duplex by way of two objects: a `JsStream`, the native handle that
 * has the engine's bytes written and read by JavaScript, and around it a `JSStreamSocket`, a `net.Socket`
 * that listens to the Duplex's 'data', writes each of the engine's buffers to it, and then waits for the
 * next turn of the event loop before it lets the engine go on. That turn, for every 64 KB or less, is most of
 * what a Duplex under TLS costs when much is sent; and two more streams for each connection are a good part
 * of what a short connection costs. Neither is needed: given a `net.Socket` with a handle, Node puts TLS on
 * the handle and leaves the socket alone. So here is a handle, and around it the little that Node asks of such
 * a socket. The tap gives bytes to the handle itself, and takes the engine's buffers all at once, and the engine
 * goes on as soon as the current callback is over, which is what Node does for a socket of the kernel's.
 * The end of the engine's side is asked of its own handle, too (`endEngine`), while nobody has the socket above.
 *
 * The parts are not documented: `_handle` and its `_parent`, where the class of the handle is found, and what
 * the handle is asked for and asks for. Where they are not as expected, on other runtimes, the tap is a
 * Duplex for Node, as it would be for anybody (tap-duplex.ts).
 */
import { EventEmitter } from 'node:events';
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import type { TLSSocket } from 'node:tls';
import { getSystemErrorMap } from 'node:util';
import { IS_NODE, process, throwLater } from '../runtime.ts';
import { Fifo } from './fifo.ts';
import { HandleWriter, type RequestClass } from './handle-writer.ts';
import { giveBack } from './memory.ts';
import { type Above, type SeenRecord, TAP, type Tap } from './tap.ts';

/** A write, or the end, of the engine, which goes on once it is finished. */
type Request = object;

interface JsStream {
  /** Gives ciphertext to the engine, which is done with the memory when this returns. */
  readBuffer(bytes: Uint8Array): void;
  finishWrite(request: Request, error: number): void;
  finishShutdown(request: Request, error: number): void;
}

type JsStreamClass = new () => JsStream;

/** A handle with what the engine calls; the numbers are 0, or a negative error. */
interface TapHandle extends JsStream {
  socket: TapSocket;
}

type TapHandleClass = new () => TapHandle;

function handleClassOf(JsStream: JsStreamClass): TapHandleClass {
  return class extends JsStream {
    declare socket: TapSocket;

    onreadstart(): number {
      this.socket.resume();
      return 0;
    }

    onreadstop(): number {
      this.socket.pause();
      return 0;
    }

    onwrite(request: Request, buffers: Uint8Array[]): number {
      this.socket.onWrite(request, buffers);
      return 0;
    }

    onshutdown(request: Request): number {
      return this.socket.onShutdown(request);
    }

    isClosing(): boolean {
      return this.socket.destroyed;
    }
  };
}

/** A handle of Node's engine. */
export interface EngineHandle {
  /** Has close_notify made and written, then the end; the number is what `onshutdown` returned. */
  shutdown(request: Request): number;
}

/** The class of the requests for an end, which the engine's first one shows. */
let EndRequest: RequestClass | null = null;

/** Null where there is none; looked for once. */
let Handle: TapHandleClass | null | undefined;

/** The class of the handles that Node puts under TLS on a Duplex. */
function findJsStream(putTls: (on: Duplex) => TLSSocket): JsStreamClass | null {
  if (!IS_NODE) return null;
  const socket = putTls(new Duplex({ read() {}, write() {} }));
  const { _handle } = socket as unknown as { readonly _handle?: { readonly _parent?: JsStream } };
  const found = _handle?._parent?.constructor as JsStreamClass | undefined;
  socket.destroy();
  const methods = ['readBuffer', 'finishWrite', 'finishShutdown'] as const;
  const known =
    found?.name === 'JSStream' &&
    methods.every((name) => typeof found.prototype[name] === 'function');
  return known ? found : null;
}

const CANCELED = [...getSystemErrorMap()].find(([, [name]]) => name === 'ECANCELED')?.[0] ?? -125;

/**
 * After so many writes in a row the engine waits for a turn of the event loop after all, so that a
 * transport that takes everything at once does not keep the loop from everybody else.
 */
const STREAK = 64;

/** What Node takes for a socket: its handle is a `JsStream`, and the rest is for the looks. */
export class TapSocket extends EventEmitter implements Above {
  readonly [TAP] = true;
  // What Node asks of a socket that it puts TLS on.
  _handle: TapHandle | null;
  readonly _parent = null;
  readonly allowHalfOpen: boolean;
  connecting = false;
  readonly readableLength = 0;
  readonly writableLength = 0;

  wants = false;
  /** The engine's end was asked for by `endEngine`: its stream does not know of it, and it gets no answer. */
  endsAtOnce = false;
  readonly #tap: Tap;
  readonly #transport: Duplex;
  /** More than one where an empty write waits, which the engine counts for itself. */
  readonly #writing = new Fifo<Request>();
  #ending: Request | null = null;
  #ended = false;
  #streak = 0;
  #wrote = false;

  constructor(Handle: TapHandleClass, tap: Tap, transport: Duplex) {
    super();
    this.#tap = tap;
    this.#transport = transport;
    this.allowHalfOpen = tap.halfOpen;
    this._handle = new Handle();
    this._handle.socket = this;
    tap.attach(this);
  }

  /** It is not `connecting` any more; the handshake begins within this call. */
  connected(): void {
    this.connecting = false;
    this.emit('connect');
  }

  // ---- for the tap

  get destroyed(): boolean {
    return this._handle === null;
  }

  pause(): void {
    this.wants = false;
  }

  resume(): void {
    if (this.wants) return;
    this.wants = true;
    // Within a call of the engine it cannot be fed.
    process.nextTick(wanted, this.#tap);
  }

  feed(bytes: Uint8Array): void {
    this._handle?.readBuffer(bytes);
  }

  /** In the order of a socket that is destroyed: 'error', then 'close', and what waits is cancelled. */
  destroy(error?: Error): this {
    const handle = this._handle;
    if (handle === null) return this;
    this._handle = null;
    this.#tap.gone();
    if (error !== undefined) process.nextTick(() => this.emit('error', error));
    setImmediate(() => {
      while (!this.#writing.isEmpty) this.#finishWrite(handle, CANCELED);
      this.#finishShutdown(handle, CANCELED);
      this.emit('close');
    });
    return this;
  }

  // ---- for the engine

  /** @internal */
  onWrite(request: Request, buffers: Uint8Array[]): void {
    this.#writing.push(request);
    // Whoever is destroying it cancels the write in a moment.
    if (this._handle === null) return;
    if (!this.#wrote) this.#shortenWrites(request);
    this.#tap.send(buffers, this.#onSent, giveBack);
  }

  /** The engine's first write shows of what class the requests are that a native handle takes. */
  #shortenWrites(request: Request): void {
    this.#wrote = true;
    const writer = HandleWriter.of(this.#transport, request.constructor as RequestClass);
    if (writer !== null) this.#tap.writeBy(writer);
  }

  readonly #onSent = () => {
    // Never at once: the engine is in the middle of the call that made the write.
    if (++this.#streak % STREAK === 0) setImmediate(this.#goOn);
    else void NOW.then(this.#goOn);
  };

  readonly #goOn = () => {
    try {
      if (this._handle !== null) this.#finishWrite(this._handle, 0);
    } catch (error) {
      // From within a callback of the program's.
      throwLater(error);
    }
    this.#end();
  };

  #finishWrite(handle: JsStream, error: number): void {
    const request = this.#writing.shift();
    if (request !== null) handle.finishWrite(request, error);
  }

  /**
   * Has the engine send close_notify, and end, without its stream: the stream's steps (a turn of `nextTick`, an
   * answer to the request, 'finish') cost as much as all else but the record and its write.
   *
   * @param isCloseNotify as for `Tap.expectCloseNotify`.
   * @returns false where it cannot, and nothing has happened.
   */
  endEngine(engine: EngineHandle, isCloseNotify: (record: SeenRecord) => boolean): boolean {
    if (EndRequest === null || this._handle === null || !this.#writing.isEmpty) return false;
    this.endsAtOnce = true;
    this.#tap.expectCloseNotify(isCloseNotify);
    this.#tap.during(shutDown, engine);
    return true;
  }

  /** @internal @returns 1 for an end that is over when this returns, 0 for one that is told later. */
  onShutdown(request: Request): 0 | 1 {
    if (this.endsAtOnce) return 1;
    EndRequest ??= request.constructor as RequestClass;
    this.#ending = request;
    // Not at once, for the same reason.
    process.nextTick(TapSocket.#endLater, this);
    return 0;
  }

  static readonly #endLater = (socket: TapSocket) => socket.#end();

  /** Not before the engine's last write is finished: close_notify may have to wait for that. */
  #end(): void {
    if (this.#ending === null || this.#ended || !this.#writing.isEmpty) return;
    this.#ended = true;
    this.#tap.end(() => {
      if (this._handle !== null) this.#finishShutdown(this._handle, 0);
    });
  }

  #finishShutdown(handle: JsStream, error: number): void {
    const request = this.#ending;
    this.#ending = null;
    if (request !== null) handle.finishShutdown(request, error);
  }
}
// Node asks whether it is one. None of what it would inherit is used, but for the methods of EventEmitter.
Object.setPrototypeOf(TapSocket.prototype, Socket.prototype);

const wanted = (tap: Tap) => tap.wanted();

const shutDown = (engine: EngineHandle) => {
  engine.shutdown(new (EndRequest as RequestClass)());
};

/** What is done `then` is done as soon as all calls in progress are over, without the queue of `nextTick`. */
const NOW = Promise.resolve();

/**
 * What a TLS socket on this tap is to be put on.
 *
 * @param putTls makes a TLS socket on a Duplex, the long way, to look at.
 * @returns null where Node is not as expected.
 */
export function tapSocket(
  tap: Tap,
  transport: Duplex,
  putTls: (on: Duplex) => TLSSocket,
): TapSocket | null {
  if (Handle === undefined) {
    const found = findJsStream(putTls);
    Handle = found === null ? null : handleClassOf(found);
  }
  return Handle === null ? null : new TapSocket(Handle, tap, transport);
}
