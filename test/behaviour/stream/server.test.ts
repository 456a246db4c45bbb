/**
 * A server: programs that use the socket alone, many clients at once, transports taken back; where it listens, how it
 * closes, what it tells. Whether it survives its clients is in server-clients.test.ts.
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Stream } from 'node:stream';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import {
  connect,
  createServer,
  type OnStream,
  type ServerErrorMessage,
  type ServerOptions,
  type TlsStream,
} from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import { only, rejection, VERSIONS } from '../../support/core-streams.ts';

for (const version of VERSIONS) {
  describeTls(`${version}: a client that closes in the very segment of its Finished`, () => {
    test(
      "the program that takes a Duplex afterwards hears 'end', and the client is answered",
      clean(async (scope) => {
        const streams: TlsStream[] = [];
        const events: string[] = [];
        const server = createServer({ ...pki().server, ...only(version) }, (stream) => {
          streams.push(stream);
          const duplex = stream.toDuplex({ allowHalfOpen: false });
          for (const name of ['end', 'error', 'close']) duplex.on(name, () => events.push(name));
          duplex.resume();
        });
        const { port } = await server.listen(0, '127.0.0.1');
        const client = tls.connect({ port, host: 'localhost', ca: pki().ca, ...only(version) });
        scope.defer(() => client.destroy());
        await once(client, 'secureConnect');
        client.end();
        client.resume();
        await once(client, 'close');
        await until('the socket is closed', () => events.includes('close'));
        expect(events).toEqual(['end', 'close']);
        expect(streams[0]?.closure.verdict).toBe('secure');
        await server.close();
      }),
    );

    test(
      'the program that looks at the address, and reads the stream, gets null',
      clean(async (scope) => {
        const server = createServer({ ...pki().server, ...only(version) }, async (stream) => {
          expect(stream.remoteAddress).toBe('127.0.0.1');
          expect(await stream.read()).toBe(null);
          expect((await stream.close()).verdict).toBe('secure');
        });
        const { port } = await server.listen(0, '127.0.0.1');
        const client = tls.connect({ port, host: 'localhost', ca: pki().ca, ...only(version) });
        scope.defer(() => client.destroy());
        await once(client, 'secureConnect');
        client.end();
        client.resume();
        await once(client, 'close');
        await server.close();
      }),
    );
  });

  // "Each party is required to send a 'close_notify' alert before closing the write side" (RFC 5246
  // section 7.2.1, RFC 9846 section 6.1): what follows it on the transport is not TLS any more.
  describeTls(`${version}: clients that send at once`, () => {
    test(
      'what each sends comes whole and unmixed, in TLS and behind it, slow readers included',
      clean(async () => {
        const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
        const server = createServer({ ...pki().server, ...only(version) }, async (stream) => {
          const pieces: Uint8Array[] = [];
          for await (const piece of stream) {
            pieces.push(piece);
            if (pieces.length % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
          }
          await stream.shutdown();
          const { transport, trailing } = await stream.unwrap();
          const plain: Uint8Array[] = [trailing];
          transport.on('data', (chunk: Uint8Array) => plain.push(chunk)).resume();
          await once(transport, 'end');
          transport.end(`${digest(Buffer.concat(pieces))} ${digest(Buffer.concat(plain))}`);
        });
        const { port } = await server.listen(0, '127.0.0.1');
        const one = async () => {
          const [inside, behind] = [randomBytes(700_000), randomBytes(300_000)];
          const stream = await connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(version) });
          for (let at = 0; at < inside.length; at += 9_000) {
            await stream.write(inside.subarray(at, at + 9_000));
          }
          await stream.shutdown();
          const { transport } = await stream.unwrap();
          const heard: Uint8Array[] = [];
          transport.on('data', (chunk: Uint8Array) => heard.push(chunk)).resume();
          transport.end(behind);
          await once(transport, 'end');
          expect(Buffer.concat(heard).toString()).toBe(`${digest(inside)} ${digest(behind)}`);
        };
        await Promise.all(Array.from({ length: 12 }, one));
        await server.close();
      }),
    );
  });
}

/** A program that comes to no end by itself. */
const idle: OnStream = async (stream) => {
  while ((await stream.read()) !== null);
};

