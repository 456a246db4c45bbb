/** The lines of README.md for undici 6, 7 and 8: with the `fetch` of undici's own, and with that of each Node. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { describeNodes } from '../../support/describe-nodes.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const CHILD = fileURLToPath(new URL('undici-fetch.child.mjs', import.meta.url));
const CUT = 'ERR_TLS_TRUNCATED';

describeNodes('fetch over strictConnector', (node, major) => {
  for (const [version, folder] of [
    [6, '.ci/runtimes/node_modules/undici-6'],
    [7, 'node_modules/undici'],
    [8, '.ci/runtimes/node_modules/undici-8'],
  ] as const) {
    // It asks for Node 22.19.
    if (version === 8 && major === 20) continue;
    const main = `${ROOT}${folder}/index.js`;
    it.skipIf(!existsSync(main))(`undici ${version}: a body that is cut fails`, async () => {
      const { stdout } = await promisify(execFile)(
        node,
        ['--import', 'tsx', CHILD, pathToFileURL(main).href],
        { cwd: ROOT },
      );
      // The fetch of Node 26 does not look at the dispatcher that undici 6 sets: README.md says so. It then does not
      // trust the certificate either.
      const unseen = version === 6 && major === 26;
      expect(JSON.parse(stdout)).toEqual({
        own: CUT,
        ownByDefault: CUT,
        ofNode: unseen ? 'DEPTH_ZERO_SELF_SIGNED_CERT' : CUT,
      });
    });
  }
});
