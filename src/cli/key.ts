/** A private key in a file, which may be encrypted. */
import { createPrivateKey } from 'node:crypto';
import { OptionError } from '../errors.ts';
import { readPem } from './connection.ts';

/**
 * What PEM files say of a key that is encrypted: PKCS#8 in the label (RFC 7468 section 11), the
 * traditional form in a header (RFC 1421 section 4.6.1.1).
 */
const ENCRYPTED = /^-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: *4, *ENCRYPTED/m;

/**
 * Reads a key.
 *
 * @param passphrase undefined where none was given; a key that is not encrypted needs none.
 * @throws {OptionError} naming the option at fault.
 */
export function readKey(option: string, file: string, passphrase: string | undefined) {
  return readPem(option, file, (pem) => {
    const encrypted = ENCRYPTED.test(pem);
    if (encrypted && passphrase === undefined) {
      throw new OptionError('the key is encrypted: --pass-file FILE gives its passphrase');
    }
    try {
      return createPrivateKey({ key: pem, ...(encrypted && { passphrase }) });
    } catch (cause) {
      // OpenSSL decrypts with whatever it is given, and stumbles over the outcome in many ways.
      const why = encrypted
        ? 'the first line of --pass-file is not its passphrase, or the key is damaged'
        : 'no private key in PEM that can be read';
      throw new OptionError(why, { cause });
    }
  });
}
