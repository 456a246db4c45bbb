/**
 * TLS alerts: two bytes, level and description. RFC 9846 section 6, and for those that only older
 * versions send, RFC 5246 section 7.2.
 */

/** AlertDescription by number, in the standards' spelling. */
export const ALERT_NAMES: ReadonlyMap<number, string> = new Map([
  [0, 'close_notify'],
  [10, 'unexpected_message'],
  [20, 'bad_record_mac'],
  [21, 'decryption_failed'],
  [22, 'record_overflow'],
  [30, 'decompression_failure'],
  [40, 'handshake_failure'],
  [41, 'no_certificate'],
  [42, 'bad_certificate'],
  [43, 'unsupported_certificate'],
  [44, 'certificate_revoked'],
  [45, 'certificate_expired'],
  [46, 'certificate_unknown'],
  [47, 'illegal_parameter'],
  [48, 'unknown_ca'],
  [49, 'access_denied'],
  [50, 'decode_error'],
  [51, 'decrypt_error'],
  [60, 'export_restriction'],
  [70, 'protocol_version'],
  [71, 'insufficient_security'],
  [80, 'internal_error'],
  [86, 'inappropriate_fallback'],
  [90, 'user_canceled'],
  [100, 'no_renegotiation'],
  [109, 'missing_extension'],
  [110, 'unsupported_extension'],
  [111, 'certificate_unobtainable'],
  [112, 'unrecognized_name'],
  [113, 'bad_certificate_status_response'],
  [114, 'bad_certificate_hash_value'],
  [115, 'unknown_psk_identity'],
  [116, 'certificate_required'],
  [120, 'no_application_protocol'],
  [121, 'ech_required'],
]);

const ALERT_CODES: ReadonlyMap<string, number> = new Map(
  [...ALERT_NAMES].map(([code, name]) => [name, code]),
);

/** The alert's name, or `alert_N` for a number that no standard has given out. */
export function alertName(code: number): string {
  return ALERT_NAMES.get(code) ?? `alert_${code}`;
}

/** The number of an alert by its name; undefined for a name that no standard knows. */
export function alertCode(name: string): number | undefined {
  return ALERT_CODES.get(name);
}

/** An alert as it crosses the wire in the clear. */
export interface Alert {
  readonly level: 'warning' | 'fatal';
  readonly code: number;
  readonly name: string;
}

/**
 * Reads an alert's two bytes.
 *
 * @returns null unless there are exactly two and the first is a level (1 warning, 2 fatal).
 */
export function parseAlert(body: Uint8Array): Alert | null {
  const [level, code] = body;
  if (body.length !== 2 || code === undefined || (level !== 1 && level !== 2)) return null;
  return { level: level === 1 ? 'warning' : 'fatal', code, name: alertName(code) };
}
