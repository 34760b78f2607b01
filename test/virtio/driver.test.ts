import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { codeOf, DeviceError, equalBytes, messageOf } from '../../src/core/index.ts';
import { layOutDriverMemory, resolveDriverMemory } from '../../src/virtio/driver-memory.ts';
import {
  BLK_F_CONFIG_WCE,
  BLK_F_DISCARD,
  BLK_F_FLUSH,
  BLK_F_MQ,
  BLK_F_WRITE_ZEROES,
  BlkDevice,
  type BlkDeviceOptions,
  CONFIG,
  DESC_F_WRITE,
  driverMemoryBytes,
  F_EVENT_IDX,
  F_IN_ORDER,
  F_INDIRECT_DESC,
  F_NOTIFICATION_DATA,
  F_RING_PACKED,
  F_RING_RESET,
  FlatMemory,
  layOutPackedQueue,
  layOutQueue,
  MmioTransport,
  REG_CONFIG,
  REG_CONFIG_GENERATION,
  REG_DEVICE_FEATURES,
  REG_DEVICE_ID,
  REG_MAGIC_VALUE,
  REG_QUEUE_NOTIFY,
  REG_QUEUE_NUM,
  REG_QUEUE_NUM_MAX,
  REG_QUEUE_READY,
  REG_QUEUE_RESET,
  REG_STATUS,
  REG_VERSION,
  type RegisterBus,
  STATUS_FAILED,
  VirtioBlkDriver,
  type VirtioBlkDriverOptions,
  virtioStack,
} from '../../src/virtio/index.ts';
import { LoggingDevice, pattern, sectorOf } from './harness.ts';

/** A bus with a say in what passes over it. */
class MeddlingBus implements RegisterBus {
  readonly writes: [register: number, value: number][] = [];
  /** Replaces what a register reads. */
  readonly fakes = new Map<number, number>();
  beforeRead: (register: number) => void = () => {};
  /** In place of passing a write on; true: it was dealt with. */
  intercept: (register: number, value: number) => boolean = () => false;
  halted: { error: unknown } | undefined;
  readonly #inner: RegisterBus;

  constructor(inner: RegisterBus) {
    this.#inner = inner;
  }

  get interruptAsserted(): boolean {
    return this.#inner.interruptAsserted;
  }

  read(register: number, width: number): number {
    this.beforeRead(register);
    return this.fakes.get(register) ?? this.#inner.read(register, width);
  }

  write(register: number, width: number, value: number): void {
    this.writes.push([register, value]);
    if (!this.intercept(register, value)) this.#inner.write(register, width, value);
  }
}

function parts(options: VirtioBlkDriverOptions = {}, deviceOptions: BlkDeviceOptions = {}) {
  const backend = new LoggingDevice({ features: { writeCache: false } });
  const memory = new FlatMemory(driverMemoryBytes(options));
  const device = new BlkDevice(backend, memory, deviceOptions);
  const bus = new MeddlingBus(new MmioTransport(device, memory));
  return { backend, memory, device, bus, connect: () => new VirtioBlkDriver(bus, memory, options) };
}

