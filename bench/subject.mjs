// @ts-check
/**
 * The measured process: one task, done over one face, against the load (see load.cpp). It prints one
 * line of JSON, a `Sample`.
 *
 * Theory of operation. The faces differ only in the few lines that a user would write differently:
 *
 * - `stream`: this library, through `read()` and `write()`;
 * - `duplex`: this library, through `stream.toDuplex()`;
 * - `secure`: this library, through `secureSocket` or `strictServer`, which are Node's own, strict;
 * - `tls`: `node:tls` on its own socket, as Node sets it up by default;
 * - `tcp`: `node:net`, no TLS at all. A limit.
 *
 * All but `stream` run the very same code. Each task does some of its work first without a
 * clock, so that the just-in-time compiler's work is not in the figures. Wall time runs until the
 * load has said that it has everything; CPU time is that of the whole process, collector included.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import { parseArgs } from 'node:util';

/**
 * What one run measured.
 *
 * @typedef {object} Sample
 * @property {number} amount what was done: bytes, connections, calls
 * @property {number} wall seconds for all of it
 * @property {number} cpu seconds of CPU time, user and system, that this process took for it
 * @property {number} [value] the median of seconds for one, where each was timed
 * @property {Record<string, Sample>} [parts] of a task that consists of several
 * @property {Record<string, number>} [perConnection] bytes, by what was counted and how many there were
 */

const { values } = parseArgs({
  options: {
    task: { type: 'string' },
    face: { type: 'string' },
    port: { type: 'string' },
    tcp: { type: 'string' },
    ca: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    total: { type: 'string' },
    warm: { type: 'string' },
    size: { type: 'string' },
    connections: { type: 'string' },
    resume: { type: 'boolean' },
  },
});
const face = /** @type {'stream' | 'duplex' | 'secure' | 'tls' | 'timed' | 'tcp'} */ (values.face);
const total = Number(values.total ?? 0);
const warm = Number(values.warm ?? 0);
const size = Number(values.size ?? 0);
const connections = Number(values.connections ?? 1);
const host = '127.0.0.1';
const port = Number(face === 'tcp' ? values.tcp : values.port);
const ca = values.ca === undefined ? '' : readFileSync(values.ca, 'utf8');
const target = { host, port, ca };

/** @typedef {import('close-notify').TlsStream} TlsStream */

/** Milliseconds: what a TlsStream waits for data by default. */
const READ_DEADLINE = 300_000;

/** @param {string} name @param {...number} numbers */
const request = (name, ...numbers) => [name, ...numbers].join(' ').padEnd(64);

const turn = () => new Promise((resolve) => setImmediate(resolve));

// ---- a connection over each face

// Each loaded only where it is measured: not by the peer, and not before `register`.
const { connect, createServer, secureSocket, strictServer } =
  face === 'stream' || face === 'duplex' || face === 'secure'
    ? await import('close-notify')
    : { connect: never, createServer: never, secureSocket: never, strictServer: never };

/** @returns {never} */
function never() {
  throw new Error(`not a call of ${face}`);
}

// With a thousand connections at once on a busy machine, one of them may wait long for its turn.
const patient = { ...target, deadlines: { handshake: 60_000, shutdown: 60_000, close: 60_000 } };

/** @param {Buffer} [session] @returns {Promise<TlsStream>} */
const openStream = (session) => connect(session === undefined ? patient : { ...patient, session });

/** @param {Buffer} [session] @returns {Promise<net.Socket>} */
async function openSocket(session) {
  if (face === 'duplex') {
    // It has what is used of a net.Socket here.
    return /** @type {any} */ ((await openStream(session)).toDuplex());
  }
  if (face === 'tcp') {
    const socket = net.connect({ host, port });
    await once(socket, 'connect');
    return socket;
  }
  const options = session === undefined ? target : { ...target, session };
  const socket = face === 'secure' ? secureSocket(options) : tls.connect(options);
  if (face === 'timed') socket.setTimeout(READ_DEADLINE);
  await once(socket, 'secureConnect');
  return socket;
}

