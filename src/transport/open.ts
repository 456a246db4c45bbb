/**
 * The transport's beginning: resolve, then connect.
 *
 * Theory of operation. A name may have several addresses, and some of them may be dead or slow. They are tried as RFC
 * 8305 ("Happy Eyeballs") says. They are put in order so that both families take turns (section 4). The attempts begin
 * one after the other, and go on side by side (section 5): the next one begins once the last one has had its time, or
 * at once when one fails. The first attempt that connects wins, and the others are destroyed. Only the deadline and the
 * signal end an attempt before that.
 *
 * So Node's `autoSelectFamily` is not used: it gives up an attempt when the next one begins, and has no connection where
 * a slow address is followed by a dead one. Each attempt here is a socket of its own, to one address.
 *
 * The part of the RFC about asking for both families at the same time (section 3) is left to the resolver.
 */
import dns from 'node:dns';
import net from 'node:net';
import type { Deadlines } from '../closure/policy.ts';
import { ConnectError, OptionError, ResolveError, TimeoutError } from '../errors.ts';
import { hostAndPort } from '../server-name.ts';
import { abortsWith, after, type WaitOptions, withLimits } from '../wait.ts';

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
  /**
   * Whether all addresses are tried, both families in turn. By default as Node does
   * (`net.getDefaultAutoSelectFamily()`, which is true unless the program says otherwise); false tries the first only.
   */
  readonly autoSelectFamily?: boolean | undefined;
  /**
   * Milliseconds until the next address is tried as well; 250 by default, and 10 at least (RFC 8305 sections 5 and 8).
   * Unlike in `net.connect` no attempt is given up then: all of them have until `deadlines.connect`.
   */
  readonly autoSelectFamilyAttemptTimeout?: number | undefined;
  /** Addresses that are not connected to (Node 22 and later). */
  readonly blockList?: net.BlockList | undefined;
  /** The Type of Service of IPv4, the Traffic Class of IPv6: 0 to 255 (Node 24 and later). */
  readonly typeOfService?: number | undefined;
}

/** RFC 8305 section 8: the Connection Attempt Delay, and its least value, in milliseconds. */
const ATTEMPT_DELAY = 250;
const LEAST_ATTEMPT_DELAY = 10;

/**
 * Resolves the host, then connects, to whichever of its addresses is there first (RFC 8305).
 *
 * @throws {OptionError | ResolveError | ConnectError | TimeoutError | AbortError} and leaves nothing open.
 */
export async function openTransport(
  options: TransportOptions,
  signal: AbortSignal | undefined,
  deadlines: Deadlines,
  onPhase: (name: 'resolve' | 'connect') => void,
): Promise<net.Socket> {
  const { path, host = 'localhost', port = 0, lookup, ...rest } = options;
  // Of these Node's own errors do not name the option.
  if (lookup !== undefined && typeof lookup !== 'function') {
    throw new OptionError('lookup must be a function');
  }
  const { localAddress } = rest;
  if (localAddress !== undefined && net.isIP(localAddress) === 0) {
    throw new OptionError('localAddress must be an IP address');
  }
  const limits = { signal, deadline: deadlines.connect };
  if (path !== undefined) {
    const socket = await connectToAny([{ path }], path, ATTEMPT_DELAY, limits);
    onPhase('connect');
    return socket;
  }
  const addresses = await resolve(host, options, signal, deadlines.resolve);
  onPhase('resolve');
  const all = options.autoSelectFamily ?? net.getDefaultAutoSelectFamily();
  const targets = (all ? inTurn(addresses) : addresses.slice(0, 1)).map(
    (address) => ({ noDelay: true, ...rest, host: address, port }) as net.TcpNetConnectOpts,
  );
  const delay = options.autoSelectFamilyAttemptTimeout ?? ATTEMPT_DELAY;
  const socket = await connectToAny(
    targets,
    hostAndPort(host, options.port),
    Math.max(delay, LEAST_ATTEMPT_DELAY),
    limits,
  );
  onPhase('connect');
  return socket;
}

/** RFC 8305 section 4: the families take turns, and that of the first address begins. */
function inTurn(addresses: readonly string[]): string[] {
  const isFirst = (address: string) => net.isIP(address) === net.isIP(addresses[0] as string);
  const ones = addresses.filter(isFirst);
  const others = addresses.filter((address) => !isFirst(address));
  const turns = Array.from({ length: Math.max(ones.length, others.length) }, (_, i) => i);
  return turns.flatMap((i) => [...ones.slice(i, i + 1), ...others.slice(i, i + 1)]);
}

