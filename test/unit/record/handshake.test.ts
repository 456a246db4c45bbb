import { describe, expect, test } from 'vitest';
import { MalformedError } from '../../../src/errors.ts';
import {
  HANDSHAKE_TYPE,
  HandshakeReader,
  handshakeName,
  hex,
  MAX_HANDSHAKE_LENGTH,
  parseCertificateRequest12,
  parseCertificateRequest13,
  parseClientRandom,
  parseExtensions,
  parseServerHello,
} from '../../../src/record/handshake.ts';
import { list, Reader } from '../../../src/record/reader.ts';
import { randomNumbers, runSeed } from '../../support/cert-capture.ts';
import { bits, commonName, oid, sequence } from '../../support/cert-der.ts';
import {
  extension,
  message,
  request12,
  request13,
  uint,
  uint16s,
  vector,
} from '../../support/cert-flight.ts';

const names = [commonName('first'), commonName('second'), commonName('first')];
const WHOLE_12 = request12({ types: [1, 64, 200], schemes: [0x0403, 0x0804, 0xfefe], names });
const WHOLE_13 = request13({
  context: Buffer.from('context'),
  schemes: [0x0403, 0x0804, 0xfefe],
  schemesCert: [0x0401],
  names,
  filters: [
    [oid('2.5.29.15'), bits([0])],
    [oid('2.5.29.37'), sequence()],
    [oid('1.2.3'), Buffer.alloc(0)],
  ],
  more: [extension(0xabcd, Buffer.from('unknown'))],
});
const SERVER_HELLO = Buffer.concat([
  uint(2, 0x0303),
  Buffer.alloc(32, 9),
  vector(1, Buffer.alloc(32, 8)),
  uint(2, 0x1301),
  uint(1, 0),
  vector(2, extension(43, uint(2, 0x0304)), extension(51, Buffer.alloc(36))),
]);

describe('CertificateRequest', () => {
  test('of TLS 1.2, with every field', () => {
    const { authorities, context, ...parsed } = parseCertificateRequest12(WHOLE_12);
    expect(authorities.map(hex)).toEqual(names.map(hex));
    expect(context).toHaveLength(0);
    expect(parsed).toEqual({
      version: 'TLSv1.2',
      namesAuthorities: true,
      signatureAlgorithms: [0x0403, 0x0804, 0xfefe],
      signatureAlgorithmsCert: null,
      certificateTypes: [1, 64, 200],
      oidFilters: null,
    });
  });

  test('of TLS 1.2, without names: RFC 5246 "If the certificate_authorities list is empty"', () => {
    expect(parseCertificateRequest12(request12()).authorities).toEqual([]);
  });

  test('of TLS 1.3, with every extension', () => {
    const parsed = parseCertificateRequest13(WHOLE_13);
    expect(parsed.authorities.map(hex)).toEqual(names.map(hex));
    expect(parsed).toMatchObject({
      version: 'TLSv1.3',
      namesAuthorities: true,
      signatureAlgorithms: [0x0403, 0x0804, 0xfefe],
      signatureAlgorithmsCert: [0x0401],
      certificateTypes: null,
    });
    expect(parsed.oidFilters?.map(({ oid, values }) => [hex(oid), hex(values)])).toEqual([
      [hex(oid('2.5.29.15')), hex(bits([0]))],
      [hex(oid('2.5.29.37')), '3000'],
      [hex(oid('1.2.3')), ''],
    ]);
    expect(Buffer.from(parsed.context).toString()).toBe('context');
  });

  test('of TLS 1.3, with signature_algorithms alone', () => {
    const { context, ...parsed } = parseCertificateRequest13(request13());
    expect(context).toHaveLength(0);
    expect(parsed).toMatchObject({
      authorities: [],
      namesAuthorities: false,
      signatureAlgorithmsCert: null,
      oidFilters: null,
    });
  });

  test('of TLS 1.3: "The "signature_algorithms" extension MUST be specified"', () => {
    expect(() => parseCertificateRequest13(request13({ schemes: null, names }))).toThrow(
      MalformedError,
    );
  });

  test.each([
    ['signature_algorithms', extension(13, vector(2, uint16s([0x0403])))],
    ['certificate_authorities', extension(47, vector(2, vector(2, commonName('x'))))],
    ['an unknown one', extension(0xabcd, new Uint8Array(0))],
  ])('%s twice: "There MUST NOT be more than one extension of the same type"', (_, twice) => {
    expect(() => parseCertificateRequest13(request13({ names, more: [twice, twice] }))).toThrow(
      MalformedError,
    );
  });

  const bad: ReadonlyArray<readonly [string, Uint8Array, 12 | 13]> = [
    ['no certificate types', request12({ types: [] }), 12],
    [
      'half a scheme',
      Buffer.concat([vector(1, Uint8Array.of(1)), vector(2, Buffer.alloc(3)), vector(2)]),
      12,
    ],
    ['an empty name', request12({ names: [new Uint8Array(0)] }), 12],
    ['an empty name', request13({ names: [new Uint8Array(0)] }), 13],
    ['an empty list of names', request13({ names: [] }), 13],
    ['an empty list of schemes', request13({ schemes: [] }), 13],
    [
      'a filter without an identifier',
      request13({ filters: [[new Uint8Array(0), bits([0])]] }),
      13,
    ],
    [
      'half a scheme',
      request13({ schemes: null, more: [extension(13, vector(2, Buffer.alloc(3)))] }),
      13,
    ],
    [
      'bytes behind the list of names',
      request13({
        more: [extension(47, Buffer.concat([vector(2, vector(2, commonName('x'))), uint(1, 0)]))],
      }),
      13,
    ],
    [
      'bytes behind the schemes',
      request13({
        schemes: null,
        more: [extension(13, Buffer.concat([vector(2, uint16s([0x403])), uint(1, 0)]))],
      }),
      13,
    ],
  ];
  test.each(bad)('%s is malformed', (_, bytes, version) => {
    const parse = version === 12 ? parseCertificateRequest12 : parseCertificateRequest13;
    expect(() => parse(bytes)).toThrow(MalformedError);
  });
});

