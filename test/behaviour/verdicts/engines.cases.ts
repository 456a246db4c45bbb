/**
 * What could displace a witness, or escape it: tracing, contexts of a program's own, servers that listen
 * already, SNI, resumption, renegotiation, TLS within TLS, worker threads. A connection that is found
 * unwatched may fail; it may not be called whole.
 */
import { execFile } from 'node:child_process';
import constants from 'node:constants';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { family } from './case.ts';
import { CraftedPeer, forged } from './crafted-peer.ts';
import {
  AS_REGISTERED,
  type Env,
  FACES,
  type Face,
  type Facts,
  isServer,
  turns,
  until,
  Watch,
} from './env.ts';
import { type Link, Relay } from './record-relay.ts';

const { cases, add, addRows } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
type Version = (typeof VERSIONS)[number];

// ---- endings that a crafted peer plays behind 'hello'

type Truth = 'close_notify' | 'eof' | 'alert' | 'refused';

const ENDINGS: Readonly<Record<string, { truth: Truth; play(peer: CraftedPeer): unknown }>> = {
  close_notify: {
    truth: 'close_notify',
    play: (peer) => peer.fin(peer.data('hello'), peer.closeNotify()),
  },
  'close_notify, no FIN': {
    truth: 'close_notify',
    play: (peer) => peer.send(peer.data('hello'), peer.closeNotify()),
  },
  FIN: { truth: 'eof', play: (peer) => peer.fin(peer.data('hello')) },
  'FIN inside a record': {
    truth: 'eof',
    play: (peer) => peer.fin(peer.data('hello'), peer.closeNotify().subarray(0, 9)),
  },
  'a fatal alert': {
    truth: 'alert',
    play: (peer) => peer.fin(peer.data('hello'), peer.alert(2, 80)),
  },
  'forged close_notify': {
    truth: 'refused',
    play: (peer) => peer.fin(peer.data('hello'), forged(peer.closeNotify())),
  },
};

const ROWS = Object.entries(ENDINGS).map(([row, ending]) => ({ row, ...ending }));

interface Told extends Facts {
  readonly text: string;
  readonly heard: readonly string[];
}

function judge(facts: Told, truth: Truth): string[] {
  const { events, verdict, received, sent, truncated, text } = facts;
  const wrong: string[] = [];
  const ended = events.includes('end');
  const failed = events.some((one) => one.startsWith('error '));
  const told = `${events.join(', ')}; ${verdict}`;
  if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
  if (text !== 'hello') wrong.push(`read ${JSON.stringify(text)}`);
  if ((sent !== null) !== facts.heard.includes('1/0')) wrong.push(`sent ${sent}: ${facts.heard}`);
  if (truth === 'close_notify') {
    if (!ended || failed || verdict !== 'secure' || received === null) wrong.push(told);
    if (truncated.length > 0) wrong.push('the channel told of a truncation');
    return wrong;
  }
  if (ended || !failed || received !== null) wrong.push(told);
  const verdicts = { eof: 'truncated', alert: 'alert', refused: 'alert' };
  if (verdict !== verdicts[truth]) wrong.push(told);
  return wrong;
}

/** Watches a socket as a program uses it: it ends its side when the peer has. */
function use(env: Env, socket: tls.TLSSocket): Watch {
  const watch = new Watch(env, socket);
  socket.on('data', (chunk) => watch.took(chunk));
  socket.on('end', () => socket.end());
  return watch;
}

async function over(peer: CraftedPeer, watch: Watch): Promise<Told> {
  const facts = await watch.over();
  await until(() => peer.transportEnd !== null, 500);
  await turns(2);
  return { ...facts, text: watch.text, heard: peer.heardAlerts };
}

// ---- tracing

const TRACES: Readonly<
  Record<
    string,
    {
      readonly option?: boolean;
      readonly client?: boolean;
      readonly trace?: (socket: tls.TLSSocket) => void;
    }
  >
