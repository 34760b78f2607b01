import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sfc32 } from '../../src/core/index.ts';
import {
  ChoiceRecorder,
  chosenLatency,
  type DiskState,
  fixedLatency,
  ImageCount,
  type OperationKind,
  RecordedChoices,
  randomLatency,
} from '../../src/faults/index.ts';
import { SectorIndex } from '../../src/faults/sector-index.ts';
import { SlotTable } from '../../src/faults/slot-table.ts';
import { checksumOf, VersionIndex } from '../../src/faults/version-index.ts';
import { VersionPool, ZERO_VERSION } from '../../src/faults/version-pool.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/parts.test.ts';

describe('an image count', () => {
  // Small and large, up to products that no number holds, and 1, which changes nothing.
  const factor = fc.constantFrom(1, 2, 3, 63, 64, 65, 4096, 2 ** 40, 2n ** 70n, 2n ** 70n + 1n);
  const stateOf = (factors: readonly (number | bigint)[]) =>
    ({ imagesOfGroup: (group: number) => factors[group]! }) as unknown as DiskState;
  const productOf = (factors: readonly (number | bigint)[]) =>
    factors.reduce<bigint>((all, one) => all * BigInt(one), 1n);
  const indexes = (count: number) => Array.from({ length: count }, (_, i) => i);

  it('is the product of what it was multiplied by, and of what it was not divided by again', () => {
    const property = fc.property(fc.array(factor), fc.array(factor), (kept, taken) => {
      const count = new ImageCount();
      const state = stateOf([...kept, ...taken]);
      count.multiply(state, indexes(kept.length + taken.length));
      expect(count.product).toBe(productOf([...kept, ...taken]));
      count.divide(
        state,
        indexes(taken.length).map((i) => kept.length + i),
      );
      expect(count.product).toBe(productOf(kept));
    });
    holdProperty(FILE, 'is the product of what it was multiplied by', property, { numRuns: 100 });
  });
  it('has clones that go their own way', () => {
    const [count, state] = [new ImageCount(), stateOf([6, 2n ** 70n])];
    count.multiply(state, [0, 1]);
    const clone = count.clone();
    clone.multiply(state, [0, 1]);
    count.divide(state, [1]);
    expect([count.product, clone.product]).toEqual([6n, 36n * 2n ** 140n]);
  });
});

describe('a version index', () => {
  it('finds the newest version with these bytes, whatever shares its checksum or its place', () => {
    // 1024 places at first: checksums that differ by that share one. Beyond 1024 versions it grows.
    const version = fc.record({ byte: fc.nat({ max: 3 }), checksum: fc.constantFrom(0, 1, 1024, 2048, -1024) });
    const property = fc.property(
      fc.array(fc.oneof({ weight: 5, arbitrary: version }, fc.nat({ max: 30 })), { maxLength: 40 }),
      fc.constantFrom(0, 1010, 2040),
      (steps, filled) => {
        const index = new VersionIndex();
        const known: { bytes: Uint8Array; checksum: number }[] = [];
        const push = (bytes: Uint8Array, checksum: number) => {
          known.push({ bytes, checksum });
          index.push(checksum);
        };
        for (let i = 0; i < filled; i++) push(Uint8Array.of(9), i * 512);
        for (const step of steps) {
          if (typeof step !== 'number') {
            push(Uint8Array.of(step.byte), step.checksum);
          } else {
            const size = Math.max(0, index.size - step);
            known.length = size;
            index.truncate(size);
          }
          if (index.size !== known.length) throw new Error(`expected ${known.length} versions, got ${index.size}`);
          for (const byte of [0, 1, 2, 3, 9]) {
            for (const checksum of [0, 1, 1024, 2048, -1024, 512 * 1000]) {
              const wanted = known.findLastIndex((one) => one.bytes[0] === byte && one.checksum === checksum);
              const found = index.find(Uint8Array.of(byte), checksum, (at) => known[at]!.bytes);
              if (found !== wanted) throw new Error(`byte ${byte}, ${checksum}: expected ${wanted}, got ${found}`);
            }
          }
        }
      },
    );
    holdProperty(FILE, 'finds the newest version with these bytes', property, { numRuns: 30 });
  });
  it('keys by a checksum of 32 bits', () => {
    // CRC-32 of "123456789" (ITU-T V.42), as a signed number.
    expect(checksumOf(Buffer.from('123456789'))).toBe(0xcbf4_3926 | 0);
  });
});

