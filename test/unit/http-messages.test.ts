/**
 * Who reads a socket, and what is at stake. This rests on members of Node and undici that are not
 * documented: these tests fail where a version no longer has them.
 */
import { once } from 'node:events';
import http2 from 'node:http2';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { Client } from 'undici';
import { expect, test } from 'vitest';
import { failMessages, isPausedWithin, stakeOf, trustsResets } from '../../src/http-messages.ts';
import { describeTls, pki } from '../support/core-pki.ts';
import { clean, type Scope, until } from '../support/core-scope.ts';
import { ANSWERS, site, turns } from '../support/strict-wire.ts';

/** A plain socket of Node's own: what reads it is what is looked at here. */
const plain = (scope: Scope, port: number, options: tls.ConnectionOptions = {}) => {
  const socket = tls.connect({ host: 'localhost', port, ca: pki().ca, ...options });
  scope.defer(() => socket.destroy());
  socket.on('error', () => {});
  return socket;
};

/** Answers half, and the rest when told. */
async function inTwo(scope: Scope, kind: keyof typeof ANSWERS) {
  const { whole } = ANSWERS[kind];
  let rest = async () => {};
  const served = await site(scope, async ({ send, socket }) => {
    await send(whole.slice(0, -12));
    rest = async () => {
      await send(whole.slice(-12));
      if (kind === 'to the connection’s end') socket.end();
    };
  });
  return { ...served, rest: () => rest() };
}

describeTls("Node's HTTP client", () => {
  for (const kind of ['content-length', 'chunked'] as const) {
    test(
      `${kind}: safe before the response, at stake within it, safe behind it and while idle`,
      clean(async (scope) => {
        scope.peersStay();
        const { port, rest } = await inTwo(scope, kind);
        const agent = new https.Agent({ keepAlive: true });
        scope.defer(() => agent.destroy());
        const socket = plain(scope, port);
        Object.assign(agent, { createConnection: () => socket });
        const request = https.get({ host: 'localhost', port, agent });
        await until('the request is on the socket', () => request.socket !== null);
        expect(stakeOf(socket)).toBe('safe');
        const [response] = await once(request, 'response');
        expect(stakeOf(socket)).toBe('at-stake');
        expect(trustsResets(socket)).toBe(false);
        await rest();
        // Nobody has read it yet.
        await until('it is whole', () => response.complete);
        expect(stakeOf(socket)).toBe('safe');
        response.resume();
        await once(response, 'close');
        await turns();
        expect(Object.values(agent.freeSockets).flat()).toEqual([socket]);
        expect(stakeOf(socket)).toBe('safe');
      }),
    );
  }

  test(
    'a message that has failed never ends, nor becomes complete, whatever Node does',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await inTwo(scope, 'to the connection’s end');
      const socket = plain(scope, port);
      const request = https.get({ host: 'localhost', port, createConnection: () => socket });
      request.on('error', () => {});
      const [response] = await once(request, 'response');
      const events: string[] = [];
      for (const name of ['end', 'error', 'close']) response.on(name, () => events.push(name));
      response.resume();
      const error = new Error('cut');
      failMessages(socket, error);
      // Node takes the end of the connection for the end of the body.
      socket.push(null);
      await until('it has closed', () => events.includes('close'));
      expect(events).toEqual(['error', 'close']);
      expect(response.errored).toBe(error);
      expect(response.complete).toBe(false);
      response.complete = true;
      expect(response.complete).toBe(false);
    }),
  );
});

