import { describe, expect, test } from 'vitest';
import { stateOf } from '../../../src/closure/diagram.ts';
import type { CallerKind, ReceiveKind, SendKind } from '../../../src/closure/machine.ts';
import { INITIAL, step } from '../../../src/closure/machine.ts';
import { closureOf, type Verdict, verdictOf } from '../../../src/closure/verdict.ts';
import { EVENT } from './events.ts';

const SEND: readonly SendKind[] = [
  'handshaking',
  'open',
  'closing',
  'closed',
  'alerted',
  'cut',
  'abandoned',
];
const RECEIVE: readonly ReceiveKind[] = [
  'handshaking',
  'open',
  'closed',
  'alerted',
  'rejected',
  'truncated',
  'abandoned',
];
const CALLER: readonly CallerKind[] = ['using', 'waiting', 'waived', 'expired', 'cancelled'];

/** All combinations for which `holds`, with their verdicts. */
function verdicts(
  holds: (receive: ReceiveKind, send: SendKind, caller: CallerKind) => boolean,
): Verdict[] {
  const found = new Set<Verdict>();
  for (const receive of RECEIVE) {
    for (const send of SEND) {
      for (const caller of CALLER) {
        if (holds(receive, send, caller)) found.add(verdictOf(stateOf(receive, send, caller)));
      }
    }
  }
  return [...found].sort();
}

describe('verdictOf, for all combinations', () => {
  test('secure if and only if both directions are closed', () => {
    expect(verdicts((receive, send) => receive === 'closed' && send === 'closed')).toEqual([
      'secure',
    ]);
    expect(verdicts((receive, send) => receive !== 'closed' || send !== 'closed')).not.toContain(
      'secure',
    );
  });

  test('truncated if and only if the peer was cut off', () => {
    expect(verdicts((receive) => receive === 'truncated')).toEqual(['truncated']);
    expect(verdicts((receive) => receive !== 'truncated')).not.toContain('truncated');
  });

  test("alert whenever one ended the peer's bytes, or ours after the peer's were complete", () => {
    expect(verdicts((receive) => receive === 'alerted' || receive === 'rejected')).toEqual([
      'alert',
    ]);
    expect(verdicts((receive, send) => receive === 'closed' && send === 'alerted')).toEqual([
      'alert',
    ]);
    expect(
      verdicts(
        (receive, send) =>
          receive !== 'alerted' &&
          receive !== 'rejected' &&
          !(receive === 'closed' && send === 'alerted'),
      ),
    ).not.toContain('alert');
  });

  test('timed-out only of a caller whose deadline passed, aborted only where it gave up', () => {
    expect(verdicts((_receive, _send, caller) => caller !== 'expired')).not.toContain('timed-out');
    expect(
      verdicts(
        (receive, send, caller) =>
          caller !== 'cancelled' && receive !== 'abandoned' && send !== 'abandoned',
      ),
    ).not.toContain('aborted');
  });

  test("one-sided: ours was sent and by choice not waited for, or ours could not follow the peer's", () => {
    for (const receive of ['open', 'handshaking', 'abandoned'] as const) {
      expect(verdictOf(stateOf(receive, 'closed', 'waived'))).toBe('one-sided');
    }
    expect(verdicts((receive, send) => receive === 'closed' && send === 'cut')).toEqual([
      'one-sided',
    ]);
    expect(
      verdicts(
        (receive, send, caller) =>
          !(receive === 'closed' && send === 'cut') && !(caller === 'waived' && send === 'closed'),
      ),
    ).not.toContain('one-sided');
  });

  test('open while nobody gave up and no end of the peer is known, or ours is still to come', () => {
    for (const caller of ['using', 'waiting'] as const) {
      expect(verdicts((receive, _send, who) => receive === 'open' && who === caller)).toEqual([
        'open',
      ]);
    }
    for (const send of ['open', 'closing'] as const) {
      expect(verdictOf(stateOf('closed', send, 'waived'))).toBe('open');
    }
    for (const caller of ['using', 'waiting', 'waived'] as const) {
      expect(verdictOf(stateOf('abandoned', 'closing', caller))).toBe('open');
    }
    expect(
      verdicts((receive, send) => receive === 'abandoned' && send !== 'closing'),
    ).not.toContain('open');
  });
});

describe('closureOf', () => {
  test('says whether what was read may lack bytes', () => {
    // RFC 9846 section 6.1: "If a transport-level close is received prior to a "close_notify", the receiver cannot know
    // that all the data that was sent has been received."
    const lacking = (...names: ReadonlyArray<keyof typeof EVENT>) =>
      closureOf(names.reduce((state, name, at) => step(state, EVENT[name], at), INITIAL))
        .incomplete;
    expect(lacking('established')).toBe(null);
    expect(lacking('established', 'close-notify-sent')).toBe(null);
    for (const end of ['transport-eof', 'transport-reset', 'transport-error'] as const) {
      expect(lacking('established', end)).toBe(true);
      expect(lacking('established', 'close-notify-received', end)).toBe(false);
      // Who has called close() wants no more.
      expect(lacking('established', 'close', end)).toBe(false);
    }
    expect(lacking('established', 'alert-received')).toBe(true);
    expect(lacking('established', 'close-notify-received')).toBe(false);
  });

  const open = step(INITIAL, EVENT.established, 1);

  test('is frozen, and says all about a full closure', () => {
    const state = step(
      step(open, EVENT['close-notify-sent'], 5),
      EVENT['close-notify-received'],
      6,
    );
    const closure = closureOf(state, { late: 3, unsent: 4 });
    expect(Object.isFrozen(closure)).toBe(true);
    expect(closure).toEqual({
      verdict: 'secure',
      incomplete: false,
      initiator: 'local',
      sent: { at: 5, evidence: 'record' },
      received: { at: 6, evidence: 'record' },
      alert: null,
      truncation: null,
      transportEnd: null,
      send: 'closed',
      receive: 'closed',
      late: 3,
      unsent: 4,
    });
  });

  test('counts nothing by default', () => {
    expect(closureOf(INITIAL)).toMatchObject({ verdict: 'open', late: 0, unsent: 0 });
  });

  test('says which way an alert went', () => {
    expect(closureOf(step(open, EVENT['alert-received'], 2)).alert?.direction).toBe('received');
    expect(closureOf(step(open, EVENT['alert-sent'], 2)).alert?.direction).toBe('sent');
    const after = step(step(open, EVENT['close-notify-received'], 2), EVENT['alert-sent'], 3);
    expect(closureOf(after)).toMatchObject({ verdict: 'alert', alert: { direction: 'sent' } });
  });

  test('says where and how the transport ended, also where that is no truncation', () => {
    expect(closureOf(step(open, EVENT['transport-reset'], 2))).toMatchObject({
      truncation: { where: 'record-boundary', cause: 'reset', code: 'ECONNRESET' },
      transportEnd: 'reset',
    });
    const closed = step(open, EVENT['close-notify-received'], 2);
    expect(closureOf(step(closed, EVENT['transport-eof'], 3))).toMatchObject({
      verdict: 'open',
      truncation: null,
      transportEnd: 'eof',
    });
  });
});
