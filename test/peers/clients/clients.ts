/** The clients of the tests, each in a process of its own, and what they make of a cut. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { CuttingProxy, type Passage, type Plan } from '../../support/adapter-proxy.ts';
import type { Body } from '../../support/adapter-servers.ts';
import { testPki } from '../../support/interop-pki.ts';

/** Node as it is; with `--import close-notify/register`; the client's own hook, no register. */
export type How = 'plain' | 'register' | 'hook';

/** An error as a program saw it. */
export interface SeenError {
  readonly name: string;
  readonly code: string | number | null;
  readonly message: string;
  readonly causes: readonly SeenError[];
}

/** What came of an exchange. */
export type Outcome =
  | { readonly ok: true; readonly bytes: number; readonly sha256: string }
  | { readonly ok: false; readonly error: SeenError };

/** A plan, carried out. */
export interface Played {
  readonly plan: Plan;
  readonly outcome: Outcome;
  /** The connection that was cut, or the last one that the client made. */
  readonly passage: Passage;
  /** How many connections it made. */
  readonly connections: number;
}

const RUN = fileURLToPath(new URL('./programs/run.mjs', import.meta.url));
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** At so many a time, the connections of one client keep two cores busy. */
const AT_A_TIME = 8;

/** A client that takes cases until it is told to end. */
export class ClientProcess {
  readonly #child;
  readonly #closed: Promise<unknown>;
  readonly #waiting = new Map<number, (outcome: Outcome) => void>();
  /** Errors that nobody took: they would have ended a program. */
  readonly uncaught: SeenError[] = [];
  #stderr = '';
  #next = 0;

  private constructor(program: string, how: How, ca: string) {
    this.#child = spawn(
      process.execPath,
      [...(how === 'register' ? ['--import', 'close-notify/register'] : []), RUN, program, how],
      {
        // The package finds itself by its name from here.
        cwd: ROOT,
        env: { PATH: process.env['PATH'], NODE_EXTRA_CA_CERTS: ca },
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    );
    this.#closed = once(this.#child, 'close');
    // Its end is told by 'close'.
    this.#child.stdin.on('error', () => {});
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const { id, ...outcome } = JSON.parse(line) as { id: number | null } & Outcome;
      if (id === null) {
        if (!outcome.ok) this.uncaught.push(outcome.error);
        return;
      }
      this.#waiting.get(id)?.(outcome as Outcome);
      this.#waiting.delete(id);
    });
  }

  /** @param program - a file of test/peers/clients/programs, without its ending. */
  static async start(program: string, how: How): Promise<ClientProcess> {
    const { certFile } = await testPki();
    return new ClientProcess(program, how, certFile);
  }

  async #ask(to: Readonly<Record<string, unknown>>): Promise<Outcome> {
    const id = this.#next++;
    const outcome = new Promise<Outcome>((resolve) => this.#waiting.set(id, resolve));
    this.#child.stdin.write(`${JSON.stringify({ id, ...to })}\n`);
    const ended = this.#closed.then(() => {
      throw new Error(`the client ended:\n${this.#stderr}`);
    });
    return Promise.race([outcome, ended]);
  }

  /**
   * Resolves when it has read what had arrived for it: it polls all its sockets and the pipe of these
   * questions at once, so behind the second answer there is a whole turn of its event loop.
   */
  readonly settled = async (): Promise<void> => {
    for (let turn = 0; turn < 2; turn++) await this.#ask({ settled: true });
  };

  /** One exchange with `port`, through a proxy with this plan. */
  async play(port: number, plan: Plan, body?: Body): Promise<Played> {
    const proxy = await CuttingProxy.listen(port, plan, this.settled);
    try {
      const outcome = await this.#ask({ port: proxy.port, body });
      const passage = proxy.passages.find(({ done }) => done) ?? proxy.passages.at(-1);
      if (passage === undefined) throw new Error(`no connection: ${JSON.stringify(outcome)}`);
      return { plan, outcome, passage, connections: proxy.passages.length };
    } finally {
      await proxy.close();
    }
  }

  /** All of these, several at a time. */
  async playAll(port: number, plans: readonly Plan[], body?: Body): Promise<Played[]> {
    const played: Played[] = new Array(plans.length);
    const left = plans.entries();
    const one = async () => {
      for (const [at, plan] of left) played[at] = await this.play(port, plan, body);
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, one));
    return played;
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    this.#child.kill();
    await this.#closed;
  }
}

/** Up to `count` of 0 to `length - 1`, spread evenly, first and last among them. */
function spread(length: number, count: number): number[] {
  if (length <= count) return Array.from({ length }, (_, n) => n);
  return Array.from({ length: count }, (_, n) => Math.round((n * (length - 1)) / (count - 1)));
}

/** Bytes of a record that pass: none, part of its header, all of it, part of the body, all but one. */
const within = (length: number, record: number) => [
  0,
  1 + (record % 4),
  5,
  // Another part in each record.
  6 + Math.floor(((length - 7) * ((record * 3) % 8)) / 8),
  length - 1,
];

/**
 * Every kind of cut, along a connection of this shape.
 *
 * @param records - in how many records to cut, of each direction.
 */
export function cutsOf(shape: Passage, records: { answer: number; request: number }): Plan[] {
  const along = (direction: 'to-client' | 'to-server', count: number) =>
    spread(shape[direction].length, count).flatMap((record) =>
      within(shape[direction][record] ?? 0, record).flatMap((bytes) =>
        (['fin', 'reset'] as const).map(
          (how): Plan => ({ direction, record, bytes, how, victim: 'client' }),
        ),
      ),
    );
  return [...along('to-client', records.answer), ...along('to-server', records.request)];
}
