/**
 * `close-notify demo`: why anyone should care, then all scenarios between two embedded parties, as
 * swim lanes, and a table of the verdicts.
 */

import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import Table from 'cli-table3';
import { toAsioErrorCode } from '../closure/asio.ts';
import type { Verdict } from '../closure/verdict.ts';
import { paint } from '../drawing/cells.ts';
import type { Drawing, Tone } from '../drawing/drawing.ts';
import { type PageSection, renderHtml } from '../drawing/html.ts';
import { drawLanes } from '../drawing/lanes.ts';
import { CloseNotifyError } from '../errors.ts';
import { connect } from '../stream/connect.ts';
import { createServer } from '../stream/server.ts';
import type { TlsStream } from '../stream/tls-stream.ts';
import { DEMO_CERT, DEMO_KEY } from './demo-key.ts';
import { EXIT } from './exit.ts';
import { checkOutputs, STANDARD, writeText } from './files.ts';
import { asExpected, NAMES, openPair, type Played, type Protocol, play } from './play.ts';
import { SCENARIOS, type Scenario } from './scenarios.ts';
import { borders } from './table.ts';
import { type Terminal, wrap } from './terminal.ts';

/** Options of the demo. */
export interface DemoOptions {
  /** Draws every scenario in both TLS versions. */
  readonly all?: boolean;
  /** The file that a page with all drawings goes to; `-` is standard output, which is then for it alone. */
  readonly html?: string;
}

/** Both versions, the one that is drawn first. */
const PROTOCOLS: readonly Protocol[] = ['TLSv1.3', 'TLSv1.2'];

/** A party that never answers is not waited for any longer than this, in milliseconds. */
const DEADLINE = 300;

/** Runs the demo. Returns the exit code: not 0 if anything came out other than it should. */
export async function demo(options: DemoOptions, output: Terminal): Promise<number> {
  checkOutputs({ '--html': options.html });
  const terminal = options.html === STANDARD ? silent(output) : output;
  const believed = await showTruncation(terminal);
  heading(terminal, 'Nine ways to end a connection');
  text(
    terminal,
    'A is a TLS client, B a server; both are this library. Each is asked what it knows at the end. ' +
      legend(terminal),
  );
  const results: Result[] = [];
  const sections: PageSection[] = [];
  for (const scenario of SCENARIOS) {
    const both: Result[] = [];
    for (const protocol of PROTOCOLS) both.push(await playOne(scenario, protocol));
    const shown = worthShowing(both, options.all === true);
    show(terminal, scenario, shown);
    sections.push(
      ...shown.map(({ drawing, protocol }) => ({
        title: `${scenario.number}. ${scenario.title}${shown.length > 1 ? ` (${protocol})` : ''}`,
        ending: scenario.number,
        drawing,
      })),
    );
    results.push(...both);
  }
  if (options.html !== undefined) {
    const page = renderHtml(sections, { title: 'Nine ways to end a TLS connection' });
    writeText('--html', options.html, page, output);
  }
  heading(terminal, 'All verdicts');
  terminal.write(`${table(terminal, results)}\n`);
  const wrong = results.filter(({ scenario, played }) => !asExpected(scenario, played));
  if (wrong.length === 0 && believed) {
    text(
      terminal,
      `${results.length} of ${results.length} runs ended with the verdicts that they should. Next: close-notify probe HOST`,
    );
    return EXIT.ok;
  }
  for (const { scenario, protocol, played } of wrong) {
    const { A, B } = scenario.verdicts;
    text(
      terminal,
      `UNEXPECTED: scenario ${scenario.number} in ${protocol}: ${played.A.verdict} at A and ` +
        `${played.B.verdict} at B, where ${A} and ${B ?? 'anything'} were expected`,
    );
  }
  if (!believed) text(terminal, 'UNEXPECTED: the truncated response was not taken as shown above');
  return EXIT.notSecure;
}

/** A terminal that nothing comes out of. */
const silent = (terminal: Terminal): Terminal => ({
  ...terminal,
  ...{ write() {}, draw() {}, paragraph() {} },
});

// ---- why anyone should care

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n';
const SENT = 'Pay $100 to Alice';
const CUT = ', not before she has delivered.';

