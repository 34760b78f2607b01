import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlockDevice, type DeviceFeatures, MemoryDevice, type WriteOptions } from '../../src/blockdev/index.ts';
import { equalBytes, type Prng, Sfc32 } from '../../src/core/index.ts';
import {
  BLK_F_MQ,
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_S_UNSUPP,
  BLK_T_FLUSH,
  BLK_T_OUT,
  BlkDevice,
  DESC_F_NEXT,
  DESC_F_WRITE,
  driverMemoryBytes,
  F_EVENT_IDX,
  F_IN_ORDER,
  F_INDIRECT_DESC,
  F_NOTIFICATION_DATA,
  F_RING_PACKED,
  F_RING_RESET,
  FlatMemory,
  type GuestMemory,
  layOutQueue,
  MmioTransport,
  SplitDriverRing,
  setFeature,
  VirtioBlkDriver,
  virtioStack,
} from '../../src/virtio/index.ts';
import { GUEST_BYTES, Guest, header, LoggingDevice } from '../virtio/harness.ts';
import { holdProperty, isCaught } from './replay.ts';

const FILE = 'test/property/virtio.test.ts';

/** Defines the test of a property; a failure prints the line that repeats it. */
function holds<T>(name: string, property: fc.IProperty<T>, numRuns: number): void {
  it(name, () => holdProperty(FILE, name, property, { numRuns }));
}

// --- a guest whose memory has walls ---------------------------------------------------------------------------------

const WALL_BYTES = 4096;
const SIZE = 0x6000;
const QUEUE = layOutQueue(0x100, 8);
const CANARY = 0xc5;
/** All bits of the first two words, but for INDIRECT_DESC, EVENT_IDX, RING_PACKED, IN_ORDER, NOTIFICATION_DATA. */
const NO_RING_BITS = [~(3 << 28), ~0x4c];

/** Passes every operation on, and makes sure that no buffer reaches past guest memory. */
class WatchedDisk extends MemoryDevice {
  operations = 0;
  readonly #arena: Uint8Array;

  constructor(arena: Uint8Array) {
    super({ sectorCount: 16 });
    this.#arena = arena;
  }

  override read(sector: number, target: Uint8Array): void {
    this.#watch(target);
    super.read(sector, target);
  }

  override write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#watch(source);
    super.write(sector, source, options);
  }

  #watch(buffer: Uint8Array): void {
    this.operations++;
    if (buffer.buffer !== this.#arena.buffer) return;
    const start = buffer.byteOffset - WALL_BYTES;
    if (start < 0 || start + buffer.length > SIZE) throw new Error('a buffer reaches past guest memory');
  }
}

/** A device over memory in the middle of an arena; the walls on both sides tell who touched them. */
class WalledGuest {
  readonly arena: Uint8Array = new Uint8Array(SIZE + 2 * WALL_BYTES).fill(CANARY);
  readonly memory: FlatMemory;
  readonly disk: WatchedDisk;
  readonly transport: MmioTransport;
  /** What happens to guest memory between two accesses of the device. */
  disturb: () => void = () => {};

  constructor(makeMemory: (arena: Uint8Array) => FlatMemory) {
    this.memory = makeMemory(this.arena);
    this.disk = new WatchedDisk(this.arena);
    const seen = interposed(this.memory, () => this.disturb());
    this.transport = new MmioTransport(new BlkDevice(this.disk, seen, { queueSizeMax: 8 }), seen);
  }

  bringUp(): void {
    this.#write(0x70, 0);
    for (const status of [1, 3]) this.#write(0x70, status);
    for (const word of [0, 1]) {
      this.#write(0x14, word);
      this.#write(0x24, word);
      this.#write(0x20, this.transport.read(0x10, 4) & NO_RING_BITS[word]!);
    }
    this.#write(0x70, 11);
    this.#write(0x38, QUEUE.size);
    for (const [register, address] of [
      [0x80, QUEUE.desc],
      [0x90, QUEUE.driver],
      [0xa0, QUEUE.device],
    ] as const) {
      this.#write(register, address);
    }
    this.#write(0x44, 1);
    this.#write(0x70, 15);
  }

