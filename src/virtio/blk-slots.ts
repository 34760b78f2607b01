import { assertInteger, DeviceError, invariant, setU64, viewOf } from '../core/index.ts';
import {
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_S_UNSUPP,
  HEADER_BYTES,
  HEADER_RESERVED,
  HEADER_SECTOR,
  HEADER_TYPE,
} from './blk-layout.ts';
import { DriverRing } from './driver-ring.ts';
import type { GuestMemory } from './memory.ts';
import {
  alignUp,
  DESC_F_NEXT,
  DESC_F_WRITE,
  INDEX_MASK,
  layOutQueue,
  queueEnd,
  USED_F_NO_NOTIFY,
} from './split-layout.ts';

/** How much guest memory the driver takes for itself. */
export interface DriverMemory {
  /** First guest address of the driver's memory. Default 0. */
  readonly start?: number;
  /** Requests that can be in flight at once. Default 8. */
  readonly slotCount?: number;
  /** Bytes of data that one request can carry; a longer transfer is split. Default 65536. */
  readonly slotBytes?: number;
  /** Most entries of the ring. Default 128. */
  readonly ringSizeMax?: number;
}

/** How the slots use a device's queue, from what the device allows. */
interface SlotPlan {
  readonly queueSize: number;
  readonly slotCount: number;
  /** Most data in one request: whole sectors. */
  readonly chunkBytes: number;
  readonly segmentBytes: number;
  readonly segmentCount: number;
}

/** What of a device bears on the plan. */
export interface QueueTraits {
  readonly queueSizeMax: number;
  readonly sizeMaxBytes: number;
  readonly segMax: number;
  readonly sectorBytes: number;
}

/** Header (16 bytes) and status byte of a slot, padded. */
const SLOT_HEAD_BYTES = 32;
const SLOT_STATUS = HEADER_BYTES;
/** No status that a device writes: it tells a request that was answered from one that was not. */
const STATUS_NONE = 0xff;

const FREE = 0;
const IN_FLIGHT = 1;
const DONE = 2;

/** @throws TypeError, RangeError */
function resolveDriverMemory(options: DriverMemory): Required<DriverMemory> {
  const { start = 0, slotCount = 8, slotBytes = 65536, ringSizeMax = 128 } = options;
  assertInteger(start, 'start');
  assertInteger(slotCount, 'slotCount', 1, 1024);
  assertInteger(slotBytes, 'slotBytes', 4096, 2 ** 30);
  assertInteger(ringSizeMax, 'ringSizeMax', 4, 32768);
  return { start, slotCount, slotBytes, ringSizeMax };
}

/** Bytes of guest memory that a driver with these options uses, from `start` on. */
export function driverMemoryBytes(options: DriverMemory = {}): number {
  const resolved = resolveDriverMemory(options);
  return dataStart(resolved) + resolved.slotCount * resolved.slotBytes - resolved.start;
}

function headsStart({ start, ringSizeMax }: Required<DriverMemory>): number {
  return alignUp(queueEnd(layOutQueue(start, ringSizeMax)), SLOT_HEAD_BYTES);
}

function dataStart(options: Required<DriverMemory>): number {
  return alignUp(headsStart(options) + options.slotCount * SLOT_HEAD_BYTES, 4096);
}

/**
 * Fits the wanted slots into a queue: each has its own descriptors (header, data segments, status), for good.
 * @throws DeviceError EIO where the device leaves no room for one sector in one request
 */
function planSlots(device: QueueTraits, wanted: Required<DriverMemory>): SlotPlan {
  const { sectorBytes } = device;
  const ringSize = floorPowerOfTwo(Math.min(device.queueSizeMax, wanted.ringSizeMax));
  const segmentBytes = Math.min(device.sizeMaxBytes, wanted.slotBytes);
  // Many small segments would leave room for few requests: rather shorter requests, and all slots.
  const fairCount = Math.max(Math.ceil(sectorBytes / segmentBytes), Math.floor(ringSize / wanted.slotCount) - 2);
  const fullCount = Math.ceil(wanted.slotBytes / segmentBytes);
  const segmentCount = Math.min(fullCount, fairCount, device.segMax, ringSize - 2);
  const roomBytes = Math.min(wanted.slotBytes, segmentCount * segmentBytes);
  const chunkBytes = roomBytes - (roomBytes % sectorBytes);
  if (!(segmentCount >= 1 && chunkBytes >= sectorBytes)) {
    const limits = `queue of ${device.queueSizeMax}, SEG_MAX ${device.segMax}, SIZE_MAX ${device.sizeMaxBytes}`;
    throw new DeviceError('EIO', `device limits: expected room for a sector of ${sectorBytes} bytes, got a ${limits}`);
  }
  const stride = segmentCount + 2;
  const slotCount = Math.min(wanted.slotCount, Math.floor(ringSize / stride));
  const queueSize = Math.min(ringSize, 2 * floorPowerOfTwo(slotCount * stride - 1));
  return { queueSize, slotCount, chunkBytes, segmentBytes, segmentCount };
}

