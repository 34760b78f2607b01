import type { BlockDevice, DeviceFeatures, WriteOptions, WriteZeroesOptions } from '../../blockdev/index.ts';
import { codeOf } from '../../core/index.ts';

/** Passes everything on; a layer with a bug overrides what it gets wrong. */
abstract class Layer implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures;
  protected readonly device: BlockDevice;

  constructor(device: BlockDevice) {
    this.device = device;
    this.sectorBytes = device.sectorBytes;
    this.physicalSectorBytes = device.physicalSectorBytes;
    this.sectorCount = device.sectorCount;
    this.readOnly = device.readOnly;
    this.features = device.features;
  }

  read(sector: number, target: Uint8Array): void {
    this.device.read(sector, target);
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.device.write(sector, source, options);
  }

  flush(): void {
    this.device.flush();
  }

  discard(sector: number, sectorCount: number): void {
    this.device.discard(sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void {
    this.device.writeZeroes(sector, sectorCount, options);
  }

  close(): void {
    this.device.close();
  }
}

/** A flush that is accepted, and not passed on. */
export class NoFlush extends Layer {
  override flush(): void {}
}

/** A flush that covers one file, or one queue: the request written last, not the device. */
export class LastWriteFlush extends Layer {
  #last: { readonly sector: number; readonly bytes: Uint8Array } | undefined;

  override write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    super.write(sector, source, options);
    this.#last = { sector, bytes: source.slice() };
  }

  override flush(): void {
    if (this.#last !== undefined) super.write(this.#last.sector, this.#last.bytes, { fua: true });
    this.#last = undefined;
  }
}

/** A queue that overtakes itself: a flush goes out while the write before it is still to be sent. */
export class EarlyFlush extends Layer {
  #queued: { readonly sector: number; readonly bytes: Uint8Array } | undefined;

  override read(sector: number, target: Uint8Array): void {
    this.#send();
    super.read(sector, target);
  }

  override write(sector: number, source: Uint8Array): void {
    this.#send();
    this.#queued = { sector, bytes: source.slice() };
  }

  override flush(): void {
    super.flush();
    this.#send();
  }

  #send(): void {
    const queued = this.#queued;
    this.#queued = undefined;
    if (queued !== undefined) super.write(queued.sector, queued.bytes);
  }
}

/** Tries a flush that failed again, and takes that for success. */
export class RetriedFlush extends Layer {
  override flush(): void {
    ignoringEio(() => super.flush());
    super.flush();
  }
}

/** Takes a write for done that failed. */
export class IgnoredWriteError extends Layer {
  override write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    ignoringEio(() => super.write(sector, source, options));
  }
}

function ignoringEio(run: () => void): void {
  try {
    run();
  } catch (error) {
    if (codeOf(error) !== 'EIO') throw error;
  }
}
