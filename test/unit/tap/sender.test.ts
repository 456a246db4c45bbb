/** What is sent in bulk: in how many writes, when, and in how much memory. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type net from 'node:net';
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { type CloseNotifyError, createServer } from '../../../src/index.ts';
import type { HandleWriter, Pending } from '../../../src/tap/handle-writer.ts';
import { Sender } from '../../../src/tap/sender.ts';
import { pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import { pair, pattern, readAll, VERSIONS } from '../../support/core-streams.ts';
import { tcpPair } from '../../support/core-transport.ts';

const PART = 65_536;

interface Handle {
  readonly writeQueueSize: number;
  writeBuffer(...args: unknown[]): number;
  writev(...args: unknown[]): number;
}

const handleOf = (socket: net.Socket) => (socket as unknown as { _handle: Handle })._handle;

/** Counts the writes that the kernel is given from now on: no public member of a socket tells of them. */
function countWrites(socket: net.Socket): () => number {
  const handle = handleOf(socket);
  let count = 0;
  for (const name of ['writeBuffer', 'writev'] as const) {
    const write = handle[name];
    handle[name] = (...args) => {
      count++;
      return write.apply(handle, args);
    };
  }
  return () => count;
}

/** A client and its transport, to a server that reads all. */
async function open(scope: Scope, version: (typeof VERSIONS)[number]) {
  const transports = await tcpPair(scope);
  const { client, server } = await pair(scope, version, { transports });
  return { client, server, transport: transports[0] };
}

for (const version of VERSIONS) {
  test(
    `${version}: the first write in bulk is with the kernel at once, those behind it before the turn is over`,
    clean(async (scope) => {
      const { client, server, transport } = await open(scope, version);
      const reading = readAll(server);
      const said = pattern(12 * PART);
      for (let round = 0; round < 2; round++) {
        const before = transport.bytesWritten;
        const first = client.write(said.subarray(0, PART));
        expect(transport.bytesWritten - before).toBeGreaterThan(PART);
        await first;
        for (let at = PART; at < said.length; at += PART) {
          await client.write(said.subarray(at, at + PART));
        }
        await turn();
        expect(transport.bytesWritten - before).toBeGreaterThan(said.length);
      }
      await client.shutdown({ wait: false });
      expect((await reading).equals(Buffer.concat([said, said]))).toBe(true);
      await Promise.all([client.close(), server.close()]);
    }),
  );

  test(
    `${version}: what one turn sends in bulk is a few writes to the kernel, and close_notify comes last`,
    clean(async (scope) => {
      const { client, server, transport } = await open(scope, version);
      const reading = readAll(server);
      const said = pattern(16 * PART);
      const writes = countWrites(transport);
      for (let at = 0; at < said.length; at += PART) {
        await client.write(said.subarray(at, at + PART));
      }
      const closing = client.shutdown({ wait: false });
      await turn();
      // One each, if none waited; the kernel may have kept some of them waiting.
      expect(writes()).toBeLessThan(12);
      expect((await closing).sent).not.toBe(null);
      expect((await reading).equals(said)).toBe(true);
      expect((await server.close()).verdict).toBe('secure');
      await client.close();
    }),
  );

  test(
    `${version}: a peer that does not read has no more of our memory than one write's`,
    clean(async (scope) => {
      const { client, server, transport } = await open(scope, version);
      const part = pattern(PART);
      let given = 0;
      const stuck = (async () => {
        for (;;) {
          await client.write(part);
          given += PART;
        }
      })().catch(() => {});
      await until('the kernel is full', () => handleOf(transport).writeQueueSize > 0);
      const taken = transport.bytesWritten - handleOf(transport).writeQueueSize;
      // In libuv what waited together, and in the TLS engine and its socket a write each.
      expect(given - taken).toBeLessThan(524_288 + 4 * PART);
      client.abort();
      server.abort();
      await stuck;
    }),
  );
}

test(
  'what was written is with the kernel when the stream is aborted',
  clean(async (scope) => {
    const { client, server, transport } = await open(scope, 'TLSv1.3');
    const before = transport.bytesWritten;
    for (let i = 0; i < 8; i++) await client.write(pattern(PART));
    client.abort();
    expect(transport.bytesWritten - before).toBeGreaterThan(8 * PART);
    server.abort();
  }),
);

for (const how of ['destroy', 'destroySoon'] as const) {
  test(
    `a transport that is destroyed on this side while bulk waits (${how}) is not the peer's doing`,
    clean(async (scope) => {
      const { client, server, transport } = await open(scope, 'TLSv1.3');
      for (let i = 0; i < 10; i++) await client.write(pattern(PART));
      transport[how]();
      await until('it is over', () => client.closure.verdict !== 'open');
      expect(client.closure).toMatchObject({ verdict: 'aborted', transportEnd: 'destroyed' });
      client.abort();
      server.abort();
    }),
  );
}