function codeThrown(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return codeOf(error);
  }
  return undefined;
}

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('virtio block driver: initialisation', () => {
  it('virtio 3.1.1, 4.2.3.2: sets the status bits in order, and the queue up between FEATURES_OK and DRIVER_OK', () => {
    const { bus, connect } = parts();
    connect();
    const steps = bus.writes.filter(([register]) => [REG_STATUS, REG_QUEUE_NUM, REG_QUEUE_READY].includes(register));
    expect(steps.map(([register, value]) => (register === REG_QUEUE_NUM ? 'size' : value))).toEqual([
      0,
      1,
      3,
      11,
      'size',
      1,
      15,
    ]);
  });

  it.each([
    ['MagicValue', REG_MAGIC_VALUE, 0],
    ['a legacy device', REG_VERSION, 1],
    ['a placeholder', REG_DEVICE_ID, 0],
    ['a network device', REG_DEVICE_ID, 1],
  ])('virtio 4.2.2.2: what is no modern block device is left alone: %s', (_name, register, value) => {
    const { bus, connect } = parts();
    bus.fakes.set(register, value);
    expect(codeThrown(connect)).toBe('EIO');
    expect(bus.writes).toEqual([]);
  });

  it.each<[string, (bus: MeddlingBus) => void]>([
    ['does not finish its reset', (bus) => bus.fakes.set(REG_STATUS, 4)],
    ['does not offer VERSION_1', (bus) => bus.fakes.set(REG_DEVICE_FEATURES, 0)],
    [
      'refuses the features',
      (bus) => {
        bus.intercept = (register, value) => register === REG_STATUS && value === 11;
      },
    ],
    ['has no queue', (bus) => bus.fakes.set(REG_QUEUE_NUM_MAX, 0)],
    ['has too small a queue', (bus) => bus.fakes.set(REG_QUEUE_NUM_MAX, 2)],
    ['has a queue in use', (bus) => bus.fakes.set(REG_QUEUE_READY, 1)],
    ['has no capacity', (bus) => bus.fakes.set(REG_CONFIG + CONFIG.capacity, 0)],
    ['has too much capacity', (bus) => bus.fakes.set(REG_CONFIG + CONFIG.capacity + 4, 0xffff_ffff)],
    ['has a block size of 0', (bus) => bus.fakes.set(REG_CONFIG + CONFIG.blkSize, 0)],
    ['has a block size of 513', (bus) => bus.fakes.set(REG_CONFIG + CONFIG.blkSize, 513)],
    ['has an absurd physical block', (bus) => bus.fakes.set(REG_CONFIG + CONFIG.physicalBlockExp, 255)],
    ['has no room for a sector', (bus) => bus.fakes.set(REG_CONFIG + CONFIG.sizeMax, 1)],
    [
      'never settles',
      (bus) => {
        let n = 0;
        bus.beforeRead = () => bus.fakes.set(REG_CONFIG_GENERATION, n++);
      },
    ],
    [
      'ignores DRIVER_OK',
      (bus) => {
        bus.intercept = (register, value) => register === REG_STATUS && (value & 4) !== 0;
      },
    ],
  ])('gives up with EIO on a device that %s', (_name, spoil) => {
    const { bus, connect } = parts();
    spoil(bus);
    expect(codeThrown(connect)).toBe('EIO');
  });

  it('virtio 3.1.1: tells the device that it gave up', () => {
    const { bus, connect } = parts();
    bus.fakes.set(REG_CONFIG + CONFIG.blkSize, 513);
    expect(codeThrown(connect)).toBe('EIO');
    expect(bus.writes.at(-1)).toEqual([REG_STATUS, 11 | STATUS_FAILED]);
  });

  it('virtio 2.5.1: reads the configuration again when it changed under the reading', () => {
    const { bus, backend, device, connect } = parts();
    let changes = 3;
    bus.beforeRead = (register) => {
      // Between the two words of the capacity.
      if (register !== REG_CONFIG + CONFIG.capacity || changes === 0) return;
      backend.sectorCount = 60 - changes--;
      device.backendChanged();
    };
    expect(connect().sectorCount).toBe(59);
    expect(changes).toBe(0);
  });

  it('virtio 5.2.6.1: takes a new capacity from a configuration interrupt', () => {
    const { backend, device, connect } = parts();
    const driver = connect();
    backend.sectorCount = 32;
    device.backendChanged();
    driver.flush();
    expect(driver.sectorCount).toBe(32);
    expect(codeThrown(() => driver.read(32, new Uint8Array(512)))).toBe('EINVAL');
  });

  it('tells what was negotiated, truthfully', () => {
    const of = (features: object, decline: number[] = [], withhold: number[] = []) => {
      const backend = new LoggingDevice({ features });
      const { flush, fua, discard, writeZeroes, writeCache } = virtioStack(backend, {
        driver: { decline },
        device: { withhold },
      }).driver.features;
      return [flush, fua, discard, writeZeroes, writeCache].map(Number).join('');
    };
    expect(of({ writeCache: true })).toBe('11111');
    expect(of({ writeCache: false })).toBe('11110');
    expect(of({ writeCache: true, discard: false })).toBe('11011');
    expect(of({ writeCache: true }, [BLK_F_DISCARD, BLK_F_WRITE_ZEROES])).toBe('11001');
    // FLUSH alone: a cache has to be assumed. Neither: the device writes through.
    expect(of({ writeCache: false }, [BLK_F_CONFIG_WCE])).toBe('11111');
    expect(of({ writeCache: true }, [BLK_F_FLUSH])).toBe('11110');
    expect(of({ writeCache: true }, [BLK_F_FLUSH, BLK_F_CONFIG_WCE])).toBe('11110');
    // Not offered: nothing is promised.
    expect(of({ writeCache: true, flush: false })).toBe('00111');
  });

  it('describes the disk behind it', () => {
    const backend = new LoggingDevice({
      sectorBytes: 512,
      physicalSectorBytes: 4096,
      sectorCount: 100,
      readOnly: true,
    });
    const { driver } = virtioStack(backend, { device: { id: 'a disk' } });
    const { sectorBytes, physicalSectorBytes, sectorCount, readOnly } = driver;
    expect({ sectorBytes, physicalSectorBytes, sectorCount, readOnly }).toEqual({
      sectorBytes: 512,
      physicalSectorBytes: 4096,
      sectorCount: 100,
      readOnly: true,
    });
    expect(driver.getId()).toBe('a disk');
    expect(codeThrown(() => driver.write(0, new Uint8Array(512)))).toBe('EROFS');
  });

  it('needs its memory', () => {
    const { bus } = parts();
    expect(() => new VirtioBlkDriver(bus, new FlatMemory(driverMemoryBytes() - 1))).toThrow(RangeError);
  });
});

