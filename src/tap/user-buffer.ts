/**
 * The option `onread` of `net.Socket`, for a socket that was made without it.
 *
 * With that option what is read goes into a memory of the caller's, and a callback is told how many bytes.
 * Node takes it only where a program opens a connection: neither a server's sockets nor TLS on a given
 * stream can have it. So it is set the way that the constructor of `net.Socket` would have set it.
 *
 * The parts are not documented: three symbols of `net.Socket`, and `onread` and `useUserBuffer` of the
 * native handle. Where one is missing, on other runtimes, there is no such way.
 */
import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { IS_NODE } from '../runtime.ts';

interface Handle {
  onread: (this: Handle, bytes?: ArrayBuffer) => unknown;
  useUserBuffer(memory: Uint8Array): void;
}

type Symbols = Readonly<Record<'kBuffer' | 'kBufferCb' | 'kBufferGen', symbol>>;

/** What `net.Socket` keeps its option `onread` under; null where that is not so. Looked up once. */
let symbols: Symbols | null | undefined;

function symbolsOf(): Symbols | null {
  if (!IS_NODE) return null;
  const found = Object.getOwnPropertySymbols(
    new Socket({
      onread: { buffer: new Uint8Array(1), callback: () => true },
    } as SocketConstructorOpts),
  );
  const named = (name: string) => found.find(({ description }) => description === name);
  const [kBuffer, kBufferCb, kBufferGen] = ['kBuffer', 'kBufferCb', 'kBufferGen'].map(named);
  if (kBuffer === undefined || kBufferCb === undefined || kBufferGen === undefined) return null;
  return { kBuffer, kBufferCb, kBufferGen };
}

/** The parts of a socket that reads as Node's sockets do. */
export interface UserBuffer extends Symbols {
  /** The socket, by symbols. */
  readonly own: Record<symbol, unknown>;
  readonly handle: Handle;
}

/** @returns null for a socket that has a memory of its own, or whose parts are not as expected. */
export function userBufferOf(socket: Socket): UserBuffer | null {
  if (symbols === undefined) symbols = symbolsOf();
  const own = socket as unknown as Record<symbol, unknown>;
  const { _handle: handle } = socket as unknown as { readonly _handle?: Handle | null };
  if (
    symbols === null ||
    handle === null ||
    handle === undefined ||
    typeof handle.useUserBuffer !== 'function' ||
    typeof handle.onread !== 'function' ||
    own[symbols.kBuffer] !== null
  ) {
    return null;
  }
  return { own, handle, ...symbols };
}

/**
 * Has the socket read as its option `onread` would have.
 *
 * @returns whether that could be done.
 */
export function readInto(socket: Socket, { buffer, callback }: OnReadOpts): boolean {
  const parts = userBufferOf(socket);
  if (parts === null) return false;
  const memory = typeof buffer === 'function' ? buffer() : buffer;
  parts.own[parts.kBuffer] = memory;
  parts.own[parts.kBufferCb] = callback;
  if (typeof buffer === 'function') parts.own[parts.kBufferGen] = buffer;
  parts.handle.useUserBuffer(memory);
  return true;
}
