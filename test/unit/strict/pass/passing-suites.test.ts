/** A witness reads whatever Node negotiates, and says so where it cannot. */
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { connectPassing } from '../../../../src/strict/pass/passing.ts';
import { ecServer, identityOf, rsaServer, serverCa } from '../../../support/cert-pki.ts';
import { describeServer, sServer } from '../../../support/cert-servers.ts';
import { pki } from '../../../support/core-pki.ts';
import { clean, until } from '../../../support/core-scope.ts';
import { only, VERSIONS, type Version } from '../../../support/core-streams.ts';
import { known, listOf, PSK } from '../../../support/suites.ts';
import { client, type Life, live, Seen } from './passing-sockets.ts';

const CLOSE_NOTIFY = { level: 1, description: 0, authenticated: true };

function expectWhole({ client, server }: Pick<Life, 'client' | 'server'>): void {
  for (const { witness, seen } of [client, server]) {
    expect(witness.unreadable).toBeNull();
    expect(witness.received).toMatchObject(CLOSE_NOTIFY);
    expect(witness.sent).toMatchObject(CLOSE_NOTIFY);
    expect(witness.where).toBe('record-boundary');
    expect(seen.events).toEqual(['end', 'close']);
  }
}

/** OpenSSL's names of suites that Node offers only when asked to. */
const MORE = [
  ...['AES128-CCM', 'AES256-CCM8', 'ARIA128-GCM-SHA256', 'ARIA256-GCM-SHA384'],
  ...['CAMELLIA128-SHA', 'CAMELLIA256-SHA256', 'DHE-RSA-AES128-CCM', 'DHE-RSA-AES256-CCM8'],
  ...['ECDHE-ECDSA-AES128-CCM', 'ECDHE-ECDSA-AES256-CCM8', 'ECDHE-ECDSA-CAMELLIA256-SHA384'],
];

// Node has no way to give a password for SRP.
const SUITES = [...tls.getCiphers(), ...MORE]
  .map((suite) => suite.toUpperCase())
  .filter((suite) => !suite.includes('SRP') && known(suite));

describe('every suite that Node has', () => {
  test('is looked at', () => {
    expect(SUITES.length).toBeGreaterThan(55);
    const offered = tls.DEFAULT_CIPHERS.split(':').filter((one) => /^(TLS_|.*-SHA)/.test(one));
    for (const suite of offered) if (known(suite)) expect(SUITES).toContain(suite);
  });

  test.each(SUITES)('%s', (suite) =>
    clean(async (scope) => {
      const issuer = suite.includes('ECDSA') ? ecServer() : rsaServer();
      const version: Version = suite.startsWith('TLS_') ? 'TLSv1.3' : 'TLSv1.2';
      const options = { ...only(version), ciphers: listOf(suite) };
      const psk = suite.includes('PSK');
      const life = await live(
        scope,
        { ...identityOf(issuer), ...options, dhparam: 'auto', ...(psk ? PSK.server : {}) },
        { ...options, ca: serverCa().pem, ...(psk ? PSK.client : {}) },
        async ({ client: { socket, seen } }) => {
          expect(socket.getProtocol()).toBe(version);
          // Records of all lengths, those of alerts and KeyUpdates among them.
          for (let length = 0; length < 40; length++) socket.write(Buffer.alloc(length, 'x'));
          socket.write(Buffer.alloc(100_000, 'y'));
          const total = 4 + 780 + 100_000;
          await until('all is back', () => seen.data.length === total);
        },
      );
      expectWhole(life);
    })(),
  );
});

describe('what cannot be read', () => {
  const cases: ReadonlyArray<readonly [string, tls.SecureVersion, string, RegExp]> = [
    ['TLS 1.0', 'TLSv1', 'ECDHE-RSA-AES128-SHA:@SECLEVEL=0', /version.*0x301/],
    ['TLS 1.1', 'TLSv1.1', 'ECDHE-RSA-AES128-SHA:@SECLEVEL=0', /version.*0x302/],
    ['NULL', 'TLSv1.2', 'NULL-SHA256:@SECLEVEL=0', /suite.*0x3b/],
  ];
  test.each(cases)('%s', (_name, version, ciphers, reason) =>
    clean(async (scope) => {
      const options = { minVersion: version, maxVersion: version, ciphers };
      const life = await live(
        scope,
        { ...identityOf(rsaServer()), ...options },
        { ...options, ca: serverCa().pem },
      );
      for (const { witness, seen } of [life.client, life.server]) {
        expect(seen.events).toEqual(['end', 'close']);
        expect(witness.unreadable).toMatch(reason);
        expect(witness.received).toBeNull();
        expect(witness.sent).toBeNull();
        expect(witness.where).toBe('record-boundary');
      }
    })(),
  );
});

