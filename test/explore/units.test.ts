import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { VirtualClock } from '../../src/core/index.ts';
import {
  type ExploreOptions,
  type ExploreResult,
  explore,
  exploreInWorkers,
  type Scenario,
  type Unit,
} from '../../src/explore/index.ts';
import { mediaFaultKinds } from '../../src/faults/index.ts';
import { explorable } from './explorable.ts';

const MODULE = new URL('./explorable.ts', import.meta.url).href;
const scenarioOf = (data: unknown): Scenario => (explorable(data) as { scenario: Scenario }).scenario;
/** All but the time that it took; the history holds operations by identity, which another thread can't have. */
const withoutTime = (result: ExploreResult): unknown => ({ ...result, elapsedMs: 0 });

/** Runs one shard, and writes its units down as a file would. */
function shardOf(data: unknown, options: ExploreOptions, index: number, count: number): [ExploreResult, Unit[]] {
  const units: Unit[] = [];
  const result = explore(scenarioOf(data), { ...options, shard: { index, count }, onUnit: (unit) => units.push(unit) });
  return [result, units];
}

const ALL_FAULTS = mediaFaultKinds.filter((kind) => kind !== 'latency-spike');
const CASES: readonly [string, unknown, ExploreOptions][] = [
  ['a sound store', { name: 'boot-control' }, {}],
  ['a sound store, three cuts in a row', { name: 'device-key' }, { depth: 3 }],
  ['one without epochs', { name: 'boot-control', broken: 'epoch' }, {}],
  ['one without checksums, every violation', { name: 'device-key', broken: 'checksum' }, { maxViolations: 200 }],
  ['bounded', { name: 'boot-control', broken: 'commit-flush' }, { strategy: 'bounded', bound: 2 }],
  ['random', { name: 'boot-control', broken: 'commit-flush' }, { strategy: 'random', seed: 3, runs: 40 }],
  ['faults of the medium', { name: 'twins' }, { media: { kinds: ALL_FAULTS } }],
  ['two of them together', { name: 'twins' }, { media: { kinds: ['lost-write', 'latent-error'], maxFaults: 2 } }],
  [
    'faults, and a store that knows none',
    { name: 'twins', broken: 'trust' },
    { media: { kinds: ALL_FAULTS }, maxViolations: 30 },
  ],
  ['faults, at random', { name: 'twins' }, { media: { kinds: ['lost-write'] }, strategy: 'random', runs: 40 }],
];
const MEDIA_CASES = CASES.filter(([, , { media }]) => media !== undefined);

describe('threads make no difference', () => {
  // Each thread loads the sources anew: some cases are enough to see that nothing but the order differs.
  test.each([...CASES.slice(1, 3), ...MEDIA_CASES.slice(2, 3)])('%s', async (_name, data, options) => {
    const alone = withoutTime(explore(scenarioOf(data), options));
    expect(withoutTime(await exploreInWorkers({ module: MODULE, data }, { ...options, workers: 2 }))).toEqual(alone);
  });

  it('even where a limit on recoveries ends it', async () => {
    const data = { name: 'device-key' };
    const options = { depth: 3, maxRecoveries: 700 };
    const alone = explore(scenarioOf(data), options);
    expect(alone).toMatchObject({ recoveries: 700, complete: false });
    expect(withoutTime(await exploreInWorkers({ module: MODULE, data }, { ...options, workers: 2 }))).toEqual(
      withoutTime(alone),
    );
  });

  it('and what a thread can not load is said', async () => {
    await expect(exploreInWorkers({ module: MODULE, data: { name: 'none' } }, { workers: 1 })).rejects.toThrow(/none/);
    const source = { module: new URL('./tiny-log.ts', import.meta.url).href, data: {} };
    await expect(exploreInWorkers(source, { workers: 1 })).rejects.toThrow(/explorable: expected/);
    const waiting = exploreInWorkers({ module: MODULE, data: { name: 'waiting' } }, { workers: 2 });
    await expect(waiting).rejects.toThrow(/a promise of the scenario never settles/);
  });
});