/**
 * One connection, and what can be done over it.
 *
 * @typedef {object} Worker
 * @property {(task: string, amount: number, message: Buffer) => Promise<void>} work
 * @property {() => Promise<unknown>} close
 */

/** @param {net.Socket} socket */
async function closeSocket(socket) {
  socket.resume();
  socket.end();
  if (!socket.closed) await once(socket, 'close');
}

/**
 * Calls back with what comes.
 *
 * @param {net.Socket} socket @param {number} wanted bytes to wait for
 */
const receiveOver = (socket, wanted) =>
  new Promise((resolve) => {
    let left = wanted;
    /** @param {Buffer} chunk */
    const onData = (chunk) => {
      left -= chunk.length;
      if (left > 0) return;
      socket.off('data', onData);
      resolve(undefined);
    };
    socket.on('data', onData);
  });

/** @param {net.Socket} socket @param {number} bytes @param {Buffer} message */
const sendOver = (socket, bytes, message) =>
  new Promise((resolve) => {
    let left = bytes;
    const pump = () => {
      while (left > 0) {
        left -= message.length;
        if (!socket.write(message)) {
          socket.once('drain', pump);
          return;
        }
      }
      resolve(undefined);
    };
    pump();
  });

/** @param {TlsStream} stream @param {number} bytes */
async function receiveFrom(stream, bytes) {
  for (let left = bytes; left > 0; ) {
    const chunk = await stream.read();
    if (chunk === null) throw new Error('the load closed early');
    left -= chunk.length;
  }
}

/** @param {TlsStream} stream @param {number} bytes @param {Buffer} message */
async function sendTo(stream, bytes, message) {
  for (let left = bytes; left > 0; left -= message.length) await stream.write(message);
}

/** @type {Record<string, (stream: TlsStream, amount: number, message: Buffer) => Promise<void>>} */
const STREAM_TASKS = {
  async receive(stream, bytes, message) {
    await stream.write(request('source', bytes, message.length));
    await receiveFrom(stream, bytes);
  },
  async send(stream, bytes, message) {
    await stream.write(request('sink', bytes));
    await sendTo(stream, bytes, message);
    await receiveFrom(stream, 1);
  },
  async both(stream, bytes, message) {
    await stream.write(request('both', bytes, message.length));
    await Promise.all([sendTo(stream, bytes, message), receiveFrom(stream, bytes + 1)]);
  },
  async echo(stream, count, message) {
    await stream.write(request('echo', count, message.length));
    for (let i = 0; i < count; i++) {
      await stream.write(message);
      await receiveFrom(stream, message.length);
    }
  },
};

/** @type {Record<string, (socket: net.Socket, amount: number, message: Buffer) => Promise<void>>} */
const SOCKET_TASKS = {
  async receive(socket, bytes, message) {
    socket.write(request('source', bytes, message.length));
    await receiveOver(socket, bytes);
  },
  async send(socket, bytes, message) {
    const answer = receiveOver(socket, 1);
    socket.write(request('sink', bytes));
    await sendOver(socket, bytes, message);
    await answer;
  },
  async both(socket, bytes, message) {
    const answer = receiveOver(socket, bytes + 1);
    socket.write(request('both', bytes, message.length));
    await sendOver(socket, bytes, message);
    await answer;
  },
  echo: (socket, count, message) =>
    new Promise((resolve) => {
      let left = count;
      let missing = message.length;
      socket.write(request('echo', count, message.length));
      /** @param {Buffer} chunk */
      const onData = (chunk) => {
        missing -= chunk.length;
        if (missing > 0) return;
        if (--left === 0) {
          socket.off('data', onData);
          resolve();
          return;
        }
        missing = message.length;
        socket.write(message);
      };
      socket.on('data', onData);
      socket.write(message);
    }),
};

/** @template T @param {Record<string, T>} tasks @param {string} name */
function pick(tasks, name) {
  const task = tasks[name];
  if (task === undefined) throw new Error(`no task ${name}`);
  return task;
}

/** @returns {Promise<Worker>} */
async function openWorker() {
  if (face === 'stream') {
    const stream = await openStream();
    return {
      work: (task, amount, message) => pick(STREAM_TASKS, task)(stream, amount, message),
      close: () => stream.close(),
    };
  }
  const socket = await openSocket();
  return {
    work: (task, amount, message) => pick(SOCKET_TASKS, task)(socket, amount, message),
    close: () => closeSocket(socket),
  };
}

