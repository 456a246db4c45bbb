/** Cipher suites, one at a time. */
import tls from 'node:tls';

/** Level 0 allows all; the suites of TLS 1.3 are set apart, and some other has to be left. */
export const listOf = (suite: string): string =>
  suite.startsWith('TLS_') ? `${suite}:DEFAULT:@SECLEVEL=0` : `${suite}:@SECLEVEL=0`;

/** Whether Node's OpenSSL has this suite at all. */
export function known(suite: string): boolean {
  try {
    tls.createSecureContext({ ciphers: listOf(suite) });
    return true;
  } catch {
    return false;
  }
}

const KEY = Buffer.from('0123456789abcdef0123456789abcdef', 'hex');

/** What both sides need besides for a suite with a pre-shared key. */
export const PSK = {
  client: {
    pskCallback: () => ({ psk: KEY, identity: 'someone' }),
    checkServerIdentity: () => undefined,
  },
  server: { pskCallback: () => KEY, pskIdentityHint: 'hint' },
} as const;
