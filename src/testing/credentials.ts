/**
 * Certificates that exist only while they are needed: Node makes keys but no certificates, so the
 * little DER that a self-signed one needs is written here (RFC 5280 section 4.1).
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

/** What both parties of a test need. */
export interface Credentials {
  /** The server's private key, as PEM. */
  readonly key: string;
  /** The server's certificate, as PEM. */
  readonly cert: string;
  /** What the client trusts, as PEM. */
  readonly ca: string;
  /** The name that the certificate is for. */
  readonly servername: string;
}

/** Tag, length, content. */
function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const size = content.length;
  const length =
    size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Uint8Array.of(tag, ...length), content]);
}

const sequence = (...parts: readonly Uint8Array[]) => tlv(0x30, ...parts);
const ascii = (text: string) => Buffer.from(text, 'ascii');
const oid = (hex: string) => tlv(0x06, Buffer.from(hex, 'hex'));

const ECDSA_WITH_SHA256 = sequence(oid('2a8648ce3d040302'));
const COMMON_NAME = oid('550403');
const SUBJECT_ALT_NAME = oid('551d11');

/**
 * A key and a certificate for `servername`, signed by itself, valid from 2020 to 2120, and different
 * each time.
 *
 * @param servername a DNS name; 'localhost' by default.
 */
export function selfSigned(servername = 'localhost'): Credentials {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const cert = pem('CERTIFICATE', certificate(servername, publicKey, privateKey));
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { key, cert, ca: cert, servername };
}

function certificate(servername: string, publicKey: KeyObject, privateKey: KeyObject): Buffer {
  const name = sequence(tlv(0x31, sequence(COMMON_NAME, tlv(0x0c, Buffer.from(servername)))));
  // A positive number that no other certificate has.
  const serial = randomBytes(16);
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40;
  const altName = sequence(tlv(0x82, ascii(servername)));
  const body = sequence(
    tlv(0xa0, tlv(0x02, Uint8Array.of(2))),
    tlv(0x02, serial),
    ECDSA_WITH_SHA256,
    name,
    // UTCTime through 2049, GeneralizedTime from there on (section 4.1.2.5).
    sequence(tlv(0x17, ascii('200101000000Z')), tlv(0x18, ascii('21200101000000Z'))),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(sequence(SUBJECT_ALT_NAME, tlv(0x04, altName)))),
  );
  const signature = sign('sha256', body, privateKey);
  return sequence(body, ECDSA_WITH_SHA256, tlv(0x03, Uint8Array.of(0), signature));
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
