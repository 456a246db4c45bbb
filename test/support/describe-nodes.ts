/** Tests that run once for each Node that we support. */
import { describe, expect, it } from 'vitest';
import { HOW_TO_INSTALL, type Major, nodes } from './runtimes.ts';

/**
 * `describe` once for each Node. One that is not installed is skipped by name, and fails there with
 * REQUIRE_PEERS=1.
 *
 * @param body is given the program's path.
 */
export function describeNodes(title: string, body: (node: string, major: Major) => void): void {
  for (const { major, path } of nodes()) {
    const name = `${title}, Node ${major}`;
    if (path !== null) describe(name, () => body(path, major));
    else if (process.env['REQUIRE_PEERS'] !== '1')
      describe.skip(`${name} (not installed)`, () => it('runs', () => {}));
    else
      describe(name, () => {
        it('is installed', () => expect.fail(HOW_TO_INSTALL));
      });
  }
}
