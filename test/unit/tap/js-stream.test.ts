/** The short ways between engine, tap and transport: fewer steps, and nothing that a caller could see. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import {
  accept,
  type Closure,
  connect,
  createServer,
  socketClosure,
  strictServer,
  type TlsStream,
} from '../../../src/index.ts';
import { channel } from '../../../src/testing/index.ts';
import { pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, uncaughtDuring, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  only,
  type Pair,
  pair,
  pairInMemory,
  pattern,
  readAll,
  rejection,
  VERSIONS,
} from '../../support/core-streams.ts';
import { tcpPair } from '../../support/core-transport.ts';

for (const version of VERSIONS) {
  test(
    `${version}: many records, close_notify and what follows it in one chunk: every byte on its side of the end ("Any data received after a closure alert has been received MUST be ignored", RFC 9846 section 6.1)`,
    clean(async (scope) => {
      const wire = channel();
      const both = await pairInMemory(scope, version, { transports: wire.ends });
      const { client, server, serverTransport } = both;
      const said = pattern(40 * 700);
      wire.back.hold();
      for (let at = 0; at < said.length; at += 700) {
        await server.write(said.subarray(at, at + 700));
        await turn();
      }
      await server.shutdown({ wait: false });
      // Begins as a record of application data does.
      const next = Buffer.concat([Buffer.from([23, 3, 3, 0, 40]), pattern(100)]);
      serverTransport.write(next);
      await turn();
      expect(wire.back.sent.length).toBeGreaterThan(said.length + next.length);
      wire.back.deliver();
      wire.back.flow();
      expect((await readAll(client)).equals(said)).toBe(true);
      await client.shutdown();
      const { transport, trailing } = await client.unwrap();
      expect(Buffer.from(trailing).toString('hex')).toBe(next.toString('hex'));
      transport.destroy();
      await server.close();
      expect(client.closure.verdict).toBe('secure');
    }),
  );
}

// The first end of a process is asked of the engine in another way than those behind it.
const ROUNDS = [1, 2];

for (const version of VERSIONS) {
  test(
    `${version}: the socket, asked for after shutdown, is one that has ended on our side alone`,
    clean(async (scope) => {
      for (const _ of ROUNDS) {
        const both = await pair(scope, version, { server: { answer: 'when-told' } });
        const { client, server } = both;
        await client.shutdown({ wait: false });
        const { socket } = client;
        const finished = once(socket, 'finish');
        expect(socket.writable).toBe(false);
        expect(socket.writableEnded).toBe(true);
        await finished;
        const [[said]] = await Promise.all([once(socket, 'data'), server.write('to the end')]);
        expect(String(said)).toBe('to the end');
        await Promise.all([once(socket, 'end'), server.shutdown()]);
        expect(client.closure.verdict).toBe('secure');
        await closeBoth(both);
      }
    }),
  );

  test(
    `${version}: a transport may have the stream aborted, or closed, within the write of close_notify`,
    clean(async (scope) => {
      for (const _ of ROUNDS) {
        const aborted = await pair(scope, version);
        const write = aborted.clientTransport.write;
        aborted.clientTransport.write = () => {
          aborted.client.abort();
          return true;
        };
        expect((await rejection(aborted.client.shutdown())).code).toBe('ERR_TLS_ABORTED');
        expect((await rejection(aborted.server.read())).code).toBe('ERR_TLS_TRUNCATED');
        aborted.server.abort();

        const closed = await pair(scope, version);
        let closing: Promise<Closure> | undefined;
        closed.clientTransport.write = (...args: unknown[]) => {
          closing ??= closed.client.close();
          return Reflect.apply(write, closed.clientTransport, args);
        };
        const [closure] = await Promise.all([closed.client.shutdown(), closed.server.close()]);
        expect(closure.verdict).toBe('secure');
        expect(await closing).toMatchObject({ verdict: 'secure', transportEnd: 'closed' });
      }
    }),
  );

  test(
    `${version}: a transport may have the stream shut down within a write, behind all that is being written`,
    clean(async (scope) => {
      for (const _ of ROUNDS) {
        const both = await pair(scope, version);
        const { client, server, clientTransport } = both;
        // The first one does not wait for others of its turn.
        await client.write('a');
        const write = clientTransport.write;
        let shutting: Promise<Closure> | undefined;
        clientTransport.write = (...args: unknown[]) => {
          shutting ??= client.shutdown();
          return Reflect.apply(write, clientTransport, args);
        };
        const reading = readAll(server);
        const large = pattern(60_000);
        // The small one goes out within the write of the large one.
        await Promise.all([client.write('b'), client.write(large)]);
        expect((await reading).equals(Buffer.concat([Buffer.from('ab'), large]))).toBe(true);
        await server.close();
        expect((await shutting)?.verdict).toBe('secure');
        await client.close();
      }
    }),
  );
}

test.each(['write', '_writev'] as const)(
  'what a transport was given to write stays as it was, for whoever keeps it (in %s)',
  async (method) => {
    const body = clean(async (scope) => {
      const transports = await tcpPair(scope);
      const [near] = transports;
      const kept: Array<{ chunk: Uint8Array; length: number }> = [];
      const original = near[method] as (first: unknown, ...rest: unknown[]) => unknown;
      Object.assign(near, {
        [method](first: Uint8Array | Array<{ chunk: Uint8Array }>, ...rest: unknown[]) {
          const chunks = Array.isArray(first) ? first.map(({ chunk }) => chunk) : [first];
          for (const chunk of chunks) kept.push({ chunk, length: chunk.length });
          return original.call(near, first, ...rest);
        },
      });
      const both = await pair(scope, 'TLSv1.3', { transports });
      const said = pattern(300_000);
      const reading = readAll(both.server);
      await both.client.write(said);
      await both.client.shutdown({ wait: false });
      expect((await reading).equals(said)).toBe(true);
      await closeBoth(both);
      expect(kept.some(({ length }) => length >= 16_384)).toBe(true);
      for (const { chunk, length } of kept) expect(chunk.length).toBe(length);
    });
    await body();
  },
);

test(
  'a transport that takes all at once does not keep the event loop from others',
  clean(async (scope) => {
    const wire = channel({ record: false });
    // Takes what it is given without a turn of the event loop.
    const greedy = (end: Duplex) =>
      new Duplex({
        read() {},
        write(chunk, _encoding, done) {
          if (established) return done();
          end.write(chunk);
          done();
        },
      });
    let established = false;
    const near = greedy(wire.ends[0]);
    wire.ends[0].on('data', (chunk) => near.push(chunk));
    scope.defer(() => near.destroy());
    const [client, server] = await Promise.all([
      connect({ transport: near, host: 'localhost', ca: pki().ca, ...only('TLSv1.3') }),
      accept(wire.ends[1], { ...pki().server, ...only('TLSv1.3') }),
    ]);
    established = true;
    let turns = 0;
    let over = false;
    const count = () => {
      turns++;
      if (!over) setImmediate(count);
    };
    setImmediate(count);
    const part = Buffer.alloc(64 * 1024);
    for (let i = 0; i < 320; i++) await client.write(part);
    over = true;
    expect(turns).toBeGreaterThanOrEqual(4);
    client.abort();
    server.abort();
  }),
);

test(
  'the last flight of a handshake leaves together with what follows at once',
  clean(async (scope) => {
    const [near, far] = await tcpPair(scope);
    // How many chunks each call that reaches the kernel carries.
    const flights: number[] = [];
    const { _write, _writev } = near;
    near._write = (...args) => {
      flights.push(1);
      _write.apply(near, args);
    };
    near._writev = (chunks, done) => {
      flights.push(chunks.length);
      _writev?.call(near, chunks, done);
    };
    const [client, server] = await Promise.all([
      connect({ transport: near, host: 'localhost', ca: pki().ca, ...only('TLSv1.3') }).then(
        async (stream) => {
          await stream.write('request');
          return stream;
        },
      ),
      accept(far, { ...pki().server, ...only('TLSv1.3') }),
    ]);
    expect((await server.read())?.toString()).toBe('request');
    // ClientHello; then Finished (with a ChangeCipherSpec for show) and the request.
    expect(flights).toEqual([1, 2]);
    client.abort();
    server.abort();
  }),
);

test(
  "what a write's callback throws is an uncaught exception, as on any socket, and the stream goes on",
  clean(async (scope) => {
    const both = await pair(scope, 'TLSv1.3');
    const { client, server } = both;
    const caught = await uncaughtDuring(async () => {
      client.socket.write('one', () => {
        throw new Error('of the program');
      });
      await once(process, 'uncaughtException');
    });
    expect(caught).toEqual(['uncaughtException: of the program']);
    client.socket.end('two');
    expect((await readAll(server)).toString()).toBe('onetwo');
    await closeBoth(both);
  }),
);

/** A transport like any other, with a socket behind it. */
class Passage extends Duplex {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super({ allowHalfOpen: true, highWaterMark: 1_000_000 });
    this.#socket = socket;
    socket.on('data', (bytes) => {
      if (!this.push(bytes)) socket.pause();
    });
    socket.on('end', () => this.push(null));
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Uint8Array, _: string, done: (error?: Error | null) => void): void {
    this.#socket.write(bytes, done);
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}

