import type { BlockDevice } from '../../blockdev/index.ts';
import type { Prng } from '../../core/index.ts';
import {
  BLK_S_OK,
  BLK_T_FLUSH,
  BlkDevice,
  type BlkDeviceOptions,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  type DeviceModel,
  F_EVENT_IDX,
  F_IN_ORDER,
  F_INDIRECT_DESC,
  F_NOTIFICATION_DATA,
  F_RING_PACKED,
  F_RING_RESET,
  F_VERSION_1,
  type GuestMemory,
  layOutPackedQueue,
  layOutQueue,
  MmioTransport,
  PackedDriverRing,
  type QueueAddresses,
  REG_CONFIG,
  REG_DEVICE_FEATURES,
  REG_DEVICE_FEATURES_SEL,
  REG_DRIVER_FEATURES,
  REG_DRIVER_FEATURES_SEL,
  REG_QUEUE_DESC_HIGH,
  REG_QUEUE_DESC_LOW,
  REG_QUEUE_DEVICE_HIGH,
  REG_QUEUE_DEVICE_LOW,
  REG_QUEUE_DRIVER_HIGH,
  REG_QUEUE_DRIVER_LOW,
  REG_QUEUE_NOTIFY,
  REG_QUEUE_NUM,
  REG_QUEUE_READY,
  REG_QUEUE_SEL,
  REG_STATUS,
  SplitDriverRing,
} from '../../virtio/index.ts';
import { Arena, REGION_BYTES } from './arena.ts';
import { WatchedDisk } from './watched-disk.ts';
import { WatchedMemory } from './watched-memory.ts';

/** Entries of each queue. */
export const QUEUE_SIZE = 8;
const QUEUE_COUNT_MAX = 3;
/** Bytes of memory that each queue has for its ring. */
const RING_BYTES = 0x200;
/** Headers, tables and data come after the rings. */
const HEAP = QUEUE_COUNT_MAX * RING_BYTES;

/** Features that an initialisation takes or leaves. */
const OPTIONAL = [F_RING_PACKED, F_INDIRECT_DESC, F_EVENT_IDX, F_IN_ORDER, F_NOTIFICATION_DATA, F_RING_RESET];

/** Replaces parts of what is fuzzed, to see that a broken one is found. */
export interface FuzzTarget {
  readonly makeDevice?: (backend: BlockDevice, memory: GuestMemory, options: BlkDeviceOptions) => DeviceModel;
  readonly makeMemory?: (arena: Arena) => GuestMemory;
}

/** A guest whose memory, registers and rings hold whatever a seed says, over a device that is watched from all sides. */
export class HostileGuest {
  readonly arena: Arena;
  readonly memory: WatchedMemory;
  readonly disk: WatchedDisk;
  readonly transport: MmioTransport;
  readonly queueCount: number;
  /** Whether the driver's last initialisation took packed rings. */
  packed = false;
  /** Whether it took INDIRECT_DESC. */
  indirect = false;
  /** Whether a register of a queue was written that may have put a ring elsewhere. */
  #isMoved = false;
  #requestCount = 0;
  readonly #prng: Prng;
  /** The guest's own way to its memory, which nobody watches. */
  readonly #own: GuestMemory;
  readonly #split: SplitDriverRing[] = [];
  readonly #packedRings: PackedDriverRing[] = [];

