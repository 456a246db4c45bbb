/** The option `clientCertificate`: the same for both engines, within the handshake on the native one. */
import { describe, expect, test } from 'vitest';
import { loadIdentities } from '../../../src/client-cert/index.ts';
import {
  type ClientCertificateOption,
  type ConnectOptions,
  connect,
  createServer,
  type ServerOptions,
} from '../../../src/index.ts';
import { hex } from '../../../src/record/handshake.ts';
import { certificate, commonName, keyPem } from '../../support/cert-der.ts';
import {
  ecServer,
  identityOf,
  intermediate,
  root,
  serverCa,
  testFile,
} from '../../support/cert-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { closeBoth, only, pair, rejection, VERSIONS } from '../../support/core-streams.ts';
import { listen, tcpPair } from '../../support/core-transport.ts';

const CASES = VERSIONS.flatMap((version) => [
  { version, engine: 'native', connections: 1 } as const,
  { version, engine: 'tapped', connections: 2 } as const,
]);

async function identity(who = 'client') {
  const leaf = certificate({ subject: commonName(who), issuer: intermediate() });
  const file = testFile('id.pem', leaf.pem + keyPem(leaf.keys) + intermediate().pem);
  const [one] = await loadIdentities(file);
  if (one?.options == null) throw new Error('no identity');
  return one.options;
}

const ASKING = {
  requestCert: true,
  rejectUnauthorized: false,
  get ca() {
    return root().pem;
  },
};

