// @ts-check
/**
 * What load.cpp does, in plain node:tls, for machines without a compiler: the same for all that are
 * measured, but slower, so that it may be the slower end, and with small messages that share records.
 * See there for what it understands.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';
import tls from 'node:tls';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    cert: { type: 'string', default: '' },
    key: { type: 'string', default: '' },
    tls: { type: 'string', default: '1.3' },
    cipher: { type: 'string', default: '' },
  },
});
const version = values.tls === '1.2' ? 'TLSv1.2' : 'TLSv1.3';
const protocol = {
  minVersion: /** @type {tls.SecureVersion} */ (version),
  maxVersion: /** @type {tls.SecureVersion} */ (version),
  ciphers: values.cipher,
};

const REQUEST = 64;
/** Bytes that are written before the next look at whether the socket wants more. */
const GATHERED = 256 * 1024;

/** Exact amounts, out of a socket that is never read faster than it is asked. */
class Reader {
  /** @param {net.Socket} socket */
  constructor(socket) {
    this.socket = socket;
  }

  /** @param {number} wanted @returns {Promise<Buffer | null>} up to so many; null at the end */
  async some(wanted) {
    for (;;) {
      const { readableLength } = this.socket;
      const chunk = this.socket.read(Math.min(wanted, Math.max(readableLength, 1)));
      if (chunk !== null) return chunk;
      if (this.socket.readableEnded || this.socket.destroyed) return null;
      await new Promise((resolve) => {
        const go = () => {
          for (const name of ['readable', 'end', 'close']) this.socket.off(name, go);
          resolve(undefined);
        };
        for (const name of ['readable', 'end', 'close']) this.socket.on(name, go);
      });
    }
  }

  /** @param {number} size @returns {Promise<Buffer | null>} */
  async all(size) {
    const parts = [];
    for (let left = size; left > 0; ) {
      const part = await this.some(left);
      if (part === null) return null;
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** @param {number} bytes */
  async skip(bytes) {
    for (let left = bytes; left > 0; ) {
      const part = await this.some(left);
      if (part === null) throw new Error('closed early');
      left -= part.length;
    }
  }
}

/** @param {net.Socket} socket @param {number} total @param {number} size */
async function source(socket, total, size) {
  const message = Buffer.alloc(size, 'x');
  for (let left = total; left > 0; ) {
    let more = true;
    for (let given = 0; left > 0 && given < GATHERED; given += size) {
      more = socket.write(left < size ? message.subarray(0, left) : message);
      left -= size;
    }
    if (!more && !socket.destroyed)
      await Promise.race([once(socket, 'drain'), once(socket, 'close')]);
    if (socket.destroyed) throw new Error('gone');
  }
}

/** @param {Reader} reader @param {string} first */
async function http(reader, first) {
  let head = first;
  while (!head.includes('\r\n\r\n')) {
    const more = await reader.some(4096);
    if (more === null) throw new Error('closed early');
    head += more.toString('latin1');
  }
  const length = Number(/\d+/.exec(head)?.[0] ?? 0);
  const { socket } = reader;
  const lines = ['HTTP/1.1 200 OK', 'Content-Type: text/plain', `Content-Length: ${length}`];
  const start = `${lines.join('\r\n')}\r\n\r\n`;
  if (length <= 8192) {
    socket.write(start + 'x'.repeat(length));
    return;
  }
  socket.write(start);
  await source(socket, length, 64 * 1024);
}

/** @param {net.Socket} socket */
async function serve(socket) {
  socket.setNoDelay(true);
  const reader = new Reader(socket);
  for (;;) {
    const head = await reader.all(REQUEST);
    if (head === null) break;
    const text = head.toString('latin1');
    const [name, first, second] = text.trim().split(' ');
    const [total, size] = [Number(first), Number(second)];
    if (name === 'source') await source(socket, total, size);
    else if (name === 'sink') {
      await reader.skip(total);
      socket.write('k');
    } else if (name === 'both') {
      await Promise.all([source(socket, total, size), reader.skip(total)]);
      socket.write('k');
    } else if (name === 'echo') {
      for (let left = total; left > 0; left--) {
        const message = await reader.all(size);
        if (message === null) throw new Error('closed early');
        socket.write(message);
      }
    } else if (name === 'mute') {
      await new Promise((resolve) => socket.once('close', resolve));
    } else if (name === 'GET') {
      await http(reader, text);
    } else {
      throw new Error('unknown request');
    }
  }
  socket.end();
}

/** @param {net.Socket} socket */
function onConnection(socket) {
  // The measured process notices by itself.
  socket.on('error', () => {});
  serve(socket).catch(() => socket.destroy());
}

const secure = tls.createServer(
  {
    key: readFileSync(values.key),
    cert: readFileSync(values.cert),
    ...protocol,
    allowHalfOpen: true,
  },
  onConnection,
);
const plain = net.createServer({ allowHalfOpen: true }, onConnection);
for (const server of [secure, plain]) {
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
}
/** @param {net.Server} server */
const portOf = (server) => /** @type {net.AddressInfo} */ (server.address()).port;

/** @param {unknown} value */
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
print({ tls: portOf(secure), tcp: portOf(plain) });

// ---- as a client

const secureContext = tls.createSecureContext(protocol);
/** @type {tls.TLSSocket[]} */
let held = [];

/** @param {number} port @param {Buffer} [session] */
async function open(port, session) {
  const socket = tls.connect({
    ...{ host: '127.0.0.1', port, secureContext, rejectUnauthorized: false },
    ...{ minVersion: protocol.minVersion, maxVersion: protocol.maxVersion },
    ...(session === undefined ? {} : { session }),
  });
  await once(socket, 'secureConnect');
  return socket;
}

/** @param {number} port @param {Buffer} [session] @returns {Promise<Buffer | undefined>} */
async function live(port, session) {
  const socket = await open(port, session);
  if (session !== undefined && !socket.isSessionReused()) throw new Error('not resumed');
  /** @type {Buffer | undefined} */
  let last = socket.getSession();
  socket.on('session', (given) => {
    last = given;
  });
  socket.resume();
  socket.end();
  if (!socket.closed) await once(socket, 'close');
  return last;
}

for await (const line of createInterface(process.stdin)) {
  const [name, ...numbers] = line.split(' ');
  const [port = 0, count = 0, concurrency = 1, resume = 0] = numbers.map(Number);
  const start = performance.now();
  if (name === 'hold') {
    for (let i = 0; i < count; i++) held.push((await open(port)).on('error', () => {}));
  } else if (name === 'release') {
    for (const socket of held) socket.destroy();
    held = [];
  } else if (name === 'lives') {
    const session = resume ? await live(port) : undefined;
    let left = count;
    const loop = async () => {
      while (left-- > 0) await live(port, session);
    };
    await Promise.all(Array.from({ length: concurrency }, loop));
  }
  print({ done: count, wall: (performance.now() - start) / 1e3 });
}
process.exit(0);
