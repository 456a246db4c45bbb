// What is given to a stream of the native engine as its transport, and what is done to it meanwhile: each case says what
// the stream has told, and a crash, or an exception that nobody catches, ends this process. argv[2]: native or fed.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { accept, connect } from '../../../../dist/index.js';

const key = readFileSync(join(process.env.NATIVE_PEM, 'key.pem'));
const cert = readFileSync(join(process.env.NATIVE_PEM, 'cert.pem'));
const deadlines = { handshake: 5000, shutdown: 5000 };
const ofServer = { key, cert, deadlines };
const ofClient = { host: 'localhost', rejectUnauthorized: false, deadlines };

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function until(holds) {
  while (!holds()) await turn();
}

/** Two sockets of one TCP connection. */
async function sockets() {
  // What is accepted is read by nobody before it is somebody's.
  const options = { allowHalfOpen: true, pauseOnConnect: true };
  const server = net.createServer(options).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = net.connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
  const [[far]] = await Promise.all([once(server, 'connection'), once(near, 'connect')]);
  server.close();
  for (const socket of [near, far]) socket.on('error', () => {});
  return [near, far];
}

/** What a promise came to: its error's code, or 'fine'. */
const outcome = (promise) =>
  promise.then(
    () => 'fine',
    (error) => error.code ?? String(error),
  );

async function streams() {
  const [near, far] = await sockets();
  const [client, server] = await Promise.all([
    connect({ transport: near, ...ofClient }),
    accept(far, ofServer),
  ]);
  return { near, far, client, server };
}

async function readAll(stream) {
  let text = '';
  for (let chunk = await stream.read(); chunk !== null; chunk = await stream.read()) text += chunk;
  return text;
}

/** A Duplex over a socket, with something of its own. */
const over = (socket, own) => {
  const duplex = new Duplex({
    read() {},
    write: (chunk, encoding, done) => socket.write(chunk, encoding, done),
    final: (done) => socket.end(done),
    ...own,
  });
  socket.on('data', (chunk) => duplex.destroyed || duplex.push(chunk));
  socket.on('end', () => duplex.destroyed || duplex.readableEnded || duplex.push(null));
  duplex.on('error', () => {});
  return duplex;
};