/** A server that is gone after the test. */
function made(scope: Scope, options: Partial<ServerOptions> = {}, onStream: OnStream = idle) {
  const server = createServer({ ...pki().server, onError: () => {}, ...options }, onStream);
  scope.defer(() => server.close({ deadline: 0 }));
  return server;
}

/** A client that is established, and aborted after the test. */
async function client(scope: Scope, port: number): Promise<TlsStream> {
  const stream = await connect({ host: '127.0.0.1', port, ca: pki().ca });
  scope.defer(() => stream.abort());
  return stream;
}

/** Whether something has settled by now. */
function settling(promise: Promise<unknown>): () => boolean {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  promise.then(settle, settle);
  return () => settled;
}

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

let files = 0;
const newPath = () => join(tmpdir(), `close-notify-${process.pid}-${files++}.sock`);

describeTls('listen takes what a net.Server takes, and resolves with the address', () => {
  test(
    'a port, a host, a backlog',
    clean(async (scope) => {
      const anywhere = await made(scope).listen();
      expect(anywhere.port).toBeGreaterThan(0);
      const server = made(scope);
      const address = await server.listen(0, '127.0.0.1', 5);
      expect(address).toEqual({ address: '127.0.0.1', family: 'IPv4', port: server.port });
      expect(server.address()).toEqual(address);
      expect((await made(scope).listen(0, 5)).port).toBeGreaterThan(0);
    }),
  );

  test(
    'options',
    clean(async (scope) => {
      const { address, port } = await made(scope).listen({ port: 0, host: '127.0.0.1' });
      expect(address).toBe('127.0.0.1');
      await expect(made(scope).listen({ port, host: '127.0.0.1' })).rejects.toMatchObject({
        code: 'EADDRINUSE',
      });
    }),
  );

  test.skipIf(process.platform === 'win32')(
    'a path, as text and among options',
    clean(async (scope) => {
      for (const path of [newPath(), { path: newPath() }]) {
        const server = made(scope, {}, (stream) => stream.close());
        const name = typeof path === 'string' ? path : path.path;
        expect(await (typeof path === 'string' ? server.listen(path) : server.listen(path))).toBe(
          name,
        );
        expect(() => server.port).toThrow(TypeError);
        const stream = await connect({ path: name, servername: 'localhost', ca: pki().ca });
        expect((await stream.close()).verdict).toBe('secure');
        await server.close();
      }
    }),
  );

  test(
    'another server of Node',
    clean(async (scope) => {
      const other = net.createServer().listen(0, '127.0.0.1');
      await once(other, 'listening');
      const { port } = other.address() as net.AddressInfo;
      const server = made(scope, {}, (stream) => stream.close());
      expect(await server.listen(other)).toMatchObject({ port });
      const stream = await client(scope, port);
      expect((await stream.close()).verdict).toBe('secure');
      await server.close();
      other.close();
    }),
  );

  test.skipIf(process.platform === 'win32')(
    'a descriptor that another process has passed on',
    clean(async (scope) => {
      const other = net.createServer().listen(0, '127.0.0.1');
      await once(other, 'listening');
      const { port } = other.address() as net.AddressInfo;
      const { key, cert } = pki().server;
      const program = `
        import { createServer } from ${JSON.stringify(new URL('../../../src/index.ts', import.meta.url))};
        const server = createServer(${JSON.stringify({ key, cert })}, (stream) => stream.close());
        const { port } = await server.listen({ fd: 3 });
        process.stdin.on('end', () => server.close()).resume();
        console.log(port);`;
      const passed = (other as unknown as { readonly _handle: Stream })._handle;
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', '--input-type=module', '-e', program],
        { stdio: ['pipe', 'pipe', 'inherit', passed], cwd: ROOT },
      );
      scope.defer(() => child.kill());
      other.close();
      const exited = once(child, 'exit');
      expect(Number(String(await once(child.stdout as Readable, 'data')))).toBe(port);
      const stream = await client(scope, port);
      expect((await stream.close()).verdict).toBe('secure');
      child.stdin?.end();
      expect(await exited).toEqual([0, null]);
    }),
  );

  test(
    'what it does not take is an error, and listening can be tried again',
    clean(async (scope) => {
      const server = made(scope);
      await expect(server.listen(70_000)).rejects.toMatchObject({ code: 'ERR_SOCKET_BAD_PORT' });
      await expect(server.listen({ port: 0, signal: 'no' as never })).rejects.toMatchObject({
        code: 'ERR_TLS_OPTION',
      });
      const first = server.listen(0, '127.0.0.1');
      const again = { code: 'ERR_SERVER_ALREADY_LISTEN' };
      await expect(server.listen(0, '127.0.0.1')).rejects.toMatchObject(again);
      const { port } = await first;
      await expect(server.listen(0, '127.0.0.1')).rejects.toMatchObject(again);
      expect(server.port).toBe(port);
    }),
  );

  test(
    'a signal: aborted before, while it is not listening yet, and when it listens',
    clean(async (scope) => {
      const server = made(scope, {}, async (stream, _transport, { signal }) => {
        await once(signal, 'abort');
        await stream.close();
      });
      const where = { port: 0, host: '127.0.0.1' };
      const cancelled = { code: 'ABORT_ERR', cause: 'enough' };
      const before = AbortSignal.abort('enough');
      await expect(server.listen({ ...where, signal: before })).rejects.toMatchObject(cancelled);
      const meanwhile = new AbortController();
      const listening = server.listen({ ...where, signal: meanwhile.signal });
      meanwhile.abort('enough');
      await expect(listening).rejects.toMatchObject(cancelled);
      await server.close();
      expect(server.address()).toBe(null);
      const later = new AbortController();
      const { port } = await server.listen({ ...where, signal: later.signal });
      const stream = await client(scope, port);
      await until('it is served', () => server.streams.size === 1);
      later.abort();
      expect(server.address()).toBe(null);
      expect(await stream.read()).toBe(null);
      expect((await stream.close()).verdict).toBe('secure');
      await server.close();
    }),
  );

  test(
    'close before it listens; afterwards it can listen again, and tells again',
    clean(async (scope) => {
      const signals: boolean[] = [];
      const server = made(scope, {}, async (stream, _transport, { signal }) => {
        signals.push(signal.aborted);
        await stream.close();
      });
      const listening = server.listen(0, 'localhost');
      const closed = server.close();
      await expect(listening).rejects.toMatchObject({ code: 'ERR_TLS_ABORTED' });
      await closed;
      await server.close();
      for (let i = 0; i < 2; i++) {
        const { port } = await server.listen(0, '127.0.0.1');
        await (await client(scope, port)).close();
        await server.close();
      }
      expect(signals).toEqual([false, false]);
    }),
  );
});

