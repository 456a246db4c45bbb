import { describe, expect, test } from 'vitest';
import { loadIdentities } from '../../../src/client-cert/identity.ts';
import { type Identity, matchIdentities } from '../../../src/client-cert/index.ts';
import { namesOf } from '../../../src/client-cert/match.ts';
import {
  type CertificateRequest,
  hex,
  parseCertificateRequest12,
  parseCertificateRequest13,
} from '../../../src/record/handshake.ts';
import {
  bits,
  type CertificateFields,
  certificate,
  commonName,
  EKU,
  type Issuer,
  type KeyType,
  keyPem,
  newKeys,
  oid,
  sequence,
} from '../../support/cert-der.ts';
import {
  type Request12,
  type Request13,
  request12,
  request13,
  SCHEMES,
} from '../../support/cert-flight.ts';
import { folderOf, intermediate, otherRoot, root, testFile } from '../../support/cert-pki.ts';

const asks12 = (fields: Request12 = {}) => parseCertificateRequest12(request12(fields));
const asks13 = (fields: Request13 = {}) => parseCertificateRequest13(request13(fields));

async function identity(
  fields: Partial<CertificateFields> = {},
  ...chain: Issuer[]
): Promise<Identity> {
  const leaf = certificate({ subject: commonName('client'), issuer: intermediate(), ...fields });
  const text = leaf.pem + keyPem(leaf.keys) + chain.map(({ pem }) => pem).join('');
  const [one] = await loadIdentities(testFile('identity.pem', text));
  return one as Identity;
}

const codes = (one: Identity, request: CertificateRequest | null, now?: Date) =>
  matchIdentities([one], request, now).flatMap(({ reasons }) => reasons.map(({ code }) => code));

/** Each is asked in both versions. */
const both = async (
  one: Identity | Promise<Identity>,
  fields: { names?: readonly Uint8Array[]; schemes?: readonly number[] },
) => {
  const found = [codes(await one, asks12(fields)), codes(await one, asks13(fields))];
  expect(found[0]).toEqual(found[1]);
  return found[0];
};

describe('issuers', () => {
  test('an empty list in TLS 1.2, or no extension in TLS 1.3, accepts any', async () => {
    expect(await both(identity(), {})).toEqual([]);
  });

  test('the nearest issuer is listed', async () => {
    expect(
      await both(identity(), { names: [otherRoot().subject, intermediate().subject] }),
    ).toEqual([]);
  });

  test('the root is listed: the intermediate has to be in the chain', async () => {
    const names = [root().subject];
    expect(await both(identity({}, intermediate()), { names })).toEqual([]);
    expect(await both(identity({}, intermediate(), root()), { names })).toEqual([]);
    expect(await both(identity(), { names })).toEqual(['issuer-not-listed']);
  });

  test('the subject of the certificate itself is no issuer of it', async () => {
    expect(await both(identity(), { names: [commonName('client')] })).toEqual([
      'issuer-not-listed',
    ]);
  });

  test('a name with the same text in another encoding is another name', async () => {
    const issuer = certificate({ subject: commonName('same'), ca: true });
    // The same, as a PrintableString.
    const other = Buffer.from(commonName('same'));
    other[other.indexOf(0x0c, 9)] = 0x13;
    const one = identity({ issuer });
    expect(await both(one, { names: [other] })).toEqual(['issuer-not-listed']);
    expect(await both(one, { names: [other, commonName('same')] })).toEqual([]);
  });

  test('the reason names who issued it', async () => {
    const [match] = matchIdentities([await identity()], asks13({ names: [otherRoot().subject] }));
    expect(match?.reasons[0]?.message).toContain('CN=client intermediate,O=close-notify');
  });
});

