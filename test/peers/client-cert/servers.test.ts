/** nginx, Apache httpd and GnuTLS asking for certificates, and taking the one that fits. */
import { describe, expect, test } from 'vitest';
import { ClientCertificateFinder } from '../../../src/client-cert/finder.ts';
import {
  clientCertificateSelector,
  loadIdentities,
  matchIdentities,
} from '../../../src/client-cert/index.ts';
import { connect } from '../../../src/index.ts';
import { hex } from '../../../src/record/handshake.ts';
import { certificate, commonName, keyPem } from '../../support/cert-der.ts';
import {
  caNamed,
  intermediate,
  root,
  serverCa,
  testFile,
  variedNames,
} from '../../support/cert-pki.ts';
import { apache, describeServer, gnutlsServ, nginx } from '../../support/cert-servers.ts';
import { clean } from '../../support/core-scope.ts';
import { only, readAll, rejection, VERSIONS } from '../../support/core-streams.ts';
import { dersOf, find, listedByClient, markersOf } from './find.ts';

const names = variedNames(7);
const caFile = () => testFile('cas.pem', names.map((one) => caNamed(one).pem).join(''));

describeServer('nginx', 'nginx', () => {
  describe.each(VERSIONS)('%s', (version) => {
    // nginx never insists in the handshake: with "on" it answers the request with an error 400.
    test.each(['on', 'optional', 'optional_no_ca'])('ssl_verify_client %s', (verify) =>
      clean(async (scope) => {
        const { port } = await nginx(scope, [
          `ssl_client_certificate ${caFile()};`,
          `ssl_verify_client ${verify};`,
        ]);
        for (const http of [undefined, '/']) {
          const result = await find(port, { ...only(version), http });
          expect(result).toMatchObject({ request: 'optional', when: 'handshake' });
          expect(dersOf(result)).toEqual(names.map(hex));
        }
      })(),
    );

    test('ssl_verify_client off', () =>
      clean(async (scope) => {
        const { port } = await nginx(scope, []);
        expect(await find(port, { ...only(version), http: '/' })).toMatchObject({
          request: 'none',
          when: null,
        });
      })());

    test('the identity that is called usable is taken, in the order of the matches', () =>
      clean(async (scope) => {
        const { port } = await nginx(scope, [
          `ssl_client_certificate ${testFile('root.pem', root().pem)};`,
          ...['ssl_verify_client on;', 'ssl_verify_depth 3;'],
        ]);
        const { certificateRequest } = await find(port, only(version));
        const file = (
          issuer = intermediate(),
          chain = intermediate().pem,
          to = '20490101000000Z',
        ) => {
          const leaf = certificate({ subject: commonName('client'), issuer, to });
          return testFile('id.pem', leaf.pem + keyPem(leaf.keys) + chain);
        };
        const stranger = caNamed(commonName('stranger'));
        const paths = [
          file(stranger, ''),
          file(intermediate(), ''),
          file(intermediate(), intermediate().pem, '20210101000000Z'),
          file(),
        ];
        // Each on its own: together they would complete each other's chains.
        const identities = (await Promise.all(paths.map((path) => loadIdentities(path)))).flat();
        const matches = matchIdentities(identities, certificateRequest);
        expect(matches.map(({ usable }) => usable)).toEqual([true, false, false, false]);
        for (const { identity, usable } of matches) {
          const stream = await connect({
            ...{ host: 'localhost', port, ca: serverCa().pem },
            ...only(version),
            ...identity.options,
          });
          await stream.write('GET / HTTP/1.0\r\n\r\n');
          const answer = (await readAll(stream)).toString();
          await stream.close();
          expect(/^HTTP\/1.1 200 [\s\S]*hello SUCCESS/.test(answer), answer).toBe(usable);
        }
      })());
  });
});

