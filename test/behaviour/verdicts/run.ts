/**
 * Runs files of cases about verdicts in child processes: in each Node that we support, with the add-on
 * and without it.
 *
 * A case runs in the child and gives facts, as JSON; here they are judged. The children run JavaScript,
 * as programs do, against `dist/`: Node 20 knows no types, so the cases are bundled, the package and
 * undici left out, into a folder of the package itself, where `close-notify` is found by its own name.
 *
 * For looking at a case by hand:
 * - VERDICTS_CASE=TEXT runs only cases with that text in their name.
 * - VERDICTS_NODE=22 runs only that Node; VERDICTS_WAY=with or without, only that way.
 * - VERDICTS_SHOW=1 prints the facts.
 * - VERDICTS_PLAIN=1 takes Node's own sockets: what a program sees of them without us.
 */
import { fork } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeNodes } from '../../support/describe-nodes.ts';
import type { Case, Told } from './case.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const ONLY = process.env['VERDICTS_CASE'];

/** With the add-on, which must then be there, and without it. */
const WAYS = {
  with: { CLOSE_NOTIFY_REQUIRE_NATIVE: '1' },
  without: { CLOSE_NOTIFY_NATIVE: '0' },
} as const;
export type Way = keyof typeof WAYS;

/**
 * Declares one test for each case of `test/behaviour/verdicts/NAME.cases.ts`, Node and way.
 *
 * @param title what the cases have in common.
 * @param setup what the children are to know besides, once it is there.
 */
export function verdicts(
  title: string,
  name: string,
  // biome-ignore lint/suspicious/noExplicitAny: each case judges facts of its own kind.
  cases: readonly Case<any>[],
  setup: () => Promise<Readonly<Record<string, string>>> = async () => ({}),
): void {
  const wanted = cases.filter((one) => ONLY === undefined || one.name.includes(ONLY));
  const folder = join(ROOT, 'test-results', 'verdicts', `${name}-${process.pid}`);
  let more: Readonly<Record<string, string>> = {};
  describe(title, () => {
    beforeAll(async () => {
      if (!existsSync(join(ROOT, 'dist/index.js'))) throw new Error('no dist/: npm run build');
      [more] = await Promise.all([setup(), bundle(name, folder)]);
    });
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
    describeNodes(title, (node, major) => {
      if (![undefined, String(major)].includes(process.env['VERDICTS_NODE'])) {
        it.skip('was not asked for', () => {});
        return;
      }
      for (const way of Object.keys(WAYS) as Way[]) {
        if (![undefined, way as string].includes(process.env['VERDICTS_WAY'])) continue;
        describe(`${way} the add-on`, () => {
          let facts: ReadonlyMap<string, Told>;
          beforeAll(async () => {
            facts = await run(node, folder, wanted, { ...WAYS[way], ...more });
          }, 600_000);
          for (const one of wanted) {
            it(one.name, () => {
              const told = facts.get(one.name);
              if (told === undefined) throw new Error('the case did not run');
              if ('error' in told) throw new Error(told.error);
              if (process.env['VERDICTS_SHOW'] === '1') console.log(told.facts);
              expect(one.check(told.facts, { major, native: way === 'with' })).toEqual([]);
              expect(told.strays, 'errors that nobody expects').toEqual([]);
            });
          }
        });
      }
    });
  });
}

async function bundle(name: string, folder: string): Promise<void> {
  const made = await rolldown({
    cwd: ROOT,
    input: {
      child: 'test/behaviour/verdicts/child.ts',
      cases: `test/behaviour/verdicts/${name}.cases.ts`,
    },
    external: [/^node:/, /^close-notify/, 'undici'],
    platform: 'node',
    transform: { target: 'node20.19' },
    logLevel: 'silent',
  });
  await made.write({ dir: folder, format: 'esm', entryFileNames: '[name].mjs' });
  await made.close();
}

/**
 * What the cases told. Those that were running when the process was taken down are told so, and the rest go
 * on in another.
 */
async function run(
  node: string,
  folder: string,
  cases: readonly Case<unknown>[],
  environment: Readonly<Record<string, string>>,
): Promise<ReadonlyMap<string, Told>> {
  const found = new Map<string, Told>();
  while (found.size < cases.length) {
    let complaints = '';
    const running = new Set<string>();
    const before = found.size;
    const end = await new Promise<string>((resolve, reject) => {
      const child = fork(join(folder, 'child.mjs'), [...found.keys()], {
        execArgv: [],
        execPath: node,
        // Vitest's own settings are none of the child's business.
        env: {
          PATH: process.env['PATH'],
          ...Object.fromEntries(
            Object.entries(process.env).filter(([key]) => key.startsWith('VERDICTS_')),
          ),
          ...environment,
        },
        stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
      });
      child.stderr?.on('data', (text: Buffer) => {
        complaints = `${complaints}${text}`.slice(-4_000);
      });
      child.on('message', ({ name, told }: { name: string; told?: Told }) => {
        if (told === undefined) {
          running.add(name);
          return;
        }
        running.delete(name);
        found.set(name, told);
      });
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(signal ?? `exit ${code}`));
    });
    const error = `its process ended: ${end}\n${complaints}`;
    for (const name of running) found.set(name, { error });
    if (found.size === before) throw new Error(error);
  }
  return found;
}
