/** How connections end: by us, by the peer, by nobody, too early and not at all. */
import net from 'node:net';
import tls from 'node:tls';
import { family } from './env.ts';

const { cases, add } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

const TRUNCATED = 'error ERR_TLS_TRUNCATED';

for (const version of VERSIONS) {
  for (const allowHalfOpen of [false, true]) {
    const which = `${version}, allowHalfOpen ${allowHalfOpen}`;
    const like = 'test-tls-connect-allow-half-open-option';
    const options = { maxVersion: version, allowHalfOpen };

    add(`the peer ends first, ${which}`, like, async (env) => {
      const { port } = await env.serve({ allowHalfOpen: true }, (socket) => {
        env.watch('server', socket, 'data');
        socket.end('hello');
      });
      const client = env.connect(port, options, 'data');
      await env.event(client, 'end');
      await env.turns(3);
      env.facts('facts', 'after end', client);
      client.end('bye', () => env.note('callback', 'ended'));
      await env.closed(client);
    });

    add(`we end first, ${which}`, like, async (env) => {
      const { port } = await env.serve({ allowHalfOpen: true }, (socket) => {
        env.watch('server', socket, 'data');
        socket.on('end', () => socket.end('the rest'));
      });
      const client = env.connect(port, options, 'data');
      client.on('secureConnect', () => client.end('request', () => env.note('callback', 'ended')));
      client.on('finish', () => env.facts('facts', 'on finish', client));
      await env.closed(client);
    });

    add(`we end while we connect, ${which}`, 'test-tls-socket-close', async (env) => {
      const { port } = await env.serve({}, (socket) => void env.watch('server', socket, 'data'));
      const client = env.connect(port, options, 'data');
      client.end('at once');
      await env.closed(client);
    });

    add(`both end at once, ${which}`, 'test-tls-close-notify', async (env) => {
      const { port } = await env.serve({}, (socket) => {
        socket.resume();
        socket.end('from the server');
      });
      const client = env.connect(port, options, 'data');
      client.on('secureConnect', () => client.end('from the client'));
      await env.closed(client);
    });
  }

  add(
    `the peer’s end is not seen until its data is read, ${version}`,
    'test-tls-transport-destroy-after-own-gc',
    async (env) => {
      const { port } = await env.serve(
        { allowHalfOpen: true },
        (socket) => void socket.end('unread'),
      );
      const client = env.connect(port, { maxVersion: version });
      await env.event(client, 'secureConnect');
      await new Promise((resolve) => setTimeout(resolve, 50));
      env.facts('facts', 'unread', client);
      env.note('read', client.read());
      client.resume();
      await env.closed(client);
    },
  );

  add(`the peer ends without data, nobody reads, ${version}`, null, async (env) => {
    const { port } = await env.serve({ allowHalfOpen: true }, (socket) => void socket.end());
    const client = env.connect(port, { maxVersion: version });
    await env.event(client, 'secureConnect');
    await new Promise((resolve) => setTimeout(resolve, 50));
    env.facts('facts', 'idle', client);
    client.destroy();
    await env.closed(client);
  });

  add(
    `truncated: FIN at a record boundary, ${version}`,
    'test-https-truncate',
    async (env) => {
      const { port } = await env.serve({}, (socket) => void socket.write('half of it'));
      const cutter = await env.cutter(port);
      const client = env.connect(cutter.port, { maxVersion: version }, 'data');
      client.once('data', () => cutter.fin());
      await env.closed(client);
    },
    {
      client: {
        plain: ['end', 'finish', 'close false'],
        strict: [TRUNCATED, 'close true'],
      },
    },
  );

  add(
    `truncated: FIN inside a record, ${version}`,
    'test-https-truncate',
    async (env) => {
      const { port } = await env.serve({}, (socket) => void socket.write('half of it'));
      const cutter = await env.cutter(port);
      const client = env.connect(cutter.port, { maxVersion: version }, 'data');
      client.once('data', () => cutter.finInsideRecord());
      await env.closed(client);
    },
    {
      client: {
        plain: ['end', 'finish', 'close false'],
        strict: [TRUNCATED, 'close true'],
      },
    },
  );

  add(
    `truncated: FIN after we ended, allowHalfOpen, ${version}`,
    null,
    async (env) => {
      const { port } = await env.serve({ allowHalfOpen: true }, (socket) => void socket.resume());
      const cutter = await env.cutter(port);
      const client = env.connect(cutter.port, { maxVersion: version, allowHalfOpen: true }, 'data');
      client.on('secureConnect', () => client.end('all of ours'));
      // Of what the server sends, its two tickets come first.
      let awaited = version === 'TLSv1.3' ? 2 : 0;
      const cut = () => {
        if (awaited <= 0 && client.writableFinished) cutter.fin();
      };
      client.on('session', () => {
        awaited--;
        cut();
      });
      client.on('finish', cut);
      await env.closed(client);
    },
    {
      client: {
        plain: ['end', 'close false'],
        strict: [TRUNCATED, 'close true'],
      },
    },
  );

  // Node sees a reset only while it reads. While it writes it is a race: Linux tells of a reset once, to
  // the write or to the read, and the other sees EPIPE or EOF.
  add(`reset while it reads, ${version}`, 'test-tls-econnreset', async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.write('half of it'));
    const cutter = await env.cutter(port);
    const client = env.connect(cutter.port, { maxVersion: version }, 'data');
    client.once('data', () => cutter.rst());
    await env.closed(client);
    env.facts('facts', 'closed', client);
  });

  add(`data and reset come together, ${version}`, null, async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.write('all'));
    const cutter = await env.cutter(port);
    const client = env.connect(cutter.port, { maxVersion: version }, 'data');
    client.on('data', () => {
      client.pause();
      cutter.rst();
      setTimeout(() => client.resume(), 50);
    });
    await env.closed(client);
  });
}

