/**
 * Runs the mutants, each in a copy of the tree, and says which the tests kill.
 *
 *     npm run mutants                          all of them
 *     npm run mutants -- guard native/         those whose file or fault has one of these texts
 *     npm run mutants -- --changed [commit]    those of files that differ from a commit, of main by default
 *     npm run mutants -- --list                which there are; runs nothing
 *
 * Theory of operation. An edit is made of a text that its file has once. Where the text is not there any more, or is
 * there twice, all such mutants are told before anything runs: one that does nothing would count as one that lives.
 *
 * A copy has every file that git does not ignore, and for its node_modules links to the packages here, so that
 * `close-notify-native` is the copy's own. First each killer runs on the copy as it is. One that fails without a
 * mutant proves nothing, nor does one in which no test runs: both stop the run. Then an edit is made, the killers of
 * that mutant run until one fails, and the file is put back. A killer that does not end in its time has killed, too: a
 * hang is a failure. Mutants of the add-on come last, each behind a build of its own; one that does not compile stops
 * the run.
 *
 * The exit code is 0 if all that live say why (`lives` in list.ts), and none of those is killed after all.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KILLERS, type Killer, MUTANTS, type Mutant } from './list.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Milliseconds after which a killer counts as hanging. */
const LIMIT = 180_000;

/** How many run side by side. */
const COPIES = Math.min(2, availableParallelism());

// ---- which mutants

const git = (...args: string[]): string[] =>
  execFileSync('git', [...args, '-z'], { cwd: ROOT, encoding: 'utf8' })
    .split('\0')
    .filter((one) => one !== '');

/** All files but those that git ignores: new ones, too. */
const FILES = [...new Set(git('ls-files', '--cached', '--others', '--exclude-standard'))].filter(
  (one) => existsSync(join(ROOT, one)),
);

/** A mutant, and the one file of the tree that has its text. */
interface Found {
  readonly mutant: Mutant;
  readonly file: string;
}

/** @throws {Error} that tells of all whose text is not there once. */
function find(mutants: readonly Mutant[]): Found[] {
  const texts = new Map<string, string>();
  const textOf = (file: string): string => {
    const text = texts.get(file) ?? readFileSync(join(ROOT, file), 'utf8');
    texts.set(file, text);
    return text;
  };
  const lost: string[] = [];
  const found = mutants.flatMap((mutant): Found[] => {
    const { file, fault, from, to } = mutant;
    const inside = FILES.filter(
      (one) => one === file || (file.endsWith('/') && one.startsWith(file)),
    );
    const hits = inside.flatMap((one) => Array(textOf(one).split(from).length - 1).fill(one));
    if (hits.length === 1 && from !== to) return [{ mutant, file: hits[0] as string }];
    lost.push(`${file}: ${fault}: its text is there ${hits.length} times`);
    return [];
  });
  const names = mutants.map(({ file, fault }) => `${file}: ${fault}`);
  const twice = names.filter((one, i) => names.indexOf(one) !== i);
  lost.push(...twice.map((one) => `${one}: there are two of this name`));
  if (lost.length > 0) {
    throw new Error(`mutants that say nothing any more (mend list.ts):\n  ${lost.join('\n  ')}`);
  }
  return found;
}

function choose(all: readonly Found[], args: readonly string[]): Found[] {
  if (args[0] === '--changed') {
    const changed = new Set(git('diff', '--name-only', args[1] ?? 'main'));
    return all.filter(({ file }) => changed.has(file));
  }
  const texts = args.filter((one) => !one.startsWith('--'));
  return all.filter(
    ({ mutant, file }) =>
      texts.length === 0 || texts.some((one) => `${file} ${mutant.fault}`.includes(one)),
  );
}

// ---- where they run

