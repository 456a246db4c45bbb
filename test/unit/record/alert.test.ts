import { describe, expect, test } from 'vitest';
import { ALERT_NAMES, alertCode, alertName, parseAlert } from '../../../src/record/alert.ts';

describe('alerts', () => {
  test('the names of RFC 9846 section 6, and those that RFC 5246 section 7.2 has besides', () => {
    const tls13 = {
      close_notify: 0,
      unexpected_message: 10,
      bad_record_mac: 20,
      record_overflow: 22,
      handshake_failure: 40,
      bad_certificate: 42,
      unsupported_certificate: 43,
      certificate_revoked: 44,
      certificate_expired: 45,
      certificate_unknown: 46,
      illegal_parameter: 47,
      unknown_ca: 48,
      access_denied: 49,
      decode_error: 50,
      decrypt_error: 51,
      protocol_version: 70,
      insufficient_security: 71,
      internal_error: 80,
      inappropriate_fallback: 86,
      user_canceled: 90,
      missing_extension: 109,
      unsupported_extension: 110,
      unrecognized_name: 112,
      bad_certificate_status_response: 113,
      unknown_psk_identity: 115,
      certificate_required: 116,
      no_application_protocol: 120,
    };
    const tls12 = {
      decryption_failed: 21,
      decompression_failure: 30,
      no_certificate: 41,
      export_restriction: 60,
      no_renegotiation: 100,
    };
    for (const [name, code] of Object.entries({ ...tls13, ...tls12 })) {
      expect(alertName(code)).toBe(name);
      expect(alertCode(name)).toBe(code);
    }
  });

  test('names and numbers are one to one', () => {
    expect(new Set(ALERT_NAMES.values()).size).toBe(ALERT_NAMES.size);
    for (const [code, name] of ALERT_NAMES) expect(alertCode(name)).toBe(code);
  });

  test('a number that no standard has given out has a name, too, and a name no number', () => {
    expect(alertName(255)).toBe('alert_255');
    expect(alertName(1)).toBe('alert_1');
    expect(alertCode('alert_255')).toBeUndefined();
    expect(alertCode('CLOSE_NOTIFY')).toBeUndefined();
  });
});

describe('parseAlert', () => {
  test('level and description', () => {
    expect(parseAlert(Uint8Array.of(1, 0))).toEqual({
      level: 'warning',
      code: 0,
      name: 'close_notify',
    });
    expect(parseAlert(Uint8Array.of(2, 116))).toEqual({
      level: 'fatal',
      code: 116,
      name: 'certificate_required',
    });
    expect(parseAlert(Uint8Array.of(2, 200))).toEqual({
      level: 'fatal',
      code: 200,
      name: 'alert_200',
    });
  });

  test('every pair of bytes: an alert where the first is a level, and nothing else is one', () => {
    for (let level = 0; level < 256; level++) {
      for (let code = 0; code < 256; code++) {
        const alert = parseAlert(Uint8Array.of(level, code));
        if (level === 1 || level === 2) {
          expect(alert?.code).toBe(code);
          expect(alert?.level).toBe(level === 1 ? 'warning' : 'fatal');
        } else if (alert !== null) {
          throw new Error(`${level} is no level`);
        }
      }
    }
  });

  test('any other length is none', () => {
    for (const body of [[], [1], [2], [1, 0, 0], [2, 40, 0], new Array(40).fill(1)]) {
      expect(parseAlert(Uint8Array.from(body))).toBe(null);
    }
  });
});
