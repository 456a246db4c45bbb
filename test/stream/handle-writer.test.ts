/** Writes past the stream of a socket, to its handle: faster, and nothing that its owner could see. */
import { once } from 'node:events';
import type net from 'node:net';
import { expect, test } from 'vitest';
import { accept, connect } from '../../src/index.ts';
import { describeTls, pki } from '../support/core-pki.ts';
import { clean, until } from '../support/core-scope.ts';
import {
  closeBoth,
  only,
  pair,
  pattern,
  readAll,
  rejection,
  VERSIONS,
} from '../support/core-streams.ts';
import { reset, tcpPair } from '../support/core-transport.ts';

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
      near.write(plain);
      expect(near.writableLength).toBeGreaterThan(0);
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
  ])('one that %s is written to as a stream', async (_, act) => {
    const body = clean(async (scope) => {
      const transports = await tcpPair(scope);
      const [near] = transports;
      const { client, server } = await pair(scope, 'TLSv1.3', { transports });
      act(near);
      const seen: number[] = [];
      const write = near._write;
      const writev = near._writev;
      near._write = (chunk, encoding, done) => {
        seen.push(chunk.length);
        write.call(near, chunk, encoding, done);
      };
      near._writev = (chunks, done) => {
        seen.push(chunks.length);
        writev?.call(near, chunks, done);
      };
      const reading = server.read();
      await client.write('a');
      process.nextTick(() => near.uncork());
      expect(Buffer.from((await reading) ?? '').toString()).toBe('a');
      expect(seen.length).toBe(1);
      near.setTimeout(0);
      await Promise.all([client.close(), server.close()]);
    });
    await body();
  });

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