describe('every message, cut and lengthened', () => {
  const parsers: ReadonlyArray<readonly [string, (bytes: Uint8Array) => unknown, Buffer]> = [
    ['CertificateRequest of TLS 1.2', parseCertificateRequest12, WHOLE_12],
    ['CertificateRequest of TLS 1.3', parseCertificateRequest13, WHOLE_13],
    ['ServerHello', parseServerHello, SERVER_HELLO],
  ];

  test.each(parsers)('%s cut at every byte is malformed', (name, parse, whole) => {
    parse(whole);
    for (let length = 0; length < whole.length; length++) {
      // RFC 5246 section 7.4.1.3: a ServerHello may end before its extensions.
      if (name === 'ServerHello' && length === 70) continue;
      expect(() => parse(whole.subarray(0, length)), `${length} bytes`).toThrow(MalformedError);
    }
  });

  test.each(parsers)('%s with bytes behind it is malformed', (_, parse, whole) => {
    for (const more of [1, 2, 5, 100]) {
      expect(() => parse(Buffer.concat([whole, Buffer.alloc(more)])), `${more}`).toThrow(
        MalformedError,
      );
    }
  });

  test('mutations give a result or MalformedError, and nothing else', () => {
    const seed = runSeed();
    const random = randomNumbers(seed);
    for (let i = 0; i < 24_000; i++) {
      const [name, parse, whole] = parsers[i % parsers.length] as (typeof parsers)[number];
      const bytes = mutated(whole, random);
      try {
        parse(bytes);
      } catch (error) {
        if (error instanceof MalformedError) continue;
        throw new Error(`SEED=${seed}, ${name}: ${hex(bytes)}`, { cause: error });
      }
    }
  });
});

/** One to four changes: a bit, a byte, a piece left out, doubled, or random. */
function mutated(whole: Buffer, random: (below: number) => number): Buffer {
  let bytes = Buffer.from(whole);
  for (let changes = 1 + random(4); changes > 0 && bytes.length > 0; changes--) {
    const at = random(bytes.length);
    const length = random(8);
    const behind = bytes.subarray(Math.min(bytes.length, at + length));
    switch (random(5)) {
      case 0:
        bytes[at] = (bytes[at] as number) ^ (1 << random(8));
        break;
      case 1:
        bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)] as number;
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), behind]);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      default:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.from(Array.from({ length }, () => random(256))),
          behind,
        ]);
    }
  }
  return bytes;
}

