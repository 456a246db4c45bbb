/**
 * What the native engine has of a transport: the descriptor of a `net.Socket`, on which the add-on reads and writes by
 * itself, or any Duplex, whose bytes go to and fro here.
 */
import { Buffer } from 'node:buffer';
import type net from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import type { NativeConnection } from '../add-on.ts';
import type { TransportEnding } from '../closure/ending.ts';
import { process } from '../runtime.ts';
import { causeOf, type TransportError, TransportListeners } from '../transport/listeners.ts';
import { Descriptor } from './descriptor.ts';

/** What a wire tells. */
export interface WireEvents {
  /** A call of the add-on has something to tell. */
  onFlags(flags: number): void;
  /** The transport may take more. */
  onWritable(): void;
  /** How the transport ended; where in the records, the engine knows. */
  onEnd(cause: TransportEnding['cause'], error: TransportError | null): void;
  onSendFailed(error: TransportError): void;
}

export interface Wire {
  /** Begins to read. */
  begin(head: Uint8Array | undefined): void;
  /** Whether the transport takes more without a wait. */
  readonly writable: boolean;
  /** The add-on has made output. */
  onOutput(): void;
  /** Something crossed: whoever has a timeout on the transport waits anew. */
  onActive(): void;
  /** Whether bytes are wanted. */
  setReading(reading: boolean): void;
  /** The peer has closed: nothing more is read, and what the transport has is its next user's. */
  stop(): void;
  /** Bytes that were not fed. */
  readonly unfed: number;
  /** Lets the transport go. @returns what was not fed. */
  detach(back: boolean): Uint8Array[];
}

/** What the add-on takes at once. */
const AT_ONCE = 131_072;

/**
 * With so much not taken by the transport nothing more is fed: OpenSSL answers each KeyUpdate, and a peer may send those
 * without end and read nothing.
 */
const TOO_MUCH = 1 << 20;

const NOTHING = Buffer.alloc(0);

/** @param fed whether a descriptor is not to be used. */
export function wireFor(
  transport: Duplex,
  connection: NativeConnection,
  events: WireEvents,
  fed: boolean,
): Wire {
  const descriptor = fed ? null : Descriptor.of(transport);
  if (descriptor !== null) {
    if (connection.open(descriptor.fd) === null) {
      try {
        return new DescriptorWire(transport, connection, events, descriptor);
      } catch (error) {
        // A socket whose methods throw. Nobody else would close the duplicate.
        connection.close();
        throw error;
      }
    }
  }
  return new FedWire(transport, connection, events);
}

/** The add-on reads and writes; here is only what somebody else does to the socket meanwhile. */
class DescriptorWire implements Wire {
  readonly #transport: Duplex;
  readonly #connection: NativeConnection;
  readonly #events: WireEvents;
  readonly #descriptor: Descriptor;
  readonly #listeners: TransportListeners;
  /** What the socket had read before. */
  readonly #head: Uint8Array[] = [];
  #wanted = false;
  #detached = false;