describe('a version pool', () => {
  const sector = (value: number) => new Uint8Array(8).fill(value);

  it('that interns gives equal bytes one number, and new bytes the next', () => {
    const property = fc.property(
      fc.array(fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 5 }) }, fc.constant('rewind'), fc.constant('clone'))),
      (steps) => {
        let pool = new VersionPool(8, true);
        const values = [0];
        expect([pool.interns, pool.size]).toEqual([true, 1]);
        for (const step of steps) {
          if (step === 'clone') pool = pool.clone();
          else if (step === 'rewind') {
            values.length = Math.max(1, values.length - 2);
            pool.rewind(values.length);
          } else if (typeof step === 'number') {
            const known = values.indexOf(step);
            // From within a larger buffer and alone.
            const source = Uint8Array.from([...sector(7), ...sector(step)]);
            expect(pool.add(source, 8)).toBe(known >= 0 ? known : values.length);
            if (known < 0) values.push(step);
            expect(pool.add(sector(step), 0)).toBe(values.indexOf(step));
          }
          expect(pool.size).toBe(values.length);
          expect(values.map((_, version) => pool.view(version))).toEqual(values.map(sector));
        }
        pool.reset();
        expect([pool.size, pool.add(sector(0), 0), pool.add(sector(5), 0), pool.add(sector(4), 0)]).toEqual([
          1, 0, 1, 2,
        ]);
      },
    );
    holdProperty(FILE, 'that interns gives equal bytes one number', property, { numRuns: 50 });
  });
  it('that does not gives each sector a number of its own, and released ones again, the latest first', () => {
    const pool = new VersionPool(8, false);
    expect(pool.interns).toBe(false);
    expect([pool.add(sector(3), 0), pool.add(sector(3), 0), pool.add(sector(0), 0)]).toEqual([1, 2, 3]);
    pool.release(ZERO_VERSION);
    pool.release(1);
    pool.release(2);
    const clone = pool.clone();
    for (const one of [pool, clone]) {
      expect([one.add(sector(4), 0), one.add(sector(5), 0), one.add(sector(6), 0), one.size]).toEqual([2, 1, 4, 5]);
      expect([0, 1, 2, 3, 4].map((version) => one.view(version)[7])).toEqual([0, 5, 4, 0, 6]);
    }
    pool.reset();
    expect([pool.add(sector(8), 0), pool.size, clone.view(1)[0]]).toEqual([1, 2, 5]);
    // Released before the reset: forgotten, or number 1 would be given out twice.
    clone.release(1);
    clone.reset();
    expect([clone.add(sector(8), 0), clone.add(sector(9), 0)]).toEqual([1, 2]);
  });
  it('keeps what it has when it grows', () => {
    for (const interns of [true, false]) {
      const pool = new VersionPool(8, interns);
      const contentOf = (i: number) => Uint8Array.of(i, i >> 8, 1, 0, 0, 0, 0, 0);
      for (let i = 1; i <= 600; i++) expect(pool.add(contentOf(i), 0)).toBe(i);
      for (let i = 1; i <= 600; i++) expect(pool.view(i)).toEqual(contentOf(i));
    }
  });
});

