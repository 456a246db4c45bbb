/** What a program has of a socket on a pass, beside what the behaviour cases hold. */
import http2 from 'node:http2';
import net from 'node:net';
import { Duplex, duplexPair } from 'node:stream';
import tls from 'node:tls';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import {
  acceptPassing,
  connectPassing,
  isPass,
  type Passing,
  type PassingOptions,
} from '../../../../src/strict/pass/passing.ts';
import { pki } from '../../../support/core-pki.ts';
import { clean, type Scope, turn, uncaughtDuring, until } from '../../../support/core-scope.ts';
import { only, VERSIONS } from '../../../support/core-streams.ts';
import { listen, reset, tcpPair } from '../../../support/core-transport.ts';
import { CraftedPeer } from '../../../support/crafted-records.ts';
import { client, live, opened, passingServer, Seen, underTest } from './passing-sockets.ts';

const CLOSE_NOTIFY = { level: 1, description: 0, authenticated: true };

/** A plain TLS server. */
async function serve(
  scope: Scope,
  onSocket: (socket: tls.TLSSocket) => void,
  options: tls.TlsOptions = {},
): Promise<number> {
  const server = tls.createServer({ ...pki().server, ...options }, (socket) => {
    scope.defer(() => socket.destroy());
    socket.on('error', () => {});
    // Not at once: in Node 20 to 24 OpenSSL sends no close_notify while it still owes session tickets.
    setImmediate(onSocket, socket);
  });
  return opened(scope, server);
}

/** A Duplex of one's own around a socket, as some libraries make. */
function over(raw: net.Socket): Duplex {
  const duplex = new Duplex({
    read: () => void raw.resume(),
    write: (chunk: Buffer, _encoding, done) => void raw.write(chunk, done),
    final: (done) => void raw.end(done),
    destroy: (error, done) => {
      raw.destroy();
      done(error);
    },
  });
  raw.on('data', (chunk) => {
    if (!duplex.push(chunk)) raw.pause();
  });
  raw.on('end', () => duplex.push(null));
  return duplex;
}

/** A connection of ours to a port, with what is seen of it. */
function open(scope: Scope, port: number, more: Parameters<typeof client>[1] = {}) {
  const passing = connectPassing(client(port, more));
  scope.defer(() => passing.socket.destroy());
  return { ...passing, seen: new Seen(passing.socket) };
}

describe('the queues of nextTick and of promises', () => {
  test.each(VERSIONS)('are empty between two records of one segment, %s', (version) =>
    clean(async (scope) => {
      const { peer, socket } = await underTest(scope, 'client', version);
      const order: string[] = [];
      socket.removeAllListeners('data');
      socket.on('data', (chunk) => {
        order.push(String(chunk));
        process.nextTick(() => order.push('tick'));
        void Promise.resolve().then(() => order.push('promise'));
      });
      const records = ['1', '2', '3'].map((text) => peer.data(text));
      peer.wire.end(Buffer.concat([...records, peer.closeNotify()]));
      await until('closed', () => socket.closed);
      const each = (text: string) => [text, 'tick', 'promise'];
      expect(order).toEqual(['1', '2', '3'].flatMap(each));
      peer.destroy();
    })(),
  );

  test.each(['client', 'server'] as const)('in HTTP/2, with a %s on a pass', (side) =>
    clean(async (scope) => {
      const server = http2.createSecureServer(pki().server);
      server.on('stream', (stream) => {
        const order: string[] = [];
        stream.on('data', (chunk) => order.push(String(chunk)));
        stream.on('end', () => {
          stream.respond({ order: order.join() });
          stream.end('answer');
        });
      });
      if (side === 'server') {
        const [secure] = server.listeners('connection') as Array<(transport: Duplex) => void>;
        server.removeAllListeners('connection');
        server.on('connection', (raw) => acceptPassing(server, raw, secure!, () => {}));
      }
      const port = await opened(scope, server);
      const options = { ...client(port), ALPNProtocols: ['h2'] };
      const session = http2.connect('https://localhost', {
        createConnection: () =>
          side === 'client' ? connectPassing(options).socket : tls.connect(options),
      });
      for (let i = 0; i < 10; i++) {
        const order: string[] = [];
        const request = session.request({ ':method': 'POST' });
        request.on('response', (headers) => order.push(`response ${headers['order']}`));
        request.on('data', (chunk) => order.push(`data ${chunk}`));
        request.on('end', () => order.push('end'));
        request.end('question');
        await until('closed', () => request.closed);
        expect(order).toEqual(['response question', 'data answer', 'end']);
      }
      session.close();
      await until('closed', () => session.destroyed);
    })(),
  );
});

