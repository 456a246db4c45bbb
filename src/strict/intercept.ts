/**
 * Where a guard stands: the members of a `tls.TLSSocket` that Node calls when something ends, fails or is written.
 *
 * Each is replaced on the one socket, and calls what was there before: Node's own, or somebody else's. `push`,
 * `_write`, `_writev` and `_final` are what Node documents for those who implement a stream.
 */
import type { TLSSocket } from 'node:tls';
import type { EngineError } from '../engine/failure.ts';
import type { Done } from './failed-write.ts';

/** What a guard is asked. */
export interface Interceptor {
  /** Node has bytes for the socket's reader, or the end. */
  onPush(): void;
  /** Node ends the stream. @returns whether it may. */
  onEnd(): boolean;
  /** Somebody destroys the socket, not for what the transport said. @param error null or undefined without one. */
  onDestroy(error: unknown): void;
  /** Node destroys it for what the transport said. @returns what with; null where that is not to be now. */
  onTransportError(error: Error): Error | null;
  /** A write has failed for what the transport said. @param done tells the program, and has Node destroy the socket. */
  onWriteFailed(error: EngineError, done: Done): void;
  /** The program writes, or ends. @returns false where the transport has failed before: the socket fails instead. */
  mayWrite(): boolean;
  /** Whether Node, when it writes close_notify, would read what the peer has sent. */
  shutdownReads(): boolean;
  /** Node has written close_notify. */
  onShutdown(): void;
}

/** @returns the `push` that was there before. */
export function intercept(socket: TLSSocket, guard: Interceptor): TLSSocket['push'] {
  const { push, destroy, _write, _writev, _final } = socket;
  socket.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    guard.onPush();
    if (chunk !== null) return push.call(socket, chunk, encoding);
    return guard.onEnd() && push.call(socket, null);
  };
  socket.destroy = (error?: Error, ...rest: []) => {
    if (!isTransportError(error)) {
      guard.onDestroy(error);
      return destroy.call(socket, error, ...rest);
    }
    const told = guard.onTransportError(error);
    return told === null ? socket : destroy.call(socket, told, ...rest);
  };
  const written = (error: Error | null | undefined, done: Done) => {
    if (isTransportError(error)) guard.onWriteFailed(error, done);
    else done(error);
  };
  socket._write = (chunk, encoding, done) => {
    if (guard.mayWrite()) _write.call(socket, chunk, encoding, (error) => written(error, done));
  };
  if (_writev !== undefined) {
    socket._writev = (chunks, done) => {
      if (guard.mayWrite()) _writev.call(socket, chunks, (error) => written(error, done));
    };
  }
  socket._final = (done) => {
    if (!guard.mayWrite()) return;
    const shutDown = () =>
      _final.call(socket, (error) => {
        done(error);
        guard.onShutdown();
      });
    // Within a call of OpenSSL, in which data and the end of the handshake are told, Node's shutdown would read the
    // next record and drop it. So it waits for the end of this turn.
    if (guard.shutdownReads()) setImmediate(shutDown);
    else shutDown();
  };
  return push;
}

/** Whether an error is Node's, about reading or writing a socket. Errors of files have other words. */
function isTransportError(error: unknown): error is EngineError {
  if (!(error instanceof Error)) return false;
  const { code, syscall, message } = error as EngineError & { syscall?: string };
  const ofSocket = syscall === 'read' || syscall === 'write' || syscall === 'shutdown';
  return ofSocket && message.startsWith(`${syscall} ${code}`);
}
