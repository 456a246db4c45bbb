/** The native engine in rude hands, on each Node at hand. A crash ends the child, and is a failed test. */
import { describe, expect, test } from 'vitest';
import { child, describeNative, nodesAtHand } from './run-child.ts';

const inBoth = <Fact>(fact: Fact) => ({ 'TLSv1.2': fact, 'TLSv1.3': fact });

const NOTHING = { connections: 0, sessions: 0, contexts: 0 };

const NO_PROTOCOL = 'ERR_SSL_NO_APPLICATION_PROTOCOL';

/** The number of connections: `npm test` takes the short form. */
const MANY = Number(process.env['CLOSE_NOTIFY_TEST_MANY'] ?? 1000);

describeNative('the native engine', () => {
  describe.each(nodesAtHand())('on Node %s', (_, node) => {
    test('whatever is done to it, within its events too', { timeout: 60_000 }, () => {
      expect(child(node, 'engine')).toEqual({
        'a conversation, fed': inBoth(['to the client', 'to the server', 'alert', 'alert']),
        'a conversation, on descriptors': inBoth(1 << 22),
        'destroyed within its own event': inBoth(4),
        'an exception in the dispatch': ['of the program'],
        'closed twice, destroyed twice, used behind it': [0, 0, 0, 0],
        'collected without a close': NOTHING,
        'within the function that chooses the protocol': inBoth([
          'chooses: two',
          `refuses: ${NO_PROTOCOL}`,
          `chooses what is none: ${NO_PROTOCOL}`,
          `chooses beyond the end: ${NO_PROTOCOL}`,
          'chooses no number: one',
          `throws: ${NO_PROTOCOL}`,
          'destroys: destroyed',
          'closes: one',
          'goes on by itself: one',
          'has another conversation: one',
          'collects: one',
        ]),
        'what is fed is transferred within it': inBoth([true, true]),
        'the memory of what was decrypted is transferred': ['first', 'second', 'third'],
        'a context of somebody else': 'refused',
        'options that OpenSSL refuses leave no error behind': [3, true],
        // 9 is EBADF.
        'the descriptor is closed by somebody else': [
          'of the socket: still',
          'of the engine: receive-error,9',
        ],
        'a fatal alert while output is blocked': inBoth([true, true]),
        'reset at each point': inBoth(['told', 'told', 'told', 'told']),
        'EOF in a record': [0, 1, 1, 1],
        'a huge write': true,
        'fed without end while the handshake is suspended': inBoth([1, 1]),
        'arguments of another context': 'hi',
        'shared, resizable and detached memory': 'aaaabbbbbbbbbb',
        'the shared numbers are transferred': true,
        left: NOTHING,
      });
    });

    test('throws for arguments and receivers of each wrong type', { timeout: 60_000 }, () => {
      expect(child(node, 'engine-arguments')).toEqual(NOTHING);
    });

    test.each(['loads', 'alone'])(
      'threads that end with open connections; the main one: %s',
      { timeout: 60_000 },
      (who) => {
        expect(child(node, 'engine-worker', [who])).toEqual({ done: 25, left: NOTHING });
      },
    );

    test.each(['process.exit', 'an exception', 'within an event', 'nothing'])(
      'the process ends with open connections: %s',
      (way) => {
        expect(child(node, 'engine-exit', [way])).toBe(way);
      },
    );

    test(`leaves nothing of ${MANY} connections`, { timeout: 200_000 }, () => {
      const { left, resident } = child(node, 'engine-many', [String(MANY)]) as {
        left: unknown;
        resident: number[];
      };
      expect(left).toEqual(NOTHING);
      // Over the second half: one leaked connection each would be 30 MB in the long form.
      const grown = (resident.at(-1) ?? 0) - (resident[4] ?? 0);
      expect(grown).toBeLessThan(4_000_000);
    });
  });
});
