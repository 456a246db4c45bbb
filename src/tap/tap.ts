/**
 * The tap: what `node:tls` is put on in place of the transport. A plain Duplex, by which every record passes alone.
 *
 * Theory of operation. A TLS engine does not say which alert ended its stream, and some say nothing of an alert at
 * all. So nobody asks the engine. The tap shows each record to a reader (record/alert-reader.ts) that has the secrets
 * of the key log, and the reader says which alerts crossed the wire:
 *
 * 1. TLS is fed one record at a time, and told by 'data', so that it is done with the record when the call returns.
 *    A record for which it gave application data is proven by that. Any other is decrypted by the reader, at once,
 *    so that its keys and sequence numbers are never in doubt.
 * 2. Behind the peer's close_notify nothing is fed any more. What is left was sent after it: TLS must ignore it (RFC
 *    9846 section 6.1), and the transport's next user gets it back, to the byte.
 * 3. The transport's EOF is never passed on. TLS ends by what the peer said, and the tap tells how the transport did.
 * 4. What TLS writes counts as sent once the transport has taken it. When TLS ends its side, the transport stays open:
 *    ending it is the stream's decision.
 * 5. A failed write would have a `net.Socket` destroyed, and with it an answer that has arrived. So it is kept from
 *    that until what the kernel holds has been read.
 */