describe('a slot table', () => {
  interface Slot {
    readonly top: number;
    readonly list: number;
    readonly flags: number;
    readonly previous: number;
  }
  const SLOTS = 6;
  const value = fc.nat({ max: 255 });
  const change = fc.record({
    slot: fc.nat({ max: SLOTS - 1 }),
    top: value,
    list: value,
    flags: value,
    previous: value,
  });

  function set(table: SlotTable, { slot, top, list, flags, previous }: Slot & { slot: number }): void {
    table.touch(slot);
    table.top[slot] = top;
    table.list[slot] = list;
    table.flags[slot] = flags;
    table.previous[slot] = previous;
  }

  function slotsOf(table: SlotTable, count: number = SLOTS): Slot[] {
    return Array.from({ length: count }, (_, slot) => ({
      top: table.top[slot]!,
      list: table.list[slot]!,
      flags: table.flags[slot]!,
      previous: table.previous[slot]!,
    }));
  }

  it('goes back to each checkpoint, and on again by what was captured', () => {
    const property = fc.property(
      fc.array(change),
      fc.array(fc.array(change), { minLength: 1, maxLength: 4 }),
      (before, scopes) => {
        const table = new SlotTable(SLOTS);
        for (const one of before) set(table, one);
        const states = [slotsOf(table)];
        const checkpoints: number[] = [];
        for (const changes of scopes) {
          checkpoints.push(table.checkpoint());
          for (const one of changes) set(table, one);
          states.push(slotsOf(table));
        }
        for (let at = scopes.length - 1; at >= 0; at--) {
          const delta = table.capture(checkpoints[at]!);
          const last = slotsOf(table);
          expect(new Set(delta.slots)).toEqual(new Set(scopes[at]!.map(({ slot }) => slot)));
          table.undo(checkpoints[at]!);
          expect(slotsOf(table)).toEqual(states[at]);
          table.apply(delta);
          expect(slotsOf(table)).toEqual(last);
          table.undo(checkpoints[at]!);
          expect(slotsOf(table)).toEqual(states[at]);
        }
      },
    );
    holdProperty(FILE, 'goes back to each checkpoint', property, { numRuns: 100 });
  });
  it('journals a slot once, however often it changes after a checkpoint', () => {
    const table = new SlotTable(1);
    const before = table.checkpoint();
    for (let i = 0; i < 5; i++) set(table, { slot: 0, top: i, list: i, flags: i, previous: i });
    expect(table.capture(before).slots).toEqual(Int32Array.of(0));
    expect(table.checkpoint() - before).toBeGreaterThan(0);
    const journaled = table.checkpoint();
    expect(table.checkpoint()).toBe(journaled);
  });
  it('keeps its entries and its journal when it grows, and when that outgrows its memory', () => {
    const table = new SlotTable(2);
    const first = { slot: 1, top: 1, list: 2, flags: 3, previous: 4 };
    set(table, first);
    table.grow(1);
    expect(table.top.length).toBe(2);
    table.grow(3);
    expect(table.top.length).toBe(256);
    table.grow(257);
    expect([table.top, table.list, table.flags, table.previous].map(({ length }) => length)).toEqual([
      512, 512, 512, 512,
    ]);
    table.grow(2000);
    const states = slotsOf(table, 2000);
    const checkpoint = table.checkpoint();
    for (let slot = 0; slot < 2000; slot++) set(table, { slot, top: slot + 7, list: 1, flags: 2, previous: 3 });
    expect(table.capture(checkpoint).slots.length).toBe(2000);
    table.undo(checkpoint);
    expect(slotsOf(table, 2000)).toEqual(states);
    expect(slotsOf(table)[1]).toEqual({ top: 1, list: 2, flags: 3, previous: 4 });
  });
  it('has clones that go their own way, with a journal of their own', () => {
    const table = new SlotTable(SLOTS);
    set(table, { slot: 2, top: 1, list: 2, flags: 3, previous: 4 });
    const own = table.checkpoint();
    set(table, { slot: 2, top: 5, list: 6, flags: 7, previous: 8 });
    const clone = table.clone();
    const before = slotsOf(clone);
    const checkpoint = clone.checkpoint();
    set(clone, { slot: 2, top: 9, list: 9, flags: 9, previous: 9 });
    expect(slotsOf(table)).toEqual(before);
    clone.undo(checkpoint);
    expect(slotsOf(clone)).toEqual(before);
    table.undo(own);
    expect([slotsOf(table)[2], slotsOf(clone)[2]]).toEqual([
      { top: 1, list: 2, flags: 3, previous: 4 },
      { top: 5, list: 6, flags: 7, previous: 8 },
    ]);
    table.clear();
    expect([table.top[2], table.list[2], table.flags[2]]).toEqual([0, 0, 0]);
  });
});

