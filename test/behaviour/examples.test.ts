/** The programs in examples/, run as a user runs them, against the built library. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import tls from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CuttingProxy } from '../support/adapter-proxy.ts';
import { describeAdapter, httpsServer, postgres, TEXT } from '../support/adapter-servers.ts';
import { describeTls, pki } from '../support/core-pki.ts';
import { clean, type Scope } from '../support/core-scope.ts';
import { listen } from '../support/core-transport.ts';
import { testPki } from '../support/interop-pki.ts';

let dir = '';
const file = (name: string) => join(dir, name);

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'close-notify-examples-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function start(scope: Scope, name: string, ...args: string[]): ChildProcess {
  return startWith(scope, {}, name, ...args);
}

function startWith(
  scope: Scope,
  env: NodeJS.ProcessEnv,
  name: string,
  ...args: string[]
): ChildProcess {
  const program = new URL(`../../examples/${name}.mjs`, import.meta.url).pathname;
  // As the example says that it is to be started.
  const flags =
    /^\/\/ +node (--import \S+)/m.exec(readFileSync(program, 'utf8'))?.[1]?.split(' ') ?? [];
  const child = spawn(process.execPath, [...flags, program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const exited = once(child, 'close');
  scope.defer(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill();
    await exited;
  });
  return child;
}

const run = (scope: Scope, name: string, ...args: string[]) => output(start(scope, name, ...args));

/** For an example whose clients trust what the process trusts: this authority too. */
const runTrusting = (scope: Scope, ca: string, name: string, ...args: string[]) =>
  output(startWith(scope, { NODE_EXTRA_CA_CERTS: ca }, name, ...args));

async function output(child: ChildProcess) {
  const text = { out: '', err: '' };
  child.stdout?.on('data', (chunk) => {
    text.out += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    text.err += chunk;
  });
  const [code] = await once(child, 'close');
  return { ...text, code };
}

