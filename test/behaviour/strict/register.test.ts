/** `register`: every TLS connection of a process, made strict and back. */
import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls, { connect as named } from 'node:tls';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { secureSocket, socketClosure, connect as strictStream } from '../../../src/index.ts';
import { register, unregister } from '../../../src/strict/register.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { rejection } from '../../support/core-streams.ts';
import { ANSWERS, fetchBy, site, wired } from '../../support/strict-wire.ts';

const original = (() => {
  unregister();
  return tls.connect;
})();

beforeEach(() => unregister());
afterEach(() => {
  unregister();
  tls.connect = original;
});

/** A server whose every connection is cut behind its first words. */
async function cutting(scope: Scope): Promise<number> {
  const server = tls.createServer(pki().server);
  const { port, wires } = await wired(scope, server);
  server.on('secureConnection', async (socket) => {
    scope.defer(() => socket.destroy());
    const wire = wires.at(-1);
    await new Promise<void>((resolve) => socket.write('Pay $100', () => resolve()));
    await wire?.cut('FIN');
  });
  return port;
}

/** How a socket ends: 'end', or the code of its error. */
function endOf(socket: tls.TLSSocket): Promise<string> {
  return new Promise((resolve) => {
    socket.on('end', () => resolve('end'));
    socket.on('error', (error: Error & { code?: string }) => resolve(String(error.code)));
    socket.resume();
  });
}

const to = (port: number, options: tls.ConnectionOptions = {}) => ({
  host: 'localhost',
  port,
  ca: pki().ca,
  ...options,
});

