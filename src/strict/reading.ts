/** Who reads a socket, and telling it of a failure behind all bytes that came before it. */
import type { Duplex, Readable } from 'node:stream';
import { isPausedWithin } from '../http-messages.ts';

/**
 * Calls `then` once the socket's decrypted bytes have been read, at once where there are none. A reader that has taken
 * them and paused within them (undici) has not read them before it reads on.
 *
 * Whoever takes bytes out of a Readable (a pipe, an iterator, 'data') does it through `read`. A reader that asks
 * for more bytes than are left gets those that are left, as from any stream that has ended.
 *
 * @param ended whether Node has ended the stream: it then says 'end' in the tick behind the last read, so
 *   `then` is called within that read.
 */
export function afterReading(socket: Duplex, ended: boolean, then: () => void): void {
  if (socket.readableLength === 0 && !isPausedWithin(socket)) {
    then();
    return;
  }
  const read = socket.read;
  const withLast = (size?: number): unknown => {
    const left = socket.readableLength;
    try {
      return read.call(socket, size !== undefined && size > left && left > 0 ? left : size);
    } finally {
      // Also where a listener to 'data' has thrown.
      if (socket.readableLength === 0 && socket.read === withLast) {
        socket.read = read;
        if (ended) then();
        // By then the reader may have put some of it back.
        else process.nextTick(() => afterReading(socket, false, then));
      }
    }
  };
  socket.read = withLast;
  // It may wait for more than will ever come.
  if (!ended && socket.listenerCount('readable') > 0) {
    process.nextTick(() => {
      if (socket.read === withLast && !socket.destroyed) socket.emit('readable');
    });
  }
}

/** Whether somebody takes what comes, so that its end will be found. */
export function isRead(socket: Duplex): boolean {
  if (socket.destroyed || socket.readableEnded) return false;
  return socket.readableFlowing === true || socket.listenerCount('readable') > 0;
}

/** Whether Node has ended the stream, told or not. Undocumented, and as old as streams. */
export function hasEnded(socket: Readable): boolean {
  const { _readableState: state } = socket as { _readableState?: { ended?: boolean } };
  return socket.readableEnded || state?.ended === true;
}
