/** A connection on which nothing crosses: `idleTimeout`. */
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { connect, createServer, isTruncated, TimeoutError } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import {
  closeBoth,
  pair,
  pairInMemory,
  readAll,
  rejection,
  VERSIONS,
} from '../../support/core-streams.ts';

const TOO_LONG = { code: 'ERR_TLS_TIMEOUT', phase: 'open', incomplete: true };

/** Resolves when a connection that is made now has been silent for so long. */
async function silence(scope: Scope, idleTimeout: number): Promise<void> {
  const { client, server } = await pairInMemory(scope, 'TLSv1.3', { client: { idleTimeout } });
  expect((await client.closed).verdict).toBe('timed-out');
  server.abort();
}

describeTls('idleTimeout', () => {
  for (const version of VERSIONS) {
    for (const side of ['client', 'server'] as const) {
      test(
        `${version}, ${side}: an idle 'for await' ends with an error, and the peer is told of no end`,
        clean(async (scope) => {
          const both = await pair(scope, version, { [side]: { idleTimeout: 30 } });
          const [idle, peer] =
            side === 'client' ? [both.client, both.server] : [both.server, both.client];
          const theirs = rejection(readAll(peer));
          const error = await rejection(readAll(idle));
          expect(error).toBeInstanceOf(TimeoutError);
          expect(error).toMatchObject(TOO_LONG);
          expect(error.message).toBe('nothing was received or sent for 30 ms');
          expect(error.hint).toContain('idleTimeout');
          expect(isTruncated(error)).toBe(true);
          expect(await idle.closed).toMatchObject({ verdict: 'timed-out', sent: null });
          // Had close_notify been sent, half an answer would pass for a whole one.
          expect(await theirs).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
          expect(await rejection(idle.write('late'))).toBe(error);
          expect((await idle.close()).verdict).toBe('timed-out');
          await peer.close();
        }),
      );
    }
  }

  test(
    'a server gives up a client that says nothing, and onError hears of it',
    clean(async (scope) => {
      let tell: (error: Error) => void = () => {};
      const heard = new Promise<Error>((resolve) => {
        tell = resolve;
      });
      const server = createServer(
        { ...pki().server, idleTimeout: 30, onError: (error) => tell(error) },
        async (stream) => {
          for await (const bytes of stream) await stream.write(bytes);
        },
      );
      await server.listen(0, '127.0.0.1');
      scope.defer(() => server.close({ deadline: 0 }));
      const client = await connect({ host: 'localhost', port: server.port, ca: pki().ca });
      expect(await heard).toMatchObject(TOO_LONG);
      expect(await rejection(client.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
      await client.close();
    }),
  );

  test(
    'a Duplex gets it as an error, behind the bytes that came',
    clean(async (scope) => {
      const both = await pair(scope, 'TLSv1.3', { client: { idleTimeout: 50 } });
      const duplex = both.client.toDuplex();
      await both.server.write('half of it');
      const [bytes] = await once(duplex, 'data');
      expect(String(bytes)).toBe('half of it');
      const [error] = await once(duplex, 'error');
      expect(error).toMatchObject(TOO_LONG);
      both.server.abort();
    }),
  );

  test(
    'who has shut down has all it wanted: secure stays, and the transport comes back',
    clean(async (scope) => {
      const both = await pair(scope, 'TLSv1.3', { client: { idleTimeout: 20 } });
      await Promise.all([both.client.shutdown(), both.server.shutdown()]);
      await silence(scope, 40);
      expect(both.client.closure.verdict).toBe('secure');
      const { transport } = await both.client.unwrap();
      expect(transport.destroyed).toBe(false);
      transport.destroy();
      await both.server.close();
    }),
  );

  test(
    'the peer has closed, and then nothing: what came is whole',
    clean(async (scope) => {
      const both = await pair(scope, 'TLSv1.3', { client: { idleTimeout: 30 } });
      await both.server.write('all of it');
      await both.server.shutdown({ wait: false });
      expect(String(await readAll(both.client))).toBe('all of it');
      expect(await both.client.closed).toMatchObject({ verdict: 'timed-out', incomplete: false });
      await both.server.close();
    }),
  );

  test(
    'behind close() its own deadline counts alone',
    clean(async (scope) => {
      const both = await pair(scope, 'TLSv1.3', { client: { idleTimeout: 20 } });
      const closing = both.client.close({ deadline: 10_000 });
      await silence(scope, 40);
      expect(both.client.closure.verdict).toBe('open');
      await both.server.close();
      expect((await closing).verdict).toBe('secure');
    }),
  );

  test(
    'none by default, and no deadline for a read: silence is no error',
    clean(async (scope) => {
      const both = await pair(scope, 'TLSv1.3');
      const reading = both.client.read();
      await silence(scope, 40);
      await both.server.write('at last');
      expect(String(Buffer.from((await reading) ?? []))).toBe('at last');
      await closeBoth(both);
    }),
  );

  test.each([[0], [-1], ['5'], [Number.NaN]])('%j is none', async (idleTimeout) => {
    const error = await rejection(connect({ port: 1, idleTimeout } as never));
    expect(error.message).toBe('idleTimeout must be a number of milliseconds above 0');
  });
});
