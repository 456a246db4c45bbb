/**
 * What `register` covers: a program connects in all the ways that there are, in each Node, with register loaded in each
 * way. What is not covered stands in docs/strict.md.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { describeNodes } from '../../support/describe-nodes.ts';
import { MAJORS, type Major, nodes } from '../../support/runtimes.ts';
import { wired } from '../../support/strict-wire.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const PROGRAMS = fileURLToPath(new URL('reach/', import.meta.url));
const PAGE = join(ROOT, 'docs/strict.md');
const REGISTER = 'close-notify/register';

/** How register is loaded. Those of one column of the table have to cover the same. */
const COLUMNS = {
  '`--import`': [['--import', REGISTER, 'program.mjs']],
  '`-r`': [['-r', REGISTER, 'program.mjs']],
  NODE_OPTIONS: [['program.mjs']],
  '`import`, `require()`': [['import.mjs'], ['require.cjs']],
} as const;
type Column = keyof typeof COLUMNS;

/** Why a way to connect is not covered, and what to do: each way that is not. */
const REASONS: Readonly<Record<string, readonly [what: string, why: string]>> = {
  'tls.connect, taken out before': [
    '`const { connect } = require("tls")` before register was loaded',
    'The program holds the function itself. Load register first. (`import { connect }` is looked up again, and covered.)',
  ],
  'Worker, taken out before': [
    '`const { Worker } = require("worker_threads")`, likewise',
    'Likewise.',
  ],
  'fork, taken out before': ['`const { fork } = require("child_process")`, likewise', 'Likewise.'],
  'spawn, taken out before': [
    '`const { execFile } = require("child_process")`, likewise',
    'Likewise.',
  ],
  'new tls.TLSSocket': [
    '`new tls.TLSSocket(socket)` by hand',
    'A class, which programs extend and compare with, is not replaced. Use `secureSocket({ socket })`.',
  ],
  'module.register': [
    'hooks of `module.register`',
    'Node makes their thread by itself. Import `close-notify/register` in the hooks.',
  ],
  exec: [
    '`exec`, and programs that are not this Node',
    'What a shell runs, or another program, nobody knows before; another Node may lack what we need. Give it `NODE_OPTIONS`.',
  ],
  'spawn, shell': ['`spawn` with `shell`', 'Likewise.'],
  'spawn, permission': [
    'a process with `--permission` of its own',
    'It may not be allowed to read this package, and would not start. Allow it (`--allow-fs-read`), and load register by its flags.',
  ],
};

/** Servers of HTTP/1.1 and HTTP/2 that answer with half of something, and are cut. */
async function cutting(scope: Scope): Promise<readonly string[]> {
  const one = tls.createServer(pki().server);
  const first = await wired(scope, one);
  one.on('secureConnection', (socket) => {
    scope.defer(() => socket.destroy());
    const wire = first.wires.at(-1);
    socket.once('data', async () => {
      const half = 'HTTP/1.1 200 OK\r\n\r\nPay $100';
      await new Promise<void>((resolve) => socket.write(half, () => resolve()));
      await wire?.cut('FIN');
    });
  });
  const two = http2.createSecureServer(pki().server);
  const second = await wired(scope, two);
  two.on('sessionError', () => {});
  two.on('stream', async (stream) => {
    const wire = second.wires.at(-1);
    stream.on('error', () => {});
    stream.respond({ ':status': 200 });
    await new Promise<void>((resolve) => stream.write('Pay $100', () => resolve()));
    await wire?.cut('FIN');
  });
  return [String(first.port), String(second.port)];
}

type Seen = Readonly<Record<string, string>>;

/** What a program saw, with register loaded in this way; each is asked once. */
const measured = new Map<string, Promise<Seen>>();

function measure(
  node: string,
  major: Major,
  column: Column,
  args: readonly string[],
): Promise<Seen> {
  const key = [node, column, ...args].join(' ');
  // Its thread of hooks loads what `-r` names, and cannot load an ES module so: the process would end.
  const omitted = major === 22 && args[0] === '-r' ? ['module.register'] : [];
  const present = measured.get(key) ?? look(node, column, args, omitted);
  measured.set(key, present);
  return present;
}