function floorPowerOfTwo(value: number): number {
  return value < 1 ? 0 : 2 ** (31 - Math.clz32(value));
}

/**
 * The driver's requests: a fixed number of slots, each with its descriptors, its header, its status byte and its bounce
 * buffer in guest memory, so that a request allocates nothing. What the device hands back is checked, not believed.
 */
export class BlkSlots {
  /** Slots in flight. */
  inFlightCount = 0;
  readonly #memory: GuestMemory;
  readonly #wanted: Required<DriverMemory>;
  readonly #headsStart: number;
  readonly #dataStart: number;
  /** Headers and status bytes of all slots, and their bounce buffers: the driver's own memory, checked once. */
  readonly #heads: DataView;
  readonly #data: Uint8Array;
  readonly #slotBytes: number = 0;
  readonly #states: Uint8Array;
  readonly #roomBytes: Float64Array;
  readonly #usedBytes: Float64Array;
  /** What each slot's descriptors are linked for: bytes of data, below 0 where the device writes them; NaN for nothing. */
  readonly #linkedBytes: Float64Array;
  readonly #free: number[] = [];
  #plan: SlotPlan;
  #ring: DriverRing;
  #stride = 0;
  #nextUsed = 0;

  /** @throws RangeError where guest memory is too small */
  constructor(memory: GuestMemory, options: DriverMemory, device: QueueTraits) {
    this.#memory = memory;
    this.#wanted = resolveDriverMemory(options);
    const { start, slotCount } = this.#wanted;
    if (!memory.contains(start, driverMemoryBytes(options))) {
      throw new RangeError(`memory: expected ${driverMemoryBytes(options)} bytes for the driver from ${start} on`);
    }
    this.#headsStart = headsStart(this.#wanted);
    this.#dataStart = dataStart(this.#wanted);
    this.#slotBytes = this.#wanted.slotBytes;
    this.#heads = viewOf(this.#own(this.#headsStart, slotCount * SLOT_HEAD_BYTES));
    this.#data = this.#own(this.#dataStart, slotCount * this.#slotBytes);
    this.#states = new Uint8Array(slotCount);
    this.#roomBytes = new Float64Array(slotCount);
    this.#usedBytes = new Float64Array(slotCount);
    this.#linkedBytes = new Float64Array(slotCount);
    this.#plan = planSlots(device, this.#wanted);
    this.#ring = this.#makeRing();
    this.#layOut();
  }

  get ring(): DriverRing {
    return this.#ring;
  }

  get slotCount(): number {
    return this.#plan.slotCount;
  }

  /** Most data in one request: whole sectors. */
  get chunkBytes(): number {
    return this.#plan.chunkBytes;
  }

