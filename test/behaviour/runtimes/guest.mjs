// @ts-check
/**
 * Runs the conformance kit in whichever runtime started it, and prints what came of each check as a
 * line of JSON. Plain JavaScript, on the compiled package, because not every runtime here reads
 * TypeScript.
 *
 *     <runtime> guest.mjs <URL of the compiled close-notify/testing> <limit in ms>
 */
import process from 'node:process';

const [, , module = '', limit = '5000'] = process.argv;
const { closeNotifyAdapter, conformance } = await import(module);

/** @param {object} line */
const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// What nobody catches is a failure of the check that runs, and no reason to stop.
/** @type {string | null} */
let stray = null;
for (const name of ['uncaughtException', 'unhandledRejection']) {
  process.on(name, (/** @type {unknown} */ error) => {
    stray = `${name}: ${error instanceof Error ? error.message : String(error)}`;
  });
}

for (const check of conformance(closeNotifyAdapter(), { limit: Number(limit) })) {
  stray = null;
  try {
    await check.run();
    tell({ id: check.id, failed: stray });
  } catch (error) {
    const { expected, actual } = /** @type {{ expected?: unknown, actual?: unknown }} */ (error);
    tell({ id: check.id, failed: `expected ${expected}, but ${actual}` });
  }
}
tell({ done: true });
process.exit(0);