async function look(
  node: string,
  column: Column,
  args: readonly string[],
  omitted: readonly string[],
): Promise<Seen> {
  let seen: Seen = {};
  await clean(async (scope) => {
    scope.peersStay();
    const ports = await cutting(scope);
    const folder = mkdtempSync(join(tmpdir(), 'close-notify-reach-'));
    scope.defer(() => rmSync(folder, { recursive: true }));
    const ca = join(folder, 'ca.pem');
    writeFileSync(ca, pki().ca);
    const env = {
      PATH: process.env['PATH'],
      NODE_EXTRA_CA_CERTS: ca,
      ...(column === 'NODE_OPTIONS' ? { NODE_OPTIONS: `--import ${REGISTER}` } : {}),
    };
    const all = [...args.slice(0, -1), `${PROGRAMS}${args.at(-1)}`, ...ports, ...omitted];
    const { stdout } = await promisify(execFile)(node, all, { cwd: ROOT, env, timeout: 100_000 });
    seen = JSON.parse(stdout);
  })();
  return seen;
}

const loads = (Object.keys(COLUMNS) as Column[]).flatMap((column) =>
  COLUMNS[column].map((args) => [column, args] as const),
);

describeTls('register', () => {
  describeNodes('covers what it can', (node, major) => {
    for (const [column, args] of loads) {
      test(`loaded by ${column}, ${args.at(-1)}`, async () => {
        const seen = await measure(node, major, column, args);
        expect(Object.keys(seen).length).toBeGreaterThan(25);
        for (const [way, what] of Object.entries(seen)) {
          if (!(way in REASONS)) expect(what, way).toBe('strict');
          else expect(['strict', 'end'], way).toContain(what);
        }
      }, 120_000);
    }
  });

  const all = nodes();
  const missing = all.some(({ path }) => path === null) && process.env['REQUIRE_PEERS'] !== '1';
  test.skipIf(missing)(
    'docs/strict.md says what it does not cover',
    async () => {
      /** For each way and each column, the Nodes in which it is strict. */
      const strict = new Map<string, Set<Major>>();
      const cell = (way: string, column: Column) => `${way} | ${column}`;
      for (const { major, path } of all) {
        for (const column of Object.keys(COLUMNS) as Column[]) {
          const ofColumn: Seen[] = [];
          for (const args of COLUMNS[column])
            ofColumn.push(await measure(String(path), major, column, args));
          for (const way of Object.keys(REASONS)) {
            const [what, ...others] = ofColumn.flatMap((seen) => seen[way] ?? []);
            expect(others, `${way}, Node ${major}, ${column}`).toEqual(others.map(() => what));
            const majors = strict.get(cell(way, column)) ?? new Set();
            if (what === 'strict') majors.add(major);
            strict.set(cell(way, column), majors);
          }
        }
      }
      const text = (majors: ReadonlySet<Major>) =>
        majors.size === 0
          ? 'as in Node'
          : majors.size === MAJORS.length
            ? 'strict'
            : `strict on Node ${[...majors].join(', ')}`;
      const columns = Object.keys(COLUMNS) as Column[];
      const rows = Object.entries(REASONS).map(([way, [what, why]]) => {
        const cells = columns.map((column) => text(strict.get(cell(way, column)) as Set<Major>));
        expect(cells.join(), `${way} is covered: it needs no reason`).not.toMatch(/^(strict,?)+$/);
        return `| ${[what, ...cells, why].join(' | ')} |`;
      });
      const table = [
        `| what is not covered | ${columns.join(' | ')} | why, and what to do |`,
        `|---|${columns.map(() => '---|').join('')}---|`,
        ...rows,
      ].join('\n');
      const held = readFileSync(PAGE, 'utf8');
      const place =
        /(?<=<!-- Made by test\/behaviour\/strict\/reach\.test\.ts[^\n]*-->\n\n)[\s\S]*?(?=\n\n<!-- \/ -->)/;
      expect(held).toMatch(place);
      const now = held.replace(place, () => table);
      if (process.env['UPDATE_DOCS'] === '1') writeFileSync(PAGE, now);
      else
        expect(held, 'UPDATE_DOCS=1 npx vitest run test/behaviour/strict/reach.test.ts').toBe(now);
    },
    600_000,
  );
});
