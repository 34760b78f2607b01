import {
  type ExploreOptions,
  type ExploreResult,
  exploreAsync,
  renderStory,
  replayAsync,
  type Scenario,
  type Violation,
} from '../explore/index.ts';

/** What the exploration of a scenario came to, for a test. */
export interface CrashVerdict {
  /** Every crash was explored, and none breaks it. */
  readonly survives: boolean;
  /** A crash breaks it, or its recovery is not deterministic. */
  readonly breaks: boolean;
  /** What was found, as text: the first violation as a story, and the line that replays it. */
  readonly report: string;
  readonly result: ExploreResult;
}

/**
 * Explores a scenario and tells whether it survives every crash. One that was not explored to its end neither survives
 * nor breaks.
 * @throws what {@link exploreAsync} does
 */
export async function crashVerdict<Op, Observation>(
  scenario: Scenario<Op, Observation>,
  options: ExploreOptions = {},
): Promise<CrashVerdict> {
  const result = await exploreAsync(scenario, { maxViolations: 1, ...options });
  const breaks = result.violations.length > 0 || result.nondeterminism !== undefined;
  return { survives: result.clean, breaks, report: await reportOf(scenario as Scenario, result, options), result };
}

/**
 * For any test runner: fails with the story of the first crash that breaks the scenario.
 * @throws Error unless every crash was explored and none breaks it
 */
export async function assertSurvivesEveryCrash<Op, Observation>(
  scenario: Scenario<Op, Observation>,
  options: ExploreOptions = {},
): Promise<void> {
  const { survives, report } = await crashVerdict(scenario, options);
  if (!survives) throw new Error(report);
}

async function reportOf(scenario: Scenario, result: ExploreResult, options: ExploreOptions): Promise<string> {
  const [violation] = result.violations;
  if (violation !== undefined) return storyOf(scenario, violation, options);
  const { scenario: name, nondeterminism, incompleteReason, crashPoints, images, recoveries } = result;
  if (nondeterminism !== undefined) {
    return `${name}: two recoveries of one image differ at step ${nondeterminism.step}: ${nondeterminism.message}`;
  }
  const covered = `${crashPoints} crash points, ${images} disk images, ${recoveries} recoveries`;
  return result.complete
    ? `${name}: survives every crash: ${covered}`
    : `${name}: not every crash was explored: ${incompleteReason}; ${covered}`;
}

async function storyOf(scenario: Scenario, violation: Violation, options: ExploreOptions): Promise<string> {
  const story = await replayAsync(scenario, violation.token, options);
  const lines = renderStory(story, scenario.describe?.bind(scenario));
  return [
    `${scenario.name} does not survive a power cut ${violation.where.join(', then ')}`,
    '',
    ...lines,
    '',
    `repeat it alone: await replayAsync(scenario, '${violation.token}')`,
  ].join('\n');
}
