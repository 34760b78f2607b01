import type { BlockDevice, DeviceFeatures } from '../blockdev/index.ts';
import { expectBytes, expectThat } from './assertions.ts';
import { expectSectors, LONG_SECTORS, noise, paint, readSectors } from './device-case-tools.ts';
import type { DeviceBench, DeviceCaseSpec } from './device-case-types.ts';
import { runRandomModel } from './device-model.ts';
import { REFUSAL_CASES } from './device-refusal-cases.ts';

const FEATURES: readonly (keyof DeviceFeatures)[] = ['flush', 'fua', 'discard', 'writeZeroes', 'writeCache'];

function fieldsTellTheTruth(device: BlockDevice): void {
  const { sectorBytes, physicalSectorBytes, sectorCount, features } = device;
  const isPower = (value: number) => Number.isInteger(value) && 2 ** Math.round(Math.log2(value)) === value;
  expectThat(isPower(sectorBytes) && sectorBytes >= 512 && sectorBytes <= 4096, `sectorBytes is ${sectorBytes}`);
  expectThat(
    isPower(physicalSectorBytes) && physicalSectorBytes >= sectorBytes,
    `physicalSectorBytes is ${physicalSectorBytes}, sectorBytes ${sectorBytes}`,
  );
  expectThat(Number.isSafeInteger(sectorCount) && sectorCount > 0, `sectorCount is ${sectorCount}`);
  expectThat(typeof device.readOnly === 'boolean', `readOnly is ${device.readOnly}`);
  for (const name of FEATURES) {
    expectThat(typeof features[name] === 'boolean', `features.${name} is ${features[name]}, expected a boolean`);
  }
  expectThat(!features.writeCache || features.flush, 'features: a write cache without flush can never be made durable');
}

function unwrittenReadsZeros(device: BlockDevice): void {
  const sectorCount = Math.min(LONG_SECTORS, device.sectorCount);
  const zeros = new Uint8Array(sectorCount * device.sectorBytes);
  expectSectors(device, 0, zeros, 'unwritten sectors');
  expectSectors(device, device.sectorCount - sectorCount, zeros, 'unwritten sectors at the end');
}

/** Sectors 0, every power of two, and those about it and the end: an address that loses a bit lands on another one. */
function telltaleSectors(device: BlockDevice): number[] {
  const sectors = new Set<number>([0, device.sectorCount - 1, device.sectorCount - 2]);
  for (let power = 1; power < device.sectorCount; power *= 2) sectors.add(power).add(power - 1);
  return [...sectors];
}

function everyAddressIsItsOwn(device: BlockDevice): void {
  const sectors = telltaleSectors(device);
  for (const [tag, sector] of sectors.entries()) device.write(sector, noise(device, 1, tag));
  for (const [tag, sector] of sectors.entries()) expectSectors(device, sector, noise(device, 1, tag), 'own content');
}

function transfersCrossBoundaries(device: BlockDevice): void {
  for (let boundary = 1; boundary < device.sectorCount; boundary *= 2) {
    const first = boundary - 1;
    const sectorCount = Math.min(LONG_SECTORS, device.sectorCount - first);
    const source = noise(device, sectorCount, boundary % 0xffff);
    device.write(first, source);
    expectSectors(device, first, source, 'a long write');
    expectSectors(device, first + 1, source.subarray(device.sectorBytes, 2 * device.sectorBytes), 'its second sector');
    expectSectors(device, first + sectorCount - 1, source.subarray(-device.sectorBytes), 'its last sector');
  }
}

function writesStayInTheirRange(device: BlockDevice): void {
  const image = paint(device, 16, 1);
  for (let sectorCount = 1; sectorCount <= 4; sectorCount++) {
    const source = noise(device, sectorCount, 50 + sectorCount);
    device.write(5, source);
    image.set(source, 5 * device.sectorBytes);
    expectSectors(device, 0, image, `the disk after a write of ${sectorCount}`);
  }
}

function newestWriteWins(device: BlockDevice): void {
  for (let tag = 0; tag < 5; tag++) {
    const source = noise(device, 3, tag);
    device.write(4, source);
    expectSectors(device, 4, source, `version ${tag}`);
  }
}

function lastSectorIsUsable(device: BlockDevice): void {
  const last = device.sectorCount - 1;
  const source = noise(device, 2, 9);
  device.write(last - 1, source);
  expectSectors(device, last - 1, source, 'the last two sectors');
  expectSectors(device, last, source.subarray(device.sectorBytes), 'the last sector');
}

