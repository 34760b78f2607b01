import { MemoryDevice, type WriteOptions, type WriteZeroesOptions } from '../../blockdev/index.ts';

/** A small disk that counts what it is asked, and looks whether a buffer of the guest's lies where it may. */
export class WatchedDisk extends MemoryDevice {
  operationCount = 0;
  strayBuffer: string | undefined;
  readonly #mayTouch: (buffer: Uint8Array) => boolean;

  constructor(sectorBytes: number, mayTouch: (buffer: Uint8Array) => boolean) {
    super({ sectorCount: 16, sectorBytes });
    this.#mayTouch = mayTouch;
  }

  override read(sector: number, target: Uint8Array): void {
    this.#watch(target);
    super.read(sector, target);
  }

  override write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#watch(source);
    super.write(sector, source, options);
  }

  override flush(): void {
    this.operationCount++;
    super.flush();
  }

  override discard(sector: number, sectorCount: number): void {
    this.operationCount++;
    super.discard(sector, sectorCount);
  }

  override writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void {
    this.operationCount++;
    super.writeZeroes(sector, sectorCount, options);
  }

  #watch(buffer: Uint8Array): void {
    this.operationCount++;
    if (!this.#mayTouch(buffer)) this.strayBuffer ??= `${buffer.length} bytes at offset ${buffer.byteOffset}`;
  }
}
