import type { BlockDevice, DeviceFeatures, WriteOptions, WriteZeroesOptions } from '../blockdev/index.ts';

/**
 * A device in front of another one that keeps the sectors of the superblock copies in memory until it is told to
 * publish them: whatever is done to a store on it, the device holds no store before that, and a whole one after.
 */
export class HeldSuperblocks implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures;
  readonly #device: BlockDevice;
  readonly #held = new Map<number, Uint8Array>();

  /**
   * Takes away what is there, durably.
   * @param sectors of the copies
   */
  constructor(device: BlockDevice, sectors: readonly number[]) {
    this.sectorBytes = device.sectorBytes;
    this.physicalSectorBytes = device.physicalSectorBytes;
    this.sectorCount = device.sectorCount;
    this.readOnly = device.readOnly;
    this.features = device.features;
    this.#device = device;
    for (const sector of sectors) {
      const blank = new Uint8Array(device.sectorBytes);
      device.write(sector, blank);
      this.#held.set(sector, blank);
    }
    device.flush();
  }

  /** Makes everything durable, and then the superblocks, which make it a store. */
  publish(): void {
    this.#device.flush();
    for (const [sector, bytes] of this.#held) {
      this.#device.write(sector, bytes);
      this.#device.flush();
    }
    this.#held.clear();
  }

  read(sector: number, target: Uint8Array): void {
    this.#device.read(sector, target);
    for (const [held, bytes] of this.#held) {
      const offset = (held - sector) * this.sectorBytes;
      if (offset >= 0 && offset < target.length) target.set(bytes, offset);
    }
  }

  /** A superblock is always written by itself. */
  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    if (this.#held.has(sector)) this.#held.set(sector, source.slice());
    else this.#device.write(sector, source, options);
  }

  flush(): void {
    this.#device.flush();
  }

  discard(sector: number, sectorCount: number): void {
    this.#device.discard(sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void {
    this.#device.writeZeroes(sector, sectorCount, options);
  }

  /** The device is somebody else's, and stays open. */
  close(): void {}
}
