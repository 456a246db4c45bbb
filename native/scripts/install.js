// Run by `npm ci` in a clone (the root's `prepare`): sees to it that the add-on is there, where it can
// be. It says in one line what came of it, on stderr, and never fails: close-notify works without.
//
// It downloads nothing. Headers are those that came with Node, or of npm's `nodedir`; node-gyp is the one
// that npm carries.

const { spawnSync } = require('node:child_process');
const { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { writeDigests } = require('./digest.js');

const HOME = join(__dirname, '..');
const LOG = join(HOME, 'build/install.log');

/** How long a child process may take, milliseconds: more than any build here took by far. */
const PATIENCE = 300_000;

function main() {
  if (process.env.CLOSE_NOTIFY_NATIVE === '0') return 'left out (CLOSE_NOTIFY_NATIVE=0)';
  if (upToDate() && tryToLoad() === null) return 'is there';
  const obstacle = build();
  if (obstacle !== null) return `not built: ${obstacle}; close-notify works without it`;
  writeDigests(HOME);
  const reason = tryToLoad();
  return reason === null ? 'built' : `built, but ${reason}; close-notify works without it`;
}

/** No source is newer than the binary. */
function upToDate() {
  let file;
  try {
    file = require('node-gyp-build').path(HOME);
  } catch {
    return false; // there is none
  }
  const sources = readdirSync(join(HOME, 'src')).map((name) => join(HOME, 'src', name));
  const changed = [...sources, join(HOME, 'binding.gyp'), join(HOME, 'package.json')];
  return changed.every((source) => statSync(source).mtimeMs <= statSync(file).mtimeMs);
}

/** In a child process, since a bad library may end its process. Returns why not, or null. */
function tryToLoad() {
  const script = `const { reason } = require(${JSON.stringify(HOME)});
    process.stdout.write(reason ?? ''); process.exitCode = reason === null ? 0 : 1;`;
  const { status, signal, stdout, error } = run(process.execPath, ['-e', script]);
  if (status === 0) return null;
  return stdout || `loading it ended with ${error?.message ?? signal ?? `code ${status}`}`;
}

/** Returns why it could not, or null. */
function build() {
  const gyp = nodeGyp();
  if (gyp === null) return 'npm has no node-gyp here';
  const headers = headersOfNode();
  if (headers === null) return "Node's headers are not here";
  const compiler = process.env.CXX ?? 'c++';
  if (process.platform !== 'win32') {
    for (const tool of ['make', compiler]) {
      if (run(tool, ['--version']).status !== 0) return `${tool} is not here`;
    }
  }
  const args = [gyp, 'rebuild', '--directory', HOME, '--nodedir', headers];
  const { status, stdout, stderr, error } = run(process.execPath, args);
  if (status === 0) return null;
  mkdirSync(dirname(LOG), { recursive: true });
  writeFileSync(LOG, `${stdout}${stderr}`);
  return `${error?.message ?? 'the compiler failed'}, see ${LOG}`;
}

/** npm tells its scripts where its node-gyp is; without npm it is looked for beside Node. */
function nodeGyp() {
  const own = join(dirname(process.execPath), '../lib/node_modules/npm/node_modules');
  const places = [process.env.npm_config_node_gyp, join(own, 'node-gyp/bin/node-gyp.js')];
  return places.find((place) => place && existsSync(place)) ?? null;
}

function headersOfNode() {
  const places = [process.env.npm_config_nodedir, join(dirname(process.execPath), '..')];
  const found = (place) => place && existsSync(join(place, 'include/node/node_api.h'));
  return places.find(found) ?? null;
}

function run(command, args) {
  return spawnSync(command, args, { cwd: HOME, encoding: 'utf8', timeout: PATIENCE });
}

let outcome;
try {
  outcome = main();
} catch (error) {
  outcome = `not built: ${String(error?.message ?? error).split('\n', 1)[0]}`;
}
process.stderr.write(`close-notify-native: ${outcome}\n`);
