/** DER, written by hand: names and certificates with exactly the bytes that a test wants. */
import {
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';

/** Tag, length, content. */
export function tlv(tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const size = content.length;
  const length =
    size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Uint8Array.of(tag, ...length), content]);
}

export const sequence = (...parts: Uint8Array[]) => tlv(0x30, ...parts);
export const set = (...parts: Uint8Array[]) => tlv(0x31, ...parts);

/** An object identifier, from its dotted form. */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((part) => {
    const septets = [part & 0x7f];
    for (let left = Math.floor(part / 128); left > 0; left = Math.floor(left / 128)) {
      septets.unshift((left & 0x7f) | 0x80);
    }
    return septets;
  });
  return tlv(6, Uint8Array.from(bytes));
}

/** Object identifiers of attribute types, by their usual names. */
export const OID = {
  CN: '2.5.4.3',
  C: '2.5.4.6',
  L: '2.5.4.7',
  ST: '2.5.4.8',
  STREET: '2.5.4.9',
  O: '2.5.4.10',
  OU: '2.5.4.11',
  DC: '0.9.2342.19200300.100.1.25',
  UID: '0.9.2342.19200300.100.1.1',
  emailAddress: '1.2.840.113549.1.9.1',
  serialNumber: '2.5.4.5',
} as const;

export const utf8 = (text: string) => tlv(0x0c, Buffer.from(text, 'utf8'));
export const printable = (text: string) => tlv(0x13, Buffer.from(text, 'ascii'));
export const ia5 = (text: string) => tlv(0x16, Buffer.from(text, 'ascii'));
export const t61 = (text: string) => tlv(0x14, Buffer.from(text, 'latin1'));
export const bmp = (text: string) => tlv(0x1e, Buffer.from(text, 'utf16le').swap16());
export const universal = (text: string) =>
  tlv(
    0x1c,
    ...Array.from(text, (character) => {
      const four = Buffer.alloc(4);
      four.writeUInt32BE(character.codePointAt(0) ?? 0);
      return four;
    }),
  );

/** An attribute: its type by name or dotted, its value's encoding, or text for a UTF8String. */
export type Attribute = readonly [type: string, value: string | Uint8Array];

/** A name: relative names from the outermost; one with several attributes is a list of them. */
export function name(...rdns: ReadonlyArray<Attribute | readonly Attribute[]>): Buffer {
  const attribute = ([type, value]: Attribute) =>
    sequence(
      oid(OID[type as keyof typeof OID] ?? type),
      typeof value === 'string' ? utf8(value) : value,
    );
  return sequence(
    ...rdns.map((rdn) =>
      typeof rdn[0] === 'string'
        ? set(attribute(rdn as Attribute))
        : set(...(rdn as readonly Attribute[]).map(attribute)),
    ),
  );
}

/** A name with nothing but a common name. */
export const commonName = (text: string) => name(['CN', text]);

export const EKU = {
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  codeSigning: '1.3.6.1.5.5.7.3.3',
  any: '2.5.29.37.0',
} as const;

export type KeyType =
  | 'rsa'
  | 'rsa-pss'
  | 'rsa-pss-sha256'
  | 'ec-p256'
  | 'ec-p384'
  | 'ec-p521'
  | 'ed25519'
  | 'ed448';