describeTls('close drains', () => {
  test(
    'no new connections; each program is told, and may take its time',
    clean(async (scope) => {
      const server = made(scope, {}, async (stream, _transport, { signal }) => {
        await once(signal, 'abort');
        await stream.write('goodbye');
        await stream.close();
      });
      const { port } = await server.listen(0, '127.0.0.1');
      const clients = await Promise.all([1, 2, 3].map(() => client(scope, port)));
      await until('all are served', () => server.streams.size === 3);
      const closed = server.close();
      const hasClosed = settling(closed);
      expect((await rejection(connect({ host: '127.0.0.1', port }))).code).toBe('ERR_TLS_CONNECT');
      for (const stream of clients) {
        expect(hasClosed()).toBe(false);
        expect(String(await stream.read())).toBe('goodbye');
        expect(await stream.read()).toBe(null);
        expect((await stream.close()).verdict).toBe('secure');
      }
      expect(await closed).toBe(undefined);
      expect([server.connections, server.streams.size, server.pending]).toEqual([0, 0, 0]);
    }),
  );

  test(
    'the deadline aborts the rest, and is no error',
    clean(async (scope) => {
      const errors: Error[] = [];
      const server = made(scope, { onError: (error) => errors.push(error) });
      const { port } = await server.listen(0, '127.0.0.1');
      const stream = await client(scope, port);
      await until('it is served', () => server.streams.size === 1);
      const [served] = server.streams;
      expect(await server.close({ deadline: 1 })).toBe(undefined);
      expect(server.connections).toBe(0);
      expect(served?.closure.verdict).toBe('aborted');
      expect((await rejection(stream.read())).code).toBe('ERR_TLS_TRUNCATED');
      await until('it is told', () => errors.length > 0);
      expect(errors).toMatchObject([{ code: 'ERR_TLS_ABORTED' }]);
    }),
  );

  test(
    'a signal aborts the rest, and close rejects',
    clean(async (scope) => {
      for (const when of ['before', 'later'] as const) {
        const server = made(scope);
        const { port } = await server.listen(0, '127.0.0.1');
        const stream = await client(scope, port);
        await until('it is served', () => server.streams.size === 1);
        const controller = new AbortController();
        if (when === 'before') controller.abort('enough');
        const closed = server.close({ signal: controller.signal });
        controller.abort('enough');
        expect(await rejection(closed)).toMatchObject({ code: 'ABORT_ERR', cause: 'enough' });
        expect(server.connections).toBe(0);
        expect((await rejection(stream.read())).code).toBe('ERR_TLS_TRUNCATED');
      }
    }),
  );

  test(
    'a second call waits for the same, and can cut it short for both',
    clean(async (scope) => {
      const server = made(scope);
      const { port } = await server.listen(0, '127.0.0.1');
      await client(scope, port);
      await until('it is served', () => server.streams.size === 1);
      const first = server.close();
      const second = server.close({ deadline: 60_000 });
      const settled = [settling(first), settling(second)];
      for (let i = 0; i < 20; i++) await turn();
      expect(settled.map((has) => has())).toEqual([false, false]);
      await server.close({ deadline: 0 });
      await Promise.all([first, second]);
      await expect(server.close({ deadline: -1 })).rejects.toMatchObject({
        code: 'ERR_TLS_OPTION',
      });
      await expect(server.close({ signal: 'no' as never })).rejects.toMatchObject({
        code: 'ERR_TLS_OPTION',
      });
    }),
  );

  test(
    'a client in its handshake is served, and its program knows at once',
    clean(async (scope) => {
      const known: boolean[] = [];
      const server = made(scope, {}, async (stream, _transport, context) => {
        const { signal } = context;
        known.push(signal.aborted, context.signal === signal);
        await stream.close();
      });
      const { port } = await server.listen(0, '127.0.0.1');
      const transport = net.connect(port, '127.0.0.1');
      scope.defer(() => transport.destroy());
      await until('it is in its handshake', () => server.pending === 1);
      const closed = server.close();
      const stream = await connect({ transport, host: 'localhost', ca: pki().ca });
      await stream.close();
      await closed;
      expect(known).toEqual([true, true]);
    }),
  );

  // A signal that ends a read is no bug of a program's.
  test(
    'what a program throws because of its signal is of the connection',
    clean(async (scope) => {
      const told: unknown[] = [];
      const hear = (message: unknown) => told.push((message as ServerErrorMessage).error);
      subscribe('close-notify.server-error', hear);
      scope.defer(() => unsubscribe('close-notify.server-error', hear));
      const programs: OnStream[] = [
        (stream, _transport, { signal }) => stream.read({ signal }),
        async (stream, _transport, { signal }) => {
          await once(signal, 'abort');
          await stream.write('hello', { signal });
        },
        async (_stream, _transport, { signal }) => {
          await once(signal, 'abort');
          signal.throwIfAborted();
        },
        (_stream, _transport, { signal }) => once(new EventTarget(), 'never', { signal }),
      ];
      const server = made(scope, { onError: undefined }, (stream, ...rest) =>
        programs.shift()?.(stream, ...rest),
      );
      const { port } = await server.listen(0, '127.0.0.1');
      for (let i = 4; i > 0; i--) await client(scope, port);
      await until('all are served', () => programs.length === 0);
      await server.close();
      expect(told.length).toBe(4);
      for (const error of told) expect((error as Error).name).toBe('AbortError');
    }),
  );
});

