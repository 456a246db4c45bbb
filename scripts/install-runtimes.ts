/**
 * Installs the Nodes that tests run in, beside the one that runs this, and says in one line which there
 * are. Its exit code is 1 where one could not be had.
 */
import { install, MAJORS, nodePackage, nodes } from '../test/support/runtimes.ts';

const missing: string[] = [];
await Promise.all(
  MAJORS.map(async (major) => {
    try {
      await install(nodePackage(major));
    } catch (error) {
      // Its first line is the command, the next what npm said.
      const [first, said = first] = (error as Error).message.trim().split('\n');
      missing.push(`; not ${major}: ${said}`);
    }
  }),
);
const there = nodes().filter(({ path }) => path !== null);
console.log(`Node to test in: ${there.map(({ major }) => major).join(', ')}${missing.join('')}`);
if (missing.length > 0) process.exitCode = 1;
