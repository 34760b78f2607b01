import type { DescriptorChain, VirtQueue } from './chain.ts';
import type { GuestMemory } from './memory.ts';
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
 * jumps - each breaks the queue, and a broken queue does nothing more until it is enabled anew.
 */
export class SplitQueue implements VirtQueue {
  readonly #memory: GuestMemory;
  readonly #inFlight: Uint8Array;
  #size = 0;
  #desc = 0;
  #avail = 0;
  #used = 0;
  #descEnd = 0;
  #availEnd = 0;
  #usedEnd = 0;
  #enabled = false;
  #broken: string | undefined;
  #started = false;
  #nextAvail = 0;
  #nextUsed = 0;
  #generation = 0;

  /** @param sizeMax entries of the largest ring that can be enabled */
  constructor(memory: GuestMemory, sizeMax: number) {
    this.#memory = memory;
    this.#inFlight = new Uint8Array(sizeMax);
  }

  get size(): number {
    return this.#size;
  }

  get broken(): string | undefined {
    return this.#broken;
  }

  /** Begins a new life with the ring at `addresses`; it is broken from the start where it can't lie there. */
  enable(addresses: QueueAddresses): void {
    this.disable();
    this.#size = addresses.size;
    this.#desc = addresses.desc;
    this.#avail = addresses.driver;
    this.#used = addresses.device;
    this.#descEnd = addresses.desc + descTableBytes(addresses.size);
    this.#availEnd = addresses.driver + availRingBytes(addresses.size);
    this.#usedEnd = addresses.device + usedRingBytes(addresses.size);
    this.#broken = whyUnusable(addresses, this.#inFlight.length, this.#memory);
    this.#enabled = true;
  }

  /** Forgets the ring and all that is in flight: from here on nothing of it is touched (4.2.2.1). */
  disable(): void {
    this.#enabled = false;
    this.#broken = undefined;
    this.#started = false;
    this.#nextAvail = 0;
    this.#nextUsed = 0;
    this.#generation++;
    this.#inFlight.fill(0);
  }

