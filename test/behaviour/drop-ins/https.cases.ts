/** HTTPS: bodies of every kind, agents, aborts, upgrades, and what servers do to idle connections. */
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { type Env, family } from './env.ts';

const { cases, add } = family();

export { cases };

const REQUEST = ['response', 'socket', 'abort', 'continue', 'information', 'upgrade'];
const RESPONSE = ['data', 'aborted'];

/** Notes what becomes of a request. */
function watch(env: Env, request: http.ClientRequest, name = 'request'): http.ClientRequest {
  env.watch(name, request, ...REQUEST);
  request.on('response', (response) => {
    env.watch(`${name}: response`, response, ...RESPONSE);
    response.on('close', () =>
      env.note(`${name}: complete`, response.complete, response.statusCode, response.errored),
    );
  });
  return request;
}

/** A request through an agent of its own, to its end. */
async function get(
  env: Env,
  port: number,
  options: https.RequestOptions = {},
  name = 'request',
): Promise<http.ClientRequest> {
  const request = watch(env, https.get(env.request(port, { agent: false, ...options })), name);
  await env.closed(request);
  await env.turns(2);
  return request;
}

function agentOf(env: Env, options: https.AgentOptions = {}): https.Agent {
  const agent = new https.Agent({ keepAlive: true, ...options });
  env.defer(() => agent.destroy());
  return agent;
}

/** What an agent holds. */
function held(env: Env, when: string, agent: https.Agent): void {
  const count = (lists: NodeJS.ReadOnlyDict<unknown[]>) =>
    Object.values(lists).reduce((sum, list) => sum + (list?.length ?? 0), 0);
  env.note(
    'agent',
    when,
    `busy=${count(agent.sockets)} free=${count(agent.freeSockets)} waiting=${count(agent.requests)}`,
  );
}

/** A server that answers each request with these bytes, whatever they are, and ends. */
const raw = (env: Env, bytes: string | readonly string[], options: { stay?: boolean } = {}) =>
  env.serve({}, (socket) => {
    socket.once('data', async () => {
      for (const part of typeof bytes === 'string' ? [bytes] : bytes) {
        socket.write(part);
        await sleep(5);
      }
      if (options.stay !== true) socket.end();
    });
  });

const OK = 'HTTP/1.1 200 OK\r\n';
const whole: Readonly<Record<string, string | string[]>> = {
  'content-length': `${OK}Content-Length: 5\r\n\r\nhello`,
  'content-length and close': `${OK}Content-Length: 5\r\nConnection: close\r\n\r\nhello`,
  'content-length 0': `${OK}Content-Length: 0\r\n\r\n`,
  chunked: `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
  'chunked with trailers': `${OK}Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n`,
  'to the end of the connection': `${OK}Connection: close\r\n\r\nhello`,
  'to the end, in parts': [`${OK}\r\n`, 'hel', 'lo ', 'world'],
  'HTTP/1.0': 'HTTP/1.0 200 OK\r\n\r\nhello',
  'no body at all': 'HTTP/1.1 204 No Content\r\n\r\n',
  'not modified': 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n',
  'more bytes than announced': `${OK}Content-Length: 3\r\n\r\nhello`,
  'information first': `HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${OK}Content-Length: 5\r\n\r\nhello`,
  'not HTTP at all': 'hello, I am not HTTP\r\n\r\n',
  'nothing at all': '',
  'half a header': 'HTTP/1.1 200 OK\r\nContent-Le',
  'fewer bytes than announced, then close_notify': `${OK}Content-Length: 10\r\n\r\nhello`,
  'a chunk cut, then close_notify': `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhel`,
  'no last chunk, then close_notify': `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
};
for (const [name, bytes] of Object.entries(whole)) {
  for (const keepAlive of [false, true]) {
    const how = keepAlive ? 'kept alive' : 'no agent';
    add(`a response: ${name}, ${how}`, 'test-https-eof-for-eom', async (env) => {
      const { port } = await raw(env, bytes);
      const agent = keepAlive ? agentOf(env) : false;
      const request = watch(env, https.get(env.request(port, { agent })));
      request.on('response', (response) => response.resume());
      await env.closed(request);
      await sleep(20);
      if (agent) held(env, 'after', agent);
    });
  }
}

