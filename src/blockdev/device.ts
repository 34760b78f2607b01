import { assertBytes, assertInteger, DeviceError } from '../core/index.ts';

/** The optional abilities of a device. An operation whose ability is false throws ENOTSUP. */
export interface DeviceFeatures {
  /** `flush()` makes completed writes durable. A device without a volatile cache has it too: it does nothing. */
  readonly flush: boolean;
  /** `write(..., { fua: true })` is durable when it returns. */
  readonly fua: boolean;
  readonly discard: boolean;
  readonly writeZeroes: boolean;
  /** Writes may stay in a volatile cache until a flush. False: every write is durable when it returns. */
  readonly writeCache: boolean;
}

/**
 * A disk, synchronous. Both ends of the virtio layer implement it, and every engine runs on any stack of it.
 *
 * - Addresses and counts are in sectors of `sectorBytes`; buffers are whole sectors, at least one.
 * - The caller owns every buffer: a device neither keeps nor hands out a view.
 * - A completed `write` promises nothing about durability. A `flush` that returned promises durability of every write
 *   that had completed before it was issued. A FUA write is durable when it returns.
 * - A sector that was never written reads as zeros.
 *
 * Every operation throws {@link DeviceError}: EINVAL outside the device or for an unaligned buffer, EROFS when it may
 * not be written, EIO for a medium that failed, EPOWER after a power cut, ECLOSED after `close`, ENOTSUP for an absent
 * ability. A wrong argument type is a TypeError.
 */
export interface BlockDevice {
  /** Bytes in a logical sector, the unit of addressing: a power of two from 512 to 4096. */
  readonly sectorBytes: number;
  /**
   * Bytes of the medium that a write may damage when the power fails under it: `sectorBytes`, or a larger power of two
   * on a disk that emulates small sectors (512e). What may not be damaged together does not share such a block.
   */
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures;
  /** Fills `target`, whole sectors, from `sector` on. */
  read(sector: number, target: Uint8Array): void;
  /** Writes `source`, whole sectors, from `sector` on. Not atomic beyond what the medium promises for a sector. */
  write(sector: number, source: Uint8Array, options?: WriteOptions): void;
  flush(): void;
  /** Tells that the content is no longer needed; it may read as anything old or as zeros until written again. */
  discard(sector: number, sectorCount: number): void;
  /** Makes the sectors read as zeros; `unmap` allows the medium to free them. */
  writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void;
  /** Gives up the device's resources. Closing twice is allowed. Does not flush. */
  close(): void;
}

export interface WriteOptions {
  /** Force unit access: durable before it returns. Default false. */
  readonly fua?: boolean;
}

export interface WriteZeroesOptions {
  /** The medium may free the sectors, as long as they read as zeros. Default false. */
  readonly unmap?: boolean;
}

/** Size and kind of a device to be made. */
export interface Geometry {
  readonly sectorCount: number;
  /** Default 512. */
  readonly sectorBytes?: number;
  /** Default `sectorBytes`. */
  readonly physicalSectorBytes?: number;
}

/** The largest disk that our devices address: 2^41 sectors of 512 bytes, 1 PiB. */
const MAX_SECTOR_COUNT = 2 ** 41;

/**
 * Fills in defaults and checks.
 * @throws TypeError, RangeError for what is no geometry
 */
export function resolveGeometry(geometry: Geometry): Required<Geometry> {
  const sectorBytes = geometry.sectorBytes ?? 512;
  assertSectorBytes(sectorBytes, 'sectorBytes', 512);
  const physicalSectorBytes = geometry.physicalSectorBytes ?? sectorBytes;
  assertSectorBytes(physicalSectorBytes, 'physicalSectorBytes', sectorBytes);
  assertInteger(geometry.sectorCount, 'sectorCount', 1, MAX_SECTOR_COUNT);
  return { sectorBytes, physicalSectorBytes, sectorCount: geometry.sectorCount };
}

function assertSectorBytes(value: number, label: string, minimum: number): void {
  assertInteger(value, label, minimum, label === 'sectorBytes' ? 4096 : 65536);
  if ((value & (value - 1)) !== 0) throw new RangeError(`${label}: expected a power of two, got ${value}`);
}

/**
 * Checks a transfer's buffer and range against the device.
 * @returns how many sectors the buffer covers
 */
export function checkTransfer(device: BlockDevice, sector: number, buffer: Uint8Array): number {
  assertBytes(buffer, 'buffer');
  const sectorCount = buffer.length / device.sectorBytes;
  if (sectorCount < 1 || !Number.isInteger(sectorCount)) {
    throw new DeviceError(
      'EINVAL',
      `buffer: expected whole sectors of ${device.sectorBytes} bytes, got ${buffer.length} bytes`,
    );
  }
  checkRange(device, sector, sectorCount);
  return sectorCount;
}

/** Checks that `sectorCount` sectors from `sector` on lie inside the device. */
export function checkRange(device: BlockDevice, sector: number, sectorCount: number): void {
  if (typeof sector !== 'number') throw new TypeError(`sector: expected an integer, got ${typeof sector}`);
  if (typeof sectorCount !== 'number')
    throw new TypeError(`sectorCount: expected an integer, got ${typeof sectorCount}`);
  if (
    !Number.isSafeInteger(sector) ||
    !Number.isSafeInteger(sectorCount) ||
    sector < 0 ||
    sectorCount < 1 ||
    sectorCount > device.sectorCount - sector
  ) {
    throw new DeviceError(
      'EINVAL',
      `range: expected sectors inside 0..${device.sectorCount - 1}, got ${sectorCount} from ${sector}`,
    );
  }
}

/** Checks that the device may be written. */
export function checkWritable(device: BlockDevice): void {
  if (device.readOnly) throw new DeviceError('EROFS', 'the device is read-only: open it for writing to change it');
}
