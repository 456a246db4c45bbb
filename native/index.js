// Finds the binary, judges it, loads it. Loading never throws: without the add-on close-notify works
// as well, so whatever is wrong here is a `reason`.
//
// A file that is no whole library for this machine is refused before it is loaded. Nothing catches the
// signal that the loader would die of.

const { createHash } = require('node:crypto');
const { existsSync, readFileSync } = require('node:fs');
const { version } = require('./package.json');

/**
 * What this package offers, as one number: it rises with each change that the library has to know of. A library asks
 * for the one that it was written for, and goes on without the add-on where it finds another.
 */
const INTERFACE = 2;

/** One binding for each thread, whatever number of copies of this package there is. */
const SHARED = Symbol.for('close-notify-native');

/** @returns {{ native: import('./index.js').Binding | null, reason: string | null }} */
function load() {
  try {
    const refusal = refuse();
    if (refusal !== null) return { native: null, reason: refusal };
    const loaded = globalThis[SHARED];
    if (loaded === undefined) {
      const native = open();
      Object.defineProperty(globalThis, SHARED, { value: native });
      return { native, reason: null };
    }
    if (loaded.version === version) return { native: loaded, reason: null };
    return {
      native: null,
      reason: `version ${loaded.version} is loaded already, this is ${version}`,
    };
  } catch (error) {
    return { native: null, reason: String(error?.message ?? error).split('\n', 1)[0] };
  }
}

/** Why this runtime cannot have the add-on; null where it can. */
function refuse() {
  const { bun, deno, electron, openssl, napi } = process.versions;
  if (bun !== undefined) return 'this is Bun: its TLS is not OpenSSL';
  if (deno !== undefined) return 'this is Deno: its TLS is not OpenSSL';
  if (electron !== undefined) return 'this is Electron: its TLS is not OpenSSL';
  if (process.env.CLOSE_NOTIFY_NATIVE === '0') return 'CLOSE_NOTIFY_NATIVE=0';
  if (!openssl) return 'this Node has no OpenSSL';
  if (!openssl.startsWith('3.')) return `OpenSSL ${openssl}: the add-on is for version 3`;
  if (!(Number(napi) >= 8)) return `Node-API ${napi}: the add-on needs version 8`;
  return null;
}

/** Loads the binary of this package. */
function open() {
  // A build of one's own wins over the published ones.
  const file = require('node-gyp-build').path(__dirname);
  const problem = judge(file);
  if (problem !== null) throw new Error(`${file}: ${problem}`);
  const binding = require(file);
  if (typeof binding?.find !== 'function' || typeof binding.watch !== 'function') {
    throw new Error(`${file}: another add-on`);
  }
  if (binding.version !== version) {
    throw new Error(`${file}: version ${binding.version}, this is ${version}`);
  }
  return share(binding);
}

/** What is wrong with a binary; null if nothing is. */
function judge(file) {
  const bytes = readFileSync(file);
  // Written by whoever built it for more than himself: scripts/digest.js.
  if (existsSync(`${file}.sha256`)) {
    const digest = createHash('sha256').update(bytes).digest('hex');
    if (readFileSync(`${file}.sha256`, 'latin1').trim() !== digest)
      return 'damaged: not its digest';
  }
  return process.platform === 'linux' ? judgeElf(bytes) : null;
}

/** Numbers of the ELF specification: e_machine by what Node calls it. */
const MACHINES = {
  arm: 40,
  arm64: 183,
  ia32: 3,
  loong64: 258,
  ppc64: 21,
  riscv64: 243,
  s390x: 22,
  x64: 62,
};
const BITS_64 = 2;
const LITTLE_ENDIAN = 1;
const SHARED_OBJECT = 3;

/** An ELF file is whole where the table of its sections is, which the linker puts at the end. */
function judgeElf(bytes) {
  if (bytes.length < 64 || bytes.toString('latin1', 0, 4) !== '\x7fELF') return 'not a library';
  // What is neither is left to the loader, which checks as much before it maps anything.
  if (bytes[4] !== BITS_64 || bytes[5] !== LITTLE_ENDIAN) return null;
  if (bytes.readUInt16LE(16) !== SHARED_OBJECT) return 'not a library';
  const machine = MACHINES[process.arch];
  if (machine !== undefined && bytes.readUInt16LE(18) !== machine) return 'of another machine';
  const end = Number(bytes.readBigUInt64LE(40)) + bytes.readUInt16LE(58) * bytes.readUInt16LE(60);
  return end > bytes.length ? 'cut short' : null;
}

/** Each copy of close-notify that uses this thread's binding has a listener of its own. */
function share(binding) {
  const listeners = new Set();
  const onIgnored = (watch) => {
    for (const listener of listeners) {
      try {
        listener(watch);
      } catch (error) {
        // An uncaught exception of that listener; the others are called all the same.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  };
  return Object.freeze({
    version: binding.version,
    interface: INTERFACE,
    openssl: binding.openssl,
    find: binding.find,
    mark: binding.mark,
    since: binding.since,
    live: binding.live,
    watch(listener) {
      if (typeof listener !== 'function') {
        const error = new TypeError("watch: 'onIgnored' must be a function");
        throw Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
      }
      binding.watch(onIgnored);
      listeners.add(listener);
    },
  });
}

const { native, reason } = load();
exports.native = native;
exports.reason = reason;
