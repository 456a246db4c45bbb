'use strict';
// argv[2] connections, one after the other in small groups: what is left of them, and of their memory.

const { once } = require('node:events');
const { close, client, listen, load, main, server, turn } = require('./lib.cjs');

const TOTAL = Number(process.argv[2]);
const AT_ONCE = 10;

async function collect(native) {
  for (let round = 0; round < 20; round++) {
    globalThis.gc();
    await turn();
    const { ssl, watches } = native.live();
    if (round > 2 && ssl === 0 && watches === 0) break;
  }
}

main(async () => {
  const native = load();
  native.watch(() => {});
  const listening = server();
  const peers = new Set();
  listening.on('secureConnection', (peer) => {
    // Some are never looked up, as those of a server that is not strict.
    if (peers.size % 2) native.find(peer.getFinished());
    peers.add(peer);
    peer.on('close', () => peers.delete(peer));
  });
  const port = await listen(listening);

  async function life(index) {
    const mark = native.mark();
    const socket = client(port);
    if (index % 3 === 0) native.since(mark);
    const closed = close(socket);
    await once(socket, 'secureConnect');
    if (index % 5) native.find(socket.getFinished()).alerts();
    if (index % 7) socket.end();
    else socket.destroy();
    await closed;
  }

  const resident = [];
  for (let done = 0; done < TOTAL; done += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => life(done + index)));
    if ((done + AT_ONCE) % (TOTAL / 10) === 0) {
      while (peers.size > 0) await turn();
      await collect(native);
      resident.push(process.memoryUsage().rss);
    }
  }
  listening.close();
  await collect(native);
  return { live: native.live(), resident };
});
