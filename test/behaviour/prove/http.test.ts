import { test } from 'vitest';
import { expectWhole } from './expect-whole.ts';

test('no HTTP message is mistaken, however its connection ends, and no server that closes properly is blamed', {
  timeout: 180_000,
}, async () => {
  await expectWhole('http');
});
