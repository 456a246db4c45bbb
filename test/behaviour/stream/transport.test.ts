/** Transports that we open: what is read from them goes through one memory for all. */
import { once } from 'node:events';
import type net from 'node:net';
import { expect, test } from 'vitest';
import { accept, connect, type Observer, type TlsStream } from '../../../src/index.ts';
import { pki } from '../../support/core-pki.ts';
import { clean, turn } from '../../support/core-scope.ts';
import { pattern, readAll, rejection } from '../../support/core-streams.ts';
import { listen } from '../../support/core-transport.ts';

/** Streams to a server that sends each of them its own bytes. */
async function openTwo(scope: Parameters<typeof listen>[0], said: readonly Buffer[]) {
  const servers: Array<Promise<TlsStream>> = [];
  const port = await listen(scope, (socket: net.Socket) => {
    const bytes = said[servers.length];
    servers.push(
      accept(socket, pki().server).then((stream) => {
        void stream.write(bytes as Buffer).then(() => stream.shutdown({ wait: false }));
        return stream;
      }),
    );
  });
  const clients: TlsStream[] = [];
  for (const _ of said) {
    clients.push(await connect({ host: 'localhost', port, ca: pki().ca }));
  }
  return { clients, servers: await Promise.all(servers) };
}

test(
  'bytes that wait for a reader of one connection are not those of another',
  clean(async (scope) => {
    const said = [pattern(2_000_000), Buffer.alloc(2_000_000, 'x')];
    const { clients, servers } = await openTwo(scope, said);
    // As much as the stream holds, and the transport is then paused in the middle of a chunk.
    for (let i = 0; i < 20; i++) await turn();
    for (const i of [1, 0]) {
      const bytes = await readAll(clients[i] as TlsStream);
      expect(bytes.equals(said[i] as Buffer)).toBe(true);
    }
    await Promise.all([...clients, ...servers].map((stream) => stream.close()));
    for (const stream of clients) expect(stream.closure.verdict).toBe('secure');
  }),
);

test(
  'taken back, it is a socket as any other: data, pause, resume, end',
  clean(async (scope) => {
    const said = pattern(3_000_000);
    const port = await listen(scope, async (socket: net.Socket) => {
      const stream = await accept(socket, pki().server);
      expect(await stream.read()).toBe(null);
      await stream.shutdown();
      const { transport } = await stream.unwrap();
      transport.end(said);
      transport.resume();
    });
    const stream = await connect({ host: 'localhost', port, ca: pki().ca });
    await stream.shutdown();
    const { transport, trailing } = await stream.unwrap();
    const parts: Uint8Array[] = [trailing];
    transport.on('data', (chunk) => {
      parts.push(chunk);
      if (parts.length % 3 === 0) {
        transport.pause();
        setImmediate(() => transport.resume());
      }
    });
    const ended = new Promise((resolve) => transport.once('end', resolve));
    transport.resume();
    await ended;
    expect(Buffer.concat(parts).equals(said)).toBe(true);
    transport.end();
    await new Promise((resolve) => transport.once('close', resolve));
  }),
);

test(
  'an observer may keep the bytes that it is shown, in both directions',
  clean(async (scope) => {
    const kept: Array<{ bytes: Uint8Array; copy: Buffer }> = [];
    const record: Observer = {
      observe() {},
      onBytes: (_direction, bytes) => void kept.push({ bytes, copy: Buffer.from(bytes) }),
    };
    const said = pattern(300_000);
    const servers: Array<Promise<TlsStream>> = [];
    const port = await listen(scope, (socket) => servers.push(accept(socket, pki().server)));
    const client = await connect({ host: 'localhost', port, ca: pki().ca, record });
    const server = (await servers[0]) as TlsStream;
    await Promise.all([
      client.write(said),
      server.write(said),
      ...[client, server].map(async (stream) => {
        for (let have = 0; have < said.length; ) have += (await stream.read())?.length ?? 0;
      }),
    ]);
    await Promise.all([client.close(), server.close()]);
    // Each engine has pieces of its own.
    expect(kept.length).toBeGreaterThan(5);
    expect(kept.every(({ bytes, copy }) => copy.equals(bytes))).toBe(true);
  }),
);

test(
  'taken back and connected anew, it reads what its new peer sends, and nothing of others',
  clean(async (scope) => {
    const secret = Buffer.from('what is said on another connection');
    const port = await listen(scope, async (socket: net.Socket) => {
      const stream = await accept(socket, pki().server);
      await stream.read();
      await stream.shutdown();
      const { transport } = await stream.unwrap();
      transport.on('data', () => transport.write(secret));
      transport.on('end', () => transport.end());
      transport.resume();
    });
    const greeting = Buffer.from('from somebody else');
    const elsewhere = await listen(scope, (socket: net.Socket) => {
      socket.on('error', () => {});
      socket.end(greeting);
    });
    const unwrapped = async () => {
      const stream = await connect({ host: 'localhost', port, ca: pki().ca });
      await stream.shutdown();
      return (await stream.unwrap()).transport as net.Socket;
    };
    const first = await unwrapped();
    first.end().resume();
    await once(first, 'close');
    const other = await unwrapped();
    const heard = once(other, 'data');
    other.resume().write('say it');
    expect((await heard)[0]).toEqual(secret);
    other.end().resume();
    const parts: Buffer[] = [];
    first.on('data', (part: Buffer) => parts.push(part));
    first.connect(elsewhere, '127.0.0.1');
    await once(first, 'end');
    expect(Buffer.concat(parts)).toEqual(greeting);
    first.destroy();
  }),
);

test(
  'a signal that is aborted by what the wait begins with ends it at once',
  clean(async () => {
    const cancel = new AbortController();
    const opening = connect({
      host: 'somewhere.example',
      port: 443,
      signal: cancel.signal,
      deadlines: { resolve: Number.POSITIVE_INFINITY },
      // Which never answers.
      lookup: () => cancel.abort(),
    });
    expect(await rejection(opening)).toMatchObject({ code: 'ABORT_ERR', phase: 'resolve' });
  }),
);
