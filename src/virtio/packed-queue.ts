import type { DescriptorChain } from './chain.ts';
import { type DeviceQueue, PLAIN_RING, type QueuePosition, type RingOptions } from './device-queue.ts';
import type { GuestMemory } from './memory.ts';
import {
  EVENT_ALIGN,
  EVENT_BYTES,
  EVENT_DESC,
  EVENT_F_DESC,
  EVENT_F_DISABLE,
  EVENT_F_ENABLE,
  EVENT_F_MASK,
  EVENT_FLAGS,
  isAvail,
  PACKED_ADDR,
  PACKED_FLAGS,
  PACKED_ID,
  PACKED_LEN,
  packPosition,
  passedPackedEvent,
  usedFlags,
  WRAP_BIT,
} from './packed-layout.ts';
import { type RingParts, SegmentGate, whyMisplaced } from './segment-gate.ts';
import {
  CHAIN_BYTES_LIMIT,
  DESC_ALIGN,
  DESC_BYTES,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  descTableBytes,
  QUEUE_SIZE_LIMIT,
  type QueueAddresses,
} from './split-layout.ts';
import { whyNoIndirectTable } from './split-queue.ts';

/**
 * The device's side of a packed virtqueue (virtio 2.8). As little as in a split one is believed: a chain longer than the
 * ring or than what of it is free, a link of it that is not available, a buffer id that is in flight, an indirect table
 * that can't be one - each breaks the queue until it is enabled anew.
 */
export class PackedQueue implements DeviceQueue {
  readonly #memory: GuestMemory;
  readonly #gate: SegmentGate;
  readonly #sizeMax: number = 0;
  /** A bit for each buffer id: all 16 bits of one are the driver's to choose. */
  readonly #inFlight = new Uint32Array(2048);
  /** Entries of the ring that requests in flight took up. */
  #heldEntries = 0;
  #indirect = false;
  #eventIdx = false;
  #inOrder = false;
  #size = 0;
  #desc = 0;
  #driverEvent = 0;
  #deviceEvent = 0;
  #enabled = false;
  #broken: string | undefined;
  #started = false;
  #nextAvail = 0;
  #availWrap = true;
  /** What the device's event structure says; -1 before the first time. */
  #askedPosition = -1;
  #nextUsed = 0;
  #usedWrap = true;
  /** Entries used since the end of the last batch. */
  #unpublishedEntries = 0;
  /** In order: entries of what was pushed and not written yet, and the last of it. */
  #runEntries = 0;
  #runId = 0;
  #runBytes = 0;
  #runWritten = false;
  #runWhole = true;
  #generation = 0;

  /** @param sizeMax entries of the largest ring that can be enabled */
  constructor(memory: GuestMemory, sizeMax: number) {
    this.#memory = memory;
    this.#gate = new SegmentGate(memory);
    this.#sizeMax = Math.min(sizeMax, QUEUE_SIZE_LIMIT);
  }

  get size(): number {
    return this.#size;
  }

  get broken(): string | undefined {
    return this.#broken;
  }