// The handshake

const handshakeEnds: Readonly<Record<string, (socket: net.Socket) => void>> = {
  'FIN at once': (socket) => void socket.resume().end(),
  'FIN after ClientHello': (socket) => void socket.once('data', () => socket.end()),
  'RST after ClientHello': (socket) => void socket.once('data', () => socket.resetAndDestroy()),
  'FIN inside a record': (socket) =>
    void socket.once('data', () => socket.end(Buffer.from([22, 3, 3, 0, 100, 2]))),
  'a fatal alert': (socket) =>
    void socket.once('data', () => socket.end(Buffer.from([21, 3, 3, 0, 2, 2, 40]))),
  'close_notify in the clear': (socket) =>
    void socket.once('data', () => socket.end(Buffer.from([21, 3, 3, 0, 2, 1, 0]))),
  'close_notify in the clear, then nothing': (socket) =>
    void socket.once('data', () => socket.write(Buffer.from([21, 3, 3, 0, 2, 1, 0]))),
  'HTTP in the clear': (socket) =>
    void socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
  'bytes that are no TLS': (socket) => void socket.once('data', () => socket.write('hello, hello')),
  'an empty record': (socket) =>
    void socket.once('data', () => socket.end(Buffer.from([22, 3, 3, 0, 0]))),
  'a record too long': (socket) =>
    void socket.once('data', () => socket.end(Buffer.from([22, 3, 3, 255, 255, 1, 2, 3]))),
};
for (const [name, answer] of Object.entries(handshakeEnds)) {
  add(`in the handshake: ${name}`, 'test-tls-handshake-error', async (env) => {
    const port = await env.plain((socket) => answer(socket));
    const client = env.connect(port);
    // Node itself waits for ever after some of these.
    client.setTimeout(400, () => client.destroy());
    await env.closed(client);
    env.facts('facts', 'closed', client);
  });
  if (!name.startsWith('FIN') && !name.startsWith('RST')) continue;
  add(
    `in the handshake, data waiting to be written: ${name}`,
    'test-tls-handshake-error',
    async (env) => {
      const port = await env.plain((socket) => answer(socket));
      const client = env.connect(port);
      client.write('early', (error) => env.note('write', error));
      client.end(() => env.note('end', 'called back'));
      await env.closed(client);
    },
  );
}

add('in the handshake: FIN, with allowHalfOpen', 'test-tls-handshake-error', async (env) => {
  const port = await env.plain((socket) => void socket.once('data', () => socket.end()));
  const client = env.connect(port, { allowHalfOpen: true });
  client.setTimeout(400, () => client.destroy());
  await env.closed(client);
});

add(
  'in the handshake: we end, the peer never answers',
  'test-tls-handshake-nohang',
  async (env) => {
    const port = await env.plain((socket) => void socket.resume());
    const client = env.connect(port);
    client.on('connect', () => client.end());
    client.setTimeout(300, () => client.destroy());
    await env.closed(client);
  },
);

// destroy

for (const when of [
  'at once',
  'nextTick',
  'connect',
  'ready',
  'secureConnect',
  'data',
  'end',
  'finish',
] as const) {
  for (const failing of [false, true]) {
    const how = failing ? 'destroy(error)' : 'destroy()';
    add(`${how}: ${when}`, 'test-tls-destroy-stream', async (env) => {
      const { port } = await env.serve({ allowHalfOpen: true }, (socket) => {
        socket.resume();
        socket.end('hello');
      });
      const client = env.connect(port, {}, 'data');
      const act = () => {
        client.destroy(failing ? new Error('our own') : undefined);
        env.facts('facts', 'destroyed', client);
      };
      if (when === 'at once') act();
      else if (when === 'nextTick') process.nextTick(act);
      else client.once(when, act);
      await env.closed(client);
      env.facts('facts', 'closed', client);
    });
  }
}

