import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Sfc32 } from '../../src/core/index.ts';

/** sfc32 as its author states it, in bigints: slow, and without the shortcuts of 32-bit operators. */
function* reference(seed: number): Generator<number, never> {
  const mask = 0xffff_ffffn;
  let [a, b, c, counter] = [0n, BigInt(seed) & mask, BigInt(seed) >> 32n, 1n];
  for (let i = 0; ; i++) {
    const sum = (a + b + counter) & mask;
    counter = (counter + 1n) & mask;
    a = b ^ (b >> 9n);
    b = (c + (c << 3n)) & mask;
    c = ((((c << 21n) | (c >> 11n)) & mask) + sum) & mask;
    // The first 15 mix the seed in.
    if (i >= 15) yield Number(sum);
  }
}

describe('Sfc32', () => {
  test('is sfc32', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (seed) => {
        const prng = new Sfc32(seed);
        const expected = reference(seed);
        for (let i = 0; i < 20; i++) expect(prng.nextU32()).toBe(expected.next().value);
      }),
    );
  });

  test('never changes: recorded runs must replay for ever', () => {
    const prng = new Sfc32(42);
    expect(Array.from({ length: 4 }, () => prng.nextU32())).toMatchInlineSnapshot(`
      [
        1251167922,
        656401615,
        478193053,
        3278332503,
      ]
    `);
  });

  test('below stays in its bounds and reaches every value', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 40 }), (seed, bound) => {
        const prng = new Sfc32(seed);
        const seen = new Set(Array.from({ length: 40 * bound }, () => prng.below(bound)));
        expect(Math.max(...seen)).toBeLessThan(bound);
        expect(Math.min(...seen)).toBeGreaterThanOrEqual(0);
        // 40 draws a value miss one with a chance of about e^-40.
        expect(seen.size).toBe(bound);
      }),
      { numRuns: 50 },
    );
  });

  test('below takes bounds from 1 to 2^32', () => {
    const prng = new Sfc32(1);
    expect(prng.below(1)).toBe(0);
    expect(prng.below(2 ** 32)).toBeLessThan(2 ** 32);
    for (const bad of [0, -1, 1.5, 2 ** 32 + 1]) expect(() => prng.below(bad)).toThrow(RangeError);
    expect(() => new Sfc32(-1)).toThrow(RangeError);
  });

  test('below is uniform where the bound does not divide 2^32', () => {
    // With a plain remainder the lower half of [0, 3 * 2^30) would come twice as often as the upper one.
    const prng = new Sfc32(3);
    let low = 0;
    for (let i = 0; i < 6000; i++) if (prng.below(3 * 2 ** 30) < 2 ** 30) low++;
    expect(low).toBeGreaterThan(1800);
    expect(low).toBeLessThan(2200);
  });

  test('fill takes the bytes of the numbers, least first, in any length', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(13), (seed, length) => {
        const bytes = new Uint8Array(length);
        new Sfc32(seed).fill(bytes);
        const view = new DataView(new ArrayBuffer(16));
        const prng = new Sfc32(seed);
        for (let at = 0; at < length; at += 4) view.setUint32(at, prng.nextU32(), true);
        expect(bytes).toEqual(new Uint8Array(view.buffer, 0, length));
      }),
    );
  });
});
