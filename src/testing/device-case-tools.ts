import type { BlockDevice } from '../blockdev/index.ts';
import { Sfc32 } from '../core/index.ts';
import { expectBytes } from './assertions.ts';

/** The longest transfer of the fixed cases: it crosses two of any page of up to 128 sectors. */
export const LONG_SECTORS = 260;

/** Whole sectors of noise, equal for equal tags, never a sector of zeros. */
export function noise(device: BlockDevice, sectorCount: number, tag: number): Uint8Array {
  const bytes = new Uint8Array(sectorCount * device.sectorBytes);
  new Sfc32(tag).fill(bytes);
  return bytes;
}

/** What `sectorCount` sectors from `sector` on hold. */
export function readSectors(device: BlockDevice, sector: number, sectorCount: number): Uint8Array {
  // Not zeros: a device that leaves the buffer as it was must not pass for one that filled it.
  const target = new Uint8Array(sectorCount * device.sectorBytes).fill(0xa5);
  device.read(sector, target);
  return target;
}

/** Fails unless the sectors from `sector` on hold `expected`. */
export function expectSectors(device: BlockDevice, sector: number, expected: Uint8Array, what: string): void {
  const actual = readSectors(device, sector, expected.length / device.sectorBytes);
  expectBytes(actual, expected, `${what}, read from sector ${sector}`);
}

/** Writes noise over the first `sectorCount` sectors, to see who disturbs it. */
export function paint(device: BlockDevice, sectorCount: number, tag: number): Uint8Array {
  const image = noise(device, sectorCount, tag);
  device.write(0, image);
  return image;
}
