import { spawnSync } from 'node:child_process';
import { test } from 'vitest';
import { expectWhole } from './expect-whole.ts';

const missing =
  process.env['REQUIRE_PEERS'] !== '1' && spawnSync('clang++', ['--version']).status !== 0;

test.skipIf(missing)(
  'the core of the native engine: nothing breaks, and no end is claimed',
  {
    timeout: 120_000,
  },
  async () => {
    await expectWhole('fuzz');
  },
);
