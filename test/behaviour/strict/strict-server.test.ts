/** `strictServer`: what a server of Node's own sees of the ends of its clients. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { socketClosure, strictServer } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, until } from '../../support/core-scope.ts';
import { reset } from '../../support/core-transport.ts';
import { codesOf, ENDS, turns, Wire, wired, wiredClient } from '../../support/strict-wire.ts';

/** Listens, and is closed with all its connections when the test ends. */
async function listening<T extends tls.Server>(scope: Scope, server: T): Promise<number> {
  const open = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.defer(async () => {
    for (const socket of open) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as net.AddressInfo).port;
}

/** What a socket tells of its end. */
function endingOf(socket: tls.TLSSocket): string[] {
  const events: string[] = [];
  socket.on('end', () => events.push('end'));
  socket.on('error', (error: Error & { code?: string }) => events.push(`error ${error.code}`));
  socket.on('close', (failed) => events.push(`close ${failed}`));
  return events;
}

/** Over the kernel's socket, or over a stream that the program hands to the server by itself. */
const WAYS = ['a connection that it accepted', 'a stream that it was given'] as const;

for (const way of WAYS) {
  describeTls(`tls.Server, ${way}`, () => {
    const start = async (scope: Scope, onSocket: (socket: tls.TLSSocket) => void) => {
      const server = strictServer(tls.createServer(pki().server, onSocket));
      return way === WAYS[0] ? await listening(scope, server) : (await wired(scope, server)).port;
    };

    for (const end of ENDS) {
      test(
        `cut by ${end}: an error instead of 'end', after the data`,
        clean(async (scope) => {
          scope.peersStay();
          let events: string[] = [];
          let text = '';
          let closure: ReturnType<typeof socketClosure> | undefined;
          const port = await start(scope, (socket) => {
            events = endingOf(socket);
            socket.on('data', (chunk) => {
              text += chunk;
            });
            socket.on('close', () => {
              closure = socketClosure(socket);
            });
          });
          const { wire, socket } = await wiredClient(scope, port);
          socket.write('Pay $100 to Alice');
          await wire.cut(end);
          await until('it has closed', () => events.length >= 2);
          // Node adds its own listener for what an injected stream fails with.
          expect(codesOf(end).map((code) => `error ${code}`)).toContain(events[0]);
          expect(events.slice(1)).toEqual([`close ${end !== 'RST' || way === WAYS[0]}`]);
          expect(text).toBe('Pay $100 to Alice');
          expect(closure?.verdict).toBe('truncated');
        }),
      );
    }

    test(
      'closed with close_notify: an end, without error',
      clean(async (scope) => {
        scope.peersStay();
        let events: string[] = [];
        let text = '';
        const port = await start(scope, (socket) => {
          events = endingOf(socket);
          // On a stream that stays half-open so does what is on it.
          socket.on('end', () => socket.end());
          socket.on('data', (chunk) => {
            text += chunk;
          });
        });
        const { socket } = await wiredClient(scope, port);
        socket.end('Pay $100 to Alice');
        socket.resume();
        await until('it has closed', () => events.includes('close false'));
        expect(events).toEqual(['end', 'close false']);
        expect(text).toBe('Pay $100 to Alice');
      }),
    );
  });
}

describeTls('https.Server', () => {
  const HEADS = {
    'content-length': (body: string) => `content-length: 28\r\n\r\n${body}`,
    chunked: (body: string) =>
      `transfer-encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n`,
  };
  const BODY = 'Pay $100 to Alice, not $1000';

  /** A server that takes uploads, and what it saw. */
  async function taker(scope: Scope) {
    const seen = { events: [] as string[], body: '', complete: null as boolean | null };
    const server = strictServer(
      https.createServer(pki().server, (request, response) => {
        request.setEncoding('latin1').on('data', (text: string) => {
          seen.body += text;
        });
        for (const name of ['end', 'aborted']) request.on(name, () => seen.events.push(name));
        request.on('error', (error: Error & { code?: string }) =>
          seen.events.push(`error ${error.code}`),
        );
        request.on('close', () => {
          seen.complete = request.complete;
          seen.events.push('close');
        });
        request.on('end', () => response.end('thanks'));
      }),
    );
    server.on('clientError', (error: Error & { code?: string }, socket) => {
      seen.events.push(`clientError ${error.code}`);
      socket.destroy();
    });
    return { seen, server, port: await listening(scope, server) };
  }

  for (const [kind, head] of Object.entries(HEADS)) {
    for (const end of ENDS) {
      test(
        `an upload (${kind}) cut by ${end}: an error on the request, never 'end', never complete`,
        clean(async (scope) => {
          const { seen, port } = await taker(scope);
          const { wire, socket } = await wiredClient(scope, port);
          socket.write(`POST / HTTP/1.1\r\nhost: x\r\n${head('Pay $100 to Alice')}`);
          await until('it is here', () => seen.body !== '');
          await wire.cut(end);
          await until('the request has closed', () => seen.events.includes('close'));
          expect(seen.events).not.toContain('end');
          expect(seen.complete).toBe(false);
          const errors = seen.events.filter((name) => name.startsWith('error'));
          expect(errors.length).toBe(1);
          if (end !== 'RST') expect(errors).toEqual(['error ERR_TLS_TRUNCATED']);
        }),
      );
    }
  }

  for (const end of ['FIN', 'FIN inside a record'] as const) {
    test(
      `kept alive and idle when ${end} comes: no error for anyone`,
      clean(async (scope) => {
        const { seen, port } = await taker(scope);
        const { wire, socket } = await wiredClient(scope, port);
        socket.write(`POST / HTTP/1.1\r\nhost: x\r\n${HEADS['content-length'](BODY)}`);
        await once(socket, 'data');
        await wire.cut(end);
        await until('the connection is over', () => wire.gone);
        await turns();
        expect(seen).toEqual({ events: ['end', 'close'], body: BODY, complete: true });
      }),
    );

    test(
      `an upload whole, its answer not sent yet, when ${end} comes: as in Node`,
      clean(async (scope) => {
        const outcomes: string[][] = [];
        for (const make of [strictServer, <T>(server: T) => server]) {
          const events: string[] = [];
          const server = make(
            https.createServer(pki().server, (request, response) => {
              request.resume();
              request.on('end', () => events.push(`end ${request.complete}`));
              request.on('error', (error) => events.push(`error ${error.message}`));
              response.on('close', () => events.push('response close'));
            }),
          );
          server.on('clientError', (error) => events.push(`clientError ${error.message}`));
          const port = await listening(scope, server);
          const { wire, socket } = await wiredClient(scope, port);
          socket.write(`POST / HTTP/1.1\r\nhost: x\r\n${HEADS['content-length'](BODY)}`);
          await until('it is here', () => events.length > 0);
          await wire.cut(end);
          await until('it is over', () => events.includes('response close'));
          outcomes.push(events);
        }
        expect(outcomes[0]).toEqual(outcomes[1]);
        expect(outcomes[0]).toContain('end true');
      }),
    );
  }

  for (const [what, reads] of [
    ['nobody reads hears of its end at once, as Node’s handlers expect', false],
    ['is paused gives all that came, then fails', true],
  ] as const) {
    test(
      `an upload that ${what}`,
      clean(async (scope) => {
        const events: string[] = [];
        const got: http.IncomingMessage[] = [];
        const server = strictServer(
          https.createServer(pki().server, (request) => {
            got.push(request);
            for (const name of ['end', 'aborted', 'close']) {
              request.on(name, () => events.push(name));
            }
            request.on('error', ({ code }: NodeJS.ErrnoException) => events.push(`${code}`));
            if (!reads) return;
            request.on('data', (chunk) => events.push(`${chunk}`)).pause();
          }),
        );
        const port = await listening(scope, server);
        const { wire, socket } = await wiredClient(scope, port);
        socket.write(`POST / HTTP/1.1\r\nhost: x\r\n${HEADS['content-length']('Pay $100')}`);
        await until('it is here', () => got[0]?.readableLength === 8);
        await wire.cut('FIN');
        await until('its socket has closed', () => got[0]?.socket.closed === true);
        await turns();
        const end = ['aborted', 'ERR_TLS_TRUNCATED', 'close'];
        expect(events).toEqual(reads ? [] : end);
        got[0]?.resume();
        await until('it has closed', () => events.includes('close'));
        expect(events).toEqual(reads ? ['Pay $100', ...end] : end);
      }),
    );
  }

  test(
    'a request cut inside its header: clientError, as in Node',
    clean(async (scope) => {
      const { seen, port } = await taker(scope);
      const { wire, socket } = await wiredClient(scope, port);
      socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-le');
      await wire.cut('FIN');
      await until('the connection is over', () => seen.events.length > 0);
      expect(seen.events).toEqual(['clientError HPE_INVALID_EOF_STATE']);
    }),
  );

  test(
    'closeAllConnections ends strict ones too',
    clean(async (scope) => {
      const { server, port, seen } = await taker(scope);
      const { socket, wire } = await wiredClient(scope, port);
      socket.write(`POST / HTTP/1.1\r\nhost: x\r\n${HEADS['content-length'](BODY)}`);
      await once(socket, 'data');
      server.closeAllConnections();
      await until('the connection is over', () => wire.gone);
      expect(seen.events).not.toContain('error');
    }),
  );

  test(
    "in mode 'report' sees what it saw before",
    clean(async (scope) => {
      const outcomes: string[][] = [];
      for (const make of [
        <T extends tls.Server>(server: T) => strictServer(server, { mode: 'report' }),
        <T>(server: T) => server,
      ]) {
        const events: string[] = [];
        let body = '';
        const server = make(
          https.createServer(pki().server, (request) => {
            request.on('data', (chunk) => {
              body += chunk;
            });
            for (const name of ['end', 'aborted', 'close'])
              request.on(name, () => events.push(name));
            request.on('error', (error: Error & { code?: string }) =>
              events.push(`error ${error.code}`),
            );
          }),
        );
        const port = await listening(scope, server);
        const { wire, socket } = await wiredClient(scope, port);
        socket.write(`POST / HTTP/1.1\r\nhost: x\r\n${HEADS['content-length']('Pay')}`);
        await until('it is here', () => body !== '');
        await wire.cut('FIN');
        await until('it is over', () => events.includes('close'));
        outcomes.push(events);
      }
      expect(outcomes[0]).toEqual(outcomes[1]);
    }),
  );
});

describeTls('a server made strict', () => {
  test('is the same server, and has one guard however often it is made strict', () => {
    const server = tls.createServer(pki().server);
    expect(strictServer(server)).toBe(server);
    const count = server.listenerCount('connection') + server.listenerCount('secureConnection');
    expect(strictServer(server, { mode: 'report' })).toBe(server);
    expect(server.listenerCount('connection') + server.listenerCount('secureConnection')).toBe(
      count,
    );
  });

  test(
    'has the mode of the last call, for connections from then on',
    clean(async (scope) => {
      scope.peersStay();
      const server = tls.createServer(pki().server);
      const endings: string[][] = [];
      server.on('secureConnection', (socket) => {
        endings.push(endingOf(socket));
        socket.resume();
      });
      const port = await listening(scope, server);
      /** A client that is there once the server has its connection; it is cut later. */
      const client = async () => {
        const count = endings.length;
        const { wire } = await wiredClient(scope, port);
        await until('the server has it', () => endings.length > count);
        return wire;
      };
      const wires: Wire[] = [];
      for (const options of [
        { mode: 'report' },
        { mode: 'error' },
        { mode: 'report' },
        {},
      ] as const) {
        strictServer(server, options);
        wires.push(await client());
      }
      for (const wire of wires) await wire.cut('FIN');
      await until('all are over', () =>
        endings.every((one) => one.some((event) => /^close/.test(event))),
      );
      expect(endings.map(([first]) => first)).toEqual([
        'end',
        'error ERR_TLS_TRUNCATED',
        'end',
        'error ERR_TLS_TRUNCATED',
      ]);
    }),
  );

  for (const [what, make] of [
    ['a TCP server', () => net.createServer(() => {})],
    ['an HTTP server in the clear', () => http2.createServer()],
    ['nothing', () => undefined],
    ['an object', () => ({})],
  ] as const) {
    test(`cannot be ${what}`, () => {
      expect(() => strictServer(make() as unknown as tls.Server)).toThrowError(
        expect.objectContaining({ code: 'ERR_TLS_OPTION' }),
      );
    });
  }

  test('takes no other mode', () => {
    const server = tls.createServer(pki().server);
    expect(() => strictServer(server, { mode: 'x' as 'error' })).toThrowError(
      expect.objectContaining({ code: 'ERR_TLS_OPTION' }),
    );
  });

  test(
    'goes on giving connections to the program’s own listeners, in their order',
    clean(async (scope) => {
      scope.peersStay();
      const seen: string[] = [];
      const server = tls.createServer(pki().server, () => seen.push('secure'));
      const raw = (name: string) => (socket: net.Socket) => {
        expect(socket).toBeInstanceOf(net.Socket);
        expect(socket).not.toBeInstanceOf(tls.TLSSocket);
        seen.push(name);
      };
      server.prependListener('connection', raw('before'));
      server.on('connection', raw('after'));
      server.once('connection', raw('once'));
      strictServer(server);
      server.on('connection', raw('later'));
      const port = await listening(scope, server);
      for (let i = 1; i <= 2; i++) {
        await wiredClient(scope, port);
        await until('it is secure', () => seen.filter((name) => name === 'secure').length === i);
      }
      expect(seen).toEqual([
        ...['before', 'after', 'once', 'later', 'secure'],
        ...['before', 'after', 'later', 'secure'],
      ]);
    }),
  );

  for (const way of WAYS) {
    test(
      `judges client certificates, ALPN and names as before (${way})`,
      clean(async (scope) => {
        scope.peersStay();
        let seen: unknown;
        const server = strictServer(
          tls.createServer({
            ...pki().server,
            ca: pki().ca,
            requestCert: true,
            rejectUnauthorized: false,
            ALPNProtocols: ['two', 'one'],
          }),
        );
        server.on('secureConnection', (socket) => {
          seen = [
            socket.authorized,
            socket.getPeerCertificate().subject?.CN,
            socket.alpnProtocol,
            (socket as { servername?: string }).servername,
          ];
        });
        const port =
          way === WAYS[0] ? await listening(scope, server) : (await wired(scope, server)).port;
        await wiredClient(scope, port, { ...pki().client, ALPNProtocols: ['one'] });
        await until('it is secure', () => seen !== undefined);
        expect(seen).toEqual([true, 'client', 'one', 'localhost']);
      }),
    );

    test(
      `tells of a client that it refuses, and of a handshake that fails (${way})`,
      clean(async (scope) => {
        scope.peersStay();
        const codes = async (make: (server: tls.Server) => tls.Server) => {
          const seen: unknown[] = [];
          const server = make(
            tls.createServer({ ...pki().server, ca: pki().ca, requestCert: true }),
          );
          server.on('tlsClientError', (error: Error & { code?: string }) => seen.push(error.code));
          server.on('secureConnection', () => seen.push('secure'));
          const port =
            way === WAYS[0] ? await listening(scope, server) : (await wired(scope, server)).port;
          await wiredClient(scope, port, pki().stranger).catch(() => {});
          await until('the stranger is refused', () => seen.length === 1);
          for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '']) {
            const count = seen.length;
            const socket = net.connect({ port, host: '127.0.0.1' });
            scope.defer(() => socket.destroy());
            socket.on('error', () => {});
            await once(socket, 'connect');
            if (bytes === '') reset(socket);
            else socket.write(bytes);
            await until('the handshake has failed', () => seen.length > count);
          }
          return seen;
        };
        const ours = await codes(strictServer);
        expect(ours).toEqual(await codes((server) => server));
        expect(ours).not.toContain('secure');
      }),
    );
  }
});