const cut: Readonly<Record<string, string>> = {
  'content-length': `${OK}Content-Length: 5\r\n\r\nhello`,
  chunked: `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
  'no body': 'HTTP/1.1 204 No Content\r\n\r\n',
};
for (const [name, bytes] of Object.entries(cut)) {
  add(
    `a whole response, then FIN without close_notify: ${name}`,
    'test-https-truncate',
    async (env) => {
      const { port } = await raw(env, bytes, { stay: true });
      const cutter = await env.cutter(port);
      const agent = agentOf(env);
      const request = watch(env, https.get(env.request(cutter.port, { agent })));
      request.on('response', (response) => {
        response.resume();
        response.on('end', () => cutter.fin());
      });
      await env.closed(request);
      await sleep(50);
      held(env, 'after', agent);
    },
  );
}

add(
  'truncated: a body to the end of the connection',
  'test-https-truncate',
  async (env) => {
    const { port } = await raw(env, `${OK}Connection: close\r\n\r\nhello`, { stay: true });
    const cutter = await env.cutter(port);
    const request = watch(env, https.get(env.request(cutter.port, { agent: false })));
    request.on('response', (response) => response.once('data', () => cutter.fin()));
    await env.closed(request);
    await sleep(20);
  },
  {
    'request: response': {
      plain: ['data "hello"', 'end', 'close'],
      strict: ['data "hello"', 'aborted', 'error ERR_TLS_TRUNCATED', 'close'],
    },
    'request: complete': { plain: ['true 200 null'], strict: ['false 200 ERR_TLS_TRUNCATED'] },
  },
);

for (const [name, head, plain] of [
  ['by its length', 'Content-Length: 20000', '0 bytes, ECONNRESET'],
  ['to the end of the connection', 'Connection: close', '10000 bytes, end'],
] as const) {
  add(
    `truncated: a body that is read late, ${name}`,
    'test-https-truncate',
    async (env) => {
      const { port } = await raw(env, `${OK}${head}\r\n\r\n${'x'.repeat(10_000)}`, { stay: true });
      const cutter = await env.cutter(port);
      const request = https.get(env.request(cutter.port, { agent: false }));
      env.watch('request', request);
      const response = await new Promise<http.IncomingMessage>((resolve) =>
        request.on('response', resolve),
      );
      while (response.readableLength < 10_000) await env.turns(1);
      cutter.fin();
      await env.closed(response.socket);
      let bytes = 0;
      let last: unknown = 'end';
      try {
        for await (const chunk of response) bytes += chunk.length;
      } catch (error) {
        last = (error as NodeJS.ErrnoException).code;
      }
      env.note('reader', `${bytes} bytes, ${last}`);
    },
    { reader: { plain: [plain], strict: ['10000 bytes, ERR_TLS_TRUNCATED'] } },
  );
}

const ABORTED =
  'Error Error code=ECONNRESET "aborted" cause=(Error Error code=ECONNRESET syscall=read "read ECONNRESET")';

add(
  'reset in a body',
  'test-http-client-aborted-event',
  async (env) => {
    const { port } = await raw(env, `${OK}Content-Length: 10\r\n\r\nhello`, { stay: true });
    const cutter = await env.cutter(port);
    const request = watch(env, https.get(env.request(cutter.port, { agent: false })));
    request.on('response', (response) => response.once('data', () => cutter.rst()));
    await env.closed(request);
    await sleep(20);
  },
  {
    // The same error, and what was behind it.
    'request: response': {
      plain: ['error Error Error code=ECONNRESET "aborted"', 'close'],
      strict: [`error ${ABORTED}`, 'close'],
    },
    'request: complete': {
      plain: ['false 200 Error Error code=ECONNRESET "aborted"'],
      strict: [`false 200 ${ABORTED}`],
    },
  },
);

add('reset before the response', 'test-https-agent-sockets-leak', async (env) => {
  let cut = () => {};
  const { port } = await env.serve({}, (socket) => void socket.once('data', () => cut()));
  const cutter = await env.cutter(port);
  cut = () => cutter.rst();
  const request = watch(env, https.get(env.request(cutter.port, { agent: false })));
  await env.closed(request);
});

add('connection refused', 'test-https-client-reject', async (env) => {
  await get(env, await env.noPort());
});

add('a server that speaks HTTP in the clear', 'test-https-connecting-to-http', async (env) => {
  const server = http.createServer((_request, response) => response.end('clear'));
  const port = await env.listen(server);
  await get(env, port);
});

for (const which of ['expired', 'otherName', 'selfSigned'] as const) {
  add(`a certificate that is refused: ${which}`, 'test-https-client-reject', async (env) => {
    const { port } = await env.web((_request, response) => response.end('x'), env.pki[which]);
    await get(env, port);
  });
  add(`a certificate that is let pass: ${which}`, 'test-https-strict', async (env) => {
    const { port } = await env.web((_request, response) => response.end('x'), env.pki[which]);
    const request = await get(env, port, { rejectUnauthorized: false });
    const socket = request.socket as tls.TLSSocket;
    env.note('socket', socket.authorized, socket.authorizationError);
  });
}

add('the socket of a request', 'test-https-socket-options', async (env) => {
  const { port } = await env.web((request, response) => {
    env.note('server', request.socket.remoteAddress, (request.socket as tls.TLSSocket).encrypted);
    response.end('x');
  });
  const request = watch(env, https.get(env.request(port, { agent: false })));
  request.on('response', (response) => {
    const socket = response.socket as tls.TLSSocket;
    env.note('socket', socket === request.socket, socket instanceof tls.TLSSocket);
    env.note('socket', socket.remoteAddress, socket.remotePort, socket.remoteFamily);
    env.note('socket', socket.localAddress, typeof socket.localPort, socket.authorized);
    env.note('socket', socket.getPeerCertificate().subject.CN, socket.getProtocol());
    request.setNoDelay(true);
    request.setSocketKeepAlive(true, 1_000);
    response.resume();
  });
  await env.closed(request);
});

add('a post with a body', 'test-https-simple', async (env) => {
  const { port } = await env.web((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text) => {
      body += text;
    });
    request.on('end', () => response.end(`got ${body}`));
  });
  const request = watch(env, https.request(env.request(port, { agent: false, method: 'POST' })));
  request.write('one ');
  request.end('two');
  await env.closed(request);
});

add('a big post and a big answer', 'test-https-drain', async (env) => {
  const { port } = await env.web((request, response) => void request.pipe(response));
  const request = https.request(env.request(port, { agent: false, method: 'POST' }));
  request.on('error', (error) => env.note('request', error));
  request.on('response', (response) => {
    response.on('data', (chunk: Buffer) => env.data('response', chunk));
    response.on('end', () => env.note('response', 'end', response.complete));
  });
  request.end(Buffer.alloc(3_000_001, 'data'));
  await env.closed(request);
});

add('bytesWritten', 'test-https-byteswritten', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const request = await get(env, port);
  env.note(
    'counted',
    request.socket?.bytesRead !== undefined,
    request.socket?.bytesWritten !== undefined,
  );
});

// Keeping alive

add('a connection is used again', 'test-https-agent', async (env) => {
  let connections = 0;
  const { port, server } = await env.web((_request, response) => response.end('hello'));
  server.on('secureConnection', () => connections++);
  const agent = agentOf(env);
  agent.on('free', () => env.note('agent', 'free'));
  for (let i = 0; i < 3; i++) {
    const request = await get(env, port, { agent }, `request ${i}`);
    env.note('reused', request.reusedSocket);
    held(env, `after ${i}`, agent);
  }
  env.note('connections', connections);
});

add('maxSockets', 'test-https-agent', async (env) => {
  let connections = 0;
  const { port, server } = await env.web((_request, response) => response.end('hello'));
  server.on('secureConnection', () => connections++);
  const agent = agentOf(env, { maxSockets: 2 });
  await Promise.all(
    Array.from({ length: 8 }, (_, i) => get(env, port, { agent }, `request ${i}`).then(() => {})),
  );
  env.note('connections', connections);
  held(env, 'after', agent);
});

add('maxFreeSockets 0', 'test-https-agent-sockets-leak', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const agent = agentOf(env, { maxFreeSockets: 0 });
  await get(env, port, { agent });
  await sleep(20);
  held(env, 'after', agent);
});

for (const lifo of ['fifo', 'lifo'] as const) {
  add(`scheduling ${lifo}`, 'test-https-agent-constructor', async (env) => {
    const { port } = await env.web((_request, response) => response.end('hello'));
    const agent = agentOf(env, { scheduling: lifo });
    await Promise.all([
      get(env, port, { agent }, 'request 1'),
      get(env, port, { agent }, 'request 2'),
    ]);
    await get(env, port, { agent }, 'request 3');
    held(env, 'after', agent);
  });
}

const idleEnds: Readonly<Record<string, (socket: tls.TLSSocket) => void>> = {
  close_notify: (socket) => void socket.end(),
  'no close_notify': (socket) => void socket.destroy(),
};
for (const [name, end] of Object.entries(idleEnds)) {
  add(
    `the server ends an idle connection: ${name}`,
    'test-https-server-close-idle',
    async (env) => {
      let last: tls.TLSSocket | undefined;
      const { port, server } = await env.web((_request, response) => response.end('hello'));
      server.on('secureConnection', (socket) => {
        last = socket;
      });
      const agent = agentOf(env);
      await get(env, port, { agent }, 'request 1');
      held(env, 'idle', agent);
      end(last!);
      // Until the agent has let go of it.
      for (let i = 0; i < 200 && Object.keys(agent.freeSockets).length > 0; i++) await sleep(10);
      held(env, 'ended', agent);
      await get(env, port, { agent }, 'request 2');
      held(env, 'again', agent);
    },
  );
}

add('an idle connection is reset', 'test-https-server-close-idle', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const cutter = await env.cutter(port);
  const agent = agentOf(env);
  await get(env, cutter.port, { agent }, 'request 1');
  cutter.rst();
  await sleep(50);
  held(env, 'ended', agent);
});

add(
  'the server’s keep-alive timeout',
  'test-https-server-connections-checking-leak',
  async (env) => {
    const { port, server } = await env.web((_request, response) => response.end('hello'));
    server.keepAliveTimeout = 30;
    const agent = agentOf(env);
    await get(env, port, { agent }, 'request 1');
    await sleep(1_500);
    held(env, 'later', agent);
    await get(env, port, { agent }, 'request 2');
  },
);

add('agent.destroy with idle connections', 'test-https-agent-abort-controller', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const agent = agentOf(env);
  const request = await get(env, port, { agent });
  const socket = request.socket!;
  agent.destroy();
  await env.closed(socket);
  held(env, 'after', agent);
});

add('agent.destroy with a request under way', 'test-https-agent-abort-controller', async (env) => {
  const { port } = await env.web(() => {});
  const agent = agentOf(env);
  const request = watch(env, https.get(env.request(port, { agent })));
  request.on('finish', () => setTimeout(() => agent.destroy(), 20));
  await env.closed(request);
  held(env, 'after', agent);
});

add('the agent’s timeout', 'test-https-timeout', async (env) => {
  const { port } = await env.web(() => {});
  const agent = agentOf(env, { timeout: 400 });
  const request = watch(env, https.get(env.request(port, { agent })));
  request.on('timeout', () => request.destroy());
  await env.closed(request);
});

add('an idle connection times out', 'test-http-agent-timeout', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const agent = agentOf(env, { timeout: 400 });
  await get(env, port, { agent });
  held(env, 'idle', agent);
  await sleep(900);
  held(env, 'later', agent);
});

add('createConnection of the agent', 'test-https-agent-create-connection', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const agent = agentOf(env);
  const socket = (agent as unknown as { createConnection: typeof tls.connect }).createConnection(
    env.request(port) as tls.ConnectionOptions,
  );
  env.watch('socket', socket);
  socket.on('secureConnect', () => {
    env.note('socket', socket instanceof tls.TLSSocket);
    socket.end();
  });
  socket.resume();
  await env.closed(socket);
});

add('createConnection of the request', 'test-https-agent-create-connection', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  await get(env, port, {
    createConnection: () => tls.connect(env.options(port) as tls.ConnectionOptions),
  });
});

add('sessions are kept by the agent', 'test-https-agent-session-reuse', async (env) => {
  const { port } = await env.web((request, response) => {
    env.note('server', (request.socket as tls.TLSSocket).isSessionReused());
    response.end('hello');
  });
  const agent = agentOf(env, { keepAlive: false });
  for (let i = 0; i < 3; i++) await get(env, port, { agent }, `request ${i}`);
});

add('maxCachedSessions 0', 'test-https-agent-disable-session-reuse', async (env) => {
  const { port } = await env.web((request, response) => {
    env.note('server', (request.socket as tls.TLSSocket).isSessionReused());
    response.end('hello');
  });
  const agent = agentOf(env, { keepAlive: false, maxCachedSessions: 0 });
  for (let i = 0; i < 2; i++) await get(env, port, { agent }, `request ${i}`);
});

add('the agent’s keylog', 'test-https-agent-keylog', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const agent = agentOf(env);
  agent.on('keylog', (line: Buffer, socket: tls.TLSSocket) =>
    env.note('keylog', String(line).split(' ')[0], socket instanceof tls.TLSSocket),
  );
  await get(env, port, { agent });
});

add('the agent’s names', 'test-https-agent-getname', async (env) => {
  const agent = agentOf(env);
  env.note('name', agent.getName({ host: 'a', port: 1, servername: 'b' }));
});

add('requests by the global agent', 'test-https-client-override-global-agent', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const before = https.globalAgent;
  https.globalAgent = agentOf(env);
  await get(env, port, { agent: undefined });
  https.globalAgent = before;
});

add('arguments of https.get', 'test-https-request-arguments', async (env) => {
  const { port } = await env.web((request, response) => response.end(request.url));
  const options = { ca: env.pki.ca, agent: false as const, family: 4 };
  await env.closed(watch(env, https.get(`https://localhost:${port}/a`, options), 'text'));
  await env.closed(watch(env, https.get(new URL(`https://localhost:${port}/b`), options), 'URL'));
});