describe('virtio block driver: requests', () => {
  it('splits by its slots, by SIZE_MAX and SEG_MAX and by the queue, and keeps several in flight', () => {
    for (const [device, slotBytes] of [
      [{}, 4096],
      [{ sizeMaxBytes: 1024, segMax: 2 }, 65536],
      [{ sizeMaxBytes: 700 }, 8192],
      [{ queueSizeMax: 16 }, 4096],
    ] as const) {
      let mostInFlight = 0;
      const choices = {
        choose: (options: number) => {
          mostInFlight = Math.max(mostInFlight, options);
          return options - 1;
        },
      };
      const backend = new LoggingDevice({ sectorCount: 512 });
      const { driver } = virtioStack(backend, { device: { ...device, choices }, driver: { slotBytes } });
      const data = pattern(200 * 512, 3);
      driver.write(7, data);
      expect(equalBytes(sectorOf(backend.disk, 7, 200), data)).toBe(true);
      expect(equalBytes(sectorOf(driver, 7, 200), data)).toBe(true);
      expect(mostInFlight).toBe(driver.slotCount);
      expect(driver.slotCount).toBeGreaterThan(1);
    }
  });

  it('a FUA write is a write and a flush; a plain one where the device writes through', () => {
    const backend = new LoggingDevice();
    const { driver } = virtioStack(backend);
    driver.write(1, pattern(512, 1), { fua: true });
    expect(backend.take()).toEqual(['write 1+1', 'flush']);
    driver.setWriteCache(false);
    expect(driver.features.writeCache).toBe(false);
    driver.write(1, pattern(512, 1), { fua: true });
    expect(backend.take()).toEqual(['write 1+1 fua']);
    driver.setWriteCache(true);
    driver.write(1, pattern(512, 1));
    expect(backend.take()).toEqual(['write 1+1']);
  });

  it('several queues: requests are spread over them, and each is notified by itself', () => {
    const { memory, bus, connect } = parts({ queueCountMax: 3 }, { queueCount: 4 });
    const driver = connect();
    expect(driver.queueCount).toBe(3);
    bus.writes.length = 0;
    const tickets = [0, 1, 2, 3, 4].map((sector) => driver.submitWrite(sector, pattern(512, sector)));
    for (const _ of tickets) driver.finish(driver.poll()!);
    const told = bus.writes.filter(([register]) => register === REG_QUEUE_NOTIFY).map(([, value]) => value & 0xffff);
    expect(told).toEqual([0, 1, 2]);
    expect(memory.sizeBytes).toBe(driverMemoryBytes({ queueCountMax: 3 }));
    expect(sectorOf(driver, 0, 5)).toEqual(
      new Uint8Array(Buffer.concat([0, 1, 2, 3, 4].map((sector) => pattern(512, sector)))),
    );
    const few = parts({ queueCountMax: 3 }, { queueCount: 2 }).connect();
    expect(few.queueCount).toBe(2);
    expect(parts({ queueCountMax: 3, decline: [BLK_F_MQ] }, { queueCount: 4 }).connect().queueCount).toBe(1);
  });

  it.each([
    ['split', [F_RING_PACKED], [1, 2, 3]],
    // Header and status of a flush are two entries; of four, so that the wrap counter in bit 15 changes.
    ['packed', [], [0x8002, 0, 2]],
  ] as const)('virtio 2.9: with NOTIFICATION_DATA it tells where the %s ring stands', (_name, decline, expected) => {
    const { bus, connect } = parts({ ringSizeMax: 4, slotCount: 1, decline: [...decline, F_INDIRECT_DESC] });
    const driver = connect();
    bus.writes.length = 0;
    for (const _ of expected) driver.flush();
    const told = bus.writes.filter(([register]) => register === REG_QUEUE_NOTIFY).map(([, value]) => value);
    expect(told).toEqual(expected.map((data) => data * 0x1_0000));
  });

  it('resetQueue gives up what is in flight on one queue, and leaves the others alone', () => {
    const { bus, backend, connect } = parts({ queueCountMax: 2, slotCount: 4 }, { queueCount: 2 });
    const driver = connect();
    bus.intercept = (register) => register === REG_QUEUE_NOTIFY;
    const lost = driver.submitWrite(0, pattern(512, 1));
    const kept = driver.submitWrite(1, pattern(512, 2));
    expect(driver.poll()).toBeUndefined();
    bus.intercept = () => false;
    driver.resetQueue(0);
    bus.write(REG_QUEUE_NOTIFY, 4, 0);
    bus.write(REG_QUEUE_NOTIFY, 4, 1);
    expect(backend.take()).toEqual(['write 1+1']);
    expect(driver.poll()).toBe(kept);
    driver.finish(kept);
    expect(() => driver.finish(lost)).toThrow(RangeError);
    // All four slots are there again, on both queues.
    const tickets = [0, 1, 2, 3].map((sector) => driver.submitWrite(sector, pattern(512, 3)));
    for (const _ of tickets) driver.finish(driver.poll()!);
    expect(backend.take()).toHaveLength(4);
    expect(() => driver.resetQueue(2)).toThrow(RangeError);
    expect(
      codeThrown(() =>
        parts({ decline: [F_RING_RESET] })
          .connect()
          .resetQueue(0),
      ),
    ).toBe('ENOTSUP');
    bus.fakes.set(REG_QUEUE_RESET, 1);
    expect(codeThrown(() => driver.resetQueue(1))).toBe('EIO');
    expect(codeThrown(() => driver.flush())).toBe('EIO');
  });

  it('secureErase and getLifetime work where they are offered', () => {
    const lifetime = { preEol: 2, typA: 11, typB: 3 };
    const backend = new LoggingDevice();
    const { driver } = virtioStack(backend, {
      device: { secureErase: true, lifetime: () => lifetime, rangeUnitsMax: 8 },
    });
    expect(driver.getLifetime()).toEqual(lifetime);
    driver.secureErase(3, 10);
    expect(backend.take()).toEqual(['zero 3+8', 'flush', 'zero 11+2', 'flush']);
    expect(codeThrown(() => driver.secureErase(60, 5))).toBe('EINVAL');
    const plain = virtioStack(new LoggingDevice()).driver;
    expect(codeThrown(() => plain.secureErase(0, 1))).toBe('ENOTSUP');
    expect(codeThrown(() => plain.getLifetime())).toBe('ENOTSUP');
    const broken = virtioStack(new LoggingDevice(), { device: { lifetime: () => ({ ...lifetime, typB: 12 }) } });
    expect(() => broken.driver.getLifetime()).toThrow(/typB/);
  });

  it('long ranges become several requests', () => {
    const backend = new LoggingDevice();
    const { driver } = virtioStack(backend, { device: { rangeUnitsMax: 8 } });
    driver.discard(1, 20);
    driver.writeZeroes(3, 9, { unmap: true });
    expect(backend.take()).toEqual(['discard 1+8', 'discard 9+8', 'discard 17+4', 'zero 3+8 unmap', 'zero 11+1 unmap']);
  });

  it('an error of the backend is EIO, and the driver goes on', () => {
    const backend = new LoggingDevice();
    const { driver } = virtioStack(backend, { driver: { slotBytes: 4096 } });
    for (const code of ['EIO', 'EINVAL', 'EROFS', 'ECLOSED', 'ENOTSUP'] as const) {
      backend.failure = new DeviceError(code, 'no');
      expect(codeThrown(() => driver.write(0, pattern(512 * 60, 1)))).toBe('EIO');
      backend.failure = new DeviceError(code, 'no');
      expect(codeThrown(() => driver.read(0, new Uint8Array(512 * 60)))).toBe('EIO');
    }
    driver.write(0, pattern(512, 2));
    expect(sectorOf(driver, 0)).toEqual(pattern(512, 2));
  });

  it('tickets: several in flight, done in the order that the device chose', () => {
    const choices = { choose: (options: number) => options - 1 };
    const { driver } = virtioStack(new LoggingDevice(), { device: { choices } });
    const tickets = [
      driver.submitWrite(0, pattern(512, 1)),
      driver.submitWrite(1, pattern(512, 2)),
      driver.submitFlush(),
    ];
    const done: number[] = [];
    for (let ticket = driver.poll(); ticket !== undefined; ticket = driver.poll()) {
      done.push(ticket);
      driver.finish(ticket);
    }
    expect(done).toEqual(tickets.toReversed());
    const read = driver.submitRead(0, 2);
    expect(driver.poll()).toBe(read);
    const target = new Uint8Array(1024);
    driver.finish(read, target);
    expect(target).toEqual(new Uint8Array([...pattern(512, 1), ...pattern(512, 2)]));
    expect(driver.poll()).toBeUndefined();
  });

  it('tickets: misuse is refused, and a full driver is EBUSY', () => {
    const { driver } = virtioStack(new LoggingDevice(), { driver: { slotCount: 2 } });
    expect(() => driver.finish(0)).toThrow(RangeError);
    expect(() => driver.finish(99)).toThrow(RangeError);
    const first = driver.submitRead(0, 1);
    const second = driver.submitWrite(0, pattern(512, 1));
    expect(() => driver.finish(first, new Uint8Array(512))).toThrow(RangeError);
    expect(codeThrown(() => driver.submitFlush())).toBe('EBUSY');
    expect(codeThrown(() => driver.read(0, new Uint8Array(512)))).toBe('EBUSY');
    expect(driver.poll()).toBe(first);
    expect(() => driver.finish(first, new Uint8Array(1024))).toThrow(RangeError);
    expect(() => driver.finish(first)).toThrow(RangeError);
    expect(() => driver.finish(second)).toThrow(RangeError);
    driver.finish(first, new Uint8Array(512));
    expect(() => driver.finish(first, new Uint8Array(512))).toThrow(RangeError);
    expect(() => driver.submitRead(0, 1_000_000)).toThrow();
    // A synchronous operation beside a ticket that is still out.
    driver.flush();
    expect(driver.poll()).toBe(second);
    driver.finish(second);
  });

  it('a failed ticket is EIO, and its slot is free again', () => {
    const backend = new LoggingDevice();
    const { driver } = virtioStack(backend, { driver: { slotCount: 1 } });
    backend.failure = new DeviceError('EIO', 'no');
    const ticket = driver.submitRead(0, 1);
    driver.poll();
    expect(codeThrown(() => driver.finish(ticket, new Uint8Array(512)))).toBe('EIO');
    driver.flush();
  });
});

