/** Rows of the matrix, drawn by a seed: ending × version × face × way to read × act × when × half-open. */
import { ALERTS, CUT, ENDINGS, SPLIT, TICKETS } from '../../test/behaviour/verdicts/catalogue.ts';
import { ALL_FACES } from '../../test/behaviour/verdicts/env.ts';
import {
  ALL_ACTS,
  ALL_READS,
  type Row,
  valid,
  WHEN,
} from '../../test/behaviour/verdicts/program.ts';
import { Random } from '../../test/support/random.ts';

/** Endings by how often they are drawn: whole families must not push the rest aside. */
const POOLS: readonly (readonly string[])[] = [
  ...Array.from({ length: 7 }, () => Object.keys({ ...ENDINGS, ...TICKETS })),
  Object.keys(SPLIT),
  Object.keys(CUT),
  Object.keys(ALERTS),
];

/** How many endings there are. */
export const ENDINGS_THERE = new Set(POOLS.flat()).size;

/** The n-th row of a seed: by itself, so that the number of shards changes nothing. */
export function rowOf(seed: number, n: number): Row {
  const random = Random.for(seed, `row ${n}`);
  for (;;) {
    const row: Row = {
      ending: random.of(random.of(POOLS)),
      version: random.of(['TLSv1.2', 'TLSv1.3']),
      face: random.of(ALL_FACES),
      read: random.of(ALL_READS),
      act: random.of(ALL_ACTS),
      when: random.of(WHEN),
      allowHalfOpen: random.of(['false', 'true']),
    };
    if (valid(row)) return row;
  }
}
