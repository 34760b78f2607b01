import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { explore, type Run, type Scenario } from '../../src/explore/index.ts';
import { type DiskProfile, profiles } from '../../src/faults/index.ts';
import { BruteDisk, blankImage, type Image } from './brute-force.ts';
import {
  type Action,
  action,
  allows,
  coarse,
  type Program,
  program,
  recover,
  SECTORS,
  small512e,
  work,
} from './random-scenarios.ts';

interface Verdict {
  observations: Set<number>;
  violated: boolean;
}

/** Cuts at every moment of everything, builds every image, recovers from each. */
function bruteForce(actions: readonly Action[], how: Program, depth: number, profile: DiskProfile): Verdict {
  const verdict: Verdict = { observations: new Set(), violated: false };
  const seen = new Set<string>();
  function attempt(image: Image, acknowledged: number, inFlight: number, left: number): void {
    const key = `${left} ${acknowledged} ${inFlight} ${image.join('')}`;
    if (seen.has(key)) return;
    seen.add(key);
    live(image, acknowledged, inFlight, left, (device, run, counts) => {
      const observation = recover(device, how, run);
      verdict.observations.add(observation);
      if (!allows(observation, counts.acknowledged, counts.inFlight)) verdict.violated = true;
    });
  }
  function live(
    image: Image,
    acknowledged: number,
    inFlight: number,
    left: number,
    body: (device: BlockDevice, run: Run<number>, counts: { acknowledged: number; inFlight: number }) => void,
  ): void {
    const disk = new BruteDisk(image, profile);
    const counts = { acknowledged, inFlight };
    disk.moment = () => {
      if (left === 0) return;
      for (const next of disk.images()) attempt(next, counts.acknowledged, counts.inFlight, left - 1);
    };
    const change = (acks: number, flying: number) => {
      counts.acknowledged += acks;
      counts.inFlight += flying;
      disk.moment();
    };
    body(disk, { begin: () => change(0, 1), acknowledge: () => change(1, -1), fail: () => change(0, -1) }, counts);
    disk.moment();
  }
  live(blankImage(SECTORS), 0, 0, depth, (device, run) => {
    (device as BruteDisk).moment();
    work(device, actions, run);
  });
  return verdict;
}

function lazily(
  actions: readonly Action[],
  how: Program,
  depth: number,
  profile: DiskProfile,
): Verdict & { readonly images: bigint } {
  // A recovery that violates is not followed any further: what is observed is collected without judging.
  const { observations, images } = lazilyOnce(actions, how, depth, profile, false);
  return { observations, images, violated: lazilyOnce(actions, how, depth, profile, true).violated };
}

function lazilyOnce(
  actions: readonly Action[],
  how: Program,
  depth: number,
  profile: DiskProfile,
  judged: boolean,
): Verdict & { readonly images: bigint } {
  const observations = new Set<number>();
  const scenario: Scenario<number, number> = {
    name: 'random',
    disk: { sectorCount: SECTORS },
    format() {},
    workload: (device, run) => work(device, actions, run),
    recover: (device, run) => recover(device, how, run),
    invariant(observation, history) {
      observations.add(observation);
      let [acknowledged, inFlight] = [0, 0];
      for (const { kind } of history) {
        if (kind === 'begin') inFlight++;
        if (kind === 'acknowledge') [acknowledged, inFlight] = [acknowledged + 1, inFlight - 1];
      }
      if (judged && !allows(observation, acknowledged, inFlight)) throw new Error('not allowed');
    },
  };
  const result = explore(scenario, { depth, profile, maxViolations: Number.POSITIVE_INFINITY, shrinkRuns: 0 });
  expect(result.nondeterminism).toBeUndefined();
  expect(result.complete).toBe(true);
  return { observations, images: result.images, violated: result.violatingRecoveries > 0 };
}

describe('lazy exploration finds what building every image finds', () => {
  for (const profile of [profiles['nvme-512'], small512e, coarse]) {
    for (const [depth, numRuns, maxLength] of [
      [1, 300, 8],
      [2, 120, 5],
      [3, 30, 3],
    ] as const) {
      it(`${profile.name}, ${depth} cuts in a row`, () => {
        fc.assert(
          fc.property(fc.array(action, { maxLength }), program, (actions, how) => {
            const lazy = lazily(actions, how, depth, profile);
            const brute = bruteForce(actions, how, depth, profile);
            expect([...lazy.observations].sort()).toEqual([...brute.observations].sort());
            expect(lazy.violated).toBe(brute.violated);
          }),
          { numRuns },
        );
      });
    }
  }
});