/** Whatever changes the ring, but for what is named. */
function declineAllBut(...bits: number[]): number[] {
  const all = [F_INDIRECT_DESC, F_EVENT_IDX, F_RING_PACKED, F_IN_ORDER, F_NOTIFICATION_DATA, F_RING_RESET];
  return all.filter((bit) => !bits.includes(bit));
}

describe('virtio block driver: a device that is not to be trusted', () => {
  const USED_RING = layOutQueue(0, 32).device;
  const PACKED_RING = layOutPackedQueue(0, 32).desc;
  const [SPLIT, PACKED, SPLIT_IN_ORDER, PACKED_IN_ORDER] = [
    declineAllBut(),
    declineAllBut(F_RING_PACKED),
    declineAllBut(F_IN_ORDER),
    declineAllBut(F_RING_PACKED, F_IN_ORDER),
  ];

  it.each<[string, number[], RegExp, (memory: FlatMemory) => void]>([
    ['split: gives back a descriptor past the table', SPLIT, /descriptor 99/, (memory) => used(memory, 1, 99, 1)],
    ['split: gives back 2^32 - 1', SPLIT, /4294967295/, (memory) => used(memory, 1, 0xffff_ffff, 1)],
    ['split: gives back what heads no request', SPLIT, /descriptor 1 /, (memory) => used(memory, 1, 1, 1)],
    ['split: gives back what is not in flight', SPLIT, /descriptor 3 /, (memory) => used(memory, 1, 3, 1)],
    ['split: gives back more than was in flight', SPLIT, /2 requests/, (memory) => used(memory, 2, 0, 1)],
    ['split: lets its index go back', SPLIT, /65535 requests/, (memory) => used(memory, 0xffff, 0, 1)],
    ['split: claims too many bytes', SPLIT, /2 bytes/, (memory) => used(memory, 1, 0, 2)],
    ['split: claims 2^32 - 1 bytes', SPLIT, /4294967295 bytes/, (memory) => used(memory, 1, 0, 0xffff_ffff)],
    ['split: never answers', SPLIT, /never answered/, () => {}],
    ['in order: gives back what is not in flight', SPLIT_IN_ORDER, /descriptor 9 /, (memory) => used(memory, 1, 9, 1)],
    ['packed: gives back what is no request', PACKED, /buffer 99/, (memory) => usedPacked(memory, 99, 1)],
    ['packed: gives back 65535', PACKED, /buffer 65535/, (memory) => usedPacked(memory, 0xffff, 1)],
    ['packed: gives back what is not in flight', PACKED, /buffer 1 /, (memory) => usedPacked(memory, 1, 1)],
    ['packed: claims too many bytes', PACKED, /2 bytes/, (memory) => usedPacked(memory, 0, 2)],
    ['packed: claims 2^32 - 1 bytes', PACKED, /4294967295 bytes/, (memory) => usedPacked(memory, 0, 0xffff_ffff)],
    ['packed: never answers', PACKED, /never answered/, () => {}],
    ['packed: of the wrong turn', PACKED, /never answered/, (memory) => usedPacked(memory, 0, 1, 0)],
    ['packed, in order: what is no request', PACKED_IN_ORDER, /buffer 7 /, (memory) => usedPacked(memory, 7, 1)],
  ])('%s: EIO, and the same EIO until it is restarted', (_name, decline, message, answer) => {
    const { bus, memory, connect } = parts({ decline });
    const driver = connect();
    bus.intercept = (register) => {
      if (register === REG_QUEUE_NOTIFY) answer(memory);
      return register === REG_QUEUE_NOTIFY;
    };
    const first = thrownBy(() => driver.flush());
    expect(codeOf(first)).toBe('EIO');
    expect(first).toBeInstanceOf(DeviceError);
    expect(messageOf(first)).toMatch(message);
    bus.intercept = () => false;
    expect(thrownBy(() => driver.read(0, new Uint8Array(512)))).toBe(first);
    expect(thrownBy(() => driver.poll())).toBe(first);
    driver.restart();
    driver.flush();
  });

  function used(memory: FlatMemory, index: number, id: number, lengthBytes: number): void {
    memory.writeU32(USED_RING + 4, id);
    memory.writeU32(USED_RING + 8, lengthBytes);
    memory.writeU16(USED_RING + 2, index);
  }

  /** The first descriptor of the ring, as used in the first turn unless told otherwise. */
  function usedPacked(memory: FlatMemory, id: number, lengthBytes: number, turn = 0x8080): void {
    memory.writeU32(PACKED_RING + 8, lengthBytes);
    memory.writeU16(PACKED_RING + 12, id);
    memory.writeU16(PACKED_RING + 14, turn | DESC_F_WRITE);
  }

  it('split, in order: an entry may stand for those before it, but not for more than the index says', () => {
    for (const [index, done] of [
      [3, 3],
      [2, 0],
    ] as const) {
      const { bus, memory, connect } = parts({ decline: SPLIT_IN_ORDER });
      const driver = connect();
      const tickets = [driver.submitFlush(), driver.submitFlush(), driver.submitFlush()];
      for (const ticket of tickets) memory.writeU8(headsStart() + 32 * ticket + 16, 0);
      // A flush has two descriptors: the third begins at 4.
      bus.intercept = (register) => {
        if (register === REG_QUEUE_NOTIFY) used(memory, index, 4, 1);
        return register === REG_QUEUE_NOTIFY;
      };
      let count = 0;
      const code = codeThrown(() => {
        for (let ticket = driver.poll(); ticket !== undefined; ticket = driver.poll()) {
          expect(ticket).toBe(tickets[count++]);
          // Nobody wrote a status: it tells that the driver took it as given back.
          memory.writeU8(headsStart() + 32 * ticket + 16, 0);
          driver.finish(ticket);
        }
      });
      expect([count, code]).toEqual([done, done === 0 ? 'EIO' : undefined]);
    }
  });

  it('packed, in order: an entry stands for those before it, and the next is behind all of them', () => {
    const { bus, memory, connect } = parts({ decline: PACKED_IN_ORDER });
    const driver = connect();
    const tickets = [driver.submitFlush(), driver.submitFlush(), driver.submitFlush()];
    bus.intercept = (register) => {
      if (register === REG_QUEUE_NOTIFY) usedPacked(memory, tickets[1]!, 1);
      return register === REG_QUEUE_NOTIFY;
    };
    const finish = (ticket: number | undefined) => {
      memory.writeU8(headsStart() + 32 * ticket! + 16, 0);
      driver.finish(ticket!);
    };
    expect(driver.poll()).toBe(tickets[0]);
    finish(tickets[0]);
    expect(driver.poll()).toBe(tickets[1]);
    finish(tickets[1]);
    expect(driver.poll()).toBeUndefined();
    const third = PACKED_RING + 4 * 16;
    memory.writeU32(third + 8, 1);
    memory.writeU16(third + 12, tickets[2]!);
    memory.writeU16(third + 14, 0x8080 | DESC_F_WRITE);
    expect(driver.poll()).toBe(tickets[2]);
  });

  /** Where the driver has its headers: behind the rings. */
  function headsStart(): number {
    return layOutDriverMemory(resolveDriverMemory({})).heads;
  }

  it('success without the bytes, no status, and an unknown status are EIO', () => {
    const { bus, memory, connect } = parts({ decline: SPLIT });
    const driver = connect();
    let status = 0;
    let usedCount = 0;
    bus.intercept = (register) => {
      if (register !== REG_QUEUE_NOTIFY) return false;
      const statusDescriptor = 2;
      const statusAddress = memory.readU64(statusDescriptor * 16);
      if (status >= 0) memory.writeU8(statusAddress, status);
      memory.writeU32(USED_RING + 4 + 8 * usedCount, 0);
      memory.writeU32(USED_RING + 8 + 8 * usedCount, status === 0 ? 12 : 513);
      memory.writeU16(USED_RING + 2, ++usedCount);
      return true;
    };
    for (status of [0, -1, 3, 254]) expect(codeThrown(() => driver.read(0, new Uint8Array(512)))).toBe('EIO');
  });

  it('a device that asks for a reset is not asked again', () => {
    const { device: _device, memory, connect } = parts({ decline: SPLIT });
    const driver = connect();
    const ticket = driver.submitFlush();
    // The driver's own ring, broken by somebody else in the guest.
    memory.writeU16(layOutQueue(0, 32).driver + 2, 1000);
    expect(codeThrown(() => driver.poll())).toBe('EIO');
    expect(codeThrown(() => driver.finish(ticket))).toBe('EIO');
    driver.restart();
    driver.flush();
  });

  it('waits as long as onIdle says so', () => {
    const late: (() => void)[] = [];
    let idleCount = 0;
    const { bus, connect } = parts({
      onIdle: () => {
        if (++idleCount === 3) for (const answer of late.splice(0)) answer();
        return idleCount < 10;
      },
    });
    const driver = connect();
    bus.intercept = (register, value) => {
      if (register !== REG_QUEUE_NOTIFY) return false;
      late.push(() => {
        bus.intercept = () => false;
        bus.write(register, 4, value);
      });
      return true;
    };
    driver.flush();
    expect(idleCount).toBe(3);
  });

  it('close resets the device, and restart brings it back', () => {
    const { bus, connect } = parts();
    const driver = connect();
    driver.close();
    expect(bus.read(REG_STATUS, 4)).toBe(0);
    expect(codeThrown(() => driver.flush())).toBe('ECLOSED');
    driver.restart();
    driver.flush();
  });
});

