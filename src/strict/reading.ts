/** Who reads a socket, and telling it of a failure behind all bytes that came before it. */
import type { Duplex, Readable } from 'node:stream';
import { isPausedWithin } from '../http-messages.ts';
import * as unread from '../unread.ts';

/**
 * Calls `then` once the socket's decrypted bytes have been read, at once where there are none. A reader that has taken
 * them and paused within them (undici) has not read them before it reads on.
 *
 * @param ended see unread.ts.
 */
export function afterReading(socket: Duplex, ended: boolean, then: () => void): void {
  unread.afterReading(socket, ended, then, () => isPausedWithin(socket));
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
