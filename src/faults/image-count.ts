import type { DiskState } from './disk-state.ts';

/** Factors up to this one are counted in an array. */
const SMALL = 64;

/**
 * A number of images, kept as how often each factor occurs: multiplying out thousands of twos is put off until somebody
 * asks, and going from one state to the next changes only the factors of the sectors that changed.
 */
export class ImageCount {
  readonly #small: Int32Array;
  readonly #large: Map<bigint, number>;

  constructor(from?: ImageCount) {
    this.#small = from === undefined ? new Int32Array(SMALL) : from.#small.slice();
    this.#large = new Map(from === undefined ? [] : from.#large);
  }

  clone(): ImageCount {
    return new ImageCount(this);
  }

  /** Multiplies by the ways in which these groups of sectors, known by their first slots, can turn out. */
  multiply(state: DiskState, groups: ArrayLike<number>): void {
    this.#change(state, groups, 1);
  }

  /** Takes the same out again. */
  divide(state: DiskState, groups: ArrayLike<number>): void {
    this.#change(state, groups, -1);
  }

  get product(): bigint {
    let product = 1n;
    for (const [factor, exponent] of this.#small.entries())
      if (exponent > 0) product *= BigInt(factor) ** BigInt(exponent);
    for (const [factor, exponent] of this.#large) product *= factor ** BigInt(exponent);
    return product;
  }

  #change(state: DiskState, groups: ArrayLike<number>, by: number): void {
    for (let i = 0; i < groups.length; i++) {
      const factor = state.imagesOfGroup(groups[i]!);
      if (factor === 1) continue;
      if (factor < SMALL) this.#small[Number(factor)]! += by;
      else this.#changeLarge(BigInt(factor), by);
    }
  }

  #changeLarge(factor: bigint, by: number): void {
    const exponent = (this.#large.get(factor) ?? 0) + by;
    if (exponent === 0) this.#large.delete(factor);
    else this.#large.set(factor, exponent);
  }
}
