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
export class DriverRing {
  readonly addresses: QueueAddresses;
  /** The ring, from the descriptor table to the end of the used ring. */
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
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#avail = driver - desc;
    this.#used = device - desc;
    this.#mask = size - 1;
    this.clear();
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
    setU64(this.#view, DESC_BYTES * index + DESC_ADDR, fields.address);
    this.setDescriptorBuffer(index, fields.lengthBytes, fields.flags ?? 0, fields.next ?? 0);
  }

  /** All but the address. */
  setDescriptorBuffer(index: number, lengthBytes: number, flags: number, next: number): void {
    this.#view.setUint32(DESC_BYTES * index + DESC_LEN, lengthBytes, true);
    this.setDescriptorLink(index, flags, next);
  }

  setDescriptorLink(index: number, flags: number, next: number): void {
    const at = DESC_BYTES * index;
    this.#view.setUint16(at + DESC_FLAGS, flags, true);
    this.#view.setUint16(at + DESC_NEXT, next, true);
  }

  /** Guest address of a descriptor. */
  descriptorAddress(index: number): number {
    return this.addresses.desc + DESC_BYTES * index;
  }

  /** Makes a chain available: the entry first, then the index (2.7.13). */
  offer(head: number): void {
    this.#view.setUint16(this.#avail + AVAIL_RING + 2 * (this.#availIndex & this.#mask), head, true);
    this.setAvailIndex(this.#availIndex + 1);
  }

  setAvailIndex(index: number): void {
    this.#availIndex = index & INDEX_MASK;
    this.#view.setUint16(this.#avail + AVAIL_IDX, this.#availIndex, true);
  }

  setAvailFlags(flags: number): void {
    this.#view.setUint16(this.#avail + AVAIL_FLAGS, flags, true);
  }

  get usedIndex(): number {
    return this.#view.getUint16(this.#used + USED_IDX, true);
  }

  get usedFlags(): number {
    return this.#view.getUint16(this.#used + USED_FLAGS, true);
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
