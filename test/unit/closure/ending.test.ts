/** One ending for all who watch a connection: what they saw, in what order, and what failed first. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  alertEvent,
  closes,
  Ending,
  type SeenAlert,
  transportEvent,
} from '../../../src/closure/ending.ts';
import { type ClosureEvent, INITIAL, step } from '../../../src/closure/machine.ts';
import { closureOf } from '../../../src/closure/verdict.ts';
import { EVENT, EVENTS } from './events.ts';

const closeNotify: SeenAlert = { level: 1, description: 0, authenticated: true };

describe('closes', () => {
  test('an authenticated close_notify, and nothing else', () => {
    expect(closes(closeNotify)).toBe(true);
    const closing: SeenAlert[] = [];
    for (const level of [null, 0, 1, 2, 3]) {
      for (const description of [null, ...Array(256).keys()]) {
        for (const authenticated of [true, false]) {
          const alert = { level, description, authenticated };
          if (closes(alert)) closing.push(alert);
        }
      }
    }
    // RFC 5246 section 7.2: "Alert messages with a level of fatal result in the immediate termination of the
    // connection."
    expect(closing).toEqual([closeNotify]);
  });
});

describe('alertEvent', () => {
  for (const way of ['sent', 'received'] as const) {
    test(`${way}: close_notify brings what it rests on`, () => {
      for (const evidence of ['openssl', 'record', 'inferred'] as const) {
        expect(alertEvent(way, closeNotify, 'close_notify', evidence)).toEqual({
          type: `close-notify-${way}`,
          evidence,
        });
      }
    });

    test(`${way}: any other alert is one, under its name`, () => {
      for (const [alert, name] of [
        [{ ...closeNotify, authenticated: false }, 'close_notify'],
        [{ ...closeNotify, level: 2 }, 'close_notify'],
        [{ ...closeNotify, level: null }, 'close_notify'],
        [{ level: 2, description: 40, authenticated: false }, 'handshake_failure'],
        [{ level: 2, description: null, authenticated: true }, 'unknown'],
      ] as const) {
        expect(alertEvent(way, alert, name, 'record')).toEqual({
          type: `alert-${way}`,
          alert: { code: alert.description, name, authenticated: alert.authenticated },
        });
      }
    });
  }
});

describe('transportEvent', () => {
  test('EOF has no code, a reset and an error have the one of the transport', () => {
    expect(transportEvent('eof', 'inside-record', 'IGNORED')).toEqual({
      type: 'transport-eof',
      where: 'inside-record',
    });
    expect(transportEvent('reset', 'handshake', 'ECONNRESET')).toEqual({
      type: 'transport-reset',
      where: 'handshake',
      code: 'ECONNRESET',
    });
    expect(transportEvent('error', 'unknown', null)).toEqual({
      type: 'transport-error',
      where: 'unknown',
      code: 'UNKNOWN',
    });
  });
});

describe('what happened', () => {
  /** The state behind these events, one a millisecond. */
  const behind = (...events: readonly ClosureEvent[]) =>
    events.reduce((state, event, at) => step(state, event, at), INITIAL);

  const endingOf = (...events: readonly ClosureEvent[]) => {
    const ending = new Ending();
    for (const [at, event] of events.entries()) ending.happened(event, at);
    return ending;
  };

  test('is what the machine makes of it', () => {
    const ending = new Ending();
    expect(ending.state).toBe(INITIAL);
    expect(ending.happened(EVENT.established, 0)).toBe(true);
    expect(ending.happened(EVENT['close-notify-sent'], 1)).toBe(true);
    expect(ending.happened(EVENT['close-notify-sent'], 2), 'it is closed already').toBe(false);
    expect(ending.state).toEqual(behind(EVENT.established, EVENT['close-notify-sent']));
  });

  test('an alert that crossed before the reset, and is known only behind it, comes first', () => {
    const ending = endingOf(EVENT.established);
    ending.happened(EVENT['transport-reset'], 10);
    expect(ending.closure()).toMatchObject({ verdict: 'truncated', received: null });
    expect(ending.happened(EVENT['close-notify-received'], 5)).toBe(true);
    expect(ending.state.receive).toEqual({ kind: 'closed', at: 5, evidence: 'record' });
    expect(ending.state.transport).toBe('reset');
    expect(ending.closure()).toMatchObject({ truncation: null, received: { at: 5 } });
  });

  test('one that crossed behind it does not', () => {
    const ending = endingOf(EVENT.established);
    ending.happened(EVENT['transport-reset'], 10);
    expect(ending.happened(EVENT['close-notify-received'], 11)).toBe(false);
    expect(ending.closure().verdict).toBe('truncated');
  });

  test('what happened at the same time stays in the order in which it was told', () => {
    const ending = endingOf(EVENT.established);
    ending.happened(EVENT['transport-eof'], 10);
    expect(ending.happened(EVENT['close-notify-received'], 10)).toBe(false);
    expect(ending.closure().verdict).toBe('truncated');
  });

  test('who was first to close may turn out later', () => {
    const ending = endingOf(EVENT.established);
    ending.happened(EVENT['close-notify-sent'], 10);
    expect(ending.closure().initiator).toBe('local');
    ending.happened(EVENT['close-notify-received'], 5);
    expect(ending.closure()).toMatchObject({ initiator: 'peer', verdict: 'secure' });
  });

  test('an earlier event without effect changes nothing, and has one once it is known why', () => {
    const ending = new Ending();
    ending.happened(EVENT['close-notify-received'], 10);
    ending.happened(EVENT['transport-eof'], 20);
    expect(ending.state.receive.kind, 'in the handshake it proves nothing').toBe('truncated');
    const closure = ending.closure();
    ending.happened(EVENT['close-notify-sent'], 15);
    expect(ending.closure()).toEqual(closure);
    ending.happened(EVENT.established, 5);
    expect(ending.closure().verdict).toBe('secure');
  });

  test('in whatever order things are told, it is as if they had been told as they happened', () => {
    const event = fc.constantFrom(...EVENTS);
    const shuffled = fc
      .array(event, { maxLength: 8 })
      .chain((events) =>
        fc.tuple(
          fc.constant(events),
          fc.shuffledSubarray([...events.keys()], { minLength: events.length }),
        ),
      );
    fc.assert(
      fc.property(shuffled, ([events, order]) => {
        const ending = new Ending();
        for (const at of order) ending.happened(events[at] as ClosureEvent, at);
        expect(ending.state).toEqual(behind(...events));
        expect(ending.closure()).toEqual(closureOf(behind(...events)));
      }),
    );
  });
});

