import { describe, expect, it } from 'vitest';
import { type BlockDevice, PartitionView } from '../../src/blockdev/index.ts';
import {
  decodeToken,
  type ExploreResult,
  encodeToken,
  explore,
  exploreAsync,
  type Level,
  type Run,
  renderStory,
  replay,
  replayAsync,
  type Scenario,
} from '../../src/explore/index.ts';
import { counter, recordLog, register } from './model-stores.ts';
import { tinyLog } from './tiny-log.ts';

function expectClean(result: ExploreResult) {
  expect(result.violations).toEqual([]);
  expect(result.nondeterminism).toBeUndefined();
  expect(result.incompleteReason).toBeUndefined();
  expect(result).toMatchObject({ complete: true, clean: true, violatingRecoveries: 0 });
}

describe('sound stores are shown sound, completely', () => {
  for (const mode of ['ordered', 'checksummed'] as const) {
    for (const depth of [1, 2, 3]) {
      it(`register, ${mode}, depth ${depth}`, () => expectClean(explore(register(mode), { depth })));
    }
    it(`register, ${mode}, harsh`, () => expectClean(explore(register(mode), { profile: 'harsh' })));
  }
  it('counter, depth 3', () => expectClean(explore(counter(true), { depth: 3 })));
  it('record log, depth 3', () => expectClean(explore(recordLog(true), { depth: 3 })));
});

const defects: [Scenario<never, never>, number][] = [
  [register('ordered', 'no flush before commit'), 1],
  [register('checksummed', 'no checksum'), 1],
  [register('ordered', 'acknowledged before the flush'), 1],
  [counter(false), 2],
  [recordLog(false), 2],
] as unknown as [Scenario<never, never>, number][];

describe('each broken store is found at the depth that its bug needs, and not before', () => {
  for (const [scenario, depth] of defects) {
    it(scenario.name, () => {
      if (depth > 1) expectClean(explore(scenario, { depth: depth - 1 }));
      const result = explore(scenario, { depth });
      expect(result.clean).toBe(false);
      const violation = result.violations[0]!;
      expect(violation.cuts).toBe(depth);
      const story = replay(scenario, violation.token);
      expect(story.violation).toBe(violation.message);
      expect(story.kept).toEqual(violation.kept);
      expect(renderStory(story).at(-1)).toBe(`VIOLATION: ${violation.message}`);
    });

    it(`${scenario.name}: the same through promises`, async () => {
      const later: Scenario<never, never> = {
        ...scenario,
        format: async (device) => scenario.format(device),
        workload: async (device, run) => scenario.workload(device, run),
        recover: async (device, run) => {
          await Promise.resolve();
          return scenario.recover(device, run);
        },
      };
      const [direct, promised] = [explore(scenario, { depth }), await exploreAsync(later, { depth })];
      expect({ ...promised, elapsedMs: 0 }).toEqual({ ...direct, elapsedMs: 0 });
      expect((await replayAsync(later, promised.violations[0]!.token)).violation).toBe(promised.violations[0]!.message);
      expect(() => explore(later, { depth })).toThrow(/exploreAsync/);
    });
  }

  it('512e damages the neighbours of a write: the register that shares a physical sector is lost', () => {
    const result = explore(register('ordered'), { profile: '512e', depth: 1 });
    expect(result.violations[0]?.kept.some(({ kind }) => kind === 'damaged')).toBe(true);
  });
});

