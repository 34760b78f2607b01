import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { equalBytes, VirtualClock } from '../../src/core/index.ts';
import { open } from '../../src/statefs/index.ts';
import { LogReader } from '../../src/statefs/log-reader.ts';
import { borrowMemory, giveBackMemory, NO_MEMORY } from '../../src/statefs/memory.ts';
import { holdProperty } from '../property/replay.ts';
import { bytes, FailingDevice, formatted } from './helpers.ts';

const FILE = 'test/statefs/memory.test.ts';

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

  test('what is given back twice would be lent to two: it is refused', () => {
    const memory = borrowMemory(4096);
    giveBackMemory(memory);
    expect(() => giveBackMemory(memory)).toThrow('memory is given back once');
    expect(borrowMemory(4096) === memory).toBe(true);
    expect(borrowMemory(4096) === memory).toBe(false);
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

/** A device at each of whose operations everything that was given back is overwritten, as by somebody who works in it. */
function poisoning(): FailingDevice {
  const device = new FailingDevice(formatted(1024));
  device.before = () => {
    for (let byteCount = 512; byteCount <= 65_536; byteCount *= 2) {
      const lent = Array.from({ length: 4 }, () => borrowMemory(byteCount));
      for (const { bytes } of lent) bytes.fill(0xa5);
      // One is lent again, with that in it; and there is room for what the store gives back next.
      giveBackMemory(lent[0]!);
    }
  };
  return device;
}

describe('a store whose memory others work in, once it was given back', () => {
  const KEYS = ['/state/a', '/state/b', '/state/c'];
  const SIZES = [0, 1, 400, 1500, 5000];
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.tuple(fc.constantFrom(...KEYS), fc.constantFrom(...SIZES), fc.nat({ max: 255 })) },
    fc.constantFrom('reopen', 'compact', 'scrub', 'ordered', 'checksummed', 'transaction', 'delete'),
  );

  test('holds what was put, through transactions, moves, scrubs and restarts', () => {
    const property = fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const device = poisoning();
      let commit: 'ordered' | 'checksummed' = 'ordered';
      const reopened = () => open(device, { clock: new VirtualClock(), commit });
      let store = reopened();
      const model = new Map<string, Uint8Array>();
      for (const one of steps) {
        if (typeof one !== 'string') {
          const [key, size, seed] = one;
          store.put(key, bytes(size, seed));
          model.set(key, bytes(size, seed));
        } else if (one === 'ordered' || one === 'checksummed') commit = one;
        else if (one === 'reopen') store = reopened();
        else if (one === 'compact') store.compact();
        else if (one === 'scrub') expect(store.scrub().findings).toEqual([]);
        else if (one === 'delete') {
          if (model.delete('/state/a')) store.delete('/state/a');
        } else {
          const transaction = store.begin();
          for (const key of KEYS) transaction.put(key, bytes(700, key.length));
          transaction.commit();
          for (const key of KEYS) model.set(key, bytes(700, key.length));
        }
        if (store.list().join() !== [...model.keys()].sort().join()) throw new Error(`keys: got ${store.list()}`);
        for (const [key, value] of model)
          if (!equalBytes(store.get(key), value)) throw new Error(`${key}: other bytes`);
      }
    });
    holdProperty(FILE, 'holds what was put', property, { numRuns: 25 });
  });

  test('is seen to fail where memory is given back too early', () => {
    const device = poisoning();
    const reader = new LogReader(device, 16, 16, undefined);
    const at = reader.load(0, 1);
    const before = reader.buffer.slice(at, at + 512);
    reader.close();
    device.flush();
    expect(equalBytes(reader.buffer.slice(at, at + 512), before)).toBe(false);
  });
});
