/**
 * Shares the cases of a part out among processes, one for each core.
 *
 * Theory of operation. A conversation costs a few milliseconds of one core, whatever is done to it, and
 * some parts hold a hundred thousand. So the work is a module of its own, which runs in several
 * processes at the same time, each of them a shard: it goes through all cases and holds those that are its
 * own (`everywhere` in cuts/places.ts). What a case draws at random comes from the seed and from the
 * case alone, never from what was held before, so that the number of shards changes nothing.
 *
 * A shard that ends without its counts has broken, and so has the part. None outlives this process.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Context } from './part.ts';

/** What a shard is given. */
export interface Shard extends Context {
  /** Which one this is, from 0 to below `of`. */
  readonly index: number;
  readonly of: number;
}

/** Counts, by name. Those of all shards are added up. */
export type Counted = Record<string, Record<string, number>>;

/** The module that does the work exports it as `work`. */
export type Work = (shard: Shard) => Promise<Counted>;

/** Whether the n-th of some cases is this shard's. */
export const isMine = ({ index, of }: Pick<Shard, 'index' | 'of'>, n: number): boolean =>
  n % of === index;

/** What a shard is sent. */
export interface Order {
  readonly work: string;
  readonly seed: number;
  readonly short: boolean;
  readonly index: number;
  readonly of: number;
}

/** What it sends. */
export type Told =
  | { readonly log: string }
  | { readonly fail: string }
  | { readonly counted: Counted }
  | { readonly broken: string };

const CHILD = fileURLToPath(new URL('shard.ts', import.meta.url));
const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** More would have little to do. */
const MOST = 4;

/**
 * Runs a module's `work` in several processes.
 *
 * @param work its URL.
 * @returns the counts of all of them.
 * @throws when one of them ends without its counts, or the part's time is over.
 */
export async function inShards(work: URL, context: Context): Promise<Counted> {
  const of = Math.min(availableParallelism(), MOST);
  const children: ChildProcess[] = [];
  try {
    const counted = await Promise.all(
      Array.from({ length: of }, (_, index) => {
        const child = fork(CHILD, [], {
          execArgv: ['--import', 'tsx'],
          cwd: ROOT,
          stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        });
        children.push(child);
        const { seed, short } = context;
        const order: Order = { work: work.href, seed, short, index, of };
        child.send(order);
        return outcomeOf(child, context);
      }),
    );
    return counted.reduce(add, {});
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

function outcomeOf(child: ChildProcess, { signal, log, fail }: Context): Promise<Counted> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    child.on('message', (told: Told) => {
      if ('log' in told) log(told.log);
      else if ('fail' in told) fail(told.fail);
      else if ('broken' in told) reject(new Error(told.broken));
      else resolve(told.counted);
    });
    child.once('error', reject);
    child.once('close', (code, killed) => {
      signal.removeEventListener('abort', stop);
      reject(new Error(`a shard ended in the middle: ${killed ?? `exit ${code}`}`));
    });
  });
}

/** Adds `more` to `sum`. */
export function add(sum: Counted, more: Counted): Counted {
  for (const [face, counts] of Object.entries(more)) {
    sum[face] ??= {};
    const into = sum[face];
    for (const [name, count] of Object.entries(counts)) into[name] = (into[name] ?? 0) + count;
  }
  return sum;
}