// Aborting

for (const when of ['at once', 'socket', 'secureConnect', 'finish', 'response', 'data'] as const) {
  for (const way of ['destroy', 'destroy(error)', 'abort', 'signal'] as const) {
    add(`${way}: ${when}`, 'test-https-abortcontroller', async (env) => {
      const { port } = await env.web((_request, response) => {
        response.write('some');
      });
      const controller = new AbortController();
      const request = watch(
        env,
        https.get(env.request(port, { agent: false, signal: controller.signal })),
      );
      const act = () => {
        if (way === 'destroy') request.destroy();
        else if (way === 'destroy(error)') request.destroy(new Error('our own'));
        else if (way === 'abort') request.abort();
        else controller.abort();
      };
      if (when === 'at once') act();
      else if (when === 'secureConnect') request.on('socket', (socket) => socket.on(when, act));
      else if (when === 'data') request.on('response', (response) => response.once('data', act));
      else request.once(when, act);
      await env.closed(request);
      await env.turns(3);
      env.note('state', request.destroyed, request.aborted, request.socket?.destroyed);
    });
  }
}

add('a signal that is aborted already', 'test-https-abortcontroller', async (env) => {
  const { port } = await env.web((_request, response) => response.end('x'));
  const request = watch(
    env,
    https.get(env.request(port, { agent: false, signal: AbortSignal.abort() })),
  );
  await env.closed(request);
});

