import { describe, expect, test } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { DeviceError } from '../../src/core/index.ts';
import { type ExploreOptions, type ExploreResult, explore, replay } from '../../src/explore/index.ts';
import { type DiskProfile, type ProfileName, profiles } from '../../src/faults/index.ts';
import { type CommitMode, soundRules } from '../../src/statefs/index.ts';
import {
  type BrokenRule,
  bootControl,
  brokenRules,
  compaction,
  deviceKey,
  largeValue,
  longTransaction,
  quota,
  regionReuse,
  type StateFsWorkload,
  stateFsScenario,
  transaction,
  workloads,
} from '../../src/testing/index.ts';
import { virtioThrough } from '../../src/virtio/index.ts';

const modes: CommitMode[] = ['ordered', 'checksummed'];
const small = { 'boot-control': bootControl, 'device-key': deviceKey } as const;
type SmallName = keyof typeof small;
const smallNames = Object.keys(small) as SmallName[];

function expectClean(result: ExploreResult): void {
  expect(result.violations).toEqual([]);
  expect(result).toMatchObject({ complete: true, clean: true, incompleteReason: undefined, nondeterminism: undefined });
}

/** Decimal digits less one. */
function powerOfTen(count: bigint): number {
  return String(count).length - 1;
}

describe('the ready-made scenarios, two cuts deep, are complete and clean', () => {
  const cases = smallNames.flatMap((name) => modes.map((commit) => ({ name, commit })));

  test.each(cases)('$name, $commit, through virtio', ({ name, commit }) => {
    const scenario = stateFsScenario(small[name], { commit });
    const through = explore(scenario, { through: virtioThrough() });
    expectClean(through);
    // The wire changes neither what can happen nor how much of it there is.
    const direct = explore(scenario);
    const figures = ({ crashPoints, images, recoveries }: ExploreResult) => ({ crashPoints, images, recoveries });
    expect(figures(through)).toEqual(figures(direct));
  });

  /** The manifest of boot-control stands in frames of four sectors: `harsh` gives each of them nine states. */
  const coarse: DiskProfile = { ...profiles.harsh, name: 'harsh-256', tearStepBytes: 256 };
  const media: [SmallName, ProfileName | DiskProfile][] = smallNames.flatMap((name) => [
    [name, '4kn'],
    [name, '512e'],
    [name, name === 'boot-control' ? coarse : 'harsh'],
  ]);
  const cells = media.flatMap(([name, profile]) =>
    modes.map((commit) => ({ name, profile, commit, medium: typeof profile === 'string' ? profile : profile.name })),
  );

  test.each(cells)('$name, $commit, on $medium', ({ name, profile, commit }) => {
    expectClean(explore(stateFsScenario(small[name], { commit }), { profile }));
  });

  test('boot-control, ordered, on harsh', () => {
    expectClean(explore(stateFsScenario(bootControl, { commit: 'ordered' }), { profile: 'harsh' }));
  });

  test('workloads has them by name', () => {
    expect(Object.keys(workloads).slice(0, 3)).toEqual([...smallNames, 'large-value']);
    for (const [name, make] of Object.entries(workloads)) expect(make().name).toBe(name);
  });
});

describe('transactions', () => {
  test.each(modes)('of three keys, two cuts deep (%s)', (commit) => {
    expectClean(explore(stateFsScenario(transaction, { commit })));
  });

  test.each(modes)('of three keys on 512e, one cut deep (%s)', (commit) => {
    expectClean(explore(stateFsScenario(transaction, { commit }), { profile: '512e', depth: 1 }));
  });

  test('with a commit of two frames: ordered two cuts deep, checksummed one', () => {
    expectClean(explore(stateFsScenario(longTransaction, { commit: 'ordered' })));
    expectClean(explore(stateFsScenario(longTransaction, { commit: 'checksummed' }), { depth: 1 }));
  });
});

