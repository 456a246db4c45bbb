/** The name that `connect` asks for by SNI, and that the certificate has to be for, whatever the host is written like. */
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { type ConnectOptions, connect } from '../../../src/index.ts';
import { selfSigned } from '../../../src/testing/credentials.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { rejection } from '../../support/core-streams.ts';

/** A server that keeps which names it was asked for: false for none. */
async function server(scope: Scope, identity: { key: string; cert: string }, host = '127.0.0.1') {
  const asked: Array<string | false> = [];
  const listener = tls.createServer(identity, (socket) => {
    asked.push((socket as { servername?: string | false }).servername ?? false);
    socket.on('error', () => {});
    socket.resume().end();
  });
  listener.on('tlsClientError', () => {});
  listener.listen(0, host);
  await once(listener, 'listening');
  scope.defer(() => new Promise((resolve) => listener.close(resolve)));
  const { port } = listener.address() as net.AddressInfo;
  const lookup: net.LookupFunction = (_host, _options, done) =>
    done(null, [{ address: host, family: net.isIP(host) }]);
  return { asked, to: { port, lookup } };
}

describeTls('the name of the server', () => {
  for (const [host, name] of [
    ['www.example', 'www.example'],
    ['www.example.', 'www.example'],
    ['WWW.example', 'WWW.example'],
    ['my_host.example', 'my_host.example'],
    ['b\u00fccher.example', 'xn--bcher-kva.example'],
    ['B\u00dcCHER.example.', 'xn--bcher-kva.example'],
    ['b\u00fccher\u3002example\u3002', 'xn--bcher-kva.example'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['\u4f8b\u3048.\u30c6\u30b9\u30c8', 'xn--r8jz45g.xn--zckzah'],
  ] as const) {
    for (const option of ['host', 'servername'] as const) {
      test(
        `${option} ${host}: asks for ${name}, and the certificate is for that`,
        clean(async (scope) => {
          scope.peersStay();
          const identity = selfSigned(name.toLowerCase());
          const { asked, to } = await server(scope, identity);
          const options: ConnectOptions = { host: 'localhost', ...to, ca: identity.ca };
          await using stream = await connect({ ...options, [option]: host });
          expect(stream.tls.servername).toBe(name);
          expect(stream.tls.authorized).toBe(true);
          await stream.close();
          expect(asked).toEqual([name]);
        }),
      );
    }
  }

  for (const [what, options] of [
    ['an IPv4 address', { host: '127.0.0.1' }],
    ['an IPv4 address of wide digits', { host: '\uff11\uff12\uff17.0.0.1' }],
    ['an IPv6 address', { host: '::1' }],
    ['an address as servername', { host: 'elsewhere.example', servername: '127.0.0.1' }],
    ['an empty servername', { host: 'localhost', servername: '' }],
  ] as const) {
    test(
      `${what}: asks for no name, and the certificate is for it`,
      clean(async (scope) => {
        scope.peersStay();
        const at = options.host === '::1' ? '::1' : '127.0.0.1';
        const { asked, to } = await server(scope, pki().server, at);
        const seen: string[] = [];
        await using stream = await connect({
          ...to,
          ...options,
          ca: pki().ca,
          checkServerIdentity: (name, cert) => {
            seen.push(name);
            // Node 22.23 finds no IPv6 address in any certificate.
            return net.isIPv6(name) ? undefined : tls.checkServerIdentity(name, cert);
          },
        });
        await stream.close();
        expect(asked).toEqual([false]);
        expect(seen).toEqual([at === '::1' || options.host === 'localhost' ? options.host : at]);
      }),
    );
  }

  for (const [host, name] of [
    ['www.example.', 'www.example.org'],
    ['b\u00fccher.example', 'bucher.example'],
  ] as const) {
    test(
      `host ${host}: a certificate for ${name} is not for it`,
      clean(async (scope) => {
        scope.peersStay();
        const identity = selfSigned(name);
        const { to } = await server(scope, identity);
        const error = await rejection(connect({ ...to, host, ca: identity.ca }));
        expect(error).toMatchObject({
          code: 'ERR_TLS_CERTIFICATE',
          cause: { code: 'ERR_TLS_CERT_ALTNAME_INVALID' },
        });
      }),
    );
  }

  for (const name of ['.', 'www..example', 'www.example..', '.example', 'xn--i\u00f1valid.com']) {
    for (const option of ['host', 'servername'] as const) {
      test(
        `${option} ${name} is an option error`,
        clean(async () => {
          const options = { host: 'localhost', port: 1, [option]: name };
          const error = await rejection(connect(options));
          expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
          expect(error.message).toBe(`${option} "${name}" is no DNS name and no IP address`);
        }),
      );
    }
  }

  test(
    'one that is no string is an option error',
    clean(async () => {
      for (const option of ['host', 'servername']) {
        const options = { port: 1, [option]: 5 } as unknown as ConnectOptions;
        const error = await rejection(connect(options));
        expect(error).toMatchObject({ code: 'ERR_TLS_OPTION' });
        expect(error.message).toContain(option);
      }
    }),
  );
});
