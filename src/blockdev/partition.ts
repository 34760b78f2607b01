import { DeviceError } from '../core/index.ts';
import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  type DeviceFeatures,
  type WriteOptions,
  type WriteZeroesOptions,
} from './device.ts';

/**
 * A stretch of another device as a device of its own. It does not own the other one: closing the view leaves it open,
 * and its flush flushes the whole of it.
 */
export class PartitionView implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures;
  readonly #device: BlockDevice;
  readonly #firstSector: number;
  #closed = false;

  /**
   * @throws TypeError for a wrong type; DeviceError EINVAL for a range outside the device, or one that shares a
   *   physical sector with its neighbours: a power cut under their writes could damage it
   */
  constructor(device: BlockDevice, firstSector: number, sectorCount: number) {
    checkRange(device, firstSector, sectorCount);
    checkAlignment(device, firstSector, 'firstSector');
    if (firstSector + sectorCount !== device.sectorCount) {
      checkAlignment(device, firstSector + sectorCount, 'firstSector + sectorCount');
    }
    this.sectorBytes = device.sectorBytes;
    this.physicalSectorBytes = device.physicalSectorBytes;
    this.sectorCount = sectorCount;
    this.readOnly = device.readOnly;
    this.features = device.features;
    this.#device = device;
    this.#firstSector = firstSector;
  }

  read(sector: number, target: Uint8Array): void {
    this.#checkOpen();
    checkTransfer(this, sector, target);
    this.#device.read(this.#firstSector + sector, target);
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#checkOpen();
    checkTransfer(this, sector, source);
    this.#device.write(this.#firstSector + sector, source, options);
  }

  flush(): void {
    this.#checkOpen();
    this.#device.flush();
  }

  discard(sector: number, sectorCount: number): void {
    this.#checkOpen();
    checkRange(this, sector, sectorCount);
    this.#device.discard(this.#firstSector + sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void {
    this.#checkOpen();
    checkRange(this, sector, sectorCount);
    this.#device.writeZeroes(this.#firstSector + sector, sectorCount, options);
  }

  close(): void {
    this.#closed = true;
  }

  #checkOpen(): void {
    if (this.#closed) throw new DeviceError('ECLOSED', 'the partition was closed: make another view to use it');
  }
}

function checkAlignment(device: BlockDevice, sector: number, label: string): void {
  const sectorsPerBlock = device.physicalSectorBytes / device.sectorBytes;
  if (sector % sectorsPerBlock !== 0) {
    throw new DeviceError(
      'EINVAL',
      `${label}: expected a multiple of ${sectorsPerBlock}, a physical sector of ${device.physicalSectorBytes} bytes, got ${sector}`,
    );
  }
}
