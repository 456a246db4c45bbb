/**
 * Children that load close-notify-native, each in a process of its own: what goes wrong in an add-on
 * ends its process.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe } from 'vitest';
import { pki } from '../../support/core-pki.ts';
import { nodes } from '../../support/runtimes.ts';

export const NATIVE = fileURLToPath(new URL('../../../native/', import.meta.url));
const CHILDREN = fileURLToPath(new URL('./child/', import.meta.url));

/** The Node that runs the tests, and every other that is at hand: 'v22.23.3' and its program. */
export function nodesAtHand(): readonly (readonly [version: string, path: string])[] {
  const named = process.env['CLOSE_NOTIFY_TEST_NODES']?.split(':').filter(Boolean) ?? [];
  const installed = nodes().flatMap(({ path }) => path ?? []);
  const found = new Map([[process.version, process.execPath]]);
  for (const path of [...named, ...installed]) {
    const version = execFileSync(path, ['--version'], { encoding: 'utf8' }).trim();
    if (!found.has(version)) found.set(version, path);
  }
  return [...found];
}

/** Why there is no add-on here; null where there is. */
const missing = (createRequire(import.meta.url)(NATIVE) as { reason: string | null }).reason;

/** `describe` for tests of the add-on; without it they are skipped by name, unless REQUIRE_PEERS=1. */
export function describeNative(name: string, tests: () => void): void {
  if (missing === null || process.env['REQUIRE_PEERS'] === '1') describe(name, tests);
  else describe.skip(`${name} (skipped: ${missing})`, tests);
}

/** How a child ended, and what it said. */
export interface Outcome {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. A limit ends one that hangs, with SIGKILL. */
export function run(
  program: string,
  args: readonly string[],
  environment: Record<string, string> = {},
  cwd?: string,
): Outcome {
  const options = {
    encoding: 'utf8',
    env: { ...process.env, CLOSE_NOTIFY_NATIVE: '', NODE_OPTIONS: '', ...environment },
    killSignal: 'SIGKILL',
    timeout: 60_000,
    ...(cwd === undefined ? {} : { cwd }),
  } as const;
  const { status, signal, stdout, stderr } = spawnSync(program, args, options);
  return { status, signal, stdout, stderr };
}

let pem: string | null = null;

/** A folder with key.pem and cert.pem. */
function pemFolder(): string {
  if (pem !== null) return pem;
  const folder = mkdtempSync(join(tmpdir(), 'native-pem-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const { key, cert } = pki().server;
  writeFileSync(join(folder, 'key.pem'), key);
  writeFileSync(join(folder, 'cert.pem'), cert);
  pem = folder;
  return folder;
}

/**
 * Runs one of `test/behaviour/native/child/`.
 *
 * @returns what it printed.
 * @throws {Error} that it did not end well, with all it said.
 */
export function child(
  node: string,
  name: string,
  args: readonly string[] = [],
  environment: Record<string, string> = {},
): unknown {
  // With a young generation of one size: its growth, some 25 MB, would hide what the add-on leaks.
  const flags = ['--expose-gc', '--max-semi-space-size=1'];
  const file = name.endsWith('.mjs') ? name : `${name}.cjs`;
  const all = [...flags, join(CHILDREN, file), ...args];
  const outcome = run(node, all, { NATIVE_PEM: pemFolder(), ...environment });
  if (outcome.status !== 0) {
    throw new Error(`${name}: ${outcome.signal ?? outcome.status}\n${outcome.stderr}`);
  }
  return JSON.parse(outcome.stdout.trim().split('\n').at(-1) ?? '');
}
