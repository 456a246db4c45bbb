/** Connecting: overloads, options, events in order, what fails at once and what fails later. */
import net from 'node:net';
import { join } from 'node:path';
import tls, { connect } from 'node:tls';
import { type ConnectOptions, family } from './env.ts';

const { cases, add } = family();

export { cases };

/** A server that greets and ends. */
const greet = (socket: tls.TLSSocket) => {
  socket.resume();
  socket.end('hello');
};

const lookupTo =
  (...addresses: Array<readonly [string, number]>): net.LookupFunction =>
  (_host, options, done) => {
    const list = addresses.map(([address, family]) => ({ address, family }));
    process.nextTick(() => {
      if (options.all === true) done(null, list);
      else done(null, list[0]!.address, list[0]!.family);
    });
  };

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  add(`all events of a whole connection, ${version}`, 'test-tls-connect-simple', async (env) => {
    const { port } = await env.serve({}, greet);
    const client = env.connect(
      port,
      { maxVersion: version },
      ...['data', 'keylog', 'prefinish', 'readable', 'connectionAttemptTimeout', 'OCSPResponse'],
    );
    client.on('readable', () => void client.read());
    await env.closed(client);
  });

  add(`all events with flowing data, ${version}`, 'test-tls-connect-simple', async (env) => {
    const { port } = await env.serve({}, greet);
    await env.closed(env.connect(port, { maxVersion: version }, 'data', 'pause', 'resume'));
  });
}

add('properties at each stage', null, async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.resume();
    socket.on('end', () => socket.end());
  });
  const client = env.connect(port);
  env.facts('facts', 'at once', client);
  for (const name of ['connect', 'ready', 'secureConnect', 'end', 'close']) {
    client.on(name, () => env.facts('facts', `on ${name}`, client));
  }
  client.resume();
  await env.event(client, 'secureConnect');
  await new Promise((resolve) => setImmediate(resolve));
  env.facts('facts', 'later', client);
  client.end();
  env.facts('facts', 'ended', client);
  await env.closed(client);
});

add(
  'properties of a socket destroyed while it connects',
  'test-net-socket-connecting',
  async (env) => {
    const { port } = await env.serve();
    const client = env.connect(port);
    client.destroy();
    env.facts('facts', 'destroyed', client);
    await env.closed(client);
    env.facts('facts', 'closed', client);
  },
);

add(
  'the local and remote ports are the connection’s',
  'test-net-remote-address-port',
  async (env) => {
    let seen: net.Socket | null = null;
    const { port } = await env.serve({}, (socket) => {
      seen = socket;
      socket.resume();
    });
    const client = env.connect(port);
    await env.event(client, 'secureConnect');
    while (seen === null) await new Promise((resolve) => setImmediate(resolve));
    const peer = seen as net.Socket;
    env.note(
      'ports',
      'local',
      client.localPort === peer.remotePort,
      client.localAddress === peer.remoteAddress,
    );
    env.note(
      'ports',
      'remote',
      client.remotePort === peer.localPort,
      client.remoteAddress === peer.localAddress,
    );
    env.note('ports', 'address()', (client.address() as net.AddressInfo).port === peer.remotePort);
  },
);

add('the class is tls.TLSSocket', 'test-tls-connect-simple', async (env) => {
  const { port } = await env.serve({}, greet);
  const client = env.connect(port);
  env.note(
    'class',
    client.constructor.name,
    client instanceof tls.TLSSocket,
    client instanceof net.Socket,
  );
  env.note('class', Object.prototype.toString.call(client), client.constructor === tls.TLSSocket);
  env.note('class', Object.getPrototypeOf(client) === tls.TLSSocket.prototype);
  client.resume();
  await env.closed(client);
});

add('tls.connect is a function of the same name and length', null, async (env) => {
  env.note('function', typeof tls.connect, tls.connect.name, tls.connect.length);
  env.note('function', Object.keys(tls).sort().join(' '));
  env.note('named import', connect === tls.connect, connect.name);
  const required = (await import('node:module')).createRequire(import.meta.url)(
    'tls',
  ) as typeof tls;
  env.note('require', required === tls, required.connect === connect);
});