describe('conclude()', () => {
  test('what happens behind it comes last, whatever its time', () => {
    const ending = new Ending();
    ending.conclude();
    ending.happened(EVENT.established, 1);
    ending.happened(EVENT['transport-reset'], 10);
    const { state } = ending;
    ending.conclude();
    expect(ending.state).toBe(state);
    expect(ending.happened(EVENT['close-notify-received'], 5)).toBe(false);
    expect(ending.state.receive.kind).toBe('truncated');
  });
});

describe('closure()', () => {
  test('is made anew only where something has changed', () => {
    const ending = new Ending();
    const first = ending.closure();
    expect(ending.closure()).toBe(first);
    expect(ending.closure({ late: 0, unsent: 0 })).toBe(first);
    ending.happened(EVENT.established, 0);
    const second = ending.closure();
    expect(second).not.toBe(first);
    // It is over for the sending direction only once.
    ending.happened(EVENT['close-notify-sent'], 1);
    const third = ending.closure();
    expect(third).not.toBe(second);
    ending.happened(EVENT['close-notify-sent'], 2);
    expect(ending.closure()).toBe(third);
  });

  test('counts what came late and what was never sent', () => {
    const ending = new Ending();
    const first = ending.closure();
    const late = ending.closure({ late: 3, unsent: 0 });
    expect(late).toEqual({ ...first, late: 3 });
    expect(ending.closure({ late: 3, unsent: 0 })).toBe(late);
    const unsent = ending.closure({ late: 3, unsent: 4 });
    expect(unsent).toEqual({ ...first, late: 3, unsent: 4 });
    expect(ending.closure({ late: 3, unsent: 4 })).toBe(unsent);
    expect(ending.closure()).toEqual(first);
  });
});

describe('what failed', () => {
  class Failure extends Error {}

  test('the first failure stays: what fails later is a consequence', () => {
    const ending = new Ending<Failure>();
    expect(ending.failure).toBe(null);
    const first = new Failure('first');
    expect(ending.fail(() => first)).toBe(first);
    expect(
      ending.fail(() => {
        throw new Error('nobody makes a second');
      }),
    ).toBe(first);
    expect(ending.failure).toBe(first);
  });

  test('it is made with the closure as it is then', () => {
    const ending = new Ending<Failure>();
    ending.happened(EVENT.established, 0);
    ending.happened(EVENT['transport-eof'], 1);
    const { message } = ending.fail(
      ({ verdict, unsent, late }) => new Failure(`${verdict} ${unsent} ${late}`),
      { unsent: 7, late: 8 },
    );
    expect(message).toBe('truncated 7 8');
  });

  test('a caller who wants no more forgives it; what fails then is the first again', () => {
    const ending = new Ending<Failure>();
    ending.fail(() => new Failure('first'));
    ending.forgive();
    expect(ending.failure).toBe(null);
    expect(ending.fail(() => new Failure('second')).message).toBe('second');
  });
});
