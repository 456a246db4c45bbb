/**
 * Bad input: whatever is wrong with the add-on's file or with the runtime, loading gives a reason. It
 * throws nothing, and ends no process.
 */
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { find } from '../../support/runtimes.ts';
import { child, describeNative, NATIVE, nodesAtHand, run } from './run-child.ts';

const require = createRequire(import.meta.url);
const ROOT = join(NATIVE, '..');
const NODE_GYP_BUILD = dirname(require.resolve('node-gyp-build/package.json'));

/** Prints the reason, and shows that TLS and the process are whole behind it. */
const script = (home: string) => `
  const { native, reason } = require(${JSON.stringify(home)});
  require('node:tls').createSecureContext();
  console.log(JSON.stringify(native === null ? reason : 'loaded'));`;

/** A folder of this package of its own, with this binary. */
class Copy {
  readonly home = mkdtempSync(join(tmpdir(), 'native-copy-'));
  readonly file = join(this.home, 'build/Release/close_notify_native.node');

  constructor() {
    for (const name of ['index.js', 'package.json']) {
      copyFileSync(join(NATIVE, name), join(this.home, name));
    }
    mkdirSync(dirname(this.file), { recursive: true });
    mkdirSync(join(this.home, 'node_modules'));
    symlinkSync(NODE_GYP_BUILD, join(this.home, 'node_modules/node-gyp-build'));
  }

  put(bytes: Uint8Array, digestOf: Uint8Array | null = null): void {
    writeFileSync(this.file, bytes);
    if (digestOf === null) rmSync(`${this.file}.sha256`, { force: true });
    else {
      const digest = createHash('sha256').update(digestOf).digest('hex');
      writeFileSync(`${this.file}.sha256`, digest);
    }
  }

  /** The reason, in a Node of its own that has to end well. */
  reason(node: string, flags: readonly string[] = [], environment = {}, before = ''): string {
    const args = [...flags, '-e', `${before};${script(this.home)}`];
    const outcome = run(node, args, environment);
    expect({ ...outcome, stderr: '' }).toMatchObject({ status: 0, signal: null, stderr: '' });
    return JSON.parse(outcome.stdout);
  }
}

