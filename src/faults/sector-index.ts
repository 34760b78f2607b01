/** Disks up to this many sectors get one slot a sector; larger ones get slots as sectors are written. */
const DENSE_SECTORS = 1 << 20;

/** Where a disk's sectors have their entries in arrays: a slot each, those of a physical sector side by side. */
export class SectorIndex {
  /** Sectors are their own slots. */
  readonly dense: boolean;
  readonly #groupSectors: number;
  readonly #groups = new Map<number, number>();
  readonly #sectors: number[] = [];
  readonly #sectorCount: number;

  /** @param groupSectors how many sectors get their slots together, a power of two */
  constructor(sectorCount: number, groupSectors: number) {
    this.dense = sectorCount <= DENSE_SECTORS;
    this.#sectorCount = sectorCount;
    this.#groupSectors = groupSectors;
  }

  /** Slots in use: arrays need this many entries. */
  get slotCount(): number {
    if (!this.dense) return this.#groups.size * this.#groupSectors;
    return Math.ceil(this.#sectorCount / this.#groupSectors) * this.#groupSectors;
  }

  /** The slot of a sector, or -1 where it has none. */
  find(sector: number): number {
    if (this.dense) return sector;
    const offset = sector % this.#groupSectors;
    const first = this.#groups.get(sector - offset);
    return first === undefined ? -1 : first + offset;
  }

  /** The slot of a sector, which gets one if it has none. */
  claim(sector: number): number {
    const slot = this.find(sector);
    if (slot >= 0) return slot;
    const offset = sector % this.#groupSectors;
    const first = this.slotCount;
    this.#groups.set(sector - offset, first);
    this.#sectors.push(sector - offset);
    return first + offset;
  }

  /** The sector of a slot. */
  sectorOf(slot: number): number {
    if (this.dense) return slot;
    const offset = slot % this.#groupSectors;
    return this.#sectors[(slot - offset) / this.#groupSectors]! + offset;
  }

  clone(): SectorIndex {
    const copy = new SectorIndex(this.#sectorCount, this.#groupSectors);
    for (const sector of this.#sectors) copy.claim(sector);
    return copy;
  }
}
