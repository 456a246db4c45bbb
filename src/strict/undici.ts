/**
 * A connector for undici whose TLS connections are strict about their ending.
 *
 * @module close-notify/undici
 */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { OptionError, TimeoutError } from '../errors.ts';
import { CONNECT_OPTIONS, CONTEXT_OPTIONS, checkOptionNames } from '../option-names.ts';
import { hostAndPort, serverName } from '../server-name.ts';
import { after } from '../wait.ts';
import { checkMode, type SecureSocketOptions, secureSocket, strictAddOn } from './secure-socket.ts';
import { SessionCache } from './session-cache.ts';
import { checkProxy, type ProxyOptions, Tunnel } from './tunnel.ts';

export type { ProxyOptions };

/** Options of `strictConnector`: those of undici's own connector, TLS options, and ours. */
export interface StrictConnectorOptions extends SecureSocketOptions {
  /** Whether to offer HTTP/2; pass the same to undici's `Agent`. */
  readonly allowH2?: boolean | undefined;
  /** Whether TCP keep-alive probes are sent; true by default. */
  readonly keepAlive?: boolean | undefined;
  /** Milliseconds until they begin; 60,000 by default. */
  readonly keepAliveInitialDelay?: number | undefined;
  /** TLS sessions kept for resumption; 100 by default. */
  readonly maxCachedSessions?: number | undefined;
  /**
   * Milliseconds until a connection must be there, proxy and TLS included, or it fails with
   * `ERR_TLS_TIMEOUT`; 10,000 by default, 0 for no limit.
   */
  readonly timeout?: number | undefined;
  /**
   * Connect through this proxy, `http:` origins too: undici's `ProxyAgent` takes no connector. A proxy
   * that opens no tunnel fails the connection with `ERR_TLS_CONNECT`.
   */
  readonly proxy?: ProxyOptions | undefined;
}

/** What undici asks of a connector. */
export interface ConnectorOptions {
  readonly hostname: string;
  readonly host?: string | undefined;
  readonly protocol: string;
  readonly port: string;
  readonly servername?: string | undefined;
  readonly localAddress?: string | null | undefined;
  readonly httpSocket?: net.Socket | undefined;
}

/** Told of the connection, or why there is none. */
export type ConnectorCallback = (
  ...args: [error: null, socket: net.Socket | TLSSocket] | [error: Error, socket: null]
) => void;

/** The function that `new Agent({ connect })` takes. */
export type Connector = (options: ConnectorOptions, callback: ConnectorCallback) => void;

const OPTIONS: readonly string[] = [
  ...CONTEXT_OPTIONS,
  ...CONNECT_OPTIONS,
  ...['allowH2', 'maxCachedSessions', 'mode', 'proxy'],
];

/**
 * A connector for `new Agent({ connect })`, `Pool` and `Client`. A response that the transport cut fails
 * with `ERR_TLS_TRUNCATED` (HTTP/1 and HTTP/2); one that is whole, and a connection that is idle, are
 * not touched.
 *
 * @throws {OptionError}, and {RuntimeError} on Deno and Bun.
 */
export function strictConnector(options: StrictConnectorOptions = {}): Connector {
  checkOptionNames(options, OPTIONS);
  const { allowH2, maxCachedSessions = 100, timeout = 10_000, proxy, ...tlsOptions } = options;
  checkMode(tlsOptions.mode ?? 'error');
  strictAddOn();
  if (typeof timeout !== 'number' || !(timeout >= 0)) {
    throw new OptionError('timeout must be a number of milliseconds');
  }
  const sessions = new SessionCache(maxCachedSessions);
  const way = proxy === undefined ? null : checkProxy(proxy);

  return (target, callback) => {
    const { hostname, protocol, servername, localAddress, httpSocket } = target;
    const port = Number(target.port || (protocol === 'https:' ? 443 : 80));
    // undici takes an error and a socket; only the first of them counts.
    let opening: Duplex | Tunnel | null = null;
    let settled = false;
    const stop =
      timeout > 0
        ? after(timeout, () => {
            const name = hostAndPort(hostname, port);
            const [why, first] =
              opening instanceof Tunnel
                ? [`: ${opening.waitsFor}`, 'ask who runs the proxy']
                : ['', 'check the address and what filters it'];
            fail(
              new TimeoutError(`no connection to ${name} within ${timeout} ms${why}`, {
                phase: 'connect',
                hint: `${first}, or raise timeout`,
              }),
            );
          })
        : () => {};
    const fail = (error: Error) => {
      if (settled) return;
      settled = true;
      stop();
      opening?.destroy();
      callback(error, null);
    };
    const succeed = (socket: net.Socket | TLSSocket) => {
      if (settled) return;
      settled = true;
      stop();
      socket.off('error', fail);
      callback(null, socket);
    };
    const secure = (transport: Duplex | undefined) => {
      const key = serverName(servername || tlsOptions.servername || hostname, 'servername');
      const session = sessions.get(key);
      const socket = secureSocket({
        highWaterMark: 16_384,
        ...(session === undefined ? {} : { session }),
        ...tlsOptions,
        ...(net.isIP(key) === 0 ? { servername: key } : {}),
        ...(localAddress ? { localAddress } : {}),
        ALPNProtocols: allowH2 ? ['http/1.1', 'h2'] : ['http/1.1'],
        ...(transport === undefined ? {} : { socket: transport }),
        port,
        host: hostname,
      });
      sessions.follow(key, socket);
      if (tlsOptions.keepAlive !== false) {
        socket.setKeepAlive(true, tlsOptions.keepAliveInitialDelay ?? 60_000);
      }
      socket.setNoDelay(true);
      opening = socket;
      socket.once('error', fail);
      socket.once('secureConnect', () => succeed(socket));
    };
    const orFail = (call: () => void) => {
      try {
        call();
      } catch (error) {
        fail(error as Error);
      }
    };
    orFail(() => {
      const inClear = protocol !== 'https:';
      if (httpSocket === undefined && way !== null) {
        opening = new Tunnel(way, hostAndPort(hostname, port), {
          onOpen: (socket) => {
            opening = socket;
            if (inClear) succeed(socket);
            else orFail(() => secure(socket));
          },
          onError: fail,
        });
      } else if (inClear) {
        const socket = net.connect({
          ...tlsOptions,
          ...(localAddress ? { localAddress } : {}),
          host: hostname,
          port,
          noDelay: true,
        } as net.TcpNetConnectOpts);
        opening = socket;
        socket.once('error', fail);
        socket.once('connect', () => succeed(socket));
      } else {
        secure(httpSocket);
      }
    });
  };
}