test.each<[string, (scope: Scope) => Promise<Pick<Pair, 'client' | 'server'>>]>([
  ['a socket', (scope) => pair(scope, 'TLSv1.3')],
  [
    'a socket of our own',
    async (scope) => {
      let accepted: (stream: TlsStream) => void = () => {};
      const server = new Promise<TlsStream>((resolve) => {
        accepted = resolve;
      });
      const listening = createServer(pki().server, (stream) => accepted(stream));
      scope.defer(() => listening.close());
      const port = await listening.listen(0, '127.0.0.1');
      const target = { host: '127.0.0.1', port, servername: 'localhost', ca: pki().ca };
      return { client: await connect(target), server: await server };
    },
  ],
])(
  "a listener to 'data' that throws loses nothing, and holds nothing up, over %s",
  async (_, make) => {
    const body = clean(async (scope) => {
      const { client, server } = await make(scope);
      const said: Uint8Array[] = [];
      const got: Uint8Array[] = [];
      const total = (chunks: Uint8Array[]) => chunks.reduce((sum, { length }) => sum + length, 0);
      const say = (bytes: Buffer) => {
        said.push(bytes);
        return server.write(bytes);
      };
      const caught = await uncaughtDuring(async () => {
        client.socket.on('data', (bytes) => {
          got.push(bytes);
          throw new Error('of the program');
        });
        // After each, nothing comes that could bring the rest of it.
        for (let size = 100_000; size < 400_000; size += 21_000) {
          await say(pattern(size));
          await until('it has come', () => total(got) === total(said));
        }
        // And after this, in the same chunk, close_notify.
        void say(pattern(10));
        const [shutdown] = await Promise.all([server.shutdown(), once(client.socket, 'end')]);
        expect(shutdown.verdict).toBe('secure');
      });
      expect(new Set(caught)).toEqual(new Set(['uncaughtException: of the program']));
      expect(Buffer.concat(got).equals(Buffer.concat(said))).toBe(true);
      expect(client.closure.received).not.toBe(null);
      await Promise.all([client.close(), server.close()]);
    });
    await body();
  },
);