> = {
  'the option enableTrace': { option: true },
  'enableTrace() at once': { client: true, trace: (socket) => socket.enableTrace() },
  'enableTrace() when it is secure': {
    trace: (socket) => {
      if (socket.getProtocol() !== null && socket.encrypted && isSecure(socket)) {
        socket.enableTrace();
      } else socket.once('secureConnect', () => socket.enableTrace());
    },
  },
  "enableTrace() in the first 'data'": {
    trace: (socket) => socket.once('data', () => socket.enableTrace()),
  },
  'enableTrace() twice': {
    trace: (socket) => {
      socket.enableTrace();
      socket.once('data', () => socket.enableTrace());
    },
  },
};

const isSecure = (socket: tls.TLSSocket): boolean =>
  (socket as unknown as { secureConnecting: boolean }).secureConnecting === false;

for (const version of VERSIONS) {
  for (const face of FACES) {
    for (const [how, { option, client, trace }] of Object.entries(TRACES)) {
      // A server's program has its socket when it is secure.
      if (client && isServer(face)) continue;
      addRows(
        `traced, ${face}, ${version}: ${how}`,
        ROWS,
        async (env, { play }): Promise<Told> => {
          let watch: Watch | null = null;
          const peer = await env.open(
            { face, version, socket: option ? { enableTrace: true } : {} },
            (socket) => {
              watch = use(env, socket);
              trace?.(socket);
            },
          );
          await peer.ready;
          await until(() => watch !== null);
          await turns(6);
          await play(peer);
          return over(peer, watch as unknown as Watch);
        },
        (facts, { truth }) => judge(facts, truth),
      );
    }
  }
}

// ---- contexts

/** How a strict socket comes to its context. */
const CONTEXTS: Readonly<
  Record<string, (env: Env, version: Version) => { face: Face; socket: object; after?: object }>
> = {
  'a context of the program': (_env, version) => ({
    face: 'tcp',
    socket: { secureContext: tls.createSecureContext({ minVersion: version }) },
  }),
  'a context of the program, under register': (_env, version) => ({
    face: 'register',
    socket: { secureContext: tls.createSecureContext({ minVersion: version }) },
  }),
  'a context of the program, on a Duplex': (_env, version) => ({
    face: 'duplex',
    socket: { secureContext: tls.createSecureContext({ minVersion: version }) },
  }),
};

for (const version of VERSIONS) {
  for (const [name, make] of Object.entries(CONTEXTS)) {
    addRows(
      `${name}, ${version}`,
      ROWS,
      async (env, { play }): Promise<Told> => {
        let watch: Watch | null = null;
        const peer = await env.open({ version, ...make(env, version) }, (socket) => {
          watch = use(env, socket);
        });
        await peer.ready;
        await play(peer);
        return over(peer, watch as unknown as Watch);
      },
      (facts, { truth }) => judge(facts, truth),
    );
  }

  addRows(
    `a context that plain and strict sockets share, ${version}`,
    ROWS,
    async (env, { play }): Promise<Told> => {
      const secureContext = tls.createSecureContext({ minVersion: version, maxVersion: version });
      const plain = tls.createServer({ ...env.identity, minVersion: version, maxVersion: version });
      const at = await env.listen(plain);
      // A plain socket before, one meanwhile and one behind it.
      const connect = async () => {
        const socket = tls.connect({
          ...at,
          host: '127.0.0.1',
          secureContext,
          checkServerIdentity: () => undefined,
          rejectUnauthorized: false,
        });
        socket.on('error', () => {});
        env.defer(() => socket.destroy());
        await once(socket, 'secureConnect');
      };
      await connect();
      let watch: Watch | null = null;
      const peer = await env.open({ face: 'tcp', version, socket: { secureContext } }, (socket) => {
        watch = use(env, socket);
      });
      await peer.ready;
      await connect();
      await play(peer);
      const told = await over(peer, watch as unknown as Watch);
      await connect();
      return told;
    },
    (facts, { truth }) => judge(facts, truth),
  );
}

/** What happens to a server before a connection, and what its client asks for. */
const SERVERS: Readonly<
  Record<
    string,
    {
      readonly options?: (secureContext: tls.SecureContext) => tls.TlsOptions;
      readonly prepare?: (server: tls.Server, env: Env) => void;
      readonly servername?: string;
    }
  >
