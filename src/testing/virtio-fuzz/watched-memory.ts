import type { Prng } from '../../core/index.ts';
import type { GuestMemory } from '../../virtio/index.ts';

/** A range of guest addresses. */
export interface Extent {
  readonly base: number;
  readonly sizeBytes: number;
}

/**
 * Guest memory under watch: each access is counted and held to the regions by a calculation of its own, and before some
 * of them another processor of the guest changes a byte.
 */
export class WatchedMemory implements GuestMemory {
  accessCount = 0;
  /** The first access that answered although it was not all inside a region. */
  strayAccess: string | undefined;
  /** The first word that was written where the device has nothing to write but status bytes and data. */
  strayWord: string | undefined;
  readonly #mayWriteWord: (address: number, lengthBytes: number) => boolean;
  readonly #inner: GuestMemory;
  readonly #extents: readonly Extent[];
  readonly #prng: Prng;
  /** One in so many accesses sees a byte changed before it; 0: none does. */
  #calm = 0;
  #change: () => void = () => {};

  /** @param mayWriteWord where the device's own words are: its side of the rings */
  constructor(
    inner: GuestMemory,
    extents: readonly Extent[],
    prng: Prng,
    mayWriteWord: (address: number, lengthBytes: number) => boolean,
  ) {
    this.#mayWriteWord = mayWriteWord;
    this.#inner = inner;
    this.#extents = extents;
    this.#prng = prng;
  }

  /** From here on, `change` runs before one in `calm` accesses; never for 0. */
  disturb(calm: number, change: () => void): void {
    this.#calm = calm;
    this.#change = change;
  }

  reach(address: number): number {
    const bytes = this.#inner.reach(this.#enter(address));
    if (bytes > 0) this.#hold('reach', address, bytes, true);
    return bytes;
  }

  contains(address: number, lengthBytes: number): boolean {
    const inside = this.#inner.contains(this.#enter(address), lengthBytes);
    if (lengthBytes > 0) this.#hold('contains', address, lengthBytes, inside);
    return inside;
  }

  slice(address: number, lengthBytes: number): Uint8Array | undefined {
    const view = this.#inner.slice(this.#enter(address), lengthBytes);
    if (lengthBytes > 0) this.#hold('slice', address, lengthBytes, view !== undefined);
    return view;
  }

  readU8(address: number): number {
    return this.#held('readU8', address, 1, this.#inner.readU8(this.#enter(address)));
  }

  readU16(address: number): number {
    return this.#held('readU16', address, 2, this.#inner.readU16(this.#enter(address)));
  }

  readU32(address: number): number {
    return this.#held('readU32', address, 4, this.#inner.readU32(this.#enter(address)));
  }

  readU64(address: number): number {
    return this.#held('readU64', address, 8, this.#inner.readU64(this.#enter(address)));
  }

  writeU8(address: number, value: number): boolean {
    return this.#hold('writeU8', address, 1, this.#inner.writeU8(this.#enter(address), value));
  }

  writeU16(address: number, value: number): boolean {
    this.#holdWord('writeU16', address, 2);
    return this.#hold('writeU16', address, 2, this.#inner.writeU16(this.#enter(address), value));
  }

  writeU32(address: number, value: number): boolean {
    this.#holdWord('writeU32', address, 4);
    return this.#hold('writeU32', address, 4, this.#inner.writeU32(this.#enter(address), value));
  }

  writeU64(address: number, value: number): boolean {
    this.#holdWord('writeU64', address, 8);
    return this.#hold('writeU64', address, 8, this.#inner.writeU64(this.#enter(address), value));
  }

  loadU16(address: number): number {
    return this.#held('loadU16', address, 2, this.#inner.loadU16(this.#enter(address)));
  }

  storeU16(address: number, value: number): boolean {
    this.#holdWord('storeU16', address, 2);
    return this.#hold('storeU16', address, 2, this.#inner.storeU16(this.#enter(address), value));
  }

  #enter(address: number): number {
    this.accessCount++;
    if (this.#calm > 0 && this.#prng.below(this.#calm) === 0) this.#change();
    return address;
  }

  #held(access: string, address: number, lengthBytes: number, value: number): number {
    this.#hold(access, address, lengthBytes, value >= 0);
    return value;
  }

  #hold(access: string, address: number, lengthBytes: number, answered: boolean): boolean {
    if (answered && !this.#isInside(address, lengthBytes)) {
      this.strayAccess ??= `${access} of ${lengthBytes} bytes at 0x${address.toString(16)}`;
    }
    return answered;
  }

  #holdWord(access: string, address: number, lengthBytes: number): void {
    if (!this.#mayWriteWord(address, lengthBytes)) this.strayWord ??= `${access} at 0x${address.toString(16)}`;
  }

  #isInside(address: number, lengthBytes: number): boolean {
    return this.#extents.some(({ base, sizeBytes }) => address >= base && address - base + lengthBytes <= sizeBytes);
  }
}
