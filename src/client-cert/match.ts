/** Which identities a server would take, and why not the others. */
import type { X509Certificate } from 'node:crypto';
import { BitString, Constructed, fromBER, ObjectIdentifier, OctetString, Sequence } from 'asn1js';
import type { CertificateRequest } from '../record/handshake.ts';
import type { Identity } from './identity.ts';
import { DistinguishedName, IssuerNameList } from './name.ts';

/** Why an identity is not usable. */
export interface Reason {
  readonly code:
    | 'issuer-not-listed'
    | 'key-type'
    | 'key-usage'
    | 'extended-key-usage'
    | 'oid-filter'
    | 'not-yet-valid'
    | 'expired'
    | 'key-mismatch'
    | 'key-missing';
  /** In words, with the values that decided. */
  readonly message: string;
}

/** One identity, judged. */
export interface Match {
  /** Which. */
  readonly identity: Identity;
  /** Whether the server would take it, as far as its request tells. */
  readonly usable: boolean;
  /** Every reason against it; empty when usable. */
  readonly reasons: readonly Reason[];
}

/**
 * Judges identities against a request. The usable ones come first, those that stay valid longest
 * ahead; the others follow, those with the fewest reasons against them ahead.
 *
 * @param request null where the server asks for none: then only the identity itself is judged.
 */
export function matchIdentities(
  identities: readonly Identity[],
  request: CertificateRequest | null,
  now: Date = new Date(),
): Match[] {
  return identities
    .map((identity) => {
      const reasons = reasonsAgainst(identity, request, now);
      return { identity, usable: reasons.length === 0, reasons };
    })
    .sort(
      (a, b) =>
        a.reasons.length - b.reasons.length ||
        validTo(b.identity.certificate) - validTo(a.identity.certificate),
    );
}

const validTo = (certificate: X509Certificate): number => Date.parse(certificate.validTo);

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const ANY_EXTENDED_KEY_USAGE = '2.5.29.37.0';
const KEY_USAGE = '2.5.29.15';
const EXTENDED_KEY_USAGE = '2.5.29.37';

function reasonsAgainst(
  identity: Identity,
  request: CertificateRequest | null,
  now: Date,
): Reason[] {
  const { certificate } = identity;
  const reasons: Reason[] = [];
  const against = (code: Reason['code'], message: string) => reasons.push({ code, message });

  if (identity.key === 'missing') against('key-missing', 'there is no private key for it');
  if (identity.key === 'mismatch') {
    against('key-mismatch', 'the private key beside it belongs to another certificate');
  }
  if (Date.parse(certificate.validFrom) > now.getTime()) {
    against('not-yet-valid', `valid only from ${certificate.validFrom}`);
  }
  if (validTo(certificate) < now.getTime()) {
    against('expired', `valid only until ${certificate.validTo}`);
  }
  const { keyUsage, extendedKeyUsage } = usagesOf(certificate);
  // RFC 9846 section 4.4.2.3: "the digitalSignature bit MUST be set" where the extension is there.
  if (keyUsage !== null && !bit(keyUsage, 0)) {
    against('key-usage', 'its key usage does not allow digital signatures');
  }
  if (
    extendedKeyUsage !== null &&
    !extendedKeyUsage.includes(CLIENT_AUTH) &&
    !extendedKeyUsage.includes(ANY_EXTENDED_KEY_USAGE)
  ) {
    against('extended-key-usage', 'its extended key usage does not allow client authentication');
  }
  if (request === null) return reasons;

  const issuers = new IssuerNameList(request.authorities);
  const own = [certificate, ...identity.chain].map((one) => namesOf(one).issuer);
  if (issuers.length > 0 && !own.some((name) => issuers.has(name))) {
    against(
      'issuer-not-listed',
      `none of the names that the server lists issued it or its chain (${own[0]})`,
    );
  }
  const kind = kindOf(certificate);
  if (!request.signatureAlgorithms.some((scheme) => canSign(kind, scheme, request.version))) {
    against('key-type', `${kind.label} keys cannot sign with any algorithm that the server takes`);
  } else if (request.certificateTypes?.includes(kind.certificateType) === false) {
    against('key-type', `the server does not list ${kind.label} among its certificate types`);
  }
  for (const { oid, values } of request.oidFilters ?? []) {
    if (!passesFilter(oid, values, keyUsage, extendedKeyUsage)) {
      against('oid-filter', 'the server filters on an extension that it does not meet');
    }
  }
  return reasons;
}

// ---- keys against signature algorithms

interface KeyKind {
  readonly type: string;
  readonly curve: string | null;
  /** The only hash that an RSA-PSS key signs with; null for any. */
  readonly hash: string | null;
  readonly label: string;
  /** ClientCertificateType (RFC 5246 section 7.4.4, RFC 8422 section 5.5). */
  readonly certificateType: number;
}

function kindOf(certificate: X509Certificate): KeyKind {
  const { asymmetricKeyType: type = 'unknown', asymmetricKeyDetails } = certificate.publicKey;
  const curve = asymmetricKeyDetails?.namedCurve ?? null;
  const hash = asymmetricKeyDetails?.hashAlgorithm ?? null;
  const label = type === 'ec' ? `EC (${curve})` : type.toUpperCase();
  const certificateType = type.startsWith('rsa') ? 1 : type === 'dsa' ? 2 : 64;
  return { type, curve, hash, label, certificateType };
}