> = {
  'addContext()': {
    prepare: (server, env) => server.addContext('other.example', env.identity),
    servername: 'other.example',
  },
  'addContext() with a context': {
    prepare: (server, env) =>
      server.addContext('other.example', tls.createSecureContext(env.identity)),
    servername: 'other.example',
  },
  'SNICallback at once': {
    options: (secureContext) => ({ SNICallback: (_name, done) => done(null, secureContext) }),
    servername: 'other.example',
  },
  'SNICallback late': {
    options: (secureContext) => ({
      SNICallback: (_name, done) => {
        void turns(5).then(() => done(null, secureContext));
      },
    }),
    servername: 'other.example',
  },
  'setSecureContext()': { prepare: (server, env) => server.setSecureContext(env.identity) },
  'setSecureContext() twice': {
    prepare: (server, env) => {
      server.setSecureContext(env.identity);
      server.setSecureContext({ ...env.identity, ciphers: tls.DEFAULT_CIPHERS });
    },
  },
  'no tickets, no cache': { options: () => ({ secureOptions: constants.SSL_OP_NO_TICKET }) },
};

for (const version of VERSIONS) {
  for (const [name, { options, prepare, servername }] of Object.entries(SERVERS)) {
    addRows(
      `strictServer, ${version}: ${name}`,
      ROWS,
      async (env, { play }): Promise<Told> => {
        const secureContext = tls.createSecureContext(env.identity);
        const server = tls.createServer({
          ...env.identity,
          ...{ minVersion: version, maxVersion: version },
          ...options?.(secureContext),
        });
        const sockets: Watch[] = [];
        const { port } = await env.listen(server);
        const connect = async () => {
          const wire = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
          const peer = new CraftedPeer(wire, { role: 'client', version, servername });
          env.defer(() => peer.destroy());
          await peer.ready;
          return peer;
        };
        // It listens already, and serves.
        const served = once(server, 'secureConnection');
        const before = await connect();
        await served;
        env.lib.strictServer(server);
        server.on('secureConnection', (socket) => sockets.push(use(env, socket)));
        prepare?.(server, env);
        const peer = await connect();
        if (!(await until(() => sockets.length > 0))) throw new Error('no socket');
        before.destroy();
        await play(peer);
        return over(peer, sockets[0]!);
      },
      (facts, { truth }) => judge(facts, truth),
    );
  }

  addRows(
    `strictServer, ${version}: setSecureContext() while a connection stands`,
    ROWS,
    async (env, { play }): Promise<Told> => {
      let watch: Watch | null = null;
      let server: tls.Server | null = null;
      const peer = await env.open({ face: 'server', version }, (socket) => {
        watch = use(env, socket);
        server = (socket as unknown as { server: tls.Server }).server;
      });
      await peer.ready;
      await until(() => watch !== null);
      (server as unknown as tls.Server).setSecureContext(env.identity);
      await play(peer);
      return over(peer, watch as unknown as Watch);
    },
    (facts, { truth }) => judge(facts, truth),
  );
}

// ---- contexts are shared only where all options are equal

add<{ plain: boolean[]; strict: boolean[] }>(
  'an option that we do not know (certificateCompression): each socket has its own',
  async (env) => {
    // RFC 8879: compress_certificate is extension 27.
    const extension = Buffer.of(0, 27, 0);
    const hellos: Buffer[] = [];
    const server = net.createServer((wire) => {
      wire.on('error', () => {});
      wire.once('data', (hello) => {
        hellos.push(hello);
        wire.destroy();
      });
    });
    const { port } = await env.listen(server);
    const ask = async (strict: boolean, algorithms: string[] | undefined): Promise<boolean> => {
      const options = {
        ...{ port, host: '127.0.0.1', ca: env.identity.ca },
        ...(algorithms === undefined ? {} : { certificateCompression: algorithms }),
      };
      const before = hellos.length;
      const socket = strict ? env.lib.secureSocket(options) : tls.connect(options);
      socket.on('error', () => {});
      await until(() => hellos.length > before);
      socket.destroy();
      return hellos.at(-1)!.includes(extension);
    };
    const told: { plain: boolean[]; strict: boolean[] } = { plain: [], strict: [] };
    for (const algorithms of [undefined, ['zlib'], undefined, ['zlib']]) {
      told.plain.push(await ask(false, algorithms));
    }
    for (const algorithms of [undefined, ['zlib'], undefined, ['zlib']]) {
      told.strict.push(await ask(true, algorithms));
    }
    return told;
  },
  ({ plain, strict }, { major }) => [
    ...(strict.join() === plain.join() ? [] : [`${strict}, where Node has ${plain}`]),
    ...(major >= 24 && !plain[1] ? ['Node 24 does not offer it'] : []),
  ],
);

