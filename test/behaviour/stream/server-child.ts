/**
 * The process whose server must survive. Nobody catches anything here but the two handlers below, which count what
 * would have ended the process. It tells what it found as one line of JSON.
 *
 *     node --import tsx test/behaviour/stream/server-child.ts lives|bugs
 */
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import net from 'node:net';
import { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  connect,
  createServer,
  type OnStream,
  type ServerErrorMessage,
  type ServerOptions,
  type TlsServer,
  type TlsStream,
} from '../../../src/index.ts';
import { selfSigned } from '../../../src/testing/index.ts';
import { until } from '../../support/core-scope.ts';
import { only, VERSIONS, type Version } from '../../support/core-streams.ts';
import { reset } from '../../support/splice.ts';

/** What became of one server. */
export interface Outcome {
  readonly name: string;
  /** What the channel was told: codes, or the message of an error without one. */
  readonly told: readonly string[];
  /** What `onError` was told, where there was one. */
  readonly heard: readonly string[];
  /** What would have ended the process. */
  readonly uncaught: readonly string[];
  /** Connections, streams and handshakes that the server still counts. */
  readonly open: number;
  /** Whether the next client is served. */
  readonly serves: boolean;
}

let uncaught: string[] = [];
let told: string[] = [];
const inWords = (error: unknown) =>
  String((error as { code?: unknown })?.code ?? (error as Error)?.message);
process.on('uncaughtException', (error, origin) => uncaught.push(`${origin}: ${inWords(error)}`));
process.on('unhandledRejection', (reason) =>
  uncaught.push(`unhandledRejection: ${inWords(reason)}`),
);
subscribe('close-notify.server-error', (message) => {
  told.push(inWords((message as ServerErrorMessage).error));
});

const credentials = selfSigned();
const trusting = { host: '127.0.0.1', servername: 'localhost', ca: credentials.ca } as const;
const FOR_EVER = { deadline: Number.POSITIVE_INFINITY };
const patient = { read: Number.POSITIVE_INFINITY, shutdown: Number.POSITIVE_INFINITY };

const echo: OnStream = async (stream) => {
  for await (const bytes of stream) await stream.write(bytes);
  await stream.close();
};

/** One server, and the client that will be killed. */
interface Scene {
  readonly version: Version;
  readonly server: TlsServer;
  readonly port: number;
  /** The server's sides of the connection. */
  stream: TlsStream | null;
  transport: net.Socket | null;
  /** The program on the server says that it has got where the client is to be killed. */
  there: boolean;
}

interface Life {
  readonly name: string;
  /** The program. @param scene where it says how far it is. */
  readonly onStream: (scene: Scene, ...args: Parameters<OnStream>) => unknown;
  /** Goes as far as the client lives. @returns what is killed then. */
  readonly client: (scene: Scene) => Promise<net.Socket>;
}

async function transportTo({ port }: Scene): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** A client that is established, answers no close_notify, and does nothing by itself. */
async function established(scene: Scene): Promise<{ socket: net.Socket; client: TlsStream }> {
  const socket = await transportTo(scene);
  const client = await connect({
    transport: socket,
    host: 'localhost',
    ca: credentials.ca,
    answer: 'when-told',
    ...only(scene.version),
  });
  return { socket, client };
}

/** The first bytes of a handshake. */
async function clientHello(version: Version): Promise<Uint8Array> {
  const { promise, resolve } = deferred<Uint8Array>();
  const transport = new Duplex({
    read() {},
    write(chunk: Uint8Array, _encoding, done) {
      resolve(chunk);
      done();
    },
  });
  transport.on('error', () => {});
  connect({ transport, ...only(version) }).catch(() => {});
  const hello = await promise;
  transport.destroy();
  return hello;
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}

