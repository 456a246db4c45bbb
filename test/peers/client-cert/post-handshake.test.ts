/**
 * TLS 1.3 servers that ask behind the handshake.
 *
 * RFC 9846 section 4.7.2: "When the client has sent the "post_handshake_auth" extension, a server MAY request
 * certificate-based client authentication at any time after the handshake has completed".
 */
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadIdentities } from '../../../src/client-cert/index.ts';
import { type ClientCertificateOption, connect } from '../../../src/index.ts';
import { hex } from '../../../src/record/handshake.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import { certificate, commonName, keyPem } from '../../support/cert-der.ts';
import { ecServer, root, serverCa, testFile } from '../../support/cert-pki.ts';
import { filesOf } from '../../support/cert-servers.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { rejection } from '../../support/core-streams.ts';
import { describeWith } from '../../support/interop-peers.ts';
import { PeerProcess } from '../../support/interop-process.ts';

const SERVER = fileURLToPath(new URL('./python/post-handshake.py', import.meta.url));

async function server(scope: Scope): Promise<number> {
  const { cert, key } = filesOf(ecServer());
  const child = new PeerProcess('python3', [SERVER, cert, key, testFile('ca.pem', root().pem)]);
  scope.peersStay();
  scope.defer(() => child.kill());
  return Number(await child.until((output) => /^port (\d+)$/m.exec(output)?.[1]));
}

async function identity(who: string) {
  const leaf = certificate({ subject: commonName(who), issuer: root() });
  const [one] = await loadIdentities(testFile('id.pem', leaf.pem + keyPem(leaf.keys)));
  if (one?.options == null) throw new Error('no identity');
  return one.options;
}

/** Lines, one by one. */
function lines(stream: TlsStream): () => Promise<string> {
  let left = '';
  return async () => {
    while (!left.includes('\n')) {
      const bytes = await stream.read();
      if (bytes === null) throw new Error(`the end, behind '${left}'`);
      left += Buffer.from(bytes).toString();
    }
    const [line = ''] = left.split('\n', 1);
    left = left.slice(line.length + 1);
    return line;
  };
}

describeWith(['python'], 'behind the handshake, by Python', () => {
  const to = (port: number, clientCertificate?: ClientCertificateOption) =>
    connect({
      ...{ host: 'localhost', port, ca: serverCa().pem, engine: 'native' },
      ...(clientCertificate && { clientCertificate }),
    });

  test('asked three times: each time the function answers anew', () =>
    clean(async (scope) => {
      const answers = [await identity('first'), null, await identity('third')];
      const requests: string[][] = [];
      const contexts = new Set<string>();
      const stream = await to(await server(scope), async ({ authorities, context, version }) => {
        expect(version).toBe('TLSv1.3');
        requests.push(authorities.map(hex));
        contexts.add(hex(context));
        await Promise.resolve();
        return answers[requests.length - 1];
      });
      const next = lines(stream);
      await stream.write('hello\n');
      expect(await next()).toBe('hello');
      expect(requests).toEqual([]);
      const said: string[] = [];
      for (const _ of answers) {
        await stream.write('ask\n');
        expect(await next()).toBe('asking');
        await stream.write('go on\n');
        said.push(await next());
      }
      expect(said).toEqual(['first', 'nobody', 'third']);
      // Python names nobody.
      expect(requests).toEqual([[], [], []]);
      // RFC 9846 section 4.3.2: the context "MUST be unique within the scope of this connection".
      expect(contexts.size).toBe(3);
      expect((await stream.close()).verdict).toBe('secure');
    })());

  test('what is written while the function takes its time waits, and is not lost', () =>
    clean(async (scope) => {
      let answer: () => void = () => {};
      const asked = new Promise<void>((resolve) => {
        answer = resolve;
      });
      let wanted: () => void = () => {};
      const wanting = new Promise<void>((resolve) => {
        wanted = resolve;
      });
      const late = await identity('late');
      const stream = await to(await server(scope), async () => {
        wanted();
        await asked;
        return late;
      });
      const next = lines(stream);
      await stream.write('ask\n');
      const first = next();
      await wanting;
      await stream.write('meanwhile\n');
      await stream.updateKeys();
      answer();
      expect([await first, await next()]).toEqual(['asking', 'late']);
      await stream.write('and then\n');
      expect(await next()).toBe('and then');
      expect((await stream.close()).verdict).toBe('secure');
    })());

  test('without the option nothing is offered', () =>
    clean(async (scope) => {
      const stream = await to(await server(scope));
      const next = lines(stream);
      await stream.write('ask\n');
      expect(await next()).toMatch(/^not offered: /);
      await stream.close();
    })());

  test('a function that throws: the stream fails, with that as the cause', () =>
    clean(async (scope) => {
      const mine = new Error('the card was pulled');
      const signals: AbortSignal[] = [];
      const stream = await to(await server(scope), (_, { signal }) => {
        signals.push(signal);
        throw mine;
      });
      const next = lines(stream);
      await stream.write('ask\n');
      const error = await rejection(next().then(next));
      expect(error).toMatchObject({ code: 'ERR_TLS_ABORTED', cause: mine });
      expect((await stream.closed).verdict).toBe('aborted');
      expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    })());
});