/** The same truncated response, to Node's `fetch` and to this library. Whether both did as told. */
async function showTruncation(terminal: Terminal): Promise<boolean> {
  heading(terminal, 'Why it matters how a connection ends');
  text(
    terminal,
    `An HTTPS server has this to send, and its body ends where the connection ends: "${SENT}${CUT}" ` +
      'After the first half the TCP connection ends. Here the server does that; anybody on the path ' +
      'could, without being able to read a byte. What never came is close_notify, the TLS message ' +
      'that says "this was all".',
  );
  await using server = createServer({ cert: DEMO_CERT, key: DEMO_KEY }, sendHalf);
  const { port } = await server.listen(0, '127.0.0.1');
  const fetched = await fetchInNode(`https://127.0.0.1:${port}/`);
  const read = await readWithStream(port);

  terminal.write('\n');
  example(terminal, "Node's own fetch", 'await (await fetch(url)).text()', {
    tone: fetched.error === null ? 'bad' : 'plain',
    text:
      fetched.error === null
        ? `resolves: "${fetched.body}"  (as if that were all)`
        : `rejects: ${fetched.error}`,
  });
  example(terminal, 'close-notify', 'for await (const bytes of stream) { ... }', {
    tone: read.error === null ? 'bad' : 'good',
    text:
      read.error === null ? `ends: "${read.body}"` : `throws ${read.error}, after "${read.body}"`,
  });
  return fetched.body === SENT && read.error === 'ERR_TLS_TRUNCATED' && read.body === SENT;
}

/** What a reader made of the response. */
interface Reading {
  readonly body: string;
  readonly error: string | null;
}

/** Answers any request with the first half of a response, and a bare FIN. */
async function sendHalf(stream: TlsStream, transport: { end(): unknown }): Promise<void> {
  await stream.read();
  const half = HEAD + SENT;
  await stream.write(half);
  // Node's TLS hands it over in the turn behind that of its session tickets.
  for (let i = 0; i < 4; i++) await turn();
  transport.end();
}

/**
 * Node's global fetch, in a process of its own: the one way to have it trust the demo's certificate
 * without turning verification off is NODE_EXTRA_CA_CERTS, which is read when a process starts.
 */
async function fetchInNode(url: string): Promise<Reading> {
  const directory = await mkdtemp(join(tmpdir(), 'close-notify-demo-'));
  try {
    const file = join(directory, 'ca.pem');
    await writeFile(file, DEMO_CERT);
    return JSON.parse(await runNode(FETCH, url, file)) as Reading;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const FETCH = `
const [url] = process.argv.slice(-1);
let body = '', error = null;
try {
  body = await (await fetch(url)).text();
} catch (cause) {
  error = String(cause.cause?.code ?? cause);
}
process.stdout.write(JSON.stringify({ body, error }));
`;

function runNode(script: string, argument: string, extraCa: string): Promise<string> {
  // Nothing from outside may decide what fetch does: no preload, no proxy.
  const { NODE_OPTIONS: _, NODE_USE_ENV_PROXY: __, ...env } = process.env;
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ['--input-type=module', '--eval', script, argument],
      { env: { ...env, NODE_EXTRA_CA_CERTS: extraCa }, timeout: 20_000 },
      (error, stdout) => (error === null ? resolve(stdout) : reject(error)),
    );
  });
}

async function readWithStream(port: number): Promise<Reading> {
  let body = '';
  try {
    await using stream = await connect({ host: '127.0.0.1', port, ca: DEMO_CERT });
    await stream.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    for await (const bytes of stream) body += Buffer.from(bytes).toString();
    return { body: body.replace(HEAD, ''), error: null };
  } catch (error) {
    if (!(error instanceof CloseNotifyError)) throw error;
    return { body: body.replace(HEAD, ''), error: error.code };
  }
}

// ---- the scenarios

/** One scenario, played. */
interface Result {
  readonly scenario: Scenario;
  readonly protocol: Protocol;
  readonly played: Played;
  readonly drawing: Drawing;
}

async function playOne(scenario: Scenario, protocol: Protocol): Promise<Result> {
  const timesOut = scenario.verdicts.A === 'timed-out';
  await using pair = await openPair({ protocol, ...(timesOut ? { deadline: DEADLINE } : {}) });
  const { A, B } = pair;
  const played = await play(scenario, A, B);
  const drawing = drawLanes(
    { name: NAMES.A, transcript: A.transcript },
    { name: NAMES.B, transcript: B.transcript },
    { protocol, opening: false },
  );
  return { scenario, protocol, played, drawing };
}

