/**
 * Taking the protection off records, one direction at a time. Pure, by way of node:crypto's ciphers.
 * Everything is authenticated: a record whose tag or MAC does not fit gives null, never bytes.
 */
import {
  type CipherCCMTypes,
  type CipherGCMTypes,
  createDecipheriv,
  createHmac,
  timingSafeEqual,
} from 'node:crypto';
import { type DirectionKeys, wipeKeys } from './keys.ts';
import type { Aead, Cbc } from './suite.ts';

/** A record's content in the clear. */
export interface Plaintext {
  /** The real ContentType: in TLS 1.3 it is inside. */
  readonly type: number;
  readonly content: Uint8Array;
}

/** Decrypts the records of one direction, in order, counting them. */
export class Unprotector {
  readonly #keys: DirectionKeys;
  readonly #tls13: boolean;
  readonly #encryptThenMac: boolean;
  #sequence = 0n;

  /**
   * @param tls13 whether the keys are a TLS 1.3 traffic secret's.
   * @param encryptThenMac whether TLS 1.2 agreed on RFC 7366.
   */
  constructor(keys: DirectionKeys, tls13: boolean, encryptThenMac = false) {
    this.#keys = keys;
    this.#tls13 = tls13;
    this.#encryptThenMac = encryptThenMac;
  }

  /**
   * @param header the record's 5-byte header.
   * @param body what follows it.
   * @returns null when the record is not authentic under these keys; the count stays then.
   */
  unprotect(header: Uint8Array, body: Uint8Array): Plaintext | null {
    const { suite } = this.#keys;
    const content =
      suite.kind === 'aead' ? this.#aead(suite, header, body) : this.#cbc(suite, header, body);
    if (content === null) return null;
    this.#sequence++;
    if (!this.#tls13) return { type: header[0] as number, content };
    // TLSInnerPlaintext: content, type, zeros (RFC 9846 section 5.2).
    let end = content.length;
    while (end > 0 && content[end - 1] === 0) end--;
    if (end === 0) return null;
    return { type: content[end - 1] as number, content: content.subarray(0, end - 1) };
  }

  /** Counts a record that is not decrypted. */
  skip(): void {
    this.#sequence++;
  }

  /** Overwrites the keys: nothing can be decrypted any more. */
  wipe(): void {
    wipeKeys(this.#keys);
  }

  #aead(suite: Aead, header: Uint8Array, body: Uint8Array): Uint8Array | null {
    const explicit = this.#tls13 ? 0 : suite.explicitNonce12;
    const length = body.length - explicit - suite.tagLength;
    if (length < 0) return null;
    const nonce = new Uint8Array(12);
    if (explicit > 0) {
      nonce.set(this.#keys.iv);
      nonce.set(body.subarray(0, explicit), 12 - explicit);
    } else {
      // RFC 9846 section 5.3 and RFC 7905: the count, padded on the left, XORed with the IV.
      new DataView(nonce.buffer).setBigUint64(4, this.#sequence);
      for (let i = 0; i < 12; i++) nonce[i] = (nonce[i] as number) ^ (this.#keys.iv[i] as number);
    }
    const aad = this.#tls13 ? header : this.#header12(header, length);
    const ciphertext = body.subarray(explicit, explicit + length);
    const options = { authTagLength: suite.tagLength };
    const decipher = suite.cipher.endsWith('ccm')
      ? createDecipheriv(suite.cipher as CipherCCMTypes, this.#keys.key, nonce, options)
      : createDecipheriv(suite.cipher as CipherGCMTypes, this.#keys.key, nonce, options);
    decipher.setAuthTag(body.subarray(explicit + length));
    decipher.setAAD(aad, { plaintextLength: length });
    try {
      const content = decipher.update(ciphertext);
      decipher.final();
      return content;
    } catch {
      // node:crypto throws for a tag that does not fit, and for nothing else here.
      return null;
    }
  }

  #cbc(suite: Cbc, header: Uint8Array, body: Uint8Array): Uint8Array | null {
    const { blockLength, macLength } = suite;
    const macAfter = this.#encryptThenMac;
    const encrypted = macAfter ? body.subarray(0, body.length - macLength) : body;
    const tooShort = encrypted.length < 2 * blockLength || encrypted.length % blockLength !== 0;
    if (tooShort || (macAfter && body.length < macLength)) return null;
    if (macAfter && !this.#macFits(suite, header, encrypted, body.subarray(encrypted.length))) {
      return null;
    }
    const iv = encrypted.subarray(0, blockLength);
    const decipher = createDecipheriv(suite.cipher, this.#keys.key, iv).setAutoPadding(false);
    const padded = Buffer.concat([
      decipher.update(encrypted.subarray(blockLength)),
      decipher.final(),
    ]);
    const padding = padded[padded.length - 1] as number;
    const unpadded = padded.length - padding - 1;
    const end = unpadded - (macAfter ? 0 : macLength);
    if (end < 0) return null;
    // A MAC of the content says nothing about the padding, and where that fills the last block any
    // other block whose last byte fits would do: "The receiver MUST check this padding" (RFC 5246
    // section 6.2.3.2).
    if (padded.subarray(unpadded).some((one) => one !== padding)) return null;
    const content = padded.subarray(0, end);
    if (macAfter) return content;
    const mac = padded.subarray(end, end + macLength);
    return this.#macFits(suite, header, content, mac) ? content : null;
  }

  #macFits(suite: Cbc, header: Uint8Array, data: Uint8Array, mac: Uint8Array): boolean {
    const wanted = createHmac(suite.mac, this.#keys.mac)
      .update(this.#header12(header, data.length))
      .update(data)
      .digest();
    return wanted.length === mac.length && timingSafeEqual(wanted, mac);
  }

  /** What TLS 1.2 authenticates beside the content: count, type, version, length. */
  #header12(header: Uint8Array, length: number): Uint8Array {
    const bytes = new Uint8Array(13);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, this.#sequence);
    bytes.set(header.subarray(0, 3), 8);
    view.setUint16(11, length);
    return bytes;
  }
}
