/** How processes end, what is in scope in listeners, and what tools are told. */
import { AsyncLocalStorage, AsyncResource, executionAsyncId } from 'node:async_hooks';
import diagnostics from 'node:diagnostics_channel';
import { captureRejectionSymbol, EventEmitter, getEventListeners, once } from 'node:events';
import https from 'node:https';
import type net from 'node:net';
import { finished } from 'node:stream/promises';
import tls from 'node:tls';
import { inspect } from 'node:util';
import { type Env, family } from './env.ts';

const { cases, add } = family();

export { cases };

/** What a program prints and how it ends; of its errors only what Node calls them. */
async function program(env: Env, name: string, port: number): Promise<void> {
  const { exit, output, errors } = await env.program(name, port);
  env.note('program', exit);
  for (const line of output.trimEnd().split('\n')) env.note('output', line);
  for (const [line] of errors.matchAll(/^(?:\w*Error|.*Unhandled 'error').*$|^ {2}code: .*$/gm)) {
    // The library's own words are not held here.
    if (!line.startsWith('TruncatedError')) env.note('errors', line.trim());
  }
}

const servers: Readonly<Record<string, (socket: tls.TLSSocket) => void>> = {
  greets: (socket) => {
    socket.resume();
    socket.end('hello');
  },
  speaks: (socket) => {
    socket.resume();
    socket.write('hello');
  },
  listens: (socket) => void socket.resume(),
};
const runs: ReadonlyArray<
  readonly [name: string, server: keyof typeof servers, halfOpen?: boolean]
> = [
  ['a connection that ends', 'greets'],
  ['an idle connection keeps the process', 'listens'],
  ['an unreferenced connection does not', 'listens'],
  ['unreferenced while it connects', 'listens'],
  ['unreferenced and referenced again', 'listens'],
  ['a paused connection with data keeps the process', 'speaks'],
  ['ended by us', 'listens'],
  ['ended by us, the peer stays', 'listens', true],
  ['destroyed at once', 'listens'],
  ['destroyed when secure', 'listens'],
  ['a timeout set does not keep the process', 'listens'],
  ['an error that nobody listens for', 'listens'],
  ['a data listener that throws', 'greets'],
  ['over a socket that is unreferenced', 'listens'],
  ['over a socket, unreferenced on the TLS socket', 'listens'],
  ['top-level await on a connection', 'greets'],
  ['active resources', 'listens'],
];
for (const [name, server, allowHalfOpen = false] of runs) {
  add(`a program: ${name}`, 'test-tls-connect-timeout-option', async (env) => {
    const { port } = await env.serve({ allowHalfOpen }, servers[server]!);
    await program(env, name, port);
  });
}

add('a program: a refusal that nobody listens for', 'test-tls-econnreset', async (env) => {
  await program(env, 'a refusal that nobody listens for', await env.noPort());
});

add('a program: the process exits with data written', null, async (env) => {
  let text = '';
  let ended: (() => void) | undefined;
  const over = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const { port } = await env.serve({}, (socket) => {
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('close', () => ended?.());
  });
  await program(env, 'the process exits with data written', port);
  await over;
  env.note('server', text);
});

add(
  'a program: a truncation that nobody listens for',
  'test-https-truncate',
  async (env) => {
    let cut = () => {};
    const { port } = await env.serve({}, (socket) => {
      socket.write('half');
      socket.on('data', () => cut());
    });
    const cutter = await env.cutter(port);
    cut = () => cutter.fin();
    await program(env, 'a truncation that nobody listens for', cutter.port);
  },
  {
    program: { plain: ['exit 0'], strict: ['exit 1'] },
    output: { plain: ['half', 'end'], strict: ['half'] },
    errors: {
      plain: [],
      strict: ["throw er; // Unhandled 'error' event", "code: 'ERR_TLS_TRUNCATED',"],
    },
  },
);

add('a program: an https request', 'test-https-simple', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  await program(env, 'an https request', port);
});

add('a program: an https request, kept alive', 'test-https-agent-unref-socket', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  await program(env, 'an https request, kept alive', port);
});