/** Contexts of the process are counted: no case beside this may make any. */
const { cases: lonely, add: addAlone } = family(true);

addAlone<Record<string, number>>(
  'contexts are made anew for each set of options, and for equal ones where Node can tell',
  async (env) => {
    const { createSecureContext } = tls;
    let made = 0;
    tls.createSecureContext = (...args) => {
      made++;
      return createSecureContext(...args);
    };
    env.defer(() => {
      tls.createSecureContext = createSecureContext;
    });
    const server = net.createServer((wire) => wire.on('error', () => {}));
    const { port } = await env.listen(server);
    const { ca } = env.identity;
    const count = (...options: object[]): number => {
      made = 0;
      for (const one of options) {
        const socket = env.lib.secureSocket({ port, host: '127.0.0.1', ca, ...one });
        socket.on('error', () => {});
        socket.destroy();
      }
      return made;
    };
    const equal = { ciphers: 'TLS_AES_128_GCM_SHA256' };
    const bytes = Buffer.from(ca);
    const told: Record<string, number> = {
      'equal options': count(equal, { ...equal }),
      'an option that nobody knows': count(
        { ...equal, fromTheFuture: 1 },
        { ...equal, fromTheFuture: 2 },
      ),
      'an object that nobody knows': count(
        { ...equal, future: { a: 1 } },
        { ...equal, future: { a: 2 } },
      ),
      'an option of a socket': count(equal, {
        ...equal,
        highWaterMark: 5,
        servername: 'one.example',
      }),
      minVersion: count({ minVersion: 'TLSv1.2' }, { minVersion: 'TLSv1.3' }),
    };
    made = 0;
    for (let i = 0; i < 2; i++) {
      const socket = env.lib.secureSocket({ port, host: '127.0.0.1', ca: bytes });
      socket.on('error', () => {});
      socket.destroy();
      // Bytes that are changed in place are others.
      bytes[bytes.length - 2] = 0x0a;
    }
    told['bytes that were changed'] = made;
    return told;
  },
  (told, { native }) => {
    const wanted: Record<string, readonly number[]> = {
      // Without the add-on, too, Node makes one for each socket where it is given none.
      'equal options': [1],
      'an option that nobody knows': [2],
      'an object that nobody knows': [2],
      'an option of a socket': [0],
      minVersion: [2],
      'bytes that were changed': [1, 2],
    };
    void native;
    return Object.entries(wanted).flatMap(([name, counts]) =>
      counts.includes(told[name]!) ? [] : [`${name}: ${told[name]} contexts`],
    );
  },
);
cases.push(...lonely);

// ---- resumption and renegotiation: Node at both ends, a relay between

interface Relayed extends Facts {
  readonly text: string;
  readonly came: readonly string[];
  readonly went: readonly string[];
  readonly resumed: boolean;
}

const alerts = (link: Link, sender: 'client' | 'server'): string[] =>
  link.passed[sender].flatMap((one) =>
    one.kind === 'alert' && one.protectedBy === 'traffic' && one.description !== 90
      ? [`${one.level}/${one.description}`]
      : [],
  );

const RELAYED = [
  { row: 'close_notify', ending: 'close_notify' },
  { row: 'close_notify cut off', ending: 'FIN' },
  { row: 'a fatal alert', ending: 'alert' },
] as const;

