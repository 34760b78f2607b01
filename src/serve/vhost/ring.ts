import { type Cancel, codeOf, type Timers } from '../../core/index.ts';
import {
  type BlkDevice,
  type DeviceQueue,
  F_RING_PACKED,
  type FeatureWords,
  hasFeature,
  type QueueAddresses,
  QueueFormats,
  type QueuePosition,
  ringOptions,
} from '../../virtio/index.ts';
import { BROKEN, type EndWatch, type Host, NOTHING_YET } from './host.ts';
import type { InflightTracker } from './inflight.ts';
import type { MemoryTable } from './memory-table.ts';
import type { RingAddressFields } from './request.ts';
import { ServedQueue, type ServingContext } from './served-queue.ts';
import type { VhostStatistics } from './statistics.ts';

/** The most entries that a ring may have. */
export const RING_SIZE_MAX = 1024;

/** Offset of the used ring's index. */
const USED_IDX = 2;

/** How often a ring is looked at whose driver does not tell of its requests. */
const POLL_MS = 1;

/** What all rings of a front end share. */
export interface RingContext {
  readonly host: Host;
  readonly table: MemoryTable;
  readonly device: BlkDevice;
  readonly serving: ServingContext;
  readonly timers: Timers;
  readonly statistics: VhostStatistics;
  /** Whether the disk has power, and had it ever since the rings were started. */
  readonly canServe: () => boolean;
  readonly onEvent: (message: string) => void;
}

/** How a ring is to be started. */
export interface RingStart {
  readonly features: FeatureWords;
  readonly inflight: InflightTracker | undefined;
}

/**
 * One ring of the device: what the front end set, whether it runs, and the way of its notifications. It owns the file
 * descriptors that it was given.
 */
export class VhostRing {
  size = 0;
  /** As the front end set it, or as the ring left it when it was stopped. */
  base = 0;
  addresses: RingAddressFields | undefined;
  readonly #index: number;
  readonly #context: RingContext;
  readonly #formats: QueueFormats;
  #kick = -1;
  #call = -1;
  #err = -1;
  #endWatch: EndWatch | undefined;
  #isEnabled = false;
  #isPacked = false;
  #state: 'stopped' | 'running' | 'broken' = 'stopped';
  #queue: DeviceQueue | undefined;
  #served: ServedQueue | undefined;
  /** Where the ring lies for the guest, as long as it runs. */
  #guest: QueueAddresses | undefined;
  #cancelMore: Cancel | undefined;
  #cancelDue: Cancel | undefined;
  #cancelPoll: Cancel | undefined;

  constructor(index: number, context: RingContext) {
    this.#index = index;
    this.#context = context;
    this.#formats = new QueueFormats(context.table.memory, RING_SIZE_MAX);
  }

  get isStopped(): boolean {
    return this.#state === 'stopped';
  }

  set enabled(isEnabled: boolean) {
    this.#isEnabled = isEnabled;
    if (isEnabled) this.process();
  }

  /** Where used requests are told of; -1: the driver looks by itself. */
  setCall(fd: number): void {
    this.#close(this.#call);
    this.#call = fd;
    if (fd >= 0) this.#context.host.setNonBlocking(fd);
  }

  /** Where it is told that the ring broke. */
  setErr(fd: number): void {
    this.#close(this.#err);
    this.#err = fd;
    if (fd >= 0) this.#context.host.setNonBlocking(fd);
  }

