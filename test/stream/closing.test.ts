/** Closing: who looks no more, who finds data unread, and what counts as our own close_notify. */
import { once } from 'node:events';
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { secureSocket, socketClosure } from '../../src/index.ts';
import { channel } from '../../src/testing/channel.ts';
import { describeTls, pki } from '../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../support/core-scope.ts';
import { closeBoth, only, pair, pairInMemory, readAll, VERSIONS } from '../support/core-streams.ts';

const told = { answer: 'when-told' } as const;

async function turns(): Promise<void> {
  for (let i = 0; i < 10; i++) await turn();
}

for (const version of VERSIONS) {
  describeTls(`${version}: close({ wait: false })`, () => {
    const notWaiting =
      version === 'TLSv1.2'
        ? 'RFC 5246 section 7.2.1: "It is not required for the initiator of the close to wait for the responding close_notify alert"'
        : 'RFC 9846 section 6.1: "Both parties need not wait to receive a close_notify alert before closing their read side"';

    test.each(['close_notify', 'FIN'] as const)(
      `a %s that comes before ours is out changes nothing: nobody looks (${notWaiting})`,
      async (what) => {
        const body = clean(async (scope) => {
          const wire = channel({ onDestroy: 'reset' });
          const { client, server } = await pair(scope, version, {
            transports: wire.ends,
            server: told,
          });
          await turns();
          // The transport takes what is written, and does not say so.
          wire.forth.clog();
          const closing = client.close({ wait: false });
          await turns();
          expect(client.closure).toMatchObject({ send: 'closing', verdict: 'open' });
          if (what === 'FIN') wire.back.cut('fin');
          else await server.shutdown({ wait: false });
          await turns();
          wire.forth.flow();
          await turns();
          server.abort();
          expect(await closing).toMatchObject({ verdict: 'one-sided', received: null });
        });
        await body();
      },
    );
  });

  describeTls(`${version}: what shutdown finds unread`, () => {
    test(
      'data for a reader that waits already is not late',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version, { server: told });
        const { client, server } = both;
        const shutting = client.shutdown();
        const reading = client.read();
        await server.write('in time');
        expect(await reading).toEqual(Buffer.from('in time'));
        await server.shutdown();
        expect(await shutting).toMatchObject({ verdict: 'secure', late: 0 });
        await closeBoth(both);
      }),
    );

    test(
      "data for a listener of the socket's is not taken from it while it is paused",
      clean(async (scope) => {
        const both = await pairInMemory(scope, version, { server: told });
        const { client, server } = both;
        const heard: Buffer[] = [];
        client.socket.on('data', (bytes) => heard.push(bytes));
        client.socket.pause();
        const shutting = client.shutdown();
        await server.write('for the listener');
        await server.shutdown({ wait: false });
        expect(await shutting).toMatchObject({ verdict: 'secure', late: 0 });
        await turns();
        expect(heard).toEqual([]);
        expect(client.socket.readableLength).toBe('for the listener'.length);
        await closeBoth(both);
      }),
    );

    test(
      'what it had no room for is still readable after unwrap, which gives the transport away for good',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version, {
          client: { unreadLimit: 0 },
          server: told,
        });
        const { client, server, clientTransport } = both;
        await server.write('left');
        const [closure] = await Promise.all([client.shutdown(), server.shutdown()]);
        expect(closure.verdict).toBe('secure');
        await client.unwrap();
        // It is the next protocol's now.
        client.abort();
        expect(clientTransport.destroyed).toBe(false);
        expect((await readAll(client)).toString()).toBe('left');
        clientTransport.destroy();
        await server.close();
      }),
    );

    test(
      "unread: 'discard' keeps nothing, so no limit holds it up",
      clean(async (scope) => {
        const both = await pairInMemory(scope, version, {
          client: { unreadLimit: 0 },
          server: told,
        });
        const { client, server } = both;
        await server.write('nobody wants it');
        const shutting = client.shutdown({ unread: 'discard' });
        await server.shutdown();
        expect(await shutting).toMatchObject({ verdict: 'secure', late: 15 });
        expect(await client.read()).toBe(null);
        await closeBoth(both);
      }),
    );
  });
}

describe('TLS_AES_128_CCM_8_SHA256', () => {
  test(
    'its close_notify is shorter (a tag of 8 bytes), and recognised all the same',
    clean(async (scope) => {
      const ciphers = 'TLS_AES_128_CCM_8_SHA256:DEFAULT@SECLEVEL=0';
      const both = await pairInMemory(scope, 'TLSv1.3', {
        client: { ciphers },
        server: { ciphers },
      });
      expect(both.client.tls.cipher).toBe('TLS_AES_128_CCM_8_SHA256');
      const reading = readAll(both.server);
      await both.client.write('hello');
      const closure = await both.client.shutdown({ wait: false });
      expect(closure).toMatchObject({ verdict: 'one-sided', send: 'closed' });
      expect((await reading).toString()).toBe('hello');
      await closeBoth(both);
      expect(both.client.closure.verdict).toBe('secure');
    }),
  );
});

describe("a strict socket on the kernel's own, that is destroyed with an error", () => {
  async function open(scope: Scope): Promise<tls.TLSSocket> {
    const server = tls.createServer(pki().server, (socket) => {
      scope.defer(() => socket.destroy());
      socket.on('error', () => {});
      socket.write('x');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    scope.defer(() => new Promise((resolve) => server.close(resolve)));
    const { port } = server.address() as { port: number };
    const socket = secureSocket({ host: 'localhost', port, ca: pki().ca, ...only('TLSv1.3') });
    scope.defer(() => socket.destroy());
    await once(socket, 'data');
    return socket;
  }

  // As Node does with what the kernel tells it of the transport (`destroyWithErrno`).
  test.each(['read', 'write', 'shutdown'])(
    "the kernel's, of %s, is the transport's ending",
    async (syscall) => {
      const body = clean(async (scope) => {
        const socket = await open(scope);
        const error = Object.assign(new Error(`${syscall} EPIPE`), { code: 'EPIPE', syscall });
        const failing = once(socket, 'error');
        socket.destroy(error);
        expect((await failing)[0]).toBe(error);
        await until('it is over', () => socket.closed);
        expect(socketClosure(socket)).toMatchObject({
          verdict: 'truncated',
          truncation: { cause: 'reset', code: 'EPIPE' },
        });
      });
      await body();
    },
  );

  test(
    "the program's own is no truncation",
    clean(async (scope) => {
      const socket = await open(scope);
      const error = Object.assign(new Error('enough'), { code: 'ECONNRESET' });
      const failing = once(socket, 'error');
      socket.destroy(error);
      expect((await failing)[0]).toBe(error);
      await until('it is over', () => socket.closed);
      expect(socketClosure(socket)).toMatchObject({ verdict: 'aborted', truncation: null });
    }),
  );
});