/** The peer says 'hello' and ends; the relay decides what of it arrives. */
async function finish(
  env: Env,
  ending: (typeof RELAYED)[number]['ending'],
  strict: 'client' | 'server',
  watch: Watch,
  other: tls.TLSSocket,
  link: Link,
): Promise<Omit<Relayed, 'resumed'>> {
  const peer = strict === 'client' ? 'server' : 'client';
  await turns(8);
  link.hold(peer);
  other.write('hello');
  await until(() => link.heldBack(peer) > 0);
  if (ending === 'close_notify') other.end();
  // The peer fails of it, and says so.
  else if (ending === 'alert') link.garble(strict);
  if (ending !== 'FIN') await until(() => link.ended(peer) || link.records(peer) > 1_000, 1_500);
  await turns(4);
  link.release(peer, true);
  const facts = await watch.over();
  await turns(4);
  void env;
  return { ...facts, text: watch.text, came: alerts(link, peer), went: alerts(link, strict) };
}

function judgeRelayed(facts: Omit<Relayed, 'resumed'>, ending: string): string[] {
  const { events, verdict, received, came, text, truncated } = facts;
  const wrong: string[] = [];
  const ended = events.includes('end');
  const failed = events.some((one) => one.startsWith('error '));
  const told = `${events.join(', ')}; ${verdict}; ${came} came`;
  if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
  if (text !== 'hello') wrong.push(`read ${text}`);
  if (ending === 'close_notify') {
    if (came.join() !== '1/0') wrong.push(told);
    if (!ended || failed || received === null || truncated.length > 0) wrong.push(told);
    if (facts.went.includes('1/0') && verdict !== 'secure') wrong.push(told);
  } else {
    if (ended || !failed || received !== null) wrong.push(told);
    if (verdict !== (ending === 'FIN' ? 'truncated' : 'alert')) wrong.push(told);
    if (came.join() !== (ending === 'FIN' ? '' : '2/20')) wrong.push(told);
  }
  return wrong;
}

for (const version of VERSIONS) {
  for (const face of ['tcp', 'register'] as const) {
    addRows(
      `${face}, ${version}: a session that is resumed`,
      RELAYED,
      async (env, { ending }): Promise<Relayed> => {
        const served: tls.TLSSocket[] = [];
        const server = tls.createServer({
          ...env.identity,
          ...{ minVersion: version, maxVersion: version, noDelay: true },
        });
        server.on('secureConnection', (socket) => {
          socket.on('error', () => socket.destroy());
          socket.resume();
          served.push(socket);
        });
        const { port } = await env.listen(server);
        const relay = await Relay.to(env, port);
        const connect = (session?: Buffer) => {
          const options = {
            ...{ port: relay.port, host: '127.0.0.1', rejectUnauthorized: false },
            ...(face === 'register' ? AS_REGISTERED : { servername: 'localhost' }),
            ...(session === undefined ? {} : { session }),
          };
          return face === 'register' ? tls.connect(options) : env.lib.secureSocket(options);
        };
        const first = connect();
        first.on('error', () => {}).resume();
        const [session] = (await once(first, 'session')) as [Buffer];
        first.destroy();
        const socket = connect(session);
        const watch = use(env, socket);
        await until(() => relay.links.length === 2);
        const link = relay.links[1]!;
        socket.on('keylog', (line) => link.addKeyLog(line));
        await once(socket, 'secureConnect');
        await until(() => served.length === 2);
        const resumed = socket.isSessionReused();
        return { ...(await finish(env, ending, 'client', watch, served[1]!, link)), resumed };
      },
      (facts, { ending }) => [
        ...judgeRelayed(facts, ending),
        ...(facts.resumed ? [] : ['the session was not resumed']),
      ],
    );
  }

  addRows(
    `strictServer, ${version}: a session that is resumed`,
    RELAYED,
    async (env, { ending }): Promise<Relayed> => {
      const served: Watch[] = [];
      const server = env.lib.strictServer(
        tls.createServer({
          ...env.identity,
          ...{ minVersion: version, maxVersion: version, noDelay: true },
        }),
      );
      server.on('secureConnection', (socket) => served.push(use(env, socket)));
      const { port } = await env.listen(server);
      const relay = await Relay.to(env, port);
      const options = { port: relay.port, host: '127.0.0.1', rejectUnauthorized: false };
      const first = tls.connect({ ...options, servername: 'localhost' });
      first.on('error', () => {}).resume();
      const [session] = (await once(first, 'session')) as [Buffer];
      first.destroy();
      const client = tls.connect({ ...options, servername: 'localhost', session });
      client.setNoDelay(true);
      client.on('error', () => client.destroy()).resume();
      env.defer(() => client.destroy());
      await until(() => relay.links.length === 2);
      const link = relay.links[1]!;
      client.on('keylog', (line) => link.addKeyLog(line));
      await once(client, 'secureConnect');
      const resumed = client.isSessionReused();
      await until(() => served.length === 2);
      return { ...(await finish(env, ending, 'server', served[1]!, client, link)), resumed };
    },
    (facts, { ending }) => [
      ...judgeRelayed(facts, ending),
      ...(facts.resumed ? [] : ['the session was not resumed']),
    ],
  );
}

