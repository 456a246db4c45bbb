/** What `openssl s_server` asks for, against what `openssl s_client` prints of it; and our own server. */
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { ClientCertificateFinder } from '../../../src/client-cert/finder.ts';
import { createServer, type ServerOptions } from '../../../src/index.ts';
import { hex } from '../../../src/record/handshake.ts';
import { certificate, commonName } from '../../support/cert-der.ts';
import {
  caNamed,
  ecServer,
  identityOf,
  root,
  rsaServer,
  serverCa,
  testFile,
  variedNames,
} from '../../support/cert-pki.ts';
import { describeServer, sServer } from '../../support/cert-servers.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { Log, only, rejection, VERSIONS } from '../../support/core-streams.ts';
import { freePort, listen } from '../../support/core-transport.ts';
import { dersOf, find, listedByClient, markersOf } from './find.ts';

const flags = { 'TLSv1.2': '-tls1_2', 'TLSv1.3': '-tls1_3' } as const;
const caFile = (names: readonly Uint8Array[]) =>
  testFile('cas.pem', names.map((one) => caNamed(one).pem).join(''));

describeServer('openssl', 'openssl s_server', () => {
  describe.each(VERSIONS)('%s', (version) => {
    test.each([0, 1, 3, 250])('-verify and -Verify, %d names', (count) =>
      clean(async (scope) => {
        const names = variedNames(count);
        for (const verify of ['-verify', '-Verify']) {
          const { port } = await sServer(scope, [
            ...[flags[version], verify, '4'],
            ...(count === 0 ? ['-no-CAfile', '-no-CApath'] : ['-CAfile', caFile(names)]),
          ]);
          const result = await find(port);
          expect(result).toMatchObject({
            request: verify === '-verify' ? 'optional' : 'required',
            when: 'handshake',
            limitation: null,
            tls: { protocol: version },
          });
          expect(result.certificateRequest).not.toBeNull();
          expect(dersOf(result)).toEqual(names.map(hex));
          expect(result.signatureAlgorithms).toContain('ecdsa_secp256r1_sha256');
          expect(result.certificateTypes).toEqual(
            version === 'TLSv1.2' ? ['rsa_sign', 'dss_sign', 'ecdsa_sign'] : null,
          );
          const listed = await listedByClient(port, version);
          expect(markersOf(result.issuers)).toEqual(markersOf(listed));
        }
      })(),
    );

    test('without either: none, which is not an empty list', () =>
      clean(async (scope) => {
        const { port } = await sServer(scope, [flags[version], '-CAfile', caFile(variedNames(3))]);
        expect(await find(port)).toMatchObject({
          request: 'none',
          when: null,
          certificateRequest: null,
          signatureAlgorithms: [],
          authorized: true,
          closure: { verdict: 'secure' },
        });
      })());

    test('the text of plain names is that of s_client', () =>
      clean(async (scope) => {
        // Names whose values are text of no type that OpenSSL prints in its own way.
        const names = variedNames(21).filter((_, i) => [0, 2, 3, 6].includes(i % 7));
        const { port } = await sServer(scope, [
          ...[flags[version], '-verify', '4', '-CAfile', caFile(names)],
        ]);
        const result = await find(port);
        expect([...result.issuers].map(String)).toEqual(await listedByClient(port, version));
      })());

    test('asked again: the same names', () =>
      clean(async (scope) => {
        const names = variedNames(3);
        const args = [flags[version], '-verify', '4', '-CAfile', caFile(names)];
        const { port } = await sServer(scope, args);
        for (let i = 0; i < 3; i++) expect(dersOf(await find(port))).toEqual(names.map(hex));
      })());
  });

  test.each(
    tls
      .getCiphers()
      .map((suite) => suite.toUpperCase())
      .filter((suite) => !/PSK|SRP|^DHE/.test(suite)),
  )('3 names, %s', (suite) =>
    clean(async (scope) => {
      const names = variedNames(3);
      const server = suite.includes('ECDSA') ? ecServer() : rsaServer();
      const tls13 = suite.startsWith('TLS_');
      const { port } = await sServer(
        scope,
        [
          ...[tls13 ? '-tls1_3' : '-tls1_2', '-Verify', '4', '-CAfile', caFile(names)],
          ...(tls13
            ? ['-ciphersuites', suite, '-cipher', 'DEFAULT:@SECLEVEL=0']
            : ['-cipher', `${suite}:@SECLEVEL=0`]),
        ],
        server,
      );
      const result = await find(port, {
        ...only(tls13 ? 'TLSv1.3' : 'TLSv1.2'),
        // The suites of TLS 1.3 are set apart; some other has to be left.
        ciphers: tls13 ? `${suite}:DEFAULT:@SECLEVEL=0` : `${suite}:@SECLEVEL=0`,
      });
      expect(result.request).toBe('required');
      if (tls13) expect(result.tls?.cipher).toBe(suite);
      expect(dersOf(result)).toEqual(names.map(hex));
    })(),
  );

  test(
    'HelloRetryRequest',
    clean(async (scope) => {
      const names = variedNames(3);
      const { port } = await sServer(scope, [
        ...['-tls1_3', '-Verify', '4', '-CAfile', caFile(names), '-groups', 'P-384'],
      ]);
      const result = await find(port, { ecdhCurve: 'X25519:P-384' });
      expect(result.request).toBe('required');
      expect(dersOf(result)).toEqual(names.map(hex));
    }),
  );
});

