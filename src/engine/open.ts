/**
 * Which engine a connection has: the native one where the add-on is there and does all that was asked for, otherwise
 * the tapped one. `CLOSE_NOTIFY_ENGINE`, or the option `engine`, asks for one of them, which is then had or refused.
 */
import type tls from 'node:tls';
import { addOn, type EngineBinding, type NativeContext } from '../add-on.ts';
import { OptionError } from '../errors.ts';
import { process } from '../runtime.ts';
import { checkAlpn, refusalOf } from './context.ts';
import type { Engine, EngineName } from './contract.ts';
import { NativeEngine } from './native.ts';
import { nativeClientContext, nativeServerContext } from './native-context.ts';
import { clientSide, type Side, serverSide } from './native-side.ts';
import type { ClientTlsOptions, EngineOptions, ServerTlsOptions } from './options.ts';
import { TappedContext, TappedEngine } from './tapped.ts';

/** A choice, and what was in the way of the other one. */
type Choice =
  | { readonly binding: EngineBinding; readonly reason: null }
  | { readonly binding: null; readonly reason: string };

/** What `CLOSE_NOTIFY_ENGINE` may be. `fed` is the native engine without a descriptor, as it is on Windows. */
const NAMES: ReadonlySet<string> = new Set(['native', 'tapped', 'fed']);

/** The engine that was asked for; undefined for whichever is better. @throws {OptionError} */
function asked(option: EngineName | undefined): string | undefined {
  if (option !== undefined) {
    if (option === 'native' || option === 'tapped') return option;
    throw new OptionError("engine must be 'native' or 'tapped'");
  }
  const name = process.env['CLOSE_NOTIFY_ENGINE'] || undefined;
  if (name === undefined || NAMES.has(name)) return name;
  throw new OptionError(`CLOSE_NOTIFY_ENGINE must be 'native' or 'tapped', not '${name}'`);
}

/** What the environment makes of a client's options; null where nothing. */
function insecure({ rejectUnauthorized }: ClientTlsOptions): string | null {
  const anyone = process.env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0';
  return anyone && rejectUnauthorized === undefined
    ? 'NODE_TLS_REJECT_UNAUTHORIZED=0: node:tls warns of it'
    : null;
}

/** Options that only `node:tls` knows, whatever the side. */
const ONLY_TAPPED: ReadonlyArray<readonly [string, string]> = [
  ['enableTrace', 'node:tls writes the trace'],
  ['pskCallback', 'node:tls knows pre-shared keys'],
  ['secureContext', "a context that Node's TLS may use as well cannot be shared"],
];

/** A flag of this process that only `node:tls` heeds. Node reads its flags when it starts. */
const FLAG = /--(?:tls-keylog|trace-tls)\b/.exec(
  [...(process.execArgv ?? []), process.env['NODE_OPTIONS'] ?? ''].join(' '),
)?.[0];

/** What the native engine does not do; null where it does all. */
function obstacle(options: object): string | null {
  for (const [name, why] of ONLY_TAPPED) {
    const value = (options as Record<string, unknown>)[name];
    if (value !== undefined && value !== false) return `the option ${name}: ${why}`;
  }
  return FLAG === undefined ? null : `${FLAG}: node:tls does that`;
}

function choose(option: EngineName | undefined, options: object, also: string | null): Choice {
  const name = asked(option);
  if (name === 'tapped') return { binding: null, reason: 'the tapped engine was asked for' };
  const { native, reason } = addOn();
  const problem = native === null ? reason : (also ?? obstacle(options));
  if (native !== null && problem === null) return { binding: native.engine, reason: null };
  if (name !== undefined) {
    throw new OptionError(`there is no native engine for this connection: ${problem}`, {
      hint: 'close-notify doctor says more; without the option engine the tapped one is used',
    });
  }
  return { binding: null, reason: problem ?? 'unknown' };
}