describeServer('apache', 'Apache httpd', () => {
  describe.each(VERSIONS)('%s', (version) => {
    test.each<readonly [string, string]>([
      ['require', 'required'],
      ['optional', 'optional'],
      ['none', 'none'],
    ])('SSLVerifyClient %s', (verify, request) =>
      clean(async (scope) => {
        const { port } = await apache(scope, [
          `SSLCACertificateFile ${caFile()}`,
          `SSLVerifyClient ${verify}`,
        ]);
        const result = await find(port, only(version));
        expect(result.request).toBe(request);
        // It sorts them; `openssl s_client` says how.
        expect(dersOf(result).sort()).toEqual((request === 'none' ? [] : names.map(hex)).sort());
        expect(markersOf(result.issuers)).toEqual(
          request === 'none' ? [] : markersOf(await listedByClient(port, version)),
        );
      })(),
    );
  });

  const location = (verify: string) => [
    `SSLCACertificateFile ${caFile()}`,
    `<Location /private>`,
    `  SSLVerifyClient ${verify}`,
    '</Location>',
  ];

  test.each<readonly [string, string]>([
    ['require', 'required'],
    ['optional', 'optional'],
  ])('TLS 1.2, %s for a path only: by renegotiation', (verify, request) =>
    clean(async (scope) => {
      const { port } = await apache(scope, location(verify));
      const options = only('TLSv1.2');
      expect(await find(port, options)).toMatchObject({ request: 'none', when: null });
      expect(await find(port, { ...options, http: '/' })).toMatchObject({
        request: 'none',
        limitation: null,
      });
      const result = await find(port, { ...options, http: '/private' });
      expect(result).toMatchObject({ request, when: 'renegotiation', authorized: true });
      expect(dersOf(result).sort()).toEqual(names.map(hex).sort());
    })(),
  );

  test.each(['AES128-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305'])(
    'TLS 1.2, by renegotiation with %s',
    (suite) =>
      clean(async (scope) => {
        const { port } = await apache(scope, location('require'));
        const ciphers = suite.startsWith('AES') ? 'ECDHE-ECDSA-AES128-SHA256' : suite;
        const result = await find(port, { ...only('TLSv1.2'), http: '/private', ciphers });
        expect(result).toMatchObject({ request: 'required', when: 'renegotiation' });
        expect(dersOf(result).sort()).toEqual(names.map(hex).sort());
      })(),
  );

  test.each<readonly [string, string]>([
    ['require', 'required'],
    ['optional', 'optional'],
  ])('TLS 1.3, %s for a path only: behind the handshake', (verify, request) =>
    clean(async (scope) => {
      const { port } = await apache(scope, location(verify));
      const options = { ...only('TLSv1.3'), engine: 'native' } as const;
      expect(await find(port, options)).toMatchObject({ request: 'none', when: null });
      expect(await find(port, { ...options, http: '/' })).toMatchObject({
        request: 'none',
        limitation: null,
      });
      const result = await find(port, { ...options, http: '/private' });
      expect(result).toMatchObject({
        ...{ request, when: 'post-handshake', limitation: null, authorized: true },
        certificateTypes: null,
      });
      expect(dersOf(result).sort()).toEqual(names.map(hex).sort());
    })(),
  );

  test(
    'TLS 1.3, for a path only, tapped: what cannot be looked at is told',
    clean(async (scope) => {
      const { port } = await apache(scope, location('require'));
      const options = { ...only('TLSv1.3'), engine: 'tapped' } as const;
      const result = await find(port, { ...options, http: '/private' });
      expect(result).toMatchObject({ request: 'none', when: null });
      expect(result.limitation).toMatch(/TLS 1\.3.*Node/);
      expect((await find(port, options)).limitation).toBeNull();
    }),
  );

  test.each(VERSIONS)(
    '%s, for a path only: the native engine presents what is asked for',
    (version) =>
      clean(async (scope) => {
        const { port } = await apache(scope, [
          `SSLCACertificateFile ${testFile('root.pem', root().pem)}`,
          ...['SSLVerifyDepth 3', '<Location /private>', 'SSLVerifyClient require', '</Location>'],
        ]);
        const leaf = certificate({ subject: commonName('client'), issuer: intermediate() });
        const file = testFile('id.pem', leaf.pem + keyPem(leaf.keys) + intermediate().pem);
        const select = clientCertificateSelector(await loadIdentities(file));
        for (const answers of [true, false]) {
          let asked = 0;
          const stream = await connect({
            ...{ host: 'localhost', port, ca: serverCa().pem, engine: 'native' },
            ...only(version),
            clientCertificate: async (request, context) => {
              asked += 1;
              expect(request.authorities.map(hex)).toEqual([hex(root().subject)]);
              return answers ? select(request, context) : null;
            },
          });
          expect(asked).toBe(0);
          await stream.write(
            'GET /private HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
          );
          if (answers) {
            // Nothing is there, and so the server says to a client that it has let in.
            expect((await readAll(stream)).toString()).toMatch(/^HTTP\/1.1 404 /);
          } else {
            const error = await rejection(readAll(stream));
            expect(error).toMatchObject({ code: 'ERR_TLS_ALERT', closure: { verdict: 'alert' } });
          }
          await stream.close();
          expect(asked).toBe(1);
        }
      })(),
  );

  test(
    'an IPv6 address: its Host is in brackets, so that the request is a good one',
    clean(async (scope) => {
      const { port } = await apache(scope, location('require'), '[::1]');
      const result = await new ClientCertificateFinder({ ca: serverCa().pem }).find(
        { host: '::1', port },
        { ...only('TLSv1.2'), http: '/private' },
      );
      expect(result).toMatchObject({ request: 'required', when: 'renegotiation' });
    }),
  );
});

describeServer('gnutls', 'gnutls-serv', () => {
  const priority = {
    'TLSv1.2': 'NORMAL:-VERS-ALL:+VERS-TLS1.2',
    'TLSv1.3': 'NORMAL:-VERS-ALL:+VERS-TLS1.3',
  } as const;

  describe.each(VERSIONS)('%s', (version) => {
    test.each<readonly [string, readonly string[], string]>([
      ['--require-client-cert', ['--require-client-cert', '--verify-client-cert'], 'required'],
      ['asking only', [], 'optional'],
      ['--disable-client-cert', ['--disable-client-cert'], 'none'],
    ])('%s', (_, args, request) =>
      clean(async (scope) => {
        const { port } = await gnutlsServ(scope, [
          ...['--priority', priority[version], '--x509cafile', caFile(), '--echo', ...args],
        ]);
        const result = await find(port, only(version));
        expect(result.request).toBe(request);
        // GnuTLS keeps its trust list in an order of its own.
        expect(new Set(dersOf(result))).toEqual(new Set(request === 'none' ? [] : names.map(hex)));
      })(),
    );
  });
});
