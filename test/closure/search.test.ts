/**
 * Every sequence of up to five events from the beginning, against what its history alone says. The
 * oracle knows no states: it looks for the first event that ended each direction.
 */
import { expect, test } from 'vitest';
import { type ClosureState, type EventType, INITIAL, step } from '../../src/closure/machine.ts';
import { closureOf, type Verdict, verdictOf } from '../../src/closure/verdict.ts';
import { EVENTS } from '../support/core-events.ts';

const DEPTH = 5;

/** What a history says. */
interface Facts {
  readonly established: boolean;
  /** The event that ended the peer's bytes, and its place in the history. */
  readonly receive: EventType | null;
  readonly receiveAt: number;
  readonly send: EventType | null;
  readonly sendAt: number;
  readonly caller: 'waived' | 'expired' | 'cancelled' | null;
}

const NOTHING: Facts = {
  established: false,
  receive: null,
  receiveAt: -1,
  send: null,
  sendAt: -1,
  caller: null,
};

const ENDS_RECEIVING: ReadonlySet<EventType> = new Set([
  'alert-sent',
  'alert-received',
  'transport-eof',
  'transport-reset',
  'transport-error',
  'abandon',
]);
const ENDS_SENDING: ReadonlySet<EventType> = new Set([
  'alert-sent',
  'alert-received',
  'transport-reset',
  'transport-error',
  'abandon',
]);

function learn(facts: Facts, type: EventType, at: number): Facts {
  let { receive, receiveAt, send, sendAt, caller } = facts;
  const { established } = facts;
  if (
    receive === null &&
    (ENDS_RECEIVING.has(type) || (type === 'close-notify-received' && established))
  ) {
    [receive, receiveAt] = [type, at];
  }
  if (send === null && (ENDS_SENDING.has(type) || (type === 'close-notify-sent' && established))) {
    [send, sendAt] = [type, at];
  }
  if (caller === null || caller === 'waived') {
    if (type === 'deadline') caller = 'expired';
    else if (type === 'cancel') caller = 'cancelled';
    else if (type === 'waive') caller = 'waived';
  }
  return {
    // Too late for a direction that ended before; alike for both, since no end of one that can come
    // before the handshake is over, but EOF, leaves the other alive.
    established: established || type === 'established',
    receive,
    receiveAt,
    send,
    sendAt,
    caller,
  };
}

function verdictByHistory({ receive, send, caller }: Facts): Verdict {
  const gaveUp = caller === 'expired' ? 'timed-out' : caller === 'cancelled' ? 'aborted' : null;
  const oneSided = caller === 'waived' && send === 'close-notify-sent' ? 'one-sided' : null;
  switch (receive) {
    case 'alert-sent':
    case 'alert-received':
      return 'alert';
    case 'transport-eof':
    case 'transport-reset':
    case 'transport-error':
      return 'truncated';
    case 'close-notify-received':
      if (send === 'close-notify-sent') return 'secure';
      if (send === 'alert-sent') return 'alert';
      if (send === 'abandon') return gaveUp ?? 'aborted';
      return send === null ? (gaveUp ?? 'open') : 'one-sided';
    case 'abandon':
      return gaveUp ?? oneSided ?? 'aborted';
    default:
      return gaveUp ?? oneSided ?? 'open';
  }
}

/** Verdicts that no later event changes. */
const FINAL: ReadonlySet<Verdict> = new Set(['secure', 'truncated', 'alert']);

test(`all sequences of up to ${DEPTH} events: the verdict is what the history says, and never turns for the better`, () => {
  let sequences = 0;
  const seen = new Set<Verdict>();
  const path: EventType[] = [];
  const fail = (what: string) => {
    throw new Error(`${what}: ${path.join(' > ')}`);
  };

  const visit = (state: ClosureState, facts: Facts, depth: number): void => {
    for (const event of EVENTS) {
      path.push(event.type);
      sequences++;
      const next = step(state, event, depth);
      const known = learn(facts, event.type, depth);
      const before = verdictOf(state);
      const verdict = verdictOf(next);
      seen.add(verdict);
      if (verdict !== verdictByHistory(known)) {
        fail(`${verdict}, but the history says ${verdictByHistory(known)}`);
      }
      if (FINAL.has(before) && verdict !== before) fail(`${before} became ${verdict}`);
      if (['alerted', 'rejected', 'truncated', 'abandoned'].includes(state.receive.kind)) {
        if (next.receive !== state.receive) fail(`${state.receive.kind} was left`);
        if (verdict === 'secure') fail(`secure after ${state.receive.kind}`);
      }
      const both = next.send.kind === 'closed' && next.receive.kind === 'closed';
      if ((verdict === 'secure') !== both) fail('secure without both, or both without secure');
      const sent = known.send === 'close-notify-sent' ? known.sendAt : null;
      const received = known.receive === 'close-notify-received' ? known.receiveAt : null;
      const closure = closureOf(next);
      if (closure.sent !== sent || closure.received !== received) fail('wrong times');
      const initiator =
        sent === null && received === null
          ? null
          : received === null || (sent !== null && sent < received)
            ? 'local'
            : 'peer';
      if (closure.initiator !== initiator) fail(`initiator ${closure.initiator}`);
      if (closure.initiator !== null && !known.established) fail('closed before established');
      if ((closure.truncation !== null) !== (verdict === 'truncated')) fail('truncation');
      if ((closure.alert !== null) !== (verdict === 'alert' || next.send.kind === 'alerted')) {
        fail('alert');
      }
      if (depth < DEPTH) visit(next, known, depth + 1);
      path.pop();
    }
  };
  visit(INITIAL, NOTHING, 1);
  expect(sequences).toBe(15 + 15 ** 2 + 15 ** 3 + 15 ** 4 + 15 ** 5);
  expect([...seen].sort()).toEqual([
    'aborted',
    'alert',
    'one-sided',
    'open',
    'secure',
    'timed-out',
    'truncated',
  ]);
}, 60_000);

test('what follows a full closure changes nothing but the record of the transport', () => {
  const secure = (['established', 'close-notify-sent', 'close-notify-received'] as const).reduce(
    (state, type, at) => step(state, { type }, at),
    INITIAL,
  );
  for (const event of EVENTS) {
    const next = step(secure, event, 9);
    expect(next.send).toBe(secure.send);
    expect(next.receive).toBe(secure.receive);
    expect(verdictOf(next)).toBe('secure');
  }
});