describe('compaction', () => {
  test.each(modes)('of twenty live and twenty dead records, there and back, two cuts deep (%s)', (commit) => {
    expectClean(explore(stateFsScenario(compaction, { commit })));
  });

  test.each(['512e', '4kn'] as const)('on %s, one cut deep', (profile) => {
    expectClean(explore(stateFsScenario(compaction), { profile, depth: 1 }));
  });

  test('on harsh, whose superblocks must never be written in one flush window', () => {
    const profile: DiskProfile = { ...profiles.harsh, name: 'harsh-256', tearStepBytes: 256 };
    expectClean(explore(stateFsScenario(compaction), { profile, depth: 1 }));
    const rules = { ...soundRules, barriers: { ...soundRules.barriers, moved: false } };
    const broken = explore(stateFsScenario(compaction, { rules }), { profile, depth: 1, maxViolations: 1 });
    expect(broken.violations).toHaveLength(1);
  });

  test('twice in recovery, back onto the region that the cut left torn', () => {
    expectClean(explore(stateFsScenario(regionReuse)));
  });
});

describe('quotas', () => {
  test.each(modes)('hold at their edges, two cuts deep (%s)', (commit) => {
    expectClean(explore(stateFsScenario(quota, { commit })));
  });
});

describe('a large value', () => {
  function exploreLarge(sizeBytes: number, commit: CommitMode, options: ExploreOptions = {}): ExploreResult {
    const result = explore(stateFsScenario(largeValue(sizeBytes), { commit }), options);
    expectClean(result);
    return result;
  }

  test.each(modes)('of 64 KiB has some 10^40 images, and recoveries that grow with its size (%s)', (commit) => {
    const [a, b, c] = [16, 32, 64].map((size) => exploreLarge(size * 1024, commit)) as [
      ExploreResult,
      ExploreResult,
      ExploreResult,
    ];
    expect(powerOfTen(c.images)).toBeGreaterThanOrEqual(38);
    expect(powerOfTen(c.images)).toBeLessThanOrEqual(42);
    const [first, second] = [b.recoveries - a.recoveries, c.recoveries - b.recoveries];
    if (commit === 'ordered') {
      // The payload is proven by the flush before its commit: not one recovery depends on its size.
      expect([first, second]).toEqual([0, 0]);
    } else {
      expect(first).toBeGreaterThan(100);
      expect(Math.abs(second - 2 * first)).toBeLessThan(0.05 * second);
    }
    // A 64th part of what the images would take, and less.
    expect(c.recoveries).toBeLessThan(3000);
  });

  test.each(modes)('of 1 MiB has some 10^600 images, all covered (%s)', (commit) => {
    const result = exploreLarge(1024 * 1024, commit, { depth: 1 });
    expect(powerOfTen(result.images)).toBeGreaterThanOrEqual(600);
    expect(powerOfTen(result.images)).toBeLessThanOrEqual(650);
    expect(result.recoveries).toBeLessThan(5000);
  });
});

