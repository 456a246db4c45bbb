/** The package close-notify-native: its versions, its installation, and what is published. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import root from '../../../package.json' with { type: 'json' };
import { child, describeNative, NATIVE, nodesAtHand, run } from './run-child.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const require = createRequire(import.meta.url);
interface Locked {
  readonly resolved?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly link?: boolean;
  readonly peer?: boolean;
}

/** Every package that `npm ci` installs, by its folder. */
const { packages }: { packages: Record<string, Locked> } = JSON.parse(
  readFileSync(join(ROOT, 'package-lock.json'), 'utf8'),
);
const packed = JSON.parse(readFileSync(join(NATIVE, 'package.json'), 'utf8'));
const NODE_GYP_BUILD = dirname(require.resolve('node-gyp-build/package.json'));

/** Where headers and node-gyp are, as `npm run` would say. */
const npm = (() => {
  const script = 'console.log(process.env.npm_config_node_gyp, process.env.npm_config_nodedir)';
  const { stdout } = run('npm', ['exec', '-c', `node -e "${script}"`], {}, ROOT);
  const [gyp = '', nodedir = ''] = stdout.trim().split(' ');
  return {
    npm_config_node_gyp: gyp,
    npm_config_nodedir: nodedir === 'undefined' ? join(dirname(process.execPath), '..') : nodedir,
  };
})();

/** A copy of the package's sources, with nothing built. */
function sources(): string {
  const home = mkdtempSync(join(tmpdir(), 'native-sources-'));
  for (const name of readdirSync(NATIVE)) {
    if (/^(?:build.*|prebuilds|node_modules)$/.test(name)) continue;
    cpSync(join(NATIVE, name), join(home, name), { recursive: true });
  }
  mkdirSync(join(home, 'node_modules'));
  symlinkSync(NODE_GYP_BUILD, join(home, 'node_modules/node-gyp-build'));
  return home;
}

test('both packages have one version, and each accepts the other', () => {
  expect(packed.version).toBe(root.version);
  // `npm version --workspaces` does not write the range.
  expect(root.peerDependencies['close-notify-native']).toBe(`^${root.version}`);
  expect(root.peerDependenciesMeta['close-notify-native'].optional).toBe(true);
  expect(packed.engines).toEqual(root.engines);
});

test('the lock file has the workspace as a link, and names no host', () => {
  const resolved = Object.entries(packages).flatMap(([path, entry]) =>
    entry.resolved === undefined ? [] : [[path, entry.resolved]],
  );
  expect(resolved).toEqual([['node_modules/close-notify-native', 'native']]);
});

describe('npm ci', () => {
  let home: string;

  beforeAll(() => {
    home = sources();
  });
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  /** What `scripts/install.js` says, in its one line. It never fails. */
  function install(environment: Record<string, string> = {}): string {
    const script = join(home, 'scripts/install.js');
    const outcome = run(process.execPath, [script], { ...npm, ...environment });
    expect(outcome).toMatchObject({ status: 0, stdout: '' });
    expect(outcome.stderr).toMatch(/^close-notify-native: [^\n]+\n$/);
    return outcome.stderr.slice('close-notify-native: '.length, -1);
  }

  const without = (what: string) => `not built: ${what}; close-notify works without it`;

  test('goes on where there is no compiler', () => {
    const empty = mkdtempSync(join(tmpdir(), 'native-path-'));
    expect(install({ PATH: empty })).toBe(without('make is not here'));
    rmSync(empty, { recursive: true });
    const broken = join(home, 'src/broken.cc');
    const binding = readFileSync(join(home, 'binding.gyp'), 'utf8');
    writeFileSync(broken, 'not C++\n');
    writeFileSync(
      join(home, 'binding.gyp'),
      binding.replace('"src/addon.cc"', '"src/broken.cc", "src/addon.cc"'),
    );
    const log = join(home, 'build/install.log');
    const said = install();
    if (!said.includes('is not here')) {
      expect(said).toBe(without(`the compiler failed, see ${log}`));
      expect(readFileSync(log, 'utf8')).toContain('not C++');
    }
    rmSync(broken);
    writeFileSync(join(home, 'binding.gyp'), binding);
  });

  test('goes on where the add-on is not wanted', () => {
    expect(install({ CLOSE_NOTIFY_NATIVE: '0' })).toBe('left out (CLOSE_NOTIFY_NATIVE=0)');
  });
});

