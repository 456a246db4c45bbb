/** The writing side of a stream: from `write` to the engine. */
import { Buffer } from 'node:buffer';
import { type Call, callSite } from '../call-site.ts';
import { AbortError, OptionError } from '../errors.ts';
import { checkWaitOptions, Patience, type WaitOptions } from '../wait.ts';
import type { Connection } from './connection.ts';
import { noteOrigin } from './origin.ts';
import type { Waiting } from './waiting.ts';

const DONE: Promise<void> = Promise.resolve();

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
    const { write } = connection.policy.deadlines;
    return connection
      .until(this.#waiting, options ?? {}, write, this.#patience)
      .then(() => undefined);
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
