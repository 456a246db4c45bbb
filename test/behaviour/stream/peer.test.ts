/** What a stream knows of its peer, of its keys, and of its transport. */
import { X509Certificate } from 'node:crypto';
import type net from 'node:net';
import type { TLSSocket } from 'node:tls';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { PeerOfSocket } from '../../../src/engine/peer.ts';
import { connect, type TlsStream } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, until } from '../../support/core-scope.ts';
import { closeBoth, pair, pairInMemory, rejection, VERSIONS } from '../../support/core-streams.ts';

for (const version of VERSIONS) {
  describeTls(`${version}: the peer`, () => {
    test(
      'its certificate and chain, on both sides, kept behind the end once asked for',
      clean(async (scope) => {
        const { ca, client: identity } = pki();
        const both = await pairInMemory(scope, version, {
          client: identity,
          server: { requestCert: true, ca },
        });
        const { client, server } = both;
        expect(client.peerCertificate?.fingerprint256).toBe(
          new X509Certificate(pki().server.cert).fingerprint256,
        );
        expect(server.peerCertificate?.subject).toBe('CN=client');
        expect(client.peerCertificateChain.map(({ subject }) => subject)).toEqual([
          'CN=server',
          'CN=close-notify test CA',
        ]);
        const { peerCertificate: before } = client;
        await closeBoth(both);
        expect(client.peerCertificate).toBe(before);
        expect(client.peerCertificateChain.length).toBe(2);
      }),
    );

    test(
      '`socket` is gone, and says what to use',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        expect(() => (both.client as unknown as { socket: unknown }).socket).toThrow(
          expect.objectContaining({
            code: 'ERR_TLS_REMOVED',
            hint: expect.stringMatching(/toDuplex\(\).*secureSocket\(\)/),
          }),
        );
        // Nobody who only looks at a stream runs into it.
        expect(inspect(both.client)).toContain(version);
        expect({ ...both.client }).toEqual({});
        await closeBoth(both);
      }),
    );

    test(
      'none: null, and an empty chain; nothing throws behind the end',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        const { client, server } = both;
        expect(server.peerCertificate).toBe(null);
        expect(server.peerCertificateChain).toEqual([]);
        await closeBoth(both);
        expect(client.peerCertificate).toBe(null);
        expect(client.peerCertificateChain).toEqual([]);
        expect(client.getSession()).toBe(null);
        expect(client.exportKeyingMaterial(16, 'EXPORTER-test')).toBe(null);
      }),
    );

    test(
      'both sides export the same keying material, for each label and context another',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        const { client, server } = both;
        const ask = (stream: TlsStream) => [
          stream.exportKeyingMaterial(32, 'EXPORTER-one'),
          stream.exportKeyingMaterial(32, 'EXPORTER-two'),
          stream.exportKeyingMaterial(32, 'EXPORTER-one', new Uint8Array([1, 2])),
        ];
        const exported = ask(client);
        expect(ask(server)).toEqual(exported);
        expect(new Set(exported.map(String)).size).toBe(3);
        expect(exported.every((bytes) => bytes?.length === 32)).toBe(true);
        for (const wrong of [
          [0, 'EXPORTER-one'],
          [1.5, 'EXPORTER-one'],
          [32, 5],
          [32, 'EXPORTER-one', 'text'],
        ]) {
          expect(() => client.exportKeyingMaterial(...(wrong as [number, string]))).toThrow(
            expect.objectContaining({ code: 'ERR_TLS_OPTION' }),
          );
        }
        await closeBoth(both);
      }),
    );

    test(
      'onSession hears of sessions, and one of them resumes',
      clean(async (scope) => {
        const sessions: Uint8Array[] = [];
        // Each `accept` has a context of its own here; what they share is the key of their tickets.
        const server = { ticketKeys: Buffer.alloc(48, 7) };
        const first = await pairInMemory(scope, version, {
          client: { onSession: (session) => sessions.push(session) },
          server,
        });
        await first.server.write('x');
        await first.client.read();
        await until('a session has come', () => sessions.length > 0);
        expect(first.client.getSession()).not.toBe(null);
        await closeBoth(first);
        const session = sessions[0] as Uint8Array;
        expect(session).toBeInstanceOf(Uint8Array);
        const second = await pairInMemory(scope, version, {
          client: { session: Buffer.from(session) },
          server,
        });
        expect([first.client.tls.resumed, second.client.tls.resumed]).toEqual([false, true]);
        await closeBoth(second);
        expect(
          await rejection(connect({ host: 'localhost', port: 1, onSession: 5 as never })),
        ).toMatchObject({ code: 'ERR_TLS_OPTION' });
      }),
    );

    test(
      'addresses and options of the transport; none in memory',
      clean(async (scope) => {
        const tcp = await pair(scope, version);
        const { remotePort, localPort } = tcp.clientTransport as net.Socket;
        expect(tcp.client).toMatchObject({
          remoteAddress: '127.0.0.1',
          remoteFamily: 'IPv4',
          localAddress: '127.0.0.1',
          localFamily: 'IPv4',
          remotePort,
          localPort,
        });
        expect(tcp.server.remotePort).toBe(localPort);
        expect(tcp.client.setNoDelay().setKeepAlive(true, 1_000).unref().ref()).toBe(tcp.client);
        await closeBoth(tcp);
        const memory = await pairInMemory(scope, version);
        expect(memory.client.remoteAddress).toBe(undefined);
        expect(memory.client.localPort).toBe(undefined);
        memory.client.setNoDelay().setKeepAlive().unref().ref();
        await closeBoth(memory);
      }),
    );

    test(
      'console.log shows who it is, and how it stands',
      clean(async (scope) => {
        const both = await pair(scope, version);
        const { client, server } = both;
        const { port } = (both.clientTransport as net.Socket).address() as net.AddressInfo;
        expect(inspect(client)).toBe(
          `TlsStream { client ${version} ${client.tls.cipher}, peer localhost 127.0.0.1:${client.remotePort}, open }`,
        );
        expect(inspect(server)).toBe(
          `TlsStream { server ${version} ${client.tls.cipher}, peer 127.0.0.1:${port}, open }`,
        );
        await closeBoth(both);
        expect(inspect(client)).toMatch(/, secure }$/);
        expect(inspect(client).split('\n').length).toBe(1);
      }),
    );

    test(
      'closed: after close, after abort, after unwrap, after a reset that nobody heard of',
      clean(async (scope) => {
        const closed = await pair(scope, version);
        await closeBoth(closed);
        expect(await closed.client.closed).toBe(closed.client.closure);
        expect(closed.clientTransport.destroyed).toBe(true);

        const aborted = await pairInMemory(scope, version);
        aborted.client.abort();
        expect((await aborted.client.closed).verdict).toBe('aborted');
        aborted.server.abort();

        const unwrapped = await pairInMemory(scope, version);
        await Promise.all([unwrapped.client.shutdown(), unwrapped.server.shutdown()]);
        await unwrapped.client.unwrap();
        expect(await unwrapped.client.closed).toMatchObject({ transportEnd: 'released' });
        await unwrapped.server.unwrap();

        const reset = await pairInMemory(scope, version);
        reset.server.abort();
        expect((await reset.client.closed).verdict).toBe('truncated');
      }),
    );
  });
}

test('a runtime that lacks members has nothing to tell, and throws nothing', () => {
  const bare = {} as TLSSocket;
  const unable = () => {
    throw new Error('not implemented');
  };
  const refusing = {
    getPeerCertificate: unable,
    getSession: unable,
    exportKeyingMaterial: unable,
  } as unknown as TLSSocket;
  for (const socket of [bare, refusing, null]) {
    const peer = new PeerOfSocket(() => socket);
    expect(peer.certificate()).toBe(null);
    expect(peer.certificates()).toEqual([]);
    expect(peer.session()).toBe(null);
    expect(peer.exportKeyingMaterial(16, 'EXPORTER-test')).toBe(null);
  }
});
