/** How much is read at once from sockets of our own, and for how long. */
import net from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { connect, createServer } from '../../../src/index.ts';
import { divertReads, newReads, type Reads } from '../../../src/tap/reads.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import { only, pattern, readAll, VERSIONS } from '../../support/core-streams.ts';

const KB = 1024;

const opened: net.Socket[] = [];

afterEach(() => {
  for (const socket of opened.splice(0)) divertReads(socket, null);
});

/** A socket that is not connected: how fast a kernel has how much cannot be had at will. */
function reader() {
  const reads = newReads() as Reads;
  const socket = new net.Socket({ onread: reads.onread } as net.SocketConstructorOpts);
  reads.adopt(socket);
  let resumed = 0;
  socket.resume = () => {
    resumed++;
    return socket;
  };
  divertReads(socket, () => {});
  opened.push(socket);
  const { buffer, callback } = reads.onread;
  const next = buffer as () => Uint8Array | null;
  let view = next() as Uint8Array;
  return {
    socket,
    resumed: () => resumed,
    size: () => view.length / KB,
    /** Reads as many bytes as it may, or fewer. */
    read(bytes = view.length): boolean {
      const more = callback(bytes, view);
      view = next() ?? view;
      return more;
    },
  };
}

test('each read that is filled may be followed by one of twice the size, up to a megabyte', async () => {
  const { size, read } = reader();
  const sizes = [size()];
  for (let i = 0; i < 6; i++) {
    read();
    sizes.push(size());
    await turn();
  }
  expect(sizes).toEqual([64, 128, 256, 512, 1_024, 1_024, 1_024]);
});

test('a reader that has not taken what was read by the end of the turn gets less', async () => {
  const { socket, size, read } = reader();
  for (let i = 0; i < 4; i++) read();
  expect(size()).toBe(1_024);
  socket.pause();
  await turn();
  await turn();
  // The kernel has been given the next one already.
  read();
  expect(size()).toBe(64);
  read();
  expect(size()).toBe(128);
  // Taken within the turn.
  socket.pause();
  socket.isPaused = () => false;
  await turn();
  await turn();
  read();
  expect(size()).toBe(256);
});

test('a few sockets at a time may read more than 64 KB at once; whoever ends, or reads little, makes room for another', async () => {
  const readers = Array.from({ length: 34 }, reader);
  for (const { read } of readers) read();
  const sizes = () => readers.map(({ size }) => size());
  const large = (...which: number[]) => sizes().map((_, i) => (which.includes(i) ? 64 : 128));
  expect(sizes()).toEqual(large(32, 33));
  divertReads(readers[0]?.socket as net.Socket, null);
  readers[33]?.read();
  readers[1]?.read(1_000);
  readers[32]?.read();
  // The kernel has been given the first one's next view already.
  expect(sizes()).toEqual(large(1));
  await turn();
});

test('after four megabytes in one turn of the event loop it is the turn of others, unless somebody paused', async () => {
  const { socket, read, resumed } = reader();
  const results = Array.from({ length: 8 }, () => read());
  // 64 KB to 512 KB are 960; four times a megabyte is too much.
  expect(results).toEqual([true, true, true, true, true, true, true, false]);
  expect(resumed()).toBe(0);
  await turn();
  await turn();
  expect(resumed()).toBe(1);
  expect(read()).toBe(true);
  for (let i = 0; i < 3; i++) read();
  socket.pause();
  await turn();
  await turn();
  expect(resumed()).toBe(1);
});

test('whoever has the socket to itself gets copies, and no large reads', async () => {
  const { socket, size, read } = reader();
  const got: Buffer[] = [];
  socket.push = (chunk: Buffer) => {
    got.push(chunk);
    return true;
  };
  read();
  divertReads(socket, null);
  read();
  expect(size()).toBe(64);
  expect(got.map(({ length }) => length)).toEqual([128 * KB]);
  expect(got[0]?.buffer.byteLength).toBe(128 * KB);
});

const options = (version: (typeof VERSIONS)[number], port: number) => ({
  host: '127.0.0.1',
  port,
  ca: pki().ca,
  servername: 'localhost',
  ...only(version),
});

/** How much more than it was asked for a client reads from a server that sends without end. */
async function overshoot(scope: Scope, version: (typeof VERSIONS)[number], asked: number) {
  const part = pattern(256 * KB);
  const server = createServer(
    { ...pki().server, ...only(version), onError() {} },
    async (stream) => {
      for (;;) await stream.write(part);
    },
  );
  scope.defer(() => server.close({ abort: true }));
  const port = await server.listen(0, '127.0.0.1');
  // The socket that is opened is seen nowhere else but through TLS.
  const opening = vi.spyOn(net.Socket.prototype, 'connect');
  const client = await connect(options(version, port));
  const transport = opening.mock.contexts[0] as net.Socket;
  opening.mockRestore();
  let got = 0;
  while (got < asked) got += (await client.read())?.length ?? 0;
  let before = -1;
  let quiet = 0;
  // Whoever reads on does so in each turn, as long as the server sends.
  await until('it reads no more, or very much more', () => {
    quiet = transport.bytesRead === before ? quiet + 1 : 0;
    before = transport.bytesRead;
    return quiet === 20 || before - got > 8_000 * KB;
  });
  client.abort();
  await server.close({ abort: true });
  return before - got;
}

for (const version of VERSIONS) {
  describeTls(`${version}: a server that sends without end`, () => {
    test(
      'has a client that does not read take little more than it has room for',
      clean(async (scope) => {
        expect(await overshoot(scope, version, 0)).toBeLessThan(300 * KB);
      }),
    );

    test(
      'has a client that stops reading take no more than one large read',
      clean(async (scope) => {
        expect(await overshoot(scope, version, 24_000 * KB)).toBeLessThan(1_400 * KB);
      }),
    );
  });

  test(
    `${version}: bulk comes whole to a reader that is as slow as it likes`,
    clean(async () => {
      const said = pattern(12_000 * KB);
      let heard: Buffer | null = null;
      await using server = createServer({ ...pki().server, ...only(version) }, async (stream) => {
        const writing = stream.write(said);
        heard = await readAll(stream);
        await writing;
        await stream.close();
      });
      const port = await server.listen(0, '127.0.0.1');
      const client = await connect(options(version, port));
      const writing = client.write(said).then(() => client.shutdown({ wait: false }));
      const chunks: Uint8Array[] = [];
      let count = 0;
      for await (const chunk of client) {
        chunks.push(chunk);
        // Now at once, now a few turns later.
        if (++count % 16 < 4) for (let i = 0; i < count % 5; i++) await turn();
      }
      await writing;
      expect(Buffer.concat(chunks).equals(said)).toBe(true);
      expect((await client.close()).verdict).toBe('secure');
      await until('the server has heard it', () => heard !== null);
      expect((heard as Buffer | null)?.equals(said)).toBe(true);
    }),
  );
}
