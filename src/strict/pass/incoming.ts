/**
 * What comes in on a pass: bytes that the transport has received, and its end, given to TLS when it reads.
 *
 * Theory of operation. Bytes that libuv reads end each callback with the queues of `nextTick` and of promises; those
 * that JavaScript gives do not. So one record is given at a time, and the queues are emptied behind each (queues.ts).
 *
 * TLS calls the program's listeners from within, and what they throw would leave it in the middle of its work. So that
 * is kept, and thrown once TLS is done with what it was given. What is left is given behind whoever hears of it.
 */
import type { TLSSocket } from 'node:tls';
import { process } from '../../runtime.ts';
import type { JsStream } from './handle.ts';
import type { PassObserver } from './observer.ts';
import { emptyQueues, withEmptyQueues } from './queues.ts';

export class Incoming {
  /** The TLS socket, once it is known. */
  tls: TLSSocket | null = null;
  /** Told that TLS was given the transport's end. */
  onEnded: () => void = () => {};
  /** Null once the pass is closed. */
  #handle: JsStream | null;
  readonly #observer: PassObserver;
  readonly #fromKernel: boolean;
  readonly #readBelow: () => void;
  /** What TLS has not been given: it did not read, or a listener threw. The end is null. */
  readonly #received: Array<Uint8Array | null> = [];
  /** What is left of the chunk that is being given. */
  #chunk: Uint8Array | null = null;
  #reading = false;
  #giving = false;
  /** Whether listeners of the TLS socket are being called within that. */
  #calling = false;
  /** What one of them threw. */
  #thrown: { readonly error: unknown } | null = null;

  /**
   * @param fromKernel whether no code of a program's is being run when the transport gives bytes.
   * @param readBelow has the transport give more.
   */
  constructor(
    handle: JsStream,
    observer: PassObserver,
    fromKernel: boolean,
    readBelow: () => void,
  ) {
    this.#handle = handle;
    this.#observer = observer;
    this.#fromKernel = fromKernel;
    this.#readBelow = readBelow;
  }

  /** The pass is closed. */
  close(): void {
    this.#handle = null;
  }

  /** The transport has received something; null is its end. @returns whether more is wanted. */
  add(bytes: Uint8Array | null): boolean {
    this.#received.push(bytes);
    this.#give();
    return this.#reading;
  }

  /** TLS reads. */
  start(): void {
    this.#reading = true;
    // Within a call of TLS it cannot be given anything.
    if (this.#received.length > 0) process.nextTick(() => this.#goOn());
    else this.#readBelow();
  }

  /** TLS reads no more. */
  stop(): void {
    this.#reading = false;
  }

  /** Calls listeners of the TLS socket. What is thrown out of the outermost of them is kept while TLS is at work. */
  callListeners(call: () => boolean): boolean {
    if (!this.#giving || this.#calling) return call();
    this.#calling = true;
    try {
      return call();
    } catch (error) {
      this.#thrown ??= { error };
      return true;
    } finally {
      this.#calling = false;
    }
  }

  /** Calls TLS, which may give what it has to HTTP/2: that calls back for each frame. */
  callTls(call: () => void): void {
    if (this.#fromKernel && this.tls?.alpnProtocol === 'h2') withEmptyQueues(call);
    else call();
  }

  /** Gives TLS what it reads; a chunk that has been begun is given whole, as one that libuv has read. */
  #give(): void {
    // What is read within is given behind what is being given.
    if (this.#giving) return;
    this.#giving = true;
    try {
      while (this.#handle !== null) {
        if (this.#chunk !== null) this.#giveRecord(this.#handle, this.#chunk);
        else if (!this.#reading || this.#received.length === 0) break;
        else {
          const next = this.#received.shift() as Uint8Array | null;
          if (next === null) {
            this.#handle.emitEOF();
            this.onEnded();
          } else this.#chunk = next;
        }
        this.#throw();
      }
    } finally {
      this.#giving = false;
      // A listener threw. What is left is given behind whoever hears of that.
      if (this.#chunk !== null && this.#handle !== null) process.nextTick(() => this.#goOn());
    }
  }

  #goOn(): void {
    this.#give();
    if (this.#reading && this.#handle !== null) this.#readBelow();
  }

  /** Gives TLS the chunk up to a record's end. */
  #giveRecord(handle: JsStream, chunk: Uint8Array): void {
    const end = this.#observer.onReceived(chunk);
    const record = chunk.subarray(0, end);
    this.#chunk = end < chunk.length ? chunk.subarray(end) : null;
    const { tls } = this;
    const before = tls?.bytesRead ?? 0;
    try {
      this.callTls(() => handle.readBuffer(record));
    } finally {
      this.#observer.onGiven((tls?.bytesRead ?? 0) - before);
    }
    if (this.#fromKernel && this.#chunk !== null) emptyQueues();
  }

  #throw(): void {
    const thrown = this.#thrown;
    this.#thrown = null;
    if (thrown !== null) throw thrown.error;
  }
}
