/**
 * Makes every TLS connection of the process strict: `node --import close-notify/register app.js`, or a
 * plain import before anything connects.
 *
 * Theory of operation. All of Node's clients (`https`, `http2`, the global `fetch`) and the drivers
 * call `tls.connect`, looked up on the module at each call. Replacing it is therefore enough, and
 * `syncBuiltinESMExports` brings the replacement to those who imported it by name. The replacement
 * hands out what the original made, with a guard on it.
 *
 * Loading this module registers, once in the process, with the settings of the environment; calling
 * `register` puts others in their place.
 *
 * @module close-notify/register
 */
import { syncBuiltinESMExports } from 'node:module';
import tls from 'node:tls';
import { OptionError } from '../errors.ts';
import { isTap } from '../tap/tap.ts';
import type { Strictness } from './channels.ts';
import { isPass } from './pass/passing.ts';
import { checkMode, openStrict, strictAddOn } from './secure-socket.ts';

/** Options of `register`. */
export interface RegisterOptions {
  /** What to do about a truncation; `error` by default. `report` only tells the channels. */
  readonly mode?: Strictness | undefined;
  /**
   * Only connections to these hosts: names or addresses, `*.example.org` for all names below a domain.
   * A connection's host is its `servername`, or else its `host`.
   */
  readonly include?: readonly string[] | undefined;
  /** Not connections to these, even where they are included. */
  readonly exclude?: readonly string[] | undefined;
}

interface Settings {
  readonly mode: Strictness;
  readonly includes: (host: string) => boolean;
}

/** The function that takes the place of `tls.connect`. */
interface StrictConnect {
  (...args: unknown[]): tls.TLSSocket;
  /** `tls.connect` as it was. */
  readonly [ORIGINAL]: typeof tls.connect;
  /** Null when it does nothing of its own. */
  [SETTINGS]: Settings | null;
}

// Known to every copy of this module in the process: a second version, another loader.
const ORIGINAL: unique symbol = Symbol.for('close-notify.original') as never;
const SETTINGS: unique symbol = Symbol.for('close-notify.settings') as never;

/** Ours, which stays known when somebody replaces it in turn. */
let installed: StrictConnect | null = null;

/**
 * Makes `tls.connect` strict, by these options instead of earlier ones.
 *
 * @returns a function that undoes it, unless it was called again since: connections made from then on
 *   are Node's own again.
 * @throws {OptionError}, and {RuntimeError} on Deno and Bun.
 */
export function register(options: RegisterOptions = {}): () => void {
  const { mode = 'error', include, exclude } = options;
  checkMode(mode);
  // Loaded before anything connects, so that all is watched from its first byte.
  strictAddOn();
  const included = include === undefined ? () => true : matcher('include', include);
  const excluded = exclude === undefined ? () => false : matcher('exclude', exclude);
  const settings: Settings = { mode, includes: (host) => included(host) && !excluded(host) };
  const connect = install();
  connect[SETTINGS] = settings;
  return () => {
    if (connect[SETTINGS] === settings) unregister();
  };
}

/** Undoes whatever `register`, or loading this module, did. */
export function unregister(): void {
  const connect = current();
  if (connect === null) return;
  connect[SETTINGS] = null;
  // Where somebody else replaced ours, it stays, and passes everything on.
  if ((tls.connect as unknown) !== connect) return;
  put(connect[ORIGINAL]);
  installed = null;
}

function current(): StrictConnect | null {
  const connect = tls.connect as unknown as StrictConnect;
  return connect[ORIGINAL] === undefined ? installed : connect;
}

/** What the environment says: `CLOSE_NOTIFY_MODE`, `CLOSE_NOTIFY_INCLUDE`, `CLOSE_NOTIFY_EXCLUDE`. */
function fromEnvironment(env: NodeJS.ProcessEnv): RegisterOptions {
  const {
    CLOSE_NOTIFY_MODE: mode,
    CLOSE_NOTIFY_INCLUDE: include,
    CLOSE_NOTIFY_EXCLUDE: exclude,
  } = env;
  return {
    ...(mode ? { mode: mode as Strictness } : {}),
    ...(include ? { include: include.split(',') } : {}),
    ...(exclude ? { exclude: exclude.split(',') } : {}),
  };
}

function install(): StrictConnect {
  const present = current();
  if (present !== null && (tls.connect as unknown) === present) return present;
  // Somebody replaced ours since, and may call it or not: it passes everything on, under a new one.
  if (present !== null) present[SETTINGS] = null;
  const original = tls.connect;
  const strict = function connect(...args: unknown[]): tls.TLSSocket {
    const settings = (strict as StrictConnect)[SETTINGS];
    const [options, listener] = normalize(args);
    const host = String(options.servername || options.host || 'localhost');
    const taken = isTap(options.socket) || isPass(options.socket);
    if (settings === null || taken || !settings.includes(host)) {
      return Reflect.apply(original, tls, args);
    }
    // Never by `tls.connect`: that may be somebody else's by now, who has called us.
    const make = (passing?: tls.ConnectionOptions): tls.TLSSocket =>
      Reflect.apply(original, tls, passing === undefined ? args : [passing, listener]);
    return openStrict(make, options, settings.mode);
  };
  installed = Object.assign(strict, { [ORIGINAL]: original, [SETTINGS]: null });
  put(installed);
  return installed;
}

function put(connect: StrictConnect | typeof tls.connect): void {
  tls.connect = connect as typeof tls.connect;
  syncBuiltinESMExports();
}

/** The forms of `tls.connect`: (options), (port, host), (path), each with more options and a callback. */
function normalize(args: readonly unknown[]): [tls.ConnectionOptions, (() => void) | undefined] {
  const [first, second, third] = args;
  const last = args.at(-1);
  const listener = typeof last === 'function' ? (last as () => void) : undefined;
  const isObject = (value: unknown) => typeof value === 'object' && value !== null;
  // Options beside the port, or beside options, win, as in Node.
  const more = isObject(second) ? second : isObject(third) ? third : {};
  if (isObject(first)) return [{ ...(first as object), ...(more as object) }, listener];
  const isPath = typeof first === 'string' && !(Number(first) >= 0);
  const options = isPath
    ? { path: first }
    : { port: first as number, ...(typeof second === 'string' ? { host: second } : {}) };
  return [{ ...options, ...(more as object) }, listener];
}

function matcher(name: string, patterns: readonly string[]): (host: string) => boolean {
  if (!Array.isArray(patterns) || patterns.some((one) => typeof one !== 'string')) {
    throw new OptionError(`${name} must be a list of host names`);
  }
  const wanted = patterns.map((one) => one.trim().toLowerCase()).filter((one) => one !== '');
  return (host) => {
    const name = host.toLowerCase();
    return wanted.some((one) =>
      one.startsWith('*.') ? name.endsWith(one.slice(1)) : one === '*' || one === name,
    );
  };
}

if (current() === null) register(fromEnvironment(process.env));
