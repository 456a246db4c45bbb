/** What the add-on tells of connections, on each Node at hand. */
import { describe, expect, test } from 'vitest';
import { child, describeNative, nodesAtHand } from './run-child.ts';

const CLOSED_BY_CLIENT = ['S1/0 R1/0', 'R1/0 S1/0'];
const CLOSED_BY_SERVER = ['R1/0 S1/0', 'S1/0 R1/0'];

/** What `live()` says when nothing lives. */
const NONE = { ssl: 0, watches: 0, connections: 0, sessions: 0, contexts: 0 };

const inBoth = <Fact>(fact: Fact) => ({ 'TLSv1.2': fact, 'TLSv1.3': fact });

/** The number of connections: `npm test` takes the short form. */
const MANY = Number(process.env['CLOSE_NOTIFY_TEST_MANY'] ?? 1000);

describeNative('the witness', () => {
  describe.each(nodesAtHand())('on Node %s', (_, node) => {
    test('tells each alert, who sent it, and where the bytes end', { timeout: 60_000 }, () => {
      const { openssl, ...facts } = child(node, 'alerts') as Record<string, unknown>;
      const heeds = { ended: true, told: 0 };
      const ignores = { ended: false, told: 1 };
      const behindCanceled = [String(openssl).startsWith('3.0.') ? heeds : ignores, ignores];
      expect(facts).toEqual({
        'the client closes': inBoth(CLOSED_BY_CLIENT),
        'the server closes': inBoth(CLOSED_BY_SERVER),
        // Node answers a FIN with a close_notify.
        'destroyed without a word': inBoth(['', 'S1/0']),
        'before it closes, and behind': inBoth({
          before: [0, 'boundary'],
          behind: [null, 'boundary'],
        }),
        'the times are those of process.hrtime': inBoth([2, true, true]),
        'a handshake that finds no common version': inBoth(['r2/70', 's2/70']),
        // In TLS 1.3 the client's handshake is complete before the server looks for a certificate.
        'a client without the certificate that is asked for': {
          'TLSv1.2': 'r2/40',
          'TLSv1.3': 'R2/116',
        },
        'a close_notify that anyone may have sent': 'r1/0',
        'bytes that no transport has taken': inBoth(true),
        'a cut between records, in a header, in a body': inBoth([
          'boundary',
          'header',
          'body',
          'body',
        ]),
        'traced behind the handshake, and taken back': inBoth([
          'unknown',
          'S1/0 R1/0',
          'boundary',
          'S1/0 R1/0',
        ]),
        'unseen bytes that make up for missing ones': 'unknown',
        'more alerts than are kept': [17, 16, 0],
        'an alert of ours behind a write that waits, and one alone': [[[20, false]], [[20, true]]],
        'a close_notify behind user_canceled': behindCanceled.map((is) => ({ ...is, same: true })),
        'the same, and Node leaves an error in the queue behind it': behindCanceled,
      });
    });

    test('finds each connection once, and the right one', { timeout: 60_000 }, () => {
      const facts = child(node, 'join') as Record<string, unknown>;
      const full = [false, ...CLOSED_BY_CLIENT].join(', ');
      const each = (version: string) => ({
        [`${version}: a full handshake`]: `${version}, ${full}`,
        [`${version}: a resumed one`]: `${version}, ${[true, ...CLOSED_BY_CLIENT].join(', ')}`,
        [`${version}: a client's context of before`]: `${version}, ${full}`,
        [`${version}: a server of before`]: `${version}, ${full}`,
        [`${version}: addContext's, of before`]: `${version}, ${full}`,
        [`${version}: SNICallback's, of before`]: `${version}, ${full}`,
        [`${version}: setSecureContext`]: `${version}, ${full}`,
        [`${version}: of 200 at once`]: 200,
        [`${version}: http2`]: 'S1/0 | R1/0 S1/0',
      });
      expect(facts).toEqual({
        ...each('TLSv1.2'),
        ...each('TLSv1.3'),
        'renegotiated before it was looked up': 'S1/0 R1/0',
        'renegotiated behind it was looked up': 'S1/0 R1/0',
      });
    });

    test('throws for arguments and receivers of each wrong type', () => {
      expect(child(node, 'arguments')).toBe('fine');
    });

    test.each(['worker', 'main', 'both'])(
      'in threads, loaded by: %s',
      { timeout: 60_000 },
      (who) => {
        const right = ['R1/0 S1/0', 'S1/0 R1/0'];
        const inWorkers = who === 'main' ? 'nothing loaded' : right;
        expect(child(node, 'worker', [who])).toEqual({
          'by itself': inWorkers,
          terminate: inWorkers,
          'process.exit': inWorkers,
          here: who === 'worker' ? null : right,
          live: NONE,
        });
      },
    );

    test(`leaves nothing of ${MANY} connections`, { timeout: 100_000 }, () => {
      const { live, resident } = child(node, 'many', [String(MANY)]) as {
        live: unknown;
        resident: number[];
      };
      expect(live).toEqual(NONE);
      // Over the second half. One leaked watch each, 600 bytes, would be 3 MB in the long form; the short
      // one shows only what is gross.
      const grown = (resident.at(-1) ?? 0) - (resident[4] ?? 0);
      expect(grown).toBeLessThan(2_000_000);
    });
  });
});
