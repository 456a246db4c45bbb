/** Telling whoever reads a stream of something behind the bytes that wait there. */
import type { Readable } from 'node:stream';
import { process } from './runtime.ts';

/**
 * Calls `then` once the stream's bytes have been read, at once where there are none.
 *
 * Whoever takes bytes out of a Readable (a pipe, an iterator, 'data') does it through `read`. A reader that asks
 * for more bytes than are left gets those that are left, as from any stream that has ended.
 *
 * @param ended whether Node has ended the stream: it then says 'end' in the tick behind the last read, so
 *   `then` is called within that read.
 * @param isHeld whether the reader has yet to read what it has taken.
 */
export function afterReading(
  stream: Readable,
  ended: boolean,
  then: () => void,
  isHeld: () => boolean = () => false,
): void {
  if (stream.readableLength === 0 && !isHeld()) {
    then();
    return;
  }
  const read = stream.read;
  const withLast = (size?: number): unknown => {
    const left = stream.readableLength;
    try {
      return read.call(stream, size !== undefined && size > left && left > 0 ? left : size);
    } finally {
      // Also where a listener to 'data' has thrown.
      if (stream.readableLength === 0 && stream.read === withLast) {
        stream.read = read;
        if (ended) then();
        // By then the reader may have put some of it back.
        else process.nextTick(() => afterReading(stream, false, then, isHeld));
      }
    }
  };
  stream.read = withLast;
  // It may wait for more than will ever come.
  if (!ended && stream.listenerCount('readable') > 0) {
    process.nextTick(() => {
      if (stream.read === withLast && !stream.destroyed) stream.emit('readable');
    });
  }
}
