import type { Prng } from '../../core/index.ts';
import { FlatMemory, type GuestMemory, RegionMemory } from '../../virtio/index.ts';
import type { Extent } from './watched-memory.ts';

const WALL_BYTES = 1024;
const CANARY = 0xc5;
/** Size of a region: the rings are in the first, headers, tables and data in both. */
export const REGION_BYTES = 0x3000;
/** Where the second region begins: right behind the first, or above 4 GiB. */
const FAR = 2 ** 32 + 0x8000;

/** Guest memory of one region or two, with walls around each that tell who touched them. */
export class Arena {
  readonly extents: readonly Extent[];
  readonly #buffer: Uint8Array;
  readonly #regions: readonly Uint8Array[];

  /** @param bases of the regions */
  constructor(bases: readonly number[]) {
    this.#buffer = new Uint8Array(bases.length * REGION_BYTES + (bases.length + 1) * WALL_BYTES).fill(CANARY);
    this.extents = bases.map((base) => ({ base, sizeBytes: REGION_BYTES }));
    this.#regions = bases.map((_, i) => this.#buffer.subarray(this.#start(i), this.#start(i) + REGION_BYTES));
  }

  /** One of the layouts that guests have: flat, flat above 4 GiB, two regions side by side, two with a hole between. */
  static choose(prng: Prng): Arena {
    const layouts = [[0], [2 ** 33], [0, REGION_BYTES], [0, FAR]];
    return new Arena(layouts[prng.below(layouts.length)]!);
  }

  get memory(): GuestMemory {
    const [first] = this.extents;
    if (this.extents.length === 1) return new FlatMemory(this.#regions[0]!, first!.base);
    return new RegionMemory(this.extents.map(({ base }, i) => ({ base, bytes: this.#regions[i]! })));
  }

  /** The bytes of a region, to be filled and changed. */
  region(index: number): Uint8Array {
    return this.#regions[index]!;
  }

  /** Whether a buffer is none of the guest's, or lies in one region. */
  mayTouch(buffer: Uint8Array): boolean {
    if (buffer.buffer !== this.#buffer.buffer) return true;
    return this.#regions.some(
      ({ byteOffset, length }) =>
        buffer.byteOffset >= byteOffset && buffer.byteOffset + buffer.length <= byteOffset + length,
    );
  }

  wallsStand(): boolean {
    for (let i = 0; i <= this.#regions.length; i++) {
      const end = i === this.#regions.length ? this.#buffer.length : this.#start(i);
      for (let at = end - WALL_BYTES; at < end; at++) if (this.#buffer[at] !== CANARY) return false;
    }
    return true;
  }

  #start(index: number): number {
    return WALL_BYTES + index * (REGION_BYTES + WALL_BYTES);
  }
}