// Overloads

type Overload = (port: number, options: tls.ConnectionOptions, done: () => void) => tls.TLSSocket;
const overloads: Readonly<Record<string, Overload>> = {
  '(options)': (port, options) => tls.connect({ ...options, port, host: '127.0.0.1' }),
  '(options, callback)': (port, options, done) =>
    tls.connect({ ...options, port, host: '127.0.0.1' }, done),
  '(port, host, options, callback)': (port, options, done) =>
    tls.connect(port, '127.0.0.1', options, done),
  '(port, host, options)': (port, options) => tls.connect(port, '127.0.0.1', options),
  '(port, options, callback)': (port, options, done) =>
    tls.connect(port, { ...options, host: '127.0.0.1' }, done),
  '(port, options)': (port, options) => tls.connect(port, { ...options, host: '127.0.0.1' }),
  'named import': (port, options, done) => connect({ ...options, port, host: '127.0.0.1' }, done),
  'port as text': (port, options) =>
    tls.connect({ ...options, port: String(port) as unknown as number, host: '127.0.0.1' }),
  'a callback that is not a function': (port, options) =>
    tls.connect({ ...options, port, host: '127.0.0.1' }, null as unknown as () => void),
  'localhost by default': (port, options) =>
    tls.connect({ ...options, port, lookup: lookupTo(['127.0.0.1', 4]) }),
  'without options: the certificate is not trusted': (port, _options, done) =>
    tls.connect(port, '127.0.0.1', done as unknown as tls.ConnectionOptions),
};
for (const [name, call] of Object.entries(overloads)) {
  add(
    `tls.connect${name.startsWith('(') ? name : `: ${name}`}`,
    'test-tls-connect-no-host',
    async (env) => {
      const { port } = await env.serve({}, greet);
      const socket = call(
        port,
        { ca: env.pki.ca, servername: 'localhost' },
        function (this: unknown) {
          env.note('callback', 'called', this instanceof tls.TLSSocket, this === socket);
        },
      );
      env.defer(() => socket.destroy());
      env.watch('client', socket, 'data');
      await env.closed(socket);
    },
  );
}

add(
  'the callback runs as a secureConnect listener, in order',
  'test-tls-connect-simple',
  async (env) => {
    const { port } = await env.serve({}, greet);
    const client = tls.connect(
      { port, host: '127.0.0.1', ca: env.pki.ca, servername: 'localhost' },
      () => env.note('order', 'callback'),
    );
    client.prependListener('secureConnect', () => env.note('order', 'prepended'));
    client.on('secureConnect', () => env.note('order', 'added'));
    client.resume();
    await env.closed(client);
  },
);

// What throws at once, and what only fails later

