/**
 * Load: many connections through their whole life, and what is left of them. They run in a process of
 * their own (child.ts).
 *
 * CLOSE_NOTIFY_LOAD=10000 carries so many connections instead, and a fifth of them open at once.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { LoadReport } from './child.ts';

const CHILD = fileURLToPath(new URL('child.ts', import.meta.url));
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

const CONNECTIONS = Number(process.env['CLOSE_NOTIFY_LOAD'] ?? 500);
const AT_ONCE = CONNECTIONS / 5;
/** The tests must not depend on luck. */
const SEED = 1;

/** By how many bytes the collected heap may differ, whatever the number of connections. */
const FLAT = 4 * 1024 * 1024;
/** The most that a peer may make a stream hold: what `unreadLimit` allows, and the buffers on the way. */
const BOUNDED = 20 * 1024 * 1024;

test('connections leave nothing behind, however they end', { timeout: 300_000 }, async () => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--expose-gc', '--import', 'tsx', CHILD, ...[CONNECTIONS, AT_ONCE, SEED].map(String)],
    { cwd: ROOT },
  );
  const report = JSON.parse(stdout) as LoadReport;
  expect(report).toMatchObject({
    connections: CONNECTIONS + AT_ONCE,
    atOnce: AT_ONCE,
    lost: 0,
    surprises: [],
    uncaught: [],
    handles: [],
    listeners: 0,
    open: 0,
  });
  expect(Object.keys(report.endings)).toHaveLength(9);
  expect(report.growth).toBeLessThanOrEqual(FLAT);
  const peers = Object.entries(report.held);
  expect(peers).toHaveLength(3);
  for (const [peer, held] of peers) expect(held, `held for ${peer}`).toBeLessThanOrEqual(BOUNDED);
});
