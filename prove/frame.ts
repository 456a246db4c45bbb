/**
 * Runs parts in turn, and makes one table of their figures.
 *
 * Theory of operation. Nothing here believes a part. Whether a figure holds is computed from what it
 * has to be; a part that throws, that reports no figure which could break, or that is not done in
 * its time is broken, and the parts after it run all the same. What is over time is left behind: its
 * signal is aborted, and the process ends without waiting for it.
 */
import Table from 'cli-table3';
import { type Context, type Figure, holds, isPromise, type Part } from './part.ts';
import type { Loader } from './parts.ts';

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
