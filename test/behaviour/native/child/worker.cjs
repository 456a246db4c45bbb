'use strict';
// The add-on in worker threads. argv[2] says who loads it: 'worker', 'both', or 'main' (and the worker has
// connections without it). Workers end by themselves, by terminate(), and with connections that live.

const assert = require('node:assert');
const { once } = require('node:events');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const {
  client,
  close,
  connection,
  listen,
  load,
  main,
  server,
  settle,
  turn,
  words,
} = require('./lib.cjs');

const PER_THREAD = 20;

/** Connections that are closed properly; returns what the watch of each tells, without repetition. */
async function lives(native) {
  const facts = new Set();
  for (let made = 0; made < PER_THREAD; made++) {
    const pair = await connection(native);
    await settle(pair);
    const all = Promise.all([close(pair.socket), close(pair.peer)]);
    pair.socket.end();
    await all;
    facts.add(words(pair.watch)).add(words(pair.peerWatch));
  }
  return [...facts].sort();
}

async function inWorker({ loads, end }) {
  if (!loads) {
    const listening = server();
    const socket = client(await listen(listening));
    await once(socket, 'secureConnect');
    socket.destroy();
    listening.close();
    return parentPort.postMessage('nothing loaded');
  }
  const native = load();
  native.watch(() => {});
  const facts = await lives(native);
  const pair = await connection(native);
  if (end === 'by itself') {
    pair.socket.destroy();
    await close(pair.peer);
  }
  parentPort.postMessage(facts);
  if (end === 'process.exit') process.exit();
}

async function ends(options) {
  const worker = new Worker(__filename, { workerData: options });
  const exit = once(worker, 'exit');
  const [answer] = await Promise.race([
    once(worker, 'message'),
    once(worker, 'error').then(([error]) => Promise.reject(error)),
  ]);
  if (options.end === 'terminate') await worker.terminate();
  await exit;
  return answer;
}

async function inMain() {
  const who = process.argv[2];
  const native = who === 'worker' ? null : load();
  native?.watch(() => {});
  const facts = {};
  const ways = ['by itself', 'terminate', 'process.exit'];
  for (const end of ways) facts[end] = await ends({ loads: who !== 'main', end });
  // Side by side, with each other and with this thread.
  const many = ways.map((end) => ends({ loads: who !== 'main', end }));
  const own = native === null ? null : await lives(native);
  assert.deepEqual(await Promise.all(many), Object.values(facts));
  facts.here = native === null ? null : await lives(native);
  assert.deepEqual(own, facts.here);
  // The objects of a thread are gone with it; those of this one wait for the collector.
  const left = native ?? load();
  for (let round = 0; round < 20 && left.live().watches > 0; round++) {
    globalThis.gc();
    await turn();
  }
  facts.live = left.live();
  return facts;
}

if (isMainThread) main(inMain);
else inWorker(workerData);
