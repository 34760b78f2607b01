import { describe, expect, test } from 'vitest';
import {
  assertBytes,
  assertInteger,
  assertPowerOfTwo,
  assertString,
  describeValue,
  invariant,
} from '../../src/core/index.ts';

describe('guards', () => {
  test('assertBytes takes Uint8Arrays and Buffers only', () => {
    for (const good of [new Uint8Array(), Buffer.alloc(2)]) expect(() => assertBytes(good, 'x')).not.toThrow();
    for (const bad of [
      undefined,
      null,
      [1],
      'a',
      new ArrayBuffer(1),
      new Uint16Array(1),
      new DataView(new ArrayBuffer(1)),
    ]) {
      expect(() => assertBytes(bad, 'label')).toThrow(TypeError);
      expect(() => assertBytes(bad, 'label')).toThrow(/^label: expected a Uint8Array, got /);
    }
  });

  test('assertString', () => {
    expect(() => assertString('', 'x')).not.toThrow();
    for (const bad of [undefined, 3, null, new String('a')]) expect(() => assertString(bad, 'x')).toThrow(TypeError);
  });

  test('assertInteger tells a wrong type from a wrong value', () => {
    for (const good of [3, 4, 9]) expect(() => assertInteger(good, 'x', 3, 9)).not.toThrow();
    for (const bad of [2, 10, 3.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => assertInteger(bad, 'x', 3, 9)).toThrow(RangeError);
    }
    for (const bad of ['3', 3n, null, undefined, true]) expect(() => assertInteger(bad, 'x', 3, 9)).toThrow(TypeError);
    expect(() => assertInteger(-1, 'x')).toThrow(RangeError);
    expect(() => assertInteger(2 ** 53, 'x')).toThrow(RangeError);
    expect(() => assertInteger(Number.MAX_SAFE_INTEGER, 'x')).not.toThrow();
  });

  test('assertPowerOfTwo', () => {
    for (const good of [512, 1024, 4096]) expect(() => assertPowerOfTwo(good, 'x', 512, 4096)).not.toThrow();
    for (const bad of [0, 256, 513, 768, 3000, 8192]) {
      expect(() => assertPowerOfTwo(bad, 'x', 512, 4096)).toThrow(RangeError);
    }
  });

  test('invariant blames powercut, not its input', () => {
    expect(() => invariant(true, 'x')).not.toThrow();
    expect(() => invariant(false, 'the list is sorted')).toThrow('powercut defect: the list is sorted');
  });
});

test.each([
  [undefined, 'undefined'],
  [null, 'null'],
  [3, 'number 3'],
  [3n, 'bigint 3'],
  [true, 'boolean true'],
  ['a"b', 'string "a\\"b"'],
  ['x'.repeat(50), `string "${'x'.repeat(40)}..."`],
  [new Uint8Array(12), 'Uint8Array(12)'],
  [[1], 'Array'],
  [Object.create(null), 'object'],
  [() => 1, 'function'],
  [Symbol('s'), 'symbol Symbol(s)'],
])('describeValue, case %#', (value, expected) => {
  expect(describeValue(value)).toBe(expected);
});
