import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 30_000,
    // A hook may compile the C++ peer.
    hookTimeout: 120_000,
    // No test may lean on another. Vitest prints the seed; `--sequence.seed` repeats an order.
    sequence: { shuffle: { files: true, tests: true } },
    reporters: ['default', 'json'],
    // Read by .ci/run.
    outputFile: { json: 'test-results/vitest.json' },
  },
});
