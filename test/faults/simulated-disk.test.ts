import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { codeOf, equalBytes, Sfc32, VirtualClock } from '../../src/core/index.ts';
import {
  ChoiceRecorder,
  chosenLatency,
  type DiskProfile,
  fixedLatency,
  type MediaFaultKind,
  type OperationKind,
  type ProfileName,
  profileOf,
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

describe('a disk that is told to lose power', () => {
  const OPERATIONS: Readonly<Record<OperationKind, (disk: SimulatedDisk) => void>> = {
    read: (disk) => disk.read(3, filled(1, 0)),
    write: (disk) => disk.write(3, filled(1, 7)),
    flush: (disk) => disk.flush(),
    discard: (disk) => disk.discard(3, 1),
    writeZeroes: (disk) => disk.writeZeroes(3, 1),
  };
  const kinds = Object.keys(OPERATIONS) as OperationKind[];

  it.each(kinds)('at the nth %s, before it or in the midst of it, and at no other operation', (kind) => {
    for (const when of ['before', 'during'] as const) {
      const disk = new SimulatedDisk({ sectorCount: 16 });
      disk.scheduleCut({ nth: 3, of: kind, when });
      for (let i = 0; i < 2; i++) for (const each of kinds) OPERATIONS[each](disk);
      for (const each of kinds.filter((other) => other !== kind)) OPERATIONS[each](disk);
      const writes = disk.writeCount;
      expect([disk.powered, disk.cutPending]).toEqual([true, true]);
      expect(catching(() => OPERATIONS[kind](disk))).toBe('EPOWER');
      expect([disk.powered, disk.cutPending, disk.counts.cuts]).toEqual([false, false, 1]);
      const changes = when === 'during' && (kind === 'write' || kind === 'discard' || kind === 'writeZeroes');
      expect(disk.writeCount - writes).toBe(changes ? 1 : 0);
    }
  });

  it('at the next operation of any kind, in the midst of it, if nothing else is said', () => {
    for (const kind of kinds) {
      const disk = new SimulatedDisk({ sectorCount: 16 });
      disk.scheduleCut({ nth: 5 });
      disk.scheduleCut({ nth: 2 });
      disk.write(0, filled(1, 1));
      expect(catching(() => OPERATIONS[kind](disk))).toBe('EPOWER');
      expect(disk.versionCount(3)).toBe(kind === 'write' ? 2 : 1);
    }
    expect(() => new SimulatedDisk({ sectorCount: 16 }).scheduleCut({ nth: 0 })).toThrow(/nth/);
  });

  it('once: a cut that came, or another before it, is not scheduled any more', () => {
    const disk = new SimulatedDisk({ sectorCount: 16 });
    disk.scheduleCut({ nth: 1 });
    disk.cut();
    disk.cut();
    expect([disk.cutPending, disk.counts.cuts]).toEqual([false, 1]);
    disk.powerOn();
    disk.flush();
    expect([disk.powered, disk.counts.cuts]).toEqual([true, 1]);
  });

  it('is asked for nothing by a second powerOn: what is open stays so', () => {
    const disk = new SimulatedDisk({ sectorCount: 16 });
    disk.write(3, filled(1, 1));
    disk.powerOn('all-lost');
    expect(valueAt(disk, 3)).toBe(1);
    disk.cut();
    disk.powerOn('all-kept');
    disk.write(3, filled(1, 2));
    disk.cut();
    disk.powerOn();
    disk.powerOn('all-lost');
    expect([disk.versionCount(3), valueAt(disk, 3)]).toEqual([2, 2]);
  });

  it('is open again with the power, closed or not before', () => {
    const disk = new SimulatedDisk({ sectorCount: 16 });
    disk.close();
    for (const kind of kinds) expect(catching(() => OPERATIONS[kind](disk))).toBe('ECLOSED');
    const twin = disk.clone();
    disk.cut();
    expect(catching(() => disk.flush())).toBe('EPOWER');
    disk.powerOn();
    disk.flush();
    expect(catching(() => twin.flush())).toBe('ECLOSED');
    twin.reopen();
    twin.flush();
  });

  it('refuses places that it does not have', () => {
    const disk = new SimulatedDisk({ sectorCount: 16 });
    for (const operation of [
      () => disk.read(16, filled(1, 0)),
      () => disk.write(15, filled(2, 0)),
      () => disk.discard(16, 1),
      () => disk.writeZeroes(15, 2),
      () => disk.versionCount(16),
    ]) {
      expect(operation).toThrow(/sector/);
    }
    expect(disk.writeCount).toBe(0);
  });

  it('has the features of a disk with a cache, or of one without', () => {
    const features = { flush: true, fua: true, discard: true, writeZeroes: true };
    const disks = [{}, { writeCache: true }, { writeCache: false }].map(
      (options) => new SimulatedDisk({ sectorCount: 16, ...options }),
    );
    expect(disks.map((disk) => disk.features)).toEqual(
      [true, true, false].map((writeCache) => ({ ...features, writeCache })),
    );
    expect(disks.map((disk) => [disk.readOnly, disk.powered])).toEqual(disks.map(() => [false, true]));
  });

  it('without a cache, or with FUA, a write is durable when it returns, a discard is not', () => {
    for (const writeCache of [true, false]) {
      const disk = new SimulatedDisk({ sectorCount: 16, writeCache });
      const dirty: number[] = [];
      const note = () => dirty.push(disk.dirtySectorCount);
      disk.write(0, filled(2, 1), { fua: true });
      note();
      disk.write(2, filled(2, 1), { fua: false });
      note();
      disk.writeZeroes(0, 2);
      note();
      expect(dirty).toEqual(writeCache ? [0, 2, 4] : [0, 0, 0]);
      disk.flush();
      disk.discard(2, 1);
      expect([disk.dirtySectorCount, disk.versionCount(2)]).toEqual([0, 2]);
    }
  });
});

describe('what is counted', () => {
  const CUT = [filled(2, 1), filled(2, 2)] as const;
  /** Two sectors with one durable write and one that is not, cut. */
  function cutDisk(profile: ProfileName = 'nvme-512'): SimulatedDisk {
    const disk = new SimulatedDisk({ sectorCount: 16, profile });
    disk.write(0, CUT[0]);
    disk.flush();
    disk.write(0, CUT[1]);
    disk.cut();
    return disk;
  }
  const nothing = { cuts: 1, lostSectors: 0, tornSectors: 0, tornWrites: 0, damagedPhysicalSectors: 0 };

  it('sectors that hold less than their newest version, and writes of which some are kept and others lost', () => {
    for (const [answers, lostSectors, tornWrites] of [
      [[0, 0], 0, 0],
      [[1, 0], 1, 1],
      [[0, 1], 1, 1],
      [[1, 1], 2, 0],
    ] as const) {
      const disk = cutDisk();
      disk.powerOn(new RecordedChoices(answers));
      for (let i = 0; i < 2; i++) disk.read(0, filled(2, 0));
      expect(disk.counts).toEqual({ ...nothing, lostSectors, tornWrites, delayedOperations: 0, media: {} });
    }
  });

  it('a write is torn once, however often', () => {
    const disk = new SimulatedDisk({ sectorCount: 16 });
    disk.write(0, filled(4, 2));
    disk.cut();
    disk.powerOn(new RecordedChoices([0, 1, 0, 1]));
    disk.read(0, filled(4, 0));
    expect(disk.counts).toMatchObject({ lostSectors: 2, tornWrites: 1 });
  });

  it('each lost write of a sector is lost: one of them may be kept elsewhere', () => {
    const disk = new SimulatedDisk({ sectorCount: 16 });
    disk.write(0, filled(2, 1));
    disk.write(0, filled(2, 2));
    disk.cut();
    // The second write is kept in the first sector; both are lost in the second.
    disk.powerOn(new RecordedChoices([0, 2]));
    disk.read(0, filled(2, 0));
    expect(disk.counts).toMatchObject({ lostSectors: 1, tornWrites: 1 });
  });

  it('a write is torn by what is found between two cuts', () => {
    const disk = cutDisk();
    disk.powerOn(new RecordedChoices([1]));
    disk.read(0, filled(1, 0));
    disk.cut();
    disk.powerOn(new RecordedChoices([0]));
    disk.read(1, filled(1, 0));
    expect(disk.counts).toMatchObject({ cuts: 2, lostSectors: 1, tornWrites: 0 });
  });

  it('sectors torn inside, physical sectors damaged or not', () => {
    const torn = cutDisk('harsh');
    torn.powerOn(new RecordedChoices([1]));
    torn.read(0, filled(1, 0));
    expect(torn.counts).toMatchObject({ lostSectors: 1, tornSectors: 1 });
    const whole = cutDisk('harsh');
    whole.powerOn(new RecordedChoices([8]));
    expect([whole.versionCount(0), valueAt(whole, 0)]).toEqual([9, 1]);
    expect(whole.counts).toMatchObject({ lostSectors: 1, tornSectors: 0 });
    for (const [answer, damagedPhysicalSectors] of [
      [2, 1],
      [0, 0],
    ] as const) {
      const disk = cutDisk('512e');
      disk.powerOn(new RecordedChoices([answer]));
      disk.read(0, filled(1, 0));
      expect(disk.counts).toMatchObject({ damagedPhysicalSectors, lostSectors: 0 });
    }
  });

  it('by a clone on its own from then on', () => {
    const disk = cutDisk();
    disk.powerOn(new RecordedChoices([0, 1]));
    disk.read(0, filled(1, 0));
    const twin = disk.clone();
    twin.read(1, filled(1, 0));
    expect(twin.counts).toMatchObject({ cuts: 1, lostSectors: 1, tornWrites: 1 });
    expect(disk.counts).toMatchObject({ cuts: 1, lostSectors: 0, tornWrites: 0 });
    disk.cut();
    expect([disk.powered, twin.powered, disk.clone().powered]).toEqual([false, true, false]);
    disk.scheduleCut({ nth: 1 });
    expect(disk.clone().cutPending).toBe(false);
  });

  it('operations that took time', () => {
    const clock = new VirtualClock();
    const asked: [OperationKind, number][] = [];
    const latency = {
      latencyMs: (kind: OperationKind, sectorCount: number) => {
        asked.push([kind, sectorCount]);
        return sectorCount;
      },
    };
    const disk = new SimulatedDisk({ sectorCount: 16, clock, latency });
    disk.write(0, filled(3, 1));
    disk.read(0, filled(2, 1));
    disk.writeZeroes(0, 4);
    disk.discard(0, 5);
    disk.flush();
    expect(asked).toEqual([
      ['write', 3],
      ['read', 2],
      ['writeZeroes', 4],
      ['discard', 5],
      ['flush', 0],
    ]);
    expect([clock.monotonicMs(), disk.counts.delayedOperations]).toEqual([14, 4]);
  });
});

describe('faults of the medium of a live disk', () => {
  function diskWith(kinds: readonly MediaFaultKind[], answers: readonly number[], more: object = {}): SimulatedDisk {
    const { writeCache, clock, ...media } = more as { writeCache?: boolean; clock?: VirtualClock };
    return new SimulatedDisk({
      sectorCount: 16,
      ...(writeCache === undefined ? {} : { writeCache }),
      ...(clock === undefined ? {} : { clock }),
      media: { kinds, choices: new RecordedChoices(answers), ...media },
    });
  }

  it('hit zeroing as they hit writing', () => {
    const misdirected = diskWith(['misdirected-write'], [0, 1]);
    misdirected.write(4, filled(2, 1));
    misdirected.writeZeroes(4, 1);
    expect([valueAt(misdirected, 4), valueAt(misdirected, 5)]).toEqual([1, 0]);
    const failing = diskWith(['write-error'], [0, 2]);
    failing.write(4, filled(3, 1));
    expect(catching(() => failing.writeZeroes(4, 3))).toBe('EIO');
    expect([4, 5, 6].map((sector) => valueAt(failing, sector))).toEqual([0, 1, 1]);
    const stale = diskWith(['stale-read'], [1]);
    stale.write(4, filled(1, 1));
    stale.writeZeroes(4, 1);
    stale.write(4, filled(1, 3));
    stale.write(4, filled(1, 3));
    expect(valueAt(stale, 4)).toBe(3);
  });

  it('leave nothing of a request that is lost: it is no write, and makes nothing durable', () => {
    for (const writeCache of [true, false]) {
      const disk = diskWith(['lost-write'], [0, 1, 1], { writeCache, maxFaults: 2 });
      disk.write(4, filled(1, 1));
      const [writes, dirty] = [disk.writeCount, disk.dirtySectorCount];
      disk.write(4, filled(1, 2), { fua: true });
      disk.writeZeroes(4, 1);
      expect([disk.writeCount, disk.dirtySectorCount]).toEqual([writes, dirty]);
      expect(disk.counts.media).toEqual({ 'lost-write': 2 });
      expect(valueAt(disk, 4)).toBe(1);
    }
  });

  it('leave in doubt what failed, even with FUA or without a cache', () => {
    for (const writeCache of [true, false]) {
      for (const act of [
        (disk: SimulatedDisk) => disk.write(4, filled(2, 2), { fua: true }),
        (disk: SimulatedDisk) => disk.writeZeroes(4, 2),
      ]) {
        const disk = diskWith(['write-error'], [0, 3], { writeCache });
        disk.write(4, filled(2, 1), { fua: true });
        expect(catching(() => act(disk))).toBe('EIO');
        expect([4, 5].map((sector) => disk.versionCount(sector))).toEqual([2, 2]);
        expect(disk.dirtySectorCount).toBe(2);
      }
    }
  });

  it('make durable what a FUA write wrote, where it went', () => {
    const disk = diskWith(['misdirected-write'], [1]);
    disk.write(4, filled(1, 9), { fua: true });
    expect([disk.dirtySectorCount, disk.versionCount(5), valueAt(disk, 5)]).toEqual([0, 1, 9]);
  });

  it('are decided anew each time that the power comes back', () => {
    const disk = diskWith(['read-error'], [0, 0, 1]);
    disk.write(4, filled(1, 1));
    for (let i = 0; i < 3; i++) expect(valueAt(disk, 4)).toBe(1);
    disk.cut();
    disk.powerOn();
    expect(valueAt(disk, 4)).toBe(1);
    disk.cut();
    disk.powerOn();
    expect(catching(() => valueAt(disk, 4))).toBe('EIO');
  });

  it('take the time that they are told to', () => {
    for (const [given, spikeMs, timeoutMs] of [
      [{}, 1000, 30_000],
      [{ spikeMs: 7, timeoutMs: 90 }, 7, 90],
    ] as const) {
      const clock = new VirtualClock();
      const disk = diskWith(['latency-spike', 'hung-request'], [2, 1], { clock, maxFaults: 2, ...given });
      disk.write(4, filled(1, 1));
      expect(clock.monotonicMs()).toBe(spikeMs);
      expect(catching(() => disk.flush())).toBe('EIO');
      expect(clock.monotonicMs()).toBe(spikeMs + timeoutMs);
      expect(disk.counts.media).toEqual({ 'latency-spike': 1, 'hung-request': 1 });
    }
  });

  it('take no time if they are none that do', () => {
    const clock = new VirtualClock();
    const disk = diskWith(['lost-write'], [1], { clock });
    disk.write(4, filled(1, 1));
    expect(clock.monotonicMs()).toBe(0);
  });

  it('are remembered by a clone: what was there before, what has fired', () => {
    const disk = diskWith(['stale-read'], [0, 1]);
    disk.write(4, filled(1, 1));
    disk.write(4, filled(1, 2));
    const twin = disk.clone();
    disk.write(4, filled(1, 3));
    // They share what decides.
    expect([valueAt(disk, 4), valueAt(twin, 4)]).toEqual([3, 1]);
    expect([disk.counts.media, twin.counts.media]).toEqual([{}, { 'stale-read': 1 }]);
    expect(new SimulatedDisk({ sectorCount: 16 }).mediaPending).toEqual([]);
  });
});

test('a profile of its own is taken as it is', () => {
  const profile: DiskProfile = {
    ...profiles.harsh,
    name: 'own',
    sectorBytes: 1024,
    physicalSectorBytes: 2048,
    tearStepBytes: 512,
  };
  const disk = new SimulatedDisk({ sectorCount: 16, profile });
  expect([disk.profile, disk.sectorBytes, disk.physicalSectorBytes, disk.sectorCount]).toEqual([
    profile,
    1024,
    2048,
    16,
  ]);
  disk.write(0, filled(1, 1, 1024));
  expect(disk.versionCount(0)).toBe(3);
  for (const none of [null, undefined, 'toString', 5]) expect(() => profileOf(none as never)).toThrow(RangeError);
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