describeTls('what a server has, and takes', () => {
  test(
    'streams, from the handshake to the end of the transport or to unwrap; pending before',
    clean(async (scope) => {
      const seen: TlsStream[] = [];
      let transport: net.Socket | null = null;
      const server = made(scope, {}, async (stream, socket) => {
        seen.push(stream);
        await stream.read();
        await stream.shutdown();
        await stream.unwrap();
        transport = socket;
      });
      const { port } = await server.listen(0, '127.0.0.1');
      const raw = net.connect(port, '127.0.0.1');
      scope.defer(() => raw.destroy());
      await until('it is accepted', () => server.connections === 1);
      expect([server.pending, server.streams.size]).toEqual([1, 0]);
      const stream = await connect({ transport: raw, host: 'localhost', ca: pki().ca });
      await until('it is served', () => seen.length === 1);
      expect([server.pending, ...server.streams]).toEqual([0, ...seen]);
      await stream.shutdown();
      await until('it is taken back', () => transport !== null);
      expect([server.connections, server.streams.size]).toEqual([1, 0]);
      raw.destroy();
      transport = transport as unknown as net.Socket;
      transport.on('end', () => (transport as net.Socket).end()).resume();
      await until('it is gone', () => server.connections === 0);
    }),
  );

  test(
    'maxConnections: further ones are dropped, and told',
    clean(async (scope) => {
      const dropped: net.DropArgument[] = [];
      const server = made(scope, { maxConnections: 1, onDrop: (one) => dropped.push(one) });
      expect(server.maxConnections).toBe(1);
      const { port } = await server.listen(0, '127.0.0.1');
      const held = await client(scope, port);
      const raw = net.connect(port, '127.0.0.1');
      scope.defer(() => raw.destroy());
      raw.on('error', () => {}).resume();
      await once(raw, 'connect');
      const { localPort } = raw;
      await once(raw, 'close');
      expect(dropped).toMatchObject([{ localPort: port, remotePort: localPort }]);
      expect(server.connections).toBe(1);
      server.maxConnections = 2;
      const other = await client(scope, port);
      expect(dropped.length).toBe(1);
      held.abort();
      other.abort();
      await server.close({ deadline: 0 });
      for (const most of [-1, Number.NaN, '1' as unknown as number]) {
        expect(() => {
          server.maxConnections = most;
        }).toThrow('maxConnections must be');
      }
    }),
  );

  test(
    'setSecureContext: new connections have the new certificate, all else stays',
    clean(async (scope) => {
      const server = made(scope, { maxVersion: 'TLSv1.2' });
      const { port } = await server.listen(0, '127.0.0.1');
      const open = { host: '127.0.0.1', port, rejectUnauthorized: false } as const;
      const fingerprint = ({ peerCertificate }: TlsStream) => peerCertificate?.fingerprint256;
      const before = await connect(open);
      scope.defer(() => before.abort());
      // In its handshake: it has what was there when it came.
      const transport = net.connect(port, '127.0.0.1');
      await until('it is in its handshake', () => server.pending === 1);
      // A certificate that is not for the key, for instance.
      for (const wrong of [{ key: 'none' }, { cert: pki().otherName.cert }, { ciphers: 'none' }]) {
        expect(() => server.setSecureContext(wrong)).toThrow(
          expect.objectContaining({ code: 'ERR_TLS_OPTION' }),
        );
      }
      expect(() => server.setSecureContext(null as never)).toThrow('options must be');
      const same = await connect(open);
      scope.defer(() => same.abort());
      expect(fingerprint(same)).toBe(fingerprint(before));
      server.setSecureContext(pki().otherName);
      const pending = await connect({ ...open, transport });
      scope.defer(() => pending.abort());
      expect(fingerprint(pending)).toBe(fingerprint(before));
      const after = await connect(open);
      scope.defer(() => after.abort());
      expect(fingerprint(after)).not.toBe(fingerprint(before));
      expect(after.tls.protocol).toBe('TLSv1.2');
      expect(after.peerCertificate?.checkHost('other.example')).toBe('other.example');
      expect(before.closure.verdict).toBe('open');
      for (const stream of [before, same, pending, after]) stream.abort();
    }),
  );

  test(
    'hooks that are none',
    clean(async () => {
      const wrong = (options: object) => () => createServer({ ...pki().server, ...options }, idle);
      expect(() => createServer(null as never, idle)).toThrow('options must be an object');
      expect(wrong({ onError: 1 })).toThrow('onError must be a function');
      expect(wrong({ onDrop: 1 })).toThrow('onDrop must be a function');
      expect(wrong({ record: {} })).toThrow("record must be true, 'on-truncation' or a function");
      expect(wrong({ maxConnections: 'x' })).toThrow('maxConnections must be');
    }),
  );
});

