import { describe, expect, it } from 'vitest';
import { codeOf, VirtualClock } from '../../src/core/index.ts';
import {
  describeFault,
  formatMedia,
  type MediaFaultKind,
  mediaFaultKinds,
  parseMedia,
  RecordedChoices,
  resolveMedia,
  SimulatedDisk,
} from '../../src/faults/index.ts';

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

it('options that make no sense are refused, and go through one word', () => {
  expect(() => resolveMedia({ kinds: [] })).toThrow(/at least one of bit-rot/);
  expect(() => resolveMedia({ kinds: ['rot' as never] })).toThrow(/got string "rot"/);
  expect(() => resolveMedia({ kinds: 'bit-rot' as never })).toThrow(TypeError);
  expect(() => resolveMedia({ kinds: ['bit-rot'], maxFaults: 0 })).toThrow(/maxFaults/);
  expect(() => resolveMedia({ kinds: ['bit-rot'], rotStepBytes: 0.5 })).toThrow(/rotStepBytes/);
  expect(() => diskWith(['hung-request'], [])).toThrow(/clock/);
  const resolved = resolveMedia({ kinds: ['lost-write', 'bit-rot'], maxFaults: 3 });
  expect(resolved.kinds).toEqual(['bit-rot', 'lost-write']);
  expect(parseMedia(formatMedia(resolved))).toEqual(resolved);
  for (const text of ['', 'bit-rot', 'bit-rot/x/64/0/9', 'rot/1/64/0/9']) expect(() => parseMedia(text)).toThrow();
  for (const kind of mediaFaultKinds) {
    expect(describeFault({ kind, sector: 1, sectorCount: 2, detail: 9 })).toMatch(
      new RegExp(`^${kind.replace('-', ' ')}`),
    );
  }
});