  constructor(
    transport: Duplex,
    connection: NativeConnection,
    events: WireEvents,
    descriptor: Descriptor,
  ) {
    this.#transport = transport;
    this.#connection = connection;
    this.#events = events;
    this.#descriptor = descriptor;
    transport.pause();
    this.#listeners = new TransportListeners(transport, {
      onData: (chunk) => this.#head.push(chunk as Uint8Array),
      onEnd: () => events.onEnd('eof', null),
      onError: (error) => events.onEnd(causeOf(error), error),
      onClose: () => events.onEnd('destroyed', null),
      onWriteError: (error) => events.onSendFailed(error),
    });
    this.#listeners.idle({
      onWanted: () => {
        this.#wanted = true;
      },
      setReference: (referenced) => connection.setReference(referenced),
      bytes: (sent) => connection.bytes(sent),
    });
    // Each chunk that `read` returns is told as 'data', too.
    while (transport.readableLength > 0 && transport.read() !== null) {}
    descriptor.take();
    if (!descriptor.referenced) connection.setReference(false);
  }

  begin(head: Uint8Array | undefined): void {
    const first = head === undefined ? this.#head : [head, ...this.#head];
    feedAll(this.#connection, first, this.#events, true);
    if (this.#transport.destroyed) this.#events.onEnd('destroyed', null);
  }

  get writable(): boolean {
    return true;
  }

  onOutput(): void {}

  /** The socket does nothing by itself, so it cannot know. */
  onActive(): void {
    const socket = this.#transport as net.Socket;
    if (socket.timeout) socket.setTimeout(socket.timeout);
  }

  setReading(reading: boolean): void {
    this.#connection.setReading(reading);
  }

  /** The socket reads by itself again, so that it hears of its own end. */
  stop(): void {
    this.#listeners.unidle();
    this.#descriptor.giveBack(true);
  }

  get unfed(): number {
    return 0;
  }

  detach(back: boolean): Uint8Array[] {
    if (this.#detached) {
      if (back) this.#listeners.restore();
      return [];
    }
    this.#detached = true;
    this.#connection.close();
    this.#listeners.remove();
    // What the kernel has not taken goes out by the socket, before its FIN.
    const rest = this.#connection.output();
    if (rest.length > 0 && !this.#transport.destroyed && this.#transport.writable) {
      this.#transport.write(rest);
    }
    this.#descriptor.giveBack(this.#wanted);
    if (back) this.#listeners.restore();
    return [];
  }
}

/** Feeds these bytes in pieces. @param start whether the first piece begins the handshake. */
function feedAll(
  connection: NativeConnection,
  chunks: readonly Uint8Array[],
  events: WireEvents,
  start: boolean,
): void {
  let begins = start;
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += AT_ONCE) {
      // What came first may have failed.
      if (connection.isDestroyed()) return;
      const piece = chunk.subarray(at, at + AT_ONCE);
      events.onFlags(begins ? connection.start(piece) : connection.feed(piece));
      begins = false;
    }
  }
  if (begins && !connection.isDestroyed()) events.onFlags(connection.start(NOTHING));
}

