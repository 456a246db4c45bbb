/** Closing: who looks no more, who finds data unread, and what counts as our own close_notify. */
import { once } from 'node:events';
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { connect, secureSocket, socketClosure } from '../../../src/index.ts';
import { channel } from '../../../src/testing/channel.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  only,
  pair,
  pairInMemory,
  readAll,
  rejection,
  VERSIONS,
} from '../../support/core-streams.ts';
import { tcpPair } from '../../support/core-transport.ts';

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
      'what is read meanwhile makes room for more, up to the limit again',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version, {
          client: { unreadLimit: 8 },
          server: told,
        });
        const { client, server } = both;
        const shutting = client.shutdown();
        for (const text of ['eight by', 'tes more']) {
          const before = client.closure.late;
          await server.write(text);
          await until('it is taken', () => client.closure.late === before + 8);
          expect(Buffer.from((await client.read()) as Uint8Array).toString()).toBe(text);
        }
        await server.shutdown();
        expect(await shutting).toMatchObject({ verdict: 'secure', late: 16 });
        await closeBoth(both);
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
    'a shutdown that the kernel refuses has sent nothing that counts',
    clean(async (scope) => {
      const socket = await open(scope);
      const handle = (socket as unknown as { _handle: { shutdown(): number } })._handle;
      // EPIPE, as libuv numbers it.
      handle.shutdown = () => -32;
      const failing = once(socket, 'error');
      socket.end();
      expect((await failing)[0]).toMatchObject({ code: 'EPIPE' });
      await until('it is over', () => socket.closed);
      expect(socketClosure(socket)).toMatchObject({ verdict: 'truncated', sent: null });
    }),
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

for (const version of VERSIONS) {
  describeTls(`${version}: abort()`, () => {
    test(
      'after a truncation: from here on it is the caller who wants no more',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version);
        serverTransport.end();
        const error = await rejection(client.read());
        expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        client.abort();
        for (const call of [client.read(), client.write('x'), client.shutdown()]) {
          expect(await rejection(call)).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        }
        // The verdict stays.
        expect(client.closure.verdict).toBe('truncated');
        server.abort();
      }),
    );

    test(
      'what was not read by then is gone',
      clean(async (scope) => {
        const { client, server } = await pairInMemory(scope, version);
        await server.write('unread');
        await turns();
        client.abort();
        expect(await rejection(client.read())).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        server.abort();
      }),
    );

    test(
      'after both have closed: the verdict stays, and calls fail',
      clean(async (scope) => {
        const { client, server } = await pairInMemory(scope, version);
        await Promise.all([client.shutdown(), server.shutdown()]);
        client.abort();
        expect(await rejection(client.shutdown())).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        expect(client.closure.verdict).toBe('secure');
        server.abort();
      }),
    );
  });

  describeTls(`${version}: what has ended stays as it ended`, () => {
    test(
      'a truncation that was waited past is none that was permitted, whatever is asked for later',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, { server: told });
        const shutting = client.shutdown();
        expect(await server.read()).toBe(null);
        serverTransport.end();
        expect(await rejection(shutting)).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        await client.shutdown({ wait: false }).catch(() => {});
        expect(client.closure.verdict).toBe('truncated');
        await client.close({ wait: false });
        expect(client.closure.verdict).toBe('truncated');
        server.abort();
      }),
    );

    test(
      'one that was dropped while it waited is not one-sided, whatever is asked for later',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: told });
        const shutting = rejection(client.shutdown());
        expect(await server.read()).toBe(null);
        client.abort();
        expect(await shutting).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        await rejection(client.shutdown({ wait: false }));
        expect(client.closure.verdict).toBe('aborted');
        server.abort();
      }),
    );

    test(
      'the first failure is the one that is told; close tells it by its verdict',
      clean(async (scope) => {
        const { client, server, clientTransport, serverTransport } = await pair(scope, version);
        await server.write('unread');
        await turns();
        serverTransport.end();
        await until('it is cut', () => client.closure.verdict === 'truncated');
        // No close_notify goes out behind that.
        expect(client.closure).toMatchObject({ send: 'abandoned', sent: null });
        clientTransport.destroy(Object.assign(new Error('read'), { code: 'ECONNRESET' }));
        await turns();
        expect(await client.close()).toMatchObject({ verdict: 'truncated', incomplete: true });
        expect(String(await client.read())).toBe('unread');
        const error = await rejection(client.read());
        expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED', incomplete: true });
        expect(error.cause).toBe(undefined);
        expect(client.closure.sent).toBe(null);
        server.abort();
      }),
    );

    test(
      'after a truncation shutdown sends nothing',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version);
        await server.write('unread');
        await turns();
        serverTransport.end();
        await until('it is cut', () => client.closure.verdict === 'truncated');
        expect(await rejection(client.shutdown())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect(client.closure).toMatchObject({ send: 'abandoned', sent: null });
        client.abort();
        server.abort();
      }),
    );

    test(
      'close after a shutdown that was cancelled does not wait again',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: told });
        const controller = new AbortController();
        const shutting = client.shutdown({ signal: controller.signal });
        expect(await server.read()).toBe(null);
        controller.abort();
        expect(await rejection(shutting)).toMatchObject({ code: 'ABORT_ERR' });
        const closing = client.close();
        server.abort();
        expect(await closing).toMatchObject({ verdict: 'aborted', incomplete: false });
      }),
    );
  });

  describeTls(`${version}: the transport`, () => {
    test(
      'taken back, it has the listeners that it had, and is paused',
      clean(async (scope) => {
        const transports = await tcpPair(scope);
        const heard: string[] = [];
        const listener = (bytes: Buffer) => heard.push(String(bytes));
        transports[0].on('data', listener);
        const { client, server, serverTransport } = await pair(scope, version, { transports });
        await Promise.all([client.shutdown(), server.shutdown()]);
        const { transport } = await client.unwrap();
        expect(transport.listeners('data')).toEqual([listener]);
        expect(transport.isPaused()).toBe(true);
        await server.unwrap();
        serverTransport.end('in the clear');
        transport.resume();
        await until('it is heard', () => heard.length > 0);
        expect(heard).toEqual(['in the clear']);
        transport.destroy();
        serverTransport.destroy();
      }),
    );

    test(
      'closed after both close_notify, it says by whom',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: told });
        const closing = client.close();
        expect(await server.read()).toBe(null);
        await server.shutdown();
        await until('it is closing', () => client.closure.transportEnd !== null);
        expect(client.closure).toMatchObject({ verdict: 'secure', transportEnd: 'closed' });
        await Promise.all([closing, server.close()]);
      }),
    );

    test(
      'ends during the handshake: an error, though no close_notify is required',
      clean(async (scope) => {
        const [near, far] = await tcpPair(scope);
        far.once('data', () => far.end());
        const error = await rejection(
          connect({
            transport: near,
            host: 'localhost',
            ca: pki().ca,
            requireCloseNotify: false,
            ...only(version),
          }),
        );
        expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED', phase: 'handshake' });
      }),
    );
  });
}

