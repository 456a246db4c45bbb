/** `strictConnector` through a proxy that misbehaves: what the error says, and that nothing is left open. */
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { Agent, request } from 'undici';
import { expect, test } from 'vitest';
import { CloseNotifyError, ConnectError } from '../../../src/index.ts';
import { type StrictConnectorOptions, strictConnector } from '../../../src/strict/undici.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn } from '../../support/core-scope.ts';
import { freePort, listen, reset } from '../../support/core-transport.ts';

/** A proxy that answers the request for a tunnel with whatever it likes. @returns its port. */
const proxyOf = (scope: Scope, answer: (socket: net.Socket) => void): Promise<number> =>
  listen(scope, (socket) => {
    let asked = '';
    socket.on('data', (chunk: Buffer) => {
      const before = asked.includes('\r\n\r\n');
      asked += chunk.toString('latin1');
      if (!before && asked.includes('\r\n\r\n')) answer(socket);
    });
  });

/** The same over TLS. */
async function tlsProxyOf(scope: Scope, answer: (socket: tls.TLSSocket, wire: net.Socket) => void) {
  const server = tls.createServer(pki().server);
  const wires: net.Socket[] = [];
  server.on('connection', (wire: net.Socket) => {
    wires.push(wire);
    scope.defer(() => wire.destroy());
  });
  server.on('tlsClientError', () => {});
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    socket.once('data', () => answer(socket, wires.at(-1) as net.Socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.defer(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as net.AddressInfo).port;
}

/** Asks for a tunnel, as undici does. */
const connectVia = (
  options: StrictConnectorOptions,
  protocol: 'http:' | 'https:' = 'https:',
): Promise<net.Socket | tls.TLSSocket> =>
  new Promise((resolve, reject) =>
    strictConnector(options)({ hostname: 'origin.example', port: '8443', protocol }, (...got) =>
      got[0] === null ? resolve(got[1]) : reject(got[0]),
    ),
  );

type Failed = CloseNotifyError & { cause?: { code?: string } };

/** The error of a tunnel that is asked of this address. */
async function failing(uri: string, more: StrictConnectorOptions = {}): Promise<Failed> {
  const outcome = await connectVia({ proxy: { uri }, ...more }).catch((error) => error);
  expect(outcome).toBeInstanceOf(CloseNotifyError);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may get into a log.
  expect(outcome.message).not.toMatch(/[\0-\x1f\x7f-\x9f]/);
  expect(outcome.message.length).toBeLessThan(400);
  return outcome;
}

const crlf = (...lines: string[]) => lines.map((line) => `${line}\r\n`).join('');
const TLS_ALERT = '\x15\x03\x01\x00\x02\x02\x46';
const H2_SETTINGS = '\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64';

/** What a proxy says before it ends the connection, and what is told of that behind its name. */
const ANSWERS: ReadonlyArray<readonly [what: string, said: string, told: string]> = [
  ['nothing', '', ' hung up and said nothing'],
  ['half a status line', 'HTTP/1.1 200 Conn', " hung up within its answer, 'HTTP/1.1 200 Conn'"],
  ['a bit of a status line', 'HTT', " hung up within its answer, 'HTT'"],
  ['half a header', 'HTTP/1.1 200 OK\r\nVia: som', " hung up within its answer, 'HTTP/1.1 200 OK'"],
  [
    'no empty line',
    crlf('HTTP/1.1 200 OK', 'Via: b'),
    " hung up within its answer, 'HTTP/1.1 200 OK'",
  ],
  [
    '1xx and no more',
    crlf('HTTP/1.1 100 Continue', ''),
    " hung up and said nothing behind 'HTTP/1.1 100 Continue'",
  ],
  [
    '1xx and half of more',
    crlf('HTTP/1.1 100 Continue', '', 'HTTP/1.1 200 OK'),
    " hung up within its answer, 'HTTP/1.1 200 OK'",
  ],
  [
    '1xx, then 503',
    crlf('HTTP/1.1 103 Early Hints', 'Link: </x>', '', 'HTTP/1.1 503 Busy', ''),
    " opened no tunnel to origin.example:8443: it said 'HTTP/1.1 503 Busy'",
  ],
  [
    '101',
    crlf('HTTP/1.1 101 Switching Protocols', 'Upgrade: x', ''),
    " opened no tunnel to origin.example:8443: it said 'HTTP/1.1 101 Switching Protocols'",
  ],
  [
    '403 with a body',
    `${crlf('HTTP/1.1 403 Forbidden', 'Content-Length: 9', '')}<h1>no</h1>`,
    " opened no tunnel to origin.example:8443: it said 'HTTP/1.1 403 Forbidden'",
  ],
  [
    '502 of HTTP/1.0, without a reason',
    `${crlf('HTTP/1.0 502', '')}sorry`,
    " opened no tunnel to origin.example:8443: it said 'HTTP/1.0 502'",
  ],
  [
    '407 with two schemes in one header',
    crlf(
      'HTTP/1.1 407 Proxy Authentication Required',
      'Proxy-Authenticate: Negotiate, Digest realm="Basic, or so", qop = "auth", algorithm=MD5',
      '',
    ),
    " opened no tunnel to origin.example:8443: it said 'HTTP/1.1 407 Proxy Authentication Required', and asks for Negotiate or Digest",
  ],
  [
    '407 with a scheme in each header',
    crlf(
      'HTTP/1.1 407 No',
      'proxy-authenticate: NTLM',
      'PROXY-AUTHENTICATE:Basic realm=x',
      'Via: Digest',
      '',
    ),
    " opened no tunnel to origin.example:8443: it said 'HTTP/1.1 407 No', and asks for NTLM or Basic",
  ],
  [
    '407 without a scheme',
    crlf('HTTP/1.1 407 No', ''),
    " opened no tunnel to origin.example:8443: it said 'HTTP/1.1 407 No'",
  ],
  [
    'a colourful reason',
    crlf('HTTP/1.1 500 \x1b[31mred\x07\x9b\xff', ''),
    " opened no tunnel to origin.example:8443: it said 'HTTP/1.1 500 ?[31mred???'",
  ],
  [
    'a reason without an end',
    crlf(`HTTP/1.1 500 ${'no '.repeat(500)}`, ''),
    ` opened no tunnel to origin.example:8443: it said '${`HTTP/1.1 500 ${'no '.repeat(500)}`.slice(0, 120)}...'`,
  ],
  ['SSH', 'SSH-2.0-OpenSSH_9.2\r\n', " does not speak HTTP/1: it said 'SSH-2.0-OpenSSH_9.2'"],
  ['SMTP', '220 mail ESMTP\r\n', " does not speak HTTP/1: it said '220 mail ESMTP'"],
  ['TLS', TLS_ALERT, ' does not speak HTTP/1: it said bytes 15 03 01 00 02 02 46'],
  [
    'HTTP/2',
    H2_SETTINGS,
    ' does not speak HTTP/1: it said bytes 00 00 06 04 00 00 00 00 00 00 03 00 00 00 64',
  ],
  ['a later HTTP', crlf('HTTP/2 200', ''), " does not speak HTTP/1: it said 'HTTP/2 200'"],
  ['no status', crlf('HTTP/1.1 OK', ''), " does not speak HTTP/1: it said 'HTTP/1.1 OK'"],
  [
    'a long status',
    crlf('HTTP/1.1 2000 OK', ''),
    " does not speak HTTP/1: it said 'HTTP/1.1 2000 OK'",
  ],
  ['an empty line', '\r\n', " does not speak HTTP/1: it said ''"],
];

describeTls('a proxy that opens no tunnel', () => {
  for (const [what, said, told] of ANSWERS) {
    for (const way of ['at once', 'byte by byte'] as const) {
      // What is no HTTP is told of as soon as it is seen.
      if (way === 'byte by byte' && told.includes('does not speak')) continue;
      if (way === 'byte by byte' && said.length > 400) continue;
      test(
        `it says ${what}, ${way}, and hangs up`,
        clean(async (scope) => {
          const port = await proxyOf(scope, async (socket) => {
            const parts = way === 'at once' ? [said] : [...said];
            for (const part of parts) {
              socket.write(part, 'latin1');
              await turn();
            }
            socket.end();
          });
          const error = await failing(`http://127.0.0.1:${port}`);
          expect(error).toBeInstanceOf(ConnectError);
          expect(error.code).toBe('ERR_TLS_CONNECT');
          expect(error.message).toBe(`the proxy 127.0.0.1:${port}${told}`);
        }),
      );
    }
  }

  test(
    'it hangs up as soon as one connects',
    clean(async (scope) => {
      const port = await listen(scope, (socket) => socket.resume().end());
      const error = await failing(`http://127.0.0.1:${port}`);
      expect(error.code).toBe('ERR_TLS_CONNECT');
    }),
  );

  for (const said of ['', 'HTTP/1.1 200 OK\r\n']) {
    test(
      `it resets the connection behind ${JSON.stringify(said)}`,
      clean(async (scope) => {
        const port = await proxyOf(scope, async (socket) => {
          socket.write(said);
          for (let i = 0; i < 3; i++) await turn();
          reset(socket);
        });
        const error = await failing(`http://127.0.0.1:${port}`);
        expect(error).toMatchObject({ code: 'ERR_TLS_CONNECT', cause: { code: 'ECONNRESET' } });
        // A reset may overtake what was said before it.
        expect(error.message).toMatch(
          / failed (?:before it had answered|within its answer, 'HTTP\/1\.1 200 OK'): read ECONNRESET$/,
        );
      }),
    );
  }

  for (const [what, said] of [
    ['headers', 'HTTP/1.1 200 OK\r\nx: '],
    ['1xx', ''],
  ] as const) {
    test(
      `it never comes to the end of its ${what}`,
      clean(async (scope) => {
        const port = await proxyOf(scope, (socket) => {
          socket.write(said);
          const more = said === '' ? 'HTTP/1.1 100 Continue\r\n\r\n' : 'x'.repeat(1000);
          const go = () => {
            if (!socket.destroyed) socket.write(more, () => setImmediate(go));
          };
          go();
        });
        const error = await failing(`http://127.0.0.1:${port}`);
        expect(error.code).toBe('ERR_TLS_CONNECT');
        expect(error.message).toContain('answered with more than 16384 bytes of headers');
      }),
    );
  }

  for (const [said, told] of [
    ['', ' has not answered'],
    ['HTTP/1.1 200 O', " has not completed its answer, 'HTTP/1.1 200 O'"],
    [crlf('HTTP/1.1 102 Wait', ''), " has not answered behind 'HTTP/1.1 102 Wait'"],
  ] as const) {
    test(
      `it is slow behind ${JSON.stringify(said)}: the deadline says so`,
      clean(async (scope) => {
        const port = await proxyOf(scope, (socket) => void socket.write(said));
        const error = await failing(`http://127.0.0.1:${port}`, { timeout: 200 });
        expect(error).toMatchObject({
          ...{ code: 'ERR_TLS_TIMEOUT', phase: 'connect' },
          hint: 'ask who runs the proxy, or raise timeout',
        });
        expect(error.message).toBe(
          `no connection to origin.example:8443 within 200 ms: the proxy 127.0.0.1:${port}${told}`,
        );
      }),
    );
  }

  test(
    'nobody listens there, or nobody is called that',
    clean(async () => {
      const port = await freePort();
      const error = await failing(`http://127.0.0.1:${port}`);
      expect(error).toMatchObject({ code: 'ERR_TLS_CONNECT', cause: { code: 'ECONNREFUSED' } });
      expect(error.message).toBe(
        `no connection to the proxy 127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}`,
      );
      const two = await failing(`http://localhost:${port}`);
      expect(two.message).toContain(`ECONNREFUSED 127.0.0.1:${port}`);
      const lost = await failing('http://nobody.invalid:3128');
      expect(lost.code).toBe('ERR_TLS_CONNECT');
      expect(lost.message).toMatch(
        /^no connection to the proxy nobody\.invalid:3128: getaddrinfo E/,
      );
    }),
  );

  test(
    'it asks for credentials: the hint says where they go, or that they were not taken',
    clean(async (scope) => {
      const answer = (scheme: string) => (socket: net.Socket) =>
        void socket.end(crlf('HTTP/1.1 407 No', `Proxy-Authenticate: ${scheme}`, ''));
      const basic = await proxyOf(scope, answer('Basic realm="x"'));
      const other = await proxyOf(scope, answer('Negotiate'));
      expect((await failing(`http://127.0.0.1:${basic}`)).hint).toContain('into proxy.uri');
      expect((await failing(`http://127.0.0.1:${other}`)).hint).toContain('into proxy.headers');
      const refused = await failing(`http://me:secret@127.0.0.1:${basic}`);
      expect(refused.hint).toContain('did not take');
      expect(refused.message).not.toContain('secret');
    }),
  );

  test(
    'undici gets the same error',
    clean(async (scope) => {
      const port = await proxyOf(scope, (socket) => void socket.end('SSH-2.0-x\r\n'));
      const connect = strictConnector({ proxy: { uri: `http://127.0.0.1:${port}` } });
      const dispatcher = new Agent({ connect: connect as never });
      scope.defer(() => dispatcher.destroy());
      await expect(request('https://origin.example', { dispatcher })).rejects.toMatchObject({
        code: 'ERR_TLS_CONNECT',
      });
    }),
  );
});

describeTls('a proxy over TLS', () => {
  const secured = (port: number): StrictConnectorOptions => ({
    proxy: { uri: `https://localhost:${port}`, tls: { ca: pki().ca } },
  });

  for (const [what, answer, told, code] of [
    [
      'close_notify instead of an answer',
      (socket: tls.TLSSocket) => socket.end(),
      'hung up and said nothing',
      undefined,
    ],
    [
      'close_notify within its answer',
      (socket: tls.TLSSocket) => socket.end('HTTP/1.1 2'),
      "hung up within its answer, 'HTTP/1.1 2'",
      undefined,
    ],
    [
      'FIN without close_notify',
      (_socket: tls.TLSSocket, wire: net.Socket) => wire.end(),
      'failed before it had answered',
      'ERR_TLS_TRUNCATED',
    ],
    [
      'a reset',
      (_socket: tls.TLSSocket, wire: net.Socket) => reset(wire),
      'failed before it had answered',
      'ECONNRESET',
    ],
  ] as const) {
    test(
      `${what}: ERR_TLS_CONNECT`,
      clean(async (scope) => {
        scope.peersStay();
        const port = await tlsProxyOf(scope, answer);
        const { uri, tls } = secured(port).proxy as { uri: string; tls: object };
        const error = await failing(uri, { proxy: { uri, tls } });
        expect(error.code).toBe('ERR_TLS_CONNECT');
        expect(error.message).toContain(told);
        expect(error.cause?.code).toBe(code);
      }),
    );
  }

  test(
    'with a certificate that does not verify: ERR_TLS_CONNECT, and why',
    clean(async (scope) => {
      scope.peersStay();
      const port = await tlsProxyOf(scope, () => {});
      const error = await failing(`https://localhost:${port}`);
      expect(error.code).toBe('ERR_TLS_CONNECT');
      expect(error.message).toContain(`no connection to the proxy localhost:${port}: `);
      expect(error.cause?.code).toMatch(/^UNABLE_TO_/);
    }),
  );

  test(
    'asked in the clear, and one in the clear asked over TLS: the message says which',
    clean(async (scope) => {
      scope.peersStay();
      const secure = await proxyOf(scope, (socket) => void socket.end(TLS_ALERT, 'latin1'));
      const error = await failing(`http://localhost:${secure}`);
      expect(error.code).toBe('ERR_TLS_CONNECT');
      expect(error.hint).toContain('must begin with https:');
      const clear = await listen(scope, (socket) => {
        socket.once('data', () => socket.end(crlf('HTTP/1.1 400 Bad Request', '')));
      });
      const other = await failing(`https://localhost:${clear}`);
      expect(other.code).toBe('ERR_TLS_CONNECT');
      expect(other.message).toContain(`no connection to the proxy localhost:${clear}: `);
    }),
  );

  test(
    'is asked for by its DNS name',
    clean(async (scope) => {
      scope.peersStay();
      const asked: unknown[] = [];
      const port = await tlsProxyOf(scope, (socket) => {
        asked.push((socket as { servername?: unknown }).servername);
        socket.end();
      });
      const uri = `https://b\u00fccher.example.:${port}`;
      const lookup: net.LookupFunction = (_host, _options, done) =>
        done(null, [{ address: '127.0.0.1', family: 4 }]);
      await failing(uri, { proxy: { uri, tls: { lookup, rejectUnauthorized: false } } });
      expect(asked).toEqual(['xn--bcher-kva.example']);
    }),
  );
});

describeTls('a proxy that opens a tunnel', () => {
  for (const [what, said] of [
    ['in one word', crlf('HTTP/1.1 200 OK', '')],
    ['without a reason, as HTTP/1.0', crlf('HTTP/1.0 200', '')],
    ['with line feeds only', 'HTTP/1.1 200 OK\nVia: x\n\n'],
    [
      'behind 1xx',
      crlf('HTTP/1.1 100 Continue', '', 'HTTP/1.1 103 Hints', 'a: b', '', 'HTTP/1.1 200 OK', ''),
    ],
    ['with a length that means nothing', crlf('HTTP/1.1 201 Made', 'Content-Length: 1000', '')],
    ['in chunks that are none', crlf('HTTP/1.1 299 Yes', 'Transfer-Encoding: chunked', '')],
  ] as const) {
    for (const way of ['at once', 'byte by byte'] as const) {
      test(
        `${what}, ${way}: what it says behind that is the origin's`,
        clean(async (scope) => {
          const port = await proxyOf(scope, async (socket) => {
            for (const part of way === 'at once' ? [`${said}hello`] : `${said}hello`) {
              socket.write(part, 'latin1');
              await turn();
            }
            socket.end();
          });
          const proxy = { uri: `http://127.0.0.1:${port}` };
          const socket = await connectVia({ proxy }, 'http:');
          expect(['data', 'readable', 'error'].map((name) => socket.listenerCount(name))).toEqual([
            0, 0, 0,
          ]);
          let heard = '';
          for await (const chunk of socket) heard += chunk;
          expect(heard).toBe('hello');
        }),
      );
    }
  }

  test(
    'behind 1xx, to an origin over TLS',
    clean(async (scope) => {
      scope.peersStay();
      const origin = await tlsProxyOf(scope, (socket) => socket.end('hello'));
      const port = await proxyOf(scope, (socket) => {
        const through = net.connect(origin, '127.0.0.1');
        scope.defer(() => through.destroy());
        through.on('error', () => socket.destroy());
        socket.removeAllListeners('data');
        socket.write(crlf('HTTP/1.1 102 Processing', '', 'HTTP/1.1 200 OK', ''));
        socket.pipe(through).pipe(socket);
      });
      const proxy = { uri: `http://127.0.0.1:${port}` };
      const socket = await connectVia({ proxy, ca: pki().ca, servername: 'localhost' });
      socket.write('?');
      let heard = '';
      for await (const chunk of socket) heard += chunk;
      expect(heard).toBe('hello');
    }),
  );

  test(
    'and hangs up in the handshake: no tunnel is blamed for that',
    clean(async (scope) => {
      const port = await proxyOf(scope, (socket) => void socket.end(crlf('HTTP/1.1 200 OK', '')));
      const proxy = { uri: `http://127.0.0.1:${port}` };
      const error = await connectVia({ proxy }).catch((one) => one);
      expect(error).toBeInstanceOf(Error);
      expect(error.code).not.toBe('ERR_TLS_CONNECT');
    }),
  );
});

describeTls('options of a proxy', () => {
  for (const [option, proxy] of [
    ['proxy', 'http://localhost:1'],
    ['proxy', null],
    ['proxy.uri', {}],
    ['proxy.uri', { uri: 'nonsense' }],
    ['proxy.uri', { uri: 'localhost:3128' }],
    ['proxy.uri', { uri: 'http://localhost:99999' }],
    ['proxy.uri', { uri: 'http://localhost:0' }],
    ['proxy.uri', { uri: 'http://a..b:1' }],
    ['proxy.uri', { uri: 'http://%E0%A4%A@localhost:1' }],
    ['proxy.headers', { uri: 'http://localhost:1', headers: { 'a b': 'c' } }],
    ['proxy.headers', { uri: 'http://localhost:1', headers: { a: 'b\r\nc: d' } }],
    ['proxy.headers', { uri: 'http://localhost:1', headers: 'a: b' }],
    ['proxy.tls', { uri: 'https://localhost:1', tls: true }],
  ] as const) {
    test(`${JSON.stringify(proxy)}: an error that names ${option}`, () => {
      const options = { proxy } as unknown as StrictConnectorOptions;
      expect(() => strictConnector(options)).toThrowError(
        expect.objectContaining({
          code: 'ERR_TLS_OPTION',
          message: expect.stringMatching(new RegExp(`^${option.replace('.', '\\.')}\\b`)),
        }),
      );
    });
  }

  test('a password is in no message', () => {
    for (const uri of ['http://me:s3cret@a..b', 'socks://me:s3cret@host', 'http://me:s3cret@h:x']) {
      expect(() => strictConnector({ proxy: { uri } })).toThrowError(/^(?!.*s3cret)/);
    }
  });
});
