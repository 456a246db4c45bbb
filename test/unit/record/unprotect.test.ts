/** Taking the protection off: what is counted, and what becomes of the keys. */
import { expect, test } from 'vitest';
import { trafficKeys13 } from '../../../src/record/keys.ts';
import { type Suite, suiteOf } from '../../../src/record/suite.ts';
import { Unprotector } from '../../../src/record/unprotect.ts';
import { CraftedWire, DATA } from './crafted-wire.ts';

const SUITE = suiteOf('TLS_AES_128_GCM_SHA256') as Suite;
const secret = () => Buffer.alloc(32, 7);

/** Records of a sender with that secret, in order. */
function records(count: number): Array<{ header: Buffer; body: Buffer }> {
  const { own } = new CraftedWire('client', 'TLSv1.3');
  own.useSecret(secret());
  return Array.from({ length: count }, (_, i) => {
    const record = own.record(DATA, [i]);
    return { header: record.subarray(0, 5), body: record.subarray(5) };
  });
}

test('records are counted: read, or passed over', () => {
  // RFC 9846 section 5.3: "The appropriate sequence number is incremented by one after reading or writing each record."
  const unprotector = new Unprotector(trafficKeys13(SUITE, secret()), true);
  const read = records(4).map(({ header, body }, i) => {
    if (i !== 1) return unprotector.unprotect(header, body)?.content[0];
    unprotector.skip();
    return undefined;
  });
  expect(read).toEqual([0, undefined, 2, 3]);
});

test('one that is not authentic gives nothing, and is not counted', () => {
  const unprotector = new Unprotector(trafficKeys13(SUITE, secret()), true);
  const [first] = records(1) as [{ header: Buffer; body: Buffer }];
  for (let at = 0; at < first.body.length; at++) {
    const forged = Buffer.from(first.body);
    forged[at]! ^= 1;
    expect(unprotector.unprotect(first.header, forged)).toBeNull();
  }
  expect(unprotector.unprotect(first.header, first.body)?.content).toEqual(Buffer.of(0));
});

test('wiped, the keys are zeros', () => {
  const keys = trafficKeys13(SUITE, secret());
  new Unprotector(keys, true).wipe();
  expect([...keys.key, ...keys.iv].every((byte) => byte === 0)).toBe(true);
});
