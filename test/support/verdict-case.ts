/** What a case about verdicts is: `run` in a child process gives facts, `check` in the test judges them. */

import type { Major } from './runtimes.ts';
import type { Env } from './verdict-env.ts';

/** Where the facts are from. */
export interface About {
  readonly major: Major;
  /** With the add-on. */
  readonly native: boolean;
}

export interface Case<Facts> {
  readonly name: string;
  /** @returns facts that JSON can carry. */
  run(env: Env): Promise<Facts>;
  /** @returns what is wrong with them, a line each. */
  check(facts: Facts, about: About): readonly string[];
}

/** What a child sends of a case. */
export type Told =
  | { readonly facts: unknown; readonly strays: readonly string[] }
  | { readonly error: string };

/** A list of cases, and what adds to it. */
export function family() {
  // biome-ignore lint/suspicious/noExplicitAny: each case judges facts of its own kind.
  const cases: Case<any>[] = [];
  const add = <Facts>(name: string, run: Case<Facts>['run'], check: Case<Facts>['check']): void => {
    cases.push({ name, run, check });
  };
  return { cases, add };
}
