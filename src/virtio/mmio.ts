import {
  F_NOTIFICATION_DATA,
  F_RING_RESET,
  F_VERSION_1,
  type FeatureWords,
  featureWords,
  hasFeature,
} from './features.ts';
import type { GuestMemory } from './memory.ts';
import {
  INTERRUPT_CONFIG,
  INTERRUPT_USED,
  MAGIC,
  MMIO_VERSION,
  REG_CONFIG,
  REG_CONFIG_GENERATION,
  REG_DEVICE_FEATURES,
  REG_DEVICE_FEATURES_SEL,
  REG_DEVICE_ID,
  REG_DRIVER_FEATURES,
  REG_DRIVER_FEATURES_SEL,
  REG_INTERRUPT_ACK,
  REG_INTERRUPT_STATUS,
  REG_MAGIC_VALUE,
  REG_QUEUE_DESC_HIGH,
  REG_QUEUE_DESC_LOW,
  REG_QUEUE_DEVICE_HIGH,
  REG_QUEUE_DEVICE_LOW,
  REG_QUEUE_DRIVER_HIGH,
  REG_QUEUE_DRIVER_LOW,
  REG_QUEUE_NOTIFY,
  REG_QUEUE_NUM,
  REG_QUEUE_NUM_MAX,
  REG_QUEUE_READY,
  REG_QUEUE_RESET,
  REG_QUEUE_SEL,
  REG_SHM_BASE_HIGH,
  REG_SHM_BASE_LOW,
  REG_SHM_LEN_HIGH,
  REG_SHM_LEN_LOW,
  REG_STATUS,
  REG_VENDOR_ID,
  REG_VERSION,
  VENDOR_ID,
} from './mmio-layout.ts';
import { MmioQueue } from './mmio-queue.ts';
import type { DeviceModel, RegisterBus } from './model.ts';
import {
  STATUS_ACKNOWLEDGE,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FAILED,
  STATUS_FEATURES_OK,
  STATUS_NEEDS_RESET,
  STATUS_STEPS,
} from './status.ts';

/** What this transport can do by itself: reset one queue, and take the data of a notification. */
const TRANSPORT_FEATURES: readonly number[] = [F_NOTIFICATION_DATA, F_RING_RESET];

/** The status bits that are the driver's to set; the rest of what it writes is ignored. */
const DRIVER_BITS = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK | STATUS_FAILED;

export interface MmioOptions {
  /** Feature bits of the transport's own that are not offered although they could be: RING_RESET, NOTIFICATION_DATA. */
  readonly withhold?: readonly number[];
  /** Called whenever the interrupt line goes up. It may use the registers; the device is between two requests then. */
  readonly onInterrupt?: () => void;
}

/**
 * The virtio-mmio transport, version 2 (virtio 4.2): the registers, the state machine of the device status, and the
 * interrupt line of one device. Nothing throws: an access of the wrong width, at the wrong offset or in the wrong state
 * reads 0, or is ignored.
 */
export class MmioTransport implements RegisterBus {
  readonly #model: DeviceModel;
  readonly #queues: readonly MmioQueue[];
  readonly #onInterrupt: (() => void) | undefined;
  readonly #ownFeatures: FeatureWords;
  readonly #accepted: FeatureWords = featureWords();
  #notifiesWithData = false;
  /** The driver set a feature bit in a word that does not exist. */
  #acceptedUnknown = false;
  #status = 0;
  #interruptStatus = 0;
  #configGeneration = 0;
  #deviceFeaturesSel = 0;
  #driverFeaturesSel = 0;
  #queueSel = 0;
  #serving = false;
  #halted: { readonly error: unknown } | undefined;
  #needsResetWhy: string | undefined;

