/** The dialogues against servers that were not made for it. */
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ClientCertificateFinder } from '../../../src/client-cert/finder.ts';
import { namesOf } from '../../../src/client-cert/match.ts';
import { startTls } from '../../../src/starttls/starttls.ts';
import { connect } from '../../../src/stream/connect.ts';
import { testPki } from '../../support/interop-pki.ts';
import {
  REAL_SERVERS,
  type RealServer,
  type RunningServer,
  startServer,
} from '../../support/starttls-servers.ts';

async function open(port: number): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  return socket;
}

function withServer(server: RealServer, tls: boolean, body: (port: () => number) => void): void {
  let running: RunningServer | undefined;
  beforeAll(async () => {
    running = await startServer(server, tls);
  });
  afterAll(() => running?.stop());
  body(() => running!.port);
}

describe.each(REAL_SERVERS)('$protocol: $name', (server) => {
  const { protocol, binary } = server;
  if (binary === null) {
    const required = process.env['REQUIRE_PEERS'] === '1';
    test.skipIf(!required)(`needs ${server.name} (${server.package}), which is missing`, () => {
      throw new Error(`${server.package} is not installed, and REQUIRE_PEERS=1 asks for all peers`);
    });
    return;
  }

  describe('with TLS', () => {
    withServer(server, true, (port) => {
      test.each(['TLSv1.2', 'TLSv1.3'] as const)('goes on in %s', async (version) => {
        const { ca } = await testPki();
        const transport = await open(port());
        try {
          await startTls(transport, protocol, { host: 'localhost' });
          const stream = await connect({
            transport,
            ca,
            servername: 'localhost',
            minVersion: version,
            maxVersion: version,
          });
          expect(stream.tls).toMatchObject({ protocol: version, authorized: true });
          // Not waited for: some of these servers never answer, and that is not what is tested.
          const closure = await stream.shutdown({ wait: false });
          expect(closure.sent).not.toBeNull();
          stream.abort();
        } finally {
          transport.destroy();
        }
      });

      const asking = protocol === 'postgres' ? (['TLSv1.2', 'TLSv1.3'] as const) : [];
      test.each(asking)(
        'asks for a client certificate in %s, and the finder reads whose',
        async (version) => {
          const { ca, cert } = await testPki();
          const transport = await open(port());
          try {
            await startTls(transport, protocol, { host: 'localhost' });
            const found = await new ClientCertificateFinder().find(
              { transport, host: 'localhost' },
              { ca, minVersion: version, maxVersion: version },
            );
            expect(found).toMatchObject({ request: 'optional', when: 'handshake' });
            expect(found.issuers.toJSON()).toEqual([
              namesOf(new X509Certificate(cert)).subject.toJSON(),
            ]);
          } finally {
            transport.destroy();
          }
        },
      );

      test('the same with a signal that never fires and no deadline', async () => {
        const transport = await open(port());
        const { signal } = new AbortController();
        try {
          await startTls(transport, protocol, {
            host: 'localhost',
            signal,
            deadline: Number.POSITIVE_INFINITY,
          });
          const stream = await connect({ transport, rejectUnauthorized: false });
          expect(stream.tls.protocol).toBe('TLSv1.3');
          stream.abort();
        } finally {
          transport.destroy();
        }
      });
    });
  });

  describe('without TLS', () => {
    withServer(server, false, (port) => {
      test('says no, in words that are quoted', async () => {
        const transport = await open(port());
        try {
          await expect(startTls(transport, protocol, { host: 'localhost' })).rejects.toMatchObject({
            code: 'ERR_TLS_STARTTLS',
            phase: 'starttls',
            message: expect.stringMatching(server.refusal),
          });
        } finally {
          transport.destroy();
        }
      });
    });
  });
});
