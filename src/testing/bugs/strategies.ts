import type { ExploreOptions } from '../../explore/index.ts';

/** How one of the benchmark's strategies looks for a violation. */
export interface BenchmarkStrategy {
  readonly name: StrategyId;
  /** For the table's head. */
  readonly short: string;
  readonly what: string;
  readonly options: ExploreOptions;
}

export type StrategyId =
  | 'prefix'
  | 'prefix-torn'
  | 'random'
  | 'bounded-1'
  | 'bounded-2'
  | 'lazy'
  | 'lazy-recovery-cuts';

/** The seed of the random strategy, unless another one is given. */
export const BENCHMARK_SEED = 1;
/** Cuts that the random strategy draws at a time, with a seed of its own each time. */
export const RANDOM_ROUND = 50;
/** Recoveries that it has on a sound store, where it has nothing to find. */
export const RANDOM_ON_CONTROLS = 1000;

/** From what most projects do to what powercut does. */
export const benchmarkStrategies: readonly BenchmarkStrategy[] = [
  {
    name: 'prefix',
    short: 'prefix',
    what: 'whole writes in order, the power failing between two: what most crash tests do',
    options: { strategy: 'prefix', depth: 1 },
  },
  {
    name: 'prefix-torn',
    short: 'torn',
    what: 'the same, and any sectors of the write under way',
    options: { strategy: 'prefix-torn', depth: 1 },
  },
  {
    name: 'random',
    short: 'random',
    what: 'a random version of each sector, a further cut in recovery now and then, with a seed: what simulators do',
    options: { strategy: 'random', depth: 2 },
  },
  {
    name: 'bounded-1',
    short: 'bound 1',
    what: 'at most one sector that did not keep its newest version',
    options: { strategy: 'bounded', bound: 1, depth: 1 },
  },
  {
    name: 'bounded-2',
    short: 'bound 2',
    what: 'at most two',
    options: { strategy: 'bounded', bound: 2, depth: 1 },
  },
  {
    name: 'lazy',
    short: 'lazy',
    what: 'every reachable image, by lazy resolution',
    options: { strategy: 'exhaustive', depth: 1 },
  },
  {
    name: 'lazy-recovery-cuts',
    short: 'lazy+cuts',
    what: 'the same, and a further cut at any point of each recovery',
    options: { strategy: 'exhaustive', depth: 2 },
  },
];
