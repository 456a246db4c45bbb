/** The proof of the closure machine in its short form, and that each part of it can fail. */
import { describe, expect, test } from 'vitest';
import { allHistories } from '../../../prove/machine/histories.ts';
import { drawCounterexample } from '../../../prove/machine/lane.ts';
import { hunt, type Mutant, withMutant } from '../../../prove/machine/mutants.ts';
import { SUBJECT } from '../../../prove/machine/part.ts';
import { type Counterexample, search } from '../../../prove/machine/search.ts';
import type { Rules, Subject } from '../../../prove/machine/world.ts';
import type { Closure } from '../../../src/closure/verdict.ts';
import { expectWhole } from './expect-whole.ts';

const RULES: Rules = {
  version: 'TLSv1.3',
  answers: ['when-told', 'when-told'],
  requireCloseNotify: true,
  network: 'hostile',
  writes: [1, 0],
  shutdowns: 1,
};

function brokenBy(subject: Subject, rules: Rules = RULES): Counterexample {
  const { counterexample } = search(rules, subject, { depth: 8 });
  if (counterexample === null) throw new Error('nothing broke');
  return counterexample;
}

/** One entry of the receiving table set to another state. */
const wrongEof: Mutant = {
  part: 'receive',
  state: 'open',
  event: 'transport-eof',
  right: 'truncated',
  wrong: 'closed',
};

test('all of it holds, and every mutant of the tables dies', { timeout: 180_000 }, async () => {
  const { parts } = await expectWhole('machine');
  const figures = new Map(parts[0]?.figures.map(({ name, value }) => [name, value]));
  // 7 states of our direction, 8 of the peer's and 5 of the caller, each with 18 events and every other state.
  expect(figures.get('mutants of the tables')).toBe(18 * (7 * 6 + 8 * 7 + 5 * 4));
  expect(figures.get('mutants killed')).toBe(figures.get('mutants of the tables'));
});

describe('a search', () => {
  test('an EOF that passes for close_notify breaks in the fewest moves, and is drawn', () => {
    const broken = withMutant(wrongEof, () => brokenBy(SUBJECT));
    expect(broken.name).toBe('noTruncationIsMissed');
    const moves = broken.trace.map(({ step }) => step.move.what);
    expect(moves).toHaveLength(3);
    expect(moves).toContain('delivers the end of the handshake');
    expect(moves.at(-1)).toBe('delivers FIN');
    const drawing = drawCounterexample(broken);
    expect(drawing).toMatch(/^noTruncationIsMissed: [AB]: eof record-boundary, but aborted\n/);
    expect(drawing).toContain('must share knowledge that the connection is ending');
    expect(drawing).toContain('3 moves, none fewer will do');
    // Each move is a row, in its order, between the two lanes.
    const rows = drawing.split('\n').filter((line) => /[│┊├┤]/.test(line));
    const places = moves.map((what) =>
      rows.findIndex((row) => row.includes(what.replace(/^delivers /, ''))),
    );
    expect(places).toEqual(places.toSorted((one, other) => one - other));
    expect(places[0]).toBeGreaterThanOrEqual(0);
  });

  test('and the library is as it was before the mutant', () => {
    expect(search(RULES, SUBJECT, { depth: 6 }).counterexample).toBe(null);
    expect(allHistories(SUBJECT, { varied: false }).mismatch).toBe(null);
  });

  test('every move is found from either side: mirrored worlds are left out only by equal rules', () => {
    const honest: Rules = { ...RULES, network: 'honest', writes: [0, 0] };
    const equal = search(honest, SUBJECT);
    // Nobody writes, and so the last rule makes no difference but that the parties' rules differ.
    const apart = search({ ...honest, writes: [0, -1] }, SUBJECT);
    expect(equal.complete && apart.complete).toBe(true);
    expect(apart.depth).toBe(equal.depth);
    expect(apart.worlds).toBeGreaterThan(equal.worlds);
    expect(apart.worlds).toBeLessThanOrEqual(2 * equal.worlds);
  });

  test('a verdict that says secure for a close_notify of ours alone is caught', () => {
    const subject: Subject = {
      ...SUBJECT,
      verdictOf: (state) => (state.send.kind === 'closed' ? 'secure' : SUBJECT.verdictOf(state)),
    };
    expect(brokenBy(subject).name).toBe('secureMeansBothClosed');
  });

  test('a truncation that is upgraded by a close_notify that comes too late is caught', () => {
    const subject: Subject = {
      ...SUBJECT,
      step: (state, event, at) => {
        const next = SUBJECT.step(state, event, at);
        return event.type === 'abandon' && state.receive.kind === 'truncated'
          ? { ...next, receive: { kind: 'closed', at, evidence: 'record' } }
          : next;
      },
    };
    expect(brokenBy(subject).name).toMatch(/^(noTruncationIsMissed|anEndStays)$/);
  });

  test('a record of the wrong time is caught', () => {
    const subject: Subject = {
      ...SUBJECT,
      closureOf: (state) => {
        const closure = SUBJECT.closureOf(state);
        const { received } = closure;
        const late = received && { ...received, at: received.at + 1 };
        return { ...closure, received: late } as Closure;
      },
    };
    expect(brokenBy(subject).name).toBe('theRecordIsTheTruth');
  });

  test('bytes that may be missing and are not told of are caught, and those that nobody wanted, too', () => {
    for (const told of [false, true]) {
      const subject: Subject = {
        ...SUBJECT,
        closureOf: (state) => {
          const closure = SUBJECT.closureOf(state);
          return { ...closure, incomplete: closure.incomplete === null ? null : told } as Closure;
        },
      };
      expect(brokenBy(subject).name).toBe('incompleteIsTheTruth');
    }
  });

  test('and so is a step that loses who began', () => {
    const subject: Subject = {
      ...SUBJECT,
      step: (state, event, at) => ({ ...SUBJECT.step(state, event, at), initiator: null }),
    };
    expect(brokenBy(subject).name).toBe('theRecordIsTheTruth');
  });
});

