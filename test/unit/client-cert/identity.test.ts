import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { loadIdentities } from '../../../src/client-cert/identity.ts';
import type { Identity } from '../../../src/client-cert/index.ts';
import {
  certificate,
  commonName,
  type Issuer,
  type KeyType,
  keyPem,
  newKeys,
} from '../../support/cert-der.ts';
import { folderOf, intermediate, otherRoot, root, testFile } from '../../support/cert-pki.ts';
import { describeServer, filesOf } from '../../support/cert-servers.ts';
import { rejection } from '../../support/core-streams.ts';

const leafOf = (type: KeyType = 'ec-p256', text = 'client') =>
  certificate({ subject: commonName(text), issuer: intermediate(), keys: newKeys(type) });

const subjects = ({ certificate: own, chain }: Identity) =>
  [own, ...chain].map(({ subject }) => subject.split('\n').at(-1));

const WHOLE = ['CN=client', 'CN=client intermediate', 'CN=client root'];
const encrypted = ({ keys }: Issuer, passphrase: string) =>
  keys.privateKey.export({
    type: 'pkcs8',
    format: 'pem',
    cipher: 'aes-256-cbc',
    passphrase,
  }) as string;

const only = async (...args: Parameters<typeof loadIdentities>): Promise<Identity> => {
  const found = await loadIdentities(...args);
  expect(found).toHaveLength(1);
  return found[0] as Identity;
};

const TYPES: readonly KeyType[] = ['rsa', 'rsa-pss', 'ec-p256', 'ec-p384', 'ed25519'];

describe('one PEM file', () => {
  test.each(TYPES)('certificate and %s key', async (type) => {
    const leaf = leafOf(type);
    const file = testFile('client.pem', leaf.pem + keyPem(leaf.keys));
    const identity = await only(file);
    expect(identity).toMatchObject({ source: file, key: 'present', chain: [] });
    expect(identity.certificate.raw.equals(leaf.x509.raw)).toBe(true);
    expect(identity.options?.cert).toContain('BEGIN CERTIFICATE');
  });

  test('certificates in any order: the one with the key, then its issuers, the nearest first', async () => {
    const leaf = leafOf();
    const [a, b, c, key] = [leaf.pem, intermediate().pem, root().pem, keyPem(leaf.keys)];
    const orders = [a + b + c + key, key + c + b + a, c + a + key + b, b + key + c + a];
    for (const text of orders) {
      expect(subjects(await only(testFile('client.pem', text)))).toEqual(WHOLE);
    }
  });

  test('certificates that do not belong to the chain are left out', async () => {
    const leaf = leafOf();
    const text = leaf.pem + otherRoot().pem + intermediate().pem + keyPem(leaf.keys);
    expect(subjects(await only(testFile('client.pem', text)))).toEqual(WHOLE.slice(0, 2));
  });

  test('text around the blocks, CRLF, and parameters of the curve', async () => {
    const leaf = leafOf();
    const parameters =
      '-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n';
    const sec1 = leaf.keys.privateKey.export({ type: 'sec1', format: 'pem' });
    const text = `Bag Attributes: ü\n${parameters}${sec1}subject=CN = client\n${leaf.pem}`;
    const identity = await only(testFile('client.pem', text.replaceAll('\n', '\r\n')));
    expect(identity.key).toBe('present');
  });

  test('an encrypted key, with its passphrase', async () => {
    const leaf = leafOf();
    const file = testFile('client.pem', leaf.pem + encrypted(leaf, 'geheim'));
    const identity = await only(file, { passphrase: 'geheim' });
    expect(identity.key).toBe('present');
    // What `connect` takes needs no passphrase any more.
    expect(String(identity.options?.key)).toMatch(/BEGIN PRIVATE KEY/);
  });

  test.each([undefined, '', 'wrong'])(
    'an encrypted key, passphrase %j: an error',
    async (passphrase) => {
      const leaf = leafOf();
      const file = testFile('client.pem', leaf.pem + encrypted(leaf, 'geheim'));
      const error = await rejection(
        loadIdentities(file, passphrase === undefined ? {} : { passphrase }),
      );
      expect(error.code).toBe('ERR_TLS_OPTION');
      expect(error.message).toContain(file);
    },
  );

  test('a certificate without a key: missing, and nothing to connect with', async () => {
    const identity = await only(testFile('client.pem', leafOf().pem));
    expect(identity).toMatchObject({ key: 'missing', options: null });
  });

  test('a key of another certificate: mismatch', async () => {
    const file = testFile('client.pem', leafOf().pem + keyPem(newKeys()));
    expect(await only(file)).toMatchObject({ key: 'mismatch', options: null });
  });

  test('a CA certificate alone is an identity like any other', async () => {
    expect(await only(testFile('ca.pem', root().pem))).toMatchObject({ key: 'missing' });
  });
});

describe('DER', () => {
  test('a certificate', async () => {
    const leaf = leafOf();
    const identity = await only(testFile('client.der', leaf.x509.raw));
    expect(identity.certificate.raw.equals(leaf.x509.raw)).toBe(true);
    expect(identity.key).toBe('missing');
  });

  test.each(['pkcs8', 'sec1'] as const)('a certificate, and its key as %s DER', async (type) => {
    const leaf = leafOf();
    const key = leaf.keys.privateKey.export({ type, format: 'der' });
    const identity = await only(folderOf({ 'client.crt': leaf.x509.raw, 'client.key': key }));
    expect(identity.key).toBe('present');
  });
});