export interface Keys {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** A new pair of keys. */
export function newKeys(type: KeyType = 'ec-p256'): Keys {
  switch (type) {
    case 'rsa':
      return generateKeyPairSync('rsa', { modulusLength: 2048 });
    case 'rsa-pss':
      return generateKeyPairSync('rsa-pss', { modulusLength: 2048 } as never) as unknown as Keys;
    case 'rsa-pss-sha256':
      return generateKeyPairSync('rsa-pss', {
        modulusLength: 2048,
        hashAlgorithm: 'sha256',
        mgf1HashAlgorithm: 'sha256',
        saltLength: 32,
      } as never) as unknown as Keys;
    case 'ed25519':
      return generateKeyPairSync('ed25519');
    case 'ed448':
      return generateKeyPairSync('ed448');
    default:
      return generateKeyPairSync('ec', { namedCurve: `P-${type.slice(4)}` });
  }
}

/** Whoever issues certificates: its name and its key, which is EC P-256. */
export interface Issuer {
  readonly subject: Uint8Array;
  readonly keys: Keys;
  readonly pem: string;
  readonly x509: X509Certificate;
}

/** What a certificate says. */
export interface CertificateFields {
  readonly subject: Uint8Array;
  readonly keys?: Keys;
  /** Signs itself when there is none. */
  readonly issuer?: Pick<Issuer, 'subject' | 'keys'> | undefined;
  readonly ca?: boolean;
  readonly from?: string;
  readonly to?: string;
  /** Bits of the key usage by their number; no extension when undefined. */
  readonly keyUsage?: readonly number[] | undefined;
  readonly extendedKeyUsage?: readonly string[] | undefined;
  readonly altNames?: boolean;
}

const extension = (id: string, critical: boolean, value: Uint8Array) =>
  sequence(oid(id), ...(critical ? [tlv(1, Uint8Array.of(0xff))] : []), tlv(4, value));

/** A BIT STRING with these bits set, without trailing zeros, as DER asks. */
export function bits(numbers: readonly number[]): Buffer {
  const highest = Math.max(-1, ...numbers);
  const bytes = new Uint8Array(highest < 0 ? 0 : (highest >> 3) + 1);
  for (const n of numbers) bytes[n >> 3] = (bytes[n >> 3] as number) | (0x80 >> (n & 7));
  return tlv(3, Uint8Array.of(highest < 0 ? 0 : 7 - (highest & 7)), bytes);
}

const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));

/** A time as `YYYYMMDDHHMMSSZ`; years before 2050 are UTCTime (RFC 5280 section 4.1.2.5). */
const time = (text: string) =>
  text < '2050' ? tlv(0x17, Buffer.from(text.slice(2))) : tlv(0x18, Buffer.from(text));

/** A certificate, signed with ECDSA and SHA-256. */
export function certificate(fields: CertificateFields): Issuer {
  const keys = fields.keys ?? newKeys();
  const issuer = fields.issuer ?? { subject: fields.subject, keys };
  const extensions: Buffer[] = [];
  if (fields.ca) {
    extensions.push(extension('2.5.29.19', true, sequence(tlv(1, Uint8Array.of(0xff)))));
  }
  if (fields.keyUsage) extensions.push(extension('2.5.29.15', true, bits(fields.keyUsage)));
  if (fields.extendedKeyUsage) {
    extensions.push(extension('2.5.29.37', false, sequence(...fields.extendedKeyUsage.map(oid))));
  }
  if (fields.altNames) {
    extensions.push(
      extension(
        '2.5.29.17',
        false,
        sequence(
          tlv(0x82, Buffer.from('localhost')),
          tlv(0x87, Uint8Array.of(127, 0, 0, 1)),
          tlv(0x87, Uint8Array.of(...new Array<number>(15).fill(0), 1)),
        ),
      ),
    );
  }
  const serial = randomBytes(8);
  serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
  const tbs = sequence(
    tlv(0xa0, tlv(2, Uint8Array.of(2))),
    tlv(2, serial),
    ECDSA_SHA256,
    issuer.subject,
    sequence(time(fields.from ?? '20200101000000Z'), time(fields.to ?? '20491231000000Z')),
    fields.subject,
    createPublicKey(keys.publicKey.export({ type: 'spki', format: 'pem' })).export({
      type: 'spki',
      format: 'der',
    }),
    ...(extensions.length > 0 ? [tlv(0xa3, sequence(...extensions))] : []),
  );
  const signature = sign('sha256', tbs, issuer.keys.privateKey);
  const der = sequence(tbs, ECDSA_SHA256, tlv(3, Uint8Array.of(0), signature));
  const x509 = new X509Certificate(der);
  return { subject: fields.subject, keys, pem: x509.toString(), x509 };
}

/** A certification authority. */
export const authority = (subject: Uint8Array, issuer?: Issuer): Issuer =>
  certificate({ subject, issuer, ca: true, keyUsage: [5, 6] });

/** PKCS#8, as PEM. */
export const keyPem = ({ privateKey }: Keys): string =>
  privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
