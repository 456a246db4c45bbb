/**
 * The matrix: every ending, in both TLS versions, against programs that were not made for it; and
 * docs/peers.md, which holds what came out.
 *
 * Each case is played once, whichever test asks for it first, so the document is made from the very
 * runs that the other tests judge.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { missingPeers } from '../../support/interop-peers.ts';
import { measuredPeers, PACKAGES, renderPeers, versionOf } from './peers-doc.ts';
import {
  casesOf,
  type Ending,
  type MatrixCase,
  type MatrixPeer,
  PEERS,
  play,
  titleOf,
} from './peers-matrix.ts';
import { playedOnce } from './runs.ts';

/** The sentence that an ending is about. */
const RULES: Readonly<Record<Ending, string>> = {
  'peer-closes':
    '"Either party may initiate a close by sending a close_notify alert" (RFC 5246 section 7.2.1)',
  'we-close':
    '"Unless some other fatal alert has been transmitted, each party is required to send a close_notify alert before closing the write side of the connection" (RFC 5246 section 7.2.1)',
  'we-leave':
    '"It is not required for the initiator of the close to wait for the responding close_notify alert before closing the read side of the connection" (RFC 5246 section 7.2.1)',
  unread:
    '"This does not have any effect on its read side of the connection" (RFC 9846 section 6.1)',
  fin: '"If a transport-level close is received prior to a close_notify, the receiver cannot know that all the data that was sent has been received" (RFC 9846 section 6.1)',
  reset:
    '"If a transport-level close is received prior to a close_notify, the receiver cannot know that all the data that was sent has been received" (RFC 9846 section 6.1)',
  silent: 'no rule: a deadline ends what the peer does not',
  'we-cut': 'no rule: the caller gave up',
};

interface Expected {
  readonly calls: readonly string[];
  readonly closure: Record<string, unknown>;
}

const SECURE = { verdict: 'secure', truncation: null };
const cut = (cause: 'eof' | 'reset', initiator: 'local' | null) => ({
  verdict: 'truncated',
  initiator,
  received: null,
  truncation: { cause, where: 'record-boundary' },
});

const EXPECTED: Readonly<Record<Ending, Expected>> = {
  'peer-closes': {
    calls: ['read: end', 'shutdown: secure'],
    closure: { ...SECURE, initiator: 'peer' },
  },
  'we-close': { calls: ['shutdown: secure'], closure: { ...SECURE, initiator: 'local' } },
  'we-leave': { calls: ['close: one-sided'], closure: { verdict: 'one-sided', received: null } },
  unread: {
    calls: ['shutdown: secure', 'read: the data', 'read: end'],
    closure: { ...SECURE, initiator: 'local' },
  },
  fin: { calls: ['read: ERR_TLS_TRUNCATED'], closure: cut('eof', null) },
  reset: { calls: ['read: ERR_TLS_TRUNCATED'], closure: cut('reset', null) },
  silent: {
    calls: ['shutdown: ERR_TLS_TIMEOUT'],
    closure: { verdict: 'timed-out', received: null },
  },
  'we-cut': { calls: ['abort'], closure: { verdict: 'aborted', sent: null, received: null } },
};

/** These end the transport when our close_notify comes, and send none: a truncation, to us. */
const ANSWERS_WITH_FIN: readonly MatrixPeer[] = ['gnutls-cli', 'nginx', 'nginx-proxy'];

function expected({ peer, ending }: MatrixCase): Expected {
  if (ANSWERS_WITH_FIN.includes(peer)) {
    const shutdown = 'shutdown: ERR_TLS_TRUNCATED';
    if (ending === 'we-close') return { calls: [shutdown], closure: cut('eof', 'local') };
    if (ending === 'unread') {
      const calls = [shutdown, 'read: the data', 'read: ERR_TLS_TRUNCATED'];
      return { calls, closure: cut('eof', 'local') };
    }
  }
  return EXPECTED[ending];
}

/** Plays a case, or gives what came out when it was played. */
const measure = playedOnce(titleOf, play);

const timeout = 120_000;
const names = Object.keys(PEERS) as MatrixPeer[];
const lacks = (peer: MatrixPeer): string[] => [
  ...missingPeers(['openssl']),
  ...(versionOf(peer) === null ? [PACKAGES[peer]] : []),
];

for (const peer of names) {
  const missing = lacks(peer);
  describe.concurrent(`against ${PEERS[peer].label}`, () => {
    if (missing.length > 0) {
      const required = process.env['REQUIRE_PEERS'] === '1';
      it.skipIf(!required)(`needs ${missing.join(' and ')}, which is not installed`, () => {
        throw new Error(`${missing.join(' and ')} not installed, and REQUIRE_PEERS=1 asks for all`);
      });
      return;
    }
    for (const one of casesOf(peer)) {
      it(`${titleOf(one)}: ${RULES[one.ending]}`, { timeout }, async () => {
        const { calls, closure } = await measure(one);
        const { calls: expectedCalls, closure: expectedClosure } = expected(one);
        expect(calls).toEqual(expectedCalls);
        expect(closure).toMatchObject(expectedClosure);
        if (closure.verdict !== 'secure') return;
        expect(closure.sent).not.toBeNull();
        expect(closure.received).not.toBeNull();
      });
    }
  });
}

describe('docs/peers.md', async () => {
  const file = new URL('../../../docs/peers.md', import.meta.url);
  const update = process.env['UPDATE_DOCS'] === '1';
  const missing = names.flatMap(lacks);
  const held = await readFile(file, 'utf8').catch(() => '');
  // What a program says hangs on its version, so another one proves nothing.
  const sameVersions = update || held === '' || held.includes(measuredPeers());
  const why =
    missing.length > 0
      ? ` (skipped: ${missing.join(' and ')} not installed)`
      : sameVersions
        ? ''
        : ` (skipped: not "${measuredPeers()}")`;
  it.skipIf(why !== '')(`holds what was measured${why}`, { timeout }, async () => {
    const measured = await Promise.all(
      names.flatMap(casesOf).map(async (one) => [one, await measure(one)] as const),
    );
    const document = renderPeers(measured);
    if (update) await writeFile(file, document);
    else
      expect(held, 'UPDATE_DOCS=1 npx vitest run test/peers/interop/peers.test.ts').toBe(document);
  });
});
