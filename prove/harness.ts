/**
 * The harness of `npm run prove`: what a part is, how parts are run, and how their figures are told.
 *
 * Theory of operation. Nothing here believes a part. Whether a figure holds is computed from what it
 * has to be; a part that throws, that reports no figure which could break, or that is not done in
 * its time is broken, and the parts after it run all the same. What is over time is left behind: its
 * signal is aborted, and the process ends without waiting for it.
 *
 * A conversation costs a few milliseconds of one core, whatever is done to it, and some parts hold a
 * hundred thousand. So the work of such a part is a module of its own, which runs in several processes at
 * the same time (`inShards`), each of them a shard: it goes through all cases and holds those that are
 * its own (`isMine`). What a case draws at random comes from the seed and from the case alone, never
 * from what was held before, so that the number of shards changes nothing. A shard that ends without
 * its counts has broken, and so has the part. None outlives this process.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { find, MAJORS, type Major } from '../test/support/runtimes.ts';

// ---- what a part is

/**
 * One figure. It carries what it has to be beside what it is, so that whether it holds is computed
 * here and never claimed by whoever counted.
 *
 * A figure with none of `must`, `least` and `most` only tells a size, such as states visited.
 */
export interface Figure {
  /** What was counted, in a few words: 'truncations missed'. */
  readonly name: string;
  /** The count; where a number says too little, a text that `must` can be compared with. */
  readonly value: number | string;
  /** Exactly this, such as 0 for misses, or the number of mutants for the killed ones. */
  readonly must?: number | string | undefined;
  /** At least this, for a number: that something was tried at all, say. */
  readonly least?: number | undefined;
  /** At most this, for a number: a bound on memory, say. */
  readonly most?: number | undefined;
}

/** What a part is given. */
export interface Context {
  /** Decides every random choice of the part. */
  readonly seed: number;
  /** Aborted when the part's time is over: stop what was started, and return or throw. */
  readonly signal: AbortSignal;
  /** Whether to run the shorter form, the one that tests run. */
  readonly short: boolean;
  /** One line of progress, on stderr. */
  log(line: string): void;
  /**
   * Tells what broke, at any length: a trace, a drawing, a cause. The part is broken from then on,
   * whatever its figures say. The harness adds how to repeat the run.
   */
  fail(what: string): void;
}

/** One part. The module of a part exports it as `part`. */
export interface Part {
  /** What `--only` takes: one lower-case word, or several with hyphens. */
  readonly name: string;
  /** What it shows, in one line: the heading in docs/proof.md. */
  readonly title: string;
  /** How long it may take in full, in seconds. Beyond it the part is broken, and is left behind. */
  readonly seconds: number;
  /**
   * Runs it.
   *
   * @returns its figures, of which at least one has to be something: a part that cannot break proves
   *   nothing, and counts as broken.
   * @throws whatever kept it from running; the part is then broken.
   */
  run(context: Context): Promise<readonly Figure[]>;
}

/** Whether a figure is what it has to be; true for one that only tells a size. */
export function holds({ value, must, least, most }: Figure): boolean {
  // A size that is no number (NaN after a division, say) satisfies no bound.
  if (must !== undefined && value !== must) return false;
  if (least !== undefined && !(typeof value === 'number' && value >= least)) return false;
  if (most !== undefined && !(typeof value === 'number' && value <= most)) return false;
  return typeof value !== 'number' || !Number.isNaN(value);
}

/** Whether a figure can break. */
export function isPromise({ must, least, most }: Figure): boolean {
  return must !== undefined || least !== undefined || most !== undefined;
}

/** Loads a part, so that `--only` runs no line of the others. */
export type Loader = () => Promise<{ readonly part: Part }>;

/** The parts by the name that `--only` takes: each folder here that has a `part.ts`. */
export const PARTS: Readonly<Record<string, Loader>> = Object.fromEntries(
  readdirSync(new URL('.', import.meta.url))
    .map((name) => [name, new URL(`${name}/part.ts`, import.meta.url)] as const)
    .filter(([, file]) => existsSync(file))
    .sort()
    .map(([name, file]) => [name, () => import(file.href)]),
);

// ---- running parts

/** What became of one part. */
export interface PartResult {
  readonly name: string;
  /** The part's heading; its name where it could not be loaded. */
  readonly title: string;
  readonly figures: readonly Figure[];
  /** What broke, in the part's own words. Empty when all holds. */
  readonly broken: readonly string[];
  /** How long it took, in seconds. */
  readonly seconds: number;
}

