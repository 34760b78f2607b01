import type { BlockDevice } from '../blockdev/index.ts';
import { expectCode, expectThat, expectTypeError } from './assertions.ts';
import { expectSectors, noise, paint } from './device-case-tools.ts';
import type { DeviceBench, DeviceCaseSpec } from './device-case-types.ts';

/** [first sector, sector count] pairs that no device of this size has. */
function badRanges(device: BlockDevice): [number, number][] {
  const { sectorCount } = device;
  return [
    [sectorCount, 1],
    [sectorCount - 1, 2],
    [sectorCount - 3, 4],
    [-1, 1],
    [-1, 2],
    [0.5, 1],
    [Number.NaN, 1],
    [Number.POSITIVE_INFINITY, 1],
    [Number.MAX_SAFE_INTEGER, 1],
    [2 ** 64, 1],
  ];
}

function readsOutsideAreRefused(device: BlockDevice): void {
  for (const [sector, sectorCount] of badRanges(device)) {
    const target = new Uint8Array(sectorCount * device.sectorBytes);
    expectCode(() => device.read(sector, target), 'EINVAL', `read of ${sectorCount} from ${sector}`);
  }
}

function writesOutsideAreRefused(device: BlockDevice): void {
  const image = paint(device, 4, 1);
  const tail = noise(device, 3, 2);
  device.write(device.sectorCount - 3, tail);
  for (const [sector, sectorCount] of badRanges(device)) {
    const source = noise(device, sectorCount, 3);
    expectCode(() => device.write(sector, source), 'EINVAL', `write of ${sectorCount} from ${sector}`);
  }
  expectSectors(device, 0, image, 'the disk after refused writes');
  expectSectors(device, device.sectorCount - 3, tail, 'the end of the disk after refused writes');
}

function buffersAreWholeSectors(device: BlockDevice): void {
  const image = paint(device, 4, 1);
  const { sectorBytes } = device;
  for (const length of [0, 1, sectorBytes - 1, sectorBytes + 1, 3 * sectorBytes - 1]) {
    const buffer = new Uint8Array(length).fill(0x99);
    expectCode(() => device.write(0, buffer), 'EINVAL', `write of ${length} bytes`);
    expectCode(() => device.read(0, buffer), 'EINVAL', `read of ${length} bytes`);
  }
  expectSectors(device, 0, image, 'the disk after refused transfers');
}

function wrongTypesAreTypeErrors(device: BlockDevice): void {
  const buffer = new Uint8Array(device.sectorBytes);
  const wrongBuffers = [
    undefined,
    null,
    'text',
    [0],
    new ArrayBuffer(512),
    new DataView(buffer.buffer),
    new Uint16Array(256),
  ];
  for (const wrong of wrongBuffers) {
    expectTypeError(() => device.read(0, wrong as never), `read into ${Object.prototype.toString.call(wrong)}`);
    if (!device.readOnly) expectTypeError(() => device.write(0, wrong as never), 'write of what is no Uint8Array');
  }
  for (const wrong of [undefined, null, '0', 0n, {}]) {
    expectTypeError(() => device.read(wrong as never, buffer), `read from ${typeof wrong}`);
    if (!device.readOnly) expectTypeError(() => device.write(wrong as never, buffer), `write to ${typeof wrong}`);
  }
}

function rangesToClearAreChecked(device: BlockDevice): void {
  const image = paint(device, 4, 1);
  for (const name of ['discard', 'writeZeroes'] as const) {
    if (!device.features[name]) continue;
    const bad: [number, number][] = [...badRanges(device), [0, 0], [0, -1], [0, 1.5], [0, device.sectorCount + 1]];
    for (const [sector, sectorCount] of bad) {
      expectCode(() => device[name](sector, sectorCount), 'EINVAL', `${name} of ${sectorCount} from ${sector}`);
    }
    expectTypeError(() => device[name]('0' as never, 1), `${name} from a string`);
    expectTypeError(() => device[name](0, '1' as never), `${name} of a string`);
    expectSectors(device, 0, image, `the disk after refused ${name}`);
  }
}

