/** What Deno's TLS says of alerts, in the words of rustls; Deno gives all but a few of them one code. */
import { describe, expect, test } from 'vitest';
import { inferredAlert } from '../../../src/engine/failure.ts';

const HANDSHAKE_FAILURE = 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE';

const inferred = (message: string, code = HANDSHAKE_FAILURE) => {
  const found = inferredAlert(Object.assign(new Error(message), { code }), true);
  return found && [found.way, found.alert.description];
};

describe('an alert is inferred from what rustls says, never from the code', () => {
  // RFC 9846 section 6, AlertDescription.
  test.each([
    ['received fatal alert: BadRecordMac', 20],
    ['received fatal alert: HandshakeFailure', 40],
    ['received fatal alert: UnknownCA', 48],
    ['received fatal alert: InternalError', 80],
    ['received fatal alert: UnknownPSKIdentity', 115],
    ['received fatal alert: AlertDescription(0xc8)', 200],
    ['received fatal alert: SomethingOfTomorrow', null],
  ])('%s', (message, code) => {
    expect(inferred(message)).toEqual(['received', code]);
  });

  test.each([
    ["cannot decrypt peer's message", 20],
    ['received corrupt message of type InvalidContentType', null],
    ['peer is incompatible: NoCipherSuitesInCommon', null],
  ])('%s', (message, code) => {
    expect(inferred(message)).toEqual(['sent', code]);
  });

  test('an error that is none of TLS stands for no alert', () => {
    expect(inferred('read ECONNRESET', 'ECONNRESET')).toBe(null);
  });
});
