/**
 * The child process: runs the cases of one file, one after the other, and sends what each tells.
 *
 * @example node child.mjs FROM
 */

import type { Case, Told } from './verdict-case.ts';
import { Env } from './verdict-env.ts';

/** Longer than any case takes; one that gets here hangs. */
const LIMIT = 60_000;

// The bundle of the cases lies beside this one's.
const { cases } = (await import(new URL('cases.mjs', import.meta.url).href)) as {
  cases: readonly Case<unknown>[];
};
const only = process.env['VERDICTS_CASE'];
const wanted = cases.filter((one) => only === undefined || one.name.includes(only));
const env = await Env.make();
process.on('uncaughtException', (error) => env.uncaught(error));
for (const { name, run } of wanted.slice(Number(process.argv[2]))) {
  let limit: NodeJS.Timeout | undefined;
  const late = new Promise<Told>((resolve) => {
    limit = setTimeout(() => resolve({ error: 'the case never ended' }), LIMIT);
  });
  const facts = run(env).then(
    async (facts): Promise<Told> => {
      await env.finish();
      return { facts, strays: env.strays() };
    },
    async (error: Error): Promise<Told> => {
      await env.finish();
      return { error: error.stack ?? String(error) };
    },
  );
  const told = await Promise.race([facts, late]);
  clearTimeout(limit);
  await new Promise((sent) => process.send!({ name, told }, sent));
}
process.disconnect();
process.exit();
