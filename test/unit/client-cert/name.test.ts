import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { DistinguishedName, IssuerNameList } from '../../../src/client-cert/name.ts';
import { MalformedError } from '../../../src/errors.ts';
import { hex } from '../../../src/record/handshake.ts';
import { randomNumbers, runSeed } from '../../support/cert-capture.ts';
import {
  bmp,
  commonName,
  ia5,
  name,
  oid,
  printable,
  sequence,
  set,
  t61,
  tlv,
  universal,
  utf8,
} from '../../support/cert-der.ts';
import { caNamed, testFile, variedNames } from '../../support/cert-pki.ts';
import { describeServer } from '../../support/cert-servers.ts';

const print = (der: Uint8Array) => new DistinguishedName(der).toString();

describe('printing, RFC 4514', () => {
  test('section 2.1: "starting with the last element of the sequence"', () => {
    expect(print(name(['C', printable('DE')], ['O', 'Org'], ['CN', 'Name']))).toBe(
      'CN=Name,O=Org,C=DE',
    );
  });

  test('every short name of section 3', () => {
    const types = ['CN', 'L', 'ST', 'O', 'OU', 'C', 'STREET', 'DC', 'UID'];
    expect(print(name(...types.map((type) => [type, 'x'] as const)))).toBe(
      types
        .reverse()
        .map((type) => `${type}=x`)
        .join(','),
    );
  });

  test('no relative names: an empty string', () => {
    expect(print(sequence())).toBe('');
  });

  test('several values, in the order of the encoding', () => {
    expect(
      print(
        name(
          ['DC', ia5('net')],
          [
            ['OU', 'Sales'],
            ['CN', 'J.  Smith'],
          ],
        ),
      ),
    ).toBe('OU=Sales+CN=J.  Smith,DC=net');
  });

  test.each([
    ['special characters', 'a"b+c,d;e<f>g\\h', 'a\\"b\\+c\\,d\\;e\\<f\\>g\\\\h'],
    ['"#" in front', '#1', '\\#1'],
    ['"#" elsewhere', 'a#', 'a#'],
    ['a space in front', ' a', '\\ a'],
    ['a space at the end', 'a ', 'a\\ '],
    ['spaces all around', '  a  ', '\\  a \\ '],
    ['one space', ' ', '\\ '],
    ['two spaces', '  ', '\\ \\ '],
    ['an equals sign', 'a=b', 'a=b'],
    ['NUL', 'a\0b', 'a\\00b'],
    ['a space before a line end', 'a \n', 'a \n'],
    ['nothing', '', ''],
    ['UTF-8', 'Lučić 日本 😀', 'Lučić 日本 😀'],
  ])('%s', (_, text, printed) => {
    expect(print(commonName(text))).toBe(`CN=${printed}`);
  });

  test.each([
    ['PrintableString', printable('Text'), 'Text'],
    ['IA5String', ia5('a@b'), 'a@b'],
    ['T61String, as Latin-1', t61('Stra\xdfe'), 'Straße'],
    ['BMPString', bmp('Größe 日'), 'Größe 日'],
    ['UniversalString', universal('a😀'), 'a😀'],
  ])('%s', (_, value, text) => {
    expect(print(name(['CN', value]))).toBe(`CN=${text}`);
  });

  test('"If the AttributeType is in dotted-decimal form": the value as # and hex', () => {
    expect(print(name(['1.2.3.4', 'x']))).toBe('1.2.3.4=#0c0178');
    expect(print(name(['emailAddress', ia5('a@b')]))).toBe('1.2.840.113549.1.9.1=#1603614062');
    expect(print(name(['serialNumber', printable('7')]))).toBe('2.5.4.5=#130137');
  });

  test.each([
    ['an integer', tlv(2, Uint8Array.of(5)), '#020105'],
    ['a sequence', sequence(), '#3000'],
    ['a bit string', tlv(3, Uint8Array.of(0, 0xa0)), '#030200a0'],
    ['a UTCTime', tlv(0x17, Buffer.from('200101000000Z')), '#170d3230303130313030303030305a'],
  ])('%s is no text: # and hex', (_, value, printed) => {
    expect(print(name(['CN', value]))).toBe(`CN=${printed}`);
  });

  test('a large arc of an object identifier', () => {
    expect(print(name(['2.999.4294967295.1', 'x']))).toBe('2.999.4294967295.1=#0c0178');
  });

  describeServer('openssl', 'as OpenSSL prints it', () => {
    test('by RFC 2253, for what both standards print alike', () => {
      const der = name(['C', printable('DE')], ['O', ' #a, "b"+c;<d>\\e= '], ['CN', 'Größe']);
      const text = execFileSync('openssl', [
        ...['x509', '-in', testFile('name.pem', caNamed(der).pem), '-noout', '-subject'],
        ...['-nameopt', 'RFC2253,-esc_msb,utf8'],
      ]);
      expect(text.toString()).toBe(`subject=${print(der)}\n`);
    });
  });
});