describe('a folder', () => {
  test('certificates and keys in files of their own find each other; issuers complete the chains', async () => {
    const [one, two] = [leafOf('ec-p256', 'one'), leafOf('rsa', 'two')];
    const folder = folderOf({
      'a.key': keyPem(two.keys),
      'b.key': keyPem(one.keys),
      'one.crt': one.pem,
      'two.cer': two.x509.raw,
      'ca.pem': intermediate().pem,
      'root.pem': root().pem,
      'README.txt': 'not a certificate',
    });
    const found = await loadIdentities(folder);
    expect(found.map((identity) => [subjects(identity), identity.key])).toEqual([
      [['CN=one', ...WHOLE.slice(1)], 'present'],
      [['CN=two', ...WHOLE.slice(1)], 'present'],
    ]);
  });

  test('a key of the same name that does not fit: mismatch; no key at all: missing', async () => {
    const folder = folderOf({
      'one.crt': leafOf('ec-p256', 'one').pem,
      'one.key': keyPem(newKeys()),
      'two.crt': leafOf('ec-p256', 'two').pem,
    });
    const found = await loadIdentities(folder);
    expect(found.map((identity) => [subjects(identity)[0], identity.key])).toEqual([
      ['CN=one', 'mismatch'],
      ['CN=two', 'missing'],
    ]);
  });

  test('an empty one: no identities', async () => {
    expect(await loadIdentities(folderOf({}))).toEqual([]);
  });

  test('several paths: their identities in that order', async () => {
    const [one, two] = [leafOf('ec-p256', 'one'), leafOf('ec-p256', 'two')];
    const files = [two, one].map((leaf) => testFile('x.pem', leaf.pem + keyPem(leaf.keys)));
    const found = await loadIdentities(files);
    expect(found.map((identity) => subjects(identity)[0])).toEqual(['CN=two', 'CN=one']);
  });

  test('a certificate and its key as two paths find each other', async () => {
    const leaf = leafOf();
    const { cert, key } = filesOf(leaf);
    expect(await only([cert, key])).toMatchObject({ key: 'present' });
  });
});

describeServer('openssl', 'PKCS#12', () => {
  function pkcs12(leaf: Issuer, passphrase: string, ...more: string[]): string {
    const { cert, key } = filesOf(leaf);
    const file = testFile('client.p12', '');
    execFileSync('openssl', [
      ...['pkcs12', '-export', '-in', cert, '-inkey', key, '-out', file],
      ...['-passout', `pass:${passphrase}`, ...more],
    ]);
    return file;
  }

  test.each(TYPES)('with a chain and a passphrase, %s key', async (type) => {
    const leaf = leafOf(type);
    const issuers = testFile('chain.pem', intermediate().pem + root().pem);
    const file = pkcs12(leaf, 'geheim', '-certfile', issuers);
    const identity = await only(file, { passphrase: 'geheim' });
    expect(identity).toMatchObject({ source: file, key: 'present' });
    expect(identity.certificate.raw.equals(leaf.x509.raw)).toBe(true);
    expect(subjects(identity)).toEqual(WHOLE);
  });

  test('without a chain, with an empty passphrase', async () => {
    const leaf = leafOf();
    expect(subjects(await only(pkcs12(leaf, ''), { passphrase: '' }))).toEqual(['CN=client']);
  });

  test('expired, and for code signing only: read all the same', async () => {
    const leaf = certificate({
      subject: commonName('client'),
      issuer: root(),
      to: '20210101000000Z',
      keyUsage: [1],
      extendedKeyUsage: ['1.3.6.1.5.5.7.3.3'],
    });
    const identity = await only(pkcs12(leaf, 'x'), { passphrase: 'x' });
    expect(identity.certificate.raw.equals(leaf.x509.raw)).toBe(true);
  });

  test.each([undefined, 'wrong'])(
    'passphrase %j: an error that names the file',
    async (passphrase) => {
      const file = pkcs12(leafOf(), 'geheim');
      const error = await rejection(
        loadIdentities(file, passphrase === undefined ? {} : { passphrase }),
      );
      expect(error.code).toBe('ERR_TLS_OPTION');
      expect(error.message).toContain(file);
    },
  );

  test('garbage', async () => {
    const file = testFile('client.pfx', 'garbage');
    const error = await rejection(loadIdentities(file, { passphrase: 'x' }));
    expect(error.code).toBe('ERR_TLS_OPTION');
    expect(error.message).toContain(file);
  });
});

describe('what cannot be read: ERR_TLS_OPTION with the path', () => {
  test.each<readonly [string, () => string]>([
    ['nothing there', () => '/nowhere/client.pem'],
    ['an empty file', () => testFile('client.pem', '')],
    ['garbage', () => testFile('client.pem', 'garbage')],
    [
      'garbage that begins as DER does',
      () => testFile('client.der', Buffer.from('30820100ff', 'hex')),
    ],
    [
      'a block of garbage',
      () =>
        testFile('client.pem', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'),
    ],
    [
      'a key of garbage',
      () =>
        testFile('client.pem', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'),
    ],
    ['a key alone', () => testFile('client.key', keyPem(newKeys()))],
  ])('%s', async (_, make) => {
    const path = make();
    const error = await rejection(loadIdentities(path));
    expect(error.code).toBe('ERR_TLS_OPTION');
    expect(error.message).toContain(path);
  });
});