/** Both versions only where they end differently, or all are asked for. */
function worthShowing(results: readonly Result[], all: boolean): Result[] {
  return results.filter(
    (result, index) => index === 0 || all || !sameVerdicts(results[0] as Result, result),
  );
}

function show(terminal: Terminal, scenario: Scenario, results: readonly Result[]): void {
  heading(terminal, `${scenario.number}. ${scenario.title}`);
  for (const [index, { drawing }] of results.entries()) {
    if (index > 0) terminal.write('\n');
    terminal.draw(drawing);
    terminal.write('\n');
    text(terminal, coloured(terminal, drawing.story.tone, drawing.story.headline));
  }
}

const sameVerdicts = (one: Result, two: Result): boolean =>
  one.played.A.verdict === two.played.A.verdict && one.played.B.verdict === two.played.B.verdict;

// ---- the table

/** One row for each scenario; two where the versions differ. */
function table(terminal: Terminal, results: readonly Result[]): string {
  const widths = { number: 4, tls: 5, verdict: 11, borders: 7 };
  const left = Math.min(terminal.width, 120);
  const rest = left - widths.number - widths.tls - 2 * widths.verdict - widths.borders;
  const scenario = Math.max(12, Math.ceil(rest * 0.58));
  const drawn = new Table({
    head: ['', 'scenario', 'TLS', 'A', 'B', 'Boost.Asio at A'],
    colWidths: [
      widths.number,
      scenario,
      widths.tls,
      widths.verdict,
      widths.verdict,
      Math.max(8, rest - scenario),
    ],
    wordWrap: true,
    style: { head: [], border: [], 'padding-left': 1, 'padding-right': 0 },
    chars: borders(terminal),
  });
  for (const one of SCENARIOS) {
    const versions = results.filter(({ scenario: { number } }) => number === one.number);
    const [first, second] = versions;
    const same = first && second && cells(first).join() === cells(second).join();
    for (const result of same ? [first] : versions) {
      const tls = same ? '1.2\n1.3' : result.protocol.replace('TLSv', '');
      const [a = '', b = '', asio = ''] = cells(result);
      drawn.push([one.number, one.title, tls, verdict(terminal, a), verdict(terminal, b), asio]);
    }
  }
  return drawn.toString();
}

/** What a row says of a run. */
function cells({ played }: Result): string[] {
  const { A, B } = played;
  const asio = A.closure === null ? null : toAsioErrorCode(A.closure);
  return [A.verdict ?? '-', B.verdict ?? '-', asio === null ? '-' : asio.message];
}

const TONES: Partial<Record<Verdict, Tone>> = {
  secure: 'good',
  truncated: 'bad',
  alert: 'bad',
  'one-sided': 'warn',
  aborted: 'warn',
  'timed-out': 'warn',
};

const verdict = (terminal: Terminal, name: string): string =>
  coloured(terminal, TONES[name as Verdict] ?? 'plain', name);

// ---- printing

function coloured(terminal: Terminal, tone: Tone, words: string): string {
  return terminal.colour ? paint(tone, words) : words;
}

function heading(terminal: Terminal, title: string): void {
  const line = terminal.charset === 'ascii' ? '-' : '─';
  const lines = wrap(title, terminal.width).trimEnd();
  const longest = Math.max(...lines.split('\n').map(({ length }) => length));
  terminal.write(`\n${lines}\n${line.repeat(longest)}\n`);
}

function text(terminal: Terminal, words: string): void {
  terminal.write(wrap(words, Math.min(terminal.width, 100)));
}

function example(
  terminal: Terminal,
  who: string,
  code: string,
  outcome: { readonly tone: Tone; readonly text: string },
): void {
  terminal.write(`  ${who}:  ${code}\n`);
  terminal.write(`    ${coloured(terminal, outcome.tone, outcome.text)}\n`);
}

function legend({ charset }: Terminal): string {
  return charset === 'ascii'
    ? 'Arrows: ==> close_notify, __> FIN (the transport ends), xx> RST (it is reset). Each party has its ' +
        'application, its TLS and its TCP.'
    : 'Arrows: ═▶ close_notify, ╌▷ FIN (the transport ends), ╳▷ RST (it is reset). Each party has its ' +
        'application, its TLS and its TCP.';
}