describe('a listener that throws', () => {
  test.each([
    ['secureConnect', 'TLSv1.2'],
    ['secureConnect', 'TLSv1.3'],
    ['data', 'TLSv1.2'],
    ['data', 'TLSv1.3'],
  ] as const)('of %s, %s: the rest comes all the same', (event, version) =>
    clean(async (scope) => {
      let crafted: CraftedPeer | null = null;
      const thrown = await uncaughtDuring(async () => {
        const port = await listen(
          scope,
          (wire) => {
            const peer = new CraftedPeer('server', version, wire);
            scope.defer(() => peer.destroy());
            void peer.ready().then(() => {
              wire.write(Buffer.concat(['1', '2', '3'].map((text) => peer.data(text))));
              crafted = peer;
            });
          },
          { allowHalfOpen: true },
        );
        const { socket, seen, witness } = open(scope, port);
        socket.once(event, () => {
          throw new Error(`from ${event}`);
        });
        // No more comes meanwhile that would have it given what is left.
        await until('all', () => seen.data.toString() === '123');
        crafted!.wire.end(crafted!.closeNotify());
        await until('closed', () => seen.closed);
        expect(witness.received).toMatchObject(CLOSE_NOTIFY);
      });
      expect(thrown).toEqual([`uncaughtException: from ${event}`]);
    })(),
  );

  test(
    'of an HTTP/2 stream',
    clean(async (scope) => {
      const server = http2.createSecureServer(pki().server);
      server.on('stream', (stream) => {
        stream.respond();
        stream.end('answer');
      });
      const port = await opened(scope, server);
      const session = http2.connect('https://localhost', {
        createConnection: () => connectPassing({ ...client(port), ALPNProtocols: ['h2'] }).socket,
      });
      const thrown = await uncaughtDuring(async () => {
        const request = session.request();
        request.on('data', () => {
          throw new Error('from data');
        });
        await until('closed', () => request.closed);
        const next = session.request();
        let body = '';
        next.on('data', (chunk) => {
          body += chunk;
        });
        await until('closed', () => next.closed);
        expect(body).toBe('answer');
        session.close();
        await until('closed', () => session.destroyed);
      });
      expect(thrown).toEqual(['uncaughtException: from data']);
    }),
  );
});

describe('onread', () => {
  const bytes = Buffer.from(Array.from({ length: 200_003 }, (_, i) => i % 251));

  test.each([
    ['one memory', () => Buffer.alloc(1_000)],
    ['a larger one', () => Buffer.alloc(70_000)],
    ['of a byte', () => Buffer.alloc(1)],
  ] as const)('into %s, which is used again', (_name, memory) =>
    clean(async (scope) => {
      const port = await serve(scope, (socket) => socket.resume().end(bytes));
      const read: Buffer[] = [];
      const buffer = memory();
      // Not an `expect` for each byte, which would take seconds.
      let others = 0;
      const { seen, socket } = open(scope, port, {
        onread: {
          buffer,
          callback: (length, given) => {
            if (given !== buffer) others++;
            read.push(Buffer.from(given.subarray(0, length)));
            return true;
          },
        },
      });
      socket.resume();
      await until('closed', () => seen.closed);
      expect(others).toBe(0);
      expect(Buffer.concat(read).equals(bytes)).toBe(true);
      expect(seen.data).toHaveLength(0);
      expect(seen.events).toEqual(['end', 'close']);
    })(),
  );

  test(
    'a new memory each time, a pause after each',
    clean(async (scope) => {
      const port = await serve(scope, (socket) => socket.resume().end(bytes));
      const read: Buffer[] = [];
      let paused = 0;
      const { seen, socket } = open(scope, port, {
        onread: {
          buffer: () => Buffer.alloc(32_768),
          callback: (length, given) => {
            read.push(Buffer.from(given.subarray(0, length)));
            paused++;
            setImmediate(() => socket.resume());
            return false;
          },
        },
      });
      socket.resume();
      await until('closed', () => seen.closed);
      expect(Buffer.concat(read).equals(bytes)).toBe(true);
      expect(paused).toBeGreaterThan(6);
    }),
  );

  test(
    'a pause stops the peer, and pause() too',
    clean(async (scope) => {
      let sent: tls.TLSSocket | null = null;
      const big = Buffer.alloc(20_000_000);
      const port = await serve(scope, (socket) => {
        sent = socket;
        socket.resume().end(big);
      });
      let length = 0;
      let stopping = true;
      const { seen, socket } = open(scope, port, {
        onread: {
          buffer: Buffer.alloc(65_536),
          callback: (more) => {
            length += more;
            return !stopping;
          },
        },
      });
      socket.resume();
      await until('the server waits', () => (sent?.writableLength ?? 0) > 0);
      const still = async () => {
        for (let before = -1; before !== length; ) {
          before = length;
          for (let i = 0; i < 50; i++) await turn();
        }
      };
      await still();
      expect(length).toBeLessThan(big.length);
      stopping = false;
      socket.resume();
      await until('some more', () => length > 1_000_000);
      socket.pause();
      await still();
      expect(length).toBeLessThan(big.length);
      socket.resume();
      await until('closed', () => seen.closed);
      expect(length).toBe(big.length);
    }),
  );
});