/** What became of all. */
export interface Report {
  readonly seed: number;
  /** Of Node, as `process.version`. */
  readonly node: string;
  readonly short: boolean;
  readonly parts: readonly PartResult[];
}

/** What a run needs. */
export interface RunOptions {
  readonly seed: number;
  readonly short: boolean;
  /** Where progress goes, and what broke, as soon as it does. */
  readonly print: (line: string) => void;
}

/** Runs the parts in turn. Never rejects. */
export async function runParts(
  parts: Readonly<Record<string, Loader>>,
  options: RunOptions,
): Promise<Report> {
  const results: PartResult[] = [];
  for (const [name, load] of Object.entries(parts)) {
    options.print(`== ${name}`);
    const result = await runPart(name, load, options);
    for (const what of result.broken) options.print(`\nBROKEN: ${name}: ${what}`);
    if (result.broken.length > 0) options.print(`to repeat it: ${repeatLine(name, options)}\n`);
    results.push(result);
  }
  return { seed: options.seed, node: process.version, short: options.short, parts: results };
}

/** Whether every part ran, and every figure holds. */
export function isWhole({ parts }: Report): boolean {
  return parts.length > 0 && parts.every(({ broken }) => broken.length === 0);
}

/** The command that runs one part again with the same choices. */
export function repeatLine(
  name: string,
  { seed, short }: Pick<RunOptions, 'seed' | 'short'>,
): string {
  return `npm run prove -- --only ${name} --seed ${seed}${short ? ' --short' : ''}`;
}

async function runPart(
  name: string,
  load: Loader,
  { seed, short, print }: RunOptions,
): Promise<PartResult> {
  const started = performance.now();
  const broken: string[] = [];
  const end = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let part: Part | null = null;
  let figures: readonly Figure[] = [];
  try {
    ({ part } = await load());
    const { seconds } = part;
    const overtime = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const error = new Error(`not done within ${seconds} s`);
        end.abort(error);
        reject(error);
      }, seconds * 1000);
    });
    const context: Context = {
      seed,
      short,
      signal: end.signal,
      log: (line) => print(`   ${line}`),
      fail: (what) => broken.push(what),
    };
    figures = await Promise.race([part.run(context), overtime]);
    for (const figure of figures) {
      if (!holds(figure)) {
        broken.push(`${figure.name}: ${valueText(figure.value)}, must be ${mustText(figure)}`);
      }
    }
    if (!figures.some(isPromise)) broken.push('no figure that could break');
  } catch (error) {
    broken.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    clearTimeout(timer);
  }
  const seconds = (performance.now() - started) / 1000;
  return { name, title: part?.title ?? name, figures, broken, seconds };
}

// ---- drawing

/** The one table, for a terminal. */
export function toTerminal(report: Report): string {
  const table = new Table({
    head: ['part', 'figure', 'value', 'must be', ''],
    colAligns: ['left', 'left', 'right', 'right', 'left'],
    style: { head: [], border: [], compact: true },
  });
  for (const { name, figures, broken, seconds } of report.parts) {
    for (const figure of figures) {
      table.push([
        name,
        figure.name,
        valueText(figure.value),
        mustText(figure),
        isPromise(figure) ? (holds(figure) ? 'holds' : 'BROKEN') : '',
      ]);
    }
    table.push([name, 'seconds', seconds.toFixed(1), '', broken.length > 0 ? 'BROKEN' : '']);
  }
  return table.toString();
}

/** One part's figures, as a Markdown table. */
export function toMarkdown({ figures }: PartResult): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [
    line(['figure', 'value', 'must be']),
    '|---|---:|---:|',
    ...figures.map((figure) => line([figure.name, valueText(figure.value), mustText(figure)])),
  ].join('\n');
}

/**
 * Puts the figures of a report into a page, each part's between its own two markers, so that text
 * around them stays. A part that has none yet gets a section at the end; parts that did not run keep
 * what they have.
 */