function deferred<T>() {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

const thatIsThere = async (scene: Scene): Promise<net.Socket> => {
  const { socket } = await established(scene);
  await until('the program is there', () => scene.there);
  return socket;
};

const LIVES: readonly Life[] = [
  {
    name: 'before its ClientHello',
    onStream: () => {},
    async client(scene) {
      const socket = await transportTo(scene);
      await until('it is accepted', () => scene.server.pending === 1);
      return socket;
    },
  },
  {
    name: 'inside its ClientHello',
    onStream: () => {},
    async client(scene) {
      const socket = await transportTo(scene);
      socket.write((await clientHello(scene.version)).subarray(0, 50));
      await until('it has come', () => scene.transport?.bytesRead === 50);
      return socket;
    },
  },
  {
    name: 'when the server has answered its ClientHello',
    onStream: () => {},
    async client(scene) {
      const socket = await transportTo(scene);
      socket.write(await clientHello(scene.version));
      await once(socket, 'data');
      return socket;
    },
  },
  {
    name: 'between handshake and data',
    onStream: async (scene, stream) => {
      const read = stream.read();
      scene.there = true;
      await read;
    },
    client: thatIsThere,
  },
  {
    name: 'while it sends',
    onStream: async (scene, stream) => {
      for await (const _ of stream) scene.there = true;
    },
    async client(scene) {
      const { socket, client } = await established(scene);
      await client.write('hello');
      await until('the program is there', () => scene.there);
      return socket;
    },
  },
  {
    name: 'inside a record',
    onStream: async (_scene, stream) => {
      for await (const _ of stream);
    },
    async client(scene) {
      const { socket } = await established(scene);
      await until('there is a stream', () => scene.stream !== null);
      const before = scene.transport?.bytesRead as number;
      socket.write(Uint8Array.of(23, 3, 3, 16, 0, 1, 2, 3));
      await until('it has come', () => (scene.transport?.bytesRead as number) >= before + 8);
      return socket;
    },
  },
  {
    name: 'with a record that does not authenticate',
    onStream: async (_scene, stream) => {
      for await (const _ of stream);
    },
    async client(scene) {
      const { socket } = await established(scene);
      await until('there is a stream', () => scene.stream !== null);
      socket.write(Buffer.concat([Uint8Array.of(23, 3, 3, 0, 40), Buffer.alloc(40)]));
      await until('it is refused', () => scene.stream?.closure.verdict === 'alert');
      return socket;
    },
  },
  {
    name: 'while the server writes, and waits for it',
    onStream: async (scene, stream) => {
      for (;;) {
        let waits = true;
        const writing = stream.write(Buffer.alloc(65_536)).finally(() => {
          waits = false;
        });
        await Promise.race([writing, turns(20)]);
        scene.there = waits;
        await writing;
      }
    },
    async client(scene) {
      const { socket } = await established(scene);
      socket.pause();
      await until('the program is there', () => scene.there);
      return socket;
    },
  },
  {
    name: 'while the server waits in shutdown',
    onStream: async (_scene, stream) => {
      await stream.shutdown();
    },
    async client(scene) {
      const { socket } = await established(scene);
      await until('close_notify went', () => (scene.stream?.closure.sent ?? null) !== null);
      return socket;
    },
  },
  {
    name: 'while the server closes',
    onStream: async (_scene, stream) => {
      await stream.close();
    },
    async client(scene) {
      const { socket } = await established(scene);
      await until('close_notify went', () => (scene.stream?.closure.sent ?? null) !== null);
      return socket;
    },
  },
  {
    name: 'between shutdown and unwrap',
    onStream: async (scene, stream, transport) => {
      await stream.shutdown();
      scene.there = true;
      await new Promise((resolve) => transport.once('end', resolve).once('close', resolve));
      (await stream.unwrap()).transport.destroy();
    },
    async client(scene) {
      const { socket, client } = await established(scene);
      await client.shutdown();
      await until('the program is there', () => scene.there);
      return socket;
    },
  },
  {
    name: 'behind unwrap, where the program listens',
    onStream: async (scene, stream) => {
      await stream.shutdown();
      const { transport } = await stream.unwrap();
      const ended = once(transport.resume(), 'end');
      scene.there = true;
      await ended;
      transport.destroy();
    },
    async client(scene) {
      const { socket, client } = await established(scene);
      await client.shutdown();
      await until('the program is there', () => scene.there);
      return socket;
    },
  },
  {
    name: 'behind unwrap, where nobody listens',
    onStream: async (scene, stream) => {
      await stream.shutdown();
      const { transport } = await stream.unwrap();
      transport.on('end', () => transport.end()).resume();
      scene.there = true;
    },
    async client(scene) {
      const { socket, client } = await established(scene);
      await client.shutdown();
      await until('the program is there', () => scene.there);
      return socket;
    },
  },
  {
    name: 'in a pipe of Duplexes',
    onStream: async (scene, stream) => {
      const duplex = stream.toDuplex();
      const piped = pipeline(duplex, duplex);
      scene.there = true;
      await piped;
    },
    client: thatIsThere,
  },
  {
    name: 'before the program writes to its Duplex',
    onStream: async (scene, stream) => {
      const duplex = stream.toDuplex().on('error', () => {});
      const closed = new Promise((resolve) => duplex.once('close', resolve));
      duplex.resume();
      scene.there = true;
      await closed;
      await new Promise<void>((resolve, reject) => {
        duplex.write('hello', (error) => (error ? reject(error) : resolve()));
      });
    },
    client: thatIsThere,
  },
  {
    name: 'in a pipe of web streams',
    onStream: async (scene, stream) => {
      const piped = stream.readable.pipeTo(stream.writable);
      scene.there = true;
      await piped;
    },
    client: thatIsThere,
  },
  {
    name: 'when the program has told of it in words of its own',
    onStream: async (scene, stream) => {
      try {
        const read = stream.read();
        scene.there = true;
        await read;
      } catch (cause) {
        throw new AggregateError([new Error('it failed', { cause })], 'none was served');
      }
    },
    client: thatIsThere,
  },
  {
    name: 'while the server drains',
    onStream: async (scene, stream, _transport, { signal }) => {
      await Promise.all([once(signal, 'abort'), void scene.server.close()]);
      const shutdown = stream.shutdown();
      scene.there = true;
      await shutdown;
    },
    client: thatIsThere,
  },
];

/** How the client goes. Its kernel sends a reset for a FIN, too, where the client has left something unread. */
const KILLS = { FIN: (socket: net.Socket) => socket.destroy(), RST: reset } as const;

/** A server that plays one life, and then serves another client. */
async function live(life: Life, version: Version, how: keyof typeof KILLS) {
  [told, uncaught] = [[], []];
  let serving: Scene | null = null;
  const server = createServer(
    {
      ...credentials,
      ...only(version),
      deadlines: patient,
      record: (transport) => {
        if (serving !== null) serving.transport = transport;
        return undefined;
      },
    },
    async (stream, ...rest) => {
      if (serving === null) await echo(stream, ...rest);
      else {
        serving.stream = stream;
        await life.onStream(serving, stream, ...rest);
      }
    },
  );
  const { port } = await server.listen(0, '127.0.0.1');
  const scene: Scene = { version, server, port, stream: null, transport: null, there: false };
  serving = scene;
  KILLS[how](await life.client(scene));
  return await judge(`${version}, ${how}: ${life.name}`, server, () => {
    serving = null;
  });
}

/** Waits until nothing is left of the connection; then the server has one more client. */
async function judge(name: string, server: TlsServer, then: () => void, heard: string[] = []) {
  const left = () => server.connections + server.streams.size + server.pending;
  await until(`nothing is left: ${name}`, () => left() === 0).catch(() => {});
  const open = left();
  then();
  let serves = true;
  if (server.address() === null) await server.listen(0, '127.0.0.1');
  try {
    const { port } = server;
    const stream = await connect({ ...trusting, port });
    await stream.write('hello');
    serves = String(await stream.read(FOR_EVER)) === 'hello';
    await stream.close();
  } catch {
    serves = false;
  }
  await server.close({ deadline: 0 });
  return { name, told, heard, uncaught, open, serves } satisfies Outcome;
}

interface Bug {
  readonly name: string;
  readonly onStream?: OnStream;
  readonly options?: (heard: string[]) => Partial<ServerOptions>;
}

class Oops extends Error {
  override readonly message = 'oops';
}

const BUGS: readonly Bug[] = [
  {
    name: 'onStream throws',
    onStream: () => {
      throw new Oops();
    },
  },
  { name: 'onStream rejects', onStream: () => Promise.reject(new Oops()) },
  {
    name: 'onStream rejects, and its stream has failed',
    onStream: async (stream) => {
      stream.abort();
      await stream.read().catch(() => {});
      throw new Oops();
    },
  },
  {
    name: 'a call at the wrong time',
    onStream: async (stream) => {
      await Promise.all([stream.read(), stream.read()]);
    },
  },
  { name: 'a call that cannot be answered', onStream: (stream) => stream.unwrap() },
  { name: 'a write of what is no bytes', onStream: (stream) => stream.write(7 as never) },
  {
    name: 'what another connection failed with',
    onStream: async () => {
      const other = net.createServer();
      await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
      const { port } = other.address() as net.AddressInfo;
      other.close();
      // Nobody listens there any more.
      await connect({ host: '127.0.0.1', port });
    },
  },
  {
    name: 'what another stream failed with',
    onStream: async () => {
      const other = createServer({ ...credentials }, (stream) => stream.abort());
      const { port } = await other.listen(0, '127.0.0.1');
      const stream = await connect({ ...trusting, port });
      void other.close();
      try {
        await stream.read();
      } finally {
        stream.abort();
      }
    },
  },
  {
    name: 'a bug within using, whose stream has failed as well',
    onStream: async (stream) => {
      const failed = await stream.read({ deadline: 1 }).catch((error: unknown) => error);
      throw Object.assign(new Error('suppressed'), { error: failed, suppressed: new Oops() });
    },
  },
  {
    name: 'onError throws',
    onStream: () => {
      throw new Error('told');
    },
    options: (heard) => ({
      onError: (error) => {
        heard.push(inWords(error));
        throw new Oops();
      },
    }),
  },
  {
    name: 'onError rejects',
    onStream: async (stream) => {
      await stream.read({ deadline: 1 });
    },
    options: (heard) => ({
      onError: async (error) => {
        heard.push(inWords(error));
        throw new Oops();
      },
    }),
  },
  {
    name: 'record throws',
    options: () => ({
      record: () => {
        throw new Oops();
      },
    }),
  },
  {
    name: 'record throws, and onError is told',
    options: (heard) => ({
      record: () => {
        throw new Oops();
      },
      onError: (error) => heard.push(inWords(error)),
    }),
  },
  { name: 'record gives no observer', options: () => ({ record: () => 7 as never }) },
];

async function blunder({ name, onStream = echo, options }: Bug, version: Version) {
  [told, uncaught] = [[], []];
  const heard: string[] = [];
  let blundering = true;
  const { record, ...rest } = options?.(heard) ?? {};
  const server = createServer(
    {
      ...credentials,
      ...only(version),
      ...rest,
      record: (transport) =>
        blundering && typeof record === 'function' ? record(transport) : undefined,
    },
    (...args) => (blundering ? onStream(...args) : echo(...args)),
  );
  const { port } = await server.listen(0, '127.0.0.1');
  const client = await connect({ ...trusting, port }).catch(() => null);
  await until('it is told', () => uncaught.length + heard.length > 0).catch(() => {});
  const outcome = await judge(
    `${version}: ${name}`,
    server,
    () => {
      blundering = false;
    },
    heard,
  );
  client?.abort();
  return outcome;
}

const outcomes: Outcome[] = [];
for (const version of VERSIONS) {
  if (process.argv[2] === 'lives') {
    for (const life of LIVES) {
      for (const how of ['FIN', 'RST'] as const) {
        outcomes.push(await live(life, version, how));
      }
    }
  } else {
    for (const bug of BUGS) outcomes.push(await blunder(bug, version));
  }
}
process.stdout.write(JSON.stringify(outcomes));
