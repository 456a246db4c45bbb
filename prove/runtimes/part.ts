/**
 * The conformance kit on every runtime that npm ships: Node 20, 22, 24 and 26, Bun, Deno.
 *
 * A runtime is judged in one of two ways, or in both. In memory, the whole kit runs in it (`guest.mjs`).
 * Over TCP, only the stream under test does, and the kit with its reference is here (`remote.ts`): that
 * is for sockets, and for a runtime that cannot be its own reference. Bun cannot: the kit needs one that
 * answers close_notify only when told.
 *
 * The runtimes are installed on demand (`test/support/runtimes.ts`). One that cannot be had is told as
 * 'not run', and 'not run' is not what its figure must be. What a runtime is known not to do is an
 * exception with a name, listed in docs/testing.md. One of which every check passes is an exception no
 * more, and that is told too.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  type Check,
  ConformanceError,
  conformance,
  ROLES,
  type Role,
} from '../../src/testing/index.ts';
import { install, type Major, nodePackage, type Package } from '../../test/support/runtimes.ts';
import type { Context, Figure, Part } from '../part.ts';
import { Remote } from './remote.ts';

const ROOT = new URL('../../', import.meta.url);
const CACHE = new URL('node_modules/.cache/prove-runtimes/', ROOT);
const TESTING = new URL('dist-prove/testing/index.js', CACHE);
const GUEST = fileURLToPath(new URL('guest.mjs', import.meta.url));

/** One runtime. */
interface Runtime {
  readonly name: string;
  readonly package: Package;
  readonly args: readonly string[];
  readonly ways: readonly Way[];
  /** Roles that it cannot take at all. */
  readonly never: readonly Role[];
  readonly exceptions: readonly Exception[];
}

/** Checks that are known to fail for one reason: some of them, in some role and version. */
interface Exception {
  readonly checks: readonly string[];
  readonly way: Way;
}

type Way = 'in memory' | 'over TCP';

const node = (major: Major): Runtime => ({
  name: `node ${major}`,
  package: nodePackage(major),
  args: [],
  ways: ['in memory'],
  never: [],
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
    package: { folder: 'deno', spec: 'deno@2', program: '.bin/deno' },
    args: ['run', '-A'],
    ways: ['in memory', 'over TCP'],
    never: [],
    exceptions: [],
  },
  {
    name: 'bun',
    package: { folder: 'bun', spec: 'bun@1', program: '.bin/bun' },
    args: [],
    ways: ['over TCP'],
    never: [],
    exceptions: [{ checks: ['closure/half-close-of-the-peer'], way: 'over TCP' }],
  },
];

/** What came of one runtime, in one way: why each check failed, or null. */
type Result = ReadonlyMap<string, string | null>;

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
  const program = await bring(runtime, context);
  if (program === null) return [{ name: label, value: 'not run', must: 0 }];
  const { stdout } = await run(program, ['--version'], { signal: context.signal });
  const figures: Figure[] = [
    { name: `${name}: version`, value: /\d+\.\d+\.\d+/.exec(stdout)?.[0] ?? 'unknown' },
  ];
  const surprising: string[] = [];
  const known = new Map(exceptions.map((one) => [one, 0]));
  for (const way of runtime.ways) {
    const result = await WAYS[way](program, runtime, context);
    let passed = 0;
    for (const [id, why] of result) {
      const excused = exceptions.find(
        (one) => one.way === way && one.checks.some((check) => id.startsWith(`${check}/`)),
      );
      if (why === null) passed++;
      else if (excused === undefined) surprising.push(`${id}, ${way}: ${why}`);
      else known.set(excused, (known.get(excused) ?? 0) + 1);
    }
    context.log(`${name}, ${way}: ${passed} of ${result.size} checks passed`);
    // Of 138 in both roles.
    const least = runtime.never.length === 0 ? 130 : 60;
    figures.push({ name: `${name}: checks passed ${way}`, value: passed, least });
  }
  for (const what of surprising) context.fail(`${name}: ${what}`);
  const stale: string[] = exceptions
    .filter((one) => known.get(one) === 0)
    .map(({ checks, way }) => `${checks.join(', ')} ${way}`);
  for (const role of runtime.never) {
    if (await takes(role, program, runtime, context)) stale.push(`no ${role}`);
  }
  for (const what of stale) {
    context.fail(`${name}: '${what}' is no exception any more: strike it out`);
  }
  return [
    ...figures,
    {
      name: `${name}: checks that failed as is known`,
      value: [...known.values()].reduce((sum, count) => sum + count, 0),
    },
    { name: `${name}: exceptions that are none`, value: stale.length, must: 0 },
    { name: label, value: surprising.length, must: 0 },
  ];
}

/** @returns the path of its program; null where npm cannot bring it. */
async function bring(runtime: Runtime, { log, signal }: Context): Promise<string | null> {
  try {
    return await install(runtime.package, signal);
  } catch (error) {
    log(`${runtime.name} was not installed: ${(error as Error).message.split('\n')[0]}`);
    return null;
  }
}

const WAYS: Readonly<
  Record<Way, (program: string, runtime: Runtime, context: Context) => Promise<Result>>
> = { 'in memory': inMemory, 'over TCP': overTcp };

/** Milliseconds until a wait counts as hanging. */
const LIMIT = 10_000;

async function inMemory(program: string, runtime: Runtime, context: Context): Promise<Result> {
  const child = spawn(program, [...runtime.args, GUEST, TESTING.href, String(LIMIT)], {
    stdio: ['ignore', 'pipe', 'ignore'],
    signal: context.signal,
  });
  const result = new Map<string, string | null>();
  let done = false;
  const closed = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const told = JSON.parse(line) as { id?: string; failed?: string | null; done?: true };
    if (told.done) done = true;
    else result.set(told.id ?? '?', told.failed === undefined ? '?' : told.failed);
  }
  await closed;
  if (!done) throw new Error(`${runtime.name} ended in the middle of the checks`);
  return result;
}

async function overTcp(program: string, runtime: Runtime, { signal }: Context): Promise<Result> {
  using remote = new Remote([program, ...runtime.args], TESTING.href, signal);
  const result = new Map<string, string | null>();
  const roles = ROLES.filter((role) => !runtime.never.includes(role));
  for (const check of conformance(remote.adapter(roles), { limit: LIMIT })) {
    signal.throwIfAborted();
    result.set(check.id, await whyItFails(check, remote));
  }
  return result;
}

/** Whether it can take this role after all: the first check says so. */
async function takes(
  role: Role,
  program: string,
  runtime: Runtime,
  { signal }: Context,
): Promise<boolean> {
  using remote = new Remote([program, ...runtime.args], TESTING.href, signal);
  const [check] = conformance(remote.adapter([role]), { limit: 2_000 });
  return check !== undefined && (await whyItFails(check, remote)) === null;
}

async function whyItFails(check: Check, remote: Remote): Promise<string | null> {
  try {
    await check.run();
  } catch (error) {
    if (!(error instanceof ConformanceError)) throw error;
    return `expected ${error.expected}, but ${error.actual}`;
  }
  // What nobody caught is a failure of the check that ran.
  return remote.strays()[0] ?? null;
}
