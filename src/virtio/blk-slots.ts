import { DeviceError, invariant, setU64, viewOf } from '../core/index.ts';
import {
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_S_UNSUPP,
  HEADER_BYTES,
  HEADER_RESERVED,
  HEADER_SECTOR,
  HEADER_TYPE,
} from './blk-layout.ts';
import {
  type DriverLayout,
  type DriverMemory,
  driverMemoryBytes,
  layOutDriverMemory,
  resolveDriverMemory,
  SLOT_HEAD_BYTES,
  SLOT_STATUS,
} from './driver-memory.ts';
import { type DriverQueue, type DriverQueuePlan, lies } from './driver-queue.ts';
import type { GuestMemory } from './memory.ts';
import { PackedDriverQueue } from './packed-driver-queue.ts';
import { planSlots, type QueueTraits, type SlotPlan } from './slot-plan.ts';
import { SplitDriverQueue } from './split-driver-queue.ts';
import { DESC_BYTES, DESC_F_NEXT, DESC_F_WRITE } from './split-layout.ts';

/** No status that a device writes: it tells a request that was answered from one that was not. */
const STATUS_NONE = 0xff;

const FREE = 0;
const TAKEN = 1;
const IN_FLIGHT = 2;
const DONE = 3;

/**
 * The driver's requests: a fixed number of slots, each with its header, its status byte and its bounce buffer in guest
 * memory, so that a request allocates nothing. They are spread over the queues, slot after slot. What the device hands
 * back is checked, not believed.
 */
export class BlkSlots {
  /** Slots in flight. */
  inFlightCount = 0;
  readonly #memory: GuestMemory;
  readonly #wanted: Required<DriverMemory>;
  readonly #layout: DriverLayout;
  /** Headers and status bytes of all slots, and their bounce buffers: the driver's own memory, checked once. */
  readonly #heads: DataView;
  readonly #data: Uint8Array;
  readonly #slotBytes: number = 0;
  readonly #states: Uint8Array;
  readonly #roomBytes: Float64Array;
  readonly #usedBytes: Float64Array;
  /** Of each slot, its queue, and the number of its requests there. */
  readonly #queueIndices: Uint16Array;
  readonly #requests: Uint16Array;
  readonly #free: number[] = [];
  #traits: QueueTraits;
  #plan: SlotPlan;
  #queues: readonly DriverQueue[];

  /** @throws RangeError where guest memory is too small */
  constructor(memory: GuestMemory, options: DriverMemory, device: QueueTraits) {
    this.#memory = memory;
    this.#wanted = resolveDriverMemory(options);
    this.#layout = layOutDriverMemory(this.#wanted);
    const { start, slotCount } = this.#wanted;
    if (!memory.contains(start, driverMemoryBytes(options))) {
      throw new RangeError(`memory: expected ${driverMemoryBytes(options)} bytes for the driver from ${start} on`);
    }
    this.#slotBytes = this.#wanted.slotBytes;
    this.#heads = viewOf(this.#own(this.#layout.heads, slotCount * SLOT_HEAD_BYTES));
    this.#data = this.#own(this.#layout.data, slotCount * this.#slotBytes);
    this.#states = new Uint8Array(slotCount);
    this.#roomBytes = new Float64Array(slotCount);
    this.#usedBytes = new Float64Array(slotCount);
    this.#queueIndices = new Uint16Array(slotCount);
    this.#requests = new Uint16Array(slotCount);
    this.#traits = device;
    this.#plan = planSlots(device, this.#wanted, this.#layout.tableSize);
    this.#queues = this.#makeQueues();
    this.#freeAll();
  }

  /** The queues, by their index in the device. */
  get queues(): readonly DriverQueue[] {
    return this.#queues;
  }

  get slotCount(): number {
    return this.#plan.slotCount;
  }

  /** Most data in one request: whole sectors. */
  get chunkBytes(): number {
    return this.#plan.chunkBytes;
  }

