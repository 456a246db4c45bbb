/**
 * The nine ways in which two parties end a connection, named: what the demo plays, docs/closure.md
 * lists, and a drawing says it resembles. `A` is the party whose view it is.
 */
import type { Verdict } from '../closure/verdict.ts';

/** One way to end a connection. */
export interface Ending {
  /** As in docs/closure.md. */
  readonly number: number;
  /** Who does what. */
  readonly title: string;
  /** What each party's verdict must be; null where the ending says nothing of it. */
  readonly verdicts: { readonly A: Verdict; readonly B: Verdict | null };
}

/** In the order of the original answer, and three that it left out. */
export const ENDINGS: readonly Ending[] = [
  {
    number: 1,
    title: 'B closes its transport without shutdown; A then calls shutdown',
    verdicts: { A: 'truncated', B: 'aborted' },
  },
  {
    number: 2,
    title: 'A calls shutdown; B closes its transport without answering',
    verdicts: { A: 'truncated', B: 'aborted' },
  },
  {
    number: 3,
    title: 'A calls shutdown and waits; B answers with shutdown',
    verdicts: { A: 'secure', B: 'secure' },
  },
  {
    number: 4,
    title: 'A calls shutdown and does not wait; B answers with shutdown',
    verdicts: { A: 'one-sided', B: 'secure' },
  },
  {
    number: 5,
    title: 'B closes its transport without shutdown; A reads',
    verdicts: { A: 'truncated', B: 'aborted' },
  },
  {
    number: 6,
    title: 'B calls shutdown; A reads, then calls shutdown',
    verdicts: { A: 'secure', B: 'secure' },
  },
  {
    number: 7,
    title: 'A calls shutdown and cancels it',
    verdicts: { A: 'aborted', B: null },
  },
  {
    number: 8,
    title: 'B has sent data that A has not read; A calls shutdown',
    verdicts: { A: 'secure', B: 'secure' },
  },
  {
    number: 9,
    title: 'A calls shutdown; B never answers',
    verdicts: { A: 'timed-out', B: 'open' },
  },
];