test(
  "a listener to 'data' that throws does not stop a transport whose stream was handing out what it had",
  clean(async (scope) => {
    const [near, far] = await tcpPair(scope);
    const passage = new Passage(near);
    const { client, server } = await pair(scope, 'TLSv1.3', { transports: [passage, far] });
    const { socket } = client;
    const said = pattern(900_000);
    const got: Uint8Array[] = [];
    socket.pause();
    const saying = server.write(said);
    await until('both are full', () => passage.isPaused() && passage.readableLength > 200_000);
    // What the socket has by itself comes from a loop of its own, which nobody but Node could mend.
    let left = socket.readableLength;
    const caught = await uncaughtDuring(async () => {
      socket.on('data', (bytes) => {
        got.push(bytes);
        left -= bytes.length;
        if (left < 0 && got.length % 2 === 0) throw new Error('of the program');
      });
      socket.resume();
      await until('all has come', () => Buffer.concat(got).length === said.length);
    });
    expect(new Set(caught)).toEqual(new Set(['uncaughtException: of the program']));
    expect(Buffer.concat(got).equals(said)).toBe(true);
    await saying;
    await closeBoth({ client, server } as Pair);
  }),
);

test(
  'a write that waits is told when its socket is destroyed',
  clean(async (scope) => {
    const { client, server } = await pair(scope, 'TLSv1.3', { transports: channel().ends });
    const told = new Promise((resolve) => client.socket.write(pattern(4_000_000), resolve));
    await turn();
    expect(client.socket.writableLength).toBeGreaterThan(0);
    client.abort();
    await told;
    server.abort();
  }),
);

test.each(VERSIONS)(
  '%s: a program that ends its socket while session tickets wait: close_notify goes out behind them, and FIN behind that',
  async (version) => {
    const body = clean(async (scope) => {
      // So full that it says so of every write, and takes one a turn.
      const wire = channel();
      const [near, far] = wire.ends;
      const slow = new Duplex({
        writableHighWaterMark: 1,
        read() {},
        write(chunk, _encoding, done) {
          far.write(chunk);
          setImmediate(done);
        },
        final(done) {
          far.end();
          done();
        },
      });
      far.on('data', (chunk) => slow.push(chunk));
      far.on('end', () => slow.push(null));
      scope.defer(() => slow.destroy());
      const server = tls.createServer({ ...pki().server, ...only(version) });
      const closure = new Promise<Closure | null>((resolve) => {
        server.on('secureConnection', (socket) => {
          socket.on('error', () => {});
          socket.on('close', () => resolve(socketClosure(socket)));
          socket.resume();
          socket.end();
        });
      });
      strictServer(server);
      server.emit('connection', slow);
      const client = await connect({
        transport: near,
        host: 'localhost',
        ca: pki().ca,
        ...only(version),
      });
      expect((await readAll(client)).length).toBe(0);
      await client.close();
      expect(client.closure).toMatchObject({ verdict: 'secure' });
      expect(await closure).toMatchObject({ verdict: 'secure' });
    });
    await body();
  },
);
