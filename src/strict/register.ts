/**
 * Makes every TLS connection of the process strict: `node --import close-notify/register app.js`, or a
 * plain import before anything connects.
 *
 * Theory of operation. All of Node's clients (`https`, `http2`, the global `fetch`) and the drivers
 * call `tls.connect`, looked up on the module at each call. Replacing it is therefore enough, and
 * `syncBuiltinESMExports` brings the replacement to those who imported it by name. The replacement
 * hands out what the original made, with a guard on it. Worker threads and forks load this module
 * (offspring.ts).
 *
 * Loading this module registers, once in the process, with the settings of the environment; calling
 * `register` puts others in their place.
 *
 * @module close-notify/register
 */
import { syncBuiltinESMExports } from 'node:module';
import tls from 'node:tls';
import { OptionError } from '../errors.ts';
import { checkOptionNames } from '../option-names.ts';
import { isTap } from '../tap/tap.ts';
import type { Strictness } from './channels.ts';
import { announce, type Inherited, inherited, passOn } from './offspring.ts';
import { isPass } from './pass/passing.ts';
import { checkMode, openStrict, strictAddOn } from './secure-socket.ts';

/** Options of `register`. */
export interface RegisterOptions {
  /** What to do about a truncation; `error` by default. `report` only tells the channels. */
  readonly mode?: Strictness | undefined;
  /**
   * Only connections to these hosts: names or addresses, `*.example.org` for all names below a domain.
   * What counts is what is connected to, not `servername`, which may come from a request's Host header.
   * On a given socket it is `host` where that is given, too; else what the socket was connected to.
   */
  readonly include?: readonly string[] | undefined;
  /** Not connections to these, even where they are included. */
  readonly exclude?: readonly string[] | undefined;
}

interface Settings {
  readonly mode: Strictness;
  readonly includes: (host: string) => boolean;
  /** For workers and forks. */
  readonly inherited: Inherited;
}

/** The function that takes the place of `tls.connect`. */
interface StrictConnect {
  (...args: unknown[]): tls.TLSSocket;
  /** `tls.connect` as it was. */
  readonly [ORIGINAL]: typeof tls.connect;
  /** Null when it does nothing of its own. */
  [SETTINGS]: Settings | null;
  /** Leaves workers and forks to themselves. */
  readonly [LEAVE]: () => void;
}

// Known to every copy of this module in the process: a second version, another loader.
const ORIGINAL: unique symbol = Symbol.for('close-notify.original') as never;
const SETTINGS: unique symbol = Symbol.for('close-notify.settings') as never;
const LEAVE: unique symbol = Symbol.for('close-notify.leave') as never;

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
  checkOptionNames(options, ['mode', 'include', 'exclude']);
  const { mode = 'error', include, exclude } = options;
  checkMode(mode);
  // Loaded before anything connects, so that all is watched from its first byte.
  strictAddOn();
  const included = include === undefined ? () => true : matcher('include', include);
  const excluded = exclude === undefined ? () => false : matcher('exclude', exclude);
  const settings: Settings = {
    mode,
    includes: (host) => included(host) && !excluded(host),
    inherited: {
      mode,
      ...(include === undefined ? {} : { include: [...include] }),
      ...(exclude === undefined ? {} : { exclude: [...exclude] }),
    },
  };
  const connect = install();
  connect[SETTINGS] = settings;
  announce(settings.inherited);
  return () => {
    if (connect[SETTINGS] === settings) unregister();
  };
}

/** Undoes whatever `register`, or loading this module, did. */
export function unregister(): void {
  const connect = current();
  if (connect === null) return;
  connect[SETTINGS] = null;
  connect[LEAVE]();
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
  if (present !== null) {
    present[SETTINGS] = null;
    present[LEAVE]();
  }
  const original = tls.connect;
  const strict = function connect(...args: unknown[]): tls.TLSSocket {
    const settings = (strict as StrictConnect)[SETTINGS];
    const [options, listener] = normalize(args);
    const place = placeOf(options);
    const taken = isTap(options.socket) || isPass(options.socket);
    // Never by `tls.connect`: that may be somebody else's by now, who has called us.
    const make = (passing?: tls.ConnectionOptions): tls.TLSSocket =>
      Reflect.apply(original, tls, passing === undefined ? args : [passing, listener]);
    if (settings === null || taken || !settings.includes(place)) return make();
    const socket = openStrict(make, options, settings.mode);
    places.set(socket, place);
    return socket;
  };
  const leave = passOn(
    import.meta.url,
    () => (strict as StrictConnect)[SETTINGS]?.inherited ?? null,
  );
  installed = Object.assign(strict, { [ORIGINAL]: original, [SETTINGS]: null, [LEAVE]: leave });
  put(installed);
  return installed;
}

/** What strict sockets were connected to: without the add-on theirs is not for Node to say. */
const places = new WeakMap<object, string>();

/**
 * The path, name or address that a connection is to; '' where nothing tells. It is never `servername`: an agent of
 * Node's takes that from the Host header of a request, which may be somebody else's.
 */
function placeOf({ socket, path, host }: tls.ConnectionOptions): string {
  if (!socket) return String(path || host || 'localhost');
  // Behind a proxy that opened a tunnel, where the tunnel leads.
  if (host) return String(host);
  // `_host` is the name that Node looked up for a net.Socket; it is null where that was given an address.
  const { _host, remoteAddress } = socket as { _host?: string | null; remoteAddress?: string };
  return places.get(socket) ?? (_host || remoteAddress || '');
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

if (current() === null) register(inherited() ?? fromEnvironment(process.env));
