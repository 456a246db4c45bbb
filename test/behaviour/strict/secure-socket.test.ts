/** `secureSocket`: a TLS socket of Node's own, in every property, and strict. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import net from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import {
  accept,
  type ClosureMessage,
  secureSocket,
  socketClosure,
  type TruncatedMessage,
} from '../../../src/index.ts';
import { channel } from '../../../src/testing/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, until } from '../../support/core-scope.ts';
import { only, pattern, rejection, VERSIONS } from '../../support/core-streams.ts';
import { freePort, listen } from '../../support/core-transport.ts';
import { codesOf, ENDS, turns, Wire, wired } from '../../support/strict-wire.ts';

/** A server whose every connection goes to `onSocket`. */
async function serve(
  scope: Scope,
  onSocket: (socket: tls.TLSSocket, wire: Wire) => unknown,
  options: tls.TlsOptions = {},
) {
  const server = tls.createServer({ ...pki().server, ...options });
  const { port, wires } = await wired(scope, server);
  server.on('secureConnection', (socket) => {
    scope.defer(() => socket.destroy());
    socket.resume();
    socket.on('end', () => socket.end());
    void onSocket(socket, wires.at(-1) as Wire);
  });
  return port;
}

const send = (socket: tls.TLSSocket, bytes: string | Buffer) =>
  new Promise<void>((resolve) => socket.write(bytes, () => resolve()));

/** Holds back what TLS sends, and its FIN, until the call that delivers it in one segment. */
function together({ raw }: Wire): () => void {
  const { write, end } = raw;
  const parts: Uint8Array[] = [];
  raw.write = ((chunk: Uint8Array, done: () => void) => {
    parts.push(chunk);
    done();
    return true;
  }) as typeof write;
  raw.end = (() => raw) as typeof end;
  return () => {
    Object.assign(raw, { write, end });
    raw.end(Buffer.concat(parts));
  };
}

/** Over the kernel's socket, and over any other stream. */
const OVER = {
  'of its own': async () => ({}),
  'over a socket that is given': async (scope: Scope, port: number) => {
    const socket = net.connect({ port, host: '127.0.0.1' });
    scope.defer(() => socket.destroy());
    await once(socket, 'connect');
    return { socket };
  },
  'over a stream that is given': async (scope: Scope, port: number) => {
    const raw = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    scope.defer(() => raw.destroy());
    await once(raw, 'connect');
    return { socket: new Wire(raw) };
  },
} as const;

