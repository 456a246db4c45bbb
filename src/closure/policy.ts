/**
 * The knobs of closing, each on its own: what one party requires of the other, when it answers,
 * how long it waits, and what becomes of data that nobody has read.
 */

import { OptionError } from '../errors.ts';
import { checkOptionNames } from '../option-names.ts';

/** How long each wait may take, in milliseconds. `Infinity` waits for ever. */
export interface Deadlines {
  /** Looking up the host's addresses. */
  readonly resolve: number;
  /** Connecting the transport, all addresses together. */
  readonly connect: number;
  /** The TLS handshake. */
  readonly handshake: number;
  /**
   * One `read()`; `Infinity` by default, since a peer may be silent for long: `idleTimeout` ends a silent connection.
   * Running out loses nothing: the next read goes on where this one was.
   */
  readonly read: number;
  /** One `write()` that has to wait for the transport. */
  readonly write: number;
  /** `shutdown()`: our close_notify out, and where waited for, the peer's in. */
  readonly shutdown: number;
  /** All of `close()`: what is still to be sent, our close_notify, and the peer's close_notify or FIN. */
  readonly close: number;
}

/**
 * What is left of a transport that is closed: FIN is out, and what still comes is read and thrown away. Without that
 * the kernel answers it with RST, which can destroy our last bytes on their way to the peer.
 */
export interface Linger {
  /** Milliseconds that it lasts at most; it is over with the peer's FIN. */
  readonly time: number;
  /** How many transports of this process may linger at once. One more, and the oldest is dropped. */
  readonly count: number;
}

/** See the fields; all have defaults. */
export interface Policy {
  /**
   * Whether a transport that ends without the peer's close_notify is an error (`true`, the default)
   * or only reported in the closure's verdict (`false`): then `read` gives null at that point.
   */
  readonly requireCloseNotify: boolean;
  /**
   * When to answer the peer's close_notify with ours.
   *
   * - `by-version` (the default) does what each standard asks: TLS 1.2 at once, discarding pending
   *   writes (RFC 5246 section 7.2.1: the other party "MUST respond with a close_notify alert of its
   *   own and close down the connection immediately, discarding any pending writes"); TLS 1.3 when
   *   told, because there each direction closes on its own (RFC 9846 section 6.1).
   * - `at-once`: in both versions, as soon as it arrives.
   * - `when-told`: only when `shutdown` or `close` is called.
   */
  readonly answer: 'by-version' | 'at-once' | 'when-told';
  /**
   * What `shutdown` does with data that arrives before the peer's close_notify and that nobody
   * reads: `keep` it readable (the default; at most `unreadLimit` bytes), or `discard` it.
   */
  readonly unread: 'keep' | 'discard';
  /**
   * Bytes that `unread: 'keep'` may hold. Beyond it `shutdown` waits until somebody reads; `close` discards the rest,
   * and then `read` fails where it would go on.
   */
  readonly unreadLimit: number;
  /** How long each wait may take. */
  readonly deadlines: Deadlines;
  /**
   * Milliseconds without a byte in either direction, behind the handshake, after which the connection is given up;
   * `Infinity` by default. Whatever waits rejects with `ERR_TLS_TIMEOUT` of the phase `open`, and the verdict is
   * `timed-out`. The transport is closed without close_notify: that would say that this side has said all.
   *
   * It counts also while the program does not read. Behind `close()` the deadline of that counts alone.
   */
  readonly idleTimeout: number;
  /** How a closed transport lingers. */
  readonly linger: Linger;
}

/** What a caller may give: any part of a policy. */
export type PolicyOptions = Partial<Omit<Policy, 'deadlines' | 'linger'>> & {
  readonly deadlines?: Partial<Deadlines> | undefined;
  readonly linger?: Partial<Linger> | undefined;
};

export const DEFAULT_POLICY: Policy = {
  requireCloseNotify: true,
  answer: 'by-version',
  unread: 'keep',
  unreadLimit: 16 * 1024 * 1024,
  deadlines: {
    resolve: 5_000,
    connect: 10_000,
    handshake: 10_000,
    read: Number.POSITIVE_INFINITY,
    write: 300_000,
    shutdown: 5_000,
    close: 5_000,
  },
  idleTimeout: Number.POSITIVE_INFINITY,
  linger: { time: 2_000, count: 1_000 },
};

/**
 * Fills in the defaults.
 *
 * @throws {OptionError} that names the option.
 */
export function resolvePolicy(options: PolicyOptions = {}, base: Policy = DEFAULT_POLICY): Policy {
  const policy: Policy = {
    requireCloseNotify: options.requireCloseNotify ?? base.requireCloseNotify,
    answer: options.answer ?? base.answer,
    unread: options.unread ?? base.unread,
    unreadLimit: options.unreadLimit ?? base.unreadLimit,
    deadlines: { ...base.deadlines, ...partOf(base.deadlines, options.deadlines, 'deadlines') },
    idleTimeout: options.idleTimeout ?? base.idleTimeout,
    linger: { ...base.linger, ...partOf(base.linger, options.linger, 'linger') },
  };
  check(typeof policy.requireCloseNotify === 'boolean', 'requireCloseNotify', 'a boolean');
  check(
    ['by-version', 'at-once', 'when-told'].includes(policy.answer),
    'answer',
    "'by-version', 'at-once' or 'when-told'",
  );
  check(['keep', 'discard'].includes(policy.unread), 'unread', "'keep' or 'discard'");
  check(
    typeof policy.unreadLimit === 'number' && policy.unreadLimit >= 0,
    'unreadLimit',
    'a number of bytes, 0 or more',
  );
  checkDeadline(policy.idleTimeout, 'idleTimeout');
  checkDeadline(policy.linger.time, 'linger.time');
  check(
    Number.isInteger(policy.linger.count) && policy.linger.count >= 0,
    'linger.count',
    'a number of transports, 0 or more',
  );
  for (const [name, value] of Object.entries(policy.deadlines)) {
    checkDeadline(value, `deadlines.${name}`);
  }
  return policy;
}

/** @throws {OptionError} unless `value` is a number of milliseconds above 0. */
export function checkDeadline(value: unknown, name: string): asserts value is number {
  check(typeof value === 'number' && value > 0, name, 'a number of milliseconds above 0');
}

/** What was given of an option that has members. @throws {OptionError} for a member that there is not. */
function partOf<T extends object>(
  base: T,
  given: Partial<T> | undefined,
  name: string,
): Partial<T> {
  if (given === undefined) return {};
  checkOptionNames(given, Object.keys(base), `${name}.`);
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as Partial<T>;
}

function check(holds: boolean, name: string, wanted: string): asserts holds {
  if (!holds) throw new OptionError(`${name} must be ${wanted}`);
}
