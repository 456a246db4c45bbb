/**
 * The nine ways in which two parties end a connection, as data: the demo plays them between two
 * embedded parties, and the interop tests between us and others. Both parties answer the peer's
 * close_notify only when told (`answer: 'when-told'`), so that the script decides everything.
 */
import { ENDINGS, type Ending } from '../drawing/endings.ts';

/** What a party does in a step. */
export type Action =
  /** Write a few bytes. */
  | 'write'
  /** Read once: bytes, the end, or an error. */
  | 'read'
  /** Begin a shutdown that waits for the peer; the next step does not wait for it. */
  | 'shutdown'
  /** Send close_notify, do not wait, and close. */
  | 'shutdown-no-wait'
  /** Close the transport without an alert. */
  | 'drop'
  /** Cancel the shutdown that was begun. */
  | 'cancel';

/** One scenario: an ending, and how it is brought about. */
export interface Scenario extends Ending {
  readonly steps: ReadonlyArray<readonly ['A' | 'B', Action]>;
}

const STEPS: Readonly<Record<number, Scenario['steps']>> = {
  1: [
    ['B', 'drop'],
    ['A', 'shutdown'],
  ],
  2: [
    ['A', 'shutdown'],
    ['B', 'drop'],
  ],
  3: [
    ['A', 'shutdown'],
    ['B', 'read'],
    ['B', 'shutdown'],
  ],
  4: [
    ['A', 'shutdown-no-wait'],
    ['B', 'read'],
    ['B', 'shutdown'],
  ],
  5: [
    ['B', 'drop'],
    ['A', 'read'],
  ],
  6: [
    ['B', 'shutdown'],
    ['A', 'read'],
    ['A', 'shutdown'],
  ],
  7: [
    ['A', 'shutdown'],
    ['A', 'cancel'],
  ],
  8: [
    ['B', 'write'],
    ['A', 'shutdown'],
    ['B', 'read'],
    ['B', 'shutdown'],
    ['A', 'read'],
  ],
  9: [['A', 'shutdown']],
};

/** All endings, as scripts. */
export const SCENARIOS: readonly Scenario[] = ENDINGS.map((ending) => ({
  ...ending,
  steps: STEPS[ending.number] ?? [],
}));
