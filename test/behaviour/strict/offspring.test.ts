/**
 * Workers and forks under `register`: they have its settings, see nothing of how they came by it, and are what Node
 * makes again once it is undone. Which of them are covered is asked in reach.test.ts.
 */
import childProcess, { execFile } from 'node:child_process';
import cluster from 'node:cluster';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import workerThreads from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { register, unregister } from '../../../src/strict/register.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { describeNodes } from '../../support/describe-nodes.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

unregister();
const now = () => ({
  Worker: workerThreads.Worker,
  fork: childProcess.fork,
  spawn: childProcess.spawn,
  spawnSync: childProcess.spawnSync,
  execFile: childProcess.execFile,
  execFileSync: childProcess.execFileSync,
  clusterFork: cluster.fork,
});
const original = now();
afterEach(() => unregister());

test('what makes workers and forks looks as it did, and is Node’s again once undone', () => {
  const undo = register();
  expect(workerThreads.Worker).not.toBe(original.Worker);
  expect(workerThreads.Worker.name).toBe('Worker');
  expect(workerThreads.Worker.prototype).toBe(original.Worker.prototype);
  expect(childProcess.fork.name).toBe('fork');
  expect(childProcess.fork.length).toBe(original.fork.length);
  for (const name of ['spawn', 'spawnSync', 'execFile', 'execFileSync'] as const) {
    expect(childProcess[name], name).not.toBe(original[name]);
    expect(childProcess[name].name).toBe(name);
    expect(childProcess[name].length).toBe(original[name].length);
  }
  const once = now();
  register({ mode: 'report' });
  expect(now()).toEqual(once);
  undo();
  expect(now()).toEqual(once);
  unregister();
  expect(now()).toEqual(original);
  expect(workerThreads.getEnvironmentData('close-notify.register')).toBe(undefined);
});

test('somebody else’s Worker, put on after ours, stays, and ours passes on', () => {
  register();
  const ours = workerThreads.Worker;
  class Theirs extends ours {}
  workerThreads.Worker = Theirs as typeof ours;
  unregister();
  expect(workerThreads.Worker).toBe(Theirs);
  workerThreads.Worker = original.Worker;
});

test('what Node refuses, it refuses in the same words', () => {
  const refused: readonly (() => unknown)[] = [
    () => new workerThreads.Worker(5 as never),
    () => new workerThreads.Worker('', { eval: true, execArgv: 'x' as never }),
    () => new workerThreads.Worker('', { eval: true, execArgv: ['--title=x'] }),
    () =>
      new workerThreads.Worker('', { eval: true, execArgv: ['--nonsense', '--conditions', 'x'] }),
    () => new workerThreads.Worker('', { eval: true, env: { NODE_OPTIONS: '--title=x' } }),
    () => new workerThreads.Worker('', { eval: true, argv: 'x' as never }),
    () => new workerThreads.Worker('', { eval: true, env: 5 as never }),
    () => childProcess.fork(5 as never),
    () => childProcess.fork('x', 5 as never),
    () => childProcess.fork('x', [], 5 as never),
    () => childProcess.fork('x', { execPath: 5 as never }),
    () => childProcess.spawn(5 as never),
    () => childProcess.spawn('', []),
    () => childProcess.spawn(process.execPath, 5 as never),
    () => childProcess.spawn(process.execPath, [], 5 as never),
    () => childProcess.spawn(process.execPath, [], { cwd: 5 as never }),
    () => childProcess.spawn(process.execPath, [], { argv0: 5 as never }),
    () => childProcess.execFile(process.execPath, [], {}, 5 as never),
    () => childProcess.execFileSync(process.execPath, 5 as never),
    () => childProcess.spawnSync(process.execPath, [], { timeout: -1 }),
  ];
  const said = () =>
    refused.map((call) => {
      try {
        call();
        return null;
      } catch (error) {
        const { name, message } = error as Error;
        return [name, (error as { code?: string }).code, message];
      }
    });
  const plain = said();
  expect(plain).not.toContain(null);
  register();
  expect(said()).toEqual(plain);
});

/** A program of these files, beside which the package is installed. */
function programOf(scope: Scope, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'close-notify-offspring-'));
  scope.defer(() => rmSync(folder, { recursive: true }));
  cpSync(join(ROOT, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(ROOT, 'dist'), join(folder, 'dist'));
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  for (const [name, code] of Object.entries(files)) writeFileSync(join(folder, name), code);
  return folder;
}

