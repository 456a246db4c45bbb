/** The option `onread` of `net.Socket`, which Node takes only for a connection that it opens itself. */
import type net from 'node:net';
import type tls from 'node:tls';
import type { Pass } from './pass.ts';

/**
 * Has a socket on a pass read into the memory of a program's, as with the option: nothing of what is read is kept, a
 * callback that returns false stops the reading, and so does `pause`.
 */
export function readInto(
  socket: tls.TLSSocket,
  pass: Pass,
  { buffer, callback }: net.OnReadOpts,
): void {
  const { push, pause, resume } = socket;
  let memory = typeof buffer === 'function' ? buffer() : buffer;
  let paused = false;
  const members = {
    push(chunk: Uint8Array | null): boolean {
      if (chunk === null) return push.call(socket, null);
      let more = true;
      for (let at = 0; at < chunk.length; ) {
        const piece = chunk.subarray(at, at + memory.length);
        memory.set(piece);
        more = callback(piece.length, memory) !== false;
        if (typeof buffer === 'function') memory = buffer();
        at += piece.length;
      }
      return more;
    },
    pause() {
      paused = true;
      pass.incoming.stop();
      return pause.call(socket);
    },
    resume() {
      // As Node does where a callback has stopped it.
      socket._read(0);
      if (paused) pass.incoming.start();
      paused = false;
      return resume.call(socket);
    },
  };
  for (const [name, value] of Object.entries(members)) {
    Object.defineProperty(socket, name, { configurable: true, writable: true, value });
  }
}