add('a program: an http2 session that is unreferenced', 'test-http2-session-unref', async (env) => {
  const { port } = await env.web2((stream) => {
    stream.respond();
    stream.end('hello');
  });
  await program(env, 'an http2 session that is unreferenced', port);
});

// Async context

add('AsyncLocalStorage in listeners', 'test-async-local-storage-tlssocket', async (env) => {
  const storage = new AsyncLocalStorage<string>();
  const { port } = await env.serve({}, servers['greets']);
  await storage.run('here', async () => {
    const client = tls.connect(env.options(port));
    for (const name of [
      'connect',
      'ready',
      'secureConnect',
      'session',
      'data',
      'end',
      'finish',
      'close',
    ]) {
      client.once(name, () => env.note('store', name, storage.getStore()));
    }
    await new Promise((resolve) => client.once('close', resolve));
  });
  env.note('store', 'outside', storage.getStore());
});

add('AsyncLocalStorage on an error', 'test-async-local-storage-tlssocket', async (env) => {
  const storage = new AsyncLocalStorage<string>();
  const port = await env.noPort();
  await storage.run('here', async () => {
    const client = tls.connect(env.options(port));
    for (const name of ['error', 'close']) {
      client.once(name, () => env.note('store', name, storage.getStore()));
    }
    await new Promise((resolve) => client.once('close', resolve));
  });
});

add('AsyncLocalStorage in callbacks', 'test-async-local-storage-tlssocket', async (env) => {
  const storage = new AsyncLocalStorage<string>();
  const { port } = await env.serve({}, servers['listens']);
  await storage.run('connecting', async () => {
    const client = tls.connect(env.options(port), () => {
      env.note('store', 'callback', storage.getStore());
      storage.run('writing', () =>
        client.write('x', () => {
          env.note('store', 'write', storage.getStore());
          storage.run('ending', () =>
            client.end(() => env.note('store', 'end', storage.getStore())),
          );
        }),
      );
    });
    client.resume();
    await env.closed(client);
  });
});

add('AsyncLocalStorage of two requests on one connection', 'test-https-agent', async (env) => {
  const storage = new AsyncLocalStorage<string>();
  const { port } = await env.web((_request, response) => response.end('hello'));
  const agent = new https.Agent({ keepAlive: true });
  env.defer(() => agent.destroy());
  for (const name of ['first', 'second']) {
    await storage.run(name, async () => {
      const request = https.get(env.request(port, { agent }));
      request.on('response', (response) => {
        env.note('store', 'response', storage.getStore());
        response.on('data', () => env.note('store', 'data', storage.getStore()));
        response.on('end', () => env.note('store', 'end', storage.getStore()));
      });
      await env.closed(request);
    });
  }
});

add('an async id in each listener', 'test-async-wrap-tlssocket-asyncreset', async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const client = env.connect(port, {}, 'data');
  for (const name of ['connect', 'secureConnect', 'end']) {
    client.on(name, () => env.note('ids', name, executionAsyncId() > 0));
  }
  const bound = AsyncResource.bind(() => env.note('ids', 'bound'));
  client.on('close', bound);
  await env.closed(client);
});

add('a listener’s rejection is captured', 'test-event-capture-rejections', async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const client = env.connect(port);
  env.note(
    'captures',
    typeof (client as unknown as Record<symbol, unknown>)[captureRejectionSymbol],
  );
  client.resume();
  await env.closed(client);
});

// What a socket is to tools

add('listeners of a fresh socket', null, async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const client = tls.connect(env.options(port));
  const names = ['data', 'readable', 'error', 'drain', 'timeout', 'session', 'lookup'];
  for (const name of [...names, 'connect', 'ready', 'keylog', 'pause', 'resume', 'finish']) {
    env.note('listeners', name, client.listenerCount(name), getEventListeners(client, name).length);
  }
  client.resume();
  await env.closed(client);
});

