/**
 * Writing to a socket of the kernel's without its stream in between.
 *
 * Theory of operation. What the TLS engine writes waits for nothing: it makes one write at a time, and the
 * next one when that is taken. So of all that `net.Socket` does with a write (queue, callbacks, 'drain') only
 * the last step is needed, the call of the native handle: it tries to write at once, and says so. What the
 * kernel does not take, libuv keeps, in order, and a `FIN` waits behind it just the same.
 *
 * The long way is taken whenever the stream has something of its own in it, or somebody looks on: bytes
 * that wait, a cork, a timeout, a `write` that is not what it was when this was loaded.
 *
 * The parts are not documented: `writeBuffer`, `writev` and `writeQueueSize` of the native handle, and the
 * class of the requests that it takes, which the engine's own writes show.
 */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { getSystemErrorName } from 'node:util';
import { process } from '../runtime.ts';

/**
 * A write, as a native handle takes it. Each may be given once: libuv uses it also where it had to try twice
 * before the kernel took all, which shows nowhere, and Node aborts the process for one that is in use.
 */
interface Request {
  oncomplete?: (status: number) => void;
  /** What is being written: the native side does not hold it. */
  bytes?: readonly Uint8Array[];
}

/** The class of `Request`. */
export type RequestClass = new () => Request;

/** A write that was not taken at once; `onDone` is told of its end, never within the call that made it. */
export interface Pending {
  onDone: ((error: (Error & { code?: string }) | null) => void) | null;
}

interface Handle {
  /** 0, or a negative error number. */
  writeBuffer(request: Request, bytes: Uint8Array): number;
  writev(request: Request, chunks: readonly Uint8Array[], allBuffers: true): number;
  /** Bytes that libuv keeps. */
  readonly writeQueueSize: number;
}

/** The steps of a write to a socket's stream. */
type Steps = Readonly<Record<'write' | '_write' | '_writev' | '_writeGeneric', unknown>>;

/** As they are when this is loaded; `write` is Writable's, unless somebody has put another one here. */
const { write, _write, _writev, _writeGeneric } = Socket.prototype as unknown as Steps;
const IS_NODES = !Object.hasOwn(Socket.prototype, 'write');

/** Whether what is written to a socket goes to its handle by Node's own steps, which keep nothing. */
export function writesAsNode(socket: Duplex): boolean {
  const steps = socket as unknown as Steps;
  return (
    IS_NODES &&
    steps.write === write &&
    steps._write === _write &&
    steps._writev === _writev &&
    steps._writeGeneric === _writeGeneric
  );
}

/** Whether what is written to a transport goes to the kernel as it is, and nobody could keep it. */
export function copiesAtOnce(transport: Duplex): boolean {
  return isKernelSocket(transport) && writesAsNode(transport);
}

export class HandleWriter {
  readonly #socket: Socket & { readonly _handle?: Handle | null };
  readonly #Request: RequestClass;

  private constructor(socket: Socket, Request: RequestClass) {
    this.#socket = socket;
    this.#Request = Request;
  }

  /** @returns null for a transport that has no handle of the kernel's, or one that is not as expected. */
  static of(transport: Duplex, Request: RequestClass): HandleWriter | null {
    if (!copiesAtOnce(transport)) return null;
    const { _handle: handle } = transport as unknown as { readonly _handle: Handle };
    const known =
      typeof handle.writeBuffer === 'function' &&
      typeof handle.writev === 'function' &&
      typeof handle.writeQueueSize === 'number';
    return known ? new HandleWriter(transport as Socket, Request) : null;
  }

  /**
   * Writes all of it.
   *
   * @returns `taken` where the kernel has it; null where it has to go the long way, and nothing was written.
   */
  write(chunks: readonly Uint8Array[]): 'taken' | Pending | null {
    const socket = this.#socket;
    const { _handle: handle } = socket;
    if (
      !handle ||
      socket.connecting ||
      !socket.writable ||
      socket.writableLength > 0 ||
      socket.writableCorked > 0 ||
      socket.timeout ||
      !copiesAtOnce(socket)
    ) {
      return null;
    }
    const request = new this.#Request();
    const [first] = chunks;
    const status =
      chunks.length === 1
        ? handle.writeBuffer(request, first as Uint8Array)
        : handle.writev(request, chunks, true);
    if (status === 0 && handle.writeQueueSize === 0) return 'taken';
    const pending: Pending = { onDone: null };
    const finish = (result: number) => {
      // Destroyed on this side, or for an error that it has told: the write is no news.
      if (socket.destroyed) return;
      const error = result === 0 ? null : errorOf(result);
      pending.onDone?.(error);
      // As a socket does: whoever wrote has heard of it first.
      if (error !== null) socket.destroy(error);
    };
    if (status === 0) {
      request.bytes = chunks;
      request.oncomplete = finish;
    } else {
      process.nextTick(finish, status);
    }
    return pending;
  }
}

/** The error that Node makes of a failed write. */
function errorOf(status: number): Error & { code: string } {
  const code = getSystemErrorName(status);
  return Object.assign(new Error(`write ${code}`), { errno: status, code, syscall: 'write' });
}

/** Whether a transport is the kernel's socket itself. */
function isKernelSocket(transport: unknown): boolean {
  const { _handle: handle } = transport as { readonly _handle?: object | null };
  const kind = handle?.constructor.name;
  return kind === 'TCP' || kind === 'Pipe';
}
