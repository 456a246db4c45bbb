'use strict';
// Builds the add-on with AddressSanitizer and UBSan into a folder of its own, and runs the children of
// its tests with it, in their short form. Before that, test/witness_test.cc: the witness without Node, on the
// system's OpenSSL, with ThreadSanitizer as well. Any report ends the process that made it, and fails this.
// (test/session_fuzz.cc is run by `npm run prove -- --only fuzz`.)
//
// usage: node native/scripts/sanitize.js [NODE...]   default: the Node that runs this

const { execFileSync, spawnSync } = require('node:child_process');
const { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { dirname, join } = require('node:path');

const HOME = join(__dirname, '..');
const BUILD = join(HOME, 'build-sanitize');
const CHILDREN = join(HOME, '../test/behaviour/native/child');
const SANITIZERS = '-fsanitize=address,undefined -fno-sanitize-recover=all';

/** Each child, and its arguments. */
const RUNS = [
  ['alerts'],
  ['join'],
  ['arguments'],
  ['listeners'],
  ['worker', 'worker'],
  ['worker', 'both'],
  ['worker', 'main'],
  ['many', '500'],
  ['engine'],
  ['engine-arguments'],
  ['engine-worker', 'loads'],
  ['engine-worker', 'alone'],
  ['engine-exit', 'nothing'],
  ['engine-many', '200'],
];

/**
 * What a plain Node leaks, without the add-on: OpenSSL 3.5 its table of compression methods, Node 22 the store of root
 * certificates of each worker. Those of Node or V8 as a whole would hide ours.
 */
const SUPPRESSIONS = ['ossl_load_builtin_compressions', 'node::crypto::NewRootCertStore']
  .map((name) => `leak:${name}\n`)
  .join('');

/** The witness without Node, which gives its headers only. Returns how many runs failed. */
function alone(folder) {
  let failed = 0;
  for (const sanitizers of ['address,undefined', 'thread']) {
    const program = join(folder, 'witness_test');
    const flags = '-std=c++17 -Wall -Wextra -Werror -g -O1 -fno-sanitize-recover=all'.split(' ');
    const sources = ['test/witness_test.cc', 'src/witness.cc'].map((name) => join(HOME, name));
    // Behind those of the system, whose OpenSSL it is linked with.
    const all = [...flags, `-fsanitize=${sanitizers}`, '-idirafter', includes(), ...sources];
    const libraries = ['-o', program, '-lssl', '-lcrypto', '-lpthread'];
    execFileSync(process.env.CXX ?? 'c++', [...all, ...libraries], { stdio: 'inherit' });
    const { status, signal, stderr } = spawnSync(program, { encoding: 'utf8', timeout: 100_000 });
    const good = status === 0;
    console.log(`${good ? 'clean' : 'FAILED'}: witness_test, ${sanitizers}`);
    if (good) continue;
    failed++;
    console.error(`${signal ?? `code ${status}`}\n${stderr}`);
  }
  return failed;
}

const headers = () => process.env.npm_config_nodedir ?? join(dirname(process.execPath), '..');

const includes = () => join(headers(), 'include/node');

function build() {
  rmSync(BUILD, { recursive: true, force: true });
  mkdirSync(BUILD);
  for (const name of ['binding.gyp', 'package.json', 'src']) {
    cpSync(join(HOME, name), join(BUILD, name), { recursive: true });
  }
  const { npm_config_node_gyp: gyp } = process.env;
  if (!gyp) throw new Error('run it by npm, which says where its node-gyp is');
  execFileSync(process.execPath, [gyp, 'rebuild', '--nodedir', headers(), '--loglevel', 'warn'], {
    cwd: BUILD,
    env: {
      ...process.env,
      CXXFLAGS: `${SANITIZERS} -fno-omit-frame-pointer -g -O1`,
      LDFLAGS: SANITIZERS,
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

function certificate(folder) {
  const command = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2';
  const names = '-subj /CN=localhost -keyout key.pem -out cert.pem';
  const args = `${command} ${names}`.split(' ');
  execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
}

function library() {
  const file = execFileSync('gcc', ['-print-file-name=libasan.so'], { encoding: 'utf8' });
  return realpathSync(file.trim());
}

function main() {
  const nodes = process.argv.length > 2 ? process.argv.slice(2) : [process.execPath];
  const started = Date.now();
  const folder = mkdtempSync(join(tmpdir(), 'native-sanitize-'));
  let failed = 0;
  try {
    failed += alone(folder);
    build();
    certificate(folder);
    writeFileSync(join(folder, 'suppressions'), SUPPRESSIONS);
    const env = {
      ...process.env,
      LD_PRELOAD: library(),
      ASAN_OPTIONS: 'detect_leaks=1',
      LSAN_OPTIONS: `suppressions=${join(folder, 'suppressions')}:print_suppressions=0`,
      UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
      // Where node-gyp-build looks for the binary.
      CLOSE_NOTIFY_NATIVE_PREBUILD: BUILD,
      NATIVE_PACKAGE: HOME,
      NATIVE_PEM: folder,
    };
    for (const node of nodes) {
      for (const [name, ...args] of RUNS) {
        const all = ['--expose-gc', join(CHILDREN, `${name}.cjs`), ...args];
        const options = { encoding: 'utf8', env, killSignal: 'SIGKILL', timeout: 100_000 };
        const { status, signal, stderr } = spawnSync(node, all, options);
        const good = status === 0;
        console.log(`${good ? 'clean' : 'FAILED'}: ${node} ${[name, ...args].join(' ')}`);
        if (good) continue;
        failed++;
        console.error(`${signal ?? `code ${status}`}\n${stderr}`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(BUILD, { recursive: true, force: true });
  }
  console.log(`${failed} failed, ${Math.round((Date.now() - started) / 1000)} s`);
  process.exitCode = failed === 0 ? 0 : 1;
}

main();
