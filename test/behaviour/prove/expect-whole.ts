/** Runs a part of `npm run prove` in its short form, as a test. */
import { expect } from 'vitest';
import { isWhole, PARTS, type Report, runParts } from '../../../prove/harness.ts';

/** The seed of the tests: they must not depend on luck. `npm run prove` draws a new one each time. */
const SEED = 1;

/** Fails with what broke, in the part's own words, and how to repeat it. */
export async function expectWhole(name: string): Promise<Report> {
  const load = PARTS[name];
  if (load === undefined) throw new Error(`no part is called ${name}`);
  const lines: string[] = [];
  const report = await runParts(
    { [name]: load },
    { seed: SEED, short: true, print: (line) => lines.push(line) },
  );
  expect(isWhole(report), lines.join('\n')).toBe(true);
  return report;
}
