/**
 * A party of a scenario, whoever plays it, and the one that we play ourselves.
 *
 * Nothing here sleeps. A step is over when its effect can be seen: at the party that acted, and then
 * (`noticed`) at the other one, as far as that one can tell.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Action, Scenario } from '../../../src/cli/scenarios.ts';
import {
  type AsioErrorCode,
  CloseNotifyError,
  type Closure,
  connect,
  createServer,
  type Observation,
  type TlsServer,
  type TlsStream,
  toAsioErrorCode,
} from '../../../src/index.ts';
import type { TestPki } from '../../support/interop-pki.ts';

export type Side = 'A' | 'B';
export type Handshake = 'client' | 'server';
export type TlsVersion = '1.2' | '1.3';
export const TLS_VERSIONS: readonly TlsVersion[] = ['1.2', '1.3'];

/** What a party has to play. */
export interface Part {
  readonly scenario: Scenario;
  readonly side: Side;
  readonly handshake: Handshake;
  readonly tls: TlsVersion;
  readonly pki: TestPki;
}

/** Whether A's shutdown is left pending for ever: B never acts, and A does not cancel. */
export const isUnanswered = ({ steps }: Scenario): boolean =>
  steps.every(([side, action]) => side === 'A' && action !== 'cancel');

/** What a party writes where the scenario says so. Its length is that of no handshake message. */
export const TEXT = 'data that nobody has read yet; '.repeat(32).trim();

export interface Party {
  /** A server begins to listen; resolves to its port. */
  listen(): Promise<number>;
  /** Handshakes: a client connects to `port`, a server takes the one who does. */
  meet(port: number): Promise<void>;
  /** Once both have met: whatever the part needs before its first step. */
  prepare(other: Party): Promise<void>;
  perform(action: Action): Promise<void>;
  /** Resolves when this party has seen what the other one did, if it is one that can tell. */
  noticed(action: Action): Promise<void>;
  /** Resolves when what this party began has ended, or is known to stay pending. */
  settled(): Promise<void>;
  /** Our record of the closure; null for parties who keep none. */
  readonly closure: Closure | null;
  /** What its calls gave, in order, in its own words. */
  readonly reported: readonly string[];
  /** Closes everything and ends its process. */
  dispose(): Promise<void>;
}

const SUCCESS: AsioErrorCode = { category: 'system', value: 0, message: 'Success' };

/** Only a shutdown that nobody answers has one. In the others it would hide who hangs. */
const SHORT_DEADLINE = 100;

/** Played by this library. */
export class OurParty implements Party {
  readonly reported: string[] = [];
  /** What Boost.Asio would have reported, by `toAsioErrorCode` at the time when a call ended. */
  readonly asio: string[] = [];
  readonly #part: Part;
  readonly #observations: Observation[] = [];
  readonly #questions = new Set<() => void>();
  readonly #controller = new AbortController();
  #server: TlsServer | null = null;
  #accepted: Promise<TlsStream> | null = null;
  #stream: TlsStream | null = null;
  #pending: Promise<void> = Promise.resolve();
  #closing: Promise<Closure> | null = null;
  #dropped = false;

  constructor(part: Part) {
    this.#part = part;
  }

  get stream(): TlsStream {
    if (this.#stream === null) throw new Error('no handshake yet');
    return this.#stream;
  }

  get closure(): Closure {
    return this.stream.closure;
  }

  get #options() {
    const version = `TLSv${this.#part.tls}` as const;
    return {
      minVersion: version,
      maxVersion: version,
      answer: 'when-told',
      deadlines: { shutdown: Number.POSITIVE_INFINITY, close: 60_000 },
    } as const;
  }

  readonly #observer = {
    observe: (observation: Observation) => {
      this.#observations.push(observation);
      for (const question of this.#questions) question();
    },
  };