  /** Begins anew, on the same memory: empty rings, all slots free. */
  restart(device: QueueTraits): void {
    const plan = planSlots(device, this.#wanted, this.#layout.tableSize);
    const fits = samePlan(plan, this.#plan) && sameRing(device, this.#traits);
    this.#traits = device;
    this.#plan = plan;
    if (fits) for (const queue of this.#queues) queue.clear();
    else this.#queues = this.#makeQueues();
    this.#freeAll();
  }

  /** The queue that a slot's requests go through. */
  queueOf(slot: number): number {
    return this.#queueIndices[slot]!;
  }

  /**
   * Empties one queue: what is in flight there is so no more, its slots are free.
   * @param onLost called with each of them
   */
  resetQueue(index: number, onLost: (slot: number) => void): void {
    this.#queues[index]!.clear();
    for (let slot = index; slot < this.#plan.slotCount; slot += this.#plan.queueCount) {
      if (this.#states[slot] !== IN_FLIGHT) continue;
      this.inFlightCount--;
      this.release(slot);
      onLost(slot);
    }
  }

  /** Takes a slot; -1 where all are taken. */
  acquire(): number {
    const slot = this.#free.pop();
    if (slot === undefined) return -1;
    this.#states[slot] = TAKEN;
    return slot;
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
    return this.#own(this.#layout.data + slot * this.#slotBytes, lengthBytes);
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
    const queue = this.#queues[this.#queueIndices[slot]!]!;
    queue.begin(this.#requests[slot]!);
    queue.add(this.#layout.heads + head, HEADER_BYTES, DESC_F_NEXT);
    this.#addData(queue, slot, givenBytes + roomBytes, roomBytes > 0 ? DESC_F_NEXT | DESC_F_WRITE : DESC_F_NEXT);
    queue.add(this.#layout.heads + head + SLOT_STATUS, 1, DESC_F_WRITE);
    queue.offer();
    this.#states[slot] = IN_FLIGHT;
    this.#roomBytes[slot] = roomBytes + 1;
    this.inFlightCount++;
  }

  isDone(slot: number): boolean {
    return this.#states[slot] === DONE;
  }

  /**
   * Takes the next request that the device gave back, on any queue; -1 where there is none.
   * @throws DeviceError EIO for a ring that no honest device writes
   */
  collect(): number {
    const { queueCount } = this.#plan;
    for (let index = 0; index < queueCount; index++) {
      const queue = this.#queues[index]!;
      const request = queue.collect();
      if (request < 0) continue;
      const slot = request * queueCount + index;
      // What stands in a run of others counts as written completely (2.7.9).
      const usedBytes = queue.usedBytes < 0 ? this.#roomBytes[slot]! : queue.usedBytes;
      if (usedBytes > this.#roomBytes[slot]!) {
        throw lies(`${usedBytes} bytes written to a request with room for ${this.#roomBytes[slot]}`);
      }
      this.#usedBytes[slot] = usedBytes;
      this.#states[slot] = DONE;
      this.inFlightCount--;
      return slot;
    }
    return -1;
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

  /** Data segments of a request: as many as its length needs. */
  #addData(queue: DriverQueue, slot: number, dataBytes: number, flags: number): void {
    const { segmentBytes } = this.#plan;
    let address = this.#layout.data + slot * this.#slotBytes;
    for (let leftBytes = dataBytes; leftBytes > 0; leftBytes -= segmentBytes) {
      queue.add(address, Math.min(leftBytes, segmentBytes), flags);
      address += segmentBytes;
    }
  }

  #own(address: number, lengthBytes: number): Uint8Array {
    const bytes = this.#memory.slice(address, lengthBytes);
    invariant(bytes !== undefined, 'what the driver laid out lies inside guest memory');
    return bytes;
  }

  #makeQueues(): DriverQueue[] {
    const { queueCount, queueSize, queueSlots, segmentCount } = this.#plan;
    const descriptorsMax = segmentCount + 2;
    const tableBytes = queueSlots * descriptorsMax * DESC_BYTES;
    return Array.from({ length: queueCount }, (_, index) => {
      const plan: DriverQueuePlan = {
        size: queueSize,
        requestCount: queueSlots,
        descriptorsMax,
        options: this.#traits.options,
        tables: this.#layout.tables + index * tableBytes,
      };
      const start = this.#wanted.start + index * this.#layout.ringBytes;
      const Queue = this.#traits.packed ? PackedDriverQueue : SplitDriverQueue;
      return new Queue(this.#memory, start, plan);
    });
  }

  #freeAll(): void {
    this.inFlightCount = 0;
    this.#states.fill(FREE);
    this.#free.length = 0;
    for (let slot = this.#plan.slotCount - 1; slot >= 0; slot--) {
      this.#heads.setUint32(slot * SLOT_HEAD_BYTES + HEADER_RESERVED, 0, true);
      this.#queueIndices[slot] = slot % this.#plan.queueCount;
      this.#requests[slot] = Math.floor(slot / this.#plan.queueCount);
      this.#free.push(slot);
    }
  }
}

function samePlan(a: SlotPlan, b: SlotPlan): boolean {
  const { queueCount, queueSize, queueSlots, segmentCount } = a;
  return (
    queueCount === b.queueCount &&
    queueSize === b.queueSize &&
    queueSlots === b.queueSlots &&
    segmentCount === b.segmentCount
  );
}

function sameRing(a: QueueTraits, b: QueueTraits): boolean {
  const { indirect, eventIdx, inOrder } = a.options;
  const { options } = b;
  return (
    a.packed === b.packed &&
    indirect === options.indirect &&
    eventIdx === options.eventIdx &&
    inOrder === options.inOrder
  );
}
