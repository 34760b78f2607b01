import {
  type ExploreOptions,
  type ExploreResult,
  exploreAsync,
  exploreInWorkers,
  type Unit,
  type Violation,
} from '../explore/index.ts';
import { checkTogether, commitOf, type ExploreFlags, exploreOptions, settingsOf } from './explore-flags.ts';
import { exitCode, replayLine, report, toJson } from './explore-report.ts';
import { junitOf, writeJUnit } from './junit.ts';
import { checkReport } from './new-file.ts';
import type { Output } from './output.ts';
import { ProgressLine } from './progress.ts';
import { ResultFile } from './result-file.ts';
import { isShipped, loadScenario, misuse, scenarioFailure } from './scenarios.ts';
import { stackOf } from './stack.ts';
import { describeSize, paintStoryLine, smallestOf, storyOf } from './story.ts';
import type { ScenarioSource } from './worker-scenario.ts';

const SCENARIO_MODULE = new URL(
  import.meta.url.endsWith('.ts') ? './worker-scenario.ts' : './worker-scenario.js',
  import.meta.url,
).href;

/** Runs `powercut explore`. @returns the exit code */
export async function runExplore(name: string, flags: ExploreFlags, output: Output): Promise<number> {
  checkTogether(flags);
  checkJUnit(name, flags, { 'what --out writes': flags.out, 'what --resume goes on with': flags.resume });
  const file = resultFileOf(name, flags);
  const done = flags.resume === undefined ? [] : (file?.units ?? []);
  try {
    const onUnit = (unit: Unit): void => file?.append(unit);
    const result = await exploreHere(name, flags, output, { done, ...(file === undefined ? {} : { onUnit }) });
    return await publish(result, name, flags, output);
  } finally {
    file?.close();
  }
}

/** @throws CodedError EINVAL where the file of --junit can't be written, or is one of `others` or the scenario */
export function checkJUnit(
  scenario: string,
  { junit }: ExploreFlags,
  others: Readonly<Record<string, string | undefined>>,
): void {
  if (junit === undefined) return;
  const inputs = isShipped(scenario) ? others : { ...others, 'the scenario': scenario };
  checkReport('--junit', junit, inputs);
}

/** Prints a result, and writes it where the flags say so. @returns the exit code */
export async function publish(
  result: ExploreResult,
  name: string,
  flags: ExploreFlags,
  output: Output,
): Promise<number> {
  const { violations } = result;
  const smallest = smallestOf(violations);
  const told = flags.junit === undefined ? violations.filter((violation) => violation === smallest) : violations;
  const stories = await storiesOf(told, name, flags);
  if (flags.junit !== undefined) {
    const failures = violations.map((violation) => ({
      crashPoint: violation.crashPoint,
      message: violation.message,
      text: [...(stories.get(violation) ?? []), '', replayLine(violation, name)].join('\n'),
    }));
    writeJUnit(flags.junit, junitOf(result, failures, flags.requireComplete ?? false));
  }
  if (flags.json) output.out(`${JSON.stringify(toJson(result, flags))}\n`);
  else report(result, name, flags, output);
  if (!flags.json && smallest !== undefined) {
    output.out(`\nthe smallest: ${describeSize(smallest)}\n\n`);
    // Set in, so that each line that starts with VIOLATION is one of the list.
    for (const line of stories.get(smallest) ?? []) {
      output.out(line === '' ? '\n' : `  ${paintStoryLine(output, line)}\n`);
    }
  }
  return exitCode(result, flags);
}

async function storiesOf(
  violations: readonly Violation[],
  name: string,
  flags: ExploreFlags,
): Promise<Map<Violation, string[]>> {
  const stories = new Map<Violation, string[]>();
  if (violations.length === 0) return stories;
  const scenario = await loadScenario(name, sourceOf(name, flags));
  for (const violation of violations) {
    stories.set(violation, await storyOf(scenario, violation, stackOf(flags.through)));
  }
  return stories;
}

function sourceOf(name: string, flags: ExploreFlags): ScenarioSource {
  if (flags.faults !== undefined && name !== 'media' && isShipped(name)) {
    throw misuse(`--faults: ${name} knows no faults: take media, or a scenario of your own`);
  }
  const { size, break: broken, through } = flags;
  return { name, commit: commitOf(flags), sizeBytes: size, broken, through };
}

/** Explores the scenario of that name with these flags, with progress; `more` is passed on. */
export async function exploreHere(
  name: string,
  flags: ExploreFlags,
  output: Output,
  more: ExploreOptions,
): Promise<ExploreResult> {
  const source = sourceOf(name, flags);
  // Here, so that what is wrong with it is said before any thread is started.
  const scenario = await loadScenario(name, source);
  const progress = new ProgressLine(output);
  const options: ExploreOptions = {
    ...exploreOptions(flags),
    settings: settingsOf(name, flags),
    clock: output.clock,
    onProgress: (now) => progress.update(now),
    ...more,
  };
  const exploring =
    flags.workers > 1
      ? exploreInWorkers({ module: SCENARIO_MODULE, data: source }, { ...options, workers: flags.workers })
      : exploreAsync(scenario, { ...options, ...stackOf(flags.through) });
  return exploring
    .catch((error: unknown) => {
      throw scenarioFailure(name, error);
    })
    .finally(() => progress.end());
}

function resultFileOf(name: string, flags: ExploreFlags): ResultFile | undefined {
  if (flags.resume !== undefined) return ResultFile.resume(flags.resume, name, flags);
  return flags.out === undefined ? undefined : ResultFile.create(flags.out, name, flags);
}
