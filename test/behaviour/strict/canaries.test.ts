/**
 * A canary for each undocumented member of Node and undici that the drop-ins rest on: it dies, and names the member,
 * when a Node or an undici no longer has it. What it means to a program the other tests find; this says why.
 *
 * Each Node looks at itself, at its own undici (fetch), and at undici 6, 7 and 8.
 */
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { describeNodes } from '../../support/describe-nodes.ts';

const CHILD = fileURLToPath(new URL('canaries.child.mjs', import.meta.url));
const root = createRequire(import.meta.url);
const runtimes = createRequire(new URL('../../../.ci/runtimes/package.json', import.meta.url));

/** By how many places each of them is looked at in: a canary that looks at nothing lives for ever. */
const LOOKS = { node: 48, undici: 10 } as const;

/** Whether it is installed; with REQUIRE_PEERS=1 a missing one fails. */
function isThere(from: NodeJS.Require, name: string): boolean {
  if (process.env['REQUIRE_PEERS'] === '1') return true;
  try {
    return from.resolve(name) !== '';
  } catch {
    return false;
  }
}

async function look(node: string, what: string): Promise<{ looked: number; missing: string[] }> {
  const { stdout } = await promisify(execFile)(node, [CHILD, what], { timeout: 20_000 });
  return JSON.parse(stdout);
}

describeNodes('undocumented members', (node, major) => {
  it('of Node', async () => {
    const { looked, missing } = await look(node, 'node');
    expect(missing, 'members that this Node no longer has').toEqual([]);
    expect(looked).toBe(LOOKS.node);
  });

  it('of its own undici', async () => {
    const { looked, missing } = await look(node, 'fetch');
    expect(missing, 'members that this Node no longer has').toEqual([]);
    expect(looked).toBe(LOOKS.undici);
  });

  for (const [version, from, name] of [
    [6, runtimes, 'undici-6'],
    [7, root, 'undici'],
    [8, runtimes, 'undici-8'],
  ] as const) {
    // It asks for Node 22.19.
    if (version === 8 && major === 20) continue;
    it.skipIf(!isThere(from, name))(`of undici ${version}`, async () => {
      const { looked, missing } = await look(node, from.resolve(name));
      expect(missing, `members that undici ${version} no longer has`).toEqual([]);
      expect(looked).toBe(LOOKS.undici);
    });
  }
});