  /** After whatever happened: reset, a fresh ring, one honest flush. */
  answersAgain(): boolean {
    this.disturb = () => {};
    const ring = new SplitDriverRing(this.memory, QUEUE);
    this.bringUp();
    const at = 0x2000;
    for (const [i, byte] of header(BLK_T_FLUSH).entries()) this.memory.writeU8(at + i, byte);
    this.memory.writeU8(at + 16, 0xff);
    ring.setDescriptor(0, { address: at, lengthBytes: 16, flags: DESC_F_NEXT, next: 1 });
    ring.setDescriptor(1, { address: at + 16, lengthBytes: 1, flags: DESC_F_WRITE });
    ring.offer(0);
    this.#write(0x50, 0);
    return ring.usedIndex === 1 && this.memory.readU8(at + 16) === BLK_S_OK;
  }

  wallsStand(): boolean {
    const right = WALL_BYTES + SIZE;
    for (let i = 0; i < WALL_BYTES; i++) {
      if (this.arena[i] !== CANARY || this.arena[right + i] !== CANARY) return false;
    }
    return true;
  }

  #write(register: number, value: number): void {
    this.transport.write(register, 4, value);
  }
}

function walled(arena: Uint8Array): FlatMemory {
  return new FlatMemory(arena.subarray(WALL_BYTES, WALL_BYTES + SIZE));
}

/** The same memory, with something done before each access. */
function interposed(memory: GuestMemory, before: () => void): GuestMemory {
  const meddled = <A extends unknown[], R>(access: (...args: A) => R) => {
    return (...args: A): R => {
      before();
      return access.apply(memory, args);
    };
  };
  return {
    reach: meddled(memory.reach),
    contains: meddled(memory.contains),
    slice: meddled(memory.slice),
    readU8: meddled(memory.readU8),
    readU16: meddled(memory.readU16),
    readU32: meddled(memory.readU32),
    readU64: meddled(memory.readU64),
    writeU8: meddled(memory.writeU8),
    writeU16: meddled(memory.writeU16),
    writeU32: meddled(memory.writeU32),
    writeU64: meddled(memory.writeU64),
    loadU16: meddled(memory.loadU16),
    storeU16: meddled(memory.storeU16),
  };
}

// --- arbitraries ----------------------------------------------------------------------------------------------------

/** Values that break things: edges of every width, and small ones. */
const edgy = fc.oneof(
  { weight: 3, arbitrary: fc.nat(64) },
  { weight: 2, arbitrary: fc.nat(SIZE + 64) },
  fc.constantFrom(0x7fff, 0x8000, 0xffff, 0x10000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const addressArb = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: SIZE }) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 32, 2 ** 40 + 0x2000, 2 ** 53, 2 ** 63, 2 ** 64 - 2048) },
  { weight: 1, arbitrary: fc.integer({ min: SIZE - 32, max: SIZE + 32 }) },
);
const lengthArb = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(0, 1, 15, 16, 17, 512, 513, 1024) },
  { weight: 1, arbitrary: edgy },
);
const descriptorArb = fc.record({
  address: addressArb,
  lengthBytes: lengthArb,
  flags: fc.oneof({ weight: 8, arbitrary: fc.nat(3) }, { weight: 1, arbitrary: fc.nat(0xffff) }),
  next: fc.oneof({ weight: 8, arbitrary: fc.nat(7) }, { weight: 1, arbitrary: fc.nat(0xffff) }),
});
const typeArb = fc.oneof({ weight: 6, arbitrary: fc.constantFrom(0, 1, 4, 8, 11, 13) }, { weight: 1, arbitrary: edgy });
const registerArb = fc.oneof(
  { weight: 8, arbitrary: fc.nat(0x140 / 4).map((n) => 4 * n) },
  { weight: 2, arbitrary: fc.constantFrom(0x50, 0x70, 0x44, 0x38) },
  { weight: 1, arbitrary: edgy },
);
const widthArb = fc.oneof({ weight: 6, arbitrary: fc.constant(4) }, { weight: 1, arbitrary: fc.nat(9) });

type Step =
  | { readonly do: 'write'; readonly register: number; readonly width: number; readonly value: number }
  | { readonly do: 'read'; readonly register: number; readonly width: number }
  | { readonly do: 'poke'; readonly address: number; readonly value: number }
  | {
      readonly do: 'describe';
      readonly index: number;
      readonly fields: { address: number; lengthBytes: number; flags: number; next: number };
    }
  | { readonly do: 'header'; readonly address: number; readonly type: number; readonly unit: number }
  | { readonly do: 'offer'; readonly head: number }
  | { readonly do: 'notify' }
  | { readonly do: 'up' };

