import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import {
  type BlockDevice,
  FileDevice,
  type Geometry,
  MemoryDevice,
  PartitionView,
  ReadOnlyView,
  type TraceEvent,
  TracingDevice,
} from '../../src/blockdev/index.ts';
import { messageOf } from '../../src/core/index.ts';
import { type ConformanceCase, type DeviceConformanceOptions, deviceConformance } from '../../src/testing/index.ts';
import { BROKEN_DEVICES, type BrokenDevice } from './broken-devices.ts';

function suite(name: string, make: () => BlockDevice, options?: DeviceConformanceOptions): void {
  describe(name, () => {
    for (const { name: caseName, skip, run } of deviceConformance(make, options)) {
      if (skip === undefined) test(caseName, run);
      else test.skip(`${caseName} (${skip})`, run);
    }
  });
}

function memorySuite(name: string, geometry: Geometry): void {
  const { sectorCount: _, ...kind } = geometry;
  suite(name, () => new MemoryDevice(geometry), {
    makeReadOnly: (image) => MemoryDevice.fromImage(image, { ...kind, readOnly: true }),
    reopen: (device) => {
      const image = (device as MemoryDevice).snapshot();
      device.close();
      return MemoryDevice.fromImage(image, kind);
    },
  });
}

memorySuite('MemoryDevice, 512', { sectorCount: 777 });
memorySuite('MemoryDevice, 4096', { sectorCount: 300, sectorBytes: 4096 });
memorySuite('MemoryDevice, 512e', { sectorCount: 1024, physicalSectorBytes: 4096 });
memorySuite('MemoryDevice, the fewest sectors', { sectorCount: 16 });
// No reopening here: an image of it fits into no memory.
suite('MemoryDevice, 1 PiB', () => new MemoryDevice({ sectorCount: 2 ** 41 }));

const folder = mkdtempSync(join(tmpdir(), 'powercut-conformance-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let images = 0;
const newPath = () => join(folder, `${images++}.img`);

function fileSuite(name: string, geometry: Geometry): void {
  const { sectorCount: _, ...kind } = geometry;
  suite(name, () => FileDevice.create(newPath(), geometry), {
    stepCount: 150,
    makeReadOnly: (image) => {
      const path = newPath();
      const writer = FileDevice.create(path, {
        ...geometry,
        sectorCount: image.length / (geometry.sectorBytes ?? 512),
      });
      writer.write(0, image);
      writer.close();
      return FileDevice.open(path, { ...kind, readOnly: true });
    },
    reopen: (device) => {
      device.close();
      return FileDevice.open((device as FileDevice).path, kind);
    },
  });
}

fileSuite('FileDevice, 512', { sectorCount: 320 });
fileSuite('FileDevice, 4096', { sectorCount: 64, sectorBytes: 4096 });

/** Views of a disk of their own, opened again on what it holds. */
function viewSuite(name: string, makeDisk: () => MemoryDevice, view: (disk: MemoryDevice) => BlockDevice): void {
  const disks = new WeakMap<BlockDevice, MemoryDevice>();
  const on = (disk: MemoryDevice): BlockDevice => {
    const device = view(disk);
    disks.set(device, disk);
    return device;
  };
  suite(name, () => on(makeDisk()), {
    makeReadOnly: (image) => on(MemoryDevice.fromImage(image, { readOnly: true })),
    reopen: (device) => {
      const disk = disks.get(device) as MemoryDevice;
      const image = disk.snapshot();
      device.close();
      return on(MemoryDevice.fromImage(image, { physicalSectorBytes: disk.physicalSectorBytes }));
    },
  });
}

viewSuite(
  'PartitionView',
  () => new MemoryDevice({ sectorCount: 1000, physicalSectorBytes: 4096 }),
  (disk) => (disk.readOnly ? new PartitionView(disk, 0, disk.sectorCount) : new PartitionView(disk, 128, 400)),
);

suite('ReadOnlyView', () => new ReadOnlyView(new MemoryDevice({ sectorCount: 64 })), {
  makeReadOnly: (image) => new ReadOnlyView(MemoryDevice.fromImage(image)),
});

const ignore = (_event: TraceEvent) => undefined;
viewSuite(
  'TracingDevice',
  () => new MemoryDevice({ sectorCount: 333 }),
  (disk) => new TracingDevice(disk, ignore),
);

/** The names of the cases that fail, with their messages. */
function failures(cases: readonly ConformanceCase[]): Map<string, string> {
  const failed = new Map<string, string>();
  for (const { name, skip, run } of cases) {
    if (skip !== undefined) continue;
    try {
      run();
    } catch (error) {
      failed.set(name, messageOf(error));
    }
  }
  return failed;
}

describe('a broken device is noticed', () => {
  test.each(BROKEN_DEVICES.map((broken) => [broken.defect, broken] as [string, BrokenDevice]))(
    '%s',
    (_name, broken) => {
      const failed = failures(deviceConformance(broken.make, broken.options));
      expect([...failed.keys()]).toContain(broken.noticedBy);
    },
  );

  test('the random case names its seed, step and operation', () => {
    const broken = BROKEN_DEVICES.find((one) => one.noticedBy.startsWith('random'));
    const failed = failures(
      deviceConformance(broken?.make ?? (() => new MemoryDevice({ sectorCount: 64 })), { seed: 7 }),
    );
    expect(failed.get(broken?.noticedBy ?? '')).toMatch(/^seed 7, step \d+, \w+ of \d+ sectors from \d+: /);
  });
});

describe('the suite itself', () => {
  test('a skipped case has a reason, and refuses to run', () => {
    const skipped = deviceConformance(() => new ReadOnlyView(new MemoryDevice({ sectorCount: 64 }))).filter(
      (c) => c.skip,
    );
    expect(skipped.length).toBeGreaterThan(10);
    for (const { skip, run } of skipped) expect(run).toThrow(skip);
  });

  test('every device is closed again', () => {
    const open = new Set<BlockDevice>();
    const make = () => {
      const device = new TracingDevice(new MemoryDevice({ sectorCount: 64 }), (event) => {
        if (event.kind === 'close') open.delete(device);
      });
      open.add(device);
      return device;
    };
    expect(failures(deviceConformance(make)).size).toBe(0);
    expect(open.size).toBe(0);
  });

  test('names are unique', () => {
    const names = deviceConformance(() => new MemoryDevice({ sectorCount: 64 })).map((one) => one.name);
    expect(new Set(names).size).toBe(names.length);
  });

  test('a device that is too small for it is refused', () => {
    expect(() => deviceConformance(() => new MemoryDevice({ sectorCount: 15 }))).toThrow(/at least 16 sectors/);
  });
});
