import { describe, expect, it } from 'vitest';
import { explore, replay } from '../../src/explore/index.ts';
import { checkpointStore } from '../../src/testing/bugs/checkpoint-store.ts';
import { logStore } from '../../src/testing/bugs/log-store.ts';
import { rootStore } from '../../src/testing/bugs/root-store.ts';
import { scenarioOf } from '../../src/testing/bugs/run.ts';
import { segmentStore } from '../../src/testing/bugs/segment-store.ts';
import { stateFsStore } from '../../src/testing/bugs/statefs-store.ts';
import { walStore } from '../../src/testing/bugs/wal-store.ts';
import {
  type BenchmarkCase,
  type BenchmarkOutcome,
  benchmarkCases,
  benchmarkStrategies,
  runCase,
} from '../../src/testing/index.ts';

const bugs = benchmarkCases.filter(({ isControl }) => !isControl);
const controls = benchmarkCases.filter(({ isControl }) => isControl);
const strategyOf = (name: string) => benchmarkStrategies.find((strategy) => strategy.name === name)!;
const deepest = strategyOf('lazy-recovery-cuts');

const soundStores = [
  stateFsStore(),
  stateFsStore({ commit: 'ordered' }),
  logStore(),
  walStore(),
  rootStore(),
  checkpointStore(),
  segmentStore(),
];
const soundStoreOf = (name: string) => soundStores.find((store) => store.name === name)!;

const soundOutcomes = new Map<string, BenchmarkOutcome>();

/** How the sound store fares with a bug's steps: once for all bugs that share them. */
function soundOutcomeOf(bug: BenchmarkCase): BenchmarkOutcome {
  const key = JSON.stringify([bug.store.name, bug.steps, bug.media]);
  let outcome = soundOutcomes.get(key);
  if (outcome === undefined) {
    // Media faults to the depth of two take long: `powercut bugs` has the controls for them.
    const strategy = bug.media === undefined ? deepest : strategyOf('lazy');
    outcome = runCase({ ...bug, store: soundStoreOf(bug.store.name) }, strategy, { shrinks: false });
    soundOutcomes.set(key, outcome);
  }
  return outcome;
}

/** Median of the smallest failures, over all bugs. */
const smallest: { operations: number; deviations: number }[] = [];

describe('lazy exploration with cuts in recovery finds every bug, and the bug alone', () => {
  for (const bug of bugs) {
    it(`bug ${bug.id}: ${bug.title}`, () => {
      const outcome = runCase(bug, deepest);
      expect(outcome.message).not.toBeNull();
      expect(outcome).toMatchObject({ found: true, finished: true });
      smallest.push({ operations: outcome.shrunkOperations!, deviations: outcome.shrunkDeviations! });
      expect(soundOutcomeOf(bug)).toMatchObject({ found: false, finished: true, message: null });
    });
  }
  it('the median smallest failure has at most 3 operations and at most 2 deviations', () => {
    const medianOf = (numbers: number[]) => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
    expect(smallest.length).toBe(bugs.length);
    expect(medianOf(smallest.map(({ operations }) => operations))).toBeLessThanOrEqual(3);
    expect(medianOf(smallest.map(({ deviations }) => deviations))).toBeLessThanOrEqual(2);
  });
});

describe('no strategy raises an alarm on a sound store', () => {
  for (const control of controls) {
    it(`${control.id}`, () => {
      const exact = control.media === undefined ? deepest : strategyOf('lazy');
      for (const strategy of control.media === undefined ? benchmarkStrategies : [exact]) {
        const outcome = runCase(control, strategy, { budget: strategy === exact ? 20_000 : 50 });
        expect([strategy.name, outcome.found, outcome.message]).toEqual([strategy.name, false, null]);
        if (strategy === exact) expect(outcome.finished).toBe(true);
      }
    });
  }
});

describe('the strategies differ', () => {
  it('a missing flush is invisible to writes that persist in order, and one lost sector shows it', () => {
    const bug = bugs.find(({ id }) => id === 1)!;
    expect(runCase(bug, strategyOf('prefix')).found).toBe(false);
    expect(runCase(bug, strategyOf('prefix-torn')).found).toBe(false);
    expect(runCase(bug, strategyOf('bounded-1'))).toMatchObject({ found: true, shrunkDeviations: 1 });
  });
  it('a replay that is not idempotent takes a cut in recovery', () => {
    const bug = bugs.find(({ id }) => id === 17)!;
    expect(runCase(bug, strategyOf('lazy')).found).toBe(false);
    expect(runCase(bug, deepest).found).toBe(true);
  });
  it('two superblocks in one flush window take two torn sectors', () => {
    const bug = bugs.find(({ id }) => id === 22)!;
    expect(runCase(bug, strategyOf('bounded-1')).found).toBe(false);
    expect(runCase(bug, strategyOf('bounded-2')).found).toBe(true);
  });
  it('what a budget cut short says so, and the random one repeats with its seed', () => {
    const bug = bugs.find(({ id }) => id === 4)!;
    expect(runCase(bug, deepest, { budget: 10 })).toMatchObject({ found: false, finished: false, recoveries: 10 });
    const random = () => ({ ...runCase(bug, strategyOf('random'), { seed: 5 }), elapsedMs: 0 });
    expect(random()).toEqual(random());
  });
});

it('there are all 40, each once', () => {
  expect(bugs.map(({ id }) => id)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  expect(bugs.filter(({ family }) => family === 'M').map(({ id }) => id)).toEqual([
    8, 9, 15, 16, 28, 29, 30, 32, 33, 34, 36,
  ]);
});

it('a failure of the benchmark replays from its token', () => {
  const bug = bugs.find(({ id }) => id === 12)!;
  const scenario = scenarioOf(bug)(bug.steps);
  const [violation] = explore(scenario, { depth: 2, maxViolations: 1 }).violations;
  expect(replay(scenario, violation!.token).violation).toBe(violation!.message);
});
