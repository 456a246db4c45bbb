/** `StrictAgent`: what each ending of the connection means to a request and its response. */
import { once } from 'node:events';
import type http from 'node:http';
import https from 'node:https';
import { type Readable, Writable } from 'node:stream';
import type tls from 'node:tls';
import { expect, test } from 'vitest';
import { secureSocket } from '../../../src/index.ts';
import { StrictAgent } from '../../../src/strict/https.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, until } from '../../support/core-scope.ts';
import {
  ANSWERS,
  BODY,
  codesOf,
  ENDS,
  type End,
  fetchBy,
  type Seen,
  site,
  turns,
} from '../../support/strict-wire.ts';

const KINDS = Object.keys(ANSWERS) as (keyof typeof ANSWERS)[];

function agentOf(scope: Scope, options: ConstructorParameters<typeof StrictAgent>[0] = {}) {
  const agent = new StrictAgent(options);
  scope.defer(() => agent.destroy());
  return agent;
}

/** It failed, for everyone who looks: no 'end', not complete. */
function expectCut(seen: Seen, codes: readonly string[]) {
  expect(seen.events).not.toContain('response end');
  expect(seen.events.filter((name) => name.startsWith('response error')).length).toBe(1);
  expect(codes).toContain(seen.error?.code);
  expect(seen.response?.complete).toBe(false);
}

function expectWhole(seen: Seen) {
  expect(seen.events).toEqual(['response end', 'response close']);
  expect(seen.body).toBe(BODY);
  expect(seen.response?.complete).toBe(true);
}

