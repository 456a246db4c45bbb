/**
 * The conformance kit on every runtime that npm ships: Node 20, 22, 24 and 26, Bun, Deno (list.ts).
 *
 * What a runtime is known not to do is an exception with a name, listed in docs/testing.md. One of which
 * every check passes is an exception no more, and fails the test, so that it is struck out. A runtime
 * that is not installed is skipped by name, and fails with REQUIRE_PEERS=1.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  type Check,
  ConformanceError,
  conformance,
  ROLES,
  type Role,
} from '../../../src/testing/index.ts';
import { find, HOW_TO_INSTALL } from '../../support/runtimes.ts';
import { RUNTIMES, type Runtime, type Way } from './list.ts';
import { Remote } from './remote.ts';

/** close-notify/testing, as programs load it: not every runtime here reads our TypeScript. */
const TESTING = new URL('../../../dist/testing/index.js', import.meta.url);
const GUEST = fileURLToPath(new URL('guest.mjs', import.meta.url));

/** Milliseconds until a wait counts as hanging. */
const LIMIT = 20_000;

beforeAll(() => {
  if (!existsSync(TESTING)) throw new Error('no dist/: npm run build');
});

for (const runtime of RUNTIMES) {
  const program = find(runtime.program);
  if (program !== null) {
    describe(runtime.name, () => holdsTheKit(runtime, program));
  } else if (process.env['REQUIRE_PEERS'] === '1') {
    test(`${runtime.name} is installed`, () => expect.fail(HOW_TO_INSTALL));
  } else {
    describe.skip(`${runtime.name} (not installed)`, () => test('passes', () => {}));
  }
}

function holdsTheKit(runtime: Runtime, program: string): void {
  test.each(runtime.ways)('passes the kit, %s', { timeout: 180_000 }, async (way) => {
    const result = await WAYS[way](program, runtime);
    const known = runtime.exceptions.filter((one) => one.way === way);
    const isKnown = (id: string) =>
      known.some(({ checks }) => checks.some((check) => id.startsWith(`${check}/`)));
    const failed = [...result].filter(([, why]) => why !== null);
    expect(failed.filter(([id]) => !isKnown(id))).toEqual([]);
    // Of 138 in both roles.
    expect(result.size - failed.length).toBeGreaterThanOrEqual(
      runtime.never.length === 0 ? 130 : 60,
    );
    const stale = known
      .flatMap(({ checks }) => checks)
      .filter((check) => !failed.some(([id]) => id.startsWith(`${check}/`)));
    expect(stale, 'exceptions that are none any more').toEqual([]);
  });
  for (const role of runtime.never) {
    test(`still cannot be a ${role}`, async () => {
      expect(await takes(role, program, runtime)).toBe(false);
    });
  }
}

/** What came of each check: why it failed, or null. */
type Result = ReadonlyMap<string, string | null>;

const WAYS: Readonly<Record<Way, (program: string, runtime: Runtime) => Promise<Result>>> = {
  'in memory': inMemory,
  'over TCP': overTcp,
};

async function inMemory(program: string, runtime: Runtime): Promise<Result> {
  const child = spawn(program, [...runtime.args, GUEST, TESTING.href, String(LIMIT)], {
    stdio: ['ignore', 'pipe', 'ignore'],
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

async function overTcp(program: string, runtime: Runtime): Promise<Result> {
  using remote = new Remote([program, ...runtime.args], TESTING.href);
  const result = new Map<string, string | null>();
  const roles = ROLES.filter((role) => !runtime.never.includes(role));
  for (const check of conformance(remote.adapter(roles), { limit: LIMIT })) {
    result.set(check.id, await whyItFails(check, remote));
  }
  return result;
}

/** Whether it can take this role after all: the first check says so. */
async function takes(role: Role, program: string, runtime: Runtime): Promise<boolean> {
  using remote = new Remote([program, ...runtime.args], TESTING.href);
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
