/**
 * Every error that this library raises: one base class, a stable `code` for each case, and beside it
 * what a program needs to go on: the phase, the closure so far, the first cause, and a hint for the
 * person who reads it. docs/errors.md has an entry for each code.
 */
import type { Closure } from './closure/verdict.ts';

/** The stable codes. Nobody has to match a message. */
export type ErrorCode =
  | 'ERR_TLS_RESOLVE'
  | 'ERR_TLS_CONNECT'
  | 'ERR_TLS_HANDSHAKE'
  | 'ERR_TLS_CERTIFICATE'
  | 'ERR_TLS_TRUNCATED'
  | 'ERR_TLS_ALERT'
  | 'ERR_TLS_TIMEOUT'
  | 'ERR_TLS_ABORTED'
  | 'ERR_TLS_SHUTDOWN'
  | 'ERR_TLS_READ_PENDING'
  | 'ERR_TLS_TAKEN'
  | 'ERR_TLS_NOT_SHUTDOWN'
  | 'ERR_TLS_REMOVED'
  | 'ERR_TLS_KEY_UPDATE'
  | 'ERR_TLS_OPTION'
  | 'ERR_TLS_REQUEST'
  | 'ERR_TLS_MALFORMED'
  | 'ERR_TLS_STARTTLS'
  | 'ERR_TLS_IDENTITY'
  | 'ERR_TLS_RUNTIME'
  | 'ABORT_ERR';

/** What the connection was doing when an error came up. */
export type Phase =
  | 'options'
  | 'resolve'
  | 'connect'
  | 'starttls'
  | 'handshake'
  | 'open'
  | 'read'
  | 'write'
  | 'shutdown'
  | 'close';

/** What an error can carry beside its message. */
export interface ErrorDetails {
  /** What the connection was doing. */
  readonly phase?: Phase | undefined;
  /** The closure at the time. */
  readonly closure?: Closure | undefined;
  /** The first cause. */
  readonly cause?: unknown;
  /** What the reader can do about it. */
  readonly hint?: string | undefined;
}

/** The base class of all errors of this library. */
export class CloseNotifyError extends Error {
  override readonly name: string = 'CloseNotifyError';
  readonly code: ErrorCode;
  /** What the connection was doing; null where that does not matter. */
  readonly phase: Phase | null;
  /** The closure at the time of the error; null where there was no connection yet. */
  readonly closure: Closure | null;
  /** What the reader can do about it; null where the message says all. */
  readonly hint: string | null;
  /**
   * Whether what was read may lack bytes: `closure.incomplete` at the time of the error; null where that was not known
   * yet, or there was no connection.
   */
  readonly incomplete: boolean | null;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.phase = details.phase ?? null;
    this.closure = details.closure ?? null;
    this.hint = details.hint ?? null;
    this.incomplete = this.closure?.incomplete ?? null;
  }
}

/**
 * Whether an error says that bytes of the peer's may be missing: one of this library whose `incomplete` is true, also
 * where it is the cause of another error, as with `fetch`, or one of several (AggregateError, SuppressedError).
 */
export function isTruncated(error: unknown): boolean {
  const seen = new Set<unknown>();
  const waiting = [error];
  while (waiting.length > 0) {
    const one = waiting.pop();
    if (typeof one !== 'object' || one === null || seen.has(one)) continue;
    seen.add(one);
    const { code, closure, incomplete, cause, errors, suppressed } = one as Wrapping;
    // By what it has, and not by its class: there may be two copies of this library. nodemailer puts a code of its own
    // on our error, whose closure stays.
    const ours =
      (typeof code === 'string' && code.startsWith('ERR_TLS_')) || closure?.incomplete === true;
    if (incomplete === true && ours) return true;
    waiting.push(cause, suppressed, (one as Wrapping).error);
    if (Array.isArray(errors)) waiting.push(...errors);
  }
  return false;
}

/** What an error may have that stands for others. */
interface Wrapping {
  readonly code?: unknown;
  readonly closure?: { readonly incomplete?: unknown } | null;
  readonly incomplete?: unknown;
  readonly cause?: unknown;
  readonly errors?: unknown;
  readonly error?: unknown;
  readonly suppressed?: unknown;
}

