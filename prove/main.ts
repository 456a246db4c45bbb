/**
 * `npm run prove`: shows that the verdict can be trusted, and prints the figures.
 *
 *     npm run prove                            all parts, one table
 *     npm run prove -- --list                  the parts
 *     npm run prove -- --only machine,cuts     some of them
 *     npm run prove -- --seed 7                with the random choices of an earlier run
 *     npm run prove -- --short                 the shorter form, as in the tests
 *     npm run prove -- --json                  the report as JSON on stdout
 *     npm run prove -- --write                 the figures into docs/proof.md, if all of them hold
 *
 * The exit code is 0 only if every part ran and every figure is what it has to be, 1 otherwise, and
 * 2 for arguments that mean nothing. Progress, and what broke, go to stderr.
 *
 * To add a part:
 *
 * 1. Write `prove/<name>/part.ts`, which exports `part: Part` (harness.ts has its shape).
 *
 *        export const part: Part = {
 *          name: 'cuts',
 *          title: 'Cut everywhere',
 *          seconds: 120,
 *          async run({ seed, short, signal, log, fail }) {
 *            ...
 *            return [
 *              { name: 'cuts tried', value: cuts, least: 10_000 },
 *              { name: 'truncations missed', value: missed, must: 0 },
 *            ];
 *          },
 *        };
 *
 * 2. Run it in its short form from `test/behaviour/prove/<name>.test.ts`, with `expectWhole('<name>')` of
 *    test/behaviour/prove/expect-whole.ts.
 *
 * Rules: every random choice comes from `seed`. A figure says what it must be (`must`, `least`,
 * `most`), and the harness decides whether it holds. What breaks is told by `fail`, in a form that a
 * reader can act on; how to repeat the run is added to it. All parts together have ten minutes on two
 * cores, and `fuzz` another ten. Sources are imported as they are (`../../src/...ts`): the command runs
 * under `tsx`, since Node 20 runs no TypeScript. A part that starts a process of its own with TypeScript in
 * it says `process.execPath, ['--import', 'tsx', file]`. A part with very many cases exports them as `work`
 * and runs them with `inShards`.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { intoPage, isWhole, type Loader, PARTS, runParts, toTerminal } from './harness.ts';

const PAGE = new URL('../docs/proof.md', import.meta.url);
const NEW_PAGE = `# Proof

What \`npm run prove\` has found, part by part: what was tried, how often, and what had to come out. The
tables are written by \`npm run prove -- --write\`, which refuses to when a figure is not what it must
be; the text around them is not touched.
`;

interface Options {
  readonly only?: Readonly<Record<string, Loader>>;
  readonly seed?: number;
  readonly short?: boolean;
  readonly json?: boolean;
  readonly write?: boolean;
  readonly list?: boolean;
}

const command = new Command('npm run prove --')
  .description('Shows that the verdict can be trusted, and prints the figures.')
  .option('--only <parts>', 'these parts, separated by commas', parseParts)
  .option('--seed <number>', 'of the random choices; a new one by default', parseSeed)
  .option('--short', 'the shorter form, as in the tests')
  .option('--json', 'print the report as JSON')
  .option('--write', 'write the figures into docs/proof.md, if all of them hold')
  .option('--list', 'list the parts')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  .parse();

const {
  only = PARTS,
  seed,
  short = false,
  json = false,
  write = false,
  list,
} = command.opts<Options>();

if (list) {
  console.log(Object.keys(PARTS).join('\n'));
} else if (write && short) {
  process.stderr.write('--write takes the figures of a full run: leave out --short\n');
  process.exitCode = 2;
} else {
  const report = await runParts(only, {
    seed: seed ?? Math.floor(Math.random() * 2 ** 31),
    short,
    print: (line) => process.stderr.write(`${line}\n`),
  });
  console.log(json ? JSON.stringify(report, null, 2) : toTerminal(report));
  const whole = isWhole(report);
  if (write && !whole) {
    process.stderr.write('docs/proof.md is left as it was: not all of it holds\n');
  } else if (write) {
    const page = existsSync(PAGE) ? readFileSync(PAGE, 'utf8') : NEW_PAGE;
    writeFileSync(PAGE, intoPage(page, report));
  }
  // A part that was left behind may hold the process.
  process.exit(whole ? 0 : 1);
}

function parseParts(text: string): Readonly<Record<string, Loader>> {
  const chosen: Record<string, Loader> = {};
  for (const name of text.split(',').map((one) => one.trim())) {
    const load = Object.hasOwn(PARTS, name) ? PARTS[name] : undefined;
    if (load === undefined) {
      throw new InvalidArgumentError(`${name}: not one of ${Object.keys(PARTS).join(', ')}.`);
    }
    chosen[name] = load;
  }
  return chosen;
}

function parseSeed(text: string): number {
  const seed = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(seed)) {
    throw new InvalidArgumentError('not a whole number.');
  }
  return seed;
}
