/**
 * Connects in all the ways that a program has, and prints as JSON what each of them saw. Its arguments: the port of a
 * server of HTTP/1.1 whose connections are cut, that of one of HTTP/2, and ways to leave out.
 */
import childProcess from 'node:child_process';
import cluster from 'node:cluster';
import { once } from 'node:events';
import http2 from 'node:http2';
import https from 'node:https';
import module, { createRequire } from 'node:module';
import net from 'node:net';
import { basename, dirname } from 'node:path';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import vm from 'node:vm';
import workerThreads from 'node:worker_threads';
import { named, taken } from './early.mjs';

const require = createRequire(import.meta.url);
const { how, look } = require('./look.cjs');
const fileOf = (name) => fileURLToPath(new URL(name, import.meta.url));
const LEAF = fileOf('leaf.cjs');
const [port, port2] = process.argv.slice(2).map(Number);
const omitted = process.argv.slice(4);
const argv = [String(port)];

/** What a worker or a process tells. */
async function toldBy(made) {
  const [seen] = await Promise.race([once(made, 'message'), once(made, 'exit')]);
  return String(seen);
}

const work = (options, file = LEAF) => toldBy(new workerThreads.Worker(file, { argv, ...options }));
const evaluate = (code, options) =>
  work(
    { ...options, eval: true },
    `const { Worker, parentPort } = require('node:worker_threads');${code}`,
  );
const SELF = `require(${JSON.stringify(fileOf('look.cjs'))}).look(${port}).then((seen) => parentPort.postMessage(seen));`;
const RELAY = `.on('message', (seen) => parentPort.postMessage(seen));`;
const bare = { execArgv: [], env: {} };
const BARE = `${JSON.stringify(LEAF)}, { argv: ['${port}'], execArgv: [], env: {} }`;
const fork = (...options) => toldBy(childProcess.fork(LEAF, argv, ...options));

function viaCluster(env) {
  cluster.setupPrimary({ exec: LEAF, args: argv, execArgv: [] });
  return toldBy(cluster.fork(env));
}

const said = (out) => String(out).trim();

const run = (make, file, ...others) =>
  new Promise((resolve) => make(file, ...others, (_, out) => resolve(said(out))));

/** By its name, as PATH finds it. */
const env = { PATH: dirname(process.execPath) };
const name = basename(process.execPath);

function spawned(file, options, flags = []) {
  return new Promise((resolve) => {
    const args = options?.shell ? [] : [...flags, LEAF, ...argv];
    const child = childProcess.spawn(file, args, options);
    let all = '';
    child.stdout.on('data', (chunk) => {
      all += chunk;
    });
    child.on('close', () => resolve(said(all)));
  });
}

/** With permissions of its own. These would do; of others nobody knows. */
function confined() {
  const isNew = Number(process.versions.node.split('.')[0]) >= 24;
  // Node 26 asks for one more: to connect.
  const flags = [
    isNew ? '--permission' : '--experimental-permission',
    `--allow-fs-read=${fileOf('../../../../')}*`,
  ];
  const connects = process.allowedNodeEnvironmentFlags.has('--allow-net') ? ['--allow-net'] : [];
  return spawned(process.execPath, {}, [...flags, ...connects]);
}

function get() {
  return new Promise((resolve, reject) => {
    const options = { host: 'localhost', port, rejectUnauthorized: false };
    https.get(options, (response) => resolve(how(response))).on('error', reject);
  });
}

async function fetched() {
  const response = await fetch(`https://localhost:${port}/`);
  return response.text().then(
    () => 'end',
    ({ cause }) => (cause?.code === 'ERR_TLS_TRUNCATED' ? 'strict' : String(cause)),
  );
}

function overHttp2() {
  const session = http2.connect(`https://localhost:${port2}`, { rejectUnauthorized: false });
  session.on('error', () => {});
  return how(session.request({ ':path': '/' }));
}

