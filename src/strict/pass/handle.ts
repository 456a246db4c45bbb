/**
 * The handle that TLS is put on: Node's `JSStream`, whose other side is JavaScript.
 *
 * Theory of operation. In Node a TLS socket reads and writes by the handle of the socket below it, in C++. For any
 * Duplex Node makes a `JSStream`, and puts two streams around it. These end an event loop later than the handle of a
 * TCP socket, fail for what that lets pass, and know no addresses. So the class is taken without them, and answers each
 * call as the handle of a TCP socket does (Node's src/stream_wrap.cc).
 *
 * Not documented, all of it used by Node's own TLS on a Duplex since Node 10: `_handle` and its `_parent`, where the
 * class is found; what it is asked for (the members of `JsStream`); what it asks for (the methods of the class below).
 */
import type net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { getSystemErrorMap } from 'node:util';
import { RuntimeError } from '../../errors.ts';
import { IS_NODE } from '../../runtime.ts';

/** A write or an end that TLS waits for. */
export type Request = object;

/** TLS, as seen from below. */
export interface JsStream {
  readBuffer(bytes: Uint8Array): void;
  emitEOF(): void;
  /** The status is 0 or a negative error number, here and below. */
  finishWrite(request: Request, status: number): void;
  finishShutdown(request: Request, status: number): void;
}

/** Who does what TLS asks of its handle. */
export interface HandleOwner {
  /** The transport, where it is a `net.Socket`. */
  readonly socket: net.Socket | null;
  readonly destroyed: boolean;
  readonly incoming: { start(): void; stop(): void };
  readonly outgoing: {
    write(request: Request, buffers: readonly Uint8Array[]): void;
    shutdown(request: Request): void;
  };
}

type Handle = JsStream & { pass: HandleOwner };

function handleClassOf(JsStream: new () => JsStream): new () => Handle {
  return class extends JsStream implements Handle {
    declare pass: HandleOwner;

    onreadstart(): number {
      this.pass.incoming.start();
      return 0;
    }

    onreadstop(): number {
      this.pass.incoming.stop();
      return 0;
    }

    onwrite(request: Request, buffers: Uint8Array[]): number {
      this.pass.outgoing.write(request, buffers);
      return 0;
    }

    onshutdown(request: Request): number {
      this.pass.outgoing.shutdown(request);
      return 0;
    }

    isClosing(): boolean {
      return this.pass.destroyed;
    }

    // What a TLS socket asks of its own handle is asked of this one.

    getpeername(out: object): number {
      return this.#name(out, 'remote');
    }

    getsockname(out: object): number {
      return this.#name(out, 'local');
    }

    /** As libuv: nothing for a socket that has no such address. */
    #name(out: object, side: 'remote' | 'local'): number {
      const { socket } = this.pass;
      const address = socket?.[`${side}Address`];
      if (address === undefined) return STATUS.noAddress;
      Object.assign(out, {
        address,
        family: socket?.[`${side}Family`],
        port: socket?.[`${side}Port`],
      });
      return 0;
    }

    setNoDelay(on: boolean): number {
      this.pass.socket?.setNoDelay(on);
      return 0;
    }

    /** @param delay in seconds. */
    setKeepAlive(on: boolean, delay: number): number {
      this.pass.socket?.setKeepAlive(on, delay * 1000);
      return 0;
    }

    ref(): void {
      this.pass.socket?.ref();
    }

    unref(): void {
      this.pass.socket?.unref();
    }
  };
}

const numbers = new Map([...getSystemErrorMap()].map(([number, [name]]) => [name, number]));

/** What libuv answers. */
export const STATUS = {
  canceled: numbers.get('ECANCELED') as number,
  brokenPipe: numbers.get('EPIPE') as number,
  badDescriptor: numbers.get('EBADF') as number,
  noAddress: numbers.get('EINVAL') as number,
} as const;

export function statusOf(error: (Error & { code?: string }) | null | undefined): number {
  return error ? (numbers.get(error.code ?? '') ?? STATUS.brokenPipe) : 0;
}

/** Looked for once; null where it is not as expected. */
let HandleClass: (new () => Handle) | null | undefined;

/** @throws {RuntimeError} where this runtime's TLS can be put on no such handle. */
export function newHandle(pass: HandleOwner): JsStream {
  if (HandleClass === undefined) {
    const found = findJsStream();
    HandleClass = found === null ? null : handleClassOf(found);
  }
  if (HandleClass === null) {
    throw new RuntimeError(
      'without the add-on a drop-in cannot be had here: Node is not as expected',
      { hint: 'install close-notify-native, or use connect() and accept()' },
    );
  }
  const handle = new HandleClass();
  handle.pass = pass;
  return handle;
}

function findJsStream(): (new () => JsStream) | null {
  if (!IS_NODE) return null;
  // With an authority of its own, or Node would read all that it trusts.
  const secureContext = tls.createSecureContext({ ca: [] });
  const socket = new tls.TLSSocket(new Duplex({ read() {}, write() {} }), { secureContext });
  const { _handle } = socket as unknown as { readonly _handle?: { readonly _parent?: JsStream } };
  const found = _handle?._parent?.constructor as (new () => JsStream) | undefined;
  socket.destroy();
  const methods = ['readBuffer', 'emitEOF', 'finishWrite', 'finishShutdown'] as const;
  const known =
    found?.name === 'JSStream' &&
    methods.every((name) => typeof found.prototype[name] === 'function');
  return known ? found : null;
}