/** What has to be a function. @throws {OptionError} */
function checkCallbacks(options: object): void {
  checkAlpn(options);
  for (const name of ['checkServerIdentity', 'SNICallback']) {
    const value = (options as Record<string, unknown>)[name];
    if (value === undefined || value === null || typeof value === 'function') continue;
    throw new OptionError(`the option ${name} must be a function`);
  }
  const { minDHSize } = options as ClientTlsOptions;
  if (minDHSize !== undefined && !(typeof minDHSize === 'number' && minDHSize >= 1)) {
    throw new OptionError('the option minDHSize must be a number, 1 or more');
  }
}

/** @throws {OptionError} */
function checkTickets({ tickets }: ServerTlsOptions): void {
  if (tickets === undefined) return;
  if (!Number.isInteger(tickets) || tickets < 0 || tickets > 255) {
    throw new OptionError('tickets must be a whole number from 0 to 255');
  }
}

/** Which engine a client with these options has. @throws {OptionError} where that one cannot be had. */
export function clientEngine(
  option: EngineName | undefined,
  options: ClientTlsOptions,
): EngineName {
  return choose(option, options, insecure(options)).binding === null ? 'tapped' : 'native';
}

/** Begins a handshake as a client. @throws {OptionError} */
export function openClient(options: EngineOptions, tlsOptions: ClientTlsOptions): Engine {
  const { secureContext } = tlsOptions;
  if (secureContext !== undefined && typeof secureContext?.context !== 'object') {
    throw new OptionError('secureContext must be what tls.createSecureContext gives');
  }
  const { binding } = choose(options.engine, tlsOptions, insecure(tlsOptions));
  if (binding === null) return TappedEngine.client(options, tlsOptions);
  checkCallbacks(tlsOptions);
  const context = refusing(tlsOptions, () =>
    nativeClientContext(binding, tlsOptions as tls.ConnectionOptions),
  );
  if (context === null && options.certificateFor !== undefined) {
    throw new OptionError('there is no context of the native engine for clientCertificate');
  }
  return context === null
    ? TappedEngine.client(options, tlsOptions)
    : refusing(tlsOptions, () =>
        openNative(
          binding,
          options,
          context,
          clientSide(binding, tlsOptions, context, options.certificateFor),
        ),
      );
}

function openNative(
  binding: EngineBinding,
  options: EngineOptions,
  context: NativeContext,
  side: Side,
): NativeEngine {
  const fed = process.env['CLOSE_NOTIFY_ENGINE'] === 'fed';
  return new NativeEngine(binding, { ...options, fed }, context, side);
}

function refusing<T>(options: object, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw error instanceof OptionError ? error : refusalOf(error as Error, options);
  }
}

/**
 * The TLS side of a server, built once for many connections: certificates, keys, tickets. It never listens; connections
 * are given to it.
 */
export class ServerContext {
  readonly #options: ServerTlsOptions;
  readonly #binding: EngineBinding | null;
  readonly #native: NativeContext | null;
  readonly #tapped: TappedContext | null;

  /** @throws {OptionError} for options that `tls.createServer` does not take. */
  constructor(options: ServerTlsOptions, engine?: EngineName) {
    this.#options = options;
    checkTickets(options);
    const { binding, reason } = choose(engine, options, null);
    this.#binding = binding;
    if (binding !== null) checkCallbacks(options);
    this.#native =
      binding && refusing(options, () => nativeServerContext(binding, options as tls.TlsOptions));
    if (this.#native === null && options.tickets !== undefined) {
      throw new OptionError(
        `the option tickets is refused: it is the native engine's (${reason ?? 'it has no context'})`,
        {
          hint: 'close-notify doctor says whether that is there',
        },
      );
    }
    this.#tapped = this.#native === null ? new TappedContext(options) : null;
  }

  /** Begins a handshake as a server. */
  open(options: EngineOptions): Engine {
    if (this.#tapped !== null) return TappedEngine.server(options, this.#tapped);
    const binding = this.#binding as EngineBinding;
    const context = this.#native as NativeContext;
    return openNative(binding, options, context, serverSide(binding, this.#options));
  }
}
