/** What the TLS engine's errors mean: what they are to the closure, and what to tell the reader. */
import type { SeenAlert, Way } from '../closure/ending.ts';
import type { AlertDetail, ClosureEvent } from '../closure/machine.ts';
import type { Closure } from '../closure/verdict.ts';
import {
  AbortedError,
  AlertError,
  CertificateError,
  type CloseNotifyError,
  HandshakeError,
} from '../errors.ts';
import { plainReason } from '../openssl.ts';
import { ALERT_NAMES, alertCode, alertName } from '../record/alert.ts';
import type { EngineFailure } from './contract.ts';

/** An error of Node's TLS, with OpenSSL's reason as its code. */
export type EngineError = Error & { readonly code?: string };

/** What a failure of the engine is to the closure. */
export type FailureEvent = Extract<
  ClosureEvent,
  { readonly type: 'alert-sent' | 'alert-received' | 'abandon' }
>;

/**
 * What a failure of Node's TLS is to the closure, by its error alone, where nothing has told of an alert.
 *
 * @param unauthorized why the peer's certificate does not verify, where that is the failure.
 * @param established whether the handshake was complete.
 */
export function eventOf(
  error: EngineError,
  unauthorized: string | null,
  established: boolean,
): FailureEvent {
  const received = unauthorized === null ? receivedAlert(error, established) : null;
  if (received !== null) return { type: 'alert-received', alert: received };
  // No alert goes out for Node's own judgement: renegotiations too fast, a key too small.
  if (unauthorized !== null || !isTlsError(error)) return { type: 'abandon', how: 'destroyed' };
  return { type: 'alert-sent', alert: sentAlert(error, established) };
}

/**
 * The alert that an error of Deno's TLS stands for: Deno gives no key log, so that no alert can be read. Its TLS is
 * rustls, which names an alert that it received in its message; for anything else it sends one. The code of such an
 * error is Node's for some, and for all others that of handshake_failure, which is no word to go by.
 */
export function inferredAlert(
  error: EngineError,
  established: boolean,
): { readonly way: Way; readonly alert: SeenAlert } | null {
  if (!isTlsError(error)) return null;
  const [, name, number] = RUSTLS_RECEIVED.exec(error.message) ?? [];
  // RFC 9846 section 5.2: "If the decryption fails, the receiver MUST terminate the connection with a
  // 'bad_record_mac' alert." Which one rustls sends for other errors it does not say.
  const refused = error.message.startsWith('cannot decrypt') ? BAD_RECORD_MAC : null;
  return {
    way: name === undefined ? 'sent' : 'received',
    alert: {
      level: 2,
      description: name === undefined ? refused : (rustlsAlert(name) ?? (Number(number) || null)),
      authenticated: established,
    },
  };
}

/** `received fatal alert: BadRecordMac`, or `AlertDescription(0xc8)` for one that has no name. */
const RUSTLS_RECEIVED = /^received fatal alert: (\w+)(?:\((\w+)\))?/;

const BAD_RECORD_MAC = 20;

/** The number of an alert by its name in rustls, `UnknownCA`; undefined for one that no standard knows. */
function rustlsAlert(name: string): number | undefined {
  const plain = name.toLowerCase();
  return [...ALERT_NAMES].find(([, ours]) => ours.replaceAll('_', '') === plain)?.[0];
}

/**
 * What the calls of a stream reject with when its engine has failed.
 *
 * @param closure has the alert, if one is known to have crossed the wire.
 */
export function engineError(
  { error: cause, unauthorized }: EngineFailure,
  established: boolean,
  closure: Closure,
): CloseNotifyError {
  const message = plainReason(cause.message);
  const { alert } = closure;
  const phase = established ? 'open' : 'handshake';
  if (unauthorized !== null) {
    // A server of Node's says only that the socket hung up.
    const reason = cause.code === 'ECONNRESET' ? certificateError(unauthorized, cause) : cause;
    const why = plainReason(reason.message);
    return new CertificateError(`the peer's certificate does not verify: ${why}`, {
      closure,
      cause: reason,
      hint: certificateHint(reason.code ?? unauthorized),
    });
  }
  if (alert?.direction === 'received') {
    const early = alert.code === 0 && !established;
    const text = early
      ? 'the peer sent close_notify before the handshake was complete'
      : `the peer sent the fatal alert ${alert.name}`;
    return new AlertError(text, { phase, closure, cause });
  }
  if (!established) {
    const hint = handshakeHint(cause);
    return new HandshakeError(`the TLS handshake failed: ${message}`, { closure, cause, hint });
  }
  // Behind our own close_notify no alert can say what we refuse.
  return alert === null
    ? new AbortedError(`the TLS engine gave up, and sent no alert: ${message}`, { closure, cause })
    : new AlertError(`the peer's bytes were refused (${alert.name}): ${message}`, {
        phase,
        closure,
        cause,
      });
}

