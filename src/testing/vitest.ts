import { expect } from 'vitest';
import type { ExploreOptions } from '../explore/index.ts';
import { crashMatchers } from './matchers.ts';

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: it has to be declared as vitest declares it
  interface Matchers<T = any> {
    /**
     * The scenario survives every power cut: each crash point, each disk image that a cut there can leave, up to
     * `depth` cuts in a row. Await it. Fails with the story of the crash that breaks it.
     */
    toSurviveEveryCrash: (options?: ExploreOptions) => Promise<T>;
  }
}

expect.extend({ ...crashMatchers });

export { crashMatchers };
