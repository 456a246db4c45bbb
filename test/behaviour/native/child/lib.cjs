'use strict';
// What the children of these tests share. They run on any Node that we support, with or without a
// sanitizer, and print one line of JSON.
//
// NATIVE_PACKAGE  the folder of close-notify-native; default: the workspace's
// NATIVE_PEM      a folder with key.pem and cert.pem

const assert = require('node:assert');
const { createHmac, createCipheriv } = require('node:crypto');
const { once } = require('node:events');
const { readFileSync } = require('node:fs');
const net = require('node:net');
const { join } = require('node:path');
const tls = require('node:tls');

const HOME = process.env.NATIVE_PACKAGE ?? join(__dirname, '../../../../native');
const key = readFileSync(join(process.env.NATIVE_PEM, 'key.pem'));
const cert = readFileSync(join(process.env.NATIVE_PEM, 'cert.pem'));

/** The binding; the child fails where there is none. */
function load() {
  const { native, reason } = require(HOME);
  assert.notEqual(native, null, `no add-on: ${reason}`);
  return native;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Turns of the event loop, until it holds; the parent's limit ends what never comes. */
async function until(holds) {
  while (!holds()) await turn();
}

async function listen(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}

/** Until it is closed, with an error or without. */
const close = (socket) => new Promise((resolve) => socket.once('close', resolve));

/** What `watch.alerts()` says in numbers. */
function alertsOf(watch) {
  const numbers = watch.alerts() ?? [];
  return Array.from({ length: numbers.length / 2 }, (_, index) => {
    const [word, at] = numbers.slice(2 * index);
    const flags = word >> 16;
    const level = (word >> 8) & 255;
    const [sent, authenticated, alone] = [1, 2, 4].map((flag) => (flags & flag) !== 0);
    return { sent, level, description: word & 255, authenticated, alone, at };
  });
}

/** 'S1/0' an authenticated close_notify that was sent; 'r2/40' a fatal alert from anyone. */
function words(watch) {
  return alertsOf(watch)
    .map(({ sent, level, description, authenticated }) => {
      const letter = sent ? 's' : 'r';
      return `${authenticated ? letter.toUpperCase() : letter}${level}/${description}`;
    })
    .join(' ');
}

const VERSIONS = ['TLSv1.2', 'TLSv1.3'];

const only = (version) => ({ minVersion: version, maxVersion: version });

function server(options = {}) {
  const made = tls.createServer({ key, cert, ...options });
  made.on('secureConnection', (socket) => socket.on('error', () => {}).resume());
  made.on('tlsClientError', () => {});
  return made;
}

function client(port, options = {}) {
  const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
  return socket.on('error', () => {}).resume();
}

/** A connection of two sockets in this process, and what the witness has of each. */
async function connection(native, { server: serverOptions, client: clientOptions, through } = {}) {
  const listening = server(serverOptions);
  const port = await listen(listening);
  const accepted = once(listening, 'secureConnection');
  const socket = client(through === undefined ? port : await through(port), clientOptions);
  const [[peer]] = await Promise.all([accepted, once(socket, 'secureConnect')]);
  listening.close();
  const watch = native.find(socket.getFinished());
  const peerWatch = native.find(peer.getFinished());
  assert.ok(watch !== null && peerWatch !== null && watch !== peerWatch, 'both are found');
  return { socket, peer, watch, peerWatch };
}

/** Data has gone both ways: no ticket is on its way any more, and nothing else is. */
async function settle({ socket, peer }) {
  const came = Promise.all([once(peer, 'data'), once(socket, 'data')]);
  const flushed = [socket, peer].map((one) => new Promise((resolve) => one.write('x', resolve)));
  await Promise.all([came, ...flushed]);
}

/** A relay that can be told to let through no more, and to say something of its own. */
class Relay {
  #server = net.createServer();
  #target = 0;
  near = null;
  far = null;

  through = async (port) => {
    this.#target = port;
    this.#server.on('connection', (near) => {
      this.near = near.on('error', () => {});
      this.far = net.connect(this.#target, '127.0.0.1').on('error', () => {});
      near.pipe(this.far);
      this.far.pipe(near);
      this.#server.close();
    });
    return listen(this.#server);
  };

  /** What the client says does not come through any more. */
  mute() {
    this.near.unpipe(this.far);
    this.near.resume();
  }
}

/**
 * Seals TLS 1.3 records as the client of a connection would (RFC 9846, section 5.2), from its line of
 * the key log. For TLS_AES_128_GCM_SHA256 only.
 */
class Sealer {
  #key;
  #iv;
  #sequence = 0n;

  constructor(secret) {
    this.#key = expand(secret, 'key', 16);
    this.#iv = expand(secret, 'iv', 12);
  }

  record(type, content) {
    const inner = Buffer.concat([content, Buffer.from([type])]);
    const header = Buffer.from([23, 3, 3, 0, 0]);
    header.writeUInt16BE(inner.length + 16, 3);
    const nonce = Buffer.from(this.#iv);
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ this.#sequence++, 4);
    const cipher = createCipheriv('aes-128-gcm', this.#key, nonce).setAAD(header);
    return Buffer.concat([header, cipher.update(inner), cipher.final(), cipher.getAuthTag()]);
  }

  alert(level, description) {
    return this.record(21, Buffer.from([level, description]));
  }

  data(text) {
    return this.record(23, Buffer.from(text));
  }
}

/** HKDF-Expand-Label with no context (RFC 9846, section 7.1): one block is enough here. */
function expand(secret, label, length) {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0, 1])]);
  return createHmac('sha256', secret).update(info).digest().subarray(0, length);
}

