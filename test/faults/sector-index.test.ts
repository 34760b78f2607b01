import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SectorIndex } from '../../src/faults/sector-index.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/sector-index.test.ts';
const DENSE = 2 ** 20;

const groupSectors = fc.constantFrom(1, 2, 8);

const SPARSE = 'on a large disk a group gets its slots, side by side, when the first of its sectors is claimed';
test(SPARSE, () => {
  const sector = fc.oneof(fc.nat({ max: 40 }), fc.integer({ min: 2 ** 41 - 30, max: 2 ** 41 - 1 }));
  const claims = fc.array(sector, { maxLength: 12 });
  const property = fc.property(groupSectors, claims, claims, (size, first, more) => {
    const index = new SectorIndex(2 ** 41, size);
    expect(index.dense).toBe(false);
    const groups: number[] = [];
    const agree = (one: SectorIndex, known: readonly number[], sectors: readonly number[]) => {
      expect(one.slotCount).toBe(known.length * size);
      const slots = sectors.map((each) => one.find(each));
      const expected = sectors.map((each) => {
        const group = known.indexOf(each - (each % size));
        return group < 0 ? -1 : group * size + (each % size);
      });
      expect(slots).toEqual(expected);
      const there = sectors.filter((_, at) => (slots[at] as number) >= 0);
      expect(there.map((each) => one.sectorOf(one.find(each)))).toEqual(there);
    };
    const claim = (one: SectorIndex, known: number[], each: number) => {
      const group = each - (each % size);
      if (!known.includes(group)) known.push(group);
      expect(one.claim(each)).toBe(known.indexOf(group) * size + (each % size));
    };
    for (const each of first) claim(index, groups, each);
    const [twin, twinGroups] = [index.clone(), [...groups]];
    for (const each of more) claim(twin, twinGroups, each);
    const asked = [...first, ...more, ...first.map((each) => each + 1)];
    agree(index, groups, asked);
    agree(twin, twinGroups, asked);
  });
  holdProperty(FILE, SPARSE, property, { numRuns: 100 });
});

const SMALL = 'on a small disk sectors are their own slots, and groups are whole';
test(SMALL, () => {
  const property = fc.property(groupSectors, fc.integer({ min: 1, max: DENSE }), fc.nat(), (size, count, any) => {
    const index = new SectorIndex(count, size);
    const sector = any % count;
    expect(index.dense).toBe(true);
    expect(index.claim(0)).toBe(0);
    expect([index.find(sector), index.claim(sector), index.sectorOf(sector)]).toEqual([sector, sector, sector]);
    const slots = index.slotCount;
    expect(slots % size).toBe(0);
    expect(slots).toBeGreaterThanOrEqual(count);
    expect(slots).toBeLessThan(count + size);
    expect(index.clone().slotCount).toBe(slots);
  });
  holdProperty(FILE, SMALL, property, { numRuns: 100 });
});

test('a disk of 2^20 sectors is the largest small one', () => {
  expect([DENSE, DENSE + 1].map((count) => new SectorIndex(count, 1).dense)).toEqual([true, false]);
});
