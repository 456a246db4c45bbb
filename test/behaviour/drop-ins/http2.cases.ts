/** HTTP/2 and the global fetch. */
import http2 from 'node:http2';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { type Case, type Env, family } from './env.ts';

const { cases, add } = family();

export { cases };

const SESSION = ['stream', 'goaway', 'frameError', 'ping', 'remoteSettings', 'localSettings'];
const STREAM = ['response', 'headers', 'trailers', 'aborted', 'frameError', 'push', 'data'];

/** A session to a server of ours, watched. */
function session(
  env: Env,
  port: number,
  options: http2.SecureClientSessionOptions = {},
): http2.ClientHttp2Session {
  const client = http2.connect(`https://localhost:${port}`, {
    ca: env.pki.ca,
    host: '127.0.0.1',
    servername: 'localhost',
    ...options,
  });
  env.defer(() => client.destroy());
  return env.watch('session', client, ...SESSION);
}

function stream(
  env: Env,
  client: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders = {},
  name = 'stream',
): http2.ClientHttp2Stream {
  const request = client.request({ ':path': '/', ...headers });
  return env.watch(name, request, ...STREAM);
}

const hello = (answer: http2.ServerHttp2Stream): void => {
  answer.on('error', () => {});
  answer.respond({ ':status': 200 });
  answer.end('hello');
};

for (const event of ['response', 'end']) {
  add(`a tick that throws, of a listener to '${event}'`, null, async (env) => {
    const { port } = await env.web2(hello);
    const client = session(env, port);
    const request = stream(env, client);
    request.once(event, () => {
      process.nextTick(() => {
        throw new Error(`from ${event}`);
      });
    });
    await env.closed(request);
    client.close();
    await env.event(client, 'close');
  });
}

/** A frame (RFC 9113 section 4.1). */
function frame(type: number, flags: number, id: number, payload: Uint8Array | string): Buffer {
  const body = Buffer.from(payload);
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, body]);
}

// Node's HTTP/2 answers SETTINGS, and reads what came behind once that is written.
add('a listener that throws, of frames behind SETTINGS', null, async (env) => {
  const { port } = await env.serve({ ALPNProtocols: ['h2'] }, (socket) => {
    let seen = Buffer.alloc(0);
    const onData = (bytes: Buffer) => {
      seen = Buffer.concat([seen, bytes]);
      // The preface has 24 bytes and SETTINGS behind it; the request is HEADERS.
      for (let at = 24; at + 9 <= seen.length; at += 9 + seen.readUIntBE(at, 3)) {
        if (seen[at + 3] !== 1) continue;
        socket.off('data', onData).resume();
        socket.write(Buffer.concat([frame(4, 0, 0, ''), frame(4, 1, 0, '')]));
        socket.write(
          Buffer.concat([
            frame(1, 4, 1, Uint8Array.of(0x88)),
            frame(0, 0, 1, 'abc'),
            frame(7, 0, 0, Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0)),
            frame(0, 0, 1, 'def'),
            frame(0, 1, 1, 'ghi'),
          ]),
        );
        return;
      }
    };
    socket.on('data', onData);
  });
  const client = session(env, port);
  const request = stream(env, client);
  // How many of them are told differs among versions of Node: in most, C++ keeps the first.
  const listeners = process.rawListeners('uncaughtException') as NodeJS.UncaughtExceptionListener[];
  const told = new Set<string>();
  const onUncaught = ({ message }: Error) => void told.add(message);
  process.removeAllListeners('uncaughtException').on('uncaughtException', onUncaught);
  env.defer(() => {
    process.off('uncaughtException', onUncaught);
    for (const listener of listeners) process.on('uncaughtException', listener);
  });
  request.on('data', () => {
    throw new Error('from data');
  });
  await env.closed(request);
  client.destroy();
  await env.closed(client);
  env.note('told', ...told);
  await env.closed(client);
});

