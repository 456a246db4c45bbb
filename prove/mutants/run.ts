/**
 * Runs the mutants, each in a copy of the tree, and says which the tests kill.
 *
 *     npm run mutants                    all of them
 *     npm run mutants -- guard native    those whose file or fault has one of these words
 *
 * Theory of operation. A copy has every file that git knows, and for its node_modules links to the packages here, so
 * that `close-notify-native` is the copy's own. First each killer runs on the copy as it is: one that fails without a
 * mutant proves nothing, and stops the run. Then an edit is made, the killers of that mutant run until one fails, and the
 * file is put back. A killer that does not end in its time has killed, too: a hang is a failure.
 *
 * The exit code is 0 if all that live say why (`lives` in list.ts), and none of those is killed after all.
 */
import { execFileSync, spawn } from 'node:child_process';
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
const LIMIT = 240_000;

/** Never shared with the tests that run elsewhere on this machine. */
const COPIES = Math.min(2, availableParallelism());

function copyTree(): string {
  const copy = mkdtempSync(join(tmpdir(), 'close-notify-mutants-'));
  const files = execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' });
  for (const file of files.split('\0').filter((one) => one && existsSync(join(ROOT, one)))) {
    mkdirSync(join(copy, dirname(file)), { recursive: true });
    cpSync(join(ROOT, file), join(copy, file));
  }
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

/** @returns null where it passes; else what failed first. */
async function run(copy: string, killer: Killer): Promise<string | null> {
  const [kind, ...args] = KILLERS[killer];
  const bin = (name: string) => join(ROOT, 'node_modules/.bin', name);
  const [program, argv, env] =
    kind === 'vitest'
      ? ([bin('vitest'), ['run', '--bail', '1', '--reporter', 'dot', ...args], {}] as const)
      : kind === 'verdicts'
        ? ([
            bin('vitest'),
            [
              'run',
              '--bail',
              '1',
              '--reporter',
              'dot',
              `test/behaviour/verdicts/${args[1]}.test.ts`,
            ],
            { VERDICTS_NODE: args[0] },
          ] as const)
        : ([
            bin('tsx'),
            ['prove/main.ts', '--only', 'matrix', '--short', '--seed', '1'],
            { MATRIX_NODE: args[0], MATRIX_ROWS: '400', MATRIX_STREAMS: '0' },
          ] as const);
  // They run the package as it is built.
  if (kind === 'verdicts') execFileSync(process.execPath, ['scripts/bundle.mjs'], { cwd: copy });
  const child = spawn(program, argv, {
    cwd: copy,
    detached: true,
    env: { ...process.env, REQUIRE_PEERS: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes) => {
      said += String(bytes);
    });
  }
  let hangs = false;
  const timer = setTimeout(() => {
    hangs = true;
    // It and the processes of its own.
    process.kill(-(child.pid as number), 'SIGKILL');
  }, LIMIT);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  if (hangs) return 'it hangs';
  if (code === 0) return null;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours of a terminal.
  const plain = said.replace(/\u001b\[[0-9;]*m/g, '');
  const line = /(?:FAIL|BROKEN: matrix:) .*/.exec(plain)?.[0];
  if (line === undefined)
    throw new Error(`${killer} broke without a failure:\n${plain.slice(-2_000)}`);
  return line;
}

/** Makes the edit. @throws {Error} where it is not one edit. */
function mutate(copy: string, { file, from, to, fault }: Mutant): () => void {
  const path = join(copy, file);
  const text = readFileSync(path, 'utf8');
  const parts = text.split(from);
  if (parts.length !== 2)
    throw new Error(`${fault}: its text is ${parts.length - 1} times in ${file}`);
  writeFileSync(path, parts.join(to));
  return () => writeFileSync(path, text);
}

/** Builds the copy's add-on. */
const build = (copy: string) =>
  execFileSync('npm', ['run', '--silent', 'build', '-w', 'native'], {
    cwd: copy,
    stdio: 'ignore',
  });

const words = process.argv.slice(2);
const chosen = MUTANTS.filter(
  ({ file, fault }) => words.length === 0 || words.some((one) => `${file} ${fault}`.includes(one)),
);
const copies = Array.from({ length: COPIES }, copyTree);
const survivors: string[] = [];
let killed = 0;
let wrong = 0;
try {
  // Every edit is there before the first test runs.
  for (const mutant of chosen) mutate(copies[0] as string, mutant)();
  const needed = [...new Set(chosen.flatMap(({ by }) => by))];
  await inTurn([...needed], async (copy, killer) => {
    const why = await run(copy, killer);
    if (why !== null) throw new Error(`${killer} fails without a mutant: ${why}`);
  });
  console.log(`${needed.length} killers pass without a mutant`);
  await inTurn([...chosen], async (copy, mutant) => {
    const restore = mutate(copy, mutant);
    const isNative = mutant.file.startsWith('native/');
    if (isNative) build(copy);
    let by: string | null = null;
    try {
      for (const killer of mutant.by) {
        const why = await run(copy, killer);
        if (why !== null) {
          by = `${killer}: ${why}`;
          break;
        }
      }
    } finally {
      restore();
      if (isNative) build(copy);
    }
    const name = `${mutant.file}: ${mutant.fault}`;
    if (by !== null) {
      killed++;
      console.log(`killed    ${name}\n          by ${by.slice(0, 160)}`);
      if (mutant.lives === undefined) return;
      wrong++;
      console.log('          but list.ts says why it lives: strike that out');
      return;
    }
    survivors.push(`${name}\n          ${mutant.lives ?? 'WITHOUT A REASON'}`);
    if (mutant.lives === undefined) wrong++;
    console.log(`LIVES     ${name}`);
  });
} finally {
  for (const copy of copies) rmSync(copy, { recursive: true, force: true });
}
console.log(`\n${chosen.length} mutants, ${killed} killed, ${survivors.length} live:`);
for (const one of survivors) console.log(`  ${one}`);
process.exit(wrong === 0 && killed + survivors.length === chosen.length ? 0 : 1);

/** Does all of them, one at a time in each copy. */
async function inTurn<T>(left: T[], go: (copy: string, one: T) => Promise<void>): Promise<void> {
  await Promise.all(
    copies.map(async (copy) => {
      for (let one = left.shift(); one !== undefined; one = left.shift()) await go(copy, one);
    }),
  );
}
