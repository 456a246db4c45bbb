/**
 * An `https.Agent` whose connections are strict about their ending.
 *
 * @module close-notify/https
 */
import https from 'node:https';
import type { Duplex } from 'node:stream';
import { OptionError } from '../errors.ts';
import type { Strictness } from './channels.ts';
import { checkMode, type SecureSocketOptions, secureSocket, strictAddOn } from './secure-socket.ts';
import { SessionCache } from './session-cache.ts';

/** Options of `StrictAgent`: those of `https.Agent`, and ours. */
export interface StrictAgentOptions extends https.AgentOptions {
  /** What to do about a truncation; `error` by default. */
  readonly mode?: Strictness | undefined;
}

/**
 * A drop-in for `https.Agent`. A response body that runs to the connection's end and is cut gives an
 * error (`ERR_TLS_TRUNCATED`) on the response, never 'end', and its `complete` stays false. So does
 * one that carries its own length and lacks bytes. A message that is whole stays whole whatever the
 * server does afterwards, and an idle connection that is cut disturbs nobody (RFC 9112 section 9.8).
 */
export class StrictAgent extends https.Agent {
  readonly #mode: Strictness;
  readonly #sessions: SessionCache;

  /** @throws {OptionError} for a `mode` that is none, and for Node's `proxyEnv`; {RuntimeError} on Deno and Bun. */
  constructor(options: StrictAgentOptions = {}) {
    const { mode = 'error', ...agentOptions } = options;
    checkMode(mode);
    strictAddOn();
    // Node opens the tunnel in the method that is replaced here: the option would be passed by silently.
    if ((agentOptions as { proxyEnv?: unknown }).proxyEnv !== undefined) {
      throw new OptionError('proxyEnv is not supported: use close-notify/register');
    }
    super(agentOptions);
    this.#mode = mode;
    this.#sessions = new SessionCache(options.maxCachedSessions ?? 100);
  }

  /**
   * Opens a connection, as `https.Agent` does: with the session of the last one, if there was one.
   *
   * @param args (options), or as in Node (port, host, options), of which the first two may be missing.
   */
  override createConnection(...args: unknown[]): Duplex {
    const options = optionsOf(args);
    const key = this.#sessionKey(options);
    const session = key === undefined ? undefined : this.#sessions.get(key);
    const socket = secureSocket({
      ...(session === undefined ? {} : { session }),
      ...options,
      mode: this.#mode,
    });
    if (key !== undefined) this.#sessions.follow(key, socket);
    return socket;
  }

  /** Under which key a connection's sessions are kept, if they are. */
  #sessionKey(options: ConnectionOptions): string | undefined {
    // Node does not call checkServerIdentity for a session that is resumed. So one that was checked in
    // one way must not serve a request that asks for another.
    const check = options.checkServerIdentity;
    if (check !== undefined && check !== this.options.checkServerIdentity) return undefined;
    return options._agentKey;
  }
}

type ConnectionOptions = SecureSocketOptions & { readonly _agentKey?: string };

function optionsOf(args: readonly unknown[]): ConnectionOptions {
  const [port, host] = args;
  const options = args.find((one) => typeof one === 'object' && one !== null) as ConnectionOptions;
  return {
    ...options,
    ...(typeof port === 'number' ? { port } : {}),
    ...(typeof host === 'string' ? { host } : {}),
  };
}