describe('ServerHello', () => {
  test('its version is that of supported_versions where there is one', () => {
    expect(parseServerHello(SERVER_HELLO)).toMatchObject({
      version: 0x0304,
      cipherSuite: 0x1301,
      retry: false,
    });
    expect(parseServerHello(SERVER_HELLO.subarray(0, 70))).toMatchObject({ version: 0x0303 });
  });

  test('a HelloRetryRequest is known by its random', () => {
    const retry = Buffer.from(SERVER_HELLO);
    Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex').copy(
      retry,
      2,
    );
    expect(parseServerHello(retry).retry).toBe(true);
  });

  test('the random of a ClientHello', () => {
    const hello = Buffer.concat([uint(2, 0x0303), Buffer.alloc(32, 7), Buffer.alloc(9)]);
    expect(hex(parseClientRandom(hello))).toBe('07'.repeat(32));
    expect(() => parseClientRandom(hello.subarray(0, 33))).toThrow(MalformedError);
  });

  test('extensions keep their data; one that comes twice is malformed', () => {
    const two = Buffer.concat([extension(1, Buffer.from('a')), extension(2, Buffer.from(''))]);
    expect([...parseExtensions(two)].map(([type, data]) => [type, hex(data)])).toEqual([
      [1, '61'],
      [2, ''],
    ]);
    expect(() => parseExtensions(Buffer.concat([two, two]))).toThrow(MalformedError);
  });
});

describe('HandshakeReader', () => {
  const all = Buffer.concat([
    message(HANDSHAKE_TYPE.serverHelloDone, new Uint8Array(0)),
    message(HANDSHAKE_TYPE.certificateRequest, WHOLE_12),
    message(HANDSHAKE_TYPE.finished, Buffer.alloc(12, 1)),
  ]);
  const expected = [
    [14, ''],
    [13, hex(WHOLE_12)],
    [20, '01'.repeat(12)],
  ];

  test.each([1, 2, 3, 4, 5, 7, 100, 100_000])(
    'in pieces of %d bytes: the same messages',
    (size) => {
      const reader = new HandshakeReader();
      const seen: unknown[] = [];
      for (let at = 0; at < all.length; at += size) {
        for (const { type, body } of reader.push(all.subarray(at, at + size))) {
          seen.push([type, hex(body)]);
        }
      }
      expect(seen).toEqual(expected);
      expect(reader.midMessage).toBe(false);
    },
  );

  test('a message that has begun and not ended', () => {
    const reader = new HandshakeReader();
    expect(reader.push(all.subarray(0, 6))).toHaveLength(1);
    expect(reader.midMessage).toBe(true);
  });

  test('the bytes of a message are its own: what it was read from may change', () => {
    const bytes = Buffer.from(all);
    const [, request] = new HandshakeReader().push(bytes);
    bytes.fill(0);
    expect(hex(request?.body ?? new Uint8Array(0))).toBe(hex(WHOLE_12));
  });

  test('a message longer than the bound is refused at its header', () => {
    const header = (length: number) => Buffer.concat([uint(1, 11), uint(3, length)]);
    expect(new HandshakeReader().push(header(MAX_HANDSHAKE_LENGTH))).toEqual([]);
    expect(() => new HandshakeReader().push(header(MAX_HANDSHAKE_LENGTH + 1))).toThrow(
      MalformedError,
    );
  });

  test('messages have the standard’s names', () => {
    expect(handshakeName(13)).toBe('certificate_request');
    expect(handshakeName(24)).toBe('key_update');
    expect(handshakeName(99)).toBe('handshake_99');
  });
});

describe('Reader', () => {
  test('numbers, bytes, vectors, in order', () => {
    const reader = new Reader(Buffer.from('01ffff000102fffffffe0203', 'hex'));
    expect([reader.uint(1), reader.uint(2), reader.uint(3), reader.uint(4)]).toEqual([
      1, 0xffff, 258, 0xfffffffe,
    ]);
    expect(reader.left).toBe(2);
    expect(() => reader.vector(1)).toThrow(/at byte 11/);
  });

  test('a vector of less than its least length', () => {
    expect(() => new Reader(Uint8Array.of(1, 9)).vector(1, 2)).toThrow(MalformedError);
    expect([...new Reader(Uint8Array.of(2, 9, 8)).vector(1, 2)]).toEqual([9, 8]);
  });

  test('end and list want everything read', () => {
    const reader = new Reader(Uint8Array.of(1, 2));
    expect(() => reader.end()).toThrow(/2 bytes too many/);
    expect(list(Uint8Array.of(1, 2), (r) => r.uint(1))).toEqual([1, 2]);
    expect(() => list(Uint8Array.of(1, 2, 3), (r) => r.uint(2))).toThrow(MalformedError);
  });
});
