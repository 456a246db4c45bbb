/**
 * Closure and truncation told apart on a TLS socket that has no tap under it: one on the kernel's socket
 * itself, as `tls.connect` and `tls.Server` make them.
 *
 * Theory of operation. Node ends such a socket (pushes null) at two moments: within the reading of the
 * bytes that hold close_notify, or within libuv's report of EOF. At the first, libuv is still reading,
 * and asked to begin reading it says so: "uv_read_start() now consistently returns UV_EALREADY when
 * called twice" (libuv's documentation, since 1.38). At the second it has stopped before it reported.
 * So whoever intercepts the end can ask, and gets the truth, from the one place that knows whether EOF
 * has been seen. One case remains: Node stops reading when its reader has enough, and close_notify may
 * stand in the bytes that were read before. A socket that was just filled up, and that Node therefore
 * does not read, cannot have been told of EOF.
 *
 * This is how a socket stays exactly what it was, in what it does and what it costs. It leans on two
 * members of Node that are not documented (`_handle`, and its `_parent`, the TCP or pipe handle below
 * TLS), which is why it is used only where both are what they are expected to be, and a tap elsewhere.
 * It also knows less: not whether a record was cut in its middle, nor what came after close_notify.
 */

import type { TLSSocket } from 'node:tls';
import { getSystemErrorName } from 'node:util';

/** A handle of libuv, as Node wraps it. */
interface Handle {
  /** 0, or a negative error number. */
  readStart(): number;
  readStop(): number;
  /** Whether Node wants it to be read. */
  readonly reading?: boolean;
  readonly _parent?: Handle;
}

const handleOf = (socket: unknown): Handle | undefined =>
  (socket as { _handle?: Handle | null })._handle ?? undefined;

/** Whether a handle is a TCP or pipe handle of libuv. */
function isKernelHandle(handle: Handle | undefined): handle is Handle {
  const kind = handle?.constructor.name;
  return (
    (kind === 'TCP' || kind === 'Pipe') &&
    typeof handle?.readStart === 'function' &&
    typeof handle.readStop === 'function'
  );
}

/** Whether a TLS socket sits on the kernel's socket itself. */
export function onKernelSocket(socket: TLSSocket): boolean {
  return isKernelHandle(handleOf(socket)?._parent);
}

/** Whether a TLS socket put on this transport would sit on the kernel's socket itself. */
export function isKernelSocket(transport: unknown): boolean {
  return isKernelHandle(handleOf(transport));
}

/**
 * To be asked within the call that ends the socket; see above.
 *
 * @param full whether the socket had enough with the last bytes that it was given.
 */
export function endedByCloseNotify(socket: TLSSocket, full: boolean): boolean {
  const handle = handleOf(socket);
  const below = handle?._parent;
  if (!isKernelHandle(below)) return false;
  const answer = below.readStart();
  if (answer < 0) return getSystemErrorName(answer) === 'EALREADY';
  below.readStop();
  return handle?.reading === false && (full || readsIntoBuffer(socket));
}

/** Whether the socket was made with `onread`: its reader is given bytes, and stops it, without a push. */
function readsIntoBuffer(socket: TLSSocket): boolean {
  const symbol = Object.getOwnPropertySymbols(socket).find((one) => one.description === 'kBuffer');
  return symbol !== undefined && Boolean((socket as unknown as Record<symbol, unknown>)[symbol]);
}
