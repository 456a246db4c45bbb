/** What a case about verdicts is: `run` in a child process gives facts, `check` in the test judges them. */

import type { Major } from '../../support/runtimes.ts';
import type { Env } from './env.ts';

/** Where the facts are from. */
export interface About {
  readonly major: Major;
  /** With the add-on. */
  readonly native: boolean;
}

export interface Case<Facts> {
  readonly name: string;
  /** Not beside others: it looks at what the whole process does. */
  readonly alone: boolean;
  /** @returns facts that JSON can carry. */
  run(env: Env): Promise<Facts>;
  /** @returns what is wrong with them, a line each. */
  check(facts: Facts, about: About): readonly string[];
}

/** What a child sends of a case. */
export type Told =
  | { readonly facts: unknown; readonly strays: readonly string[] }
  | { readonly error: string };

/**
 * A list of cases, and what adds to it.
 *
 * @param alone whether none of them may run beside others.
 */
export function family(alone = false) {
  // biome-ignore lint/suspicious/noExplicitAny: each case judges facts of its own kind.
  const cases: Case<any>[] = [];
  const add = <Facts>(name: string, run: Case<Facts>['run'], check: Case<Facts>['check']): void => {
    cases.push({ name, alone, run, check });
  };
  /** One case of several rows, which run one after the other. */
  const addRows = <Row extends { readonly row: string }, Facts>(
    name: string,
    rows: readonly Row[],
    run: (env: Env, row: Row) => Promise<Facts>,
    check: (facts: Facts, row: Row, about: About) => readonly string[],
  ): void => {
    add<Facts[]>(
      name,
      async (env) => {
        const all: Facts[] = [];
        for (const row of rows) {
          all.push(await run(env, row));
          await env.finish();
        }
        return all;
      },
      (all, about) =>
        rows.flatMap((row, i) => check(all[i]!, row, about).map((what) => `${row.row}: ${what}`)),
    );
  };
  return { cases, add, addRows };
}
