/** A server whose program uses the socket alone. */
import { once } from 'node:events';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { createServer, type TlsStream } from '../../src/index.ts';
import { describeTls, pki } from '../support/core-pki.ts';
import { clean, until } from '../support/core-scope.ts';
import { only, VERSIONS } from '../support/core-streams.ts';

for (const version of VERSIONS) {
  describeTls(`${version}: a client that closes in the very segment of its Finished`, () => {
    test(
      "the program that takes the socket afterwards hears 'end', and the client is answered",
      clean(async (scope) => {
        const streams: TlsStream[] = [];
        const events: string[] = [];
        const server = createServer({ ...pki().server, ...only(version) }, (stream) => {
          streams.push(stream);
          for (const name of ['end', 'error', 'close']) {
            stream.socket.on(name, () => events.push(name));
          }
          stream.socket.resume();
        });
        const port = await server.listen(0, '127.0.0.1');
        const client = tls.connect({ port, host: 'localhost', ca: pki().ca, ...only(version) });
        scope.defer(() => client.destroy());
        await once(client, 'secureConnect');
        client.end();
        client.resume();
        await once(client, 'close');
        await until('the socket is closed', () => events.includes('close'));
        expect(events).toEqual(['end', 'close']);
        expect(streams[0]?.closure.verdict).toBe('secure');
        await server.close();
      }),
    );

    test(
      'the program that only looks at the socket, and reads the stream, gets null',
      clean(async (scope) => {
        const server = createServer({ ...pki().server, ...only(version) }, async (stream) => {
          expect(stream.socket.remoteAddress).toBe('127.0.0.1');
          expect(await stream.read()).toBe(null);
          expect((await stream.close()).verdict).toBe('secure');
        });
        const port = await server.listen(0, '127.0.0.1');
        const client = tls.connect({ port, host: 'localhost', ca: pki().ca, ...only(version) });
        scope.defer(() => client.destroy());
        await once(client, 'secureConnect');
        client.end();
        client.resume();
        await once(client, 'close');
        await server.close();
      }),
    );
  });
}
