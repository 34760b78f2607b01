import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import packageJson from './package.json' with { type: 'json' };
import { SkipReasons } from './test/skip-reasons.ts';

/** What users import, from its source: tests run their code as it stands in the docs. */
const sources = Object.entries(packageJson.exports).flatMap(([subpath, target]) => {
  if (typeof target === 'string') return [];
  const source = target.default.replace('./dist/', './src/').replace(/\.js$/, '.ts');
  const replacement = fileURLToPath(new URL(source, import.meta.url));
  return [{ find: new RegExp(`^powercut${subpath.slice(1)}$`), replacement }];
});

export default defineConfig({
  resolve: { alias: sources },
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    // Ends what hangs, no more: the slowest tests take half a minute, and several times that on a busy machine.
    testTimeout: 300_000,
    // Two cores: one fork each; the explorer's tests are bound by the processor.
    maxWorkers: 2,
    reporters: ['default', new SkipReasons()],
  },
});
