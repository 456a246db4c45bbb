/** What errors say: the option, the reason, what fits the case; and which line of the program it was. */
import type net from 'node:net';
import { describe, expect, test } from 'vitest';
import {
  accept,
  type ConnectOptions,
  connect,
  createServer,
  type TlsStream,
} from '../../../src/index.ts';
import { plainReason } from '../../../src/openssl.ts';
import { channel } from '../../../src/testing/channel.ts';
import { describeTls, type Identity, pki } from '../../support/core-pki.ts';
import { clean } from '../../support/core-scope.ts';
import { pair, rejection } from '../../support/core-streams.ts';
import { freePort, listen, tcpPair } from '../../support/core-transport.ts';

type Call = (stream: TlsStream) => Promise<unknown>;

/** More than any transport takes at once. */
const LARGE = new Uint8Array(64 * 1024 * 1024);

async function all(stream: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const bytes of stream) expect(bytes).toBeNull();
}

/** Thread ids and codes, paths of sources, more than one line. */
const INNARDS = /[0-9A-F]{8}:|error:|\.c\b|deps\/|\n|reason\(0\)/;

const GARBAGE: ReadonlyArray<readonly [string, unknown, RegExp]> = [
  ['key', 'no key', /BEGIN PRIVATE KEY/],
  ['cert', 'no certificate', /BEGIN CERTIFICATE/],
  ['pfx', Buffer.from('no store'), /PKCS#12/],
  ['crl', 'no list', /X509 CRL/],
  ['ciphers', 'NONE-OF-THEM', /getCiphers/],
  ['ecdhCurve', 'straight', /getCurves/],
  ['sigalgs', 'by hand', /ECDSA\+SHA256/],
];

describe('an option that OpenSSL cannot read', () => {
  test.each(GARBAGE)('%s: connect names it, and says what it takes', async (name, value, hint) => {
    const [near, far] = channel().ends;
    const error = await rejection(connect({ transport: near, [name]: value } as ConnectOptions));
    expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
    expect(error.message).toContain(`the option ${name} cannot be used: `);
    expect(error.message).not.toMatch(INNARDS);
    expect(error.hint).toMatch(hint);
    expect(error.cause).toBeInstanceOf(Error);
    near.destroy();
    far.destroy();
  });

  test.each(GARBAGE)('%s: createServer, too', (name, value, hint) => {
    const making = () => createServer({ [name]: value }, () => {});
    expect(making).toThrow(
      expect.objectContaining({ code: 'ERR_TLS_OPTION', hint: expect.stringMatching(hint) }),
    );
    expect(making).toThrow(`the option ${name} cannot be used`);
  });
});

describe('an option that Node does not name, or passes by', () => {
  test.each([
    ['ALPNProtocols', 'h2'],
    ['ALPNProtocols', [5]],
    ['secureContext', {}],
  ])('%s: %j: connect names it', async (name, value) => {
    const [near, far] = channel().ends;
    const error = await rejection(connect({ transport: near, [name]: value } as ConnectOptions));
    expect(error.code).toBe('ERR_TLS_OPTION');
    expect(error.message.startsWith(`${name} must be`)).toBe(true);
    near.destroy();
    far.destroy();
  });

  test.each([
    ['ALPNProtocols', 'h2'],
    ['ALPNProtocols', ['h2', 5]],
    ['ALPNCallback', 'h2'],
  ])('%s: %j: createServer, too', (name, value) => {
    expect(() => createServer({ [name]: value }, () => {})).toThrow(
      expect.objectContaining({
        code: 'ERR_TLS_OPTION',
        message: expect.stringMatching(`^${name} must be`),
      }),
    );
  });

  test('names as bytes are taken', () => {
    const names = Buffer.from('\x02h2');
    for (const ALPNProtocols of [names, ['h2'], []]) {
      expect(() => createServer({ ALPNProtocols }, () => {})).not.toThrow();
    }
  });
});

describeTls('keys and certificates', () => {
  test('a key that belongs to another certificate', () => {
    const { server, client } = pki();
    expect(() => createServer({ key: client.key, cert: server.cert }, () => {})).toThrow(
      expect.objectContaining({
        message: expect.stringContaining('the option key and cert cannot be used'),
        hint: 'the key belongs to another certificate',
      }),
    );
  });

  test.each<[string, Identity['cert'] | (() => Identity), RegExp]>([
    ['expired', () => pki().expired, /renew/],
    ['for another name', () => pki().otherName, /servername/],
    ['signed by itself', () => pki().selfSigned, /signed by itself.*`ca`/],
  ])('a certificate that is %s: the hint fits', (_, identity, hint) =>
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      const serving = accept(far, (identity as () => Identity)()).catch(() => {});
      const error = await rejection(connect({ transport: near, host: 'localhost', ca: pki().ca }));
      expect(error.code).toBe('ERR_TLS_CERTIFICATE');
      expect(error.hint).toMatch(hint);
      expect(error.message).not.toMatch(INNARDS);
      await serving;
    })(),
  );

  test(
    'a server that does not speak TLS: one line, without OpenSSL’s own',
    clean(async (scope) => {
      const port = await listen(scope, (socket) =>
        socket.resume().end('HTTP/1.0 400 Bad Request\r\n\r\n'),
      );
      const error = await rejection(connect({ host: '127.0.0.1', port }));
      expect(error.code).toBe('ERR_TLS_HANDSHAKE');
      expect(error.message).not.toMatch(INNARDS);
      expect(error.message).toMatch(/wrong version number|packet length too long/);
    }),
  );
});