describe.each(VERSIONS)('%s', (version) => {
  test(
    'resumption',
    clean(async (scope) => {
      let session: Buffer | undefined;
      // Both connections are to one server, whose keys of tickets they need.
      const ticketKeys = Buffer.alloc(48, 7);
      const server = { ...only(version), ticketKeys };
      const first = await live(scope, server, only(version), async ({ client: { socket } }) => {
        session = socket.getSession();
      });
      expectWhole(first);
      const second = await live(
        scope,
        server,
        { ...only(version), session: session as Buffer },
        async (life) => {
          expect(life.client.socket.isSessionReused()).toBe(true);
        },
      );
      expectWhole(second);
    }),
  );

  test(
    'a client certificate, a chain of many records, and all that a server may be asked later',
    clean(async (scope) => {
      const server: tls.TlsOptions = {
        ...only(version),
        ca: pki().ca,
        requestCert: true,
        rejectUnauthorized: true,
        ALPNProtocols: ['one', 'two'],
        SNICallback: (_name, done) => {
          const context = { ...pki().server, ca: pki().ca, ...only(version) };
          setImmediate(() => done(null, tls.createSecureContext(context)));
        },
      };
      const life = await live(scope, server, {
        ...only(version),
        ...pki().client,
        ALPNProtocols: ['two'],
      });
      expect(life.server.socket.authorized).toBe(true);
      expectWhole(life);
    }),
  );

  test(
    'a handshake in small records',
    clean(async (scope) => {
      const life = await live(scope, only(version), only(version), async (both) => {
        both.server.socket.setMaxSendFragment(512);
        both.client.socket.setMaxSendFragment(512);
        both.client.socket.write(Buffer.alloc(20_000, 'z'));
        await until('back', () => both.client.seen.data.length === 20_004);
      });
      expectWhole(life);
    }),
  );
});

test(
  'a HelloRetryRequest',
  clean(async (scope) => {
    const life = await live(
      scope,
      { ...only('TLSv1.3'), ecdhCurve: 'P-384' },
      { ...only('TLSv1.3'), ecdhCurve: 'X25519:P-384' },
      async ({ client: { socket } }) => {
        expect(socket.getEphemeralKeyInfo()).toMatchObject({ name: 'secp384r1' });
      },
    );
    expectWhole(life);
  }),
);

test.each(['client', 'server'] as const)('renegotiation, begun by the %s', (by) =>
  clean(async (scope) => {
    const life = await live(
      scope,
      only('TLSv1.2'),
      only('TLSv1.2'),
      async ({ client: { socket, seen }, server }) => {
        const side = by === 'client' ? socket : server.socket;
        // Node ends a connection that renegotiates too often.
        for (let i = 1; i <= (by === 'client' ? 2 : 1); i++) {
          let done = false;
          side.renegotiate({}, (error) => {
            expect(error).toBeNull();
            done = true;
          });
          await until('renegotiated', () => done);
          socket.write('more');
          await until('more', () => seen.data.length === 4 + 4 * i);
        }
      },
    );
    expectWhole(life);
  })(),
);

describeServer('openssl', 'OpenSSL’s own server', () => {
  test(
    'renegotiates',
    clean(async (scope) => {
      const { port, process } = await sServer(scope, ['-tls1_2']);
      const { socket, witness } = connectPassing(client(port, { ca: serverCa().pem }));
      const seen = new Seen(socket);
      await process.until((output) => /^CIPHER is/m.exec(output));
      let secrets = 0;
      socket.on('keylog', () => secrets++);
      for (let i = 1; i <= 3; i++) {
        process.send('r');
        await until('renegotiated', () => secrets === i);
        process.send(`after ${i}`);
        await until('after', () => seen.data.includes(`after ${i}\n`));
      }
      // It closes without an alert, and ours goes out.
      process.send('q');
      await until('closed', () => seen.closed);
      expect(witness).toMatchObject({ unreadable: null, received: null, sent: CLOSE_NOTIFY });
    }),
  );

  test(
    'without encrypt-then-MAC (RFC 7366)',
    clean(async (scope) => {
      const suite = 'ECDHE-ECDSA-AES128-SHA256';
      const { port } = await sServer(scope, ['-tls1_2', '-cipher', suite, '-rev']);
      // SSL_OP_NO_ENCRYPT_THEN_MAC, which node:constants lacks.
      const secureOptions = 1 << 19;
      const { socket, witness } = connectPassing(
        client(port, { ca: serverCa().pem, secureOptions, ciphers: suite }),
      );
      const seen = new Seen(socket);
      socket.write('abc\n');
      await until('answer', () => seen.data.toString() === 'cba\n');
      socket.write('CLOSE\n');
      await until('closed', () => seen.closed);
      expect(witness).toMatchObject({ unreadable: null, received: CLOSE_NOTIFY });
    }),
  );
});
