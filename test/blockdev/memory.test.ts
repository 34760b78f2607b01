import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { codeOf } from '../../src/core/index.ts';

const HUGE = 2 ** 41;

function codeThrown(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return codeOf(error);
  }
  return undefined;
}

describe('a sparse disk', () => {
  test('occupies only what was written', () => {
    const device = new MemoryDevice({ sectorCount: HUGE });
    expect(device.allocatedBytes).toBe(0);
    device.read(HUGE - 1, new Uint8Array(512));
    expect(device.allocatedBytes).toBe(0);
    device.write(HUGE - 1, new Uint8Array(512).fill(1));
    expect(device.allocatedBytes).toBe(128 * 512);
  });

  // A loop over the 2^34 pages of this disk would not end within any test's time.
  test.each(['writeZeroes', 'discard'] as const)('%s of all of it visits only pages that exist', (operation) => {
    const device = new MemoryDevice({ sectorCount: HUGE });
    const source = new Uint8Array(512).fill(1);
    for (const sector of [0, 127, 128, 2 ** 33, HUGE - 1]) device.write(sector, source);
    device[operation](1, HUGE - 1);
    const target = new Uint8Array(512);
    device.read(0, target);
    expect(target).toEqual(source);
    for (const sector of [127, 128, 2 ** 33, HUGE - 1]) {
      device.read(sector, target);
      expect(target.some((byte) => byte !== 0)).toBe(false);
    }
    expect(device.allocatedBytes).toBe(128 * 512);
  });

  test('zeroing what was never written makes no page', () => {
    const device = new MemoryDevice({ sectorCount: 1000 });
    device.writeZeroes(3, 900);
    device.writeZeroes(3, 1);
    expect(device.allocatedBytes).toBe(0);
  });
});

describe('images', () => {
  test('a device of an image holds a copy of it, and gives one back', () => {
    const image = Uint8Array.from({ length: 300 * 512 }, (_, i) => i * 31);
    const copy = image.slice();
    const device = MemoryDevice.fromImage(image);
    image.fill(0);
    expect(device.sectorCount).toBe(300);
    const snapshot = device.snapshot();
    expect(snapshot).toEqual(copy);
    snapshot.fill(0);
    expect(device.snapshot()).toEqual(copy);
  });

  test('the geometry is kept, read-only too', () => {
    const options = { sectorBytes: 1024, physicalSectorBytes: 4096, readOnly: true };
    const device = MemoryDevice.fromImage(new Uint8Array(8192).fill(3), options);
    expect([device.sectorBytes, device.physicalSectorBytes, device.sectorCount]).toEqual([1024, 4096, 8]);
    expect(device.snapshot()).toEqual(new Uint8Array(8192).fill(3));
    expect(codeThrown(() => device.write(0, new Uint8Array(1024)))).toBe('EROFS');
  });

  test('what is no image is EINVAL', () => {
    expect(codeThrown(() => MemoryDevice.fromImage(new Uint8Array()))).toBe('EINVAL');
    expect(codeThrown(() => MemoryDevice.fromImage(new Uint8Array(513)))).toBe('EINVAL');
    expect(codeThrown(() => MemoryDevice.fromImage(new Uint8Array(512), { sectorBytes: 4096 }))).toBe('EINVAL');
    expect(() => MemoryDevice.fromImage('image' as never)).toThrow(TypeError);
  });
});

test.each([
  [{ sectorCount: 0 }],
  [{ sectorCount: 1.5 }],
  [{ sectorCount: HUGE + 1 }],
  [{ sectorCount: 8, sectorBytes: 256 }],
  [{ sectorCount: 8, sectorBytes: 8192 }],
  [{ sectorCount: 8, sectorBytes: 1000 }],
  [{ sectorCount: 8, sectorBytes: 4096, physicalSectorBytes: 512 }],
  [{ sectorCount: 8, physicalSectorBytes: 3000 }],
])('%o is no geometry', (geometry) => {
  expect(() => new MemoryDevice(geometry)).toThrow(RangeError);
});

test('a geometry of a wrong type is a TypeError', () => {
  expect(() => new MemoryDevice({ sectorCount: '8' as never })).toThrow(TypeError);
});
