/** What a TLS socket on a tap has besides Node's own: certificates while the server's names are judged. */
import tls from 'node:tls';
import { expect, test, vi } from 'vitest';
import { accept, CertificateError, connect } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { only, rejection, VERSIONS } from '../../support/core-streams.ts';
import { listen } from '../../support/core-transport.ts';

/** Node's own, which every TLS socket asks for its certificates. */
const handleOf = (socket: tls.TLSSocket) =>
  (socket as unknown as { _handle: { getPeerCertificate(detailed: boolean): unknown } })._handle;

async function serve(scope: Scope, identity = pki().server): Promise<number> {
  return listen(scope, async (socket) => {
    try {
      const stream = await accept(socket, { ...identity });
      await stream.read();
      await stream.close();
    } catch {
      // Seen at the client.
    }
  });
}

for (const version of VERSIONS) {
  describeTls(`${version}: the certificates of a server`, () => {
    test(
      'the chain is not looked up to judge names, and there for whoever asks later',
      clean(async (scope) => {
        const port = await serve(scope);
        const first = await connect({ host: 'localhost', port, ca: pki().ca, ...only(version) });
        const proto = Object.getPrototypeOf(handleOf(first.socket));
        await first.close();
        // Node takes true for the whole chain, false for the certificate alone.
        const asked = vi.spyOn(proto, 'getPeerCertificate');
        scope.defer(() => asked.mockRestore());
        const stream = await connect({ host: 'localhost', port, ca: pki().ca, ...only(version) });
        expect(stream.tls.authorized).toBe(true);
        expect(asked.mock.calls).toEqual([[false]]);
        const { issuerCertificate, subject } = stream.socket.getPeerCertificate(true);
        expect(subject.CN).toBe('server');
        expect(issuerCertificate.subject.CN).toBe(issuerCertificate.issuer.CN);
        expect(asked.mock.calls).toEqual([[false], [true]]);
        await stream.close();
      }),
    );

    test(
      'the error for a name that is not in the certificate has the whole chain',
      clean(async (scope) => {
        const port = await serve(scope, pki().otherName);
        const error = await rejection(
          connect({ host: 'localhost', port, ca: pki().ca, ...only(version) }),
        );
        expect(error).toBeInstanceOf(CertificateError);
        const { cert } = error.cause as { cert: tls.DetailedPeerCertificate };
        expect(cert.subject.CN).toBe('other');
        expect(Object.getOwnPropertyDescriptor(cert, 'issuerCertificate')).toHaveProperty('value');
        expect(cert.issuerCertificate.issuerCertificate).toBe(cert.issuerCertificate);
      }),
    );

    test(
      "a program's own check gets the whole chain, as from Node",
      clean(async (scope) => {
        const port = await serve(scope);
        const seen: tls.PeerCertificate[] = [];
        const stream = await connect({
          host: 'localhost',
          port,
          ca: pki().ca,
          ...only(version),
          checkServerIdentity: (_host, certificate) => {
            seen.push(certificate);
            return undefined;
          },
        });
        await stream.close();
        const [certificate] = seen as tls.DetailedPeerCertificate[];
        expect(Object.getOwnPropertyDescriptor(certificate, 'issuerCertificate')).toHaveProperty(
          'value',
        );
      }),
    );
  });
}

describeTls('a socket that somebody has given a push of its own, as tracing does', () => {
  test(
    'is used by that, and an end is told from a cut all the same',
    clean(async (scope) => {
      const original = tls.connect;
      let pushed = 0;
      const connecting = vi.spyOn(tls, 'connect');
      scope.defer(() => connecting.mockRestore());
      connecting.mockImplementation(((...args: Parameters<typeof tls.connect>) => {
        const socket = original(...args);
        const { push } = socket;
        socket.push = (chunk: unknown, encoding?: BufferEncoding) => {
          pushed++;
          return push.call(socket, chunk, encoding);
        };
        return socket;
      }) as typeof tls.connect);
      const port = await serve(scope);
      const stream = await connect({ host: 'localhost', port, ca: pki().ca });
      stream.socket.resume();
      await stream.shutdown();
      expect(stream.closure.verdict).toBe('secure');
      await stream.close();
      expect(pushed).toBeGreaterThan(0);
    }),
  );
});
