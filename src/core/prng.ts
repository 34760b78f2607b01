import { assertInteger } from './guards.ts';

/** A seeded source of randomness: equal seeds, equal sequences, on every machine. */
export interface Prng {
  /** A uniform integer from 0 to 2^32 - 1. */
  nextU32(): number;
  /** A uniform integer from 0 to `bound - 1`; `bound` is from 1 to 2^32. */
  below(bound: number): number;
  /** Fills `target` with random bytes. */
  fill(target: Uint8Array): void;
}

/** sfc32 (Chris Doty-Humphrey, PractRand): 128 bits of state, passes PractRand, a few nanoseconds a number. */
export class Sfc32 implements Prng {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** @param seed a safe, non-negative integer */
  constructor(seed: number) {
    assertInteger(seed, 'seed');
    this.#a = 0;
    this.#b = seed | 0;
    this.#c = Math.floor(seed / 0x1_0000_0000) | 0;
    for (let i = 0; i < 15; i++) this.nextU32();
  }

  nextU32(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  below(bound: number): number {
    assertInteger(bound, 'bound', 1, 0x1_0000_0000);
    // Rejection keeps it uniform; at worst every second draw is refused.
    const limit = 0x1_0000_0000 - (0x1_0000_0000 % bound);
    for (;;) {
      const drawn = this.nextU32();
      if (drawn < limit) return drawn % bound;
    }
  }

  fill(target: Uint8Array): void {
    for (let i = 0; i < target.length; i += 4) {
      const word = this.nextU32();
      for (let j = 0; j < 4 && i + j < target.length; j++) target[i + j] = word >>> (8 * j);
    }
  }
}
