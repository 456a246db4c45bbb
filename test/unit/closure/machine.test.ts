/**
 * The machine against the rules of closing, each stated in words and as a predicate. The rules do not
 * look at the tables; together they say what every state does on every event.
 */
import { describe, expect, test } from 'vitest';
import { stateOf } from '../../../src/closure/diagram.ts';
import {
  CALLER_TABLE,
  type CallerKind,
  type ClosureState,
  type EventType,
  INITIAL,
  RECEIVE_TABLE,
  type ReceiveKind,
  SEND_TABLE,
  type SendKind,
  step,
} from '../../../src/closure/machine.ts';
import { EVENT, EVENTS } from './events.ts';

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
  'closing',
  'closed',
  'alerted',
  'rejected',
  'truncated',
  'abandoned',
];
const CALLER: readonly CallerKind[] = ['using', 'waiting', 'waived', 'expired', 'cancelled'];
const TYPES = EVENTS.map(({ type }) => type);

/** "In such a state, on such an event, it becomes this", in words and as a predicate. */
interface Rule<Kind> {
  readonly says: string;
  readonly governs: (kind: Kind, event: EventType) => boolean;
  readonly becomes: Kind;
}

const sendAlive = (kind: SendKind) => ['handshaking', 'open', 'closing'].includes(kind);
const receiveAlive = (kind: ReceiveKind) => ['handshaking', 'open', 'closing'].includes(kind);

const SEND_RULES: ReadonlyArray<Rule<SendKind>> = [
  {
    says: 'the end of the handshake opens it, once',
    governs: (kind, event) => kind === 'handshaking' && event === 'established',
    becomes: 'open',
  },
  {
    says: 'shutdown begins its end only while it is open: without keys nothing could be trusted',
    governs: (kind, event) => kind === 'open' && event === 'shutdown',
    becomes: 'closing',
  },
  {
    says: 'it is closed only by our close_notify, after the handshake: "Each party MUST send a close_notify alert before closing its write side" (RFC 9846 section 6.1)',
    governs: (kind, event) =>
      (kind === 'open' || kind === 'closing') && event === 'close-notify-sent',
    becomes: 'closed',
  },
  {
    says: 'a fatal alert that we send ends it: "unless it has already sent some error alert" (RFC 9846 section 6.1)',
    governs: (kind, event) => sendAlive(kind) && event === 'alert-sent',
    becomes: 'alerted',
  },
  {
    says: 'a fatal alert received, a reset, a transport error and a failed write cut it off; EOF does not',
    governs: (kind, event) =>
      sendAlive(kind) &&
      ['alert-received', 'transport-reset', 'transport-error', 'send-failed'].includes(event),
    becomes: 'cut',
  },
  {
    says: 'giving the transport up abandons it',
    governs: (kind, event) => sendAlive(kind) && event === 'abandon',
    becomes: 'abandoned',
  },
];

const RECEIVE_RULES: ReadonlyArray<Rule<ReceiveKind>> = [
  {
    says: 'the end of the handshake opens it, once',
    governs: (kind, event) => kind === 'handshaking' && event === 'established',
    becomes: 'open',
  },
  {
    says: 'close() wants no more of it',
    governs: (kind, event) => kind === 'open' && event === 'close',
    becomes: 'closing',
  },
  {
    says: 'it is closed only behind the handshake, by a close_notify: "This alert notifies the recipient that the sender will not send any more messages on this connection" (RFC 9846 section 6.1)',
    governs: (kind, event) =>
      (kind === 'open' || kind === 'closing') && event === 'close-notify-received',
    becomes: 'closed',
  },
  {
    says: 'a fatal alert received ends it',
    governs: (kind, event) => receiveAlive(kind) && event === 'alert-received',
    becomes: 'alerted',
  },
  {
    says: 'a fatal alert that we send means that we refused what came',
    governs: (kind, event) => receiveAlive(kind) && event === 'alert-sent',
    becomes: 'rejected',
  },
  {
    says: 'EOF, reset and error of the transport truncate it: "in order to avoid a truncation attack" (RFC 5246 section 7.2.1)',
    governs: (kind, event) =>
      receiveAlive(kind) && kind !== 'closing' && event.startsWith('transport-'),
    becomes: 'truncated',
  },
  {
    says: 'behind close() they truncate nothing: nobody wants more',
    governs: (kind, event) => kind === 'closing' && event.startsWith('transport-'),
    becomes: 'abandoned',
  },
  {
    says: 'giving the transport up abandons it',
    governs: (kind, event) => receiveAlive(kind) && event === 'abandon',
    becomes: 'abandoned',
  },
];