function absentAbilitiesAreRefused(device: BlockDevice): void {
  const { features } = device;
  const image = paint(device, 4, 1);
  const source = noise(device, 1, 2);
  if (!features.flush) expectCode(() => device.flush(), 'ENOTSUP', 'flush');
  if (!features.fua) expectCode(() => device.write(0, source, { fua: true }), 'ENOTSUP', 'a FUA write');
  if (!features.discard) expectCode(() => device.discard(0, 1), 'ENOTSUP', 'discard');
  if (!features.writeZeroes) expectCode(() => device.writeZeroes(0, 1), 'ENOTSUP', 'writeZeroes');
  expectSectors(device, 0, image, 'the disk after refused operations');
}

function closedMeansClosed(device: BlockDevice): void {
  const buffer = new Uint8Array(device.sectorBytes);
  device.close();
  device.close();
  expectCode(() => device.read(0, buffer), 'ECLOSED', 'read after close');
  if (device.features.flush) expectCode(() => device.flush(), 'ECLOSED', 'flush after close');
  if (device.readOnly) return;
  expectCode(() => device.write(0, buffer), 'ECLOSED', 'write after close');
  if (device.features.fua)
    expectCode(() => device.write(0, buffer, { fua: true }), 'ECLOSED', 'a FUA write after close');
  if (device.features.discard) expectCode(() => device.discard(0, 1), 'ECLOSED', 'discard after close');
  if (device.features.writeZeroes) expectCode(() => device.writeZeroes(0, 1), 'ECLOSED', 'writeZeroes after close');
}

function readOnlyRefusesChange(_fresh: BlockDevice, bench: DeviceBench): void {
  const image = noise(_fresh, 8, 1);
  const device = bench.makeReadOnly?.(image.slice());
  expectThat(device !== undefined, 'makeReadOnly gave no device');
  try {
    expectThat(device.readOnly, 'readOnly is false on a read-only device');
    expectSectors(device, 0, image, 'a read-only device');
    refusesChange(device);
    expectSectors(device, 0, image, 'a read-only device after refused changes');
    readsOutsideAreRefused(device);
    if (device.features.flush) device.flush();
    closedMeansClosed(device);
  } finally {
    device.close();
  }
}

function refusesChange(device: BlockDevice): void {
  const source = new Uint8Array(device.sectorBytes);
  const { features } = device;
  expectCode(() => device.write(0, source), 'EROFS', 'write to a read-only device');
  // A device that has no such ability either may say so instead.
  const otherCodes = (has: boolean) => (has ? (['EROFS'] as const) : (['EROFS', 'ENOTSUP'] as const));
  expectCode(() => device.write(0, source, { fua: true }), otherCodes(features.fua), 'a FUA write');
  expectCode(() => device.discard(0, 1), otherCodes(features.discard), 'discard');
  expectCode(() => device.writeZeroes(0, 1), otherCodes(features.writeZeroes), 'writeZeroes');
}

/** The cases about what a device refuses. */
export const REFUSAL_CASES: readonly DeviceCaseSpec[] = [
  {
    name: 'writes outside the device are EINVAL and change nothing',
    needs: ['writable'],
    body: writesOutsideAreRefused,
  },
  { name: 'reads outside the device are EINVAL', needs: [], body: readsOutsideAreRefused },
  { name: 'buffers are whole sectors', needs: ['writable'], body: buffersAreWholeSectors },
  { name: 'wrong argument types are TypeErrors', needs: [], body: wrongTypesAreTypeErrors },
  { name: 'ranges to discard or zero are checked', needs: ['writable'], body: rangesToClearAreChecked },
  { name: 'an absent ability is ENOTSUP', needs: ['writable'], body: absentAbilitiesAreRefused },
  { name: 'close is final, and may be repeated', needs: [], body: closedMeansClosed },
  { name: 'a read-only device refuses every change', needs: ['makeReadOnly'], body: readOnlyRefusesChange },
];
