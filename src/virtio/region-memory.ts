import { assertBytes } from '../core/index.ts';
import { FlatMemory, type GuestMemory } from './memory.ts';

/** No address is in it: what answers an access that lies in no region. */
const NOWHERE = new FlatMemory(new Uint8Array(0), Number.MAX_SAFE_INTEGER);

/** A piece of guest memory. */
export interface MemoryRegion {
  /** Guest-physical address of the first byte. */
  readonly base: number;
  /** The guest's from here on. */
  readonly bytes: Uint8Array;
}

/**
 * Guest memory of several regions, in any order, with holes between them, all shared with another process: what a
 * vhost-user front end hands over. An access looks the region up and allocates nothing.
 */
export class RegionMemory implements GuestMemory {
  #regions: readonly FlatMemory[] = [];
  /** The region that was found last: the next access is mostly in it as well. */
  #last: FlatMemory = NOWHERE;

  constructor(regions: readonly MemoryRegion[] = []) {
    this.map(regions);
  }

  /**
   * Puts other regions in the place of all there are. No view of the former ones is kept here, so that they may be
   * unmapped: what was sliced out of them must be gone as well by then.
   * @throws TypeError, RangeError for regions that are empty or overlap; the former ones stay then
   */
  map(regions: readonly MemoryRegion[]): void {
    const made = regions.map((region) => new FlatMemory(requireBytes(region), region.base, { shared: true }));
    const sorted = made.toSorted((a, b) => a.base - b.base);
    for (const [i, { base }] of sorted.entries()) {
      const before = sorted[i - 1];
      if (before !== undefined && before.base + before.sizeBytes > base) {
        throw new RangeError(`regions: expected none to overlap, got one at ${before.base} that reaches past ${base}`);
      }
    }
    this.#regions = made;
    this.#last = NOWHERE;
  }

  reach(address: number): number {
    return this.#at(address).reach(address);
  }

  contains(address: number, lengthBytes: number): boolean {
    return this.#at(address).contains(address, lengthBytes);
  }

  slice(address: number, lengthBytes: number): Uint8Array | undefined {
    return this.#at(address).slice(address, lengthBytes);
  }

  readU8(address: number): number {
    return this.#at(address).readU8(address);
  }

  readU16(address: number): number {
    return this.#at(address).readU16(address);
  }

  readU32(address: number): number {
    return this.#at(address).readU32(address);
  }

  readU64(address: number): number {
    return this.#at(address).readU64(address);
  }

  writeU8(address: number, value: number): boolean {
    return this.#at(address).writeU8(address, value);
  }

  writeU16(address: number, value: number): boolean {
    return this.#at(address).writeU16(address, value);
  }

  writeU32(address: number, value: number): boolean {
    return this.#at(address).writeU32(address, value);
  }

  writeU64(address: number, value: number): boolean {
    return this.#at(address).writeU64(address, value);
  }

  loadU16(address: number): number {
    return this.#at(address).loadU16(address);
  }

  storeU16(address: number, value: number): boolean {
    return this.#at(address).storeU16(address, value);
  }

  /** The region that an address lies in; one of no bytes where it lies in none. */
  #at(address: number): FlatMemory {
    if (this.#last.reach(address) > 0) return this.#last;
    for (const region of this.#regions) {
      if (region.reach(address) > 0) {
        this.#last = region;
        return region;
      }
    }
    return NOWHERE;
  }
}

function requireBytes({ bytes }: MemoryRegion): Uint8Array {
  assertBytes(bytes, 'region');
  if (bytes.length === 0) throw new RangeError('region: expected at least one byte, got none');
  return bytes;
}
