/**
 * Runs files of cases in child processes, plain and with `close-notify/register`, and compares.
 *
 * The children run JavaScript, as programs do: Node 20 knows no types, so the cases are stripped of
 * theirs into a directory that is gone when the process ends. `register` comes from `dist/`.
 *
 * For looking at a case by hand:
 * - BEHAVIOUR_CASE=TEXT runs only cases with that text in their name.
 * - BEHAVIOUR_NODE=/path/to/node runs the children under another Node.
 * - BEHAVIOUR_SHOW=1 prints the plain outcomes.
 * - BEHAVIOUR_REGISTER=/path/to/file imports that file in place of `register`; with BEHAVIOUR_SAME=1 nothing may
 *   differ from plain, not even where a stream is truncated.
 * - BEHAVIOUR_PLAIN=1 compares plain with plain: whether the cases agree with themselves.
 */
import { fork } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Case, Outcome } from './behaviour-env.ts';
import { describeTls, pki } from './core-pki.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const REGISTER = process.env['BEHAVIOUR_REGISTER'] ?? join(ROOT, 'dist/strict/register.js');
const SOURCES = [
  'test/support/behaviour-env.ts',
  'test/support/behaviour-child.ts',
  'test/strict/behaviour/programs.ts',
];
const PLAIN_ONLY = process.env['BEHAVIOUR_PLAIN'] === '1';
const SAME = PLAIN_ONLY || process.env['BEHAVIOUR_SAME'] === '1';

type Outcomes = ReadonlyMap<string, Outcome>;

/**
 * Declares one test for each case of `test/strict/behaviour/NAME.cases.ts`.
 *
 * @param title what the cases have in common
 */
export function compare(title: string, name: string, cases: readonly Case[]): void {
  describeTls(`behaves as before: ${title}`, () => {
    let dir: string;
    let plain: Outcomes;
    let strict: Outcomes;
    const only = process.env['BEHAVIOUR_CASE'];

    beforeAll(async () => {
      dir = mkdtempSync(join(tmpdir(), 'close-notify-behaviour-'));
      const file = `test/strict/behaviour/${name}.cases.ts`;
      for (const source of [...SOURCES, file]) strip(source, dir);
      writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
      const setup = join(dir, 'setup.json');
      const main = join(dir, SOURCES[1]!.replace('.ts', '.js'));
      const url = (path: string) => pathToFileURL(join(dir, path.replace('.ts', '.js'))).href;
      writeFileSync(setup, JSON.stringify({ pki: pki(), programs: url(SOURCES[2]!) }));
      if (!PLAIN_ONLY && !existsSync(REGISTER)) {
        throw new Error(`${REGISTER} is missing: npm run build`);
      }
      const run = (execArgv: readonly string[]) =>
        outcomes(
          cases.filter((one) => only === undefined || one.name.includes(only)),
          (from) => [main, setup, '--cases', url(file), String(cases.indexOf(from))],
          execArgv,
        );
      [plain, strict] = await Promise.all([
        run([]),
        run(PLAIN_ONLY ? [] : ['--import', pathToFileURL(REGISTER).href]),
      ]);
    });
    afterAll(() => rmSync(dir, { recursive: true, force: true }));

    for (const one of cases) {
      it.skipIf(only !== undefined && !one.name.includes(only))(one.name, () => {
        const before = plain.get(one.name);
        const after = strict.get(one.name);
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
          if (!SAME) wanted[track] = [...lines.slice(0, -was.length), ...is];
        }
        expect(after).toEqual(wanted);
        // A case that noted nothing would agree with anything.
        expect(Object.values(before).flat().length).toBeGreaterThan(0);
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

/** What the cases came to. One that takes its process down is told so, and the rest go on in another. */
async function outcomes(
  cases: readonly Case[],
  argsFrom: (first: Case) => [main: string, ...args: string[]],
  execArgv: readonly string[],
): Promise<Outcomes> {
  const found = new Map<string, Outcome>();
  for (let done = 0; done < cases.length; ) {
    const [main, ...args] = argsFrom(cases[done]!);
    const end = await new Promise<string>((resolve, reject) => {
      const child = fork(main, args, {
        execArgv: [...execArgv],
        execPath: process.env['BEHAVIOUR_NODE'] ?? process.execPath,
        // Vitest's own settings are none of the child's business.
        env: { PATH: process.env['PATH'], BEHAVIOUR_CASE: process.env['BEHAVIOUR_CASE'] },
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
