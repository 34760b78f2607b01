import { runAsync, type Work } from '../core/index.ts';
import type { Exploration } from './exploration.ts';
import type { ExploreOptions } from './explore-options.ts';
import { Plans } from './plans.ts';
import type { ExploreResult } from './result.ts';
import type { Scenario } from './scenario.ts';
import { runSync } from './session.ts';

/**
 * Runs the scenario's workload once and its recovery for every disk that a power cut can leave. Synchronous: so must the
 * scenario be.
 * @throws CodedError EINVAL for a scenario that is none or is asynchronous; whatever `format` or `workload` throws
 */
export function explore<Op, Observation>(
  scenario: Scenario<Op, Observation>,
  options: ExploreOptions = {},
): ExploreResult {
  return runSync(exploreAll(new Plans(scenario as Scenario, options)));
}

/** {@link explore} for a scenario whose members may return promises. Recoveries still run one after another. */
export async function exploreAsync<Op, Observation>(
  scenario: Scenario<Op, Observation>,
  options: ExploreOptions = {},
): Promise<ExploreResult> {
  return runAsync(exploreAll(new Plans(scenario as Scenario, options)));
}

function* exploreAll(plans: Plans): Work<ExploreResult> {
  for (let exploration = plans.next(); exploration !== undefined; exploration = plans.next()) {
    yield* exploration.prepare();
    plans.add(exploration, yield* exploreOne(exploration));
  }
  yield* plans.finish();
  return plans.result;
}

function* exploreOne(exploration: Exploration): Work<ExploreResult> {
  for (let start = exploration.take(); start !== undefined; start = exploration.take()) {
    exploration.add(yield* exploration.run(start));
  }
  return yield* exploration.result();
}
