'use strict';
// How a watch is found: each connection has its own, and it is the right one.

const assert = require('node:assert');
const { once } = require('node:events');
const http2 = require('node:http2');
const tls = require('node:tls');

// All of this is older than the add-on.
const { VERSIONS, cert, client, close, key, listen, load, main, only, server, settle, words } =
  require('./lib.cjs');
const oldServerContext = tls.createSecureContext({ key, cert });
const oldClientContext = tls.createSecureContext({ ca: cert });
const oldServer = server();

/** A connection to a server; both sides are found once, and closed by the client. */
async function joined(native, listening, options) {
  const accepted = once(listening, 'secureConnection');
  const mark = native.mark();
  const socket = client(listening.address().port, { servername: 'localhost', ...options });
  const bracket = native.since(mark);
  let session = null;
  socket.on('session', (ticket) => {
    session = ticket;
  });
  const [[peer]] = await Promise.all([accepted, once(socket, 'secureConnect')]);
  const finished = [socket.getFinished(), peer.getFinished()];
  const [watch, peerWatch] = finished.map((message) => native.find(message));
  assert.ok(watch !== null && peerWatch !== null && watch !== peerWatch);
  assert.deepEqual(
    finished.map((message) => native.find(message)),
    [null, null],
    'found once',
  );
  assert.deepEqual(bracket, [watch], 'the bracket has the same object');
  const [reused, version] = [socket.isSessionReused(), socket.getProtocol()];
  await settle({ socket, peer });
  const all = Promise.all([close(socket), close(peer)]);
  socket.end();
  await all;
  return { fact: [version, reused, words(watch), words(peerWatch)].join(', '), session };
}

main(async () => {
  await listen(oldServer);
  const native = load();
  native.watch(() => {});
  const facts = {};
  for (const version of VERSIONS) {
    const is = only(version);
    const fact = async (name, listening, options) => {
      const { fact, session } = await joined(native, listening, options);
      facts[`${version}: ${name}`] = fact;
      return session;
    };
    const plain = server(is);
    const sni = server(is);
    sni.addContext('a.test', oldServerContext);
    const late = server({
      ...is,
      SNICallback: (_name, done) => setImmediate(() => done(null, oldServerContext)),
    });
    for (const one of [plain, sni, late]) await listen(one);

    const session = await fact('a full handshake', plain);
    await fact('a resumed one', plain, { session });
    await fact("a client's context of before", plain, { secureContext: oldClientContext });
    await fact('a server of before', oldServer, is);
    await fact("addContext's, of before", sni, { servername: 'a.test' });
    await fact("SNICallback's, of before", late, { servername: 'a.test' });
    plain.setSecureContext({ key, cert, ...is });
    await fact('setSecureContext', plain);

    // All at once. The odd ones close, the even ones do not: so a mix-up would show.
    const port = plain.address().port;
    const sockets = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const socket = client(port);
        await once(socket, 'secureConnect');
        return socket;
      }),
    );
    const watches = sockets.map((socket) => native.find(socket.getFinished()));
    assert.equal(new Set(watches).size, 200);
    const all = Promise.all(sockets.map(close));
    for (const [index, socket] of sockets.entries()) index % 2 ? socket.end() : socket.destroy();
    await all;
    const right = watches.filter(
      (watch, index) => words(watch).startsWith('S1/0') === !!(index % 2),
    );
    facts[`${version}: of 200 at once`] = right.length;

    const h2 = http2.createSecureServer({ key, cert, ...is }, (_, response) => response.end('x'));
    h2.on('sessionError', () => {});
    const h2Port = await listen(h2);
    const accepted = once(h2, 'secureConnection');
    const session2 = http2.connect(`https://127.0.0.1:${h2Port}`, { rejectUnauthorized: false });
    const [[h2Peer]] = await Promise.all([accepted, once(session2, 'connect')]);
    const pair = [session2.socket, h2Peer].map((socket) => native.find(socket.getFinished()));
    const stream = session2.request({ ':path': '/' }).resume();
    await once(stream, 'end');
    const ended = [once(session2, 'close'), close(h2Peer)];
    session2.close();
    await Promise.all(ended);
    facts[`${version}: http2`] = pair.map(words).join(' | ');
    for (const one of [plain, sni, late, h2]) one.close();
  }
  oldServer.close();

  for (const found of ['before', 'behind']) {
    const listening = server(only('TLSv1.2'));
    const accepted = once(listening, 'secureConnection');
    const socket = client(await listen(listening));
    const [[peer]] = await Promise.all([accepted, once(socket, 'secureConnect')]);
    const first = Buffer.from(socket.getFinished());
    const before = found === 'before' ? native.find(first) : null;
    await new Promise((resolve, reject) => {
      socket.renegotiate({}, (error) => (error ? reject(error) : resolve()));
    });
    const last = socket.getFinished();
    assert.notDeepEqual(first, last);
    const behind = [native.find(first), native.find(last)];
    await settle({ socket, peer });
    const all = Promise.all([close(socket), close(peer)]);
    socket.end();
    await all;
    listening.close();
    facts[`renegotiated ${found} it was looked up`] = words(before ?? behind[1]);
    assert.deepEqual(behind.map(Boolean), [false, found === 'behind']);
  }
  return facts;
});