  constructor(model: DeviceModel, memory: GuestMemory, options: MmioOptions = {}) {
    this.#model = model;
    this.#onInterrupt = options.onInterrupt;
    this.#ownFeatures = featureWords(TRANSPORT_FEATURES.filter((bit) => options.withhold?.includes(bit) !== true));
    this.#queues = model.queueSizesMax.map((sizeMax) => new MmioQueue(memory, sizeMax));
    model.connect(() => this.#configChanged());
  }

  get interruptAsserted(): boolean {
    return this.#interruptStatus !== 0;
  }

  get halted(): { readonly error: unknown } | undefined {
    return this.#halted;
  }

  /** Why DEVICE_NEEDS_RESET is set, for reports: a driver learns only that it is. */
  get needsResetWhy(): string | undefined {
    return this.#needsResetWhy;
  }

  /** The power comes (back): a halted device answers again, and is as after a reset. */
  powerOn(): void {
    this.#halted = undefined;
    this.#reset();
  }

  read(offset: number, widthBytes: number): number {
    if (this.#halted !== undefined) return 0;
    if (offset >= REG_CONFIG) {
      return isConfigAccess(offset, widthBytes) ? this.#model.readConfig(offset - REG_CONFIG, widthBytes) : 0;
    }
    return widthBytes === 4 ? this.#readRegister(offset) >>> 0 : 0;
  }

  write(offset: number, widthBytes: number, value: number): void {
    if (this.#halted !== undefined) return;
    if (offset >= REG_CONFIG) this.#writeConfig(offset - REG_CONFIG, widthBytes, value);
    else if (widthBytes === 4) this.#writeRegister(offset, value >>> 0);
  }

  #readRegister(offset: number): number {
    switch (offset) {
      case REG_INTERRUPT_STATUS:
        return this.#interruptStatus;
      case REG_STATUS:
        return this.#status;
      case REG_MAGIC_VALUE:
        return MAGIC;
      case REG_VERSION:
        return MMIO_VERSION;
      case REG_DEVICE_ID:
        return this.#model.deviceId;
      case REG_VENDOR_ID:
        return VENDOR_ID;
      case REG_DEVICE_FEATURES:
        return this.#offered(this.#deviceFeaturesSel);
      case REG_QUEUE_NUM_MAX:
        return this.#selectedQueue() === undefined ? 0 : this.#model.queueSizesMax[this.#queueSel]!;
      case REG_QUEUE_READY:
        return this.#selectedQueue()?.ready === true ? 1 : 0;
      case REG_QUEUE_RESET:
        return this.#selectedQueue()?.resetting === true ? 1 : 0;
      case REG_CONFIG_GENERATION:
        return this.#configGeneration;
      // No shared memory: a region that does not exist is -1 long and lies at -1 (4.2.2).
      case REG_SHM_LEN_LOW:
      case REG_SHM_LEN_HIGH:
      case REG_SHM_BASE_LOW:
      case REG_SHM_BASE_HIGH:
        return 0xffff_ffff;
      default:
        return 0;
    }
  }

  #writeRegister(offset: number, value: number): void {
    switch (offset) {
      case REG_QUEUE_NOTIFY:
        this.#notify(value);
        break;
      case REG_INTERRUPT_ACK:
        this.#interruptStatus &= ~value;
        break;
      case REG_STATUS:
        this.#writeStatus(value);
        break;
      case REG_DEVICE_FEATURES_SEL:
        this.#deviceFeaturesSel = value;
        break;
      case REG_DRIVER_FEATURES_SEL:
        this.#driverFeaturesSel = value;
        break;
      case REG_DRIVER_FEATURES:
        this.#writeDriverFeatures(value);
        break;
      case REG_QUEUE_SEL:
        this.#queueSel = value;
        break;
      case REG_QUEUE_READY:
        this.#writeQueueReady(value);
        break;
      case REG_QUEUE_RESET:
        this.#writeQueueReset(value);
        break;
      case REG_QUEUE_NUM:
      case REG_QUEUE_DESC_LOW:
      case REG_QUEUE_DESC_HIGH:
      case REG_QUEUE_DRIVER_LOW:
      case REG_QUEUE_DRIVER_HIGH:
      case REG_QUEUE_DEVICE_LOW:
      case REG_QUEUE_DEVICE_HIGH:
        this.#writeQueueRegister(offset, value);
        break;
    }
  }

  #writeConfig(offset: number, widthBytes: number, value: number): void {
    // Not before the features are settled (3.1.1), nor after the driver gave up.
    if (!this.#has(STATUS_FEATURES_OK) || this.#has(STATUS_FAILED)) return;
    if (isConfigAccess(offset, widthBytes)) this.#model.writeConfig(offset, widthBytes, value >>> 0);
  }

  #writeDriverFeatures(value: number): void {
    if (!this.#has(STATUS_DRIVER) || this.#has(STATUS_FEATURES_OK)) return;
    const sel = this.#driverFeaturesSel;
    if (sel < this.#accepted.length) this.#accepted[sel] = value;
    else if (value !== 0) this.#acceptedUnknown = true;
  }

  /** Between FEATURES_OK and DRIVER_OK, and while the queue is not in use (4.2.2.2). */
  #writeQueueRegister(offset: number, value: number): void {
    const queue = this.#selectedQueue();
    if (queue !== undefined && this.#canSetUp(queue)) queue.write(offset, value);
  }

  #writeQueueReady(value: number): void {
    const queue = this.#selectedQueue();
    if (queue === undefined) return;
    if (value === 0) {
      queue.stop();
    } else if (value === 1 && this.#canSetUp(queue)) {
      queue.start();
      if (queue.ring.broken !== undefined) this.#needsReset(queue.ring.broken);
    }
  }

  /** 4.2.2.1; without the feature the register is a reserved one. */
  #writeQueueReset(value: number): void {
    const queue = this.#selectedQueue();
    if (queue !== undefined && value === 1 && this.#has(STATUS_DRIVER_OK) && hasFeature(this.#accepted, F_RING_RESET)) {
      queue.resetRing();
    }
  }

