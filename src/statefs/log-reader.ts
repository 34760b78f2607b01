import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf, viewOf } from '../core/index.ts';

/** Bounds of the window: large enough for a few groups, and no larger than what one read gains from. */
const MIN_WINDOW_BYTES = 8192;
const MAX_WINDOW_BYTES = 65_536;

/**
 * Reads the log into one window of memory. Below the frontier everything is durable and read ahead in large pieces;
 * beyond it only what is asked for is read, sector by sector: a torn tail then costs the explorer as many paths as it
 * has sectors, not as many as these have combinations.
 */
export class LogReader {
  /** The window. Valid until the next call. */
  readonly buffer: Uint8Array;
  readonly view: DataView;
  /** Sectors that the medium could not read; they count as bad, and read as zeros. */
  unreadableSectors = 0;
  readonly #device: BlockDevice;
  readonly #sectorBytes: number;
  readonly #frontier: number;
  #first = 0;
  #count = 0;

  /**
   * @param start where the log starts
   * @param frontier sectors below it are durable, and read ahead
   */
  constructor(device: BlockDevice, start: number, frontier: number) {
    this.#device = device;
    this.#sectorBytes = device.sectorBytes;
    this.#frontier = frontier;
    const durableBytes = (frontier - start) * device.sectorBytes;
    this.buffer = new Uint8Array(Math.min(Math.max(durableBytes, MIN_WINDOW_BYTES), MAX_WINDOW_BYTES));
    this.view = viewOf(this.buffer);
  }

  /** The most that one {@link load} takes. */
  get windowSectors(): number {
    return this.buffer.length / this.#sectorBytes;
  }

  /**
   * Makes `count` sectors from `sector` on stand in the window.
   * @returns the offset in `buffer` at which they start
   */
  load(sector: number, count: number): number {
    const offset = sector - this.#first;
    if (offset >= 0 && offset + count <= this.#count) return offset * this.#sectorBytes;
    const room = this.windowSectors;
    if (offset >= 0 && offset <= this.#count && offset + count <= room) {
      // The start is here already, or the piece follows on: what is there stays, so that it is never read twice.
      const missing = sector + count - (this.#first + this.#count);
      this.#read(this.#first + this.#count, missing, this.#count);
      this.#count += missing;
      return offset * this.#sectorBytes;
    }
    const ahead = Math.min(room, this.#frontier - sector);
    this.#first = sector;
    this.#count = Math.max(count, ahead);
    this.#read(sector, this.#count, 0);
    return 0;
  }

  #read(sector: number, count: number, atSector: number): void {
    const start = atSector * this.#sectorBytes;
    const target = this.buffer.subarray(start, start + count * this.#sectorBytes);
    try {
      this.#device.read(sector, target);
    } catch (error) {
      if (codeOf(error) !== 'EIO') throw error;
      this.#readOneByOne(sector, target);
    }
  }

  #readOneByOne(sector: number, target: Uint8Array): void {
    for (let done = 0; done < target.length; done += this.#sectorBytes) {
      const one = target.subarray(done, done + this.#sectorBytes);
      try {
        this.#device.read(sector + done / this.#sectorBytes, one);
      } catch (error) {
        if (codeOf(error) !== 'EIO') throw error;
        one.fill(0);
        this.unreadableSectors++;
      }
    }
  }
}
