import { type DeviceQueue, PLAIN_RING, type RingOptions, ringOptions } from './device-queue.ts';
import { type FeatureWords, featureWords } from './features.ts';
import type { GuestMemory } from './memory.ts';
import { QueueFormats } from './queue-format.ts';
import { QueueRegisters } from './queue-registers.ts';

/** One queue behind the registers: what its driver set, the ring in the negotiated format, and how far its life is. */
export class MmioQueue {
  /** Notified, and not yet served. */
  pending = false;
  readonly #registers = new QueueRegisters();
  readonly #formats: QueueFormats;
  #ring: DeviceQueue;
  #options: RingOptions = PLAIN_RING;
  #ready = false;
  #serving = false;
  #resetting = false;
  /** It was reset by RING_RESET, and so may be set up while the device is live. */
  #wasReset = false;

  /** @param sizeMax entries of the largest ring */
  constructor(memory: GuestMemory, sizeMax: number) {
    this.#formats = new QueueFormats(memory, sizeMax);
    this.#ring = this.#formats.negotiated(featureWords());
  }

  get ring(): DeviceQueue {
    return this.#ring;
  }

  /** QueueReady. */
  get ready(): boolean {
    return this.#ready;
  }

  /** QueueReset: 1 while a reset is not over, which it is when the request under way is (virtio 4.2.2.1). */
  get resetting(): boolean {
    return this.#resetting;
  }

  /** Whether the driver may set it up although the device is live (2.6.1.2). */
  get wasReset(): boolean {
    return this.#wasReset;
  }

  /** The features are settled: from here on the ring has their format. */
  negotiated(features: FeatureWords): void {
    this.#ring = this.#formats.negotiated(features);
    this.#options = ringOptions(features);
  }

  /** Writes one of its registers; ignored while it is in use. */
  write(register: number, value: number): void {
    if (!this.#ready && !this.#resetting) this.#registers.write(register, value);
  }

  /** Begins with the ring as the registers describe it; {@link DeviceQueue.broken} tells whether it can. */
  start(): void {
    if (this.#ready || this.#resetting) return;
    this.#ready = true;
    this.#wasReset = false;
    this.#ring.enable(this.#registers, this.#options);
  }

  /** That is how a driver stops a queue, at any time (4.2.2.2). */
  stop(): void {
    this.#ready = false;
    this.pending = false;
    this.#ring.disable();
  }

  /** RING_RESET: stops it and forgets what the driver set, so that it can be set up anew (2.6.1). */
  resetRing(): void {
    this.stop();
    this.#registers.reset();
    this.#wasReset = true;
    this.#resetting = this.#serving;
  }

  /** The device is reset. */
  reset(): void {
    this.stop();
    this.#registers.reset();
    this.#resetting = false;
    this.#wasReset = false;
  }

  /** Its requests are being served from here on. */
  beginServing(): void {
    this.pending = false;
    this.#serving = true;
  }

  /** They are served; a reset that came meanwhile is over. */
  endServing(): void {
    this.#serving = false;
    this.#resetting = false;
  }
}
