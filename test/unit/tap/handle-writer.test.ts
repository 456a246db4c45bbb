/** Writes past the stream of a socket, to its handle: faster, and nothing that its owner could see. */
import { once } from 'node:events';
import type net from 'node:net';
import { expect, test } from 'vitest';
import { accept, connect } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  only,
  pair,
  pattern,
  readAll,
  rejection,
  VERSIONS,
} from '../../support/core-streams.ts';
import { reset, tcpPair } from '../../support/core-transport.ts';

/** Bytes that libuv keeps for the kernel. */
const keptFor = (socket: net.Socket) =>
  (socket as unknown as { _handle: { writeQueueSize: number } })._handle.writeQueueSize;

/** More than the kernel takes of what nobody reads. */
const MUCH = 24 * 1024 * 1024;

for (const version of VERSIONS) {
  describeTls(`${version}: what the kernel does not take at once`, () => {
    test(
      'waits, in order, until the peer reads, and close_notify waits behind it',
      clean(async (scope) => {
        const transports = await tcpPair(scope);
        const { client, server } = await pair(scope, version, { transports });
        const said = pattern(MUCH);
        const writing = client.write(said);
        const closing = writing.then(() => client.shutdown());
        await until('the kernel is full', () => keptFor(transports[0]) > 0);
        expect(client.closure.sent).toBe(null);
        expect((await readAll(server)).equals(said)).toBe(true);
        await server.shutdown();
        expect((await closing).verdict).toBe('secure');
        await closeBoth({
          client,
          server,
          clientTransport: transports[0],
          serverTransport: transports[1],
        });
      }),
    );

    test(
      'a transport that is destroyed here in the meantime: aborted, and close_notify was not sent',
      clean(async (scope) => {
        const transports = await tcpPair(scope);
        const { client, server } = await pair(scope, version, { transports });
        const writing = rejection(client.write(pattern(MUCH)));
        const closing = rejection(client.shutdown({ wait: false }));
        await until('the kernel is full', () => keptFor(transports[0]) > 0);
        transports[0].destroy();
        expect((await writing).code).toBe('ERR_TLS_ABORTED');
        expect((await closing).code).toBe('ERR_TLS_ABORTED');
        expect(client.closure).toMatchObject({ verdict: 'aborted', sent: null });
        client.abort();
        server.abort();
      }),
    );

    test(
      'a peer that resets in the meantime: truncated',
      clean(async (scope) => {
        const transports = await tcpPair(scope);
        const { client, server } = await pair(scope, version, { transports });
        const writing = rejection(client.write(pattern(MUCH)));
        await until('the kernel is full', () => keptFor(transports[0]) > 0);
        reset(transports[1]);
        const error = await writing;
        expect(error.code).toBe('ERR_TLS_TRUNCATED');
        // Whether by EOF or by a reset is the kernel's to tell.
        expect(client.closure).toMatchObject({ verdict: 'truncated', sent: null });
        client.abort();
        server.abort();
      }),
    );
  });
}

describeTls('a socket that has something of its own in its stream', () => {
  test(
    'plaintext that waits goes out before TLS begins behind it',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      const plain = pattern(MUCH);
      // The first waits in libuv, the second in the stream.
      near.write(plain.subarray(0, MUCH / 2));
      near.write(plain.subarray(MUCH / 2));
      expect(near.writableLength).toBe(MUCH);
      const opening = connect({ transport: near, host: 'localhost', ca: pki().ca });
      const got = Buffer.alloc(plain.length);
      let have = 0;
      let head: Buffer | undefined;
      while (head === undefined) {
        const chunk: Buffer | null = far.read();
        if (chunk === null) await once(far, 'readable');
        else {
          chunk.copy(got, have);
          have += chunk.length;
          if (have >= plain.length) head = chunk.subarray(chunk.length - (have - plain.length));
        }
      }
      expect(got.equals(plain)).toBe(true);
      far.removeAllListeners('readable');
      const [client, server] = await Promise.all([opening, accept(far, { ...pki().server, head })]);
      await client.write('x');
      expect(Buffer.from((await server.read()) ?? '').toString()).toBe('x');
      await Promise.all([client.close(), server.close()]);
    }),
  );

  test.each<[string, (socket: net.Socket) => unknown]>([
    ['is corked', (socket) => socket.cork()],
    ['has a timeout', (socket) => socket.setTimeout(60_000)],
    [
      'has a write of its own',
      (socket) => {
        const write = socket._write;
        socket._write = (...args) => write.apply(socket, args);
      },
    ],
    ['is like any other', () => {}],
  ])('one that %s is written to as a stream, unless it is like any other', async (what, act) => {
    const body = clean(async (scope) => {
      const transports = await tcpPair(scope);
      const [near] = transports;
      const both = await pair(scope, 'TLSv1.3', { transports });
      act(near);
      const said = pattern(MUCH);
      const writing = both.client.write(said);
      await until('it waits', () => near.writableLength > 0 || keptFor(near) > 0);
      expect(near.writableLength > 0).toBe(what !== 'is like any other');
      const reading = readAll(both.server);
      process.nextTick(() => near.uncork());
      await writing;
      near.setTimeout(0);
      await both.client.shutdown({ wait: false });
      expect((await reading).equals(said)).toBe(true);
      await closeBoth(both);
    });
    await body();
  });

  test(
    'each write has a request of its own: Node aborts the process where one is given twice',
    clean(async (scope) => {
      const transports = await tcpPair(scope);
      const both = await pair(scope, 'TLSv1.3', { transports });
      const { _handle: handle } = transports[0] as unknown as { _handle: net.Socket };
      const requests: unknown[] = [];
      for (const name of ['writeBuffer', 'writev'] as const) {
        const write = (handle as unknown as Record<string, (...args: unknown[]) => number>)[name];
        Object.assign(handle, {
          [name](...args: unknown[]) {
            requests.push(args[0]);
            return write?.apply(handle, args);
          },
        });
      }
      const reading = readAll(both.server);
      for (const length of [1, 100_000, 1, 1_000_000]) await both.client.write(pattern(length));
      await both.client.shutdown({ wait: false });
      expect((await reading).length).toBe(1_100_002);
      expect(requests.length).toBeGreaterThan(4);
      expect(new Set(requests).size).toBe(requests.length);
      await closeBoth(both);
    }),
  );

  test(
    'what is written to its handle counts as written',
    clean(async (scope) => {
      const transports = await tcpPair(scope);
      const { client, server } = await pair(scope, 'TLSv1.3', { ...only('TLSv1.3'), transports });
      const before = transports[0].bytesWritten;
      await client.write(pattern(1000));
      await until('it is written', () => transports[0].bytesWritten > before);
      // The message, its type, the tag, and the record's header (RFC 9846 section 5.2).
      expect(transports[0].bytesWritten - before).toBe(1000 + 1 + 16 + 5);
      await Promise.all([client.close(), server.close()]);
    }),
  );
});