/**
 * Measures `work`.
 *
 * @param {number} amount @param {() => Promise<unknown>} work @returns {Promise<Sample>}
 */
async function measure(amount, work) {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const wall = (performance.now() - start) / 1e3;
  const { user, system } = process.cpuUsage(cpu);
  return { amount, wall, cpu: (user + system) / 1e6 };
}

/**
 * Opens the connections, and measures one task after the other over them.
 *
 * @param {readonly { task: string, total: number, warm: number, size: number }[]} parts
 * @returns {Promise<Record<string, Sample>>}
 */
async function transfer(parts) {
  /** @type {Worker[]} */
  const workers = [];
  // Some at a time: the load's backlog of connections is not what is measured.
  while (workers.length < connections) {
    const some = Math.min(32, connections - workers.length);
    workers.push(...(await Promise.all(Array.from({ length: some }, openWorker))));
  }
  /** @type {Record<string, Sample>} */
  const samples = {};
  for (const { task, total, warm, size } of parts) {
    const message = Buffer.alloc(size, 'x');
    // Whole messages, so that no end waits for a byte that never comes.
    const unit = task === 'echo' ? 1 : size;
    const share = (/** @type {number} */ amount) =>
      Math.max(1, Math.round(amount / connections / unit)) * unit;
    const run = (/** @type {number} */ amount) =>
      Promise.all(workers.map((worker) => worker.work(task, share(amount), message)));
    await run(warm);
    samples[task] = await measure(share(total) * connections, () => run(total));
  }
  await Promise.all(workers.map((worker) => worker.close()));
  return samples;
}

/** One task. @param {string} task */
async function alone(task) {
  const { [task]: sample } = await transfer([{ task, total, warm, size }]);
  return /** @type {Sample} */ (sample);
}

/** Receives, sends and echoes over the same connections: opening a thousand takes longer than all. */
async function grow() {
  const samples = await transfer([
    { task: 'receive', total, warm, size },
    { task: 'send', total, warm, size },
    { task: 'echo', total: 16_000, warm: 32_000, size: 64 },
  ]);
  return { amount: 0, wall: 0, cpu: 0, parts: samples };
}

// ---- whole lives

/** @param {Buffer} [session] */
async function live(session) {
  if (face === 'stream') {
    const stream = await openStream(session);
    if (session !== undefined && !stream.tls.resumed) throw new Error('not resumed');
    await stream.close();
    return;
  }
  const socket = /** @type {tls.TLSSocket} */ (await openSocket(session));
  if (session !== undefined && !socket.isSessionReused()) throw new Error('not resumed');
  await closeSocket(socket);
}

/** A session to resume, from a connection of its own. */
async function getSession() {
  const socket = tls.connect(target);
  const [session] = await once(socket, 'session');
  // Not from within that event: what Node writes there is broken on the wire.
  await turn();
  await closeSocket(socket);
  return /** @type {Buffer} */ (session);
}

async function lives() {
  const session = values.resume ? await getSession() : undefined;
  const run = (/** @type {number} */ count) => {
    let left = count;
    const one = async () => {
      while (left-- > 0) await live(session);
    };
    return Promise.all(Array.from({ length: connections }, one));
  };
  await run(warm);
  return measure(total, () => run(total));
}

// ---- shutdown

/** Connections for `shutdown`, opened before the clock starts. @param {number} count */
const openStreams = (count) => Promise.all(Array.from({ length: count }, () => openStream()));

/** @param {number} count @returns {Promise<net.Socket[]>} */
const openSockets = (count) => Promise.all(Array.from({ length: count }, () => openSocket()));

/** @param {number[]} times */
function median(times) {
  times.sort((a, b) => a - b);
  return /** @type {number} */ (times[times.length >> 1]);
}

/**
 * From the call of shutdown() to its result, one connection after the other; for `node:tls` from
 * end() to what says the same there: 'end', which the peer's close_notify causes, or end's callback.
 *
 * @param {boolean} wait
 */