describe('a server', () => {
  test(
    'tells of a socket right before it tells of it itself, and is what the socket belongs to',
    clean(async (scope) => {
      const order: string[] = [];
      let owner: unknown;
      const server = passingServer(scope, {}, ({ socket, witness }) => {
        order.push(`witness ${witness.evidence}`);
        owner = (socket as { server?: unknown }).server;
      });
      server.on('secureConnection', (socket) => {
        order.push('secureConnection');
        expect(socket.remoteAddress).toBe('127.0.0.1');
        expect(typeof socket.remotePort).toBe('number');
        socket.end();
      });
      server.on('keylog', (line: Buffer, socket) => {
        expect(socket).toBeInstanceOf(tls.TLSSocket);
        if (line.toString().startsWith('SERVER_TRAFFIC_SECRET_0')) order.push('keylog');
      });
      const port = await opened(scope, server);
      const socket = tls.connect(client(port)).resume();
      await until('closed', () => socket.closed);
      expect(order).toEqual(['keylog', 'witness record', 'secureConnection']);
      expect(owner).toBe(server);
    }),
  );

  test(
    'that listens to nothing has no key log asked of it',
    clean(async (scope) => {
      const server = passingServer(scope, {}, ({ socket }) => socket.end());
      const port = await opened(scope, server);
      const socket = tls.connect(client(port)).resume();
      await until('closed', () => socket.closed);
      expect(server.listenerCount('keylog')).toBe(0);
    }),
  );

  test(
    'is told of handshakes that fail, and of whose',
    clean(async (scope) => {
      const failed: string[] = [];
      const server = passingServer(scope, only('TLSv1.3'), () => failed.push('secure'));
      server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
        failed.push(`${error.code} ${socket.remoteAddress}`);
      });
      const port = await opened(scope, server);
      const socket = tls.connect(client(port, only('TLSv1.2')));
      socket.on('error', () => {});
      await until('failed', () => failed.length > 0);
      await until('closed', () => socket.closed);
      expect(failed).toEqual(['ERR_SSL_UNSUPPORTED_PROTOCOL 127.0.0.1']);
    }),
  );

  test(
    'others who listen to its connections hear nothing of what TLS reads',
    clean(async (scope) => {
      const heard: string[] = [];
      const server = passingServer(scope, {}, ({ socket }) => socket.end('hello'));
      server.prependListener('connection', (raw) => {
        for (const name of ['data', 'end', 'error']) raw.on(name, () => heard.push(name));
      });
      const port = await opened(scope, server);
      const socket = tls.connect(client(port)).resume();
      await until('closed', () => socket.closed);
      await until('none', () => (server as unknown as { _connections: number })._connections === 0);
      expect(heard).toEqual([]);
    }),
  );

  test(
    'nor of how the transport failed',
    clean(async (scope) => {
      const heard: string[] = [];
      let passing: Passing | null = null;
      const closed: unknown[] = [];
      const server = passingServer(scope, {}, (one) => {
        passing = one;
        one.socket.on('error', (error: NodeJS.ErrnoException) => closed.push(error.code));
        one.socket.on('close', (hadError: boolean) => closed.push(hadError));
      });
      server.prependListener('connection', (raw) => {
        raw.on('error', () => heard.push('error'));
        raw.on('close', (hadError: boolean) => heard.push(`close ${hadError}`));
      });
      const port = await opened(scope, server);
      const wire = net.connect({ port, host: '127.0.0.1' });
      const peer = new CraftedPeer('client', 'TLSv1.3', wire);
      scope.defer(() => peer.destroy());
      await peer.ready();
      await until('accepted', () => passing !== null);
      reset(wire);
      await until('closed', () => closed.length === 2 && heard.length > 0);
      expect(closed).toEqual(['ECONNRESET', true]);
      expect(heard).toEqual(['close false']);
      peer.destroy();
    }),
  );

  test.each([false, true])('with allowHalfOpen %s', (allowHalfOpen) =>
    clean(async (scope) => {
      let accepted: (Passing & { readonly seen: Seen }) | null = null;
      const server = passingServer(scope, { allowHalfOpen }, (passing) => {
        accepted = { ...passing, seen: new Seen(passing.socket) };
      });
      const port = await opened(scope, server);
      const options: PassingOptions = { ...client(port), allowHalfOpen: true };
      const socket = tls.connect(options).resume();
      await until('accepted', () => accepted !== null);
      socket.end('question');
      const { seen, socket: own } = accepted as unknown as Passing & { readonly seen: Seen };
      await until('ended', () => seen.events.includes('end'));
      if (allowHalfOpen) {
        for (let i = 0; i < 20; i++) await turn();
        expect(own.writable).toBe(true);
        own.end('answer');
      }
      await until('closed', () => seen.closed && socket.closed);
      expect(own.allowHalfOpen).toBe(allowHalfOpen);
    })(),
  );
});