add('the response is destroyed', 'test-http-client-incomingmessage-destroy', async (env) => {
  const { port } = await env.web((_request, response) => void response.write('some'));
  const request = watch(env, https.get(env.request(port, { agent: false })));
  request.on('response', (response) => response.once('data', () => response.destroy()));
  await env.closed(request);
});

add(
  'the response is destroyed with an error',
  'test-http-client-incomingmessage-destroy',
  async (env) => {
    const { port } = await env.web((_request, response) => void response.write('some'));
    const request = watch(env, https.get(env.request(port, { agent: false })));
    request.on('response', (response) =>
      response.once('data', () => response.destroy(new Error('enough'))),
    );
    await env.closed(request);
  },
);

for (const [name, options] of [
  ['option', { timeout: 400 }],
  ['method', {}],
] as const) {
  add(`the request’s timeout, by ${name}`, 'test-https-timeout', async (env) => {
    const { port } = await env.web(() => {});
    const request = watch(env, https.get(env.request(port, { agent: false, ...options })));
    if (name === 'method') request.setTimeout(400, () => env.note('callback', 'called'));
    request.on('timeout', () => request.destroy());
    await env.closed(request);
  });
}

add('the timeout in a slow body', 'test-https-set-timeout-server', async (env) => {
  const { port } = await env.web((_request, response) => void response.write('some'));
  const request = watch(env, https.get(env.request(port, { agent: false, timeout: 400 })));
  request.on('timeout', () => request.destroy(new Error('too slow')));
  await env.closed(request);
});

