/**
 * What is between the TLS engine and the transport.
 *
 * Theory of operation. The TLS engine of Node cannot tell closure from truncation: close_notify and
 * a bare EOF both end its stream. It can be made to, from below, because the engine sees only what
 * the tap lets through:
 *
 * 1. The transport's EOF is never passed on. So whenever the engine ends its stream, a close_notify
 *    made it do so; and when the transport has ended, everything it delivered has been fed, and the
 *    engine still has not ended, the stream was truncated.
 * 2. The engine is fed synchronously, and never more than up to a record that may be close_notify. It
 *    therefore ends, if it does, within the very call that feeds it that record. What is left in the
 *    queue at that moment was sent after close_notify: TLS must ignore it, and the transport's next
 *    user gets it back, to the byte. (Fed a whole chunk, Node drops what follows close_notify.) Until
 *    somebody says which records those are (`batch`), it is one record at a time.
 * 3. When the engine ends its own side, the tap lets close_notify go out and leaves the transport
 *    open. Ending or destroying the transport is the stream's decision, never the engine's.
 *
 * The tap knows nothing of sockets, deadlines or verdicts. It reports to `TapEvents`. Nor does it know how
 * the engine takes its bytes: what the engine has for its transport (js-stream.ts, tap-duplex.ts) is `Above`.
 */
import { Buffer } from 'node:buffer';
import type { Duplex } from 'node:stream';
import type { CutCause } from '../closure/machine.ts';
import { HEADER_LENGTH, peekHeader, RecordScanner } from '../record/record.ts';
import { process } from '../runtime.ts';
import { Fifo } from './fifo.ts';
import type { HandleWriter } from './handle-writer.ts';
import { divertReads } from './reads.ts';
import { type Free, Sender, type SenderEvents } from './sender.ts';

/** A record as its header tells of it. */
export interface SeenRecord {
  readonly type: number;
  readonly length: number;
}

/** How the transport ended, once all that it delivered has been fed to the engine. */
export interface TransportEnding {
  /** 'destroyed' is an end that the peer had no part in: somebody here destroyed the transport. */
  readonly cause: CutCause | 'destroyed';
  readonly error: (Error & { code?: string }) | null;
  readonly insideRecord: boolean;
}

/** What the tap reports. */
export interface TapEvents {
  /** A record went by; `alert` is the body of an alert in the clear, or null. */
  onRecord(
    direction: 'sent' | 'received',
    type: number,
    length: number,
    alert: Uint8Array | null,
  ): void;
  /** Where present: each piece of ciphertext, as it goes to the engine or to the transport. */
  readonly onBytes?: ((direction: 'sent' | 'received', bytes: Uint8Array) => void) | undefined;
  onTransportEnd(ending: TransportEnding): void;
  /** The transport took the record that `expectCloseNotify` recognised. */
  onCloseNotifySent(): void;
  /** Where present: the engine has ended, and the transport has taken all of it. */
  onFinished?(): void;
  /** The engine let go of the tap. */
  onDestroyed(): void;
}

/** What the engine has for its transport. */
export interface Above {
  /** Whether the engine wants more for now. Whoever sets it tells `Tap.wanted`. */
  readonly wants: boolean;
  readonly destroyed: boolean;
  pause(): void;
  resume(): void;
  /** Gives ciphertext to the engine, which is done with the memory when this returns. */
  feed(bytes: Uint8Array): void;
  /** Takes the transport away from the engine. Tells `Tap.gone`. */
  destroy(error?: Error): void;
}

/**
 * Feeds the engine.
 *
 * @param alone whether the bytes are of one record.
 * @param feed what feeds them.
 */
type FeedBy = (bytes: Uint8Array, alone: boolean, feed: (bytes: Uint8Array) => void) => void;

/** On every `Above`, of whichever copy of this library. */
export const TAP: unique symbol = Symbol.for('close-notify.tap');

/** Whether what TLS is put on is a tap already, so that it is strict. */
export function isTap(transport: unknown): boolean {
  return typeof transport === 'object' && transport !== null && TAP in transport;
}

/** Errors by which a transport says that the peer reset it. */
const RESETS: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);

/** What an error of the transport says of how it ended. */
export function causeOf({ code }: { readonly code?: string }): 'reset' | 'error' {
  return code !== undefined && RESETS.has(code) ? 'reset' : 'error';
}

