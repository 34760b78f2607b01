import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { equalBytes, getU64, setU64, toHex, viewOf } from '../../src/core/index.ts';

describe('64-bit fields', () => {
  test('safe integers round trip, as the platform writes them', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(8), (value, offset) => {
        const view = new DataView(new ArrayBuffer(24));
        setU64(view, offset, value);
        expect(view.getBigUint64(offset, true)).toBe(BigInt(value));
        expect(getU64(view, offset)).toBe(value);
      }),
    );
  });

  test('every field over 2^53 - 1 reads as -1', () => {
    const large = fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(fc.oneof(large, fc.constantFrom(2n ** 53n, 2n ** 63n, 2n ** 64n - 1n)), (value) => {
        const view = new DataView(new ArrayBuffer(8));
        view.setBigUint64(0, value, true);
        expect(getU64(view, 0)).toBe(-1);
      }),
    );
  });
});

test('viewOf covers exactly the bytes of a subarray', () => {
  const bytes = new Uint8Array(16).subarray(5, 9);
  const view = viewOf(bytes);
  view.setUint32(0, 0x01020304);
  expect([view.byteLength, ...bytes]).toEqual([4, 1, 2, 3, 4]);
  expect(() => view.getUint8(4)).toThrow(RangeError);
});

test('equalBytes agrees with the comparison of their hexadecimal, around the length where it changes its way', () => {
  const lengths = fc.constantFrom(0, 1, 95, 96, 97, 98, 200);
  const pair = lengths.chain((length) =>
    fc.tuple(fc.uint8Array({ minLength: length, maxLength: length }), fc.nat(length), fc.nat(255)),
  );
  fc.assert(
    fc.property(pair, ([bytes, at, byte]) => {
      const other = bytes.slice();
      if (at < other.length) other[at] = byte;
      expect(equalBytes(bytes, other)).toBe(toHex(bytes) === toHex(other));
      expect(equalBytes(bytes, bytes.slice())).toBe(true);
      expect(equalBytes(bytes, new Uint8Array([...bytes, 0]))).toBe(false);
    }),
  );
});

test('toHex writes two lower-case digits a byte, of a subarray too', () => {
  expect(toHex(new Uint8Array([9, 0, 10, 255, 9]).subarray(1, 4))).toBe('000aff');
});
