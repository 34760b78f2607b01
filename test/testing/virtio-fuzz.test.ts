import { describe, expect, it } from 'vitest';
import { type FuzzArena, fuzzVirtio, type VirtioFuzzReport } from '../../src/testing/index.ts';
import { BlkDevice, FlatMemory, type GuestMemory, RegionMemory, type VirtQueue } from '../../src/virtio/index.ts';

const OPERATIONS = 20_000;

function failureOf(report: VirtioFuzzReport): string {
  return report.failure?.what ?? `none in ${report.operationCount} operations`;
}

describe('a hostile guest against the virtio block device', () => {
  it('no exception, no stray access, bounded work, an answer after each reset (npm run fuzz:virtio for 1,000,000)', () => {
    const report = fuzzVirtio({ operationCount: OPERATIONS, seed: 1 });
    expect(report.failure).toBeUndefined();
    expect(report.operationCount).toBe(OPERATIONS);
    // It got through to the disk, and met most of what breaks a ring.
    expect(report.diskOperationCount).toBeGreaterThan(500);
    expect(report.breaks.size).toBeGreaterThan(9);
  });

  it('the same seed does the same, and a failure is repeated from its own seed', () => {
    const target = { makeMemory: leaky };
    const first = fuzzVirtio({ operationCount: 200_000, seed: 1, target });
    expect(fuzzVirtio({ operationCount: 200_000, seed: 1, target })).toEqual(first);
    const again = fuzzVirtio({ operationCount: 200, seed: first.failure!.seed, target });
    expect(again.failure).toEqual(first.failure);
  });

  it('tells how far it is', () => {
    const seen: number[] = [];
    fuzzVirtio({ operationCount: 500, seed: 3, onProgress: (count) => seen.push(count) });
    expect(seen).toEqual([200, 400, 500]);
  });

  it.each([{ operationCount: 0 }, { operationCount: 1.5 }, { seed: -1 }])('refuses %j', (wrong) => {
    expect(() => fuzzVirtio({ operationCount: 1, seed: 1, ...wrong })).toThrow(RangeError);
  });

  /** Guest memory of which each region is taken for 64 bytes longer than it is. */
  function leaky(arena: FuzzArena): GuestMemory {
    const regions = arena.extents.map(({ base }, i) => {
      const { buffer, byteOffset, length } = arena.region(i);
      return { base, bytes: new Uint8Array(buffer, byteOffset, length + 64) };
    });
    const [first, second] = regions;
    // Side by side they would overlap: then it is the second that leaks.
    if (second === undefined) return new FlatMemory(first!.bytes, first!.base);
    return new RegionMemory([{ ...first!, bytes: first!.bytes.subarray(0, -64) }, second]);
  }

  it('sees memory that is checked too far', () => {
    const report = fuzzVirtio({ operationCount: 200_000, seed: 1, target: { makeMemory: leaky } });
    expect(failureOf(report)).toMatch(/outside guest memory/);
  });

  it('sees a device that throws', () => {
    class Fragile extends BlkDevice {
      override process(index: number, queue: VirtQueue): number {
        if (queue.broken !== undefined) return 0;
        const count = super.process(index, queue);
        if (queue.broken !== undefined) throw new RangeError('index out of range');
        return count;
      }
    }
    const target = { makeDevice: (...args: ConstructorParameters<typeof BlkDevice>) => new Fragile(...args) };
    expect(failureOf(fuzzVirtio({ operationCount: 20_000, seed: 1, target }))).toMatch(
      /exception .* index out of range/,
    );
  });

  it('sees a device that writes beside its rings', () => {
    class Sloppy extends BlkDevice {
      #memory: GuestMemory;
      constructor(...args: ConstructorParameters<typeof BlkDevice>) {
        super(...args);
        this.#memory = args[1];
      }
      override process(index: number, queue: VirtQueue): number {
        this.#memory.writeU16(this.#memory.reach(0) > 0 ? 0x180 : 2 ** 33 + 0x180, 1);
        return super.process(index, queue);
      }
    }
    const target = { makeDevice: (...args: ConstructorParameters<typeof BlkDevice>) => new Sloppy(...args) };
    expect(failureOf(fuzzVirtio({ operationCount: 20_000, seed: 1, target }))).toMatch(/word written where no ring is/);
  });

  it('sees a device that works on and on for one notification', () => {
    class Tireless extends BlkDevice {
      override process(index: number, queue: VirtQueue): number {
        // What a loop without a bound comes to where the guest adds requests as fast as they are served.
        let count = 0;
        for (let i = 0; i < 2000; i++) count += super.process(index, queue);
        return count;
      }
    }
    const target = { makeDevice: (...args: ConstructorParameters<typeof BlkDevice>) => new Tireless(...args) };
    expect(failureOf(fuzzVirtio({ operationCount: 20_000, seed: 1, target }))).toMatch(/accesses to guest memory/);
  });

  it('sees a device that does not answer any more after its reset', () => {
    class Sulking extends BlkDevice {
      #sulks = false;
      override process(index: number, queue: VirtQueue): number {
        const count = this.#sulks ? 0 : super.process(index, queue);
        this.#sulks ||= queue.broken !== undefined;
        return count;
      }
    }
    const target = { makeDevice: (...args: ConstructorParameters<typeof BlkDevice>) => new Sulking(...args) };
    expect(failureOf(fuzzVirtio({ operationCount: 20_000, seed: 1, target }))).toMatch(/no answer .* after a reset/);
  });
});
