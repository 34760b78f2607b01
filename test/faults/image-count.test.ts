import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type DiskState, ImageCount } from '../../src/faults/index.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/image-count.test.ts';

const factor = fc.oneof(
  fc.integer({ min: 1, max: 66 }),
  fc.constantFrom(63, 64, 65, 2 ** 40, 2n ** 80n, 2n ** 80n + 1n),
);
const factors = fc.array(factor, { maxLength: 8 });

/** A state in which the group that is known by the slot `i` has so many images. */
function stateOf(images: readonly (number | bigint)[]): DiskState {
  return { imagesOfGroup: (slot: number) => images[slot] } as DiskState;
}

const slotsOf = (images: readonly unknown[]) => Int32Array.from(images.keys());
const productOf = (images: readonly (number | bigint)[]) => images.reduce<bigint>((all, one) => all * BigInt(one), 1n);

const TITLE = 'the product of the factors that were multiplied in and not taken out, exactly; a clone has its own';
test(TITLE, () => {
  const property = fc.property(factors, factors, factors, (kept, passing, more) => {
    const count = new ImageCount();
    expect(count.product).toBe(1n);
    count.multiply(stateOf(kept), slotsOf(kept));
    count.multiply(stateOf(passing), slotsOf(passing));
    expect(count.product).toBe(productOf(kept) * productOf(passing));
    const twin = count.clone();
    twin.multiply(stateOf(more), slotsOf(more));
    count.divide(stateOf(passing), slotsOf(passing));
    expect(count.product).toBe(productOf(kept));
    expect(twin.product).toBe(productOf(kept) * productOf(passing) * productOf(more));
    count.divide(stateOf(kept), slotsOf(kept));
    expect(count.product).toBe(1n);
  });
  holdProperty(FILE, TITLE, property, { numRuns: 200 });
});

test('only the groups named count', () => {
  const count = new ImageCount();
  count.multiply(stateOf([2, 3, 5, 2n ** 70n]), [0, 2]);
  expect(count.product).toBe(10n);
});

test('a factor may be taken out before it is multiplied in', () => {
  const count = new ImageCount();
  const images = [3, 2n ** 70n, 100];
  count.divide(stateOf(images), slotsOf(images));
  count.multiply(stateOf(images), slotsOf(images));
  expect(count.product).toBe(1n);
});
