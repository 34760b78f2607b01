import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    // Two cores: one fork each; the explorer's tests are bound by the processor.
    maxWorkers: 2,
  },
});