function copyTree(): string {
  const copy = mkdtempSync(join(tmpdir(), 'close-notify-mutants-'));
  for (const file of FILES) {
    mkdirSync(join(copy, dirname(file)), { recursive: true });
    cpSync(join(ROOT, file), join(copy, file));
  }
  // As new as it is here, or it would be built again at once.
  cpSync(join(ROOT, 'native/build'), join(copy, 'native/build'), { recursive: true });
  const runtimes = '.ci/runtimes/node_modules';
  if (existsSync(join(ROOT, runtimes))) symlinkSync(join(ROOT, runtimes), join(copy, runtimes));
  // The declarations are not made again.
  if (existsSync(join(ROOT, 'dist')))
    cpSync(join(ROOT, 'dist'), join(copy, 'dist'), { recursive: true });
  mkdirSync(join(copy, 'node_modules'));
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    const target =
      name === 'close-notify-native' ? join(copy, 'native') : join(ROOT, 'node_modules', name);
    symlinkSync(target, join(copy, 'node_modules', name));
  }
  return copy;
}

/** Builds the copy's add-on from its sources. */
function buildAddOn(copy: string): void {
  const script = join(copy, 'native/scripts/install.js');
  const { stderr } = spawnSync(process.execPath, [script], { cwd: copy, encoding: 'utf8' });
  if (stderr.trim() !== 'close-notify-native: built') throw new Error(stderr);
}

/** A mutant that a file of the copy has, until it is put back. */
function mutate(copy: string, { mutant, file }: Found): () => void {
  const path = join(copy, file);
  const text = readFileSync(path, 'utf8');
  writeFileSync(path, text.split(mutant.from).join(mutant.to));
  return () => writeFileSync(path, text);
}

// ---- what kills them

