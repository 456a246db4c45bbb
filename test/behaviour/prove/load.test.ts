import { test } from 'vitest';
import { expectWhole } from './expect-whole.ts';

test('connections leave nothing behind, however they end', { timeout: 60_000 }, async () => {
  await expectWhole('load');
});