describe('power cuts and errors that are no disk errors', () => {
  it('a power cut of the backend comes out as the same EPOWER, and the device is silent', () => {
    const backend = new LoggingDevice();
    const { driver, transport, memory, restart } = virtioStack(backend);
    const cut = new DeviceError('EPOWER', 'lights out');
    backend.failure = cut;
    expect(thrownBy(() => driver.write(0, pattern(512, 1)))).toBe(cut);
    expect(transport.halted).toEqual({ error: cut });
    const image = Buffer.from(memory.slice(0, memory.sizeBytes)!);
    expect(thrownBy(() => driver.flush())).toBe(cut);
    expect(thrownBy(() => driver.restart())).toBe(cut);
    for (let register = 0; register < 0x140; register += 4) {
      transport.write(register, 4, 0);
      expect(transport.read(register, 4)).toBe(0);
    }
    expect(image.equals(memory.slice(0, memory.sizeBytes)!)).toBe(true);
    expect(transport.interruptAsserted).toBe(false);
    restart(backend);
    driver.write(0, pattern(512, 1));
    expect(sectorOf(driver, 0)).toEqual(pattern(512, 1));
  });

  it.each([
    ['an Error', new Error('the explorer ends this run')],
    ['a TypeError', new TypeError('a defect of the backend')],
    ['no Error at all', 'a string'],
    ['undefined fields', Object.create(null)],
  ])('%s comes out as the very object, in any operation', (_name, failure) => {
    const backend = new LoggingDevice();
    const { driver, restart } = virtioStack(backend);
    const operations = [
      () => driver.read(0, new Uint8Array(512)),
      () => driver.write(0, new Uint8Array(512)),
      () => driver.flush(),
      () => driver.discard(0, 1),
      () => driver.writeZeroes(0, 1),
    ];
    for (const operation of operations) {
      backend.failure = failure;
      expect(thrownBy(operation)).toBe(failure);
      expect(thrownBy(operation)).toBe(failure);
      restart(backend);
      operation();
    }
  });

  it('what Choices throws comes out too', () => {
    const failure = new Error('nondeterminism');
    const choices = {
      choose: () => {
        throw failure;
      },
    };
    const { driver } = virtioStack(new LoggingDevice(), { device: { choices }, driver: { slotBytes: 4096 } });
    expect(thrownBy(() => driver.write(0, new Uint8Array(512 * 16)))).toBe(failure);
  });

  it('restart puts another disk behind the same driver', () => {
    const stack = virtioStack(new MemoryDevice({ sectorCount: 100 }));
    stack.driver.write(0, pattern(512, 1));
    const { memory, driver } = stack;
    for (const geometry of [
      { sectorCount: 7, sectorBytes: 4096 },
      { sectorCount: 2 ** 33, sectorBytes: 512, physicalSectorBytes: 4096 },
    ]) {
      const disk = new MemoryDevice(geometry);
      stack.restart(disk);
      expect(driver.sectorCount).toBe(disk.sectorCount);
      expect(driver.sectorBytes).toBe(disk.sectorBytes);
      expect(driver.physicalSectorBytes).toBe(disk.physicalSectorBytes);
      const last = disk.sectorCount - 1;
      driver.write(last, pattern(disk.sectorBytes, 9));
      expect(sectorOf(disk, last)).toEqual(pattern(disk.sectorBytes, 9));
    }
    expect(stack.memory).toBe(memory);
  });
});
