/** Ending a connection. */
import net from 'node:net';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { accept, connect } from '../../../src/index.ts';
import { channel } from '../../../src/testing/channel.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, turn, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  Log,
  only,
  pair,
  pairInMemory,
  pattern,
  readAll,
  rejection,
  VERSIONS,
} from '../../support/core-streams.ts';
import { delivered, listen, reset, tcpPair } from '../../support/core-transport.ts';

const told = { answer: 'when-told' } as const;

for (const version of VERSIONS) {
  describeTls(`${version}: shutdown`, () => {
    test(
      'waits for the peer, is secure at both, and keeps the transport',
      clean(async (scope) => {
        const { client, server, clientTransport, serverTransport } = await pair(scope, version, {
          server: told,
        });
        let settled = false;
        const shutting = client.shutdown().finally(() => {
          settled = true;
        });
        expect(await server.read()).toBe(null);
        for (let i = 0; i < 5; i++) await turn();
        expect(settled).toBe(false);
        expect(client.closure).toMatchObject({ verdict: 'open', initiator: 'local' });
        expect(server.closure).toMatchObject({ verdict: 'open', initiator: 'peer', sent: null });
        const atServer = await server.shutdown();
        const atClient = await shutting;
        expect(atClient).toMatchObject({
          verdict: 'secure',
          initiator: 'local',
          send: 'closed',
          receive: 'closed',
          transportEnd: null,
          alert: null,
          truncation: null,
        });
        expect(atServer).toMatchObject({ verdict: 'secure', initiator: 'peer' });
        expect(atClient.sent?.at).toBeLessThanOrEqual(atClient.received?.at as number);
        expect(clientTransport.destroyed || serverTransport.destroyed).toBe(false);
        await closeBoth({ client, server, clientTransport, serverTransport });
        expect(client.closure.verdict).toBe('secure');
      }),
    );

    test(
      "with wait: false is one-sided; the peer's close_notify later makes it secure",
      clean(async (scope) => {
        const both = await pair(scope, version, { server: told });
        const { client, server } = both;
        const closure = await client.shutdown({ wait: false });
        expect(closure).toMatchObject({ verdict: 'one-sided', received: null });
        expect(closure.sent).not.toBe(null);
        expect(await server.read()).toBe(null);
        await server.shutdown();
        expect(await client.read()).toBe(null);
        expect(client.closure).toMatchObject({ verdict: 'secure', initiator: 'local' });
        expect(closure.verdict).toBe('one-sided');
        await closeBoth(both);
      }),
    );

    test(
      'close with wait: false stays one-sided, whatever the peer does later',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: told });
        const closing = client.close({ wait: false });
        expect(await server.read()).toBe(null);
        expect((await server.close()).verdict).toBe('secure');
        expect(await closing).toMatchObject({ verdict: 'one-sided', received: null });
        expect(client.closure.verdict).toBe('one-sided');
      }),
    );

    test(
      'a close_notify that the transport has not taken is not called sent',
      clean(async (scope) => {
        const [near, far] = channel().ends;
        const both = await pair(scope, version, { transports: [near, far], server: told });
        const { client, server } = both;
        // The peer's tap takes nothing more, so what is written here stays with the transport.
        void client.write(pattern(1024 * 1024)).catch(() => {});
        await until('the transport is full', () => near.writableNeedDrain);
        const shutting = client.shutdown({ wait: false });
        for (let i = 0; i < 20; i++) await turn();
        expect(client.closure).toMatchObject({ sent: null, send: 'closing', verdict: 'open' });
        expect((await readAll(server)).length).toBe(1024 * 1024);
        expect((await shutting).sent).not.toBe(null);
        await closeBoth(both);
      }),
    );

    test(
      'snapshots are frozen, and stay as they were',
      clean(async (scope) => {
        const both = await pair(scope, version);
        const before = both.client.closure;
        expect(Object.isFrozen(before)).toBe(true);
        expect(both.client.closure).toBe(before);
        await closeBoth(both);
        expect(before.verdict).toBe('open');
        expect(both.client.closure).not.toBe(before);
      }),
    );

    test(
      'times are milliseconds since the start, and the observer is told the same',
      clean(async (scope) => {
        const log = new Log();
        const both = await pair(scope, version, { client: { record: log } });
        await closeBoth(both);
        const at = (direction: string) =>
          log.times[
            log.seen.findIndex((one) => one.type === 'close-notify' && one.direction === direction)
          ] as number;
        const { sent, received } = both.client.closure;
        expect(Math.abs((sent?.at as number) - at('sent'))).toBeLessThan(50);
        expect(Math.abs((received?.at as number) - at('received'))).toBeLessThan(50);
        expect(log.of('close-notify').length).toBe(2);
        expect(log.of('verdict').at(-1)).toEqual({ type: 'verdict', verdict: 'secure' });
      }),
    );
  });

  describeTls(`${version}: who answers when`, () => {
    const answers =
      version === 'TLSv1.2'
        ? 'RFC 5246 section 7.2.1: "the other party MUST respond with a close_notify alert of its own and close down the connection immediately, discarding any pending writes"'
        : 'RFC 9846 section 6.1: "This does not have any effect on its read side of the connection"';

    test(
      `by-version: ${answers}`,
      clean(async (scope) => {
        const both = await pair(scope, version);
        const { client, server } = both;
        await client.shutdown({ wait: false });
        if (version === 'TLSv1.2') {
          expect(await client.read()).toBe(null);
          expect(client.closure.verdict).toBe('secure');
          expect(server.closure).toMatchObject({ verdict: 'secure', initiator: 'peer' });
          expect((await rejection(server.write('x'))).code).toBe('ERR_TLS_SHUTDOWN');
        } else {
          expect(await server.read()).toBe(null);
          const data = pattern(300_000);
          const writing = server.write(data).then(() => server.shutdown());
          expect((await readAll(client)).equals(data)).toBe(true);
          expect((await writing).verdict).toBe('secure');
          expect(client.closure.verdict).toBe('secure');
        }
        await closeBoth(both);
      }),
    );

    test(
      'at-once: the answer comes by itself',
      clean(async (scope) => {
        const both = await pair(scope, version, { server: { answer: 'at-once' } });
        expect((await both.client.shutdown()).verdict).toBe('secure');
        expect(both.server.closure).toMatchObject({ verdict: 'secure', initiator: 'peer' });
        expect((await rejection(both.server.write('x'))).code).toBe('ERR_TLS_SHUTDOWN');
        await closeBoth(both);
      }),
    );

    test(
      "when-told: writing goes on after the peer's close_notify",
      clean(async (scope) => {
        const both = await pair(scope, version, { server: told });
        const { client, server } = both;
        await client.shutdown({ wait: false });
        expect(await server.read()).toBe(null);
        await server.write('still here');
        expect(await client.read()).toEqual(Buffer.from('still here'));
        await server.shutdown();
        expect(await client.read()).toBe(null);
        await closeBoth(both);
        expect(client.closure.verdict).toBe('secure');
      }),
    );

    test(
      version === 'TLSv1.2'
        ? 'pending writes are discarded and counted ("discarding any pending writes", RFC 5246 section 7.2.1)'
        : 'pending writes are not discarded, also when the answer is at once',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version, { server: { answer: 'at-once' } });
        const { client, server } = both;
        const part = pattern(64 * 1024);
        const burst = () => {
          for (let i = 0; i < 32; i++) void server.write(part).catch(() => {});
        };
        // Not awaited: the first is encrypted as far as it gets, and the second waits for that.
        burst();
        await turn();
        burst();
        const shutting = client.shutdown({ wait: false });
        const got = await readAll(client);
        await shutting;
        const { unsent } = server.closure;
        expect(got.length + unsent).toBe(64 * part.length);
        if (version === 'TLSv1.2') expect(unsent).toBeGreaterThan(part.length);
        else expect(unsent).toBe(0);
        expect(server.closure.verdict).toBe('secure');
        await closeBoth(both);
      }),
    );
  });

  describeTls(`${version}: the peer's close_notify is missing`, () => {
    test(
      'shutdown that waits, and a peer that just goes: ERR_TLS_TRUNCATED',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, { server: told });
        const shutting = client.shutdown();
        expect(await server.read()).toBe(null);
        serverTransport.end();
        const error = await rejection(shutting);
        expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED', phase: 'open' });
        expect(error.closure).toMatchObject({
          verdict: 'truncated',
          initiator: 'local',
          received: null,
          truncation: { where: 'record-boundary', cause: 'eof', code: null },
        });
        expect(await rejection(client.read())).toBe(error);
        expect((await client.close()).verdict).toBe('truncated');
        server.abort();
      }),
    );

    test(
      'requireCloseNotify: false: what came before EOF is read behind close(), too, then null; nothing is behind abort()',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, {
          client: { requireCloseNotify: false },
          server: told,
        });
        // Session tickets are out of the way.
        await server.write('.');
        await client.read();
        const tcp = serverTransport as net.Socket;
        const { bytesWritten } = tcp;
        await server.write('some');
        await until('it is with the transport', () => tcp.bytesWritten > bytesWritten);
        serverTransport.end();
        await until('it is cut', () => client.closure.verdict === 'truncated');
        expect(await client.close()).toMatchObject({ verdict: 'truncated', incomplete: true });
        expect(String(await client.read())).toBe('some');
        expect(await client.read()).toBe(null);
        expect(await client.read()).toBe(null);
        client.abort();
        expect(await rejection(client.read())).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        server.abort();
      }),
    );

    test(
      'requireCloseNotify: false: EOF that comes behind close() ends no reader',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, {
          client: { requireCloseNotify: false },
          server: told,
        });
        const reading = rejection(client.read());
        const closing = client.close();
        expect(await server.read()).toBe(null);
        serverTransport.end();
        expect(await closing).toMatchObject({ verdict: 'one-sided', incomplete: false });
        expect(await reading).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        server.abort();
      }),
    );

    test(
      'requireCloseNotify: false: read gives null at EOF, and the verdict is truncated all the same',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, {
          client: { requireCloseNotify: false },
          server: told,
        });
        await server.write('some');
        expect(await client.read()).toEqual(Buffer.from('some'));
        serverTransport.end();
        expect(await client.read()).toBe(null);
        expect(client.closure).toMatchObject({ verdict: 'truncated', received: null });
        await client.close();
        expect(client.closure.verdict).toBe('truncated');
        expect(await client.read()).toBe(null);
        expect(await server.read()).toBe(null);
        server.abort();
      }),
    );

    test(
      'requireCloseNotify: false: a reset is an error all the same',
      clean(async (scope) => {
        const { client, server, clientTransport, serverTransport } = await pair(scope, version, {
          client: { requireCloseNotify: false },
        });
        await delivered(serverTransport, clientTransport);
        const reading = client.read();
        reset(serverTransport as net.Socket);
        const error = await rejection(reading);
        expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect(error.closure?.truncation).toEqual({
          where: 'record-boundary',
          cause: 'reset',
          code: 'ECONNRESET',
        });
        await client.close();
        server.abort();
      }),
    );

    test(
      'requireCloseNotify: false: the socket ends, too, and waiting for shutdown resolves',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, {
          client: { requireCloseNotify: false },
          server: told,
        });
        const shutting = client.shutdown();
        expect(await server.read()).toBe(null);
        serverTransport.end();
        expect((await shutting).verdict).toBe('truncated');
        await client.close();
        server.abort();
      }),
    );

    test(
      "a reset after the peer's close_notify takes nothing from what it sent",
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, { client: told });
        await server.write('complete');
        await server.shutdown({ wait: false });
        expect(await client.read()).toEqual(Buffer.from('complete'));
        expect(await client.read()).toBe(null);
        reset(serverTransport as net.Socket);
        await until('the reset is here', () => client.closure.transportEnd !== null);
        expect(await client.read()).toBe(null);
        expect(client.closure).toMatchObject({ receive: 'closed', transportEnd: 'reset' });
        expect(client.closure.received).not.toBe(null);
        expect(['one-sided', 'aborted']).toContain((await client.close()).verdict);
        server.abort();
      }),
    );

    test(
      'a reset that overtakes what waits for a slow reader takes neither bytes nor close_notify from it',
      clean(async (scope) => {
        const { ends, back } = channel();
        const { client, server, clientTransport } = await pair(scope, version, {
          transports: ends,
          client: told,
          server: told,
        });
        const data = pattern(300_000);
        back.hold();
        await server.write(data);
        await server.shutdown({ wait: false });
        back.deliver();
        // All of it is here, but the client has not read, and its TLS socket is full.
        await until('the transport is paused', () => clientTransport.isPaused());
        expect(client.closure.received).toBe(null);
        const error = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
        clientTransport.destroy(error);
        // It is known at once, not when somebody reads again.
        await until('the reset is here', () => client.closure.transportEnd === 'reset');
        expect(client.closure.received).not.toBe(null);
        expect((await readAll(client)).equals(data)).toBe(true);
        expect(client.closure).toMatchObject({ receive: 'closed', transportEnd: 'reset' });
        client.abort();
        server.abort();
      }),
    );

    test(
      'EOF after close_notify in both directions, or between them, is no truncation',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, { client: told });
        await server.shutdown({ wait: false });
        serverTransport.end();
        expect(await client.read()).toBe(null);
        await until('EOF is here', () => client.closure.transportEnd === 'eof');
        expect(client.closure.verdict).toBe('open');
        expect((await client.shutdown()).verdict).toBe('secure');
        await client.close();
        expect(await server.read()).toBe(null);
        expect((await server.close()).verdict).toBe('secure');
      }),
    );
  });

  describeTls(`${version}: data that nobody has read`, () => {
    const data = pattern(200_000);

    test(
      'keep: it stays readable after shutdown, and counts as late',
      clean(async (scope) => {
        const both = await pair(scope, version, { server: told });
        const { client, server } = both;
        const writing = server.write(data);
        const shutting = client.shutdown();
        await writing;
        expect(await server.read()).toBe(null);
        await server.shutdown();
        expect(await shutting).toMatchObject({ verdict: 'secure', late: data.length });
        expect((await readAll(client)).equals(data)).toBe(true);
        await closeBoth(both);
      }),
    );

    test(
      'keep: it stays readable after close',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: told });
        const writing = server.write(data);
        const closing = client.close();
        await writing;
        await Promise.all([closing, server.close()]);
        expect((await readAll(client)).equals(data)).toBe(true);
        expect(client.closure.verdict).toBe('secure');
      }),
    );

    test(
      'discard: it is gone, and counted',
      clean(async (scope) => {
        const both = await pair(scope, version, { server: told });
        const { client, server } = both;
        const writing = server.write(data);
        const shutting = client.shutdown({ unread: 'discard' });
        await writing;
        await server.shutdown();
        expect(await shutting).toMatchObject({ verdict: 'secure', late: data.length });
        expect(await client.read()).toBe(null);
        await closeBoth(both);
      }),
    );

    test(
      'keep, beyond the limit: shutdown waits until somebody reads',
      clean(async (scope) => {
        const both = await pair(scope, version, {
          client: { unreadLimit: 1_000 },
          server: told,
        });
        const { client, server } = both;
        const writing = server.write(data).then(() => server.shutdown());
        const error = await rejection(client.shutdown({ deadline: 100 }));
        expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'shutdown' });
        expect(client.closure.late).toBeGreaterThanOrEqual(1_000);
        expect(client.closure.late).toBeLessThan(data.length);
        const shutting = client.shutdown();
        expect((await readAll(client)).equals(data)).toBe(true);
        expect((await shutting).verdict).toBe('secure');
        await writing;
        await closeBoth(both);
      }),
    );

    test(
      'data read before the shutdown is not late',
      clean(async (scope) => {
        const both = await pair(scope, version);
        await both.server.write('early');
        await both.client.read();
        await closeBoth(both);
        expect(both.client.closure.late).toBe(0);
      }),
    );
  });

  describeTls(`${version}: unwrap`, () => {
    test(
      'plaintext goes on over the same transport, on which no listener of ours is left',
      clean(async (scope) => {
        const [near, far] = await tcpPair(scope);
        const names = ['data', 'end', 'error', 'close', 'drain', 'finish', 'readable'];
        const count = () => names.map((name) => [name, near.listenerCount(name)]);
        const before = count();
        const both = await pair(scope, version, { transports: [near, far] });
        await both.client.write('secret');
        expect(await both.server.read()).toEqual(Buffer.from('secret'));
        await Promise.all([both.client.shutdown(), both.server.shutdown()]);
        const mine = await both.client.unwrap();
        const theirs = await both.server.unwrap();
        expect(mine.transport).toBe(near);
        expect(mine.trailing.length).toBe(0);
        expect(count()).toEqual(before);
        expect(near.isPaused()).toBe(true);
        expect(near.allowHalfOpen).toBe(true);
        expect(both.client.closure).toMatchObject({ verdict: 'secure', transportEnd: 'released' });
        theirs.transport.write('plain');
        const bytes = await new Promise((resolve) => near.resume().once('data', resolve));
        expect(bytes).toEqual(Buffer.from('plain'));
        near.destroy();
        far.destroy();
        both.client.abort();
        await both.client.close();
        expect(both.client.closure).toMatchObject({ verdict: 'secure', transportEnd: 'released' });
      }),
    );

    test(
      'what follows close_notify is trailing data ("Any data received after a closure alert has been received MUST be ignored", RFC 9846 section 6.1), to the byte',
      clean(async (scope) => {
        for (const extra of [1, 4, 5, 6, 100, 70_000]) {
          const { client, server, serverTransport } = await pairInMemory(scope, version);
          const plain = pattern(extra);
          await Promise.all([client.shutdown({ wait: false }), server.shutdown()]);
          const far = await server.unwrap();
          far.transport.write(plain);
          await client.shutdown();
          const near = await client.unwrap();
          const parts: Uint8Array[] = [near.trailing];
          near.transport.resume().on('data', (chunk) => parts.push(chunk));
          await until('all plaintext', () => Buffer.concat(parts).length >= extra);
          expect(Buffer.concat(parts).equals(plain)).toBe(true);
          near.transport.destroy();
          serverTransport.destroy();
        }
      }),
    );

    test(
      'trailing data in the very segment of close_notify',
      clean(async (scope) => {
        // Joins what the server writes from the moment that it is asked to.
        const { ends, back } = channel();
        const { client, server, serverTransport } = await pair(scope, version, {
          transports: ends,
          server: told,
        });
        await client.shutdown({ wait: false });
        expect(await server.read()).toBe(null);
        await server.write('last');
        expect(await client.read()).toEqual(Buffer.from('last'));
        back.hold();
        await server.shutdown();
        const far = await server.unwrap();
        await new Promise((resolve) => far.transport.write('plain', resolve));
        back.deliver();
        expect(await client.read()).toBe(null);
        expect(client.closure.verdict).toBe('secure');
        const near = await client.unwrap();
        expect(Buffer.from(near.trailing).toString()).toBe('plain');
        near.transport.destroy();
        serverTransport.destroy();
      }),
    );

    test(
      'a transport that was not half-open before is so no more',
      clean(async (scope) => {
        const transports = await tcpPair(scope, { allowHalfOpen: false });
        const both = await pair(scope, version, { transports });
        expect(transports.map((one) => one.allowHalfOpen)).toEqual([true, true]);
        await Promise.all([both.client.shutdown(), both.server.shutdown()]);
        await Promise.all([both.client.unwrap(), both.server.unwrap()]);
        expect(transports.map((one) => one.allowHalfOpen)).toEqual([false, false]);
        for (const transport of transports) transport.destroy();
      }),
    );

    test(
      'data that was not read stays readable',
      clean(async (scope) => {
        const both = await pair(scope, version, { server: told });
        await both.server.write('unread');
        const shutting = both.client.shutdown();
        await both.server.shutdown();
        await shutting;
        const { transport } = await both.client.unwrap();
        expect(await both.client.read()).toEqual(Buffer.from('unread'));
        expect(await both.client.read()).toBe(null);
        transport.destroy();
        await both.server.unwrap();
        both.serverTransport.destroy();
      }),
    );

    test(
      'TLS again over the same transport',
      clean(async (scope) => {
        let transports = await tcpPair(scope);
        for (let round = 0; round < 3; round++) {
          const both = await pair(scope, version, { transports });
          await both.client.write(`round ${round}`);
          expect(await both.server.read()).toEqual(Buffer.from(`round ${round}`));
          await Promise.all([both.client.shutdown(), both.server.shutdown()]);
          const near = await both.client.unwrap();
          const far = await both.server.unwrap();
          transports = [near.transport as net.Socket, far.transport as net.Socket];
        }
        for (const transport of transports) transport.destroy();
      }),
    );

    test(
      'TLS inside TLS',
      clean(async (scope) => {
        const outer = await pair(scope, version);
        const inner = await pair(scope, version, {
          transports: [outer.client.toDuplex(), outer.server.toDuplex()],
        });
        const data = pattern(300_000);
        const writing = inner.client.write(data).then(() => inner.client.shutdown());
        expect((await readAll(inner.server)).equals(data)).toBe(true);
        await inner.server.shutdown();
        expect((await writing).verdict).toBe('secure');
        await inner.client.unwrap();
        await inner.server.unwrap();
        await closeBoth(outer);
        expect(outer.client.closure.verdict).toBe('secure');
      }),
    );
  });

  describeTls(`${version}: close`, () => {
    test(
      'is kind: a peer that reads slowly gets our last bytes and EOF, though we read nothing of what it sent',
      clean(async (scope) => {
        const context = tls.createSecureContext({ ...pki().server, ...only(version) });
        const got: Buffer[] = [];
        const events: string[] = [];
        const port = await listen(scope, (socket) => {
          const secure = new tls.TLSSocket(socket, { isServer: true, secureContext: context });
          secure.on('error', (error) => events.push(`error ${error.message}`));
          socket.on('error', (error) => events.push(`transport error ${error.message}`));
          secure.on('end', () => events.push('end'));
          secure.on('close', () => events.push('close'));
          secure.once('secure', () => {
            secure.write(pattern(400_000));
            // Slow: one chunk in several turns.
            secure.on('data', (chunk) => {
              got.push(chunk);
              secure.pause();
              setImmediate(() => setImmediate(() => secure.resume()));
            });
          });
        });
        const client = await connect({
          host: '127.0.0.1',
          port,
          ca: pki().ca,
          ...only(version),
          linger: { time: 20_000 },
        });
        const data = pattern(500_000);
        await client.write(data);
        const closure = await client.close({ wait: false });
        expect(closure.verdict).toBe('one-sided');
        await until('the peer is done', () => events.includes('close'));
        expect(events).toEqual(['end', 'close']);
        expect(Buffer.concat(got).equals(data)).toBe(true);
      }),
    );

    test(
      'a peer that never ends its transport is left after linger.time',
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version, {
          client: { linger: { time: 30 } },
          server: told,
        });
        expect((await client.close({ wait: false })).verdict).toBe('one-sided');
        await client.closed;
        expect(clientTransport.destroyed).toBe(true);
        server.abort();
      }),
    );

    test(
      'a peer that says neither close_notify nor FIN is left at the deadline, which is no error: one-sided',
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version, { server: told });
        expect(await client.close({ deadline: 30 })).toMatchObject({
          verdict: 'one-sided',
          incomplete: false,
          received: null,
        });
        expect(clientTransport.destroyed).toBe(true);
        server.abort();
      }),
    );

    test(
      'no listener of ours is left on the transport',
      clean(async (scope) => {
        const [near, far] = await tcpPair(scope);
        const names = ['data', 'end', 'error', 'close', 'drain', 'finish', 'readable'];
        const count = () => names.map((name) => [name, near.listenerCount(name)]);
        const before = count();
        const both = await pair(scope, version, { transports: [near, far] });
        await closeBoth(both);
        await Promise.all([both.client.closed, both.server.closed]);
        expect(count()).toEqual(before);
      }),
    );

    test(
      '`await using` closes at the end of the block',
      clean(async (scope) => {
        const both = await pair(scope, version);
        const { client, server } = both;
        const closing = (async () => {
          expect(await readAll(server)).toEqual(Buffer.from('in the block'));
          return server.close();
        })();
        {
          await using stream = client;
          await stream.write('in the block');
        }
        expect(client.closure.verdict).toBe('secure');
        expect((await closing).verdict).toBe('secure');
      }),
    );

    test(
      '`await using` does not hide the error of the block behind its own',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version);
        serverTransport.end();
        const error = await rejection(
          (async () => {
            await using stream = client;
            await stream.read();
          })(),
        );
        expect(error).toMatchObject({ name: 'TruncatedError', code: 'ERR_TLS_TRUNCATED' });
        server.abort();
      }),
    );

    test(
      'both at the same time: secure at both',
      clean(async (scope) => {
        for (let i = 0; i < 5; i++) {
          const both = await pair(scope, version);
          const [a, b] = await Promise.all([both.client.close(), both.server.close()]);
          expect([a.verdict, b.verdict]).toEqual(['secure', 'secure']);
        }
      }),
    );

    test(
      "a transport with allowHalfOpen: false sends no FIN before our close_notify (RFC 9846 section 6.1: 'Each party MUST send a close_notify alert before closing its write side of the connection')",
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version, {
          transports: await tcpPair(scope, { allowHalfOpen: false }),
          client: told,
          server: told,
        });
        await server.shutdown({ wait: false });
        // The server's FIN: a socket that is not half-open would now end its own side.
        serverTransport.end();
        expect(await client.read()).toBe(null);
        await until('EOF is here', () => client.closure.transportEnd === 'eof');
        for (let i = 0; i < 5; i++) await turn();
        expect((await client.shutdown()).verdict).toBe('secure');
        expect(await server.read()).toBe(null);
        expect(server.closure.verdict).toBe('secure');
        await Promise.all([client.close(), server.close()]);
      }),
    );
  });

  describeTls(`${version}: against plain node:tls`, () => {
    test(
      'a client of node:tls that destroys its socket truncates; one that ends does not',
      clean(async (scope) => {
        for (const how of ['destroy', 'end'] as const) {
          const port = await new Promise<number>((resolve) => {
            const server = net.createServer({ allowHalfOpen: true }, async (socket) => {
              server.close();
              const stream = await accept(socket, { ...pki().server, ...only(version) });
              const outcome = await readAll(stream).then(String, (error) => error.code);
              await stream.close().catch(() => {});
              settle([outcome, stream.closure.verdict]);
            });
            server.listen(0, '127.0.0.1', () =>
              resolve((server.address() as net.AddressInfo).port),
            );
          });
          let settle: (outcome: string[]) => void = () => {};
          const result = new Promise<string[]>((resolve) => {
            settle = resolve;
          });
          const socket = tls.connect({ port, host: '127.0.0.1', ca: pki().ca, ...only(version) });
          scope.defer(() => socket.destroy());
          await new Promise<void>((resolve) => socket.once('secureConnect', resolve));
          socket.resume();
          await new Promise((resolve) => socket.write('hello', resolve));
          if (how === 'end') socket.end();
          else socket.destroy();
          expect(await result).toEqual(
            how === 'end' ? ['hello', 'secure'] : ['ERR_TLS_TRUNCATED', 'truncated'],
          );
        }
      }),
    );
  });
}

for (const version of VERSIONS) {
  describeTls(`${version}: close after a wait in vain`, () => {
    test(
      'rejects no second time, and ends with the peer',
      clean(async (scope) => {
        const both = await pair(scope, version, { server: told });
        const { client, server } = both;
        expect(await rejection(client.shutdown({ deadline: 50 }))).toMatchObject({
          code: 'ERR_TLS_TIMEOUT',
          phase: 'shutdown',
        });
        const closing = client.close({ deadline: Number.POSITIVE_INFINITY });
        expect(await server.read()).toBe(null);
        server.abort();
        expect(await closing).toMatchObject({ verdict: 'timed-out', send: 'closed' });

        const again = await pair(scope, version);
        again.server.abort();
        await until('it is cut', () => again.client.closure.verdict === 'truncated');
        expect(await again.client.close()).toMatchObject({ verdict: 'truncated' });
      }),
    );
  });
}