// Beyond request and response

add('100-continue', 'test-http-expect-continue', async (env) => {
  const { port, server } = await env.web((request, response) => void request.pipe(response));
  server.on('checkContinue', (request, response) => {
    response.writeContinue();
    request.pipe(response);
  });
  const request = watch(
    env,
    https.request(
      env.request(port, { agent: false, method: 'POST', headers: { expect: '100-continue' } }),
    ),
  );
  request.on('continue', () => request.end('now'));
  request.flushHeaders();
  await env.closed(request);
});

add('an upgrade', 'test-http-upgrade-client', async (env) => {
  const { port, server } = await env.web(() => {});
  server.on('upgrade', (_request, socket, head) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst ');
    socket.write(head);
    socket.on('data', (chunk: Buffer) => socket.end(chunk));
  });
  const request = https.get(
    env.request(port, { agent: false, headers: { connection: 'Upgrade', upgrade: 'echo' } }),
  );
  request.on('upgrade', (response, socket: tls.TLSSocket, head: Buffer) => {
    env.note('upgrade', response.statusCode, socket instanceof tls.TLSSocket);
    env.watch('socket', socket, 'data');
    socket.unshift(head);
    socket.write('over TLS');
    request.on('close', () => env.note('request', 'close'));
    void env.closed(socket).then(() => env.note('upgrade', 'over'));
  });
  request.on('error', (error) => env.note('request', error));
  const socket = await new Promise<tls.TLSSocket>((resolve) =>
    request.once('upgrade', (_response, given: tls.TLSSocket) => resolve(given)),
  );
  await env.closed(socket);
});

