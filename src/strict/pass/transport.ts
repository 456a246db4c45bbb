/**
 * The transport, as a pass uses it.
 *
 * Theory of operation. Nobody who listens to a `net.Socket` under TLS hears of what TLS reads and writes there, and
 * neither the state of its streams nor their errors have a part in it. So a `net.Socket` is used by the methods with
 * which it serves its own streams (`_read`, `_write`, `_writev`, `_final`), and what it has read is taken from its
 * `push`. Any other Duplex is used by its events and public methods, as Node does.
 */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import { process } from '../../runtime.ts';

export type Done = (error?: Error | null) => void;

/** What a pass has of its transport. */
export interface Transport {
  /** More is wanted. */
  read(): void;
  write(chunks: readonly Uint8Array[], done: Done): void;
  /** FIN. */
  end(done: Done): void;
  destroy(): void;
}

/** What a transport has of its pass. */
export interface TransportUser {
  /** @returns whether more is wanted. */
  onBytes(bytes: Uint8Array): boolean;
  onEnd(): void;
  /** It cannot be read any more. */
  onReadError(error: Error): void;
  /** It has failed otherwise. */
  onError(error: Error): void;
  onClose(): void;
}

export function transportOf(stream: Duplex, user: TransportUser): Transport {
  return stream instanceof net.Socket
    ? new SocketTransport(stream, user)
    : new DuplexTransport(stream, user);
}

/** A `net.Socket`, by the methods with which it serves its own streams. */
class SocketTransport implements Transport {
  readonly #socket: net.Socket;
  #ended = false;

  constructor(socket: net.Socket, user: TransportUser) {
    this.#socket = socket;
    // What it has read by now, to somebody who did not take it.
    for (let bytes = socket.read(); bytes !== null; bytes = socket.read()) user.onBytes(bytes);
    const onEnd = () => {
      if (this.#ended) return;
      this.#ended = true;
      user.onEnd();
    };
    if (socket.readableEnded) onEnd();
    else socket.once('end', onEnd);
    // Its own FIN would be ahead of close_notify.
    socket.allowHalfOpen = true;
    socket.push = (bytes: Uint8Array | null) => {
      if (bytes !== null) return user.onBytes(bytes);
      onEnd();
      return false;
    };
    const { destroy } = socket;
    socket.destroy = (error?: Error & { syscall?: string }, ...rest: []) => {
      if (error?.syscall !== 'read') return destroy.call(socket, error, ...rest);
      user.onReadError(error);
      return socket;
    };
    socket.on('error', (error) => user.onError(error));
    socket.once('close', () => user.onClose());
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
    const encoding = 'buffer' as BufferEncoding;
    if (chunks.length === 1) {
      socket._write(chunks[0], encoding, done);
    } else {
      const all = chunks.map((chunk) => ({ chunk, encoding }));
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

/** Any other Duplex, as Node's TLS uses it. */
class DuplexTransport implements Transport {
  readonly #duplex: Duplex;
  readonly #user: TransportUser;

  constructor(duplex: Duplex, user: TransportUser) {
    this.#duplex = duplex;
    this.#user = user;
    duplex.on('data', (bytes: Uint8Array | string) => {
      if (typeof bytes === 'string' || duplex.readableObjectMode) {
        duplex.pause();
        duplex.removeAllListeners('data');
        user.onError(
          Object.assign(new Error('Stream has StringDecoder set or is in objectMode'), {
            code: 'ERR_STREAM_WRAP',
          }),
        );
      } else if (!user.onBytes(bytes)) duplex.pause();
    });
    // Its own end would be ahead of close_notify.
    duplex.allowHalfOpen = true;
    duplex.once('end', () => user.onEnd());
    duplex.on('error', (error) => user.onError(error));
    // As Node: what it failed with is told before, and whoever waits for that can see TLS close.
    duplex.once('close', () => setImmediate(() => user.onClose()));
    // One that is over already says nothing by itself.
    const { errored, closed, readableEnded } = duplex;
    if (!closed && !readableEnded) return;
    process.nextTick(() => {
      if (errored) user.onError(errored);
      else if (readableEnded) user.onEnd();
      if (closed) setImmediate(() => user.onClose());
    });
  }

  read(): void {
    this.#duplex.resume();
  }

  write(chunks: readonly Uint8Array[], done: Done): void {
    const duplex = this.#duplex;
    const last = chunks.length - 1;
    duplex.cork();
    chunks.forEach((chunk, i) => {
      if (i < last) duplex.write(chunk);
      else duplex.write(chunk, done);
    });
    duplex.uncork();
  }

  end(done: Done): void {
    this.#duplex.end(done);
  }

  destroy(): void {
    this.#duplex.destroy();
    // As Node: TLS is closed whether it closes or not, and behind the error that it was destroyed with.
    setImmediate(() => this.#user.onClose());
  }
}
