import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeOf, VirtualClock } from '../../src/core/index.ts';
import {
  describeFault,
  explorableFaultKinds,
  formatMedia,
  isPassing,
  type MediaFaultKind,
  type MediaState,
  mediaFaultKinds,
  parseMedia,
  RecordedChoices,
  resolveMedia,
  SimulatedDisk,
} from '../../src/faults/index.ts';
import { afterPowerCut, mended } from '../../src/faults/media.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/media.test.ts';

const filled = (fill: number, sectors = 1) => new Uint8Array(512 * sectors).fill(fill);

/** A disk on which these choices decide; past their end nothing goes wrong. */
function diskWith(kinds: readonly MediaFaultKind[], choices: readonly number[], clock?: VirtualClock): SimulatedDisk {
  const media = { kinds, choices: new RecordedChoices(choices), rotStepBytes: 256 };
  return new SimulatedDisk({ sectorCount: 16, media, ...(clock === undefined ? {} : { clock }) });
}

function readFrom(disk: SimulatedDisk, sector: number, sectors = 1): Uint8Array {
  const target = new Uint8Array(512 * sectors);
  disk.read(sector, target);
  return target;
}

function codeOfRun(run: () => void): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return codeOf(error);
  }
}

function flippedBits(bytes: Uint8Array, fill: number): number {
  return bytes.reduce((sum, byte) => sum + (byte ^ fill).toString(2).replaceAll('0', '').length, 0);
}

describe('each fault does what it says, persists as long as it says, and is counted', () => {
  it('bit-rot: one bit, on every read, over a power cut, until the sector is rewritten', () => {
    const disk = diskWith(['bit-rot'], [2]);
    disk.write(3, filled(7));
    disk.flush();
    const rotten = readFrom(disk, 3);
    expect(flippedBits(rotten, 7)).toBe(1);
    expect(rotten.findIndex((byte) => byte !== 7)).toBe(256);
    expect(readFrom(disk, 3)).toEqual(rotten);
    disk.cut();
    disk.powerOn();
    expect(readFrom(disk, 3)).toEqual(rotten);
    disk.write(3, filled(7));
    expect(readFrom(disk, 3)).toEqual(filled(7));
    expect(disk.counts.media).toEqual({ 'bit-rot': 1 });
  });
  it('latent-error: EIO for every request that covers the sector, until it is rewritten', () => {
    const disk = diskWith(['latent-error'], [1]);
    disk.write(2, filled(1, 3));
    expect(codeOfRun(() => readFrom(disk, 2))).toBe('EIO');
    expect(codeOfRun(() => readFrom(disk, 1, 2))).toBe('EIO');
    expect(readFrom(disk, 3, 2)).toEqual(filled(1, 2));
    disk.write(2, filled(9));
    expect(readFrom(disk, 1, 2).at(-1)).toBe(9);
  });
  it('stale-read: what was there before the last write, until the power fails', () => {
    const disk = diskWith(['stale-read'], [1]);
    disk.write(5, filled(1));
    disk.flush();
    disk.write(5, filled(2));
    disk.flush();
    expect(readFrom(disk, 5)).toEqual(filled(1));
    expect(readFrom(disk, 5)).toEqual(filled(1));
    disk.cut();
    disk.powerOn();
    expect(readFrom(disk, 5)).toEqual(filled(2));
  });
  it('misdirected-read: another place, one bit of the address away, until the power fails', () => {
    const disk = diskWith(['misdirected-read'], [3]);
    disk.write(1, filled(1));
    disk.write(5, filled(5));
    disk.flush();
    expect(readFrom(disk, 1)).toEqual(filled(5));
    disk.cut();
    disk.powerOn();
    expect(readFrom(disk, 1)).toEqual(filled(1));
  });
  it('misdirected-write and lost-write: acknowledged, and not there', () => {
    const misdirected = diskWith(['misdirected-write'], [1]);
    misdirected.write(4, filled(4));
    expect([readFrom(misdirected, 4)[0], readFrom(misdirected, 5)[0]]).toEqual([0, 4]);
    const lost = diskWith(['lost-write'], [0, 1]);
    lost.write(4, filled(4));
    lost.write(4, filled(5));
    lost.flush();
    expect(readFrom(lost, 4)).toEqual(filled(4));
  });
  it('lying-flush: nothing is durable until the next one', () => {
    const disk = diskWith(['lying-flush'], [1]);
    disk.write(0, filled(1));
    disk.flush();
    expect(disk.versionCount(0)).toBe(2);
    disk.flush();
    expect(disk.versionCount(0)).toBe(1);
  });
  it('flush-error: reads still see what was written, and no later flush makes it durable', () => {
    const disk = diskWith(['flush-error'], [1]);
    disk.write(0, filled(1));
    expect(codeOfRun(() => disk.flush())).toBe('EIO');
    disk.flush();
    expect(readFrom(disk, 0)).toEqual(filled(1));
    expect(disk.versionCount(0)).toBe(2);
    disk.write(1, filled(2));
    disk.flush();
    disk.cut();
    disk.powerOn('all-lost');
    expect([readFrom(disk, 0)[0], readFrom(disk, 1)[0]]).toEqual([0, 2]);
  });
  it('read-error and write-error: EIO once, of a write any part may be there', () => {
    const reading = diskWith(['read-error'], [1]);
    reading.write(0, filled(1));
    expect(codeOfRun(() => readFrom(reading, 0))).toBe('EIO');
    expect(readFrom(reading, 0)).toEqual(filled(1));
    for (const [choice, written] of [
      [1, 0],
      [2, 1],
      [3, 3],
    ] as const) {
      const disk = diskWith(['write-error'], [choice]);
      expect(codeOfRun(() => disk.write(4, filled(1, 3)))).toBe('EIO');
      expect([4, 5, 6].filter((sector) => readFrom(disk, sector)[0] === 1).length).toBe(written);
      disk.write(4, filled(2, 3));
      expect(readFrom(disk, 4, 3)).toEqual(filled(2, 3));
    }
  });
  it('hung-request: EIO after the time-out, then for everything until the power fails; the write is in doubt', () => {
    const clock = new VirtualClock();
    const disk = diskWith(['hung-request'], [1], clock);
    expect(codeOfRun(() => disk.write(4, filled(1)))).toBe('EIO');
    expect(clock.monotonicMs()).toBe(30_000);
    expect([() => readFrom(disk, 4), () => disk.flush(), () => disk.write(1, filled(1))].map(codeOfRun)).toEqual([
      'EIO',
      'EIO',
      'EIO',
    ]);
    expect(disk.versionCount(4)).toBe(2);
    disk.cut();
    disk.powerOn();
    disk.flush();
  });
  it('latency-spike: time passes, and nothing else', () => {
    const clock = new VirtualClock();
    const disk = diskWith(['latency-spike'], [1], clock);
    disk.write(0, filled(1));
    expect(clock.monotonicMs()).toBe(1000);
    expect(readFrom(disk, 0)).toEqual(filled(1));
  });
});

