import type { DeviceQueue } from './device-queue.ts';
import { F_RING_PACKED, type FeatureWords, hasFeature } from './features.ts';
import type { GuestMemory } from './memory.ts';
import { PackedQueue } from './packed-queue.ts';
import { SplitQueue } from './split-queue.ts';

/**
 * The device's side of one queue in either format, each made when it is first negotiated and kept: a device that is
 * reset over and over allocates nothing.
 */
export class QueueFormats {
  readonly #memory: GuestMemory;
  readonly #sizeMax: number = 0;
  #split: SplitQueue | undefined;
  #packed: PackedQueue | undefined;

  /** @param sizeMax entries of the largest ring that can be enabled */
  constructor(memory: GuestMemory, sizeMax: number) {
    this.#memory = memory;
    this.#sizeMax = sizeMax;
  }

  /** The queue in the format that was negotiated (virtio 2.6). */
  negotiated(features: FeatureWords): DeviceQueue {
    if (hasFeature(features, F_RING_PACKED)) {
      this.#packed ??= new PackedQueue(this.#memory, this.#sizeMax);
      return this.#packed;
    }
    this.#split ??= new SplitQueue(this.#memory, this.#sizeMax);
    return this.#split;
  }
}
