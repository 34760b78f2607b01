import type { DescriptorChain } from './chain.ts';
import { type DeviceQueue, PLAIN_RING, passedEvent, type QueuePosition, type RingOptions } from './device-queue.ts';
import type { GuestMemory } from './memory.ts';
import { type RingParts, SegmentGate, whyMisplaced } from './segment-gate.ts';
import {
  AVAIL_ALIGN,
  AVAIL_F_NO_INTERRUPT,
  AVAIL_FLAGS,
  AVAIL_IDX,
  AVAIL_RING,
  availRingBytes,
  CHAIN_BYTES_LIMIT,
  DESC_ADDR,
  DESC_ALIGN,
  DESC_BYTES,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
  descTableBytes,
  INDEX_MASK,
  type QueueAddresses,
  USED_ALIGN,
  USED_ELEM_BYTES,
  USED_FLAGS,
  USED_IDX,
  USED_RING,
  usedRingBytes,
} from './split-layout.ts';

/**
 * The device's side of a split virtqueue (virtio 2.7). Nothing that the driver wrote is believed: an index past the
 * table, a chain longer than the queue (so every loop), a request that is in flight already, an available index that
 * jumps, an indirect table that can't be one - each breaks the queue, and a broken queue does nothing more until it is
 * enabled anew.
 */
export class SplitQueue implements DeviceQueue {
  readonly #memory: GuestMemory;
  readonly #gate: SegmentGate;
  readonly #inFlight: Uint8Array;
  #indirect = false;
  #eventIdx = false;
  #inOrder = false;
  #size = 0;
  #desc = 0;
  #avail = 0;
  #used = 0;
  #enabled = false;
  #broken: string | undefined;
  #started = false;
  #nextAvail = 0;
  /** What avail_event says; -1 before the first time. */
  #askedAvail = -1;
  #nextUsed = 0;
  /** The used index at the end of the last batch. */
  #publishedUsed = 0;
  /** In order: how many were pushed and not written yet, and the last of them. */
  #runCount = 0;
  #runId = 0;
  #runBytes = 0;
  #runWhole = true;
  #generation = 0;

  /** @param sizeMax entries of the largest ring that can be enabled */
  constructor(memory: GuestMemory, sizeMax: number) {
    this.#memory = memory;
    this.#gate = new SegmentGate(memory);
    this.#inFlight = new Uint8Array(sizeMax);
  }

  get size(): number {
    return this.#size;
  }

  get broken(): string | undefined {
    return this.#broken;
  }