  async listen(): Promise<number> {
    const { key, cert } = this.#part.pki;
    this.#accepted = new Promise((resolve, reject) => {
      const options = { ...this.#options, key, cert, record: () => this.#observer };
      this.#server = createServer({ ...options, onError: reject }, resolve);
    });
    // Whoever waits for it gets the rejection; nobody may.
    this.#accepted.catch(() => {});
    const server = this.#server as unknown as TlsServer;
    return (await server.listen(0, '127.0.0.1')).port;
  }

  async meet(port: number): Promise<void> {
    const tls13 = this.#part.tls === '1.3';
    if (this.#part.handshake === 'server') {
      this.#stream = await this.#accepted;
      // The session tickets of TLS 1.3 are on their way before anything else happens. A peer that
      // never reads them is a case of its own, and must be one in each run.
      if (tls13) await this.#saw((seen) => sentInARow(seen) >= 2);
      return;
    }
    let onTickets = () => {};
    const tickets = new Promise<void>((resolve) => {
      onTickets = resolve;
    });
    let count = 0;
    this.#stream = await connect({
      ...this.#options,
      host: '127.0.0.1',
      port,
      servername: 'localhost',
      ca: this.#part.pki.ca,
      record: this.#observer,
      onSession: () => {
        if (++count === 2) onTickets();
      },
    });
    // Tickets that we have not read yet would turn a later drop into a reset.
    if (tls13) await tickets;
  }

  async prepare(): Promise<void> {}

  async perform(action: Action): Promise<void> {
    const { stream } = this;
    switch (action) {
      case 'write':
        return stream.write(TEXT);
      case 'read':
        // What has its answer already reports before what is asked now.
        if (stream.closure.verdict !== 'open') await this.#pending;
        this.#report('read', await outcome(this.read()));
        return;
      case 'shutdown': {
        const call = stream.shutdown({
          signal: this.#controller.signal,
          ...(isUnanswered(this.#part.scenario) ? { deadline: SHORT_DEADLINE } : {}),
        });
        this.#pending = outcome(call.then(({ verdict }) => verdict)).then((result) =>
          this.#report('shutdown', result),
        );
        await Promise.race([this.#pending, this.#sawOf('close-notify', 'sent')]);
        return;
      }
      case 'shutdown-no-wait':
        this.#closing = stream.close({ wait: false });
        this.#report('shutdown', await outcome(this.#closing.then(({ verdict }) => verdict)));
        return;
      case 'drop':
        this.#dropped = true;
        stream.abort();
        // The socket's handle is closed within this turn.
        await turn();
        return;
      case 'cancel':
        this.#controller.abort();
        return;
    }
  }

  /** Reads once. openssl ends what it is told to write with a newline. */
  async read(): Promise<string> {
    const bytes = await this.stream.read();
    return bytes === null ? 'end' : Buffer.from(bytes).toString().trimEnd();
  }

  async noticed(action: Action): Promise<void> {
    const over = (seen: readonly Observation[]) =>
      this.#dropped || seen.some(({ type }) => type.startsWith('transport-'));
    switch (action) {
      case 'write':
        await this.#saw((seen) =>
          seen.some(
            (one) =>
              one.type === 'record' &&
              one.direction === 'received' &&
              one.contentType === 23 &&
              // A record is longer than its content by at most 40 bytes in any suite used here.
              one.length >= TEXT.length &&
              one.length <= TEXT.length + 40,
          ),
        );
        return;
      case 'shutdown':
      case 'shutdown-no-wait':
        await this.#saw((seen) => over(seen) || has(seen, 'close-notify', 'received'));
        return;
      case 'drop':
        await this.#saw(over);
        return;
    }
  }

  async settled(): Promise<void> {
    await this.#pending;
  }

  async dispose(): Promise<void> {
    this.#stream?.abort();
    await this.#closing;
    await this.#server?.close({ deadline: 0 });
  }

  /** The outcome of the close that was begun, once the other party has ended its transport too. */
  async closed(): Promise<Closure | null> {
    return this.#closing;
  }

  #report(call: string, result: string): void {
    this.reported.push(`${call}: ${result}`);
    // A read that gave data says nothing of the closure.
    const { category, value, message } = result === TEXT ? SUCCESS : toAsioErrorCode(this.closure);
    this.asio.push(`${call}: ${category}:${value} ${message}`);
  }

  #sawOf(type: Observation['type'], direction?: 'sent' | 'received'): Promise<void> {
    return this.#saw((seen) => has(seen, type, direction));
  }

  #saw(found: (seen: readonly Observation[]) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const question = () => {
        if (!found(this.#observations)) return;
        this.#questions.delete(question);
        resolve();
      };
      this.#questions.add(question);
      question();
    });
  }
}

function has(
  seen: readonly Observation[],
  type: Observation['type'],
  direction?: 'sent' | 'received',
): boolean {
  return seen.some(
    (one) =>
      one.type === type &&
      (direction === undefined || ('direction' in one && one.direction === direction)),
  );
}

/** Records sent since the last one that was received. */
function sentInARow(seen: readonly Observation[]): number {
  const records = seen.filter((one) => one.type === 'record');
  const last = records.findLastIndex(({ direction }) => direction === 'received');
  return records.length - 1 - last;
}

/** What a call gave: its value, or the code of its error. */
export async function outcome(call: Promise<string>): Promise<string> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof CloseNotifyError) return error.code;
    throw error;
  }
}
