/** The tapped engine where TLS below it does what is rare: it loses data, or renegotiates. */
import { once } from 'node:events';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { accept, type Observation } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean } from '../../support/core-scope.ts';
import { only, pair, rejection, VERSIONS } from '../../support/core-streams.ts';
import { tcpPair } from '../../support/core-transport.ts';

/** Lets a TLS socket be changed once its engine has it. */
async function withSockets<T>(
  change: (socket: tls.TLSSocket) => void,
  run: () => Promise<T>,
): Promise<T> {
  const original = tls.connect;
  tls.connect = ((...args: unknown[]) => {
    const socket = Reflect.apply(original, tls, args) as tls.TLSSocket;
    socket.once('secureConnect', () => change(socket));
    return socket;
  }) as typeof tls.connect;
  try {
    return await run();
  } finally {
    tls.connect = original;
  }
}

const LOST = 7;

for (const version of VERSIONS) {
  describeTls(version, () => {
    test(
      'all data, or no closure: TLS that has given less than its records had is believed no end',
      clean(async (scope) => {
        // RFC 9846 section 6.1: a party must know "that all the data that was sent has been received".
        const { client, server } = await withSockets(
          (socket) => {
            const { push } = socket;
            socket.push = (chunk: Uint8Array | null) =>
              chunk?.length === LOST ? true : push.call(socket, chunk);
          },
          () => pair(scope, version, { client: { engine: 'tapped' } }),
        );
        await server.write('all of this');
        expect(String(await client.read())).toBe('all of this');
        await server.write('x'.repeat(LOST));
        await server.shutdown({ wait: false });
        expect(await rejection(client.read())).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        expect(client.closure).toMatchObject({ verdict: 'aborted', received: null });
      }),
    );
  });
}

describeTls('a renegotiation (TLS 1.2)', () => {
  test(
    'close_notify waits for its end: OpenSSL sends none within one',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      const version = only('TLSv1.2');
      let onHandshakeRecord = () => {};
      const record = {
        observe(seen: Observation) {
          const isHandshake = seen.type === 'record' && seen.contentType === 22;
          if (isHandshake && seen.direction === 'received') onHandshakeRecord();
        },
      };
      const client = tls.connect({
        socket: near,
        ca: pki().ca,
        servername: 'localhost',
        ...version,
      });
      const secure = once(client, 'secureConnect');
      const stream = await accept(far, { ...pki().server, ...version, engine: 'tapped', record });
      await secure;
      client.on('end', () => client.end()).resume();
      const shut = new Promise<string>((resolve, reject) => {
        onHandshakeRecord = () => {
          onHandshakeRecord = () => {};
          // Behind the feeding of the ClientHello, to which TLS has answered then.
          queueMicrotask(() => stream.shutdown().then(({ verdict }) => resolve(verdict), reject));
        };
      });
      const renegotiated = new Promise<void>((resolve, reject) => {
        client.renegotiate({}, (error) => (error ? reject(error) : resolve()));
      });
      await renegotiated;
      expect(await shut).toBe('secure');
      await stream.close();
    }),
  );
});
