/** What bad input gets: a stable code, the phase, and nothing left open. */
import { EventEmitter, getEventListeners } from 'node:events';
import http from 'node:http';
import type net from 'node:net';
import { Duplex, PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import {
  type AcceptOptions,
  accept,
  type ConnectOptions,
  connect,
  createServer,
  type ShutdownOptions,
  type WaitOptions,
} from '../../../src/index.ts';
import { byteByByte, channel } from '../../../src/testing/channel.ts';
import { describeTls, type Identity, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  Log,
  only,
  pair,
  pairInMemory,
  pattern,
  readAll,
  rejection,
  VERSIONS,
} from '../../support/core-streams.ts';
import { freePort, listen, tcpPair } from '../../support/core-transport.ts';

/** A server that accepts with these options; resolves with what each accept rejected with. */
async function rejecting(scope: Scope, options: () => AcceptOptions) {
  let settle: (error: Error) => void = () => {};
  const failed = new Promise<Error>((resolve) => {
    settle = resolve;
  });
  const port = await listen(
    scope,
    (socket) => {
      accept(socket, options()).then((stream) => stream.abort(), settle);
    },
    { allowHalfOpen: true },
  );
  return { port, failed };
}

/** How many listeners an emitter has, by event. */
const listeners = (emitter: EventEmitter) =>
  Object.fromEntries(
    ['data', 'end', 'error', 'close', 'drain', 'finish', 'readable', 'pause', 'resume'].map(
      (name) => [name, emitter.listenerCount(name)],
    ),
  );

describeTls('no connection', () => {
  test(
    'a name without an address: ERR_TLS_RESOLVE',
    clean(async () => {
      const error = await rejection(
        connect({ host: 'nonexistent.invalid', port: 443, deadlines: { resolve: 20_000 } }),
      );
      expect(error).toMatchObject({ code: 'ERR_TLS_RESOLVE', phase: 'resolve' });
      expect((error.cause as { code?: string }).code).toMatch(/^(ENOTFOUND|EAI_AGAIN)$/);
    }),
  );

  test(
    'a resolver that never answers: ERR_TLS_TIMEOUT in the phase resolve',
    clean(async () => {
      const error = await rejection(
        connect({
          host: 'silent.invalid',
          port: 443,
          lookup: () => {},
          deadlines: { resolve: 20 },
        }),
      );
      expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'resolve' });
    }),
  );

  test(
    'a refused port: ERR_TLS_CONNECT',
    clean(async () => {
      const port = await freePort();
      const error = await rejection(connect({ host: '127.0.0.1', port }));
      expect(error).toMatchObject({
        code: 'ERR_TLS_CONNECT',
        phase: 'connect',
        cause: { code: 'ECONNREFUSED' },
      });
    }),
  );

  test(
    'a port refused at each of several addresses: ERR_TLS_CONNECT',
    clean(async () => {
      const port = await freePort();
      const error = await rejection(
        connect({
          host: 'several.invalid',
          port,
          lookup: (_host, _options, done) =>
            done(null, [
              { address: '127.0.0.1', family: 4 },
              { address: '127.0.0.2', family: 4 },
            ]),
        }),
      );
      expect(error).toMatchObject({ code: 'ERR_TLS_CONNECT', phase: 'connect' });
      expect(error.message).toContain('127.0.0.2');
    }),
  );

  test(
    'a path where no socket is: ERR_TLS_CONNECT',
    clean(async () => {
      const error = await rejection(connect({ path: '/nonexistent/socket' }));
      expect(error).toMatchObject({ code: 'ERR_TLS_CONNECT', phase: 'connect' });
    }),
  );
});