describe.each(VERSIONS)('our own server, %s', (version) => {
  const serve = async (scope: Scope, options: Partial<ServerOptions>) => {
    const server = createServer(
      { ...identityOf(ecServer()), ...only(version), onError: () => {}, ...options },
      async (stream) => {
        for await (const _ of stream);
        await stream.close();
      },
    );
    scope.defer(() => server.close({ deadline: 0 }));
    return (await server.listen(0, '127.0.0.1')).port;
  };

  test(
    'none',
    clean(async (scope) => {
      expect(await find(await serve(scope, {}))).toMatchObject({
        request: 'none',
        closure: { verdict: 'secure' },
      });
    }),
  );

  test(
    'asks, and insists or not: Node itself looks only after the handshake',
    clean(async (scope) => {
      const names = variedNames(5);
      const ca = names.map((one) => caNamed(one).pem).join('');
      const optional = await find(
        await serve(scope, { requestCert: true, rejectUnauthorized: false, ca }),
      );
      expect(optional.request).toBe('optional');
      expect(dersOf(optional)).toEqual(names.map(hex));
      const required = await find(await serve(scope, { requestCert: true, ca }));
      expect(['required', 'unknown']).toContain(required.request);
      expect(dersOf(required)).toEqual(names.map(hex));
    }),
  );

  test(
    'the observer of the caller is told everything too',
    clean(async (scope) => {
      const port = await serve(scope, { requestCert: true, rejectUnauthorized: false });
      const log = new Log();
      const secrets: string[] = [];
      let bytes = 0;
      await find(port, {
        record: {
          observe: (observation, at) => log.observe(observation, at),
          onBytes: (_, more) => {
            bytes += more.length;
          },
          onSecret: (line) => secrets.push(line),
        },
      });
      expect(log.of('close-notify').map(({ direction }) => direction)).toEqual([
        'sent',
        'received',
      ]);
      expect(bytes).toBeGreaterThan(500);
      expect(secrets[0]).toMatch(/^[A-Z_0-9]+ [0-9a-f]{64} /);
    }),
  );
});

