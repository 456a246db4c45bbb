/** `connect` to a name with several addresses: RFC 8305, each address a program. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { ConnectError, type ConnectOptions, connect } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import { rejection } from '../../support/core-streams.ts';
import { freePort } from '../../support/core-transport.ts';

/** A resolver that knows one name. */
const lookupOf =
  (...addresses: string[]): net.LookupFunction =>
  (_host, _options, done) =>
    done(
      null,
      addresses.map((address) => ({ address, family: net.isIP(address) })),
    );

/** A TLS server that ends each connection, and keeps where it came from. */
async function live(scope: Scope, host: string, port = 0) {
  const from: Array<{ address: string | undefined; port: number | undefined }> = [];
  const server = tls.createServer(pki().server, (socket) => {
    socket.on('error', () => {});
    socket.resume().end();
  });
  server.on('connection', ({ remoteAddress, remotePort }: net.Socket) => {
    from.push({ address: remoteAddress, port: remotePort });
  });
  server.listen(port, host);
  await once(server, 'listening');
  scope.defer(() => new Promise((resolve) => server.close(resolve)));
  return { port: (server.address() as net.AddressInfo).port, from };
}

/**
 * A TLS server on 127.0.0.1 whose queue of connections is full: the SYN of whoever connects is dropped, and sent again
 * after a second. From `release` on the server takes connections.
 */
