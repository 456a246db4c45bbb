/** The programs in examples/, run as a user runs them, against the built library. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import tls from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeTls, pki } from './support/core-pki.ts';
import { clean, type Scope } from './support/core-scope.ts';
import { listen } from './support/core-transport.ts';

let dir = '';
const file = (name: string) => join(dir, name);

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'close-notify-examples-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function start(scope: Scope, name: string, ...args: string[]): ChildProcess {
  const program = new URL(`../examples/${name}.mjs`, import.meta.url).pathname;
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'close');
  scope.defer(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill();
    await exited;
  });
  return child;
}

async function run(scope: Scope, name: string, ...args: string[]) {
  const child = start(scope, name, ...args);
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
});
