/** `strictConnector`: undici over strict connections, HTTP/1 and HTTP/2, proxies included. */
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { Agent, Client, type Dispatcher, fetch, request } from 'undici';
import { expect, test } from 'vitest';
import { connect, type TlsStream } from '../../../src/index.ts';
import {
  type Connector,
  type StrictConnectorOptions,
  strictConnector,
} from '../../../src/strict/undici.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, until } from '../../support/core-scope.ts';
import { freePort, listen } from '../../support/core-transport.ts';
import { ANSWERS, BODY, ENDS, type End, site, turns, wired } from '../../support/strict-wire.ts';

const KINDS = Object.keys(ANSWERS) as (keyof typeof ANSWERS)[];

/** undici keeps its timers of its own; what it leaves is not for us to judge. */
function dispatcherOf(
  scope: Scope,
  options: StrictConnectorOptions = {},
  agentOptions: Agent.Options = {},
): Agent {
  const agent = new Agent({
    ...agentOptions,
    connect: strictConnector({ ca: pki().ca, ...options }) as never,
  });
  scope.defer(() => agent.destroy());
  return agent;
}

interface Got {
  readonly body: string | null;
  readonly error: (Error & { code?: string }) | null;
}

async function get(dispatcher: Dispatcher, url: string): Promise<Got> {
  try {
    // Or nothing is sent behind it before its response is here.
    const { body } = await request(url, { dispatcher, blocking: false });
    return { body: await body.text(), error: null };
  } catch (error) {
    return { body: null, error: error as Error };
  }
}

/** The error and those under it. */
const codes = ({ error }: Got): unknown[] => {
  const all: unknown[] = [];
  for (let one = error as Error | undefined; one instanceof Error; one = one.cause as Error) {
    all.push((one as { code?: string }).code);
  }
  return all;
};