test.each([
  [
    'write EPROTO 40C7A9F2B77F0000:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/openssl/ssl/record/ssl3_record.c:354:\n',
    'write EPROTO wrong version number',
  ],
  [
    '40C7A9F2B77F0000:error:0A000410:SSL routines:ssl3_read_bytes:ssl/tls alert handshake failure:../deps/openssl/rec_layer_s3.c:908:SSL alert number 40\n',
    'ssl/tls alert handshake failure (SSL alert number 40)',
  ],
  ['error:1E08010C:DECODER routines::unsupported', 'unsupported'],
  ['error:00000000:lib(0)::reason(0)', 'OpenSSL gives no reason'],
  [
    'error:0A0000B9:SSL routines::one\nerror:0A0000B9:SSL routines::one\nerror:0A0000BA:x::two',
    'one; two',
  ],
  ['connect ECONNREFUSED 127.0.0.1:1', 'connect ECONNREFUSED 127.0.0.1:1'],
])('plainReason(%j)', (message, reason) => {
  expect(plainReason(message)).toBe(reason);
});

test.each([
  ['::1', '[::1]:1'],
  ['127.0.0.1', '127.0.0.1:1'],
])('no connection to %s: its port stands apart from the address', async (host, written) => {
  // The port is of the system, and nobody listens on it; without IPv6 there is no way to the address.
  const error = await rejection(connect({ host, port: 1 }));
  expect(error.code).toBe('ERR_TLS_CONNECT');
  expect(error.message.startsWith(`no connection to ${written}: `)).toBe(true);
});

