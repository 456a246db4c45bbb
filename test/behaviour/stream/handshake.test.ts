/** Beginning a connection, in every way that there is. */
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import {
  type AcceptOptions,
  connect,
  createServer,
  type ServerOptions,
  Transcript,
} from '../../../src/index.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  Log,
  only,
  pair,
  pairInMemory,
  readAll,
  rejection,
  VERSIONS,
  type Version,
} from '../../support/core-streams.ts';
import { tcpPair } from '../../support/core-transport.ts';

/** A server of ours on a free port. */
async function serve(
  scope: Scope,
  version: Version,
  options: ServerOptions,
  onStream: (stream: TlsStream) => unknown,
) {
  // Without it, what onStream throws when a test ends would be an unhandled rejection.
  const onError = () => {};
  const server = createServer({ ...pki().server, ...only(version), onError, ...options }, onStream);
  scope.defer(() => server.close({ deadline: 0 }));
  const { port } = await server.listen(0, '127.0.0.1');
  return { server, port };
}

/** Sends back what it gets, then closes. */
const echo = async (stream: TlsStream) => {
  for await (const bytes of stream) await stream.write(bytes);
  await stream.close();
};

for (const version of VERSIONS) {
  describeTls(`${version}: connect`, () => {
    const trusting = { ...only(version), family: 4 as const };

    test(
      'resolves, connects and handshakes, and tells the observer of each phase in that order',
      clean(async (scope) => {
        const { port } = await serve(scope, version, {}, echo);
        const log = new Log();
        const stream = await connect({
          host: 'localhost',
          port,
          ca: pki().ca,
          ...trusting,
          record: log,
        });
        expect(log.of('phase').map(({ name }) => name)).toEqual([
          'resolve',
          'connect',
          'handshake',
        ]);
        expect(log.times).toEqual([...log.times].sort((a, b) => a - b));
        expect(log.seen[0]).toEqual({ type: 'phase', name: 'resolve' });
        expect(log.seen.findIndex(({ type }) => type === 'record')).toBe(2);
        expect(stream.tls).toMatchObject({
          protocol: version,
          alpn: null,
          servername: 'localhost',
          authorized: true,
          authorizationError: null,
          resumed: false,
        });
        expect(stream.closure).toMatchObject({
          verdict: 'open',
          initiator: null,
          sent: null,
          received: null,
          transportEnd: null,
          send: 'open',
        });
        expect((await stream.close()).verdict).toBe('secure');
      }),
    );

    test(
      'goes on to the next address of a host when the first does not answer',
      clean(async (scope) => {
        const { port } = await serve(scope, version, {}, (stream) => stream.close());
        const stream = await connect({
          host: 'localhost',
          port,
          ca: pki().ca,
          ...only(version),
          lookup: (_host, _options, done) =>
            done(null, [
              { address: '127.0.0.2', family: 4 },
              { address: '127.0.0.1', family: 4 },
            ]),
        });
        expect((await stream.close()).verdict).toBe('secure');
      }),
    );

    test(
      'connects to a Unix domain socket',
      clean(async () => {
        const path = join(tmpdir(), `close-notify-${process.pid}-${version}.sock`);
        const context = tls.createSecureContext(pki().server);
        const server = net.createServer((socket) => {
          const secure = new tls.TLSSocket(socket, { isServer: true, secureContext: context });
          secure.on('data', (bytes) => secure.end(bytes));
        });
        await new Promise<void>((resolve) => server.listen(path, resolve));
        const stream = await connect({ path, servername: 'localhost', ca: pki().ca, ...trusting });
        await stream.write('over a path');
        expect((await readAll(stream)).toString()).toBe('over a path');
        expect((await stream.close()).verdict).toBe('secure');
        // Its handle is a PipeWrap like those of its connections.
        await new Promise((resolve) => server.close(resolve));
      }),
    );

    test(
      'over a given TCP transport, and over a Duplex in memory that is no socket',
      clean(async (scope) => {
        for (const make of [pair, pairInMemory]) {
          const both = await make(scope, version);
          await both.client.write('to the server');
          expect(await both.server.read()).toEqual(Buffer.from('to the server'));
          await both.server.write('to the client');
          expect(await both.client.read()).toEqual(Buffer.from('to the client'));
          await closeBoth(both);
          expect(both.client.closure.verdict).toBe('secure');
          expect(both.server.closure.verdict).toBe('secure');
        }
      }),
    );

    test(
      'a transport of which bytes were read before goes on with `head`',
      clean(async (scope) => {
        const [near, far] = await tcpPair(scope);
        const connecting = connect({
          transport: near,
          host: 'localhost',
          ca: pki().ca,
          ...only(version),
        });
        const head = await new Promise<Buffer>((resolve) => far.once('data', resolve));
        far.pause();
        const { accept } = await import('../../../src/index.ts');
        const [client, server] = await Promise.all([
          connecting,
          accept(far, { ...pki().server, ...only(version), head }),
        ]);
        await Promise.all([client.close(), server.close()]);
        expect(client.closure.verdict).toBe('secure');
      }),
    );

    test(
      'the name of an IP address is not asked for, and the certificate is checked for the address',
      clean(async (scope) => {
        const { port } = await serve(scope, version, {}, (stream) => stream.close());
        const stream = await connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(version) });
        expect(stream.tls).toMatchObject({ servername: null, authorized: true });
        await stream.close();
      }),
    );

    test(
      'ALPN: the protocol that both have, the server choosing',
      clean(async (scope) => {
        const both = await pair(scope, version, {
          client: { ALPNProtocols: ['h2', 'http/1.1'] },
          server: { ALPNProtocols: ['http/1.1', 'x'] },
        });
        expect(both.client.tls.alpn).toBe('http/1.1');
        expect(both.server.tls.alpn).toBe('http/1.1');
        await closeBoth(both);
      }),
    );

    test(
      'ALPN: none in common ends the handshake with the alert no_application_protocol',
      clean(async (scope) => {
        const [near, far] = await tcpPair(scope);
        const { accept } = await import('../../../src/index.ts');
        const accepting = rejection(
          accept(far, { ...pki().server, ...only(version), ALPNProtocols: ['x'] }),
        );
        const error = await rejection(
          connect({
            transport: near,
            host: 'localhost',
            ca: pki().ca,
            ...only(version),
            ALPNProtocols: ['y'],
          }),
        );
        expect(error).toMatchObject({ code: 'ERR_TLS_ALERT', phase: 'handshake' });
        expect(error.closure?.alert).toMatchObject({ code: 120, name: 'no_application_protocol' });
        expect(await accepting).toMatchObject({ code: 'ERR_TLS_HANDSHAKE', phase: 'handshake' });
      }),
    );

    test(
      'SNI: the server answers with the certificate of the name that was asked for',
      clean(async (scope) => {
        const { port } = await serve(
          scope,
          version,
          {
            SNICallback: (name, done) => {
              const identity = name === 'other.example' ? pki().otherName : pki().server;
              done(null, tls.createSecureContext(identity));
            },
          },
          async (stream) => {
            await stream.write(stream.tls.servername ?? 'none');
            await stream.close();
          },
        );
        for (const servername of ['other.example', 'localhost']) {
          const stream = await connect({
            host: '127.0.0.1',
            port,
            servername,
            ca: pki().ca,
            ...only(version),
          });
          expect(stream.tls.servername).toBe(servername);
          expect((await readAll(stream)).toString()).toBe(servername);
          await stream.close();
        }
      }),
    );

    test(
      'resumption: a session that was kept is used again, and both sides say so',
      clean(async (scope) => {
        const seen: boolean[] = [];
        const { port } = await serve(scope, version, {}, async (stream) => {
          seen.push(stream.tls.resumed);
          await echo(stream);
        });
        const options = { host: 'localhost', port, ca: pki().ca, ...trusting };
        let onSession: (session: Uint8Array) => void = () => {};
        const session = new Promise<Uint8Array>((resolve) => {
          onSession = resolve;
        });
        const first = await connect({ ...options, onSession });
        await first.write('x');
        await first.read();
        const kept = version === 'TLSv1.3' ? await session : (first.getSession() as Uint8Array);
        await first.close();
        const second = await connect({ ...options, session: kept });
        expect(second.tls).toMatchObject({ resumed: true, authorized: true });
        await second.close();
        // What is no session is none to resume.
        const third = await connect({ ...options, session: Buffer.from('0123456789') });
        expect(third.tls).toMatchObject({ resumed: false, authorized: true });
        expect((await third.close()).verdict).toBe('secure');
        expect(first.tls.resumed).toBe(false);
        await until('all were seen', () => seen.length === 3);
        expect(seen).toEqual([false, true, false]);
      }),
    );
  });

  describeTls(`${version}: client certificates`, () => {
    const asking = { requestCert: true } as const;
    const get = (scope: Scope, server: AcceptOptions, client: object = {}) =>
      pair(scope, version, { server: { ca: pki().ca, ...asking, ...server }, client });

    test(
      'required and given: authorized',
      clean(async (scope) => {
        const both = await get(scope, {}, pki().client);
        expect(both.server.tls).toMatchObject({ authorized: true, authorizationError: null });
        expect(both.server.peerCertificate?.subject).toBe('CN=client');
        await closeBoth(both);
      }),
    );

    test(
      'optional and missing: established, and not authorized',
      clean(async (scope) => {
        const both = await get(scope, { rejectUnauthorized: false });
        expect(both.server.tls.authorized).toBe(false);
        await closeBoth(both);
      }),
    );

    test(
      'optional and from a stranger: established, not authorized, and why',
      clean(async (scope) => {
        const both = await get(scope, { rejectUnauthorized: false }, pki().stranger);
        expect(both.server.tls).toMatchObject({
          authorized: false,
          authorizationError: 'DEPTH_ZERO_SELF_SIGNED_CERT',
        });
        await closeBoth(both);
      }),
    );

    for (const [name, identity] of [
      ['missing', () => ({})],
      ['from a stranger', () => pki().stranger],
    ] as const) {
      test(
        `required and ${name}: the server rejects, and the client learns of it`,
        clean(async (scope) => {
          const failures: Error[] = [];
          const { port } = await serve(
            scope,
            version,
            { ca: pki().ca, ...asking, onError: (error) => failures.push(error) },
            echo,
          );
          const error = await rejection(
            connect({
              host: '127.0.0.1',
              port,
              ca: pki().ca,
              ...only(version),
              ...identity(),
            }).then(async (stream) => {
              // TLS 1.3: the client is done before the server has looked at its certificate.
              expect(version).toBe('TLSv1.3');
              try {
                return await stream.read();
              } finally {
                await stream.close().catch(() => {});
              }
            }),
          );
          await until('the server has failed', () => failures.length > 0);
          if (name === 'missing') {
            expect(error).toMatchObject({
              code: 'ERR_TLS_ALERT',
              phase: version === 'TLSv1.3' ? 'open' : 'handshake',
            });
            // RFC 9846 section 4.4.2.4: "the server MAY at its discretion either continue the handshake without client
            // authentication or abort the handshake with a 'certificate_required' alert." Both parties tell of it.
            const alert =
              version === 'TLSv1.3'
                ? { code: 116, name: 'certificate_required', authenticated: true }
                : { code: 40, name: 'handshake_failure', authenticated: false };
            expect(error.closure?.alert).toMatchObject(alert);
            expect(failures[0]).toMatchObject({
              code: 'ERR_TLS_HANDSHAKE',
              phase: 'handshake',
              closure: { verdict: 'alert', alert: { ...alert, direction: 'sent' } },
            });
          } else {
            expect(error.code).toMatch(/^ERR_TLS_(TRUNCATED|ALERT)$/);
            expect(failures[0]).toMatchObject({ code: 'ERR_TLS_CERTIFICATE', phase: 'handshake' });
          }
          expect(failures.length).toBe(1);
        }),
      );
    }
  });

  describeTls(`${version}: createServer`, () => {
    test(
      'hands out streams, tells how many connections are open, and stops',
      clean(async (scope) => {
        const { server, port } = await serve(scope, version, {}, echo);
        expect(server.port).toBe(port);
        const streams = await Promise.all(
          [1, 2, 3].map(() => connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(version) })),
        );
        expect(server.connections).toBe(3);
        for (const stream of streams) {
          await stream.write('hello');
          expect(await stream.read()).toEqual(Buffer.from('hello'));
          expect((await stream.close()).verdict).toBe('secure');
        }
        await server.close();
        expect(server.connections).toBe(0);
        expect((await rejection(connect({ host: '127.0.0.1', port }))).code).toBe(
          'ERR_TLS_CONNECT',
        );
      }),
    );

    test(
      'an onStream that throws: its stream is aborted, onError is told, the server goes on',
      clean(async (scope) => {
        const failures: Error[] = [];
        const oops = new Error('oops');
        const { port } = await serve(
          scope,
          version,
          { onError: (error) => failures.push(error) },
          () => {
            throw oops;
          },
        );
        for (let i = 1; i <= 2; i++) {
          const stream = await connect({
            host: '127.0.0.1',
            port,
            ca: pki().ca,
            ...only(version),
          });
          expect((await rejection(stream.read())).code).toBe('ERR_TLS_TRUNCATED');
          await until('onError is told', () => failures.length === i);
          await stream.close();
        }
        expect(failures).toEqual([oops, oops]);
      }),
    );

    test(
      'a port in use: listen rejects, and listening can be tried again',
      clean(async (scope) => {
        const { port } = await serve(scope, version, {}, echo);
        const second = createServer(pki().server, echo);
        await expect(second.listen(port, '127.0.0.1')).rejects.toMatchObject({
          code: 'EADDRINUSE',
        });
        await second.listen(0, '127.0.0.1');
        await second.close();
      }),
    );

    test(
      'close({ deadline: 0 }) and `await using` drop open connections',
      clean(async (scope) => {
        let stream: TlsStream;
        {
          await using server = createServer(
            { ...pki().server, ...only(version), onError: () => {} },
            echo,
          );
          const { port } = await server.listen(0, '127.0.0.1');
          stream = await connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(version) });
        }
        expect((await rejection(stream.read())).code).toBe('ERR_TLS_TRUNCATED');
        stream.abort();
        void scope;
      }),
    );

    test(
      'record: true makes a transcript for each connection',
      clean(async (scope) => {
        const seen: Array<Transcript | null> = [];
        const { port } = await serve(scope, version, { record: true }, async (stream) => {
          seen.push(stream.transcript);
          await stream.close();
        });
        for (let i = 0; i < 2; i++) {
          const stream = await connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(version) });
          await stream.close();
        }
        expect(seen.length).toBe(2);
        expect(seen[0]).toBeInstanceOf(Transcript);
        expect(seen[0]?.toJSON().entries.length).toBeGreaterThan(0);
        expect(seen[1]).not.toBe(seen[0]);
      }),
    );

    test(
      'record makes an observer for each connection',
      clean(async (scope) => {
        const logs: Log[] = [];
        const { port } = await serve(
          scope,
          version,
          {
            record: () => {
              const log = new Log();
              logs.push(log);
              return log;
            },
          },
          echo,
        );
        for (let i = 0; i < 2; i++) {
          const stream = await connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(version) });
          await stream.close();
        }
        expect(logs.length).toBe(2);
        for (const log of logs) {
          expect(log.of('phase')).toEqual([
            { type: 'phase', name: 'handshake', protocol: version },
          ]);
          expect(log.of('close-notify').length).toBe(2);
        }
      }),
    );
  });
}