describe('histories', () => {
  test('all sequences of events, of any length, reach every verdict there is', () => {
    const { mismatch, verdicts } = allHistories(SUBJECT, { varied: false });
    expect(mismatch).toBe(null);
    expect([...new Set(verdicts.values())].sort()).toEqual([
      'aborted',
      'alert',
      'one-sided',
      'open',
      'secure',
      'timed-out',
      'truncated',
    ]);
  });

  test('a mismatch tells the shortest sequence', () => {
    const { mismatch } = withMutant(wrongEof, () => allHistories(SUBJECT));
    expect(mismatch?.events).toEqual(['established', 'transport-eof']);
  });

  test('a verdict that is wrong in one place is seen', () => {
    const subject: Subject = {
      ...SUBJECT,
      verdictOf: (state) =>
        state.receive.kind === 'closed' && state.send.kind === 'cut'
          ? 'secure'
          : SUBJECT.verdictOf(state),
    };
    expect(allHistories(subject).mismatch?.what).toContain('the verdict is secure');
  });
});

describe('the hunt', () => {
  test('what nothing kills is told', () => {
    // The hunt watches a machine that does not run on the tables: whatever is done to them, it is well.
    const answers = structuredClone({ INITIAL: SUBJECT.INITIAL });
    const subject: Subject = { ...SUBJECT, ...answers, step: withoutTables() };
    const mutants = [wrongEof];
    const { survivors } = hunt(mutants, {
      subject,
      rules: [{ ...RULES, writes: [0, 0] }],
      depth: 3,
    });
    expect(survivors).toEqual(mutants);
  });

  test('a mutant that is not there is refused', () => {
    expect(() => withMutant({ ...wrongEof, right: 'open' }, () => 0)).toThrow('no such entry');
  });
});

/** The library's step, with the one entry right whatever the table says. */
function withoutTables(): Subject['step'] {
  return (state, event, at) => {
    const next = SUBJECT.step(state, event, at);
    if (state.receive.kind !== 'open' || event.type !== 'transport-eof') return next;
    const { where } = event;
    const receive = { kind: 'truncated', cause: 'eof', where, code: null, lacking: true } as const;
    return { ...next, receive, initiator: state.initiator };
  };
}
