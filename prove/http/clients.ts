/**
 * HTTP clients, as programs use them: Node's https, its fetch and http2, undici 6 to 8, and the agents that go through
 * a proxy; each made strict by a drop-in of its own, or by `register` alone.
 */
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { createRequire } from 'node:module';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { HttpsProxyAgent } from 'https-proxy-agent';
import type * as Undici from 'undici';
import type { Env } from '../../test/behaviour/verdicts/env.ts';
import { reset } from '../../test/support/splice.ts';

/** What a client is asked to do. */
export interface Task {
  readonly env: Env;
  readonly port: number;
  /** Whether to ask by Node's own sockets, for comparison. */
  readonly plain: boolean;
  readonly method: 'GET' | 'HEAD' | 'CONNECT' | 'UPGRADE';
  /** '/' where a test does not care. */
  readonly path: string;
  /** Whether a GET of '/first' goes before, on the same connection. */
  readonly second: boolean;
  /** The reader waits for this once it has the head. */
  readonly begin: Promise<void> | null;
  readonly told: Told;
}

/** What a client has told. */
export class Told {
  /** Bytes of the content, as given to the program. */
  readonly chunks: Buffer[] = [];
  bytes = 0;
  /** Whether there was a head. */
  head = false;
  /** Whether the client said that the message is whole. */
  whole = false;
  /** Each error, with the codes of its causes. */
  readonly errors: string[] = [];
  /** How many of them came before that. */
  before = 0;
  /** Whether nothing more is to come. */
  done = false;

  took(chunk: Uint8Array): void {
    this.chunks.push(Buffer.from(chunk));
    this.bytes += chunk.length;
  }

  failed(error: unknown): void {
    const codes: string[] = [];
    for (let one = error; one instanceof Error; one = one.cause) {
      codes.push((one as NodeJS.ErrnoException).code ?? one.message);
    }
    this.errors.push(codes.join(' of ') || String(error));
  }
}

export interface Client {
  readonly name: string;
  readonly protocol: 'http1' | 'http2';
  /** Whether it asks twice on one connection. */
  readonly keeps: boolean;
  /** Whether it can ask for a tunnel, and for another protocol. */
  readonly tunnels: boolean;
  /** Whether it takes the coding of a content off. */
  readonly decodes: boolean;
  /** Whether it is undici, which refuses more than Node does. */
  readonly undici: boolean;
  /** Whether `register` alone makes it strict. */
  readonly byRegister: boolean;
  ask(task: Task): Promise<void>;
}

/** Connections to this address are those that `register` has been told of. */
export const REGISTERED_HOST = '127.0.0.2';
export const OWN_HOST = '127.0.0.1';

/** Where a client finds the server. */
export const hostOf = ({ byRegister }: Pick<Client, 'byRegister'>, plain: boolean): string =>
  byRegister && !plain ? REGISTERED_HOST : OWN_HOST;

const registered = ({ plain }: Task): string => hostOf({ byRegister: true }, plain);

const clients: Client[] = [];

function add(client: Partial<Client> & Pick<Client, 'name' | 'ask'>): void {
  clients.push({
    ...{ protocol: 'http1', keeps: true, tunnels: true, decodes: false, undici: false },
    byRegister: false,
    ...client,
  });
}

// ---- Node's https

function readMessage(message: http.IncomingMessage, { told, begin }: Task): Promise<void> {
  let ended = false;
  message.on('end', () => {
    ended = true;
    told.before = told.errors.length;
  });
  message.on('error', (error) => told.failed(error));
  const start = () => message.on('data', (chunk) => told.took(chunk));
  if (begin === null) start();
  else void begin.then(start);
  return new Promise((resolve) => {
    message.on('close', () => {
      told.whole = ended && message.complete;
      resolve();
    });
  });
}

/** A tunnel is whole where it says 'end', and nothing else. */
function readTunnel(socket: Duplex, first: Buffer, { told, begin }: Task): Promise<void> {
  if (first.length > 0) told.took(first);
  let ended = false;
  socket.on('end', () => {
    ended = true;
    told.before = told.errors.length;
    socket.end();
  });
  socket.on('error', (error) => told.failed(error));
  const start = () => socket.on('data', (chunk) => told.took(chunk));
  if (begin === null) start();
  else void begin.then(start);
  return new Promise((resolve) => {
    socket.on('close', () => {
      told.whole = ended;
      resolve();
    });
  });
}