describeTls('a listener that was there before strictServer', () => {
  test(
    'gets sockets that are strict already',
    clean(async (scope) => {
      scope.peersStay();
      const seen: unknown[] = [];
      const server = tls.createServer(pki().server);
      // Whatever it does with the socket, a reader that it gives it to must not see an ordinary end.
      server.on('secureConnection', (socket) => seen.push(socketClosure(socket)));
      strictServer(server);
      const port = await listening(scope, server);
      const socket = tls.connect({ port, host: 'localhost', ca: pki().ca });
      scope.defer(() => socket.destroy());
      await once(socket, 'secureConnect');
      await until('the server has it, too', () => seen.length > 0);
      expect(seen).toMatchObject([{ verdict: 'open' }]);
    }),
  );
});

describeTls('a server on a Unix domain socket', () => {
  test(
    'is strict in the same way',
    clean(async (scope) => {
      scope.peersStay();
      const directory = await mkdtemp(join(tmpdir(), 'strict-server-'));
      scope.defer(() => rm(directory, { recursive: true }));
      const path = join(directory, 'socket');
      const server = strictServer(tls.createServer(pki().server));
      const endings: string[][] = [];
      server.on('secureConnection', (socket) => {
        endings.push(endingOf(socket));
        socket.end('whole');
        socket.resume();
      });
      server.listen(path);
      await once(server, 'listening');
      scope.defer(() => new Promise((resolve) => server.close(resolve)));
      for (const closed of [true, false]) {
        const raw = net.connect({ path, allowHalfOpen: true });
        scope.defer(() => raw.destroy());
        const wire = new Wire(raw);
        const socket = tls.connect({ socket: wire, ca: pki().ca, servername: 'localhost' });
        scope.defer(() => socket.destroy());
        socket.on('error', () => {});
        const [bytes] = await once(socket, 'data');
        expect(String(bytes)).toBe('whole');
        if (closed) socket.end();
        else await wire.cut('FIN');
        await until('it is over', () => endings.at(-1)?.some((one) => /^close/.test(one)) === true);
      }
      expect(endings).toEqual([
        ['end', 'close false'],
        ['error ERR_TLS_TRUNCATED', 'close true'],
      ]);
    }),
  );
});
