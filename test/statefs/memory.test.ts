import { describe, expect, test } from 'vitest';
import { borrowMemory, giveBackMemory, NO_MEMORY } from '../../src/statefs/memory.ts';

describe('memory for one piece of work', () => {
  test.each([
    [1, 512],
    [512, 512],
    [513, 1024],
    [4096, 4096],
    [8192, 8192],
    [65_535, 65_536],
    [65_536, 65_536],
    [65_537, 65_537],
  ])('%i bytes are borrowed as %i', (wanted, given) => {
    const { bytes, view } = borrowMemory(wanted);
    expect(bytes).toHaveLength(given);
    view.setUint8(wanted - 1, 7);
    expect(bytes[wanted - 1]).toBe(7);
    expect(view.byteLength).toBe(given);
  });

  test('what was given back is lent again, to one at a time', () => {
    const first = borrowMemory(2048);
    giveBackMemory(first);
    const again = borrowMemory(2000);
    expect(again === first).toBe(true);
    expect(borrowMemory(2048) === first).toBe(false);
  });

  test('what is lent is never lent to another', () => {
    const lent = Array.from({ length: 16 }, () => borrowMemory(1024));
    expect(new Set(lent).size).toBe(16);
    for (const memory of lent) giveBackMemory(memory);
    const again = Array.from({ length: 16 }, () => borrowMemory(1024));
    expect(new Set(again).size).toBe(16);
    // A few are kept, and no more.
    expect(again.filter((memory) => lent.includes(memory))).toHaveLength(4);
  });

  test('what is too large to keep, or nothing, is not lent again', () => {
    const large = borrowMemory(65_537);
    giveBackMemory(large);
    expect(borrowMemory(65_537) === large).toBe(false);
    giveBackMemory(NO_MEMORY);
    expect(borrowMemory(512) === NO_MEMORY).toBe(false);
    expect(NO_MEMORY.bytes).toHaveLength(0);
  });
});