describeNative('close-notify-native, packed', () => {
  let home: string;
  let installed: string;

  beforeAll(() => {
    home = sources();
    installed = mkdtempSync(join(tmpdir(), 'native-installed-'));
    const tarballs = join(installed, 'tarballs');
    mkdirSync(tarballs);
    const works = (program: string, args: string[], cwd: string) => {
      const outcome = run(program, args, npm, cwd);
      if (outcome.status !== 0) throw new Error(`${program} ${args.join(' ')}\n${outcome.stderr}`);
    };
    // As `npm run prebuilds` does, but not in the workspace: other tests use what is built there.
    const prebuildify = require.resolve('prebuildify/bin.js');
    works(process.execPath, [prebuildify, '--napi', '--strip', '--tag-libc'], home);
    works(process.execPath, [join(home, 'scripts/digest.js')], home);
    // Nothing comes from a registry: what the two packages need is packed from here as well.
    const needed = Object.entries(packages)
      .filter(([path]) => path.startsWith('node_modules/'))
      .filter(([, { dev, devOptional, link, peer }]) => !(dev || devOptional || link || peer))
      .map(([path]) => join(ROOT, path))
      .filter((path) => existsSync(path));
    const pack = ['pack', '--ignore-scripts', '--pack-destination', tarballs];
    works('npm', [...pack, ROOT, home, ...needed], installed);
    const files = readdirSync(tarballs).map((name) => `./tarballs/${name}`);
    writeFileSync(join(installed, 'package.json'), '{"private":true}');
    works('npm', ['install', '--offline', '--no-audit', '--no-fund', ...files], installed);
  }, 120_000);
  afterAll(() => {
    for (const folder of [home, installed]) rmSync(folder, { recursive: true, force: true });
  });

  test('has the prebuild and its digest, no build and no install script', () => {
    const folder = join(installed, 'node_modules/close-notify-native');
    expect(existsSync(join(folder, 'build'))).toBe(false);
    expect(readdirSync(folder).sort()).toEqual([
      'LICENSE',
      'README.md',
      'binding.gyp',
      'index.d.ts',
      'index.js',
      'package.json',
      'prebuilds',
      'src',
    ]);
    const platform = `${process.platform}-${process.arch}`;
    const name = readdirSync(join(folder, 'prebuilds', platform)).sort();
    expect(name).toEqual([
      expect.stringMatching(/^close-notify-native\.(?:glibc|musl)\.node$/),
      expect.stringMatching(/\.node\.sha256$/),
    ]);
    // npm would run node-gyp for a binding.gyp without this.
    expect(packed.gypfile).toBe(false);
    expect(Object.keys(packed.scripts)).not.toContain('install');
  });

  test.each(nodesAtHand())('loads from there on Node %s, and works', (_, node) => {
    const script = `
      const { realpathSync } = require('node:fs');
      const { native, reason } = require('close-notify-native');
      const maps = require('node:fs').readFileSync('/proc/self/maps', 'latin1');
      const [file] = /\\S*close-notify-native\\S*\\.node/.exec(maps) ?? [];
      console.log(JSON.stringify([reason, native?.version, file]));`;
    const outcome = run(node, ['-e', script], {}, installed);
    expect(outcome).toMatchObject({ status: 0, stderr: '' });
    const folder = join(installed, 'node_modules/close-notify-native');
    expect(JSON.parse(outcome.stdout)).toEqual([
      null,
      root.version,
      expect.stringContaining(join(folder, 'prebuilds')),
    ]);
    expect(child(node, 'arguments', [], { NATIVE_PACKAGE: folder })).toBe('fine');
    const main = `import('close-notify').then(({ connect }) => console.log(typeof connect))`;
    expect(run(node, ['-e', main], {}, installed)).toMatchObject({ stdout: 'function\n' });
  });

  test('a build of one’s own wins over the prebuild', () => {
    const folder = join(installed, 'node_modules/close-notify-native');
    const own = join(folder, 'build/Release/own.node');
    mkdirSync(dirname(own), { recursive: true });
    writeFileSync(own, 'nothing');
    const script = `console.log(require('close-notify-native').reason)`;
    expect(run(process.execPath, ['-e', script], {}, installed).stdout).toBe(
      `${own}: not a library\n`,
    );
    rmSync(join(folder, 'build'), { recursive: true });
  });
});
