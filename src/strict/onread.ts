/** The option `onread` of `net.Socket`, which Node takes only for a connection that it opens itself. */
import type net from 'node:net';
import type tls from 'node:tls';

/** Has a socket read into the memory of a program's, as with the option. */
export function readInto(socket: tls.TLSSocket, { buffer, callback }: net.OnReadOpts): void {
  const { push, resume } = socket;
  let memory = typeof buffer === 'function' ? buffer() : buffer;
  const value = (chunk: Uint8Array | null): boolean => {
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
  };
  Object.defineProperty(socket, 'push', { configurable: true, writable: true, value });
  Object.defineProperty(socket, 'resume', {
    configurable: true,
    writable: true,
    value() {
      socket._read(0);
      return resume.call(socket);
    },
  });
}
