/**
 * The short way between a tap and Node's TLS engine.
 *
 * Theory of operation. Node puts TLS on a Duplex by way of a `JSStreamSocket`: it listens to the
 * Duplex's 'data' and gives each chunk to a native handle; in the other direction it writes each of the
 * engine's buffers to the Duplex, and once all of them are taken it waits for the next turn of the event
 * loop before it lets the engine go on. That turn, for every 64 KB or less, is most of what a Duplex
 * under TLS costs when much is sent. So where those parts are what they are expected to be, the tap
 * gives bytes to the handle itself, and takes the engine's buffers all at once, and the engine goes on
 * as soon as the current callback is over, which is what Node does for a socket of the kernel's. And
 * where the engine has ended, the tap need not be ended too, as a stream: it only has to be empty.
 *
 * The engine's buffers are copies, made for this one write, and garbage as soon as the kernel has copied
 * them in turn. V8 collects them late, so that each write goes through memory that no cache holds: a
 * third of the CPU time of a bulk transfer. So they are given back at once (`free`).
 *
 * The parts are not documented: `_handle._parent`, the native handle below TLS, and its `_parentWrap`.
 * Where they are missing, on other runtimes, nothing is changed, and the tap is the Duplex that it is.
 */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { TLSSocket } from './engine.ts';
import { isKernelSocket } from './kernel-socket.ts';

/** A write, or the end, of the engine, which goes on once it is finished. */
type Request = object;

interface JsStream {
  /** Gives ciphertext to the engine, which is done with the memory when this returns. */
  readBuffer(bytes: Uint8Array): void;
  finishWrite(request: Request, error: number): void;
  finishShutdown(request: Request, error: number): void;
}

interface JsStreamSocket {
  /** Null once it is closing. */
  readonly _handle: JsStream | null;
  doWrite(request: Request, buffers: Uint8Array[]): number;
  doShutdown(request: Request): number;
  /** Called by us when a write is done, and by Node to cancel one when the socket is closed. */
  finishWrite(handle: JsStream, error: number): void;
  /** Likewise for the end. */
  finishShutdown(handle: JsStream, error: number): void;
}

/** What a tap does for the engine. */
export interface Below {
  /**
   * Writes all of it. `done` is called when more is wanted, and not at all if the transport fails;
   * `taken` when the transport has taken all, and nobody else has seen it.
   */
  send(buffers: readonly Uint8Array[], done: () => void, taken?: () => void): void;
  /** Calls back once the transport has taken all that was sent. */
  afterFlush(then: () => void): void;
}

/**
 * After so many writes in a row the engine waits for a turn of the event loop after all, so that a
 * transport that takes everything at once does not keep the loop from everybody else.
 */
const STREAK = 16;

/** Writes of fewer bytes are not worth giving back. */
const WORTH_FREEING = 16_384;

/** One end of a channel whose other end is closed: what is transferred to it is gone. */
let nowhere: MessagePort | null = null;

/** Gives memory back to the allocator now. Whoever still looks at it finds it empty. */
function free(buffers: readonly Uint8Array[]): void {
  const memory = buffers.map(({ buffer }) => buffer as ArrayBuffer);
  // What is part of something larger is not ours to give.
  if (buffers.some(({ length }, i) => length !== memory[i]?.byteLength)) return;
  if (nowhere === null) {
    const { port1, port2 } = new MessageChannel();
    port1.close();
    port2.close();
    nowhere = port1;
  }
  nowhere.postMessage(null, memory);
}

/** Whether what a transport has called back for is in the kernel, and nobody could have kept it. */
function copiesAtOnce(transport: Duplex): boolean {
  const { write, _write, _writev } = Socket.prototype;
  return (
    isKernelSocket(transport) &&
    transport.write === write &&
    transport._write === _write &&
    transport._writev === _writev
  );
}

/** Has the one request of a kind that is under way finished by `wrap[name]`. @returns what sets it. */
function pending(
  wrap: JsStreamSocket,
  name: 'finishWrite' | 'finishShutdown',
): (request: Request) => void {
  let current: Request | null = null;
  const original = wrap[name];
  wrap[name] = (handle, error) => {
    const request = current;
    current = null;
    // The first flight of a handshake may have gone out the long way, before this was set up.
    if (request === null) original.call(wrap, handle, error);
    else handle[name](request, error);
  };
  return (request) => {
    current = request;
  };
}

/**
 * Joins a TLS socket that was put on a tap to that tap, the short way.
 *
 * @param transport what is under the tap.
 * @returns what feeds the engine, synchronously; null where there is no short way.
 */
export function shorten(
  socket: TLSSocket,
  below: Below,
  transport: Duplex,
): ((bytes: Uint8Array) => void) | null {
  const above = socket as unknown as {
    readonly _handle?: {
      readonly _parent?: JsStream;
      readonly _parentWrap?: JsStreamSocket;
    } | null;
  };
  const handle = above._handle?._parent;
  const wrap = above._handle?._parentWrap;
  if (
    handle === undefined ||
    wrap === undefined ||
    wrap._handle !== handle ||
    typeof handle.readBuffer !== 'function' ||
    typeof handle.finishWrite !== 'function' ||
    typeof wrap.doWrite !== 'function' ||
    typeof wrap.finishWrite !== 'function' ||
    typeof handle.finishShutdown !== 'function' ||
    typeof wrap.doShutdown !== 'function' ||
    typeof wrap.finishShutdown !== 'function'
  ) {
    return null;
  }
  const beginWrite = pending(wrap, 'finishWrite');
  const beginShutdown = pending(wrap, 'finishShutdown');
  let streak = 0;
  const finish = () => wrap.finishWrite(handle, 0);
  const done = () => {
    // Never at once: the engine is in the middle of the call that made the write.
    if (++streak % STREAK === 0) setImmediate(finish);
    else process.nextTick(finish);
  };
  wrap.doWrite = (request, buffers) => {
    beginWrite(request);
    // A socket that is closing cancels it in a moment.
    if (wrap._handle === null) return 0;
    const bytes = buffers.reduce((sum, { length }) => sum + length, 0);
    const worth = bytes >= WORTH_FREEING && copiesAtOnce(transport);
    below.send(buffers, done, worth ? () => free(buffers) : undefined);
    return 0;
  };
  const ended = () => wrap.finishShutdown(handle, 0);
  wrap.doShutdown = (request) => {
    beginShutdown(request);
    // Not at once, for the same reason; and a socket that is closing cancels it.
    if (wrap._handle !== null) process.nextTick(() => below.afterFlush(ended));
    return 0;
  };
  return (bytes) => {
    if (wrap._handle !== null) handle.readBuffer(bytes);
  };
}