it('a cut between an acknowledgement and the next begin is covered, in the workload and in recovery', () => {
  // The first operation is acknowledged without a flush; while the second is in flight the invariant allows its loss.
  const twoOps = (device: BlockDevice, run: Run<string>) => {
    run.begin('first');
    device.write(0, new Uint8Array(512).fill(1));
    run.acknowledge('first');
    run.begin('second');
    device.flush();
    run.acknowledge('second');
  };
  const firstByte = (device: BlockDevice) => {
    const bytes = new Uint8Array(512);
    device.read(0, bytes);
    return bytes[0]!;
  };
  const base: Scenario<string, number> = {
    name: 'early acknowledgement',
    disk: { sectorCount: 8 },
    format() {},
    workload: twoOps,
    recover: firstByte,
    invariant(value, history) {
      let lossAllowed = true;
      for (const { kind } of history) {
        if (kind === 'begin') lossAllowed = true;
        if (kind === 'acknowledge') lossAllowed = false;
      }
      if (value === 0 && !lossAllowed) throw new Error('lost');
    },
  };
  expect(explore(base, { depth: 1 }).violations[0]?.where).toEqual(['between operations, after first']);
  const inRecovery: Scenario<string, number> = {
    ...base,
    workload() {},
    recover(device, run) {
      run.observe(firstByte(device));
      twoOps(device, run);
      return undefined;
    },
  };
  expectClean(explore(inRecovery, { depth: 1 }));
  const { violations } = explore(inRecovery, { depth: 2 });
  expect(violations[0]?.where).toEqual(['at the end', 'in recovery, between operations']);
});

/** Sectors that belong together, overwritten in place. */
function overwritten(sectorCount: number): Scenario<string, boolean> {
  const last = sectorCount * 512 - 1;
  return {
    name: 'overwritten',
    disk: { sectorCount },
    format() {},
    workload(device, run) {
      run.begin('write');
      for (let sector = 0; sector < sectorCount; sector++) device.write(sector, new Uint8Array(512).fill(1));
      device.flush();
      run.acknowledge('write');
    },
    recover(device) {
      const all = new Uint8Array(last + 1);
      device.read(0, all);
      return new Set(all).size === 1;
    },
    invariant(isWhole) {
      if (!isWhole) throw new Error('torn');
    },
  };
}

describe('strategies', () => {
  const broken = register('ordered', 'no flush before commit');
  it('the linear crash of simple tools does not see a missing flush', () => {
    const result = explore(broken, { strategy: 'prefix' });
    expect(result.violations).toEqual([]);
    expect(result).toMatchObject({ complete: false, clean: false });
  });
  it('one deviation shows it; shrinking comes to the same case from any other', () => {
    const bounded = explore(broken, { strategy: 'bounded', bound: 1 });
    const deviations = bounded.violations.map(
      ({ levels }) => levels.flatMap((l) => l.choices).filter((c) => c > 0).length,
    );
    expect(Math.min(...deviations)).toBe(1);
    const random = explore(broken, { strategy: 'random', seed: 7, runs: 200, maxViolations: 50 });
    expect(random.violations.map(({ token }) => token)).toContain(bounded.violations[0]!.token);
  });
  it('the linear crash sees what even writes in order break', () => {
    const inPlace = overwritten(2);
    const result = explore(inPlace, { strategy: 'prefix', depth: 1 });
    expect(result.violations.map(({ where }) => where)).toEqual([['before write 2, write in flight']]);
    // At the start, between the writes, and at the end: one image each.
    expect(result).toMatchObject({ crashPoints: 3, images: 3n, recoveries: 3 });
    expect(replay(inPlace, result.violations[0]!.token).violation).toBe('torn');
  });
  it('torn: the write under way keeps any of its sectors, what is before it all, and recovery is cut in writes too', () => {
    const oneWrite: Scenario<string, boolean> = {
      ...overwritten(2),
      workload(device, run) {
        run.begin('write');
        device.write(0, new Uint8Array(1024).fill(1));
        run.acknowledge('write');
      },
    };
    expect(explore(oneWrite, { strategy: 'prefix', depth: 1 }).violations).toEqual([]);
    const result = explore(oneWrite, { strategy: 'prefix-torn', depth: 1 });
    expect(result.violations.map(({ where }) => where)).toEqual([
      ['in write 1, write in flight'],
      ['in write 1, write in flight'],
    ]);
    // Before it, in it (two sectors, each old or new), and at the end.
    expect(result).toMatchObject({ complete: false, crashPoints: 3, images: 6n, recoveries: 6 });
    expect(replay(oneWrite, result.violations[0]!.token).violation).toBe('torn');
    const inRecovery: Scenario<string, boolean> = {
      ...oneWrite,
      workload() {},
      recover(device, run) {
        run.observe(oneWrite.recover(device, run) as boolean);
        oneWrite.workload(device, run);
        return undefined;
      },
    };
    expect(explore(inRecovery, { strategy: 'prefix' }).violations).toEqual([]);
    expect(explore(inRecovery, { strategy: 'prefix-torn' }).violations[0]?.where).toEqual([
      'at the end',
      'in recovery, in a write',
    ]);
  });
  it('random repeats with its seed', () => {
    const options = { strategy: 'random', seed: 3, runs: 50 } as const;
    expect({ ...explore(broken, options), elapsedMs: 0 }).toEqual({ ...explore(broken, options), elapsedMs: 0 });
  });
  it('no sample, bound or limit reads as complete', () => {
    const sound = register('ordered');
    for (const options of [
      { strategy: 'random', runs: 1000 },
      { strategy: 'bounded', bound: 100 },
      { strategy: 'prefix' },
      { strategy: 'prefix-torn' },
      { maxRecoveries: 3 },
      { timeMs: 0 },
    ] as const) {
      const result = explore(sound, options);
      expect(result).toMatchObject({ complete: false, clean: false });
      expect(result.incompleteReason).toBeTruthy();
    }
  });
});