describe('keys', () => {
  const cases: ReadonlyArray<
    readonly [KeyType, accepted12: number[], accepted13: number[], refused13: number[]]
  > = [
    ['rsa', [0x0401, 0x0501, 0x0601, 0x0804, 0x0806], [0x0804, 0x0805, 0x0806], [0x0401, 0x0809]],
    ['rsa-pss', [0x0809, 0x080a, 0x080b], [0x0809, 0x080b], [0x0804, 0x0401]],
    ['ec-p256', [0x0403, 0x0503], [0x0403], [0x0503, 0x0603, 0x0807]],
    ['ec-p384', [0x0403, 0x0503], [0x0503], [0x0403, 0x0603]],
    ['ec-p521', [0x0603], [0x0603], [0x0403, 0x0503]],
    ['ed25519', [0x0807], [0x0807], [0x0808, 0x0403]],
    ['ed448', [0x0808], [0x0808], [0x0807, 0x0403]],
  ];
  test.each(cases)('%s against the signature algorithms', async (type, in12, in13, not13) => {
    const one = await identity({ keys: newKeys(type) });
    for (const scheme of in12) expect(codes(one, asks12({ schemes: [scheme] }))).toEqual([]);
    for (const scheme of in13) expect(codes(one, asks13({ schemes: [scheme] }))).toEqual([]);
    for (const scheme of not13) {
      expect(codes(one, asks13({ schemes: [scheme] })), scheme.toString(16)).toEqual(['key-type']);
    }
    expect(codes(one, asks13({ schemes: [0x0201, 0x0203, 0xfefe] }))).toEqual(['key-type']);
  });

  test('an RSA-PSS key that is for SHA-256 only', async () => {
    const one = await identity({ keys: newKeys('rsa-pss-sha256') });
    expect(codes(one, asks13({ schemes: [0x0809] }))).toEqual([]);
    expect(codes(one, asks13({ schemes: [0x080b] }))).toEqual(['key-type']);
  });

  test.each<readonly [KeyType, number]>([
    ['rsa', 1],
    ['rsa-pss', 1],
    ['ec-p256', 64],
    ['ed25519', 64],
  ])('%s against the certificate types of TLS 1.2', async (type, own) => {
    const schemes = [...SCHEMES, 0x0809];
    const one = await identity({ keys: newKeys(type) });
    expect(codes(one, asks12({ types: [own], schemes }))).toEqual([]);
    expect(codes(one, asks12({ types: [65 - own, 2], schemes }))).toEqual(['key-type']);
  });

  test('missing, and of another certificate', async () => {
    const leaf = certificate({ subject: commonName('client'), issuer: root() });
    const [missing] = await loadIdentities(testFile('a.pem', leaf.pem));
    const [other] = await loadIdentities(testFile('b.pem', leaf.pem + keyPem(newKeys())));
    expect(await both(missing as Identity, {})).toEqual(['key-missing']);
    expect(await both(other as Identity, {})).toEqual(['key-mismatch']);
  });
});