for (const [over, transport] of Object.entries(OVER)) {
  const open = async (scope: Scope, port: number, options: tls.ConnectionOptions = {}) => {
    const socket = secureSocket({
      host: 'localhost',
      port,
      ca: pki().ca,
      ...(await transport(scope, port)),
      ...options,
    });
    scope.defer(() => socket.destroy());
    // On a transport that stays half-open so does what is on it.
    socket.on('end', () => socket.end());
    return socket;
  };

  for (const version of VERSIONS) {
    describeTls(`${version}, ${over}`, () => {
      for (const end of ENDS) {
        test(
          `cut by ${end}: every byte, then an error instead of 'end'`,
          clean(async (scope) => {
            const data = pattern(end === 'RST' ? 8_000 : 150_000);
            const port = await serve(scope, async (socket, wire) => {
              await send(socket, data);
              await wire.cut(end);
            });
            const socket = await open(scope, port, only(version));
            const bytes: Buffer[] = [];
            const events: string[] = [];
            socket.on('data', (chunk) => bytes.push(chunk));
            socket.on('end', () => events.push('end'));
            const [error] = await once(socket, 'error');
            const [failed] = await once(socket, 'close');
            expect(codesOf(end)).toContain(error.code);
            if (end !== 'RST' || over !== 'over a stream that is given') expect(failed).toBe(true);
            expect(events).toEqual([]);
            // A stream that is destroyed forgets what it held.
            if (end !== 'RST' || over !== 'over a stream that is given') {
              expect(Buffer.concat(bytes).equals(data)).toBe(true);
            }
            expect(socketClosure(socket)).toMatchObject({
              verdict: 'truncated',
              truncation: { cause: end === 'RST' ? 'reset' : 'eof' },
            });
          }),
        );
      }

      test(
        'a session that was kept is resumed',
        clean(async (scope) => {
          const port = await serve(scope, (socket) => send(socket, 'hello'));
          const live = async (session?: Buffer) => {
            const socket = await open(scope, port, { ...only(version), session });
            const kept = once(socket, 'session');
            const [[said]] = await Promise.all([
              once(socket, 'data'),
              once(socket, 'secureConnect'),
            ]);
            expect(String(said)).toBe('hello');
            const resumed = socket.isSessionReused();
            // TLS 1.2 gives no other ticket for one that was taken.
            const next = resumed ? session : ((await kept)[0] as Buffer);
            socket.end();
            await once(socket, 'close');
            return { resumed, next, closure: socketClosure(socket) };
          };
          const first = await live();
          const second = await live(first.next);
          expect([first.resumed, second.resumed]).toEqual([false, true]);
          expect(second.closure?.verdict).toBe('secure');
        }),
      );

      test(
        'cut while nobody reads: the error waits for the reader, and comes behind every byte',
        clean(async (scope) => {
          const data = pattern(10_000);
          let cut = false;
          const port = await serve(scope, async (socket, wire) => {
            await send(socket, data);
            await wire.cut('FIN');
            cut = true;
          });
          const socket = await open(scope, port, only(version));
          const errors: unknown[] = [];
          socket.on('error', (error) => errors.push(error));
          await once(socket, 'readable');
          await until('it is cut', () => cut);
          await turns();
          expect(errors).toEqual([]);
          const sink = new PassThrough();
          const error = await rejection(pipeline(socket, sink));
          expect(error.code).toBe('ERR_TLS_TRUNCATED');
          expect((sink.read() as Buffer | null)?.equals(data) ?? true).toBe(true);
        }),
      );

      test(
        'closed with close_notify: an end, and a closure that is secure',
        clean(async (scope) => {
          const port = await serve(scope, (socket) => socket.end('whole'));
          const socket = await open(scope, port, only(version));
          const events: string[] = [];
          for (const name of ['data', 'end', 'error', 'close']) {
            socket.on(name, (value) => events.push(`${name} ${value ?? ''}`.trim()));
          }
          await once(socket, 'close');
          expect(events).toEqual(['data whole', 'end', 'close false']);
          expect(socketClosure(socket)?.verdict).toBe('secure');
        }),
      );

      test(
        'closed by both in one go, close_notify behind data that nobody has read yet: an end',
        clean(async (scope) => {
          const data = pattern(60_000);
          const port = await serve(scope, (socket) => socket.end(data));
          const socket = await open(scope, port, only(version));
          await once(socket, 'secureConnect');
          await turns(20);
          const bytes: Buffer[] = [];
          for await (const chunk of socket) {
            bytes.push(chunk);
            await turns(2);
          }
          expect(Buffer.concat(bytes).equals(data)).toBe(true);
        }),
      );

      test(
        "a fatal alert behind data that nobody has read, and more behind it: the data, then an error, never 'end'",
        clean(async (scope) => {
          const data = pattern(5_000);
          let injected = false;
          const port = await serve(scope, async (socket, wire) => {
            socket.on('error', () => {});
            await send(socket, data);
            await turns();
            // What the server answers to bytes that are not the client's: an alert, under its key.
            const { write } = wire.raw;
            wire.raw.write = ((chunk: Uint8Array, ...rest: []) => {
              write.call(wire.raw, chunk, ...rest);
              wire.raw.write = write;
              void turns(20).then(() => {
                injected = true;
                wire.raw.write(Buffer.concat([Buffer.from([23, 3, 3, 0, 40]), Buffer.alloc(40)]));
              });
              return true;
            }) as typeof write;
            wire.push(Buffer.concat([Buffer.from([23, 3, 3, 0, 64]), Buffer.alloc(64, 7)]));
          });
          const told: unknown[] = [];
          const onTruncated = (message: unknown) => void told.push(message);
          subscribe('close-notify.truncated', onTruncated);
          scope.defer(() => unsubscribe('close-notify.truncated', onTruncated));
          const socket = await open(scope, port, only(version));
          const events: string[] = [];
          socket.on('end', () => events.push('end'));
          socket.on('error', () => events.push('error'));
          await until('the alert has come', () => events.includes('error'));
          await until('more has come', () => injected);
          await turns(20);
          const bytes: Buffer[] = [];
          socket.on('data', (chunk) => bytes.push(chunk));
          await until('it is over', () => socket.closed);
          expect(events).not.toContain('end');
          expect(Buffer.concat(bytes).equals(data)).toBe(true);
          expect(socketClosure(socket)).toMatchObject({ verdict: 'alert', received: null });
          expect(told).toMatchObject([
            { outcome: 'error', incomplete: true, error: { code: 'ERR_TLS_ALERT' } },
          ]);
        }),
      );

      test(
        'destroyed by its reader, within the data that close_notify follows: nobody else ended it',
        clean(async (scope) => {
          const port = await serve(scope, async (socket, wire) => {
            const deliver = together(wire);
            socket.end('whole');
            await turns(20);
            deliver();
          });
          const socket = await open(scope, port, only(version));
          socket.on('data', () => socket.destroy());
          await once(socket, 'close');
          expect(socketClosure(socket)).toMatchObject({ verdict: 'aborted', truncation: null });
        }),
      );

      test(
        'cut when its reader, who had enough for a while, has read all: an error',
        clean(async (scope) => {
          let cut = async () => {};
          const port = await serve(scope, async (socket, wire) => {
            cut = () => wire.cut('FIN');
            await send(socket, 'Pay $100');
          });
          // Full with the first byte.
          const socket = await open(scope, port, { ...only(version), highWaterMark: 1 } as object);
          await until('it has come', () => socket.readableLength > 0);
          await turns();
          const events: string[] = [];
          socket.on('end', () => events.push('end'));
          socket.on('error', (error: Error & { code?: string }) => events.push(`${error.code}`));
          expect(String(socket.read())).toBe('Pay $100');
          await turns();
          await cut();
          await until('it is over', () => events.length > 0);
          expect(events).toEqual(['ERR_TLS_TRUNCATED']);
        }),
      );

      test(
        'a close_notify that was forged is none',
        clean(async (scope) => {
          const port = await serve(scope, async (socket, wire) => {
            await send(socket, 'Pay $100');
            await turns();
            // In TLS 1.2 an alert names itself; neither key has made this one.
            wire.raw.write(Buffer.from([21, 3, 3, 0, 2, 1, 0]));
            wire.raw.end();
          });
          const socket = await open(scope, port, only(version));
          let ended = false;
          socket.on('end', () => {
            ended = true;
          });
          socket.resume();
          await once(socket, 'error');
          await once(socket, 'close');
          expect(ended).toBe(false);
          expect(socketClosure(socket)?.received ?? null).toBe(null);
        }),
      );
    });
  }

  describeTls(`a socket ${over}`, () => {
    test(
      'has the properties of one of tls.connect',
      clean(async (scope) => {
        const port = await serve(scope, () => {}, { ALPNProtocols: ['x'] });
        const socket = await open(scope, port, { ALPNProtocols: ['x'] });
        expect(socket).toBeInstanceOf(tls.TLSSocket);
        await once(socket, 'secureConnect');
        expect(socket.encrypted).toBe(true);
        expect(socket.authorized).toBe(true);
        expect(socket.alpnProtocol).toBe('x');
        expect(socketClosure(socket)?.verdict).toBe('open');
        if (over !== 'over a stream that is given') {
          expect(socket.remoteAddress).toMatch(/127\.0\.0\.1$|^::1$/);
          expect(socket.remotePort).toBe(port);
          expect(typeof socket.localPort).toBe('number');
          for (const chained of [
            socket.setNoDelay(true),
            socket.setKeepAlive(true, 1000),
            socket.setTimeout(0),
            socket.unref(),
            socket.ref(),
          ]) {
            expect(chained).toBe(socket);
          }
        }
        socket.destroy();
        await once(socket, 'close');
        expect(socketClosure(socket)?.verdict).toBe('aborted');
      }),
    );

    test(
      "in mode 'report' a truncation is told once, behind what waits for a reader, as it fails in mode 'error'",
      clean(async (scope) => {
        const port = await serve(scope, async (socket, wire) => {
          await send(socket, 'Pay $100');
          await wire.cut('FIN');
        });
        const told: string[] = [];
        const onTruncated = (message: unknown) =>
          void told.push((message as TruncatedMessage).outcome);
        subscribe('close-notify.truncated', onTruncated);
        scope.defer(() => unsubscribe('close-notify.truncated', onTruncated));
        const socket = await open(scope, port, { mode: 'report' } as object);
        await until('it is cut', () => socketClosure(socket)?.verdict === 'truncated');
        await turns(20);
        expect(told).toEqual([]);
        socket.resume();
        await once(socket, 'close');
        expect(told).toEqual(['end']);
      }),
    );

    test(
      'with a certificate for another name: refused, and nothing is left open',
      clean(async (scope) => {
        const port = await serve(scope, () => {}, pki().otherName);
        const socket = await open(scope, port);
        const [error] = await once(socket, 'error');
        expect(error.code).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
      }),
    );

    test(
      'cut during the handshake: what tls.connect calls it',
      clean(async (scope) => {
        const port = await listen(scope, (raw) => void raw.once('data', () => raw.end()));
        const socket = await open(scope, port);
        const [error] = await once(socket, 'error');
        expect(error.code).toBe('ECONNRESET');
        expect(error.message).toContain('before secure TLS connection was established');
      }),
    );

    test(
      "tells the channels of a truncation, and in mode 'report' ends",
      clean(async (scope) => {
        const port = await serve(scope, async (socket, wire) => {
          await send(socket, 'Pay $100');
          await wire.cut('FIN');
        });
        const told: string[] = [];
        const onTruncated = (message: unknown) =>
          void told.push((message as TruncatedMessage).outcome);
        const onClosure = (message: unknown) =>
          void told.push((message as ClosureMessage).closure.verdict);
        subscribe('close-notify.truncated', onTruncated);
        subscribe('close-notify.closure', onClosure);
        const socket = await open(scope, port, { mode: 'report' } as object);
        let ended = false;
        socket.on('end', () => {
          ended = true;
        });
        socket.resume();
        await once(socket, 'close');
        await turns();
        unsubscribe('close-notify.truncated', onTruncated);
        unsubscribe('close-notify.closure', onClosure);
        expect(ended).toBe(true);
        expect(told).toEqual(['end', 'truncated']);
      }),
    );
  });
}

