/** The writing side of a stream: from `write` to the engine. */
import { Buffer } from 'node:buffer';
import { type Call, callSite } from '../call-site.ts';
import { AbortError, OptionError, UsageError } from '../errors.ts';
import { checkWaitOptions, Patience, type WaitOptions } from '../wait.ts';
import type { Connection } from './connection.ts';
import { noteOrigin } from './origin.ts';
import type { Waiting } from './waiting.ts';

const DONE: Promise<void> = Promise.resolve();

/** Options of `updateKeys`. */
export interface UpdateKeysOptions extends WaitOptions {
  /** Whether the peer is asked to update its keys, too; false by default. */
  readonly request?: boolean | undefined;
}

export class Writing {
  readonly #connection: Connection;
  readonly #patience = new Patience();
  readonly #call: Call;
  readonly #waiting: Waiting<true>;

  /** @param call the stream's method. */
  constructor(connection: Connection, call: Call) {
    this.#connection = connection;
    this.#call = call;
    this.#waiting = {
      phase: 'write',
      call,
      message: 'the peer does not read: nothing was taken',
      answer: () => this.#isTaken(),
    };
  }

  write(data: Uint8Array | string, options: WaitOptions | undefined): Promise<void> {
    const connection = this.#connection;
    try {
      checkWaitOptions(options);
      const signal = options?.signal;
      if (signal?.aborted) throw new AbortError({ phase: 'write', cause: signal.reason });
      if (typeof data !== 'string' && !(data instanceof Uint8Array)) {
        throw new OptionError('data must be a Uint8Array or a string');
      }
      connection.mayWrite();
      const bytes = typeof data === 'string' ? Buffer.from(data) : data;
      connection.observe({ type: 'data', direction: 'sent', bytes: bytes.length });
      // Most writes need not wait, and then not a promise of their own either.
      if (bytes.length === 0 || connection.engine.write(bytes)) return DONE;
    } catch (error) {
      noteOrigin(error, connection.transport);
      return Promise.reject(callSite(this.#call)(error));
    }
    return this.#taken(options);
  }

  #taken(options: WaitOptions | undefined, waiting = this.#waiting): Promise<void> {
    const connection = this.#connection;
    const { write } = connection.policy.deadlines;
    return connection.until(waiting, options ?? {}, write, this.#patience).then(() => undefined);
  }

  /** @param call the stream's method. */
  updateKeys(options: UpdateKeysOptions = {}, call: Call): Promise<void> {
    const connection = this.#connection;
    const { engine } = connection;
    try {
      checkWaitOptions(options, 'request');
      const { request = false, signal } = options;
      if (typeof request !== 'boolean') throw new OptionError('request must be a boolean');
      if (signal?.aborted) throw new AbortError({ phase: 'write', cause: signal.reason });
      connection.mayWrite();
      const protocol = engine.info?.protocol;
      if (protocol !== 'TLSv1.3') {
        throw new UsageError('ERR_TLS_KEY_UPDATE', `${protocol} has no KeyUpdate`, {
          hint: 'TLS 1.3 has: stream.tls.protocol says which it is',
        });
      }
      if (engine.updateKeys === undefined) {
        throw new UsageError('ERR_TLS_KEY_UPDATE', 'the tapped engine sends no KeyUpdate', {
          hint: 'the native engine does: `close-notify doctor` says whether it is there',
        });
      }
      engine.updateKeys(request);
      if (engine.writable) return DONE;
    } catch (error) {
      noteOrigin(error, connection.transport);
      return Promise.reject(callSite(call)(error));
    }
    return this.#taken(options, { ...this.#waiting, call });
  }

  #isTaken(): true | undefined {
    const connection = this.#connection;
    if (connection.failure !== null) throw connection.failure;
    switch (connection.ending.state.send.kind) {
      case 'open':
        return connection.engine.writable ? true : undefined;
      case 'closing':
        return undefined;
      case 'closed':
        // close_notify went out behind these bytes, unless they were discarded for it.
        if (connection.discarded) connection.mayWrite();
        return true;
      default:
        connection.mayWrite();
        return true;
    }
  }

  /** No timer is kept for a next write. */
  end(): void {
    this.#patience.end();
  }
}