import { Buffer } from 'node:buffer';
import { performance } from 'node:perf_hooks';
import { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import type { TransportEnding, Way } from '../closure/ending.ts';
import { AlertReader } from '../record/alert-reader.ts';
import type { EndingAlert } from '../record/conversation.ts';
import type { Sender } from '../record/decoder.ts';
import { RecordScanner } from '../record/record.ts';
import { process } from '../runtime.ts';
import { causeOf, type TransportError, TransportListeners } from '../transport/listeners.ts';

/** What the tap reports. */
export interface TapEvents {
  /** Whether TLS is to be given more for now. */
  readonly wants: boolean;
  /** Bytes of application data that TLS has given so far. */
  readonly given: number;
  /** TLS has been given a record, and is done with it. */
  onFed(): void;
  /** See `EngineEvents`, also for the next ones. */
  onAlert(way: Way, alert: EndingAlert, at: number): void;
  onTransportEnd(ending: TransportEnding): void;
  onSendFailed(error: Error): void;
  /** The transport did not take a write. TLS is told next that it did. */
  onRefused(): void;
  readonly onRecord?: ((way: Way, type: number, length: number) => void) | undefined;
  readonly onBytes?: ((way: Way, bytes: Uint8Array) => void) | undefined;
}

/** On every tap, of whichever copy of this library. */
export const TAP: unique symbol = Symbol.for('close-notify.tap');

/** Whether what TLS is put on is a tap already, so that it is strict. */
export function isTap(transport: unknown): boolean {
  return typeof transport === 'object' && transport !== null && TAP in transport;
}

/** How a tap is made. */
export interface TapOptions {
  readonly transport: Duplex;
  /** Of this side. */
  readonly role: Sender;
  /** Bytes that were read from the transport already, and belong to TLS. */
  readonly head?: Uint8Array | undefined;
  /** Whether the key log is there, so that records can be read. */
  readonly readable: boolean;
}

export class Tap extends Duplex {
  readonly [TAP] = true;
  readonly #transport: Duplex;
  readonly #events: TapEvents;
  readonly #reader: AlertReader | null;
  readonly #scanners: Readonly<Record<Way, RecordScanner>>;
  readonly #listeners: TransportListeners;
  /** Chunks that TLS has not been fed. */
  readonly #queue: Uint8Array[];
  readonly #out = new Outgoing();
  #ready = false;
  #feeding = false;
  #paused = false;
  /** The peer has closed: the queue from here on is trailing data. */
  #stopped = false;
  #ending: TransportEnding | null = null;
  #told: 'nothing' | 'eof' | 'all' = 'nothing';
  #detached = false;

  constructor({ transport, role, head, readable }: TapOptions, events: TapEvents) {
    // It never ends its readable side, so for it the option means nothing. TLS takes it for its own.
    super({ allowHalfOpen: true });
    this.#transport = transport;
    this.#events = events;
    this.#queue = head === undefined || head.length === 0 ? [] : [head];
    const scanner = (way: Way) =>
      new RecordScanner((type, length) => events.onRecord?.(way, type, length));
    this.#scanners = { sent: scanner('sent'), received: scanner('received') };
    this.#reader = readable
      ? new AlertReader(role, {
          onReceived: (alert) => this.#onAlert(alert),
          onSent: (alert, end, length) => this.#out.expect(alert, end, length),
        })
      : null;
    this.#listeners = new TransportListeners(transport, {
      onData: (chunk) => this.#onData(chunk),
      onEnd: () => this.#onEnd('eof', null),
      onError: (error) => this.#onEnd(causeOf(error), error),
      onClose: () => this.#onClose(),
      onWriteError: (error) => this.#onWriteError(error),
    });
    // Nothing is reported before the engine is there to hear it. And a transport that is over already says nothing
    // by itself.
    process.nextTick(() => this.#begin());
  }

  // ---- for the engine

  /** Whether TLS is being fed at this moment. */
  get feeding(): boolean {
    return this.#feeding;
  }

  /** Why no alert of this connection can be read; null where it can. */
  get unreadable(): string | null {
    return this.#reader === null ? 'this runtime gives no key log' : this.#reader.unreadable;
  }

  /** Whether a handshake is going on within which nothing of ours may be closed: a renegotiation. */
  get handshaking(): boolean {
    return this.#reader?.handshaking ?? false;
  }

  /** Bytes of application data in the records that TLS was fed; null where records cannot be read. */
  get receivedData(): number | null {
    return this.#reader?.data ?? null;
  }

  /** Whether an alert of ours that ends our direction was written. */
  get saidLast(): boolean {
    return this.#out.alert !== null;
  }

  /** Whether the transport has taken all that TLS wrote, or all but an alert that ends our direction. */
  get taken(): boolean {
    return this.#out.allButAlert;
  }

  /** Whether the transport has taken all that TLS wrote, or will take nothing more. */
  get settled(): boolean {
    return this.#out.settled || this.#transport.destroyed;
  }

  /** Bytes that TLS was not fed: trailing data, once the peer has closed. */
  get unfedLength(): number {
    return this.#queue.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  /** A line of the key log. */
  secret(line: Uint8Array): void {
    this.#reader?.secret(line);
  }

  /** The engine wants more. */
  wanted(): void {
    this.#pump();
  }

  /** The peer has closed. Feeds TLS no more, and reads no more: what is here, and what comes, is kept. */
  stop(): void {
    this.#stopped = true;
    if (!this.#detached) this.#transport.pause();
  }

  /** Looks at nothing that the peer sends until `unhold`; its EOF says nothing either. */
  hold(): void {
    this.#paused = true;
    if (!this.#detached) this.#transport.pause();
  }

  unhold(): void {
    this.#paused = false;
    this.#pump();
  }

  /**
   * Lets go of the transport: no listener of ours is left on it, it is paused, and nothing more is read from it or
   * written to it.
   *
   * @param back whether those who listened to the transport before hear of it again.
   * @returns what came after the peer's close_notify.
   */
  detach(back: boolean): Uint8Array {
    if (!this.#detached) {
      this.#detached = true;
      this.#reader?.close();
      this.#listeners.remove();
    }
    if (back) this.#listeners.restore();
    const unfed = this.#queue.splice(0);
    return this.#stopped ? Buffer.concat(unfed) : Buffer.alloc(0);
  }

  // ---- from the transport to TLS

  #begin(): void {
    this.#ready = true;
    if (this.#detached) return;
    const { destroyed, readableEnded } = this.#transport;
    const errored: TransportError | null = this.#transport.errored;
    if (this.#ending !== null) this.#pump();
    else if (errored) this.#onEnd(causeOf(errored), errored);
    else if (destroyed) this.#onClose();
    else if (readableEnded) this.#onEnd('eof', null);
    else this.#pump();
  }

  #onData(chunk: unknown): void {
    if (chunk instanceof Uint8Array) {
      this.#queue.push(chunk);
      this.#pump();
    } else {
      this.#onEnd('error', new TypeError('the transport delivers something other than bytes'));
    }
  }

  /**
   * Feeds TLS record by record for as long as it takes them. An error of the transport overtakes what waits here: that
   * is fed first, wanted or not, so that a close_notify in it counts. It is bounded by what was read before.
   */
  #pump(): void {
    if (this.#feeding || this.#detached || !this.#ready) return;
    while (this.#mayFeed) this.#feed(this.#queue[0] as Uint8Array);
    this.#throttle();
    this.#tellEnding();
  }

  get #mayFeed(): boolean {
    if (this.#queue.length === 0 || this.#stopped || this.#paused || this.destroyed) return false;
    const broken = this.#ending !== null && this.#ending.cause !== 'eof';
    return (this.#events.wants || broken) && !this.#detached;
  }

  /** Feeds TLS the chunk up to the end of its first record. */
  #feed(chunk: Uint8Array): void {
    const end = this.#scan('received', chunk, 0);
    if (end === chunk.length) this.#queue.shift();
    else this.#queue[0] = chunk.subarray(end);
    const piece = chunk.subarray(0, end);
    this.#events.onBytes?.('received', piece);
    this.#reader?.received(piece);
    const before = this.#events.given;
    this.#feeding = true;
    let fed = false;
    try {
      // By 'data' rather than push(): that hands a chunk on at once in some states of the stream and buffers it in
      // others, and everything here rests on 'at once'.
      this.emit('data', piece);
      fed = true;
    } finally {
      this.#feeding = false;
      this.#reader?.given(this.#events.given - before);
      this.#events.onFed();
      // A callback of the program's has thrown. If it lives on, so does what waits here.
      if (!fed) process.nextTick(() => this.#pump());
    }
  }

  /** Backpressure towards the transport. */
  #throttle(): void {
    if (this.#detached || this.#ending !== null) return;
    if (this.#stopped || this.#paused || this.#queue.length > 0) this.#transport.pause();
    else if (this.#events.wants && this.#transport.isPaused()) this.#transport.resume();
  }

  #onAlert(alert: EndingAlert): void {
    this.#events.onAlert('received', alert, performance.now());
  }

  /** @returns where the first record ends, or the chunk. */
  #scan(way: Way, chunk: Uint8Array, from: number): number {
    return this.#scanners[way].take(chunk, from);
  }

  // ---- the transport's own ending

  #onEnd(cause: TransportEnding['cause'], error: TransportError | null): void {
    const known = this.#ending;
    // An error after EOF: the peer's bytes ended already, but ours can no longer go out.
    if (known !== null && (known.cause !== 'eof' || error === null)) return;
    this.#ending = { cause, error, where: 'unknown' };
    this.#pump();
  }

  #onClose(): void {
    // Closed without EOF or error: nobody but this side can have done that.
    if (this.#ending === null) this.#onEnd('destroyed', null);
    else if (this.#ending.cause === 'eof' && !this.#out.settled) {
      this.#onEnd('destroyed', new Error('the transport closed before it took what was written'));
    }
  }

  #tellEnding(): void {
    const ending = this.#ending;
    if (ending === null || !this.#ready || this.#detached || this.#told === 'all') return;
    if (ending.cause === 'eof' && (this.#told === 'eof' || this.#paused)) return;
    if (this.#queue.length > 0 && !this.#stopped && !this.#paused && !this.destroyed) return;
    this.#told = ending.cause === 'eof' ? 'eof' : 'all';
    this.#events.onTransportEnd({ ...ending, where: this.#where });
  }

  get #where(): TransportEnding['where'] {
    if (this.#reader !== null) return this.#reader.where;
    return this.#scanners.received.atBoundary ? 'record-boundary' : 'inside-record';
  }

  /** The kernel takes no more. It tells of a reset once, and told the write; what it holds is read first. */
  #onWriteError(error: TransportError): void {
    this.#listeners.afterWriteError(() => this.#onEnd(causeOf(error), error));
    // Where it reads on and on, whoever writes must not wait for the end of that.
    setImmediate(() =>
      setImmediate(() => {
        if (this.#ending === null && !this.#detached) this.#events.onSendFailed(error);
      }),
    );
  }

  // ---- from TLS to the transport

  #send(chunk: Uint8Array, done: (() => void) | null): void {
    this.#events.onBytes?.('sent', chunk);
    for (let at = 0; at < chunk.length; ) at = this.#scan('sent', chunk, at);
    this.#reader?.sending(chunk);
    const total = this.#out.add(chunk.length);
    try {
      this.#transport.write(chunk, (error) => {
        // A failed write is an ending of the transport, reported as such. It is not passed up to TLS, which would
        // fail at once.
        if (error) this.#events.onRefused();
        else this.#onTaken(total);
        done?.();
      });
    } catch (error) {
      this.#events.onRefused();
      this.#onEnd('error', error as TransportError);
      done?.();
    }
  }

  #onTaken(total: number): void {
    const alert = this.#out.taken(total);
    // It may be known only when the transport is somebody else's.
    if (alert !== null) this.#events.onAlert('sent', alert, this.#out.writtenAt);
  }

  override _read(): void {
    // TLS is fed by `#feed`.
  }

  /**
   * OpenSSL answers a KeyUpdate behind its own close_notify, too, where nothing may be sent any more (RFC 9846 section
   * 6.1). That is dropped.
   */
  override write(chunk: Uint8Array, ...rest: unknown[]): boolean {
    if (!this.writableEnded) return super.write(chunk, ...(rest as []));
    const done = rest.at(-1);
    if (typeof done === 'function') process.nextTick(done as () => void);
    return true;
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    if (this.#detached) done();
    else this.#send(chunk, done);
  }

  override _writev(chunks: Array<{ readonly chunk: Uint8Array }>, done: () => void): void {
    if (this.#detached) {
      done();
      return;
    }
    this.#transport.cork();
    for (const [i, { chunk }] of chunks.entries()) {
      this.#send(chunk, i === chunks.length - 1 ? done : null);
    }
    this.#transport.uncork();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    done(error);
    // What is left of the transport's ending is told all the same.
    if (!this.#detached) this.#tellEnding();
  }
}

/** How much was handed to the transport, how much it has taken, and where our last alert stands in that. */
class Outgoing {
  #written = 0;
  #taken = 0;
  #alert: EndingAlert | null = null;
  #end = 0;
  #start = Number.POSITIVE_INFINITY;
  /** When that was written, on the clock of `performance.now()`. */
  writtenAt = 0;
  #told = false;

  get alert(): EndingAlert | null {
    return this.#alert;
  }

  get settled(): boolean {
    return this.#taken === this.#written;
  }

  get allButAlert(): boolean {
    return this.#taken >= Math.min(this.#start, this.#written);
  }

  /** @returns how many bytes were written, these included. */
  add(bytes: number): number {
    this.#written += bytes;
    return this.#written;
  }

  /** An alert is being written whose record ends at `end`, and has this length. */
  expect(alert: EndingAlert, end: number, length: number): void {
    this.#alert = alert;
    this.#end = end;
    this.#start = end - length;
    this.writtenAt = performance.now();
  }

  /** The transport has taken so many bytes. @returns the alert, if that is sent now. */
  taken(total: number): EndingAlert | null {
    this.#taken = total;
    if (this.#alert === null || this.#told || this.#end > total) return null;
    this.#told = true;
    return this.#alert;
  }
}
