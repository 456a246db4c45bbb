/**
 * The judgement on a client: never a success with missing bytes, never an error where all was whole;
 * and its page in docs/clients, which says what came out.
 */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Plan } from '../../support/adapter-proxy.ts';
import type { Body, TestServer } from '../../support/adapter-servers.ts';
import {
  ClientProcess,
  cutsOf,
  type How,
  type Outcome,
  type Played,
  type RecordOf,
  type Retried,
} from './clients.ts';

/** A client, and what it has to bring. */
export interface Subject {
  /** Its file in test/peers/clients/programs. */
  readonly program: string;
  readonly server: () => Promise<TestServer>;
  /** What a whole exchange gives. */
  readonly whole: Buffer;
  /** HTTP bodies, one after the other; for all else, one exchange. */
  readonly bodies?: readonly Body[];
  /** Whether it can be made strict without register. */
  readonly hook: boolean;
  /** In how many records of each direction it is cut, five bytes and two kinds of end for each. */
  readonly records: { readonly answer: number; readonly request: number };
  /** Its page in docs/clients, without the ending; by default none. */
  readonly page?: string;
  /** For the page: the ways to ask in CLIENT.again.mjs, and which record of the answers to cut for each. */
  readonly again?: Readonly<Record<string, RecordOf>>;
  /** What the channel says of the host; by default 'localhost'. */
  readonly host?: string | null;
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** All plans of one body, played in one way. */
interface Run {
  readonly how: How;
  readonly body: Body | undefined;
  readonly pass: Played;
  readonly dropped: Played;
  readonly cuts: readonly Played[];
  readonly table: readonly Played[];
}

/** Playing all plans takes seconds; this is for machines that have much else to do. */
const TIMEOUT = 300_000;

const isWhole = ({ whole }: Subject, outcome: Outcome) =>
  outcome.ok && outcome.sha256 === sha256(whole) && outcome.bytes === whole.length;

/** For a failure's message: which plan, and what came of it. */
const told = ({ plan, outcome }: Played) => `${JSON.stringify(plan)}: ${JSON.stringify(outcome)}`;

/**
 * The tests of one client: through a proxy that passes all, without close_notify, and at every kind
 * of cut; as it is, with register, and with its own hook.
 */
export function judge(subject: Subject): void {
  const bodies: readonly (Body | undefined)[] = subject.bodies ?? [undefined];
  const hows: readonly How[] = ['plain', 'register', ...(subject.hook ? (['hook'] as const) : [])];

  describe(subject.page ?? subject.program, { timeout: TIMEOUT }, () => {
    let server: TestServer | undefined;
    beforeAll(async () => {
      server = await subject.server();
    });
    afterAll(() => server?.close());

    const playing = new Map<How, Promise<readonly Run[]>>();
    /** Each way is played once, whichever test asks for it first. */
    const played = (how: How): Promise<readonly Run[]> => {
      let all = playing.get(how);
      if (all === undefined) {
        all = play(subject, how, bodies, server!.port);
        playing.set(how, all);
      }
      return all;
    };

    for (const how of hows) {
      const strict = how !== 'plain';
      describe(how, () => {
        test('what is whole is given whole, with and without the close_notify behind it', async () => {
          for (const { body, pass, dropped } of await played(how)) {
            expect(isWhole(subject, pass.outcome), `${body} ${told(pass)}`).toBe(true);
            expect(pass.connections).toBe(1);
            // "If a transport-level close is received prior to a close_notify, the receiver cannot
            // know that all the data that was sent has been received" (RFC 9846 section 6.1). A body
            // that carries its own length is complete without (RFC 9112 section 9.8).
            const whole = body === 'close' && strict ? !dropped.passage.done : true;
            expect(isWhole(subject, dropped.outcome), `${body} ${told(dropped)}`).toBe(whole);
          }
        });

        if (strict) {
          test('never a success with missing bytes', async () => {
            for (const { body, cuts } of await played(how)) {
              // Not all are reached where a server puts more into one record than the last time.
              const done = cuts.filter(({ passage }) => passage.done);
              expect(done.length).toBeGreaterThan(cuts.length / 4);
              const wrong = cuts.filter(
                ({ outcome, passage }) =>
                  outcome.ok &&
                  (!isWhole(subject, outcome) || (body === 'close' && !passage.closed)),
              );
              expect(wrong.map(told), body).toEqual([]);
            }
          });

          test('never an error where all was whole', async () => {
            for (const { body, cuts } of await played(how)) {
              const wrong = cuts.filter(
                ({ outcome, passage }) =>
                  !isWhole(subject, outcome) &&
                  // What says itself where it ends has done so before a close_notify.
                  (!passage.done || (passage.cutClosing && body !== 'close')),
              );
              expect(wrong.map(told), body).toEqual([]);
            }
          });
        } else if (bodies.includes('close')) {
          test('as it is, it takes a body that was cut for whole', async () => {
            const run = (await played(how)).find(({ body }) => body === 'close');
            const silent = run?.cuts.filter(
              ({ outcome }) => outcome.ok && !isWhole(subject, outcome),
            );
            expect(silent?.length).toBeGreaterThan(0);
          });
        }
      });
    }

    const { page } = subject;
    if (page === undefined) return;
    test('its page says what it reports, and what it tries again', async () => {
      const runs: Run[] = [];
      for (const how of hows) runs.push(...(await played(how)));
      const retried = await retry(subject, server!);
      for (const { way, outcome, whole, passage, told, port, connections, seen } of retried) {
        expect(whole, way).toMatchObject({ ok: true });
        expect(passage.done, way).toBe(true);
        if (outcome.ok) expect(outcome, way).toEqual(whole);
        // What was cut is an answer; no connection carries the same twice.
        expect(seen, way).toBeGreaterThan(0);
        expect(seen, way).toBeLessThanOrEqual(connections);
        // The channel tells of it, whatever the client makes of it. A later connection was not cut.
        const { host = 'localhost' } = subject;
        const [cut, ...later] = told;
        expect(cut, way).toMatchObject({ host, port });
        expect(later.filter(({ incomplete }) => incomplete)).toEqual([]);
      }
      await holdPage(page, subject, runs, hows, bodies, retried);
    });
  });
}

async function play(
  subject: Subject,
  how: How,
  bodies: readonly (Body | undefined)[],
  port: number,
): Promise<readonly Run[]> {
  const client = await ClientProcess.start(subject.program, how);
  const runs: Run[] = [];
  try {
    for (const body of bodies) {
      const pass = await client.play(port, 'pass', body);
      const dropped = await client.play(port, 'drop-close-notify', body);
      // Of Node as it is no more is asked than that these cuts do cut.
      const cutting = how !== 'plain' || body === 'close';
      const plans = cutting ? cutsOf(pass.passage, subject.records) : [];
      const cuts = await client.playAll(port, plans, body);
      const table: Played[] = [];
      const answers = pass.passage['to-client'];
      for (const { plan } of ROWS) table.push(await client.play(port, plan(answers), body));
      runs.push({ how, body, pass, dropped, cuts, table });
    }
    expect(client.uncaught, 'errors that nobody takes').toEqual([]);
    return runs;
  } finally {
    await client.end();
  }
}

/** Whether it tries again, with register. */
async function retry(subject: Subject, server: TestServer): Promise<readonly Retried[]> {
  const client = await ClientProcess.start(subject.program, 'register');
  const retried: Retried[] = [];
  try {
    for (const [way, recordOf] of Object.entries(subject.again ?? {})) {
      // Of HTTP's bodies the one that nothing but TLS can tell to be whole.
      const body = subject.bodies === undefined ? undefined : 'close';
      retried.push(await client.tryAgain(server, way, recordOf, body));
    }
    expect(client.uncaught, 'errors that nobody takes').toEqual([]);
    return retried;
  } finally {
    await client.end();
  }
}

/** The record in the middle of what the server sends. */
export const middle = (answers: readonly number[]) => Math.floor(answers.length / 2);
const inTheMiddle =
  (bytes: (length: number) => number, how: 'fin' | 'reset') =>
  (answers: readonly number[]): Plan => {
    const record = middle(answers);
    return { direction: 'to-client', record, bytes: bytes(answers[record] ?? 0), how };
  };

/** The rows of a page's table. */
const ROWS: readonly { name: string; plan(answers: readonly number[]): Plan }[] = [
  { name: 'close_notify, then FIN', plan: () => 'pass' },
  {
    name: 'FIN before the answer',
    plan: () => ({ direction: 'to-client', record: 0, bytes: 0, how: 'fin' }),
  },
  { name: 'FIN within the answer, between records', plan: inTheMiddle(() => 0, 'fin') },
  { name: 'FIN inside a record', plan: inTheMiddle((length) => length >> 1, 'fin') },
  { name: 'RST within the answer', plan: inTheMiddle((length) => length >> 1, 'reset') },
  { name: 'FIN in place of close_notify', plan: () => 'drop-close-notify' },
];

const HEADS: Readonly<Record<How, string>> = {
  plain: 'Node as it is',
  register: 'with register',
  hook: 'with the hook',
};
const BODY_HEADS: Readonly<Record<Body, string>> = {
  length: 'A body with Content-Length',
  chunked: 'A chunked body',
  close: 'A body that ends with the connection',
};

function cell(subject: Subject, { outcome }: Played): string {
  if (outcome.ok) {
    return isWhole(subject, outcome) ? 'whole' : '**success, with bytes missing**';
  }
  const parts: string[] = [];
  for (let { error } = outcome; ; ) {
    const code = error.code === null ? '' : `\`${error.code}\` `;
    // Times and ports differ from one run to the next.
    const message = error.message
      // grpc-js tells whichever error came last, its own or ours.
      .replace(/(No connection established)\. Last error: .*?(?=\. Resolution note)/, '$1')
      .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)/g, '')
      .replace(/\b(127\.0\.0\.1|localhost):\d+/g, '$1')
      .replaceAll('|', '\\|')
      .replaceAll('\n', ' ');
    parts.push(`${code}${message}`);
    const [cause] = error.causes;
    // got and others wrap an error in one with the same text.
    if (cause === undefined || (cause.code === error.code && cause.message === error.message))
      break;
    error = cause;
  }
  return parts.join('; cause: ');
}

