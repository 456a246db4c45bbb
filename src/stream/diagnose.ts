/** What the TLS engine's errors mean: which alert they stand for, and what to tell the reader. */
import type { AlertDetail } from '../closure/machine.ts';
import { alertCode, alertName } from '../record/alert.ts';

/** An error of Node's TLS, with OpenSSL's reason as its code. */
export type EngineError = Error & { readonly code?: string };

/**
 * OpenSSL names an alert that it received in its reason: `SSL alert number N` plus 1000, which Node
 * turns into codes such as ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED (or, from OpenSSL 3.5 on,
 * ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE). What follows the prefix is the alert's name.
 */
export function receivedAlert(error: EngineError, authenticated: boolean): AlertDetail | null {
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
export function sentAlert(error: EngineError, authenticated: boolean): AlertDetail {
  const code = ALERTS_BY_ERROR[error.code ?? ''];
  return code === undefined
    ? { code: null, name: 'unknown', authenticated }
    : { code, name: alertName(code), authenticated };
}

/** What may be behind a failed handshake, for the person who reads it. */
export function handshakeHint(error: EngineError): string | undefined {
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
