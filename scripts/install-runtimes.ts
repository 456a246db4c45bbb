/**
 * Installs the runtimes that tests run in, beside the Node that runs this, and says in one line which
 * there are. Its exit code is 1 where one could not be had.
 */
import { BUN, DENO, find, install, MAJORS, nodePackage } from '../test/support/runtimes.ts';

const wanted = [...MAJORS.map(nodePackage), DENO, BUN];
const missing: string[] = [];
await Promise.all(
  wanted.map(async (one) => {
    try {
      await install(one);
    } catch (error) {
      // Its first line is the command, the next what npm said.
      const [first, said = first] = (error as Error).message.trim().split('\n');
      missing.push(`; not ${one.spec}: ${said}`);
    }
  }),
);
const there = wanted.filter((one) => find(one) !== null).map(({ spec }) => spec);
console.log(`runtimes to test in: ${there.join(', ')}${missing.join('')}`);
if (missing.length > 0) process.exitCode = 1;