test(
  'what was written is with the kernel when the program exits in that very turn',
  clean(async (scope) => {
    let heard = 0;
    let ended: (code: string) => void = () => {};
    const over = new Promise<string>((resolve) => {
      ended = resolve;
    });
    const server = createServer(pki().server, async (stream) => {
      try {
        for await (const bytes of stream) heard += bytes.length;
      } catch (error) {
        ended((error as CloseNotifyError).code);
      }
    });
    scope.defer(() => server.close({ abort: true }));
    const port = await server.listen(0, '127.0.0.1');
    const program = `
      import { connect } from ${JSON.stringify(new URL('../../../dist/index.js', import.meta.url).href)};
      const stream = await connect(${JSON.stringify({ host: 'localhost', port, ca: pki().ca })});
      for (let i = 0; i < 8; i++) await stream.write(new Uint8Array(${PART}));
      process.exit();
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: 'inherit',
    });
    await once(child, 'exit');
    expect(await over).toBe('ERR_TLS_TRUNCATED');
    expect(heard).toBe(8 * PART);
    await server.close({ abort: true });
  }),
);

test(
  'many streams that send in bulk in one turn have no more waiting than one',
  clean(async (scope) => {
    const opened: Array<Awaited<ReturnType<typeof open>>> = [];
    for (let i = 0; i < 8; i++) opened.push(await open(scope, 'TLSv1.3'));
    const read = opened.map(({ server }) => readAll(server));
    const part = pattern(PART);
    const sent = () => opened.reduce((sum, { transport }) => sum + transport.bytesWritten, 0);
    // Until each may have as much waiting as all of them together.
    for (let i = 0; i < 16; i++) {
      for (const { client } of opened) await client.write(part);
      await turn();
    }
    const before = sent();
    for (let i = 0; i < 8; i++) for (const { client } of opened) await client.write(part);
    expect(64 * PART - (sent() - before)).toBeLessThan(524_288);
    await Promise.all(opened.map(({ client }) => client.shutdown({ wait: false })));
    for (const { length } of await Promise.all(read)) expect(length).toBe(24 * PART);
    await Promise.all(opened.flatMap(({ client, server }) => [client.close(), server.close()]));
  }),
);

test(
  'transports that are destroyed while bulk waits for them leave room for others',
  clean(async (scope) => {
    const part = pattern(PART);
    for (let i = 0; i < 6; i++) {
      const { client, server, transport } = await open(scope, 'TLSv1.3');
      for (let n = 0; n < 8; n++) await client.write(part);
      transport.destroy();
      await until('it is over', () => client.closure.verdict !== 'open');
      server.abort();
    }
    const { client, server, transport } = await open(scope, 'TLSv1.3');
    const reading = readAll(server);
    const writes = countWrites(transport);
    for (let i = 0; i < 16; i++) await client.write(part);
    await turn();
    expect(writes()).toBeLessThan(12);
    await client.shutdown({ wait: false });
    expect((await reading).length).toBe(16 * PART);
    await Promise.all([client.close(), server.close()]);
  }),
);

const quiet = { onCloseNotifyTaken() {}, onSendError() {} };

test('as much waits as the kernel has taken since it last kept us waiting, up to half a megabyte', async () => {
  const written: number[] = [];
  let full: Pending | null = null;
  // When a kernel is full cannot be had at will.
  const writer = {
    write(chunks: readonly Uint8Array[]) {
      written.push(chunks.length);
      return full ?? 'taken';
    },
  } as unknown as HandleWriter;
  const sender = new Sender(new Duplex({ read() {} }), quiet);
  sender.writeBy(writer);
  const part = new Uint8Array(PART);
  const sendTurn = async (parts: number) => {
    written.length = 0;
    for (let i = 0; i < parts; i++) {
      sender.send(
        [part],
        0,
        false,
        () => {},
        () => {},
      );
    }
    await turn();
    return [...written];
  };
  expect(await sendTurn(31)).toEqual([1, 1, 2, 4, 8, 8, 7]);
  expect(await sendTurn(3)).toEqual([1, 2]);
  full = { onDone: null };
  expect(await sendTurn(1)).toEqual([1]);
  (full as Pending).onDone?.(null);
  full = null;
  expect(await sendTurn(4)).toEqual([1, 1, 2]);
});

test(
  'memory is given back once the kernel has what was in it, at once or when its socket says so',
  clean(async (scope) => {
    const ends = await tcpPair(scope);
    const [socket] = ends;
    const given: Uint8Array[] = [];
    const sender = new Sender(socket, quiet);
    const send = (chunks: Uint8Array[]) =>
      sender.send(
        chunks,
        0,
        false,
        () => {},
        (freed) => given.push(...freed),
      );
    const chunks = [pattern(9_000), pattern(9_000)];
    send(chunks);
    expect(given).toEqual(chunks);
    socket.cork();
    const later = [pattern(20_000)];
    send(later);
    expect(given.length).toBe(2);
    socket.uncork();
    await until('the socket has written it', () => !sender.busy);
    expect(given).toEqual([...chunks, ...later]);
    // Not worth it.
    send([pattern(1_000)]);
    await until('the socket has written it', () => !sender.busy);
    expect(given.length).toBe(3);
    for (const end of ends) end.destroy();
  }),
);

test('memory that a transport of the program’s own was given is never taken back: it may keep it', async () => {
  let freed = false;
  const transport = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  const sender = new Sender(transport, quiet);
  sender.send(
    [pattern(PART)],
    0,
    false,
    () => {},
    () => {
      freed = true;
    },
  );
  await until('it is written', () => !sender.busy);
  expect(freed).toBe(false);
});