describe('shards make no difference', () => {
  test.each(CASES)('%s', (_name, data, options) => {
    const shards = [2, 0, 1].map((index) => shardOf(data, options, index, 3));
    for (const [result] of shards) expect(result.complete).toBe(false);
    const done = shards.flatMap(([, units]) => units);
    const merged = explore(scenarioOf(data), { ...options, done, onlyDone: true });
    expect(withoutTime(merged)).toEqual(withoutTime(explore(scenarioOf(data), options)));
  });

  it('one that is missing is said, and counts for nothing', () => {
    const data = { name: 'boot-control' };
    const [, done] = shardOf(data, {}, 0, 2);
    const half = explore(scenarioOf(data), { done, onlyDone: true });
    expect(half).toMatchObject({ complete: false, clean: false, violatingRecoveries: 0 });
    expect(half.incompleteReason).toMatch(/not all/);
    expect(half.coveredShare).toBeCloseTo(8 / 15);
  });

  it('each has some, though most faults have fewer crash points than there are shards', () => {
    const options: ExploreOptions = { depth: 1, media: { kinds: ['lost-write', 'write-error'] } };
    const sizes = [0, 1, 2, 3, 4, 5].map((index) => shardOf({ name: 'twins' }, options, index, 6)[1].length);
    expect(Math.min(...sizes)).toBeGreaterThan(0);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  });

  it('one that is missing is said where there are faults, too', () => {
    const options: ExploreOptions = { media: { kinds: ['lost-write'] } };
    const [, done] = shardOf({ name: 'twins' }, options, 1, 2);
    const half = explore(scenarioOf({ name: 'twins' }), { ...options, done, onlyDone: true });
    expect(half).toMatchObject({ complete: false, clean: false, violatingRecoveries: 0 });
    expect(half.incompleteReason).toMatch(/not all/);
    expect(half.coveredShare).toBeGreaterThan(0.3);
    expect(half.coveredShare).toBeLessThan(0.7);
  });
});

describe.each([
  ['cuts alone', { name: 'device-key' }, { depth: 3 }],
  ['faults of the medium', { name: 'twins' }, { depth: 2, media: { kinds: ALL_FAULTS } }],
] as [string, unknown, ExploreOptions][])('an interrupted exploration: %s', (_name, data, options) => {
  const whole = explore(scenarioOf(data), options);

  it('goes on where it stopped, any number of times', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 3 }), (limits) => {
        const done: Unit[] = [];
        const onUnit = (unit: Unit) => void done.push(unit);
        let share = 0;
        for (const maxRecoveries of limits) {
          const part = explore(scenarioOf(data), { ...options, done: [...done], maxRecoveries, onUnit });
          expect(part.coveredShare).toBeGreaterThanOrEqual(share);
          share = part.complete ? share : (part.coveredShare as number);
        }
        expect(share).toBeLessThanOrEqual(1);
        const last = explore(scenarioOf(data), { ...options, done });
        expect(withoutTime(last)).toEqual(withoutTime(whole));
      }),
      { numRuns: 5 },
    );
  });

  it('by time loses no more than the unit under way, and says what share it covered', () => {
    const clock = new VirtualClock();
    const done: Unit[] = [];
    const scenario = scenarioOf(data);
    const ticking: Scenario = {
      ...scenario,
      recover: (device, run) => {
        clock.advance(1);
        return scenario.recover(device, run);
      },
    };
    const part = explore(ticking, { ...options, clock, timeMs: 60, onUnit: (unit) => done.push(unit) });
    expect(part).toMatchObject({ complete: false, incompleteReason: 'stopped after 60 ms' });
    expect(part.coveredShare).toBeGreaterThan(0);
    expect(part.coveredShare).toBeLessThan(1);
    expect(part.recoveries).toBeLessThan(whole.recoveries);
    expect(withoutTime(explore(scenario, { ...options, done }))).toEqual(withoutTime(whole));
  });
});

describe('a unit', () => {
  it('is bounded: a large exploration has many', () => {
    const units: Unit[] = [];
    const data = { name: 'device-key' };
    explore(scenarioOf(data), { depth: 3, plain: true, onUnit: (unit) => units.push(unit) });
    expect(units.length).toBeGreaterThan(new Set(units.map(({ point }) => point)).size);
  });

  it('of another exploration is not taken for one of this', () => {
    const foreign = { plan: [], point: 99, start: [], fixed: 0, share: 1 } as unknown as Unit;
    const result = explore(scenarioOf({ name: 'device-key' }), { depth: 1, done: [foreign] });
    expect(result).toMatchObject({ complete: true, clean: true });
  });
});
