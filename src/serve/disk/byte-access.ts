import type { ServedDisk } from './served-disk.ts';

/**
 * A disk by bytes, for clients that know of no sectors: where a write covers a part of a sector, the rest is read first
 * and written with it. Nothing comes between the two: there is one thread, and it does not wait.
 */
export class ByteAccess {
  readonly #disk: ServedDisk;
  readonly #sector: Uint8Array;

  constructor(disk: ServedDisk) {
    this.#disk = disk;
    this.#sector = new Uint8Array(disk.sectorBytes);
  }

  /** Whether both are whole sectors. */
  isAligned(offsetBytes: number, lengthBytes: number): boolean {
    const { sectorBytes } = this.#disk;
    return offsetBytes % sectorBytes === 0 && lengthBytes % sectorBytes === 0;
  }

  read(offsetBytes: number, target: Uint8Array): void {
    this.#forSectors(offsetBytes, target.length, (sector, from, count, at) => {
      if (count === 0) {
        this.#disk.read(sector, this.#sector);
        target.set(this.#sector.subarray(from, from + Math.min(target.length - at, this.#sector.length - from)), at);
      } else {
        this.#disk.read(sector, target.subarray(at, at + count * this.#sector.length));
      }
    });
  }

  write(offsetBytes: number, source: Uint8Array, fua: boolean): void {
    this.#forSectors(offsetBytes, source.length, (sector, from, count, at) => {
      if (count === 0) {
        this.#disk.read(sector, this.#sector);
        this.#sector.set(source.subarray(at, at + this.#sector.length - from), from);
        this.#disk.write(sector, this.#sector, { fua });
      } else {
        this.#disk.write(sector, source.subarray(at, at + count * this.#sector.length), { fua });
      }
    });
  }

  /** Zeros, whole sectors with one operation. */
  writeZeroes(offsetBytes: number, lengthBytes: number, unmap: boolean): void {
    this.#forSectors(offsetBytes, lengthBytes, (sector, from, count, at) => {
      if (count === 0) {
        this.#disk.read(sector, this.#sector);
        this.#sector.fill(0, from, from + lengthBytes - at);
        this.#disk.write(sector, this.#sector);
      } else {
        this.#disk.writeZeroes(sector, count, { unmap });
      }
    });
  }

  /** Discards the whole sectors inside the range: what is only partly in it is still needed. */
  discard(offsetBytes: number, lengthBytes: number): void {
    const { sectorBytes } = this.#disk;
    const first = Math.ceil(offsetBytes / sectorBytes);
    const end = Math.floor((offsetBytes + lengthBytes) / sectorBytes);
    if (end > first) this.#disk.discard(first, end - first);
  }

  /**
   * Visits a range: part of a sector (`count` 0, from byte `from` on), whole ones, part of one. `at` counts the bytes
   * before.
   */
  #forSectors(
    offsetBytes: number,
    lengthBytes: number,
    visit: (sector: number, from: number, count: number, at: number) => void,
  ): void {
    const { sectorBytes } = this.#disk;
    for (let at = 0; at < lengthBytes; ) {
      const from = (offsetBytes + at) % sectorBytes;
      const sector = (offsetBytes + at - from) / sectorBytes;
      const whole = from === 0 ? Math.floor((lengthBytes - at) / sectorBytes) : 0;
      visit(sector, from, whole, at);
      at += whole > 0 ? whole * sectorBytes : Math.min(sectorBytes - from, lengthBytes - at);
    }
  }
}
