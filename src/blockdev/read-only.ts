import { DeviceError } from '../core/index.ts';
import { type BlockDevice, checkTransfer, type DeviceFeatures } from './device.ts';

/** Another device, to look at only. It does not own it: closing the view leaves it open, and its flush does nothing. */
export class ReadOnlyView implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean = true;
  readonly features: DeviceFeatures;
  readonly #device: BlockDevice;
  #closed = false;

  constructor(device: BlockDevice) {
    this.sectorBytes = device.sectorBytes;
    this.physicalSectorBytes = device.physicalSectorBytes;
    this.sectorCount = device.sectorCount;
    this.features = device.features;
    this.#device = device;
  }

  read(sector: number, target: Uint8Array): void {
    this.#checkOpen();
    checkTransfer(this, sector, target);
    this.#device.read(sector, target);
  }

  write(): void {
    this.#refuse();
  }

  flush(): void {
    this.#checkOpen();
    if (!this.features.flush) throw new DeviceError('ENOTSUP', 'the device under this view has no flush');
  }

  discard(): void {
    this.#refuse();
  }

  writeZeroes(): void {
    this.#refuse();
  }

  close(): void {
    this.#closed = true;
  }

  #refuse(): never {
    this.#checkOpen();
    throw new DeviceError('EROFS', 'this view is read-only: use the device under it to change it');
  }

  #checkOpen(): void {
    if (this.#closed) throw new DeviceError('ECLOSED', 'the view was closed: make another one to use it');
  }
}
