import { invariant, viewOf } from '../core/index.ts';
import { passedEvent } from './device-queue.ts';
import { type DriverQueue, type DriverQueuePlan, lies, OfferOrder } from './driver-queue.ts';
import type { GuestMemory } from './memory.ts';
import { SplitDriverRing, writeSplitDescriptor } from './split-driver-ring.ts';
import {
  DESC_BYTES,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  INDEX_MASK,
  layOutQueue,
  type QueueAddresses,
  USED_F_NO_NOTIFY,
} from './split-layout.ts';

/** The driver's side of a split virtqueue (virtio 2.7). */
export class SplitDriverQueue implements DriverQueue {
  usedBytes = 0;
  readonly #ring: SplitDriverRing;
  readonly #size: number = 0;
  readonly #descriptorsMax: number = 0;
  readonly #indirect: boolean = false;
  readonly #eventIdx: boolean = false;
  readonly #inOrder: boolean = false;
  /** Guest address of the indirect tables. */
  readonly #tablesStart: number = 0;
  /** Where a request's descriptors go: into the ring's table, or into the indirect ones. */
  readonly #descriptors: DataView;
  /** For each descriptor, the request that it heads; -1 where it heads none in flight. */
  readonly #requests: Int32Array;
  /** Heads in flight, in order. Empty unless IN_ORDER is negotiated. */
  readonly #order: OfferOrder;
  #inFlightCount = 0;
  #nextUsed = 0;
  #toldAvail = 0;
  /** In order: what is left of the run that the last used entry stands for, and what it says of its end. */
  #runCount = 0;
  #runBytes = 0;
  /** In order, descriptors are taken as they lie in the table (2.7.5). */
  #nextDescriptor = 0;
  #request = 0;
  #first = 0;
  #count = 0;

  constructor(memory: GuestMemory, start: number, plan: DriverQueuePlan) {
    this.#ring = new SplitDriverRing(memory, layOutQueue(start, plan.size));
    this.#size = plan.size;
    this.#descriptorsMax = plan.descriptorsMax;
    this.#indirect = plan.options.indirect;
    this.#eventIdx = plan.options.eventIdx;
    this.#inOrder = plan.options.inOrder;
    this.#tablesStart = plan.tables;
    this.#requests = new Int32Array(plan.size).fill(-1);
    this.#order = new OfferOrder(plan.requestCount);
    this.#descriptors = plan.options.indirect ? tablesOf(memory, plan) : this.#ring.table;
  }

  get addresses(): QueueAddresses {
    return this.#ring.addresses;
  }

  get notificationData(): number {
    return this.#ring.availIndex;
  }

  clear(): void {
    this.#ring.clear();
    this.#requests.fill(-1);
    this.#order.clear();
    this.#inFlightCount = 0;
    this.#nextUsed = 0;
    this.#toldAvail = 0;
    this.#runCount = 0;
    this.#nextDescriptor = 0;
  }

  begin(request: number): void {
    this.#request = request;
    this.#count = 0;
    if (this.#inOrder) this.#first = this.#nextDescriptor;
    else this.#first = this.#indirect ? request : request * this.#descriptorsMax;
  }

  add(address: number, lengthBytes: number, flags: number): void {
    const position = this.#count++;
    const hasNext = (flags & DESC_F_NEXT) !== 0;
    if (this.#indirect) {
      const at = DESC_BYTES * (this.#request * this.#descriptorsMax + position);
      writeSplitDescriptor(this.#descriptors, at, address, lengthBytes, flags, hasNext ? position + 1 : 0);
      return;
    }
    const mask = this.#size - 1;
    const index = (this.#first + position) & mask;
    const next = hasNext ? (index + 1) & mask : 0;
    writeSplitDescriptor(this.#descriptors, DESC_BYTES * index, address, lengthBytes, flags, next);
  }

  offer(): void {
    if (this.#indirect) this.#placeTable();
    this.#requests[this.#first] = this.#request;
    if (this.#inOrder) {
      this.#nextDescriptor = (this.#first + this.#count) & (this.#size - 1);
      this.#order.push(this.#first);
    }
    this.#inFlightCount++;
    this.#ring.offer(this.#first);
  }

  collect(): number {
    if (this.#runCount > 0) return this.#collectRun();
    const usedCount = this.#usedCount();
    if (usedCount === 0) return -1;
    if (usedCount > this.#inFlightCount) {
      throw lies(`${usedCount} requests given back, ${this.#inFlightCount} in flight`);
    }
    const head = this.#ring.usedId(this.#nextUsed);
    const usedBytes = this.#ring.usedLength(this.#nextUsed);
    if (!(this.#requests[head]! >= 0)) throw lies(`descriptor ${head} given back, which heads no request in flight`);
    if (this.#inOrder) {
      const runCount = this.#order.countTo(head);
      if (runCount > usedCount) throw lies(`${usedCount} requests given back, up to one that is the ${runCount}th`);
      this.#runCount = runCount;
      this.#runBytes = usedBytes;
      return this.#collectRun();
    }
    this.usedBytes = usedBytes;
    return this.#finish(head);
  }

  wantsNotification(): boolean {
    const before = this.#toldAvail;
    const now = this.#ring.availIndex;
    this.#toldAvail = now;
    if (this.#eventIdx) return passedEvent(this.#ring.availEvent, before, now);
    return before !== now && (this.#ring.usedFlags & USED_F_NO_NOTIFY) === 0;
  }

  /** Where there is none, the device is asked to tell of the next, and what it added meanwhile is seen (2.7.7). */
  #usedCount(): number {
    const usedIndex = this.#ring.usedIndex;
    if (usedIndex !== this.#nextUsed || !this.#eventIdx) return (usedIndex - this.#nextUsed) & INDEX_MASK;
    this.#ring.setUsedEvent(this.#nextUsed);
    return (this.#ring.usedIndex - this.#nextUsed) & INDEX_MASK;
  }

  /** One descriptor in the ring names the request's table. */
  #placeTable(): void {
    const table = this.#tablesStart + this.#request * this.#descriptorsMax * DESC_BYTES;
    this.#ring.writeDescriptor(this.#first, table, this.#count * DESC_BYTES, DESC_F_INDIRECT, 0);
    this.#count = 1;
  }

  #collectRun(): number {
    this.usedBytes = --this.#runCount > 0 ? -1 : this.#runBytes;
    return this.#finish(this.#order.shift());
  }

  #finish(head: number): number {
    const request = this.#requests[head]!;
    this.#requests[head] = -1;
    this.#nextUsed = (this.#nextUsed + 1) & INDEX_MASK;
    this.#inFlightCount--;
    return request;
  }
}

/** The driver's own memory, checked once. */
export function tablesOf(memory: GuestMemory, plan: DriverQueuePlan): DataView {
  const bytes = memory.slice(plan.tables, plan.requestCount * plan.descriptorsMax * DESC_BYTES);
  invariant(bytes !== undefined, 'a driver lays its tables out inside guest memory');
  return viewOf(bytes);
}
