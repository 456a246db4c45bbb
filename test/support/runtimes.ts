/**
 * Other runtimes to run tests in: Node 20, 22, 24 and 26, Deno, Bun, as npm ships them.
 *
 * Each is installed into a folder of its own under `node_modules/.cache/runtimes`, and so is gone with
 * `npm ci`: whoever needs them installs them behind it (`npx tsx scripts/install-runtimes.ts`). Tests
 * only look for them, since test files run side by side and none may wait for npm.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const CACHE = fileURLToPath(new URL('../../node_modules/.cache/runtimes/', import.meta.url));

const run = promisify(execFile);

/** What npm has to be asked for, and where its program is. */
export interface Package {
  /** The folder's name in the cache: '22', 'deno'. */
  readonly folder: string;
  /** What npm calls it: 'node@22'. */
  readonly spec: string;
  /** Its program, within its folder's node_modules. */
  readonly program: string;
}

/** The major versions of Node that we support. */
export const MAJORS = [20, 22, 24, 26] as const;
export type Major = (typeof MAJORS)[number];

/** A Node to run tests in. */
export interface NodeRuntime {
  readonly major: Major;
  /** Its program; null where it is not installed. */
  readonly path: string | null;
}

export const nodePackage = (major: Major): Package => ({
  folder: String(major),
  spec: `node@${major}`,
  program: 'node/bin/node',
});

export const DENO: Package = { folder: 'deno', spec: 'deno@2', program: '.bin/deno' };
export const BUN: Package = { folder: 'bun', spec: 'bun@1', program: '.bin/bun' };

/** The four Nodes, the oldest first. */
export function nodes(): readonly NodeRuntime[] {
  return MAJORS.map((major) => ({ major, path: find(nodePackage(major)) }));
}

/** What the Node that runs this is called. */
const OWN = `node@${process.versions.node.split('.')[0]}`;

/** @returns the path of its program; null where it is not installed. */
export function find(wanted: Package): string | null {
  if (wanted.spec === OWN) return process.execPath;
  const program = programOf(`${CACHE}${wanted.folder}`, wanted);
  return existsSync(program) ? program : null;
}

/**
 * Finds it, or has npm install it.
 *
 * @returns the path of its program.
 * @throws {Error} what npm said, or that its program does not start.
 */
export async function install(wanted: Package, signal?: AbortSignal): Promise<string> {
  const found = find(wanted);
  if (found !== null) return found;
  mkdirSync(CACHE, { recursive: true });
  // Whoever looks for it sees all of it or nothing.
  const building = mkdtempSync(`${CACHE}.${wanted.folder}-`);
  try {
    const npm = ['i', '--prefix', building, '--no-audit', '--no-fund', '--no-save', wanted.spec];
    await run('npm', npm, { signal, timeout: 180_000 });
    await run(programOf(building, wanted), ['--version'], { signal });
    const home = `${CACHE}${wanted.folder}`;
    rmSync(home, { recursive: true, force: true });
    renameSync(building, home);
    return programOf(home, wanted);
  } finally {
    rmSync(building, { recursive: true, force: true });
  }
}

const programOf = (folder: string, { program }: Package) => `${folder}/node_modules/${program}`;
