/**
 * Other runtimes to run tests in: Node 20, 22, 24 and 26, Deno, Bun, pinned in `.ci/runtimes`.
 *
 * `npm ci --prefix .ci/runtimes` brings them. Tests only look for them, since test files run side by side and none
 * may wait for npm.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const PACKAGES = fileURLToPath(new URL('../../.ci/runtimes/node_modules/', import.meta.url));

/** What brings those that are missing. */
export const HOW_TO_INSTALL = 'npm ci --prefix .ci/runtimes';

/** The major versions of Node that we support. */
export const MAJORS = [20, 22, 24, 26] as const;
export type Major = (typeof MAJORS)[number];

export type RuntimeName = `node-${Major}` | 'deno' | 'bun';

/** A Node to run tests in. */
export interface NodeRuntime {
  readonly major: Major;
  /** Its program; null where it is not installed. */
  readonly path: string | null;
}

/** The four Nodes, the oldest first. */
export function nodes(): readonly NodeRuntime[] {
  return MAJORS.map((major) => ({ major, path: find(`node-${major}`) }));
}

/** What the Node that runs this is called. */
const OWN = `node-${process.versions.node.split('.')[0]}`;

const PROGRAMS = { node: 'bin/node', deno: 'deno', bun: 'bin/bun' } as const;

/** @returns the path of its program; null where it is not installed. */
export function find(name: RuntimeName): string | null {
  if (name === OWN) return process.execPath;
  const program = `${PACKAGES}${name}/${PROGRAMS[name.split('-')[0] as keyof typeof PROGRAMS]}`;
  return existsSync(program) ? program : null;
}
