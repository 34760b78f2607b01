import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { alignDown, alignUp, storeGeometry, unitBytesOf } from '../../src/statefs/geometry.ts';
import { holdProperty } from '../property/replay.ts';
import { codeThrown } from './helpers.ts';

const FILE = 'test/statefs/geometry.test.ts';

const sectorSizes = fc.constantFrom(512, 1024, 2048, 4096);
const unitFactors = fc.constantFrom(1, 2, 8, 16);

describe('the geometry of a store', () => {
  test('puts two superblocks, then two regions of as many whole units as fit, and nothing else', () => {
    const name = 'puts two superblocks, then two regions of as many whole units as fit, and nothing else';
    const property = fc.property(sectorSizes, unitFactors, fc.nat({ max: 100_000 }), (sectorBytes, factor, more) => {
      const unitBytes = sectorBytes * factor;
      const spacing = Math.max(unitBytes, 4096) / sectorBytes;
      const least = 2 * spacing + 16 * factor;
      const geometry = storeGeometry(sectorBytes, least + more, unitBytes);
      expect(geometry).toMatchObject({ sectorBytes, sectorCount: least + more, unitSectors: factor });
      expect(geometry.superblockSectors).toEqual([0, spacing]);
      const [first, second] = geometry.regionSectors;
      expect(first).toBe(2 * spacing);
      expect(second).toBe(first + geometry.regionSectorCount);
      expect(geometry.regionSectorCount % factor).toBe(0);
      const left = geometry.sectorCount - second - geometry.regionSectorCount;
      expect(left).toBeGreaterThanOrEqual(0);
      expect(left).toBeLessThan(2 * factor);
      // Frames of 2 KiB, or a sector; a stride of 32 KiB, or four units; groups of 64 temp and 64 commit frames.
      const frameSectors = Math.max(1, 2048 / sectorBytes);
      expect(geometry.frameSectors).toBe(frameSectors);
      expect(geometry.strideSectors).toBe(Math.max(32_768 / sectorBytes, 4 * factor));
      expect(geometry.groupSectors).toBe(128 * frameSectors);
    });
    holdProperty(FILE, name, property, { numRuns: 200 });
  });

  test('takes a partition with eight units to a region, and refuses one of a sector less with the number it needs', () => {
    for (const [sectorBytes, unitBytes, least] of [
      [512, 512, 32],
      [512, 4096, 144],
      [4096, 4096, 18],
      [512, 65_536, 2304],
    ] as const) {
      expect(storeGeometry(sectorBytes, least, unitBytes).regionSectorCount).toBe((8 * unitBytes) / sectorBytes);
      const refused = (): unknown => storeGeometry(sectorBytes, least - 1, unitBytes);
      expect(codeThrown(refused)).toBe('EINVAL');
      expect(refused).toThrow(`at least ${least} sectors of ${sectorBytes} bytes, got ${least - 1}`);
    }
  });

  test('has the larger of both sectors as its unit', () => {
    for (const [sectorBytes, physicalSectorBytes] of [
      [512, 512],
      [512, 4096],
      [4096, 4096],
    ] as const) {
      const device = new MemoryDevice({ sectorCount: 64, sectorBytes, physicalSectorBytes });
      expect(unitBytesOf(device)).toBe(physicalSectorBytes);
      // A device may leave its physical sector unsaid.
      expect(unitBytesOf(Object.assign(Object.create(device), { sectorBytes, physicalSectorBytes: 0 }))).toBe(
        sectorBytes,
      );
    }
  });
});

test('alignment goes to the nearest unit, counted from the base, and leaves what stands at one', () => {
  const name = 'alignment goes to the nearest unit, counted from the base, and leaves what stands at one';
  const property = fc.property(
    fc.nat({ max: 10_000 }),
    fc.integer({ min: 1, max: 128 }),
    fc.nat({ max: 10_000 }),
    (offset, unit, base) => {
      const sector = base + offset;
      const [down, up] = [alignDown(sector, unit, base), alignUp(sector, unit, base)];
      expect((down - base) % unit).toBe(0);
      expect(sector - down).toBe(offset % unit);
      expect(up).toBe(offset % unit === 0 ? sector : down + unit);
    },
  );
  holdProperty(FILE, name, property, { numRuns: 300 });
});
