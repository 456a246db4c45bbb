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

/** What the channel `close-notify.connect` carries: a connection that is made strict. */
export interface ConnectMessage {
  readonly socket: TLSSocket;
  readonly mode: Strictness;
  /** What the closure of this connection will rest on. */
  readonly evidence: Exclude<Evidence, 'inferred'>;
  /** `node`: Node's TLS on the transport itself; `tapped`: on a tap, where the add-on is not. */
  readonly engine: 'node' | 'tapped';
}

/** What the channel `close-notify.unwatched` carries: a connection of which nothing can be claimed. */
export interface UnwatchedMessage {
  readonly socket: TLSSocket;
  readonly reason: string;
}

/** What the channel `close-notify.truncated` carries. */
export interface TruncatedMessage {
  readonly socket: TLSSocket;
  /** An AlertError where a fatal alert cut the stream and Node did not say so. */
  readonly error: TruncatedError | AlertError;
  /**
   * `error`: the program got an error. `end`: it saw an ordinary end, because it asked only for a
   * report, or because HTTP knew that nothing was missing.
   */
  readonly outcome: Outcome;
}

/** What the channel `close-notify.closure` carries: a connection is over. */
export interface ClosureMessage {
  readonly socket: TLSSocket;
  readonly closure: Closure;
}

const connects = channel('close-notify.connect');
const unwatched = channel('close-notify.unwatched');
const truncations = channel('close-notify.truncated');
const closures = channel('close-notify.closure');

export function tellConnect(message: ConnectMessage): void {
  if (connects.hasSubscribers) connects.publish(message);
}

export function tellUnwatched(message: UnwatchedMessage): void {
  if (unwatched.hasSubscribers) unwatched.publish(message);
}

export function tellTruncated(message: TruncatedMessage): void {
  if (truncations.hasSubscribers) truncations.publish(message);
}

/** @param closureOf called only where somebody listens. */
export function tellClosure(socket: TLSSocket, closureOf: () => Closure): void {
  if (!closures.hasSubscribers) return;
  closures.publish({ socket, closure: closureOf() } satisfies ClosureMessage);
}