describe('shrinking', () => {
  const options = { strategy: 'random', seed: 5, runs: 300, maxViolations: 40 } as const;
  const deviationsOf = (levels: readonly Level[]) => levels.flatMap((level) => level.choices).filter((c) => c > 0);

  const cases = [...defects, [overwritten(8), 1] as unknown as (typeof defects)[number]];

  it.each(cases)('leaves no deviation and no cut that $name can do without', (scenario, depth) => {
    const result = explore(scenario, { ...options, depth });
    expect(result.violations.length).toBeGreaterThan(0);
    for (const { token, levels } of result.violations) {
      const fails = (candidate: readonly Level[]) => {
        try {
          return replay(scenario, encodeToken({ ...decodeToken(token), levels: candidate })).violation !== undefined;
        } catch {
          return false; // A list whose later choices fit no more.
        }
      };
      expect(fails(levels)).toBe(true);
      for (const [i, level] of levels.entries()) {
        const others = levels.filter((_, at) => at !== i);
        if (others.length > 0) expect(fails([...others.slice(0, -1), { ...others.at(-1)!, cut: -1 }])).toBe(false);
        for (const [at, choice] of level.choices.entries()) {
          if (choice > 0) expect(fails(levels.with(i, { ...level, choices: level.choices.with(at, 0) }))).toBe(false);
        }
      }
    }
  });

  it('makes cases smaller than they were found', () => {
    const sizes = [0, 300].map((shrinkRuns) => {
      const { violations } = explore(overwritten(8), { ...options, depth: 1, shrinkRuns });
      return Math.max(...violations.map(({ levels }) => deviationsOf(levels).length));
    });
    expect(sizes[1]).toBe(1);
    expect(sizes[0]).toBeGreaterThan(4);
  });
});

describe('layers between the scenario and the disk', () => {
  it('change nothing, and are made for each recovery', () => {
    let made = 0;
    const through = (backend: BlockDevice) => {
      made++;
      return new PartitionView(backend, 0, backend.sectorCount);
    };
    const broken = register('checksummed', 'no checksum');
    const [direct, layered] = [explore(broken), explore(broken, { through })];
    expect({ ...layered, elapsedMs: 0 }).toEqual({ ...direct, elapsedMs: 0 });
    expect(made).toBeGreaterThanOrEqual(layered.recoveries + layered.rechecks + 2);
    expect(replay(broken, layered.violations[0]!.token, { through }).violation).toBe(direct.violations[0]!.message);
  });
  it('may fail a recovery, and are then the recovery that failed', () => {
    let made = 0;
    const through = (backend: BlockDevice) => {
      if (++made > 2) throw new Error('no interrupt');
      return backend;
    };
    const result = explore(register('ordered'), { through });
    expect(result.violations[0]?.message).toBe('recovery failed: no interrupt');
    // The workload could not be run again: that takes nothing away from what was found.
    expect(result.unrepeatable).toBe('it throws: no interrupt');
  });
});

