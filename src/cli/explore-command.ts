import {
  type ExploreOptions,
  type ExploreResult,
  exploreAsync,
  exploreInWorkers,
  type Unit,
} from '../explore/index.ts';
import { checkTogether, commitOf, type ExploreFlags, exploreOptions, settingsOf } from './explore-flags.ts';
import { exitCode, report, toJson } from './explore-report.ts';
import type { Output } from './output.ts';
import { ProgressLine } from './progress.ts';
import { ResultFile } from './result-file.ts';
import { loadScenario, scenarioFailure } from './scenarios.ts';
import { stackOf } from './stack.ts';
import type { ScenarioSource } from './worker-scenario.ts';

const SCENARIO_MODULE = new URL(
  import.meta.url.endsWith('.ts') ? './worker-scenario.ts' : './worker-scenario.js',
  import.meta.url,
).href;

/** Runs `powercut explore`. @returns the exit code */
export async function runExplore(name: string, flags: ExploreFlags, output: Output): Promise<number> {
  checkTogether(flags);
  const file = resultFileOf(name, flags);
  const done = flags.resume === undefined ? [] : (file?.units ?? []);
  try {
    const onUnit = (unit: Unit): void => file?.append(unit);
    const result = await exploreHere(name, flags, output, { done, ...(file === undefined ? {} : { onUnit }) });
    if (flags.json) output.out(`${JSON.stringify(toJson(result, flags))}\n`);
    else report(result, name, flags, output);
    return exitCode(result, flags);
  } finally {
    file?.close();
  }
}

/** Explores the scenario of that name with these flags, with progress; `more` is passed on. */
export async function exploreHere(
  name: string,
  flags: ExploreFlags,
  output: Output,
  more: ExploreOptions,
): Promise<ExploreResult> {
  const source: ScenarioSource = {
    name,
    commit: commitOf(flags),
    sizeBytes: flags.size,
    broken: flags.break,
    through: flags.through,
  };
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
    flags.workers > 1 && flags.faults === undefined
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