/** The host's name has no address: `cause` is the resolver's error. */
export class ResolveError extends CloseNotifyError {
  override readonly name = 'ResolveError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_RESOLVE', message, { phase: 'resolve', ...details });
  }
}

/** No transport: refused, unreachable. `cause` is the system's error. */
export class ConnectError extends CloseNotifyError {
  override readonly name = 'ConnectError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_CONNECT', message, { phase: 'connect', ...details });
  }
}

/** The handshake failed on this side. `cause` is the TLS engine's error. */
export class HandshakeError extends CloseNotifyError {
  override readonly name = 'HandshakeError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_HANDSHAKE', message, { phase: 'handshake', ...details });
  }
}

/** The peer's certificate did not verify. `cause.code` says why, such as `CERT_HAS_EXPIRED`. */
export class CertificateError extends CloseNotifyError {
  override readonly name = 'CertificateError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_CERTIFICATE', message, { phase: 'handshake', ...details });
  }
}

/** The transport ended before the peer's close_notify: bytes may be missing. */
export class TruncatedError extends CloseNotifyError {
  override readonly name = 'TruncatedError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_TRUNCATED', message, details);
  }
}

/** A fatal alert, sent or received: `closure.alert` says which. */
export class AlertError extends CloseNotifyError {
  override readonly name = 'AlertError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_ALERT', message, details);
  }
}

/** A deadline passed; `phase` says which wait it ended. */
export class TimeoutError extends CloseNotifyError {
  override readonly name = 'TimeoutError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_TIMEOUT', message, details);
  }
}

/** The stream was aborted, or its transport destroyed, on this side. */
export class AbortedError extends CloseNotifyError {
  override readonly name = 'AbortedError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_ABORTED', message, details);
  }
}

/** A write after shutdown. */
export class ShutdownError extends CloseNotifyError {
  override readonly name = 'ShutdownError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_SHUTDOWN', message, { phase: 'write', ...details });
  }
}

/** A call at a time when it cannot be answered (a second read, unwrap before shutdown), or of what is gone. */
export class UsageError extends CloseNotifyError {
  override readonly name = 'UsageError';
  constructor(
    code:
      | 'ERR_TLS_READ_PENDING'
      | 'ERR_TLS_TAKEN'
      | 'ERR_TLS_NOT_SHUTDOWN'
      | 'ERR_TLS_REMOVED'
      | 'ERR_TLS_KEY_UPDATE',
    message: string,
    details?: ErrorDetails,
  ) {
    super(code, message, details);
  }
}

/** An option of the wrong type or value. */
export class OptionError extends CloseNotifyError {
  override readonly name = 'OptionError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_OPTION', message, { phase: 'options', ...details });
  }
}

/** This runtime, or this process, cannot do what was asked for: the message says what can. */
export class RuntimeError extends CloseNotifyError {
  override readonly name = 'RuntimeError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_RUNTIME', message, { phase: 'options', ...details });
  }
}

/** The peer asked for a client certificate in words that cannot be read. */
export class RequestError extends CloseNotifyError {
  override readonly name = 'RequestError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_REQUEST', message, { phase: 'handshake', ...details });
  }
}

/** Bytes that do not say what they should. `offset` is the byte at which the reading stopped. */
export class MalformedError extends CloseNotifyError {
  override readonly name = 'MalformedError';
  readonly offset: number;

  constructor(message: string, offset: number) {
    super('ERR_TLS_MALFORMED', `${message} (at byte ${offset})`);
    this.offset = offset;
  }
}

/** The server requires a client certificate, and no identity is usable. */
export class IdentityError extends CloseNotifyError {
  override readonly name = 'IdentityError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_IDENTITY', message, { phase: 'handshake', ...details });
  }
}

/** The server did not begin TLS when asked to, or spoke out of turn. */
export class StartTlsError extends CloseNotifyError {
  override readonly name = 'StartTlsError';
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TLS_STARTTLS', message, { phase: 'starttls', ...details });
  }
}

/** An AbortSignal cancelled the call: `cause` is the signal's reason, as in Node's own APIs. */
export class AbortError extends CloseNotifyError {
  override readonly name = 'AbortError';
  constructor(details?: ErrorDetails) {
    super('ABORT_ERR', 'The operation was aborted', details);
  }
}