describeTls('what a server tells', () => {
  const heard = (scope: Scope) => {
    const messages: ServerErrorMessage[] = [];
    const hear = (message: unknown) => messages.push(message as ServerErrorMessage);
    subscribe('close-notify.server-error', hear);
    scope.defer(() => unsubscribe('close-notify.server-error', hear));
    return messages;
  };

  for (const version of VERSIONS) {
    test(
      `${version}: onError and the channel hear of a stream that was cut, and of whom`,
      clean(async (scope) => {
        const messages = heard(scope);
        const errors: unknown[] = [];
        const onError: ServerOptions['onError'] = (...args) => errors.push(args);
        const server = made(scope, { ...only(version), onError });
        const { port } = await server.listen(0, '127.0.0.1');
        const stream = await connect({ host: 'localhost', port, ca: pki().ca, family: 4 });
        await until('it is served', () => server.streams.size === 1);
        const { localPort } = stream;
        stream.abort();
        await until('it is told', () => errors.length > 0);
        const [message] = messages;
        expect(messages.length).toBe(1);
        expect(message).toMatchObject({
          error: { code: 'ERR_TLS_TRUNCATED' },
          host: '127.0.0.1',
          port: localPort,
          servername: 'localhost',
          protocol: version,
          role: 'server',
        });
        expect(errors).toEqual([[message?.error, message?.transport]]);
      }),
    );
  }

  test(
    'of a handshake that fails it tells as well, without a name and a version',
    clean(async (scope) => {
      const messages = heard(scope);
      const server = made(scope, { onError: undefined });
      const { port } = await server.listen(0, '127.0.0.1');
      const raw = net.connect(port, '127.0.0.1', () => raw.end('GET / HTTP/1.0\r\n\r\n'));
      scope.defer(() => raw.destroy());
      raw.on('error', () => {}).resume();
      await until('it is told', () => messages.length > 0);
      expect(messages).toMatchObject([
        { error: { code: 'ERR_TLS_HANDSHAKE' }, servername: null, protocol: null },
      ]);
      expect(messages[0]?.host).toBe('127.0.0.1');
      await until('nothing is left', () => server.connections === 0);
    }),
  );

  // The functions among the options of TLS are the program's, and called in the middle of a handshake.
  for (const version of VERSIONS) {
    for (const [how, SNICallback] of Object.entries<NonNullable<tls.TlsOptions['SNICallback']>>({
      throws: () => {
        throw new Error('no such name');
      },
      'gives an error': (_name, done) => done(new Error('no such name')),
      'gives an error later': (_name, done) => setImmediate(done, new Error('no such name')),
      'gives what is none': (_name, done) => done(null, {} as tls.SecureContext),
      'never answers': () => {},
    })) {
      test(
        `${version}: an SNICallback that ${how} is told, and leaves nothing open`,
        clean(async (scope) => {
          const errors: Error[] = [];
          const deadlines = { handshake: how === 'never answers' ? 50 : 10_000 };
          const onError = (error: Error) => errors.push(error);
          const server = made(scope, { ...only(version), SNICallback, onError, deadlines });
          const { port } = await server.listen(0, '127.0.0.1');
          await rejection(connect({ host: 'localhost', port, ca: pki().ca, family: 4 }));
          await until('it is told', () => errors.length > 0);
          await until('nothing is left', () => server.connections + server.pending === 0);
          const code = how === 'never answers' ? 'ERR_TLS_TIMEOUT' : 'ERR_TLS_HANDSHAKE';
          expect(errors).toMatchObject([{ code }]);
        }),
      );
    }
  }

  test(
    'an error when it accepts is told, ends nothing, and is of no connection',
    clean(async (scope) => {
      const messages = heard(scope);
      const created = vi.spyOn(net, 'createServer');
      const errors: unknown[] = [];
      const onError: ServerOptions['onError'] = (...args) => errors.push(args);
      const [first, second] = [made(scope, { onError }), made(scope, { onError: undefined })];
      const below = created.mock.results.map((one) => one.value as net.Server);
      created.mockRestore();
      await Promise.all([first, second].map((server) => server.listen(0, '127.0.0.1')));
      const error = Object.assign(new Error('accept EMFILE'), { code: 'EMFILE' });
      for (const server of below) server.emit('error', error);
      expect(errors).toEqual([[error, null]]);
      const nobody = { host: null, port: null, servername: null, protocol: null, transport: null };
      expect(messages).toEqual([1, 2].map(() => ({ error, role: 'server', ...nobody })));
      for (const server of [first, second]) {
        const stream = await client(scope, server.port);
        stream.abort();
      }
    }),
  );
});
