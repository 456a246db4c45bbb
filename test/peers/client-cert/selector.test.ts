import { describe, expect, test } from 'vitest';
import {
  ClientCertificateFinder,
  clientCertificateSelector,
  type FindOptions,
  loadIdentities,
} from '../../../src/client-cert/index.ts';
import { type ConnectOptions, connect } from '../../../src/index.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import { type CertificateFields, certificate, commonName, keyPem } from '../../support/cert-der.ts';
import { intermediate, otherRoot, root, serverCa, testFile } from '../../support/cert-pki.ts';
import { describeServer, sServer } from '../../support/cert-servers.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { only, rejection, VERSIONS } from '../../support/core-streams.ts';

const flags = { 'TLSv1.2': '-tls1_2', 'TLSv1.3': '-tls1_3' } as const;

async function load(...all: ReadonlyArray<Partial<CertificateFields>>) {
  return loadIdentities(
    all.map((fields) => {
      const leaf = certificate({
        subject: commonName('client'),
        issuer: intermediate(),
        ...fields,
      });
      return testFile('id.pem', leaf.pem + intermediate().pem + keyPem(leaf.keys));
    }),
  );
}

const GOOD = { extendedKeyUsage: ['1.3.6.1.5.5.7.3.2'] };
const EXPIRED = { to: '20210101000000Z' };
const SERVER_ONLY = { extendedKeyUsage: ['1.3.6.1.5.5.7.3.1'] };
const STRANGER = () => ({ issuer: otherRoot() });

/** The native engine is asked within the handshake; the tapped one makes a connection before, to see the request. */
const CASES = VERSIONS.flatMap((version) => [
  { version, engine: 'native', connections: 1 } as const,
  { version, engine: 'tapped', connections: 2 } as const,
]);