// OpenSSL 3 lets only servers begin a renegotiation (RFC 5246 section 7.4.1.1, HelloRequest).
// Node takes more than three within ten minutes for an attack.
Object.assign(tls, { CLIENT_RENEG_LIMIT: 1_000 });
for (const strict of ['tcp', 'duplex', 'register', 'server'] as const) {
  for (const times of [1, 2]) {
    addRows(
      `${strict}, TLSv1.2: renegotiated ${times === 1 ? 'once' : 'twice'}`,
      RELAYED,
      async (env, { ending }): Promise<Omit<Relayed, 'resumed'>> => {
        const plain = tls.createServer({
          ...env.identity,
          ...{ maxVersion: 'TLSv1.2', noDelay: true, allowHalfOpen: true },
        });
        const isServerStrict = strict === 'server';
        const server = isServerStrict ? env.lib.strictServer(plain) : plain;
        const accepted = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
        const { port } = await env.listen(server);
        const relay = await Relay.to(env, port);
        const options = { port: relay.port, host: '127.0.0.1', rejectUnauthorized: false };
        const client = isServerStrict
          ? tls.connect(options)
          : strict === 'register'
            ? tls.connect({ ...options, ...AS_REGISTERED })
            : strict === 'duplex'
              ? env.duplexSocket(options)
              : env.lib.secureSocket(options);
        client.setNoDelay(true);
        const link = await relay.link();
        client.on('keylog', (line) => link.addKeyLog(line));
        if (isServerStrict) client.on('error', () => client.destroy());
        const watching = isServerStrict ? null : use(env, client);
        const [[served]] = await Promise.all([accepted, once(client, 'secureConnect')]);
        if (!isServerStrict) served.on('error', () => served.destroy()).resume();
        const watch = watching ?? use(env, served);
        if (isServerStrict) client.resume();
        env.defer(() => client.destroy());
        env.defer(() => served.destroy());
        for (let i = 0; i < times; i++) {
          const done = new Promise<Error | null>((resolve) => {
            served.renegotiate({ rejectUnauthorized: false }, resolve);
          });
          // HelloRequest goes out with what is written next.
          served.write('');
          const error = await done;
          if (error) throw error;
          await turns(4);
        }
        const other = isServerStrict ? client : served;
        return finish(env, ending, isServerStrict ? 'server' : 'client', watch, other, link);
      },
      (facts, { ending }) => judgeRelayed(facts, ending),
    );
  }
}

// ---- TLS within TLS