async function shutdownTime(wait) {
  /** @param {number} count */
  const run = async (count) => {
    /** @type {number[]} */
    const times = [];
    for (let i = 0; i < count; i++) {
      let start = 0;
      if (face === 'stream') {
        const stream = await openStream();
        // Session tickets come first; what is measured is the closure.
        await turn();
        start = performance.now();
        await stream.shutdown({ wait });
        times.push(performance.now() - start);
        await stream.close();
      } else {
        const socket = await openSocket();
        await turn();
        const closed = once(socket, 'close');
        socket.resume();
        start = performance.now();
        if (wait) {
          socket.end();
          await once(socket, 'end');
        } else {
          await new Promise((resolve) => socket.end(() => resolve(undefined)));
        }
        times.push(performance.now() - start);
        await closed;
      }
    }
    return times;
  };
  await run(warm);
  const cpu = process.cpuUsage();
  const times = await run(total);
  const { user, system } = process.cpuUsage(cpu);
  const value = median(times) / 1e3;
  return { amount: times.length, wall: value * times.length, cpu: (user + system) / 1e6, value };
}

/** Connections of one round of `closingCost`. */
const AT_ONCE = 300;

/**
 * The CPU time of one shutdown without waiting, or of one write of a byte, over many connections that
 * are open already: the median of several rounds. It counts until the event loop has had its turns to hand all to
 * the kernel.
 *
 * @param {'shutdown' | 'write'} what
 */
async function closingCost(what) {
  /** @type {(count: number) => Promise<Sample>} */
  const run = async (count) => {
    const byte = Buffer.from('x');
    /** @type {Array<() => Promise<unknown>>} */
    let calls;
    /** @type {Array<() => Promise<unknown>>} */
    let ends;
    if (face === 'stream') {
      const streams = await openStreams(count);
      await Promise.all(streams.map((stream) => stream.write(request('mute'))));
      calls = streams.map(
        (stream) => () =>
          what === 'write' ? stream.write(byte) : stream.shutdown({ wait: false }),
      );
      ends = streams.map((stream) => async () => stream.abort());
    } else {
      const sockets = await openSockets(count);
      for (const socket of sockets) socket.write(request('mute'));
      calls = sockets.map(
        (socket) => () =>
          new Promise((resolve) => {
            if (what === 'write') socket.write(byte, resolve);
            else socket.end(() => resolve(undefined));
          }),
      );
      ends = sockets.map((socket) => async () => socket.destroy());
    }
    // The tickets that follow the handshake. After `mute` the load is silent: its answer to a
    // close_notify is not part of the cost of sending one.
    await new Promise((resolve) => setTimeout(resolve, 100));
    const sample = await measure(count, async () => {
      await Promise.all(calls.map((call) => call()));
      for (let i = 0; i < 4; i++) await turn();
    });
    for (const end of ends) await end();
    return sample;
  };
  for (let left = warm; left > 0; left -= AT_ONCE) await run(AT_ONCE);
  /** @type {Sample[]} */
  const samples = [];
  for (let left = total; left > 0; left -= AT_ONCE) samples.push(await run(AT_ONCE));
  // A collection in one of them is more than all that is measured.
  samples.sort((a, b) => a.cpu - b.cpu);
  return /** @type {Sample} */ (samples[samples.length >> 1]);
}

// ---- as a server

/** The next line that the runner writes on our stdin. */
const lines = (async function* () {
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
      yield text.slice(0, at);
      text = text.slice(at + 1);
    }
  }
})();

/** A server that reads until the peer closes, then closes; resolves with its port. */
async function listen() {
  const identity = {
    key: readFileSync(/** @type {string} */ (values.key), 'utf8'),
    cert: readFileSync(/** @type {string} */ (values.cert), 'utf8'),
  };
  if (face === 'tls' || face === 'secure') {
    const server = tls.createServer(identity, (socket) => socket.on('error', ignore).resume());
    if (face === 'secure') strictServer(server);
    return listenOn(server);
  }
  const server = createServer({ ...identity, onError: ignore }, async (stream) => {
    if (face === 'duplex') {
      stream.toDuplex({ allowHalfOpen: false }).on('error', ignore).resume();
      return;
    }
    while ((await stream.read({ deadline: Number.POSITIVE_INFINITY })) !== null);
    await stream.close();
  });
  return (await server.listen(0, host)).port;
}