add('destroy() twice, and a second error', 'test-net-socket-destroy-twice', async (env) => {
  const { port } = await env.serve();
  const client = env.connect(port);
  client.on('secureConnect', () => {
    client.destroy(new Error('first'));
    client.destroy(new Error('second'));
  });
  await env.closed(client);
});

add('destroy() while a write is under way', 'test-tls-destroy-whilst-write', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.pause());
  const client = env.connect(port);
  let tickets = 0;
  client.on('session', () => {
    // The server sends two, and takes nothing.
    if (++tickets === 2) client.destroy();
  });
  client.on('secureConnect', () => {
    client.write(Buffer.alloc(4_000_000), (error) => env.note('write', 'first', error));
    client.write('y', (error) => env.note('write', 'second', error));
  });
  await env.closed(client);
});

add('destroy() in a write’s callback', 'test-tls-destroy-stream-12', async (env) => {
  const { port } = await env.serve({}, (socket) => void env.watch('server', socket.resume()));
  const client = env.connect(port);
  client.on('secureConnect', () => {
    client.write('x', (error) => {
      env.note('write', error);
      client.destroy();
    });
  });
  await env.closed(client);
});

add('destroySoon() with data waiting', 'test-tls-client-destroy-soon', async (env) => {
  let bytes = 0;
  let ended: () => void = () => {};
  const done = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const { port } = await env.serve({}, (socket) => {
    socket.on('data', (chunk) => {
      bytes += chunk.length;
    });
    env.watch('server', socket);
    socket.on('close', () => ended());
  });
  const client = env.connect(port);
  client.on('secureConnect', () => {
    client.write(Buffer.alloc(3_000_000, 'x'));
    client.destroySoon();
    env.facts('facts', 'destroySoon', client);
  });
  await env.closed(client);
  await done;
  env.note('server', `got ${bytes}`);
});

add('destroySoon() with nothing waiting', 'test-tls-client-destroy-soon', async (env) => {
  const { port } = await env.serve();
  const client = env.connect(port);
  client.on('secureConnect', () => client.destroySoon());
  await env.closed(client);
});

add('destroySoon() before it is connected', 'test-tls-client-destroy-soon', async (env) => {
  const { port } = await env.serve();
  const client = env.connect(port);
  client.destroySoon();
  await env.closed(client);
});

add('resetAndDestroy()', 'test-net-server-reset', async (env) => {
  const { port } = await env.serve();
  const client = env.connect(port);
  await env.event(client, 'secureConnect');
  env.attempt('call', 'resetAndDestroy', () => client.resetAndDestroy() === client);
  client.destroy();
  await env.closed(client);
});

add(
  'the server destroys its side',
  'test-tls-close-event-after-write',
  async (env) => {
    const { port } = await env.serve({}, (socket) => {
      socket.once('data', () => socket.destroy());
    });
    const client = env.connect(port);
    client.on('secureConnect', () => client.write('x'));
    client.resume();
    await env.closed(client);
  },
  {
    // Node's own server sends no close_notify when its socket is destroyed.
    client: { plain: ['end', 'finish', 'close false'], strict: [TRUNCATED, 'close true'] },
  },
);

// Writing to what has ended

add('write after end', 'test-tls-writewrap-leak', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const client = env.connect(port);
  client.on('secureConnect', () => {
    client.end('last');
    env.note(
      'write',
      client.write('late', (error) => env.note('write', error)),
    );
  });
  await env.closed(client);
});

add('write after destroy', 'test-net-write-after-close', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const client = env.connect(port);
  client.on('secureConnect', () => {
    client.destroy();
    env.note(
      'write',
      client.write('late', (error) => env.note('write', error)),
    );
    client.end(() => env.note('end', 'called back'));
  });
  await env.closed(client);
});

add(
  'write after the peer ended, allowHalfOpen false',
  'test-net-write-after-end-nt',
  async (env) => {
    const { port } = await env.serve({ allowHalfOpen: true }, (socket) => void socket.end('x'));
    const client = env.connect(port, {}, 'data');
    client.on('end', () => {
      env.note(
        'write',
        client.write('late', (error) => env.note('write', error)),
      );
    });
    await env.closed(client);
  },
);

