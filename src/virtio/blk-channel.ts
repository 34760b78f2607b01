import { DeviceError } from '../core/index.ts';
import { BlkHandshake, type BlkTraits } from './blk-handshake.ts';
import { CONFIG } from './blk-layout.ts';
import { BlkSlots } from './blk-slots.ts';
import type { DriverMemory } from './driver-memory.ts';
import { F_EVENT_IDX, F_INDIRECT_DESC } from './features.ts';
import { type GuestMemory, highWord, lowWord } from './memory.ts';
import {
  INTERRUPT_CONFIG,
  INTERRUPT_USED,
  REG_CONFIG,
  REG_INTERRUPT_ACK,
  REG_INTERRUPT_STATUS,
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
  REG_STATUS,
} from './mmio-layout.ts';
import type { RegisterBus } from './model.ts';
import type { QueueTraits } from './slot-plan.ts';
import { STATUS_DRIVER_OK, STATUS_NEEDS_RESET } from './status.ts';

export interface VirtioBlkDriverOptions extends DriverMemory {
  /**
   * Feature bits not to accept even where the device offers them. Default: INDIRECT_DESC and EVENT_IDX, which save ring
   * entries and notifications: in one process neither costs as much as the saving does.
   */
  readonly decline?: readonly number[];
  /**
   * Called when requests are in flight and the device has given none back. True: look again (time was let pass, or
   * another thread of the simulation ran). False, the default: the device will never answer, so give up with EIO.
   */
  readonly onIdle?: () => boolean;
}

const DECLINED: readonly number[] = [F_INDIRECT_DESC, F_EVENT_IDX];

/**
 * The driver's line to one device: sets it up, notifies it, handles its interrupts, collects what it gives back, and
 * latches when it broke the rules. What a request means is the driver's business.
 */
export class BlkChannel {
  readonly slots: BlkSlots;
  readonly #bus: RegisterBus;
  readonly #handshake: BlkHandshake;
  readonly #queueCountMax: number = 0;
  readonly #onIdle: (() => boolean) | undefined;
  readonly #onDone: (slot: number) => void;
  #traits: BlkTraits;
  #sectorCount: number;
  #state: 'unready' | 'live' | 'stopped' | 'closed' = 'unready';
  /** What every operation throws in state `stopped`. */
  #stopError: unknown;
  /** Requests were made available of which the device was not told; for each queue, whether some are its. */
  #hasNews = false;
  readonly #news: boolean[] = [];

