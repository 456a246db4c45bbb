/**
 * A program that ends its side as soon as the handshake is complete, when the peer's data has come together with the
 * last of the handshake. Node's shutdown within OpenSSL's call would read the next record and drop it.
 */
import net from 'node:net';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { secureSocket, socketClosure } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, until } from '../../support/core-scope.ts';
import { listen } from '../../support/core-transport.ts';

describeTls('end() in a listener to secureConnect', () => {
  test.each(['end', 'destroySoon'] as const)(
    '%s: data, and close_notify, in one segment with Finished arrive whole (RFC 9846 section 6.1: "This alert notifies the recipient that the sender will not send any more messages")',
    async (how) => {
      const body = clean(async (scope) => {
        const server = tls.createServer({ ...pki().server, maxVersion: 'TLSv1.2' }, (socket) => {
          socket.on('error', () => {}).resume();
          socket.write('first, ');
          setImmediate(() => socket.end('last'));
        });
        await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
        scope.defer(() => new Promise((resolve) => server.close(resolve)));
        const { port } = server.address() as net.AddressInfo;
        // What the server sends behind its first flight is held until it has sent all.
        const relayed = await listen(scope, (down) => {
          const up = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
          scope.defer(() => {
            up.destroy();
            down.destroy();
          });
          down.on('end', () => up.end());
          const held: Buffer[] = [];
          let flights = 0;
          down
            .on('error', () => {})
            .on('data', (bytes) => {
              flights++;
              up.write(bytes);
            });
          up.on('error', () => {}).on('data', (bytes: Buffer) => {
            if (flights < 2) down.write(bytes);
            else held.push(bytes);
          });
          up.on('end', () => down.end(Buffer.concat(held)));
        });
        const socket = secureSocket({
          ...{ host: '127.0.0.1', port: relayed, ca: pki().ca, servername: 'localhost' },
          allowHalfOpen: true,
        });
        scope.defer(() => socket.destroy());
        let text = '';
        const events: string[] = [];
        socket.on('data', (bytes) => {
          text += bytes;
        });
        for (const name of ['end', 'error', 'close']) socket.on(name, () => events.push(name));
        socket.once('secureConnect', () => (how === 'end' ? socket.end() : socket.destroySoon()));
        await until('the socket is closed', () => events.includes('close'));
        const closure = socketClosure(socket);
        // Who destroys its socket may miss what comes, and is then not told that it has all.
        if (how === 'end' || events.includes('end')) expect(text).toBe('first, last');
        if (how === 'end') expect(closure?.verdict).toBe('secure');
      });
      await body();
    },
  );
});