const refused: Readonly<Record<string, () => unknown>> = {
  'no argument': () => tls.connect(undefined as unknown as ConnectOptions),
  'an empty object': () => tls.connect({}),
  'port beyond 65535': () => tls.connect({ port: 65536, host: '127.0.0.1' }),
  'negative port': () => tls.connect({ port: -1, host: '127.0.0.1' }),
  'port as words': () => tls.connect({ port: 'nine' as unknown as number, host: '127.0.0.1' }),
  'port as an object': () => tls.connect({ port: {} as unknown as number, host: '127.0.0.1' }),
  'port NaN': () => tls.connect({ port: Number.NaN, host: '127.0.0.1' }),
  'host as a number': () => tls.connect({ port: 1, host: 1 as unknown as string }),
  'path as a number': () => tls.connect({ path: 1 as unknown as string }),
  'lookup that is no function': () =>
    tls.connect({ port: 1, host: 'localhost', lookup: 1 as unknown as net.LookupFunction }),
  'local address that is none': () =>
    tls.connect({ port: 1, host: '127.0.0.1', localAddress: 'here' } as ConnectOptions),
  'local port beyond 65535': () =>
    tls.connect({ port: 1, host: '127.0.0.1', localPort: 70000 } as ConnectOptions),
  'local port as text': () =>
    tls.connect({ port: 1, host: '127.0.0.1', localPort: '5' } as unknown as ConnectOptions),
  'unknown maxVersion': () =>
    tls.connect({ port: 1, host: '127.0.0.1', maxVersion: 'TLSv9' as tls.SecureVersion }),
  'minVersion above maxVersion is left to the handshake': () =>
    tls.connect({ port: 1, host: '127.0.0.1', minVersion: 'TLSv1.3', maxVersion: 'TLSv1.2' }),
  'unknown secureProtocol': () =>
    tls.connect({ port: 1, host: '127.0.0.1', secureProtocol: 'blah' }),
  'secureProtocol with minVersion': () =>
    tls.connect({
      port: 1,
      host: '127.0.0.1',
      secureProtocol: 'TLS_method',
      minVersion: 'TLSv1.2',
    }),
  'bad certificate': () => tls.connect({ port: 1, host: '127.0.0.1', cert: 'x', key: 'y' }),
  'bad CA': () => tls.connect({ port: 1, host: '127.0.0.1', ca: 1 as unknown as string }),
  'bad pfx': () => tls.connect({ port: 1, host: '127.0.0.1', pfx: 'no PFX' }),
  'no cipher matches': () => tls.connect({ port: 1, host: '127.0.0.1', ciphers: 'no-such-cipher' }),
  'ciphers as a number': () =>
    tls.connect({ port: 1, host: '127.0.0.1', ciphers: 1 as unknown as string }),
  'unknown curve': () => tls.connect({ port: 1, host: '127.0.0.1', ecdhCurve: 'no-such-curve' }),
  'minDHSize of 0': () => tls.connect({ port: 1, host: '127.0.0.1', minDHSize: 0 }),
  'minDHSize as text': () =>
    tls.connect({ port: 1, host: '127.0.0.1', minDHSize: 'x' as unknown as number }),
  'ALPN protocol too long': () =>
    tls.connect({ port: 1, host: '127.0.0.1', ALPNProtocols: ['x'.repeat(256)] }),
  'checkServerIdentity that is no function': () =>
    tls.connect({
      port: 1,
      host: '127.0.0.1',
      checkServerIdentity: 1 as unknown as () => undefined,
    }),
  'timeout as text': () =>
    tls.connect({ port: 1, host: '127.0.0.1', timeout: 'x' as unknown as number }),
  'negative timeout': () => tls.connect({ port: 1, host: '127.0.0.1', timeout: -1 }),
  'servername that is an address': () =>
    tls.connect({ port: 1, host: '127.0.0.1', servername: '127.0.0.1' }),
  // Node throws and leaves its socket connecting: an address that never comes keeps it from failing later, within
  // another case.
  'servername as a number': () =>
    tls.connect({
      port: 1,
      host: 'nowhere.example',
      lookup: () => {},
      servername: 1 as unknown as string,
    }),
  'session that is none': () =>
    tls.connect({ port: 1, host: '127.0.0.1', session: 'x' as unknown as Buffer }),
  'signal that is none': () =>
    tls.connect({ port: 1, host: '127.0.0.1', signal: 1 } as unknown as ConnectOptions),
  'family that is none': () =>
    tls.connect({ port: 1, host: 'localhost', family: 7 } as ConnectOptions),
  'hints that are none': () =>
    tls.connect({ port: 1, host: 'localhost', hints: 100 } as ConnectOptions),
  'onread without a buffer': () =>
    tls.connect({ port: 1, host: '127.0.0.1', onread: {} } as unknown as ConnectOptions),
  'autoSelectFamily that is no boolean': () =>
    tls.connect({ port: 1, host: 'localhost', autoSelectFamily: 'x' } as unknown as ConnectOptions),
  'autoSelectFamilyAttemptTimeout of 0': () =>
    tls.connect({
      port: 1,
      host: 'localhost',
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: 0,
    } as ConnectOptions),
  'a socket that is null': () =>
    tls.connect({ port: 1, host: '127.0.0.1', socket: null as unknown as net.Socket }),
  'highWaterMark that is none': () =>
    tls.connect({ port: 1, host: '127.0.0.1', highWaterMark: -5 } as ConnectOptions),
  'pskCallback that is no function': () =>
    tls.connect({ port: 1, host: '127.0.0.1', pskCallback: 1 as unknown as () => null }),
  'a secureContext that is none': () =>
    tls.connect({ port: 1, host: '127.0.0.1', secureContext: {} as tls.SecureContext }),
  'an object host': () => tls.connect({ port: 1, host: {} as unknown as string }),
  'enableTrace that is no boolean': () =>
    tls.connect({ port: 1, host: '127.0.0.1', enableTrace: 'x' as unknown as boolean }),
};
for (const [name, call] of Object.entries(refused)) {
  add(`at once: ${name}`, 'test-tls-basic-validations', async (env) =>
    env.attempt('call', name, call),
  );
}

