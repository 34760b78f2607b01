import { defineConfig } from 'vitest/config';
import { SkipReasons } from './test/skip-reasons.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Ends what hangs, no more: the slowest tests take half a minute, and several times that on a busy machine.
    testTimeout: 300_000,
    // Two cores: one fork each; the explorer's tests are bound by the processor.
    maxWorkers: 2,
    reporters: ['default', new SkipReasons()],
  },
});
