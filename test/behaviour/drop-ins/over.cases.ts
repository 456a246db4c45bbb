/** TLS over what the program brings: a socket, one that still connects, a Duplex, TLS itself. */
import net from 'node:net';
import { Duplex, duplexPair } from 'node:stream';
import tls from 'node:tls';
import { type Env, family } from './env.ts';

const { cases, add } = family();

export { cases };

const greet = (socket: tls.TLSSocket) => {
  socket.resume();
  socket.end('hello');
};

async function connected(
  env: Env,
  port: number,
  options: net.NetConnectOpts | object = {},
): Promise<net.Socket> {
  const raw = net.connect({ host: '127.0.0.1', port, ...options });
  env.defer(() => raw.destroy());
  raw.on('error', () => {});
  await env.event(raw, 'connect');
  return raw;
}

/** A Duplex of one's own around a socket, as some libraries make. */
function wrapped(raw: net.Socket): Duplex {
  const duplex = new Duplex({
    read() {
      raw.resume();
    },
    write(chunk: Buffer, _encoding, done) {
      raw.write(chunk, done);
    },
    final(done) {
      raw.end(done);
    },
    destroy(error, done) {
      raw.destroy();
      done(error);
    },
  });
  raw.on('data', (chunk) => {
    if (!duplex.push(chunk)) raw.pause();
  });
  raw.on('end', () => duplex.push(null));
  raw.on('error', (error) => duplex.destroy(error));
  return duplex;
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  add(`a connected socket, ${version}`, 'test-tls-connect-given-socket', async (env) => {
    const { port } = await env.serve({}, greet);
    const raw = await connected(env, port);
    env.watch('raw', raw);
    const client = env.connect(port, { socket: raw, maxVersion: version }, 'data');
    env.facts('facts', 'at once', client);
    client.on('secureConnect', () => env.facts('facts', 'secure', client));
    await env.closed(client);
    await env.turns(3);
    env.note('after', raw.destroyed);
  });

  add(`a socket that still connects, ${version}`, 'test-tls-connect-given-socket', async (env) => {
    const { port } = await env.serve({}, greet);
    const raw = net.connect({ host: '127.0.0.1', port });
    env.watch('raw', raw);
    const client = env.connect(port, { socket: raw, maxVersion: version }, 'data');
    env.facts('facts', 'at once', client);
    client.on('secureConnect', () => env.facts('facts', 'secure', client));
    await env.closed(client);
  });

  add(`a Duplex, ${version}`, 'test-tls-js-stream', async (env) => {
    const { port } = await env.serve({}, greet);
    const duplex = wrapped(await connected(env, port, { allowHalfOpen: true }));
    const client = env.connect(port, { socket: duplex as net.Socket, maxVersion: version }, 'data');
    client.on('secureConnect', () => env.facts('facts', 'secure', client));
    client.on('end', () => client.end());
    await env.closed(client);
  });

  add(`TLS in TLS, ${version}`, 'test-tls-inception', async (env) => {
    const inner = await env.serve({}, greet);
    const outer = await env.serve({}, (socket) => {
      const far = net.connect(inner.port, '127.0.0.1');
      socket.pipe(far).pipe(socket);
      far.on('error', () => {});
      env.defer(() => far.destroy());
    });
    const carrier = tls.connect(env.options(outer.port, { maxVersion: version }));
    carrier.on('error', (error) => env.note('outer', error));
    await env.event(carrier, 'secureConnect');
    const client = env.connect(inner.port, { socket: carrier, maxVersion: version }, 'data');
    client.on('secureConnect', () =>
      env.note('inner', client.encrypted, client.authorized, client.remoteAddress),
    );
    await env.closed(client);
    carrier.destroy();
    await env.closed(carrier);
    env.note('outer', carrier.destroyed);
  });

  add(`TLS in TLS, a megabyte there and back, ${version}`, 'test-tls-inception', async (env) => {
    const inner = await env.serve({ allowHalfOpen: true }, (socket) => void socket.pipe(socket));
    const outer = await env.serve({ allowHalfOpen: true }, (socket) => {
      const far = net.connect({ port: inner.port, host: '127.0.0.1', allowHalfOpen: true });
      socket.pipe(far).pipe(socket);
      far.on('error', () => {});
      env.defer(() => far.destroy());
    });
    const carrier = tls.connect(
      env.options(outer.port, { maxVersion: version, allowHalfOpen: true }),
    );
    carrier.on('error', () => {});
    await env.event(carrier, 'secureConnect');
    const client = env.connect(inner.port, { socket: carrier, allowHalfOpen: true }, 'data apart');
    client.removeAllListeners('drain');
    client.end(Buffer.alloc(1_000_003, 'abc'));
    await env.event(client, 'end');
    carrier.destroy();
  });

  add(
    `truncated: a connected socket, ${version}`,
    'test-https-truncate',
    async (env) => {
      const { port } = await env.serve({}, (socket) => void socket.write('half'));
      const cutter = await env.cutter(port);
      const raw = await connected(env, cutter.port);
      const client = env.connect(port, { socket: raw, maxVersion: version }, 'data');
      client.once('data', () => cutter.fin());
      await env.closed(client);
    },
    {
      client: {
        plain: ['end', 'finish', 'close false'],
        strict: ['error ERR_TLS_TRUNCATED', 'close true'],
      },
    },
  );
}

