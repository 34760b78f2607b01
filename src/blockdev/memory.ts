import { DeviceError } from '../core/index.ts';
import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  checkWritable,
  type DeviceFeatures,
  type Geometry,
  resolveGeometry,
  type WriteOptions,
  type WriteZeroesOptions,
} from './device.ts';

/** Sectors a page: 64 KiB at 512 bytes. Small enough to stay sparse, large enough that a page is rarely made. */
const PAGE_SECTORS = 128;

/**
 * A disk in memory, sparse by pages of 128 sectors. It has no volatile cache: every write is "durable" at once.
 * Put the faults layer on top for a disk that forgets.
 */
export class MemoryDevice implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: false };
  readonly #pages = new Map<number, Uint8Array>();
  readonly #pageBytes: number;
  #closed = false;

  constructor(geometry: Geometry & { readonly readOnly?: boolean }) {
    const { sectorBytes, physicalSectorBytes, sectorCount } = resolveGeometry(geometry);
    this.sectorBytes = sectorBytes;
    this.physicalSectorBytes = physicalSectorBytes;
    this.sectorCount = sectorCount;
    this.readOnly = geometry.readOnly ?? false;
    this.#pageBytes = PAGE_SECTORS * sectorBytes;
  }

  /** Bytes that pages occupy now. */
  get allocatedBytes(): number {
    return this.#pages.size * this.#pageBytes;
  }

  read(sector: number, target: Uint8Array): void {
    this.#checkOpen();
    checkTransfer(this, sector, target);
    let at = sector * this.sectorBytes;
    for (let done = 0; done < target.length; ) {
      const inPage = at % this.#pageBytes;
      const length = Math.min(this.#pageBytes - inPage, target.length - done);
      const page = this.#pages.get((at - inPage) / this.#pageBytes);
      if (page === undefined) target.fill(0, done, done + length);
      else target.set(page.subarray(inPage, inPage + length), done);
      done += length;
      at += length;
    }
  }

  write(sector: number, source: Uint8Array, _options?: WriteOptions): void {
    this.#checkOpen();
    checkWritable(this);
    checkTransfer(this, sector, source);
    let at = sector * this.sectorBytes;
    for (let done = 0; done < source.length; ) {
      const inPage = at % this.#pageBytes;
      const length = Math.min(this.#pageBytes - inPage, source.length - done);
      const part = done === 0 && length === source.length ? source : source.subarray(done, done + length);
      this.#page((at - inPage) / this.#pageBytes).set(part, inPage);
      done += length;
      at += length;
    }
  }

  flush(): void {
    this.#checkOpen();
  }

  discard(sector: number, sectorCount: number): void {
    this.writeZeroes(sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number, _options?: WriteZeroesOptions): void {
    this.#checkOpen();
    checkWritable(this);
    checkRange(this, sector, sectorCount);
    const end = (sector + sectorCount) * this.sectorBytes;
    for (let at = sector * this.sectorBytes; at < end; ) {
      const inPage = at % this.#pageBytes;
      const length = Math.min(this.#pageBytes - inPage, end - at);
      const pageNumber = (at - inPage) / this.#pageBytes;
      if (length === this.#pageBytes) this.#pages.delete(pageNumber);
      else this.#pages.get(pageNumber)?.fill(0, inPage, inPage + length);
      at += length;
    }
  }

  close(): void {
    this.#closed = true;
  }

  #page(pageNumber: number): Uint8Array {
    let page = this.#pages.get(pageNumber);
    if (page === undefined) {
      page = new Uint8Array(this.#pageBytes);
      this.#pages.set(pageNumber, page);
    }
    return page;
  }

  #checkOpen(): void {
    if (this.#closed) throw new DeviceError('ECLOSED', 'the device was closed: open it again to use it');
  }
}