describeTls('registered', () => {
  test(
    'every form of tls.connect is strict, and Node’s own again once undone',
    clean(async (scope) => {
      const port = await cutting(scope);
      const { ca } = pki();
      const forms: (() => tls.TLSSocket)[] = [
        () => tls.connect(to(port)),
        () => tls.connect(port, 'localhost', { ca }),
        () => tls.connect(port, { ca, host: 'localhost' }),
        () => tls.connect(String(port) as never, 'localhost', { ca }),
      ];
      for (const form of forms) expect(await endOf(form())).toBe('end');
      const undo = register();
      for (const form of forms) {
        let called = 0;
        const socket = form();
        socket.on('secureConnect', () => called++);
        expect(socket).toBeInstanceOf(tls.TLSSocket);
        expect(await endOf(socket)).toBe('ERR_TLS_TRUNCATED');
        expect(called).toBe(1);
      }
      undo();
      expect(tls.connect).toBe(original);
      for (const form of forms) expect(await endOf(form())).toBe('end');
    }),
  );

  test(
    'the listener of each form is called, once',
    clean(async (scope) => {
      const port = await cutting(scope);
      register();
      let calls = 0;
      const listener = () => {
        calls++;
      };
      await endOf(tls.connect(to(port), listener));
      await endOf(tls.connect(port, 'localhost', { ca: pki().ca }, listener));
      expect(calls).toBe(2);
    }),
  );

  test(
    'a Unix path, and a given transport, are strict too',
    clean(async (scope) => {
      // The relay listens on.
      scope.peersStay();
      const port = await cutting(scope);
      const folder = mkdtempSync(path.join(tmpdir(), 'close-notify-unix-'));
      const file = path.join(folder, 'socket');
      const relay = net.createServer({ allowHalfOpen: true }, (socket) => {
        const through = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
        scope.defer(() => through.destroy());
        for (const one of [socket, through]) one.on('error', () => {});
        socket.on('close', () => through.destroy());
        socket.pipe(through).pipe(socket);
      });
      relay.listen(file);
      await once(relay, 'listening');
      scope.defer(async () => {
        await new Promise((resolve) => relay.close(resolve));
        rmSync(folder, { recursive: true });
      });
      const options = { ca: pki().ca, servername: 'localhost' };
      register();
      expect(await endOf(tls.connect(file as never, options))).toBe('ERR_TLS_TRUNCATED');
      expect(await endOf(tls.connect({ path: file, ...options }))).toBe('ERR_TLS_TRUNCATED');
      const transport = net.connect(port, '127.0.0.1');
      expect(await endOf(tls.connect({ socket: transport, ...options }))).toBe('ERR_TLS_TRUNCATED');
    }),
  );

  test(
    'those who imported connect by name have it strict too',
    clean(async (scope) => {
      const port = await cutting(scope);
      register();
      // A module of ES has to be asked again: the test itself is compiled to something else.
      const { connect } = await import('node:tls');
      expect(await endOf(connect(to(port)))).toBe('ERR_TLS_TRUNCATED');
      unregister();
      expect((await import('node:tls')).connect).toBe(original);
      expect(typeof named).toBe('function');
    }),
  );

  test(
    'https gets errors in its responses, with its own agents',
    clean(async (scope) => {
      const { port } = await site(scope, async ({ send, wire }) => {
        await send(ANSWERS['to the connection’s end'].cut);
        await wire.cut('FIN');
      });
      const plain = await fetchBy(new https.Agent(), port);
      expect(plain.response?.complete).toBe(true);
      register();
      const seen = await fetchBy(new https.Agent(), port);
      expect(seen.error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
      expect(seen.events).not.toContain('response end');
      expect(seen.response?.complete).toBe(false);
    }),
  );

  test(
    'our own streams and sockets are what they were',
    clean(async (scope) => {
      const port = await cutting(scope);
      register({ mode: 'report' });
      const stream = await strictStream(to(port));
      expect(Buffer.from((await stream.read()) ?? []).toString()).toBe('Pay $100');
      expect(await rejection(stream.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
      await stream.close();
      expect(await endOf(secureSocket(to(port)))).toBe('ERR_TLS_TRUNCATED');
    }),
  );

  test(
    'twice is as once, and the last settings count',
    clean(async (scope) => {
      const port = await cutting(scope);
      const undoFirst = register();
      const { connect } = tls;
      const undoSecond = register({ mode: 'report' });
      expect(tls.connect).toBe(connect);
      expect(await endOf(tls.connect(to(port)))).toBe('end');
      // Its settings are not in force any more.
      undoFirst();
      expect(tls.connect).toBe(connect);
      undoSecond();
      expect(tls.connect).toBe(original);
      undoSecond();
      unregister();
      expect(tls.connect).toBe(original);
    }),
  );

  test(
    'is in force again after somebody put back the connect of before',
    clean(async (scope) => {
      const port = await cutting(scope);
      register();
      tls.connect = original;
      register();
      expect(await endOf(tls.connect(to(port)))).toBe('ERR_TLS_TRUNCATED');
    }),
  );

  for (const order of ['before', 'after'] as const) {
    test(
      `somebody else’s wrapper, put on ${order} us, is called, and stays`,
      clean(async (scope) => {
        const port = await cutting(scope);
        let calls = 0;
        const wrap = () => {
          const below = tls.connect;
          tls.connect = ((...args: Parameters<typeof below>) => {
            calls++;
            return below(...args);
          }) as typeof tls.connect;
        };
        if (order === 'before') wrap();
        register();
        if (order === 'after') wrap();
        expect(await endOf(tls.connect(to(port)))).toBe('ERR_TLS_TRUNCATED');
        expect(calls).toBe(1);
        // Once more, on top of whatever is there.
        register();
        expect(await endOf(tls.connect(to(port)))).toBe('ERR_TLS_TRUNCATED');
        expect(calls).toBe(2);
        unregister();
        expect(await endOf(tls.connect(to(port)))).toBe('end');
        expect(calls).toBe(3);
      }),
    );
  }

  for (const [what, options, strict] of [
    ['include: the host', { include: ['localhost'] }, true],
    ['include: the host, in other letters', { include: [' LocalHost '] }, true],
    ['include: another', { include: ['example.org'] }, false],
    ['include: nobody', { include: [] }, false],
    ['include: all', { include: ['*'] }, true],
    ['exclude: the host', { exclude: ['localhost'] }, false],
    ['exclude: another', { exclude: ['example.org'] }, true],
    ['both: exclude wins', { include: ['localhost'], exclude: ['localhost'] }, false],
    ['a wildcard does not stand for the domain itself', { include: ['*.localhost'] }, false],
    ['part of a name is not a match', { exclude: ['local', 'ocalhost', 'host'] }, true],
  ] as const) {
    test(
      `scope, ${what}`,
      clean(async (scope) => {
        const port = await cutting(scope);
        register(options);
        const socket = tls.connect(to(port));
        expect(await endOf(socket)).toBe(strict ? 'ERR_TLS_TRUNCATED' : 'end');
        expect(socketClosure(socket) === null).toBe(!strict);
      }),
    );
  }

  for (const [host, strict] of [
    ['a.example.org', true],
    ['b.a.EXAMPLE.org', true],
    ['example.org', false],
    ['badexample.org', false],
    ['a.example.org.attacker.example', false],
  ] as const) {
    test(
      `scope, *.example.org and ${host}`,
      clean(async (scope) => {
        const port = await cutting(scope);
        register({ include: ['*.example.org'] });
        const lookup: net.LookupFunction = (_, { all }, callback) =>
          all
            ? callback(null, [{ address: '127.0.0.1', family: 4 }])
            : callback(null, '127.0.0.1', 4);
        const socket = tls.connect({ ...to(port), host, lookup, rejectUnauthorized: false });
        expect(await endOf(socket)).toBe(strict ? 'ERR_TLS_TRUNCATED' : 'end');
      }),
    );
  }

  test(
    'the channels tell of each connection, its truncation, its closure',
    clean(async (scope) => {
      const port = await cutting(scope);
      for (const mode of ['error', 'report'] as const) {
        const told: Record<string, unknown[]> = {};
        const names = ['connect', 'truncated', 'closure'].map((name) => `close-notify.${name}`);
        const listeners = names.map((name) => {
          told[name] = [];
          const listener = (message: unknown) => void told[name]?.push(message);
          subscribe(name, listener);
          return listener;
        });
        register({ mode });
        const socket = tls.connect(to(port));
        const closed = new Promise((resolve) => socket.on('close', resolve));
        await endOf(socket);
        await closed;
        for (const [at, name] of names.entries()) unsubscribe(name, listeners[at] as () => void);
        expect(told['close-notify.connect']).toEqual([
          {
            socket,
            ...{ role: 'client', host: expect.any(String), port: expect.any(Number) },
            ...{ servername: null, protocol: null },
            mode,
            evidence: expect.stringMatching(/^(openssl|record)$/),
            engine: expect.any(String),
          },
        ]);
        expect(told['close-notify.truncated']).toMatchObject([
          {
            error: { code: 'ERR_TLS_TRUNCATED', closure: { verdict: 'truncated' } },
            outcome: mode === 'error' ? 'error' : 'end',
          },
        ]);
        expect(told['close-notify.closure']).toMatchObject([{ closure: { verdict: 'truncated' } }]);
        for (const messages of Object.values(told)) {
          expect((messages[0] as { socket: unknown }).socket).toBe(socket);
        }
      }
    }),
  );

  test('refuses options that are none', () => {
    for (const options of [
      { mode: 'x' },
      { include: 'localhost' },
      { exclude: [1] },
      { include: { length: 0 } },
    ]) {
      expect(() => register(options as never)).toThrowError(
        expect.objectContaining({ code: 'ERR_TLS_OPTION' }),
      );
    }
    expect(tls.connect).toBe(original);
  });

  test(
    'what tls.connect throws, it throws, and leaves nothing open',
    clean(async () => {
      const calls: (() => unknown)[] = [
        () => tls.connect({ port: 1, ciphers: 'NONE-SUCH' }),
        () => tls.connect({ port: 1, minVersion: 'TLSv9' as never }),
        () => tls.connect({ port: 1, ca: 'no', cert: 'no', key: 'no' }),
        () => tls.connect({ port: 1, checkServerIdentity: 1 as never }),
      ];
      const thrown = () =>
        calls.map((call) => {
          try {
            (call() as tls.TLSSocket).on('error', () => {}).destroy();
            return null;
          } catch (error) {
            const { name, message } = error as Error;
            return [name, (error as { code?: string }).code, message.replace(/^[0-9A-F]{8,}:/, '')];
          }
        });
      const plain = thrown();
      register();
      expect(thrown()).toEqual(plain);
      expect(plain.filter((one) => one !== null).length).toBeGreaterThan(3);
    }),
  );
});

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

interface Ran {
  readonly failed: boolean;
  readonly out: string;
  readonly errors: string;
}

/** Runs a program of its own. */
function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  return new Promise((resolve) =>
    execFile(
      process.execPath,
      args,
      { cwd: ROOT, env: { PATH: process.env['PATH'], ...env }, timeout: 20_000 },
      (error, out, errors) => resolve({ failed: error !== null, out: out.trim(), errors }),
    ),
  );
}

/** Connects and prints how that ended; `connect` is what the program has by that name. */
const tell = (port: number) => `
  const socket = connect({ host: 'localhost', port: ${port}, rejectUnauthorized: false });
  socket.on('end', () => console.log('end'));
  socket.on('error', (error) => console.log(error.code));
  socket.resume();
`;
const esm = (code: string) => ['--input-type=module', '-e', code];
const cjs = (code: string) => ['--input-type=commonjs', '-e', code];
const PRELOAD = ['--import', 'close-notify/register'];
const REGISTER = 'close-notify/register';
const requires = (process.features as { require_module?: boolean }).require_module === true;

describeTls('a process', () => {
  for (const [what, args, expected] of [
    ['as it is', (code: string) => esm(`import { connect } from 'node:tls';${code}`), 'end'],
    [
      '--import, with connect imported by name',
      (code: string) => [...PRELOAD, ...esm(`import { connect } from 'node:tls';${code}`)],
      'ERR_TLS_TRUNCATED',
    ],
    [
      '--import, in CommonJS, with connect taken out early',
      (code: string) => [...PRELOAD, ...cjs(`const { connect } = require('tls');${code}`)],
      'ERR_TLS_TRUNCATED',
    ],
    [
      'a plain import, behind that of connect by name',
      (code: string) => esm(`import { connect } from 'node:tls';import '${REGISTER}';${code}`),
      'ERR_TLS_TRUNCATED',
    ],
    [
      'loaded twice, by --import and import',
      (code: string) => [
        ...PRELOAD,
        ...esm(`import { connect } from 'node:tls';import '${REGISTER}';${code}`),
      ],
      'ERR_TLS_TRUNCATED',
    ],
    [
      'undone',
      (code: string) => [
        ...PRELOAD,
        ...esm(
          `import { connect } from 'node:tls';import { unregister } from '${REGISTER}';unregister();${code}`,
        ),
      ],
      'end',
    ],
  ] as const) {
    test(
      what,
      clean(async (scope) => {
        const port = await cutting(scope);
        expect(await run(args(tell(port)))).toMatchObject({ failed: false, out: expected });
      }),
    );
  }

  test.runIf(requires)(
    'require(), and both ways at once',
    clean(async (scope) => {
      const port = await cutting(scope);
      const code = `require('${REGISTER}');const tls = require('tls');const first = tls.connect;
        require('${REGISTER}');
        import('${REGISTER}').then(() => {
          if (tls.connect !== first) throw new Error('twice');
          const { connect } = tls;
          ${tell(port)}
        });`;
      expect(await run(cjs(code))).toMatchObject({ failed: false, out: 'ERR_TLS_TRUNCATED' });
    }),
  );

  for (const [what, env, expected] of [
    ['CLOSE_NOTIFY_MODE=report', { CLOSE_NOTIFY_MODE: 'report' }, 'end'],
    ['CLOSE_NOTIFY_INCLUDE', { CLOSE_NOTIFY_INCLUDE: 'a.example, localhost' }, 'ERR_TLS_TRUNCATED'],
    ['CLOSE_NOTIFY_INCLUDE of another', { CLOSE_NOTIFY_INCLUDE: '*.example' }, 'end'],
    ['CLOSE_NOTIFY_EXCLUDE', { CLOSE_NOTIFY_EXCLUDE: 'a.example,localhost' }, 'end'],
    ['empty ones', { CLOSE_NOTIFY_MODE: '', CLOSE_NOTIFY_INCLUDE: '' }, 'ERR_TLS_TRUNCATED'],
  ] as const) {
    test(
      `told by its environment: ${what}`,
      clean(async (scope) => {
        const port = await cutting(scope);
        const code = `import { connect } from 'node:tls';${tell(port)}`;
        expect(await run([...PRELOAD, ...esm(code)], env)).toMatchObject({
          failed: false,
          out: expected,
        });
      }),
    );
  }

  test('does not start with a mode that is none', async () => {
    const ran = await run([...PRELOAD, ...esm('')], { CLOSE_NOTIFY_MODE: 'strict' });
    expect(ran.failed).toBe(true);
    expect(ran.errors).toContain('ERR_TLS_OPTION');
  });

  test(
    'with two copies of the package: one guard, and either undoes it',
    clean(async (scope) => {
      const port = await cutting(scope);
      const folder = mkdtempSync(path.join(tmpdir(), 'close-notify-copy-'));
      scope.defer(() => rmSync(folder, { recursive: true }));
      cpSync(path.join(ROOT, 'dist'), path.join(folder, 'dist'), { recursive: true });
      cpSync(path.join(ROOT, 'package.json'), path.join(folder, 'package.json'));
      symlinkSync(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'));
      const other = pathToFileURL(path.join(folder, 'dist/strict/register.js')).href;
      const program = (then: string) => `
        import tls from 'node:tls';
        const plain = tls.connect;
        await import('${REGISTER}');
        const first = tls.connect;
        const second = await import('${other}');
        if (tls.connect !== first || first === plain) throw new Error('not one guard');
        ${then}
        const { connect } = tls;
        ${tell(port)}`;
      expect(await run(esm(program('')))).toMatchObject({
        failed: false,
        out: 'ERR_TLS_TRUNCATED',
      });
      const undone = "second.unregister(); if (tls.connect !== plain) throw new Error('left')";
      expect(await run(esm(program(undone)))).toMatchObject({ failed: false, out: 'end' });
      const report = "second.register({ mode: 'report' });";
      expect(await run(esm(program(report)))).toMatchObject({ failed: false, out: 'end' });
    }),
  );

  test('ends by itself: nothing of register keeps it alive', async () => {
    const file = path.join(mkdtempSync(path.join(tmpdir(), 'close-notify-idle-')), 'idle.mjs');
    writeFileSync(file, 'console.log("idle")');
    expect(await run([...PRELOAD, file])).toMatchObject({ failed: false, out: 'idle' });
    rmSync(path.dirname(file), { recursive: true });
  });
});