  get position(): Required<QueuePosition> {
    return {
      avail: packPosition(this.#nextAvail, this.#availWrap),
      used: packPosition(this.#nextUsed, this.#usedWrap),
    };
  }

  /** As {@link DeviceQueue.enable}; a position without `used` says that nothing is in flight. */
  enable(addresses: QueueAddresses, options: RingOptions = PLAIN_RING, position?: QueuePosition): void {
    this.disable();
    const { size, desc, driver, device } = addresses;
    const parts = partsOf(addresses);
    this.#indirect = options.indirect;
    this.#eventIdx = options.eventIdx;
    this.#inOrder = options.inOrder;
    this.#size = size;
    this.#desc = desc;
    this.#driverEvent = driver;
    this.#deviceEvent = device;
    this.#gate.protect(parts);
    this.#broken = this.#whySizeIsWrong(size) ?? whyMisplaced(parts, this.#memory);
    this.#enabled = true;
    if (position !== undefined && this.#broken === undefined)
      this.#resume(position.avail, position.used ?? position.avail);
  }

  disable(): void {
    // What is clear already costs a restart nothing.
    if (this.#heldEntries > 0) this.#inFlight.fill(0);
    this.#heldEntries = 0;
    this.#enabled = false;
    this.#broken = undefined;
    this.#started = false;
    this.#nextAvail = 0;
    this.#availWrap = true;
    this.#askedPosition = -1;
    this.#nextUsed = 0;
    this.#usedWrap = true;
    this.#unpublishedEntries = 0;
    this.#runEntries = 0;
    this.#generation++;
  }

  pop(chain: DescriptorChain): boolean {
    if (!this.#enabled || this.#broken !== undefined) return false;
    if (!this.#started) this.#start();
    let flags = this.#nextFlags();
    if (!isAvail(flags, this.#availWrap)) {
      if (!this.#eventIdx) return false;
      this.#askForEvent();
      flags = this.#nextFlags();
      if (!isAvail(flags, this.#availWrap)) return false;
    }
    chain.clear(0, this.#generation);
    if (!this.#walk(chain, flags) || !this.#claim(chain)) return false;
    const next = this.#nextAvail + chain.entryCount;
    this.#availWrap = this.#availWrap !== next >= this.#size;
    this.#nextAvail = next >= this.#size ? next - this.#size : next;
    return true;
  }

  owns(chain: DescriptorChain): boolean {
    return this.#enabled && chain.generation === this.#generation && this.#isInFlight(chain.id);
  }

  push(chain: DescriptorChain, writtenBytes: number): void {
    // A request from before a reset is nobody's any more (2.4.1).
    if (!this.owns(chain)) return;
    this.#inFlight[chain.id >>> 5] = this.#inFlight[chain.id >>> 5]! & ~(1 << (chain.id & 31));
    this.#heldEntries -= chain.entryCount;
    // In order, one entry stands for a run, all of which but the last count as written completely (2.8.8).
    if (!this.#runWhole || !this.#inOrder) this.#writeRun();
    this.#runEntries += chain.entryCount;
    this.#runId = chain.id;
    this.#runBytes = writtenBytes;
    // A status byte is written even where no byte before it counts.
    this.#runWritten = chain.writable.lastAddress >= 0;
    this.#runWhole = writtenBytes === chain.writable.totalBytes;
    if (!this.#inOrder) this.#writeRun();
  }

  publish(): boolean {
    if (!this.#enabled) return false;
    // A batch that was as long as the queue never came upon an empty ring.
    if (this.#eventIdx && this.#started) this.#askForEvent();
    this.#writeRun();
    const entryCount = this.#unpublishedEntries;
    this.#unpublishedEntries = 0;
    if (entryCount === 0) return false;
    const flags = this.#memory.loadU16(this.#driverEvent + EVENT_FLAGS) & EVENT_F_MASK;
    if (flags === EVENT_F_DISABLE) return false;
    // Without EVENT_IDX the value is not valid, 3 never is (2.8.10): rather one notification too many.
    if (flags !== EVENT_F_DESC || !this.#eventIdx) return true;
    const event = this.#memory.loadU16(this.#driverEvent + EVENT_DESC);
    return passedPackedEvent(event, packPosition(this.#nextUsed, this.#usedWrap), entryCount, this.#size);
  }

  #resume(avail: number, used: number): void {
    this.#nextAvail = avail & ~WRAP_BIT;
    this.#availWrap = (avail & WRAP_BIT) !== 0;
    this.#nextUsed = used & ~WRAP_BIT;
    this.#usedWrap = (used & WRAP_BIT) !== 0;
    if (this.#nextAvail >= this.#size || this.#nextUsed >= this.#size) {
      this.#broken = `a position past the ring: expected entries below ${this.#size}`;
    }
  }

  /** The device's structure is the device's to set, whatever the driver left there (2.8.10). */
  #start(): void {
    this.#started = true;
    this.#memory.writeU16(this.#deviceEvent + EVENT_DESC, 0);
    this.#memory.storeU16(this.#deviceEvent + EVENT_FLAGS, EVENT_F_ENABLE);
  }

  /** Asks to be told of the next request only: the place before the flags that make it valid (2.8.10). */
  #askForEvent(): void {
    const position = packPosition(this.#nextAvail, this.#availWrap);
    if (position === this.#askedPosition) return;
    this.#askedPosition = position;
    this.#memory.storeU16(this.#deviceEvent + EVENT_DESC, position);
    this.#memory.storeU16(this.#deviceEvent + EVENT_FLAGS, EVENT_F_DESC);
  }

  #nextFlags(): number {
    return this.#memory.loadU16(this.#desc + DESC_BYTES * this.#nextAvail + PACKED_FLAGS);
  }

  /**
   * Reads each descriptor once: the driver may change it meanwhile.
   * @param firstFlags those that said that the first one is available
   */
  #walk(chain: DescriptorChain, firstFlags: number): boolean {
    const memory = this.#memory;
    let index = this.#nextAvail;
    let wrap = this.#availWrap;
    let flags = firstFlags;
    let totalBytes = 0;
    for (let count = 1; ; count++) {
      const at = this.#desc + DESC_BYTES * index;
      const address = memory.readU64(at + PACKED_ADDR);
      const lengthBytes = memory.readU32(at + PACKED_LEN);
      chain.entryCount = count;
      if ((flags & DESC_F_INDIRECT) !== 0) {
        if (count > 1 || (flags & DESC_F_NEXT) !== 0) {
          return this.#break('an indirect descriptor in a list of others');
        }
        chain.id = memory.readU16(at + PACKED_ID);
        return this.#walkTable(chain, address, lengthBytes);
      }
      totalBytes += lengthBytes;
      if (totalBytes > CHAIN_BYTES_LIMIT) return this.#break('a chain of more than 2^32 bytes');
      this.#gate.add(chain, address, lengthBytes, (flags & DESC_F_WRITE) !== 0);
      if ((flags & DESC_F_NEXT) === 0) {
        chain.id = memory.readU16(at + PACKED_ID);
        return true;
      }
      if (count === this.#size) return this.#break('a chain of more descriptors than the queue has: it loops');
      if (++index === this.#size) {
        index = 0;
        wrap = !wrap;
      }
      flags = memory.loadU16(this.#desc + DESC_BYTES * index + PACKED_FLAGS);
      // The driver makes the first one available last (2.8.6): so the others are by now.
      if (!isAvail(flags, wrap)) return this.#break('a chain leads to a descriptor that is not available');
    }
  }

  /** One descriptor after another, up to the table's end; of their flags only WRITE means something (2.8.7). */
  #walkTable(chain: DescriptorChain, address: number, lengthBytes: number): boolean {
    const memory = this.#memory;
    if (!this.#indirect) return this.#break('an indirect descriptor without that feature');
    const why = whyNoIndirectTable(memory, address, lengthBytes);
    if (why !== undefined) return this.#break(why);
    const count = lengthBytes / DESC_BYTES;
    if (count > this.#size) return this.#break('a chain of more descriptors than the queue has');
    let totalBytes = 0;
    for (let at = address; at < address + lengthBytes; at += DESC_BYTES) {
      const segmentBytes = memory.readU32(at + PACKED_LEN);
      totalBytes += segmentBytes;
      if (totalBytes > CHAIN_BYTES_LIMIT) return this.#break('a chain of more than 2^32 bytes');
      const flags = memory.readU16(at + PACKED_FLAGS);
      this.#gate.add(chain, memory.readU64(at + PACKED_ADDR), segmentBytes, (flags & DESC_F_WRITE) !== 0);
    }
    return true;
  }

  /** Counts a chain as in flight. */
  #claim(chain: DescriptorChain): boolean {
    // What was pushed and not written yet still stands in the ring.
    if (this.#heldEntries + this.#runEntries + chain.entryCount > this.#size) {
      return this.#break('more descriptors were made available than the ring has');
    }
    if (this.#isInFlight(chain.id)) return this.#break('a request was made available again while it is in flight');
    this.#inFlight[chain.id >>> 5] = this.#inFlight[chain.id >>> 5]! | (1 << (chain.id & 31));
    this.#heldEntries += chain.entryCount;
    return true;
  }

  #isInFlight(id: number): boolean {
    return (this.#inFlight[id >>> 5]! & (1 << (id & 31))) !== 0;
  }

  /** Over the first entry of the run, the flags last: with them the driver sees it (2.8.1, 2.8.6). */
  #writeRun(): void {
    if (this.#runEntries === 0) return;
    const memory = this.#memory;
    const at = this.#desc + DESC_BYTES * this.#nextUsed;
    memory.writeU16(at + PACKED_ID, this.#runId);
    memory.writeU32(at + PACKED_LEN, this.#runBytes);
    memory.storeU16(at + PACKED_FLAGS, usedFlags(this.#usedWrap) | (this.#runWritten ? DESC_F_WRITE : 0));
    const next = this.#nextUsed + this.#runEntries;
    this.#usedWrap = this.#usedWrap !== next >= this.#size;
    this.#nextUsed = next >= this.#size ? next - this.#size : next;
    this.#unpublishedEntries += this.#runEntries;
    this.#runEntries = 0;
  }

  #whySizeIsWrong(size: number): string | undefined {
    if (size >= 1 && size <= this.#sizeMax) return undefined;
    return `queue size ${size}: expected 1 to ${this.#sizeMax}`;
  }

  #break(why: string): false {
    this.#broken = why;
    return false;
  }
}

function partsOf({ size, desc, driver, device }: QueueAddresses): RingParts {
  return [
    { name: 'descriptor ring', start: desc, lengthBytes: descTableBytes(size), align: DESC_ALIGN },
    { name: 'driver event suppression', start: driver, lengthBytes: EVENT_BYTES, align: EVENT_ALIGN },
    { name: 'device event suppression', start: device, lengthBytes: EVENT_BYTES, align: EVENT_ALIGN },
  ];
}
