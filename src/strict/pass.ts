/**
 * The pass: a Duplex between Node's `tls.TLSSocket` and a transport, which changes nothing and shows every byte.
 *
 * Theory of operation. Bytes, EOF, FIN, errors and backpressure go through as they are. The bytes of both
 * directions are shown in order and before they go on: what the transport received before TLS gets it, what TLS
 * made before the transport gets it. What TLS made is told a second time once the transport has taken it.
 *
 * On a socket of the kernel's Node's TLS takes the bytes away in C++. Nobody who listens to that socket hears of
 * them, and neither its stream's state nor its errors have a part in them. So it is here: a `net.Socket` is used by
 * the methods with which it serves its own stream (`_read`, `_write`, `_writev`, `_final`), and what it has read comes
 * by its `push`. Any other Duplex is used by its events and public methods, as Node's TLS does.
 *
 * One thing is different where JavaScript gives TLS its bytes. Bytes that libuv gives it end each callback with the
 * queues of `nextTick` and of promises; within a callback of JavaScript those have to wait for the end of it. So a
 * record is given at a time, and the queues are emptied behind each (queues.ts).
 */
import net from 'node:net';
import { Duplex } from 'node:stream';
import { throwLater } from '../runtime.ts';
import { emptyQueues, withEmptyQueues } from './queues.ts';

/** Who is shown the bytes. */
export interface PassObserver {
  /**
   * Bytes that the transport has received.
   *
   * @returns after how many of these bytes the first record ends; all of them where none does.
   */
  onReceived(bytes: Uint8Array): number;
  /** Bytes that are about to be written to the transport. */
  onSending(bytes: Uint8Array): void;
  /** The transport has taken all bytes up to this one, counted from the first. */
  onSent(total: number): void;
}

type Done = (error?: Error | null) => void;

/** What a pass has of its transport. */
interface Below {
  /** More is wanted. */
  read(): void;
  write(chunks: readonly Uint8Array[], done: Done): void;
  /** FIN. */
  end(done: Done): void;
  destroy(): void;
}

/** What a transport has of its pass. */
interface Above {
  /** @returns whether more is wanted. */
  onBytes(bytes: Uint8Array): boolean;
  onEnd(): void;
  onError(error: Error): void;
  onClose(): void;
}

/** A `net.Socket`, which belongs to the pass from now on. */
class SocketBelow implements Below {
  readonly #socket: net.Socket;
  #ended = false;