add(
  'truncated: after an upgrade',
  'test-http-upgrade-client',
  async (env) => {
    const { port, server } = await env.web(() => {});
    server.on('upgrade', (_request, socket) => {
      socket.on('error', () => {});
      socket.write('HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      socket.on('data', () => socket.write('half'));
    });
    const cutter = await env.cutter(port);
    const request = https.get(
      env.request(cutter.port, {
        agent: false,
        headers: { connection: 'Upgrade', upgrade: 'echo' },
      }),
    );
    const socket = await new Promise<tls.TLSSocket>((resolve) =>
      request.once('upgrade', (_response, given: tls.TLSSocket) => resolve(given)),
    );
    socket.on('data', (chunk: Buffer) => {
      env.data('socket', chunk);
      cutter.fin();
    });
    socket.on('end', () => {
      env.note('socket', 'end');
      socket.end();
    });
    socket.on('error', (error) => env.note('socket', 'error', error));
    socket.write('x');
    await env.closed(socket);
  },
  { socket: { plain: ['end'], strict: ['error ERR_TLS_TRUNCATED'] } },
);

add('CONNECT through an HTTPS proxy, TLS inside', 'test-tls-over-http-tunnel', async (env) => {
  const target = await env.web((_request, response) => response.end('through the tunnel'));
  const { port, server } = await env.web(() => {});
  server.on('connect', (_request, socket) => {
    const far = net.connect(target.port, '127.0.0.1');
    env.defer(() => far.destroy());
    far.on('error', () => socket.destroy());
    socket.on('error', () => far.destroy());
    socket.write('HTTP/1.1 200 Connected\r\n\r\n');
    socket.pipe(far).pipe(socket);
  });
  const request = https.request(
    env.request(port, { agent: false, method: 'CONNECT', path: `127.0.0.1:${target.port}` }),
  );
  request.on('error', (error) => env.note('proxy', error));
  request.end();
  const carrier = await new Promise<tls.TLSSocket>((resolve) =>
    request.once('connect', (response, given: tls.TLSSocket) => {
      env.note('proxy', response.statusCode);
      resolve(given);
    }),
  );
  await get(env, target.port, {
    createConnection: () =>
      tls.connect({ socket: carrier, servername: 'localhost', ca: env.pki.ca }),
  });
});

add('two responses in one piece', 'test-http-client-parse-error', async (env) => {
  const one = `${OK}Content-Length: 5\r\n\r\nhello`;
  const { port } = await raw(env, `${one}${one}`, { stay: true });
  const agent = agentOf(env);
  const request = watch(env, https.get(env.request(port, { agent })));
  await env.closed(request);
  await sleep(30);
  held(env, 'after', agent);
});

add('a response before the request is over', 'test-https-req-split', async (env) => {
  const { port } = await raw(env, `${OK}Content-Length: 5\r\nConnection: close\r\n\r\nearly`);
  const request = watch(env, https.request(env.request(port, { agent: false, method: 'POST' })));
  request.write('never finished');
  request.on('response', (response) => response.on('end', () => request.end()));
  await env.closed(request);
});

add('server.closeAllConnections', 'test-https-server-close-all', async (env) => {
  const { port, server } = await env.web((_request, response) => response.end('hello'));
  const agent = agentOf(env);
  await get(env, port, { agent });
  server.closeAllConnections();
  await sleep(50);
  held(env, 'after', agent);
});

add('localAddress', 'test-https-localaddress', async (env) => {
  const { port } = await env.web((request, response) => response.end(request.socket.remoteAddress));
  await get(env, port, { localAddress: '127.0.0.2' });
});

add('localAddress that is not this host’s', 'test-https-localaddress-bind-error', async (env) => {
  const { port } = await env.web((_request, response) => response.end('x'));
  await get(env, port, { localAddress: '192.0.2.1' });
});

add('a Unix domain socket', 'test-https-unix-socket-self-signed', async (env) => {
  const server = https.createServer(env.pki.server, (_request, response) => response.end('hello'));
  const path = `${env.directory()}/socket`;
  await new Promise<void>((resolve) => server.listen(path, resolve));
  env.defer(() => server.close());
  const request = watch(
    env,
    https.get({
      socketPath: path,
      servername: 'localhost',
      ca: env.pki.ca,
      agent: false,
      host: 'localhost',
    }),
  );
  await env.closed(request);
});

add('several addresses', 'test-https-autoselectfamily', async (env) => {
  const { port } = await env.web((request, response) => response.end(request.socket.remoteFamily));
  await get(env, port, {
    host: 'two.example',
    autoSelectFamily: true,
    lookup: (_host, _options, done) =>
      done(null, [
        { address: '::1', family: 6 },
        { address: '127.0.0.1', family: 4 },
      ]),
  } as https.RequestOptions);
});