describe('what the prototype of the design counted', () => {
  it('4 puts of 4 KiB in frames of 4 KiB', () => {
    const result = explore(tinyLog({ frameSectors: 8, valueBytes: 4096, putCount: 4 }), { depth: 1 });
    // A put is two frames: 8 sectors, and 1 that is not zeros already (the prototype counted the 7 zero ones twice).
    // Points: start, and for each put before flush 1, before flush 2, after the acknowledgement.
    expect(result.images).toBe(1n + 4n * (2n ** 9n + 2n + 1n));
    expectClean(result);
  });
  it('recoveries grow linearly with the size of the value', () => {
    const recoveries = [1, 2, 4].map((n) => {
      const result = explore(tinyLog({ frameSectors: 4, valueBytes: n * 16384, putCount: 1 }), { depth: 1 });
      expectClean(result);
      return result.recoveries;
    });
    expect(recoveries[2]! / recoveries[1]!).toBeLessThan(2.2);
    expect(recoveries[1]! / recoveries[0]!).toBeLessThan(2.2);
  });
});

describe('what is wrong with a scenario is said', () => {
  const sound = register('ordered');
  it('nondeterminism, by its first differing step', () => {
    let calls = 0;
    const drifting: Scenario<number, number> = {
      ...sound,
      recover: (device, run) => {
        device.read(calls++ % 3, new Uint8Array(512));
        return sound.recover(device, run) as number;
      },
    };
    const result = explore(drifting);
    expect(result).toMatchObject({ complete: false, clean: false });
    expect(result.nondeterminism?.message).toMatch(/step 0 .*"read sector 0", then "read sector 1"/);
  });
  it('nondeterminism that only the choices show', () => {
    let calls = 0;
    const log = tinyLog({ frameSectors: 8, valueBytes: 4064, putCount: 1 });
    // Once, in a run that is not run twice, it asks for nothing; 0 is allowed before the acknowledgement.
    const drifting: Scenario<number, number> = {
      ...log,
      recover: (device, run) => (++calls === 45 ? 0 : (log.recover(device, run) as number)),
    };
    const result = explore(drifting, { depth: 1 });
    expect(result.nondeterminism?.message).toMatch(/step 0 .*"read sector 0", then "observe"/);
    expect(result.clean).toBe(false);
  });
  it('a recovery that does not end', () => {
    const endless = {
      ...sound,
      recover: (device: Parameters<typeof sound.recover>[0]) => {
        for (;;) device.read(0, new Uint8Array(512));
      },
    };
    const result = explore(endless, { maxSteps: 100 });
    expect(result.violations[0]?.message).toBe('recovery did not end after 100 device operations');
  });
  it('a recovery that swallows what stops it', () => {
    const deaf: Scenario<number, number> = {
      ...sound,
      recover: (_device, run) => {
        try {
          run.observe(-1);
        } catch {}
        return 0;
      },
    };
    expect(explore(deaf).violations[0]?.message).toMatch(/got -1/);
  });
  it('a recovery that throws', () => {
    const failing = {
      ...sound,
      recover: () => {
        throw new Error('no superblock');
      },
    };
    expect(explore(failing).violations[0]?.message).toBe('recovery failed: no superblock');
  });
  it('a recovery that reports nothing', () => {
    expect(() => explore({ ...sound, recover: () => undefined })).toThrow(/observed nothing/);
  });
  it('an acknowledgement of what has not begun', () => {
    expect(() => explore({ ...sound, workload: (_device, run) => run.acknowledge(1) })).toThrow(/has not begun/);
  });
  it('a missing member', () => {
    expect(() => explore({ ...sound, recover: undefined } as never)).toThrow(/scenario.recover: expected a function/);
  });
});