describe.each(CASES)('$version, $engine', ({ version, engine, connections }) => {
  /** A server that tells each client who it is. */
  async function serve(scope: Scope, options: Partial<ServerOptions> = ASKING) {
    let served = 0;
    const server = createServer(
      { ...identityOf(ecServer()), ...only(version), onError: () => {}, ...options },
      async (stream) => {
        served += 1;
        const { peerCertificate } = stream;
        await stream.write(`${peerCertificate?.subject ?? 'nobody'}, ${stream.tls.authorized}`);
        await stream.shutdown();
        await stream.close();
      },
    );
    scope.defer(() => server.close({ deadline: 0 }));
    const { port } = await server.listen(0, '127.0.0.1');
    return { port, served: () => served };
  }
  const to = (port: number, more: ConnectOptions) =>
    connect({ host: 'localhost', port, ca: serverCa().pem, engine, ...only(version), ...more });
  async function said(port: number, clientCertificate: ClientCertificateOption) {
    const stream = await to(port, { clientCertificate });
    const text = Buffer.from((await stream.read()) ?? []).toString();
    expect((await stream.close()).verdict).toBe('secure');
    return text;
  }

  test('the function is given the request, and may take its time', () =>
    clean(async (scope) => {
      const { port, served } = await serve(scope);
      const mine = await identity();
      let asked = 0;
      const text = await said(port, async (request) => {
        asked += 1;
        expect(request).toMatchObject({ version, context: new Uint8Array() });
        expect(request.authorities.map(hex)).toEqual([hex(root().subject)]);
        expect(request.signatureAlgorithms).toContain(0x0403);
        for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate);
        return mine;
      });
      expect(text).toBe('CN=client, true');
      expect(asked).toBe(1);
      expect(served()).toBe(connections);
    })());

  test.each([
    ['null', () => null],
    ['undefined', async () => undefined],
    ['an empty object', () => ({})],
    ['an Error, since this server does not insist', () => new Error('none of mine')],
  ] satisfies Array<[string, ClientCertificateOption]>)('%s: without a certificate', (_, answer) =>
    clean(async (scope) => {
      const { port } = await serve(scope);
      expect(await said(port, answer)).toBe('nobody, false');
    })(),
  );

  test('not asked for: not called', () =>
    clean(async (scope) => {
      const { port } = await serve(scope, {});
      let asked = 0;
      expect(
        await said(port, () => {
          asked += 1;
          return null;
        }),
      ).toBe('nobody, false');
      expect(asked).toBe(0);
    })());

  test('a key that does not fit: ERR_TLS_OPTION, with its name', () =>
    clean(async (scope) => {
      const { port } = await serve(scope);
      const { cert } = await identity();
      const other = keyPem(certificate({ subject: commonName('other') }).keys);
      const error = await rejection(to(port, { clientCertificate: () => ({ cert, key: other }) }));
      expect(error.code).toBe('ERR_TLS_OPTION');
      expect(error.message).toMatch(/key/);
    })());

  test.each([
    [
      'throws',
      () => {
        throw new RangeError('mine');
      },
    ],
    ['rejects', () => Promise.reject(new RangeError('mine'))],
  ] as const)('it %s: connect rejects with that', (_, clientCertificate) =>
    clean(async (scope) => {
      const { port } = await serve(scope);
      const error = await rejection(to(port, { clientCertificate }));
      expect(error).toBeInstanceOf(RangeError);
      expect(error.message).toBe('mine');
    })(),
  );

  test.each([42, 'a string', { certificate: 'x' }])('it gives %j: ERR_TLS_OPTION', (answer) =>
    clean(async (scope) => {
      const { port } = await serve(scope);
      const error = await rejection(to(port, { clientCertificate: () => answer as never }));
      expect(error).toMatchObject({ code: 'ERR_TLS_OPTION' });
    })(),
  );

  test('a server that is not accepted is told nothing, and the function not asked', () =>
    clean(async (scope) => {
      const { port } = await serve(scope);
      let asked = 0;
      const clientCertificate = () => {
        asked += 1;
        return null;
      };
      const error = await rejection(to(port, { ca: root().pem, clientCertificate }));
      expect(error.code).toBe('ERR_TLS_CERTIFICATE');
      expect(asked).toBe(0);
    })());

  test('an Error, where the server insists: connect rejects with it', () =>
    clean(async (scope) => {
      const { port } = await serve(scope, { ...ASKING, ca: root().pem, rejectUnauthorized: true });
      const none = new Error('none of mine');
      expect(await rejection(to(port, { clientCertificate: () => none }))).toBe(none);
    })());

  test('it never answers: the deadline, and its signal', () =>
    clean(async (scope) => {
      const { port } = await serve(scope);
      const signals: AbortSignal[] = [];
      const error = await rejection(
        to(port, {
          deadlines: { handshake: 300 },
          clientCertificate: (_, { signal }) => {
            signals.push(signal);
            return new Promise(() => {});
          },
        }),
      );
      expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'handshake' });
      expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    })());

  test('aborted while it is asked: AbortError, and its signal', () =>
    clean(async (scope) => {
      const { port } = await serve(scope);
      const controller = new AbortController();
      const signals: AbortSignal[] = [];
      const error = await rejection(
        to(port, {
          signal: controller.signal,
          clientCertificate: (_, { signal }) => {
            signals.push(signal);
            controller.abort(new Error('enough'));
            return new Promise(() => {});
          },
        }),
      );
      expect(error).toMatchObject({ code: 'ABORT_ERR', cause: { message: 'enough' } });
      expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    })());

  test('a server that goes away meanwhile', () =>
    clean(async (scope) => {
      const { port } = await serve(scope, {
        ...ASKING,
        ca: root().pem,
        deadlines: { handshake: 100 },
      });
      const promise = to(port, {
        clientCertificate: () => new Promise(() => {}),
        deadlines: { handshake: 2_000 },
      });
      const error = await rejection(promise);
      expect(error.code).toMatch(/^ERR_TLS_(TIMEOUT|TRUNCATED)$/);
    })());

  test('over a transport that is given', () =>
    clean(async (scope) => {
      const mine = await identity();
      const client = { ca: serverCa().pem, engine, clientCertificate: () => mine };
      if (engine === 'tapped') {
        const [transport, far] = await tcpPair(scope);
        const error = await rejection(connect({ transport, ...client }));
        expect(error).toMatchObject({ code: 'ERR_TLS_OPTION' });
        expect(error.message).toContain('clientCertificate cannot be used with transport');
        // It was not touched.
        expect(transport.destroyed).toBe(false);
        transport.destroy();
        far.destroy();
        return;
      }
      const both = await pair(scope, version, {
        client,
        server: { ...identityOf(ecServer()), ...ASKING, ca: root().pem },
      });
      expect(both.server.peerCertificate?.subject).toBe('CN=client');
      await closeBoth(both);
    })());
});

test('clientCertificate has to be a function', () =>
  clean(async (scope) => {
    const port = await listen(scope, () => {});
    const error = await rejection(connect({ port, clientCertificate: {} as never }));
    expect(error).toMatchObject({ code: 'ERR_TLS_OPTION' });
  })());