describe('the certificate', () => {
  test('not yet, and no longer valid; the bounds are within', async () => {
    const one = await identity({ from: '20300101000000Z', to: '20310101000000Z' });
    const at = (text: string) => codes(one, asks13(), new Date(text));
    expect(at('2029-12-31T23:59:59Z')).toEqual(['not-yet-valid']);
    expect(at('2030-01-01T00:00:00Z')).toEqual([]);
    expect(at('2031-01-01T00:00:00Z')).toEqual([]);
    expect(at('2031-01-01T00:00:01Z')).toEqual(['expired']);
    expect(codes(one, asks13())).toEqual(['not-yet-valid']);
  });

  test('key usage: digitalSignature where there is the extension', async () => {
    expect(await both(identity({ keyUsage: [0] }), {})).toEqual([]);
    expect(await both(identity({ keyUsage: [0, 2] }), {})).toEqual([]);
    expect(await both(identity({ keyUsage: [2, 4] }), {})).toEqual(['key-usage']);
    expect(await both(identity({ keyUsage: [8] }), {})).toEqual(['key-usage']);
    expect(await both(identity({ keyUsage: undefined }), {})).toEqual([]);
  });

  test('extended key usage: clientAuth or any where there is the extension', async () => {
    const uses = (...purposes: string[]) => identity({ extendedKeyUsage: purposes });
    expect(await both(uses(EKU.clientAuth), {})).toEqual([]);
    expect(await both(uses(EKU.serverAuth, EKU.clientAuth), {})).toEqual([]);
    expect(await both(uses(EKU.any), {})).toEqual([]);
    expect(await both(uses(EKU.serverAuth), {})).toEqual(['extended-key-usage']);
    expect(await both(uses(EKU.codeSigning), {})).toEqual(['extended-key-usage']);
  });

  test('OID filters of TLS 1.3', async () => {
    const one = await identity({ keyUsage: [0, 2], extendedKeyUsage: [EKU.clientAuth] });
    const filtered = (id: string, values: Uint8Array) =>
      codes(one, asks13({ filters: [[oid(id), values]] }));
    expect(filtered('2.5.29.15', bits([0]))).toEqual([]);
    expect(filtered('2.5.29.15', bits([0, 2]))).toEqual([]);
    expect(filtered('2.5.29.15', bits([0, 1]))).toEqual(['oid-filter']);
    expect(filtered('2.5.29.37', sequence(oid(EKU.clientAuth)))).toEqual([]);
    expect(filtered('2.5.29.37', sequence(oid(EKU.clientAuth), oid(EKU.codeSigning)))).toEqual([
      'oid-filter',
    ]);
    // RFC 9846 section 4.2.5: "Clients MUST ignore any unrecognized certificate extension OIDs."
    expect(filtered('1.2.3', Buffer.alloc(0))).toEqual([]);
    expect(filtered('1.2.3', Buffer.from('junk'))).toEqual([]);
    const plain = await identity();
    expect(codes(plain, asks13({ filters: [[oid('2.5.29.15'), bits([0])]] }))).toEqual([
      'oid-filter',
    ]);
  });

  test('no request: only what is wrong with the identity itself', async () => {
    expect(codes(await identity(), null)).toEqual([]);
    expect(codes(await identity({ to: '20210101000000Z' }), null)).toEqual(['expired']);
  });

  test('issuer and subject with their encodings', async () => {
    const leaf = certificate({ subject: commonName('client'), issuer: root() });
    const { issuer, subject } = namesOf(leaf.x509);
    expect(hex(issuer.der)).toBe(hex(root().subject));
    expect(hex(subject.der)).toBe(hex(commonName('client')));
  });
});

describe('several', () => {
  test('every reason of an identity', async () => {
    const bad = await identity({
      to: '20210101000000Z',
      keyUsage: [2],
      extendedKeyUsage: [EKU.serverAuth],
    });
    const request = asks13({
      names: [otherRoot().subject],
      schemes: [0x0807],
      filters: [[oid('2.5.29.15'), bits([0])]],
    });
    expect(new Set(codes(bad, request))).toEqual(
      new Set([
        'expired',
        'key-usage',
        'extended-key-usage',
        'issuer-not-listed',
        'key-type',
        'oid-filter',
      ]),
    );
  });

  test('usable ones first, the longest valid ahead; then those with the fewest reasons', async () => {
    const named = (text: string, fields: Partial<CertificateFields> = {}) =>
      identity({ subject: commonName(text), ...fields });
    const identities = [
      await named('two reasons', { to: '20210101000000Z', keyUsage: [2] }),
      await named('short', { to: '20400101000000Z' }),
      await named('one reason', { keyUsage: [2] }),
      await named('long', { to: '20480101000000Z' }),
    ];
    const matches = matchIdentities(identities, asks13());
    expect(matches.map(({ identity, usable }) => [identity.certificate.subject, usable])).toEqual([
      ['CN=long', true],
      ['CN=short', true],
      ['CN=one reason', false],
      ['CN=two reasons', false],
    ]);
    // What was given is left as it was.
    expect(identities[0]?.certificate.subject).toBe('CN=two reasons');
  });

  test('nobody: an empty list', () => {
    expect(matchIdentities([], asks13())).toEqual([]);
  });

  test('a chain that only a folder brings together', async () => {
    const leaf = certificate({ subject: commonName('client'), issuer: intermediate() });
    const [one] = await loadIdentities(
      folderOf({ 'a.crt': leaf.pem, 'a.key': keyPem(leaf.keys), 'ca.crt': intermediate().pem }),
    );
    expect(await both(one as Identity, { names: [root().subject] })).toEqual([]);
  });
});
