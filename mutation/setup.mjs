import fc from 'fast-check';
import { beforeEach } from 'vitest';
import { SLOW_TESTS } from './tests.mjs';

// The same verdict each time; and to know that a property fails is enough, nobody reads the smallest case.
fc.configureGlobal({ seed: 1, endOnFailure: true });

beforeEach(({ task, skip }) => {
  if (process.env.MUTATION_QUICK === '1' && SLOW_TESTS.has(task.name)) skip('slow: mutation/tests.mjs');
});
