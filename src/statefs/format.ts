import { randomBytes } from 'node:crypto';
import type { BlockDevice } from '../blockdev/index.ts';
import { assertBytes, assertPowerOfTwo } from '../core/index.ts';
import { fail, wrapDeviceError } from './errors.ts';
import { type StoreGeometry, storeGeometry, unitBytesOf } from './geometry.ts';
import { encodeSuperblock, eraseStaleCopies, type Superblock } from './superblock.ts';

export interface FormatOptions {
  /**
   * 16 bytes that tell this store's frames from those of any store that used the partition before. Default: random.
   * Give them where a run has to be reproducible, and never the same ones twice for one partition.
   */
  readonly storeId?: Uint8Array;
  /**
   * Alignment of what must not be damaged together, in bytes: a power of two, at least the device's physical sector,
   * which is the default.
   */
  readonly unitBytes?: number;
}

/**
 * Makes an empty store of the whole device, durably. What was there is not erased, but never comes back; a format
 * that is cut leaves either the old store or the new one.
 * @throws StateFsError EINVAL for a device that is too small, EROFS, EIO
 */
export function format(device: BlockDevice, options: FormatOptions = {}): void {
  const { storeId, unitBytes, geometry } = planFormat(device, options);
  const empty: Superblock = {
    sectorBytes: device.sectorBytes,
    unitBytes,
    sectorCount: device.sectorCount,
    storeId,
    activeRegion: 0,
    clean: true,
    features: 0,
    generation: 1,
    epoch: 1,
    frontierSector: geometry.regionSectors[0],
    frontierSequence: 0,
    payloadFloor: geometry.regionSectors[1],
    regionEpoch: 0,
    lostSequence: 0,
  };
  const sector = new Uint8Array(device.sectorBytes);
  try {
    for (const copy of [0, 1] as const) {
      encodeSuperblock({ ...empty, generation: copy + 1 }, copy, sector);
      device.write(geometry.superblockSectors[copy], sector);
      device.flush();
      if (copy === 0 && eraseStaleCopies(device, geometry.superblockSectors[1])) device.flush();
    }
  } catch (error) {
    throw wrapDeviceError(error, 'format');
  }
}

/**
 * What {@link format} would make, with nothing written.
 * @throws as it
 */
export function planFormat(
  device: BlockDevice,
  options: FormatOptions,
): { storeId: Uint8Array; unitBytes: number; geometry: StoreGeometry } {
  const storeId = options.storeId ?? new Uint8Array(randomBytes(16));
  assertBytes(storeId, 'storeId');
  if (storeId.length !== 16) throw new RangeError(`storeId: expected 16 bytes, got ${storeId.length}`);
  const unitBytes = options.unitBytes ?? unitBytesOf(device);
  assertPowerOfTwo(unitBytes, 'unitBytes', unitBytesOf(device), 65536);
  if (device.readOnly) fail('EROFS', 'format: the device is read-only: open it for writing');
  return { storeId, unitBytes, geometry: storeGeometry(device.sectorBytes, device.sectorCount, unitBytes) };
}
