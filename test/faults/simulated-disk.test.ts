import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeOf, equalBytes, Sfc32, VirtualClock } from '../../src/core/index.ts';
import {
  ChoiceRecorder,
  chosenLatency,
  fixedLatency,
  type ProfileName,
  profiles,
  RandomChoices,
  RecordedChoices,
  randomLatency,
  SimulatedDisk,
  type SimulatedDiskOptions,
} from '../../src/faults/index.ts';
import { deviceConformance } from '../../src/testing/index.ts';

const profileNames = Object.keys(profiles) as ProfileName[];

function conformance(name: string, options: SimulatedDiskOptions) {
  describe(`conformance: ${name}`, () => {
    const cases = deviceConformance(() => new SimulatedDisk(options), {
      reopen: (device) => {
        device.close();
        (device as SimulatedDisk).reopen();
        return device;
      },
    });
    for (const { name: caseName, skip, run } of cases) {
      if (skip === undefined) it(caseName, run);
      else it.skip(`${caseName} (${skip})`, run);
    }
  });
}
for (const profile of profileNames) conformance(profile, { sectorCount: 777, profile });
conformance('write-through', { sectorCount: 777, writeCache: false });
conformance('1 PiB', { sectorCount: 2 ** 41 });
describe('conformance: flushed data is there after a cut that loses all that it may', () => {
  for (const profile of profileNames) {
    const cases = deviceConformance(() => new SimulatedDisk({ sectorCount: 64, profile }), {
      stepCount: 60,
      reopen: (device) => {
        (device as SimulatedDisk).cut();
        (device as SimulatedDisk).powerOn('all-lost');
        return device;
      },
    });
    for (const { name, skip, run } of cases.filter(({ name: n }) => /reopen/i.test(n))) {
      if (skip === undefined) it(`${profile}: ${name}`, run);
    }
  }
});

const filled = (sectors: number, value: number, sectorBytes = 512) => new Uint8Array(sectors * sectorBytes).fill(value);
function valueAt(disk: SimulatedDisk, sector: number): number {
  const bytes = new Uint8Array(disk.sectorBytes);
  disk.read(sector, bytes);
  return new Set(bytes).size === 1 ? bytes[0]! : -1;
}

