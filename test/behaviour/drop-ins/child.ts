/**
 * The child process: runs the cases of one file, one after the other, and sends each outcome to its
 * parent. Or, with `--program`, one whole program.
 *
 * @example node [--import close-notify/register] child.js SETUP.json --cases FILE.js FROM
 * @example node [--import close-notify/register] child.js SETUP.json --program NAME PORT
 */
import { readFileSync } from 'node:fs';
import type { Pki } from '../../support/core-pki.ts';
import { type Case, Env } from './env.ts';

/** Longer than any case takes; one that gets here hangs. */
const LIMIT = 15_000;

interface Setup {
  readonly pki: Pki;
  readonly programs: string;
}

const [, , setupFile, mode, what, number] = process.argv;
const setup = JSON.parse(readFileSync(setupFile!, 'utf8')) as Setup;
if (mode === '--program') {
  const { programs } = (await import(setup.programs)) as {
    programs: Readonly<Record<string, (port: number, pki: Pki) => void>>;
  };
  programs[what!]!(Number(number), setup.pki);
} else {
  const { cases } = (await import(what!)) as { cases: readonly Case[] };
  let env = new Env(setup.pki);
  process.on('uncaughtException', (error) => env.note('uncaught', error));
  process.on('warning', (warning) => env.note('warning', warning.name, warning.message));
  const only = process.env['BEHAVIOUR_CASE'];
  for (const { name, run } of cases.slice(Number(number))) {
    if (only !== undefined && !name.includes(only)) continue;
    env = new Env(setup.pki);
    const current = env;
    let limit: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      limit = setTimeout(() => {
        current.note('case', 'never ended');
        resolve();
      }, LIMIT);
    });
    await Promise.race([
      late,
      run(env).catch((error: unknown) => current.note('case', 'rejected', error)),
    ]);
    clearTimeout(limit);
    process.send!({ name, outcome: await env.finish() });
  }
  process.disconnect();
  process.exit();
}