describeTls('no handshake', () => {
  test(
    'a port that accepts and stays silent: ERR_TLS_TIMEOUT in the phase handshake',
    clean(async (scope) => {
      const port = await listen(scope, (socket) => socket.resume());
      const error = await rejection(
        connect({ host: '127.0.0.1', port, deadlines: { handshake: 30 } }),
      );
      expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'handshake' });
      expect(error.closure?.verdict).toBe('timed-out');
    }),
  );

  test(
    'a client that connects and stays silent: ERR_TLS_TIMEOUT in the phase handshake',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope, { allowHalfOpen: false });
      near.resume();
      const error = await rejection(accept(far, { ...pki().server, deadlines: { handshake: 30 } }));
      expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'handshake' });
      expect(error.closure?.verdict).toBe('timed-out');
    }),
  );

  test(
    'an HTTP server on the port: ERR_TLS_HANDSHAKE with a hint',
    clean(async (scope) => {
      const server = http.createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      scope.defer(() => new Promise((resolve) => server.close(resolve)));
      const { port } = server.address() as net.AddressInfo;
      const error = await rejection(connect({ host: '127.0.0.1', port }));
      expect(error).toMatchObject({ code: 'ERR_TLS_HANDSHAKE', phase: 'handshake' });
      expect(error.hint).toContain('does not seem to speak TLS');
      // OpenSSL sends no alert to what does not look like TLS.
      expect(error.closure).toMatchObject({ verdict: 'aborted', alert: null });
      server.closeAllConnections();
    }),
  );

  test(
    'an HTTP client at our port: ERR_TLS_HANDSHAKE with a hint',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope, { allowHalfOpen: false });
      near.resume();
      near.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      const error = await rejection(accept(far, pki().server));
      expect(error).toMatchObject({ code: 'ERR_TLS_HANDSHAKE', phase: 'handshake' });
      expect(error.hint).toContain('does not seem to speak TLS');
    }),
  );

  for (const version of VERSIONS) {
    const cases: Array<[string, () => Identity, string]> = [
      ['expired', () => pki().expired, 'CERT_HAS_EXPIRED'],
      ['for another name', () => pki().otherName, 'ERR_TLS_CERT_ALTNAME_INVALID'],
      ['self-signed', () => pki().selfSigned, 'DEPTH_ZERO_SELF_SIGNED_CERT'],
    ];
    for (const [name, identity, code] of cases) {
      test(
        `${version}: a certificate that is ${name}: ERR_TLS_CERTIFICATE`,
        clean(async (scope) => {
          const { port, failed } = await rejecting(scope, () => ({
            ...identity(),
            ...only(version),
          }));
          void failed;
          const error = await rejection(
            connect({ host: 'localhost', port, family: 4, ca: pki().ca, ...only(version) }),
          );
          expect(error).toMatchObject({
            code: 'ERR_TLS_CERTIFICATE',
            phase: 'handshake',
            cause: { code },
          });
          expect(error.closure).toMatchObject({ verdict: 'aborted', sent: null, received: null });
        }),
      );
    }

    test(
      `${version}: verification is on by default, and rejectUnauthorized: false only reports`,
      clean(async (scope) => {
        const both = await pair(scope, version, {
          client: { rejectUnauthorized: false, ca: pki().ca },
          server: pki().expired,
        });
        expect(both.client.tls).toMatchObject({
          authorized: false,
          authorizationError: 'CERT_HAS_EXPIRED',
        });
        await closeBoth(both);
      }),
    );

    test(
      `${version}: no version in common: an alert at the client, ERR_TLS_HANDSHAKE at the server`,
      clean(async (scope) => {
        const [mine, other] = version === 'TLSv1.2' ? VERSIONS : [...VERSIONS].reverse();
        const { port, failed } = await rejecting(scope, () => ({
          ...pki().server,
          ...only(other as (typeof VERSIONS)[number]),
        }));
        const atClient = await rejection(
          connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(mine as typeof version) }),
        );
        expect(atClient).toMatchObject({ code: 'ERR_TLS_ALERT', phase: 'handshake' });
        expect(atClient.closure?.alert).toMatchObject({
          name: 'protocol_version',
          code: 70,
          direction: 'received',
          authenticated: false,
        });
        expect(await failed).toMatchObject({
          code: 'ERR_TLS_HANDSHAKE',
          phase: 'handshake',
          closure: { verdict: 'alert', alert: { name: 'protocol_version', direction: 'sent' } },
        });
      }),
    );
  }

  const suites = {
    'TLSv1.2': ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
    'TLSv1.3': ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384'],
  } as const;
  for (const version of VERSIONS) {
    test(
      `${version}: no cipher suite in common: handshake_failure at the client, ERR_TLS_HANDSHAKE at the server`,
      clean(async (scope) => {
        const [mine, theirs] = suites[version];
        const { port, failed } = await rejecting(scope, () => ({
          ...pki().server,
          ...only(version),
          ciphers: theirs,
        }));
        const atClient = await rejection(
          connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(version), ciphers: mine }),
        );
        expect(atClient).toMatchObject({ code: 'ERR_TLS_ALERT', phase: 'handshake' });
        expect(atClient.closure?.alert?.name).toBe('handshake_failure');
        expect(await failed).toMatchObject({ code: 'ERR_TLS_HANDSHAKE', phase: 'handshake' });
      }),
    );
  }

  test(
    'a record header that promises more than the maximum, instead of a ServerHello: ERR_TLS_HANDSHAKE',
    clean(async (scope) => {
      const port = await listen(scope, (socket) => {
        socket.resume();
        socket.write(Buffer.from([22, 3, 3, 0xff, 0xff]));
      });
      const error = await rejection(connect({ host: '127.0.0.1', port }));
      expect(error).toMatchObject({ code: 'ERR_TLS_HANDSHAKE', phase: 'handshake' });
      expect(error.closure?.verdict).toBe('alert');
    }),
  );

  test(
    'empty records without end, instead of a ServerHello: ERR_TLS_HANDSHAKE',
    clean(async (scope) => {
      const port = await listen(scope, (socket) => {
        socket.resume();
        for (let i = 0; i < 100; i++) socket.write(Buffer.from([22, 3, 3, 0, 0]));
      });
      const error = await rejection(connect({ host: '127.0.0.1', port }));
      expect(error).toMatchObject({ code: 'ERR_TLS_HANDSHAKE', phase: 'handshake' });
    }),
  );

  test(
    'close_notify in the clear, instead of a ServerHello, is no closure (RFC 9846 section 6.1 speaks of an established connection): ERR_TLS_ALERT',
    clean(async (scope) => {
      const port = await listen(scope, (socket) => {
        socket.resume();
        socket.end(Buffer.from([21, 3, 3, 0, 2, 1, 0]));
      });
      const error = await rejection(connect({ host: '127.0.0.1', port }));
      expect(error).toMatchObject({ code: 'ERR_TLS_ALERT', phase: 'handshake' });
      expect(error.closure).toMatchObject({ verdict: 'alert', received: null });
      expect(error.closure?.alert).toMatchObject({ name: 'close_notify', authenticated: false });
    }),
  );
});

