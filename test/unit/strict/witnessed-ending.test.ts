/** What a witness has seen, and what the closure then says. */
import { expect, test } from 'vitest';
import type { Witness, WitnessedAlert } from '../../../src/strict/witness.ts';
import { WitnessedEnding } from '../../../src/strict/witnessed-ending.ts';

const STARTED = 1000;

/** A witness who saw these. */
const witness = (seen: Partial<Witness>): Witness => ({
  evidence: 'record',
  startedAt: STARTED,
  unreadable: null,
  received: null,
  written: seen.sent ?? null,
  sent: null,
  where: 'inside-record',
  ignored: false,
  ...seen,
});

const closeNotify = (at: number): WitnessedAlert => ({
  ...{ level: 1, description: 0, authenticated: true, at: STARTED + at },
});
const BAD_RECORD_MAC = { level: 2, description: 20, authenticated: true, at: STARTED + 5 };

test('whoever was first has ended it, whichever way it is asked', () => {
  for (const [received, sent, initiator] of [
    [1, 2, 'peer'],
    [2, 1, 'local'],
    // In one moment: an answer is later than what it answers.
    [2, 2, 'local'],
  ] as const) {
    const ending = new WitnessedEnding();
    ending.establish(witness({ received: closeNotify(received), sent: closeNotify(sent) }));
    expect(ending.closure).toMatchObject({
      verdict: 'secure',
      initiator,
      received: { at: received, evidence: 'record' },
      sent: { at: sent, evidence: 'record' },
    });
  }
});

test('nothing is known before the handshake is complete, and nothing without a witness', () => {
  const ending = new WitnessedEnding();
  expect([ending.isEstablished, ending.where, ending.receive]).toEqual([
    false,
    'unknown',
    'handshaking',
  ]);
  ending.establish(null);
  expect([ending.isEstablished, ending.where]).toEqual([true, 'unknown']);
  expect(ending.closure).toMatchObject({ verdict: 'open', received: null, sent: null });
});

test('where the bytes end is the witness’s word', () => {
  const ending = new WitnessedEnding();
  ending.establish(witness({}));
  expect(ending.where).toBe('inside-record');
});

test('each alert is told once, though a witness goes on saying it', () => {
  const ending = new WitnessedEnding();
  const seen = { received: null as WitnessedAlert | null };
  ending.establish(
    Object.defineProperty(witness({}), 'received', { get: () => seen.received }) as Witness,
  );
  expect(ending.closure.received).toBe(null);
  seen.received = closeNotify(3);
  expect(ending.closure.received?.at).toBe(3);
  seen.received = BAD_RECORD_MAC;
  expect(ending.closure).toMatchObject({ received: { at: 3 }, alert: null });
});

test('a refusal counts although its alert is on its way still; a close_notify does not', () => {
  const refused = new WitnessedEnding();
  refused.establish(witness({ written: BAD_RECORD_MAC }));
  expect(refused.closure.alert).toBe(null);
  refused.lookForRefusal();
  expect(refused.closure.alert).toMatchObject({ name: 'bad_record_mac', direction: 'sent' });

  const closing = new WitnessedEnding();
  closing.establish(witness({ written: closeNotify(1) }));
  closing.lookForRefusal();
  expect(closing.closure.sent).toBe(null);
});

test('an own close_notify is looked for once more in the next turn', async () => {
  const ending = new WitnessedEnding();
  const seen = { sent: null as WitnessedAlert | null };
  ending.establish(Object.defineProperty(witness({}), 'sent', { get: () => seen.sent }) as Witness);
  ending.lookForOwn();
  seen.sent = closeNotify(1);
  expect(ending.send).toBe('open');
  await new Promise((turn) => setImmediate(turn));
  expect(ending.send).toBe('closed');
});
