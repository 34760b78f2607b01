import { BLK_S_IOERR, BLK_S_OK, BLK_S_UNSUPP, RANGE_BYTES, RANGE_F_UNMAP } from './blk-layout.ts';
import type { SegmentStream } from './chain.ts';

/** What a range has to keep to. */
export interface RangeRules {
  readonly countMax: number;
  readonly unitsMax: number;
  /** Units of 512 bytes in a sector of the disk. */
  readonly unitsPerSector: number;
  readonly capacityUnits: number;
  /** Flags that the request knows: 0 for a discard (virtio 5.2.6.2). */
  readonly knownFlags: number;
}

/**
 * The ranges of a discard or a write zeroes, copied out of guest memory in one reading and checked as a whole before
 * any is carried out.
 */
export class RangeList {
  count = 0;
  readonly #units: Float64Array;
  readonly #lengths: Float64Array;
  readonly #flags: Uint32Array;

  constructor(countMax: number) {
    this.#units = new Float64Array(countMax);
    this.#lengths = new Float64Array(countMax);
    this.#flags = new Uint32Array(countMax);
  }

  /** First unit of a range. */
  unit(index: number): number {
    return this.#units[index]!;
  }

  unitCount(index: number): number {
    return this.#lengths[index]!;
  }

  mayUnmap(index: number): boolean {
    return (this.#flags[index]! & RANGE_F_UNMAP) !== 0;
  }

  /** @returns the status that the request deserves so far */
  parse(from: SegmentStream, givenBytes: number, rules: RangeRules): number {
    this.count = givenBytes / RANGE_BYTES;
    if (!Number.isInteger(this.count) || this.count < 1 || this.count > rules.countMax) return BLK_S_IOERR;
    for (let i = 0; i < this.count; i++) {
      this.#units[i] = from.takeU64();
      this.#lengths[i] = from.takeU32();
      this.#flags[i] = from.takeU32();
    }
    // An unknown flag anywhere is UNSUPP, whatever else is wrong (5.2.6.2).
    for (let i = 0; i < this.count; i++) if ((this.#flags[i]! & ~rules.knownFlags) !== 0) return BLK_S_UNSUPP;
    for (let i = 0; i < this.count; i++) if (!this.#isInside(i, rules)) return BLK_S_IOERR;
    return BLK_S_OK;
  }

  #isInside(index: number, rules: RangeRules): boolean {
    const unit = this.unit(index);
    const count = this.unitCount(index);
    if (unit < 0 || count < 1 || count > rules.unitsMax || count > rules.capacityUnits - unit) return false;
    return unit % rules.unitsPerSector === 0 && count % rules.unitsPerSector === 0;
  }
}