describe('limits and errors', () => {
  test(
    'a server that says nothing: the deadline',
    clean(async (scope) => {
      scope.peersStay();
      const port = await listen(scope, (socket) => socket.resume());
      const error = await rejection(find(port, { deadlines: { handshake: 100 } }));
      expect(error.code).toBe('ERR_TLS_TIMEOUT');
    }),
  );

  test(
    'nobody there',
    clean(async () => {
      expect((await rejection(find(await freePort()))).code).toMatch(/^ERR_TLS_CONNECT/);
    }),
  );

  test.each(['options', 'defaults'] as const)('a signal, in the %s: AbortError', (where) =>
    clean(async (scope) => {
      scope.peersStay();
      const controller = new AbortController();
      const port = await listen(scope, (socket) => {
        socket.resume();
        controller.abort(new Error('enough'));
      });
      const finder = new ClientCertificateFinder(
        where === 'defaults' ? { signal: controller.signal } : {},
      );
      const error = await rejection(
        finder.find(
          { host: 'localhost', port },
          where === 'options' ? { signal: controller.signal } : {},
        ),
      );
      expect(error).toMatchObject({ code: 'ABORT_ERR', cause: { message: 'enough' } });
    })(),
  );

  test.each(['options', 'defaults'] as const)(
    'a signal while waiting for the answer of --http, in the %s: AbortError',
    (where) =>
      clean(async (scope) => {
        scope.peersStay();
        const controller = new AbortController();
        const server = createServer(identityOf(ecServer()), async (stream) => {
          await stream.read();
          controller.abort();
          await new Promise(() => {});
        });
        scope.defer(() => server.close({ deadline: 0 }));
        const { port } = await server.listen(0, '127.0.0.1');
        const signal = { signal: controller.signal };
        const finder = new ClientCertificateFinder({
          ...(where === 'defaults' ? signal : {}),
          deadlines: { read: 2_000 },
          ca: serverCa().pem,
          http: '/',
        });
        const error = await rejection(
          finder.find({ host: 'localhost', port }, where === 'options' ? signal : {}),
        );
        expect(error.code).toBe('ABORT_ERR');
      })(),
  );

  test.each(['private', '/with space', '/line\r\nend', '', '/ü'])('http: %j is no path', (http) =>
    clean(async () => {
      const error = await rejection(find(1, { http }));
      expect(error.code).toBe('ERR_TLS_OPTION');
    })(),
  );

  test.each(VERSIONS)(
    '%s: a server certificate that does not verify: ERR_TLS_CERTIFICATE',
    (version) =>
      clean(async (scope) => {
        const stranger = certificate({ subject: commonName('localhost'), altNames: true });
        for (const reject of [true, false]) {
          const server = createServer(
            {
              ...identityOf(stranger),
              ...only(version),
              ...{ requestCert: true, rejectUnauthorized: false, ca: root().pem },
              onError: () => {},
            },
            async (stream) => {
              for await (const _ of stream);
              await stream.close();
            },
          );
          scope.defer(() => server.close({ deadline: 0 }));
          const { port } = await server.listen(0, '127.0.0.1');
          if (reject) {
            expect((await rejection(find(port))).code).toBe('ERR_TLS_CERTIFICATE');
          } else {
            const result = await find(port, { rejectUnauthorized: false });
            expect(result).toMatchObject({
              request: 'optional',
              authorized: false,
              authorizationError: 'DEPTH_ZERO_SELF_SIGNED_CERT',
            });
          }
        }
      })(),
  );

  test.each(
    VERSIONS.flatMap((version) => [[version, 'native'] as const, [version, 'tapped'] as const]),
  )(
    '%s, %s: where it requires a certificate, TLS 1.2 ends before the tapped engine can judge the server',
    (version, engine) =>
      clean(async (scope) => {
        const stranger = certificate({ subject: commonName('localhost'), altNames: true });
        const { port } = await sServer(
          scope,
          [flags[version], '-Verify', '4', '-CAfile', caFile(variedNames(1))],
          stranger,
        );
        if (version === 'TLSv1.3' || engine === 'native') {
          expect((await rejection(find(port, { engine }))).code).toBe('ERR_TLS_CERTIFICATE');
        } else {
          expect(await find(port, { engine })).toMatchObject({
            request: 'required',
            authorized: null,
          });
        }
      })(),
  );
});
