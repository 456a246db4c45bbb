/** What a TLS socket on a pass lacks beside one on the kernel's socket, lent by the transport. */
import type net from 'node:net';
import type tls from 'node:tls';

/** By the socket they are lent to. */
const transports = new WeakMap<tls.TLSSocket, net.Socket>();

const PROPERTIES = [
  'remoteAddress',
  'remotePort',
  'remoteFamily',
  'localAddress',
  'localPort',
  'localFamily',
  'autoSelectFamilyAttemptedAddresses',
] as const;
const METHODS = ['setNoDelay', 'setKeepAlive', 'ref', 'unref', 'address'] as const;

const members: PropertyDescriptorMap = {};
for (const name of PROPERTIES) {
  members[name] = {
    configurable: true,
    get(this: tls.TLSSocket) {
      return transports.get(this)?.[name];
    },
  };
}
for (const name of METHODS) {
  members[name] = {
    configurable: true,
    writable: true,
    value(this: tls.TLSSocket, ...args: unknown[]) {
      const transport = transports.get(this) as net.Socket;
      const method = transport[name] as (...args: unknown[]) => unknown;
      const result = method.apply(transport, args);
      // Those that can be chained give the socket that they were called on.
      return result === transport ? this : result;
    },
  };
}

/** Has a TLS socket answer for its transport. */
export function lendTransport(socket: tls.TLSSocket, transport: net.Socket): void {
  transports.set(socket, transport);
  Object.defineProperties(socket, members);
}

/** The option `onread`, which Node takes only for a connection that it opens itself. */
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