describeTls('a response', () => {
  for (const kind of KINDS) {
    for (const end of ENDS) {
      test(
        `${kind}, cut by ${end}: an error, never 'end', never complete`,
        clean(async (scope) => {
          const { port } = await site(scope, async ({ send, wire }) => {
            await send(ANSWERS[kind].cut);
            await wire.cut(end);
          });
          const seen = await fetchBy(agentOf(scope), port);
          expectCut(seen, codesOf(end));
          // All that came was given, where no reset threw it away.
          if (end !== 'RST') expect(seen.body).toBe('Pay $100 to Alice');
        }),
      );
    }

    test(
      `${kind}, whole, then close_notify: whole`,
      clean(async (scope) => {
        const { port } = await site(scope, async ({ send, socket }) => {
          await send(ANSWERS[kind].whole);
          socket.end();
        });
        expectWhole(await fetchBy(agentOf(scope), port));
      }),
    );

    test(
      `${kind}, cut, but with close_notify: what Node makes of it`,
      clean(async (scope) => {
        const { port } = await site(scope, async ({ send, socket }) => {
          await send(ANSWERS[kind].cut);
          socket.end();
        });
        const seen = await fetchBy(agentOf(scope), port);
        const plain = await fetchBy(new https.Agent(), port);
        expect(seen.events).toEqual(plain.events);
        expect(seen.response?.complete).toBe(plain.response?.complete);
      }),
    );

    if (kind === 'to the connection’s end') continue;
    for (const end of ENDS) {
      // RFC 9112 section 9.8: "a client SHOULD treat as completed all requests for which it has
      // received either: as much data as specified in the Content-Length header field or the terminal
      // zero-length chunk".
      test(
        `${kind}, whole, then ${end}: whole`,
        clean(async (scope) => {
          const { port } = await site(scope, async ({ send, wire }) => {
            await send(ANSWERS[kind].whole);
            await wire.cut(end);
          });
          expectWhole(await fetchBy(agentOf(scope), port));
        }),
      );

      test(
        `${kind}, whole and unread when ${end} comes: whole`,
        clean(async (scope) => {
          const { port, wires } = await site(scope, async ({ send, wire }) => {
            await send(ANSWERS[kind].whole);
            await wire.cut(end);
          });
          const { response } = await fetchBy(agentOf(scope), port, {}, false);
          await until('the connection is over', () => wires[0]?.gone === true);
          await turns();
          let body = '';
          for await (const chunk of response as AsyncIterable<Buffer>) body += chunk;
          expect(body).toBe(BODY);
          expect(response?.complete).toBe(true);
        }),
      );
    }
  }

  for (const [what, method, answer] of [
    ['HEAD with a length', 'HEAD', 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n'],
    ['204', 'GET', 'HTTP/1.1 204 No Content\r\n\r\n'],
    ['304', 'GET', 'HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n'],
    ['a length of nothing', 'GET', 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'],
  ] as const) {
    for (const end of ENDS) {
      test(
        `without a body (${what}), then ${end}: whole`,
        clean(async (scope) => {
          const { port } = await site(scope, async ({ send, wire }) => {
            await send(answer);
            await wire.cut(end);
          });
          const seen = await fetchBy(agentOf(scope), port, { method });
          expect(seen.events).toEqual(['response end', 'response close']);
          expect(seen.response?.complete).toBe(true);
        }),
      );
    }
  }

  for (const kind of KINDS) {
    test(
      `${kind}, cut by a forged record: an error, never 'end', never complete`,
      clean(async (scope) => {
        const { port } = await site(scope, async ({ send, wire }) => {
          await send(ANSWERS[kind].cut);
          await wire.forge();
        });
        const seen = await fetchBy(agentOf(scope), port);
        expectCut(seen, ['ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC']);
      }),
    );
  }

  for (const [what, partial] of [
    ['before it', ''],
    ['inside its header', 'HTTP/1.1 200 OK\r\ncontent-'],
    ['behind an informational one', 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'],
  ] as const) {
    for (const end of ['FIN', 'FIN inside a record'] as const) {
      // Programs and libraries try again when they see this.
      test(
        `cut ${what} by ${end}: ECONNRESET 'socket hang up', as in Node`,
        clean(async (scope) => {
          const { port } = await site(scope, async ({ send, wire }) => {
            if (partial !== '') await send(partial);
            await wire.cut(end);
          });
          const seen = await fetchBy(agentOf(scope), port);
          const plain = await fetchBy(new https.Agent(), port);
          expect(seen.events).toEqual(plain.events);
          expect(seen.error).toMatchObject({
            code: plain.error?.code,
            message: plain.error?.message,
          });
          if (what === 'before it') {
            expect(seen.error).toMatchObject({ code: 'ECONNRESET', message: 'socket hang up' });
          }
        }),
      );
    }
  }

  test(
    'a large one, read slowly, whole by its length when FIN comes: every byte',
    clean(async (scope) => {
      const large = Buffer.alloc(400_000, 'x');
      const { port } = await site(scope, async ({ send, wire }) => {
        await send(`HTTP/1.1 200 OK\r\ncontent-length: ${large.length}\r\n\r\n`);
        void send(large);
        await wire.cut('FIN');
      });
      const { response } = await fetchBy(agentOf(scope), port, {}, false);
      let length = 0;
      for await (const chunk of response as AsyncIterable<Buffer>) {
        length += chunk.length;
        await turns(3);
      }
      expect(length).toBe(large.length);
      expect(response?.complete).toBe(true);
    }),
  );

  test(
    'to the connection’s end, and the program destroys the socket with an error of its own: not complete',
    clean(async (scope) => {
      // RFC 9112 section 9.8: "A response that has neither chunked transfer coding nor Content-Length is complete only if
      // a valid closure alert has been received." Node's parser says 'end' for it.
      const { port } = await site(scope, async ({ send }) => {
        await send(ANSWERS['to the connection’s end'].cut);
      });
      const { response } = await fetchBy(agentOf(scope), port, {}, false);
      const events: string[] = [];
      const over = new Promise((resolve) => response?.on('close', resolve));
      response?.on('end', () => events.push('end'));
      response?.on('error', (error) => events.push(error.message));
      response?.once('data', () => response.socket.destroy(new Error('enough')));
      await over;
      expect(events).toEqual(['enough']);
      expect(response?.complete).toBe(false);
    }),
  );

  test(
    'pipeline and fetch-like readers get the error too: the response is destroyed with it',
    clean(async (scope) => {
      const { port } = await site(scope, async ({ send, wire }) => {
        await send(ANSWERS['to the connection’s end'].cut);
        await wire.cut('FIN');
      });
      const seen = await fetchBy(agentOf(scope), port);
      expect(seen.response?.destroyed).toBe(true);
      expect(seen.response?.errored).toBe(seen.error);
      expect(seen.error).toMatchObject({
        name: 'TruncatedError',
        closure: { verdict: 'truncated', truncation: { cause: 'eof' } },
      });
    }),
  );
});

/** How a program may read a stream to its end; each gives what it got. */
const READERS = {
  async "'data', with pause() and resume()"(stream: Readable) {
    let got = 0;
    stream.on('data', (chunk: Buffer) => {
      got += chunk.length;
      stream.pause();
      void turns(2).then(() => stream.resume());
    });
    return [await lastOf(stream), got];
  },
  async 'an iterator with a slow body'(stream: Readable) {
    let got = 0;
    try {
      for await (const chunk of stream) {
        got += chunk.length;
        await turns(2);
      }
      return ['end', got];
    } catch (error) {
      return [(error as { code?: string }).code, got];
    }
  },
  async "'readable' and read(n)"(stream: Readable) {
    let got = 0;
    stream.on('readable', () => {
      for (let chunk = stream.read(700); chunk !== null; chunk = stream.read(700)) {
        got += chunk.length;
      }
    });
    return [await lastOf(stream), got];
  },
  async 'a pipe into a slow stream'(stream: Readable) {
    let got = 0;
    const slow = new Writable({
      highWaterMark: 1,
      write(chunk: Buffer, _encoding, done) {
        got += chunk.length;
        void turns(2).then(() => done());
      },
    });
    stream.pipe(slow);
    const last = await lastOf(stream);
    // What was piped is written by and by.
    await until('it is written', () => slow.writableLength === 0);
    return [last, got];
  },
} as const;

/** 'end', or the code of the error. */
const lastOf = (stream: Readable) =>
  new Promise<string | undefined>((resolve) => {
    stream.on('end', () => resolve('end'));
    stream.on('error', (error: Error & { code?: string }) => resolve(error.code));
  });

describeTls('a response that is cut before its reader has taken all that came', () => {
  const CAME = 10_000;
  const HEADS = {
    'content-length': `content-length: ${2 * CAME}`,
    'to the connection’s end': 'connection: close',
  } as const;

  /** A response of which that much came, nobody at it yet, behind the end of its connection. */
  async function unread(scope: Scope, end: End, options: https.AgentOptions = {}, kind = 0) {
    const head = Object.values(HEADS)[kind];
    const { port } = await site(scope, async ({ send, wire, number }) => {
      if (number > 0) {
        await send(ANSWERS.chunked.whole);
        return;
      }
      await send(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n`);
      await send(Buffer.alloc(CAME, 'x'));
      await wire.cut(end);
    });
    const agent = agentOf(scope, options);
    const request = https.get({ host: 'localhost', port, ca: pki().ca, agent });
    request.on('error', () => {});
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    await until('its socket has failed', () => response.socket.closed);
    await turns();
    return { port, agent, request, response };
  }

  for (const [kind, name] of Object.keys(HEADS).entries()) {
    for (const end of ENDS) {
      for (const [reader, read] of Object.entries(READERS)) {
        test(
          `${name}, cut by ${end}, read by ${reader}: all bytes, then the error`,
          clean(async (scope) => {
            scope.peersStay();
            const { response } = await unread(scope, end, {}, kind);
            const [last, got] = await read(response);
            expect(got).toBe(CAME);
            expect(codesOf(end)).toContain(last);
            expect(response.complete).toBe(false);
          }),
        );
      }
    }
  }

  test(
    'who listens to it meanwhile hears nothing before those bytes, and then what it always heard',
    clean(async (scope) => {
      scope.peersStay();
      const { response } = await unread(scope, 'FIN');
      const events: string[] = [];
      for (const name of ['data', 'end', 'error', 'close']) {
        response.on(name, () => events.push(name));
        response.pause();
      }
      response.on('aborted', () => events.push('aborted'));
      await turns(10);
      expect(events).toEqual([]);
      response.resume();
      await until('it has closed', () => response.closed);
      expect(events).toEqual(['data', 'aborted', 'error', 'close']);
    }),
  );

  test(
    'its place in the agent is free at once',
    clean(async (scope) => {
      scope.peersStay();
      const { agent, port } = await unread(scope, 'FIN', { maxSockets: 1, keepAlive: true });
      expectWhole(await fetchBy(agent, port));
    }),
  );

  for (const [what, stop, code] of [
    ['its request is destroyed', ({ request }) => request.destroy(), 'ERR_TLS_TRUNCATED'],
    ['it is destroyed', ({ response }) => response.destroy(new Error('enough')), undefined],
  ] as ReadonlyArray<
    readonly [string, (of: Awaited<ReturnType<typeof unread>>) => unknown, string | undefined]
  >) {
    test(
      `${what}: it fails at once`,
      clean(async (scope) => {
        scope.peersStay();
        const of = await unread(scope, 'FIN');
        const last = lastOf(of.response);
        stop(of);
        expect(await last).toBe(code);
      }),
    );
  }

  test(
    'whoever listens to ‘aborted’ and reads nothing hears of it at once',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await site(scope, async ({ send, wire }) => {
        await send(ANSWERS['content-length'].cut);
        await wire.cut('FIN');
      });
      const request = https.get({ host: 'localhost', port, ca: pki().ca, agent: agentOf(scope) });
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      await once(response, 'aborted');
    }),
  );
});

describeTls('connections that are kept', () => {
  test(
    'serve the next request, as in https.Agent',
    clean(async (scope) => {
      const { port, wires } = await site(scope, ({ send }) => send(ANSWERS.chunked.whole));
      const agent = agentOf(scope, { keepAlive: true });
      expectWhole(await fetchBy(agent, port));
      expectWhole(await fetchBy(agent, port));
      expect(wires.length).toBe(1);
      agent.destroy();
    }),
  );

  for (const end of ENDS) {
    test(
      `idle, ended by ${end}: nobody is disturbed, and the next request has a new one`,
      clean(async (scope) => {
        const { port, wires } = await site(scope, ({ send }) => send(ANSWERS.chunked.whole));
        const agent = agentOf(scope, { keepAlive: true });
        expectWhole(await fetchBy(agent, port));
        const [idle] = Object.values(agent.freeSockets).flat() as unknown as tls.TLSSocket[];
        const errors: unknown[] = [];
        idle?.on('error', (error) => errors.push(error));
        await wires[0]?.cut(end);
        await until('it has closed', () => idle?.closed === true);
        // A reset stays Node's, which tells it to its agent.
        if (end !== 'RST') expect(errors).toEqual([]);
        await until('it is out of the pool', () => Object.values(agent.freeSockets).length === 0);
        expectWhole(await fetchBy(agent, port));
        expect(wires.length).toBe(2);
        agent.destroy();
      }),
    );
  }

  test(
    'ended by FIN after a second request was sent on them: that one hangs up, and was not lost',
    clean(async (scope) => {
      const { port } = await site(scope, async ({ send, wire, number }) => {
        if (number === 0) await send(ANSWERS.chunked.whole);
        else await wire.cut('FIN');
      });
      const agent = agentOf(scope, { keepAlive: true });
      expectWhole(await fetchBy(agent, port));
      const seen = await fetchBy(agent, port);
      expect(seen.events).toEqual(['request error ECONNRESET']);
      expect(seen.error?.message).toBe('socket hang up');
    }),
  );

  test(
    'destroy() ends them all',
    clean(async (scope) => {
      const { port, wires } = await site(scope, ({ send }) => send(ANSWERS.chunked.whole));
      const agent = new StrictAgent({ keepAlive: true });
      await fetchBy(agent, port);
      agent.destroy();
      await until('it is gone', () => wires[0]?.gone === true);
      await scope.nothingOpen();
    }),
  );
});

describeTls('sessions', () => {
  /** A connection of its own for each request. */
  const once3 = async (scope: Scope, options: ConstructorParameters<typeof StrictAgent>[0]) => {
    const agent = agentOf(scope, { maxVersion: 'TLSv1.2', ...options });
    const { port, reused } = await site(scope, async ({ send, socket }) => {
      await send(ANSWERS.chunked.whole);
      socket.end();
    });
    const get = async (more: https.RequestOptions = {}) => {
      expectWhole(await fetchBy(agent, port, more));
      return reused.at(-1);
    };
    return { get, port, agent };
  };

  test(
    'are resumed',
    clean(async (scope) => {
      const { get } = await once3(scope, {});
      expect([await get(), await get(), await get()]).toEqual([false, true, true]);
    }),
  );

  test(
    'are resumed in TLS 1.3 too',
    clean(async (scope) => {
      const { get } = await once3(scope, { maxVersion: 'TLSv1.3' });
      expect([await get(), await get()]).toEqual([false, true]);
    }),
  );

  test(
    'are not with maxCachedSessions 0',
    clean(async (scope) => {
      const { get } = await once3(scope, { maxCachedSessions: 0 });
      expect([await get(), await get()]).toEqual([false, false]);
    }),
  );

  test(
    'are kept for the newest keys, up to maxCachedSessions',
    clean(async (scope) => {
      const { get } = await once3(scope, { maxCachedSessions: 1 });
      // Another host is another key.
      const other = { host: '127.0.0.1' };
      expect([await get(), await get(other), await get(other), await get()]).toEqual([
        false,
        false,
        true,
        false,
      ]);
    }),
  );

  test(
    'of one key do not push out those of others',
    clean(async (scope) => {
      const { get } = await once3(scope, { maxCachedSessions: 2 });
      const other = { host: '127.0.0.1' };
      await get(other);
      await get();
      await get();
      await get();
      expect(await get(other)).toBe(true);
    }),
  );

  test(
    'are forgotten when their connection fails',
    clean(async (scope) => {
      const agent = agentOf(scope, { maxVersion: 'TLSv1.2' });
      const { port, reused } = await site(scope, async ({ send, wire, socket, number }) => {
        await send(number === 1 ? ANSWERS.chunked.cut : ANSWERS.chunked.whole);
        if (number === 1) await wire.cut('RST');
        else socket.end();
      });
      await fetchBy(agent, port);
      expectCut(await fetchBy(agent, port), codesOf('RST'));
      await fetchBy(agent, port);
      expect(reused).toEqual([false, true, false]);
    }),
  );

  test(
    'are not used to get past a request’s own checkServerIdentity',
    clean(async (scope) => {
      // A resumed session is not checked again: Node never calls checkServerIdentity for it.
      const { get, port, agent } = await once3(scope, {});
      await get();
      const seen = await fetchBy(agent, port, {
        checkServerIdentity: () => new Error('not this one'),
      });
      expect(seen.error?.message).toBe('not this one');
      // And one that was made under another check is not kept for those who ask for the usual one.
      const { get: getAny } = await once3(scope, {});
      await getAny({ checkServerIdentity: () => undefined });
      expect(await getAny()).toBe(false);
    }),
  );
});

describeTls('the agent', () => {
  test(
    "in mode 'report' behaves as https.Agent",
    clean(async (scope) => {
      for (const kind of KINDS) {
        const { port } = await site(scope, async ({ send, wire }) => {
          await send(ANSWERS[kind].cut);
          await wire.cut('FIN');
        });
        const seen = await fetchBy(agentOf(scope, { mode: 'report' }), port);
        const plain = await fetchBy(new https.Agent(), port);
        expect(seen.events, kind).toEqual(plain.events);
        expect(seen.body, kind).toBe(plain.body);
        expect(seen.response?.complete, kind).toBe(plain.response?.complete);
      }
    }),
  );

  test('is an https.Agent, with its options', () => {
    const agent = new StrictAgent({ keepAlive: true, maxSockets: 3 });
    expect(agent).toBeInstanceOf(https.Agent);
    expect(agent.maxSockets).toBe(3);
    expect(agent.options).not.toHaveProperty('mode');
  });

  test('takes no other mode', () => {
    expect(() => new StrictAgent({ mode: 'strict' as 'error' })).toThrowError(
      expect.objectContaining({ code: 'ERR_TLS_OPTION' }),
    );
  });

  test('does not pass by a proxy that it was told to use', () => {
    expect(
      () => new StrictAgent({ proxyEnv: { HTTPS_PROXY: 'http://localhost:1' } } as object),
    ).toThrowError(expect.objectContaining({ code: 'ERR_TLS_OPTION' }));
  });

  test(
    'opens connections by hand in all forms of https.Agent',
    clean(async (scope) => {
      const { port } = await site(scope, async () => {});
      const agent = agentOf(scope) as unknown as {
        createConnection(...args: unknown[]): tls.TLSSocket;
      };
      const { ca } = pki();
      for (const args of [
        [{ port, host: 'localhost', ca }],
        [port, 'localhost', { ca }],
        [port, { host: 'localhost', ca }],
      ]) {
        const socket = agent.createConnection(...args);
        await once(socket, 'secureConnect');
        expect(socket.authorized).toBe(true);
        socket.destroy();
      }
    }),
  );

  test(
    'tells of a certificate that does not verify as Node does',
    clean(async (scope) => {
      const { port } = await site(scope, async () => {}, pki().otherName);
      const seen = await fetchBy(agentOf(scope), port);
      expect(seen.events).toEqual(['request error ERR_TLS_CERT_ALTNAME_INVALID']);
    }),
  );

  test(
    'carries an upgrade: the stream behind it is strict',
    clean(async (scope) => {
      const { port } = await site(scope, async ({ send, wire, upgraded }) => {
        upgraded();
        await send(
          'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello',
        );
        await wire.cut('FIN');
      });
      const request = https.get({
        host: 'localhost',
        port,
        ca: pki().ca,
        agent: agentOf(scope),
        headers: { connection: 'upgrade', upgrade: 'x' },
      });
      const [response, socket, head] = await once(request, 'upgrade');
      expect(response.statusCode).toBe(101);
      let text = String(head);
      let ended = false;
      socket.on('data', (chunk: Buffer) => {
        text += chunk;
      });
      socket.on('end', () => {
        ended = true;
      });
      const [error] = await once(socket, 'error');
      expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
      expect(text).toBe('hello');
      expect(ended).toBe(false);
    }),
  );

  test(
    'carries a CONNECT: TLS runs inside, and each layer is strict',
    clean(async (scope) => {
      const inner = await site(scope, async ({ send, wire }) => {
        await send(ANSWERS['to the connection’s end'].cut);
        await wire.cut('FIN');
      });
      const { connect } = await import('node:net');
      const outer = await site(scope, async ({ send, socket, upgraded }) => {
        upgraded();
        const through = connect({ port: inner.port, host: '127.0.0.1', allowHalfOpen: true });
        scope.defer(() => through.destroy());
        through.on('error', () => {});
        await send('HTTP/1.1 200 OK\r\n\r\n');
        through.pipe(socket).pipe(through);
      });
      const request = https.request({
        host: 'localhost',
        port: outer.port,
        ca: pki().ca,
        agent: agentOf(scope),
        method: 'CONNECT',
        path: `localhost:${inner.port}`,
      });
      request.end();
      const [, socket] = await once(request, 'connect');
      const seen = await fetchBy(undefined, inner.port, {
        createConnection: () =>
          secureSocket({ socket, ca: pki().ca, servername: 'localhost', host: 'localhost' }),
      });
      expectCut(seen, ['ERR_TLS_TRUNCATED']);
    }),
  );
});
