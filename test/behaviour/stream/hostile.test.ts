/** Peers, transports and callers that behave badly, and endings that come at a bad moment. */
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { connect } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, turn, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  pair,
  pattern,
  readAll,
  rejection,
  VERSIONS,
} from '../../support/core-streams.ts';

for (const version of VERSIONS) {
  describeTls(`${version}: a close_notify that comes before the caller has done anything`, () => {
    test(
      'leaves the answer and the transport to the caller, as each standard says',
      clean(async (scope) => {
        const { client, server, clientTransport, serverTransport } = await pair(scope, version);
        await server.shutdown({ wait: false });
        await until('close_notify is here', () => client.closure.received !== null);
        for (let i = 0; i < 10; i++) await turn();
        expect(clientTransport.destroyed || clientTransport.writableEnded).toBe(false);
        if (version === 'TLSv1.3') {
          // "This does not have any effect on its read side of the connection": we may go on writing.
          expect(client.closure.sent).toBe(null);
          await client.write('an answer');
        } else {
          // "The other party MUST respond with a close_notify alert of its own".
          expect(client.closure.sent).not.toBe(null);
          expect(await rejection(client.write('late'))).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
        }
        expect(await client.read()).toBe(null);
        await client.shutdown();
        const { transport } = await client.unwrap();
        expect(transport).toBe(clientTransport);
        expect(transport.destroyed).toBe(false);
        expect((await readAll(server)).toString()).toBe(version === 'TLSv1.3' ? 'an answer' : '');
        transport.destroy();
        await server.close();
        await server.closed;
        expect(serverTransport.destroyed).toBe(true);
      }),
    );
  });

  describeTls(`${version}: closing`, () => {
    test(
      '`closed` settles only when the transport is closed, also when a failure had begun to close it',
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        server.abort();
        expect(await rejection(client.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        await client.closed;
        expect(clientTransport.destroyed).toBe(true);
        expect(await client.close()).toMatchObject({ verdict: 'truncated', incomplete: true });
      }),
    );

    test(
      'abort() after unwrap() leaves the transport to the caller, EOF seen or not',
      clean(async (scope) => {
        const { client, server, clientTransport, serverTransport } = await pair(scope, version);
        const shut = Promise.all([client.shutdown(), server.shutdown()]);
        await shut;
        serverTransport.end();
        const { transport } = await client.unwrap();
        client.abort();
        expect(transport.destroyed).toBe(false);
        expect(await rejection(client.unwrap())).toMatchObject({ code: 'ERR_TLS_NOT_SHUTDOWN' });
        clientTransport.destroy();
        await server.close();
      }),
    );

    test(
      'shutdown that has no room for unread data goes on once somebody reads',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { client: { unreadLimit: 50_000 } });
        const data = pattern(170_000);
        const sending = server.write(data).then(() => server.shutdown());
        const shutting = client.shutdown({ deadline: Number.POSITIVE_INFINITY });
        const got: Uint8Array[] = [];
        for (;;) {
          const bytes = await client.read();
          if (bytes === null) break;
          got.push(bytes);
        }
        expect(Buffer.concat(got).equals(data)).toBe(true);
        expect((await shutting).verdict).toBe('secure');
        await sending;
        await closeBoth({ client, server } as Parameters<typeof closeBoth>[0]);
      }),
    );
  });
}

/** A transport whose write does something bad. */
class BadTransport extends Duplex {
  readonly #onWrite: (transport: BadTransport) => void;

  constructor(onWrite: (transport: BadTransport) => void) {
    super();
    this.#onWrite = onWrite;
  }

  override _read(): void {}

  override _write(_chunk: Uint8Array, _encoding: string, done: (error?: Error) => void): void {
    this.#onWrite(this);
    done();
  }
}

describeTls('a transport that misbehaves', () => {
  const cases: ReadonlyArray<readonly [string, (transport: BadTransport) => void, string]> = [
    [
      'throws in write',
      () => {
        throw new Error('no');
      },
      'ERR_TLS_TRUNCATED',
    ],
    ['reports an error in write', (t) => t.emit('error', new Error('no')), 'ERR_TLS_TRUNCATED'],
    ["tells 'end' in write", (t) => t.emit('end'), 'ERR_TLS_TRUNCATED'],
    ["tells 'close' in write", (t) => t.emit('close'), 'ERR_TLS_ABORTED'],
    ['is destroyed in write', (t) => t.destroy(), 'ERR_TLS_ABORTED'],
    ['is destroyed with an error in write', (t) => t.destroy(new Error('no')), 'ERR_TLS_TRUNCATED'],
    ['delivers text', (t) => t.emit('data', 'text'), 'ERR_TLS_TRUNCATED'],
  ];
  for (const [what, onWrite, code] of cases) {
    test(
      `${what} during the handshake: ${code}, and nothing uncaught`,
      clean(async () => {
        const transport = new BadTransport(onWrite);
        const deadlines = { close: 50 };
        const error = await rejection(connect({ transport, ca: pki().ca, deadlines }));
        expect(error).toMatchObject({ code });
        expect(transport.destroyed).toBe(true);
        await turn();
      }),
    );
  }

  for (const version of VERSIONS) {
    test(
      `${version}: destroyed with an error while the stream lets go of it: nothing uncaught`,
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        clientTransport.destroy(new Error('both at once'));
        client.abort();
        server.abort();
        await until('it is closed', () => clientTransport.closed);
        for (let i = 0; i < 3; i++) await turn();
      }),
    );
  }
});
