/**
 * The nine scenarios, in both TLS versions and both handshake roles, against everyone who can play
 * them; and docs/closure.md, which holds what came out.
 *
 * Each case is played once, whichever test asks for it first, so the document is made from the very
 * runs that the other tests judge.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { toAsioErrorCode } from '../../../src/index.ts';
import {
  boostVersions,
  describeWith,
  missingPeers,
  type PeerName,
} from '../../support/interop-peers.ts';
import { testPki } from '../../support/interop-pki.ts';
import { boostParty } from './boost.ts';
import { ASIO_DIFFERENCES, asioPairs, type Measured, measuredWith, renderDocument } from './doc.ts';
import { type Case, casesOf, PEERS, type Peer, play, type Result, titleOf } from './matrix.ts';
import { type Side, TEXT } from './party.ts';
import { playedOnce } from './runs.ts';

/** What each needs to be installed. openssl makes the certificate for all. */
const NEEDS: Readonly<Record<Peer, readonly PeerName[]>> = {
  'close-notify': ['openssl'],
  openssl: ['openssl'],
  'Boost.Asio': ['openssl', 'boost'],
  'node:tls': ['openssl'],
};

/** The sentence that a scenario is about. */
const RULES: Readonly<Record<number, string>> = {
  1: '"The client and the server must share knowledge that the connection is ending in order to avoid a truncation attack" (RFC 9846 section 6.1)',
  2: '"If a transport-level close is received prior to a close_notify, the receiver cannot know that all the data that was sent has been received" (RFC 9846 section 6.1)',
  3: '"the other party MUST respond with a close_notify alert of its own" (RFC 5246 section 7.2.1)',
  4: '"It is not required for the initiator of the close to wait for the responding close_notify alert before closing the read side of the connection" (RFC 5246 section 7.2.1)',
  5: '"If a transport-level close is received prior to a close_notify, the receiver cannot know that all the data that was sent has been received" (RFC 9846 section 6.1)',
  6: '"Either party may initiate a close by sending a close_notify alert" (RFC 5246 section 7.2.1)',
  7: 'no rule: the caller gave up',
  8: '"This does not have any effect on its read side of the connection" (RFC 9846 section 6.1)',
  9: 'no rule: a deadline ends what the peer does not',
};

/** What the calls of our parties give. */
const CALLS: Readonly<Record<number, Readonly<Record<Side, readonly string[]>>>> = {
  1: { A: ['shutdown: ERR_TLS_TRUNCATED'], B: [] },
  2: { A: ['shutdown: ERR_TLS_TRUNCATED'], B: [] },
  3: { A: ['shutdown: secure'], B: ['read: end', 'shutdown: secure'] },
  4: { A: ['shutdown: one-sided'], B: ['read: end', 'shutdown: secure'] },
  5: { A: ['read: ERR_TLS_TRUNCATED'], B: [] },
  6: { A: ['read: end', 'shutdown: secure'], B: ['shutdown: secure'] },
  7: { A: ['shutdown: ABORT_ERR'], B: [] },
  8: { A: ['shutdown: secure', `read: ${TEXT}`], B: ['read: end', 'shutdown: secure'] },
  9: { A: ['shutdown: ERR_TLS_TIMEOUT'], B: [] },
};

/** Who sends close_notify first; null where nobody gets to. */
const INITIATORS: Readonly<Record<number, Side | null>> = {
  1: null,
  2: 'A',
  3: 'A',
  4: 'A',
  5: null,
  6: 'B',
  7: 'A',
  8: 'A',
  9: 'A',
};

/** Plays a case, or gives what came out when it was played. */
const measure = playedOnce(titleOf, async (one: Case) => play(one, await testPki()));

async function measureAll(peers: readonly Peer[]): Promise<Measured[]> {
  const cases = peers.flatMap(casesOf);
  return Promise.all(cases.map(async (one) => [one, await measure(one)] as const));
}

/** Enough for a test that has to wait for all other cases. */
const timeout = 120_000;

beforeAll(async () => {
  if (missingPeers(['openssl', 'boost']).length === 0) await boostParty();
});