async function byHttps(task: Task, options: https.RequestOptions): Promise<void> {
  const { method, told, second, port } = task;
  const ask = (own: Task, path: string) =>
    new Promise<void>((resolve) => {
      const upgrade = own.method === 'UPGRADE' ? { connection: 'upgrade', upgrade: 'talk' } : {};
      const request = https.request({
        ...{ host: OWN_HOST, port, rejectUnauthorized: false },
        ...options,
        path,
        method: own.method === 'UPGRADE' ? 'GET' : own.method,
        headers: upgrade,
      });
      const taken = (reading: Promise<void>) => {
        own.told.head = true;
        void reading.then(resolve);
      };
      request.on('response', (message) => taken(readMessage(message, own)));
      for (const event of ['upgrade', 'connect'] as const) {
        request.on(event, (_message, socket, first) => taken(readTunnel(socket, first, own)));
      }
      request.on('error', (error) => {
        own.told.failed(error);
        if (!own.told.head) resolve();
      });
      request.end();
    });
  if (second) {
    const first = new Told();
    await ask({ ...task, method: 'GET', begin: null, told: first }, '/first');
    if (!first.whole) throw new Error(`the first answer: ${first.errors}`);
    // An agent takes a connection back in the tick behind the end.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await ask(task, method === 'CONNECT' ? 'far.test:443' : task.path);
  told.done = true;
}

function agentOf<T extends { destroy(): void }>(env: Env, agent: T): T {
  env.defer(() => agent.destroy());
  return agent;
}

for (const keepAlive of [false, true]) {
  const kept = keepAlive ? ', keepAlive' : '';
  add({
    name: `https, StrictAgent${kept}`,
    keeps: keepAlive,
    ask(task) {
      const Agent = task.plain ? https.Agent : task.env.https.StrictAgent;
      const agent = new Agent({ keepAlive, maxSockets: 1 });
      return byHttps(task, { agent: agentOf(task.env, agent) });
    },
  });
  add({
    name: `https, register${kept}`,
    keeps: keepAlive,
    byRegister: true,
    ask(task) {
      const agent = agentOf(task.env, new https.Agent({ keepAlive, maxSockets: 1 }));
      return byHttps(task, { agent, host: registered(task) });
    },
  });
}
add({
  name: 'https, register, no agent',
  keeps: false,
  byRegister: true,
  ask: (task) => byHttps(task, { agent: false, host: registered(task) }),
});

// ---- a proxy that tunnels

/** @returns where it is. */
async function proxyOf(env: Env, host = OWN_HOST): Promise<string> {
  const proxy = http.createServer();
  proxy.on('connect', (request: http.IncomingMessage, near: net.Socket) => {
    const { hostname, port } = new URL(`http://${request.url}`);
    const far = net.connect({ port: Number(port), host: hostname, allowHalfOpen: true });
    env.defer(() => {
      near.destroy();
      far.destroy();
    });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.setNoDelay(true);
      from.on('error', () => reset(to));
      from.on('end', () => to.end());
      from.on('data', (chunk) => to.write(chunk));
    }
    far.on('connect', () => near.write('HTTP/1.1 200 OK\r\n\r\n'));
  });
  const { port } = await env.listen(proxy, false, host);
  env.defer(() => proxy.closeAllConnections());
  return `http://${host}:${port}`;
}

add({
  name: 'https, https-proxy-agent, register',
  keeps: false,
  byRegister: true,
  async ask(task) {
    // What counts with this agent is where the proxy is.
    const proxy = await proxyOf(task.env, registered(task));
    const agent = agentOf(task.env, new HttpsProxyAgent(proxy));
    await byHttps(task, { agent, host: registered(task) });
  },
});

/** Node's own agent takes a proxy since Node 24.5 and 22.21. */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21)) {
  add({
    name: 'https, proxyEnv, register',
    keeps: false,
    byRegister: true,
    async ask(task) {
      const proxyEnv = { HTTPS_PROXY: await proxyOf(task.env) };
      const agent = new https.Agent({ proxyEnv } as https.AgentOptions);
      await byHttps(task, { agent: agentOf(task.env, agent), host: registered(task) });
    },
  });
}

// ---- fetch and undici

type Fetch = (url: string, options: object) => Promise<Response>;

async function readAll(body: AsyncIterable<Uint8Array> | null, { told, begin }: Task) {
  told.head = true;
  await begin;
  if (body !== null) for await (const chunk of body) told.took(chunk);
  told.whole = true;
}

