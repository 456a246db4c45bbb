/**
 * The conformance kit on every runtime that npm ships: Node 20, 22, 24 and 26, Bun, Deno.
 *
 * The runtimes are installed on demand into a folder of their own under node_modules/.cache. One that
 * cannot be had is told as 'not run', and 'not run' is not what its figure must be. What a runtime is
 * known not to do is an exception with a name, listed in docs/testing.md. One of which every check
 * passes is an exception no more, and that is told too.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Context, Figure, Part } from '../part.ts';

const ROOT = new URL('../../', import.meta.url);
const CACHE = new URL('node_modules/.cache/prove-runtimes/', ROOT);
const TESTING = new URL('dist-prove/testing/index.js', CACHE);
const GUEST = fileURLToPath(new URL('guest.mjs', import.meta.url));

/** One runtime. */
interface Runtime {
  readonly name: string;
  /** What npm calls it. */
  readonly spec: string;
  /** Its program, within its folder's node_modules. */
  readonly program: string;
  readonly args: readonly string[];
  /** Checks that are known to fail: all whose id contains one of these. */
  readonly exceptions: readonly string[];
}

const node = (major: number): Runtime => ({
  name: `node ${major}`,
  spec: `node@${major}`,
  program: 'node/bin/node',
  args: [],
  exceptions: [],
});

/** See docs/testing.md, "Runtimes", for what is behind the exceptions. */
export const RUNTIMES: readonly Runtime[] = [
  node(20),
  node(22),
  node(24),
  node(26),
  {
    name: 'deno',
    spec: 'deno@2',
    program: '.bin/deno',
    args: ['run', '-A'],
    exceptions: [],
  },
  // A server over a transport that is no socket, which the kit's reference is too, is not to be had.
  { name: 'bun', spec: 'bun@1', program: '.bin/bun', args: [], exceptions: ['/'] },
];

/** What came of one runtime. */
interface Result {
  readonly version: string;
  readonly passed: number;
  readonly failed: ReadonlyMap<string, string>;
}

export const part: Part = {
  name: 'runtimes',
  title: 'The conformance kit on other runtimes',
  seconds: 300,
  async run(context) {
    await compile();
    const figures: Figure[] = [];
    for (const runtime of context.short ? RUNTIMES.slice(0, 1) : RUNTIMES) {
      context.signal.throwIfAborted();
      figures.push(...(await one(runtime, context)));
    }
    return figures;
  },
};

const run = promisify(execFile);

/** The package as it is now, in a folder of its own: `dist` may be somebody else's, or old. */
async function compile(): Promise<void> {
  const tsc = fileURLToPath(new URL('node_modules/typescript/bin/tsc', ROOT));
  const out = fileURLToPath(new URL('dist-prove', CACHE));
  // A folder under node_modules belongs to no package but its own.
  mkdirSync(out, { recursive: true });
  writeFileSync(`${out}/package.json`, '{ "type": "module" }\n');
  await run(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', out], {
    cwd: fileURLToPath(ROOT),
  });
}

async function one(runtime: Runtime, context: Context): Promise<Figure[]> {
  const { name, exceptions } = runtime;
  const label = `${name}: checks that fail and should not`;
  const program = await install(runtime, context);
  if (program === null) return [{ name: label, value: 'not run', must: 0 }];
  const { version, passed, failed } = await guest(program, runtime, context);
  const expected = (id: string) => exceptions.some((part) => id.includes(part));
  const surprising = [...failed].filter(([id]) => !expected(id));
  for (const [id, why] of surprising) context.fail(`${name}: ${id}: ${why}`);
  const known = failed.size - surprising.length;
  const stale = exceptions.filter((part) => ![...failed.keys()].some((id) => id.includes(part)));
  for (const part of stale)
    context.fail(`${name}: ${part} is no exception any more: strike it out`);
  context.log(
    `${name} ${version}: ${passed} passed, ${failed.size} failed, ${known} of these known`,
  );
  return [
    { name: `${name}: version`, value: version },
    // Where everything is an exception there is nothing that could pass.
    { name: `${name}: checks passed`, value: passed, ...(expected('/') ? {} : { least: 100 }) },
    { name: `${name}: known exceptions`, value: known },
    { name: `${name}: exceptions that are none`, value: stale.length, must: 0 },
    { name: label, value: surprising.length, must: 0 },
  ];
}

/** @returns the path of its program; null where npm cannot bring it. */
async function install(runtime: Runtime, { log, signal }: Context): Promise<string | null> {
  const folder = fileURLToPath(new URL(runtime.spec.replace('@', '-'), CACHE));
  const program = `${folder}/node_modules/${runtime.program}`;
  if (existsSync(program)) return program;
  try {
    const npm = ['i', '--prefix', folder, '--no-audit', '--no-fund', '--no-save', runtime.spec];
    await run('npm', npm, { signal, timeout: 90_000 });
  } catch (error) {
    log(`${runtime.name} was not installed: ${(error as Error).message.split('\n')[0]}`);
    return null;
  }
  return existsSync(program) ? program : null;
}

async function guest(program: string, runtime: Runtime, context: Context): Promise<Result> {
  const { stdout } = await run(program, ['--version'], { signal: context.signal });
  const version = /\d+\.\d+\.\d+/.exec(stdout)?.[0] ?? 'unknown';
  // Where all is known to fail, it need not fail slowly.
  const limit = runtime.exceptions.includes('/') ? '300' : '10000';
  const child = spawn(program, [...runtime.args, GUEST, TESTING.href, limit], {
    stdio: ['ignore', 'pipe', 'ignore'],
    signal: context.signal,
  });
  const failed = new Map<string, string>();
  let passed = 0;
  let done = false;
  const closed = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const told = JSON.parse(line) as { id?: string; failed?: string | null; done?: true };
    if (told.done) done = true;
    else if (told.failed === null) passed++;
    else failed.set(told.id ?? '?', told.failed ?? '?');
  }
  await closed;
  if (!done) throw new Error(`${runtime.name} ended in the middle of the checks`);
  return { version, passed, failed };
}