/** Every state of the caller gives way only to stronger words. */
const RANK: Readonly<Record<CallerKind, number>> = {
  using: 0,
  waiting: 1,
  waived: 2,
  expired: 3,
  cancelled: 3,
};
const ASKS: Partial<Record<EventType, CallerKind>> = {
  wait: 'waiting',
  waive: 'waived',
  deadline: 'expired',
  cancel: 'cancelled',
};
const CALLER_RULES: ReadonlyArray<Rule<CallerKind>> = CALLER.map((becomes) => ({
  says: `becomes ${becomes} when told so, unless it has given up or chosen already`,
  governs: (kind: CallerKind, event: EventType) =>
    ASKS[event] === becomes && RANK[kind] < RANK[becomes],
  becomes,
}));

function describePart<Kind extends string>(
  name: string,
  kinds: readonly Kind[],
  rules: ReadonlyArray<Rule<Kind>>,
  table: Readonly<Record<Kind, Readonly<Record<EventType, Kind>>>>,
  state: (kind: Kind) => ClosureState,
  part: (state: ClosureState) => Kind,
) {
  describe(name, () => {
    test('its table is total: each state has each event, and leads to a state', () => {
      expect(Object.keys(table).sort()).toEqual([...kinds].sort());
      for (const kind of kinds) {
        expect(Object.keys(table[kind]).sort()).toEqual([...TYPES].sort());
        for (const type of TYPES) expect(kinds).toContain(table[kind][type]);
      }
    });

    for (const { says, governs, becomes } of rules) {
      test(says, () => {
        let cases = 0;
        for (const kind of kinds) {
          for (const event of EVENTS) {
            if (!governs(kind, event.type)) continue;
            cases++;
            expect(part(step(state(kind), event, 7)), `${kind} ${event.type}`).toBe(becomes);
          }
        }
        // Nobody tells the caller to go back to using.
        expect(cases > 0).toBe(becomes !== 'using');
      });
    }

    test('nothing else changes it', () => {
      for (const kind of kinds) {
        for (const event of EVENTS) {
          const applying = rules.filter((rule) => rule.governs(kind, event.type));
          expect(applying.length, `${kind} ${event.type}`).toBeLessThanOrEqual(1);
          if (applying.length > 0) continue;
          expect(part(step(state(kind), event, 7)), `${kind} ${event.type}`).toBe(kind);
        }
      }
    });
  });
}

describePart(
  'send',
  SEND,
  SEND_RULES,
  SEND_TABLE,
  (kind) => stateOf('handshaking', kind, 'using'),
  (state) => state.send.kind,
);
describePart(
  'receive',
  RECEIVE,
  RECEIVE_RULES,
  RECEIVE_TABLE,
  (kind) => stateOf(kind, 'handshaking', 'using'),
  (state) => state.receive.kind,
);
describePart(
  'caller',
  CALLER,
  CALLER_RULES,
  CALLER_TABLE,
  (kind) => stateOf('handshaking', 'handshaking', kind),
  (state) => state.caller.kind,
);

describe('final states', () => {
  test('nothing leaves closed, alerted, rejected, truncated, cut or abandoned', () => {
    for (const event of EVENTS) {
      for (const kind of ['closed', 'alerted', 'cut', 'abandoned'] as const) {
        expect(step(stateOf('open', kind, 'using'), event, 7).send.kind).toBe(kind);
      }
      for (const kind of ['closed', 'alerted', 'rejected', 'truncated', 'abandoned'] as const) {
        expect(step(stateOf(kind, 'open', 'using'), event, 7).receive.kind).toBe(kind);
      }
    }
  });

  test('a caller that expired or cancelled stays so: asking again does not undo it', () => {
    for (const event of EVENTS) {
      for (const kind of ['expired', 'cancelled'] as const) {
        expect(step(stateOf('open', 'open', kind), event, 7).caller.kind).toBe(kind);
      }
    }
  });

  test('before the handshake is complete, no close_notify counts, in either direction', () => {
    expect(step(INITIAL, EVENT['close-notify-received'], 7)).toBe(INITIAL);
    expect(step(INITIAL, EVENT['close-notify-sent'], 7)).toBe(INITIAL);
  });
});