function keepsNoViewOfASource(device: BlockDevice): void {
  const source = noise(device, 3, 3);
  const copy = source.slice();
  device.write(2, source);
  expectBytes(source, copy, 'the source after write');
  source.fill(0xee);
  expectSectors(device, 2, copy, 'content after its source was changed');
  if (device.features.flush) device.flush();
  expectSectors(device, 2, copy, 'flushed content after its source was changed');
  device.write(2, copy.fill(0x11));
  expectBytes(source, new Uint8Array(source.length).fill(0xee), 'an old source after a later write');
}

function keepsNoViewOfATarget(device: BlockDevice): void {
  const source = noise(device, 2, 4);
  device.write(7, source);
  const target = readSectors(device, 7, 2);
  // Nothing is read in between: a device may keep the target of its last read only.
  device.write(7, noise(device, 2, 5));
  expectBytes(target, source, 'an old target after a later write');
  const second = readSectors(device, 7, 2);
  second.fill(0x77);
  expectSectors(device, 7, noise(device, 2, 5), 'content after a target was changed');
}

function transfersTouchOnlyTheBuffer(device: BlockDevice): void {
  const { sectorBytes } = device;
  // An odd offset: no copy by words may rely on alignment in memory.
  const arena = new Uint8Array(4 * sectorBytes).fill(0x5a);
  const inside = arena.subarray(sectorBytes + 1, 3 * sectorBytes + 1);
  const source = noise(device, 2, 6);
  inside.set(source);
  device.write(3, inside);
  inside.fill(0);
  device.read(3, inside);
  expectBytes(inside, source, 'a transfer through part of a buffer');
  const rest = [arena.subarray(0, sectorBytes + 1), arena.subarray(3 * sectorBytes + 1)];
  for (const part of rest) expectBytes(part, new Uint8Array(part.length).fill(0x5a), 'the buffer beside the transfer');
}

function takesNodeBuffers(device: BlockDevice): void {
  const source = Buffer.from(noise(device, 1, 8));
  device.write(1, source);
  const target = Buffer.alloc(device.sectorBytes);
  device.read(1, target);
  expectBytes(target, source, 'a transfer through a Buffer');
}

function zeroesExactlyTheRange(device: BlockDevice): void {
  const sectorCount = Math.min(LONG_SECTORS, device.sectorCount);
  for (const unmap of [false, true]) {
    const image = paint(device, sectorCount, 1);
    for (const [first, count] of [
      [3, 1],
      [6, 4],
      [sectorCount - 3, 2],
      [1, sectorCount - 2],
    ] as const) {
      device.writeZeroes(first, count, { unmap });
      image.fill(0, first * device.sectorBytes, (first + count) * device.sectorBytes);
      expectSectors(device, 0, image, `the disk after writeZeroes of ${count} from ${first}, unmap ${unmap}`);
    }
    device.write(4, noise(device, 2, 7));
    expectSectors(device, 4, noise(device, 2, 7), 'sectors written again after writeZeroes');
  }
}

function discardTouchesOnlyItsRange(device: BlockDevice): void {
  const image = paint(device, 16, 1);
  device.discard(6, 3);
  const { sectorBytes } = device;
  expectSectors(device, 0, image.subarray(0, 6 * sectorBytes), 'sectors before a discard');
  expectSectors(device, 9, image.subarray(9 * sectorBytes), 'sectors after a discard');
  for (let sector = 6; sector < 9; sector++) {
    const old = image.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);
    const now = readSectors(device, sector, 1);
    if (now.some((byte) => byte !== 0)) expectBytes(now, old, `discarded sector ${sector}: zeros or what was there`);
  }
  device.write(6, noise(device, 3, 8));
  expectSectors(device, 6, noise(device, 3, 8), 'sectors written again after discard');
}

function flushChangesNoContent(device: BlockDevice): void {
  device.flush();
  const image = paint(device, 16, 1);
  device.flush();
  device.flush();
  expectSectors(device, 0, image, 'the disk after flush');
}

function fuaWritesRead(device: BlockDevice): void {
  const image = paint(device, 16, 1);
  const source = noise(device, 3, 2);
  device.write(5, source, { fua: true });
  image.set(source, 5 * device.sectorBytes);
  device.write(9, source.subarray(0, device.sectorBytes), { fua: false });
  image.set(source.subarray(0, device.sectorBytes), 9 * device.sectorBytes);
  expectSectors(device, 0, image, 'the disk after a FUA write');
}

function devicesShareNothing(device: BlockDevice, bench: DeviceBench): void {
  const other = bench.make();
  try {
    const source = noise(device, 2, 1);
    device.write(1, source);
    expectSectors(other, 1, new Uint8Array(source.length), 'a second device');
    other.write(1, noise(device, 2, 2));
    expectSectors(device, 1, source, 'the first device after a write to the second');
  } finally {
    other.close();
  }
  expectSectors(device, 1, noise(device, 2, 1), 'the first device after the second was closed');
}