  constructor(socket: net.Socket, above: Above, onReadError: (error: Error) => void) {
    this.#socket = socket;
    // What it has read by now, to somebody who did not take it.
    for (let bytes = socket.read(); bytes !== null; bytes = socket.read()) above.onBytes(bytes);
    const onEnd = () => {
      if (this.#ended) return;
      this.#ended = true;
      above.onEnd();
    };
    if (socket.readableEnded) onEnd();
    else socket.once('end', onEnd);
    socket.push = (bytes: Uint8Array | null) => {
      if (bytes !== null) return above.onBytes(bytes);
      onEnd();
      return false;
    };
    const { destroy } = socket;
    socket.destroy = (error?: Error & { syscall?: string }, ...rest: []) => {
      if (error?.syscall !== 'read') return destroy.call(socket, error, ...rest);
      onReadError(error);
      return socket;
    };
    socket.on('error', (error) => above.onError(error));
    socket.once('close', () => above.onClose());
  }

  read(): void {
    if (!this.#ended) this.#socket._read(0);
  }

  write(chunks: readonly Uint8Array[], done: Done): void {
    const socket = this.#socket;
    if (socket.writableLength > 0) {
      // What was written in the clear comes first.
      socket.write('', (error) => (error ? done(error) : this.write(chunks, done)));
      return;
    }
    const [first] = chunks;
    if (chunks.length === 1) socket._write(first, 'buffer' as BufferEncoding, done);
    else {
      const all = chunks.map((chunk) => ({ chunk, encoding: 'buffer' as BufferEncoding }));
      socket._writev?.(Object.assign(all, { allBuffers: true }), done);
    }
  }

  end(done: Done): void {
    this.#socket._final(done);
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

class DuplexBelow implements Below {
  readonly #duplex: Duplex;

  constructor(duplex: Duplex, above: Above) {
    this.#duplex = duplex;
    duplex.on('data', (bytes: Uint8Array) => {
      if (!above.onBytes(bytes)) duplex.pause();
    });
    duplex.once('end', () => above.onEnd());
    duplex.on('error', (error) => above.onError(error));
    duplex.once('close', () => above.onClose());
  }

  read(): void {
    this.#duplex.resume();
  }

  write(chunks: readonly Uint8Array[], done: Done): void {
    const last = chunks.length - 1;
    this.#duplex.cork();
    chunks.forEach((chunk, i) => {
      if (i < last) this.#duplex.write(chunk);
      else this.#duplex.write(chunk, done);
    });
    this.#duplex.uncork();
  }

  end(done: Done): void {
    this.#duplex.end(done);
  }

  destroy(): void {
    this.#duplex.destroy();
  }
}

type Base = new (options: object) => Duplex;

/** A pass, on its way between TLS and a transport. */
export interface Pass extends Duplex {
  /** Whether TLS gives what it decrypts to HTTP/2. */
  http2: () => boolean;
  onReadError: (error: Error) => void;
  /** The transport has failed otherwise. */
  onFailure: (error: Error) => void;
}

function passOn(Base: Base): new (transport: Duplex, observer: PassObserver) => Pass {
  return class Pass extends Base implements Above {
    /** What `tls.connect` checks the certificate against when it is given a socket and no name. */
    readonly _host: string | undefined;
    /** Whether nobody else's code is being run when the transport gives bytes. */
    readonly #fromKernel: boolean;
    readonly #below: Below;
    readonly #observer: PassObserver;
    #written = 0;
    #writeError: Error | null = null;
    /** Whether TLS gives what it decrypts to HTTP/2. */
    http2: () => boolean = () => false;
    onReadError: (error: Error) => void = () => {};
    /** The transport has failed otherwise: on a program's own it is an 'error' of TLS, whose end comes with 'close'. */
    onFailure: (error: Error) => void = (error) => super.emit('error', error);

    constructor(transport: Duplex, observer: PassObserver) {
      // TLS destroys it. By itself it would do so when both sides have ended, before TLS has been read.
      super({ autoDestroy: false });
      this._host = (transport as { _host?: string })._host;
      this.#observer = observer;
      this.#fromKernel = transport instanceof net.Socket;
      this.#below =
        transport instanceof net.Socket
          ? new SocketBelow(transport, this, (error) => this.onReadError(error))
          : new DuplexBelow(transport, this);
    }

    // ---- for the transport

    onBytes(bytes: Uint8Array): boolean {
      let more = true;
      let left = bytes;
      while (left.length > 0 && !this.destroyed) {
        const piece = left.subarray(0, this.#observer.onReceived(left));
        left = left.subarray(piece.length);
        more = this.#give(piece);
        if (left.length > 0 && this.#fromKernel) emptyQueues();
      }
      return more;
    }

    #give(bytes: Uint8Array): boolean {
      try {
        if (this.#fromKernel && this.http2()) return withEmptyQueues(() => this.push(bytes));
        return this.push(bytes);
      } catch (error) {
        // A program's listener threw. What it threw at is over, and the next record is as good as any.
        throwLater(error);
        return true;
      }
    }

    onEnd(): void {
      this.push(null);
    }

    onError(error: Error): void {
      this.onFailure(error);
    }

    onClose(): void {
      this.destroy();
    }

    // ---- for TLS

    /**
     * A write that fails is told to whoever wrote, and leaves this stream as it is: what the transport has read, or
     * will, goes on to TLS.
     */
    override write(chunk: Uint8Array, ...rest: unknown[]): boolean {
      const done = rest.find((one) => typeof one === 'function') as Done | undefined;
      return super.write(chunk, () => done?.(this.#writeError));
    }

    override _read(): void {
      this.#below.read();
    }

    override _write(chunk: Uint8Array, _encoding: string, done: Done): void {
      this.#send([chunk], done);
    }

    override _writev(chunks: Array<{ chunk: Uint8Array }>, done: Done): void {
      this.#send(
        chunks.map(({ chunk }) => chunk),
        done,
      );
    }

    #send(chunks: readonly Uint8Array[], done: Done): void {
      for (const chunk of chunks) {
        this.#observer.onSending(chunk);
        this.#written += chunk.length;
      }
      const total = this.#written;
      this.#below.write(chunks, (error) => {
        if (error) this.#writeError ??= error;
        else this.#observer.onSent(total);
        done();
      });
    }

    override _final(done: Done): void {
      this.#below.end(() => done());
    }

    override _destroy(error: Error | null, done: Done): void {
      this.#below.destroy();
      done(error);
    }
  };
}

/** Node takes it for a socket that is not connected, and TLS waits for its 'connect'. */
class Unconnected extends Duplex {
  connecting = true;
  readonly _parent = null;
}
Object.setPrototypeOf(Unconnected.prototype, net.Socket.prototype);

const ConnectedPass = passOn(Duplex);
const ConnectingPass = passOn(Unconnected);

/** Whether this is a pass: TLS on it is watched already. */
export function isPass(transport: unknown): transport is Pass {
  return transport instanceof ConnectedPass || transport instanceof ConnectingPass;
}

/** A pass to a transport. TLS on one that is to connect waits for its 'connect'. */
export function passTo(transport: Duplex, observer: PassObserver, connecting: boolean): Pass {
  return connecting
    ? new ConnectingPass(transport, observer)
    : new ConnectedPass(transport, observer);
}