  /** Begins anew, on the same memory: an empty ring, all slots free. */
  restart(device: QueueTraits): void {
    const plan = planSlots(device, this.#wanted);
    const fits = plan.queueSize === this.#plan.queueSize;
    this.#plan = plan;
    if (fits) this.#ring.clear();
    else this.#ring = this.#makeRing();
    this.#layOut();
  }

  /** Takes a slot; -1 where all are taken. */
  acquire(): number {
    return this.#free.pop() ?? -1;
  }

  release(slot: number): void {
    this.#states[slot] = FREE;
    this.#free.push(slot);
  }

  /**
   * The first bytes of the slot's bounce buffer: what a write takes its data from, and a read puts it into.
   * @param lengthBytes up to `chunkBytes`
   */
  data(slot: number, lengthBytes: number): Uint8Array {
    return this.#own(this.#dataStart + slot * this.#slotBytes, lengthBytes);
  }

  /** Copies what a write is to carry into the slot's bounce buffer: as {@link data}, without making a view. */
  fill(slot: number, source: Uint8Array): void {
    this.#data.set(source, slot * this.#slotBytes);
  }

  /**
   * Makes a request available; at most one of the two lengths is not 0.
   * @param unit first unit of 512 bytes
   * @param givenBytes how much of the bounce buffer the device may read
   * @param roomBytes how much of it the device is to write
   */
  submit(slot: number, type: number, unit: number, givenBytes: number, roomBytes: number): void {
    const head = slot * SLOT_HEAD_BYTES;
    this.#heads.setUint32(head + HEADER_TYPE, type, true);
    setU64(this.#heads, head + HEADER_SECTOR, unit);
    this.#heads.setUint8(head + SLOT_STATUS, STATUS_NONE);
    const first = slot * this.#stride;
    if (this.#linkedBytes[slot] !== givenBytes - roomBytes) this.#link(slot, first, givenBytes, roomBytes);
    this.#states[slot] = IN_FLIGHT;
    this.#roomBytes[slot] = roomBytes + 1;
    this.inFlightCount++;
    this.#ring.offer(first);
  }

  /** Whether the device wants to be told of new requests (virtio 2.7.10.1). */
  get wantsNotification(): boolean {
    return (this.#ring.usedFlags & USED_F_NO_NOTIFY) === 0;
  }

  isDone(slot: number): boolean {
    return this.#states[slot] === DONE;
  }

  /**
   * Takes the next request that the device gave back; -1 where there is none.
   * @throws DeviceError EIO for a used ring that no honest device writes
   */
  collect(): number {
    const usedCount = (this.#ring.usedIndex - this.#nextUsed) & INDEX_MASK;
    if (usedCount === 0) return -1;
    if (usedCount > this.inFlightCount) throw lies(`${usedCount} requests given back, ${this.inFlightCount} in flight`);
    const head = this.#ring.usedId(this.#nextUsed);
    const usedBytes = this.#ring.usedLength(this.#nextUsed);
    const slot = head / this.#stride;
    if (this.#states[slot] !== IN_FLIGHT) throw lies(`descriptor ${head} given back, which heads no request in flight`);
    if (usedBytes > this.#roomBytes[slot]!) {
      throw lies(`${usedBytes} bytes written to a request with room for ${this.#roomBytes[slot]}`);
    }
    this.#nextUsed = (this.#nextUsed + 1) & INDEX_MASK;
    this.#usedBytes[slot] = usedBytes;
    this.#states[slot] = DONE;
    this.inFlightCount--;
    return slot;
  }

  /** What became of a request that is done: undefined for success. */
  failure(slot: number): DeviceError | undefined {
    const status = this.#heads.getUint8(slot * SLOT_HEAD_BYTES + SLOT_STATUS);
    if (status === BLK_S_OK) {
      if (this.#usedBytes[slot] === this.#roomBytes[slot]) return undefined;
      // What lies beyond the used length may not be relied on (2.7.8.3); the status byte is the last of all.
      return lies(`success with ${this.#usedBytes[slot]} of ${this.#roomBytes[slot]} bytes written`);
    }
    if (status === BLK_S_IOERR) return new DeviceError('EIO', 'the virtio device reports an I/O error');
    if (status === BLK_S_UNSUPP) return new DeviceError('ENOTSUP', 'the virtio device does not support the request');
    return lies(`status ${status}`);
  }

  /** Links header, data and status. It stays so for the next request of the slot, which often is of the same length. */
  #link(slot: number, first: number, givenBytes: number, roomBytes: number): void {
    const status = first + this.#stride - 1;
    const dataBytes = givenBytes + roomBytes;
    this.#ring.setDescriptorLink(first, DESC_F_NEXT, dataBytes > 0 ? first + 1 : status);
    this.#linkData(first + 1, status, dataBytes, roomBytes > 0 ? DESC_F_NEXT | DESC_F_WRITE : DESC_F_NEXT);
    this.#linkedBytes[slot] = givenBytes - roomBytes;
  }

  /** Data segments of a request: as many as its length needs, the last linked to the status descriptor. */
  #linkData(first: number, status: number, dataBytes: number, flags: number): void {
    const { segmentBytes } = this.#plan;
    let index = first;
    for (let leftBytes = dataBytes; leftBytes > 0; leftBytes -= segmentBytes) {
      const last = leftBytes <= segmentBytes;
      this.#ring.setDescriptorBuffer(index, last ? leftBytes : segmentBytes, flags, last ? status : index + 1);
      index++;
    }
  }

  #own(address: number, lengthBytes: number): Uint8Array {
    const bytes = this.#memory.slice(address, lengthBytes);
    invariant(bytes !== undefined, 'what the driver laid out lies inside guest memory');
    return bytes;
  }

  #makeRing(): DriverRing {
    return new DriverRing(this.#memory, layOutQueue(this.#wanted.start, this.#plan.queueSize));
  }

  /** Writes what stays the same in every request of a slot. */
  #layOut(): void {
    const { slotCount, segmentBytes, segmentCount } = this.#plan;
    this.#stride = segmentCount + 2;
    this.#nextUsed = 0;
    this.inFlightCount = 0;
    this.#states.fill(FREE);
    this.#linkedBytes.fill(Number.NaN);
    this.#free.length = 0;
    for (let slot = slotCount - 1; slot >= 0; slot--) {
      const head = this.#headsStart + slot * SLOT_HEAD_BYTES;
      const data = this.#dataStart + slot * this.#slotBytes;
      const first = slot * this.#stride;
      this.#heads.setUint32(slot * SLOT_HEAD_BYTES + HEADER_RESERVED, 0, true);
      this.#ring.setDescriptor(first, { address: head, lengthBytes: HEADER_BYTES });
      for (let i = 0; i < segmentCount; i++) {
        this.#ring.setDescriptor(first + 1 + i, { address: data + i * segmentBytes, lengthBytes: 0 });
      }
      const status = { address: head + SLOT_STATUS, lengthBytes: 1, flags: DESC_F_WRITE };
      this.#ring.setDescriptor(first + segmentCount + 1, status);
      this.#free.push(slot);
    }
  }
}

function lies(what: string): DeviceError {
  return new DeviceError('EIO', `the virtio device answered with what cannot be: ${what}; restart the driver`);
}
