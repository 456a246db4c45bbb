/**
 * Cipher suites: from a suite's standard name to what its keys look like and how its records are
 * unprotected. Pure, by way of node:crypto's primitives.
 *
 * RFC 9846 sections 5.2, 5.3 and appendix B.4 (TLS 1.3); RFC 5246 section 6.2.3, RFC 5288 (GCM),
 * RFC 6655 (CCM), RFC 7905 (ChaCha20-Poly1305), RFC 7366 (encrypt-then-MAC) for TLS 1.2.
 */

/** An AEAD suite's cipher. */
export interface Aead {
  readonly kind: 'aead';
  /** OpenSSL's name of the cipher, as node:crypto takes it. */
  readonly cipher: string;
  readonly keyLength: number;
  readonly tagLength: 8 | 16;
  /** Bytes of the nonce that each TLS 1.2 record carries: 8 for GCM and CCM, 0 for ChaCha20. */
  readonly explicitNonce12: 0 | 8;
  /** The hash of the key schedule. */
  readonly hash: 'sha256' | 'sha384';
}

/** A CBC suite's cipher and MAC (TLS 1.2 only). */
export interface Cbc {
  readonly kind: 'cbc';
  readonly cipher: string;
  readonly keyLength: number;
  readonly blockLength: 8 | 16;
  readonly mac: 'sha1' | 'sha256' | 'sha384';
  readonly macLength: number;
  /** The hash of the PRF. */
  readonly hash: 'sha256' | 'sha384';
}

export type Suite = Aead | Cbc;

/**
 * The suite of a standard name, such as `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`.
 *
 * @returns null for a suite whose records this module cannot read (RC4, NULL).
 */
export function suiteOf(name: string): Suite | null {
  const cipher = name.includes('_WITH_') ? name.slice(name.indexOf('_WITH_') + 6) : name.slice(4);
  const aead = /^(AES|ARIA)_(128|256)_(GCM|CCM_8|CCM)(?:_SHA(256|384))?$/.exec(cipher);
  if (aead !== null) {
    const [, family, bits, mode, hash] = aead as unknown as [
      string,
      string,
      string,
      string,
      string,
    ];
    return {
      kind: 'aead',
      cipher: `${family === 'AES' ? '' : 'aria-'}${family === 'AES' ? 'aes-' : ''}${bits}-${mode === 'GCM' ? 'gcm' : 'ccm'}`,
      keyLength: Number(bits) / 8,
      tagLength: mode === 'CCM_8' ? 8 : 16,
      explicitNonce12: 8,
      hash: hash === '384' ? 'sha384' : 'sha256',
    };
  }
  if (cipher === 'CHACHA20_POLY1305_SHA256') {
    return {
      kind: 'aead',
      cipher: 'chacha20-poly1305',
      keyLength: 32,
      tagLength: 16,
      explicitNonce12: 0,
      hash: 'sha256',
    };
  }
  const cbc = /^(AES|ARIA|CAMELLIA)_(128|256)_CBC_SHA(256|384)?$/.exec(cipher);
  if (cbc !== null) {
    const [, family, bits, hash] = cbc as unknown as [string, string, string, string | undefined];
    return {
      kind: 'cbc',
      cipher: `${family.toLowerCase()}-${bits}-cbc`,
      keyLength: Number(bits) / 8,
      blockLength: 16,
      mac: hash === undefined ? 'sha1' : hash === '384' ? 'sha384' : 'sha256',
      macLength: hash === undefined ? 20 : Number(hash) / 8,
      hash: hash === '384' ? 'sha384' : 'sha256',
    };
  }
  return null;
}
