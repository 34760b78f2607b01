import type { Medium } from './medium.ts';

const CHUNK_BYTES = 1024 * 1024;
/** Sectors whose places are looked up in one array. */
const PAGE_SECTORS = 256;
/** Arrays of places that are kept for later when the log is emptied. */
const MAX_KEPT_PAGES = 4096;

interface Chunk {
  readonly bytes: Uint8Array;
  /** For each place how many writes of its sector the log has, up to this one. */
  readonly depths: Uint8Array;
}

/**
 * Writes in the order in which they came, and where the newest bytes of each sector are. A write costs one copy of its
 * bytes, to write all out another one; what the sectors held before is asked only when somebody takes the log over.
 *
 * A place is a sector's worth of memory; places are given out in order.
 */
export class WriteLog {
  readonly #sectorBytes: number;
  readonly #chunkSectors: number;
  readonly #chunks: Chunk[] = [];
  /** By page: for each of its sectors 1 + the newest place, or 0. */
  readonly #pages = new Map<number, Int32Array>();
  /** What was looked up last: neighbours are asked about one after the other. */
  #pageNumber = -1;
  #page: Int32Array | undefined;
  /** The writes: first sector, number of sectors, first place. None lies in two chunks. */
  readonly #sectors: number[] = [];
  readonly #counts: number[] = [];
  readonly #places: number[] = [];
  #length = 0;
  #size = 0;

  constructor(sectorBytes: number) {
    this.#sectorBytes = sectorBytes;
    this.#chunkSectors = CHUNK_BYTES / sectorBytes;
  }

  /** Sectors in it, each as often as it was written. */
  get size(): number {
    return this.#size;
  }

  /** How many writes of a sector it has. */
  depth(sector: number): number {
    const place = this.#placeOf(sector);
    return place < 0 ? 0 : this.#chunkOf(place).depths[place % this.#chunkSectors]!;
  }

  /** Adds a write. No sector may get more than 255: its caller's to see to. */
  add(sector: number, source: Uint8Array): void {
    const sectorCount = source.length / this.#sectorBytes;
    for (let done = 0; done < sectorCount; ) {
      const inChunk = this.#size % this.#chunkSectors;
      const count = Math.min(sectorCount - done, this.#chunkSectors - inChunk);
      const part = count === sectorCount ? source : this.#part(source, done, done + count);
      this.#chunkAt(this.#size).bytes.set(part, inChunk * this.#sectorBytes);
      this.#enter(sector + done, count);
      done += count;
    }
  }

  /**
   * How far the sectors from `sector` on, at most `sectorCount`, are alike in whether the log has them.
   * @returns their number: positive where it has, and they lie side by side; negative where it has not
   */
  extent(sector: number, sectorCount: number): number {
    if (this.#size === 0) return -sectorCount;
    const first = this.#placeOf(sector);
    let count = 1;
    if (first < 0) {
      while (count < sectorCount && this.#placeOf(sector + count) < 0) count++;
      return -count;
    }
    const most = Math.min(sectorCount, this.#chunkSectors - (first % this.#chunkSectors));
    while (count < most && this.#placeOf(sector + count) === first + count) count++;
    return count;
  }

  /** Reads sectors of one positive {@link extent}. */
  read(sector: number, target: Uint8Array): void {
    target.set(this.#bytesAt(this.#placeOf(sector), target.length / this.#sectorBytes));
  }

  /**
   * The newest bytes of every sector go to the medium, each once. What follows on in the log and on the disk goes in one
   * piece: clients write long things in short ones.
   */
  writeTo(medium: Medium): void {
    let sector = 0;
    let place = 0;
    let count = 0;
    for (let i = 0; i < this.#length; i++) {
      const first = this.#sectors[i]!;
      const from = this.#places[i]!;
      for (let j = 0; j < this.#counts[i]!; j++) {
        if (this.#placeOf(first + j) !== from + j) continue;
        const isNext = first + j === sector + count && from + j === place + count;
        if (count === 0 || !isNext || (from + j) % this.#chunkSectors === 0) {
          if (count > 0) medium.write(sector, this.#bytesAt(place, count));
          sector = first + j;
          place = from + j;
          count = 0;
        }
        count++;
      }
    }
    if (count > 0) medium.write(sector, this.#bytesAt(place, count));
  }

  /** Every write again, in order. @param visit the bytes are its only during the call */
  replay(visit: (sector: number, bytes: Uint8Array) => void): void {
    for (let i = 0; i < this.#length; i++) visit(this.#sectors[i]!, this.#bytesAt(this.#places[i]!, this.#counts[i]!));
  }

  /** Forgets all. The memory is kept for what comes. */
  clear(): void {
    if (this.#pages.size > MAX_KEPT_PAGES) {
      this.#pages.clear();
      this.#pageNumber = -1;
    } else {
      for (let i = 0; i < this.#length; i++) this.#mark(this.#sectors[i]!, this.#counts[i]!, -1);
    }
    this.#length = 0;
    this.#size = 0;
  }

  #enter(sector: number, count: number): void {
    const place = this.#size;
    const { depths } = this.#chunkAt(place);
    const inChunk = place % this.#chunkSectors;
    for (let i = 0; i < count; i++) depths[inChunk + i] = this.depth(sector + i) + 1;
    this.#mark(sector, count, place);
    this.#sectors[this.#length] = sector;
    this.#counts[this.#length] = count;
    this.#places[this.#length] = place;
    this.#length++;
    this.#size += count;
  }

  /** The sectors lie at the places from `place` on; -1: nowhere. */
  #mark(sector: number, count: number, place: number): void {
    for (let done = 0; done < count; ) {
      const inPage = (sector + done) % PAGE_SECTORS;
      const page = this.#pageAt((sector + done - inPage) / PAGE_SECTORS);
      const end = Math.min(count - done, PAGE_SECTORS - inPage);
      if (place < 0) page.fill(0, inPage, inPage + end);
      else for (let i = 0; i < end; i++) page[inPage + i] = place + done + i + 1;
      done += end;
    }
  }

  #placeOf(sector: number): number {
    const inPage = sector % PAGE_SECTORS;
    const page = this.#find((sector - inPage) / PAGE_SECTORS);
    return page === undefined ? -1 : page[inPage]! - 1;
  }

  #find(number: number): Int32Array | undefined {
    if (number === this.#pageNumber) return this.#page;
    this.#pageNumber = number;
    this.#page = this.#pages.get(number);
    return this.#page;
  }

  #pageAt(number: number): Int32Array {
    const found = this.#find(number);
    if (found !== undefined) return found;
    const page = new Int32Array(PAGE_SECTORS);
    this.#pages.set(number, page);
    this.#page = page;
    return page;
  }

  #chunkAt(place: number): Chunk {
    const number = Math.floor(place / this.#chunkSectors);
    if (number === this.#chunks.length) {
      this.#chunks.push({ bytes: new Uint8Array(CHUNK_BYTES), depths: new Uint8Array(this.#chunkSectors) });
    }
    return this.#chunks[number]!;
  }

  #chunkOf(place: number): Chunk {
    return this.#chunks[Math.floor(place / this.#chunkSectors)]!;
  }

  /** Bytes of places of one chunk. */
  #bytesAt(place: number, count: number): Uint8Array {
    const inChunk = place % this.#chunkSectors;
    return this.#part(this.#chunkOf(place).bytes, inChunk, inChunk + count);
  }

  #part(bytes: Uint8Array, from: number, to: number): Uint8Array {
    return bytes.subarray(from * this.#sectorBytes, to * this.#sectorBytes);
  }
}