interface More {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs `main.mjs` of a program, which prints JSON. */
async function run(node: string, folder: string, { args = [], env = {} }: More = {}) {
  const all = [...args, join(folder, 'main.mjs')];
  const options = { cwd: folder, env: { PATH: process.env['PATH'], ...env }, timeout: 60_000 };
  const { stdout } = await promisify(execFile)(node, all, options);
  return JSON.parse(stdout);
}

/** A worker or a fork that tells what it sees of itself, and the settings of its `tls.connect`. */
const LEAF = `
  const { isMainThread, parentPort, workerData } = require('node:worker_threads');
  const { connect } = require('node:tls');
  const key = Object.getOwnPropertySymbols(connect).find(({ description }) => description === 'close-notify.settings');
  const { argv, execArgv, env } = process;
  const told = {
    settings: key === undefined ? null : connect[key]?.inherited ?? null,
    seen: { argv: argv.slice(1), execArgv, env: { ...env }, workerData, stack: new Error('x').stack, main: require.main?.filename ?? null },
  };
  if (isMainThread) process.send(told, () => process.disconnect());
  else parentPort.postMessage(told);
`;

/** Makes them in many ways, and prints what they tell. */
const MAKER = `
  import childProcess from 'node:child_process';
  import cluster from 'node:cluster';
  import { once } from 'node:events';
  import { readFileSync } from 'node:fs';
  import { fileURLToPath } from 'node:url';
  import workerThreads, { SHARE_ENV } from 'node:worker_threads';

  const LEAF = fileURLToPath(new URL('leaf.cjs', import.meta.url));
  const all = {};
  async function ask(way, made) {
    const [told] = await Promise.race([once(made, 'message'), once(made, 'exit')]);
    all[way] = told;
  }
  class Own extends workerThreads.Worker {}
  const work = (way, options, file = LEAF) => ask(way, new Own(file, options));
  const code = '"use strict";' + readFileSync(LEAF, 'utf8');
  await work('worker');
  await work('worker, options', { argv: ['a'], workerData: { x: 1 }, execArgv: ['--conditions', 'x'] });
  await work('worker, env', { env: { A: '1' } });
  await work('worker, SHARE_ENV', { env: SHARE_ENV });
  await work('worker, own settings', { env: { CLOSE_NOTIFY_MODE: 'error' } });
  await work('worker, eval', { eval: true }, code);
  await work('worker, eval, options', { eval: true, execArgv: [], env: {} }, code);
  const fork = (way, ...args) => ask(way, childProcess.fork(LEAF, ...args));
  await fork('fork');
  await fork('fork, args', ['a']);
  await fork('fork, options', { execArgv: [], env: { A: '1', NODE_OPTIONS: '--no-warnings' } });
  await fork('fork, args, options', ['a'], { env: Object.create({ A: '1' }) });
  await fork('fork, own settings', undefined, { env: { CLOSE_NOTIFY_MODE: 'error' } });
  const stdio = ['ignore', 'ignore', 'ignore', 'ipc'];
  const spawn = (way, ...args) => ask(way, childProcess.spawn(process.execPath, ...args));
  await spawn('spawn', [LEAF, 'a'], { stdio });
  await spawn('spawn, options', ['--no-warnings', LEAF], { stdio, env: { A: '1', NODE_OPTIONS: '--no-warnings' } });
  await spawn('spawn, own settings', [LEAF], { stdio, env: { CLOSE_NOTIFY_MODE: 'error' } });
  cluster.setupPrimary({ exec: LEAF, args: ['a'] });
  await ask('cluster', cluster.fork());
  await ask('cluster, env', cluster.fork({ A: '1' }));
  all.self = { execArgv: process.execArgv, env: { ...process.env } };
  console.log(JSON.stringify(all));
`;

describeNodes('a program', (node) => {
  const register = (options: string) =>
    `import { register } from 'close-notify/register'; register(${options});`;
  const settings = { mode: 'report', include: [], exclude: ['a.example', '*.b.example'] };
  // Flags that a worker does not take, one with a value of its own, and one that it does.
  const FLAGS = ['--max-old-space-size=300', '--expose-gc', '--title', 'x y', '--conditions', 'y'];

  for (const [what, more] of [
    ['without flags', {}],
    [
      'with flags and NODE_OPTIONS',
      {
        args: ['--max-old-space-size=300', '--title=x', '--conditions', 'y'],
        env: { NODE_OPTIONS: '--max-semi-space-size=8 --no-warnings' },
      },
    ],
  ] as const) {
    test(
      `sees nothing of it in its workers and forks, which have its settings; ${what}`,
      clean(async (scope) => {
        const files = { 'leaf.cjs': LEAF, 'plain.mjs': MAKER };
        const folder = programOf(scope, { ...files, 'main.mjs': `import './plain.mjs';` });
        const plain = await run(node, folder, more);
        const code = `${register(JSON.stringify(settings))} await import('./plain.mjs');`;
        writeFileSync(join(folder, 'main.mjs'), code);
        const registered = await run(node, folder, more);
        expect(Object.keys(registered)).toEqual(Object.keys(plain));
        expect(registered.self).toEqual(plain.self);
        for (const [way, told] of Object.entries<Record<string, unknown>>(registered)) {
          if (way === 'self') continue;
          expect(told['seen'], way).toEqual(plain[way].seen);
          expect(plain[way].settings, way).toBe(null);
          const own = way.includes('own settings') ? { mode: 'error' } : settings;
          expect(told['settings'], way).toEqual(own);
        }
      }),
    );
  }

  test(
    'makes workers with the flags that it was started with',
    clean(async (scope) => {
      const folder = programOf(scope, {
        'main.mjs': `${register('')}
          import { once } from 'node:events';
          import { Worker } from 'node:worker_threads';
          const all = [];
          for (const options of [{}, { env: {} }, { execArgv: [] }]) {
            const [told] = await once(new Worker('./leaf.cjs', options), 'message');
            all.push(told);
          }
          console.log(JSON.stringify(all));`,
        'leaf.cjs': `require('node:worker_threads').parentPort.postMessage([typeof gc, require('#it')])`,
        'y.cjs': `module.exports = 'y'`,
        'z.cjs': `module.exports = 'z'`,
      });
      const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
      const imports = { '#it': { y: './y.cjs', default: './z.cjs' } };
      writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...manifest, imports }));
      expect(await run(node, folder, { args: FLAGS })).toEqual([
        ['function', 'y'],
        ['function', 'y'],
        ['function', 'z'],
      ]);
    }),
  );

  test(
    'runs itself with any arguments that Node takes, and another program with all that it was given',
    clean(async (scope) => {
      const folder = programOf(scope, {
        'leaf.cjs': `
          const { connect } = require('node:tls');
          const strict = Object.getOwnPropertySymbols(connect).some(({ description }) => description === 'close-notify.settings');
          console.log(strict, process.env.A ?? '-', ...process.argv.slice(2));`,
        other: '#!/bin/sh\necho "other $# $NODE_OPTIONS."\n',
        'main.mjs': `import 'close-notify/register';
          import childProcess, { execFile } from 'node:child_process';
          import { once } from 'node:events';
          import { chmodSync, symlinkSync } from 'node:fs';
          import { basename, dirname } from 'node:path';
          import { promisify } from 'node:util';
          chmodSync('other', 0o755);
          symlinkSync(process.execPath, 'itself');
          const node = process.execPath;
          const env = { A: '1', PATH: '/nowhere:.:' + dirname(node) };
          const all = {};
          const tell = async (way, child) => {
            let text = '';
            child.stdout.on('data', (chunk) => { text += chunk; });
            await once(child, 'close');
            all[way] = text.trim();
          };
          const through = (way, ...args) => new Promise((resolve) =>
            execFile(...args, (error, out) => { all[way] = (error ?? out.trim()); resolve(); }));
          await tell('spawn, no list', childProcess.spawn('./itself', undefined, { env, argv0: 'leaf' }).on('spawn', function () { this.stdin.end("require('./leaf.cjs')"); }));
          await tell('spawn, options first', childProcess.spawn('itself', { env }).on('spawn', function () { this.stdin.end("require('./leaf.cjs')"); }));
          await tell('spawn, cwd', childProcess.spawn('./itself', ['leaf.cjs', 'x'], { cwd: new URL('.', import.meta.url) }));
          await through('execFile, list', node, ['leaf.cjs', 'a b']);
          await through('execFile, null', node, ['leaf.cjs'], null);
          await through('execFile, options', basename(node), ['leaf.cjs'], { env });
          all['execFile, promised'] = (await promisify(execFile)(node, ['leaf.cjs', 'p'])).stdout.trim();
          all.execFileSync = childProcess.execFileSync(node, ['leaf.cjs'], { encoding: 'utf8' }).trim();
          all.spawnSync = childProcess.spawnSync(node, ['leaf.cjs'], { encoding: 'utf8' }).stdout.trim();
          await tell('other', childProcess.spawn('./other', ['leaf.cjs']));
          await tell('shell', childProcess.spawn('./other leaf.cjs', { shell: true }));
          await through('not there', 'not-there', ['leaf.cjs']);
          all['not there'] = all['not there'].code;
          console.log(JSON.stringify(all));`,
      });
      expect(await run(node, folder)).toEqual({
        'spawn, no list': 'true 1',
        'spawn, options first': 'true 1',
        'spawn, cwd': 'true - x',
        'execFile, list': 'true - a b',
        'execFile, null': 'true -',
        'execFile, options': 'true 1',
        'execFile, promised': 'true - p',
        execFileSync: 'true -',
        spawnSync: 'true -',
        other: 'other 1 .',
        shell: 'other 1 .',
        'not there': 'ENOENT',
      });
    }),
  );

  test(
    'that gives a process permissions of its own leaves it alone: it may not read the package',
    clean(async (scope) => {
      const folder = programOf(scope, {
        'leaf.cjs': 'process.send(typeof process.permission, () => process.disconnect())',
        'main.mjs': `import 'close-notify/register';
          import childProcess from 'node:child_process';
          import { once } from 'node:events';
          import { realpathSync } from 'node:fs';
          const isNew = Number(process.versions.node.split('.')[0]) >= 24;
          const leaf = realpathSync('leaf.cjs');
          const execArgv = [isNew ? '--permission' : '--experimental-permission', '--allow-fs-read=' + leaf];
          const [fork] = await once(childProcess.fork(leaf, { execArgv }), 'message');
          const stdio = ['ignore', 'ignore', 'inherit', 'ipc'];
          const [spawn] = await once(childProcess.spawn(process.execPath, [...execArgv, leaf], { stdio }), 'message');
          console.log(JSON.stringify([fork, spawn]));`,
      });
      expect(await run(node, folder)).toEqual(['object', 'object']);
    }),
  );

  test(
    'leaves a fork by another program alone, and everything once undone',
    clean(async (scope) => {
      const folder = programOf(scope, {
        'leaf.cjs': LEAF,
        'main.mjs': `import { register } from 'close-notify/register';
          import childProcess from 'node:child_process';
          import { once } from 'node:events';
          import { writeFileSync } from 'node:fs';
          import { Worker } from 'node:worker_threads';
          writeFileSync('other', '#!/bin/sh\\nexec "' + process.execPath + '" "$@"', { mode: 0o755 });
          const undo = register();
          const all = [];
          const ask = async (made) => all.push((await once(made, 'message'))[0].settings);
          await ask(childProcess.fork('leaf.cjs', { execPath: './other' }));
          await ask(childProcess.fork('leaf.cjs'));
          await ask(new Worker('./leaf.cjs'));
          undo();
          await ask(childProcess.fork('leaf.cjs'));
          await ask(new Worker('./leaf.cjs'));
          console.log(JSON.stringify(all));`,
      });
      const settings = { mode: 'error' };
      expect(await run(node, folder)).toEqual([null, settings, settings, null, null]);
    }),
  );

  test(
    'that was loaded with two copies of the package adds one flag, and either undoes it',
    clean(async (scope) => {
      const copy = programOf(scope, {});
      rmSync(join(copy, 'dist'));
      cpSync(join(ROOT, 'dist'), join(copy, 'dist'), { recursive: true });
      const other = pathToFileURL(join(copy, 'dist/strict/register.js')).href;
      const folder = programOf(scope, {
        'leaf.cjs': LEAF,
        'main.mjs': `import workerThreads from 'node:worker_threads';
          import childProcess from 'node:child_process';
          const plain = [workerThreads.Worker, childProcess.fork];
          await import('close-notify/register');
          const first = workerThreads.Worker;
          const second = await import('${other}');
          second.register({ mode: 'report' });
          const same = workerThreads.Worker === first;
          const ask = (made) => new Promise((resolve) => made.once('message', resolve));
          const worker = await ask(new workerThreads.Worker('./leaf.cjs'));
          const fork = await ask(childProcess.fork('leaf.cjs'));
          second.unregister();
          const undone = plain[0] === workerThreads.Worker && plain[1] === childProcess.fork;
          console.log(JSON.stringify([same, worker.settings, fork.settings, fork.seen.execArgv, undone]));`,
      });
      const settings = { mode: 'report' };
      expect(await run(node, folder)).toEqual([true, settings, settings, [], true]);
    }),
  );

  test(
    'whose modules go through hooks of module.register has its workers, too',
    clean(async (scope) => {
      const folder = programOf(scope, {
        'leaf.cjs': LEAF,
        'hooks.mjs':
          'export const resolve = (specifier, context, next) => next(specifier, context);',
        'loader.mjs': `import { register } from 'node:module'; register('./hooks.mjs', import.meta.url);`,
        'main.mjs': `import 'close-notify/register';
          import { once } from 'node:events';
          import { Worker } from 'node:worker_threads';
          const all = [];
          for (const options of [{}, { execArgv: [] }, { execArgv: process.execArgv, env: {} }]) {
            const [told] = await once(new Worker('./leaf.cjs', options), 'message');
            all.push(told.settings);
          }
          console.log(JSON.stringify(all));`,
      });
      const settings = { mode: 'error' };
      const args = ['--import', './loader.mjs'];
      expect(await run(node, folder, { args })).toEqual([settings, settings, settings]);
    }),
  );
});
