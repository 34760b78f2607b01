import { type Clock, DeviceError } from '../../core/index.ts';
import { DescriptorChain, type DeviceQueue, type GuestMemory, SplitQueue, type VirtQueue } from '../../virtio/index.ts';
import type { ServedDisk } from '../disk/served-disk.ts';
import type { DiskPort } from './disk-port.ts';
import type { InflightTracker } from './inflight.ts';
import type { VhostStatistics } from './statistics.ts';

/** A request whose success is held back. */
interface Held {
  readonly chain: DescriptorChain;
  writtenBytes: number;
  operation: number;
  /** Infinity: it hangs. */
  dueMs: number;
  owesFlush: boolean;
}

/** What a queue is served for. */
export interface ServingContext {
  readonly memory: GuestMemory;
  readonly disk: ServedDisk;
  readonly port: DiskPort;
  readonly clock: Clock;
  readonly statistics: VhostStatistics;
}

/**
 * A queue as the block device gets it, with what a server adds: what is in flight is tracked, what a former back end had
 * taken is taken again first, success is held back as long as the disk's latency says. Requests come back in the order
 * in which they were taken.
 */
export class ServedQueue implements VirtQueue {
  readonly #queue: DeviceQueue;
  readonly #context: ServingContext;
  readonly #inflight: InflightTracker | undefined;
  readonly #again: readonly number[];
  #againDone = 0;
  readonly #held: Held[] = [];
  readonly #free: Held[] = [];

  /** @param again first descriptors of requests to be taken again, of a split queue */
  constructor(
    queue: DeviceQueue,
    context: ServingContext,
    inflight: InflightTracker | undefined,
    again: readonly number[],
  ) {
    this.#queue = queue;
    this.#context = context;
    this.#inflight = inflight;
    this.#again = again;
  }

  get size(): number {
    return this.#queue.size;
  }

  get broken(): string | undefined {
    return this.#queue.broken;
  }

  /** When the next of the requests that are held back is due; undefined where there is none. */
  get dueMs(): number | undefined {
    return this.#held[0]?.dueMs;
  }

  pop(chain: DescriptorChain): boolean {
    const head = this.#again[this.#againDone];
    if (head !== undefined && this.#queue instanceof SplitQueue) {
      if (!this.#queue.popAgain(chain, head)) return false;
      this.#againDone++;
    } else {
      if (!this.#queue.pop(chain)) return false;
      this.#inflight?.took(chain);
    }
    this.#context.port.begin();
    this.#context.statistics.requests++;
    return true;
  }

  owns(chain: DescriptorChain): boolean {
    return this.#queue.owns(chain);
  }

  push(chain: DescriptorChain, writtenBytes: number): void {
    const { port, clock, memory } = this.#context;
    const { delayMs, hangs, operation, owesFlush } = port;
    if (delayMs === 0 && !hangs && this.#held.length === 0) {
      this.#give(chain, writtenBytes, operation);
      return;
    }
    const held = this.#free.pop() ?? newHeld(memory);
    held.chain.copyReturn(chain);
    held.writtenBytes = writtenBytes;
    held.operation = operation;
    held.dueMs = hangs ? Number.POSITIVE_INFINITY : clock.monotonicMs() + delayMs;
    held.owesFlush = owesFlush;
    this.#held.push(held);
  }

  publish(): boolean {
    return this.#queue.publish();
  }

  /**
   * Gives back what is due by then, and has nothing before it that is not. Infinity: all, even what hangs.
   * @returns whether there was anything
   */
  giveDue(nowMs: number): boolean {
    let isAny = false;
    for (let held = this.#held[0]; held !== undefined && held.dueMs <= nowMs; held = this.#held[0]) {
      if (held.owesFlush && !this.#payFlush(held)) break;
      this.#held.shift();
      this.#give(held.chain, held.writtenBytes, held.operation);
      this.#free.push(held);
      isAny = true;
    }
    return isAny;
  }

  /** The disk lets go what hangs. */
  release(nowMs: number): void {
    for (const held of this.#held) if (held.dueMs === Number.POSITIVE_INFINITY) held.dueMs = nowMs;
  }

  /** The power failed: nobody is told of what was not told yet. */
  dropHeld(): void {
    this.#held.length = 0;
  }

  /**
   * Carries out a flush that hung. One that fails hangs for good, and what comes after it: its answer, success, is in the
   * driver's memory already, where it must not be believed.
   */
  #payFlush(held: Held): boolean {
    const { port } = this.#context;
    port.begin();
    try {
      port.flushNow();
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      held.dueMs = Number.POSITIVE_INFINITY;
      return false;
    }
    held.operation = port.operation;
    held.owesFlush = false;
    return true;
  }

  #give(chain: DescriptorChain, writtenBytes: number, operation: number): void {
    this.#inflight?.giving(chain);
    this.#queue.push(chain, writtenBytes);
    this.#inflight?.gave(chain);
    if (operation > 0) this.#context.disk.acknowledge(operation);
  }
}

function newHeld(memory: GuestMemory): Held {
  return { chain: new DescriptorChain(memory), writtenBytes: 0, operation: 0, dueMs: 0, owesFlush: false };
}