add('a socket that fails to connect', 'test-tls-connect-given-socket', async (env) => {
  const port = await env.noPort();
  const raw = net.connect({ host: '127.0.0.1', port });
  env.watch('raw', raw);
  const client = env.connect(port, { socket: raw });
  client.setTimeout(500, () => client.destroy());
  await env.closed(client);
});

add('a socket that is reset', 'test-tls-econnreset', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.write('half'));
  const cutter = await env.cutter(port);
  const raw = await connected(env, cutter.port);
  const client = env.connect(port, { socket: raw }, 'data');
  client.once('data', () => cutter.rst());
  await env.closed(client);
});

add('a socket that is destroyed in the handshake', 'test-tls-socket-destroy', async (env) => {
  const port = await env.plain((socket) => void socket.resume());
  const raw = await connected(env, port);
  const client = env.connect(port, { socket: raw });
  setTimeout(() => raw.destroy(), 30);
  client.setTimeout(500, () => client.destroy());
  await env.closed(client);
});

add(
  'a socket that is destroyed under a connection',
  'test-tls-transport-destroy-after-own-gc',
  async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.resume());
    const raw = await connected(env, port);
    const client = env.connect(port, { socket: raw }, 'data');
    client.on('secureConnect', () => raw.destroy());
    client.setTimeout(500, () => client.destroy());
    await env.closed(client);
  },
);

add('a socket that is destroyed with an error', 'test-tls-socket-destroy', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const raw = await connected(env, port);
  const client = env.connect(port, { socket: raw }, 'data');
  client.on('secureConnect', () => raw.destroy(new Error('from below')));
  client.setTimeout(500, () => client.destroy());
  await env.closed(client);
});

add('destroying the TLS socket destroys the socket', 'test-tls-socket-destroy', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const raw = await connected(env, port);
  const client = env.connect(port, { socket: raw }, 'data');
  client.on('secureConnect', () => client.destroy());
  await env.closed(client);
  await new Promise((resolve) => setTimeout(resolve, 50));
  env.note('raw', raw.destroyed);
});

add('ending the TLS socket ends the socket', 'test-tls-on-empty-socket', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const raw = await connected(env, port);
  const client = env.connect(port, { socket: raw }, 'data');
  client.on('secureConnect', () => client.end());
  await env.closed(client);
  await new Promise((resolve) => setTimeout(resolve, 50));
  env.note('raw', raw.destroyed);
});

add('destroying TLS over a Duplex', 'test-tls-destroy-stream', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const duplex = wrapped(await connected(env, port));
  const client = env.connect(port, { socket: duplex as net.Socket }, 'data');
  client.on('secureConnect', () => client.destroy());
  await env.closed(client);
  await new Promise((resolve) => setTimeout(resolve, 50));
  env.note('duplex', duplex.destroyed);
});

add('a Duplex that fails', 'test-tls-error-stream', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const duplex = wrapped(await connected(env, port));
  const client = env.connect(port, { socket: duplex as net.Socket }, 'data');
  client.on('secureConnect', () => duplex.destroy(new Error('broken Duplex')));
  client.setTimeout(500, () => client.destroy());
  await env.closed(client);
});