describeTls('options', () => {
  test(
    'timeout, signal, onread and the listener work as in tls.connect',
    clean(async (scope) => {
      const port = await serve(scope, (socket) => socket.end('whole'));
      const base = { host: 'localhost', port, ca: pki().ca };
      let read = '';
      let secure = 0;
      const buffer = Buffer.alloc(2);
      const onread = {
        buffer,
        callback: (length: number, bytes: Uint8Array) => {
          read += Buffer.from(bytes.subarray(0, length)).toString();
          return true;
        },
      };
      const into = secureSocket({ ...base, onread } as never, () => secure++);
      await once(into, 'close');
      expect([read, secure]).toEqual(['whole', 1]);

      const silent = await listen(scope, (raw) => void raw.resume());
      const late = secureSocket({ ...base, port: silent, timeout: 30 });
      await once(late, 'timeout');
      late.destroy();

      const controller = new AbortController();
      const stopped = secureSocket({ ...base, port: silent, signal: controller.signal } as never);
      controller.abort();
      const [error] = await once(stopped, 'error');
      expect(error).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR' });
    }),
  );

  test(
    'that are bad throw at once, as in tls.connect, and leave nothing open',
    clean(async (scope) => {
      const port = await freePort();
      for (const [options, code] of [
        [{ port, mode: 'x' }, 'ERR_TLS_OPTION'],
        [{ port, ciphers: 'NONE-SUCH' }, 'ERR_SSL_NO_CIPHER_MATCH'],
        [{ port, minVersion: 'TLSv9' }, 'ERR_TLS_INVALID_PROTOCOL_VERSION'],
      ] as const) {
        expect(() => secureSocket(options as never)).toThrowError(
          expect.objectContaining({ code }),
        );
      }
      const raw = new PassThrough();
      scope.defer(() => raw.destroy());
      const listener = () => {};
      raw.on('data', listener);
      expect(() => secureSocket({ socket: raw, ciphers: 'NONE-SUCH' })).toThrowError();
      // It is the caller's still, as it was.
      expect(raw.destroyed).toBe(false);
      expect(raw.listeners('data')).toEqual([listener]);
    }),
  );

  test.each([true, false])(
    'over a stream: allowHalfOpen (%s) is the stream’s, as in tls.connect',
    async (allowHalfOpen) => {
      const body = clean(async (scope) => {
        const wire = channel();
        wire.ends[0].allowHalfOpen = allowHalfOpen;
        const socket = secureSocket({
          socket: wire.ends[0],
          ca: pki().ca,
          servername: 'localhost',
        });
        scope.defer(() => socket.destroy());
        const server = await accept(wire.ends[1], pki().server);
        expect(socket.allowHalfOpen).toBe(allowHalfOpen);
        const shutting = server.shutdown();
        socket.resume();
        await once(socket, 'end');
        if (allowHalfOpen) {
          await turns();
          expect(socket.writable).toBe(true);
          socket.end();
        }
        expect((await shutting).verdict).toBe('secure');
        await server.close();
        await until('it has closed', () => socketClosure(socket)?.verdict !== 'open');
        expect(socketClosure(socket)?.verdict).toBe('secure');
      });
      await body();
    },
  );

  test(
    'onread: close_notify in the bytes with which its reader has enough is one',
    clean(async (scope) => {
      const port = await serve(scope, async (socket, wire) => {
        const deliver = together(wire);
        socket.end('whole');
        await turns(20);
        deliver();
      });
      let read = '';
      const onread = {
        buffer: Buffer.alloc(64),
        callback: (length: number, bytes: Uint8Array) => {
          read += Buffer.from(bytes.subarray(0, length)).toString();
          return false;
        },
      };
      const socket = secureSocket({ host: 'localhost', port, ca: pki().ca, onread } as never);
      scope.defer(() => socket.destroy());
      const events: string[] = [];
      for (const name of ['end', 'error']) socket.on(name, () => events.push(name));
      const over = () => events.length > 0 || socketClosure(socket)?.received !== null;
      await until('all has come', over);
      expect(socketClosure(socket)?.verdict).not.toBe('truncated');
      socket.resume();
      await until('it is told', () => events.length > 0);
      expect([read, events]).toEqual(['whole', ['end']]);
      expect(socketClosure(socket)?.received).not.toBe(null);
    }),
  );

  test(
    'that nobody listens at: the error of the system',
    clean(async () => {
      const socket = secureSocket({ host: '127.0.0.1', port: await freePort() });
      const [error] = await once(socket, 'error');
      expect(error.code).toBe('ECONNREFUSED');
    }),
  );

  test('of a socket that is not ours there is no closure', () => {
    const socket = new tls.TLSSocket(new net.Socket());
    expect(socketClosure(socket)).toBe(null);
    socket.destroy();
  });
});

