/** KeyUpdates against OpenSSL's own programs, which say what they got: `k` and `K` have them send one. */
import { expect, test } from 'vitest';
import { connect, createServer } from '../../../src/index.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import { ecServer, identityOf, serverCa } from '../../support/cert-pki.ts';
import { describeServer, sServer } from '../../support/cert-servers.ts';
import { clean } from '../../support/core-scope.ts';
import { only } from '../../support/core-streams.ts';
import { PeerProcess } from '../../support/interop-process.ts';

/** With `-msg`, each KeyUpdate in either direction. */
const updates = (output: string, arrow: '<<<' | '>>>') =>
  output.match(new RegExp(`^${arrow} TLS 1\\.3, Handshake \\[length 0005\\], KeyUpdate`, 'gm'))
    ?.length ?? 0;

/** Ours, theirs, with and without a request, and text in both directions behind each. */
async function exchange(stream: TlsStream, peer: PeerProcess): Promise<void> {
  const said = async (text: string) => {
    peer.send(text);
    let got = '';
    while (!got.includes('\n')) got += Buffer.from((await stream.read()) ?? []).toString();
    expect(got).toBe(`${text}\n`);
    await stream.write(`answer to ${text}\n`);
    await peer.until((output) => output.includes(`answer to ${text}\n`) || null);
  };
  await said('first');
  await stream.updateKeys();
  await said('second');
  expect([updates(peer.output, '<<<'), updates(peer.output, '>>>')]).toEqual([1, 0]);
  await stream.updateKeys({ request: true });
  await said('third');
  await said('fourth');
  expect([updates(peer.output, '<<<'), updates(peer.output, '>>>')]).toEqual([2, 1]);
  // OpenSSL answers a request with its next application data, as the RFC permits.
  peer.send('K');
  await peer.until((output) => updates(output, '>>>') === 2 || null);
  await said('fifth');
  await said('sixth');
  expect([updates(peer.output, '<<<'), updates(peer.output, '>>>')]).toEqual([3, 2]);
}

describeServer('openssl', 'KeyUpdate', () => {
  test('with s_server', () =>
    clean(async (scope) => {
      const { port, process } = await sServer(scope, ['-tls1_3', '-msg']);
      const stream = await connect({
        ...{ host: 'localhost', port, ca: serverCa().pem, engine: 'native' },
        ...only('TLSv1.3'),
      });
      await process.until((output) => /^CIPHER is/m.exec(output));
      await exchange(stream, process);
      expect((await stream.close()).verdict).toBe('secure');
    })());

  test('with s_client', () =>
    clean(async (scope) => {
      let established: (stream: TlsStream) => void = () => {};
      const streams = new Promise<TlsStream>((resolve) => {
        established = resolve;
      });
      const server = createServer(
        { ...identityOf(ecServer()), ...only('TLSv1.3'), engine: 'native' },
        (stream) => established(stream),
      );
      scope.defer(() => server.close({ deadline: 0 }));
      const { port } = await server.listen(0, '127.0.0.1');
      const child = new PeerProcess('openssl', [
        ...['s_client', '-connect', `127.0.0.1:${port}`, '-tls1_3', '-msg'],
      ]);
      scope.defer(() => child.kill());
      scope.peersStay();
      const stream = await streams;
      await child.until((output) => output.includes('read R BLOCK') || null);
      await exchange(stream, child);
      expect((await stream.close()).verdict).toMatch(/^(secure|one-sided)$/);
    })());
});
