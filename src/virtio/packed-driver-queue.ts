import { type DriverQueue, type DriverQueuePlan, lies, OfferOrder } from './driver-queue.ts';
import type { GuestMemory } from './memory.ts';
import { layOutPackedQueue, PackedDriverRing, writePackedTableEntry } from './packed-driver-ring.ts';
import {
  EVENT_F_DESC,
  EVENT_F_DISABLE,
  EVENT_F_MASK,
  isUsed,
  packPosition,
  passedPackedEvent,
} from './packed-layout.ts';
import { tablesOf } from './split-driver-queue.ts';
import { DESC_BYTES, DESC_F_INDIRECT, DESC_F_WRITE, type QueueAddresses } from './split-layout.ts';

/** The driver's side of a packed virtqueue (virtio 2.8). A request's number is its buffer id. */
export class PackedDriverQueue implements DriverQueue {
  usedBytes = 0;
  readonly #ring: PackedDriverRing;
  readonly #size: number = 0;
  readonly #descriptorsMax: number = 0;
  readonly #eventIdx: boolean = false;
  readonly #inOrder: boolean = false;
  /** Guest address of the indirect tables. */
  readonly #tablesStart: number = 0;
  readonly #tables: DataView | undefined;
  /** For each request, the entries that it takes up; 0 where it is not in flight. */
  readonly #entries: Uint16Array;
  /** Requests in flight, in order. Empty unless IN_ORDER is negotiated. */
  readonly #order: OfferOrder;
  #nextUsed = 0;
  #usedWrap = true;
  /** Entries offered since the device was told last. */
  #untoldEntries = 0;
  /** In order: what is left of the run that the last used entry stands for, and what it says of its end. */
  #runCount = 0;
  #runBytes = 0;
  #request = 0;
  #count = 0;

  constructor(memory: GuestMemory, start: number, plan: DriverQueuePlan) {
    this.#ring = new PackedDriverRing(memory, layOutPackedQueue(start, plan.size));
    this.#size = plan.size;
    this.#descriptorsMax = plan.descriptorsMax;
    this.#eventIdx = plan.options.eventIdx;
    this.#inOrder = plan.options.inOrder;
    this.#tablesStart = plan.tables;
    this.#entries = new Uint16Array(plan.requestCount);
    this.#order = new OfferOrder(plan.requestCount);
    if (plan.options.indirect) this.#tables = tablesOf(memory, plan);
    this.clear();
  }

  get addresses(): QueueAddresses {
    return this.#ring.addresses;
  }

  get notificationData(): number {
    return this.#ring.position;
  }

  clear(): void {
    this.#ring.clear();
    this.#entries.fill(0);
    this.#order.clear();
    this.#nextUsed = 0;
    this.#usedWrap = true;
    this.#untoldEntries = 0;
    this.#runCount = 0;
  }

  begin(request: number): void {
    this.#request = request;
    this.#count = 0;
  }

  add(address: number, lengthBytes: number, flags: number): void {
    if (this.#tables === undefined) {
      this.#ring.append(address, lengthBytes, this.#request, flags);
      return;
    }
    const at = (this.#request * this.#descriptorsMax + this.#count++) * DESC_BYTES;
    writePackedTableEntry(this.#tables, at, address, lengthBytes, flags & DESC_F_WRITE);
  }

  offer(): void {
    if (this.#tables !== undefined) {
      const table = this.#tablesStart + this.#request * this.#descriptorsMax * DESC_BYTES;
      this.#ring.append(table, this.#count * DESC_BYTES, this.#request, DESC_F_INDIRECT);
    }
    const entryCount = this.#ring.offer();
    this.#entries[this.#request] = entryCount;
    this.#untoldEntries += entryCount;
    if (this.#inOrder) this.#order.push(this.#request);
  }

  collect(): number {
    if (this.#runCount > 0) return this.#collectRun();
    const index = this.#nextUsed;
    const flags = this.#usedFlags();
    if (flags < 0) return -1;
    const request = this.#ring.id(index);
    // Without WRITE the length means nothing (2.8.4).
    const usedBytes = (flags & DESC_F_WRITE) === 0 ? 0 : this.#ring.lengthBytes(index);
    if (!(this.#entries[request]! > 0)) throw lies(`buffer ${request} given back, which is no request in flight`);
    if (this.#inOrder) {
      this.#runCount = this.#order.countTo(request);
      this.#runBytes = usedBytes;
      return this.#collectRun();
    }
    this.usedBytes = usedBytes;
    return this.#finish(request);
  }

  wantsNotification(): boolean {
    const entryCount = this.#untoldEntries;
    this.#untoldEntries = 0;
    const flags = this.#ring.deviceEventFlags & EVENT_F_MASK;
    if (entryCount === 0 || flags === EVENT_F_DISABLE) return false;
    if (flags !== EVENT_F_DESC || !this.#eventIdx) return true;
    return passedPackedEvent(this.#ring.deviceEventPosition, this.#ring.position, entryCount, this.#size);
  }

  /** Flags of the next used descriptor; -1 where there is none. Then the device is asked to tell of it (2.8.10). */
  #usedFlags(): number {
    const flags = this.#ring.flags(this.#nextUsed);
    if (isUsed(flags, this.#usedWrap)) return flags;
    if (!this.#eventIdx) return -1;
    this.#ring.setDriverEvent(packPosition(this.#nextUsed, this.#usedWrap), EVENT_F_DESC);
    const again = this.#ring.flags(this.#nextUsed);
    return isUsed(again, this.#usedWrap) ? again : -1;
  }

  #collectRun(): number {
    this.usedBytes = --this.#runCount > 0 ? -1 : this.#runBytes;
    return this.#finish(this.#order.shift());
  }

  #finish(request: number): number {
    const next = this.#nextUsed + this.#entries[request]!;
    this.#entries[request] = 0;
    this.#usedWrap = this.#usedWrap !== next >= this.#size;
    this.#nextUsed = next >= this.#size ? next - this.#size : next;
    return request;
  }
}
