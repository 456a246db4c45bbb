/** How a stream closes: shutdown, close, unwrap, abort. */
import type { Duplex } from 'node:stream';
import { type Call, callSite } from '../call-site.ts';
import type { Policy } from '../closure/policy.ts';
import type { Closure } from '../closure/verdict.ts';
import { AbortError, AbortedError, OptionError, ShutdownError, UsageError } from '../errors.ts';
import { closeTransport } from '../transport/goodbye.ts';
import { checkWaitOptions, type WaitOptions } from '../wait.ts';
import type { Connection } from './connection.ts';
import { noteOrigin } from './origin.ts';
import { callTransport } from './peer.ts';
import type { Reading } from './reading.ts';
import type { Writing } from './writing.ts';

/** Options of `shutdown`. */
export interface ShutdownOptions extends WaitOptions {
  /** Whether to wait for the peer's close_notify; true by default. */
  readonly wait?: boolean | undefined;
  /** What to do with data that nobody reads; the stream's policy by default. */
  readonly unread?: Policy['unread'] | undefined;
}

/** Options of `close`. */
export type CloseOptions = ShutdownOptions;

/** A transport, taken back. */
export interface Unwrapped {
  /** The transport, paused, with the listeners that it had before, and none of ours. */
  readonly transport: Duplex;
  /** What the peer sent after its close_notify, as far as it was read from the transport. */
  readonly trailing: Uint8Array;
}

export class Closing {
  readonly #connection: Connection;
  readonly #reading: Reading;
  readonly #writing: Writing;
  readonly #call: Call;
  #aborted = false;
  /** The caller has taken the transport back. */
  #unwrapped = false;
  #closing: Promise<Closure> | null = null;
  #goodbye: Promise<void> | null = null;
  /** Our FIN is out. */
  #finished = false;
  readonly #over: Promise<Closure>;
  #end: () => void = () => {};