add('own names and methods that programs call', null, async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const client = env.connect(port);
  const names = [
    ...['connect', 'setNoDelay', 'setKeepAlive', 'setTimeout', 'ref', 'unref', 'address', 'pause'],
    ...['resume', 'end', 'write', 'read', 'destroy', 'destroySoon', 'resetAndDestroy', 'cork'],
    ...['uncork', 'pipe', 'unpipe', 'push', 'unshift', 'setEncoding', 'on', 'once', 'off', 'emit'],
    ...[
      'getPeerCertificate',
      'getCipher',
      'getProtocol',
      'getSession',
      'setSession',
      'renegotiate',
    ],
    ...['enableTrace', 'exportKeyingMaterial', 'setMaxSendFragment', 'disableRenegotiation'],
  ];
  for (const name of names) {
    const found = (client as unknown as Record<string, unknown>)[name];
    env.note('methods', name, typeof found);
  }
  client.resume();
  await env.closed(client);
});

add('inspecting a socket', null, async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const client = env.connect(port);
  client.on('secureConnect', () =>
    env.note('inspect', inspect(client, { depth: 0 }).split(' ')[0]),
  );
  client.resume();
  await env.closed(client);
});

add('events.once and stream.finished', null, async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const client = env.connect(port);
  await once(client, 'secureConnect');
  client.resume();
  await finished(client).then(() => env.note('finished', 'whole'));
});

add('events.once rejects', null, async (env) => {
  const client = env.connect(await env.noPort());
  await once(client, 'secureConnect').catch((error) => env.note('once', error));
});

add(
  'truncated: stream.finished',
  null,
  async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.write('half'));
    const cutter = await env.cutter(port);
    const client = env.connect(cutter.port);
    client.once('data', () => cutter.fin());
    await finished(client).then(
      () => env.note('finished', 'whole'),
      (error) => env.note('finished', error),
    );
    await env.closed(client);
  },
  {
    finished: { plain: ['whole'], strict: ['ERR_TLS_TRUNCATED'] },
    client: {
      plain: ['end', 'finish', 'close false'],
      strict: ['error ERR_TLS_TRUNCATED', 'close true'],
    },
  },
);

add('http’s diagnostics channels', 'test-diagnostics-channel-http', async (env) => {
  const { port } = await env.web((_request, response) => response.end('hello'));
  const names = [
    'http.client.request.start',
    'http.client.response.finish',
    'http.client.request.error',
  ];
  for (const name of names) {
    const listener = () => env.note('channel', name);
    diagnostics.subscribe(name, listener);
    env.defer(() => diagnostics.unsubscribe(name, listener));
  }
  const request = https.get(env.request(port, { agent: false }));
  request.on('response', (response) => response.resume());
  await env.closed(request);
});

add('net’s diagnostics channel', 'test-diagnostics-channel-net', async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const listener = (message: unknown) => {
    const { socket } = message as { socket: net.Socket };
    env.note('channel', socket.constructor.name);
  };
  diagnostics.subscribe('net.client.socket', listener);
  env.defer(() => diagnostics.unsubscribe('net.client.socket', listener));
  const client = env.connect(port, {}, 'data');
  await env.closed(client);
});

add('custom properties and emitters stay', null, async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const client = env.connect(port) as tls.TLSSocket & { note?: string };
  client.note = 'mine';
  client.emit('custom', 1);
  client.on('custom', (value) => env.note('custom', value));
  client.emit('custom', 2);
  client.setMaxListeners(50);
  env.note('custom', client.note, client.getMaxListeners(), client instanceof EventEmitter);
  client.resume();
  await env.closed(client);
});

add('writes by a patched write', null, async (env) => {
  const { port } = await env.serve({}, (socket) => void env.watch('server', socket, 'data'));
  const client = env.connect(port);
  const write = client.write;
  client.write = function patched(this: tls.TLSSocket, ...args: unknown[]) {
    env.note('patched', 'write');
    return Reflect.apply(write, this, args) as boolean;
  } as typeof client.write;
  client.write('one');
  client.end('two');
  await env.closed(client);
});

add('a hundred connections leave no listeners', 'test-tls-connect-memleak', async (env) => {
  const { port } = await env.serve({}, servers['greets']);
  const agent = new https.Agent();
  env.defer(() => agent.destroy());
  for (let i = 0; i < 100; i++) {
    const client = tls.connect(env.options(port));
    client.resume();
    await new Promise((resolve) => client.on('close', resolve));
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  env.note(
    'resources',
    process.getActiveResourcesInfo().filter((name) => name === 'TLSWrap').length,
  );
});