  constructor(prng: Prng, target: FuzzTarget = {}) {
    this.#prng = prng;
    this.arena = Arena.choose(prng);
    this.#own = this.arena.memory;
    this.memory = new WatchedMemory(
      target.makeMemory?.(this.arena) ?? this.#own,
      this.arena.extents,
      prng,
      (at, lengthBytes) => this.#mayWriteWord(at, lengthBytes),
    );
    this.disk = new WatchedDisk(prng.below(4) === 0 ? 4096 : 512, (buffer) => this.arena.mayTouch(buffer));
    this.queueCount = 1 + prng.below(QUEUE_COUNT_MAX);
    const device = (target.makeDevice ?? plainDevice)(this.disk, this.memory, this.#deviceOptions());
    this.transport = new MmioTransport(device, this.memory);
    for (let index = 0; index < QUEUE_COUNT_MAX; index++) {
      const start = this.base + index * RING_BYTES;
      this.#split.push(new SplitDriverRing(this.#own, layOutQueue(start, QUEUE_SIZE)));
      this.#packedRings.push(new PackedDriverRing(this.#own, layOutPackedQueue(start, QUEUE_SIZE)));
    }
    for (let i = 0; i < this.arena.extents.length; i++) prng.fill(this.arena.region(i));
  }

  /** Guest address of the first region. */
  get base(): number {
    return this.arena.extents[0]!.base;
  }

  split(index: number): SplitDriverRing {
    return this.#split[index % QUEUE_COUNT_MAX]!;
  }

  packedRing(index: number): PackedDriverRing {
    return this.#packedRings[index % QUEUE_COUNT_MAX]!;
  }

  /** A number that is mostly another one than those of the last requests, below 16. */
  nextRequest(): number {
    return this.#prng.below(16) === 0 ? this.#prng.below(16) : this.#requestCount++ % 16;
  }

  write(register: number, value: number, widthBytes = 4): void {
    this.transport.write(register, widthBytes, value);
  }

  /** As {@link write}, of whatever register: the rings may be elsewhere from here on. */
  writeSomewhere(register: number, value: number, widthBytes: number): void {
    if (register >= REG_QUEUE_SEL && register < REG_CONFIG) this.#isMoved = true;
    this.write(register, value, widthBytes);
  }

  /** An address that is mostly a place for buffers, and sometimes any. */
  address(): number {
    const prng = this.#prng;
    const extents = this.arena.extents;
    const { base } = extents[prng.below(extents.length)]!;
    switch (prng.below(60)) {
      case 0:
        return base + prng.below(REGION_BYTES);
      case 1:
        return base + REGION_BYTES - 16 + prng.below(32);
      case 2:
        return [0, 2 ** 32, 2 ** 40 + 0x2000, 2 ** 52, 2 ** 53 - 1][prng.below(5)]!;
      default:
        return base + HEAP + prng.below(REGION_BYTES - HEAP - 512);
    }
  }

  /** Writes bytes as the guest's processor does; outside memory it writes none. */
  poke(address: number, bytes: Uint8Array): void {
    for (const [i, byte] of bytes.entries()) this.#own.writeU8(address + i, byte);
  }

  pokeU16(address: number, value: number): void {
    this.#own.writeU16(address, value);
  }

  pokeU64(address: number, value: number): void {
    this.#own.writeU64(address, value);
  }

  pokeU32(address: number, value: number): void {
    this.#own.writeU32(address, value);
  }

  /** Another processor of the guest writes while the device reads: mostly where it hurts. */
  changeByte(): void {
    const region = this.arena.region(this.#prng.below(this.arena.extents.length));
    region[this.#prng.below(this.#prng.below(3) === 0 ? REGION_BYTES : HEAP)] = this.#prng.below(256);
  }

  /** An initialisation as it should be, with whatever of the optional features the seed says. */
  bringUp(packed: boolean, wanted: readonly number[]): void {
    this.packed = packed;
    this.indirect = wanted.includes(F_INDIRECT_DESC);
    for (const ring of packed ? this.#packedRings : this.#split) ring.clear();
    for (const status of [0, 1, 3]) this.write(REG_STATUS, status);
    const accepted = new Uint32Array(2);
    for (const bit of [...wanted, F_VERSION_1]) accepted[bit >>> 5] = accepted[bit >>> 5]! | (1 << (bit & 31));
    for (const word of [0, 1]) {
      this.write(REG_DEVICE_FEATURES_SEL, word);
      const offered = this.transport.read(REG_DEVICE_FEATURES, 4);
      const optional = OPTIONAL.reduce((mask, bit) => (bit >>> 5 === word ? mask | (1 << (bit & 31)) : mask), 0);
      this.write(REG_DRIVER_FEATURES_SEL, word);
      this.write(REG_DRIVER_FEATURES, ((offered & ~optional) | (offered & accepted[word]!)) >>> 0);
    }
    this.write(REG_STATUS, 11);
    for (let index = 0; index < this.queueCount; index++) {
      this.setUpQueue(index, packed ? this.packedRing(index).addresses : this.split(index).addresses);
    }
    this.write(REG_STATUS, 15);
    this.#isMoved = false;
  }

  /** A random initialisation. */
  bringUpSomehow(): void {
    const wanted = OPTIONAL.filter(() => this.#prng.below(2) === 0);
    this.bringUp(wanted.includes(F_RING_PACKED), wanted);
  }

  setUpQueue(index: number, { size, desc, driver, device }: QueueAddresses): void {
    this.write(REG_QUEUE_SEL, index);
    this.write(REG_QUEUE_NUM, size);
    for (const [low, high, address] of [
      [REG_QUEUE_DESC_LOW, REG_QUEUE_DESC_HIGH, desc],
      [REG_QUEUE_DRIVER_LOW, REG_QUEUE_DRIVER_HIGH, driver],
      [REG_QUEUE_DEVICE_LOW, REG_QUEUE_DEVICE_HIGH, device],
    ] as const) {
      this.write(low, address >>> 0);
      this.write(high, Math.floor(address / 2 ** 32));
    }
    this.write(REG_QUEUE_READY, 1);
  }

  /** After whatever happened: reset, a fresh ring of that format, one honest flush. */
  answersAgain(packed: boolean): boolean {
    this.memory.disturb(0, () => {});
    this.bringUp(packed, packed ? [F_RING_PACKED] : []);
    const at = this.base + HEAP;
    this.pokeU32(at, BLK_T_FLUSH);
    this.poke(at + 16, Uint8Array.of(0xff));
    if (packed) {
      this.packedRing(0).append(at, 16, 0, DESC_F_NEXT);
      this.packedRing(0).append(at + 16, 1, 0, DESC_F_WRITE);
      this.packedRing(0).offer();
    } else {
      this.split(0).setDescriptor(0, { address: at, lengthBytes: 16, flags: DESC_F_NEXT, next: 1 });
      this.split(0).setDescriptor(1, { address: at + 16, lengthBytes: 1, flags: DESC_F_WRITE });
      this.split(0).offer(0);
    }
    this.write(REG_QUEUE_NOTIFY, 0);
    const usedCount = packed ? this.packedRing(0).flags(0) & 0x8080 : this.split(0).usedIndex;
    return usedCount === (packed ? 0x8080 : 1) && this.#own.readU8(at + 16) === BLK_S_OK;
  }

  /** Where a device writes words: used rings, or packed rings and the structures with its events. */
  #mayWriteWord(address: number, lengthBytes: number): boolean {
    if (this.#isMoved) return true;
    const isIn = (start: number, sizeBytes: number): boolean =>
      address >= start && address + lengthBytes <= start + sizeBytes;
    for (let index = 0; index < this.queueCount; index++) {
      const { desc, device } = (this.packed ? this.packedRing(index) : this.split(index)).addresses;
      if (this.packed ? isIn(desc, 16 * QUEUE_SIZE) || isIn(device, 4) : isIn(device, 6 + 8 * QUEUE_SIZE)) return true;
    }
    return false;
  }

  #deviceOptions(): BlkDeviceOptions {
    const prng = this.#prng;
    const reorders = prng.below(2) === 0;
    return {
      queueSizeMax: QUEUE_SIZE,
      queueCount: this.queueCount,
      rangeCountMax: 4,
      secureErase: prng.below(2) === 0,
      ...(prng.below(2) === 0 ? { lifetime: () => ({ preEol: 1, typA: 2, typB: 3 }) } : {}),
      ...(reorders ? { choices: { choose: (options: number) => prng.below(options) } } : {}),
    };
  }
}

function plainDevice(backend: BlockDevice, memory: GuestMemory, options: BlkDeviceOptions): DeviceModel {
  return new BlkDevice(backend, memory, options);
}

/** Flags of a descriptor that make some sense, mostly. */
export function someFlags(prng: Prng): number {
  if (prng.below(24) === 0) return prng.below(0x1_0000);
  const flags = (prng.below(3) === 0 ? DESC_F_NEXT : 0) | (prng.below(2) === 0 ? DESC_F_WRITE : 0);
  return prng.below(40) === 0 ? flags | DESC_F_INDIRECT : flags;
}
