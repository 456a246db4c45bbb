/** Bad transports of the native engine, in the built library, on each Node at hand: a clear error, and no crash. */
import { describe, expect, test } from 'vitest';
import { child, describeNative, nodesAtHand } from './run-child.ts';

describeNative('transports of the native engine', () => {
  describe.each(nodesAtHand())('on Node %s', (_, node) => {
    test.each(['native', 'fed'])('%s', { timeout: 60_000 }, (engine) => {
      const told = child(node, 'transports.mjs', [], { CLOSE_NOTIFY_ENGINE: engine });
      const isFed = engine === 'fed';
      expect(told).toEqual({
        'a socket that is destroyed': ['ERR_TLS_ABORTED', 'ERR_TLS_ABORTED'],
        'a paused socket with pieces of garbage in its buffer': 'ERR_TLS_HANDSHAKE',
        'a paused socket with the handshake in its buffer': ['hello', 'secure'],
        'the socket of a stream is destroyed by somebody else': [
          'ERR_TLS_ABORTED',
          'ERR_TLS_TRUNCATED',
        ],
        // The duplicate lives on; the socket itself has nothing to write to.
        'its descriptor is closed by somebody else': isFed ? 'ERR_TLS_TRUNCATED' : 'fine',
        'somebody else reads and ends the socket, too': 'told',
        'the socket of another process': ['of another process', 'secure'],
        'a Duplex that throws in write': 'ERR_TLS_TRUNCATED',
        'a Duplex whose write fails late, and again': 'ERR_TLS_TRUNCATED',
        'a Duplex that gives bytes within write': [300_000, 'secure', 'secure'],
        'a Duplex that ends twice, and errs behind it': 'ERR_TLS_TRUNCATED',
        'a Duplex of objects and of text': ['ERR_TLS_OPTION', 'ERR_TLS_OPTION', 'ERR_TLS_OPTION'],
        'a socket whose methods throw': isFed ? 'Error: of the transport' : 'ERR_TLS_OPTION',
        'the memory of bytes that were read is transferred': ['one', 'two'],
      });
    });
  });
});
