import type { ExploreOptions, Scenario } from '../explore/index.ts';
import { crashVerdict } from './crash-verdict.ts';

/** What vitest and jest hand to a matcher, as far as it is used here. */
interface MatcherContext {
  readonly isNot?: boolean;
}

interface MatcherResult {
  readonly pass: boolean;
  readonly message: () => string;
}

/** Matchers for `expect.extend` of vitest or jest. `powercut/testing/vitest` extends vitest's, with types. */
export interface CrashMatchers {
  toSurviveEveryCrash(this: MatcherContext, scenario: unknown, options?: ExploreOptions): Promise<MatcherResult>;
}

export const crashMatchers: CrashMatchers = {
  /**
   * Explores the scenario; fails with the story of the first crash that breaks it, and where not every crash was
   * explored. With `not` it fails unless a crash breaks it: not having looked everywhere is no proof of either.
   */
  async toSurviveEveryCrash(scenario, options = {}) {
    const { survives, breaks, report } = await crashVerdict(scenario as Scenario, options);
    return { pass: this.isNot === true ? !breaks : survives, message: () => report };
  },
};