add('a Duplex whose write fails', 'test-tls-js-stream', async (env) => {
  const duplex = new Duplex({
    read() {},
    write: (_chunk, _encoding, done) => done(new Error('cannot write')),
  });
  const client = env.connect(1, { socket: duplex as net.Socket });
  client.setTimeout(500, () => client.destroy());
  await env.closed(client);
});

add('other listeners on the socket', 'test-tls-connect-given-socket', async (env) => {
  const { port } = await env.serve({}, greet);
  const raw = await connected(env, port);
  raw.on('close', (hadError) => env.note('raw', 'close', hadError));
  const client = env.connect(port, { socket: raw }, 'data');
  await env.closed(client);
  await new Promise((resolve) => setTimeout(resolve, 50));
});

add('a socket used in the clear before', 'test-tls-delayed-attach', async (env) => {
  const context = tls.createSecureContext(env.pki.server);
  const port = await env.plain((socket) => {
    socket.once('data', () => {
      socket.write('go ahead\r\n');
      const secure = new tls.TLSSocket(socket, { isServer: true, secureContext: context });
      secure.on('error', () => {});
      secure.on('data', () => secure.end('encrypted'));
    });
  });
  const raw = await connected(env, port);
  raw.write('STARTTLS\r\n');
  env.note('raw', String(await env.event(raw, 'data')));
  raw.removeAllListeners();
  const client = env.connect(port, { socket: raw }, 'data');
  client.write('hello');
  await env.closed(client);
});

add('a paused socket', 'test-tls-connect-given-socket', async (env) => {
  const { port } = await env.serve({}, greet);
  const raw = await connected(env, port);
  raw.pause();
  await env.closed(env.connect(port, { socket: raw }, 'data'));
});

add('a socket with a timeout', 'test-tls-socket-timeout', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const raw = await connected(env, port);
  const client = env.connect(port, { socket: raw, timeout: 400 });
  env.note('timeout', client.timeout, raw.timeout);
  await env.event(client, 'secureConnect');
  client.setTimeout(400, () => {
    env.note('timeout', 'fired');
    client.destroy();
  });
  await env.closed(client);
});

add('host and servername with a socket', 'test-tls-connect-given-socket', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    env.note('server', socket.servername);
    greet(socket);
  });
  const raw = await connected(env, port);
  const client = tls.connect({ socket: raw, host: 'localhost', ca: env.pki.ca });
  env.watch('client', client, 'data');
  await env.closed(client);
});

add('neither host nor servername with a socket', 'test-tls-connect-given-socket', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    env.note('server', socket.servername);
    greet(socket);
  });
  const raw = await connected(env, port);
  const client = tls.connect({ socket: raw, ca: env.pki.ca });
  env.watch('client', client, 'data');
  await env.closed(client);
});

for (const allowHalfOpen of [false, true]) {
  add(
    `a socket with allowHalfOpen ${allowHalfOpen}, the peer ends`,
    'test-tls-connect-allow-half-open-option',
    async (env) => {
      const { port } = await env.serve({ allowHalfOpen: true }, (socket) => {
        env.watch('server', socket, 'data');
        socket.end('hello');
      });
      const raw = await connected(env, port, { allowHalfOpen });
      const client = env.connect(port, { socket: raw, allowHalfOpen }, 'data');
      env.note('half-open', client.allowHalfOpen);
      await env.event(client, 'end');
      await env.turns(3);
      env.note('half-open', client.writable);
      client.end('bye');
      await env.closed(client);
    },
  );
}

add('a pair in memory', 'test-tls-generic-stream', async (env) => {
  if (typeof duplexPair !== 'function') {
    env.note('pair', 'this Node has none');
    return;
  }
  const [near, far] = duplexPair();
  const server = new tls.TLSSocket(far, {
    isServer: true,
    secureContext: tls.createSecureContext(env.pki.server),
  });
  server.on('error', () => {});
  env.defer(() => server.destroy());
  server.on('data', () => server.end('hello'));
  const client = env.connect(1, { socket: near as net.Socket }, 'data');
  client.write('x');
  await env.event(client, 'end');
  env.note('client', 'ended', client.remoteAddress, client.encrypted);
});

add('a hundred records in one segment', 'test-tls-interleave', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.resume();
    socket.setMaxSendFragment(512);
    socket.end(Buffer.alloc(51_200, 'x'));
  });
  await env.closed(env.connect(port, {}, 'data'));
});