for (const version of VERSIONS) {
  describeTls(`${version}: a reset behind the peer's close_notify`, () => {
    const arrange = async (
      scope: Scope,
      before: (socket: tls.TLSSocket, clog: () => void) => void = () => {},
      halfOpen = true,
    ) => {
      const wire = channel();
      wire.ends[0].allowHalfOpen = halfOpen;
      const socket = secureSocket({
        socket: wire.ends[0],
        ca: pki().ca,
        servername: 'localhost',
        ...only(version),
      });
      scope.defer(() => socket.destroy());
      const events: string[] = [];
      for (const name of ['end', 'error', 'close']) socket.on(name, () => events.push(name));
      const server = await accept(wire.ends[1], { ...pki().server, ...only(version) });
      await server.write('all that it had to say');
      await server.shutdown({ wait: false });
      await until('close_notify has come', () => socketClosure(socket)?.received !== null);
      before(socket, () => wire.forth.clog());
      await turns();
      wire.back.cut('reset');
      await until('the reset has come', () => socketClosure(socket)?.transportEnd === 'reset');
      server.abort();
      return { socket, events };
    };

    test(
      'whoever has not read yet gets every byte first',
      clean(async (scope) => {
        const { socket, events } = await arrange(scope);
        expect(events).toEqual([]);
        const parts: Buffer[] = [];
        socket.on('data', (bytes: Buffer) => parts.push(bytes));
        await until('the socket is closed', () => events.includes('close'));
        expect(Buffer.concat(parts).toString()).toBe('all that it had to say');
        // It may still want to write.
        expect(events).toEqual(['end', 'error', 'close']);
      }),
    );

    test(
      'whoever ends its side when it has heard the end hears of no error: nothing of its own is lost',
      clean(async (scope) => {
        const { socket, events } = await arrange(scope);
        socket.once('end', () => socket.end());
        socket.resume();
        await until('the socket is closed', () => events.includes('close'));
        expect(events).toEqual(['end', 'close']);
      }),
    );

    test(
      "a pipe's other end gets all of it, however slowly it takes it",
      clean(async (scope) => {
        const { socket, events } = await arrange(scope);
        socket.once('end', () => socket.end());
        const taken: string[] = [];
        const slow = new Writable({
          write(bytes: Buffer, _encoding, done) {
            taken.push(String(bytes));
            void turns().then(() => done());
          },
          final(done) {
            taken.push('all');
            done();
          },
        });
        await pipeline(socket, slow);
        expect(taken).toEqual(['all that it had to say', 'all']);
        expect(events).toEqual(['end', 'close']);
      }),
    );

    test(
      'nor does whoever had ended it before, though the transport has not taken close_notify',
      clean(async (scope) => {
        const { socket, events } = await arrange(scope, (it, clog) => {
          clog();
          it.once('end', () => it.end()).resume();
        });
        await until('the socket is closed', () => events.includes('close'));
        expect(socket.writableEnded).toBe(true);
        expect(socketClosure(socket)?.sent).toBe(null);
        expect(events).toEqual(['end', 'close']);
      }),
    );

    test.each([true, false])(
      'whoever has last words that the transport has not taken hears of the error (half-open: %s)',
      async (halfOpen) => {
        const body = clean(async (scope) => {
          const { socket, events } = await arrange(
            scope,
            (it, clog) => {
              clog();
              it.once('data', () => it.write('last words'));
            },
            halfOpen,
          );
          socket.once('end', () => socket.end());
          await until('the socket is closed', () => events.includes('close'));
          expect(events).toContain('error');
        });
        await body();
      },
    );

    test(
      'a socket that is not half-open tells what one on the kernel does: an end, and no error',
      clean(async (scope) => {
        const { socket, events } = await arrange(scope, undefined, false);
        socket.resume();
        await until('the socket is closed', () => events.includes('close'));
        expect(events).toEqual(['end', 'close']);
      }),
    );

    test(
      'whoever writes fails at once',
      clean(async (scope) => {
        const { socket, events } = await arrange(scope);
        socket.write('more');
        await until('the socket is closed', () => events.includes('close'));
        expect(events).toEqual(['error', 'close']);
      }),
    );

    test.each([
      ['ends', (socket: tls.TLSSocket): void => void socket.end()],
      [
        'writes several things at once',
        (socket: tls.TLSSocket): void => {
          socket.cork();
          socket.write('more');
          socket.write('and more');
          process.nextTick(() => socket.uncork());
        },
      ],
    ] as const)('whoever %s fails at once', async (_what, act) => {
      const body = clean(async (scope) => {
        const { socket, events } = await arrange(scope);
        act(socket);
        await until('the socket is closed', () => events.includes('close'));
        expect(events).toEqual(['error', 'close']);
      });
      await body();
    });

    test.each([
      ['a write', (socket: tls.TLSSocket): void => void socket.write(pattern(100_000))],
      ['an end', (socket: tls.TLSSocket): void => void socket.end()],
    ] as const)('%s that waits for the transport fails at once', async (_what, act) => {
      const body = clean(async (scope) => {
        const { socket, events } = await arrange(scope, (it, clog) => {
          clog();
          act(it);
        });
        await until('the socket is closed', () => events.includes('close'));
        expect(events.slice(0, 2)).toEqual(['error', 'close']);
        expect(socket.readableEnded).toBe(false);
      });
      await body();
    });
  });
}

describeTls('a socket on a given stream', () => {
  test.each(VERSIONS)(
    '%s: that the program ends sends FIN behind close_notify, as on a plain socket, and hears the rest',
    async (version) => {
      const body = clean(async (scope) => {
        const wire = channel();
        scope.defer(() => wire.ends[1].destroy());
        const accepting = accept(wire.ends[1], {
          ...pki().server,
          ...only(version),
          answer: 'when-told',
        });
        const socket = secureSocket({
          socket: wire.ends[0],
          host: 'localhost',
          ca: pki().ca,
          ...only(version),
        });
        socket.resume();
        await once(socket, 'secureConnect');
        const server = await accepting;
        const ended = once(wire.ends[1], 'end');
        socket.end('last words');
        expect(Buffer.from((await server.read()) ?? '').toString()).toBe('last words');
        expect(await server.read()).toBe(null);
        await until('FIN has been sent', () => wire.ends[0].writableEnded);
        const closed = once(socket, 'close');
        await server.close();
        await Promise.all([closed, ended]);
        expect(socketClosure(socket)?.verdict).toBe('secure');
      });
      await body();
    },
  );
});