// Failing to connect

add('connection refused', 'test-tls-econnreset', async (env) => {
  const port = await env.noPort();
  const client = env.connect(port);
  await env.closed(client);
  env.facts('facts', 'closed', client);
});

add('connection refused, with a callback and data written', null, async (env) => {
  const port = await env.noPort();
  const client = env.connect(port);
  client.write('x', (error) => env.note('write', error));
  client.end('y', () => env.note('end', 'callback'));
  await env.closed(client);
});

add('connection refused at the first address of two', 'test-net-autoselectfamily', async (env) => {
  const { port } = await env.serve({}, greet);
  const client = env.connect(
    port,
    {
      host: 'two.example',
      autoSelectFamily: true,
      lookup: lookupTo(['::1', 6], ['127.0.0.1', 4]),
    },
    'data',
    'connectionAttemptTimeout',
  );
  // Node makes TLS anew for a second address, and forgets that sessions were asked for.
  client.removeAllListeners('session');
  await env.closed(client);
  env.note('attempts', String(client.autoSelectFamilyAttemptedAddresses?.length));
});

add('connection refused at all addresses', 'test-net-autoselectfamily', async (env) => {
  const port = await env.noPort();
  const client = env.connect(port, {
    host: 'two.example',
    autoSelectFamily: true,
    lookup: lookupTo(['::1', 6], ['127.0.0.1', 4]),
  });
  client.on('error', (error) => {
    const { errors } = error as AggregateError;
    for (const one of errors ?? []) env.note('errors', one);
  });
  await env.closed(client);
});

add('the name is not found', 'test-net-dns-error', async (env) => {
  const client = env.connect(1, {
    host: 'none.example',
    lookup: (host, _options, done) => {
      const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), {
        code: 'ENOTFOUND',
        syscall: 'getaddrinfo',
        hostname: host,
      });
      process.nextTick(done, error, '', 0);
    },
  });
  await env.closed(client);
});

add('lookup gives no address', 'test-net-dns-custom-lookup', async (env) => {
  const client = env.connect(1, {
    host: 'none.example',
    autoSelectFamily: false,
    lookup: ((_host: string, _options: unknown, done: (e: null, a: unknown, f?: number) => void) =>
      process.nextTick(done, null, undefined, 0)) as unknown as net.LookupFunction,
  });
  await env.closed(client);
});

add('lookup gives what is no address', 'test-net-dns-custom-lookup', async (env) => {
  const client = env.connect(1, {
    host: 'none.example',
    autoSelectFamily: false,
    lookup: lookupTo(['not an address', 4]),
  });
  await env.closed(client);
});

add('lookup throws', 'test-net-dns-custom-lookup', async (env) => {
  env.attempt('call', 'tls.connect', () =>
    tls.connect({
      host: 'none.example',
      port: 1,
      lookup: () => {
        throw new Error('no lookup today');
      },
    }),
  );
});

for (const autoSelectFamily of [true, false]) {
  add(
    `lookup sees the same options, autoSelectFamily ${autoSelectFamily}`,
    'test-tls-connect-hints-option',
    async (env) => {
      const { port } = await env.serve({}, greet);
      const client = env.connect(port, {
        host: 'one.example',
        family: 4,
        hints: 0,
        autoSelectFamily,
        lookup: (host, options, done) => {
          env.note('lookup', host, JSON.stringify(options));
          lookupTo(['127.0.0.1', 4])(host, options, done);
        },
      });
      env.facts('facts', 'at once', client);
      client.resume();
      client.on('lookup', () => env.facts('facts', 'on lookup', client));
      await env.closed(client);
    },
  );
}

