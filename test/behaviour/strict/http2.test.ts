/** HTTP/2, by Node's own client and server, over strict connections. */
import { once } from 'node:events';
import http2 from 'node:http2';
import { expect, test } from 'vitest';
import { secureSocket, socketClosure, strictServer } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, until } from '../../support/core-scope.ts';
import {
  BODY,
  ENDS,
  type End,
  turns,
  type Wire,
  wired,
  wiredClient,
} from '../../support/strict-wire.ts';

/** A session and what it told, event by event. */
function sessionOf(scope: Scope, port: number) {
  const events: string[] = [];
  const socket = secureSocket({
    host: 'localhost',
    port,
    ca: pki().ca,
    ALPNProtocols: ['h2'],
  });
  const session = http2.connect(`https://localhost:${port}`, { createConnection: () => socket });
  scope.defer(() => session.destroy());
  session.on('error', (error: Error & { code?: string }) =>
    events.push(`session error ${error.code}`),
  );
  session.on('close', () => events.push('session close'));
  return { session, events, socket };
}

interface Got {
  readonly events: string[];
  body: string;
}

function get(session: http2.ClientHttp2Session): Got {
  const got: Got = { events: [], body: '' };
  const stream = session.request({ ':path': '/' });
  stream.setEncoding('latin1').on('data', (text: string) => {
    got.body += text;
  });
  stream.on('error', (error: Error & { code?: string }) => got.events.push(`error ${error.code}`));
  stream.on('end', () => got.events.push('end'));
  stream.on('close', () => got.events.push('close'));
  return got;
}

/** A server that answers stream by stream. */
async function serve(
  scope: Scope,
  onStream: (stream: http2.ServerHttp2Stream, wire: Wire) => unknown,
) {
  const server = http2.createSecureServer(pki().server);
  const { port, wires } = await wired(scope, server);
  server.on('sessionError', () => {});
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    void onStream(stream, wires.at(-1) as Wire);
  });
  return { port, wires };
}

const whole = async (stream: http2.ServerHttp2Stream) => {
  stream.respond({ ':status': 200 });
  stream.end(BODY);
  await once(stream, 'close');
};

const begun = async (stream: http2.ServerHttp2Stream) => {
  stream.respond({ ':status': 200 });
  await new Promise<void>((resolve) => stream.write('Pay $100 to Alice', () => resolve()));
};