/**
 * Why the peer's certificate does not verify, by an error's code: one of OpenSSL's for a chain, `CERT_HAS_EXPIRED`.
 * Deno has nothing else that says so.
 */
export function unverified({ code = '' }: EngineError): string | null {
  return /^(?!ERR_)[A-Z]+(?:_[A-Z]+)+$/.test(code) ? code : null;
}

/** The reason why a certificate does not verify, as an error with OpenSSL's name for it as its code. */
function certificateError(code: string, cause: EngineError): EngineError {
  const words = code.toLowerCase().replaceAll('_', ' ');
  return Object.assign(new Error(words, { cause }), { code });
}

/**
 * OpenSSL names an alert that it received in its reason: `SSL alert number N` plus 1000, which Node
 * turns into codes such as ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED (or, from OpenSSL 3.5 on,
 * ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE). What follows the prefix is the alert's name.
 */
function receivedAlert(error: EngineError, authenticated: boolean): AlertDetail | null {
  const name = /^ERR_SSL_(?:SSLV3|TLSV1|TLSV13|SSL\/TLS)_(?:ALERT_)?(\w+)$/.exec(
    error.code ?? '',
  )?.[1];
  if (name === undefined) return null;
  const code = alertCode(name.toLowerCase());
  return code === undefined ? null : { code, name: alertName(code), authenticated };
}

/**
 * Alerts that OpenSSL sends for its own errors, where the alert itself crossed the wire encrypted.
 * RFC 9846 section 6.2 says which alert belongs to which error.
 */
const ALERTS_BY_ERROR: Readonly<Record<string, number>> = {
  ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC: 20,
  ERR_SSL_BAD_RECORD_TYPE: 10,
  ERR_SSL_UNEXPECTED_MESSAGE: 10,
  ERR_SSL_UNEXPECTED_RECORD: 10,
  ERR_SSL_INVALID_CCS_MESSAGE: 10,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 22,
  ERR_SSL_ENCRYPTED_LENGTH_TOO_LONG: 22,
  ERR_SSL_DATA_LENGTH_TOO_LONG: 22,
  ERR_SSL_WRONG_VERSION_NUMBER: 70,
  ERR_SSL_UNSUPPORTED_PROTOCOL: 70,
  ERR_SSL_NO_SHARED_CIPHER: 40,
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 116,
};

/** Whether an error is OpenSSL's, and so one for which an alert goes out. */
export function isTlsError({ code = '' }: EngineError): boolean {
  return code.startsWith('ERR_SSL_') || code.startsWith('ERR_OSSL_');
}

/** The alert that the engine sent when it failed with `error`. */
function sentAlert(error: EngineError, authenticated: boolean): AlertDetail {
  const code = ALERTS_BY_ERROR[error.code ?? ''];
  return code === undefined
    ? { code: null, name: 'unknown', authenticated }
    : { code, name: alertName(code), authenticated };
}

/** What can be done about a certificate that does not verify. */
function certificateHint(code: string): string {
  switch (code) {
    case 'CERT_HAS_EXPIRED':
      return "its owner has to renew it, unless this machine's clock is wrong";
    case 'CERT_NOT_YET_VALID':
      return "look at this machine's clock: it is valid later";
    case 'CERT_REVOKED':
      return 'its issuer has revoked it: its owner needs another';
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
    case 'HOSTNAME_MISMATCH':
      return 'it is for another name: check host, or ask for the right one with servername';
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return 'it is signed by itself: pass the certificate as `ca` if you trust it';
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
      return 'its issuer is not known here: pass that as `ca`, or have the peer send the whole chain';
    default:
      return 'rejectUnauthorized: false turns verification off, and lets anyone in';
  }
}

/** What may be behind a failed handshake, for the person who reads it. */
function handshakeHint(error: EngineError): string | undefined {
  switch (error.code) {
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_HTTP_REQUEST':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
      return 'the peer does not seem to speak TLS on this port';
    case 'ERR_SSL_UNSUPPORTED_PROTOCOL':
    case 'ERR_SSL_NO_SHARED_CIPHER':
    case 'ERR_SSL_NO_PROTOCOLS_AVAILABLE':
      return 'the two parties have no TLS version or cipher suite in common';
    default:
      return undefined;
  }
}