describe('a sector index', () => {
  it('of a small disk has a slot for each sector, and for the rest of the last physical one', () => {
    const index = new SectorIndex(13, 8);
    expect([index.dense, index.slotCount, index.find(12), index.claim(12), index.sectorOf(12)]).toEqual([
      true,
      16,
      12,
      12,
      12,
    ]);
    expect(new SectorIndex(2 ** 20, 1).dense).toBe(true);
  });
  it('of a large disk gives those of a physical sector slots side by side, as they are claimed', () => {
    const index = new SectorIndex(2 ** 20 + 1, 8);
    expect([index.dense, index.slotCount, index.find(9)]).toEqual([false, 0, -1]);
    expect([index.claim(1_000_003), index.claim(9), index.claim(1_000_000), index.claim(15)]).toEqual([3, 9, 0, 15]);
    for (const one of [index, index.clone()]) {
      expect(one.slotCount).toBe(16);
      expect([1_000_003, 8, 15, 16].map((sector) => one.find(sector))).toEqual([3, 8, 15, -1]);
      expect([0, 3, 8, 15].map((slot) => one.sectorOf(slot))).toEqual([1_000_000, 1_000_003, 8, 15]);
    }
    const clone = index.clone();
    expect(clone.claim(16)).toBe(16);
    expect(index.find(16)).toBe(-1);
  });
});

describe('latency', () => {
  const KINDS: readonly OperationKind[] = ['read', 'write', 'flush', 'discard', 'writeZeroes'];

  it('that is fixed is that of the kind, or none', () => {
    const plan = fixedLatency({ write: 0.5, flush: 0 });
    expect(KINDS.map((kind) => plan.latencyMs(kind, 1))).toEqual([0, 0.5, 0, 0, 0]);
  });
  it('that is random lies within its bounds, reaches both, and comes from the seed', () => {
    const plan = randomLatency(new Sfc32(1), 2, 3);
    const drawn = Array.from({ length: 1000 }, () => plan.latencyMs('read', 1));
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(2);
    expect(Math.min(...drawn)).toBeLessThan(2.02);
    expect(Math.max(...drawn)).toBeLessThanOrEqual(3);
    expect(Math.max(...drawn)).toBeGreaterThan(2.98);
    const extremes = [0, 0xffff_ffff];
    const scripted = { nextU32: () => extremes.shift()! } as unknown as Sfc32;
    const ends = randomLatency(scripted, 2, 3);
    expect([ends.latencyMs('read', 1), ends.latencyMs('read', 1)]).toEqual([2, 3]);
    expect(randomLatency(new Sfc32(1), 2, 2).latencyMs('read', 1)).toBe(2);
  });
  it('that is chosen asks for each operation', () => {
    const recorder = new ChoiceRecorder(new RecordedChoices([1, 0]));
    const plan = chosenLatency(recorder, [3, 40]);
    expect([plan.latencyMs('read', 1), plan.latencyMs('write', 2)]).toEqual([40, 3]);
    expect(recorder.choices).toEqual([
      { label: 'latency', options: 2, value: 1 },
      { label: 'latency', options: 2, value: 0 },
    ]);
  });
  it('is refused where it is none, naming which', () => {
    const choices = new RecordedChoices([]);
    expect(() => fixedLatency({ read: 1, flush: -1 })).toThrow(
      /^flush latency: expected a finite number of at least 0, got -1/,
    );
    expect(() => fixedLatency({ read: Number.POSITIVE_INFINITY })).toThrow(RangeError);
    expect(() => fixedLatency({ read: Number.NaN })).toThrow(RangeError);
    expect(() => fixedLatency({ read: '1' as never })).toThrow(
      new TypeError('read latency: expected a number, got string "1"'),
    );
    expect(() => randomLatency(new Sfc32(1), 0, -1)).toThrow(/^maximumMs: expected a finite/);
    expect(() => randomLatency(new Sfc32(1), -1, 1)).toThrow(/^minimumMs: expected a finite/);
    expect(() => randomLatency(new Sfc32(1), 2, 1)).toThrow(/^maximumMs: expected at least 2, got 1/);
    expect(() => chosenLatency(choices, [])).toThrow(/^alternativesMs: expected at least one, got none/);
    expect(() => chosenLatency(choices, [1, -1])).toThrow(/^alternativesMs: expected a finite/);
  });
});
