/** The clients of the tests, each in a process of its own, and what they make of a cut. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Cut, CuttingProxy, type Passage, type Plan } from '../../support/adapter-proxy.ts';
import type { Body, TestServer } from '../../support/adapter-servers.ts';
import { testPki } from '../../support/interop-pki.ts';

/** Node as it is; with `--import close-notify/register`; the client's own hook, no register. */
export type How = 'plain' | 'register' | 'hook';

/** An error as a program saw it. */
export interface SeenError {
  readonly name: string;
  readonly code: string | number | null;
  readonly message: string;
  readonly causes: readonly SeenError[];
  /** Where it was asked whether the client tries again: what isTruncated says of this error. */
  readonly truncated?: boolean;
  /** Likewise: what it says of another place, where there is one that knows more. */
  readonly reason?: { readonly place: string; readonly truncated: boolean };
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

/** What came of a cut within the answer on a client's first connection, where all later ones pass. */
export interface Retried extends Played {
  /** Which of the client's ways to ask. */
  readonly way: string;
  /** What came of the same without a cut. */
  readonly whole: Outcome;
  /** How often the server has seen what was asked of it. */
  readonly seen: number;
  /** What the channel close-notify.truncated told of these connections. */
  readonly told: readonly {
    readonly incomplete: boolean;
    readonly host: string | null;
    readonly port: number | null;
  }[];
  /** The port that they went to. */
  readonly port: number;
}

/** Which record of an answer to cut, by the lengths of those of one that passed. */
export type RecordOf = (answers: readonly number[]) => Cut['record'];

const RUN = fileURLToPath(new URL('./programs/run.mjs', import.meta.url));
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** At so many a time, the connections of one client keep two cores busy. */
const AT_A_TIME = 8;

/** A client that takes cases until it is told to end. */
export class ClientProcess {
  readonly #child;
  readonly #closed: Promise<unknown>;
  readonly #waiting = new Map<number, (answer: unknown) => void>();
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
      const { id, ...answer } = JSON.parse(line) as { id: number | null; error: SeenError };
      if (id === null) {
        this.uncaught.push(answer.error);
        return;
      }
      this.#waiting.get(id)?.(answer);
      this.#waiting.delete(id);
    });
  }

  /** @param program - a file of test/peers/clients/programs, without its ending. */
  static async start(program: string, how: How): Promise<ClientProcess> {
    const { certFile } = await testPki();
    return new ClientProcess(program, how, certFile);
  }

  /** @returns what run.mjs answers to this. */
  async #ask<Answer>(to: Readonly<Record<string, unknown>>): Promise<Answer> {
    const id = this.#next++;
    const answer = new Promise<unknown>((resolve) => this.#waiting.set(id, resolve));
    this.#child.stdin.write(`${JSON.stringify({ id, ...to })}\n`);
    const ended = this.#closed.then(() => {
      throw new Error(`the client ended:\n${this.#stderr}`);
    });
    const answered = (await Promise.race([answer, ended])) as Answer & { unanswered?: SeenError };
    if (answered.unanswered !== undefined) throw new Error(JSON.stringify(answered.unanswered));
    return answered;
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
      return await this.#playThrough(proxy, plan, { body });
    } finally {
      await proxy.close();
    }
  }

  async #playThrough(
    proxy: CuttingProxy,
    plan: Plan,
    asked: { readonly body: Body | undefined; readonly again?: string },
  ): Promise<Played> {
    const outcome = await this.#ask<Outcome>({ port: proxy.port, ...asked });
    const passage = proxy.passages.find(({ done }) => done) ?? proxy.passages.at(-1);
    if (passage === undefined) throw new Error(`no connection: ${JSON.stringify(outcome)}`);
    return { plan, outcome, passage, connections: proxy.passages.length };
  }

  /**
   * Whether the client tries again: one exchange that passes, and one whose first connection is cut.
   *
   * @param way - one of `again` in CLIENT.again.mjs.
   * @param recordOf - says which record to cut, told the lengths of all that passed.
   */
  async tryAgain(
    server: TestServer,
    way: string,
    recordOf: RecordOf,
    body?: Body,
  ): Promise<Retried> {
    const asked = { body, again: way };
    // Asked once before, a database has what it counts with.
    await this.#seenBy(server);
    const passing = await CuttingProxy.listen(server.port, 'pass');
    let whole: Played;
    try {
      whole = await this.#playThrough(passing, 'pass', asked);
    } finally {
      await passing.close();
    }
    const record = recordOf(whole.passage['to-client']);
    // Its header, and a part of its body.
    const plan: Plan = { direction: 'to-client', record, bytes: 10, how: 'fin' };
    const proxy = await CuttingProxy.listen(server.port, plan, this.settled, 'pass');
    try {
      const before = await this.#seenBy(server);
      const played = await this.#playThrough(proxy, plan, asked);
      await this.settled();
      const seen = (await this.#seenBy(server)) - before;
      const { port } = proxy;
      const { told } = await this.#ask<Pick<Retried, 'told'>>({ port, told: true });
      return { ...played, way, whole: whole.outcome, seen, told, port };
    } finally {
      await proxy.close();
    }
  }

  async #seenBy({ port, seen }: TestServer): Promise<number> {
    return seen?.() ?? (await this.#ask<{ seen: number }>({ port, seen: true })).seen;
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
