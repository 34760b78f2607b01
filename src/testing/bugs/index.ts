import type { BenchmarkCase } from './bug.ts';
import { cutBugs, cutControls } from './catalogue-cuts.ts';
import { mediaBugs, mediaControls } from './catalogue-media.ts';

export type { BenchmarkCase, BugFamily } from './bug.ts';
export { type BenchmarkOptions, type BenchmarkOutcome, runCase, scenarioOf } from './run.ts';
export type { Found, OpenStore, Step, Store } from './store.ts';
export { type BenchmarkStrategy, benchmarkStrategies, type StrategyId } from './strategies.ts';

/** Every bug by its number, then the sound stores. */
export const benchmarkCases: readonly BenchmarkCase[] = [
  ...cutBugs,
  ...mediaBugs,
  ...cutControls,
  ...mediaControls,
].sort(byNumber);

function byNumber(a: BenchmarkCase, b: BenchmarkCase): number {
  return Number(a.isControl) - Number(b.isControl) || (typeof a.id === 'number' ? a.id - (b.id as number) : 0);
}
