import type { DiskState } from './disk-state.ts';

/**
 * A number of images, kept as how often each factor occurs: multiplying out thousands of twos is put off until somebody
 * asks, and going from one state to the next changes only the factors of the sectors that changed.
 */
export class ImageCount {
  readonly #exponents: Map<bigint, number>;

  constructor(exponents?: ReadonlyMap<bigint, number>) {
    this.#exponents = new Map(exponents);
  }

  clone(): ImageCount {
    return new ImageCount(this.#exponents);
  }

  /** Multiplies by the ways in which these groups of sectors can turn out. */
  multiply(state: DiskState, groups: Iterable<number>): void {
    for (const group of groups) this.#change(state.imagesOfGroup(group), 1);
  }

  /** Takes the same out again. */
  divide(state: DiskState, groups: Iterable<number>): void {
    for (const group of groups) this.#change(state.imagesOfGroup(group), -1);
  }

  get product(): bigint {
    let product = 1n;
    for (const [factor, exponent] of this.#exponents) product *= factor ** BigInt(exponent);
    return product;
  }

  #change(factor: bigint, by: number): void {
    if (factor === 1n) return;
    const exponent = (this.#exponents.get(factor) ?? 0) + by;
    if (exponent === 0) this.#exponents.delete(factor);
    else this.#exponents.set(factor, exponent);
  }
}