function reopened(device: BlockDevice, bench: DeviceBench, check: (again: BlockDevice) => void): void {
  expectThat(bench.reopen !== undefined, 'the maker cannot reopen');
  const again = bench.reopen(device);
  try {
    check(again);
  } finally {
    again.close();
  }
}

function flushedSurvivesReopen(device: BlockDevice, bench: DeviceBench): void {
  const image = paint(device, 12, 1);
  const tail = noise(device, 1, 2);
  device.write(device.sectorCount - 1, tail);
  device.flush();
  reopened(device, bench, (again) => {
    expectThat(again.sectorCount === device.sectorCount, `sectorCount is ${again.sectorCount} after reopening`);
    expectSectors(again, 0, image, 'flushed content after reopening');
    expectSectors(again, again.sectorCount - 1, tail, 'the flushed last sector after reopening');
  });
}

function fuaSurvivesReopen(device: BlockDevice, bench: DeviceBench): void {
  const source = noise(device, 4, 1);
  device.write(3, source, { fua: true });
  reopened(device, bench, (again) => expectSectors(again, 3, source, 'a FUA write after reopening'));
}

function zeroesSurviveReopen(device: BlockDevice, bench: DeviceBench): void {
  const image = paint(device, 16, 1);
  if (device.features.flush) device.flush();
  device.writeZeroes(4, 5);
  if (device.features.flush) device.flush();
  image.fill(0, 4 * device.sectorBytes, 9 * device.sectorBytes);
  reopened(device, bench, (again) => expectSectors(again, 0, image, 'zeroed sectors after reopening'));
}

function writeThroughSurvivesReopen(device: BlockDevice, bench: DeviceBench): void {
  const image = paint(device, 16, 1);
  reopened(device, bench, (again) => expectSectors(again, 0, image, 'an unflushed write of a device without a cache'));
}

/** Every case of the suite, the telling ones first. */
export const DEVICE_CASES: readonly DeviceCaseSpec[] = [
  { name: 'fields and manifest are well formed', needs: [], body: fieldsTellTheTruth },
  { name: 'unwritten sectors read as zeros', needs: [], body: unwrittenReadsZeros },
  { name: 'every address is its own', needs: ['writable'], body: everyAddressIsItsOwn },
  { name: 'transfers cross every power-of-two boundary', needs: ['writable'], body: transfersCrossBoundaries },
  { name: 'a write leaves its neighbours alone', needs: ['writable'], body: writesStayInTheirRange },
  { name: 'the newest write wins', needs: ['writable'], body: newestWriteWins },
  { name: 'the last sector is usable', needs: ['writable'], body: lastSectorIsUsable },
  { name: 'no view of a source is kept', needs: ['writable'], body: keepsNoViewOfASource },
  { name: 'no view of a target is kept', needs: ['writable'], body: keepsNoViewOfATarget },
  { name: 'a transfer touches only its buffer', needs: ['writable'], body: transfersTouchOnlyTheBuffer },
  { name: 'a Buffer is a Uint8Array', needs: ['writable'], body: takesNodeBuffers },
  ...REFUSAL_CASES,
  { name: 'writeZeroes clears exactly its range', needs: ['writable', 'writeZeroes'], body: zeroesExactlyTheRange },
  { name: 'discard touches only its range', needs: ['writable', 'discard'], body: discardTouchesOnlyItsRange },
  { name: 'flush changes no content', needs: ['writable', 'flush'], body: flushChangesNoContent },
  { name: 'FUA writes read back', needs: ['writable', 'fua'], body: fuaWritesRead },
  { name: 'two devices share nothing', needs: ['writable'], body: devicesShareNothing },
  { name: 'flushed writes survive reopening', needs: ['writable', 'flush', 'reopen'], body: flushedSurvivesReopen },
  { name: 'FUA writes survive reopening', needs: ['writable', 'fua', 'reopen'], body: fuaSurvivesReopen },
  { name: 'zeroed sectors survive reopening', needs: ['writable', 'writeZeroes', 'reopen'], body: zeroesSurviveReopen },
  {
    name: 'without a cache, every write survives',
    needs: ['writable', 'writeThrough', 'reopen'],
    body: writeThroughSurvivesReopen,
  },
  {
    name: 'random operations agree with a model, at the start',
    needs: ['writable'],
    body: (device, bench) => runRandomModel(device, bench, 'start'),
  },
  {
    name: 'random operations agree with a model, at the end',
    needs: ['writable'],
    body: (device, bench) => runRandomModel(device, bench, 'end'),
  },
];
