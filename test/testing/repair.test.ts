import { describe, expect, test } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { type ExploreResult, explore, type Scenario } from '../../src/explore/index.ts';
import { fsck } from '../../src/statefs/index.ts';
import {
  bootControl,
  compaction,
  deviceKey,
  regionReuse,
  repairBreaks,
  repairCases,
  repairScenario,
  type StateFsWorkload,
  stateFsScenario,
  transaction,
} from '../../src/testing/index.ts';

function expectClean(result: ExploreResult): void {
  expect(result.violations).toEqual([]);
  expect(result).toMatchObject({ complete: true, clean: true });
}

function expectCaught(result: ExploreResult, message: RegExp): void {
  expect(result.violations.map((violation) => violation.message).join('\n')).toMatch(message);
}

describe('fsck --repair, cut at any point, two cuts deep', () => {
  test.each(repairCases)('after the loss of: %s', (damage) => {
    const result = explore(repairScenario(damage));
    expectClean(result);
    // The repair writes, and was cut while it did.
    expect(result.images).toBeGreaterThan(BigInt(result.crashPoints));
  });

  test('without flushes, what was repaired is damaged again', () => {
    const forgetful = (disk: BlockDevice): BlockDevice =>
      Object.create(disk, {
        read: { value: (sector: number, target: Uint8Array) => disk.read(sector, target) },
        write: { value: (sector: number, source: Uint8Array) => disk.write(sector, source) },
        flush: { value: () => {} },
      });
    expectCaught(explore(repairScenario('payload'), { through: forgetful }), /\/state\/extent/);
  });

  test('a lost superblock replaced by the predecessor of the other loses what its life had written', () => {
    expectCaught(
      explore(repairScenario('superblock-newer', repairBreaks['new-life'])),
      /expected \d+ bytes.*got nothing/,
    );
  });
});

/** The scenario, with a check and a repair before each of its recoveries. */
function behindFsck(
  workload: StateFsWorkload,
  allowed: (verdict: string) => boolean,
  seen: Map<string, number>,
): Scenario {
  const scenario = stateFsScenario(workload);
  return {
    ...scenario,
    recover: (device, run) => {
      const { verdict, check } = fsck(device, { repair: true });
      const told = check.findings.map(({ kind, severity }) => `${severity} ${kind}`).join(', ') || 'nothing';
      seen.set(told, (seen.get(told) ?? 0) + 1);
      if (!allowed(verdict)) throw new Error(`fsck takes what a power cut left for damage: ${verdict}, ${told}`);
      return scenario.recover(device, run);
    },
  } as Scenario;
}

describe('what any power cut leaves behind is residue to fsck, and its repair harmless', () => {
  test.each([bootControl, deviceKey, transaction, compaction, regionReuse])('$name', (workload) => {
    const seen = new Map<string, number>();
    expectClean(explore(behindFsck(workload, (verdict) => verdict === 'clean', seen)));
    expect([...seen.keys()].sort()).toEqual(['nothing', 'residue torn-tail']);
  });

  test('on a medium that tears sectors a superblock may be torn too, and is restored', () => {
    const seen = new Map<string, number>();
    const isHarmless = (verdict: string): boolean => verdict === 'clean' || verdict === 'repaired';
    expectClean(explore(behindFsck(deviceKey, isHarmless, seen), { profile: 'harsh', depth: 1 }));
    expect([...seen.keys()].every((told) => !/value|keys|group/.test(told))).toBe(true);
    expect(seen.get('damage superblock-lost')).toBeGreaterThan(0);
  });
});
