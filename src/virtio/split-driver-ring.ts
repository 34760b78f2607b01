import { invariant, setU64, viewOf } from '../core/index.ts';
import type { GuestMemory } from './memory.ts';
import {
  AVAIL_FLAGS,
  AVAIL_IDX,
  AVAIL_RING,
  DESC_ADDR,
  DESC_BYTES,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
  INDEX_MASK,
  type QueueAddresses,
  queueEnd,
  USED_ELEM_BYTES,
  USED_FLAGS,
  USED_IDX,
  USED_RING,
} from './split-layout.ts';

/** A descriptor as it stands in the table (virtio 2.7.5). Nothing in it has to make sense. */
export interface DescriptorFields {
  readonly address: number;
  readonly lengthBytes: number;
  readonly flags?: number;
  readonly next?: number;
}

/**
 * The driver's side of a split virtqueue, raw: it puts into the ring what it is told to, valid or not. The block driver
 * is built on it, and so are tests that play a hostile driver.
 *
 * The ring is the driver's own memory, so its place is checked once, here; each access is held to it by the DataView.
 */
export class SplitDriverRing {
  readonly addresses: QueueAddresses;
  /** The ring, from the descriptor table to the end of the used ring. */
  readonly #memory: GuestMemory;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Where the two rings begin in the view. */
  readonly #avail: number = 0;
  readonly #used: number = 0;
  readonly #mask: number = 0;
  #availIndex = 0;

  /**
   * Zeroes the ring's memory, as a driver does before it hands it over (4.2.3.2).
   * @param addresses inside `memory`; the size is a power of two
   */
  constructor(memory: GuestMemory, addresses: QueueAddresses) {
    const { desc, driver, device, size } = addresses;
    const bytes = memory.slice(desc, queueEnd(addresses) - desc);
    invariant(bytes !== undefined, 'a driver lays its ring out inside guest memory');
    this.addresses = addresses;
    this.#memory = memory;
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#avail = driver - desc;
    this.#used = device - desc;
    this.#mask = size - 1;
    this.clear();
  }

  /** The descriptor table, which the ring's memory begins with. */
  get table(): DataView {
    return this.#view;
  }

  /** The next value of the available index. */
  get availIndex(): number {
    return this.#availIndex;
  }

  clear(): void {
    this.#bytes.fill(0);
    this.#availIndex = 0;
  }

  setDescriptor(index: number, fields: DescriptorFields): void {
    this.writeDescriptor(index, fields.address, fields.lengthBytes, fields.flags ?? 0, fields.next ?? 0);
  }

  /** As {@link setDescriptor}, without an object for the fields. */
  writeDescriptor(index: number, address: number, lengthBytes: number, flags: number, next: number): void {
    writeSplitDescriptor(this.#view, DESC_BYTES * index, address, lengthBytes, flags, next);
  }

  /** Makes a chain available: the entry first, then the index (2.7.13). */
  offer(head: number): void {
    this.#view.setUint16(this.#avail + AVAIL_RING + 2 * (this.#availIndex & this.#mask), head, true);
    this.setAvailIndex(this.#availIndex + 1);
  }

  setAvailIndex(index: number): void {
    this.#availIndex = index & INDEX_MASK;
    this.#memory.storeU16(this.addresses.driver + AVAIL_IDX, this.#availIndex);
  }

  setAvailFlags(flags: number): void {
    this.#view.setUint16(this.#avail + AVAIL_FLAGS, flags, true);
  }

  /** used_event: the used entry at which the driver wants to be told (2.7.7). */
  setUsedEvent(index: number): void {
    this.#memory.storeU16(this.addresses.driver + AVAIL_RING + 2 * this.addresses.size, index);
  }

  /** avail_event: the available entry at which the device wants to be told (2.7.10). */
  get availEvent(): number {
    return this.#memory.loadU16(this.addresses.device + USED_RING + USED_ELEM_BYTES * this.addresses.size);
  }

  get usedIndex(): number {
    return this.#memory.loadU16(this.addresses.device + USED_IDX);
  }

  get usedFlags(): number {
    return this.#memory.loadU16(this.addresses.device + USED_FLAGS);
  }

  /** The head of the chain that the device gave back as its `index`th; the index counts freely. */
  usedId(index: number): number {
    return this.#view.getUint32(this.#usedEntry(index), true);
  }

  /** How many bytes the device says that it wrote into that chain. */
  usedLength(index: number): number {
    return this.#view.getUint32(this.#usedEntry(index) + 4, true);
  }

  #usedEntry(index: number): number {
    return this.#used + USED_RING + USED_ELEM_BYTES * (index & this.#mask);
  }
}

/** Writes a descriptor (virtio 2.7.5) into a table, the ring's or an indirect one. */
export function writeSplitDescriptor(
  table: DataView,
  at: number,
  address: number,
  lengthBytes: number,
  flags: number,
  next: number,
): void {
  setU64(table, at + DESC_ADDR, address);
  table.setUint32(at + DESC_LEN, lengthBytes, true);
  table.setUint16(at + DESC_FLAGS, flags, true);
  table.setUint16(at + DESC_NEXT, next, true);
}