describeTls('wrong options', () => {
  // biome-ignore lint/suspicious/noExplicitAny: wrong on purpose
  const wrong = (options: any): ConnectOptions => options;
  const objects = new PassThrough({ objectMode: true });
  const text = new PassThrough();
  text.setEncoding('utf8');
  const table: Array<[string, (port: number) => unknown]> = [
    ['nothing', () => undefined],
    ['null', () => null],
    ['a number', () => 5],
    ['no port', () => ({ host: '127.0.0.1' })],
    ['port as a word', () => ({ port: 'https' })],
    ['port 0', () => ({ port: 0 })],
    ['port 65536', () => ({ port: 65_536 })],
    ['port 1.5', () => ({ port: 1.5 })],
    ['port NaN', () => ({ port: Number.NaN })],
    ['host as number', (port) => ({ port, host: 5 })],
    ['an empty host', (port) => ({ port, host: '' })],
    ['a null host', (port) => ({ port, host: null })],
    ['an empty path', () => ({ path: '' })],
    ['path as number', () => ({ path: 5 })],
    ['a transport that is no stream', () => ({ transport: {} })],
    ['a transport that is only an emitter', () => ({ transport: new EventEmitter() })],
    ['a null transport', () => ({ transport: null })],
    ['a transport of objects', () => ({ transport: objects })],
    ['a transport of text', () => ({ transport: text })],
    ['a signal that is none', (port) => ({ port, signal: {} })],
    ['a null signal', (port) => ({ port, signal: null })],
    ['head as text', (port) => ({ port, head: 'bytes' })],
    ['a recorder without observe', (port) => ({ port, record: {} })],
    ['requireCloseNotify as text', (port) => ({ port, requireCloseNotify: 'no' })],
    ['an unknown answer', (port) => ({ port, answer: 'never' })],
    ['an unknown unread', (port) => ({ port, unread: 'drop' })],
    ['a negative unreadLimit', (port) => ({ port, unreadLimit: -1 })],
    ['unreadLimit NaN', (port) => ({ port, unreadLimit: Number.NaN })],
    ['deadlines as number', (port) => ({ port, deadlines: 5 })],
    ['null deadlines', (port) => ({ port, deadlines: null })],
    ['an unknown deadline', (port) => ({ port, deadlines: { hello: 5 } })],
    ['a deadline of 0', (port) => ({ port, deadlines: { read: 0 } })],
    ['a deadline as text', (port) => ({ port, deadlines: { connect: '5' } })],
    ['a deadline of NaN', (port) => ({ port, deadlines: { handshake: Number.NaN } })],
    ['a null deadline', (port) => ({ port, deadlines: { handshake: null } })],
    ['a lookup that is no function', (port) => ({ port, host: 'localhost', lookup: 5 })],
    ['family 7', (port) => ({ port, host: 'localhost', family: 7 })],
    ['a localAddress that is none', (port) => ({ port, localAddress: 'nowhere' })],
    ['localPort as text', (port) => ({ port, localPort: 'x' })],
    ['a CA that is a number', (port) => ({ port, ca: 5 })],
    ['an unknown version', (port) => ({ port, minVersion: 'TLSv9' })],
    ['ciphers of which none exists', (port) => ({ port, ciphers: 'NONE-OF-THESE' })],
    ['servername as number', (port) => ({ port, servername: 5 })],
    ['a key that is none', (port) => ({ port, cert: pki().client.cert, key: 'no key' })],
    [
      'a key of another certificate',
      (port) => ({ port, cert: pki().client.cert, key: pki().server.key }),
    ],
    ['a session that is text', (port) => ({ port, session: 'text' })],
    ['checkServerIdentity as text', (port) => ({ port, checkServerIdentity: 'yes' })],
    ['ALPNProtocols as number', (port) => ({ port, ALPNProtocols: 5 })],
  ];
  for (const [name, make] of table) {
    test(
      `connect with ${name}: ERR_TLS_OPTION`,
      clean(async (scope) => {
        const port = await listen(scope, (socket) => socket.resume());
        const given = make(port);
        const options =
          typeof given === 'object' && given !== null && 'port' in given
            ? { host: '127.0.0.1', ...given }
            : given;
        const error = await rejection(connect(wrong(options)));
        expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
      }),
    );
  }

  const accepts: Array<[string, unknown, unknown]> = [
    ['no transport', undefined, {}],
    ['a transport that is no stream', {}, {}],
    ['a transport of objects', new PassThrough({ objectMode: true }), {}],
    ['null options', new PassThrough(), null],
    ['a key that is none', new PassThrough(), { key: 'no key' }],
    ['an unknown version', new PassThrough(), { minVersion: 'TLSv9' }],
    ['an unknown answer', new PassThrough(), { answer: 5 }],
    ['a signal that is none', new PassThrough(), { signal: 5 }],
    ['SNICallback as text', new PassThrough(), { SNICallback: 'x' }],
  ];
  for (const [name, transport, options] of accepts) {
    test(
      `accept with ${name}: ERR_TLS_OPTION, and the transport is left alone`,
      clean(async () => {
        const before = transport instanceof Duplex ? listeners(transport) : null;
        const error = await rejection(accept(transport as Duplex, options as AcceptOptions));
        expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
        if (transport instanceof Duplex) {
          expect(listeners(transport)).toEqual(before);
          expect(transport.destroyed).toBe(false);
        }
      }),
    );
  }

  test('createServer with a key that is none, or without onStream: ERR_TLS_OPTION', () => {
    const wrongKey = () => createServer({ key: 'no key' }, () => {});
    expect(wrongKey).toThrow(expect.objectContaining({ code: 'ERR_TLS_OPTION' }));
    const noFunction = () => createServer(pki().server, 'x' as unknown as () => void);
    expect(noFunction).toThrow(expect.objectContaining({ code: 'ERR_TLS_OPTION' }));
  });

  test(
    'a given transport is left alone when TLS does not take its options',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      const before = listeners(near);
      const error = await rejection(connect({ transport: near, minVersion: 'TLSv9' as 'TLSv1.3' }));
      expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
      expect(listeners(near)).toEqual(before);
      expect(near.destroyed).toBe(false);
      near.destroy();
      far.destroy();
    }),
  );

  test(
    'read, write, shutdown and close with wrong options: ERR_TLS_OPTION, and the stream goes on',
    clean(async (scope) => {
      const both = await pairInMemory(scope, 'TLSv1.3');
      const { client } = both;
      const none = 5 as unknown as WaitOptions;
      const soon = { deadline: -1 };
      const signal = { signal: 'x' } as unknown as WaitOptions;
      for (const options of [none, soon, signal, null as unknown as WaitOptions]) {
        for (const call of [
          () => client.read(options),
          () => client.write('x', options),
          () => client.shutdown(options),
          () => client.close(options),
        ]) {
          expect(await rejection(call())).toMatchObject({
            code: 'ERR_TLS_OPTION',
            phase: 'options',
          });
        }
      }
      for (const data of [undefined, null, 5, {}, [1, 2], new ArrayBuffer(4)]) {
        const error = await rejection(client.write(data as unknown as string));
        expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
      }
      for (const options of [{ wait: 'yes' }, { unread: 'drop' }]) {
        const error = await rejection(client.shutdown(options as unknown as ShutdownOptions));
        expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
      }
      expect(client.closure.verdict).toBe('open');
      await closeBoth(both);
      expect(client.closure.verdict).toBe('secure');
    }),
  );
});

