/**
 * Worker threads and processes of Node, which are to be registered as the thread that makes them.
 *
 * Theory of operation. Each thread and each process has a `tls` module of its own. So `register` has to be loaded in
 * each, in front of the program's code. What makes them (`Worker`, `fork`, `cluster.fork`; `spawn`, `execFile` and their
 * synchronous twins, where they run this very Node) is replaced by one that adds a flag:
 *
 * - To the `execArgv` of a worker. A worker that is given flags does not inherit those of the process, so they are given,
 *   too.
 * - To the NODE_OPTIONS of a process, which hold whatever `execArgv` it has.
 *
 * The flag is `--require`. Workers with `eval` pass `--import` by, and in a process it changes how Node loads the
 * program: a CommonJS one, too, is loaded by the loader of ES modules then.
 *
 * Two kinds of processes are left alone. What a shell runs (`exec`, the option `shell`) nobody knows before. And one with
 * `--permission` of its own may not be allowed to read this package: it would not start.
 *
 * The settings go along: those of a worker as environment data, those of a process as a variable of its environment.
 * There the module takes away what was added, before the program's code runs: its `process.execArgv` and `process.env`
 * are what they would have been.
 */
import childProcess from 'node:child_process';
import cluster from 'node:cluster';
import { accessSync, constants, realpathSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { delimiter, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import workerThreads from 'node:worker_threads';
import { process } from '../runtime.ts';

/** The settings of `register`, as data that can be copied to a thread and written as JSON. */
export type Inherited = Readonly<Record<string, unknown>>;

/** Variables that hold settings. A worker or process that has its own is left to them. */
const SETTINGS = ['CLOSE_NOTIFY_MODE', 'CLOSE_NOTIFY_INCLUDE', 'CLOSE_NOTIFY_EXCLUDE'] as const;

/** The key of a thread's environment data, and the variable of a process. */
const KEY = 'close-notify.register';
const VARIABLE = 'CLOSE_NOTIFY_INHERITED';

/** What a worker finds under the key. */
interface ThreadData {
  readonly settings: Inherited | null;
  /** What its `process.execArgv` would have been; missing where nothing was added. */
  readonly execArgv?: readonly string[];
}

/** What a process finds in the variable. */
interface ProcessData {
  readonly settings: Inherited | null;
  /** What NODE_OPTIONS would have been; null where it would not have been there. */
  readonly nodeOptions: string | null;
}

/** The settings that this thread has from who made it; null where it has none. Takes away what was added for it. */
export function inherited(): Inherited | null {
  const data = workerThreads.getEnvironmentData(KEY) as ThreadData | undefined;
  if (data !== undefined) {
    if (data.execArgv !== undefined)
      process.execArgv.splice(0, Number.POSITIVE_INFINITY, ...data.execArgv);
    return data.settings;
  }
  const text = process.env[VARIABLE];
  if (text === undefined) return null;
  const { settings, nodeOptions } = JSON.parse(text) as ProcessData;
  delete process.env[VARIABLE];
  if (nodeOptions === null) delete process.env['NODE_OPTIONS'];
  else process.env['NODE_OPTIONS'] = nodeOptions;
  return settings;
}

/**
 * Has all workers and forks of this thread load register, and gives them settings.
 *
 * @param url its module; `preload.cjs` is beside it.
 * @param settings those of now; null where none are in force: then nothing is changed for who is made.
 * @returns a function that undoes it, but for what somebody else has replaced since: that passes everything on once
 *   `settings` gives null.
 */
export function passOn(url: string, settings: () => Inherited | null): () => void {
  const changed = (args: unknown[]) => {
    const now = settings();
    return now === null ? args : spawnArgs(args, url, now);
  };
  const undo = [
    replace(workerThreads, 'Worker', {
      construct(target, args, newTarget) {
        const make = (own: unknown[]): object => Reflect.construct(target, own, newTarget);
        const now = settings();
        return now === null ? make(args) : makeWorker(make, args, url, now);
      },
    }),
    replace(childProcess, 'fork', {
      apply(target, self, args) {
        const now = settings();
        return Reflect.apply(target, self, now === null ? args : forkArgs(args, url, now));
      },
    }),
    ...(['spawn', 'spawnSync', 'execFile', 'execFileSync'] as const).map((name) =>
      replace(childProcess, name, {
        apply: (target, self, args) => Reflect.apply(target, self, changed(args)),
      }),
    ),
    replace(cluster, 'fork', {
      apply(target, self, args) {
        const now = settings();
        const env = { ...process.env, ...(args[0] as NodeJS.ProcessEnv | undefined) };
        const { execArgv } = cluster.settings;
        const own = now === null || isConfined(execArgv, env) ? null : now;
        return Reflect.apply(
          target,
          self,
          own === null ? args : [withModule(env, execArgv, url, own)],
        );
      },
    }),
  ];
  syncBuiltinESMExports();
  return () => {
    for (const one of undo) one();
    workerThreads.setEnvironmentData(KEY, undefined as never);
    syncBuiltinESMExports();
  };
}

/** A worker may load the module without our doing, by a flag that it inherits: then it has these settings. */
export function announce(settings: Inherited): void {
  workerThreads.setEnvironmentData(KEY, { settings } satisfies ThreadData as never);
}

type Replaced = ((...args: never) => unknown) & {
  readonly [promisify.custom]?: (...args: never) => unknown;
};

/** `promisify(execFile)` is a function of its own, which Node does not let be replaced on the original: so on a copy. */
function withPromised(original: Replaced, handler: ProxyHandler<Replaced>): Replaced {
  const promised = original[promisify.custom];
  if (promised === undefined) return original;
  return Object.defineProperties(original.bind(null) as Replaced, {
    name: { value: original.name },
    [promisify.custom]: { value: new Proxy(promised, handler) },
  });
}

function replace<K extends string>(
  module: { [key in K]?: unknown },
  name: K,
  handler: ProxyHandler<Replaced>,
): () => void {
  const original = module[name];
  // In a process that cluster made there is no cluster.fork.
  if (typeof original !== 'function') return () => {};
  const own = new Proxy(withPromised(original as Replaced, handler), handler);
  module[name] = own;
  return () => {
    if (module[name] === own) module[name] = original;
  };
}

// ---- workers

/** @param make makes a worker with these arguments. */
function makeWorker(
  make: (args: unknown[]) => object,
  args: unknown[],
  url: string,
  settings: Inherited,
): object {
  const options = args[1] ?? {};
  const { execArgv, env } = options as { execArgv?: unknown; env?: unknown };
  // Node refuses these.
  if (!isObject(options) || (execArgv && !Array.isArray(execArgv))) return make(args);
  const own = execArgv ? (execArgv as unknown[]).map(String) : null;
  const makeWith = (flags: readonly string[]): object => {
    const environment = isObject(env) ? (env as NodeJS.ProcessEnv) : process.env;
    const all = [...loading(url, `${flags.join(' ')} ${environment['NODE_OPTIONS']}`), ...flags];
    workerThreads.setEnvironmentData(KEY, {
      settings: hasOwnSettings(environment) ? null : settings,
      execArgv: own ?? [...process.execArgv],
    } satisfies ThreadData as never);
    try {
      return make([args[0], { ...options, execArgv: all }, ...args.slice(2)]);
    } finally {
      announce(settings);
    }
  };
  if (own !== null) return makeWith(own);
  const flags = process.execArgv;
  try {
    return makeWith(flags);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_WORKER_INVALID_EXEC_ARGV') throw error;
    const fit = withoutRefused(flags, (error as Error).message);
    if (fit.length < flags.length) return makeWith(fit);
    return make(args);
  }
}

/** The flag that loads the module. `--require` takes no module of ES where that was switched off. */
function loading(url: string, flags: string): readonly [flag: string, value: string] {
  const requires = (process.features as { require_module?: boolean }).require_module === true;
  const isOff = /--no-(experimental-)?require-module/.test(flags);
  return requires && !isOff
    ? ['--require', fileURLToPath(new URL('preload.cjs', url))]
    : ['--import', url];
}

/**
 * Flags without those that Node refuses to a worker: they hold for the whole process in any case.
 *
 * @param message Node's: `Initiated Worker with invalid execArgv flags: --title, --expose-gc`.
 */
function withoutRefused(flags: readonly string[], message: string): string[] {
  const refused = new Set(message.slice(message.indexOf(': ') + 2).split(', '));
  let keeps = true;
  return flags.filter((flag) => {
    // What does not begin with a dash is the value of the flag before it.
    if (flag.startsWith('-')) keeps = !refused.has(flag);
    return keeps;
  });
}

// ---- processes

/** The arguments of `fork`: (file), (file, options), (file, args, options). */
function forkArgs(args: unknown[], url: string, settings: Inherited): unknown[] {
  const at = isObject(args[1]) && !Array.isArray(args[1]) ? 1 : 2;
  const options = args[at] ?? {};
  const { cwd, env, execArgv, execPath } = options as Record<string, unknown>;
  const environment = env || process.env;
  // Node refuses the first two; the third may be another runtime, which knows no such flag.
  if (!isObject(options) || !isObject(environment)) return args;
  const its = environment as NodeJS.ProcessEnv;
  if (execPath && !isThisNode(execPath, its, cwd)) return args;
  if (isConfined(execArgv, its)) return args;
  const own = [...args];
  const all = withModule(its, execArgv, url, settings);
  own[at] = { ...options, env: all };
  return own;
}

/** The arguments of `spawn` and `execFile`: (file), (file, options), (file, args, options), and a callback behind them. */
function spawnArgs(args: unknown[], url: string, settings: Inherited): unknown[] {
  const [file, flags] = args;
  const at = Array.isArray(flags) || flags === null || flags === undefined ? 2 : 1;
  const given = typeof args[at] === 'function' ? undefined : args[at];
  const options = given ?? {};
  const { env, cwd, shell } = options as Record<string, unknown>;
  const environment = (env || process.env) as NodeJS.ProcessEnv;
  if (!isObject(options) || !isObject(environment) || shell) return args;
  const ofNode = Array.isArray(flags) ? flags : [];
  if (!isThisNode(file, environment, cwd) || isConfined(ofNode, environment)) return args;
  const all = { ...options, env: withModule(environment, ofNode, url, settings) };
  const before = [...args.slice(0, at)];
  if (before.length < at) before.push([]);
  return [...before, all, ...args.slice(typeof args[at] === 'function' ? at : at + 1)];
}

/** Whether a program is the one that runs here, by its path or as PATH finds it. Another Node may lack what we need. */
function isThisNode(file: unknown, env: NodeJS.ProcessEnv, cwd: unknown): boolean {
  if (file === process.execPath) return true;
  if (typeof file !== 'string' || file === '') return false;
  const folder = cwd instanceof URL ? fileURLToPath(cwd) : typeof cwd === 'string' ? cwd : '';
  const paths = /[\\/]/.test(file)
    ? [resolve(folder, file)]
    : (env['PATH'] ?? '').split(delimiter).map((one) => resolve(folder, one, file));
  const endings = process.platform === 'win32' ? ['', '.exe'] : [''];
  for (const path of paths.flatMap((one) => endings.map((ending) => one + ending))) {
    try {
      accessSync(path, constants.X_OK);
      return realpathSync(path) === realpathSync(process.execPath);
    } catch {
      // It is not there, or nobody may look: the next one is tried, as the system does.
    }
  }
  return false;
}

/** Whether a process has permissions of its own: flags that this process was not started with. */
function isConfined(flags: unknown, env: NodeJS.ProcessEnv): boolean {
  const confines = (text: string) => /--(?:experimental-)?permission\b/.test(text);
  if (Array.isArray(flags) && confines(flags.join(' '))) return true;
  const { NODE_OPTIONS: nodeOptions } = env;
  return confines(nodeOptions ?? '') && nodeOptions !== process.env['NODE_OPTIONS'];
}

/**
 * An environment in which the module is loaded.
 *
 * @param execArgv the flags that the process has besides.
 */
function withModule(
  env: NodeJS.ProcessEnv,
  execArgv: unknown,
  url: string,
  settings: Inherited,
): NodeJS.ProcessEnv {
  const copy: NodeJS.ProcessEnv = {};
  // As Node copies it: with what it has from its prototype.
  for (const name in env) copy[name] = env[name];
  const { NODE_OPTIONS: nodeOptions = null } = env;
  const [flag, value] = loading(url, `${execArgv} ${nodeOptions}`);
  const data: ProcessData = { settings: hasOwnSettings(env) ? null : settings, nodeOptions };
  copy[VARIABLE] = JSON.stringify(data);
  // Node reads a quoted value as JSON has it.
  copy['NODE_OPTIONS'] = `${flag}=${JSON.stringify(value)} ${nodeOptions ?? ''}`.trimEnd();
  return copy;
}

function hasOwnSettings(env: NodeJS.ProcessEnv): boolean {
  return SETTINGS.some((name) => env[name] !== undefined && env[name] !== process.env[name]);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