async function byHand() {
  const transport = net.connect(port, 'localhost');
  await once(transport, 'connect');
  const socket = new tls.TLSSocket(transport, { rejectUnauthorized: false });
  socket.write('GET / HTTP/1.1\r\n\r\n');
  return how(socket);
}

async function inHooks() {
  const { port1, port2: theirs } = new MessageChannel();
  const data = { port, theirs };
  module.register(new URL('hooks.mjs', import.meta.url), { data, transferList: [theirs] });
  const [seen] = await once(port1, 'message');
  port1.close();
  return seen.data ?? seen;
}

const WAYS = {
  'tls.connect': () => look(port),
  'tls.connect, imported by name': () => look(port, named.connect),
  'tls.connect, taken out before': () => look(port, taken.connect),
  https: get,
  fetch: fetched,
  http2: overHttp2,
  'new tls.TLSSocket': byHand,
  'a vm context': () =>
    vm.runInNewContext('look(port, require("node:tls").connect)', { look, port, require }),
  Worker: () => work({}),
  'Worker, of a module': () => work({}, fileOf('leaf.mjs')),
  'Worker, execArgv': () => work({ execArgv: ['--conditions', 'x'] }),
  'Worker, env': () => work({ env: {} }),
  'Worker, SHARE_ENV': () => work({ env: workerThreads.SHARE_ENV }),
  'Worker, resourceLimits': () => work({ resourceLimits: { maxOldGenerationSizeMb: 50 } }),
  'Worker, eval': () => evaluate(SELF),
  'Worker, eval, execArgv, env': () => evaluate(SELF, bare),
  'Worker, within a Worker': () => evaluate(`new Worker(${BARE})${RELAY}`, bare),
  'Worker, imported by name': () => toldBy(named.worker(LEAF, { argv })),
  'Worker, taken out before': () => toldBy(new taken.Worker(LEAF, { argv, ...bare })),
  'module.register': inHooks,
  fork: () => fork(),
  'fork, execArgv': () => fork({ execArgv: [] }),
  'fork, env': () => fork({ env: {} }),
  'fork, execArgv, env': () => fork(bare),
  'fork, imported by name': () => toldBy(named.fork(LEAF, argv)),
  'fork, taken out before': () => toldBy(taken.fork(LEAF, argv, bare)),
  'fork, within a Worker': () =>
    evaluate(
      `require('node:child_process').fork(${JSON.stringify(LEAF)}, ['${port}'], { execArgv: [], env: {} })${RELAY}`,
    ),
  cluster: () => viaCluster(),
  'cluster, env': () => viaCluster({ NODE_OPTIONS: '' }),
  spawn: () => spawned(process.execPath),
  'spawn, env': () => spawned(process.execPath, { env: {} }),
  'spawn, by name': () => spawned(name, { env }),
  'spawn, imported by name': () => run(named.execFile, process.execPath, [LEAF, ...argv]),
  'spawn, taken out before': () => run(taken.execFile, process.execPath, [LEAF, ...argv], { env }),
  spawnSync: () => said(childProcess.spawnSync(name, [LEAF, ...argv], { env }).stdout),
  execFile: () => run(childProcess.execFile, name, [LEAF, ...argv], { env }),
  'execFile, promisified': async () =>
    said((await promisify(childProcess.execFile)(name, [LEAF, ...argv], { env })).stdout),
  execFileSync: () => said(childProcess.execFileSync(name, [LEAF, ...argv], { env })),
  exec: () => run(childProcess.exec, [process.execPath, LEAF, ...argv].join(' '), {}),
  'spawn, shell': () => spawned([process.execPath, LEAF, ...argv].join(' '), { shell: true }),
  'spawn, permission': confined,
};

const seen = {};
for (const [way, go] of Object.entries(WAYS)) {
  if (!omitted.includes(way)) seen[way] = await go();
}
console.log(JSON.stringify(seen));
// The thread of hooks stays.
process.exit();