  /**
   * Runs the whole initialisation.
   * @param onDone called for each request that comes back, in the order in which they do
   * @throws DeviceError EIO where the device is no block device, refuses, or leaves no room for a request
   */
  constructor(bus: RegisterBus, memory: GuestMemory, options: VirtioBlkDriverOptions, onDone: (slot: number) => void) {
    this.#bus = bus;
    this.#queueCountMax = options.queueCountMax ?? 1;
    this.#handshake = new BlkHandshake(bus, options.decline ?? DECLINED);
    this.#onIdle = options.onIdle;
    this.#onDone = onDone;
    this.#traits = this.#negotiate();
    this.#sectorCount = this.#traits.sectorCount;
    this.slots = new BlkSlots(memory, options, this.#queueTraits());
    this.#goLive();
  }

  /** As negotiated. */
  get traits(): BlkTraits {
    return this.#traits;
  }

  /** As of the last configuration interrupt. */
  get sectorCount(): number {
    return this.#sectorCount;
  }

  /** Resets the device and initialises it anew, whatever state it is in. */
  restart(): void {
    this.#state = 'unready';
    this.#stopError = undefined;
    this.#traits = this.#negotiate();
    this.#sectorCount = this.#traits.sectorCount;
    this.slots.restart(this.#queueTraits());
    this.#goLive();
  }

  /** Resets the device, so that it touches the memory no more. */
  close(): void {
    if (this.#state !== 'closed') this.#bus.write(REG_STATUS, 4, 0);
    this.#state = 'closed';
  }

  /** @throws what stopped the device, or DeviceError ECLOSED */
  checkUsable(): void {
    if (this.#state !== 'live') throw this.#whyUnusable();
  }

  /** Sets the cache mode, and returns what the device made of it (virtio 5.2.6.1). */
  switchCache(on: boolean): boolean {
    this.#bus.write(REG_CONFIG + CONFIG.writeback, 1, on ? 1 : 0);
    return this.#handshake.readWriteback();
  }

  /** Takes a slot for a request. @throws RangeError for too long a request; DeviceError EBUSY */
  acquire(lengthBytes: number): number {
    if (lengthBytes > this.slots.chunkBytes) {
      throw new RangeError(`request: expected up to ${this.slots.chunkBytes} bytes, got ${lengthBytes}`);
    }
    const slot = this.slots.acquire();
    if (slot < 0) throw this.busy();
    return slot;
  }

  busy(): DeviceError {
    return new DeviceError('EBUSY', `all ${this.slots.slotCount} requests are held by tickets: poll and finish some`);
  }

  /** As {@link BlkSlots.submit}; the device hears of it with the next `pump`. */
  submit(slot: number, type: number, unit: number, givenBytes: number, roomBytes: number): void {
    this.slots.submit(slot, type, unit, givenBytes, roomBytes);
    this.#news[this.slots.queueOf(slot)] = true;
    this.#hasNews = true;
  }

  /** Lets the device work until a request is done. @throws what stopped the device */
  wait(slot: number): void {
    while (!this.slots.isDone(slot)) {
      if (this.pump() || this.#onIdle?.() === true) continue;
      throw this.#stop(new DeviceError('EIO', 'the virtio device never answered a request: restart the driver'));
    }
  }

  /** Notifies, handles interrupts, collects. @returns whether any request came back */
  pump(): boolean {
    if (this.#hasNews) this.#notifyAll();
    const halted = this.#bus.halted;
    if (halted !== undefined) throw this.#stop(halted.error);
    if (this.#bus.interruptAsserted) this.#interrupt();
    return this.#collect();
  }

  /**
   * Resets one queue and sets it up anew, the others being left as they are (virtio 2.6.1).
   * @param onLost called for each request that was in flight there: its slot is free
   * @throws DeviceError EIO where the device does not finish
   */
  resetQueue(index: number, onLost: (slot: number) => void): void {
    const bus = this.#bus;
    bus.write(REG_QUEUE_SEL, 4, index);
    bus.write(REG_QUEUE_RESET, 4, 1);
    if (bus.read(REG_QUEUE_RESET, 4) !== 0 || bus.read(REG_QUEUE_READY, 4) !== 0) {
      throw this.#stop(new DeviceError('EIO', `the virtio device does not finish the reset of queue ${index}`));
    }
    this.slots.resetQueue(index, onLost);
    this.#news[index] = false;
    this.#setUpQueue(index);
  }

  #notifyAll(): void {
    this.#hasNews = false;
    for (let index = 0; index < this.#news.length; index++) if (this.#news[index]) this.#notify(index);
  }

  /** With NOTIFICATION_DATA, tells where the ring stands as well (2.9, 4.2.2). */
  #notify(index: number): void {
    this.#news[index] = false;
    const queue = this.slots.queues[index]!;
    if (!queue.wantsNotification()) return;
    const data = this.#traits.notifiesWithData ? (queue.notificationData << 16) >>> 0 : 0;
    this.#bus.write(REG_QUEUE_NOTIFY, 4, data + index);
  }

  #negotiate(): BlkTraits {
    try {
      return this.#handshake.negotiate();
    } catch (error) {
      throw this.#bus.halted === undefined ? error : this.#bus.halted.error;
    }
  }

  #queueTraits(): QueueTraits {
    const { sizeMaxBytes, segMax, sectorBytes, packed, ringOptions: options } = this.#traits;
    const queueCount = Math.min(this.#traits.queueCount, this.#queueCountMax);
    let queueSizeMax = Number.POSITIVE_INFINITY;
    for (let index = 0; index < queueCount; index++) {
      this.#bus.write(REG_QUEUE_SEL, 4, index);
      queueSizeMax = Math.min(queueSizeMax, this.#bus.read(REG_QUEUE_NUM_MAX, 4));
    }
    return { queueSizeMax, sizeMaxBytes, segMax, sectorBytes, queueCount, packed, options };
  }

  /** Steps 7 and 8 of the initialisation (3.1.1, 4.2.3.2). */
  #goLive(): void {
    const bus = this.#bus;
    for (const index of this.slots.queues.keys()) {
      bus.write(REG_QUEUE_SEL, 4, index);
      if (bus.read(REG_QUEUE_READY, 4) !== 0) throw this.#handshake.giveUp('the queue is in use after a reset');
      this.#setUpQueue(index);
    }
    bus.write(REG_STATUS, 4, bus.read(REG_STATUS, 4) | STATUS_DRIVER_OK);
    const status = bus.read(REG_STATUS, 4);
    if ((status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) !== STATUS_DRIVER_OK) {
      throw this.#handshake.giveUp('the device does not accept the queue');
    }
    this.#news.length = this.slots.queues.length;
    this.#news.fill(false);
    this.#hasNews = false;
    this.#state = 'live';
  }

  #setUpQueue(index: number): void {
    const bus = this.#bus;
    const { size, desc, driver, device } = this.slots.queues[index]!.addresses;
    bus.write(REG_QUEUE_SEL, 4, index);
    bus.write(REG_QUEUE_NUM, 4, size);
    this.#writeAddress(REG_QUEUE_DESC_LOW, REG_QUEUE_DESC_HIGH, desc);
    this.#writeAddress(REG_QUEUE_DRIVER_LOW, REG_QUEUE_DRIVER_HIGH, driver);
    this.#writeAddress(REG_QUEUE_DEVICE_LOW, REG_QUEUE_DEVICE_HIGH, device);
    bus.write(REG_QUEUE_READY, 4, 1);
  }

  #writeAddress(lowRegister: number, highRegister: number, address: number): void {
    this.#bus.write(lowRegister, 4, lowWord(address));
    this.#bus.write(highRegister, 4, highWord(address));
  }

  /** 4.2.3.4.1 */
  #interrupt(): void {
    const causes = this.#bus.read(REG_INTERRUPT_STATUS, 4) & (INTERRUPT_USED | INTERRUPT_CONFIG);
    this.#bus.write(REG_INTERRUPT_ACK, 4, causes);
    if ((causes & INTERRUPT_CONFIG) !== 0) this.#configChanged();
  }

  #configChanged(): void {
    if ((this.#bus.read(REG_STATUS, 4) & STATUS_NEEDS_RESET) !== 0) {
      throw this.#stop(new DeviceError('EIO', 'the virtio device needs a reset: restart the driver'));
    }
    this.#sectorCount = this.#latching(() => this.#handshake.readSectorCount(this.#traits.sectorBytes));
  }

  #collect(): boolean {
    for (let any = false; ; any = true) {
      const slot = this.#collectOne();
      if (slot < 0) return any;
      this.#onDone(slot);
    }
  }

  #collectOne(): number {
    try {
      return this.slots.collect();
    } catch (error) {
      throw this.#stop(error);
    }
  }

  #latching<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw this.#stop(error);
    }
  }

  /** Latches: who broke the rules once is not asked again. */
  #stop(error: unknown): unknown {
    this.#state = 'stopped';
    this.#stopError = error;
    return error;
  }

  #whyUnusable(): unknown {
    if (this.#state === 'stopped') return this.#stopError;
    if (this.#state === 'closed') {
      return new DeviceError('ECLOSED', 'the device was closed: restart the driver to use it');
    }
    return new DeviceError('EIO', 'the virtio-blk initialisation did not finish: restart the driver');
  }
}