const stepArb: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('write' as const), register: registerArb, width: widthArb, value: edgy }),
  fc.record({ do: fc.constant('read' as const), register: registerArb, width: widthArb }),
  fc.record({ do: fc.constant('poke' as const), address: fc.nat(SIZE - 1), value: fc.nat(255) }),
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('describe' as const), index: fc.nat(7), fields: descriptorArb }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('header' as const),
      address: fc.nat(SIZE - 16),
      type: typeArb,
      unit: fc.oneof(fc.nat(20), edgy),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('offer' as const),
      head: fc.oneof({ weight: 9, arbitrary: fc.nat(7) }, { weight: 1, arbitrary: fc.nat(0xffff) }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('notify' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('up' as const) }) },
);

function take(guest: WalledGuest, ring: SplitDriverRing, step: Step): void {
  const { transport, memory } = guest;
  switch (step.do) {
    case 'write':
      transport.write(step.register, step.width, step.value);
      break;
    case 'read':
      transport.read(step.register, step.width);
      break;
    case 'poke':
      memory.writeU8(step.address, step.value);
      break;
    case 'describe':
      ring.setDescriptor(step.index, step.fields);
      break;
    case 'header':
      for (const [i, byte] of header(step.type, step.unit).entries()) memory.writeU8(step.address + i, byte);
      break;
    case 'offer':
      ring.offer(step.head);
      break;
    case 'notify':
      transport.write(0x50, 4, 0);
      break;
    case 'up':
      ring.clear();
      guest.bringUp();
  }
}

/** The safety property, for any memory and so for broken ones too. */
function survivesAnything(makeMemory: (arena: Uint8Array) => FlatMemory) {
  return fc.property(
    fc.array(stepArb, { minLength: 10, maxLength: 80 }),
    fc.nat(0xffff_ffff),
    fc.integer({ min: 0, max: 40 }),
    (steps, seed, calm) => {
      const guest = new WalledGuest(makeMemory);
      const prng: Prng = new Sfc32(seed);
      prng.fill(guest.arena.subarray(WALL_BYTES, WALL_BYTES + SIZE));
      const ring = new SplitDriverRing(guest.memory, QUEUE);
      guest.bringUp();
      // Another processor of the guest writes while the device reads: mostly where it hurts.
      guest.disturb = () => {
        if (calm > 0 && prng.below(calm) === 0) guest.arena[WALL_BYTES + prng.below(0x240)] = prng.below(256);
      };
      for (const step of steps) {
        const before = guest.disk.operations;
        take(guest, ring, step);
        // At most eight requests a notification, and no more operations than their segments and sectors make.
        expect(guest.disk.operations - before).toBeLessThanOrEqual(8 * (8 + 16));
        expect(guest.transport.halted).toBeUndefined();
      }
      expect(guest.answersAgain()).toBe(true);
      expect(guest.wallsStand()).toBe(true);
    },
  );
}

