import { explore } from './explore.ts';
import type { ExploreOptions } from './explore-options.ts';
import type { ExploreResult, Violation } from './result.ts';
import type { Scenario } from './scenario.ts';

export interface ShrinkOptions {
  /** How to explore: all that decides whether a shorter workload still fails. */
  readonly explore?: ExploreOptions;
  /** Workloads to try at most. Default 100. */
  readonly maxWorkloads?: number;
}

/** A failure with nothing left to take away. */
export interface SmallFailure<Step> {
  /** The workload that is left. */
  readonly steps: readonly Step[];
  readonly violation: Violation;
  /** Operations that begin in it: of the workload up to the cut, and of the recoveries. */
  readonly operations: number;
  /** Choices other than "everything persisted, nothing failed". */
  readonly deviations: number;
}

/**
 * Makes the failure of a workload that is a list of steps small: leaves out one step after the other, as long as what
 * is left still fails, then looks for the failure with the fewest deviations. Deterministic.
 * @param scenarioOf makes the scenario of such a list; a list that makes no sense may throw, here or when it is run
 * @returns undefined where the whole list does not fail
 */
export function shrinkSteps<Step, Op, Observation>(
  steps: readonly Step[],
  scenarioOf: (steps: readonly Step[]) => Scenario<Op, Observation>,
  options: ShrinkOptions = {},
): SmallFailure<Step> | undefined {
  const search = new Search(scenarioOf as (steps: readonly Step[]) => Scenario, options);
  const first = search.failureOf(steps);
  if (first === undefined) return undefined;
  let best = { steps, violation: first };
  for (let improved = true; improved; ) {
    improved = false;
    // From the end: what comes after the failure goes first.
    for (let at = best.steps.length - 1; at >= 0; at--) {
      const fewer = best.steps.toSpliced(at, 1);
      const violation = search.failureOf(fewer);
      if (violation === undefined) continue;
      best = { steps: fewer, violation };
      improved = true;
    }
  }
  const violation = search.leastDeviating(best.steps, best.violation);
  return {
    steps: best.steps,
    violation,
    operations: operationsIn(violation),
    deviations: deviationsIn(violation),
  };
}

/** How many choices are other than the first: in the workload, and in all recoveries. */
export function deviationsIn({ plan, levels }: Pick<Violation, 'plan' | 'levels'>): number {
  const lists = [plan, ...levels.map(({ choices }) => choices)];
  return lists.reduce((sum, choices) => sum + choices.filter((value) => value !== 0).length, 0);
}

function operationsIn(violation: Violation): number {
  return violation.history.filter(({ kind }) => kind === 'begin').length;
}

class Search<Step> {
  readonly #scenarioOf: (steps: readonly Step[]) => Scenario;
  readonly #options: ExploreOptions;
  #left: number;

  constructor(scenarioOf: (steps: readonly Step[]) => Scenario, options: ShrinkOptions) {
    this.#scenarioOf = scenarioOf;
    this.#options = options.explore ?? {};
    this.#left = options.maxWorkloads ?? 100;
  }

  failureOf(steps: readonly Step[]): Violation | undefined {
    if (this.#left <= 0) return undefined;
    this.#left--;
    return this.#explore(steps, {})?.violations[0];
  }

  /** The failure of these steps with the fewest deviations after one cut; at most as many as `violation` has. */
  leastDeviating(steps: readonly Step[], violation: Violation): Violation {
    const { strategy = 'exhaustive' } = this.#options;
    if (strategy !== 'exhaustive' && strategy !== 'bounded') return violation;
    let best = violation;
    for (let bound = 0; bound < deviationsIn(best); bound++) {
      for (const other of this.#explore(steps, { strategy: 'bounded', bound })?.violations ?? []) {
        if (deviationsIn(other) < deviationsIn(best)) best = other;
      }
    }
    return best;
  }

  #explore(steps: readonly Step[], change: ExploreOptions): ExploreResult | undefined {
    try {
      return explore(this.#scenarioOf(steps), { ...this.#options, maxViolations: 1, ...change });
    } catch {
      // Steps that make no sense without the ones left out.
      return undefined;
    }
  }
}
