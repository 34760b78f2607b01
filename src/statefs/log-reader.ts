import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf } from '../core/index.ts';
import type { StoreGeometry } from './geometry.ts';
import { borrowMemory, giveBackMemory, type Memory } from './memory.ts';
import type { StoreRules } from './rules.ts';
import type { SuperblockVerdict } from './superblock.ts';

/** Bounds of the window: large enough for a few groups, and no larger than what one read gains from. */
const MIN_WINDOW_BYTES = 8192;
const MAX_WINDOW_BYTES = 65_536;

/**
 * Reads the log into one window of memory. Below the frontier everything is durable and read ahead in large pieces;
 * beyond it only what is asked for is read, sector by sector: a torn tail then costs the explorer as many paths as it
 * has sectors, not as many as these have combinations.
 */
export class LogReader {
  /** Starts with the window. Valid until the next call. */
  readonly buffer: Uint8Array;
  readonly view: DataView;
  readonly #memory: Memory;
  readonly #windowBytes: number;
  readonly #unreadable = new Set<number>();
  readonly #witness: number | undefined;
  readonly #device: BlockDevice;
  readonly #sectorBytes: number;
  readonly #frontier: number;
  #first = 0;
  #count = 0;

  /**
   * @param start where the log starts
   * @param frontier sectors below it are durable, and read ahead
   * @param witness a sector that could be read just now: see {@link checkDevice}. Undefined: no device fails as a whole
   */
  constructor(device: BlockDevice, start: number, frontier: number, witness: number | undefined) {
    this.#device = device;
    this.#sectorBytes = device.sectorBytes;
    this.#frontier = frontier;
    this.#witness = witness;
    const durableBytes = (frontier - start) * device.sectorBytes;
    this.#windowBytes = Math.min(Math.max(durableBytes, MIN_WINDOW_BYTES), MAX_WINDOW_BYTES);
    this.#memory = borrowMemory(this.#windowBytes);
    this.buffer = this.#memory.bytes;
    this.view = this.#memory.view;
  }

  /** The last call: somebody else may work in its memory from now on. */
  close(): void {
    giveBackMemory(this.#memory);
  }

  /** How many sectors below `end` the medium could not read; they count as bad, and read as zeros. */
  unreadableSectors(end: number = Number.POSITIVE_INFINITY): number {
    let count = 0;
    for (const sector of this.#unreadable) if (sector < end) count++;
    return count;
  }

  /** Whether one of `count` sectors from `sector` on could not be read. */
  hasUnreadable(sector: number, count: number): boolean {
    for (let at = sector; at < sector + count; at++) if (this.#unreadable.has(at)) return true;
    return false;
  }

  /** To be told of a sector outside the log that could not be read. */
  noteUnreadable(sector: number): void {
    this.#unreadable.add(sector);
  }

  /**
   * Tells a sector that can't be read from a device that has failed, after two tries: the device still gives what it
   * gave a moment ago. Of a device that has failed nothing may be concluded, least of all that the log ends.
   * @throws `error`, where it has
   */
  checkDevice(error: unknown): void {
    if (this.#witness === undefined) return;
    try {
      this.#device.read(this.#witness, new Uint8Array(this.#sectorBytes));
    } catch (again) {
      if (codeOf(again) !== 'EIO') throw again;
      throw error;
    }
  }

  /** The most that one {@link load} takes. */
  get windowSectors(): number {
    return this.#windowBytes / this.#sectorBytes;
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
        this.checkDevice(error);
        one.fill(0);
        this.#unreadable.add(sector + done / this.#sectorBytes);
      }
    }
  }
}

/** A reader of the log that the superblocks tell of. */
export function logReaderOf(
  device: BlockDevice,
  geometry: StoreGeometry,
  { current, currentCopy }: SuperblockVerdict,
  rules: StoreRules,
): LogReader {
  const witness = rules.unreadable ? geometry.superblockSectors[currentCopy] : undefined;
  return new LogReader(device, geometry.regionSectors[current.activeRegion], current.frontierSector, witness);
}