  /**
   * Starts the ring; from here on requests are told of at `kick`.
   * @param kick -1: the ring is to be looked at every now and then. It is the ring's from here on, also where it fails
   * @returns undefined, or why it can't be started
   */
  start(kick: number, start: RingStart): string | undefined {
    const { host, table } = this.#context;
    this.#endKick();
    this.#kick = kick;
    const { addresses } = this;
    if (this.size === 0 || addresses === undefined) return 'its size and addresses have to be set first';
    if (kick >= 0) {
      this.#endWatch = host.setNonBlocking(kick) ? host.watch(kick, () => this.#kicked()) : undefined;
      if (this.#endWatch === undefined) return 'its notifications come by a file descriptor that can not be watched';
    }
    if (this.#state === 'running') {
      if (kick < 0) this.#pollLater();
      return undefined;
    }
    this.#forget();
    const guest: QueueAddresses = {
      size: this.size,
      desc: table.toGuest(addresses.desc),
      driver: table.toGuest(addresses.avail),
      device: table.toGuest(addresses.used),
    };
    const resumed = this.#whereToGoOn(guest, start);
    if (typeof resumed === 'string') return resumed;
    const queue = this.#formats.negotiated(start.features);
    queue.enable(guest, ringOptions(start.features), resumed.position);
    if (queue.broken !== undefined) return queue.broken;
    this.#queue = queue;
    this.#guest = guest;
    this.#served = new ServedQueue(queue, this.#context.serving, start.inflight, resumed.again);
    this.#context.statistics.requestsResumed += resumed.again.length;
    this.#state = 'running';
    if (kick < 0) this.#pollLater();
    // What came before the ring was started, or was told to a back end that died, is not told again.
    this.process();
    return undefined;
  }

  /**
   * Stops the ring: nothing of it is touched any more. What was carried out is given back first.
   * @returns where it can be gone on with, as the protocol has it
   */
  stop(): number {
    this.#endKick();
    const { canServe } = this.#context;
    if (this.#state === 'running' && canServe()) this.#giveDue(Number.POSITIVE_INFINITY);
    if (this.#queue !== undefined) this.base = this.#positionOf(this.#queue);
    this.#forget();
    this.#state = 'stopped';
    return this.base;
  }

  /** The front end is gone: nothing is given back, and the file descriptors are closed. */
  dispose(): void {
    this.#endKick();
    this.#forget();
    this.#state = 'stopped';
    this.setCall(-1);
    this.setErr(-1);
  }

  /** Guest memory was mapped anew: a ring that lies elsewhere now can't be gone on with. */
  remapped(): void {
    const { table } = this.#context;
    const { addresses } = this;
    if (this.#state !== 'running' || addresses === undefined) return;
    const isSame =
      table.toGuest(addresses.desc) === this.#guest?.desc &&
      table.toGuest(addresses.avail) === this.#guest.driver &&
      table.toGuest(addresses.used) === this.#guest.device;
    if (!isSame) this.#break('guest memory was mapped elsewhere while it ran');
  }

  /** The power failed: success that was held back is told to nobody. */
  dropHeld(): void {
    this.#cancelDue?.();
    this.#cancelDue = undefined;
    this.#served?.dropHeld();
  }

  /** The disk lets go what hangs. */
  released(): void {
    this.#served?.release(this.#context.serving.clock.monotonicMs());
    this.#giveLater();
  }

  /** Serves what is available, as far as the ring runs, is enabled, and the disk has power. */
  process(): void {
    const { device, canServe } = this.#context;
    const served = this.#served;
    if (this.#state !== 'running' || !this.#isEnabled || served === undefined || !canServe()) return;
    let count = 0;
    try {
      count = device.process(this.#index, served);
    } catch (error) {
      // Without power there is no answer. Anything else is no fault of the guest's, and not to be passed over.
      if (codeOf(error) !== 'EPOWER') throw error;
    }
    this.#publish();
    this.#giveLater();
    if (served.broken !== undefined) this.#break(served.broken);
    else if (count >= served.size) this.#processMore();
  }

  #kicked(): void {
    const { host, statistics, onEvent } = this.#context;
    const taken = host.takeEvent(this.#kick);
    if (taken === NOTHING_YET) return;
    if (taken === BROKEN) {
      this.#endKick();
      onEvent(`queue ${this.#index}: its notifications ended`);
      return;
    }
    statistics.kicks++;
    this.process();
  }

  /** As many as the ring has entries were served: others have their turn before the rest. */
  #processMore(): void {
    this.#cancelMore ??= this.#context.timers.soon(() => {
      this.#cancelMore = undefined;
      this.process();
    });
  }

  #pollLater(): void {
    this.#cancelPoll = this.#context.timers.after(POLL_MS, () => {
      this.process();
      if (this.#state === 'running') this.#pollLater();
    });
  }

  #publish(): void {
    const { host, statistics } = this.#context;
    if (this.#served?.publish() !== true || this.#call < 0) return;
    statistics.calls++;
    host.sendEvent(this.#call);
  }

  /** Gives back what is held back, when it is due. */
  #giveLater(): void {
    const dueMs = this.#served?.dueMs;
    if (dueMs === undefined || dueMs === Number.POSITIVE_INFINITY || this.#cancelDue !== undefined) return;
    const { timers, serving } = this.#context;
    this.#cancelDue = timers.after(Math.max(0, dueMs - serving.clock.monotonicMs()), () => {
      this.#cancelDue = undefined;
      this.#giveDue(serving.clock.monotonicMs());
      this.#giveLater();
    });
  }

  #giveDue(nowMs: number): void {
    if (this.#served?.giveDue(nowMs) === true) this.#publish();
  }

  /** Of what is in flight the position says nothing: requests come back in order, so it begins at the used one. */
  #positionOf(queue: DeviceQueue): number {
    const { used } = queue.position;
    return this.#isPacked ? used + used * 0x1_0000 : used;
  }

  #whereToGoOn(
    guest: QueueAddresses,
    { features, inflight }: RingStart,
  ): string | { position: QueuePosition; again: readonly number[] } {
    this.#isPacked = hasFeature(features, F_RING_PACKED);
    const known = inflight?.resume(this.#context.table.memory, guest);
    if (known !== undefined) return known;
    // What was taken and not given back is taken again. Of a split ring, the ring itself says what was given back.
    const avail = this.#isPacked
      ? packedUsed(this.base)
      : this.#context.table.memory.loadU16(guest.device + USED_IDX) & 0xffff;
    const position: QueuePosition = { avail, used: avail };
    inflight?.begin({ avail, used: avail });
    return { position, again: [] };
  }

  #break(why: string): void {
    const { host, statistics, onEvent } = this.#context;
    this.#endKick();
    this.dropHeld();
    this.#state = 'broken';
    statistics.queuesBroken++;
    onEvent(`queue ${this.#index} broke: ${why}`);
    if (this.#err >= 0) host.sendEvent(this.#err);
  }

  #forget(): void {
    this.dropHeld();
    this.#queue?.disable();
    this.#queue = undefined;
    this.#served = undefined;
    this.#guest = undefined;
  }

  #endKick(): void {
    this.#cancelMore?.();
    this.#cancelMore = undefined;
    this.#cancelPoll?.();
    this.#cancelPoll = undefined;
    this.#endWatch?.();
    this.#endWatch = undefined;
    this.#close(this.#kick);
    this.#kick = -1;
  }

  #close(fd: number): void {
    if (fd >= 0) this.#context.host.close(fd);
  }
}

/** The used position of a packed ring: the upper half; some front ends set the lower one only, on a ring that is new. */
function packedUsed(base: number): number {
  const [low, high] = [base & 0xffff, base >>> 16];
  return high === 0 && low >= 0x8000 ? low : high;
}