describeServer('openssl', 'clientCertificateSelector', () => {
  describe.each(CASES)('$version, $engine', ({ version, engine, connections }) => {
    const start = (scope: Scope, ...args: string[]) =>
      sServer(scope, [
        ...[flags[version], '-verify_return_error', '-CAfile', testFile('root.pem', root().pem)],
        ...['-rev', ...args],
      ]);
    const through = (
      port: number,
      clientCertificate: ConnectOptions['clientCertificate'],
      more: ConnectOptions = {},
    ) =>
      connect({ host: 'localhost', port, ca: serverCa().pem, engine, clientCertificate, ...more });
    const accepting = ['-naccept', String(connections)];
    /** An echo proves that the server took what it was given. */
    const works = async (stream: TlsStream) => {
      await stream.write('abc\n');
      expect(Buffer.from((await stream.read()) ?? []).toString()).toBe('cba\n');
      await stream.close();
    };
    const established = (output: string) => output.match(/CONNECTION ESTABLISHED/g)?.length ?? 0;

    test(`one identity: ${connections} connections, as with several`, () =>
      clean(async (scope) => {
        const { port, process } = await start(scope, '-verify', '4', ...accepting);
        await works(await through(port, clientCertificateSelector(await load(GOOD))));
        await process.ended();
        expect(established(process.output)).toBe(connections);
        expect(process.output).toMatch(/CN ?= ?client\b/);
      })());

    test('one identity that is not usable: judged as two are', () =>
      clean(async (scope) => {
        const identities = await load(EXPIRED);
        const { port } = await start(scope, '-Verify', '4');
        const error = await rejection(through(port, clientCertificateSelector(identities)));
        expect(error.code).toBe('ERR_TLS_IDENTITY');
        expect(error.message).toMatch(/valid only until/);

        const optional = await start(scope, '-verify', '4', ...accepting);
        await works(await through(optional.port, clientCertificateSelector(identities)));
        await optional.process.ended();
        expect(optional.process.output).not.toMatch(/CN ?= ?client\b/);
      })());

    test('the finder records as connect does', () =>
      clean(async (scope) => {
        const { port } = await start(scope, '-verify', '4', '-naccept', '2');
        const find = (record: FindOptions['record']) =>
          new ClientCertificateFinder({ ca: serverCa().pem, engine, record }).find({
            host: 'localhost',
            port,
          });
        const { transcript, request } = await find(true);
        expect(request).toBe('optional');
        expect(transcript?.entries.length).toBeGreaterThan(4);
        expect(JSON.stringify(transcript)).toContain('certificate_request');
        // Nothing was cut.
        expect((await find('on-truncation')).transcript).toBeNull();
        const error = await rejection(find('all' as never));
        expect(error.message).toContain('record must be');
      })());

    test('several: as many, and the usable one is taken', () =>
      clean(async (scope) => {
        const { port, process } = await start(scope, '-verify', '4', ...accepting);
        const identities = await load(STRANGER(), EXPIRED, GOOD, SERVER_ONLY);
        await works(await through(port, clientCertificateSelector(identities)));
        expect(await process.ended()).toBe('exit 0');
        expect(established(process.output)).toBe(connections);
        expect(process.output).toMatch(/CN ?= ?client\b/);
      })());

    test('several, where the server requires one', () =>
      clean(async (scope) => {
        const { port } = await start(scope, '-Verify', '4', ...accepting);
        const identities = await load(EXPIRED, GOOD);
        await works(await through(port, clientCertificateSelector(identities)));
      })());

    test('required, and none usable: ERR_TLS_IDENTITY with the reasons, and no other connection', () =>
      clean(async (scope) => {
        const { port, process } = await start(scope, '-Verify', '4', '-naccept', '1');
        const identities = await load(EXPIRED, STRANGER());
        const error = await rejection(through(port, clientCertificateSelector(identities)));
        expect(error.code).toBe('ERR_TLS_IDENTITY');
        expect(error.message).toContain(identities[0]?.source);
        expect(error.message).toMatch(/valid only until/);
        expect(error.message).toMatch(/none of the names/);
        expect(established(process.output)).toBe(0);
      })());

    test('required, and there are no identities', () =>
      clean(async (scope) => {
        const { port } = await start(scope, '-Verify', '4');
        const error = await rejection(through(port, clientCertificateSelector([])));
        expect(error.code).toBe('ERR_TLS_IDENTITY');
      })());

    test('optional, and none usable: without a certificate', () =>
      clean(async (scope) => {
        const { port, process } = await start(scope, '-verify', '4', ...accepting);
        const identities = await load(EXPIRED, STRANGER());
        await works(await through(port, clientCertificateSelector(identities)));
        await process.ended();
        expect(established(process.output)).toBe(connections);
        expect(process.output).not.toMatch(/CN ?= ?client\b/);
      })());

    test('not asked: without a certificate', () =>
      clean(async (scope) => {
        const { port, process } = await start(scope, ...accepting);
        await works(await through(port, clientCertificateSelector(await load(GOOD, GOOD))));
        await process.ended();
        expect(process.output).not.toMatch(/CN ?= ?client\b/);
      })());

    test('the one usable is accepted; those refused for issuer, time or purpose are refused by OpenSSL', () =>
      clean(async (scope) => {
        const { port } = await start(scope, '-Verify', '4');
        const wrong = [EXPIRED, SERVER_ONLY, STRANGER(), { from: '20480101000000Z' }];
        for (const identity of await load(...wrong)) {
          const attempt = (async () => {
            const stream = await connect({
              ...{ host: 'localhost', port, ca: serverCa().pem },
              ...identity.options,
            });
            await works(stream);
          })();
          const { code } = await rejection(attempt);
          expect(code).toMatch(/^ERR_TLS_(ALERT|TRUNCATED)$/);
        }
        const [good] = await load(GOOD);
        await works(
          await connect({
            ...{ host: 'localhost', port, ca: serverCa().pem },
            ...good?.options,
          }),
        );
      })());
  });

  test(
    'one identity without a key: not usable',
    clean(async (scope) => {
      const { port } = await sServer(scope, [
        ...['-Verify', '4', '-CAfile', testFile('root.pem', root().pem), '-tls1_3'],
      ]);
      const leaf = certificate({ subject: commonName('client'), issuer: root() });
      const identities = await loadIdentities(testFile('id.pem', leaf.pem));
      const error = await rejection(
        connect({
          ...{ host: 'localhost', port, ca: serverCa().pem },
          clientCertificate: clientCertificateSelector(identities),
        }),
      );
      expect(error.code).toBe('ERR_TLS_IDENTITY');
      expect(error.message).toContain('no private key');
    }),
  );

  test(
    'what is recorded is the connection that is handed out',
    clean(async (scope) => {
      const { port } = await sServer(scope, [
        ...['-Verify', '4', '-CAfile', testFile('root.pem', root().pem), '-tls1_3'],
      ]);
      const identities = await load(GOOD, EXPIRED);
      const phases: string[] = [];
      const stream = await connect({
        ...{ host: 'localhost', port, ca: serverCa().pem, ...only('TLSv1.3') },
        clientCertificate: clientCertificateSelector(identities),
        record: {
          observe: (one) => {
            if (one.type === 'phase') phases.push(one.name);
          },
        },
      });
      await stream.close();
      expect(phases.filter((name) => name === 'handshake')).toHaveLength(1);
    }),
  );
});
