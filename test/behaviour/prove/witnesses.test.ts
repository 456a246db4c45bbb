import { test } from 'vitest';
import { expectWhole } from './expect-whole.ts';

test('the add-on and the records say the same of the same connections', {
  timeout: 120_000,
}, async () => {
  await expectWhole('witnesses');
});
