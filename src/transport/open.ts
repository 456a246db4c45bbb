/** The transport's beginning: resolve, then connect. */
import dns from 'node:dns';
import net from 'node:net';
import type { Deadlines } from '../closure/policy.ts';
import { ConnectError, OptionError, ResolveError, TimeoutError } from '../errors.ts';
import { process } from '../runtime.ts';
import { abortsWith, withLimits } from '../wait.ts';

/** Where to connect to, and how: the options of `net.connect` that apply. */
export interface TransportOptions {
  /** A host name or an IP address; 'localhost' by default. */
  readonly host?: string | undefined;
  /** A TCP port; a string of digits is taken, as Node takes it. */
  readonly port?: number | string | undefined;
  /** A Unix domain socket, instead of host and port. */
  readonly path?: string | undefined;
  /** 4, 6, or 0 for both (the default). */
  readonly family?: 0 | 4 | 6 | undefined;
  /** Resolves the host instead of `dns.lookup`. */
  readonly lookup?: net.LookupFunction | undefined;
  /** Flags for `dns.lookup`. */
  readonly hints?: number | undefined;
  /** The address to connect from. */
  readonly localAddress?: string | undefined;
  /** The port to connect from. */
  readonly localPort?: number | undefined;
  /**
   * Turns Nagle's algorithm off; true by default. With it on, close_notify, a small segment behind
   * other data, waits for the peer's delayed acknowledgement: 40 ms for every closure.
   */
  readonly noDelay?: boolean | undefined;
  /** TCP keep-alive; off by default. */
  readonly keepAlive?: boolean | undefined;
  /** Milliseconds of silence before the first keep-alive probe. */
  readonly keepAliveInitialDelay?: number | undefined;
  /** Whether to try all addresses, both families in turn; on by default, as in Node. */
  readonly autoSelectFamily?: boolean | undefined;
  /** Milliseconds that each address gets before the next one is tried as well. */
  readonly autoSelectFamilyAttemptTimeout?: number | undefined;
  /** Addresses that are not connected to (Node 22 and later). */
  readonly blockList?: net.BlockList | undefined;
  /** The Type of Service of IPv4, the Traffic Class of IPv6: 0 to 255 (Node 24 and later). */
  readonly typeOfService?: number | undefined;
}

type Addresses = dns.LookupAddress[];

/**
 * Resolves the host, then connects, trying its addresses as Node does (RFC 8305, 'happy eyeballs').
 *
 * @throws {ResolveError | ConnectError | TimeoutError | AbortError} and leaves nothing open.
 */
export async function openTransport(
  options: TransportOptions,
  signal: AbortSignal | undefined,
  deadlines: Deadlines,
  onPhase: (name: 'resolve' | 'connect') => void,
): Promise<net.Socket> {
  const { path, host = 'localhost', lookup: _, ...rest } = options;
  if (path !== undefined) {
    const socket = await connectSocket({ path }, path, signal, deadlines.connect);
    onPhase('connect');
    return socket;
  }
  const addresses = await resolve(host, options, signal, deadlines.resolve);
  onPhase('resolve');
  const socket = await connectSocket(
    {
      noDelay: true,
      ...rest,
      host,
      port: options.port ?? 0,
      lookup: answerWith(addresses),
    } as net.NetConnectOpts,
    `${host}:${options.port}`,
    signal,
    deadlines.connect,
  );
  onPhase('connect');
  return socket;
}

async function resolve(
  host: string,
  options: TransportOptions,
  signal: AbortSignal | undefined,
  deadline: number,
): Promise<Addresses> {
  const literal = net.isIP(host);
  if (literal !== 0) return [{ address: host, family: literal }];
  const lookup = options.lookup ?? (dns.lookup as net.LookupFunction);
  return withLimits<Addresses>(
    (done, fail) => {
      const query = { all: true, family: options.family ?? 0, hints: options.hints ?? 0 };
      const onFound: Parameters<net.LookupFunction>[2] = (error, found, family) => {
        if (error) {
          fail(
            new ResolveError(`${host} could not be resolved: ${error.message}`, {
              cause: error,
              hint: 'check the name and the resolver',
            }),
          );
        } else if (typeof found === 'string') {
          done([{ address: found, family: family ?? net.isIP(found) }]);
        } else {
          done(found);
        }
      };
      refusing(() => lookup(host, query, onFound));
      // A lookup cannot be stopped; its answer then comes to nobody.
      return undefined;
    },
    { signal, deadline },
    abortsWith(
      'resolve',
      (ms) =>
        new TimeoutError(`${host} was not resolved within ${ms} ms`, {
          phase: 'resolve',
          hint: 'check the resolver, or raise deadlines.resolve',
        }),
    ),
  );
}

/** What Node throws at once, rather than reports, is about an option. */
function refusing<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw new OptionError((cause as Error).message, { cause });
  }
}

/** A lookup function that has the answer already. */
function answerWith(addresses: Addresses): net.LookupFunction {
  return (_host, options, callback) => {
    const first = addresses[0];
    if (options.all) process.nextTick(callback, null, addresses);
    else process.nextTick(callback, null, first?.address ?? '', first?.family);
  };
}

function connectSocket(
  options: net.NetConnectOpts,
  name: string,
  signal: AbortSignal | undefined,
  deadline: number,
): Promise<net.Socket> {
  let socket: net.Socket | undefined;
  return withLimits<net.Socket>(
    (done, fail) => {
      // Not net.connect(): should it throw, nobody would have the socket that it had made.
      const opening = new net.Socket({ ...options, allowHalfOpen: true });
      socket = opening;
      refusing(() => opening.connect(options));
      const onConnect = () => done(opening);
      const onError = (error: Error) =>
        fail(
          new ConnectError(`no connection to ${name}: ${describe(error)}`, {
            cause: error,
            hint: 'check the address, and that a server listens there',
          }),
        );
      opening.once('connect', onConnect);
      opening.once('error', onError);
      return () => {
        opening.off('connect', onConnect);
        opening.off('error', onError);
      };
    },
    { signal, deadline },
    abortsWith(
      'connect',
      (ms) =>
        new TimeoutError(`no connection to ${name} within ${ms} ms`, {
          phase: 'connect',
          hint: 'check the address and what filters it, or raise deadlines.connect',
        }),
    ),
  ).catch((error) => {
    // An attempt that is destroyed may still report an error to nobody.
    socket?.on('error', () => {});
    socket?.destroy();
    throw error;
  });
}

/** An AggregateError (several addresses, all failed) has no message of its own. */
function describe(error: Error & { code?: string }): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.map((one: Error) => one.message).join('; ');
  }
  return error.message;
}
