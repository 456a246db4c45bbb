'use strict';
// Which alerts the witness tells of, and where the bytes end: a named fact for each case.

const { Certificate } = require('node:crypto');
const { once } = require('node:events');
const net = require('node:net');
const { Duplex } = require('node:stream');
const tls = require('node:tls');
const {
  Relay,
  VERSIONS,
  alertsOf,
  cert,
  client,
  close,
  connection,
  crafted,
  factsOf,
  listen,
  load,
  main,
  only,
  server,
  settle,
  turn,
  until,
  words,
} = require('./lib.cjs');

const native = load();
const ignored = [];
native.watch((watch) => ignored.push(watch));

const both = ({ watch, peerWatch }) => [words(watch), words(peerWatch)];
const closed = ({ socket, peer }) => Promise.all([close(socket), close(peer)]);

const cases = {
  async 'the client closes'(version) {
    const pair = await connection(native, { server: only(version) });
    await settle(pair);
    const all = closed(pair);
    pair.socket.end();
    await all;
    return both(pair);
  },

  async 'the server closes'(version) {
    const pair = await connection(native, { server: only(version) });
    await settle(pair);
    const all = closed(pair);
    pair.peer.end();
    await all;
    return both(pair);
  },

  async 'destroyed without a word'(version) {
    const pair = await connection(native, { server: only(version) });
    await settle(pair);
    const all = closed(pair);
    pair.socket.destroy();
    await all;
    return both(pair);
  },

  async 'before it closes, and behind'(version) {
    const pair = await connection(native, { server: only(version) });
    await settle(pair);
    const before = [pair.watch.pending(), pair.watch.place()];
    const all = closed(pair);
    pair.socket.end();
    await all;
    return { before, behind: [pair.watch.pending(), pair.watch.place()] };
  },

  async 'the times are those of process.hrtime'(version) {
    const now = () => Number(process.hrtime.bigint()) / 1e6;
    const before = now();
    const pair = await connection(native, { server: only(version) });
    const made = now();
    await settle(pair);
    const all = closed(pair);
    pair.socket.end();
    await all;
    const times = alertsOf(pair.watch).map(({ at }) => at);
    const inside = times.every((at) => made <= at && at <= now());
    return [times.length, inside, before <= pair.watch.born() && pair.watch.born() <= made];
  },

  async 'a handshake that finds no common version'(version) {
    const watches = [];
    const listening = server(only(version));
    const port = await listen(listening);
    const accepted = native.mark();
    listening.on('connection', () => watches.push(...native.since(accepted).slice(-1)));
    const other = VERSIONS.find((one) => one !== version);
    const socket = tls.connect({ port, host: '127.0.0.1', ...only(other) }).on('error', () => {});
    watches.push(...native.since(accepted));
    const failed = once(listening, 'tlsClientError');
    await Promise.all([failed, close(socket)]);
    listening.close();
    return watches.map(words);
  },

  async 'a client without the certificate that is asked for'(version) {
    const listening = server({ ...only(version), ca: cert, requestCert: true });
    const port = await listen(listening);
    const mark = native.mark();
    const socket = client(port);
    const [watch] = native.since(mark);
    await close(socket);
    listening.close();
    return words(watch);
  },

  async 'a close_notify that anyone may have sent'() {
    const raw = net.createServer((socket) => {
      socket.on('error', () => {}).resume();
      socket.end(Buffer.from([21, 3, 3, 0, 2, 1, 0]));
    });
    const mark = native.mark();
    const socket = client(await listen(raw));
    const [watch] = native.since(mark);
    await close(socket);
    raw.close();
    return words(watch);
  },

  async 'bytes that no transport has taken'(version) {
    let release = null;
    const stuck = new Duplex({
      read() {},
      write(_chunk, _encoding, done) {
        release = done;
      },
    });
    const mark = native.mark();
    const socket = tls.connect({ socket: stuck, ...only(version) }).on('error', () => {});
    const [watch] = native.since(mark);
    await until(() => release !== null);
    const held = watch.pending() > 0;
    release();
    await until(() => watch.pending() === 0);
    socket.destroy();
    return held;
  },

  async 'a cut between records, in a header, in a body'(version) {
    const places = [];
    for (const length of [0, 3, 5, 9]) {
      const relay = new Relay();
      const pair = await connection(native, { server: only(version), through: relay.through });
      await settle(pair);
      relay.mute();
      const ended = close(pair.peer);
      // A header that announces 100 bytes, and some of them.
      relay.far.end(Buffer.from([23, 3, 3, 0, 100, 1, 2, 3, 4]).subarray(0, length));
      await ended;
      places.push(pair.peerWatch.place());
      pair.socket.destroy();
    }
    return places;
  },

  async 'traced behind the handshake, and taken back'(version) {
    const places = [];
    for (const take of ['too late', 'at once']) {
      const pair = await connection(native, { server: only(version) });
      await settle(pair);
      pair.socket.enableTrace();
      if (take === 'at once') pair.watch.retake(false);
      await settle(pair);
      pair.watch.retake(true);
      places.push(pair.watch.place());
      const all = closed(pair);
      pair.socket.end();
      await all;
      places.push(words(pair.watch));
    }
    return places;
  },

  /** As many bytes are missing of the last record as were read before without being shown. */
  async 'unseen bytes that make up for missing ones'() {
    const { relay, sealer, peer, socket, watch } = await crafted(native);
    peer.enableTrace();
    const unseen = sealer.data('x');
    relay.far.write(unseen);
    await once(peer, 'data');
    watch.retake(false);
    const cut = Buffer.alloc(5 + 200 - unseen.length);
    cut.set([23, 3, 3, 0, 200]);
    relay.far.end(cut);
    await once(peer, 'end').catch(() => {});
    peer.destroy();
    socket.destroy();
    await close(peer);
    return watch.place();
  },

  async 'more alerts than are kept'() {
    const { relay, sealer, peer, socket, watch } = await crafted(native);
    // OpenSSL lets through five in a row without data.
    for (let sent = 0; sent < 40; sent++) {
      relay.far.write(Buffer.concat([sealer.alert(1, 90), sealer.data('x')]));
    }
    relay.far.write(sealer.alert(1, 0));
    await until(() => alertsOf(watch).at(-1)?.description === 0);
    peer.destroy();
    socket.destroy();
    const received = alertsOf(watch).filter(({ sent }) => !sent);
    const all = received.map(({ description }) => description);
    return [all.length, all.filter((description) => description === 90).length, all.at(-1)];
  },

  /** Nobody reads what is written: the alert waits behind it. */
  async 'an alert of ours behind a write that waits, and one alone'() {
    const alone = [];
    for (const length of [1 << 24, 0]) {
      const { relay, sealer, peer, socket, watch } = await crafted(native);
      relay.far.unpipe(relay.near);
      relay.far.pause();
      if (length > 0) peer.write(Buffer.alloc(length));
      const forged = sealer.data('x');
      forged[forged.length - 1] ^= 1;
      relay.far.write(forged);
      await until(() => alertsOf(watch).some(({ sent }) => sent));
      alone.push(alertsOf(watch).map(({ description, alone }) => [description, alone]));
      peer.destroy();
      socket.destroy();
      relay.far.destroy();
    }
    return alone;
  },

  /** 3.5 ignores a close_notify behind user_canceled, and so does not end the stream. */
  async 'a close_notify behind user_canceled'() {
    const levels = [];
    for (const level of [1, 2]) {
      ignored.length = 0;
      const { relay, sealer, peer, socket, watch } = await crafted(native);
      let ended = false;
      peer.on('end', () => {
        ended = true;
      });
      relay.far.write(Buffer.concat([sealer.alert(1, 90), sealer.alert(level, 0)]));
      await until(() => ended || ignored.length > 0);
      for (let turns = 0; turns < 5; turns++) await turn();
      levels.push({ ended, told: ignored.length, same: ignored.every((one) => one === watch) });
      socket.destroy();
      peer.destroy();
    }
    return levels;
  },

  /** SSL_get_error looks at the thread's queue first, and what is there may be anyone's. */
  async 'the same, and Node leaves an error in the queue behind it'() {
    const levels = [];
    for (const level of [1, 2]) {
      ignored.length = 0;
      const { relay, sealer, peer, socket } = await crafted(native);
      let ended = false;
      // What it would write to close its own side would take the error away again, as the end of the reading does.
      peer.allowHalfOpen = true;
      peer.on('end', () => {
        ended = true;
        setImmediate(() => Certificate.verifySpkac('no SPKAC'));
      });
      relay.far.write(Buffer.concat([sealer.alert(1, 90), sealer.alert(level, 0)]));
      await until(() => ended || ignored.length > 0);
      await turn();
      await turn();
      levels.push({ ended, told: ignored.length });
      socket.destroy();
      peer.destroy();
    }
    return levels;
  },
};

main(async () => {
  return { openssl: native.openssl, ...(await factsOf(cases)) };
});
