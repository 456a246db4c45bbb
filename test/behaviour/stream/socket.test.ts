/** `stream.socket`: a real TLS socket that is strict about its end. */
import { once } from 'node:events';
import type net from 'node:net';

import { PassThrough, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { describeTls } from '../../support/core-pki.ts';
import type { Scope } from '../../support/core-scope.ts';
import { clean, turn, until } from '../../support/core-scope.ts';
import { pair, pattern, rejection, VERSIONS, type Version } from '../../support/core-streams.ts';
import { delivered, reset } from '../../support/core-transport.ts';

/** How the peer's last bytes are cut off: behind a whole record, or inside one. */
const CUTS = ['between two records', 'inside a record', 'by a reset'] as const;

/** A client whose server has sent `data`, then lost its transport without close_notify. */
async function cutOff(scope: Scope, version: Version, cut: (typeof CUTS)[number], data: Buffer) {
  const both = await pair(scope, version);
  await both.server.write(data);
  const { server, serverTransport } = both;
  await until('all is with the transport', () => {
    return server.socket.writableLength === 0 && serverTransport.writableLength === 0;
  });
  // TLS flushes in the turn after the one in which it encrypts.
  for (let i = 0; i < 5; i++) await turn();
  if (cut === 'inside a record') serverTransport.write(Buffer.from([23, 3, 3, 0, 100, 1, 2, 3]));
  if (cut === 'by a reset') {
    await delivered(serverTransport, both.clientTransport);
    reset(serverTransport as net.Socket);
  } else {
    serverTransport.end();
  }
  return both;
}

for (const version of VERSIONS) {
  describeTls(`${version}: the socket`, () => {
    test(
      'is a TLSSocket that ends on close_notify, closes without error, and takes the transport along',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version);
        const { socket } = client;
        expect(socket).toBeInstanceOf(TLSSocket);
        expect(socket.getProtocol()).toBe(version);
        expect(socket.authorized).toBe(true);
        const events: string[] = [];
        for (const name of ['end', 'error', 'close', 'finish']) {
          socket.on(name, () => events.push(name));
        }
        const bytes: Buffer[] = [];
        socket.on('data', (chunk) => bytes.push(chunk));
        await server.write('whole');
        const closing = server.close();
        // Told below, where the test has not failed before.
        closing.catch(() => {});
        await until('the socket is closed', () => events.includes('close'));
        expect(Buffer.concat(bytes).toString()).toBe('whole');
        expect(events).toContain('end');
        expect(events).not.toContain('error');
        expect(client.closure.verdict).toBe('secure');
        expect((await closing).verdict).toBe('secure');
      }),
    );

    test(
      'socket.end() sends close_notify behind the data, and the peer reads to the end',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version);
        client.socket.end('last words');
        client.socket.resume();
        expect(await server.read()).toEqual(Buffer.from('last words'));
        expect(await server.read()).toBe(null);
        expect((await server.close()).verdict).toBe('secure');
        await until('the client is done', () => client.closure.verdict === 'secure');
      }),
    );

    for (const cut of CUTS) {
      // What the kernel still holds for a reader that does not read, a reset takes away.
      const data = pattern(cut === 'by a reset' ? 8_000 : 150_000);

      test(
        `cut off ${cut}: 'error' with ERR_TLS_TRUNCATED instead of 'end', after every byte`,
        clean(async (scope) => {
          const { client, server } = await cutOff(scope, version, cut, data);
          const bytes: Buffer[] = [];
          let ended = false;
          client.socket.on('data', (chunk) => bytes.push(chunk));
          client.socket.on('end', () => {
            ended = true;
          });
          const [error] = await once(client.socket, 'error');
          await once(client.socket, 'close');
          expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
          expect(ended).toBe(false);
          expect(Buffer.concat(bytes).equals(data)).toBe(true);
          expect(client.closure.verdict).toBe('truncated');
          expect(client.closure.truncation).toMatchObject({
            where: cut === 'inside a record' ? 'inside-record' : 'record-boundary',
            cause: cut === 'by a reset' ? 'reset' : 'eof',
          });
          server.abort();
        }),
      );

      test(
        `cut off ${cut}: a slow reader gets every byte, then pipeline rejects`,
        clean(async (scope) => {
          const { client, server } = await cutOff(scope, version, cut, data);
          const bytes: Buffer[] = [];
          const slow = new Writable({
            highWaterMark: 1,
            write(chunk, _encoding, done) {
              bytes.push(chunk);
              setImmediate(() => setImmediate(done));
            },
          });
          const error = await rejection(pipeline(client.socket, slow));
          expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
          expect(Buffer.concat(bytes).equals(data)).toBe(true);
          server.abort();
        }),
      );

      test(
        `cut off ${cut}: the socket's own async iterator throws after every byte`,
        clean(async (scope) => {
          const { client, server } = await cutOff(scope, version, cut, data);
          const bytes: Buffer[] = [];
          const error = await rejection(
            (async () => {
              for await (const chunk of client.socket) {
                bytes.push(chunk);
                await turn();
              }
            })(),
          );
          expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
          expect(Buffer.concat(bytes).equals(data)).toBe(true);
          server.abort();
        }),
      );
    }

    test(
      'piped in both directions, with end, without loss',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: { answer: 'when-told' } });
        const echoing = pipeline(server.socket, new PassThrough(), server.socket);
        const data = pattern(1_000_000);
        const got: Buffer[] = [];
        client.socket.on('data', (chunk) => got.push(chunk));
        const ended = once(client.socket, 'end');
        client.socket.end(data);
        await Promise.all([ended, echoing]);
        expect(Buffer.concat(got).equals(data)).toBe(true);
        await until('both are done', () => {
          return client.closure.verdict === 'secure' && server.closure.verdict === 'secure';
        });
      }),
    );

    test(
      "shutdown() while a listener to 'data' is paused: it gets everything once it resumes, then 'end'",
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: { answer: 'when-told' } });
        const { socket } = client;
        const got: Buffer[] = [];
        socket.on('data', (chunk) => got.push(chunk));
        socket.pause();
        const shutting = client.shutdown();
        const data = pattern(10_000);
        await server.write(data);
        await server.shutdown();
        expect((await shutting).verdict).toBe('secure');
        expect(got).toEqual([]);
        const ended = once(socket, 'end');
        socket.resume();
        await ended;
        expect(Buffer.concat(got).equals(data)).toBe(true);
        await Promise.all([client.close(), server.close()]);
      }),
    );

    test(
      'taken after reads, it has what nobody read, in order, then what comes, then the end',
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        const data = pattern(400_000);
        const writing = server.write(data);
        await until('the client has enough', () => clientTransport.isPaused());
        const got = [await client.read(), await client.read()] as Buffer[];
        await until('and has it again', () => clientTransport.isPaused());
        const { socket } = client;
        socket.on('data', (chunk) => got.push(chunk));
        await writing;
        const closing = server.close();
        await once(socket, 'end');
        expect(Buffer.concat(got).equals(data)).toBe(true);
        expect((await client.close()).verdict).toBe('secure');
        expect((await closing).verdict).toBe('secure');
      }),
    );

    test(
      'taken when a truncation waits for its reader, it has every byte, then the error',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version);
        const data = pattern(30_000);
        await server.write(data.subarray(0, 10_000));
        const got = [(await client.read()) as Buffer];
        await server.write(data.subarray(10_000));
        await turn();
        await until('all is with the transport', () => serverTransport.writableLength === 0);
        serverTransport.end();
        await until('it is known', () => client.closure.verdict === 'truncated');
        const events: string[] = [];
        const { socket } = client;
        for (const name of ['end', 'error']) socket.on(name, () => events.push(name));
        socket.on('data', (chunk) => got.push(chunk));
        await new Promise((resolve) => socket.once('close', resolve));
        expect(events).toEqual(['error']);
        expect(socket.errored).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect(Buffer.concat(got).equals(data)).toBe(true);
        server.abort();
      }),
    );

    test(
      'taken while a read waits: the read gets the next bytes all the same',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version);
        const reading = client.read();
        expect(client.socket.getProtocol()).toBe(version);
        await server.write('hello');
        expect(await reading).toEqual(Buffer.from('hello'));
        await server.write('again');
        expect(await client.read()).toEqual(Buffer.from('again'));
        await Promise.all([client.close(), server.close()]);
      }),
    );

    test(
      'an end that no record of the peer brought is no close_notify',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version);
        // As Node does itself when the handle goes away.
        client.socket.push(null);
        for (let i = 0; i < 5; i++) await turn();
        expect(client.closure).toMatchObject({ verdict: 'open', received: null });
        expect(client.socket.readableEnded).toBe(false);
        client.abort();
        server.abort();
      }),
    );

    test(
      'socket.destroy() aborts: verdict aborted, the transport goes, the peer is truncated',
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        client.socket.destroy();
        expect(client.closure.verdict).toBe('aborted');
        expect(clientTransport.destroyed).toBe(true);
        expect((await rejection(server.read())).code).toBe('ERR_TLS_TRUNCATED');
        server.abort();
      }),
    );
  });
}

describeTls('TLSv1.3: the socket, used alone', () => {
  test(
    "takes an answer that a listener of 'end' writes, though close_notify had come before it listened",
    clean(async (scope) => {
      const { client, server } = await pair(scope, 'TLSv1.3');
      await server.write('the question');
      await server.shutdown({ wait: false });
      await until('close_notify has come', () => client.closure.received !== null);
      const { socket } = client;
      socket.on('end', () => socket.end('the answer'));
      socket.resume();
      expect(String(await server.read())).toBe('the answer');
      expect(await server.read()).toBe(null);
      await server.close();
      expect(client.closure.verdict).toBe('secure');
    }),
  );
});
