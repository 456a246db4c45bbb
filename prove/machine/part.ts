/**
 * Every interleaving: two parties with the real closure machine in every order of moves, one machine
 * in every sequence of events, and the machine's tables with each entry made wrong in turn.
 */
import { setImmediate } from 'node:timers/promises';
import { INITIAL, step } from '../../src/closure/machine.ts';
import { closureOf, verdictOf } from '../../src/closure/verdict.ts';
import type { Context, Figure, Part } from '../harness.ts';
import { allHistories } from './histories.ts';
import { STEP_INVARIANTS, WORLD_INVARIANTS } from './invariants.ts';
import { drawCounterexample, rulesText } from './lane.ts';
import { allMutants, hunt, huntVerdicts, mutantText } from './mutants.ts';
import { search } from './search.ts';
import type { Rules, Subject } from './world.ts';

/** The library's own machine. */
export const SUBJECT: Subject = { INITIAL, step, verdictOf, closureOf };

/** What each standard asks, as the policy `by-version` does it. */
const TLS12 = { version: 'TLSv1.2', answers: ['at-once', 'at-once'] } as const;
const TLS13 = { version: 'TLSv1.3', answers: ['when-told', 'when-told'] } as const;
const HOSTILE = { requireCloseNotify: true, network: 'hostile', shutdowns: 1 } as const;
const HONEST = { requireCloseNotify: true, network: 'honest', shutdowns: 2 } as const;

/** Small enough for each mutant. */
const SMALL: readonly Rules[] = [
  { ...TLS12, ...HOSTILE, writes: [0, 0], idles: true },
  { ...TLS13, ...HOSTILE, writes: [0, 0] },
];

/** Small enough for a test. */
const SHORT: readonly Rules[] = [
  { ...TLS13, ...HOSTILE, writes: [0, 0] },
  { ...TLS12, ...HOSTILE, writes: [0, 0], shutdowns: 0, idles: true },
  { ...TLS12, ...HONEST, writes: [1, 0], shutdowns: 1 },
  { ...TLS13, ...HONEST, writes: [1, 0], shutdowns: 1 },
];

const FULL: readonly Rules[] = [
  { ...TLS12, ...HOSTILE, writes: [1, 0] },
  { ...TLS13, ...HOSTILE, writes: [1, 0] },
  // A caller who asks again after having chosen, given up, or let go.
  { ...TLS13, ...HOSTILE, writes: [0, 0], shutdowns: 2 },
  // HTTP, which may know that nothing was missing.
  { ...TLS13, ...HOSTILE, writes: [0, 0], idles: true },
  // A peer by the other policy.
  { ...TLS12, ...HOSTILE, answers: ['at-once', 'when-told'], writes: [0, 0] },
  { ...TLS13, ...HOSTILE, answers: ['at-once', 'when-told'], writes: [0, 0] },
  // Truncation reported, not raised.
  { ...TLS12, ...HOSTILE, requireCloseNotify: false, writes: [0, 0] },
  { ...TLS13, ...HOSTILE, requireCloseNotify: false, writes: [0, 0] },
  // Nobody meddles: what the parties may think of each other.
  { ...TLS12, ...HONEST, writes: [1, 1] },
  { ...TLS13, ...HONEST, writes: [1, 1] },
];

/** Of a receiving, a sending and a caller's state, reachable or not. */
const COMBINATIONS = 8 * 7 * 5;

export const part: Part = {
  name: 'machine',
  title: 'Every interleaving',
  // About 70 on a core of its own.
  seconds: 600,
  async run(context) {
    return [...(await parties(context)), ...histories(context), ...mutants(context)];
  },
};

async function parties({ short, signal, log, fail }: Context): Promise<Figure[]> {
  let worlds = 0;
  let edges = 0;
  let depth = 0;
  let broken = 0;
  let complete = 0;
  const all = short ? SHORT : FULL;
  for (const rules of all) {
    // All of this is computing: the frame's clock gets its turn in between.
    await setImmediate();
    const found = search(rules, SUBJECT, { signal });
    worlds += found.worlds;
    edges += found.edges;
    depth = Math.max(depth, found.depth);
    if (found.complete) complete++;
    log(`${rulesText(rules)}: ${found.worlds} worlds, ${found.edges} moves`);
    if (found.counterexample !== null) {
      broken++;
      fail(drawCounterexample(found.counterexample));
    }
  }
  return [
    { name: 'rule sets searched to the end', value: complete, must: all.length },
    { name: 'worlds of two parties', value: worlds, least: 100_000 },
    { name: 'moves between them', value: edges },
    { name: 'moves to the farthest world', value: depth, least: 12 },
    { name: 'invariants', value: STEP_INVARIANTS.length + WORLD_INVARIANTS.length },
    { name: 'invariants broken', value: broken, must: 0 },
  ];
}

function histories({ fail }: Context): Figure[] {
  const { pairs, steps, verdicts, mismatch } = allHistories(SUBJECT);
  if (mismatch !== null) fail(`${mismatch.what}\n${mismatch.events.join(' > ')}`);
  const wrong = huntVerdicts(SUBJECT, verdicts);
  for (const survivor of wrong.survivors) fail(`a wrong verdict is not seen: ${survivor}`);
  return [
    { name: 'states of one machine, with their history', value: pairs, least: 1000 },
    { name: 'events tried in them', value: steps },
    {
      name: 'states that are not what their history says',
      value: mismatch === null ? 0 : 1,
      must: 0,
    },
    // The others no sequence of events leads to, so a wrong verdict there is nobody's.
    { name: `combinations reached, of ${COMBINATIONS}`, value: verdicts.size, least: 100 },
    { name: 'wrong verdicts in them', value: wrong.total },
    { name: 'wrong verdicts seen', value: wrong.total - wrong.survivors.length, must: wrong.total },
  ];
}

function mutants({ short, signal, log, fail }: Context): Figure[] {
  const killed = hunt(allMutants(), {
    subject: SUBJECT,
    rules: SMALL,
    depth: short ? 3 : 7,
    signal,
  });
  for (const mutant of killed.survivors) fail(`a mutant survives: ${mutantText(mutant)}`);
  for (const [name, count] of killed.byInvariant) log(`${name} kills ${count}`);
  const { total, byParties, bySight, byName } = killed;
  return [
    { name: 'mutants of the tables', value: total },
    { name: 'mutants killed', value: byParties + bySight + byName.length, must: total },
    { name: '– by an invariant of two parties', value: byParties, least: short ? 300 : 650 },
    { name: '– by a sequence of events', value: bySight },
    { name: '– by name only: shown to be the same machine to a caller', value: byName.length },
  ];
}
