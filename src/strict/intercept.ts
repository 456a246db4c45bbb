/**
 * Where a guard stands: the members of a `tls.TLSSocket` that Node calls when something ends, fails or is written.
 *
 * Each is replaced on the one socket, and calls what was there before: Node's own, or somebody else's. `push`,
 * `_write`, `_writev` and `_final` are what Node documents for those who implement a stream.
 *
 * The functions are the same for all sockets, and find the guard by a symbol on the socket. Node's handle keeps a dead
 * socket, with all that it leads to, from the small collections of V8: each of them copies it, and only a large one
 * frees it. So a closure for each function and socket costs far more than to make it; a map by socket costs as much
 * again.
 */
import { TLSSocket } from 'node:tls';
import type { EngineError } from '../engine/failure.ts';
import type { Done } from './failed-write.ts';

/** Under which a socket has its guard. */
const GUARD = Symbol('close-notify.guard');

/** What has a guard: a socket, or what watches it. */
type Guarded = { [GUARD]?: Interceptor };

/** The guard of something, or undefined. */
export const interceptorOf = (guarded: object): Interceptor | undefined =>
  (guarded as Guarded)[GUARD];

/** Has `interceptorOf(guarded)` find it. */
export function setGuard(guarded: object, guard: Interceptor): void {
  (guarded as Guarded)[GUARD] = guard;
}

/** What was there before. */
type Before = Pick<TLSSocket, 'push' | 'destroy' | '_write' | '_final'> & {
  readonly _writev: TLSSocket['_writev'] | undefined;
};

/** What a guard is asked. */
export interface Interceptor {
  readonly socket: TLSSocket;
  readonly before: Before;
  /** Node has bytes for the socket's reader, or the end. */
  onPush(): void;
  /** Node ends the stream. @returns whether it may. */
  onEnd(): boolean;
  /** Somebody destroys the socket, not for what the transport said. @param error null or undefined without one. */
  onDestroy(error: unknown): void;
  /** Node destroys it for what the transport said. @returns what with; null where that is not to be now. */
  onTransportError(error: EngineError): Error | null;
  /** A write has failed for what the transport said. @param done tells the program, and has Node destroy the socket. */
  onWriteFailed(error: EngineError, done: Done): void;
  /** The program writes, or ends. @returns false where the transport has failed before: the socket fails instead. */
  mayWrite(): boolean;
  /** Whether Node, when it writes close_notify, would read what the peer has sent. */
  shutdownReads(): boolean;
  /** Node has written close_notify. */
  onShutdown(): void;
}

/** What nearly every socket had before: Node's own. One object does for them. */
const NODES = membersOf(TLSSocket.prototype);

function membersOf({ push, destroy, _write, _writev, _final }: TLSSocket): Before {
  return { push, destroy, _write, _writev, _final };
}

function beforeOf(socket: TLSSocket): Before {
  const { push, destroy, _write, _writev, _final } = socket;
  const isNodes =
    push === NODES.push &&
    destroy === NODES.destroy &&
    _write === NODES._write &&
    _writev === NODES._writev &&
    _final === NODES._final;
  return isNodes ? NODES : membersOf(socket);
}

/** @returns what was there before, for the guard to keep as `before`. */
export function intercept(socket: TLSSocket, guard: Interceptor): Before {
  const before = beforeOf(socket);
  setGuard(socket, guard);
  socket.push = onPush;
  socket.destroy = onDestroy;
  socket._write = onWrite;
  if (before._writev !== undefined) socket._writev = onWritev;
  socket._final = onFinal;
  return before;
}

/** Of a socket that was intercepted. */
const guardOf = (socket: TLSSocket): Interceptor => interceptorOf(socket) as Interceptor;

function onPush(this: TLSSocket, chunk: unknown, encoding?: BufferEncoding): boolean {
  const guard = guardOf(this);
  const { socket, before } = guard;
  guard.onPush();
  if (chunk !== null) return before.push.call(socket, chunk, encoding);
  return guard.onEnd() && before.push.call(socket, null);
}

function onDestroy(this: TLSSocket, error?: Error, ...rest: []): TLSSocket {
  const guard = guardOf(this);
  const { socket, before } = guard;
  if (!isTransportError(error)) {
    guard.onDestroy(error);
    return before.destroy.call(socket, error, ...rest);
  }
  const told = guard.onTransportError(error);
  return told === null ? socket : before.destroy.call(socket, told, ...rest);
}

function onWrite(this: TLSSocket, chunk: unknown, encoding: BufferEncoding, done: Done): void {
  const guard = guardOf(this);
  const { socket, before } = guard;
  if (!guard.mayWrite()) return;
  before._write.call(socket, chunk, encoding, (error) => onWritten(guard, error, done));
}

function onWritev(this: TLSSocket, chunks: Chunks, done: Done): void {
  const guard = guardOf(this);
  const { socket, before } = guard;
  if (!guard.mayWrite()) return;
  before._writev?.call(socket, chunks, (error) => onWritten(guard, error, done));
}

/** What `_writev` is given. */
type Chunks = Parameters<NonNullable<Before['_writev']>>[0];

function onWritten(guard: Interceptor, error: Error | null | undefined, done: Done): void {
  if (isTransportError(error)) guard.onWriteFailed(error, done);
  else done(error);
}

function onFinal(this: TLSSocket, done: Done): void {
  const guard = guardOf(this);
  const { socket, before } = guard;
  if (!guard.mayWrite()) return;
  const shutDown = () =>
    before._final.call(socket, (error) => {
      done(error);
      guard.onShutdown();
    });
  // Within a call of OpenSSL, in which data and the end of the handshake are told, Node's shutdown would read the
  // next record and drop it. So it waits for the end of this turn.
  if (guard.shutdownReads()) setImmediate(shutDown);
  else shutDown();
}

/** Whether an error is Node's, about reading or writing a socket. Errors of files have other words. */
function isTransportError(error: unknown): error is EngineError {
  if (!(error instanceof Error)) return false;
  const { code, syscall, message } = error as EngineError & { syscall?: string };
  const ofSocket = syscall === 'read' || syscall === 'write' || syscall === 'shutdown';
  return ofSocket && message.startsWith(`${syscall} ${code}`);
}
