import { expect, test } from 'vitest';
import { opensslHeaders } from '../../../prove/peers/openssl.ts';
import { expectWhole } from './expect-whole.ts';

const required = process.env['REQUIRE_PEERS'] === '1';
const there = opensslHeaders() !== null;

test('no cut passes for an end, on any face', { timeout: 120_000 }, async () => {
  const { parts } = await expectWhole('cuts');
  const figures = parts[0]?.figures ?? [];
  // That nobody reads 'whole' where the conversations with KeyUpdate were left out.
  const crossed = figures.filter(({ name }) => name.includes('all three crossed'));
  expect(crossed.every(({ value }) => (value as number) > 0)).toBe(true);
  expect(crossed.length).toBe(there ? 2 : 0);
});

if (!there) {
  test.skipIf(!required)('cuts with KeyUpdate need g++ and the headers of OpenSSL', () => {
    throw new Error('not installed, and REQUIRE_PEERS=1 asks for all peers');
  });
}