const NO_BYTES = Buffer.alloc(0);

/** Bytes that the engine is fed at once, but for the end of a record: it keeps memory for as many. */
const PIECE = 65_536;

export class Tap implements SenderEvents {
  /** What the engine's socket is to take for its own `allowHalfOpen`. */
  readonly halfOpen: boolean;
  readonly #transport: Duplex;
  readonly #events: TapEvents;
  readonly #received: RecordScanner;
  readonly #sent: RecordScanner;
  readonly #sender: Sender;
  /** Set once the engine has nothing left to send but close_notify. */
  #isCloseNotify: ((record: SeenRecord) => boolean) | null = null;
  /** The last record that the engine wrote within the feeding of the current one. */
  #reply: SeenRecord | null = null;
  /** How many bytes the record has, header included, when it is part of what is being written right now. */
  #closeNotifyWritten = 0;

  /** Chunks of the transport that the engine has not been fed; `#offset` is into the first. */
  readonly #queue = new Fifo<Uint8Array>();
  #offset = 0;
  #pumping = false;
  #feeding = false;
  #above: Above | null = null;
  #feedBy: FeedBy | null = null;
  /** Whether what the engine is fed next is of one record. */
  #alone = false;
  #isBulk: ((record: SeenRecord) => boolean) | null = null;
  /** What was fed last was cut off for its size alone, and the rest of its batch is fed in any case. */
  #goesOn = false;
  /** The handshake is complete. */
  #established = false;
  /** Whether what the engine writes while it is fed waits for what follows it in this turn. */
  #gathers = false;
  /**
   * `closed`: close_notify has come, and the queue from here on is trailing data. `waived`: the caller
   * looks no more at what the peer says, so an EOF means nothing either.
   */
  #stopped: 'closed' | 'waived' | null = null;
  #ending: Omit<TransportEnding, 'insideRecord'> | null = null;
  #ready = false;
  #endingReported = false;
  #brokenReported = false;

  #closeNotifyTaken = false;
  #afterCloseNotify: (() => void) | null = null;

  #detached = false;
  readonly #allowHalfOpen: boolean;
  /** Listeners of others, for `unmute`. */
  readonly #muted: Array<readonly [string, () => void]> = [];
  // biome-ignore lint/suspicious/noExplicitAny: the listeners of events with different arguments
  readonly #listeners: ReadonlyArray<readonly [string, (...args: any[]) => void]>;

  constructor(
    transport: Duplex,
    events: TapEvents,
    head: Uint8Array | undefined,
    halfOpen: boolean = true,
  ) {
    this.halfOpen = halfOpen;
    this.#transport = transport;
    this.#events = events;
    this.#received = new RecordScanner((type, length, alert) =>
      events.onRecord('received', type, length, alert),
    );
    this.#sent = new RecordScanner((type, length, alert) => {
      if (this.#isCloseNotify?.({ type, length }))
        this.#closeNotifyWritten = HEADER_LENGTH + length;
      if (this.#feeding) this.#reply = { type, length };
      events.onRecord('sent', type, length, alert);
    });
    this.#sender = new Sender(transport, this);
    // A transport that ends its own side when the peer ends (the default of net.Socket) would send
    // FIN before our close_notify: "Each party MUST send a close_notify alert before closing its
    // write side of the connection" (RFC 9846 section 6.1).
    this.#allowHalfOpen = transport.allowHalfOpen;
    transport.allowHalfOpen = true;

