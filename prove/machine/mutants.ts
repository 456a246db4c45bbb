/**
 * Whether the proof bites: the tables of the machine with one entry wrong, each in turn.
 *
 * Theory of operation. A mutant is the library's own machine, with one entry of one of its tables set
 * to another state of the same part. For every state, every event and every other state there is one:
 * so among them are each transition left out, each one misled, and each event that should change
 * nothing but does. A mutant is killed if an invariant of two parties breaks, or, where two parties
 * never get to the entry, or nothing comes of it there, if some sequence of events leads to a state
 * that its history does not have.
 *
 * A few are no other machine to anybody who looks from outside. That is not assumed: it is shown by
 * going through all sequences of events and finding the same verdict and the same closure everywhere.
 * They are killed too, by the name of the state.
 */
import {
  CALLER_TABLE,
  type EventType,
  RECEIVE_TABLE,
  SEND_TABLE,
} from '../../src/closure/machine.ts';
import type { Verdict } from '../../src/closure/verdict.ts';
import { allHistories, kindsOf } from './histories.ts';
import { type Counterexample, search } from './search.ts';
import type { Rules, Subject } from './world.ts';

/** One entry of a table, and what it is set to. */
export interface Mutant {
  readonly part: 'send' | 'receive' | 'caller';
  readonly state: string;
  readonly event: EventType;
  /** What the entry is in the library, and in the mutant. */
  readonly right: string;
  readonly wrong: string;
}

/** What became of the mutants. */
export interface Killed {
  readonly total: number;
  /** By an invariant of two parties; how many by each. */
  readonly byParties: number;
  readonly byInvariant: ReadonlyMap<string, number>;
  /** By a sequence of events whose end a caller can see. */
  readonly bySight: number;
  /** By the name of the state alone: to every caller, in all sequences, the same machine. */
  readonly byName: readonly Mutant[];
  readonly survivors: readonly Mutant[];
}

type Entries = Record<string, Record<EventType, string>>;

const TABLES: Readonly<Record<Mutant['part'], Entries>> = {
  send: SEND_TABLE as Entries,
  receive: RECEIVE_TABLE as Entries,
  caller: CALLER_TABLE as Entries,
};

/** All of them. */
export function allMutants(): Mutant[] {
  const mutants: Mutant[] = [];
  for (const part of ['send', 'receive', 'caller'] as const) {
    const states = Object.keys(TABLES[part]);
    for (const [state, row] of Object.entries(TABLES[part])) {
      for (const [event, right] of Object.entries(row) as Array<[EventType, string]>) {
        for (const wrong of states) {
          if (wrong !== right) mutants.push({ part, state, event, right, wrong });
        }
      }
    }
  }
  return mutants;
}

/** Runs `then` on the library's machine with a wrong entry, and puts it right again. */
export function withMutant<T>({ part, state, event, right, wrong }: Mutant, then: () => T): T {
  const row = TABLES[part][state];
  if (row?.[event] !== right) throw new Error(`no such entry: ${part} ${state} ${event}`);
  row[event] = wrong;
  try {
    return then();
  } finally {
    row[event] = right;
  }
}

/** A mutant in words. */
export function mutantText({ part, state, event, right, wrong }: Mutant): string {
  return `${part}: ${state}, ${event}: ${wrong} instead of ${right}`;
}

/** How to hunt. */
export interface HuntOptions {
  /** The library's machine, which runs on the tables that are made wrong. */
  readonly subject: Subject;
  /** Two parties, by these rules, one after the other; each no deeper than `depth`. */
  readonly rules: readonly Rules[];
  readonly depth: number;
  readonly signal?: AbortSignal | undefined;
}

/** Makes each mutant, and tries to kill it. */
export function hunt(mutants: readonly Mutant[], options: HuntOptions): Killed {
  const { subject } = options;
  const byInvariant = new Map<string, number>();
  const byName: Mutant[] = [];
  const survivors: Mutant[] = [];
  let byParties = 0;
  let bySight = 0;
  const used = options.rules.map((rules) => ({ rules, entries: entriesUsed(rules, options) }));
  for (const mutant of mutants) {
    options.signal?.throwIfAborted();
    withMutant(mutant, () => {
      // Where two parties never use the entry, they cannot tell it from the right one.
      const rules = used.filter(({ entries }) => entries.has(entryKey(mutant)));
      const broken = killByParties(
        rules.map((one) => one.rules),
        options,
      );
      if (broken !== null) {
        byParties++;
        byInvariant.set(broken.name, (byInvariant.get(broken.name) ?? 0) + 1);
      } else if (allHistories(subject, { varied: false, look: 'seen' }).mismatch !== null) {
        bySight++;
      } else if (allHistories(subject, { varied: false }).mismatch !== null) {
        byName.push(mutant);
      } else {
        survivors.push(mutant);
      }
    });
  }
  return { total: mutants.length, byParties, byInvariant, bySight, byName, survivors };
}

/**
 * Gives each combination of states every wrong verdict in turn, and tries to kill that.
 *
 * @param combinations as `kindsOf` writes them, with the verdict that each has.
 * @returns how many were made, and those that lived.
 */
export function huntVerdicts(
  subject: Subject,
  combinations: ReadonlyMap<string, Verdict>,
): { readonly total: number; readonly survivors: readonly string[] } {
  const all = new Set(combinations.values());
  const survivors: string[] = [];
  let total = 0;
  for (const [kinds, right] of combinations) {
    for (const wrong of all) {
      if (wrong === right) continue;
      total++;
      const mutant: Subject = {
        ...subject,
        verdictOf: (state) => (kindsOf(state) === kinds ? wrong : subject.verdictOf(state)),
      };
      const { mismatch } = allHistories(mutant, { varied: false, look: 'seen' });
      if (mismatch === null) survivors.push(`${kinds}: ${wrong} instead of ${right}`);
    }
  }
  return { total, survivors };
}

function killByParties(
  all: readonly Rules[],
  { subject, depth, signal }: HuntOptions,
): Counterexample | null {
  for (const rules of all) {
    const { counterexample } = search(rules, subject, { depth, signal });
    if (counterexample !== null) return counterexample;
  }
  return null;
}

/** The entries of the tables that a search as deep as this one reads. */
function entriesUsed(rules: Rules, { subject, depth, signal }: HuntOptions): Set<string> {
  const used = new Set<string>();
  const watched: Subject = {
    ...subject,
    step(state, event, at) {
      for (const part of ['send', 'receive', 'caller'] as const) {
        used.add(entryKey({ part, state: state[part].kind, event: event.type }));
      }
      return subject.step(state, event, at);
    },
  };
  search(rules, watched, { depth, signal });
  return used;
}

function entryKey({ part, state, event }: Pick<Mutant, 'part' | 'state' | 'event'>): string {
  return `${part} ${state} ${event}`;
}