async function byFetch(task: Task, fetch: Fetch, host: string, more: object = {}): Promise<void> {
  const { told, method, port, second } = task;
  const origin = `https://${host}:${port}`;
  const options = { redirect: 'manual', method, ...more };
  try {
    if (second) {
      const first = await fetch(`${origin}/first`, { ...options, method: 'GET' });
      if ((await first.text()) !== 'first') throw new Error('the first answer');
      await new Promise((resolve) => setImmediate(resolve));
    }
    const response = await fetch(`${origin}${task.path}`, options);
    await readAll(response.body as AsyncIterable<Uint8Array> | null, task);
    // undici cancels the body of a response that the collector has taken.
    task.env.defer(() => response);
  } catch (error) {
    told.failed(error);
  }
  told.done = true;
}

async function byRequest(
  task: Task,
  { request, upgrade, connect }: typeof Undici,
  host: string,
  dispatcher: Undici.Dispatcher,
): Promise<void> {
  const { told, method, port, second } = task;
  const origin = `https://${host}:${port}`;
  try {
    if (second) {
      const { body } = await request(`${origin}/first`, { dispatcher });
      if ((await body.text()) !== 'first') throw new Error('the first answer');
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (method === 'UPGRADE') {
      const { socket } = await upgrade(`${origin}/`, { dispatcher, protocol: 'talk' });
      told.head = true;
      await readTunnel(socket, Buffer.alloc(0), task);
    } else if (method === 'CONNECT') {
      const { socket } = await connect(`${origin}/`, { dispatcher });
      told.head = true;
      await readTunnel(socket, Buffer.alloc(0), task);
    } else {
      const { body } = await request(`${origin}${task.path}`, { dispatcher, method });
      // Who reads it hears of it, too.
      body.on('error', () => {});
      await readAll(body, task);
    }
  } catch (error) {
    told.failed(error);
  }
  told.done = true;
}

const PLAIN = { rejectUnauthorized: false };

add({
  name: 'fetch, register',
  tunnels: false,
  decodes: true,
  undici: true,
  byRegister: true,
  ask: (task) => byFetch(task, fetch as Fetch, registered(task)),
});

// Another undici that is loaded puts its own dispatcher, wrapped, in the place of the one that fetch of Node 20 and 22
// uses, and what waits in a body behind such a wrapper is lost (docs/strict.md). Here fetch is to be Node's own.
const DISPATCHER = Symbol.for('undici.globalDispatcher.1');
await fetch('data:,');
const dispatchers = globalThis as Record<symbol, unknown>;
const nodes = dispatchers[DISPATCHER];

const require = createRequire(new URL('../../.ci/runtimes/package.json', import.meta.url));

/** undici by its major version; those that are installed, and that this Node can load. */
function undicis(): Array<readonly [name: string, undici: typeof Undici]> {
  const all = [
    ['undici 6', require, 'undici-6', true],
    ['undici 7', createRequire(import.meta.url), 'undici', true],
    ['undici 8', require, 'undici-8', major > 22 || (major === 22 && minor >= 19)],
  ] as const;
  return all.flatMap(([name, from, file, loads]) => {
    if (!loads) return [];
    try {
      from.resolve(file);
    } catch (error) {
      if (process.env['REQUIRE_PEERS'] === '1') throw error;
      return [];
    }
    return [[name, from(file) as typeof Undici] as const];
  });
}

const loaded = undicis();
if (nodes !== undefined) dispatchers[DISPATCHER] = nodes;
for (const [name, undici] of loaded) {
  const { Agent, ProxyAgent } = undici;
  const base = { undici: true } as const;
  // The newest offers HTTP/2 by itself.
  const http1 = { allowH2: false } as object;
  const strict = (task: Task, options: object = {}): Undici.Dispatcher => {
    const connect = task.plain
      ? { ...PLAIN, ...options }
      : task.env.undici.strictConnector({ ...PLAIN, ...options });
    const more = { ...http1, ...options, connections: 1 };
    return agentOf(task.env, new Agent({ ...more, connect: connect as never }) as never);
  };
  const byProxyAgent = (task: Task, uri: string): Undici.Dispatcher => {
    const agent = new ProxyAgent({ uri, requestTls: PLAIN, connections: 1, ...http1 });
    return agentOf(task.env, agent as never);
  };
  const fetchOf = undici.fetch as unknown as Fetch;
  add({
    ...{ ...base, name: `${name}, strictConnector` },
    ask: (task) => byRequest(task, undici, OWN_HOST, strict(task)),
  });
  add({
    ...{ ...base, name: `${name}, fetch, strictConnector`, tunnels: false, decodes: true },
    ask: (task) => byFetch(task, fetchOf, OWN_HOST, { dispatcher: strict(task) }),
  });
  add({
    ...{ ...base, name: `${name}, register`, byRegister: true },
    ask(task) {
      const agent = new Agent({ connect: PLAIN, connections: 1, ...http1 });
      return byRequest(task, undici, registered(task), agentOf(task.env, agent as never));
    },
  });
  add({
    ...{ ...base, name: `${name}, strictConnector through a proxy` },
    async ask(task) {
      const uri = await proxyOf(task.env);
      const dispatcher = task.plain ? byProxyAgent(task, uri) : strict(task, { proxy: { uri } });
      await byRequest(task, undici, OWN_HOST, dispatcher);
    },
  });
  add({
    ...{ ...base, name: `${name}, ProxyAgent, register`, byRegister: true },
    async ask(task) {
      const uri = await proxyOf(task.env);
      await byRequest(task, undici, registered(task), byProxyAgent(task, uri));
    },
  });
  const http2 = { ...base, protocol: 'http2', tunnels: false } as const;
  add({
    ...{ ...http2, name: `${name}, strictConnector, HTTP/2` },
    ask: (task) => byRequest(task, undici, OWN_HOST, strict(task, { allowH2: true })),
  });
  add({
    ...{ ...http2, name: `${name}, fetch, strictConnector, HTTP/2`, decodes: true },
    ask(task) {
      const dispatcher = strict(task, { allowH2: true });
      return byFetch(task, fetchOf, OWN_HOST, { dispatcher });
    },
  });
  add({
    ...{ ...http2, name: `${name}, register, HTTP/2`, byRegister: true },
    ask(task) {
      const agent = new Agent({ connect: PLAIN, connections: 1, allowH2: true });
      return byRequest(task, undici, registered(task), agentOf(task.env, agent as never));
    },
  });
}

// ---- Node's http2

async function bySession(task: Task, session: http2.ClientHttp2Session): Promise<void> {
  const { told, second, env } = task;
  env.defer(() => session.destroy());
  let broken: unknown = null;
  session.on('error', (error) => {
    broken ??= error;
  });
  const ask = (own: Task, path: string) =>
    new Promise<void>((resolve) => {
      let ended = false;
      let aborted = false;
      const stream = session.request({ ':method': own.method, ':path': path });
      stream.on('response', () => {
        own.told.head = true;
      });
      stream.on('end', () => {
        ended = true;
        own.told.before = own.told.errors.length;
      });
      // What Node has instead of an error where a stream is closed in the middle.
      stream.on('aborted', () => {
        aborted = true;
      });
      stream.on('error', (error) => own.told.failed(error));
      const start = () => stream.on('data', (chunk) => own.told.took(chunk));
      if (own.begin === null) start();
      else void own.begin.then(start);
      stream.on('close', () => {
        if (aborted && !ended) own.told.errors.push('aborted');
        if (!own.told.head && own.told.errors.length === 0) {
          own.told.errors.push('closed without a response');
        }
        own.told.whole = ended && own.told.head && !aborted;
        resolve();
      });
    });
  try {
    if (second) {
      const first = new Told();
      await ask({ ...task, method: 'GET', begin: null, told: first }, '/first');
      if (!first.whole) throw new Error(`the first answer: ${first.errors}`);
    }
    await ask(task, task.path);
  } catch (error) {
    told.failed(broken ?? error);
  }
  told.done = true;
}

add({
  name: 'http2, secureSocket',
  protocol: 'http2',
  tunnels: false,
  ask(task) {
    const { env, port } = task;
    return bySession(
      task,
      http2.connect(`https://${OWN_HOST}:${port}`, {
        createConnection: () =>
          (task.plain ? tls.connect : env.lib.secureSocket)({
            ...{ ...PLAIN, host: OWN_HOST, port },
            ALPNProtocols: ['h2'],
          }),
      }),
    );
  },
});
add({
  name: 'http2, register',
  protocol: 'http2',
  tunnels: false,
  byRegister: true,
  ask: (task) => bySession(task, http2.connect(`https://${registered(task)}:${task.port}`, PLAIN)),
});

// Whoever knows nothing of ALPN gets HTTP/1: only the newest fetch offers HTTP/2.
if (major >= 26) {
  add({
    ...{ name: 'fetch, register, HTTP/2', protocol: 'http2', tunnels: false, decodes: true },
    ...{ undici: true, byRegister: true },
    ask: (task) => byFetch(task, fetch as Fetch, registered(task)),
  });
}

export const CLIENTS: readonly Client[] = clients;