describe('the encoding', () => {
  test('is kept as it came, and is a copy', () => {
    for (const der of variedNames(20)) {
      const came = Buffer.from(der);
      const one = new DistinguishedName(came);
      came.fill(0);
      expect(hex(one.der)).toBe(hex(der));
      expect(one.toJSON()).toEqual({ name: one.toString(), der: hex(der) });
    }
  });

  test('decides whether two names are equal', () => {
    const a = new DistinguishedName(name(['CN', utf8('A')]));
    expect(a.equals(new DistinguishedName(name(['CN', utf8('A')])))).toBe(true);
    // The same text in another string type, and in other letters: other names.
    const others = [printable('A'), utf8('a'), utf8('A '), bmp('A')];
    for (const value of others) {
      expect(a.equals(new DistinguishedName(name(['CN', value])))).toBe(false);
    }
    expect(a.equals(new DistinguishedName(sequence()))).toBe(false);
  });

  test('attributes keep type, text and encoding', () => {
    const { rdns } = new DistinguishedName(
      name(['C', printable('DE')], ['1.2.3', tlv(2, Uint8Array.of(1))]),
    );
    expect(rdns.map((rdn) => rdn.map(({ oid, text, der }) => [oid, text, hex(der)]))).toEqual([
      [['2.5.4.6', 'DE', '13024445']],
      [['1.2.3', null, '020101']],
    ]);
  });
});

describe('what is no name', () => {
  const pair = sequence(oid('2.5.4.3'), utf8('x'));
  test.each<readonly [string, Uint8Array]>([
    ['nothing', new Uint8Array(0)],
    ['no sequence', set(set(pair))],
    ['a text', utf8('CN=x')],
    ['bytes behind it', Buffer.concat([commonName('x'), Uint8Array.of(0)])],
    ['a relative name that is no set', sequence(sequence(pair))],
    ['an empty relative name', sequence(set())],
    ['an attribute that is no sequence', sequence(set(set(oid('2.5.4.3'), utf8('x'))))],
    ['an attribute without a type', sequence(set(sequence(utf8('x'), utf8('x'))))],
    ['an attribute without a value', sequence(set(sequence(oid('2.5.4.3'))))],
    ['an attribute of three parts', sequence(set(sequence(oid('2.5.4.3'), utf8('x'), utf8('y'))))],
    ['an empty object identifier', sequence(set(sequence(tlv(6), utf8('x'))))],
    ['half a BMPString', name(['CN', tlv(0x1e, Uint8Array.of(0x41))])],
    ['a GeneralizedTime that is none', name(['CN', tlv(0x18, Buffer.from('20'))])],
    ['an indefinite length, which is BER and not DER', Buffer.from('30800000', 'hex')],
    ['a length in more bytes than needed', Buffer.from('308100', 'hex')],
  ])('%s', (_, der) => {
    expect(() => new DistinguishedName(der)).toThrow(MalformedError);
  });

  test('cut at every byte', () => {
    const [der = new Uint8Array(0)] = variedNames(1);
    for (let length = 0; length < der.length; length++) {
      expect(() => new DistinguishedName(der.subarray(0, length))).toThrow(MalformedError);
    }
  });

  test('deep nesting and long values', () => {
    let deep: Buffer = Buffer.alloc(0);
    while (deep.length < 60_000) deep = tlv(0x30, deep);
    expect(() => print(name(['CN', deep]))).toThrow(MalformedError);
    expect(() => new DistinguishedName(Buffer.alloc(65_535, '3080', 'hex'))).toThrow(
      MalformedError,
    );
    expect(print(commonName('x'.repeat(60_000)))).toHaveLength(60_003);
  });

  test('mutations give a name with these very bytes, or MalformedError', () => {
    const seed = runSeed();
    const random = randomNumbers(seed);
    const whole = variedNames(7);
    for (let i = 0; i < 20_000; i++) {
      const der = Buffer.from(whole[i % 7] as Buffer);
      for (let n = random(3); n >= 0; n--) der[random(der.length)] = random(256);
      try {
        const one = new DistinguishedName(der);
        one.toString();
        expect(Buffer.compare(one.der, der)).toBe(0);
      } catch (error) {
        if (error instanceof MalformedError) continue;
        throw new Error(`SEED=${seed}: ${hex(der)}`, { cause: error });
      }
    }
  });
});

describe('IssuerNameList', () => {
  test('keeps the order and what comes twice, and finds by encoding', () => {
    const ders = [commonName('b'), commonName('a'), commonName('b')];
    const list = new IssuerNameList(ders);
    expect(list.length).toBe(3);
    expect([...list].map(String)).toEqual(['CN=b', 'CN=a', 'CN=b']);
    expect(list.toJSON().map(({ der }) => der)).toEqual(ders.map(hex));
    expect(list.has(new DistinguishedName(commonName('a')))).toBe(true);
    expect(list.has(new DistinguishedName(name(['CN', printable('a')])))).toBe(false);
    expect(new IssuerNameList([]).length).toBe(0);
  });

  test('one encoding that is no name: none of them', () => {
    expect(() => new IssuerNameList([commonName('a'), Buffer.from('x')])).toThrow(MalformedError);
  });
});
