'use strict';
// Threads that end with open connections of the native engine, in every way; argv[2] is what the main thread does.

const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { main, until } = require('./lib.cjs');

/** What a connection is doing when its thread ends. */
const DOINGS = {
  async polling(lib) {
    const ends = await lib.onSockets();
    for (const end of ends) end.start();
    await until(() => ends.every((end) => end.has('secure')));
  },
  async 'within a handshake'(lib) {
    const [client, server] = await lib.onSockets();
    server.start();
    client.connection.setReading(false);
  },
  async suspended(lib) {
    const [client, server] = await lib.onSockets({
      client: { servername: Buffer.from('a.example') },
      server: { wantsCertificate: true },
    });
    client.start();
    server.start();
    await until(() => server.has('want-certificate'));
  },
  async 'with output'(lib) {
    const [client, server] = await lib.onSockets();
    client.start();
    server.start();
    await until(() => client.has('secure') && server.has('secure'));
    client.connection.setReading(false);
    server.write(Buffer.alloc(1 << 24));
  },
  async 'opened and not begun'(lib) {
    await lib.onSockets();
  },
  async 'closed just now'(lib) {
    const ends = await lib.onSockets();
    for (const end of ends) end.start();
    await until(() => ends.every((end) => end.has('secure')));
    for (const end of ends) end.connection.close();
  },
  async fed(lib) {
    lib.pair();
    lib.pair({ begun: false });
  },
  /** Its function never returns, or ends the thread itself: as `end` says. */
  async 'within an event'(lib, end) {
    const [client, server] = await lib.onSockets();
    server.onFact = () => {
      parentPort.postMessage('within');
      if (end === 'process.exit') process.exit();
      for (;;);
    };
    client.start();
    server.start();
    return new Promise(() => {});
  },
  async 'within the choice of a protocol'(lib, end) {
    const alpn = Buffer.from('\x03one');
    const [client, server] = lib.pair({
      client: { alpn },
      server: { alpnCallback: true },
      begun: false,
    });
    server.connection.onAlpn = () => {
      parentPort.postMessage('within');
      if (end === 'process.exit') process.exit();
      for (;;);
    };
    lib.exchange(client, server);
  },
};

async function inWorker({ doing, end }) {
  const lib = require('./engine-lib.cjs');
  await DOINGS[doing](lib, end);
  parentPort.postMessage('there');
  if (end === 'process.exit') process.exit();
  if (end === 'throws') throw new Error('of the program');
}

async function ends(doing, end) {
  const worker = new Worker(__filename, { workerData: { doing, end } });
  const exit = new Promise((resolve) => worker.once('exit', resolve));
  // What it throws comes by another way than what it says, and may come first.
  worker.on('error', () => {});
  await Promise.race([exit, new Promise((resolve) => worker.once('message', resolve))]);
  if (end === 'terminate') await worker.terminate();
  await exit;
}

/** Whether this thread's connections go on. */
function converses(lib) {
  const [client, server] = lib.pair();
  client.write('here');
  lib.exchange(client, server);
  for (const { connection } of [client, server]) connection.destroy();
  return server.text === 'here';
}

async function inMain() {
  const lib = process.argv[2] === 'loads' ? require('./engine-lib.cjs') : null;
  let done = 0;
  for (const doing of Object.keys(DOINGS)) {
    // What never returns only these two can end.
    const ways =
      doing.startsWith('within ') && doing !== 'within a handshake'
        ? ['terminate', 'process.exit']
        : ['terminate', 'process.exit', 'throws'];
    await Promise.all(ways.map((end) => ends(doing, end)));
    done += ways.length;
    if (lib !== null && !converses(lib)) throw new Error(`behind ${doing}`);
  }
  return { done, left: await (lib ?? require('./engine-lib.cjs')).left() };
}

if (isMainThread) main(inMain);
else inWorker(workerData);