async function stuck(scope: Scope) {
  const child = spawn(
    process.execPath,
    [
      '-e',
      `const fs = require('node:fs');
       const server = require('node:tls').createServer(JSON.parse(process.argv[1]), (socket) => socket.resume().end());
       server.on('tlsClientError', () => {});
       server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
         fs.writeSync(1, String(server.address().port));
         fs.readSync(0, Buffer.alloc(1)); // Nothing is accepted until there is something to read.
       });`,
      JSON.stringify(pki().server),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const gone = once(child, 'exit');
  scope.defer(async () => {
    child.kill();
    await gone;
  });
  const [said] = await once(child.stdout, 'data');
  const port = Number(said);
  // Linux queues one connection more than it was told.
  for (let i = 0; i < 2; i++) {
    const filler = net.connect(port, '127.0.0.1');
    filler.on('error', () => {});
    scope.defer(() => filler.destroy());
    await once(filler, 'connect');
  }
  return { port, release: () => void child.stdin.write('!') };
}

const target = (port: number, ...addresses: string[]): ConnectOptions => ({
  host: 'localhost',
  port,
  ca: pki().ca,
  lookup: lookupOf(...addresses),
});

/** Connects, and closes. @returns the address that it was connected to. */
async function reached(options: ConnectOptions): Promise<string | undefined> {
  await using stream = await connect(options);
  return stream.remoteAddress;
}

describeTls('a name with several addresses', () => {
  test(
    'a slow first one and a dead second one: connected to the first',
    clean(async (scope) => {
      scope.peersStay();
      const { port, release } = await stuck(scope);
      const reaching = reached(target(port, '127.0.0.1', '::1'));
      // Its SYN is dropped by then; the next one comes long after the second address has refused.
      for (let i = 0; i < 5; i++) await turn();
      release();
      expect(await reaching).toBe('127.0.0.1');
    }),
  );

  test(
    'a first one that does not answer: connected to the second, and nothing is left of the first',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await stuck(scope);
      await live(scope, '::1', port);
      const before = openSockets();
      expect(await reached(target(port, '127.0.0.1', '::1'))).toBe('::1');
      await until('the attempts are gone', () => openSockets() === before);
    }),
  );

  test(
    'autoSelectFamilyAttemptTimeout decides when the second one is tried',
    clean(async (scope) => {
      scope.peersStay();
      const { port, release } = await stuck(scope);
      const second = await live(scope, '::1', port);
      const options = target(port, '127.0.0.1', '::1');
      const reaching = reached({ ...options, autoSelectFamilyAttemptTimeout: 2 ** 31 - 1 });
      for (let i = 0; i < 5; i++) await turn();
      release();
      expect(await reaching).toBe('127.0.0.1');
      expect(second.from).toEqual([]);
    }),
  );

  test(
    'a dead first one: the second one is tried at once',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await live(scope, '127.0.0.1');
      const options = target(port, '::1', '127.0.0.1');
      const patient = { ...options, autoSelectFamilyAttemptTimeout: 2 ** 31 - 1 };
      expect(await reached(patient)).toBe('127.0.0.1');
    }),
  );

  test(
    'all dead: the families took turns, and the error tells of each',
    clean(async () => {
      const port = await freePort();
      const error = await rejection(
        connect(target(port, '127.0.0.1', '127.0.0.2', '127.0.0.3', '::1')),
      );
      expect(error).toBeInstanceOf(ConnectError);
      const { cause, message } = error as { cause?: unknown; message: string };
      expect(cause).toBeInstanceOf(AggregateError);
      const tried = ['127.0.0.1', '::1', '127.0.0.2', '127.0.0.3'];
      expect((cause as AggregateError).errors.map((one) => [one.code, one.address])).toEqual(
        tried.map((address) => ['ECONNREFUSED', address]),
      );
      const all = tried.map((address) => `connect ECONNREFUSED ${address}:${port}`).join('; ');
      expect(cause).toMatchObject({ code: 'ECONNREFUSED', message: all });
      expect(message).toBe(`no connection to localhost:${port}: ${all}`);
      expect(error).toMatchObject({ code: 'ERR_TLS_CONNECT', phase: 'connect' });
    }),
  );

  test(
    'a single one that is dead: its error is the cause',
    clean(async () => {
      const port = await freePort();
      const error = await rejection(connect(target(port, '127.0.0.1')));
      expect(error).toMatchObject({ code: 'ERR_TLS_CONNECT', cause: { code: 'ECONNREFUSED' } });
    }),
  );

  test(
    'one does not answer, one is dead: deadlines.connect ends it, and the error tells of the dead one',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await stuck(scope);
      const options = target(port, '127.0.0.1', '::1');
      const quick = { autoSelectFamilyAttemptTimeout: 10, deadlines: { connect: 400 } };
      const before = openSockets();
      const error = await rejection(connect({ ...options, ...quick }));
      await until('the attempts are gone', () => openSockets() === before);
      expect(error).toMatchObject({
        code: 'ERR_TLS_TIMEOUT',
        phase: 'connect',
        message: expect.stringContaining(`within 400 ms: connect ECONNREFUSED ::1:${port}`),
        cause: { code: 'ECONNREFUSED' },
      });
    }),
  );

  test(
    'a signal ends all attempts',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await stuck(scope);
      const cancel = new AbortController();
      const options = target(port, '127.0.0.1', '127.0.0.1');
      const before = openSockets();
      const error = rejection(
        connect({ ...options, signal: cancel.signal, autoSelectFamilyAttemptTimeout: 10 }),
      );
      await until('both are tried', () => openSockets() === before + 2);
      cancel.abort('enough');
      expect(await error).toMatchObject({ code: 'ABORT_ERR', cause: 'enough', phase: 'connect' });
      await until('the attempts are gone', () => openSockets() === before);
    }),
  );

  test(
    'family 4: all addresses that the resolver gives for it are tried',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await live(scope, '127.0.0.2');
      const asked: unknown[] = [];
      const lookup: net.LookupFunction = (host, query, done) => {
        asked.push([host, query]);
        lookupOf('127.0.0.1', '127.0.0.2')(host, query, done);
      };
      const options = { ...target(port), lookup, family: 4 as const, hints: 32 };
      expect(await reached(options)).toBe('127.0.0.2');
      expect(asked).toEqual([['localhost', { all: true, family: 4, hints: 32 }]]);
    }),
  );

  test(
    'autoSelectFamily false, for one or for the process: the first one only',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await live(scope, '127.0.0.1');
      const options = target(port, '::1', '127.0.0.1');
      const refused = { code: 'ERR_TLS_CONNECT', cause: { code: 'ECONNREFUSED', address: '::1' } };
      const own = await rejection(connect({ ...options, autoSelectFamily: false }));
      expect(own).toMatchObject(refused);
      const before = net.getDefaultAutoSelectFamily();
      net.setDefaultAutoSelectFamily(false);
      scope.defer(() => net.setDefaultAutoSelectFamily(before));
      expect(await rejection(connect(options))).toMatchObject(refused);
      expect(await reached({ ...options, autoSelectFamily: true })).toBe('127.0.0.1');
    }),
  );

  test(
    'localAddress and localPort: from there, and past an address that cannot be reached from there',
    clean(async (scope) => {
      scope.peersStay();
      const { port, from } = await live(scope, '127.0.0.1');
      const localPort = await freePort();
      const options = { ...target(port, '::1', '127.0.0.1'), localAddress: '127.0.0.2', localPort };
      expect(await reached(options)).toBe('127.0.0.1');
      expect(from).toEqual([{ address: '127.0.0.2', port: localPort }]);
    }),
  );

  for (const [what, answer] of [
    ['nothing', []],
    ['a name', [{ address: 'other.example', family: 4 }]],
  ] as const) {
    test(
      `a resolver that gives ${what}: ERR_TLS_RESOLVE`,
      clean(async () => {
        const lookup: net.LookupFunction = (_host, _options, done) => done(null, [...answer]);
        const error = await rejection(connect({ host: 'two.example', port: 1, lookup }));
        expect(error).toMatchObject({ code: 'ERR_TLS_RESOLVE', phase: 'resolve' });
      }),
    );
  }

  for (const [name, value] of [
    ['autoSelectFamilyAttemptTimeout', 0],
    ['autoSelectFamilyAttemptTimeout', 'soon'],
    ['autoSelectFamily', 'yes'],
    ['localAddress', 'here'],
    ['localPort', 'any'],
    ['lookup', 'dns'],
  ] as const) {
    test(
      `${name}: ${JSON.stringify(value)} is an option error`,
      clean(async () => {
        const options = { ...target(1, '127.0.0.1', '::1'), [name]: value } as ConnectOptions;
        const error = await rejection(connect(options));
        expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
        expect(error.message).toContain(name);
      }),
    );
  }
});

const openSockets = () =>
  process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