add('a request and close()', 'test-http2-client-request-options-errors', async (env) => {
  const { port } = await env.web2(hello);
  const client = session(env, port);
  const request = stream(env, client);
  await env.closed(request);
  env.note('state', client.closed, client.destroyed, client.encrypted, client.alpnProtocol);
  client.close(() => env.note('close', 'called back'));
  await env.event(client, 'close');
});

add('the session’s socket', 'test-http2-socket-proxy', async (env) => {
  const { port } = await env.web2(hello);
  const client = session(env, port);
  await env.event(client, 'connect');
  const socket = client.socket as tls.TLSSocket;
  env.note('socket', socket instanceof net.Socket, socket.encrypted, socket.authorized);
  env.note('socket', socket.remoteAddress, socket.remotePort, typeof socket.localPort);
  env.note('socket', socket.getPeerCertificate().subject.CN, socket.getProtocol());
  for (const name of ['destroy', 'emit', 'end', 'pause', 'read', 'resume', 'write'] as const) {
    env.attempt('socket', name, () => (socket[name] as () => unknown)());
  }
  client.setTimeout(1_000);
  client.ref();
  client.unref();
  client.ref();
  client.close();
  await env.event(client, 'close');
});

add('ping', 'test-http2-ping', async (env) => {
  const { port } = await env.web2(hello);
  const client = session(env, port);
  await env.event(client, 'connect');
  client.ping(Buffer.from('12345678'), (error, _duration, payload) => {
    env.note('ping', error, String(payload));
    client.close();
  });
  await env.event(client, 'close');
});

add('settings', 'test-http2-session-settings', async (env) => {
  const { port } = await env.web2(hello);
  const client = session(env, port);
  await env.event(client, 'connect');
  client.settings({ enablePush: false }, (error) => {
    env.note('settings', error);
    client.close();
  });
  await env.event(client, 'close');
});

add('the server says goaway', 'test-http2-goaway-delayed-request', async (env) => {
  const { port } = await env.web2((answer) => {
    hello(answer);
    answer.session?.goaway();
  });
  const client = session(env, port);
  await env.closed(stream(env, client));
  env.note('state', client.closed);
  client.destroy();
  await env.turns(3);
});

add('the server closes the session', 'test-http2-server-close-idle-connection', async (env) => {
  const { port, server } = await env.web2(hello);
  server.on('session', (theirs) => {
    theirs.on('error', () => {});
    theirs.on('stream', () => theirs.close());
  });
  const client = session(env, port);
  await env.closed(stream(env, client));
  await env.event(client, 'close');
});

add(
  'the server destroys the session while a stream is open',
  'test-http2-server-sessionerror',
  async (env) => {
    const { port, server } = await env.web2((answer) => {
      answer.on('error', () => {});
      answer.respond({ ':status': 200 });
      answer.write('some');
      answer.once('drain', () => {});
      setTimeout(() => answer.session?.destroy(), 20);
    });
    server.on('session', (theirs) => theirs.on('error', () => {}));
    const client = session(env, port);
    const request = stream(env, client);
    await env.closed(request);
    client.destroy();
  },
);

for (const how of ['destroy()', 'destroy(error)', 'destroy(undefined, code)'] as const) {
  for (const when of ['at once', 'connect', 'response', 'data'] as const) {
    add(`session.${how}: ${when}`, 'test-http2-client-destroy', async (env) => {
      const { port } = await env.web2((answer) => {
        answer.on('error', () => {});
        answer.respond({ ':status': 200 });
        answer.write('some');
      });
      const client = session(env, port);
      const request = stream(env, client);
      const act = () => {
        if (how === 'destroy()') client.destroy();
        else if (how === 'destroy(error)') client.destroy(new Error('our own'));
        else client.destroy(undefined, http2.constants.NGHTTP2_CANCEL);
      };
      if (when === 'at once') act();
      else if (when === 'connect') client.once('connect', act);
      else request.once(when, act);
      await env.closed(request);
      await env.turns(3);
      env.note('state', client.destroyed, request.destroyed, request.rstCode);
    });
  }
}

