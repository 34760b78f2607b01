import { DeviceError } from '../core/index.ts';
import type { RingOptions } from './device-queue.ts';
import type { QueueAddresses } from './split-layout.ts';

/**
 * The driver's side of a virtqueue, of whatever format, for requests that have a number of their own. It believes the
 * device no more than the device believes the driver.
 */
export interface DriverQueue {
  /** Where the ring lies, for the transport. */
  readonly addresses: QueueAddresses;
  /** Of the request that `collect` returned last: bytes that the device says it wrote; -1 for all of them (2.7.9). */
  readonly usedBytes: number;
  /** Where the next request goes, as a notification with data has it in its upper 16 bits (2.9). */
  readonly notificationData: number;
  /** An empty ring, nothing in flight. */
  clear(): void;
  /** Begins a request. @param request its number, below `requestCount`, not in flight */
  begin(request: number): void;
  /** Its next descriptor. @param flags DESC_F_NEXT on all but the last, DESC_F_WRITE from the first writable one on */
  add(address: number, lengthBytes: number, flags: number): void;
  /** Makes it available. */
  offer(): void;
  /**
   * The next request that the device gave back; -1 where there is none.
   * @throws DeviceError EIO for what no honest device writes
   */
  collect(): number;
  /** Whether the device wants to be told of what was offered since it was asked last. */
  wantsNotification(): boolean;
}

/** What a queue is made for. */
export interface DriverQueuePlan {
  /** Entries of the ring: a power of two, with room for all requests at once. */
  readonly size: number;
  /** Requests that can be in flight. */
  readonly requestCount: number;
  /** Most descriptors in one of them. */
  readonly descriptorsMax: number;
  readonly options: RingOptions;
  /** Guest address of the indirect tables, one a request, `descriptorsMax` long each. */
  readonly tables: number;
}

/** The order in which requests were offered, for used entries that stand for all up to one (virtio 2.7.9, 2.8.8). */
export class OfferOrder {
  readonly #keys: Int32Array;
  #first = 0;
  #count = 0;

  constructor(capacity: number) {
    this.#keys = new Int32Array(capacity);
  }

  clear(): void {
    this.#count = 0;
  }

  push(key: number): void {
    this.#keys[(this.#first + this.#count++) % this.#keys.length] = key;
  }

  /** The oldest; there is one. */
  shift(): number {
    const key = this.#keys[this.#first]!;
    this.#first = (this.#first + 1) % this.#keys.length;
    this.#count--;
    return key;
  }

  /** How many there are from the oldest up to and including `key`; 0 where it is not among them. */
  countTo(key: number): number {
    for (let i = 0; i < this.#count; i++) {
      if (this.#keys[(this.#first + i) % this.#keys.length] === key) return i + 1;
    }
    return 0;
  }
}

/** What an operation throws where the device broke its own rules. */
export function lies(what: string): DeviceError {
  return new DeviceError('EIO', `the virtio device answered with what cannot be: ${what}; restart the driver`);
}
