import { test } from 'vitest';
import { expectWhole } from './expect-whole.ts';

test('no cut passes for an end, on any face', { timeout: 60_000 }, async () => {
  await expectWhole('cuts');
});