/** Any Duplex. */
class FedWire implements Wire {
  readonly #transport: Duplex;
  readonly #connection: NativeConnection;
  readonly #events: WireEvents;
  readonly #listeners: TransportListeners;
  readonly #queue: Uint8Array[] = [];
  #ending: {
    readonly cause: TransportEnding['cause'];
    readonly error: TransportError | null;
  } | null = null;
  #told: 'nothing' | 'eof' | 'all' = 'nothing';
  #ready = false;
  #reading = true;
  #feeding = false;
  #stopped = false;
  #inFlight = 0;
  #detached = false;

  constructor(transport: Duplex, connection: NativeConnection, events: WireEvents) {
    this.#transport = transport;
    this.#connection = connection;
    this.#events = events;
    this.#listeners = new TransportListeners(transport, {
      onData: (chunk) => this.#onData(chunk),
      onEnd: () => this.#onEnd('eof', null),
      onError: (error) => this.#onEnd(causeOf(error), error),
      onClose: () => this.#onClose(),
      onWriteError: (error) => this.#onWriteError(error),
    });
  }

  begin(head: Uint8Array | undefined): void {
    this.#ready = true;
    this.#feeding = true;
    feedAll(this.#connection, head === undefined ? [] : [head], this.#events, true);
    this.#feeding = false;
    const { destroyed, readableEnded } = this.#transport;
    const errored: TransportError | null = this.#transport.errored;
    if (this.#ending !== null) this.#pump();
    else if (errored) this.#onEnd(causeOf(errored), errored);
    else if (destroyed) this.#onClose();
    else if (readableEnded) this.#onEnd('eof', null);
    else this.#pump();
  }

  get writable(): boolean {
    return !this.#transport.writableNeedDrain;
  }

  /** It knows by itself. */
  onActive(): void {}

  setReading(reading: boolean): void {
    this.#reading = reading;
    this.#pump();
  }

  get unfed(): number {
    return this.#queue.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  detach(back: boolean): Uint8Array[] {
    if (!this.#detached) {
      this.#detached = true;
      this.#listeners.remove();
      this.#connection.close();
    }
    if (back) this.#listeners.restore();
    return this.#queue.splice(0);
  }

  #onData(chunk: unknown): void {
    if (!(chunk instanceof Uint8Array)) {
      this.#onEnd('error', new TypeError('the transport delivers something other than bytes'));
      return;
    }
    this.#queue.push(chunk);
    this.#pump();
  }

  /** A feed that arrives within a feed is queued. */
  #pump(): void {
    if (this.#feeding || this.#detached || !this.#ready) return;
    this.#feeding = true;
    try {
      // What was read before the transport broke is looked at, wanted or not: a close_notify in it counts.
      while (this.#queue.length > 0 && (this.#reads || this.#isBroken)) {
        if (this.#detached || this.#stopped) break;
        const chunk = this.#queue[0] as Uint8Array;
        const piece = chunk.subarray(0, AT_ONCE);
        if (piece.length === chunk.length) this.#queue.shift();
        else this.#queue[0] = chunk.subarray(AT_ONCE);
        this.#events.onFlags(this.#connection.feed(piece));
      }
    } finally {
      this.#feeding = false;
    }
    this.#throttle();
    this.#tellEnding();
  }

  get #reads(): boolean {
    return this.#reading && this.#inFlight < TOO_MUCH;
  }

  get #isBroken(): boolean {
    return this.#ending !== null && this.#ending.cause !== 'eof';
  }

  stop(): void {
    this.#stopped = true;
    this.#throttle();
  }

  #throttle(): void {
    if (this.#detached || this.#ending !== null) return;
    if (!this.#reads || this.#stopped) this.#transport.pause();
    else if (this.#transport.isPaused()) this.#transport.resume();
  }

  #onEnd(cause: TransportEnding['cause'], error: TransportError | null): void {
    const known = this.#ending;
    // An error after EOF: the peer's bytes ended already, but ours can no longer go out.
    if (known !== null && (known.cause !== 'eof' || error === null)) return;
    this.#ending = { cause, error };
    this.#pump();
  }

  #onClose(): void {
    // Closed without EOF or error: nobody but this side can have done that.
    if (this.#ending === null) this.#onEnd('destroyed', null);
    else if (this.#ending.cause === 'eof' && this.#inFlight > 0) {
      this.#onEnd('destroyed', new Error('the transport closed before it took what was written'));
    }
  }

  #tellEnding(): void {
    const ending = this.#ending;
    if (ending === null || !this.#ready || this.#detached || this.#told === 'all') return;
    if (ending.cause === 'eof' && (this.#told === 'eof' || !this.#reading)) return;
    if (this.#queue.length > 0 && this.#reading && !this.#stopped) return;
    this.#told = ending.cause === 'eof' ? 'eof' : 'all';
    this.#events.onEnd(ending.cause, ending.error);
  }

  /** The transport takes no more. What it holds is read first. */
  #onWriteError(error: TransportError): void {
    this.#listeners.afterWriteError(() => this.#onEnd(causeOf(error), error));
    // Where it reads on and on, whoever writes must not wait for the end of that.
    setImmediate(() =>
      setImmediate(() => {
        if (this.#ending === null && !this.#detached) this.#events.onSendFailed(error);
      }),
    );
  }

  onOutput(): void {
    if (this.#detached) return;
    const bytes = this.#connection.output();
    this.#inFlight += bytes.length;
    try {
      this.#transport.write(bytes, (error) => {
        const full = !this.#reads;
        this.#inFlight -= bytes.length;
        // A failed write is an ending of the transport, reported as such.
        if (error) return;
        this.#events.onFlags(this.#connection.taken(bytes.length));
        this.#events.onWritable();
        if (full) this.#pump();
      });
    } catch (error) {
      // Not within the call that made the output.
      process.nextTick(() => this.#onEnd('error', error as TransportError));
    }
  }
}