/** Curves and the one scheme that TLS 1.3 has for each (RFC 9846 section 4.2.3). */
const CURVE_SCHEMES: Readonly<Record<string, number>> = {
  prime256v1: 0x0403,
  secp384r1: 0x0503,
  secp521r1: 0x0603,
  brainpoolP256r1: 0x081a,
  brainpoolP384r1: 0x081b,
  brainpoolP512r1: 0x081c,
};

/** rsa_pss_pss_* schemes and their hashes (RFC 9846 section 4.2.3). */
const PSS_HASHES: Readonly<Record<number, string>> = {
  2057: 'sha256',
  2058: 'sha384',
  2059: 'sha512',
};

/**
 * Whether a key can sign with a scheme. SHA-1 and MD5 are left out: OpenSSL 3 does not sign with
 * them at the security level that Node sets.
 */
function canSign({ type, curve, hash }: KeyKind, scheme: number, version: string): boolean {
  const tls13 = version === 'TLSv1.3';
  switch (type) {
    case 'rsa':
      if (scheme >= 0x0804 && scheme <= 0x0806) return true;
      return !tls13 && [0x0301, 0x0401, 0x0501, 0x0601].includes(scheme);
    case 'rsa-pss':
      return PSS_HASHES[scheme] !== undefined && (hash === null || PSS_HASHES[scheme] === hash);
    case 'ec':
      if (tls13) return scheme === CURVE_SCHEMES[curve ?? ''];
      return [0x0303, 0x0403, 0x0503, 0x0603].includes(scheme);
    case 'ed25519':
      return scheme === 0x0807;
    case 'ed448':
      return scheme === 0x0808;
    case 'dsa':
      return !tls13 && [0x0302, 0x0402, 0x0502, 0x0602].includes(scheme);
    default:
      return false;
  }
}

// ---- what node:crypto does not tell of a certificate

const children = (block: unknown): unknown[] =>
  block instanceof Constructed ? (block as Constructed).valueBlock.value : [];

/** The fields of a TBSCertificate (RFC 5280 section 4.1), from the serial number on. */
function fieldsOf(certificate: X509Certificate): unknown[] {
  const [tbs] = children(fromBER(Uint8Array.from(certificate.raw)).result);
  const fields = children(tbs);
  // The version, in a context tag, is there for all but version 1.
  return fields[0] instanceof Constructed && !(fields[0] instanceof Sequence)
    ? fields.slice(1)
    : fields;
}

/** Issuer and subject, with their encodings. */
export function namesOf(certificate: X509Certificate): {
  issuer: DistinguishedName;
  subject: DistinguishedName;
} {
  const [, , issuer, , subject] = fieldsOf(certificate) as Sequence[];
  return {
    issuer: new DistinguishedName((issuer as Sequence).valueBeforeDecodeView),
    subject: new DistinguishedName((subject as Sequence).valueBeforeDecodeView),
  };
}

interface Usages {
  /** The bits, the first in the highest place of the first byte; null without the extension. */
  readonly keyUsage: Uint8Array | null;
  readonly extendedKeyUsage: readonly string[] | null;
}

function usagesOf(certificate: X509Certificate): Usages {
  let keyUsage: Uint8Array | null = null;
  let extendedKeyUsage: string[] | null = null;
  const wrapper = fieldsOf(certificate).at(-1);
  const extensions = wrapper instanceof Sequence ? [] : children(children(wrapper)[0]);
  for (const extension of extensions) {
    const parts = children(extension);
    const [oid] = parts;
    const value = parts.at(-1);
    if (!(oid instanceof ObjectIdentifier) || !(value instanceof OctetString)) continue;
    const inner = value.valueBlock.valueHexView;
    if (oid.getValue() === KEY_USAGE) keyUsage = bitsOf(inner);
    if (oid.getValue() === EXTENDED_KEY_USAGE) extendedKeyUsage = oidsOf(inner);
  }
  return { keyUsage, extendedKeyUsage };
}

function bitsOf(der: Uint8Array): Uint8Array {
  const { result } = fromBER(Uint8Array.from(der));
  return result instanceof BitString ? result.valueBlock.valueHexView : new Uint8Array(0);
}

function oidsOf(der: Uint8Array): string[] {
  return children(fromBER(Uint8Array.from(der)).result).flatMap((oid) =>
    oid instanceof ObjectIdentifier ? [oid.getValue()] : [],
  );
}

const bit = (bits: Uint8Array, n: number): boolean =>
  (((bits[n >> 3] ?? 0) >> (7 - (n & 7))) & 1) === 1;

/**
 * RFC 9846 section 4.2.5: all bits, or all purposes, that the filter names must be in the
 * certificate; filters on other extensions are ignored by clients that do not know them.
 */
function passesFilter(
  oid: Uint8Array,
  values: Uint8Array,
  keyUsage: Uint8Array | null,
  extendedKeyUsage: readonly string[] | null,
): boolean {
  const { result } = fromBER(Uint8Array.from(oid));
  const name = result instanceof ObjectIdentifier ? result.getValue() : '';
  if (name === KEY_USAGE) {
    const wanted = bitsOf(values);
    return wanted.every((byte, i) => ((keyUsage?.[i] ?? 0) & byte) === byte);
  }
  if (name === EXTENDED_KEY_USAGE) {
    return oidsOf(values).every((purpose) => extendedKeyUsage?.includes(purpose) === true);
  }
  return true;
}