describeTls('the examples', () => {
  beforeAll(() => {
    writeFileSync(file('ca.pem'), pki().ca);
    writeFileSync(file('key.pem'), pki().server.key);
    writeFileSync(file('cert.pem'), pki().server.cert);
  });

  test(
    'read-to-end: a whole response, and one that was cut',
    clean(async (scope) => {
      const server = tls.createServer(pki().server, (socket) => {
        socket.on('error', () => {});
        socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nPay $100 to Alice'));
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      scope.defer(() => new Promise((resolve) => server.close(resolve)));
      const { port } = server.address() as net.AddressInfo;

      const whole = await run(scope, 'read-to-end', 'localhost', String(port), file('ca.pem'));
      expect(whole).toMatchObject({ code: 0, err: '' });
      expect(whole.out).toContain('Pay $100 to Alice');
      expect(whole.out).toContain('-- whole (secure)');

      // The same, from a server whose transport is ended underneath it, before its close_notify.
      const cutting = await listen(scope, (near) => {
        const socket = new tls.TLSSocket(near, { isServer: true, ...pki().server });
        socket.on('error', () => {});
        socket.once('data', () => {
          socket.write('HTTP/1.0 200 OK\r\n\r\nPay $100 to Alice', () => near.end());
        });
      });
      const cut = await run(scope, 'read-to-end', 'localhost', String(cutting), file('ca.pem'));
      expect(cut).toMatchObject({ code: 1, err: '' });
      expect(cut.out).toContain('Pay $100 to Alice');
      expect(cut.out).toContain('-- not to be trusted: ERR_TLS_TRUNCATED');
    }),
  );

  test(
    'echo-server and half-close',
    clean(async (scope) => {
      scope.peersStay();
      const server = start(scope, 'echo-server', file('key.pem'), file('cert.pem'));
      const lines = createInterface({ input: server.stdout as NodeJS.ReadableStream });
      const line = lines[Symbol.asyncIterator]();
      const port = /listening on (\d+)/.exec((await line.next()).value ?? '')?.[1] ?? '';
      const client = await run(
        scope,
        'half-close',
        'localhost',
        port,
        file('ca.pem'),
        'good',
        'morning',
      );
      expect(client).toMatchObject({ code: 0, err: '' });
      expect(client.out.split('\n').filter(Boolean)).toEqual([
        'after our close_notify: one-sided',
        'answer: good morning',
        "after the peer's: secure",
      ]);
      expect((await line.next()).value).toBe('ended: secure');
    }),
  );

  test(
    'find-issuers: what the server asks for, and what fits',
    clean(async (scope) => {
      const { server, client, stranger, ca } = pki();
      const asking = tls.createServer(
        { ...server, ca, requestCert: true, rejectUnauthorized: false },
        (socket) => socket.resume().on('error', () => {}),
      );
      asking.listen(0, '127.0.0.1');
      await once(asking, 'listening');
      scope.defer(() => new Promise((resolve) => asking.close(resolve)));
      writeFileSync(file('client.pem'), client.key + client.cert);
      writeFileSync(file('stranger.pem'), stranger.key + stranger.cert);
      const { out, err, code } = await run(
        scope,
        'find-issuers',
        'localhost',
        String((asking.address() as net.AddressInfo).port),
        file('ca.pem'),
        file('stranger.pem'),
        file('client.pem'),
      );
      expect({ err, code }).toEqual({ err: '', code: 0 });
      const lines = out.split('\n');
      expect(lines[0]).toBe('a client certificate: optional');
      expect(lines[1]).toMatch(/^from: CN=/);
      expect(lines[2]).toBe(`fits: ${file('client.pem')}`);
      expect(lines[3]).toContain(`does not fit: ${file('stranger.pem')}: none of the names`);
      expect(lines[4]).toBe("the connection's end: secure");
    }),
  );

  test(
    'back-to-plaintext',
    clean(async (scope) => {
      const { out, err, code } = await run(
        scope,
        'back-to-plaintext',
        file('key.pem'),
        file('cert.pem'),
        file('ca.pem'),
      );
      expect({ err, code }).toEqual({ err: '', code: 0 });
      expect(out).toContain('server, in TLS: a secret');
      expect(out).toContain('server, in plaintext: and now for everyone');
    }),
  );

  test(
    'truncated-response: before and after',
    clean(async (scope) => {
      const { out, err, code } = await runTrusting(
        scope,
        file('ca.pem'),
        'truncated-response',
        file('key.pem'),
        file('cert.pem'),
      );
      expect({ err, code }).toEqual({ err: '', code: 0 });
      const said = out.split('\n').filter(Boolean);
      const cut = 'ERR_TLS_TRUNCATED: the transport ended';
      expect(said).toEqual([
        "https: 'Pay $100 to Alice, not ', and no error",
        expect.stringContaining(`https with StrictAgent: ${cut}`),
        "fetch: 'Pay $100 to Alice, not ', and no error",
        expect.stringContaining(`fetch after register: ${cut}`),
      ]);
    }),
  );

  test(
    'download: the file is there when it is whole, and only then',
    clean(async (scope) => {
      scope.peersStay();
      const server = await httpsServer();
      scope.defer(() => server.close());
      const { certFile } = await testPki();
      const download = async (port: number, body: string) => {
        const target = file(`${body}.txt`);
        const url = `https://localhost:${port}/${body}`;
        const { out, err, code } = await run(scope, 'download', url, target, certFile);
        expect(err).toBe('');
        expect(existsSync(`${target}.part`)).toBe(false);
        const there = existsSync(target);
        if (there) expect(readFileSync(target)).toEqual(TEXT);
        rmSync(target, { force: true });
        return { out, code, there };
      };
      for (const body of ['length', 'close']) {
        expect(await download(server.port, body)).toMatchObject({ code: 0, there: true });
        const cutting = await CuttingProxy.listen(server.port, {
          direction: 'to-client',
          record: 8,
          bytes: 100,
          how: 'fin',
        });
        scope.defer(() => cutting.close());
        const cut = await download(cutting.port, body);
        expect(cut).toMatchObject({ code: 1, there: false });
        expect(cut.out).toContain('ERR_TLS_TRUNCATED');
      }
    }),
  );
});

describeAdapter(['postgres'], 'the examples with PostgreSQL', () => {
  test(
    'read-database: all rows, or none and why',
    clean(async (scope) => {
      scope.peersStay();
      const server = await postgres();
      scope.defer(() => server.close());
      const { certFile } = await testPki();
      const read = (port: number) =>
        runTrusting(
          scope,
          certFile,
          'read-database',
          `postgres://test@localhost:${port}/postgres`,
          "SELECT n, repeat('x', 1000) FROM generate_series(1, 60) AS n",
        );
      const whole = await read(server.port);
      expect(whole).toMatchObject({ code: 0, err: '' });
      expect(whole.out).toContain('-- all 60 rows');

      const cutting = await CuttingProxy.listen(server.port, {
        direction: 'to-client',
        record: 4,
        bytes: 100,
        how: 'fin',
      });
      scope.defer(() => cutting.close());
      expect(await read(cutting.port)).toMatchObject({
        code: 1,
        err: '',
        out: expect.stringMatching(/^-- nothing to be trusted: ERR_TLS_TRUNCATED: /),
      });
    }),
  );
});
