import { type Clock, systemClock } from '../../core/index.ts';
import { type ExploreOptions, explore, type Scenario, shrinkSteps } from '../../explore/index.ts';
import type { BenchmarkCase } from './bug.ts';
import { storeScenario } from './scenario.ts';
import type { Step } from './store.ts';
import { BENCHMARK_SEED, type BenchmarkStrategy, RANDOM_ON_CONTROLS, RANDOM_ROUND } from './strategies.ts';

export interface BenchmarkOptions {
  /** Recoveries that each strategy has for each case. Default 20,000. */
  readonly budget?: number;
  /** Of the random strategy. Default 1. */
  readonly seed?: number;
  readonly clock?: Clock;
  /** Whether to make failures small. Default true. */
  readonly shrinks?: boolean;
}

/** How one strategy did on one case. */
export interface BenchmarkOutcome {
  readonly found: boolean;
  /** Until it was found, or all that it had. */
  readonly recoveries: number;
  /** It went to its end, or found something, within the budget. */
  readonly finished: boolean;
  readonly elapsedMs: number;
  /** Operations that begin in the smallest failure; null where nothing was found, or nothing was made small. */
  readonly shrunkOperations: number | null;
  /** Choices in it other than "everything persisted, nothing failed". */
  readonly shrunkDeviations: number | null;
  /** What was wrong. */
  readonly message: string | null;
}

const DEFAULT_BUDGET = 20_000;

/** Lets one strategy look for the bug of one case. */
export function runCase(
  theCase: BenchmarkCase,
  strategy: BenchmarkStrategy,
  options: BenchmarkOptions = {},
): BenchmarkOutcome {
  const { clock = systemClock, budget = DEFAULT_BUDGET, shrinks = true } = options;
  const startMs = clock.monotonicMs();
  const search = searchFor(theCase, strategy, options.seed ?? BENCHMARK_SEED, budget);
  const elapsedMs = clock.monotonicMs() - startMs;
  const { found, recoveries, finished, message, exploration } = search;
  const small =
    found && shrinks ? shrinkSteps(theCase.steps, scenarioOf(theCase), { explore: exploration }) : undefined;
  return {
    found,
    recoveries,
    finished,
    elapsedMs,
    shrunkOperations: small?.operations ?? null,
    shrunkDeviations: small?.deviations ?? null,
    message: small?.violation.message ?? message,
  };
}

/** The case's scenario with some of its steps. */
export function scenarioOf(theCase: BenchmarkCase): (steps: readonly Step[]) => Scenario<never, never> {
  const name = `bug-${theCase.id}`;
  const { mayRefuse = false } = theCase;
  return (steps) => storeScenario(theCase.store, steps, { name, mayRefuse }) as Scenario<never, never>;
}

interface SearchResult {
  readonly found: boolean;
  readonly recoveries: number;
  readonly finished: boolean;
  readonly message: string | null;
  /** The exploration that found it, to be repeated. */
  readonly exploration: ExploreOptions;
}

function searchFor(theCase: BenchmarkCase, strategy: BenchmarkStrategy, seed: number, budget: number): SearchResult {
  const scenario = scenarioOf(theCase)(theCase.steps);
  const isRandom = strategy.options.strategy === 'random';
  const cap = isRandom && theCase.isControl ? Math.min(budget, RANDOM_ON_CONTROLS) : budget;
  let recoveries = 0;
  for (let round = 0; ; round++) {
    const exploration: ExploreOptions = {
      ...strategy.options,
      ...(isRandom ? { seed: seed + round, runs: RANDOM_ROUND } : {}),
      maxViolations: 1,
      ...(theCase.media === undefined ? {} : { media: theCase.media }),
    };
    const result = explore(scenario, { ...exploration, maxRecoveries: cap - recoveries });
    recoveries += result.recoveries;
    const [violation] = result.violations;
    const message = violation?.message ?? result.nondeterminism?.message ?? null;
    const found = violation !== undefined || result.nondeterminism !== undefined;
    const isSpent = recoveries >= cap;
    if (result.incompleteReason?.startsWith('no fault'))
      throw new Error(`case ${theCase.id}: ${result.incompleteReason}`);
    if (found || isSpent || !isRandom) return { found, recoveries, finished: found || !isSpent, message, exploration };
  }
}
