// @ts-check
/**
 * The processes of a measurement: the load, the measured ones, and what they need (a certificate,
 * compiled programs). All of them are stopped when this process ends.
 */
import { execFile, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** @typedef {import('./subject.mjs').Sample} Sample */

const run = promisify(execFile);
const HERE = fileURLToPath(new URL('.', import.meta.url));
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** @type {Set<import('node:child_process').ChildProcess>} */
const children = new Set();
/** @type {string | undefined} */
let folder;

process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.once(name, () => process.exit(1));
}

/** A process that talks in lines of JSON. */
class Child {
  /** @type {unknown[]} */
  #lines = [];
  /** @type {{ resolve: (line: unknown) => void, reject: (error: Error) => void } | null} */
  #waiting = null;
  /** @type {Error | null} */
  #over = null;
  #errors = '';

  /**
   * @param {string} command @param {readonly string[]} args
   * @param {number} deadline seconds that it may take
   * @param {NodeJS.ProcessEnv} [env] in addition to ours
   */
  constructor(command, args, deadline, env = {}) {
    const child = spawn(command, args, { cwd: ROOT, env: { ...process.env, ...env } });
    this.child = child;
    children.add(child);
    const timer =
      deadline === Number.POSITIVE_INFINITY
        ? undefined
        : setTimeout(() => {
            this.#fail(new Error(`no result within ${deadline} s`));
            child.kill('SIGKILL');
          }, deadline * 1e3);
    createInterface(child.stdout).on('line', (line) => {
      const value = JSON.parse(line);
      if (this.#waiting === null) this.#lines.push(value);
      else this.#waiting.resolve(value);
      this.#waiting = null;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#errors += text;
    });
    // What is written to a process that has gone shows in its exit.
    child.stdin.on('error', () => {});
    child.once('error', (error) => this.#fail(error));
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      children.delete(child);
      // The line that says what, of all those that say where.
      const errors = this.#errors.split('\n').filter((line) => line.trim() !== '');
      const why =
        errors.find((line) => /^\[?\w*Error\b/.test(line)) ?? errors.at(-1) ?? 'it said nothing';
      this.#fail(new Error(`ended with ${signal ?? code}: ${why.trim()}`));
    });
  }

  /** @param {Error} error */
  #fail(error) {
    this.#over ??= error;
    this.#waiting?.reject(this.#over);
    this.#waiting = null;
  }