/** An HTTP proxy that tunnels, in the clear or over TLS; it keeps what it was asked. */
async function proxyOf(
  scope: Scope,
  kind: 'http' | 'https',
  answer: (request: http.IncomingMessage) => string = () => 'HTTP/1.1 200 OK\r\n\r\n',
) {
  const asked: http.IncomingMessage[] = [];
  const server = kind === 'http' ? http.createServer() : https.createServer(pki().server);
  const open = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  server.on('connect', (request: http.IncomingMessage, socket: net.Socket) => {
    asked.push(request);
    socket.on('error', () => {});
    const head = answer(request);
    if (!head.startsWith('HTTP/1.1 2')) {
      socket.end(head);
      return;
    }
    const [, port] = (request.url as string).split(/:(?=\d+$)/);
    const through = net.connect({ port: Number(port), host: '127.0.0.1' }, () => {
      socket.write(head);
      through.pipe(socket).pipe(through);
    });
    through.on('error', () => socket.destroy());
    scope.defer(() => through.destroy());
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  scope.defer(async () => {
    for (const socket of open) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as net.AddressInfo;
  return { port, asked };
}

const PATHS = ['direct', 'through http proxy', 'through https proxy'] as const;

/** What it takes to get there. */
async function pathOf(scope: Scope, path: (typeof PATHS)[number]): Promise<StrictConnectorOptions> {
  if (path === 'direct') return {};
  const kind = path === 'through http proxy' ? 'http' : 'https';
  const { port } = await proxyOf(scope, kind);
  return { proxy: { uri: `${kind}://localhost:${port}`, tls: { ca: pki().ca } } };
}

for (const path of PATHS) {
  describeTls(`HTTP/1, ${path}`, () => {
    for (const kind of KINDS) {
      for (const end of ENDS) {
        // undici itself takes a reset for the end of a body that has no other.
        test(
          `${kind}, cut by ${end}: it fails`,
          clean(async (scope) => {
            scope.peersStay();
            const { port } = await site(scope, async ({ send, wire }) => {
              await send(ANSWERS[kind].cut);
              await wire.cut(end);
            });
            const got = await get(
              dispatcherOf(scope, await pathOf(scope, path)),
              `https://localhost:${port}`,
            );
            expect(got.body).toBe(null);
            expect(codes(got)).toContain('ERR_TLS_TRUNCATED');
          }),
        );

        if (kind === 'to the connection’s end') continue;
        test(
          `${kind}, whole, then ${end}: whole`,
          clean(async (scope) => {
            scope.peersStay();
            const { port } = await site(scope, async ({ send, wire }) => {
              await send(ANSWERS[kind].whole);
              await wire.cut(end);
            });
            const got = await get(
              dispatcherOf(scope, await pathOf(scope, path)),
              `https://localhost:${port}`,
            );
            expect(got).toEqual({ body: BODY, error: null });
          }),
        );
      }

      test(
        `${kind}, whole, then close_notify: whole`,
        clean(async (scope) => {
          scope.peersStay();
          const { port } = await site(scope, async ({ send, socket }) => {
            await send(ANSWERS[kind].whole);
            socket.end();
          });
          const got = await get(
            dispatcherOf(scope, await pathOf(scope, path)),
            `https://localhost:${port}`,
          );
          expect(got).toEqual({ body: BODY, error: null });
        }),
      );
    }
  });

  describeTls(`HTTP/2, ${path}`, () => {
    for (const [what, whole] of [
      ['whole', true],
      ['cut', false],
    ] as const) {
      for (const end of ENDS) {
        if (whole && end === 'RST') continue;
        test(
          `${what}, then ${end}: ${whole ? 'whole' : 'it fails'}`,
          clean(async (scope) => {
            scope.peersStay();
            const server = http2.createSecureServer(pki().server);
            const { port, wires } = await wired(scope, server);
            server.on('sessionError', () => {});
            server.on('stream', async (stream) => {
              stream.on('error', () => {});
              stream.respond({ ':status': 200 });
              if (whole) {
                stream.end(BODY);
                await new Promise((resolve) => stream.once('close', resolve));
              } else {
                await new Promise<void>((resolve) =>
                  stream.write('Pay $100 to Alice', () => resolve()),
                );
              }
              await turns();
              await wires.at(-1)?.cut(end);
            });
            const got = await get(
              dispatcherOf(
                scope,
                { allowH2: true, ...(await pathOf(scope, path)) },
                { allowH2: true },
              ),
              `https://localhost:${port}`,
            );
            if (whole) expect(got).toEqual({ body: BODY, error: null });
            else {
              expect(got.body).toBe(null);
              if (end !== 'RST') expect(codes(got)).toContain('ERR_TLS_TRUNCATED');
            }
          }),
        );
      }
    }
  });
}

describeTls('connections that are kept', () => {
  for (const end of ENDS) {
    test(
      `idle, ended by ${end}: nobody is disturbed, and the next request has a new one`,
      clean(async (scope) => {
        scope.peersStay();
        const { port, wires } = await site(scope, ({ send }) => send(ANSWERS.chunked.whole));
        const agent = dispatcherOf(scope);
        const errors: unknown[] = [];
        agent.on('connectionError', (...args) => errors.push(args));
        const url = `https://localhost:${port}`;
        expect(await get(agent, url)).toEqual({ body: BODY, error: null });
        // undici takes a connection for free a little after the body has been read.
        await turns();
        expect(await get(agent, url)).toEqual({ body: BODY, error: null });
        expect(wires.length).toBe(1);
        await turns();
        const gone = new Promise((resolve) => agent.once('disconnect', resolve));
        await wires[0]?.cut(end);
        await gone;
        expect(await get(agent, url)).toEqual({ body: BODY, error: null });
        expect(wires.length).toBe(2);
        expect(errors).toEqual([]);
      }),
    );
  }

  test(
    'with a second request in the pipeline, ended between the two: the first is whole, the second as without us',
    clean(async (scope) => {
      scope.peersStay();
      const both = async (connect: unknown) => {
        let seen = 0;
        const { port } = await site(scope, async ({ send, wire, number }) => {
          seen++;
          if (number === 0 || number > 2) await send(ANSWERS.chunked.whole);
          if (number !== 1) return;
          await until('the next request is here', () => seen === 3);
          await send(ANSWERS.chunked.whole);
          await wire.cut('FIN');
        });
        const url = `https://localhost:${port}`;
        const client = new Client(url, { connect: connect as never, pipelining: 2 });
        scope.defer(() => client.destroy());
        // The first request of a connection goes alone.
        await get(client, url);
        await turns();
        const got = await Promise.all([get(client, url), get(client, url)]);
        return got.map(({ body, error }) => [body, (error as { code?: string } | null)?.code]);
      };
      const ours = await both(strictConnector({ ca: pki().ca }));
      expect(ours[0]).toEqual([BODY, undefined]);
      expect(ours).toEqual(await both({ ca: pki().ca }));
    }),
  );

  test(
    'cut before the response began: undici’s own error',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await site(scope, ({ wire }) => wire.cut('FIN'));
      const got = await get(dispatcherOf(scope), `https://localhost:${port}`);
      expect(got.error).toMatchObject({ code: 'UND_ERR_SOCKET', message: 'other side closed' });
    }),
  );

  for (const kind of ['content-length', 'chunked'] as const) {
    test(
      `a large body (${kind}), read slowly, whole when FIN comes: every byte`,
      clean(async (scope) => {
        scope.peersStay();
        const large = Buffer.alloc(400_000, 'x');
        const [header, bytes] =
          kind === 'content-length'
            ? [`content-length: ${large.length}`, large]
            : [
                'transfer-encoding: chunked',
                // In small chunks, so that the parser is paused in the middle of what it was given.
                Buffer.from(`${`7d0\r\n${'x'.repeat(2000)}\r\n`.repeat(200)}0\r\n\r\n`),
              ];
        const { port } = await site(scope, async ({ send, wire }) => {
          await send(`HTTP/1.1 200 OK\r\n${header}\r\n\r\n`);
          void send(bytes);
          await wire.cut('FIN');
        });
        const { body } = await request(`https://localhost:${port}`, {
          dispatcher: dispatcherOf(scope),
        });
        let length = 0;
        for await (const chunk of body) {
          length += chunk.length;
          await turns(3);
        }
        expect(length).toBe(large.length);
      }),
    );
  }

  /** Connectors, and whether their connection has ended. */
  const faces = {
    strictConnector() {
      let ended = false;
      const strict = strictConnector({ ca: pki().ca });
      const connector: Connector = (to, callback) =>
        strict(to, (...result) => {
          const [, socket] = result;
          if (socket !== null) {
            const { push } = socket;
            socket.push = (chunk) => {
              ended ||= chunk === null;
              return push.call(socket, chunk);
            };
          }
          callback(...result);
        });
      return { connector, hasEnded: () => ended };
    },
    'stream.toDuplex()'() {
      let stream: TlsStream | undefined;
      const connector: Connector = ({ hostname, port }, callback) => {
        const opened = (made: TlsStream) => {
          stream = made;
          callback(null, made.toDuplex() as unknown as net.Socket);
        };
        connect({ host: hostname, port: Number(port), ca: pki().ca }).then(opened, (error) =>
          callback(error, null),
        );
      };
      return { connector, hasEnded: () => stream?.closure.truncation != null };
    },
  };
  for (const face of ['strictConnector', 'stream.toDuplex()'] as const) {
    for (const [what, missing] of [
      ['whole', 0],
      ['cut', 1],
    ] as const) {
      // The parser is then paused behind the last byte of the body, and the message is not whole for it yet.
      test(
        `a body that nobody reads before FIN has come, ${what} (${face})`,
        clean(async (scope) => {
          scope.peersStay();
          const text = 'x'.repeat(1000);
          const { port } = await site(scope, async ({ send, wire }) => {
            const length = text.length + missing;
            await send(`HTTP/1.1 200 OK\r\ncontent-length: ${length}\r\n\r\n${text}`);
            await wire.cut('FIN');
          });
          const { connector, hasEnded } = faces[face]();
          const dispatcher = new Agent({ connect: connector as never });
          scope.defer(() => dispatcher.destroy());
          const { body } = await request(`https://localhost:${port}`, {
            dispatcher,
            // So that the first bytes pause the parser.
            highWaterMark: 1,
          });
          await until('FIN has come', hasEnded);
          await turns(3);
          const got = await body.text().catch((error) => error.code);
          expect(got).toBe(missing === 0 ? text : 'ERR_TLS_TRUNCATED');
        }),
      );
    }
  }
});

describeTls('a body that is cut before its reader has taken all that came', () => {
  const CAME = 10_000;

  /** A response of which that much came, nobody at it yet, behind the end of its connection. */
  async function unread(scope: Scope, end: End, by: 'request' | 'fetch', signal?: AbortSignal) {
    scope.peersStay();
    const { port, wires } = await site(scope, async ({ send, wire, number }) => {
      if (number > 0) {
        await send(ANSWERS.chunked.whole);
        return;
      }
      await send(`HTTP/1.1 200 OK\r\ncontent-length: ${2 * CAME}\r\n\r\n`);
      await send(Buffer.alloc(CAME, 'x'));
      await wire.cut(end);
    });
    const dispatcher = dispatcherOf(scope, {}, { connections: 1 });
    const gone = new Promise((resolve) => dispatcher.once('disconnect', resolve));
    const url = `https://localhost:${port}`;
    const options = { dispatcher, ...(signal === undefined ? {} : { signal }) };
    const response = by === 'fetch' ? await fetch(url, options) : await request(url, options);
    await gone;
    await turns();
    expect(wires.length).toBe(1);
    return { response, body: response.body as AsyncIterable<Uint8Array>, dispatcher, url };
  }

  /** Reads it slowly. @returns how much there was, and the error. */
  async function read(body: AsyncIterable<Uint8Array>) {
    let got = 0;
    try {
      for await (const chunk of body) {
        got += chunk.length;
        await turns(2);
      }
      return { got, error: null };
    } catch (error) {
      return { got, error: error as Error };
    }
  }

  for (const by of ['request', 'fetch'] as const) {
    for (const end of ENDS) {
      test(
        `${by}, cut by ${end}: all bytes, then the error`,
        clean(async (scope) => {
          const { body, response } = await unread(scope, end, by);
          const { got, error } = await read(body);
          expect(got).toBe(CAME);
          expect(codes({ body: null, error })).toContain('ERR_TLS_TRUNCATED');
          // undici cancels the body of a response that the collector has taken.
          expect(response).toBeDefined();
        }),
      );
    }

    test(
      `${by}: its place in the pool is free at once`,
      clean(async (scope) => {
        const { dispatcher, url } = await unread(scope, 'FIN', by);
        expect(await get(dispatcher, url)).toEqual({ body: BODY, error: null });
      }),
    );

    test(
      `${by}: a signal ends it at once`,
      clean(async (scope) => {
        const controller = new AbortController();
        const { body } = await unread(scope, 'FIN', by, controller.signal);
        const reading = read(body);
        controller.abort();
        expect((await reading).error?.name).toBe('AbortError');
      }),
    );
  }
});

describeTls('sessions', () => {
  const resumed = async (scope: Scope, options: StrictConnectorOptions) => {
    scope.peersStay();
    const { port, reused } = await site(scope, async ({ send, socket }) => {
      await send(ANSWERS['to the connection’s end'].whole);
      socket.end();
    });
    const agent = dispatcherOf(scope, { maxVersion: 'TLSv1.2', ...options });
    for (let i = 0; i < 2; i++) await get(agent, `https://localhost:${port}`);
    return reused;
  };

  test(
    'are resumed',
    clean(async (scope) => {
      expect(await resumed(scope, {})).toEqual([false, true]);
    }),
  );

  test(
    'are not with maxCachedSessions 0',
    clean(async (scope) => {
      expect(await resumed(scope, { maxCachedSessions: 0 })).toEqual([false, false]);
    }),
  );
});

describeTls('the connector', () => {
  test(
    'connects in the clear to http: origins',
    clean(async (scope) => {
      scope.peersStay();
      const server = http.createServer((_request, response) => response.end('plain'));
      server.listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      scope.defer(() => {
        server.closeAllConnections();
        server.close();
      });
      const { port } = server.address() as net.AddressInfo;
      expect(await get(dispatcherOf(scope), `http://127.0.0.1:${port}`)).toMatchObject({
        body: 'plain',
      });
    }),
  );

  test(
    'goes through the proxy for http: origins too',
    clean(async (scope) => {
      scope.peersStay();
      const port = await listen(scope, (socket) => {
        socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nplain'));
      });
      const proxy = await proxyOf(scope, 'http');
      const agent = dispatcherOf(scope, { proxy: { uri: `http://localhost:${proxy.port}` } });
      expect(await get(agent, `http://127.0.0.1:${port}`)).toMatchObject({ body: 'plain' });
      expect(proxy.asked.map(({ url }) => url)).toEqual([`127.0.0.1:${port}`]);
    }),
  );

  test(
    'gives the proxy its credentials, and headers, and where to',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await site(scope, ({ send }) => send(ANSWERS.chunked.whole));
      const proxy = await proxyOf(scope, 'http');
      const agent = dispatcherOf(scope, {
        proxy: { uri: `http://us%65r:p%40ss@localhost:${proxy.port}`, headers: { 'x-more': '1' } },
      });
      expect(await get(agent, `https://localhost:${port}`)).toMatchObject({ body: BODY });
      const [asked] = proxy.asked;
      expect(asked?.url).toBe(`localhost:${port}`);
      expect(asked?.headers).toMatchObject({
        host: `localhost:${port}`,
        'x-more': '1',
        'proxy-authorization': `Basic ${Buffer.from('user:p@ss').toString('base64')}`,
      });
    }),
  );

  for (const [what, answer] of [
    ['407', 'HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n'],
    ['502', 'HTTP/1.1 502 Bad Gateway\r\n\r\nsorry'],
    ['302', 'HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n'],
  ] as const) {
    test(
      `tells that the proxy opened no tunnel (${what})`,
      clean(async (scope) => {
        const proxy = await proxyOf(scope, 'http', () => answer);
        const agent = dispatcherOf(scope, { proxy: { uri: `http://localhost:${proxy.port}` } });
        const got = await get(agent, 'https://localhost:1');
        expect(got.error).toMatchObject({ code: 'ERR_TLS_CONNECT' });
        expect(got.error?.message).toContain(what);
      }),
    );
  }

  test(
    'tells that nobody listens, and leaves nothing open',
    clean(async (scope) => {
      const port = await freePort();
      const got = await get(dispatcherOf(scope), `https://127.0.0.1:${port}`);
      expect(codes(got)).toContain('ECONNREFUSED');
      const proxied = dispatcherOf(scope, { proxy: { uri: `http://127.0.0.1:${port}` } });
      expect(codes(await get(proxied, 'https://localhost:1'))).toContain('ECONNREFUSED');
    }),
  );

  for (const where of ['TLS', 'the proxy', 'TLS behind the proxy'] as const) {
    test(
      `gives up after its timeout (${where}), and leaves nothing open`,
      clean(async (scope) => {
        const silent = await listen(scope, (socket) => void socket.resume());
        const proxy = await proxyOf(scope, 'http');
        const uri =
          where === 'the proxy' ? `http://localhost:${silent}` : `http://localhost:${proxy.port}`;
        const agent = dispatcherOf(scope, {
          timeout: 60,
          ...(where === 'TLS' ? {} : { proxy: { uri } }),
        });
        const got = await get(agent, `https://127.0.0.1:${silent}`);
        expect(got.error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'connect' });
      }),
    );
  }

  test(
    'checks the certificate against the servername of its options, else against the host',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await site(
        scope,
        ({ send }) => send(ANSWERS.chunked.whole),
        pki().otherName,
      );
      const url = `https://localhost:${port}`;
      expect(codes(await get(dispatcherOf(scope), url))).toContain('ERR_TLS_CERT_ALTNAME_INVALID');
      const named = dispatcherOf(scope, { servername: 'other.example' });
      expect(await get(named, url)).toEqual({ body: BODY, error: null });
    }),
  );

  test(
    'does not trust whom the system does not',
    clean(async (scope) => {
      const { port } = await site(scope, ({ send }) => send(ANSWERS.chunked.whole));
      const agent = dispatcherOf(scope, { ca: pki().otherName.cert });
      const got = await get(agent, `https://localhost:${port}`);
      expect(got.body).toBe(null);
      expect(codes(got).some((code) => /UNABLE_TO_(VERIFY|GET)/.test(String(code)))).toBe(true);
    }),
  );

  test(
    'gives options that Node does not take back as an error, through a proxy too',
    clean(async (scope) => {
      const proxy = await proxyOf(scope, 'http');
      const port = await listen(scope, (socket) => void socket.resume());
      for (const way of [{}, { proxy: { uri: `http://localhost:${proxy.port}` } }]) {
        const agent = dispatcherOf(scope, { ciphers: 'NONE-SUCH', ...way });
        const got = await get(agent, `https://localhost:${port}`);
        expect(got.error).toMatchObject({ code: 'ERR_SSL_NO_CIPHER_MATCH' });
      }
    }),
  );

  test(
    "in mode 'report' lets a cut body pass as undici does",
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await site(scope, async ({ send, wire }) => {
        await send(ANSWERS['to the connection’s end'].cut);
        await wire.cut('FIN');
      });
      const got = await get(dispatcherOf(scope, { mode: 'report' }), `https://localhost:${port}`);
      expect(got).toEqual({ body: 'Pay $100 to Alice', error: null });
    }),
  );

  test(
    'gives undici real sockets, alive and quick',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await site(scope, async () => {});
      const connect = strictConnector({ ca: pki().ca });
      const socket = await new Promise<tls.TLSSocket | net.Socket>((resolve, reject) =>
        connect({ hostname: 'localhost', protocol: 'https:', port: String(port) }, (error, got) =>
          error === null ? resolve(got) : reject(error),
        ),
      );
      scope.defer(() => socket.destroy());
      expect(socket).toBeInstanceOf(tls.TLSSocket);
      expect(socket.remotePort).toBe(port);
      // Whoever it was given to hears of errors; nobody else listens.
      expect(socket.listenerCount('error')).toBe(0);
    }),
  );

  for (const [what, options] of [
    ['mode', { mode: 'maybe' }],
    ['timeout', { timeout: -1 }],
    ['timeout', { timeout: 'soon' }],
    ['proxy.uri', { proxy: { uri: 'not a URL' } }],
    ['proxy.uri', { proxy: { uri: 'socks5://localhost:1' } }],
  ] as const) {
    test(`refuses ${JSON.stringify(options)}`, () => {
      expect(() => strictConnector(options as unknown as StrictConnectorOptions)).toThrowError(
        expect.objectContaining({
          code: 'ERR_TLS_OPTION',
          message: expect.stringContaining(what),
        }),
      );
    });
  }
});