describeTls('the stack has the line of the program', () => {
  test(
    'of connect that is refused',
    clean(async () => {
      const port = await freePort();
      async function lineOfTheProgram() {
        await connect({ host: '127.0.0.1', port });
      }
      const error = await rejection(lineOfTheProgram());
      expect(error.code).toBe('ERR_TLS_CONNECT');
      expect(error.stack).toContain('lineOfTheProgram');
      expect(error.stack?.startsWith(`ConnectError: ${error.message}\n`)).toBe(true);
    }),
  );

  test(
    'of connect whose promise is handed on',
    clean(async () => {
      const port = await freePort();
      function lineOfTheProgram() {
        return connect({ host: '127.0.0.1', port }).then(() => {});
      }
      expect((await rejection(lineOfTheProgram())).stack).toContain('lineOfTheProgram');
    }),
  );

  test('of a wrong option, once', async () => {
    function lineOfTheProgram() {
      return connect({ port: 1, timeout: 5 } as ConnectOptions);
    }
    const { stack } = await rejection(lineOfTheProgram());
    expect(stack?.match(/at lineOfTheProgram/g)).toHaveLength(1);
  });

  test(
    'of accept',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      function lineOfTheProgram() {
        return accept(far, pki().server);
      }
      const failing = rejection(lineOfTheProgram());
      (near as net.Socket).end('no ClientHello');
      expect((await failing).stack).toContain('lineOfTheProgram');
    }),
  );

  type Wait = Parameters<TlsStream['shutdown']>[0];
  const inTime: Wait = { deadline: 1 };
  const cut = (server: TlsStream) => server.abort();
  const silent = () => {};
  test.each<readonly [string, string, (server: TlsStream) => void, Call]>([
    ['a for await', 'ERR_TLS_TRUNCATED', cut, async (stream) => void (await all(stream))],
    [
      'a for await over the Duplex',
      'ERR_TLS_TRUNCATED',
      cut,
      async (stream) => void (await all(stream.toDuplex())),
    ],
    ['read', 'ERR_TLS_TRUNCATED', cut, (stream) => stream.read()],
    ['read until its deadline', 'ERR_TLS_TIMEOUT', silent, (stream) => stream.read(inTime)],
    ['shutdown', 'ERR_TLS_TRUNCATED', cut, (stream) => stream.shutdown()],
    ['shutdown until its deadline', 'ERR_TLS_TIMEOUT', silent, (stream) => stream.shutdown(inTime)],
    [
      'shutdown that is cancelled',
      'ABORT_ERR',
      silent,
      (stream) => stream.shutdown({ signal: AbortSignal.timeout(1) }),
    ],
    [
      'close that is cancelled',
      'ABORT_ERR',
      silent,
      (stream) => stream.close({ signal: AbortSignal.timeout(1) }),
    ],
    ['a write that waits', 'ERR_TLS_TIMEOUT', silent, (stream) => stream.write(LARGE, inTime)],
    [
      'close, of bytes that the transport does not take',
      'ERR_TLS_TIMEOUT',
      silent,
      (stream) => {
        stream.write(LARGE).catch(() => {});
        return stream.close(inTime);
      },
    ],
  ])('of %s', (_, code, ending, call) =>
    clean(async (scope) => {
      const both = await pair(scope, 'TLSv1.3');
      async function lineOfTheProgram() {
        await call(both.client);
      }
      const failing = rejection(lineOfTheProgram());
      ending(both.server);
      const error = await failing;
      expect(error.code).toBe(code);
      expect(error.stack?.match(/at lineOfTheProgram/g)).toHaveLength(1);
      both.client.abort();
      both.server.abort();
    })(),
  );

  test(
    'of a call whose promise nobody awaits, of a stream that has failed',
    clean(async (scope) => {
      const both = await pair(scope, 'TLSv1.3');
      both.server.abort();
      const first = await rejection(both.client.read());
      const lineThatReads = () => both.client.read();
      const lineThatWrites = () => both.client.write('more');
      expect(await rejection(lineThatReads())).toBe(first);
      expect(await rejection(lineThatWrites())).toBe(first);
      expect(first.stack).toContain('lineThatReads');
      expect(first.stack).toContain('lineThatWrites');
    }),
  );

  test('of listen', async () => {
    const busy = createServer(pki().server, () => {});
    const { port } = await busy.listen(0, '127.0.0.1');
    const server = createServer(pki().server, () => {});
    async function lineOfTheProgram() {
      await server.listen(port, '127.0.0.1');
    }
    const { code, stack } = await rejection(lineOfTheProgram());
    expect(code).toBe('EADDRINUSE');
    expect(stack).toContain('lineOfTheProgram');
    await busy.close();
  });
});