describeTls('a client', () => {
  for (const end of ['FIN', 'FIN inside a record'] as const) {
    test(
      `idle when ${end} comes: all was whole, and no error anywhere`,
      clean(async (scope) => {
        const { port, wires } = await serve(scope, whole);
        const { session, events } = sessionOf(scope, port);
        const got = get(session);
        await until('it has closed', () => got.events.includes('close'));
        expect(got).toEqual({ events: ['end', 'close'], body: BODY });
        await wires[0]?.cut(end);
        await until('the session has closed', () => session.destroyed && events.length > 0);
        expect(events).toEqual(['session close']);
      }),
    );
  }

  for (const end of ['FIN', 'FIN inside a record'] as const) {
    test(
      `closed by itself, and ${end} is all that the server answers: nothing was lost, and no error anywhere`,
      clean(async (scope) => {
        // RFC 9846 section 6.1: "It is not required for the initiator of the close to wait for the responding
        // close_notify alert before closing the read side of the connection."
        const { port, wires } = await serve(scope, whole);
        const { session, events, socket } = sessionOf(scope, port);
        const got = get(session);
        await until('it has closed', () => got.events.includes('close'));
        const [wire] = wires;
        // What the client says last does not reach it.
        wire?.raw.pause();
        session.close();
        await until('our close_notify is out', () => socket.writableFinished);
        await wire?.cut(end);
        await until('the session has closed', () => socket.closed && events.length > 0);
        expect([got.body, ...events]).toEqual([BODY, 'session close']);
        expect(socketClosure(socket)).toMatchObject({ verdict: 'truncated', incomplete: false });
      }),
    );
  }

  for (const end of ENDS) {
    test(
      `a stream cut by ${end}: an error, never 'end'`,
      clean(async (scope) => {
        const { port } = await serve(scope, async (stream, wire) => {
          await begun(stream);
          await wire.cut(end);
        });
        const { session } = sessionOf(scope, port);
        const got = get(session);
        await until('it has closed', () => got.events.includes('close'));
        expect(got.events).not.toContain('end');
        const expected = end === 'RST' ? 'error ECONNRESET' : 'error ERR_TLS_TRUNCATED';
        expect(got.events).toEqual([expected, 'close']);
      }),
    );

    test(
      `a stream without an answer when ${end} comes: an error`,
      clean(async (scope) => {
        const { port } = await serve(scope, (_stream, wire) => wire.cut(end));
        const { session } = sessionOf(scope, port);
        const got = get(session);
        await until('it has closed', () => got.events.includes('close'));
        expect(got.events[0]).toMatch(/^error/);
        expect(got.events).not.toContain('end');
      }),
    );
  }

  test(
    'one stream whole, one cut: each gets what it is due',
    clean(async (scope) => {
      let number = 0;
      const { port } = await serve(scope, async (stream, wire) => {
        if (number++ === 0) await whole(stream);
        else {
          await begun(stream);
          await wire.cut('FIN');
        }
      });
      const { session } = sessionOf(scope, port);
      const first = get(session);
      const second = get(session);
      await until('both have closed', () =>
        [first, second].every(({ events }) => events.includes('close')),
      );
      expect(first).toEqual({ events: ['end', 'close'], body: BODY });
      expect(second.events).toEqual(['error ERR_TLS_TRUNCATED', 'close']);
    }),
  );

  test(
    'an answer that was whole when FIN came, though nobody had read it: no truncation',
    clean(async (scope) => {
      let cut = async () => {};
      const { port } = await serve(scope, (stream, wire) => {
        cut = () => wire.cut('FIN');
        stream.respond({ ':status': 200 });
        stream.end(BODY);
      });
      const { session } = sessionOf(scope, port);
      const stream = session.request({ ':path': '/' });
      const events: string[] = [];
      for (const name of ['end', 'error']) stream.on(name, () => events.push(name));
      await until('it is here', () => stream.readableLength === BODY.length);
      await turns(20);
      await cut();
      await until('it has closed', () => stream.closed);
      await turns();
      expect(events).not.toContain('error');
    }),
  );

  test(
    'a forged record: an error, never ’end’',
    clean(async (scope) => {
      const { port } = await serve(scope, async (stream, wire) => {
        await begun(stream);
        await wire.forge();
      });
      const { session } = sessionOf(scope, port);
      const got = get(session);
      await until('it has closed', () => got.events.includes('close'));
      expect(got.events).not.toContain('end');
      expect(got.events[0]).toMatch(/^error ERR_SSL/);
    }),
  );

  test(
    'closes by itself with close_notify, both ways',
    clean(async (scope) => {
      const { port } = await serve(scope, whole);
      const { session, events } = sessionOf(scope, port);
      const got = get(session);
      await until('it has closed', () => got.events.includes('close'));
      session.close();
      await until('the session has closed', () => events.length > 0);
      expect(events).toEqual(['session close']);
    }),
  );
});

describeTls('a server', () => {
  /** A strict server that takes one upload, and its sender, whose wire can be cut. */
  async function upload(scope: Scope, finish: boolean, end: End) {
    const server = strictServer(http2.createSecureServer(pki().server));
    const events: string[] = [];
    server.on('sessionError', (error: Error & { code?: string }) =>
      events.push(`session error ${error.code}`),
    );
    let body = '';
    server.on('stream', (stream) => {
      stream.setEncoding('latin1').on('data', (text: string) => {
        body += text;
      });
      for (const name of ['end', 'aborted', 'close']) stream.on(name, () => events.push(name));
      stream.on('error', (error: Error & { code?: string }) => events.push(`error ${error.code}`));
      if (finish) stream.on('end', () => stream.respond({ ':status': 204 }, { endStream: true }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const { wire, socket } = await wiredClient(scope, port, { ALPNProtocols: ['h2'] });
    const session = http2.connect('https://localhost', { createConnection: () => socket });
    session.on('error', () => {});
    const request = session.request({ ':method': 'POST' }, { endStream: false });
    request.on('error', () => {});
    request.write('Pay $100 to Alice');
    if (finish) request.end();
    request.resume();
    if (finish) await once(request, 'close');
    else await until('it is here', () => body !== '');
    await wire.cut(end);
    await until('the stream has closed', () => events.includes('close'));
    await turns();
    session.destroy();
    await new Promise((resolve) => server.close(resolve));
    return { events, body };
  }

  for (const end of ENDS) {
    test(
      `an upload cut by ${end}: an error, never 'end'`,
      clean(async (scope) => {
        const { events } = await upload(scope, false, end);
        expect(events).not.toContain('end');
        const errors = events.filter((name) => name.startsWith('error'));
        expect(errors).toEqual([end === 'RST' ? 'error ECONNRESET' : 'error ERR_TLS_TRUNCATED']);
      }),
    );

    if (end === 'RST') continue;
    test(
      `an upload that is whole when ${end} comes: no error anywhere`,
      clean(async (scope) => {
        const { events, body } = await upload(scope, true, end);
        expect(events).toEqual(['end', 'close']);
        expect(body).toBe('Pay $100 to Alice');
      }),
    );
  }
});