describe('a cut', () => {
  it('keeps what was flushed and any version of what was not', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...profileNames),
        fc.array(
          fc.oneof(
            fc.record({ sector: fc.nat({ max: 13 }), value: fc.integer({ min: 1, max: 250 }), fua: fc.boolean() }),
            fc.constant('flush' as const),
          ),
          { maxLength: 30 },
        ),
        fc.nat(),
        (profile, steps, seed) => {
          const disk = new SimulatedDisk({ sectorCount: 16, profile });
          const versions = Array.from({ length: 16 }, () => [0]);
          for (const step of steps) {
            if (step === 'flush') {
              disk.flush();
              for (const list of versions) list.splice(0, list.length - 1);
              continue;
            }
            disk.write(step.sector, filled(2, step.value, disk.sectorBytes), { fua: step.fua });
            for (const sector of [step.sector, step.sector + 1]) {
              if (step.fua) versions[sector] = [step.value];
              else versions[sector]!.push(step.value);
            }
          }
          const group = profiles[profile].damagesPhysicalSector ? 8 : 1;
          const dirty = (sector: number) => {
            const first = sector - (sector % group);
            return versions.slice(first, first + group).some((list) => list.length > 1);
          };
          disk.cut();
          disk.powerOn({ seed });
          for (let sector = 0; sector < 16; sector++) {
            const value = valueAt(disk, sector);
            if (value >= 0) expect(versions[sector]).toContain(value);
            else
              expect(profile === '512e' ? dirty(sector) : profile === 'harsh' && versions[sector]!.length > 1).toBe(
                true,
              );
            // It has settled: read again, and after another cut, it is the same.
            const again = new Uint8Array(disk.sectorBytes);
            const first = again.slice();
            disk.read(sector, first);
            disk.cut();
            disk.powerOn('all-lost');
            disk.read(sector, again);
            expect(equalBytes(again, first)).toBe(true);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it('loses something, sometimes, under every profile: the property above is not blind', () => {
    for (const profile of profileNames) {
      const outcomes = new Set<number>();
      for (let seed = 0; seed < 40; seed++) {
        const disk = new SimulatedDisk({ sectorCount: 16, profile });
        disk.write(0, filled(1, 9, disk.sectorBytes));
        disk.cut();
        disk.powerOn({ seed });
        outcomes.add(valueAt(disk, 0));
      }
      expect(outcomes).toContain(0);
      expect(outcomes).toContain(9);
      expect(outcomes.has(-1)).toBe(profile === '512e' || profile === 'harsh');
    }
  });

  it('stops everything until the power is back', () => {
    const disk = new SimulatedDisk({ sectorCount: 16 });
    disk.cut();
    for (const operation of [
      () => disk.read(0, new Uint8Array(512)),
      () => disk.write(0, new Uint8Array(512)),
      () => disk.flush(),
      () => disk.discard(0, 1),
      () => disk.writeZeroes(0, 1),
    ]) {
      expect(catching(operation)).toBe('EPOWER');
    }
    disk.powerOn();
    disk.flush();
    expect(disk.counts.cuts).toBe(1);
  });

  it('comes when it is scheduled, and leaves the request in flight in doubt', () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const disk = new SimulatedDisk({ sectorCount: 16 });
      disk.write(0, filled(3, 1));
      disk.flush();
      disk.scheduleCut({ nth: 2, of: 'write' });
      disk.write(8, filled(1, 5));
      disk.flush();
      expect(disk.cutPending).toBe(true);
      expect(catching(() => disk.write(0, filled(3, 2)))).toBe('EPOWER');
      expect(disk.cutPending).toBe(false);
      disk.powerOn({ seed });
      expect(valueAt(disk, 8)).toBe(5);
      const kept = [0, 1, 2].map((sector) => valueAt(disk, sector)).join('');
      outcomes.add(kept);
      expect(disk.counts.tornWrites).toBe(new Set(kept).size - 1);
    }
    expect(outcomes.size).toBe(8);
  });

  const inFlight: [name: string, writeCache: boolean, (disk: SimulatedDisk) => void, reads: number[]][] = [
    ['a write', true, (disk) => disk.write(0, filled(2, 2)), [1, 2]],
    ['a FUA write', true, (disk) => disk.write(0, filled(2, 2), { fua: true }), [1, 2]],
    ['a write-through', false, (disk) => disk.write(0, filled(2, 2)), [1, 2]],
    ['a write zeroes', true, (disk) => disk.writeZeroes(0, 2), [1, 0]],
    ['a write zeroes of a disk without a cache', false, (disk) => disk.writeZeroes(0, 2), [1, 0]],
    ['a discard', true, (disk) => disk.discard(0, 2), [1, 0]],
    ['a flush', true, (disk) => disk.flush(), [1]],
    ['a read', true, (disk) => disk.read(0, filled(2, 0)), [1]],
  ];
  it.each(inFlight)('in the midst of %s: each of its sectors is old or new, nothing else is touched', (...row) => {
    const [, writeCache, operation, reads] = row;
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const disk = new SimulatedDisk({ sectorCount: 16, writeCache });
      disk.write(0, filled(4, 1));
      disk.flush();
      disk.scheduleCut({ nth: 1 });
      expect(catching(() => operation(disk))).toBe('EPOWER');
      disk.powerOn({ seed });
      outcomes.add(`${valueAt(disk, 0)}${valueAt(disk, 1)}`);
      expect([valueAt(disk, 2), valueAt(disk, 3)]).toEqual([1, 1]);
    }
    expect([...outcomes].sort()).toEqual(reads.flatMap((a) => reads.map((b) => `${a}${b}`)).sort());
  });

  it('during a flush promises nothing; before a write keeps it away', () => {
    const disk = new SimulatedDisk({ sectorCount: 16 });
    disk.write(0, filled(1, 1));
    disk.scheduleCut({ nth: 1, of: 'flush' });
    expect(catching(() => disk.flush())).toBe('EPOWER');
    disk.powerOn('all-lost');
    expect(valueAt(disk, 0)).toBe(0);
    disk.scheduleCut({ nth: 1, of: 'write', when: 'before' });
    expect(catching(() => disk.write(0, filled(1, 7)))).toBe('EPOWER');
    disk.powerOn('all-kept');
    expect(valueAt(disk, 0)).toBe(0);
  });

  it('keeps a prefix of the writes, where asked to, even of a value that came back', () => {
    for (const [writesKept, expected] of [
      [0, '00'],
      [1, '10'],
      [2, '12'],
      [3, '32'],
      [4, '12'],
    ] as const) {
      const disk = new SimulatedDisk({ sectorCount: 16 });
      disk.write(0, filled(1, 1));
      disk.write(1, filled(1, 2));
      disk.write(0, filled(1, 3));
      disk.write(0, filled(1, 1));
      expect(disk.writeCount).toBe(4);
      disk.cut();
      disk.powerOn({ writesKept });
      expect(`${valueAt(disk, 0)}${valueAt(disk, 1)}`).toBe(expected);
    }
  });

  it('is repeated by the choices that were recorded', () => {
    fc.assert(
      fc.property(fc.nat(), fc.constantFrom(...profileNames), (seed, profile) => {
        const disk = new SimulatedDisk({ sectorCount: 16, profile });
        disk.write(0, filled(8, 1, disk.sectorBytes));
        disk.write(4, filled(8, 2, disk.sectorBytes));
        disk.cut();
        const twin = disk.clone();
        const recorder = new ChoiceRecorder(new RandomChoices(new Sfc32(seed)));
        const [one, other] = [filled(16, 0, disk.sectorBytes), filled(16, 0, disk.sectorBytes)];
        disk.powerOn(recorder);
        disk.read(0, one);
        twin.powerOn(new RecordedChoices(recorder.values));
        twin.read(0, other);
        expect(equalBytes(other, one)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

describe('a disk of 1 PiB', () => {
  it('is cut like any other, damage far out included', () => {
    const disk = new SimulatedDisk({ sectorCount: 2 ** 41, profile: '512e' });
    const far = 2 ** 41 - 8;
    disk.write(far + 3, filled(1, 4));
    disk.flush();
    disk.write(far + 2, filled(1, 9));
    const twin = disk.clone();
    disk.cut();
    disk.powerOn(new RecordedChoices([1]));
    expect([0, 2, 3, 7].map((i) => valueAt(disk, far + i))).toEqual([-1, -1, -1, -1]);
    expect(disk.clone().counts).toMatchObject({ cuts: 1, damagedPhysicalSectors: 1 });
    expect(valueAt(disk.clone(), far)).toBe(-1);
    twin.cut();
    twin.powerOn(new RecordedChoices([1]));
    expect([2, 3, 7].map((i) => valueAt(twin, far + i))).toEqual([0, 4, 0]);
    twin.writeZeroes(0, 2 ** 41);
    expect(valueAt(twin, far + 3)).toBe(0);
  });
});

describe('memory', () => {
  it('is reused: a disk that is rewritten for ever does not grow', () => {
    const disk = new SimulatedDisk({ sectorCount: 64, profile: 'harsh' });
    const pattern = filled(8, 0);
    const round = (i: number) => {
      new Sfc32(i).fill(pattern);
      disk.write(i % 40, pattern, { fua: i % 3 === 0 });
      if (i % 5 === 0) disk.flush();
    };
    for (let i = 0; i < 500; i++) round(i);
    const before = disk.memoryVersions;
    for (let i = 500; i < 5000; i++) round(i);
    expect(disk.memoryVersions).toBeLessThan(before * 1.5);
  });
});

describe('latency moves the virtual clock', () => {
  it('fixed', () => {
    const clock = new VirtualClock();
    const disk = new SimulatedDisk({ sectorCount: 16, clock, latency: fixedLatency({ write: 2, flush: 10 }) });
    disk.write(0, filled(1, 1));
    disk.flush();
    disk.read(0, filled(1, 1));
    expect(clock.monotonicMs()).toBe(12);
    expect(disk.counts.delayedOperations).toBe(2);
  });
  it('random within its bounds, and chosen', () => {
    const clock = new VirtualClock();
    const drawn = new SimulatedDisk({ sectorCount: 16, clock, latency: randomLatency(new Sfc32(1), 5, 6) });
    for (let i = 0; i < 100; i++) drawn.flush();
    expect(clock.monotonicMs()).toBeGreaterThan(500);
    expect(clock.monotonicMs()).toBeLessThan(600);
    const before = clock.monotonicMs();
    const latency = chosenLatency(new RecordedChoices([0, 1]), [0, 300]);
    const chosen = new SimulatedDisk({ sectorCount: 16, clock, latency });
    chosen.flush();
    chosen.flush();
    expect(clock.monotonicMs() - before).toBeCloseTo(300);
  });
  it('needs a clock', () => {
    expect(() => new SimulatedDisk({ sectorCount: 16, latency: fixedLatency({}) })).toThrow(/clock/);
  });
});

function catching(operation: () => void): string | undefined {
  try {
    operation();
  } catch (error) {
    return codeOf(error);
  }
  return undefined;
}