describeTls("Node's HTTP server", () => {
  test(
    'safe before a request, at stake within it, safe behind it',
    clean(async (scope) => {
      scope.peersStay();
      const stakes: string[] = [];
      let seen: Duplex | undefined;
      const server = https.createServer(pki().server, (request, response) => {
        stakes.push(stakeOf(request.socket));
        seen = request.socket;
        request.resume().on('end', () => {
          stakes.push(stakeOf(request.socket));
          response.end();
        });
      });
      // Behind Node's own listener, which puts the parser on the socket.
      server.on('secureConnection', (socket) => stakes.push(stakeOf(socket)));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      scope.defer(() => {
        server.closeAllConnections();
        server.close();
      });
      const socket = plain(scope, (server.address() as AddressInfo).port);
      socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab');
      await until('the request has begun', () => stakes.length === 2);
      socket.write('cd');
      await once(socket, 'data');
      await turns();
      expect(stakes).toEqual(['safe', 'at-stake', 'safe']);
      expect(stakeOf(seen as Duplex)).toBe('safe');
    }),
  );
});

describeTls('http2', () => {
  test(
    'at stake from the request on: also while the session is connecting, and the stream has no number',
    clean(async (scope) => {
      scope.peersStay();
      const server = http2.createSecureServer(pki().server);
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      scope.defer(() => server.close());
      const { port } = server.address() as AddressInfo;
      const socket = tls.connect({ port, host: 'localhost', ca: pki().ca, ALPNProtocols: ['h2'] });
      const session = http2.connect(`https://localhost:${port}`, {
        createConnection: () => socket,
      });
      scope.defer(() => session.destroy());
      session.on('error', () => {});
      expect(stakeOf(socket)).toBe('safe');
      const stream = session.request({ ':path': '/' });
      stream.on('error', () => {});
      expect(stream.pending).toBe(true);
      expect(stakeOf(socket)).toBe('at-stake');
      failMessages(socket, new Error('cut'));
      expect(stream.destroyed).toBe(true);
    }),
  );

  test(
    'safe while idle, at stake while a stream is open, on both sides',
    clean(async (scope) => {
      scope.peersStay();
      const server = http2.createSecureServer(pki().server);
      let accepted: Duplex | undefined;
      let open: http2.ServerHttp2Stream | undefined;
      server.on('secureConnection', (socket) => {
        accepted = socket;
      });
      server.on('stream', (stream) => {
        open = stream.resume();
        stream.respond();
        stream.write('x');
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      scope.defer(() => server.close());
      const { port } = server.address() as AddressInfo;
      const socket = plain(scope, port, { ALPNProtocols: ['h2'] });
      const session = http2.connect('https://localhost', { createConnection: () => socket });
      scope.defer(() => session.destroy());
      await once(session, 'connect');
      expect(stakeOf(socket)).toBe('safe');
      const request = session.request({ ':method': 'POST' }, { endStream: false }).resume();
      // Not even on its way yet.
      expect(stakeOf(socket)).toBe('at-stake');
      await once(request, 'response');
      expect(stakeOf(socket)).toBe('at-stake');
      expect(stakeOf(accepted as Duplex)).toBe('at-stake');
      request.end();
      await once(open as http2.ServerHttp2Stream, 'end');
      // Its upload is whole; what it answers is not for it to lose.
      expect(stakeOf(accepted as Duplex)).toBe('safe');
      expect(stakeOf(socket)).toBe('at-stake');
      open?.end();
      await once(request, 'close');
      expect(stakeOf(socket)).toBe('safe');
    }),
  );

  test(
    'all its streams fail, those not sent yet among them',
    clean(async (scope) => {
      scope.peersStay();
      const server = http2.createSecureServer({
        ...pki().server,
        settings: { maxConcurrentStreams: 1 },
      });
      server.on('stream', (stream) => {
        stream.on('error', () => {});
        stream.respond();
        stream.write('x');
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      scope.defer(() => server.close());
      const { port } = server.address() as AddressInfo;
      const socket = plain(scope, port, { ALPNProtocols: ['h2'] });
      const session = http2.connect('https://localhost', { createConnection: () => socket });
      scope.defer(() => session.destroy());
      session.on('error', () => {});
      await once(session, 'remoteSettings');
      const errors: unknown[] = [];
      const streams = [1, 2].map(() => session.request().resume());
      for (const stream of streams) stream.on('error', (error) => errors.push(error));
      await once(streams[0] as http2.ClientHttp2Stream, 'response');
      const error = new Error('cut');
      failMessages(socket, error);
      await until('both have closed', () => streams.every(({ closed }) => closed));
      await turns();
      expect(errors).toEqual([error, error]);
    }),
  );
});

describeTls('undici', () => {
  test(
    'safe while idle and before the response, at stake within it',
    clean(async (scope) => {
      scope.peersStay();
      const { port, rest } = await inTwo(scope, 'content-length');
      const socket = plain(scope, port);
      const client = new Client(`https://localhost:${port}`, {
        connect: ((_: unknown, callback: (error: null, socket: tls.TLSSocket) => void) =>
          socket.once('secureConnect', () => callback(null, socket))) as never,
      });
      scope.defer(() => client.destroy());
      client.on('connect', () => expect(stakeOf(socket)).toBe('safe'));
      const { body } = await client.request({ path: '/', method: 'GET' });
      expect(stakeOf(socket)).toBe('at-stake');
      expect(trustsResets(socket)).toBe(true);
      await rest();
      await body.text();
      await turns();
      expect(stakeOf(socket)).toBe('safe');
    }),
  );

  test(
    'paused within the response until its body is read',
    clean(async (scope) => {
      scope.peersStay();
      const { port, rest } = await inTwo(scope, 'content-length');
      const socket = plain(scope, port);
      const client = new Client(`https://localhost:${port}`, {
        connect: ((_: unknown, callback: (error: null, socket: tls.TLSSocket) => void) =>
          socket.once('secureConnect', () => callback(null, socket))) as never,
      });
      scope.defer(() => client.destroy());
      const { body } = await client.request({ path: '/', method: 'GET', highWaterMark: 1 });
      await rest();
      await until('its parser is paused', () => isPausedWithin(socket));
      expect(stakeOf(socket)).toBe('at-stake');
      await body.text();
      expect(isPausedWithin(socket)).toBe(false);
    }),
  );

  test(
    'as it is in Node itself, under the global fetch',
    clean(async (scope) => {
      scope.peersStay();
      const { port, rest } = await inTwo(scope, 'content-length');
      const original = tls.connect;
      let socket: tls.TLSSocket | undefined;
      // It looks tls.connect up at each call.
      tls.connect = ((...args: Parameters<typeof tls.connect>) => {
        socket = original({ ...(args[0] as unknown as object), ca: pki().ca });
        const opened = socket;
        scope.defer(() => opened.destroy());
        return socket;
      }) as typeof tls.connect;
      try {
        const response = await fetch(`https://localhost:${port}`);
        expect(stakeOf(socket as tls.TLSSocket)).toBe('at-stake');
        expect(trustsResets(socket as tls.TLSSocket)).toBe(true);
        await rest();
        await response.text();
        await turns();
        expect(stakeOf(socket as tls.TLSSocket)).toBe('safe');
      } finally {
        tls.connect = original;
      }
    }),
  );
});

describeTls('everything else', () => {
  test(
    'is unknown: a socket that is read by hand, piped, idle, or that was upgraded',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await site(scope, async ({ send, upgraded }) => {
        upgraded();
        await send('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n');
      });
      const socket = plain(scope, port);
      expect(stakeOf(socket)).toBe('unknown');
      expect(trustsResets(socket)).toBe(false);
      socket.on('data', () => {});
      expect(stakeOf(socket)).toBe('unknown');
      const agent = new https.Agent({ keepAlive: true });
      scope.defer(() => agent.destroy());
      Object.assign(agent, { createConnection: () => plain(scope, port) });
      const headers = { connection: 'upgrade', upgrade: 'x' };
      const [, upgraded] = await once(
        https.get({ host: 'localhost', port, agent, headers }),
        'upgrade',
      );
      expect(stakeOf(upgraded)).toBe('unknown');
    }),
  );
});