it('agree on every verdict of 200 scenarios of up to 4,096 images, all of them built', () => {
  const seen = { scenarios: 0, sound: 0, violated: 0, images: 0n, mostImages: 0n };
  const longActions = fc.array(action, { minLength: 6, maxLength: 14, size: 'max' });
  const profile = fc.constantFrom(profiles['nvme-512'], small512e, coarse, coarse);
  fc.assert(
    fc.property(longActions, program, profile, (actions, how, disk) => {
      const lazy = lazily(actions, how, 1, disk);
      expect(lazy.images).toBeLessThanOrEqual(4096n);
      const brute = bruteForce(actions, how, 1, disk);
      expect([...lazy.observations].sort()).toEqual([...brute.observations].sort());
      expect(lazy.violated).toBe(brute.violated);
      seen.scenarios++;
      seen[lazy.violated ? 'violated' : 'sound']++;
      seen.images += lazy.images;
      if (lazy.images > seen.mostImages) seen.mostImages = lazy.images;
    }),
    { numRuns: 200, seed: 3 },
  );
  // The same every time: what was compared is no matter of chance.
  expect(seen.scenarios).toBe(200);
  expect(seen.mostImages).toBeGreaterThan(1000n);
  expect(seen.images).toBeGreaterThan(10_000n);
  expect(Math.min(seen.sound, seen.violated)).toBeGreaterThan(20);
});

describe('the comparison is not blind', () => {
  const actions: Action[] = [
    { kind: 'write', sector: 0, count: 2, value: 1 },
    { kind: 'write', sector: 2, count: 2, value: 1 },
  ];
  const reading: Program = { seed: 5, stepCount: 5, writes: false };
  const writing: Program = { seed: 3, stepCount: 5, writes: true };
  const countOf = (how: Program, depth: number, profile: DiskProfile) =>
    [lazily, bruteForce].map((search) => search(actions, how, depth, profile).observations.size);

  it('a profile with more images is seen to have them', () => {
    const [lazy, brute] = countOf(reading, 1, profiles['nvme-512']);
    expect(lazy).toBe(brute);
    for (const profile of [small512e, coarse]) {
      const [lazyMore, bruteMore] = countOf(reading, 1, profile);
      expect(lazyMore).toBe(bruteMore);
      expect(bruteMore).toBeGreaterThan(brute!);
    }
  });
  it('another cut leads to observations that were not there before', () => {
    const [shallow] = countOf(writing, 1, profiles['nvme-512']);
    const [deep] = countOf(writing, 2, profiles['nvme-512']);
    expect(deep).toBeGreaterThan(shallow!);
  });
});

describe('images are counted exactly', () => {
  for (const profile of [profiles['nvme-512'], small512e, coarse]) {
    it(profile.name, () => {
      const writes = fc.array(
        action.filter(({ kind }) => kind !== 'begin' && kind !== 'end'),
        { maxLength: 8 },
      );
      fc.assert(
        fc.property(writes, (actions) => {
          const disk = new BruteDisk(blankImage(SECTORS), profile);
          const run: Run<number> = { begin() {}, acknowledge() {}, fail() {} };
          // A point of its own at the very end, whatever the last action was.
          const last: Action = { kind: 'write', sector: 0, count: 1, value: 2 };
          work(disk, [...actions, last], run);
          const scenario: Scenario<number, number> = {
            name: 'count',
            disk: { sectorCount: SECTORS },
            format() {},
            workload: (device) => work(device, [...actions, last], run),
            recover: () => 0,
            invariant() {},
          };
          const result = explore(scenario, { depth: 1, profile });
          expect(result.points.at(-1)?.images).toBe(BigInt(disk.images().length));
          expect(result.images).toBe(result.points.reduce((sum, { images }) => sum + images, 0n));
        }),
        { numRuns: 150 },
      );
    });
  }
});