for (const how of ['close', 'destroy', 'destroy(error)', 'signal'] as const) {
  add(`stream: ${how}`, 'test-http2-client-rststream-before-connect', async (env) => {
    const { port } = await env.web2((answer) => {
      answer.on('error', () => {});
      answer.respond({ ':status': 200 });
      answer.write('some');
    });
    const client = session(env, port);
    const controller = new AbortController();
    const request = client.request({ ':path': '/' }, { signal: controller.signal });
    env.watch('stream', request, ...STREAM);
    request.once('data', () => {
      if (how === 'close') request.close(http2.constants.NGHTTP2_CANCEL);
      else if (how === 'destroy') request.destroy();
      else if (how === 'destroy(error)') request.destroy(new Error('our own'));
      else controller.abort();
    });
    await env.closed(request);
    env.note('state', request.rstCode, client.destroyed);
    client.close();
    await env.event(client, 'close');
  });
}

add('a big body both ways', 'test-http2-pipe', async (env) => {
  const { port } = await env.web2((answer) => {
    answer.respond({ ':status': 200 });
    answer.pipe(answer);
  });
  const client = session(env, port);
  const request = client.request({ ':path': '/', ':method': 'POST' });
  request.on('data', (chunk: Buffer) => env.data('stream', chunk));
  request.on('end', () => env.note('stream', 'end'));
  request.end(Buffer.alloc(2_000_001, 'data'));
  await env.closed(request);
  client.close();
  await env.event(client, 'close');
});

add('twenty streams at once', 'test-http2-multiplex', async (env) => {
  const { port } = await env.web2(hello);
  const client = session(env, port);
  await Promise.all(
    Array.from({ length: 20 }, (_, i) => env.closed(stream(env, client, {}, `stream ${i}`))),
  );
  client.close();
  await env.event(client, 'close');
});

add('a server push', 'test-http2-server-push-stream', async (env) => {
  const { port } = await env.web2((answer) => {
    answer.pushStream({ ':path': '/pushed' }, (_error, pushed) => {
      pushed.respond({ ':status': 200 });
      pushed.end('pushed');
      hello(answer);
    });
  });
  const client = session(env, port);
  client.on('stream', (pushed) => env.watch('pushed', pushed, ...STREAM));
  await env.closed(stream(env, client));
  await sleep(20);
  client.close();
  await env.event(client, 'close');
});

add('connection refused', 'test-http2-session-unref', async (env) => {
  const client = session(env, await env.noPort());
  const request = stream(env, client);
  await env.closed(request);
  await env.turns(2);
  env.note('state', client.destroyed);
});

add('a certificate that is refused', 'test-http2-https-fallback', async (env) => {
  const { port } = await env.web2(hello, env.pki.expired);
  const client = session(env, port);
  const request = stream(env, client);
  await env.closed(request);
});

add('a server without HTTP/2', 'test-http2-https-fallback', async (env) => {
  const { port } = await env.web((_request, response) => response.end('x'));
  const client = session(env, port);
  const request = stream(env, client);
  client.setTimeout(1_000, () => client.destroy());
  await env.closed(request);
});

add('createConnection', 'test-http2-create-client-connect', async (env) => {
  const { port } = await env.web2(hello);
  const socket = tls.connect({ ...env.options(port), ALPNProtocols: ['h2'] });
  env.watch('socket', socket);
  const client = session(env, port, { createConnection: () => socket });
  await env.closed(stream(env, client));
  client.close();
  await env.event(client, 'close');
});

add(
  'reset while a stream is open',
  'test-http2-client-socket-destroy',
  async (env) => {
    const { port } = await env.web2((answer) => {
      answer.on('error', () => {});
      answer.respond({ ':status': 200 });
      answer.write('some');
    });
    const cutter = await env.cutter(port);
    const client = session(env, cutter.port);
    const request = stream(env, client);
    request.once('data', () => cutter.rst());
    await env.closed(request);
    await env.turns(3);
    env.note('state', client.destroyed);
  },
  {
    // Plain Node takes a reset for the end of the stream: half an answer passes for a whole one.
    stream: { plain: ['end', 'close'], strict: ['error ERR_TLS_TRUNCATED', 'close'] },
  },
);

