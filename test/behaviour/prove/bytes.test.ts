import { test } from 'vitest';
import { expectWhole } from './expect-whole.ts';

test('no changed byte passes, and none makes anybody wait for ever', {
  timeout: 60_000,
}, async () => {
  await expectWhole('bytes');
});