interface Run {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

function runOf(killer: Killer): Run {
  const [kind, ...args] = KILLERS[killer];
  const vitest = (...more: readonly string[]) => ({
    program: 'vitest',
    args: ['run', '--bail', '1', '--reporter', 'dot', ...more],
  });
  const [node = '', name = ''] = args;
  switch (kind) {
    case 'vitest':
      // One process for all of its files: most of a run is its start.
      return vitest('--no-isolate', '--maxWorkers', '1', ...args);
    case 'built':
      return { ...vitest(...args), env: { REQUIRE_PEERS: '1' } };
    case 'verdicts':
      return {
        ...vitest(`test/behaviour/verdicts/${name}.test.ts`),
        env: { VERDICTS_NODE: node },
      };
    case 'native':
      return {
        ...vitest('test/behaviour/native/witness.test.ts', '-t', `on Node v${node}\\.`),
        // An add-on that does not load is a failure, and no reason to skip.
        env: { REQUIRE_PEERS: '1' },
      };
    case 'prove':
      return {
        program: 'tsx',
        args: ['prove/main.ts', '--only', name, '--short', '--seed', '1'],
        env: { MATRIX_NODE: node, MATRIX_ROWS: '400', MATRIX_STREAMS: '0' },
      };
  }
}

/** The killers that run, each the leader of a group of its own. */
const running = new Set<number>();

/** Ends a killer and the processes of its own. */
const stop = (pid: number) => process.kill(-pid, 'SIGKILL');

/** @returns null where it passes; else what failed first. */
async function run(copy: string, killer: Killer): Promise<string | null> {
  const { program, args, env } = runOf(killer);
  // Those run the package as it is built.
  if (['built', 'verdicts', 'prove'].includes(KILLERS[killer][0]))
    execFileSync(process.execPath, ['scripts/bundle.mjs'], { cwd: copy });
  const child = spawn(join(ROOT, 'node_modules/.bin', program), args, {
    cwd: copy,
    detached: true,
    env: { ...process.env, REQUIRE_PEERS: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const pid = child.pid as number;
  running.add(pid);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes) => {
      said += String(bytes);
    });
  }
  let hangs = false;
  const timer = setTimeout(() => {
    hangs = true;
    stop(pid);
  }, LIMIT);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  running.delete(pid);
  clearTimeout(timer);
  if (hangs) return 'it hangs';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours of a terminal.
  const plain = said.replace(/\u001b\[[0-9;]*m/g, '');
  if (code === 0) {
    if (program === 'vitest' && !/Tests +[1-9]\d* passed/.test(plain))
      throw new Error(`${killer} runs no test:\n${plain.slice(-2_000)}`);
    return null;
  }
  const line = /(?:FAIL|BROKEN: \w+:) .*|Unhandled Error.*\n.*/.exec(plain)?.[0];
  if (line === undefined)
    throw new Error(`${killer} broke without a failure:\n${plain.slice(-2_000)}`);
  return line.trim();
}

// ---- the run

/** @returns the killer and what failed in it; null where the mutant lives. */
async function kill(copy: string, found: Found): Promise<string | null> {
  const restore = mutate(copy, found);
  try {
    if (isNative(found)) buildAddOn(copy);
    for (const killer of found.mutant.by) {
      const why = await run(copy, killer);
      if (why !== null) return `${killer}: ${why}`;
    }
    return null;
  } finally {
    restore();
  }
}

const isNative = ({ file }: Found): boolean => file.startsWith('native/');

/** Does all of them, one at a time in each copy. */
async function inTurn<T>(
  copies: readonly string[],
  all: readonly T[],
  go: (copy: string, one: T) => Promise<void>,
): Promise<void> {
  const left = [...all];
  await Promise.all(
    copies.map(async (copy) => {
      for (let one = left.shift(); one !== undefined; one = left.shift()) await go(copy, one);
    }),
  );
}

const args = process.argv.slice(2);
const chosen = choose(find(MUTANTS), args);
if (args.includes('--list')) {
  const lines = chosen.map(({ mutant, file }) => `${file}: ${mutant.fault}`);
  lines.push(`${chosen.length} mutants`);
  // A pipe takes it later, and `exit` does not wait for that.
  await new Promise<unknown>((resolve) => process.stdout.write(`${lines.join('\n')}\n`, resolve));
  process.exit(0);
}
const started = performance.now();
const copies = Array.from({ length: COPIES }, copyTree);
const tidy = () => {
  for (const copy of copies) rmSync(copy, { recursive: true, force: true, maxRetries: 5 });
};
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    for (const pid of running) stop(pid);
    tidy();
    process.exit(1);
  });
}
const survivors: string[] = [];
let killed = 0;
/** Mutants whose outcome is not what list.ts says. */
let wrong = 0;
try {
  const needed = [...new Set(chosen.flatMap(({ mutant }) => mutant.by))];
  await inTurn(copies, needed, async (copy, killer) => {
    const why = await run(copy, killer);
    if (why !== null) throw new Error(`${killer} fails without a mutant: ${why}`);
  });
  console.log(`${needed.length} killers pass without a mutant`);
  const inOrder = chosen.toSorted((one, other) => Number(isNative(one)) - Number(isNative(other)));
  await inTurn(copies, inOrder, async (copy, found) => {
    const { fault, lives } = found.mutant;
    const before = performance.now();
    const by = await kill(copy, found);
    const took = `${((performance.now() - before) / 1_000).toFixed(0)} s`;
    const name = `${found.file}: ${fault}`;
    if (by !== null) {
      killed++;
      console.log(`killed    ${name}\n          in ${took} by ${by.slice(0, 160)}`);
    } else {
      survivors.push(`${name}\n          survives: ${lives ?? 'WITHOUT A REASON'}`);
      console.log(`LIVES     ${name}\n          in ${took}`);
    }
    if ((by !== null) === (lives === undefined)) return;
    wrong++;
    if (lives !== undefined)
      console.log('          but list.ts says why it lives: strike that out');
  });
} finally {
  tidy();
}
const minutes = ((performance.now() - started) / 60_000).toFixed(1);
console.log(
  `\n${chosen.length} mutants, ${killed} killed, ${survivors.length} live (${minutes} minutes):`,
);
for (const one of survivors) console.log(`  ${one}`);
process.exit(wrong === 0 && killed + survivors.length === chosen.length ? 0 : 1);