  pop(chain: DescriptorChain): boolean {
    if (!this.#enabled || this.#broken !== undefined) return false;
    if (!this.#started) this.#start();
    const availIndex = this.#memory.readU16(this.#avail + AVAIL_IDX);
    const pending = (availIndex - this.#nextAvail) & INDEX_MASK;
    if (pending === 0) return false;
    if (pending > this.#size) return this.#break('the available index went ahead of the device by more than the queue');
    const head = this.#memory.readU16(this.#avail + AVAIL_RING + 2 * (this.#nextAvail & (this.#size - 1)));
    if (head < 0 || head >= this.#size) return this.#break('the available ring names a descriptor past the table');
    if (this.#inFlight[head] !== 0) return this.#break('a request was made available again while it is in flight');
    chain.clear(head, this.#generation);
    if (!this.#walk(chain, head)) return false;
    this.#inFlight[head] = 1;
    this.#nextAvail = (this.#nextAvail + 1) & INDEX_MASK;
    return true;
  }

  push(chain: DescriptorChain, writtenBytes: number): void {
    // A request from before a reset is nobody's any more (2.4.1).
    if (!this.#enabled || chain.generation !== this.#generation || this.#inFlight[chain.id] === 0) return;
    this.#inFlight[chain.id] = 0;
    const entry = this.#used + USED_RING + USED_ELEM_BYTES * (this.#nextUsed & (this.#size - 1));
    this.#memory.writeU32(entry, chain.id);
    // The length before the index (2.7.8.2).
    this.#memory.writeU32(entry + 4, writtenBytes);
    this.#nextUsed = (this.#nextUsed + 1) & INDEX_MASK;
    this.#memory.writeU16(this.#used + USED_IDX, this.#nextUsed);
  }

  shouldNotify(): boolean {
    if (!this.#enabled) return false;
    // Without EVENT_IDX only bit 0 of the flags speaks, and used_event is not looked at (2.7.7.2).
    return (this.#memory.readU16(this.#avail + AVAIL_FLAGS) & AVAIL_F_NO_INTERRUPT) === 0;
  }

  /** The device's field is the device's to set, whatever the driver left there: 0 or 1 (2.7.10.2). */
  #start(): void {
    this.#started = true;
    this.#memory.writeU16(this.#used + USED_FLAGS, 0);
  }

  /** Reads each descriptor once: the driver may change it meanwhile. */
  #walk(chain: DescriptorChain, head: number): boolean {
    const memory = this.#memory;
    let index = head;
    let totalBytes = 0;
    for (let seen = 0; seen < this.#size; seen++) {
      const at = this.#desc + DESC_BYTES * index;
      const address = memory.readU64(at + DESC_ADDR);
      const lengthBytes = memory.readU32(at + DESC_LEN);
      const flags = memory.readU16(at + DESC_FLAGS);
      if ((flags & DESC_F_INDIRECT) !== 0) return this.#break('an indirect descriptor without that feature');
      totalBytes += lengthBytes;
      if (totalBytes > CHAIN_BYTES_LIMIT) return this.#break('a chain of more than 2^32 bytes');
      this.#addSegment(chain, address, lengthBytes, (flags & DESC_F_WRITE) !== 0);
      if ((flags & DESC_F_NEXT) === 0) return true;
      index = memory.readU16(at + DESC_NEXT);
      if (index < 0 || index >= this.#size) return this.#break('a chain leads past the descriptor table');
    }
    return this.#break('a chain of more descriptors than the queue has: it loops');
  }

  #addSegment(chain: DescriptorChain, address: number, lengthBytes: number, writable: boolean): void {
    if (lengthBytes === 0) return;
    // Readable ones come first (2.7.4.2).
    if (!writable && chain.writable.totalBytes > 0) chain.faulty = true;
    let reachable = this.#memory.contains(address, lengthBytes);
    // To serve a buffer in the ring's own memory would be to write the descriptor table (2.7.5.1).
    if (writable && reachable && this.#touchesRing(address, address + lengthBytes)) reachable = false;
    if (!reachable) chain.faulty = true;
    (writable ? chain.writable : chain.readable).add(reachable ? address : -1, lengthBytes);
  }

  #touchesRing(start: number, end: number): boolean {
    return (
      (start < this.#descEnd && end > this.#desc) ||
      (start < this.#availEnd && end > this.#avail) ||
      (start < this.#usedEnd && end > this.#used)
    );
  }

  #break(why: string): false {
    this.#broken = why;
    return false;
  }
}

function whyUnusable(queue: QueueAddresses, sizeMax: number, memory: GuestMemory): string | undefined {
  const { size, desc, driver, device } = queue;
  if (size < 1 || size > sizeMax || (size & (size - 1)) !== 0) {
    return `queue size ${size}: expected a power of two up to ${sizeMax}`;
  }
  const parts = [
    { name: 'descriptor table', start: desc, lengthBytes: descTableBytes(size), align: DESC_ALIGN },
    { name: 'available ring', start: driver, lengthBytes: availRingBytes(size), align: AVAIL_ALIGN },
    { name: 'used ring', start: device, lengthBytes: usedRingBytes(size), align: USED_ALIGN },
  ];
  for (const [i, part] of parts.entries()) {
    if (part.start % part.align !== 0) return `the ${part.name} is not aligned to ${part.align} bytes`;
    if (!memory.contains(part.start, part.lengthBytes)) return `the ${part.name} lies outside guest memory`;
    for (const other of parts.slice(0, i)) {
      if (part.start < other.start + other.lengthBytes && other.start < part.start + part.lengthBytes) {
        return `the ${part.name} and the ${other.name} overlap`;
      }
    }
  }
  return undefined;
}
