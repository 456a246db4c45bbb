/**
 * Whether an error that came out of a program's function is of its connection, or a bug of the program's own.
 *
 * Theory of operation. A server calls the program with a stream, and the program throws. Any client can cause what a
 * stream rejects with, so that must never end the process. A TypeError, or what another connection of the program
 * failed with, must. Names and messages cannot tell these apart; where the error was made can. So whatever rejects a
 * call of a stream notes the error here, with the transport of that stream. Later one looks for such an error in what
 * was thrown, along `cause` and the members of an AggregateError.
 *
 * Not every call waits, and a few reject without a note: a call whose signal was aborted beforehand, for instance.
 * An error without a note counts as the connection's if its code and phase say that a stream in use has made it. To be
 * wrong there means that an error is told and the process lives; wrong the other way, a client could end it.
 */
import type { Duplex } from 'node:stream';
import type { TransportEnd } from '../closure/machine.ts';
import type { Closure } from '../closure/verdict.ts';
import { CloseNotifyError, type ErrorCode, type Phase } from '../errors.ts';

/** The connection that an error may be of. */
export interface Origin {
  readonly transport: Duplex;
  /** As it stood when the program threw. */
  readonly closure: Closure;
  /** The reason of a signal by which the program was asked to end; undefined where it was not. */
  readonly reason: unknown;
}

/** Errors, by the transport of the stream whose call they rejected. */
const origins = new WeakMap<CloseNotifyError, Duplex>();

/** Notes that a call of the stream on this transport rejects with the error. */
export function noteOrigin(error: unknown, transport: Duplex): void {
  if (error instanceof CloseNotifyError) origins.set(error, transport);
}

/** Whether that was noted. */
export function rejectedCallOn(error: unknown, transport: Duplex): boolean {
  return error instanceof CloseNotifyError && origins.get(error) === transport;
}

/** Codes of what a stream's calls reject with because of the peer, of time or of a signal. */
const CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ERR_TLS_TRUNCATED',
  'ERR_TLS_ALERT',
  'ERR_TLS_TIMEOUT',
  'ERR_TLS_ABORTED',
  'ERR_TLS_SHUTDOWN',
  'ABORT_ERR',
]);

/** Phases of a stream in use. Before them the error belongs to a `connect` or `accept` of the program's own. */
const IN_USE: ReadonlySet<Phase | null> = new Set<Phase>([
  'open',
  'read',
  'write',
  'shutdown',
  'close',
]);

/** Ends of a transport that the program had no part in. */
const BY_THE_PEER: ReadonlySet<TransportEnd> = new Set<TransportEnd>(['eof', 'reset', 'error']);

/** What Node's streams say when they are used after their end. */
const GONE: ReadonlySet<unknown> = new Set(['ERR_STREAM_DESTROYED', 'ERR_STREAM_PREMATURE_CLOSE']);

/** Whether what a program threw is because of its connection. */
export function isOfConnection(thrown: unknown, origin: Origin): boolean {
  return search(thrown, origin, new Set());
}

/** @param above the errors that led to this one: a chain may lead back into itself. */
function search(thrown: unknown, origin: Origin, above: Set<unknown>): boolean {
  if (typeof thrown !== 'object' || thrown === null || above.has(thrown)) return false;
  if (isItself(thrown, origin)) return true;
  above.add(thrown);
  try {
    const { cause, error, suppressed, errors } = thrown as Partial<Record<string, unknown>>;
    const below = (one: unknown) => search(one, origin, above);
    // A SuppressedError, by which `using` tells of two errors: one of them being a bug is enough.
    if ('suppressed' in thrown) return below(error) && below(suppressed);
    return (Array.isArray(errors) && errors.some(below)) || below(cause);
  } finally {
    above.delete(thrown);
  }
}

function isItself(thrown: object, { transport, closure, reason }: Origin): boolean {
  if (thrown === reason || thrown === (transport as { errored?: unknown }).errored) return true;
  if (thrown instanceof CloseNotifyError) {
    const { code } = thrown;
    if (code === 'ERR_TLS_NOT_SHUTDOWN') return wasTaken(thrown.closure);
    if (!CODES.has(code)) return false;
    const noted = origins.get(thrown);
    return noted === undefined ? IN_USE.has(thrown.phase) : noted === transport;
  }
  return GONE.has((thrown as { code?: unknown }).code) && hasFailed(closure);
}

/** Whether the peer, not the program, has made an `unwrap` impossible: it broke the transport behind its shutdown. */
function wasTaken(closure: Closure | null): boolean {
  if (closure === null) return false;
  const { transportEnd, send } = closure;
  return send === 'cut' || (transportEnd !== null && BY_THE_PEER.has(transportEnd));
}

function hasFailed({ verdict }: Closure): boolean {
  return verdict !== 'open' && verdict !== 'secure';
}