add('destroyed while it looks up', 'test-net-connect-destroy', async (env) => {
  let done: () => void = () => {};
  const client = env.connect(1, {
    host: 'one.example',
    lookup: (_host, options, answer) => {
      done = () => {
        if (options.all === true) answer(null, [{ address: '127.0.0.1', family: 4 }]);
        else answer(null, '127.0.0.1', 4);
      };
    },
  });
  await new Promise((resolve) => setImmediate(resolve));
  client.destroy();
  await env.closed(client);
  done();
  await new Promise((resolve) => setImmediate(resolve));
  env.facts('facts', 'closed', client);
});

add('destroyed with an error while it looks up', 'test-net-connect-destroy', async (env) => {
  const client = env.connect(1, { host: 'one.example', lookup: () => {} });
  client.destroy(new Error('never mind'));
  await env.closed(client);
});

// Where to connect from and to

add('localAddress and localPort', 'test-https-localaddress', async (env) => {
  let from = '';
  const { port } = await env.serve({}, (socket) => {
    from = `${socket.remoteAddress}`;
    socket.end('hello');
    socket.resume();
  });
  const localPort = await env.noPort();
  const client = env.connect(port, { localAddress: '127.0.0.2', localPort }, 'data');
  client.on('secureConnect', () =>
    env.note('local', client.localAddress, client.localPort === localPort, from),
  );
  await env.closed(client);
});

add('localAddress that is not this host’s', 'test-https-localaddress-bind-error', async (env) => {
  const { port } = await env.serve({}, greet);
  const client = env.connect(port, { localAddress: '192.0.2.1' });
  await env.closed(client);
});

add('family 4 by name', 'test-tls-connect-address-family', async (env) => {
  const { port } = await env.serve({}, greet);
  const client = env.connect(port, { host: 'localhost', family: 4 });
  client.on('secureConnect', () => env.note('family', client.remoteFamily, client.remoteAddress));
  client.resume();
  await env.closed(client);
});

add('a Unix domain socket', 'test-tls-net-connect-prefer-path', async (env) => {
  const server = tls.createServer({ ...env.pki.server }, (socket) => {
    socket.on('error', () => {});
    setImmediate(greet, socket);
  });
  const path = join(env.directory(), 'socket');
  await new Promise<void>((resolve) => server.listen(path, resolve));
  env.defer(() => server.close());
  const client = tls.connect({ path, ca: env.pki.ca, servername: 'localhost' });
  env.watch('client', client, 'data');
  client.on('secureConnect', () => env.facts('facts', 'secure', client));
  await env.closed(client);
});

add('a path is preferred to host and port', 'test-tls-net-connect-prefer-path', async (env) => {
  const path = join(env.directory(), 'nothing');
  const client = tls.connect({ path, port: 1, host: '127.0.0.1' });
  env.watch('client', client);
  await env.closed(client);
});

add('an overload with a path', 'test-tls-connect-pipe', async (env) => {
  const path = join(env.directory(), 'nothing');
  const client = tls.connect(path as unknown as number, { ca: env.pki.ca });
  env.watch('client', client);
  await env.closed(client);
});

// Signals

add('a signal that is aborted already', 'test-tls-connect-abort-controller', async (env) => {
  const { port } = await env.serve({}, greet);
  const signal = AbortSignal.abort(new Error('before'));
  const client = tls.connect(env.options(port, { signal }));
  env.defer(() => client.destroy());
  client.on('error', (error) => env.note('client', 'error', error));
  // Node's own socket then connects all the same, as nobody's; what it says later is not held here.
  client.once('close', () => env.note('client', 'close'));
  await env.event(client, 'close');
});

for (const when of ['at once', 'connect', 'secureConnect'] as const) {
  add(`a signal that is aborted: ${when}`, 'test-tls-connect-abort-controller', async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.resume());
    const controller = new AbortController();
    const client = env.connect(port, { signal: controller.signal });
    if (when === 'at once') controller.abort();
    else client.on(when, () => controller.abort(new Error('enough')));
    await env.closed(client);
  });
}