  /** @param call the stream's method `shutdown`. */
  constructor(connection: Connection, reading: Reading, writing: Writing, call: Call) {
    this.#connection = connection;
    this.#reading = reading;
    this.#writing = writing;
    this.#call = call;
    this.#over = new Promise((resolve) => {
      this.#end = () => resolve(connection.closure);
    });
    // What has failed has no use for its transport.
    connection.onFailed = () => void this.goodbye();
  }

  /** Settles, with the closure, once the transport is let go. */
  get over(): Promise<Closure> {
    return this.#over;
  }

  shutdown(options: ShutdownOptions): Promise<Closure> {
    try {
      checkShutdownOptions(options);
      const { signal } = options;
      if (signal?.aborted) throw new AbortError({ phase: 'shutdown', cause: signal.reason });
    } catch (error) {
      return Promise.reject(error);
    }
    this.#observeCall('shutdown', options);
    return this.#shutdown(options);
  }

  #shutdown(options: ShutdownOptions): Promise<Closure> {
    const connection = this.#connection;
    const { wait = true, unread = connection.policy.unread } = options;
    // What has failed stays as it ended, whatever the caller now asks for.
    if (connection.failure === null) connection.dispatch({ type: wait ? 'wait' : 'waive' });
    connection.sendCloseNotify();
    return connection.until<Closure>(
      {
        phase: 'shutdown',
        message: 'the peer sent no close_notify',
        call: this.#call,
        hint: () => this.#timeoutHint(),
        ends: true,
        answer: () => {
          this.#reading.collect(unread);
          // As it is now: the promise settles a little later.
          return this.#isShutDown(wait) ? connection.closure : undefined;
        },
      },
      options,
      connection.policy.deadlines.shutdown,
    );
  }

  /** Whether a shutdown has all that it waits for. @throws what the stream has failed with. */
  #isShutDown(wait: boolean): boolean {
    const connection = this.#connection;
    const { send, receive } = connection.ending.state;
    if (this.#aborted) throw connection.failure;
    if (send.kind === 'closed' && (receive.kind === 'closed' || !wait)) return true;
    // The peer closed, then its transport broke: it did not want our answer.
    if (send.kind === 'cut' && receive.kind === 'closed') return true;
    if (connection.failure !== null) throw connection.failure;
    if (send.kind === 'cut' && !wait) connection.mayWrite();
    return receive.kind === 'truncated' && send.kind === 'closed' && connection.onlyReports;
  }

  #timeoutHint(): string {
    const { unreadLimit } = this.#connection.policy;
    const { keptBytes } = this.#reading;
    return keptBytes >= unreadLimit && keptBytes > 0
      ? 'unread data is in the way, up to unreadLimit: read it, or shut down with unread: discard'
      : "the peer's last bytes may be missing; wait: false does without its answer";
  }

  async unwrap(): Promise<Unwrapped> {
    const connection = this.#connection;
    const { send, receive } = connection.ending.state;
    // Once close() was called FIN goes out with close_notify.
    const gone = connection.released || this.#closing !== null;
    if (send.kind !== 'closed' || receive.kind !== 'closed' || gone) {
      throw new UsageError(
        'ERR_TLS_NOT_SHUTDOWN',
        gone
          ? 'the transport has been closed or taken back already'
          : 'unwrap needs both close_notify to have been exchanged',
        {
          closure: connection.closure,
          hint: 'await shutdown() first; its verdict must be secure',
        },
      );
    }
    connection.observe({ type: 'call', name: 'unwrap', detail: null });
    this.#unwrapped = true;
    this.#letGo();
    const trailing = connection.release(true);
    connection.dispatch({ type: 'release' });
    connection.engine.destroy();
    this.#end();
    return { transport: connection.transport, trailing };
  }

  close(options: CloseOptions): Promise<Closure> {
    try {
      checkShutdownOptions(options);
    } catch (error) {
      return Promise.reject(error);
    }
    this.#closing ??= this.#close(options, 'loss');
    return this.#closing;
  }

  /**
   * Closes, and rejects only where the program can have heard nothing yet: an error of its own may be under way, which a
   * rejection would put into a SuppressedError. What `close` rejects with is for whoever called that.
   */
  async dispose(): Promise<void> {
    if (this.#closing !== null) {
      await this.#closing.catch(() => {});
      return;
    }
    this.#closing = this.#close({}, 'trouble');
    await this.#closing;
  }

  /** @param unless what the program must not have heard for its lost bytes to be told. */
  async #close(options: CloseOptions, unless: keyof Connection['heard']): Promise<Closure> {
    const connection = this.#connection;
    const { policy } = connection;
    const { wait = true, unread = policy.unread, signal } = options;
    this.#observeCall('close', options);
    this.#reading.taken = false;
    if (this.#unwrapped || this.#aborted) return connection.closure;
    // What has failed stays as it ended: nobody chooses afterwards not to have waited.
    if (connection.failure === null) {
      connection.ending.happened({ type: 'close' }, connection.now());
      // And does not insist on the peer's close_notify.
      connection.dispatch({ type: 'waive' });
    }
    // From here on nothing that the peer says is looked at, so the outcome hangs on no race.
    if (!wait) connection.engine.pause();
    if (!signal?.aborted) connection.sendCloseNotify();
    let gaveUp: unknown = null;
    try {
      await connection.until<true>(
        {
          phase: 'close',
          message: 'the stream was not closed',
          hint: () => (connection.untaken ? 'the peer does not read' : undefined),
          answer: () => {
            this.#reading.collect(unread, true);
            return this.#isClosed(wait) || undefined;
          },
        },
        options,
        policy.deadlines.close,
      );
    } catch (error) {
      gaveUp = error;
    }
    if (this.#aborted) return connection.closure;
    const lost = connection.heard[unless] ? null : this.#loss;
    if (gaveUp instanceof AbortError) connection.dispatch({ type: 'cancel' });
    const { send, receive } = connection.ending.state;
    const whole = send.kind === 'closed' && receive.kind === 'closed';
    if (gaveUp !== null) {
      connection.onFailed = () => {};
      this.#giveUp();
      this.drop();
    } else {
      if (!whole) this.#giveUp();
      void this.goodbye();
    }
    const error = gaveUp instanceof AbortError ? gaveUp : lost && (gaveUp ?? lost());
    if (error !== null) throw callSite(this.#close)(error);
    return connection.closure;
  }

  /** Nothing more comes, and nothing more goes. */
  #giveUp(): void {
    this.#connection.fail(
      { type: 'abandon', how: 'closed' },
      (closure) => new AbortedError('the stream was closed', { closure }),
    );
  }

  /**
   * Whether a close is over: all of ours is out or cannot go out, and the peer has said close_notify or FIN, whichever
   * was first.
   */
  #isClosed(wait: boolean): boolean {
    const connection = this.#connection;
    if (this.#aborted) return true;
    const { send, receive } = connection.ending.state;
    if (send.kind === 'open' || send.kind === 'closing') return false;
    // FIN goes out with close_notify: who waits for FIN need not be waited for.
    if (send.kind === 'closed') this.#finish();
    return !wait || (receive.kind !== 'open' && receive.kind !== 'closing');
  }

  #finish(): void {
    if (this.#tellFin()) this.#connection.transport.end();
  }

  /** Tells the observer of our FIN. @returns whether it is still to go out. */
  #tellFin(): boolean {
    const connection = this.#connection;
    // Of one that was reset nothing goes out any more, though its socket may not have noticed.
    const { transport: end } = connection.ending.state;
    if (end === 'reset' || end === 'error') return false;
    if (this.#finished || connection.transport.destroyed) return false;
    this.#finished = true;
    connection.observe({ type: 'transport-closed', how: 'end' });
    return true;
  }

  /** Makes the error that bytes of ours are not known to have been taken by the transport; null where all are. */
  get #loss(): (() => ShutdownError) | null {
    const connection = this.#connection;
    const { send } = connection.ending.state;
    if (!connection.untaken || send.kind === 'closed') return null;
    const cause = connection.failure ?? connection.sendError ?? undefined;
    return () => {
      const { closure, transport } = connection;
      const error = new ShutdownError(
        'the transport takes no more: bytes that were written may be lost',
        { phase: 'close', closure, cause },
      );
      noteOrigin(error, transport);
      return error;
    };
  }

  abort(): void {
    const connection = this.#connection;
    if (this.#unwrapped) return;
    connection.observe({ type: 'call', name: 'abort', detail: null });
    this.#aborted = true;
    this.#reading.abort();
    // Whatever failed before, from here on it is the caller who wants no more.
    connection.ending.forgive();
    connection.onFailed = () => {};
    // Nobody is asked before the failure stands.
    connection.ending.happened({ type: 'close' }, connection.now());
    connection.fail(
      { type: 'abandon', how: 'destroyed' },
      (closure) => new AbortedError('the stream was aborted', { closure }),
    );
    this.drop();
  }

  /** The transport goes now, and TLS with it. */
  drop(): void {
    this.#letGo();
    this.#connection.dropTransport();
    this.#connection.engine.destroy();
    this.#end();
  }

  /** FIN and a kind wait for the peer's, once. */
  goodbye(): Promise<void> {
    this.#goodbye ??= this.#endTransport();
    return this.#goodbye;
  }

  async #endTransport(): Promise<void> {
    const connection = this.#connection;
    const { transport, policy } = connection;
    // Reads go on to get what had arrived, and null where the peer's close_notify had, too.
    this.#letGo();
    connection.release(false);
    const { transport: end, send, receive } = connection.ending.state;
    // Where both parties have said all, nothing keeps the process alive for the transport's own end.
    const alive = send.kind !== 'closed' || receive.kind !== 'closed';
    if (!alive) callTransport(transport, 'unref');
    connection.dispatch({ type: 'abandon', how: 'closed' });
    this.#tellFin();
    const closed = closeTransport(transport, policy.linger, alive);
    // Nobody is at the other end of one that was reset, and its socket may not say so by itself.
    if (end === 'reset' || end === 'error') transport.destroy();
    connection.engine.destroy();
    await closed;
    this.#end();
  }

  #letGo(): void {
    this.#reading.keepUnread();
    this.#reading.end();
    this.#writing.end();
  }

  #observeCall(name: 'shutdown' | 'close', { wait = true }: ShutdownOptions): void {
    this.#connection.observe({ type: 'call', name, detail: wait ? null : 'wait: false' });
  }
}

function checkShutdownOptions(options: ShutdownOptions): void {
  checkWaitOptions(options, 'wait', 'unread');
  if (options.wait !== undefined && typeof options.wait !== 'boolean') {
    throw new OptionError('wait must be a boolean');
  }
  if (options.unread !== undefined && options.unread !== 'keep' && options.unread !== 'discard') {
    throw new OptionError("unread must be 'keep' or 'discard'");
  }
}
