/**
 * A stream's evidence is read, by either engine: what Node offers by default, each has to be able to read.
 *
 * RFC 9846 section 6.1: "Any data received after a closure alert has been received MUST be ignored." Only who reads
 * the alert itself knows that there was one.
 */
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { ecServer, identityOf, rsaServer, serverCa } from '../../support/cert-pki.ts';
import { clean } from '../../support/core-scope.ts';
import { pair, type Version } from '../../support/core-streams.ts';
import { listOf, PSK } from '../../support/suites.ts';

/** OpenSSL's names of all suites that a client of this Node offers when nothing was asked for. */
const OFFERED = tls
  .getCiphers()
  .map((suite) => suite.toUpperCase())
  .filter((suite) => tls.DEFAULT_CIPHERS.split(':').includes(suite));

/** What it has besides, and can be tried without a password or a weaker level of its own. */
const OTHERS = tls
  .getCiphers()
  .map((suite) => suite.toUpperCase())
  .filter((suite) => !OFFERED.includes(suite) && !/SRP|NULL|ANON|ADH|CCM8/.test(suite));

const ALL = [...OFFERED, ...OTHERS];

describe.each([
  ['tapped', 'record'],
  ['native', 'openssl'],
] as const)('the %s engine gives evidence %s for each suite of this Node', (engine, evidence) => {
  test('the default offer is known', () => {
    expect(OFFERED).toEqual(
      expect.arrayContaining([
        'TLS_AES_256_GCM_SHA384',
        'TLS_CHACHA20_POLY1305_SHA256',
        'TLS_AES_128_GCM_SHA256',
        'ECDHE-RSA-AES128-GCM-SHA256',
      ]),
    );
  });

  test.each(engine === 'tapped' ? ALL : ALL.filter((suite) => !suite.includes('PSK')))(
    '%s',
    (suite) =>
      clean(async (scope) => {
        const issuer = suite.includes('ECDSA') ? ecServer() : rsaServer();
        const version: Version = suite.startsWith('TLS_') ? 'TLSv1.3' : 'TLSv1.2';
        const ciphers = listOf(suite);
        const psk = suite.includes('PSK');
        const { client, server } = await pair(scope, version, {
          client: { engine, ca: serverCa().pem, ciphers, ...(psk ? PSK.client : {}) },
          server: {
            engine,
            ...identityOf(issuer),
            ciphers,
            dhparam: 'auto',
            ...(psk ? PSK.server : {}),
          },
        });
        await Promise.all([client.write(Buffer.alloc(40_000)), server.write(Buffer.from('hello'))]);
        await Promise.all([client.close(), server.close()]);
        for (const { closure } of [client, server]) {
          expect(closure).toMatchObject({
            verdict: 'secure',
            sent: { evidence },
            received: { evidence },
          });
        }
      })(),
  );
});