export function intoPage(page: string, report: Report): string {
  let text = page;
  for (const part of report.parts) {
    const [begin, end] = [`<!-- figures of ${part.name} -->`, `<!-- /figures of ${part.name} -->`];
    const run = `Node ${report.node}, seed ${report.seed}, ${Math.ceil(part.seconds)} s: \`${repeatLine(part.name, report)}\``;
    const block = `${begin}\n${toMarkdown(part)}\n\n${run}\n${end}`;
    const from = text.indexOf(begin);
    const to = text.indexOf(end);
    if (from >= 0 && to > from) {
      text = text.slice(0, from) + block + text.slice(to + end.length);
    } else if (from >= 0 || to >= 0) {
      throw new Error(`the markers of ${part.name} do not match`);
    } else {
      text = `${text.trimEnd()}\n\n## ${part.title}\n\n${block}\n`;
    }
  }
  return text;
}

function valueText(value: Figure['value']): string {
  return typeof value === 'number' ? value.toLocaleString('en-GB') : value;
}

function mustText({ must, least, most }: Figure): string {
  const parts: string[] = [];
  if (must !== undefined) parts.push(valueText(must));
  if (least !== undefined) parts.push(`≥ ${valueText(least)}`);
  if (most !== undefined) parts.push(`≤ ${valueText(most)}`);
  return parts.join(', ');
}

// ---- shards

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

const HERE = fileURLToPath(import.meta.url);
/** The argument that makes of this module the process of a shard. */
const SHARD = '--shard';
const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** More would have little to do. */
const MOST = 4;

/**
 * The Nodes that a part runs in: all, or in the short form the first.
 *
 * @param variable of the environment: it may name one of them, such as 22.
 * @param what is counted in each: the figure that breaks for one that is not installed.
 */
export function nodesFor(
  { short }: Pick<Context, 'short'>,
  variable: string,
  what: string,
): { readonly nodes: ReadonlyArray<readonly [Major, string]>; readonly missing: Figure[] } {
  const only = process.env[variable];
  const all = short ? MAJORS.slice(0, 1) : MAJORS;
  const nodes: Array<readonly [Major, string]> = [];
  const missing: Figure[] = [];
  for (const major of only === undefined ? all : MAJORS.filter((one) => String(one) === only)) {
    const node = find(`node-${major}`);
    if (node !== null) nodes.push([major, node]);
    else missing.push({ name: `Node ${major}: ${what}`, value: 'not run', least: 1 });
  }
  return { nodes, missing };
}

/** Where shards run, for what is proved elsewhere than in the Node that runs this. */
export interface Where {
  /** A Node's program. */
  readonly node?: string;
  /** On top of this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Runs a module's `work` in several processes.
 *
 * @param work its URL.
 * @returns the counts of all of them.
 * @throws when one of them ends without its counts, or the part's time is over.
 */
export async function inShards(
  work: URL,
  context: Context,
  { node = process.execPath, env = {} }: Where = {},
): Promise<Counted> {
  const of = Math.min(availableParallelism(), MOST);
  const children: ChildProcess[] = [];
  try {
    const counted = await Promise.all(
      Array.from({ length: of }, (_, index) => {
        const child = fork(HERE, [SHARD], {
          execPath: node,
          execArgv: ['--import', 'tsx'],
          env: { ...process.env, ...env },
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

/** What breaks once mostly breaks everywhere: so many are told in full, the others are counted. */
const TOLD_IN_FULL = 20;

/** The process of one shard: takes its order, and tells its counts. */
function serveShard(): void {
  const tell = (told: Told) =>
    new Promise<void>((resolve) => process.send?.(told, undefined, undefined, () => resolve()));
  // Whoever started this is gone.
  process.once('disconnect', () => process.exit(1));

  // Most conversations end in an error on purpose, and its trace is a good part of what they cost: the place
  // where it was made is enough.
  Error.stackTraceLimit = 2;

  process.once('message', async (order: Order) => {
    let failures = 0;
    const shard: Shard = {
      seed: order.seed,
      short: order.short,
      index: order.index,
      of: order.of,
      // The part's time is watched over by who started this.
      signal: new AbortController().signal,
      log: (log) =>
        void tell({ log: order.of > 1 ? `[${order.index + 1}/${order.of}] ${log}` : log }),
      fail: (fail) => {
        if (++failures <= TOLD_IN_FULL) void tell({ fail });
      },
    };
    try {
      const { work } = (await import(order.work)) as { work: Work };
      const counted = await work(shard);
      if (failures > TOLD_IN_FULL)
        await tell({ fail: `and ${failures - TOLD_IN_FULL} more like these` });
      await tell({ counted });
    } catch (error) {
      await tell({
        broken: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    }
    process.disconnect?.();
  });
}

if (process.argv[1] === HERE && process.argv[2] === SHARD) serveShard();
