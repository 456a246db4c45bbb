/**
 * Runs files of cases in child processes of each Node, plain and with `close-notify/register`, and compares.
 *
 * The children run JavaScript, as programs do: Node 20 knows no types, so the cases are stripped of
 * theirs into a directory that is gone when the process ends. `register` comes from `dist/`.
 *
 * For looking at a case by hand:
 * - BEHAVIOUR_CASE=TEXT runs only cases with that text in their name.
 * - BEHAVIOUR_SHOW=1 prints the plain outcomes.
 * - BEHAVIOUR_PLAIN=1 compares plain with plain: whether the cases agree with themselves.
 */
import { fork } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addOn } from '../../../src/add-on.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { describeNodes } from '../../support/describe-nodes.ts';
import type { Case, Outcome } from './env.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const REGISTER = join(ROOT, 'dist/strict/register.js');
const SOURCES = [
  'test/behaviour/drop-ins/env.ts',
  'test/behaviour/drop-ins/child.ts',
  'test/behaviour/drop-ins/programs.ts',
];
const PLAIN_ONLY = process.env['BEHAVIOUR_PLAIN'] === '1';

type Outcomes = ReadonlyMap<string, Outcome>;

/** The ways of a drop-in, and what asks for them. */
const WAYS = {
  'with the add-on': { CLOSE_NOTIFY_REQUIRE_NATIVE: '1' },
  'without the add-on': { CLOSE_NOTIFY_NATIVE: '0' },
} as const;

/** Whether the add-on is there; where it is not, its way is skipped, and fails with REQUIRE_PEERS=1. */
const hasAddOn = addOn().native !== null;

/**
 * Declares a test for each case of `test/behaviour/drop-ins/NAME.cases.ts`, in each Node, with the add-on and without.
 *
 * @param title what the cases have in common
 */
export function compare(title: string, name: string, cases: readonly Case[]): void {
  describeTls(`behaves as before: ${title}`, () => compareInEach(name, cases));
}

function compareInEach(name: string, cases: readonly Case[]): void {
  const only = process.env['BEHAVIOUR_CASE'];
  const chosen = cases.filter((one) => only === undefined || one.name.includes(only));
  let dir: string;
  let main: string;
  let setup: string;
  let file: string;

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'close-notify-behaviour-'));
    const source = `test/behaviour/drop-ins/${name}.cases.ts`;
    for (const one of [...SOURCES, source]) strip(one, dir);
    writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
    const stripped = (path: string) => join(dir, path.replace('.ts', '.js'));
    setup = join(dir, 'setup.json');
    main = stripped(SOURCES[1]!);
    file = pathToFileURL(stripped(source)).href;
    const programs = pathToFileURL(stripped(SOURCES[2]!)).href;
    writeFileSync(setup, JSON.stringify({ pki: pki(), programs }));
    if (!PLAIN_ONLY && !existsSync(REGISTER)) {
      throw new Error(`${REGISTER} is missing: npm run build`);
    }
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  const run = (node: string, execArgv: readonly string[], env: NodeJS.ProcessEnv) =>
    outcomes(chosen, (from) => [main, setup, '--cases', file, String(cases.indexOf(from))], {
      execPath: node,
      execArgv,
      env,
    });

  describeNodes(name, (node) => {
    let plain: Outcomes;
    let strict: ReadonlyMap<string, Outcomes>;

    beforeAll(async () => {
      const register = PLAIN_ONLY ? [] : ['--import', pathToFileURL(REGISTER).href];
      const ways = Object.entries(WAYS).filter(([way]) => hasAddOn || way === 'without the add-on');
      const [first, ...others] = await Promise.all([
        run(node, [], {}),
        ...ways.map(([, env]) => run(node, register, env)),
      ]);
      plain = first;
      strict = new Map(others.map((outcome, at) => [ways[at]![0], outcome]));
    });

    for (const way of Object.keys(WAYS)) {
      const absent = way === 'with the add-on' && !hasAddOn;
      describe.skipIf(absent && process.env['REQUIRE_PEERS'] !== '1')(way, () => {
        it.each(chosen.map((one) => [one.name, one] as const))('%s', (_name, one) => {
          const before = plain.get(one.name);
          const after = strict.get(way)?.get(one.name);
          if (before === undefined || after === undefined) throw new Error('the case did not run');
          for (const outcome of [before, after]) {
            expect(
              outcome['case'],
              `the case itself failed: ${JSON.stringify(outcome)}`,
            ).toBeUndefined();
          }
          if (process.env['BEHAVIOUR_SHOW'] === '1') console.log(one.name, before);
          const wanted: Record<string, readonly string[]> = { ...before };
          for (const [track, { plain: was, strict: is }] of Object.entries(one.differs)) {
            const lines = before[track] ?? [];
            expect(lines.slice(-was.length), `plain: the end of ${track}`).toEqual(was);
            if (!PLAIN_ONLY) wanted[track] = [...lines.slice(0, -was.length), ...is];
          }
          expect(after).toEqual(wanted);
          // A case that noted nothing would agree with anything.
          expect(Object.values(before).flat().length).toBeGreaterThan(0);
        });
      });
    }
  });
}

function strip(path: string, dir: string): void {
  const { outputText } = ts.transpileModule(readFileSync(join(ROOT, path), 'utf8'), {
    fileName: path,
    compilerOptions: {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ES2022,
      verbatimModuleSyntax: true,
      rewriteRelativeImportExtensions: true,
    },
  });
  const target = join(dir, path.replace('.ts', '.js'));
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, outputText);
}

/** What a child process runs in. */
interface Child {
  readonly execPath: string;
  readonly execArgv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** What the cases came to. One that takes its process down is told so, and the rest go on in another. */
async function outcomes(
  cases: readonly Case[],
  argsFrom: (first: Case) => [main: string, ...args: string[]],
  { execPath, execArgv, env }: Child,
): Promise<Outcomes> {
  const found = new Map<string, Outcome>();
  for (let done = 0; done < cases.length; ) {
    const [main, ...args] = argsFrom(cases[done]!);
    const end = await new Promise<string>((resolve, reject) => {
      const child = fork(main, args, {
        execArgv: [...execArgv],
        execPath,
        // Vitest's own settings are none of the child's business.
        env: { PATH: process.env['PATH'], BEHAVIOUR_CASE: process.env['BEHAVIOUR_CASE'], ...env },
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      });
      child.on('message', ({ name, outcome }: { name: string; outcome: Outcome }) => {
        found.set(name, outcome);
        done++;
      });
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(signal ?? `exit ${code}`));
    });
    if (done < cases.length) {
      found.set(cases[done]!.name, { case: [`its process ended: ${end}`] });
      done++;
    }
  }
  return found;
}