for (const version of VERSIONS) {
  addRows(
    `secureSocket on a TLS socket, ${version}`,
    ROWS,
    async (env, { play }): Promise<Told> => {
      const server = tls.createServer({ ...env.identity, allowHalfOpen: true, noDelay: true });
      const connected = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
      const at = await env.listen(server);
      const outer = tls.connect({ ...at, host: '127.0.0.1', rejectUnauthorized: false });
      outer.on('error', () => {});
      await once(outer, 'secureConnect');
      const socket = env.lib.secureSocket({ socket: outer, rejectUnauthorized: false });
      const watch = use(env, socket);
      const [wire] = await connected;
      wire.on('error', () => {});
      const peer = new CraftedPeer(wire, { role: 'server', version, identity: env.identity });
      env.defer(() => peer.destroy());
      await peer.ready;
      await turns(6);
      // Where it ends its transport, the outer TLS closes properly: that is nothing to the inner one.
      await play(peer);
      return over(peer, watch);
    },
    (facts, { truth }) => judge(facts, truth),
  );
}

// ---- other threads, other processes

/** A module beside the bundle: there `close-notify` is found by its own name. */
function moduleOf(name: string, text: string): URL {
  const url = new URL(`${name}-${process.pid}.mjs`, import.meta.url);
  writeFileSync(url, text);
  return url;
}

const WORKER = `
  import { subscribe } from 'node:diagnostics_channel';
  import { parentPort, workerData } from 'node:worker_threads';
  import { secureSocket, socketClosure } from 'close-notify';
  const told = new WeakMap();
  subscribe('close-notify.closure', ({ socket, closure }) => told.set(socket, closure.verdict));
  for (const port of workerData.ports) {
    const socket = secureSocket({ port, host: '127.0.0.1', rejectUnauthorized: false });
    const events = [];
    let text = '';
    socket.on('data', (chunk) => { text += chunk; });
    socket.on('end', () => events.push('end'));
    socket.on('error', (error) => events.push('error ' + error.code));
    socket.on('close', () => setImmediate(() => {
      const { verdict, received } = socketClosure(socket);
      events.push('told ' + told.get(socket));
      parentPort.postMessage({ port, events, text, verdict, received: received !== null });
    }));
  }
`;

/** What a thread or a process told of one socket. */
interface Heard {
  readonly port: number;
  readonly events: string[];
  readonly text: string;
  readonly verdict: string;
  readonly received: boolean;
}

function judgeHeard(heard: Heard | undefined, truth: Truth): string[] {
  if (heard === undefined) return ['nothing was told'];
  const { events, verdict, received, text } = heard;
  const told = `${events.join(', ')}; ${verdict}; ${text}`;
  const ended = events.includes('end');
  const fine =
    truth === 'close_notify'
      ? ended && received && verdict === 'secure'
      : !ended && !received && verdict === (truth === 'eof' ? 'truncated' : 'alert');
  return fine && text === 'hello' ? [] : [told];
}

add<Array<{ ending: string; version: string; where: string; heard?: Heard }>>(
  'worker threads, beside the main one and when it ends',
  async (env) => {
    const url = moduleOf('worker', WORKER);
    const all: Array<{ ending: string; version: string; where: string; heard?: Heard }> = [];
    const serve = async (ending: string, version: Version): Promise<number> => {
      const server = net.createServer({ allowHalfOpen: true }, async (wire) => {
        const peer = new CraftedPeer(wire, { role: 'server', version, identity: env.identity });
        env.defer(() => peer.destroy());
        await peer.ready.then(
          () => ENDINGS[ending]?.play(peer),
          // A thread that was ended.
          () => {},
        );
      });
      return (await env.listen(server)).port;
    };
    const round = async (where: string) => {
      const told: Array<{ ending: string; version: string; where: string; heard?: Heard }> = [];
      const ports = new Map<number, (typeof told)[number]>();
      for (const version of VERSIONS) {
        for (const ending of Object.keys(ENDINGS)) {
          const one = { ending, version, where };
          told.push(one);
          ports.set(await serve(ending, version), one);
        }
      }
      const worker = new Worker(url, { workerData: { ports: [...ports.keys()] } });
      let left = ports.size;
      worker.on('message', (heard: Heard) => {
        ports.get(heard.port)!.heard = heard;
        left--;
      });
      worker.on('error', (error) => {
        throw error;
      });
      await until(() => left === 0, 10_000);
      await worker.terminate();
      all.push(...told);
    };
    await Promise.all([round('thread 1'), round('thread 2')]);
    // One that ends with connections open.
    const open = await serve('nothing', 'TLSv1.3');
    const worker = new Worker(url, { workerData: { ports: [open] } });
    await once(worker, 'online');
    await turns(40);
    await worker.terminate();
    await round('thread 3');
    // The main one goes on.
    for (const [ending, { play }] of Object.entries(ENDINGS)) {
      let watch: Watch | null = null;
      const peer = await env.open({ face: 'tcp', version: 'TLSv1.3' }, (socket) => {
        watch = use(env, socket);
      });
      await peer.ready;
      await play(peer);
      const facts = await over(peer, watch as unknown as Watch);
      const heard = {
        ...{ port: 0, events: [...facts.events], text: facts.text },
        ...{ verdict: String(facts.verdict), received: facts.received !== null },
      };
      all.push({ ending, version: 'TLSv1.3', where: 'the main thread', heard });
    }
    return all;
  },
  (all) => [
    ...(all.length === 3 * 2 * ROWS.length + ROWS.length ? [] : [`${all.length} told`]),
    ...all.flatMap(({ ending, version, where, heard }) =>
      judgeHeard(heard, ENDINGS[ending]!.truth).map(
        (what) => `${where}, ${version}, ${ending}: ${what}`,
      ),
    ),
  ],
);

