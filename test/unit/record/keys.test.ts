import { describe, expect, test } from 'vitest';
import { hex } from '../../../src/record/handshake.ts';
import {
  connectionKeys12,
  expandLabel,
  nextTrafficSecret,
  parseKeyLogLine,
  prf12,
} from '../../../src/record/keys.ts';
import { type Suite, suiteOf } from '../../../src/record/suite.ts';
import { SUITE_NAMES } from '../../../src/record/suite-names.ts';
import { expandLabel as reference } from '../../support/cert-flight.ts';

describe('the PRF of TLS 1.2', () => {
  test('the vector of the TLS working group for P_SHA256, 100 bytes', () => {
    const output = prf12(
      'sha256',
      Buffer.from('9bbe436ba940f017b17652849a71db35', 'hex'),
      'test label',
      Buffer.from('a0ba9f936cda311827a6f796ffd5198c', 'hex'),
      100,
    );
    expect(hex(output)).toBe(
      'e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66',
    );
  });

  test.each([1, 31, 32, 33, 64, 65])('%d bytes are the first of more', (length) => {
    const secret = Buffer.alloc(48, 7);
    const all = prf12('sha384', secret, 'key expansion', Buffer.alloc(64, 1), 300);
    const some = prf12('sha384', secret, 'key expansion', Buffer.alloc(64, 1), length);
    expect(hex(some)).toBe(hex(all.subarray(0, length)));
  });
});

describe('HKDF-Expand-Label', () => {
  test.each([1, 12, 16, 32, 33, 48, 100])('%d bytes, against another implementation', (length) => {
    const secret = Buffer.alloc(32, 0x5a);
    expect(hex(expandLabel('sha256', secret, 'traffic upd', length))).toBe(
      hex(reference(secret, 'traffic upd', new Uint8Array(0), length)),
    );
  });

  test('the secret after a KeyUpdate is as long as the one before', () => {
    const suite = suiteOf('TLS_AES_256_GCM_SHA384') as Suite;
    const next = nextTrafficSecret(suite, Buffer.alloc(48, 1));
    expect(next.length).toBe(48);
    expect(hex(next)).not.toBe('01'.repeat(48));
  });
});

describe('the lines of a key log', () => {
  const random = 'AB'.repeat(32);

  test('a line gives label, random in lower case, secret', () => {
    expect(parseKeyLogLine(`CLIENT_TRAFFIC_SECRET_0 ${random} 00fF10`)).toEqual({
      label: 'CLIENT_TRAFFIC_SECRET_0',
      clientRandom: 'ab'.repeat(32),
      secret: Uint8Array.of(0, 255, 16),
    });
  });

  test('a line end does no harm', () => {
    expect(parseKeyLogLine(`CLIENT_RANDOM ${random} 01\r\n`)?.secret).toEqual(Uint8Array.of(1));
  });

  test.each([
    ['nothing', ''],
    ['a comment', '# CLIENT_RANDOM'],
    ['a short random', `CLIENT_RANDOM ${'ab'.repeat(31)} 01`],
    ['a long random', `CLIENT_RANDOM ${'ab'.repeat(33)} 01`],
    ['no secret', `CLIENT_RANDOM ${random}`],
    ['half a byte', `CLIENT_RANDOM ${random} 012`],
    ['no hexadecimal', `CLIENT_RANDOM ${random} zz`],
    ['something behind', `CLIENT_RANDOM ${random} 01 02`],
    ['two lines', `CLIENT_RANDOM ${random} 01\nCLIENT_RANDOM ${random} 02`],
    ['something before', `  CLIENT_RANDOM ${random} 01`],
  ])('%s is no line', (_, line) => {
    expect(parseKeyLogLine(line)).toBeNull();
  });
});

describe('suites', () => {
  test.each([
    ['TLS_AES_128_GCM_SHA256', 'aes-128-gcm', 16, 16, 'sha256'],
    ['TLS_AES_256_GCM_SHA384', 'aes-256-gcm', 32, 16, 'sha384'],
    ['TLS_CHACHA20_POLY1305_SHA256', 'chacha20-poly1305', 32, 16, 'sha256'],
    ['TLS_AES_128_CCM_8_SHA256', 'aes-128-ccm', 16, 8, 'sha256'],
    ['TLS_ECDHE_ECDSA_WITH_AES_256_CCM', 'aes-256-ccm', 32, 16, 'sha256'],
    ['TLS_RSA_WITH_ARIA_256_GCM_SHA384', 'aria-256-gcm', 32, 16, 'sha384'],
  ])('%s', (name, cipher, keyLength, tagLength, hash) => {
    expect(suiteOf(name)).toMatchObject({ kind: 'aead', cipher, keyLength, tagLength, hash });
  });

  test.each([
    ['TLS_RSA_WITH_AES_128_CBC_SHA', 'sha1', 20, 'sha256'],
    ['TLS_RSA_WITH_AES_256_CBC_SHA256', 'sha256', 32, 'sha256'],
    ['TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384', 'sha384', 48, 'sha384'],
    ['TLS_DHE_RSA_WITH_CAMELLIA_128_CBC_SHA', 'sha1', 20, 'sha256'],
  ])('%s', (name, mac, macLength, hash) => {
    expect(suiteOf(name)).toMatchObject({ kind: 'cbc', mac, macLength, hash });
  });

  test.each(['', 'TLS_RSA_WITH_NULL_SHA', 'TLS_RSA_WITH_RC4_128_SHA', 'TLS_NOTHING'])(
    '%j is none that can be read',
    (name) => {
      expect(suiteOf(name)).toBeNull();
    },
  );

  test('every suite that has a number can be read', () => {
    const unread = [...SUITE_NAMES.values()].filter((name) => suiteOf(name) === null);
    expect(unread).toEqual([]);
  });

  test('keys of TLS 1.2 are cut from the block in its order, client first', () => {
    const suite = suiteOf('TLS_RSA_WITH_AES_128_CBC_SHA') as Suite;
    const [client, server] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
    const keys = connectionKeys12(suite, Buffer.alloc(48, 3), client, server);
    const block = prf12(
      'sha256',
      Buffer.alloc(48, 3),
      'key expansion',
      Buffer.concat([server, client]),
      72,
    );
    expect(
      hex(Buffer.concat([keys.client.mac, keys.server.mac, keys.client.key, keys.server.key])),
    ).toBe(hex(block));
  });
});
