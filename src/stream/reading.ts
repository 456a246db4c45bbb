/** The reading side of a stream: from the engine to `read`. */
import type { Call } from '../call-site.ts';
import type { Policy } from '../closure/policy.ts';
import { AbortError, AbortedError, UsageError } from '../errors.ts';
import { process } from '../runtime.ts';
import { checkWaitOptions, Patience, type WaitOptions } from '../wait.ts';
import type { Connection } from './connection.ts';
import type { Waiting } from './waiting.ts';

export class Reading {
  readonly #connection: Connection;
  readonly #patience = new Patience();
  /** What a shutdown took out of the way of the close_notify behind it. */
  readonly #kept: Uint8Array[] = [];
  #keptBytes = 0;
  #pending = false;
  /** Somebody has read. */
  #begun = false;
  /** Somebody else reads in the stream's stead: what arrives is theirs, not a shutdown's to collect. */
  taken = false;
  /** abort() was called: what was not read by then is gone. */
  #aborted = false;
  /** What came behind the bytes that are kept was thrown away. */
  #discarded = false;
  readonly #waiting: Waiting<Uint8Array | null>;

  /** @param call the stream's method. */
  constructor(connection: Connection, call: Call) {
    this.#connection = connection;
    this.#waiting = {
      phase: 'read',
      call,
      message: 'no data came',
      answer: () => this.#take(),
      over: () => this.#over(),
    };
  }

  /** Whether a read waits. */
  get pending(): boolean {
    return this.#pending;
  }

  /** Bytes that a shutdown keeps readable. */
  get keptBytes(): number {
    return this.#keptBytes;
  }

  read(options: WaitOptions | undefined): Promise<Uint8Array | null> {
    const connection = this.#connection;
    try {
      checkWaitOptions(options);
      const signal = options?.signal;
      if (signal?.aborted) throw new AbortError({ phase: 'read', cause: signal.reason });
      if (this.#pending) {
        throw new UsageError('ERR_TLS_READ_PENDING', 'another read is waiting', {
          phase: 'read',
          closure: connection.closure,
          hint: 'await the first read before the next one',
        });
      }
    } catch (error) {
      return Promise.reject(error);
    }
    this.#begun = true;
    // What is there already needs no wait.
    const bytes = this.#next();
    if (bytes !== null) {
      this.#over();
      return Promise.resolve(bytes);
    }
    this.#pending = true;
    const { read } = connection.policy.deadlines;
    return connection.until(this.#waiting, options ?? {}, read, this.#patience);
  }

  #over(): void {
    this.#pending = false;
    const { questions } = this.#connection;
    // A shutdown may have waited for room, or for its turn to take what is unread.
    if (!questions.isEmpty) process.nextTick(() => questions.ask());
  }

  /** The next bytes; null at the peer's close_notify, or at an EOF that is only reported; undefined where neither is there. @throws the failure. */
  #take(): Uint8Array | null | undefined {
    const connection = this.#connection;
    const bytes = this.#next();
    if (bytes !== null) return bytes;
    const { receive } = connection.ending.state;
    const isReported =
      receive.kind === 'truncated' && receive.cause === 'eof' && connection.onlyReports;
    const hasEnded = receive.kind === 'closed' || isReported;
    if (hasEnded && !this.#aborted && !this.#discarded) return null;
    if (connection.failure !== null) throw connection.failure;
    if (this.#discarded) {
      throw new AbortedError('what came here was discarded', {
        phase: 'read',
        closure: connection.closure,
        hint: "read all before you close, or raise unreadLimit; unread: 'discard' throws away what nobody has read",
      });
    }
    return undefined;
  }

  /** Bytes that are there; null where there are none. */
  #next(): Uint8Array | null {
    if (this.#aborted) return null;
    const connection = this.#connection;
    let bytes: Uint8Array | null | undefined = this.#kept.shift();
    if (bytes !== undefined) this.#keptBytes -= bytes.length;
    // What is read is a beginning of what came: nothing from behind a gap.
    else bytes = this.#discarded ? null : connection.engine.take();
    if (bytes !== null) {
      connection.observe({ type: 'data', direction: 'received', bytes: bytes.length });
    }
    return bytes;
  }

  /**
   * Moves what nobody reads out of the way of the close_notify behind it.
   *
   * @param all also what there is no room for, which is then discarded.
   */
  collect(unread: Policy['unread'], all = false): void {
    if ((this.#pending || this.taken) && !this.#discarded) return;
    const connection = this.#connection;
    for (;;) {
      const room = connection.policy.unreadLimit - this.#keptBytes;
      const full = unread === 'keep' && room <= 0;
      if (full && !all && !this.#discarded) return;
      const keeps = unread === 'keep' && !full && !this.#discarded;
      const chunk = connection.engine.take(keeps ? room : undefined);
      if (chunk === null) return;
      connection.counters.late += chunk.length;
      // To discard what nobody reads is the caller's choice. Somebody who has begun to read is to learn of it.
      this.#discarded ||= full || (unread === 'discard' && this.#begun);
      if (unread === 'keep' && !this.#discarded) this.#keep(chunk);
    }
  }

  /** What nobody has read outlives the engine. */
  keepUnread(): void {
    const { engine } = this.#connection;
    for (let chunk = engine.take(); chunk !== null; chunk = engine.take()) {
      if (!this.#discarded) this.#keep(chunk);
    }
  }

  /** Nothing more is read. */
  abort(): void {
    this.#aborted = true;
    this.#kept.length = 0;
  }

  /** No timer is kept for a next read. */
  end(): void {
    this.#patience.end();
  }

  #keep(chunk: Uint8Array): void {
    this.#kept.push(chunk);
    this.#keptBytes += chunk.length;
  }
}
