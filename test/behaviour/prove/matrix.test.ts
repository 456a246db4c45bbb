import { test } from 'vitest';
import { expectWhole } from './expect-whole.ts';

test('no ending is mistaken, however it is read and whatever the program does', {
  timeout: 120_000,
}, async () => {
  await expectWhole('matrix');
});