describe('virtio, any guest', () => {
  holds(
    'arbitrary memory, registers, rings and concurrent changes: nothing thrown, nothing touched outside, works after reset',
    survivesAnything(walled),
    600,
  );

  it('sees a memory that is checked one page too far', () => {
    const leaky = (arena: Uint8Array) => new FlatMemory(arena.subarray(WALL_BYTES, WALL_BYTES + SIZE + 64));
    expect(isCaught(survivesAnything(leaky), { numRuns: 2000, seed: 1 })).toBe(true);
  });

  /** What the device must answer to a chain, worked out from what was put there, by other means. */
  function expectedOf(parts: readonly { address: number; lengthBytes: number; writable: boolean }[]): number {
    const inside = (part: { address: number; lengthBytes: number }) =>
      part.lengthBytes === 0 || (part.address >= 0x2000 && part.address + part.lengthBytes <= SIZE);
    const last = parts.filter((part) => part.writable && part.lengthBytes > 0).at(-1);
    return last !== undefined && inside(last) ? last.address + last.lengthBytes - 1 : -1;
  }

  const partArb = fc.record({
    address: fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: 0x2000, max: SIZE }) },
      { weight: 1, arbitrary: fc.constantFrom(2 ** 32 + 0x2000, 2 ** 63) },
    ),
    lengthBytes: fc.constantFrom(0, 1, 15, 16, 17, 512, 513, 1024),
    writable: fc.boolean(),
  });

  holds(
    'every chain with a status byte in memory gets a status there, and every chain comes back',
    fc.property(fc.array(partArb, { minLength: 1, maxLength: 8 }), typeArb, fc.nat(20), (parts, type, unit) => {
      const guest = new WalledGuest(walled);
      const ring = new SplitDriverRing(guest.memory, QUEUE);
      guest.bringUp();
      for (let at = 0x2000; at < SIZE; at += 16) {
        for (const [i, byte] of header(type, unit).entries()) guest.memory.writeU8(at + i, byte);
      }
      for (const [i, { address, lengthBytes, writable }] of parts.entries()) {
        const flags = (writable ? DESC_F_WRITE : 0) | (i + 1 < parts.length ? DESC_F_NEXT : 0);
        ring.setDescriptor(i, { address, lengthBytes, flags, next: i + 1 });
      }
      const statusAddress = expectedOf(parts);
      if (statusAddress >= 0) guest.memory.writeU8(statusAddress, 0xee);
      ring.offer(0);
      guest.transport.write(0x50, 4, 0);
      expect(ring.usedIndex).toBe(1);
      const room = parts.reduce((sum, part) => sum + (part.writable ? part.lengthBytes : 0), 0);
      expect(ring.usedLength(0)).toBeLessThanOrEqual(room);
      if (statusAddress < 0) expect(ring.usedLength(0)).toBe(0);
      else expect([BLK_S_OK, BLK_S_IOERR, BLK_S_UNSUPP]).toContain(guest.memory.readU8(statusAddress));
      expect(guest.wallsStand()).toBe(true);
    }),
    500,
  );

  /** The property that all 64 bits of an address count. */
  function highWordsCount(wrapMemory: (memory: FlatMemory) => GuestMemory) {
    return fc.property(fc.integer({ min: 1, max: 0x1f_ffff }), fc.nat(GUEST_BYTES - 512), (high, low) => {
      const backend = new LoggingDevice();
      const guest = new Guest({ backend, wrapMemory }).up();
      const data = { address: high * 2 ** 32 + low, lengthBytes: 512 };
      const answer = guest.send([{ give: header(BLK_T_OUT) }, data, { room: 1 }]);
      return answer.status === BLK_S_IOERR && backend.log.length === 0;
    });
  }

  holds(
    'a buffer is where all 64 bits of its address say',
    highWordsCount((memory) => memory),
    60,
  );

  it('sees a device that drops the high word of an address', () => {
    const halved = (memory: FlatMemory) => ({
      ...interposed(memory, () => {}),
      readU64: (at: number) => memory.readU32(at),
    });
    expect(isCaught(highWordsCount(halved), { numRuns: 60, seed: 1 })).toBe(true);
  });
});

// --- differential ---------------------------------------------------------------------------------------------------

const SECTORS = 80;

type Op =
  | {
      readonly op: 'write';
      readonly sector: number;
      readonly count: number;
      readonly tag: number;
      readonly fua: boolean;
    }
  | { readonly op: 'read' | 'zero' | 'discard'; readonly sector: number; readonly count: number }
  | { readonly op: 'flush' | 'restart' }
  | { readonly op: 'batch'; readonly tags: readonly number[] };

const extentArb = { sector: fc.nat(SECTORS - 1), count: fc.integer({ min: 1, max: SECTORS }) };
const opArb: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ op: fc.constant('write' as const), ...extentArb, tag: fc.nat(255), fua: fc.boolean() }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constantFrom('read' as const, 'zero' as const, 'discard' as const), ...extentArb }),
  },
  fc.record({ op: fc.constantFrom('flush' as const, 'restart' as const) }),
  fc.record({ op: fc.constant('batch' as const), tags: fc.array(fc.nat(255), { maxLength: 8 }) }),
);

const shapeArb = fc.record({
  sectorBytes: fc.constantFrom(512, 4096),
  queueSizeMax: fc.constantFrom(8, 16, 128),
  sizeMaxBytes: fc.constantFrom(1 << 20, 4096, 1500),
  slotCount: fc.integer({ min: 1, max: 5 }),
  slotBytes: fc.constantFrom(4096, 8192, 65536),
  memoryBase: fc.constantFrom(0, 2 ** 32 + 4096),
  /** Feature bits of ring and transport that the driver does not take. */
  decline: fc.subarray([
    F_INDIRECT_DESC,
    F_EVENT_IDX,
    F_RING_PACKED,
    F_IN_ORDER,
    F_NOTIFICATION_DATA,
    F_RING_RESET,
    BLK_F_MQ,
  ]),
  queueCount: fc.constantFrom(1, 2, 5),
  queueCountMax: fc.constantFrom(1, 3),
  /** Whether the device completes in any order; else in the order of arrival, and IN_ORDER is offered. */
  reorders: fc.boolean(),
});

