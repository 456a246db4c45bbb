/**
 * The nine ways in which two parties end a connection, as data: the demo plays them between two
 * embedded parties, and the interop tests between us and others. Both parties answer the peer's
 * close_notify only when told (`answer: 'when-told'`), so that the script decides everything.
 */
import type { Verdict } from '../closure/verdict.ts';

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

/** One scenario. `A` is the party whose view the original question was about. */
export interface Scenario {
  readonly number: number;
  readonly title: string;
  readonly steps: ReadonlyArray<readonly ['A' | 'B', Action]>;
  /** What each party's verdict must be; null where the scenario says nothing. */
  readonly verdicts: { readonly A: Verdict; readonly B: Verdict | null };
}

/** In the order of the original answer, and three that it left out. */
export const SCENARIOS: readonly Scenario[] = [
  {
    number: 1,
    title: 'B closes its transport without shutdown; A then calls shutdown',
    steps: [
      ['B', 'drop'],
      ['A', 'shutdown'],
    ],
    verdicts: { A: 'truncated', B: 'aborted' },
  },
  {
    number: 2,
    title: 'A calls shutdown; B closes its transport without answering',
    steps: [
      ['A', 'shutdown'],
      ['B', 'drop'],
    ],
    verdicts: { A: 'truncated', B: 'aborted' },
  },
  {
    number: 3,
    title: 'A calls shutdown and waits; B answers with shutdown',
    steps: [
      ['A', 'shutdown'],
      ['B', 'read'],
      ['B', 'shutdown'],
    ],
    verdicts: { A: 'secure', B: 'secure' },
  },
  {
    number: 4,
    title: 'A calls shutdown and does not wait; B answers with shutdown',
    steps: [
      ['A', 'shutdown-no-wait'],
      ['B', 'read'],
      ['B', 'shutdown'],
    ],
    verdicts: { A: 'one-sided', B: 'secure' },
  },
  {
    number: 5,
    title: 'B closes its transport without shutdown; A reads',
    steps: [
      ['B', 'drop'],
      ['A', 'read'],
    ],
    verdicts: { A: 'truncated', B: 'aborted' },
  },
  {
    number: 6,
    title: 'B calls shutdown; A reads, then calls shutdown',
    steps: [
      ['B', 'shutdown'],
      ['A', 'read'],
      ['A', 'shutdown'],
    ],
    verdicts: { A: 'secure', B: 'secure' },
  },
  {
    number: 7,
    title: 'A calls shutdown and cancels it',
    steps: [
      ['A', 'shutdown'],
      ['A', 'cancel'],
    ],
    verdicts: { A: 'aborted', B: null },
  },
  {
    number: 8,
    title: 'B has sent data that A has not read; A calls shutdown',
    steps: [
      ['B', 'write'],
      ['A', 'shutdown'],
      ['B', 'read'],
      ['B', 'shutdown'],
      ['A', 'read'],
    ],
    verdicts: { A: 'secure', B: 'secure' },
  },
  {
    number: 9,
    title: 'A calls shutdown; B never answers',
    steps: [['A', 'shutdown']],
    verdicts: { A: 'timed-out', B: 'open' },
  },
];