function table(subject: Subject, runs: readonly Run[], hows: readonly How[], body?: Body): string {
  const of = (how: How) => runs.find((run) => run.how === how && run.body === body);
  const lines = [
    `| the connection ends with | ${hows.map((how) => HEADS[how]).join(' | ')} |`,
    `| ${['', ...hows].map(() => '---').join(' | ')} |`,
    ...ROWS.map(({ name }, at) => {
      const cells = hows.map((how) => {
        const one = of(how)?.table[at];
        return one === undefined ? '' : cell(subject, one);
      });
      return `| ${[name, ...cells].join(' | ')} |`;
    }),
  ];
  return lines.join('\n');
}

/** How often the server sees what is asked for once, and what the program gets of it. */
function againTable(retried: readonly Retried[]): string {
  const places = retried.flatMap(({ outcome }) => (outcome.ok ? [] : (outcome.error.reason ?? [])));
  const [place] = new Set(places.map(({ place }) => place));
  const heads = [
    'a cut within the answer to',
    'the server sees it',
    'the program gets',
    '`incomplete` in the channel',
    '`isTruncated(error)`',
    ...(place === undefined ? [] : [place]),
  ];
  const rows = retried.map(({ way, outcome, seen, told }) => {
    const times = seen === 1 ? 'once' : seen === 2 ? 'twice' : `${seen} times`;
    const [truncated, reason] = outcome.ok
      ? ['', '']
      : [outcome.error.truncated, outcome.error.reason?.truncated];
    const cells = [outcome.ok ? 'the answer' : 'an error', told[0]?.incomplete, truncated];
    return [way, times, ...cells, ...(place === undefined ? [] : [reason])];
  });
  return [heads, heads.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

/** The lines of a program between `// #region` and `// #endregion`. */
async function snippetOf(program: string): Promise<string> {
  const file = new URL(`./programs/${program}.mjs`, import.meta.url);
  const found = /^\/\/ #region\n([\s\S]*?)^\/\/ #endregion$/m.exec(await readFile(file, 'utf8'));
  if (found?.[1] === undefined) throw new Error(`${program}.mjs has no region`);
  return found[1].trimEnd();
}

const between = (name: string) => new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- /${name} -->)`);

/** Compares a page with what was measured; with UPDATE_DOCS=1, writes it there. */
async function holdPage(
  page: string,
  subject: Subject,
  runs: readonly Run[],
  hows: readonly How[],
  bodies: readonly (Body | undefined)[],
  retried: readonly Retried[],
): Promise<void> {
  const file = new URL(`../../../docs/clients/${page}.md`, import.meta.url);
  const parts: Record<string, string> = {
    measured: bodies
      .map((body) => {
        const head = body === undefined ? '' : `${BODY_HEADS[body]}:\n\n`;
        return `\n${head}${table(subject, runs, hows, body)}\n`;
      })
      .join(''),
    ...(subject.hook
      ? { snippet: `\n\`\`\`js\n${await snippetOf(`${subject.program}.hook`)}\n\`\`\`\n` }
      : {}),
    again: `\n${againTable(retried)}\n`,
  };
  const before = await readFile(file, 'utf8');
  // Where a snippet helps to try again, it is one that was played.
  if (between('again-snippet').test(before)) {
    const snippet = await snippetOf(`${subject.program}.again`);
    parts['again-snippet'] = `\n\`\`\`ts\n${snippet}\n\`\`\`\n`;
  }
  const update = process.env['UPDATE_DOCS'] === '1';
  // The texts are those of the Node that the project is developed on; another's differ.
  if (!update && !process.versions.node.startsWith('20.')) delete parts['measured'];
  let after = before;
  for (const [name, text] of Object.entries(parts)) {
    expect(before, `${page}.md has a place for '${name}'`).toMatch(between(name));
    after = after.replace(between(name), (_, start, end) => `${start}${text}\n${end}`);
  }
  if (update) await writeFile(file, after);
  else expect(before).toBe(after);
}
