/**
 * A TLS stream in another runtime, held against the conformance kit in this one.
 *
 * Theory of operation. The kit, its channel and its reference stay here, in Node; only the subject is
 * elsewhere, in a process that `party.mjs` runs in. Between the subject's end of the channel and that
 * process is a TCP connection on loopback, which continues the channel: bytes stay bytes, FIN stays
 * FIN, a reset RST. So a runtime is judged by what it does on a socket of its own, and a runtime that
 * can take one role of the handshake only is judged in that.
 *
 * The calls go over the process's standard input and output. What the stream says of its ending comes
 * with each answer, and is as old as that.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Adapter, Ending, Party, PartyOptions, Role } from '../../../src/testing/index.ts';
import { splice } from '../../support/splice.ts';

const PARTY = fileURLToPath(new URL('party.mjs', import.meta.url));

/** What the process answers. */
type Told =
  | { readonly stray: string }
  | {
      readonly stray?: undefined;
      readonly id: number;
      readonly value?: string | null;
      readonly error?: string;
      readonly ending?: Ending;
    };

interface Answer {
  readonly value: string | null;
  readonly ending: Ending | undefined;
}

/** A process with parties in it. */
export class Remote implements Disposable {
  readonly #child: ChildProcess;
  readonly #input: Writable;
  readonly #waiting = new Map<
    number,
    { resolve: (answer: Answer) => void; reject: (error: Error) => void }
  >();
  #calls = 0;
  #parties = 0;
  readonly #strays: string[] = [];
  /** Why nothing can be asked of it any more. */
  #over: string | null = null;

  /**
   * @param command the runtime's program and its arguments.
   * @param testing the URL of close-notify/testing, in a form that the runtime reads.
   * @param complaints what becomes of its standard error.
   */
  constructor(
    command: readonly [string, ...string[]],
    testing: string,
    signal?: AbortSignal,
    complaints: 'inherit' | 'ignore' = 'inherit',
  ) {
    const [program, ...args] = command;
    this.#child = spawn(program, [...args, PARTY, testing], {
      stdio: ['pipe', 'pipe', complaints],
      signal,
    });
    const { stdin, stdout } = this.#child as ChildProcess & { stdin: Writable; stdout: Readable };
    this.#input = stdin;
    // Whoever waits is told below that it has ended.
    stdin.on('error', () => {});
    createInterface({ input: stdout }).on('line', (line) => this.#hear(JSON.parse(line) as Told));
    const over = (why: string) => {
      this.#over ??= why;
      for (const { reject } of this.#waiting.values()) reject(new Error(why));
      this.#waiting.clear();
    };
    this.#child.on('error', (error) => over(`the runtime did not start: ${error.message}`));
    this.#child.on('close', () => over('the runtime has ended'));
  }

  /** Its streams, as the kit takes them. */
  adapter(roles: readonly Role[]): Adapter {
    return { name: 'close-notify, elsewhere', roles, open: (options) => this.#open(options) };
  }

  /** Errors that nobody there has caught since this was asked last. */
  strays(): string[] {
    return this.#strays.splice(0);
  }

  #hear(told: Told): void {
    if (told.stray !== undefined) {
      this.#strays.push(told.stray);
      return;
    }
    const waiting = this.#waiting.get(told.id);
    this.#waiting.delete(told.id);
    if (told.error !== undefined) {
      waiting?.reject(Object.assign(new Error(told.error), { ending: told.ending }));
    } else {
      waiting?.resolve({ value: told.value ?? null, ending: told.ending });
    }
  }

  /** @throws {Error} what the call rejected with there, with the ending so far as `ending`. */
  call(name: string, about: object): Promise<Answer> {
    if (this.#over !== null) return Promise.reject(new Error(this.#over));
    const id = ++this.#calls;
    const answered = new Promise<Answer>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    this.#input.write(`${JSON.stringify({ id, call: name, ...about })}\n`);
    return answered;
  }

  async #open({ transport, ...options }: PartyOptions): Promise<Party> {
    const party = ++this.#parties;
    const server = net.createServer({ allowHalfOpen: true, noDelay: true });
    server.on('connection', (socket) => {
      server.close();
      splice(socket, transport);
    });
    // The check is over, and nobody came.
    transport.once('close', () => server.close());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    await this.call('open', { party, port, ...options });
    return new RemoteParty(this, party);
  }

  /** Ends the process. */
  [Symbol.dispose](): void {
    this.#child.kill();
  }
}

class RemoteParty implements Party {
  readonly #remote: Remote;
  readonly #party: number;
  #ending: Ending = 'open';

  constructor(remote: Remote, party: number) {
    this.#remote = remote;
    this.#party = party;
  }

  async #call(name: string, about: object = {}): Promise<string | null> {
    try {
      const { value, ending } = await this.#remote.call(name, { party: this.#party, ...about });
      this.#ending = ending ?? this.#ending;
      return value;
    } catch (error) {
      this.#ending = (error as { ending?: Ending }).ending ?? this.#ending;
      throw error;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#call('write', { bytes: Buffer.from(bytes).toString('base64') });
  }

  async read(): Promise<Uint8Array | null> {
    const bytes = await this.#call('read');
    return bytes === null ? null : Buffer.from(bytes, 'base64');
  }

  async closeWrite(): Promise<void> {
    await this.#call('closeWrite');
  }

  async close(): Promise<void> {
    await this.#call('close');
  }

  destroy(): void {
    // It may be over there already, and whatever it says, the check is over here.
    this.#call('destroy').catch(() => {});
  }

  ending(): Ending {
    return this.#ending;
  }
}