describeTls('cancelling', () => {
  const reason = new Error('changed my mind');

  test(
    'an already aborted signal: ABORT_ERR before anything is opened',
    clean(async (scope) => {
      let connections = 0;
      const port = await listen(scope, () => connections++);
      const error = await rejection(
        connect({ host: '127.0.0.1', port, signal: AbortSignal.abort(reason) }),
      );
      expect(error).toMatchObject({ code: 'ABORT_ERR', name: 'AbortError', cause: reason });
      expect(error.phase).not.toBeNull();
      await turn();
      expect(connections).toBe(0);
    }),
  );

  test(
    'an already aborted signal over a given transport: ABORT_ERR, no listener left, the transport closed',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      const before = [listeners(near), listeners(far)];
      const signal = AbortSignal.abort(reason);
      expect(await rejection(connect({ transport: near, signal }))).toMatchObject({
        code: 'ABORT_ERR',
        cause: reason,
      });
      expect(await rejection(accept(far, { ...pki().server, signal }))).toMatchObject({
        code: 'ABORT_ERR',
        cause: reason,
      });
      expect([listeners(near), listeners(far)]).toEqual(before);
      expect({ near: near.destroyed, far: far.destroyed }).toEqual({ near: true, far: true });
    }),
  );

  test(
    'while the name is resolved: ABORT_ERR in the phase resolve',
    clean(async () => {
      const controller = new AbortController();
      const connecting = connect({
        host: 'silent.invalid',
        port: 443,
        lookup: () => process.nextTick(() => controller.abort(reason)),
        signal: controller.signal,
      });
      expect(await rejection(connecting)).toMatchObject({
        code: 'ABORT_ERR',
        phase: 'resolve',
        cause: reason,
      });
    }),
  );

  test(
    'while the transport connects: ABORT_ERR in the phase connect',
    clean(async (scope) => {
      const port = await listen(scope, (socket) => socket.resume());
      const controller = new AbortController();
      const connecting = connect({
        host: '127.0.0.1',
        port,
        signal: controller.signal,
        // Called when the addresses are known; the connection is begun in the turn after it.
        record: {
          observe: ({ type }) => {
            if (type === 'phase') process.nextTick(() => controller.abort(reason));
          },
        },
      });
      expect(await rejection(connecting)).toMatchObject({
        code: 'ABORT_ERR',
        phase: 'connect',
        cause: reason,
      });
    }),
  );

  for (const side of ['client', 'server'] as const) {
    test(
      `during the handshake, as ${side}: ABORT_ERR in the phase handshake, verdict aborted`,
      clean(async (scope) => {
        const [near, far] = await tcpPair(scope, { allowHalfOpen: false });
        far.resume();
        const controller = new AbortController();
        const { signal } = controller;
        const before = listeners(near);
        const opening =
          side === 'client'
            ? connect({ transport: near, signal })
            : accept(near, { ...pki().server, signal });
        await turn();
        controller.abort(reason);
        const error = await rejection(opening);
        expect(error).toMatchObject({ code: 'ABORT_ERR', phase: 'handshake', cause: reason });
        expect(error.closure?.verdict).toBe('aborted');
        await until(
          "the transport's 'close' has been told",
          () => near.closed && near.listenerCount('close') === before['close'],
        );
        expect(listeners(near)).toEqual(before);
      }),
    );
  }

  test(
    'a call that is over has left no listener on its signal',
    clean(async (scope) => {
      const { signal } = new AbortController();
      const both = await pair(scope, 'TLSv1.3', { client: { signal }, server: { signal } });
      await both.client.write('x', { signal });
      await both.server.read({ signal });
      await rejection(both.client.read({ signal, deadline: 10 }));
      await Promise.all([both.client.shutdown({ signal }), both.server.shutdown({ signal })]);
      await Promise.all([both.client.close({ signal }), both.server.close({ signal })]);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    }),
  );

  for (const version of VERSIONS) {
    test(
      `${version}: during a read: ABORT_ERR, and no data is lost`,
      clean(async (scope) => {
        const both = await pair(scope, version);
        const controller = new AbortController();
        const reading = both.client.read({ signal: controller.signal });
        await turn();
        controller.abort(reason);
        expect(await rejection(reading)).toMatchObject({
          code: 'ABORT_ERR',
          phase: 'read',
          cause: reason,
        });
        expect(both.client.closure.verdict).toBe('open');
        await both.server.write('still here');
        expect(Buffer.from((await both.client.read()) as Uint8Array).toString()).toBe('still here');
        await closeBoth(both);
      }),
    );

    test(
      `${version}: an already aborted signal at read, write and shutdown: ABORT_ERR, nothing is sent`,
      clean(async (scope) => {
        const log = new Log();
        const both = await pair(scope, version, { client: { record: log } });
        const sent = () => log.of('record').filter(({ direction }) => direction === 'sent').length;
        const before = sent();
        const signal = AbortSignal.abort(reason);
        const calls = [
          ['read', () => both.client.read({ signal })],
          ['write', () => both.client.write('x', { signal })],
          ['shutdown', () => both.client.shutdown({ signal })],
        ] as const;
        const phases: Array<[string, unknown]> = [];
        for (const [name, call] of calls) {
          const error = await rejection(call());
          expect(error).toMatchObject({ code: 'ABORT_ERR', cause: reason });
          phases.push([name, error.phase]);
        }
        expect(sent()).toBe(before);
        expect(both.client.closure).toMatchObject({ verdict: 'open', send: 'open' });
        await closeBoth(both);
        expect(phases).toEqual(calls.map(([name]) => [name, name]));
      }),
    );

    test(
      `${version}: during a write: ABORT_ERR, and the bytes still arrive`,
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        const controller = new AbortController();
        let written = 0;
        const part = pattern(65_536);
        const writing = (async () => {
          for (;;) {
            written += part.length;
            await both.client.write(part, { signal: controller.signal });
          }
        })();
        let last = -1;
        await until('a write waits', () => {
          const same = last === written;
          last = written;
          return same;
        });
        for (let i = 0; i < 20; i++) await turn();
        controller.abort(reason);
        expect(await rejection(writing)).toMatchObject({
          code: 'ABORT_ERR',
          phase: 'write',
          cause: reason,
        });
        const reading = readAll(both.server);
        await both.client.shutdown({ wait: false });
        expect((await reading).length).toBe(written);
        await closeBoth(both);
      }),
    );

    test(
      `${version}: during a shutdown: ABORT_ERR, verdict aborted`,
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: { answer: 'when-told' } });
        const controller = new AbortController();
        const shutting = client.shutdown({ signal: controller.signal });
        expect(await server.read()).toBe(null);
        controller.abort(reason);
        const error = await rejection(shutting);
        expect(error).toMatchObject({ code: 'ABORT_ERR', phase: 'shutdown', cause: reason });
        expect(error.closure?.verdict).toBe('aborted');
        expect(client.closure.verdict).toBe('aborted');
        client.abort();
        server.abort();
      }),
    );

    test(
      `${version}: a shutdown whose deadline passes: ERR_TLS_TIMEOUT, verdict timed-out`,
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: { answer: 'when-told' } });
        const error = await rejection(client.shutdown({ deadline: 20 }));
        expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'shutdown' });
        expect(client.closure.verdict).toBe('timed-out');
        client.abort();
        server.abort();
        expect(client.closure.verdict).toBe('timed-out');
      }),
    );

    test(
      `${version}: a read whose deadline passes: ERR_TLS_TIMEOUT, verdict open, and the next read goes on`,
      clean(async (scope) => {
        const both = await pair(scope, version);
        const error = await rejection(both.client.read({ deadline: 10 }));
        expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'read' });
        expect(both.client.closure.verdict).toBe('open');
        await both.server.write('late');
        expect(await both.client.read()).toEqual(Buffer.from('late'));
        await closeBoth(both);
      }),
    );
  }
});