describeTls('TLSv1.2: the answer to close_notify', () => {
  const RULE =
    'RFC 5246 section 7.2.1: "The other party MUST respond with a close_notify alert of its own and close down the connection immediately, discarding any pending writes"';

  test(
    `what was written in the same turn is discarded (${RULE})`,
    clean(async (scope) => {
      const wire = channel({ onDestroy: 'reset' });
      const { client, server } = await pair(scope, 'TLSv1.2', { transports: wire.ends });
      await turns();
      wire.back.hold();
      await server.shutdown({ wait: false });
      await turns();
      // The first small write goes out at once; what follows it waits for the end of the turn.
      await client.write('sent');
      const writing = client.write('late');
      wire.back.flow();
      await writing.catch(() => {});
      expect(await server.read()).toEqual(Buffer.from('sent'));
      expect(await server.read()).toBe(null);
      expect(client.closure).toMatchObject({ verdict: 'secure', unsent: 4 });
      await Promise.all([client.close(), server.close()]);
    }),
  );

  test(
    `a write that waits, and is discarded, rejects (${RULE})`,
    clean(async (scope) => {
      const wire = channel({ onDestroy: 'reset' });
      const { client, server } = await pair(scope, 'TLSv1.2', { transports: wire.ends });
      await turns();
      wire.forth.clog();
      // The engine has the first, and the socket the second.
      void client.write(Buffer.alloc(100_000)).catch(() => {});
      const writing = rejection(client.write(Buffer.alloc(100_000)));
      await turns();
      await server.shutdown({ wait: false });
      await until('it has come', () => client.closure.received !== null);
      await turns();
      wire.forth.flow();
      // Our answer is behind what TLS had encrypted already.
      expect((await readAll(server)).length).toBe(100_000);
      expect(await writing).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
      expect(client.closure.unsent).toBe(100_000);
      client.abort();
      server.abort();
    }),
  );

  test(
    'who has said already that it closes, and only waits for its writes to go out, discards none of them',
    clean(async (scope) => {
      const wire = channel({ onDestroy: 'reset' });
      const { client, server } = await pair(scope, 'TLSv1.2', {
        transports: wire.ends,
        server: told,
      });
      await turns();
      wire.forth.clog();
      const said = Buffer.alloc(200_000, 'x');
      // The engine has the first, and the socket the second.
      const writing = Promise.all([client.write(said), client.write(said)]);
      await turns();
      const shutting = client.shutdown();
      await turns();
      expect(client.closure.send).toBe('closing');
      await server.shutdown({ wait: false });
      await until('it has come', () => client.closure.received !== null);
      wire.forth.flow();
      expect((await readAll(server)).equals(Buffer.concat([said, said]))).toBe(true);
      await writing;
      expect(await shutting).toMatchObject({ verdict: 'secure', unsent: 0 });
      await Promise.all([client.close(), server.close()]);
    }),
  );
});

test.each(VERSIONS)(
  '%s: shutdown gives the closure as it was when it was done, whatever is done next',
  (version) =>
    clean(async (scope) => {
      const { client, server } = await pairInMemory(scope, version, { server: told });
      await client.shutdown({ wait: false });
      const again = client.shutdown({ wait: false });
      const cancel = new AbortController();
      const waiting = rejection(client.shutdown({ signal: cancel.signal }));
      cancel.abort();
      expect(await again).toMatchObject({ verdict: 'one-sided', transportEnd: null });
      expect(await waiting).toMatchObject({ code: 'ABORT_ERR', closure: { verdict: 'aborted' } });
      client.abort();
      server.abort();
    })(),
);

test.each(VERSIONS)(
  '%s: a transport that no destroy() ends is given up when linger.time has passed again',
  (version) =>
    clean(async (scope) => {
      const wire = channel({ onDestroy: 'reset' });
      const [near] = wire.ends;
      const { client, server } = await pair(scope, version, {
        transports: wire.ends,
        client: { linger: { time: 20 } },
        server: told,
      });
      const destroy = near.destroy.bind(near);
      let asked = 0;
      // As the channels of some SSH libraries, which end, and are not destroyed before the peer has answered.
      near.destroy = () => {
        asked++;
        return near;
      };
      expect(await client.close({ wait: false })).toMatchObject({ verdict: 'one-sided' });
      await client.closed;
      expect(asked).toBeGreaterThan(0);
      destroy();
      server.abort();
    })(),
);