const PROGRAM = `
  import tls from 'node:tls';
  // Made before anything of close-notify was loaded.
  const secureContext = tls.createSecureContext();
  const { secureSocket, socketClosure } = await import('close-notify');
  const { subscribe } = await import('node:diagnostics_channel');
  const unwatched = [];
  subscribe('close-notify.unwatched', ({ reason }) => unwatched.push(reason));
  for (const port of process.argv.slice(2).map(Number)) {
    const socket = secureSocket({ port, host: '127.0.0.1', rejectUnauthorized: false, secureContext });
    const events = [];
    let text = '';
    socket.on('data', (chunk) => { text += chunk; });
    socket.on('end', () => events.push('end'));
    socket.on('error', (error) => events.push('error ' + error.code));
    await new Promise((closed) => socket.on('close', () => setImmediate(closed)));
    const { verdict, received } = socketClosure(socket);
    console.log(JSON.stringify({ port, events, text, verdict, received: received !== null, unwatched }));
  }
`;

add<Array<{ ending: string; heard: (Heard & { unwatched: string[] }) | null }>>(
  'a context that was made before the package was loaded',
  async (env) => {
    const url = moduleOf('program', PROGRAM);
    const ports: string[] = [];
    for (const ending of Object.keys(ENDINGS)) {
      const server = net.createServer({ allowHalfOpen: true }, async (wire) => {
        const peer = new CraftedPeer(wire, {
          ...{ role: 'server', version: 'TLSv1.3', identity: env.identity },
        });
        env.defer(() => peer.destroy());
        await peer.ready;
        await ENDINGS[ending]!.play(peer);
      });
      ports.push(String((await env.listen(server)).port));
    }
    const out = await new Promise<string>((resolve) => {
      execFile(
        process.execPath,
        [fileURLToPath(url), ...ports],
        { timeout: 20_000 },
        (_error, stdout) => resolve(stdout),
      );
    });
    const lines = out.trim().split('\n').filter(Boolean);
    return Object.keys(ENDINGS).map((ending, i) => ({
      ending,
      heard: lines[i] === undefined ? null : JSON.parse(lines[i]),
    }));
  },
  (all) =>
    all.flatMap(({ ending, heard }) => {
      if (heard === null) return [`${ending}: nothing was told`];
      const { truth } = ENDINGS[ending]!;
      // Where it cannot be watched, nothing is claimed, and that is said.
      if (heard.unwatched.length > 0) {
        const { events, received, verdict } = heard;
        const claims = events.includes('end') || received || verdict === 'secure';
        return claims ? [`${ending}: ${events}; ${verdict}; unwatched`] : [];
      }
      return judgeHeard(heard, truth).map((what) => `${ending}: ${what}`);
    }),
);
