/**
 * The add-on's sources compile without a warning by whatever compiler is at hand, in C++17 and C++20, and for systems
 * that are not this one, as far as a compiler alone can say.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { NATIVE } from './run-child.ts';

const HEADERS = [process.env['npm_config_nodedir'], join(dirname(process.execPath), '..')]
  .map((home) => (home ? join(home, 'include/node') : ''))
  .find((folder) => existsSync(join(folder, 'node_api.h')));

const SOURCES = readdirSync(join(NATIVE, 'src')).filter((name) => name.endsWith('.cc'));

const FLAGS = ['-fsyntax-only', '-Wall', '-Wextra', '-Werror', `-I${HEADERS}`];
const DEFINES = ['-DNAPI_VERSION=8', '-DCLOSE_NOTIFY_NATIVE_VERSION="0.0.0"'];

/** Each compiler, and what is asked of it. The last is MinGW's, for Windows, whose libuv and OpenSSL Node's headers know. */
const COMPILERS = [
  ['g++', '-std=c++20'],
  ['clang++', '-std=c++20'],
  ['x86_64-w64-mingw32-g++-posix', '-std=c++17'],
] as const;

/** As for a system without descriptors. */
const WITHOUT = ['-std=c++17', '-DCLOSE_NOTIFY_NO_DESCRIPTORS'];

const isHere = (program: string) => spawnSync(program, ['--version']).status === 0;

describe.skipIf(HEADERS === undefined)('the sources of the add-on compile', () => {
  test.skipIf(!isHere('g++'))('g++, without descriptors', { timeout: 60_000 }, () => {
    const args = [...WITHOUT, ...FLAGS, join(NATIVE, 'src/descriptor.cc')];
    const { status, stderr } = spawnSync('g++', args, { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
  });

  for (const [compiler, ...options] of COMPILERS) {
    test.skipIf(!isHere(compiler))(`${compiler} ${options.join(' ')}`, { timeout: 120_000 }, () => {
      for (const source of SOURCES) {
        const args = [...options, ...FLAGS, ...DEFINES, join(NATIVE, 'src', source)];
        const { status, stderr } = spawnSync(compiler, args, { encoding: 'utf8' });
        expect(status, `${source}: ${stderr}`).toBe(0);
      }
    });
  }
});