describeNative('loading', () => {
  let copy: Copy;
  let good: Buffer;

  beforeAll(() => {
    copy = new Copy();
    good = readFileSync(require('node-gyp-build').path(NATIVE));
  });
  afterAll(() => rmSync(copy.home, { recursive: true, force: true }));

  const edited = (edit: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(good);
    edit(bytes);
    return bytes;
  };

  describe.each(nodesAtHand())('on Node %s', (_, node) => {
    test('works from a copy', () => {
      copy.put(good);
      expect(copy.reason(node)).toBe('loaded');
      copy.put(good, good);
      expect(copy.reason(node)).toBe('loaded');
    });

    test('without a file', () => {
      rmSync(copy.file, { force: true });
      expect(copy.reason(node)).toMatch(/^No native build was found/);
      mkdirSync(copy.file);
      expect(copy.reason(node)).toMatch(/^EISDIR/);
      rmSync(copy.file, { recursive: true });
    });

    test('a file that is no library', () => {
      for (const bytes of [Buffer.alloc(0), Buffer.from('#!/bin/sh\n'), Buffer.alloc(50_000)]) {
        copy.put(bytes);
        expect(copy.reason(node)).toMatch(/: not a library$/);
      }
    });

    test('a file that was cut short, anywhere', () => {
      for (let tenth = 1; tenth <= 10; tenth++) {
        copy.put(good.subarray(0, Math.floor((good.length * tenth) / 10) - 1));
        expect(copy.reason(node)).toMatch(/: cut short$/);
      }
    });

    test('a damaged file', () => {
      const zeroed = edited((bytes) => bytes.fill(0, bytes.length / 2));
      const flipped = edited((bytes) => {
        for (let at = 4096; at < bytes.length; at += 512) bytes[at] = ~(bytes[at] ?? 0);
      });
      for (const bytes of [zeroed, flipped]) {
        copy.put(bytes, good);
        expect(copy.reason(node)).toMatch(/: damaged: not its digest$/);
      }
    });

    test('a file of another machine', () => {
      copy.put(edited((bytes) => bytes.writeUInt16LE(process.arch === 'arm64' ? 62 : 183, 18)));
      expect(copy.reason(node)).toMatch(/: of another machine$/);
      copy.put(edited((bytes) => bytes.writeUInt8(1, 4)));
      expect(copy.reason(node)).toMatch(/ELF/);
    });

    test('a symbol that this Node does not have', () => {
      const name = good.indexOf('\0SSL_trace\0') + 1;
      expect(name).toBeGreaterThan(0);
      copy.put(edited((bytes) => bytes.write('SSL_tr4ce', name, 'latin1')));
      expect(copy.reason(node)).toMatch(/undefined symbol: SSL_tr4ce/);
    });

    test('another add-on', () => {
      const other = `@rolldown/binding-${process.platform}-${process.arch}-gnu`;
      const { main } = require(`${other}/package.json`);
      copy.put(readFileSync(join(dirname(require.resolve(`${other}/package.json`)), main)));
      expect(copy.reason(node)).toMatch(/: another add-on$/);
    });

    test('a library that is no add-on', () => {
      const libraries = run('ldd', [process.execPath]).stdout;
      const [, libm] = /libm\.so\.6 => (\S+)/.exec(libraries) ?? [];
      copy.put(readFileSync(libm ?? ''));
      expect(copy.reason(node)).toMatch(/Module did not self-register/);
    });

    test('of another version', () => {
      copy.put(good);
      const packed = JSON.parse(readFileSync(join(NATIVE, 'package.json'), 'utf8'));
      writeFileSync(
        join(copy.home, 'package.json'),
        JSON.stringify({ ...packed, version: '9.9.9' }),
      );
      try {
        expect(copy.reason(node)).toMatch(
          new RegExp(`: version ${packed.version}, this is 9\\.9\\.9$`),
        );
        // With one of this version there already.
        const first = `require(${JSON.stringify(NATIVE)})`;
        expect(copy.reason(node, [], {}, first)).toBe(
          `version ${packed.version} is loaded already, this is 9.9.9`,
        );
      } finally {
        copyFileSync(join(NATIVE, 'package.json'), join(copy.home, 'package.json'));
      }
    });

    test('two copies of the same version share one binding', () => {
      copy.put(good);
      const both = `const a = require(${JSON.stringify(NATIVE)}).native;
        const b = require(${JSON.stringify(copy.home)}).native;
        console.log(a !== null && a === b);`;
      expect(run(node, ['-e', both]).stdout).toBe('true\n');
    });

    test('a second context of a thread', () => {
      const reason = 'another context of this thread has the add-on';
      expect(child(node, 'context')).toEqual({ native: null, reason });
    });

    test('CLOSE_NOTIFY_NATIVE=0, --no-addons, --permission', () => {
      copy.put(good);
      expect(copy.reason(node, [], { CLOSE_NOTIFY_NATIVE: '0' })).toBe('CLOSE_NOTIFY_NATIVE=0');
      const disabled = 'Cannot load native addon because loading addons is disabled.';
      expect(copy.reason(node, ['--no-addons'])).toBe(disabled);
      const major = Number(/\d+/.exec(run(node, ['--version']).stdout));
      const permission = major === 20 ? '--experimental-permission' : '--permission';
      const restricted = copy.reason(node, [permission, '--allow-fs-read=*']);
      expect(restricted).toBe(disabled);
      // Nothing can be read but the package's JavaScript.
      const reads = ['index.js', 'package.json'].map((name) => join(copy.home, name));
      const flags = [permission, ...reads.map((read) => `--allow-fs-read=${read}`)];
      expect(copy.reason(node, flags)).not.toBe('loaded');
    });

    test.each([
      ['Electron', { electron: '40.0.0' }, 'this is Electron: its TLS is not OpenSSL'],
      ['a Node without OpenSSL', { openssl: undefined }, 'this Node has no OpenSSL'],
      ['OpenSSL 1.1', { openssl: '1.1.1w' }, 'OpenSSL 1.1.1w: the add-on is for version 3'],
      ['OpenSSL 4', { openssl: '4.0.0' }, 'OpenSSL 4.0.0: the add-on is for version 3'],
      ['OpenSSL 30', { openssl: '30.0.0' }, 'OpenSSL 30.0.0: the add-on is for version 3'],
      ['an old Node-API', { napi: '7' }, 'Node-API 7: the add-on needs version 8'],
      ['no Node-API', { napi: undefined }, 'Node-API undefined: the add-on needs version 8'],
    ])('%s', (_name, versions, reason) => {
      copy.put(good);
      const entries = Object.entries(versions).map(
        ([key, value]) => `${key}: ${JSON.stringify(value)}`,
      );
      const before = `Object.defineProperty(process, 'versions', {
        value: { ...process.versions, ${entries.join(', ')} } })`;
      expect(copy.reason(node, [], {}, before)).toBe(reason);
    });
  });

  test('a listener that throws is heard of, and the others are called', () => {
    expect(child(process.execPath, 'listeners')).toEqual({ told: 2, uncaught: ['of mine'] });
  });

  describe('the library, beside an add-on of another release', () => {
    let home: string;

    beforeAll(() => {
      const folder = mkdtempSync(join(tmpdir(), 'release-'));
      // Its other dependencies are found one folder up.
      symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
      home = join(folder, 'library');
      cpSync(join(ROOT, 'dist'), join(home, 'dist'), { recursive: true });
      copyFileSync(join(ROOT, 'package.json'), join(home, 'package.json'));
      mkdirSync(join(home, 'node_modules/close-notify-native'), { recursive: true });
    });
    afterAll(() => rmSync(dirname(home), { recursive: true, force: true }));

    test.each([
      ['an older one, which has no number', ''],
      ['a newer one', 'interface: 99,'],
    ])('%s: goes on without it, and says so', (_name, number) => {
      const binding = `{ version: '9.9.9', ${number} watch() { throw new Error('used'); } }`;
      writeFileSync(
        join(home, 'node_modules/close-notify-native/index.js'),
        `module.exports = { native: ${binding}, reason: null };`,
      );
      const outcome = run(process.execPath, [join(home, 'dist/cli/main.js'), 'doctor', '--json']);
      const shown = number === '' ? 'unknown' : '99';
      expect(JSON.parse(outcome.stdout)).toMatchObject({
        native: {
          version: null,
          reason: `close-notify-native 9.9.9 is of another release: its interface is ${shown}, not 2`,
        },
        dropIns: 'record',
      });
    });
  });

  for (const name of ['Bun', 'Deno']) {
    const program = find(name === 'Deno' ? 'deno' : 'bun');
    test.skipIf(program === null)(`${name} goes on without it`, () => {
      const file = join(copy.home, 'try.cjs');
      writeFileSync(file, `console.log(require(${JSON.stringify(NATIVE)}).reason)`);
      const args = name === 'Deno' ? ['run', '-A', file] : [file];
      const outcome = run(program ?? '', args);
      expect(outcome).toMatchObject({ status: 0 });
      expect(outcome.stdout.trim()).toBe(`this is ${name}: its TLS is not OpenSSL`);
    });
  }
});