    if (head !== undefined && head.length > 0) this.#queue.push(head);
    this.#listeners = [
      ['data', (chunk: Uint8Array) => this.#onData(chunk, false)],
      ['end', () => this.#onEnd('eof', null)],
      ['error', (error: Error & { code?: string }) => this.#onError(error)],
      ['close', () => this.#onClose()],
      ['drain', () => this.#sender.onDrain()],
    ];
    // Whoever listened to the bytes so far (a plaintext dialogue that ended in STARTTLS) would now get
    // ciphertext. Node takes a socket's handle away from them just the same.
    for (const name of ['data', 'readable', 'end']) {
      for (const listener of transport.rawListeners(name)) {
        // Node's own, on every net.Socket; it does nothing on one that is half-open.
        if (listener.name === 'onReadableStreamEnd') continue;
        this.#muted.push([name, listener as () => void]);
        transport.off(name, listener as () => void);
      }
    }
    for (const [name, listener] of this.#listeners) transport.on(name, listener);
    divertReads(transport, (bytes) => this.#onData(bytes, true));
    // Nothing is reported before the engine is there to hear it. And a transport that is over
    // already says nothing by itself.
    process.nextTick(() => {
      this.#ready = true;
      if (this.#detached) return;
      if (this.#ending !== null) this.#pump(this.#ending.cause !== 'eof');
      else if (transport.errored) this.#onError(transport.errored);
      else if (transport.destroyed) this.#onClose();
      else if (transport.readableEnded) this.#onEnd('eof', null);
    });
  }

  /** Whether the engine is being fed at this moment, so that what it does is about that record. */
  get feeding(): boolean {
    return this.#feeding;
  }

  /** Whether the transport has taken all that was written, but for what goes out with more of this turn. */
  get settled(): boolean {
    return this.#sender.settled;
  }

  /** Whether the transport has taken all that was written, but for close_notify. */
  get hasSentAll(): boolean {
    return this.#sender.hasSentAll;
  }

  /** Bytes that the engine has not been fed: trailing data, once close_notify has come. */
  get unfedLength(): number {
    return this.#queue.all.reduce((sum, chunk) => sum + chunk.length, 0) - this.#offset;
  }

  /** Feed the engine no more, and read no more: what is here, and what comes, is kept. */
  stop(why: 'closed' | 'waived'): void {
    this.#stopped = why;
    if (!this.#detached) this.#transport.pause();
  }

  /**
   * All application data has been handed over, and close_notify is next. From here on `matches` is
   * asked of each record that goes out, so a claim that close_notify was sent rests on a record that
   * was written, at the time when the transport took it.
   */
  expectCloseNotify(matches: (record: SeenRecord) => boolean): void {
    this.#isCloseNotify = matches;
  }

  /**
   * For an engine that answers close_notify by itself, to be called within the feeding of it: if the last
   * thing that it wrote `matches`, that was our close_notify.
   */
  takeReply(matches: (record: SeenRecord) => boolean): void {
    if (!this.#feeding || this.#reply === null || !matches(this.#reply)) return;
    this.#sender.onceTaken(() => this.onCloseNotifyTaken());
  }

  /** @internal */
  onCloseNotifyTaken(): void {
    this.#closeNotifyTaken = true;
    this.#events.onCloseNotifySent();
    this.#afterCloseNotify?.();
  }

  /** Calls back once the transport took the record that `expectCloseNotify` waits for, at once if it has. */
  afterCloseNotify(then: () => void): void {
    if (this.#closeNotifyTaken) then();
    else this.#afterCloseNotify = then;
  }

  /** Joins the tap to what the engine has for its transport. */
  attach(above: Above): void {
    this.#above = above;
  }

  /** The engine is ready for more. Never to be told within a call of the engine. */
  wanted(): void {
    this.#pump();
  }

  /** A listener of the program's has thrown. If it lives on, so does what waits here, close_notify perhaps. */
  goOn(): void {
    if (this.#detached) return;
    // That has broken off what the transport's stream was about, too. Pausing it sets it going anew.
    this.#transport.pause();
    this.#pump();
  }

  /** Has the engine paused, and resumed, where it does not do so itself. */
  pause(): void {
    this.#above?.pause();
  }

  resume(): void {
    this.#above?.resume();
  }

  /** The engine let go. */
  gone(): void {
    this.#events.onDestroyed();
  }

  /** Takes the transport away from the engine, which fails with `error`. */
  destroy(error?: Error): void {
    this.#above?.destroy(error);
  }

  /** Writes by `writer` as far as it can. */
  writeBy(writer: HandleWriter): void {
    this.#sender.writeBy(writer);
  }

  /** Feeds the engine by `by`. */
  feedBy(by: FeedBy): void {
    this.#feedBy = by;
  }

  /**
   * Sends the last flight of the handshake in one segment with what its completion brings about: the
   * first request, or a close_notify. For clients; a server's session tickets that came late would find
   * a client that has closed already, and draw a reset.
   */
  gatherFlights(): void {
    this.#gathers = true;
  }

  /** The handshake is complete. May be told within the feeding of its last record. */
  establish(): void {
    this.#established = true;
  }

  /**
   * From here on records that follow each other may be fed together where `isBulk` says of each that
   * it is no close_notify: a call of the engine costs the same for one and for many.
   *
   * TLS 1.3 allows a close_notify to be padded so that it looks like data. Should one stand in the
   * middle of such a batch, what follows it within that batch is not told apart from it. That is no more
   * than records of application data, which nobody may send after close_notify: whatever else comes
   * next on the transport does not begin as they do.
   */
  batch(isBulk: (record: SeenRecord) => boolean): void {
    this.#isBulk = isBulk;
  }

  /**
   * Lets go of the transport: no listener of ours is left on it, it is paused, and nothing more is
   * read from it or written to it.
   *
   * @returns what came after the peer's close_notify.
   */
  detach(): Uint8Array {
    if (!this.#detached) {
      this.#detached = true;
      this.#sender.detach();
      for (const [name, listener] of this.#listeners) this.#transport.off(name, listener);
      divertReads(this.#transport, null);
      this.#transport.pause();
      this.#transport.allowHalfOpen = this.#allowHalfOpen;
    }
    const unfed = this.#queue.drain();
    const offset = this.#offset;
    this.#offset = 0;
    if (this.#stopped === null || unfed.length === 0) return NO_BYTES;
    return Buffer.concat(unfed).subarray(offset);
  }

  /** Those who listened to the transport before hear of it again. It stays paused. */
  unmute(): void {
    for (const [name, listener] of this.#muted) this.#transport.on(name, listener);
    this.#muted.length = 0;
    // Listening to 'data' sets a stream going.
    this.#transport.pause();
  }

  // ---- transport to engine

  /** @param lent the memory is somebody else's, and filled anew once this returns. */
  #onData(chunk: Uint8Array, lent: boolean): void {
    if (!(chunk instanceof Uint8Array)) {
      this.#onError(new TypeError('the transport delivers something other than bytes'));
      return;
    }
    // Whoever looks at bytes may keep them.
    this.#queue.push(lent && this.#events.onBytes !== undefined ? Buffer.from(chunk) : chunk);
    try {
      this.#pump();
    } finally {
      if (lent) this.#queue.replaceNewest(chunk, () => Buffer.from(chunk));
    }
    // The next one may be as large, and would have to wait here.
    const much = lent && chunk.length > PIECE;
    if (much && this.#above?.wants === false && !this.#detached) this.#transport.pause();
  }

  /**
   * Feeds the engine record by record for as long as it takes them; `force` feeds even while it has
   * asked for a pause, which is bounded by what one read of the transport delivered.
   */
  #pump(force = false): void {
    if (this.#pumping || this.#detached) return;
    this.#pumping = true;
    try {
      for (;;) {
        const chunk = this.#queue.first;
        const above = this.#above;
        if (chunk === null || above === null) break;
        if (this.#stopped !== null || above.destroyed) break;
        if (!force && !above.wants && !this.#goesOn) break;
        const from = this.#offset;
        const end = this.#takePiece(chunk, from);
        if (end === chunk.length) {
          this.#queue.shift();
          this.#offset = 0;
        } else {
          this.#offset = end;
        }
        const whole = from === 0 && end === chunk.length;
        const piece = whole ? chunk : chunk.subarray(from, end);
        this.#events.onBytes?.('received', piece);
        if (this.#established) this.#gathers = false;
        this.#reply = null;
        this.#feeding = true;
        let fed = false;
        try {
          if (this.#feedBy === null) above.feed(piece);
          else this.#feedBy(piece, this.#alone, this.#feedAbove);
          fed = true;
        } finally {
          this.#feeding = false;
          if (!fed) process.nextTick(goOn, this);
        }
      }
    } finally {
      this.#pumping = false;
      // The peer has closed, and the answer may follow at once.
      if (this.#stopped === 'closed' && this.#sender.holds) this.#sender.releaseLater();
      else if (!this.#sender.releasing) this.#sender.release();
    }
    this.#afterPump();
  }

  readonly #feedAbove = (bytes: Uint8Array) => this.#above?.feed(bytes);

  /** @returns where what the engine is fed next ends. */
  #takePiece(chunk: Uint8Array, from: number): number {
    const isBulk = this.#isBulk;
    const received = this.#received;
    let end = received.take(chunk, from);
    this.#alone = true;
    this.#goesOn = false;
    if (isBulk === null || !isBulk(received)) return end;
    while (end < chunk.length) {
      const next = peekHeader(chunk, end);
      if (next === null || !isBulk(next)) break;
      if (end - from >= PIECE) {
        this.#goesOn = true;
        break;
      }
      end = received.take(chunk, end);
      this.#alone = false;
    }
    return end;
  }

  /** Backpressure towards the transport, and its ending once all is fed. */
  #afterPump(): void {
    if (this.#detached) return;
    if (this.#stopped !== null || !this.#queue.isEmpty) {
      this.#transport.pause();
    } else if (this.#ending === null && this.#above?.wants && this.#transport.isPaused()) {
      this.#transport.resume();
    }
    if (this.#ending === null) return;
    if (this.#stopped === 'waived' && this.#ending.cause === 'eof') return;
    if (this.#stopped !== null || this.#queue.isEmpty) this.#reportEnding();
  }

  #reportEnding(): void {
    if (this.#ending === null || this.#endingReported || !this.#ready) return;
    this.#endingReported = true;
    this.#events.onTransportEnd({
      ...this.#ending,
      insideRecord: !this.#received.atBoundary,
    });
  }

  // ---- the transport's own ending

  #onEnd(cause: TransportEnding['cause'], error: TransportEnding['error']): void {
    if (this.#ending !== null) {
      // An error after EOF: the peer's bytes ended already, but ours can no longer go out.
      const news = error !== null && this.#ending.cause === 'eof' && !this.#brokenReported;
      if (news && this.#endingReported) {
        this.#brokenReported = true;
        this.#events.onTransportEnd({ cause, error, insideRecord: !this.#received.atBoundary });
      }
      return;
    }
    this.#ending = { cause, error };
    // EOF comes in its turn, after all data. An error overtakes what waits in the queue: feed that
    // first, so that a close_notify in it counts and no byte that came is lost.
    this.#pump(cause !== 'eof');
  }

  #onError(error: Error & { code?: string }): void {
    this.#onEnd(causeOf(error), error);
  }

  #onClose(): void {
    // Closed without EOF or error: nobody but this side can have done that.
    if (this.#ending === null) this.#onEnd('destroyed', null);
    else if (this.#ending.cause === 'eof' && this.#sender.busy) {
      this.#onEnd('destroyed', new Error('the transport closed before it took what was written'));
    }
  }

  // ---- engine to transport

  /**
   * Writes to the transport, and calls `done` when it wants more, and `free` with the chunks once the transport
   * has taken all of them, where that is worth it, and unless somebody here was shown the bytes.
   *
   * A failed write is an ending of the transport, reported as such. It is not passed up to the
   * engine, which would fail at once and drop received bytes that nobody has read yet.
   */
  send(chunks: readonly Uint8Array[], done: () => void, free?: Free): void {
    if (this.#detached) return;
    if (chunks.length === 0) {
      done();
      return;
    }
    for (const chunk of chunks) {
      this.#events.onBytes?.('sent', chunk);
      for (let at = 0; at < chunk.length; ) at = this.#sent.take(chunk, at);
    }
    const closeNotify = this.#closeNotifyWritten;
    if (closeNotify > 0) {
      this.#closeNotifyWritten = 0;
      this.#isCloseNotify = null;
    }
    const hold = this.#feeding && (this.#gathers || !this.#queue.isEmpty);
    const shown = this.#events.onBytes !== undefined;
    this.#sender.send(chunks, closeNotify, hold, done, shown ? undefined : free);
    if (hold && this.#gathers) this.#sender.releaseLater();
  }

  /** Makes a call of the engine that has close_notify written, and tells of it as soon as that returns. */
  during<T>(call: (on: T) => void, on: T): void {
    this.#sender.during(call, on);
  }

  /** @internal */
  onSendError(error: Error & { readonly code?: string }): void {
    this.#onError(error);
  }

  /** The engine has ended. Calls back once the transport has taken all of it. */
  end(then: () => void): void {
    this.#sender.onceTaken(() => {
      if (this.#above?.destroyed) return;
      then();
      this.#events.onFinished?.();
    });
  }
}

const goOn = (tap: Tap) => tap.goOn();