describeTls('calls at the wrong time', () => {
  for (const version of VERSIONS) {
    test(
      `${version}: two reads at once: ERR_TLS_READ_PENDING for the second, data for the first`,
      clean(async (scope) => {
        const both = await pair(scope, version);
        const first = both.client.read();
        const error = await rejection(both.client.read());
        expect(error).toMatchObject({ code: 'ERR_TLS_READ_PENDING', phase: 'read' });
        await both.server.write('one');
        expect(await first).toEqual(Buffer.from('one'));
        await closeBoth(both);
      }),
    );

    test(
      `${version}: write after shutdown: ERR_TLS_SHUTDOWN ("will not send any more messages", RFC 9846 section 6.1)`,
      clean(async (scope) => {
        const both = await pair(scope, version);
        const shutting = both.client.shutdown();
        expect(await rejection(both.client.write('x'))).toMatchObject({
          code: 'ERR_TLS_SHUTDOWN',
          phase: 'write',
        });
        await both.server.shutdown();
        await shutting;
        expect((await rejection(both.client.write('x'))).code).toBe('ERR_TLS_SHUTDOWN');
        await closeBoth(both);
        expect((await rejection(both.client.write('x'))).code).toMatch(
          /^ERR_TLS_(SHUTDOWN|ABORTED)$/,
        );
      }),
    );

    test(
      `${version}: read, write, shutdown after abort: ERR_TLS_ABORTED; abort twice and close are harmless`,
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        client.abort();
        expect(clientTransport.destroyed).toBe(true);
        client.abort();
        for (const call of [
          () => client.read(),
          () => client.write('x'),
          () => client.shutdown(),
        ]) {
          expect((await rejection(call())).code).toBe('ERR_TLS_ABORTED');
        }
        expect((await client.close()).verdict).toBe('aborted');
        expect((await rejection(server.read())).code).toBe('ERR_TLS_TRUNCATED');
        server.abort();
      }),
    );

    test(
      `${version}: abort while a read, a write and a shutdown wait: each rejects with ERR_TLS_ABORTED`,
      clean(async (scope) => {
        for (const call of ['read', 'write', 'shutdown'] as const) {
          const { client, server } = await pairInMemory(scope, version, {
            server: { answer: 'when-told' },
          });
          const waiting = {
            read: () => client.read(),
            write: () => client.write(pattern(4 * 1024 * 1024)),
            shutdown: () => client.shutdown(),
          }[call]();
          await turn();
          client.abort();
          expect((await rejection(waiting)).code).toBe('ERR_TLS_ABORTED');
          expect(client.closure.verdict).toBe('aborted');
          server.abort();
        }
      }),
    );

    test(
      `${version}: unwrap before shutdown, and after close: ERR_TLS_NOT_SHUTDOWN`,
      clean(async (scope) => {
        const both = await pair(scope, version);
        expect((await rejection(both.client.unwrap())).code).toBe('ERR_TLS_NOT_SHUTDOWN');
        await both.client.shutdown({ wait: false });
        expect((await rejection(both.server.unwrap())).code).toBe('ERR_TLS_NOT_SHUTDOWN');
        await closeBoth(both);
        expect((await rejection(both.client.unwrap())).code).toBe('ERR_TLS_NOT_SHUTDOWN');
      }),
    );

    test(
      `${version}: shutdown twice gives the same closure`,
      clean(async (scope) => {
        const both = await pair(scope, version);
        const [first, second] = await Promise.all([
          both.client.shutdown(),
          both.client.shutdown(),
          both.server.shutdown(),
        ]);
        expect(second).toBe(first);
        expect(await both.client.shutdown()).toBe(first);
        expect(both.client.closure).toBe(first);
        const [closed] = await Promise.all([both.client.close(), both.server.close()]);
        expect(await both.client.close()).toBe(closed);
        expect(closed.verdict).toBe('secure');
      }),
    );
  }
});