/** A TLS 1.3 connection whose client's records the test makes from now on. The server stays open. */
async function crafted(native) {
  const relay = new Relay();
  const lines = [];
  const listening = server({ ...only('TLSv1.3'), allowHalfOpen: true });
  const port = await relay.through(await listen(listening));
  const accepted = once(listening, 'secureConnection');
  const socket = client(port, { ciphers: 'TLS_AES_128_GCM_SHA256' });
  socket.on('keylog', (line) => lines.push(line.toString()));
  const [[peer]] = await Promise.all([accepted, once(socket, 'secureConnect')]);
  listening.close();
  relay.mute();
  const line = lines.find((one) => one.startsWith('CLIENT_TRAFFIC_SECRET_0'));
  const sealer = new Sealer(Buffer.from(line.trim().split(' ')[2], 'hex'));
  const watch = native.find(peer.getFinished());
  assert.notEqual(watch, null);
  return { relay, sealer, socket, peer, watch };
}

/** Runs the child's body, and prints what it returns. A body that never ends is a failure, too. */
function main(body) {
  process.exitCode = 1;
  body().then(
    (result) => {
      console.log(JSON.stringify(result ?? null));
      process.exitCode = 0;
    },
    (error) => console.error(error),
  );
}

/** What each of these cases gives; one that takes a version is run with each. */
async function factsOf(cases) {
  const facts = {};
  for (const [name, run] of Object.entries(cases)) {
    if (run.length === 0) {
      facts[name] = await run();
    } else {
      facts[name] = {};
      for (const version of VERSIONS) facts[name][version] = await run(version);
    }
    if (process.env.NATIVE_TRACE) console.error(name, JSON.stringify(facts[name]));
  }
  return facts;
}

/** A value of each type, and those of which there are several. */
const anything = () => [
  undefined,
  null,
  true,
  0,
  -1,
  1.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  10n,
  '',
  'text',
  Symbol('s'),
  {},
  [],
  () => {},
  class {},
  new Date(0),
  new Map(),
  /x/,
  new ArrayBuffer(32),
  new SharedArrayBuffer(32),
  new DataView(new ArrayBuffer(32)),
  new Uint8Array(32),
  new Uint8Array(0),
  new Uint8ClampedArray(32),
  new Int8Array(32),
  new Uint16Array(32),
  new Float64Array(8),
  new BigInt64Array(4),
  Buffer.alloc(32),
  Object.create(null),
  new Proxy({}, {}),
  new Proxy(() => {}, {}),
  Promise.resolve(),
  new Error('x'),
];

module.exports = {
  HOME,
  Relay,
  VERSIONS,
  alertsOf,
  anything,
  cert,
  client,
  close,
  connection,
  crafted,
  factsOf,
  key,
  listen,
  load,
  main,
  only,
  server,
  settle,
  turn,
  until,
  words,
};