it('at most so many faults fire, each only in its zone, and what has not fired is told', () => {
  const always = { choose: () => 1 };
  const disk = new SimulatedDisk({
    sectorCount: 16,
    media: {
      kinds: ['lost-write', 'bit-rot'],
      maxFaults: 2,
      zone: { firstSector: 8, sectorCount: 4 },
      choices: always,
    },
  });
  expect(disk.mediaPending).toEqual(['bit-rot', 'lost-write']);
  for (const sector of [7, 8, 9, 10, 12]) disk.write(sector, filled(1));
  expect([7, 8, 9, 10, 12].filter((sector) => readFrom(disk, sector)[0] === 0)).toEqual([8, 9]);
  expect(disk.counts.media).toEqual({ 'lost-write': 2 });
  expect(disk.mediaPending).toEqual(['bit-rot']);
});

it('a sector that never held anything has nothing to lose', () => {
  const disk = new SimulatedDisk({
    sectorCount: 16,
    media: {
      kinds: ['bit-rot', 'latent-error', 'stale-read', 'misdirected-read', 'read-error'],
      choices: { choose: () => 1 },
    },
  });
  expect(readFrom(disk, 3)).toEqual(filled(0));
});

it('a clone goes its own way', () => {
  const disk = diskWith(['bit-rot'], [1]);
  disk.write(3, filled(7));
  const copy = disk.clone();
  expect(flippedBits(readFrom(disk, 3), 7)).toBe(1);
  expect(readFrom(copy, 3)).toEqual(filled(7));
  expect(copy.counts.media).toEqual({});
});

it('options that make no sense are refused', () => {
  expect(() => resolveMedia({ kinds: [] })).toThrow(/at least one of bit-rot/);
  expect(() => resolveMedia({ kinds: ['rot' as never] })).toThrow(/got string "rot"/);
  expect(() => resolveMedia({ kinds: ['bit-rot', 'rot' as never, 'lost-write'] })).toThrow(/got string "rot"/);
  expect(() => resolveMedia({ kinds: 'bit-rot' as never })).toThrow(TypeError);
  const wrong: [object, RegExp][] = [
    [{ maxFaults: 0 }, /maxFaults/],
    [{ maxFaults: 17 }, /maxFaults/],
    [{ rotStepBytes: 0 }, /rotStepBytes/],
    [{ rotStepBytes: 0.5 }, /rotStepBytes/],
    [{ rotStepBytes: 4097 }, /rotStepBytes/],
    [{ zone: { firstSector: -1, sectorCount: 1 } }, /zone.firstSector/],
    [{ zone: { firstSector: 0, sectorCount: 0 } }, /zone.sectorCount/],
  ];
  for (const [options, message] of wrong) {
    expect(() => resolveMedia({ kinds: ['bit-rot'], ...options })).toThrow(message);
  }
  expect(() => diskWith(['hung-request'], [])).toThrow(/clock/);
  expect(() => diskWith(['bit-rot', 'latency-spike'], [])).toThrow(/clock/);
});

