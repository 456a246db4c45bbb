/** The mutants say something: each text is in the sources, once. `npm run mutants` runs them. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { MUTANTS } from '../../../prove/mutants/list.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

test('each mutant still has its place in the sources', async () => {
  const tsx = `${ROOT}node_modules/.bin/tsx`;
  // It rejects, and says which, where a text is not there any more, or is there twice.
  const { stdout } = await promisify(execFile)(tsx, ['prove/mutants/run.ts', '--list'], {
    cwd: ROOT,
  });
  expect(stdout.trim().split('\n').at(-1)).toBe(`${MUTANTS.length} mutants`);
});