const cases = {
  async 'a socket that is destroyed'() {
    const [near, far] = await sockets();
    near.destroy();
    far.destroy();
    return [
      await outcome(connect({ transport: near, ...ofClient })),
      await outcome(accept(far, ofServer)),
    ];
  },

  /** The first piece fails; what is behind it is fed to nobody. */
  async 'a paused socket with pieces of garbage in its buffer'() {
    const [near, far] = await sockets();
    far.pause();
    for (let pieces = 1; pieces <= 3; pieces++) {
      near.write('x'.repeat(1000));
      far.read(0);
      await until(() => far.readableLength >= pieces * 1000);
    }
    const told = await outcome(accept(far, ofServer));
    near.destroy();
    return told;
  },

  async 'a paused socket with the handshake in its buffer'() {
    const [near, far] = await sockets();
    far.pause();
    const connected = connect({ transport: near, ...ofClient });
    far.read(0);
    await until(() => far.readableLength > 0);
    const server = await accept(far, ofServer);
    const client = await connected;
    await client.write('hello');
    const closed = client.shutdown();
    const text = await readAll(server);
    await server.shutdown();
    const { verdict } = await closed;
    client.abort();
    server.abort();
    return [text, verdict];
  },

  async 'the socket of a stream is destroyed by somebody else'() {
    const { near, far, client, server } = await streams();
    const reading = outcome(client.read());
    near.destroy();
    const told = [await reading, await outcome(server.read())];
    client.abort();
    server.abort();
    far.destroy();
    return told;
  },

  async 'its descriptor is closed by somebody else'() {
    const { near, client, server } = await streams();
    closeSync(near._handle.fd);
    // Nothing else may get that number before the socket closes it once more.
    await client.write('still');
    client.shutdown().catch(() => {});
    const read = await outcome(readAll(server));
    client.abort();
    server.abort();
    return read;
  },

  async 'somebody else reads and ends the socket, too'() {
    const { near, client, server } = await streams();
    near.on('data', () => {});
    near.resume();
    near.end();
    const told = await outcome(readAll(server));
    client.abort();
    server.abort();
    return told === 'fine' || told.startsWith('ERR_TLS') ? 'told' : told;
  },

  /** The peer is a process that got its socket from this one. */
  async 'the socket of another process'() {
    const [near, far] = await sockets();
    const child = fork(fileURLToPath(import.meta.url), ['child'], { env: process.env });
    await new Promise((resolve) => child.once('message', resolve));
    child.send('socket', far);
    const client = await connect({ transport: near, ...ofClient });
    const text = await readAll(client);
    await client.shutdown();
    const { verdict } = client.closure;
    client.abort();
    await once(child, 'exit');
    return [text, verdict];
  },

  async 'a Duplex that throws in write'() {
    const [near, far] = await sockets();
    const duplex = over(near);
    duplex.write = () => {
      throw new Error('of the transport');
    };
    const told = await outcome(connect({ transport: duplex, ...ofClient }));
    near.destroy();
    far.destroy();
    return told;
  },

  async 'a Duplex whose write fails late, and again'() {
    const [near, far] = await sockets();
    const server = outcome(accept(far, ofServer));
    let writes = 0;
    const duplex = over(near, {
      write: (chunk, encoding, done) => {
        if (++writes < 3) return near.write(chunk, encoding, done);
        setImmediate(() => {
          done(new Error('of the transport'));
          duplex.destroy(new Error('and again'));
        });
      },
    });
    const told = await outcome(
      connect({ transport: duplex, ...ofClient }).then(async (client) => {
        await client.write('first');
        await client.write('second');
        await client.shutdown();
      }),
    );
    near.destroy();
    far.destroy();
    await server;
    return told;
  },

  /** In memory, and at once: the answer to a write comes within it. */
  async 'a Duplex that gives bytes within write'() {
    const ends = [0, 1].map(
      (index) =>
        new Duplex({
          read() {},
          write(chunk, _encoding, done) {
            ends[1 - index].push(chunk);
            done();
          },
          final(done) {
            ends[1 - index].push(null);
            done();
          },
        }),
    );
    const [client, server] = await Promise.all([
      connect({ transport: ends[0], ...ofClient }),
      accept(ends[1], ofServer),
    ]);
    await client.write('x'.repeat(300_000));
    const closed = client.shutdown();
    const { length } = await readAll(server);
    await server.shutdown();
    await closed;
    const verdicts = [client.closure.verdict, server.closure.verdict];
    client.abort();
    server.abort();
    return [length, ...verdicts];
  },

  async 'a Duplex that ends twice, and errs behind it'() {
    const [near, far] = await sockets();
    const duplex = over(near);
    const [client, server] = await Promise.all([
      connect({ transport: duplex, ...ofClient }),
      accept(far, ofServer),
    ]);
    const reading = outcome(client.read());
    duplex.push(null);
    duplex.emit('end');
    duplex.emit('end');
    duplex.emit('error', new Error('late'));
    duplex.emit('close');
    duplex.emit('data', Buffer.from('later still'));
    const told = await reading;
    client.abort();
    server.abort();
    return told;
  },

  async 'a Duplex of objects and of text'() {
    const told = [];
    for (const what of [{ length: 5 }, 'text', 5]) {
      const duplex = new Duplex({
        objectMode: true,
        read() {},
        write: (_chunk, _encoding, done) => done(),
      });
      duplex.on('error', () => {});
      const connecting = outcome(connect({ transport: duplex, ...ofClient }));
      await turn();
      duplex.push(what);
      told.push(await connecting);
    }
    return told;
  },

  /** One that throws must not leave the descriptor's duplicate open. */
  async 'a socket whose methods throw'() {
    const [near, far] = await sockets();
    let told = 'nothing';
    near.pause = () => {
      throw new Error('of the transport');
    };
    try {
      told = await outcome(connect({ transport: near, ...ofClient }));
    } catch (error) {
      told = `thrown: ${error.message}`;
    }
    delete near.pause;
    near.destroy();
    // Its FIN or RST comes only when nobody has the descriptor any more.
    far.resume();
    await once(far, 'end').catch(() => {});
    far.destroy();
    return told;
  },

  /** Of two streams the slower one has bytes in the memory that the other one's reader gives away. */
  async 'the memory of bytes that were read is transferred'() {
    const one = await streams();
    const two = await streams();
    await one.server.write('one');
    await two.server.write('two');
    const first = await one.client.read();
    try {
      structuredClone(first.buffer, { transfer: [first.buffer] });
    } catch {
      // Node 20 copies what may not be transferred, later ones throw.
    }
    const told = `${await two.client.read()}`;
    for (const { client, server } of [one, two]) {
      client.abort();
      server.abort();
    }
    return [`${first}`, told];
  },
};

async function inChild() {
  process.send('there');
  const [, socket] = await once(process, 'message');
  socket.on('error', () => {});
  const server = await accept(socket, ofServer);
  await server.write('of another process');
  const closed = server.shutdown();
  await readAll(server);
  await closed;
  server.abort();
  process.disconnect();
}

async function main() {
  const facts = {};
  for (const [name, run] of Object.entries(cases)) {
    if (process.env.NATIVE_TRACE) console.error(name);
    facts[name] = await run();
    if (process.env.NATIVE_TRACE) console.error(JSON.stringify(facts[name]));
  }
  return facts;
}

process.exitCode = 1;
if (process.argv[2] === 'child') {
  await inChild();
  process.exitCode = 0;
} else {
  const facts = await main();
  console.log(JSON.stringify(facts));
  process.exitCode = 0;
}
