/**
 * The descriptor of a `net.Socket`. Node has no documented way to it, so this file, and no other, uses what is not
 * documented: the socket's `_handle` with its `fd`, `reading`, `readStop`, `readStart` and
 * `hasRef`. Where one of them is not as
 * it is in Node 20 to 26 there is no descriptor, and the engine is fed instead.
 */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';

/** What is used of Node's handle of a socket. */
interface Handle {
  readonly fd: number;
  reading: boolean;
  readStop(): number;
  readStart(): number;
  hasRef(): boolean;
}

/** The descriptor of a socket whose own reading can be stopped. */
export class Descriptor {
  readonly fd: number;
  /** Whether the socket itself keeps the process alive. */
  readonly referenced: boolean;
  readonly #handle: Handle;
  #reads = false;

  private constructor(handle: Handle) {
    this.fd = handle.fd;
    this.referenced = handle.hasRef();
    this.#handle = handle;
  }

  /** @returns null where the transport has no descriptor that can be used. */
  static of(transport: Duplex): Descriptor | null {
    // The descriptor of a TLS socket has records on it, not the bytes that it gives.
    if (!(transport instanceof net.Socket) || transport instanceof tls.TLSSocket) return null;
    // Behind what it is still writing, or has ended, nothing of ours may go. An error is for its reader to find.
    const { destroyed, writableEnded, readableEnded, connecting, writableLength } = transport;
    if (destroyed || writableEnded || readableEnded || connecting || writableLength > 0)
      return null;
    if (transport.errored !== null) return null;
    const { _handle: handle } = transport as unknown as { readonly _handle: Handle | null };
    if (typeof handle?.fd !== 'number' || handle.fd < 0) return null;
    const methods = ['readStop', 'readStart', 'hasRef'] as const;
    return methods.every((name) => typeof handle[name] === 'function')
      ? new Descriptor(handle)
      : null;
  }

  /** The socket reads no more by itself. */
  take(): void {
    this.#reads = this.#handle.reading;
    if (!this.#reads) return;
    this.#handle.readStop();
    this.#handle.reading = false;
  }

  /** @param wanted whether the socket's stream has asked for more meanwhile, which it does only once. */
  giveBack(wanted: boolean): void {
    const handle = this.#handle;
    if (!(this.#reads || wanted) || handle.reading || handle.fd < 0) return;
    handle.reading = true;
    handle.readStart();
  }
}
