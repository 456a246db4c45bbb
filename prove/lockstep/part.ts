/**
 * The real stack, in lockstep: every order of choices to a depth, every situation beyond it, and
 * random schedules.
 *
 * All orders of a few choices are tried as they are. Further on, two schedules that lead to the same
 * situation (the states of both parties, what is on the wire, what waits) are taken for one: each
 * situation is entered once, and every choice that it offers is made once. That the situation is all
 * that matters is an assumption there; the random schedules, which are longer, do not make it.
 */
import fc from 'fast-check';
import { selfSigned, VERSIONS } from '../../src/testing/index.ts';
import type { Context, Figure, Part } from '../harness.ts';
import { CHOICES, type Choice, Disagreement, type Run, run, type Setup } from './drive.ts';

/** How far to go. */
interface Extent {
  /** All orders of so many choices. */
  readonly orders: number;
  /** Every choice in so many situations, for each version. */
  readonly situations: number;
  /** Random schedules, for each version, and the most choices in one. */
  readonly random: number;
  readonly longest: number;
}

const FULL: Extent = { orders: 3, situations: 220, random: 1_000, longest: 14 };
const SHORT: Extent = { orders: 2, situations: 25, random: 100, longest: 12 };

interface Counts {
  schedules: number;
  choices: number;
  situations: number;
  random: number;
  disagreements: number;
  readonly verdicts: Set<string>;
}

export const part: Part = {
  name: 'lockstep',
  title: 'The real stack, in lockstep with the machine',
  seconds: 240,
  async run(context) {
    const extent = context.short ? SHORT : FULL;
    const counts: Counts = {
      schedules: 0,
      choices: 0,
      situations: 0,
      random: 0,
      disagreements: 0,
      verdicts: new Set(),
    };
    for (const version of VERSIONS) {
      const setup: Setup = { version, credentials: selfSigned() };
      await everything(setup, extent, context, counts);
      await randomly(setup, extent, context, counts);
      context.log(`${version}: ${counts.schedules} schedules, ${counts.situations} situations`);
    }
    return figures(extent, counts);
  },
};

function figures(extent: Extent, counts: Counts): Figure[] {
  return [
    { name: 'choices in all orders, up to', value: extent.orders },
    { name: 'schedules driven through two real streams', value: counts.schedules, least: 500 },
    { name: 'choices compared with the machine', value: counts.choices },
    { name: 'situations of which every choice was made', value: counts.situations },
    { name: 'random schedules', value: counts.random, must: extent.random * VERSIONS.length },
    // Every verdict but `alert`, which no honest party and no cut leads to.
    {
      name: 'verdicts reached',
      value: [...counts.verdicts].sort().join(', '),
      must: 'aborted, one-sided, open, secure, timed-out, truncated',
    },
    { name: 'disagreements between stream and machine', value: counts.disagreements, must: 0 },
  ];
}

/** Runs one schedule, and counts. @returns null where stream and machine disagree. */
async function attempt(
  setup: Setup,
  schedule: readonly Choice[],
  { fail, signal }: Context,
  counts: Counts,
): Promise<Run | null> {
  signal.throwIfAborted();
  counts.schedules++;
  counts.choices += schedule.length;
  try {
    const found = await run(setup, schedule);
    for (const verdict of found.verdicts) counts.verdicts.add(verdict);
    return found;
  } catch (error) {
    if (!(error instanceof Disagreement)) throw error;
    counts.disagreements++;
    fail(error.message);
    return null;
  }
}

/** All orders, then all situations, breadth first: a disagreement is told by a shortest schedule. */
async function everything(
  setup: Setup,
  { orders, situations }: Extent,
  context: Context,
  counts: Counts,
): Promise<void> {
  const entered = new Set<string>();
  let front: Choice[][] = [[]];
  for (let depth = 0; front.length > 0; depth++) {
    const next: Choice[][] = [];
    for (const schedule of front) {
      if (depth > orders && entered.size >= situations) return;
      const found = await attempt(setup, schedule, context, counts);
      if (found === null) continue;
      const fresh = !entered.has(found.situation);
      if (depth >= orders && (!fresh || entered.size >= situations)) continue;
      if (fresh) {
        entered.add(found.situation);
        counts.situations++;
      }
      for (const choice of found.enabled) next.push([...schedule, choice]);
    }
    front = next;
  }
}

/** Long schedules; what cannot be chosen at some point is passed over. */
async function randomly(
  setup: Setup,
  { random, longest }: Extent,
  context: Context,
  counts: Counts,
): Promise<void> {
  const schedules = fc.array(fc.constantFrom(...CHOICES), { minLength: 4, maxLength: longest });
  const outcome = await fc.check(
    fc.asyncProperty(schedules, async (wished) => {
      context.signal.throwIfAborted();
      counts.random++;
      const found = await run(setup, wished, { skip: true });
      counts.choices += wished.length;
      counts.schedules++;
      for (const verdict of found.verdicts) counts.verdicts.add(verdict);
    }),
    { seed: context.seed, numRuns: random },
  );
  if (!outcome.failed) return;
  counts.disagreements++;
  const { message } = outcome.errorInstance as Error;
  context.fail(`${message}\n${fc.defaultReportMessage(outcome)}`);
}
