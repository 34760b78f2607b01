import type { BlockDevice } from '../blockdev/index.ts';
import { fail } from './errors.ts';
import { FRAME_TARGET_BYTES, FRONTIER_STRIDE_BYTES, MAX_GROUP_OPERATIONS, SUPERBLOCK_SPACING_BYTES } from './layout.ts';

/** Where everything stands, in sectors of the partition. Derived from three numbers of the superblock alone. */
export interface StoreGeometry {
  readonly sectorBytes: number;
  readonly sectorCount: number;
  /** Groups and extents start at multiples of this many sectors. */
  readonly unitSectors: number;
  /** First sector of each superblock copy. */
  readonly superblockSectors: readonly [number, number];
  /** First sector of each region. */
  readonly regionSectors: readonly [number, number];
  readonly regionSectorCount: number;
  /** Sectors of the longest frame. */
  readonly frameSectors: number;
  /** See FRONTIER_STRIDE_BYTES. */
  readonly strideSectors: number;
  /** No group is longer: as many temp and commit frames as it may have operations. */
  readonly groupSectors: number;
}

/** Fewest units that a region must have to hold anything at all. */
const MIN_REGION_UNITS = 8;

/**
 * @throws StateFsError EINVAL when the partition is too small for two regions
 */
export function storeGeometry(sectorBytes: number, sectorCount: number, unitBytes: number): StoreGeometry {
  const unitSectors = unitBytes / sectorBytes;
  const spacing = Math.max(unitBytes, SUPERBLOCK_SPACING_BYTES) / sectorBytes;
  const first = 2 * spacing;
  const regionSectorCount = Math.floor((sectorCount - first) / 2 / unitSectors) * unitSectors;
  if (regionSectorCount < MIN_REGION_UNITS * unitSectors) {
    const needed = first + 2 * MIN_REGION_UNITS * unitSectors;
    fail('EINVAL', `partition: expected at least ${needed} sectors of ${sectorBytes} bytes, got ${sectorCount}`);
  }
  const frameSectors = Math.max(1, FRAME_TARGET_BYTES / sectorBytes);
  return {
    sectorBytes,
    sectorCount,
    unitSectors,
    superblockSectors: [0, spacing],
    regionSectors: [first, first + regionSectorCount],
    regionSectorCount,
    frameSectors,
    // A stride holds several groups even where physical sectors are huge.
    strideSectors: Math.max(FRONTIER_STRIDE_BYTES / sectorBytes, 4 * unitSectors),
    groupSectors: 2 * MAX_GROUP_OPERATIONS * frameSectors,
  };
}

/** The alignment that keeps neighbours apart on this device. */
export function unitBytesOf(device: BlockDevice): number {
  return Math.max(device.sectorBytes, device.physicalSectorBytes);
}

/** The smallest multiple of `unit` that is at least `sector`, counted from `base`. */
export function alignUp(sector: number, unit: number, base: number): number {
  return base + Math.ceil((sector - base) / unit) * unit;
}

/** The largest multiple of `unit` that is at most `sector`, counted from `base`. */
export function alignDown(sector: number, unit: number, base: number): number {
  return base + Math.floor((sector - base) / unit) * unit;
}