  /** @returns {Promise<any>} the next line's value */
  next() {
    if (this.#lines.length > 0) return Promise.resolve(this.#lines.shift());
    if (this.#over !== null) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** @param {string} line @returns {Promise<any>} the answer */
  ask(line) {
    this.child.stdin.write(`${line}\n`);
    return this.next();
  }

  stop() {
    this.child.kill('SIGKILL');
  }
}

// ---- what they need

/** @returns {{ cert: string, key: string }} files, gone with this process */
function identity() {
  if (folder === undefined) {
    folder = mkdtempSync(join(tmpdir(), 'close-notify-bench-'));
    const made = spawnSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
        ...['-keyout', 'key.pem', '-out', 'cert.pem', '-days', '2', '-subj', '/CN=localhost'],
        ...['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
      ],
      { cwd: folder, encoding: 'utf8' },
    );
    if (made.status !== 0) {
      throw new Error(`the bench needs the openssl command: ${made.error?.message ?? made.stderr}`);
    }
  }
  return { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
}

/** @type {Map<string, Promise<string | null>>} */
const programs = new Map();

/**
 * A C++ program of this folder, compiled unless that was done for this very source.
 *
 * @param {string} name @returns {Promise<string | null>} its path; null where it cannot be compiled
 */
export function compiled(name) {
  const key = `${name}.cpp`;
  const compiler = ['g++', '-std=c++17', '-O2', '-lssl', '-lcrypto', '-lpthread', '-o'];
  const known = programs.get(key) ?? compile(name, 'cpp', compiler);
  programs.set(key, known);
  return known;
}

/** @param {string} name @param {string} language @param {readonly string[]} compiler the last argument of which is -o */
async function compile(name, language, [command = '', ...args]) {
  const source = join(HERE, `${name}.${language}`);
  const cache = join(ROOT, 'node_modules', '.cache', 'close-notify-bench');
  mkdirSync(cache, { recursive: true });
  const hash = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const program = join(cache, `${name}-${language}-${hash}`);
  if (existsSync(program)) return program;
  const unfinished = `${program}.${process.pid}`;
  try {
    const libraries = args.filter((one) => one.startsWith('-l'));
    const rest = args.filter((one) => !one.startsWith('-l'));
    await run(command, [...rest, unfinished, source, ...libraries]);
  } catch {
    return null;
  }
  renameSync(unfinished, program);
  return program;
}

/**
 * A Go program of this folder, built unless that was done for this very source.
 *
 * @param {string} name @returns {Promise<string | null>} its path; null where it cannot be built
 */
export function builtByGo(name) {
  const key = `${name}.go`;
  const known = programs.get(key) ?? compile(name, 'go', ['go', 'build', '-o']);
  programs.set(key, known);
  return known;
}

/** @param {string} command @param {...string} args what it prints, or null where it does not work */
export function printed(command, ...args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : null;
}

/** The Node that is measured: this one, or the one of `--node`. */
const measuredNode = { path: process.execPath };

/**
 * Measures another Node than the one that runs this.
 *
 * @param {string} path of its binary @throws {Error} where it does not run
 */
export function useNode(path) {
  measuredNode.path = resolve(path);
  nodeVersions();
}

/** What the measured Node says of itself. @returns {{ node: string, openssl: string }} */
export function nodeVersions() {
  const { path } = measuredNode;
  const text = printed(path, '-p', 'JSON.stringify(process.versions)');
  if (text === null) throw new Error(`${path} does not run`);
  return JSON.parse(text);
}

/** Bun's binary: the system's, or that of the runtimes which the tests of other runtimes use. */
function bun() {
  const own = join(ROOT, '.ci/runtimes/node_modules/bun/bin/bun');
  return existsSync(own) ? own : 'bun';
}

/** What Bun and Go are called here; null where they are not. */
export const bunVersion = () => printed(bun(), '--version');
export const goVersion = () => printed('go', 'env', 'GOVERSION')?.replace(/^go/, '') ?? null;

// ---- the load

/**
 * @typedef {object} LoadOptions
 * @property {'1.2' | '1.3'} [tls]
 * @property {string} [cipher]
 * @property {true} [node] whether it is the one written for Node even where there is a compiler
 */
/** @typedef {{ child: Child, tls: number, tcp: number }} Load */

/** @type {Map<string, Promise<Load>>} */
const loads = new Map();

/** The load for these options; one process serves all measurements. @param {LoadOptions} options */
export function load(options) {
  const key = JSON.stringify(options);
  const known = loads.get(key) ?? startLoad(options);
  loads.set(key, known);
  return known;
}

/** @param {LoadOptions} options @returns {Promise<Load>} */
async function startLoad({ tls = '1.3', cipher = 'TLS_AES_128_GCM_SHA256', node }) {
  const { cert, key } = identity();
  const program = node ? null : await compiled('load');
  const args = ['--cert', cert, '--key', key, '--tls', tls, '--cipher', cipher];
  const child =
    program === null
      ? new Child(process.execPath, [join(HERE, 'load.mjs'), ...args], Number.POSITIVE_INFINITY)
      : new Child(program, args, Number.POSITIVE_INFINITY);
  return { child, ...(await child.next()) };
}

// ---- the measured ones

/**
 * @typedef {object} Entry who is measured
 * @property {string} id
 * @property {'node' | 'boost' | 'python' | 'bun' | 'go' | 'openssl'} program
 * @property {string} task
 * @property {string} [face]
 * @property {'native' | 'tapped'} [engine] of a stream
 * @property {boolean} [register] for `https` and `fetch`: whether `close-notify/register` is imported
 */
/**
 * @typedef {object} Amount how much of it
 * @property {number} total
 * @property {number} warm
 * @property {number} [size]
 * @property {number} [connections]
 * @property {boolean} [resume]
 */

/** The steps in which `idle-memory` opens connections, after those that only warm up. */
export const IDLE = { warm: 100, steps: [1, 10, 100, 1_000, 2_000] };

/** @param {Entry} entry @returns {Promise<string | null>} why it cannot be measured here, or null */
export async function obstacle(entry) {
  if (entry.program === 'boost' && (await compiled('subject')) === null) {
    return 'no g++, or no headers of Boost and OpenSSL';
  }
  if (entry.program === 'python' && printed('python3', '-c', 'import ssl') === null) {
    return 'no python3 with ssl';
  }
  if (entry.program === 'bun' && bunVersion() === null) return 'no Bun';
  if (entry.program === 'go' && (await builtByGo('subject')) === null) return 'no Go';
  if (entry.engine === 'native') return noAddOn();
  if (entry.register) {
    const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const file = exports['./register']?.default;
    if (file === undefined || !existsSync(join(ROOT, file))) return 'no close-notify/register yet';
  }
  return null;
}

/** Why the measured Node has no native engine; null where it has one. */
function noAddOn() {
  const script = "process.stdout.write(String(require('close-notify-native').reason))";
  const { stdout } = spawnSync(measuredNode.path, ['-e', script], { cwd: ROOT, encoding: 'utf8' });
  return stdout === 'null' ? null : `no native engine: ${stdout || 'the add-on is not installed'}`;
}

/**
 * The command of a measured process that is not Node, and its first arguments.
 *
 * @param {Entry['program']} program @returns {Promise<[string, string[]]>}
 */
async function commandOf(program) {
  if (program === 'python') return ['python3', [join(HERE, 'subject.py')]];
  if (program === 'bun') return [bun(), [join(HERE, 'subject-bun.mjs')]];
  const path = await (program === 'go' ? builtByGo('subject') : compiled('subject'));
  return [/** @type {string} */ (path), []];
}

/**
 * One run, in a process of its own.
 *
 * @param {Entry} entry @param {Amount} amount @param {LoadOptions} options
 * @param {number} deadline in seconds: one that hangs is stopped
 * @returns {Promise<Sample>}
 */
export async function sample(entry, amount, options, deadline) {
  if (entry.program === 'openssl') return cipherSpeed(options.cipher ?? 'TLS_AES_128_GCM_SHA256');
  const ends = await load(options);
  const { cert, key } = identity();
  const { resume, ...given } = amount;
  const numbers = { size: 0, connections: 1, ...given };
  const args = [
    ...['--task', entry.task, '--port', `${ends.tls}`, '--ca', cert],
    ...Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, `${value}`]),
    ...(resume ? ['--resume'] : []),
  ];
  if (entry.program !== 'node') {
    const [command, first] = await commandOf(entry.program);
    return finish(new Child(command, [...first, ...args], deadline));
  }
  const child = new Child(
    measuredNode.path,
    [
      ...(entry.register ? ['--import', 'close-notify/register'] : []),
      ...(entry.task === 'idle-memory' ? ['--expose-gc'] : []),
      join(HERE, 'subject.mjs'),
      ...args,
      ...['--face', entry.face ?? 'tls', '--tcp', `${ends.tcp}`, '--cert', cert, '--key', key],
    ],
    deadline,
    // https and fetch are called as they stand in a program that knows nothing of a test's authority.
    {
      ...(entry.register === undefined ? {} : { NODE_EXTRA_CA_CERTS: cert }),
      ...(entry.engine === undefined ? {} : { CLOSE_NOTIFY_ENGINE: entry.engine }),
    },
  );
  try {
    if (entry.task === 'idle-memory') await fill(child, ends);
    if (entry.task === 'server-lives') await live(child, ends, amount);
    return await finish(child);
  } finally {
    child.stop();
  }
}

/** @param {Child} child @returns {Promise<Sample>} */
async function finish(child) {
  const result = await child.next();
  child.stop();
  return result;
}

/** @param {Child} child @param {Load} ends */
async function fill(child, ends) {
  const { listening } = await child.next();
  await ends.child.ask('release');
  let open = 0;
  for (const wanted of [IDLE.warm, ...IDLE.steps.map((step) => IDLE.warm + step)]) {
    await ends.child.ask(`hold ${listening} ${wanted - open}`);
    open = wanted;
    await child.ask(`${open}`);
  }
  child.child.stdin.write('report\n');
}

/** @param {Child} child @param {Load} ends @param {Amount} amount */
async function live(child, ends, { warm, total, connections = 1, resume = false }) {
  const { listening } = await child.next();
  const lives = (/** @type {number} */ count) =>
    ends.child.ask(`lives ${listening} ${count} ${connections} ${Number(resume)}`);
  await lives(warm);
  await child.ask('warm');
  await lives(total);
  child.child.stdin.write('done\n');
}

/**
 * What the cipher alone takes, for records of 16 KB, by CPU time. @param {string} suite @returns {Promise<Sample>}
 */
async function cipherSpeed(suite) {
  const [name] =
    suite === 'TLS_CHACHA20_POLY1305_SHA256'
      ? ['chacha20-poly1305']
      : [suite.includes('256_GCM') ? 'aes-256-gcm' : 'aes-128-gcm'];
  const { stdout } = await run('openssl', [
    ...['speed', '-mr', '-seconds', '1', '-bytes', '16384', '-aead', '-evp', name],
  ]);
  const found = /^\+F:\d+:[^:]+:([\d.]+)/m.exec(stdout);
  if (found === null) throw new Error(`openssl speed printed something else: ${stdout}`);
  return { amount: Number(found[1]), wall: 1, cpu: 1 };
}