add('reset while idle', 'test-http2-client-socket-destroy', async (env) => {
  const { port } = await env.web2(hello);
  const cutter = await env.cutter(port);
  const client = session(env, cutter.port);
  await env.closed(stream(env, client));
  cutter.rst();
  await env.event(client, 'close');
});

add('the timeout of a session', 'test-http2-session-timeout', async (env) => {
  const { port } = await env.web2((answer) => void answer.on('error', () => {}));
  const client = session(env, port);
  client.on('remoteSettings', () => client.setTimeout(60, () => client.destroy()));
  await env.closed(stream(env, client));
});

add('the timeout of a stream', 'test-http2-timeouts', async (env) => {
  const { port } = await env.web2((answer) => void answer.on('error', () => {}));
  const client = session(env, port);
  const request = stream(env, client);
  request.on('ready', () => request.setTimeout(60, () => request.close()));
  await env.closed(request);
  client.close();
  await env.event(client, 'close');
});

add('close() before it is connected', 'test-http2-client-destroy', async (env) => {
  const { port } = await env.web2(hello);
  const client = session(env, port);
  client.close(() => env.note('close', 'called back'));
  await env.event(client, 'close');
});

// fetch. It trusts the CA by its environment only, so the server's certificate is let pass.

function fetching(
  name: string,
  like: string | null,
  run: (env: Env) => Promise<void>,
  differs: Case['differs'] = {},
): void {
  add(
    `fetch: ${name}`,
    like,
    async (env) => {
      const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
      process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
      // Told once in a process, by whichever case comes first.
      const emitWarning = process.emitWarning;
      process.emitWarning = () => {};
      try {
        await run(env);
      } finally {
        process.emitWarning = emitWarning;
        if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
        else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before;
      }
    },
    differs,
  );
}

/** Bytes that a server answers with, before it ends with close_notify. */
const OK = 'HTTP/1.1 200 OK\r\n';
const bodies: Readonly<Record<string, string>> = {
  'content-length': `${OK}Content-Length: 5\r\n\r\nhello`,
  'content-length and close': `${OK}Content-Length: 5\r\nConnection: close\r\n\r\nhello`,
  chunked: `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
  'to the end of the connection': `${OK}Connection: close\r\n\r\nhello`,
  'no body': 'HTTP/1.1 204 No Content\r\n\r\n',
  'fewer bytes than announced': `${OK}Content-Length: 10\r\n\r\nhello`,
  'a chunk cut': `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhel`,
  'not HTTP': 'hello, I am not HTTP\r\n\r\n',
  nothing: '',
};
for (const [name, bytes] of Object.entries(bodies)) {
  fetching(name, null, async (env) => {
    const { port } = await env.serve({}, (socket) => {
      socket.once('data', () => socket.end(bytes));
    });
    try {
      const response = await fetch(`https://127.0.0.1:${port}/`);
      env.note('fetch', response.status, response.ok, response.type, response.redirected);
      env.note('fetch', JSON.stringify(await response.text()));
    } catch (error) {
      env.note('fetch', error);
    }
  });
}

fetching(
  'truncated: a body that is read late',
  null,
  async (env) => {
    let closed = () => {};
    const gone = new Promise<void>((resolve) => {
      closed = resolve;
    });
    const { port } = await env.serve({}, (socket) => {
      socket.on('close', closed);
      socket.once('data', () => {
        // In one record: who has the head has all.
        socket.write(`${OK}Content-Length: 20000\r\n\r\n${'x'.repeat(10_000)}`);
      });
    });
    const cutter = await env.cutter(port);
    // As long as it is not taken, undici does not cancel its body.
    const response = await fetch(`https://127.0.0.1:${cutter.port}/`);
    cutter.fin();
    await gone;
    await env.turns(2);
    let bytes = 0;
    let last: unknown = 'end';
    try {
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        bytes += chunk.length;
      }
    } catch (error) {
      last = ((error as Error).cause as NodeJS.ErrnoException).code;
    }
    env.note('reader', response.status, `${bytes} bytes, ${last}`);
  },
  {
    reader: {
      plain: ['200 0 bytes, UND_ERR_SOCKET'],
      strict: ['200 10000 bytes, ERR_TLS_TRUNCATED'],
    },
  },
);