describeTls('bad bytes and a bad transport', () => {
  for (const version of VERSIONS) {
    test(
      `${version}: the transport destroyed underneath: ERR_TLS_ABORTED here, truncated there`,
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        const reading = client.read();
        clientTransport.destroy();
        expect((await rejection(reading)).code).toBe('ERR_TLS_ABORTED');
        expect(client.closure).toMatchObject({ verdict: 'aborted', transportEnd: 'destroyed' });
        expect((await rejection(client.write('x'))).code).toBe('ERR_TLS_ABORTED');
        expect((await rejection(client.shutdown())).code).toBe('ERR_TLS_ABORTED');
        expect((await client.close()).verdict).toBe('aborted');
        expect(await rejection(server.read())).toMatchObject({
          code: 'ERR_TLS_TRUNCATED',
          phase: 'open',
        });
        server.abort();
      }),
    );

    test(
      `${version}: the transport destroyed underneath while the handshake runs: ERR_TLS_ABORTED`,
      clean(async (scope) => {
        const [near, far] = await tcpPair(scope, { allowHalfOpen: false });
        far.resume();
        const connecting = connect({ transport: near, ...only(version) });
        await turn();
        near.destroy();
        const error = await rejection(connecting);
        expect(error.code).toBe('ERR_TLS_ABORTED');
        expect(error.closure?.verdict).toBe('aborted');
      }),
    );

    test(
      `${version}: the transport destroyed with an error: ERR_TLS_TRUNCATED with the error as cause`,
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        const cause = Object.assign(new Error('cable'), { code: 'ECABLE' });
        clientTransport.destroy(cause);
        const error = await rejection(client.read());
        expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED', phase: 'open', cause });
        expect(error.closure?.truncation).toEqual({
          where: 'record-boundary',
          cause: 'error',
          code: 'ECABLE',
        });
        server.abort();
        client.abort();
      }),
    );

    test(
      `${version}: a transport that was destroyed before: an error, no hang`,
      clean(async (scope) => {
        const [near, far] = await tcpPair(scope);
        near.destroy();
        far.destroy();
        const error = await rejection(connect({ transport: near, ...only(version) }));
        expect(error.code).toBe('ERR_TLS_ABORTED');
        const other = await rejection(accept(far, { ...pki().server, ...only(version) }));
        expect(other.code).toBe('ERR_TLS_ABORTED');
      }),
    );

    for (const [name, bytes] of [
      ['a record header that promises more than the maximum', [23, 3, 3, 0xff, 0xff]],
      ['an empty record', [23, 3, 3, 0, 0]],
      ['bytes that are no record', [...Buffer.from('HTTP/1.1 200 OK\r\n\r\n')]],
      ['a record that does not authenticate', [23, 3, 3, 0, 40, ...pattern(40)]],
      ['an alert in the clear', [21, 3, 3, 0, 2, 1, 0]],
    ] as const) {
      test(
        `${version}: ${name}, after the handshake: refused with ERR_TLS_ALERT, what came before stays readable`,
        clean(async (scope) => {
          const log = new Log();
          const { client, server, serverTransport } = await pair(scope, version, {
            server: { record: log },
          });
          await server.write('what came before it');
          // A protected record of 19 bytes, which is no Finished: behind it on the wire, not beside it.
          const length = version === 'TLSv1.3' ? 19 + 1 + 16 : 8 + 19 + 16;
          await until('the record is out', () =>
            log.of('record').some((one) => one.direction === 'sent' && one.length === length),
          );
          serverTransport.write(Buffer.from(bytes));
          expect(await client.read()).toEqual(Buffer.from('what came before it'));
          const error = await rejection(client.read());
          expect(error).toMatchObject({ code: 'ERR_TLS_ALERT', phase: 'open' });
          expect(error.closure).toMatchObject({ verdict: 'alert', received: null });
          expect(error.closure?.alert?.direction).toBe('sent');
          // "it SHOULD send an appropriate fatal alert and MUST close the connection" (RFC 9846
          // section 6.2).
          expect((await rejection(server.read())).code).toMatch(/^ERR_TLS_(ALERT|TRUNCATED)$/);
          client.abort();
          server.abort();
        }),
      );
    }

    test(
      `${version}: one byte at a time in both directions: everything works, unwrap and trailing data too`,
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, {
          transports: channel({ segments: byteByByte }).ends,
        });
        const data = pattern(5_000);
        await client.write(data);
        await server.write(data);
        const got: Buffer[] = [];
        while (Buffer.concat(got).length < data.length) got.push((await server.read()) as Buffer);
        expect(Buffer.concat(got).equals(data)).toBe(true);
        const [closure] = await Promise.all([client.shutdown(), server.shutdown()]);
        expect(closure).toMatchObject({ verdict: 'secure', late: data.length });
        expect((await readAll(client)).equals(data)).toBe(true);
        const far = await server.unwrap();
        far.transport.write('plain again');
        const near = await client.unwrap();
        const parts: Buffer[] = [Buffer.from(near.trailing)];
        near.transport.resume().on('data', (chunk) => parts.push(chunk));
        await until('plaintext', () => Buffer.concat(parts).toString() === 'plain again');
        near.transport.destroy();
        far.transport.destroy();
      }),
    );

    test(
      `${version}: writes of nothing are no records`,
      clean(async (scope) => {
        const both = await pair(scope, version);
        await both.client.write('');
        await both.client.write(new Uint8Array(0));
        await both.client.write('x');
        expect(await both.server.read()).toEqual(Buffer.from('x'));
        await closeBoth(both);
      }),
    );
  }
});