type Shape = typeof shapeArb extends fc.Arbitrary<infer T> ? T : never;

function noise(lengthBytes: number, tag: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  new Sfc32(tag).fill(bytes);
  return bytes;
}

function clip(count: number, sector: number): number {
  return Math.min(count, SECTORS - sector);
}

/** Several writes in flight at once, to sectors of their own, so that any order gives one disk. */
function batch(driver: VirtioBlkDriver, model: MemoryDevice, tags: readonly number[]): void {
  const usable = tags.slice(0, driver.slotCount);
  for (const [i, tag] of usable.entries()) {
    const bytes = noise(driver.sectorBytes, tag);
    driver.submitWrite(i * 3, bytes);
    model.write(i * 3, bytes);
  }
  for (let left = usable.length; left > 0; left--) driver.finish(driver.poll()!);
}

function applyOp(op: Op, driver: VirtioBlkDriver, model: MemoryDevice): void {
  switch (op.op) {
    case 'write': {
      const bytes = noise(clip(op.count, op.sector) * driver.sectorBytes, op.tag);
      driver.write(op.sector, bytes, { fua: op.fua });
      model.write(op.sector, bytes);
      break;
    }
    case 'read':
      expectSameSectors(driver, model, op.sector, clip(op.count, op.sector));
      break;
    case 'zero':
      driver.writeZeroes(op.sector, clip(op.count, op.sector));
      model.writeZeroes(op.sector, clip(op.count, op.sector));
      break;
    case 'discard':
      if (driver.features.discard) driver.discard(op.sector, clip(op.count, op.sector));
      if (driver.features.discard) model.discard(op.sector, clip(op.count, op.sector));
      break;
    case 'flush':
      driver.flush();
      break;
    case 'restart':
      driver.restart();
      break;
    case 'batch':
      batch(driver, model, op.tags);
  }
}

function expectSameSectors(actual: BlockDevice, expected: BlockDevice, sector: number, count: number): void {
  const lengthBytes = count * expected.sectorBytes;
  // Not zeros: what leaves the buffer as it was must not pass for what filled it.
  const [actualBytes, expectedBytes] = [new Uint8Array(lengthBytes).fill(1), new Uint8Array(lengthBytes)];
  actual.read(sector, actualBytes);
  expected.read(sector, expectedBytes);
  expect(equalBytes(actualBytes, expectedBytes)).toBe(true);
}

/** Any requests through a driver that `connect` makes, and straight to a disk: both disks end up the same. */
function sameDisk(connect: (disk: BlockDevice, shape: Shape, prng: Prng) => VirtioBlkDriver) {
  return fc.property(fc.array(opArb, { maxLength: 25 }), shapeArb, fc.nat(0xffff_ffff), (ops, shape, seed) => {
    const { sectorBytes } = shape;
    const disk = new MemoryDevice({ sectorCount: SECTORS, sectorBytes });
    const model = new MemoryDevice({ sectorCount: SECTORS, sectorBytes });
    const driver = connect(disk, shape, new Sfc32(seed));
    for (const op of ops) applyOp(op, driver, model);
    expectSameSectors(disk, model, 0, SECTORS);
  });
}

function connectThrough(disk: BlockDevice, shape: Shape, prng: Prng): VirtioBlkDriver {
  const { queueSizeMax, sizeMaxBytes, slotCount, slotBytes, memoryBase, decline, queueCount, queueCountMax } = shape;
  const choices = { choose: (options: number) => prng.below(options) };
  return virtioStack(disk, {
    device: { queueSizeMax, sizeMaxBytes, queueCount, ...(shape.reorders ? { choices } : {}) },
    driver: { slotCount, slotBytes, decline, queueCountMax },
    memoryBase,
  }).driver;
}