fetching('a post', null, async (env) => {
  const { port } = await env.web((request, response) => void request.pipe(response));
  const response = await fetch(`https://127.0.0.1:${port}/`, { method: 'POST', body: 'posted' });
  env.note('fetch', await response.text());
});

fetching('a streamed body', null, async (env) => {
  const { port } = await env.web((request, response) => void request.pipe(response));
  const body = new Blob(['streamed ', 'body']).stream();
  const response = await fetch(`https://127.0.0.1:${port}/`, {
    method: 'POST',
    body,
    duplex: 'half',
  } as RequestInit);
  env.note('fetch', await response.text());
});

fetching('three megabytes', null, async (env) => {
  const { port } = await env.web((_request, response) =>
    response.end(Buffer.alloc(3_000_001, 'data')),
  );
  const response = await fetch(`https://127.0.0.1:${port}/`);
  env.note('fetch', Buffer.from(await response.arrayBuffer()));
});

fetching('ten in parallel, and once more', null, async (env) => {
  const { port } = await env.web((request, response) => response.end(request.url));
  const texts = await Promise.all(
    Array.from({ length: 10 }, async (_, i) =>
      (await fetch(`https://127.0.0.1:${port}/${i}`)).text(),
    ),
  );
  env.note('fetch', texts.join(' '));
  env.note('fetch', await (await fetch(`https://127.0.0.1:${port}/again`)).text());
});

fetching('the server ends the idle connection, and once more', null, async (env) => {
  const sockets: tls.TLSSocket[] = [];
  const { port, server } = await env.web((_request, response) => response.end('hello'));
  server.on('secureConnection', (socket) => sockets.push(socket));
  env.note('fetch', await (await fetch(`https://127.0.0.1:${port}/`)).text());
  for (const socket of sockets) socket.destroy();
  await sleep(50);
  env.note('fetch', await (await fetch(`https://127.0.0.1:${port}/`)).text());
  env.note('connections', sockets.length);
});

for (const when of ['before', 'while it waits', 'in the body'] as const) {
  fetching(`aborted ${when}`, null, async (env) => {
    const { port } = await env.web((_request, response) => {
      if (when === 'in the body') response.write('some');
      if (when === 'while it waits') setTimeout(() => controller.abort(), 20);
    });
    const controller = new AbortController();
    if (when === 'before') controller.abort();
    try {
      const response = await fetch(`https://127.0.0.1:${port}/`, { signal: controller.signal });
      env.note('fetch', response.status);
      controller.abort(new Error('enough'));
      await response.text();
    } catch (error) {
      env.note('fetch', error);
    }
  });
}

fetching('connection refused', null, async (env) => {
  const port = await env.noPort();
  await fetch(`https://127.0.0.1:${port}/`).catch((error) => env.note('fetch', error));
});

fetching(
  'reset in the body',
  null,
  async (env) => {
    const { port } = await env.web((_request, response) => void response.write('some'));
    const cutter = await env.cutter(port);
    const response = await fetch(`https://127.0.0.1:${cutter.port}/`);
    cutter.rst();
    await response
      .text()
      .catch((error) => env.note('fetch', error.name, error.message, error.cause?.code));
  },
  {
    // undici would take the reset for the end of a body that ends with the connection.
    fetch: {
      plain: ['TypeError terminated ECONNRESET'],
      strict: ['TypeError terminated ERR_TLS_TRUNCATED'],
    },
  },
);

fetching('a cancelled body', null, async (env) => {
  const { port } = await env.web((_request, response) => void response.write('some'));
  const response = await fetch(`https://127.0.0.1:${port}/`);
  await response.body?.cancel();
  env.note('fetch', response.bodyUsed);
});

add('fetch: a certificate that is refused', null, async (env) => {
  const { port } = await env.web((_request, response) => response.end('x'));
  await fetch(`https://127.0.0.1:${port}/`).catch((error) => env.note('fetch', error));
});
