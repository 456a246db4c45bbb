/**
 * The child process: runs the cases of one file and sends which one begins, and what each tells.
 *
 * @example node child.mjs [name of a case that is not to be run]...
 */
import type { Case, Told } from './case.ts';
import { Env, Thrown } from './env.ts';

/** Longer than any case takes; one that gets here hangs. */
const LIMIT = 60_000;

/** Cases that run side by side: one that waits for a limit does not keep the others. */
const WORKERS = 6;

// The bundle of the cases lies beside this one's.
const { cases } = (await import(new URL('cases.mjs', import.meta.url).href)) as {
  cases: readonly Case<unknown>[];
};
const done = new Set(process.argv.slice(2));
const wanted = cases.filter(({ name }) => {
  const only = process.env['VERDICTS_CASE'];
  return !done.has(name) && (only === undefined || name.includes(only));
});
const base = await Env.make();
/** Errors that nobody expects, told with the next case that ends. */
const strays: string[] = [];
process.on('uncaughtException', (error) => {
  if (!(error instanceof Thrown)) strays.push(error.stack ?? String(error));
});

const send = (message: object): Promise<unknown> =>
  new Promise((sent) => process.send!(message, sent));

async function perform({ name, run }: Case<unknown>): Promise<void> {
  await send({ name });
  const env = base.fork();
  let limit: NodeJS.Timeout | undefined;
  const late = new Promise<Told>((resolve) => {
    limit = setTimeout(() => resolve({ error: 'the case never ended' }), LIMIT);
  });
  const ran = (async (): Promise<Told> => {
    try {
      const facts = await run(env);
      await env.finish();
      return { facts, strays: strays.splice(0) };
    } catch (error) {
      await env.finish();
      return { error: (error as Error).stack ?? String(error) };
    }
  })();
  const told = await Promise.race([ran, late]);
  clearTimeout(limit);
  await send({ name, told });
}

const together = wanted.filter(({ alone }) => !alone);
const work = async () => {
  for (let one = together.shift(); one !== undefined; one = together.shift()) await perform(one);
};
await Promise.all(Array.from({ length: WORKERS }, work));
for (const one of wanted.filter(({ alone }) => alone)) {
  base.sockets.length = 0;
  await perform(one);
}
process.disconnect();
process.exit();