add(
  'a signal that is aborted after the end does nothing',
  'test-tls-connect-abort-controller',
  async (env) => {
    const { port } = await env.serve({}, greet);
    const controller = new AbortController();
    const client = env.connect(port, { signal: controller.signal }, 'data');
    await env.closed(client);
    controller.abort();
    await new Promise((resolve) => setImmediate(resolve));
  },
);

// Many at once, and used before they are connected

add('a hundred connections at once', 'test-tls-socket-close', async (env) => {
  const { port } = await env.serve({}, greet);
  const all = Array.from({ length: 100 }, async (_, index) => {
    const client = tls.connect({
      port,
      host: '127.0.0.1',
      ca: env.pki.ca,
      servername: 'localhost',
    });
    env.watch(`client ${index}`, client, 'data');
    await env.closed(client);
  });
  await Promise.all(all);
});

add(
  'methods before it is connected return the socket',
  'test-tls-socket-constructor',
  async (env) => {
    const { port } = await env.serve({}, greet);
    const client = env.connect(port);
    const same = {
      setNoDelay: client.setNoDelay(true) === client,
      setKeepAlive: client.setKeepAlive(true, 1_000) === client,
      setTimeout: client.setTimeout(5_000) === client,
      ref: client.ref() === client,
      unref: client.unref() === client,
      pause: client.pause() === client,
      resume: client.resume() === client,
      setEncoding: client.setEncoding('utf8') === client,
      setMaxSendFragment: client.setMaxSendFragment(1_024),
    };
    client.ref();
    env.note('before', JSON.stringify(same));
    await env.closed(client);
  },
);

add(
  'methods on a connected socket return the socket',
  'test-tls-net-socket-keepalive',
  async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.resume());
    const client = env.connect(port);
    await env.event(client, 'secureConnect');
    const same = {
      setNoDelay: client.setNoDelay(false) === client,
      setKeepAlive: client.setKeepAlive(false) === client,
      setTimeout: client.setTimeout(0) === client,
      ref: client.ref() === client,
      unref: client.unref() === client,
      pause: client.pause() === client,
      resume: client.resume() === client,
      end: client.end() === client,
      destroy: client.destroy() === client,
    };
    env.note('after', JSON.stringify(same));
    await env.closed(client);
  },
);

add('keep-alive and no-delay by option', 'test-tls-socket-options', async (env) => {
  const { port } = await env.serve({}, greet);
  const client = env.connect(
    port,
    { keepAlive: true, keepAliveInitialDelay: 1_000, noDelay: true },
    'data',
  );
  await env.closed(client);
});

add('a second connect() on a socket that has ended', 'test-net-reconnect', async (env) => {
  const { port } = await env.serve({}, greet);
  const client = env.connect(port, {}, 'data');
  await env.closed(client);
  env.note('reconnect', typeof client.connect, client.destroyed);
});

add('options are not changed', 'test-tls-options-boolean-check', async (env) => {
  const { port } = await env.serve({}, greet);
  const options = Object.freeze({
    port,
    host: '127.0.0.1',
    ca: env.pki.ca,
    servername: 'localhost',
  });
  const client = tls.connect(options);
  env.watch('client', client, 'data');
  await env.closed(client);
  env.note('options', Object.keys(options).join(' '));
});

add('options with a prototype', null, async (env) => {
  const { port } = await env.serve({}, greet);
  const options = Object.create({ host: '127.0.0.1', ca: env.pki.ca, servername: 'localhost' });
  options.port = port;
  const client = tls.connect(options as tls.ConnectionOptions);
  env.defer(() => client.destroy());
  env.watch('client', client, 'data');
  await env.closed(client);
});

add('a directory instead of a socket path', 'test-net-pipe-connect-errors', async (env) => {
  const client = tls.connect({ path: env.directory() });
  env.watch('client', client);
  client.on('error', () => env.note('facts', client.destroyed));
  await env.closed(client);
});