describe('the oracle of the ready-made scenarios', () => {
  const scenario = stateFsScenario(deviceKey);

  /** What is found where the disk is `changed` from the nth time on that a store is opened on it, in each recovery. */
  function foundWith(nth: number, changed: (disk: BlockDevice) => Partial<BlockDevice>): string[] {
    let layers = 0;
    const through = (disk: BlockDevice): BlockDevice => {
      // Formatting and the workload come first.
      if (++layers <= 2) return disk;
      const change = changed(disk);
      let opened = 0;
      const layer: BlockDevice = Object.create(disk, {
        read: {
          value: (sector: number, target: Uint8Array) => {
            if (sector === 0) opened++;
            (opened >= nth ? (change.read ?? disk.read) : disk.read).call(disk, sector, target);
          },
        },
        write: {
          value: (...args: Parameters<BlockDevice['write']>) =>
            (opened >= nth ? (change.write ?? disk.write) : disk.write).apply(disk, args),
        },
        flush: { value: () => disk.flush() },
      });
      return layer;
    };
    const { violations } = explore(scenario, { through, maxViolations: 100, shrinkRuns: 0, depth: 1 });
    return violations.map(({ message }) => message);
  }

  test('takes a disk that is left alone', () => {
    expect(foundWith(1, () => ({}))).toEqual([]);
  });

  test('wants a second recovery to agree', () => {
    // The second opening finds an empty log.
    const forgetting = (disk: BlockDevice) => ({
      read: (sector: number, target: Uint8Array) => {
        disk.read(sector, target);
        if (sector >= 16) target.fill(0);
      },
    });
    expect(foundWith(2, forgetting)).toContain(
      'recovery failed: a second recovery of the same disk gives other content',
    );
  });

  test('wants the store to take a new put', () => {
    const refusing = () => ({
      write: () => {
        throw new DeviceError('EIO', 'no more');
      },
    });
    expect(foundWith(1, refusing)[0]).toMatch(/^recovery failed: .*no more/);
  });

  test('wants the store to keep it', () => {
    expect(foundWith(1, () => ({ write: () => {} }))[0]).toMatch(/^key "\/state\/explore\/probe": expected 1 bytes/);
  });
});

describe('a checker gone blind would be noticed', () => {
  test('boot-control takes so many recoveries, and no fewer', () => {
    const figures = modes.map((commit) => {
      const { crashPoints, momentsCovered, images, imagesByDepth, recoveries } = explore(
        stateFsScenario(bootControl, { commit }),
      );
      return { commit, crashPoints, momentsCovered, images, imagesByDepth, recoveries };
    });
    expect(figures).toMatchInlineSnapshot(`
      [
        {
          "commit": "ordered",
          "crashPoints": 21,
          "images": 290n,
          "imagesByDepth": [
            290n,
            2030n,
          ],
          "momentsCovered": 47,
          "recoveries": 288,
        },
        {
          "commit": "checksummed",
          "crashPoints": 15,
          "images": 544n,
          "imagesByDepth": [
            544n,
            3808n,
          ],
          "momentsCovered": 35,
          "recoveries": 384,
        },
      ]
    `);
  });

  test('a random exploration with a seed is the same every time', () => {
    const run = () => explore(stateFsScenario(bootControl), { strategy: 'random', seed: 7, runs: 200 });
    const [first, second] = [run(), run()];
    expect(first.recoveries).toBe(second.recoveries);
    expect(first.complete).toBe(false);
    expect({ images: first.images, recoveries: first.recoveries }).toMatchInlineSnapshot(`
      {
        "images": 544n,
        "recoveries": 348,
      }
    `);
  });

  const broken = Object.entries(brokenRules).map(([rule, { scenario }]) => ({ rule, scenario }));

  test.each(broken)('$scenario loses its state without $rule, and the token shows how', ({ rule }) => {
    const { scenario: name, commit, rules } = brokenRules[rule] as BrokenRule;
    const scenario = stateFsScenario((workloads[name] as () => StateFsWorkload)(), { commit, rules });
    const result = explore(scenario, { maxViolations: 1, settings: { commit } });
    const [violation] = result.violations;
    if (violation === undefined) throw new Error(`${rule}: nothing was found`);
    expect(result.clean).toBe(false);
    const story = replay(scenario, violation.token);
    expect(story.violation).toBe(violation.message);
    expect(story.levels).toHaveLength(violation.cuts);
  });

  test('the sound store survives the cut that a store without checksums does not', () => {
    const rules = brokenRules['checksum']?.rules ?? soundRules;
    const [violation] = explore(stateFsScenario(bootControl, { rules }), { maxViolations: 1 }).violations;
    const token = violation?.token as string;
    expect(replay(stateFsScenario(bootControl, { rules }), token).violation).toBeDefined();
    // Checksums change nothing that is written, so that the workload and its cuts are the same.
    expect(replay(stateFsScenario(bootControl), token).violation).toBeUndefined();
  });
});