add('end() twice', null, async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const client = env.connect(port);
  client.on('secureConnect', () => {
    client.end(() => env.note('end', 'first'));
    client.end((error?: Error) => env.note('end', 'second', error));
    client.end('x', (error?: Error) => env.note('end', 'third', error));
  });
  await env.closed(client);
});

add('end(data, encoding, callback)', 'test-net-end-without-connect', async (env) => {
  const { port } = await env.serve({}, (socket) => void env.watch('server', socket, 'data'));
  const client = env.connect(port);
  client.end('68656c6c6f', 'hex', () => env.note('end', 'called back'));
  await env.closed(client);
});

add('end() of a socket that is destroyed', null, async (env) => {
  const { port } = await env.serve();
  const client = env.connect(port);
  client.destroy();
  client.end('x', (error?: Error) => env.note('end', error));
  await env.closed(client);
});

// Timeouts

add('the timeout option', 'test-tls-connect-timeout-option', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const client = env.connect(port, { timeout: 500 });
  env.note('timeout', client.timeout);
  client.on('timeout', () => client.destroy());
  await env.closed(client);
});

add('setTimeout with a callback while idle', 'test-tls-timeout-server', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const client = env.connect(port);
  client.on('secureConnect', () =>
    client.setTimeout(40, () => {
      env.note('callback', client.timeout);
      client.setTimeout(0);
      client.end();
    }),
  );
  await env.closed(client);
});

add(
  'setTimeout fires once while idle and does not end anything',
  'test-net-socket-timeout',
  async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.resume());
    const client = env.connect(port);
    await env.event(client, 'secureConnect');
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.setTimeout(60);
    await new Promise((resolve) => setTimeout(resolve, 250));
    env.note('state', client.destroyed, client.readyState);
    client.end();
    await env.closed(client);
  },
);

add('activity puts the timeout off', 'test-tls-pause', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    const timer = setInterval(() => socket.write('.'), 20);
    setTimeout(() => {
      clearInterval(timer);
      socket.end();
    }, 700);
    socket.resume();
  });
  const client = env.connect(port);
  client.resume();
  client.setTimeout(400);
  await env.closed(client);
});

add('our own writes put the timeout off', 'test-net-timeout-no-handle', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const client = env.connect(port);
  client.setTimeout(400);
  const timer = setInterval(() => client.write('.'), 20);
  setTimeout(() => {
    clearInterval(timer);
    client.end();
  }, 700);
  await env.closed(client);
});

add('timeout in the handshake', 'test-tls-connect-timeout-option', async (env) => {
  const port = await env.plain((socket) => void socket.resume());
  const client = env.connect(port, { timeout: 400 });
  client.on('timeout', () => client.destroy(new Error('too slow')));
  await env.closed(client);
});

add('timeout after the end of writing', 'test-net-socket-timeout-unref', async (env) => {
  const { port } = await env.serve({ allowHalfOpen: true }, (socket) => void socket.resume());
  const client = env.connect(port, { allowHalfOpen: true });
  client.on('secureConnect', () => client.end());
  client.on('finish', () => client.setTimeout(50, () => client.destroy()));
  await env.closed(client);
});

add('bad timeouts throw', 'test-net-socket-timeout', async (env) => {
  const { port } = await env.serve();
  const client = env.connect(port);
  for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY, '10', true]) {
    env.attempt('setTimeout', String(bad), () => client.setTimeout(bad as number));
  }
  env.attempt('setTimeout', 'callback', () => client.setTimeout(10, 1 as unknown as () => void));
});

// Errors that nobody expects

add('a listener that throws', 'test-tls-handshake-exception', async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const client = env.connect(port);
  client.on('secureConnect', () => {
    setTimeout(() => client.end(), 20);
    throw new Error('from secureConnect');
  });
  await env.closed(client);
});

add('a data listener that throws', 'test-tls-delayed-attach-error', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.resume();
    socket.end('x');
  });
  const client = env.connect(port);
  client.on('data', () => {
    throw new Error('from data');
  });
  client.setTimeout(300, () => client.destroy());
  await env.closed(client);
});

add('an end listener that throws', null, async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.resume();
    socket.end('x');
  });
  const client = env.connect(port, {}, 'data');
  client.on('end', () => {
    throw new Error('from end');
  });
  client.setTimeout(300, () => client.destroy());
  await env.closed(client);
});

add(
  'the server drops the connection as the client speaks',
  'test-tls-junk-closes-server',
  async (env) => {
    const server = tls.createServer(env.pki.server);
    server.on('tlsClientError', (error: NodeJS.ErrnoException) => env.note('server', error.code));
    const port = await env.listen(server);
    const raw = net.connect(port, '127.0.0.1');
    env.watch('raw', raw, 'data');
    raw.write('this is not TLS at all');
    await env.closed(raw);
  },
);