describe('a transport of the program’s', () => {
  test.each(VERSIONS)('a Duplex on both sides, %s', (version) =>
    clean(async (scope) => {
      const [near, far] = (await tcpPair(scope)).map((raw) => over(raw)) as [Duplex, Duplex];
      const server = tls.createServer({ ...pki().server, ...only(version) });
      const [secure] = server.listeners('connection') as Array<(transport: Duplex) => void>;
      const ends: Array<Passing & { readonly seen: Seen }> = [];
      acceptPassing(server, far, secure!, (passing) => {
        const { socket } = passing;
        ends.push({ ...passing, seen: new Seen(socket) });
        socket.on('end', () => socket.end());
        // Not at once: see `serve`.
        setImmediate(() => socket.end('hello'));
      });
      const connected = connectPassing(client(1, { socket: near as net.Socket }));
      const { socket } = connected;
      ends.push({ ...connected, seen: new Seen(socket) });
      // A Duplex is open on its own side until it is ended.
      socket.on('end', () => socket.end());
      await until('closed', () => ends.length === 2 && ends.every(({ seen }) => seen.closed));
      expect(ends[0]!.seen.data.toString()).toBe('hello');
      for (const end of ends) {
        expect(end.witness).toMatchObject({ received: CLOSE_NOTIFY, sent: CLOSE_NOTIFY });
        expect(end.socket.remoteAddress).toBeUndefined();
      }
    })(),
  );

  test.each(VERSIONS)('TLS in TLS, %s', (version) =>
    clean(async (scope) => {
      const inner = await serve(scope, (socket) => socket.resume().end('inner'), only(version));
      const outer = await serve(scope, (socket) => {
        const on = net.connect(inner, '127.0.0.1');
        socket.pipe(on).pipe(socket);
        on.on('error', () => {});
        // With nobody left to pipe to, it would not be read any more.
        on.on('close', () => socket.resume());
        socket.on('close', () => on.destroy());
      });
      const carrier = open(scope, outer);
      await until('secure', () => carrier.socket.authorized);
      const { seen, socket, witness } = open(scope, inner, { socket: carrier.socket });
      await until('closed', () => seen.closed);
      expect(seen.data.toString()).toBe('inner');
      expect(witness).toMatchObject({ received: CLOSE_NOTIFY, sent: CLOSE_NOTIFY });
      expect(carrier.seen.data).toHaveLength(0);
      expect(socket.destroyed).toBe(true);
      carrier.socket.destroy();
      await until('closed', () => carrier.seen.closed);
    })(),
  );

  test(
    'the last write fails: nothing of ours is sent',
    clean(async (scope) => {
      const [raw, far] = await tcpPair(scope);
      const peer = new CraftedPeer('server', 'TLSv1.3', far);
      scope.defer(() => peer.destroy());
      let broken = false;
      const failing = new Duplex({
        read: () => raw.resume(),
        write: (chunk: Buffer, _encoding, done) => {
          if (broken) done(new Error('broken'));
          else raw.write(chunk, done);
        },
      });
      raw.on('data', (chunk) => failing.push(chunk));
      const { socket, witness } = connectPassing(client(1, { socket: failing as net.Socket }));
      scope.defer(() => socket.destroy());
      const seen = new Seen(socket);
      await until('secure', () => socket.authorized);
      broken = true;
      socket.end();
      await until('closed', () => seen.closed);
      expect(witness.sent).toBeNull();
      raw.destroy();
      peer.destroy();
    }),
  );

  test(
    'what was written to it before comes first',
    clean(async (scope) => {
      const [raw, far] = await tcpPair(scope);
      raw.cork();
      raw.write('STARTTLS\r\n');
      const { socket } = connectPassing(client(1, { socket: raw }));
      socket.on('error', () => {});
      let got = Buffer.alloc(0);
      far.on('data', (chunk) => {
        got = Buffer.concat([got, chunk]);
      });
      for (let i = 0; i < 10; i++) await turn();
      expect(got).toHaveLength(0);
      raw.uncork();
      await until('a ClientHello', () => got.length > 100);
      expect(got.toString('latin1', 0, 12)).toBe('STARTTLS\r\n\x16\x03');
      socket.destroy();
      far.destroy();
    }),
  );

  test(
    'what it has read before is TLS’s',
    clean(async (scope) => {
      const [raw, far] = await tcpPair(scope);
      far.write('220 no TLS\r\n');
      // It is in the socket's stream, and nobody has read it.
      await until('read', () => raw.read(0) === null && raw.readableLength > 0);
      const { socket, witness } = connectPassing(client(1, { socket: raw }));
      const seen = new Seen(socket);
      await until('closed', () => seen.closed);
      expect(seen.events[0]).toMatch(/error ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG)/);
      expect(witness).toMatchObject({ received: null, where: 'unknown' });
      far.destroy();
    }),
  );

  test(
    'of text is refused as in Node',
    clean(async (scope) => {
      const [near, far] = duplexPair();
      near.setEncoding('utf8');
      const { socket } = connectPassing(client(1, { socket: near as net.Socket }));
      scope.defer(() => socket.destroy());
      const seen = new Seen(socket);
      far.write('text');
      await until('refused', () => seen.events.length > 0);
      expect(seen.events[0]).toBe('error ERR_STREAM_WRAP');
      far.destroy();
      near.destroy();
    }),
  );
});