/** @param {net.Server} server @returns {Promise<number>} its port */
async function listenOn(server) {
  server.listen({ port: 0, host, backlog: 4096 });
  await once(server, 'listening');
  return /** @type {net.AddressInfo} */ (server.address()).port;
}

/** A connection that is cut off when the run is over is of no interest. */
function ignore() {}

/** Bytes in use, all garbage collected. */
function bytesInUse() {
  if (globalThis.gc === undefined) throw new Error('needs --expose-gc');
  for (let i = 0; i < 4; i++) globalThis.gc();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heap: heapUsed + external };
}

/**
 * The runner has the load open connections here in steps, and says each time how many there are. The
 * first ones only warm up and are not counted.
 */
async function idleMemory() {
  process.stdout.write(`${JSON.stringify({ listening: await listen() })}\n`);
  /** @type {{ count: number, rss: number, heap: number } | null} */
  let base = null;
  /** @type {Record<string, number>} */
  const perConnection = {};
  for await (const line of lines) {
    if (line === 'report') break;
    const count = Number(line);
    // They are idle once they have been so for a while.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const now = { count, ...bytesInUse() };
    if (base !== null) {
      const opened = count - base.count;
      perConnection[`rss ${opened}`] = (now.rss - base.rss) / opened;
      perConnection[`heap ${opened}`] = (now.heap - base.heap) / opened;
    }
    base ??= now;
    process.stdout.write(`${JSON.stringify({ counted: count })}\n`);
  }
  return { amount: 0, wall: 0, cpu: 0, perConnection };
}

/** The runner has the load live `warm`, then `total` lives with us, and says when each is done. */
async function serverLives() {
  process.stdout.write(`${JSON.stringify({ listening: await listen() })}\n`);
  await lines.next();
  return measure(total, async () => {
    process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
    await lines.next();
  });
}

// ---- https and fetch; the runner starts this process with or without `register`

async function httpsRequests() {
  const https = await import('node:https');
  /** @returns {Promise<void>} */
  const one = () =>
    new Promise((resolve, reject) => {
      const url = `https://${host}:${port}/64`;
      const sent = https.get(url, { headers: { 'user-agent': 'close-notify-bench' } }, (answer) => {
        answer.resume();
        answer.once('end', resolve);
        answer.once('error', reject);
      });
      sent.once('error', reject);
    });
  /** @param {number} count */
  const run = (count) => {
    let left = count;
    const loop = async () => {
      while (left-- > 0) await one();
    };
    return Promise.all(Array.from({ length: connections }, loop));
  };
  await run(warm);
  const sample = await measure(total, () => run(total));
  https.globalAgent.destroy();
  return sample;
}

async function fetchBody() {
  /** @param {number} bytes */
  const run = async (bytes) => {
    const { body } = await fetch(`https://${host}:${port}/${bytes}`);
    if (body === null) throw new Error('no body');
    let got = 0;
    for await (const chunk of body) got += chunk.length;
    if (got !== bytes) throw new Error(`${got} bytes of ${bytes}`);
  };
  await run(warm);
  return measure(total, () => run(total));
}

/** @type {Record<string, () => Promise<Sample>>} */
const TASKS = {
  receive: () => alone('receive'),
  send: () => alone('send'),
  both: () => alone('both'),
  echo: () => alone('echo'),
  grow,
  lives,
  'shutdown-wait': () => shutdownTime(true),
  'shutdown-no-wait': () => shutdownTime(false),
  'cost-of-shutdown': () => closingCost('shutdown'),
  'cost-of-write': () => closingCost('write'),
  'idle-memory': idleMemory,
  'server-lives': serverLives,
  'https-requests': httpsRequests,
  'fetch-body': fetchBody,
};

const sample = await pick(TASKS, values.task ?? '')();
process.stdout.write(`${JSON.stringify(sample)}\n`, () => process.exit(0));
