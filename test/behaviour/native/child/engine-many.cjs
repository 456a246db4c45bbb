'use strict';
// argv[2] connections of the native engine, one after the other in small groups, ended in every way: what is left of
// them, and of their memory.

const { cert, key, main, only, turn, until } = require('./lib.cjs');
const { End, contextOf, left, sockets } = require('./engine-lib.cjs');

const TOTAL = Number(process.argv[2]);
const AT_ONCE = 10;

const contexts = ['TLSv1.2', 'TLSv1.3'].map((version) => [
  contextOf(only(version)),
  contextOf({ key, cert, ...only(version) }),
]);

async function life(index) {
  const [ofClient, ofServer] = contexts[index % 2];
  const [near, far] = await sockets();
  const fed = index % 5 === 0;
  const client = new End(false, { bytes: index % 3 === 0, tickets: true }, '', ofClient);
  const server = new End(true, { records: index % 3 === 1, secrets: true }, '', ofServer);
  server.open(far);
  if (fed) {
    const flush = () => {
      for (const bytes of client.output.splice(0)) near.write(bytes);
    };
    near.on('data', (bytes) => {
      client.feed(bytes);
      flush();
    });
    client.start();
    flush();
    near.resume();
  } else {
    client.open(near);
    client.start();
  }
  server.start();
  await until(() => client.has('secure') && server.has('secure'));
  client.connection.info();
  client.connection.chain();
  server.write('x'.repeat(index % 50_000));
  await until(() => client.text.length === index % 50_000);
  // Each in its way: closed, cut, broken, or nothing at all.
  if (index % 4 === 0) {
    client.closeWrite();
    for (const bytes of client.output.splice(0)) near.write(bytes);
    await until(() => server.has('alert'));
  } else if (index % 4 === 1) {
    // The duplicate alone would keep the connection open.
    client.connection.close();
    near.destroy();
    await until(() => server.has('eof') || server.has('receive-error'));
  } else if (index % 4 === 2) {
    server.feed(Buffer.alloc(100, 'x'));
  }
  client.connection.destroy();
  server.connection.destroy();
  near.destroy();
  far.destroy();
}

main(async () => {
  const resident = [];
  for (let done = 0; done < TOTAL; done += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => life(done + index)));
    if ((done + AT_ONCE) % (TOTAL / 10) === 0) {
      for (let round = 0; round < 5; round++) {
        globalThis.gc();
        await turn();
      }
      resident.push(process.memoryUsage().rss);
    }
  }
  contexts.length = 0;
  return { left: await left(), resident };
});