describe('virtio, differential', () => {
  holds(
    'any requests, split or packed, indirect or not, any queues, any completion order: the same disk as without virtio',
    sameDisk(connectThrough),
    400,
  );

  it('sees a device that says IN_ORDER and is not', () => {
    class Disorderly extends BlkDevice {
      override attach(backend: BlockDevice): void {
        super.attach(backend);
        setFeature(this.offered, F_IN_ORDER);
      }
    }
    const connect = (disk: BlockDevice, _shape: Shape, prng: Prng): VirtioBlkDriver => {
      const memory = new FlatMemory(driverMemoryBytes());
      const device = new Disorderly(disk, memory, { choices: { choose: (options) => prng.below(options) } });
      return new VirtioBlkDriver(new MmioTransport(device, memory), memory);
    };
    expect(isCaught(sameDisk(connect), { numRuns: 400, seed: 1 })).toBe(true);
  });

  it('sees an indirect table that is read short of its end', () => {
    // The last descriptor of a table is the status: without it, the last bytes of the data are.
    const short = (memory: FlatMemory): GuestMemory => ({
      ...interposed(memory, () => {}),
      contains: (at: number, lengthBytes: number) => memory.contains(at, lengthBytes),
      readU32: (at: number) => {
        const value = memory.readU32(at);
        return value === 48 ? 32 : value;
      },
    });
    const connect = (disk: BlockDevice): VirtioBlkDriver => {
      const memory = new FlatMemory(driverMemoryBytes());
      const seen = short(memory);
      const bus = new MmioTransport(new BlkDevice(disk, seen), seen);
      return new VirtioBlkDriver(bus, memory, { decline: [] });
    };
    expect(isCaught(sameDisk(connect), { numRuns: 200, seed: 1 })).toBe(true);
  });
});

// --- durability -----------------------------------------------------------------------------------------------------

/** A disk with a volatile cache: `durable` is what a power cut leaves. */
class CachingDisk implements BlockDevice {
  readonly sectorBytes = 512;
  readonly physicalSectorBytes = 512;
  readonly sectorCount = SECTORS;
  readonly readOnly = false;
  readonly features: DeviceFeatures;
  readonly durable = new MemoryDevice({ sectorCount: SECTORS });
  readonly #newest = new MemoryDevice({ sectorCount: SECTORS });

  constructor(fua: boolean) {
    this.features = { flush: true, fua, discard: false, writeZeroes: true, writeCache: true };
  }

  read(sector: number, target: Uint8Array): void {
    this.#newest.read(sector, target);
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#newest.write(sector, source);
    if (options?.fua === true) this.durable.write(sector, source);
  }

  flush(): void {
    const all = new Uint8Array(SECTORS * 512);
    this.#newest.read(0, all);
    this.durable.write(0, all);
  }

  discard(): void {}

  writeZeroes(sector: number, sectorCount: number): void {
    this.#newest.writeZeroes(sector, sectorCount);
  }

  close(): void {}
}

/** What was promised durable is durable at once: after each flush, each FUA write, and each write without a cache. */
function keepsPromises(makeDisk: (fua: boolean) => CachingDisk) {
  return fc.property(fc.array(opArb, { maxLength: 20 }), fc.boolean(), fc.boolean(), (ops, fua, writeback) => {
    const disk = makeDisk(fua);
    const model = new MemoryDevice({ sectorCount: SECTORS });
    const memory = new FlatMemory(driverMemoryBytes());
    const device = new BlkDevice(disk, memory, { writeback });
    const driver = new VirtioBlkDriver(new MmioTransport(device, memory), memory);
    for (const op of ops) {
      applyOp(op, driver, model);
      const promised = op.op === 'flush' || !driver.features.writeCache || (op.op === 'write' && op.fua);
      if (!promised || op.op === 'read' || op.op === 'restart') continue;
      const [actual, expected] = [new Uint8Array(SECTORS * 512), new Uint8Array(SECTORS * 512)];
      disk.durable.read(0, actual);
      model.read(0, expected);
      expect(equalBytes(actual, expected)).toBe(true);
    }
  });
}

describe('virtio, durability', () => {
  holds(
    'what a flush, a FUA write or a write-through promised survives a cut right after',
    keepsPromises((fua) => new CachingDisk(fua)),
    300,
  );

  it('sees a flush that is acknowledged without having flushed', () => {
    const lying = (fua: boolean) => Object.assign(new CachingDisk(fua), { flush: () => {} });
    expect(isCaught(keepsPromises(lying), { numRuns: 300, seed: 1 })).toBe(true);
  });

  it('sees a FUA that is ignored', () => {
    class Careless extends CachingDisk {
      override write(sector: number, source: Uint8Array): void {
        super.write(sector, source);
      }
    }
    expect(
      isCaught(
        keepsPromises((fua) => new Careless(fua)),
        { numRuns: 300, seed: 1 },
      ),
    ).toBe(true);
  });
});
