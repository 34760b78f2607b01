import { equalBytes } from '../../src/core/index.ts';
import type { DiskProfile } from '../../src/faults/index.ts';

/** Sectors that the model follows. */
export const SECTORS = 64;

/** What the sectors of a disk may be after a cut: for each its versions, newest last. Nothing of the product is in it. */
export class CacheModel {
  readonly #profile: DiskProfile;
  readonly #versions: Uint8Array[][];
  /** Sectors with a write that is not durable. */
  readonly #dirty = new Set<number>();
  /** Sectors that were discarded: a flush does not decide whether they kept their content. */
  readonly #discarded = new Set<number>();

  constructor(profile: DiskProfile) {
    this.#profile = profile;
    this.#versions = Array.from({ length: SECTORS }, () => [new Uint8Array(profile.sectorBytes)]);
  }

  write(sector: number, bytes: Uint8Array, fua: boolean): void {
    for (let at = 0; at < bytes.length; at += this.#profile.sectorBytes, sector++) {
      this.#add(sector, bytes.slice(at, at + this.#profile.sectorBytes));
      if (fua) this.#settle(sector);
    }
  }

  writeZeroes(sector: number, count: number): void {
    this.write(sector, new Uint8Array(count * this.#profile.sectorBytes), false);
  }

  discard(sector: number, count: number): void {
    for (let i = sector; i < sector + count; i++) {
      const wasDirty = this.#dirty.has(i);
      this.#add(i, new Uint8Array(this.#profile.sectorBytes));
      if (!wasDirty) this.#dirty.delete(i);
      this.#discarded.add(i);
    }
  }

  flush(): void {
    for (let sector = 0; sector < SECTORS; sector++) {
      this.#dirty.delete(sector);
      if (!this.#discarded.has(sector)) this.#settle(sector);
    }
  }

  compareNewest(image: Uint8Array): void {
    for (let sector = 0; sector < SECTORS; sector++) this.#expect(this.#of(image, sector), -1, sector);
  }

  /** Checks what a cut left, and goes on from there. */
  settleOn(image: Uint8Array, how: 'all-lost' | 'all-kept' | 'any'): void {
    for (let sector = 0; sector < SECTORS; sector++) {
      const bytes = this.#of(image, sector);
      if (how === 'all-kept') this.#expect(bytes, -1, sector);
      else if (how === 'all-lost') this.#expect(bytes, 0, sector);
      else if (!this.#isReachable(bytes, sector)) throw new Error(`sector ${sector} is none of its versions`);
    }
    for (let sector = 0; sector < SECTORS; sector++) this.#versions[sector] = [this.#of(image, sector).slice()];
    this.#dirty.clear();
    this.#discarded.clear();
  }

  #add(sector: number, bytes: Uint8Array): void {
    this.#versions[sector]?.push(bytes);
    this.#dirty.add(sector);
    this.#discarded.delete(sector);
  }

  #settle(sector: number): void {
    this.#versions[sector] = (this.#versions[sector] as Uint8Array[]).slice(-1);
    this.#dirty.delete(sector);
  }

  #of(image: Uint8Array, sector: number): Uint8Array {
    const { sectorBytes } = this.#profile;
    return image.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);
  }

  #expect(bytes: Uint8Array, index: number, sector: number): void {
    if (equalBytes(bytes, this.#versions[sector]?.at(index) as Uint8Array)) return;
    throw new Error(`sector ${sector} is not its ${index === 0 ? 'durable' : 'newest'} version`);
  }

  #isReachable(bytes: Uint8Array, sector: number): boolean {
    const versions = this.#versions[sector] as Uint8Array[];
    if (versions.some((version) => equalBytes(version, bytes))) return true;
    const { damagesPhysicalSector, tearStepBytes } = this.#profile;
    if (damagesPhysicalSector && this.#isNearDirty(sector)) return true;
    if (tearStepBytes === 0) return false;
    for (let from = 0; from < bytes.length; from += tearStepBytes) {
      const part = bytes.subarray(from, from + tearStepBytes);
      if (!versions.some((version) => equalBytes(version.subarray(from, from + tearStepBytes), part))) return false;
    }
    return true;
  }

  #isNearDirty(sector: number): boolean {
    const group = this.#profile.physicalSectorBytes / this.#profile.sectorBytes;
    const first = sector - (sector % group);
    for (let i = first; i < first + group; i++) if (this.#dirty.has(i)) return true;
    return false;
  }
}
