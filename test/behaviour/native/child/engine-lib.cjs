'use strict';
// The native engine's binding as these children drive it: less than engine/native.ts does, and ruder.

const assert = require('node:assert');
const { once } = require('node:events');
const net = require('node:net');
const tls = require('node:tls');
const { cert, key, listen, load, only, turn } = require('./lib.cjs');

const native = load();
const { engine } = native;

const DATA = 1;
const FACTS = 2;
const SLAB = 4;
const OUTPUT = 16;

/** Names of the kinds of facts, by their numbers. */
const KINDS = [
  '',
  'alert',
  'record',
  'secret',
  'ticket',
  'secure',
  'failed',
  'eof',
  'receive-error',
  'send-error',
  'want-certificate',
  'bytes',
  'renegotiation',
];

const VERIFY_PEER = 1;

let slab = null;

engine.setDispatch(function dispatch(flags) {
  this.end.told(flags);
});

function contextOf(options) {
  let secureContext;
  const context = engine.ownContext(() => {
    secureContext = tls.createSecureContext(options);
  });
  assert.notEqual(context, null);
  context.secureContext = secureContext;
  return context;
}

/** One end of a connection: what it was told, and a function for each event. */
class End {
  plain = [];
  names = [];
  facts = [];
  /** What another transport is to send. */
  output = [];
  /** Called with the flags, before anything is fetched. */
  onFlags = null;
  /** Called with the name of each fact, when all was fetched. */
  onFact = null;

  constructor(server, options = {}, version = 'TLSv1.3', context = null) {
    const own = context ?? contextOf({ ...(server && { key, cert }), ...only(version) });
    this.connection = new engine.Connection(own, { server, ...options });
    this.connection.end = this;
  }

  get text() {
    return Buffer.concat(this.plain).toString();
  }

  has(name) {
    return this.names.includes(name);
  }

  told(flags) {
    const { connection } = this;
    this.onFlags?.(flags);
    if (flags & SLAB) slab = engine.slab();
    if (flags & DATA) {
      const { 0: offset, 1: length } = engine.state;
      this.plain.push(Buffer.from(slab.subarray(offset, offset + length)));
    }
    if (flags & OUTPUT) {
      const bytes = connection.output();
      this.output.push(bytes);
      if (!connection.isDestroyed()) this.told(connection.taken(bytes.length));
    }
    if ((flags & FACTS) === 0) return;
    const facts = connection.facts();
    for (let at = 0; at < facts.length; at += 5) {
      const name = KINDS[facts[at]];
      this.names.push(name);
      this.facts.push([name, ...facts.slice(at + 1, at + 5)]);
      this.onFact?.(name, facts.slice(at + 1, at + 5));
    }
  }

  takeOutput() {
    const bytes = Buffer.concat(this.output.splice(0));
    return bytes;
  }

  start(head = new Uint8Array(0)) {
    this.told(this.connection.start(head));
  }

  feed(bytes) {
    for (let at = 0; at < bytes.length && !this.connection.isDestroyed(); at += 65536) {
      this.told(this.connection.feed(bytes.subarray(at, at + 65536)));
    }
  }

  write(bytes) {
    this.told(this.connection.write(Buffer.from(bytes), true));
  }

  closeWrite() {
    this.told(this.connection.closeWrite());
  }

  /** Reads and writes the descriptor of this socket, which stays idle. */
  open(socket) {
    this.socket = socket;
    socket._handle.readStop();
    assert.equal(this.connection.open(socket._handle.fd), null);
  }
}

/** What each has put out goes to the other one, until neither has any. */
function exchange(one, other) {
  for (;;) {
    const [first, second] = [one.takeOutput(), other.takeOutput()];
    if (first.length + second.length === 0) return;
    other.feed(first);
    one.feed(second);
  }
}

/** Two ends in memory, behind their handshake unless it is told otherwise. */
function pair({ client = {}, server = {}, version = 'TLSv1.3', begun = true } = {}) {
  const ends = [new End(false, client, version), new End(true, server, version)];
  for (const end of ends) end.start();
  if (begun) exchange(...ends);
  return ends;
}

/** Two sockets of one TCP connection, which nobody reads. */
async function sockets() {
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true });
  const port = await listen(server);
  const near = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }).pause();
  const [[far]] = await Promise.all([once(server, 'connection'), once(near, 'connect')]);
  server.close();
  for (const socket of [near, far]) socket.on('error', () => {});
  return [near, far];
}

/** Two ends on sockets. */
async function onSockets({ client = {}, server = {}, version = 'TLSv1.3' } = {}) {
  const ends = [new End(false, client, version), new End(true, server, version)];
  const both = await sockets();
  for (const [index, end] of ends.entries()) end.open(both[index]);
  return ends;
}

/** Runs everything to its end, and says what of the engine is left. */
async function left() {
  for (let round = 0; round < 30; round++) {
    globalThis.gc();
    await turn();
    const { connections, contexts } = native.live();
    if (round > 2 && connections === 0 && contexts === 0) break;
  }
  const { connections, sessions, contexts } = native.live();
  return { connections, sessions, contexts };
}

module.exports = {
  End,
  VERIFY_PEER,
  contextOf,
  engine,
  exchange,
  left,
  native,
  onSockets,
  pair,
  sockets,
};
