/** What OpenSSL showed of one connection. The same connection is always the same object. */
export interface Watch {
  /** When the SSL was made, in milliseconds of the clock of `process.hrtime()` (CLOCK_MONOTONIC). */
  born(): number;
  /**
   * The alerts that crossed the wire (RFC 9846, section 6; RFC 5246, section 7.2), in order: the first 16, and always
   * the first that ends each direction. Each is two numbers. The first is `flags << 16 | level << 8 | description`:
   *
   * - flag 1: it was sent;
   * - flag 2: it was authenticated: the Finished message of its sender had been seen before it;
   * - flag 4, of one that was sent: nothing else was in the write BIO when it was made;
   * - level 1: warning, 2: fatal; description 0: close_notify.
   *
   * The second is when, on the clock of `born`. The first `known` alerts are left out, none by default; null where there
   * are no others.
   */
  alerts(known?: number): number[] | null;
  /** Bytes that the SSL's write BIO holds and the transport has not got; null once the SSL is freed. */
  pending(): number | null;
  /**
   * Where the bytes end that OpenSSL has read: between two records, within the header or within the
   * body of one. 'unknown': records were read that were not shown (`enableTrace()` does that). When
   * the SSL is freed the last answer stays; null: it had read no record by then.
   */
  place(): 'boundary' | 'header' | 'body' | 'unknown' | null;
  /**
   * Puts the message callback on the SSL again, which `enableTrace()` displaces. With `trace` the
   * callback also writes to stderr what `enableTrace()` would.
   */
  retake(trace: boolean): void;
}

/** The witness of this thread. Each method throws a TypeError for an argument of another type. */
export interface Binding {
  /** The version of this package that was compiled in. */
  readonly version: string;
  /** What this package offers, as one number: it rises with each change that a library has to know of. */
  readonly interface: number;
  /** The version of the OpenSSL that runs: '3.5.8'. */
  readonly openssl: string;
  /**
   * From now on each SSL that is made on this thread is watched. May be called again, with another
   * function or the same. `onIgnored` is called on a later turn of the event loop, once a connection,
   * when the peer's close_notify came and OpenSSL ignored it: version 3.5 does so in TLS 1.3
   * behind a warning. It does not keep the process alive.
   */
  watch(onIgnored: (watch: Watch) => void): void;
  /**
   * The watch of the connection whose own last Finished message is this (`tlsSocket.getFinished()`),
   * or null. It is found once; a second call gives null.
   */
  find(finished: Uint8Array): Watch | null;
  /** A mark for `since`: they bracket a synchronous call that makes a socket. */
  mark(): number;
  /** The watches of all SSLs made on this thread since the mark that still live, oldest first. */
  since(mark: number): Watch[];
  /** How many objects live, on all threads of the process. For tests. */
  live(): { ssl: number; watches: number };
}

/** null: there is none here, and `reason` says why. Loading never throws. */
export const native: Binding | null;
/** One line; null where `native` is there. */
export const reason: string | null;