/** @returns the host's addresses, one at least, in the resolver's order (RFC 6724). */
async function resolve(
  host: string,
  options: TransportOptions,
  signal: AbortSignal | undefined,
  deadline: number,
): Promise<string[]> {
  if (net.isIP(host) !== 0) return [host];
  const lookup = options.lookup ?? (dns.lookup as net.LookupFunction);
  return withLimits<string[]>(
    (done, fail) => {
      const query = { all: true, family: options.family ?? 0, hints: options.hints ?? 0 };
      const failed = (why: string, cause?: Error) =>
        fail(
          new ResolveError(`${host} could not be resolved: ${why}`, {
            ...(cause && { cause }),
            hint: 'check the name and the resolver',
          }),
        );
      const onFound: Parameters<net.LookupFunction>[2] = (error, found) => {
        if (error) {
          failed(error.message, error);
          return;
        }
        const addresses = Array.isArray(found) ? found.map(({ address }) => address) : [found];
        // What is none would be taken for a name, and asked for again.
        const wrong = addresses.find((address) => net.isIP(address) === 0);
        if (addresses.length === 0) failed('it has no address');
        else if (wrong !== undefined) failed(`lookup gave '${wrong}', which is no IP address`);
        else done(addresses);
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

/** An attempt that failed: where to, and why. */
interface Failure {
  readonly address: string;
  readonly error: Error & { readonly code?: string };
}

/**
 * Connects to the first of these targets that answers. An attempt begins `delay` milliseconds after the last one, or
 * when one fails.
 *
 * @param targets one at least.
 * @param name what they are all called in errors.
 */
function connectToAny(
  targets: readonly net.NetConnectOpts[],
  name: string,
  delay: number,
  limits: WaitOptions,
): Promise<net.Socket> {
  const failures: Failure[] = [];
  return withLimits<net.Socket>(
    (done, fail) => {
      const waiting = [...targets];
      const attempts = new Set<net.Socket>();
      let stopTimer = () => {};
      let isOver = false;
      const begin = (target: net.NetConnectOpts) => {
        // Not net.connect(): should it throw, nobody would have the socket that it had made.
        const socket = refusing(
          () => new net.Socket({ ...target, allowHalfOpen: true } as net.SocketConstructorOpts),
        );
        attempts.add(socket);
        const onError = (error: Error) => {
          attempts.delete(socket);
          // An attempt that was destroyed may still report an error; it is nobody's.
          if (isOver) return;
          failures.push({ address: 'path' in target ? target.path : `${target.host}`, error });
          if (waiting.length > 0) beginNext();
          else if (attempts.size === 0) fail(unreachable(name, failures));
        };
        socket.once('error', onError);
        socket.once('connect', () => {
          socket.off('error', onError);
          attempts.delete(socket);
          done(socket);
        });
        refusing(() => socket.connect(target));
      };
      const beginNext = () => {
        stopTimer();
        try {
          begin(waiting.shift() as net.NetConnectOpts);
        } catch (error) {
          fail(error);
          return;
        }
        if (waiting.length > 0) stopTimer = after(delay, beginNext);
      };
      beginNext();
      return () => {
        isOver = true;
        stopTimer();
        for (const socket of attempts) socket.destroy();
      };
    },
    limits,
    abortsWith('connect', (ms) => {
      const so = failures.length === 0 ? '' : `: ${failures.map(describe).join('; ')}`;
      return new TimeoutError(`no connection to ${name} within ${ms} ms${so}`, {
        phase: 'connect',
        ...(so !== '' && { cause: causeOf(failures) }),
        hint: 'check the address and what filters it, or raise deadlines.connect',
      });
    }),
  );
}

const unreachable = (name: string, failures: readonly Failure[]): ConnectError =>
  new ConnectError(`no connection to ${name}: ${failures.map(describe).join('; ')}`, {
    cause: causeOf(failures),
    hint: 'check the address, and that a server listens there',
  });

/** One system's error as it is; of several an AggregateError, which like Node's own has the first one's code. */
function causeOf(failures: readonly Failure[]): Error {
  const errors = failures.map(({ error }) => error);
  const [first] = errors;
  if (first !== undefined && errors.length === 1) return first;
  const all = new AggregateError(errors, failures.map(describe).join('; '));
  return Object.assign(all, { code: first?.code });
}

/** The system's message; where the address is not in it (bind, other runtimes), that comes first. */
function describe({ address, error }: Failure): string {
  const { message } = error;
  return message.includes(address) ? message : `${address}: ${message}`;
}