describe('the parts are moved independently', () => {
  test('what one part becomes does not hang on the others', () => {
    for (const event of EVENTS) {
      for (const send of SEND) {
        for (const receive of RECEIVE) {
          for (const caller of CALLER) {
            const next = step(stateOf(receive, send, caller), event, 7);
            expect([next.send.kind, next.receive.kind, next.caller.kind]).toEqual([
              step(stateOf('open', send, 'using'), event, 7).send.kind,
              step(stateOf(receive, 'open', 'using'), event, 7).receive.kind,
              step(stateOf('open', 'open', caller), event, 7).caller.kind,
            ]);
          }
        }
      }
    }
  });

  test('an event that changes nothing returns the very state', () => {
    for (const event of EVENTS) {
      for (const send of SEND) {
        for (const receive of RECEIVE) {
          for (const caller of CALLER) {
            const state = stateOf(receive, send, caller);
            const next = step(state, event, 7);
            const same =
              !(event.type === 'idle' && 'lacking' in state.receive) &&
              next.send.kind === send &&
              next.receive.kind === receive &&
              next.caller.kind === caller &&
              next.transport === null;
            expect(next === state, `${receive} ${send} ${caller} ${event.type}`).toBe(same);
          }
        }
      }
    }
  });
});

describe('what a state remembers', () => {
  const open = step(INITIAL, EVENT.established, 1);

  test('the time of each close_notify', () => {
    const state = step(
      step(open, EVENT['close-notify-received'], 11),
      EVENT['close-notify-sent'],
      12,
    );
    expect(state.receive).toEqual({ kind: 'closed', at: 11, evidence: 'record' });
    expect(state.send).toEqual({ kind: 'closed', at: 12, evidence: 'record' });
    expect(step(state, EVENT['close-notify-received'], 13)).toBe(state);
  });

  test('the alert', () => {
    const alert = { code: 20, name: 'bad_record_mac', authenticated: true };
    expect(step(open, { type: 'alert-received', alert }, 2).receive).toEqual({
      kind: 'alerted',
      alert,
      lacking: true,
    });
    expect(step(open, { type: 'alert-sent', alert }, 2)).toMatchObject({
      receive: { kind: 'rejected', alert },
      send: { kind: 'alerted', alert },
    });
  });

  test('where and how the transport ended', () => {
    for (const where of ['handshake', 'record-boundary', 'inside-record'] as const) {
      expect(step(open, { type: 'transport-eof', where }, 2).receive).toEqual({
        kind: 'truncated',
        cause: 'eof',
        where,
        code: null,
        lacking: true,
      });
      for (const cause of ['reset', 'error'] as const) {
        const type = `transport-${cause}` as const;
        expect(step(open, { type, where, code: 'ECODE' }, 2).receive).toEqual({
          kind: 'truncated',
          cause,
          where,
          code: 'ECODE',
          lacking: true,
        });
      }
    }
  });

  test('whether bytes may be missing: not if close() came before the end, nor if the reader knows better', () => {
    const ends = (['alert-received', 'alert-sent', 'transport-eof', 'abandon'] as const).map(
      (type) => EVENT[type],
    );
    for (const end of ends) {
      const lacking = (...events: ReadonlyArray<(typeof EVENTS)[number]>) => {
        const { receive } = events.reduce((state, event) => step(state, event, 2), open);
        return 'lacking' in receive ? receive.lacking : null;
      };
      expect(lacking(end), end.type).toBe(true);
      expect(lacking(end, EVENT.close), end.type).toBe(true);
      expect(lacking(EVENT.close, end), end.type).toBe(false);
      expect(lacking(end, EVENT.idle), end.type).toBe(false);
      expect(lacking(EVENT.idle, end), end.type).toBe(true);
    }
  });

  test('who sent close_notify first, and never changes its mind', () => {
    const first = step(open, EVENT['close-notify-sent'], 2);
    expect(first.initiator).toBe('local');
    expect(step(first, EVENT['close-notify-received'], 3).initiator).toBe('local');
    const second = step(open, EVENT['close-notify-received'], 2);
    expect(second.initiator).toBe('peer');
    expect(step(second, EVENT['close-notify-sent'], 3).initiator).toBe('peer');
    for (const event of EVENTS) {
      if (event.type.startsWith('close-notify')) continue;
      expect(step(open, event, 2).initiator).toBe(null);
    }
  });

  test('the first end of the transport', () => {
    const ends = [
      ['transport-eof', 'eof'],
      ['transport-reset', 'reset'],
      ['transport-error', 'error'],
      ['abandon', 'closed'],
      ['release', 'released'],
    ] as const;
    for (const [type, end] of ends) {
      const state = step(open, EVENT[type], 2);
      expect(state.transport).toBe(end);
      for (const event of EVENTS) expect(step(state, event, 3).transport).toBe(end);
    }
    expect(step(open, { type: 'abandon', how: 'destroyed' }, 2).transport).toBe('destroyed');
    for (const event of EVENTS) {
      if (ends.some(([type]) => type === event.type)) continue;
      expect(step(open, event, 2).transport).toBe(null);
    }
  });
});