  get position(): Required<QueuePosition> {
    return { avail: this.#nextAvail, used: this.#nextUsed };
  }

  enable(addresses: QueueAddresses, options: RingOptions = PLAIN_RING, position?: QueuePosition): void {
    this.disable();
    const { size, desc, driver, device } = addresses;
    const parts = partsOf(addresses);
    this.#indirect = options.indirect;
    this.#eventIdx = options.eventIdx;
    this.#inOrder = options.inOrder;
    this.#size = size;
    this.#desc = desc;
    this.#avail = driver;
    this.#used = device;
    this.#gate.protect(parts);
    this.#broken = whySizeIsWrong(size, this.#inFlight.length) ?? whyMisplaced(parts, this.#memory);
    this.#enabled = true;
    if (position !== undefined && this.#broken === undefined) this.#resume(position);
  }

  disable(): void {
    this.#enabled = false;
    this.#broken = undefined;
    this.#started = false;
    this.#nextAvail = 0;
    this.#askedAvail = -1;
    this.#nextUsed = 0;
    this.#publishedUsed = 0;
    this.#runCount = 0;
    this.#generation++;
    this.#inFlight.fill(0);
  }

  pop(chain: DescriptorChain): boolean {
    if (!this.#enabled || this.#broken !== undefined) return false;
    if (!this.#started) this.#start();
    const pending = this.#pendingCount();
    if (pending === 0) return false;
    if (pending > this.#size) return this.#break('the available index went ahead of the device by more than the queue');
    const head = this.#memory.readU16(this.#avail + AVAIL_RING + 2 * (this.#nextAvail & (this.#size - 1)));
    if (!this.#take(chain, head)) return false;
    this.#nextAvail = (this.#nextAvail + 1) & INDEX_MASK;
    return true;
  }

  /**
   * Takes a request by the index of its first descriptor, past the available ring: one that an earlier life of the
   * device had taken and not given back. False breaks the queue, as in {@link pop}.
   */
  popAgain(chain: DescriptorChain, head: number): boolean {
    return this.#enabled && this.#broken === undefined && this.#take(chain, head);
  }

  owns(chain: DescriptorChain): boolean {
    return this.#enabled && chain.generation === this.#generation && this.#inFlight[chain.id] !== 0;
  }

  push(chain: DescriptorChain, writtenBytes: number): void {
    // A request from before a reset is nobody's any more (2.4.1).
    if (!this.owns(chain)) return;
    this.#inFlight[chain.id] = 0;
    if (!this.#inOrder) {
      this.#writeUsed(chain.id, writtenBytes, 1);
      return;
    }
    // One entry stands for a run, all of which but the last count as written completely (2.7.9).
    if (!this.#runWhole) this.#writeRun();
    this.#runCount++;
    this.#runId = chain.id;
    this.#runBytes = writtenBytes;
    this.#runWhole = writtenBytes === chain.writable.totalBytes;
  }

  publish(): boolean {
    if (!this.#enabled) return false;
    // A batch that was as long as the queue never came upon an empty ring.
    if (this.#eventIdx && this.#started) this.#askForEvent();
    if (this.#runCount > 0) this.#writeRun();
    const before = this.#publishedUsed;
    this.#publishedUsed = this.#nextUsed;
    if (before === this.#nextUsed) return false;
    if (this.#eventIdx) {
      const usedEvent = this.#memory.loadU16(this.#avail + AVAIL_RING + 2 * this.#size);
      return passedEvent(usedEvent, before, this.#nextUsed);
    }
    // Only bit 0 of the flags speaks then, and used_event is not looked at (2.7.7.2).
    return (this.#memory.loadU16(this.#avail + AVAIL_FLAGS) & AVAIL_F_NO_INTERRUPT) === 0;
  }

  #resume({ avail, used }: QueuePosition): void {
    this.#nextAvail = avail & INDEX_MASK;
    this.#nextUsed = used === undefined ? this.#memory.loadU16(this.#used + USED_IDX) : used & INDEX_MASK;
    this.#publishedUsed = this.#nextUsed;
  }

  /** The device's field is the device's to set, whatever the driver left there: 0 or 1 (2.7.10.2). */
  #start(): void {
    this.#started = true;
    this.#memory.writeU16(this.#used + USED_FLAGS, 0);
  }

  /** Where there is nothing, the driver is asked to tell of the next, and what it added meanwhile is seen (2.7.10). */
  #pendingCount(): number {
    const memory = this.#memory;
    const availIndex = memory.loadU16(this.#avail + AVAIL_IDX);
    if (availIndex !== this.#nextAvail || !this.#eventIdx) return (availIndex - this.#nextAvail) & INDEX_MASK;
    this.#askForEvent();
    return (memory.loadU16(this.#avail + AVAIL_IDX) - this.#nextAvail) & INDEX_MASK;
  }

  /** avail_event: to be told of the next request (2.7.10). */
  #askForEvent(): void {
    if (this.#askedAvail === this.#nextAvail) return;
    this.#askedAvail = this.#nextAvail;
    this.#memory.storeU16(this.#used + USED_RING + USED_ELEM_BYTES * this.#size, this.#nextAvail);
  }

  #take(chain: DescriptorChain, head: number): boolean {
    if (!(head >= 0 && head < this.#size)) return this.#break('the available ring names a descriptor past the table');
    if (this.#inFlight[head] !== 0) return this.#break('a request was made available again while it is in flight');
    chain.clear(head, this.#generation);
    if (!this.#walk(chain, head)) return false;
    this.#inFlight[head] = 1;
    return true;
  }

  /** Reads each descriptor once: the driver may change it meanwhile. */
  #walk(chain: DescriptorChain, head: number): boolean {
    const memory = this.#memory;
    let table = this.#desc;
    let tableSize = this.#size;
    let index = head;
    let totalBytes = 0;
    for (let seen = 0; seen < this.#size; ) {
      const at = table + DESC_BYTES * index;
      const address = memory.readU64(at + DESC_ADDR);
      const lengthBytes = memory.readU32(at + DESC_LEN);
      const flags = memory.readU16(at + DESC_FLAGS);
      if ((flags & DESC_F_INDIRECT) !== 0) {
        const why = this.#whyNoTable(flags, address, lengthBytes, table);
        if (why !== undefined) return this.#break(why);
        // From its first descriptor on; the WRITE flag of the one that names it means nothing (2.7.5.3.2).
        table = address;
        tableSize = lengthBytes / DESC_BYTES;
        index = 0;
        continue;
      }
      seen++;
      totalBytes += lengthBytes;
      if (totalBytes > CHAIN_BYTES_LIMIT) return this.#break('a chain of more than 2^32 bytes');
      this.#gate.add(chain, address, lengthBytes, (flags & DESC_F_WRITE) !== 0);
      if ((flags & DESC_F_NEXT) === 0) return true;
      index = memory.readU16(at + DESC_NEXT);
      if (index < 0 || index >= tableSize) return this.#break('a chain leads past the descriptor table');
    }
    return this.#break('a chain of more descriptors than the queue has: it loops');
  }

  /** @param from the table that the naming descriptor is in: only the ring's own may name another (2.7.5.3.1) */
  #whyNoTable(flags: number, address: number, lengthBytes: number, from: number): string | undefined {
    if (!this.#indirect) return 'an indirect descriptor without that feature';
    if (from !== this.#desc) return 'an indirect descriptor inside an indirect table';
    if ((flags & DESC_F_NEXT) !== 0) return 'an indirect descriptor that goes on beside its table';
    if (address === this.#desc) return 'an indirect table that is the descriptor table';
    return whyNoIndirectTable(this.#memory, address, lengthBytes);
  }

  #writeRun(): void {
    if (this.#runCount > 0) this.#writeUsed(this.#runId, this.#runBytes, this.#runCount);
    this.#runCount = 0;
  }

  #writeUsed(id: number, writtenBytes: number, count: number): void {
    const entry = this.#used + USED_RING + USED_ELEM_BYTES * (this.#nextUsed & (this.#size - 1));
    this.#memory.writeU32(entry, id);
    // The length before the index (2.7.8.2).
    this.#memory.writeU32(entry + 4, writtenBytes);
    this.#nextUsed = (this.#nextUsed + count) & INDEX_MASK;
    this.#memory.storeU16(this.#used + USED_IDX, this.#nextUsed);
  }

  #break(why: string): false {
    this.#broken = why;
    return false;
  }
}

/** Why no table of descriptors is there (virtio 2.7.5.3, 2.8.7), or undefined. */
export function whyNoIndirectTable(memory: GuestMemory, address: number, lengthBytes: number): string | undefined {
  if (lengthBytes === 0 || lengthBytes % DESC_BYTES !== 0) {
    return 'an indirect table that is not whole descriptors of 16 bytes, at least one';
  }
  return memory.contains(address, lengthBytes) ? undefined : 'an indirect table outside guest memory';
}

function whySizeIsWrong(size: number, sizeMax: number): string | undefined {
  if (size >= 1 && size <= sizeMax && (size & (size - 1)) === 0) return undefined;
  return `queue size ${size}: expected a power of two up to ${sizeMax}`;
}

function partsOf({ size, desc, driver, device }: QueueAddresses): RingParts {
  return [
    { name: 'descriptor table', start: desc, lengthBytes: descTableBytes(size), align: DESC_ALIGN },
    { name: 'available ring', start: driver, lengthBytes: availRingBytes(size), align: AVAIL_ALIGN },
    { name: 'used ring', start: device, lengthBytes: usedRingBytes(size), align: USED_ALIGN },
  ];
}
