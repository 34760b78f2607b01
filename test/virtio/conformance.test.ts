import { describe, test } from 'vitest';
import { type BlockDevice, MemoryDevice } from '../../src/blockdev/index.ts';
import { type ConformanceCase, deviceConformance } from '../../src/testing/index.ts';
import {
  BLK_F_CONFIG_WCE,
  BLK_F_DISCARD,
  BLK_F_FLUSH,
  BLK_F_WRITE_ZEROES,
  F_EVENT_IDX,
  F_IN_ORDER,
  F_INDIRECT_DESC,
  F_RING_PACKED,
  type VirtioStackOptions,
  virtioStack,
} from '../../src/virtio/index.ts';

function runAll(name: string, cases: readonly ConformanceCase[]): void {
  describe(name, () => {
    for (const { name: caseName, skip, run } of cases) {
      if (skip === undefined) test(caseName, run);
      else test.skip(`${caseName} (${skip})`, run);
    }
  });
}

const RING_FEATURES = [F_INDIRECT_DESC, F_EVENT_IDX, F_RING_PACKED, F_IN_ORDER];

const STACKS: readonly { name: string; sectorBytes?: number; sectorCount?: number; options?: VirtioStackOptions }[] = [
  { name: 'as it comes' },
  { name: 'sectors of 4096', sectorBytes: 4096 },
  { name: 'a huge disk', sectorCount: 2 ** 41 },
  { name: 'one slot', options: { driver: { slotCount: 1, slotBytes: 4096 } } },
  { name: 'small segments', options: { device: { sizeMaxBytes: 384, segMax: 9, queueSizeMax: 64 } } },
  { name: 'a queue of four', options: { device: { queueSizeMax: 4 } } },
  { name: 'memory above 4 GiB', options: { memoryBase: 2 ** 40 + 4096 } },
  { name: 'a write-back cache', options: { device: { writeback: true } } },
  { name: 'a plain split ring', options: { driver: { decline: RING_FEATURES } } },
  { name: 'a split ring with all it can', options: { driver: { decline: [F_RING_PACKED] } } },
  { name: 'a packed ring with all it can', options: { driver: { decline: [] } } },
  { name: 'a short indirect ring', options: { device: { queueSizeMax: 8 }, driver: { decline: [] } } },
  { name: 'three queues', options: { device: { queueCount: 4 }, driver: { queueCountMax: 3, slotBytes: 4096 } } },
  { name: 'few features', options: { driver: { decline: [BLK_F_FLUSH, BLK_F_CONFIG_WCE, BLK_F_DISCARD] } } },
  { name: 'fewer features', options: { device: { withhold: [BLK_F_CONFIG_WCE, BLK_F_WRITE_ZEROES] } } },
];

for (const { name, sectorBytes = 512, sectorCount = 777, options } of STACKS) {
  const geometry = { sectorBytes, sectorCount };
  const reopeners = new WeakMap<BlockDevice, () => void>();
  const make = (): BlockDevice => {
    const backend = new MemoryDevice(geometry);
    const stack = virtioStack(backend, options);
    reopeners.set(stack.driver, () => stack.restart(backend));
    return stack.driver;
  };
  const suite = deviceConformance(make, {
    stepCount: 150,
    reopen: (device) => {
      device.close();
      reopeners.get(device)!();
      return device;
    },
    makeReadOnly: (image) => {
      // Only a device that is written before it is sealed has something to show.
      const medium = new MemoryDevice(geometry);
      medium.write(0, image);
      return virtioStack(new Proxy(medium, { get: sealed }), options).driver;
    },
  });
  runAll(`MemoryDevice under virtio, ${name}`, suite);
}

function sealed(target: MemoryDevice, property: string | symbol): unknown {
  if (property === 'readOnly') return true;
  const value: unknown = Reflect.get(target, property, target);
  return typeof value === 'function' ? value.bind(target) : value;
}
