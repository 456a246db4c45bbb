/** What strict connections tell on `diagnostics_channel`, and in which mode they are. */
import { channel } from 'node:diagnostics_channel';
import type { TLSSocket } from 'node:tls';
import type { Evidence } from '../closure/machine.ts';
import type { Closure } from '../closure/verdict.ts';
import type { AlertError, TruncatedError } from '../errors.ts';

/** What to do about a truncation: raise it, or let it pass as Node does and only report it. */
export type Strictness = 'error' | 'report';

/** What became of a socket whose stream had ended without closure. */
export type Outcome = 'error' | 'end';

/** Which connection a message is about. */
export interface StrictConnection {
  readonly socket: TLSSocket;
  /** Of this side. */
  readonly role: 'client' | 'server';
  /**
   * A client's: the host or path that it was told to connect to. A server's: the client's address. Null where it is not
   * known, as of a client that was given its transport and no name.
   */
  readonly host: string | null;
  readonly port: number | null;
  /** The name in SNI. Null before the handshake, and without. */
  readonly servername: string | null;
  /** `TLSv1.2` or `TLSv1.3`. Null before the handshake. */
  readonly protocol: string | null;
}

/** What the channel `close-notify.connect` carries: a connection that is made strict. */
export interface ConnectMessage extends StrictConnection {
  readonly mode: Strictness;
  /** What the closure of this connection will rest on. */
  readonly evidence: Exclude<Evidence, 'inferred'>;
  /** `node`: Node's TLS on the transport itself; `tapped`: on a tap, where the add-on is not. */
  readonly engine: 'node' | 'tapped';
}

/** What the channel `close-notify.unwatched` carries: a connection of which nothing can be claimed. */
export interface UnwatchedMessage extends StrictConnection {
  readonly reason: string;
}

/** What the channel `close-notify.truncated` carries. */
export interface TruncatedMessage extends StrictConnection {
  /** An AlertError where a fatal alert ended the stream; its `cause` is what Node said of it, if it did. */
  readonly error: TruncatedError | AlertError;
  /**
   * `error`: the program got an error. `end`: it saw an ordinary end, because it asked only for a
   * report, or because HTTP knew that nothing was missing.
   */
  readonly outcome: Outcome;
  /**
   * Whether what the program has may lack bytes: `closure.incomplete`. It is the same in both modes: where it is true,
   * `error` mode gives the program an error.
   */
  readonly incomplete: boolean;
}

/** What the channel `close-notify.closure` carries: a connection is over. */
export interface ClosureMessage extends StrictConnection {
  readonly closure: Closure;
  /** `closure.incomplete`. */
  readonly incomplete: boolean | null;
}

const connects = channel('close-notify.connect');
const unwatched = channel('close-notify.unwatched');
const truncations = channel('close-notify.truncated');
const closures = channel('close-notify.closure');

/** Whether somebody listens to what is told later than at the connection's start. */
export const isHeard = (): boolean =>
  unwatched.hasSubscribers || truncations.hasSubscribers || closures.hasSubscribers;

export function tellConnect(message: () => ConnectMessage): void {
  if (connects.hasSubscribers) connects.publish(message());
}

export function tellUnwatched(message: () => UnwatchedMessage): void {
  if (unwatched.hasSubscribers) unwatched.publish(message());
}

export function tellTruncated(message: () => TruncatedMessage): void {
  if (truncations.hasSubscribers) truncations.publish(message());
}

export function tellClosure(message: () => ClosureMessage): void {
  if (closures.hasSubscribers) closures.publish(message());
}