for (const peer of PEERS) {
  describeWith(
    NEEDS[peer],
    `against ${peer}`,
    () => {
      for (const one of casesOf(peer)) {
        it(`${titleOf(one)}: ${RULES[one.scenario.number]}`, { timeout }, async () => {
          const result = await measure(one);
          for (const side of ['A', 'B'] as const) check(one, side, result);
        });
      }
    },
    describe.concurrent,
  );
}

function check({ scenario, peer, our }: Case, side: Side, result: Result): void {
  const { number } = scenario;
  const { closure, reported } = result[side];
  if (side !== our && peer !== 'close-notify') return;
  if (closure === null) throw new Error('we keep a closure');
  // Scenario 7 says nothing of B, who has seen a close_notify and not answered.
  expect(closure.verdict).toBe(scenario.verdicts[side] ?? 'open');
  expect(reported).toEqual(CALLS[number]?.[side]);
  const first = INITIATORS[number] ?? null;
  expect(closure.initiator).toBe(first === null ? null : first === side ? 'local' : 'peer');
  if (closure.verdict === 'secure') {
    expect(closure.sent).not.toBeNull();
    expect(closure.received).not.toBeNull();
  }
  if (closure.verdict === 'truncated') {
    expect(closure.received).toBeNull();
    expect(closure.truncation).toMatchObject({
      where: 'record-boundary',
      cause: expect.stringMatching(/^(eof|reset)$/),
    });
    // What Boost.Asio reports for a transport's EOF, and for its reset.
    const reset = { category: 'system', value: 104, message: 'Connection reset by peer' };
    const eof = { category: 'asio.ssl.stream', value: 1, message: 'stream truncated' };
    expect(toAsioErrorCode(closure)).toEqual(closure.truncation?.cause === 'reset' ? reset : eof);
  }
  if (side === 'B') return;
  if (number === 4) expect(result.closed?.verdict).toBe('one-sided');
  if (number === 8) {
    expect(closure.late).toBeGreaterThanOrEqual(TEXT.length);
    expect(result.kept).toEqual(['end']);
  }
}

describeWith(['openssl', 'boost'], 'toAsioErrorCode', () => {
  for (const { scenario, tls, handshake } of casesOf('close-notify')) {
    const who = `scenario ${scenario.number}, A as TLS ${tls} ${handshake}`;
    it(`is what Boost.Asio reports, or differs as documented: ${who}`, { timeout }, async () => {
      const cases = [...casesOf('close-notify'), ...casesOf('Boost.Asio')].filter(
        (one) => one.scenario === scenario && one.tls === tls,
      );
      const measured = await Promise.all(
        cases.map(async (one) => [one, await measure(one)] as const),
      );
      const pair = asioPairs(measured).find((one) => one.handshake === handshake);
      if (pair === undefined) throw new Error('Boost.Asio plays A in every scenario');
      const difference = ASIO_DIFFERENCES.find(({ holds }) => holds(pair));
      const { boost, ours } = difference ?? { boost: pair.boost, ours: pair.boost };
      expect({ boost: pair.boost, ours: pair.ours }).toEqual({ boost, ours });
    });
  }
});

describe('docs/closure.md', async () => {
  const file = new URL('../../../docs/closure.md', import.meta.url);
  const update = process.env['UPDATE_DOCS'] === '1';
  const missing = missingPeers(['openssl', 'boost']);
  const held = await readFile(file, 'utf8').catch(() => '');
  // What Boost reports hangs on its version and OpenSSL's, so another one proves nothing.
  const sameVersions = update || held === '' || held.includes(measuredWith(boostVersions));
  const why =
    missing.length > 0
      ? ` (skipped: ${missing.join(' and ')} not installed)`
      : sameVersions
        ? ''
        : ` (skipped: measured with other versions than ${boostVersions})`;
  it.skipIf(why !== '')(`holds what was measured${why}`, { timeout }, async () => {
    const document = renderDocument(await measureAll(PEERS));
    if (update) await writeFile(file, document);
    else expect(held, 'UPDATE_DOCS=1 npx vitest run test/peers/interop rewrites it').toBe(document);
  });
});