test(
  'FIN is behind close_notify, whoever ends first',
  clean(async (scope) => {
    for (const first of ['peer', 'own'] as const) {
      const { peer, socket, closed } = await underTest(scope, 'client', 'TLSv1.3');
      let at = '';
      let records = 0;
      peer.wire.on('data', (chunk: Buffer) => {
        for (let i = 0; i < chunk.length; i += 5 + chunk.readUInt16BE(i + 3)) records++;
        at = 'data';
      });
      peer.wire.on('end', () => {
        at = `end behind ${records}`;
        peer.wire.end();
      });
      if (first === 'own') socket.end('last words');
      else peer.wire.end(peer.closeNotify());
      await closed();
      await until('FIN', () => at.startsWith('end'));
      expect(at).toBe(first === 'own' ? 'end behind 2' : 'end behind 1');
      peer.destroy();
    }
  }),
);

test(
  'a pass is known as one, and shows no secret',
  clean(async (scope) => {
    const secrets: string[] = [];
    const life = await live(scope, {}, {}, async ({ client: { socket, witness } }) => {
      const below = (socket as unknown as { _parent: unknown })._parent;
      expect(isPass(below)).toBe(true);
      expect(isPass(socket)).toBe(false);
      socket.on('keylog', (line: Buffer) => secrets.push(String(line).trim().split(' ')[2]!));
      const shown = [socket, witness, below]
        .map((one) => inspect(one, { depth: 12, showHidden: true, maxArrayLength: null }))
        .join('\n');
      for (const secret of secrets) {
        expect(shown).not.toContain(secret);
        expect(shown).not.toContain(secret.replace(/../g, '$& ').trim());
      }
    });
    expect(life.client.seen.events).toEqual(['end', 'close']);
  }),
);

test.each([
  [{ port: 1, minVersion: 'TLSv9' }, 'ERR_TLS_INVALID_PROTOCOL_VERSION'],
  [{ port: 70_000 }, 'ERR_SOCKET_BAD_PORT'],
  [{ port: 1, localAddress: 'here' }, 'ERR_INVALID_IP_ADDRESS'],
  [{ port: 1, servername: 1 }, 'ERR_INVALID_ARG_TYPE'],
])('options that Node does not take are refused and leave nothing: %j', (options, code) =>
  clean(async () => {
    const open = () => connectPassing({ host: '127.0.0.1', ...options } as never);
    expect(open).toThrow(expect.objectContaining({ code }));
  })(),
);
