import type { DescriptorChain } from './chain.ts';
import { F_EVENT_IDX, F_IN_ORDER, F_INDIRECT_DESC, type FeatureWords, hasFeature } from './features.ts';
import type { QueueAddresses } from './split-layout.ts';

/**
 * The device's side of a virtqueue, of whatever format. A device model needs nothing else: whether the ring is split or
 * packed, with indirect descriptors or event indices or in order, changes nothing in it.
 */
export interface VirtQueue {
  /** Entries of the queue as the driver set it up: no more than this many requests are ever in flight. */
  readonly size: number;
  /** Why the ring can't be gone on with, or undefined. Only a reset mends it. */
  readonly broken: string | undefined;
  /** Takes the next available request. False: there is none, or the ring is broken. */
  pop(chain: DescriptorChain): boolean;
  /** Whether a chain that was taken is still the queue's. Not after a reset of it: then it is not to be served either. */
  owns(chain: DescriptorChain): boolean;
  /**
   * Gives a request back as used. Where the queue is in order, requests come back in the order in which they were taken.
   * @param writtenBytes how much of the writable stream, from its start on, was surely written
   */
  push(chain: DescriptorChain, writtenBytes: number): void;
  /**
   * Ends a batch: everything that was pushed is the driver's to see from here on, and where it waits to be asked for its
   * next request, it is.
   * @returns whether the driver wants to be told of it
   */
  publish(): boolean;
}

/** What was negotiated of how a ring works, beside its format. */
export interface RingOptions {
  /** INDIRECT_DESC: a descriptor may name a table of descriptors (virtio 2.7.5.3, 2.8.7). */
  readonly indirect: boolean;
  /** EVENT_IDX: each side says at which entry it wants to be told (2.7.7, 2.7.10, 2.8.10). */
  readonly eventIdx: boolean;
  /** IN_ORDER: requests come back as they were taken, a run of them in one entry (2.7.9, 2.8.8). */
  readonly inOrder: boolean;
}

export const PLAIN_RING: RingOptions = { indirect: false, eventIdx: false, inOrder: false };

/**
 * Where a queue stands. In a split queue, both are the 16-bit indices that count freely; in a packed one, bits 0 to 14
 * are the next entry and bit 15 is the wrap counter, as vhost-user has them in its VRING_BASE messages.
 */
export interface QueuePosition {
  /** The entry that the next request is taken from. */
  readonly avail: number;
  /** The entry that the next used one goes to. Of a split queue it may be left out: the used ring itself says it. */
  readonly used?: number;
}

/** The device's side of a virtqueue as a transport has it: to be set up, stopped, and gone on with by another. */
export interface DeviceQueue extends VirtQueue {
  /**
   * Begins a new life with the ring at `addresses`; it is broken from the start where it can't lie there.
   * @param position where a former life, perhaps of another device, stopped; left out, both sides begin anew
   */
  enable(addresses: QueueAddresses, options: RingOptions, position?: QueuePosition): void;
  /** Forgets the ring and all that is in flight: from here on nothing of it is touched (4.2.2.1). */
  disable(): void;
  /** Where to go on. What is in flight counts as taken. Of use while the queue is enabled. */
  readonly position: Required<QueuePosition>;
}

export function ringOptions(features: FeatureWords): RingOptions {
  return {
    indirect: hasFeature(features, F_INDIRECT_DESC),
    eventIdx: hasFeature(features, F_EVENT_IDX),
    inOrder: hasFeature(features, F_IN_ORDER),
  };
}

/**
 * Whether a 16-bit count that went from `before` to `now` passed the entry that the other side waits for (virtio
 * 2.7.7.2, 2.7.10.1): the event is `before` or one of those up to, not including, `now`.
 */
export function passedEvent(event: number, before: number, now: number): boolean {
  return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
}
