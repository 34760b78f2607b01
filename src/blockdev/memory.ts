import { assertBytes, DeviceError } from '../core/index.ts';
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

/** What {@link MemoryDevice.fromImage} takes. */
export interface MemoryImageOptions {
  /** Default 512. */
  readonly sectorBytes?: number;
  /** Default `sectorBytes`. */
  readonly physicalSectorBytes?: number;
  /** Default false. */
  readonly readOnly?: boolean;
}

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

  /**
   * A device that holds a copy of `image`; its size tells the number of sectors.
   * @throws DeviceError EINVAL unless it is whole sectors, at least one
   */
  static fromImage(image: Uint8Array, options: MemoryImageOptions = {}): MemoryDevice {
    assertBytes(image, 'image');
    const { sectorBytes } = resolveGeometry({ ...options, sectorCount: 1 });
    if (image.length === 0 || image.length % sectorBytes !== 0) {
      throw new DeviceError(
        'EINVAL',
        `image: expected whole sectors of ${sectorBytes} bytes, got ${image.length} bytes`,
      );
    }
    const device = new MemoryDevice({ ...options, sectorCount: image.length / sectorBytes });
    device.#fill(0, image);
    return device;
  }

  /**
   * A copy of the whole content.
   * @throws RangeError where the device is larger than an array can be
   */
  snapshot(): Uint8Array {
    this.#checkOpen();
    const image = new Uint8Array(this.sectorCount * this.sectorBytes);
    for (const [pageNumber, page] of this.#pages) {
      const at = pageNumber * this.#pageBytes;
      image.set(page.length > image.length - at ? page.subarray(0, image.length - at) : page, at);
    }
    return image;
  }

  /** Bytes that pages occupy now. */
  get allocatedBytes(): number {
    return this.#pages.size * this.#pageBytes;
  }

  /**
   * How far the sectors from `sector` on, at most `sectorCount`, are alike in whether memory is held for them. In steps of
   * pages: what was zeroed in part still counts as held.
   * @returns their number: positive where memory is held, negative where it is not and they read as zeros
   */
  extent(sector: number, sectorCount: number): number {
    this.#checkOpen();
    checkRange(this, sector, sectorCount);
    let page = Math.floor(sector / PAGE_SECTORS);
    const held = this.#pages.has(page);
    const end = sector + sectorCount;
    do page++;
    while (page * PAGE_SECTORS < end && this.#pages.has(page) === held);
    const alike = Math.min(end, page * PAGE_SECTORS) - sector;
    return held ? alike : -alike;
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
    this.#fill(sector * this.sectorBytes, source);
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
    const start = sector * this.sectorBytes;
    const end = start + sectorCount * this.sectorBytes;
    // Pages that were never made need no visit, and a sparse disk may have 2^34 of them.
    const pageCount = Math.ceil(end / this.#pageBytes) - Math.floor(start / this.#pageBytes);
    if (pageCount > this.#pages.size) {
      for (const pageNumber of this.#pages.keys()) this.#clearPage(pageNumber, start, end);
    } else {
      for (let at = start - (start % this.#pageBytes); at < end; at += this.#pageBytes) {
        this.#clearPage(at / this.#pageBytes, start, end);
      }
    }
  }

  close(): void {
    this.#closed = true;
  }

  #fill(at: number, source: Uint8Array): void {
    for (let done = 0; done < source.length; ) {
      const inPage = at % this.#pageBytes;
      const length = Math.min(this.#pageBytes - inPage, source.length - done);
      const part = done === 0 && length === source.length ? source : source.subarray(done, done + length);
      this.#page((at - inPage) / this.#pageBytes).set(part, inPage);
      done += length;
      at += length;
    }
  }

  /** Zeroes what the page has of the bytes from `start` to `end`; a page of nothing but them is dropped. */
  #clearPage(pageNumber: number, start: number, end: number): void {
    const first = Math.max(0, start - pageNumber * this.#pageBytes);
    const last = Math.min(this.#pageBytes, end - pageNumber * this.#pageBytes);
    if (first >= last) return;
    if (last - first === this.#pageBytes) this.#pages.delete(pageNumber);
    else this.#pages.get(pageNumber)?.fill(0, first, last);
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