const OPTIONS = 'options have defaults, are put in order, and go through one word';
it(OPTIONS, () => {
  const zone = { firstSector: 0, sectorCount: Number.MAX_SAFE_INTEGER };
  expect(resolveMedia({ kinds: ['bit-rot'] })).toEqual({ kinds: ['bit-rot'], maxFaults: 1, rotStepBytes: 64, zone });
  const property = fc.property(
    fc.subarray([...mediaFaultKinds], { minLength: 1 }),
    fc.record({
      maxFaults: fc.integer({ min: 1, max: 16 }),
      rotStepBytes: fc.integer({ min: 1, max: 4096 }),
      zone: fc.record({ firstSector: fc.nat(), sectorCount: fc.integer({ min: 1 }) }),
    }),
    (kinds, rest) => {
      const resolved = resolveMedia({ kinds: [...kinds, ...kinds].reverse(), ...rest });
      expect(resolved).toEqual({ kinds, ...rest });
      expect(parseMedia(formatMedia(resolved))).toEqual(resolved);
    },
  );
  holdProperty(FILE, OPTIONS, property, { numRuns: 50 });
  for (const text of ['', 'bit-rot', 'bit-rot/x/64/0/9', 'rot/1/64/0/9']) expect(() => parseMedia(text)).toThrow();
});

it('a fault is described in a few words', () => {
  const words = mediaFaultKinds.map((kind) => describeFault({ kind, sector: 4, sectorCount: 3, detail: 9 }));
  expect(words).toEqual([
    'bit rot: bit 1 of byte 1 of sectors 4..6 is flipped',
    "latent error: sectors 4..6 can't be read",
    'stale read: sectors 4..6 reads as before its last write',
    'misdirected read: sectors 4..6 reads from sector 9',
    'misdirected write: sectors 4..6 goes to sector 9',
    'lost write: sectors 4..6 is acknowledged, and not written',
    'lying flush: it makes nothing durable',
    'read error: sectors 4..6, once',
    'write error: sectors 4..6, of which 9 written',
    'flush error: what was in the cache will not be made durable',
    'latency spike',
    'hung request: sectors 4..6 never completes',
  ]);
  const rot = { kind: 'bit-rot', sector: 7, sectorCount: 1, detail: 511 * 8 + 7 } as const;
  expect(describeFault(rot)).toBe('bit rot: bit 7 of byte 511 of sector 7 is flipped');
  const hung = { kind: 'hung-request', sector: 0, sectorCount: 0, detail: 0 } as const;
  expect(describeFault(hung)).toBe('hung request: a flush never completes');
  expect(describeFault({ ...hung, sectorCount: 1 })).toBe('hung request: sector 0 never completes');
});

describe('what is wrong with the medium', () => {
  const active = (kind: MediaFaultKind, sector: number, version: number) => ({
    fault: { kind, sector, sectorCount: 1, detail: 0 },
    version,
  });
  const kinds = ['bit-rot', 'latent-error', 'stale-read', 'misdirected-read'] as const;
  const state: MediaState = {
    fired: 9,
    active: kinds.flatMap((kind) => [active(kind, 3, 1), active(kind, 3, 2), active(kind, 4, 1)]),
    isHung: false,
  };
  const left = ({ active: all }: MediaState) => all.map(({ fault, version }) => [fault.kind, fault.sector, version]);

  it('is mended by a rewrite, but for reads that go elsewhere: of the version written, or of any', () => {
    const all = left(state);
    const isHit = ([kind, sector]: (typeof all)[number]) => kind !== 'misdirected-read' && sector === 3;
    const one = mended(state, 3, 2);
    expect(left(one)).toEqual(all.filter((each) => !(isHit(each) && each[2] === 2)));
    expect(left(mended(state, 3, undefined))).toEqual(all.filter((each) => !isHit(each)));
    expect({ ...one, active: [] }).toEqual({ fired: 9, active: [], isHung: false });
    expect([mended(state, 5, undefined), mended(state, 3, 7)]).toEqual([state, state]);
  });

  it('goes with the power if it was in the controller, and stays if it is on the medium', () => {
    const after = afterPowerCut({ ...state, isHung: true });
    expect([after.fired, after.isHung]).toEqual([9, false]);
    expect(left(after)).toEqual(left(state).filter(([kind]) => kind === 'bit-rot' || kind === 'latent-error'));
    expect(afterPowerCut(state)).toEqual(after);
    expect(afterPowerCut({ fired: 2, active: [], isHung: true })).toEqual({ fired: 2, active: [], isHung: false });
    expect(afterPowerCut(after)).toEqual(after);
  });

  it('is passing where the next power cut may end it', () => {
    expect(mediaFaultKinds.filter(isPassing)).toEqual(['stale-read', 'misdirected-read', 'read-error', 'hung-request']);
  });

  it('can be explored, unless it is only about time', () => {
    expect(mediaFaultKinds.filter((kind) => !explorableFaultKinds.includes(kind))).toEqual(['latency-spike']);
  });
});
