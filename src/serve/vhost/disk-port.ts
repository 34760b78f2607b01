import type { BlockDevice, DeviceFeatures, WriteOptions, WriteZeroesOptions } from '../../blockdev/index.ts';
import type { OperationKind } from '../../faults/index.ts';
import type { ServedDisk } from '../disk/served-disk.ts';
import type { VhostStatistics } from './statistics.ts';

/**
 * The served disk as the block device sees it, with what its server wants to know of each request: how long its success
 * is held back, and which operation to acknowledge.
 */
export class DiskPort implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures;
  /** Of the request since {@link begin}: how long its success is held back. */
  delayMs = 0;
  /** Likewise: whether it is never answered, until the disk lets go what hangs. */
  hangs = false;
  /** Likewise: whether it is a flush that hangs, and so has not been carried out. */
  owesFlush = false;
  /** Likewise: the number of the last operation that changed the disk, if all went well; 0 for none. */
  operation = 0;
  readonly #disk: ServedDisk;
  readonly #statistics: VhostStatistics;
  #failed = false;

  constructor(disk: ServedDisk, statistics: VhostStatistics) {
    this.#disk = disk;
    this.#statistics = statistics;
    this.sectorBytes = disk.sectorBytes;
    this.physicalSectorBytes = disk.physicalSectorBytes;
    this.sectorCount = disk.sectorCount;
    this.readOnly = disk.readOnly;
    this.features = disk.features;
  }

  /** A request begins. */
  begin(): void {
    this.delayMs = 0;
    this.hangs = false;
    this.owesFlush = false;
    this.operation = 0;
    this.#failed = false;
  }

  read(sector: number, target: Uint8Array): void {
    this.#hold('read', sector, target.length / this.sectorBytes);
    try {
      this.#disk.read(sector, target);
    } catch (error) {
      this.#fail(error);
    }
    this.#statistics.bytesRead += target.length;
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    try {
      this.#disk.write(sector, source, options);
    } catch (error) {
      this.#fail(error);
    }
    this.#statistics.bytesWritten += source.length;
    this.#done('write', sector, source.length / this.sectorBytes);
  }

  flush(): void {
    this.#hold('flush', 0, 0);
    if (this.hangs) this.owesFlush = true;
    else this.flushNow();
  }

  /** Carries a flush out that hung. */
  flushNow(): void {
    try {
      this.#disk.flush();
    } catch (error) {
      this.#fail(error);
    }
    if (!this.#failed) this.operation = this.#disk.operation;
  }

  discard(sector: number, sectorCount: number): void {
    try {
      this.#disk.discard(sector, sectorCount);
    } catch (error) {
      this.#fail(error);
    }
    this.#done('discard', sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void {
    try {
      this.#disk.writeZeroes(sector, sectorCount, options);
    } catch (error) {
      this.#fail(error);
    }
    this.#done('writeZeroes', sector, sectorCount);
  }

  /** The disk stays its owner's. */
  close(): void {}

  /** To be asked once for each operation. */
  #hold(kind: OperationKind, sector: number, sectorCount: number): void {
    if (this.#disk.hangs(kind, sector, sectorCount)) this.hangs = true;
    this.delayMs = Math.max(this.delayMs, this.#disk.delayMs(kind, sector, sectorCount));
  }

  /** An operation that changed the disk was carried out. */
  #done(kind: OperationKind, sector: number, sectorCount: number): void {
    this.#hold(kind, sector, sectorCount);
    if (!this.#failed) this.operation = this.#disk.operation;
  }

  /** What failed is not acknowledged, nor what was done of it before; and only success is held back. */
  #fail(error: unknown): never {
    if (!this.#failed) this.#statistics.requestsFailed++;
    this.#failed = true;
    this.operation = 0;
    this.delayMs = 0;
    throw error;
  }
}