  /** Undefined where there is none of that number: neither ever, nor for what was negotiated. */
  #selectedQueue(): MmioQueue | undefined {
    return this.#queueSel < this.#model.queueCount ? this.#queues[this.#queueSel] : undefined;
  }

  /** Between FEATURES_OK and DRIVER_OK, and after it where it was reset by itself (2.6.1.2). */
  #canSetUp(queue: MmioQueue): boolean {
    if (!this.#has(STATUS_FEATURES_OK) || this.#has(STATUS_FAILED)) return false;
    return !this.#has(STATUS_DRIVER_OK) || (queue.wasReset && !this.#has(STATUS_NEEDS_RESET));
  }

  /** 0 resets. All else may only add bits, in the order of 3.1.1; a write that does not is ignored. */
  #writeStatus(value: number): void {
    if (value === 0) {
      this.#reset();
      return;
    }
    const kept = this.#status & DRIVER_BITS;
    if ((value & kept) !== kept || this.#has(STATUS_FAILED)) return;
    for (const step of STATUS_STEPS) {
      if ((value & step) === 0 || !this.#step(step)) break;
    }
    if ((value & STATUS_FAILED) !== 0) this.#status |= STATUS_FAILED;
  }

  /** Takes one step of the initialisation; false where the device does not go along. */
  #step(step: number): boolean {
    if (this.#has(step)) return true;
    if (step === STATUS_FEATURES_OK) {
      if (!this.#acceptsFeatures()) return false;
      this.#model.negotiated(this.#accepted);
      for (const queue of this.#queues) queue.negotiated(this.#accepted);
      this.#notifiesWithData = hasFeature(this.#accepted, F_NOTIFICATION_DATA);
    }
    // A queue that can't work was found while it was set up: there is nothing to go live with.
    if (step === STATUS_DRIVER_OK && this.#has(STATUS_NEEDS_RESET)) return false;
    this.#status |= step;
    return true;
  }

  /** We are no legacy device, so VERSION_1 is needed (6.2). */
  #acceptsFeatures(): boolean {
    return (
      !this.#acceptedUnknown &&
      hasFeature(this.#accepted, F_VERSION_1) &&
      this.#accepted.every((word, i) => (word & ~this.#offered(i)) === 0) &&
      this.#model.accepts(this.#accepted)
    );
  }

  #offered(word: number): number {
    return (this.#model.offered[word] ?? 0) | (this.#ownFeatures[word] ?? 0);
  }

  #reset(): void {
    this.#status = 0;
    this.#interruptStatus = 0;
    this.#needsResetWhy = undefined;
    this.#accepted.fill(0);
    this.#acceptedUnknown = false;
    this.#deviceFeaturesSel = 0;
    this.#driverFeaturesSel = 0;
    this.#queueSel = 0;
    for (const queue of this.#queues) queue.reset();
    this.#model.reset();
  }

  /**
   * With NOTIFICATION_DATA, where the ring stands is told above the queue's index (2.9, 4.2.2); the ring itself says it
   * as well, and is what counts.
   */
  #notify(value: number): void {
    const queueIndex = this.#notifiesWithData ? value & 0xffff : value;
    const queue = this.#queues[queueIndex];
    if (queue === undefined || !queue.ready || !this.#isLive()) return;
    queue.pending = true;
    // A notification out of an interrupt handler or a backend waits until the request under way is done.
    if (!this.#serving) this.#serve();
  }

  #serve(): void {
    this.#serving = true;
    try {
      for (let index = this.#nextPending(); index >= 0 && this.#isLive(); index = this.#nextPending()) {
        this.#serveQueue(index, this.#queues[index]!);
      }
    } catch (error) {
      // No fault of the guest's, and none that a disk has: see RegisterBus.halted.
      this.#halted = { error };
    } finally {
      this.#serving = false;
    }
  }

  #nextPending(): number {
    const queues = this.#queues;
    for (let index = 0; index < queues.length; index++) if (queues[index]!.pending) return index;
    return -1;
  }

  #serveQueue(index: number, queue: MmioQueue): void {
    queue.beginServing();
    try {
      this.#model.process(index, queue.ring);
    } finally {
      queue.endServing();
    }
    // Reset meanwhile, it publishes nothing.
    if (queue.ring.publish()) this.#interrupt(INTERRUPT_USED);
    if (queue.ring.broken !== undefined) this.#needsReset(queue.ring.broken);
  }

  /** Before DRIVER_OK nothing is consumed (2.1.2); after a fault nothing more. */
  #isLive(): boolean {
    return (this.#status & (STATUS_DRIVER_OK | STATUS_FAILED | STATUS_NEEDS_RESET)) === STATUS_DRIVER_OK;
  }

  /** 2.1.2: and, once the driver is up, a configuration interrupt. */
  #needsReset(why: string): void {
    this.#needsResetWhy = why;
    this.#status |= STATUS_NEEDS_RESET;
    if (this.#has(STATUS_DRIVER_OK)) this.#interrupt(INTERRUPT_CONFIG);
  }

  #configChanged(): void {
    this.#configGeneration = (this.#configGeneration + 1) >>> 0;
    if (this.#has(STATUS_DRIVER_OK)) this.#interrupt(INTERRUPT_CONFIG);
  }

  #interrupt(cause: number): void {
    const wasAsserted = this.interruptAsserted;
    this.#interruptStatus |= cause;
    if (!wasAsserted) this.#onInterrupt?.();
  }

  #has(bit: number): boolean {
    return (this.#status & bit) !== 0;
  }
}

/** One, two or four bytes, aligned (4.2.2.2). */
function isConfigAccess(offset: number, widthBytes: number): boolean {
  return (widthBytes === 1 || widthBytes === 2 || widthBytes === 4) && offset % widthBytes === 0;
}
