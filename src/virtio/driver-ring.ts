import { invariant } from '../core/index.ts';
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
 */
export class DriverRing {
  readonly addresses: QueueAddresses;
  readonly #memory: GuestMemory;
  readonly #mask: number;
  #availIndex = 0;

  /**
   * Zeroes the ring's memory, as a driver does before it hands it over (4.2.3.2).
   * @param addresses inside `memory`; the size is a power of two
   */
  constructor(memory: GuestMemory, addresses: QueueAddresses) {
    this.#memory = memory;
    this.addresses = addresses;
    this.#mask = addresses.size - 1;
    this.clear();
  }

  /** The next value of the available index. */
  get availIndex(): number {
    return this.#availIndex;
  }

  clear(): void {
    const { desc } = this.addresses;
    const bytes = this.#memory.slice(desc, queueEnd(this.addresses) - desc);
    invariant(bytes !== undefined, 'a driver lays its ring out inside guest memory');
    bytes.fill(0);
    this.#availIndex = 0;
  }

  setDescriptor(index: number, fields: DescriptorFields): void {
    this.#memory.writeU64(this.descriptorAddress(index) + DESC_ADDR, fields.address);
    this.setDescriptorBuffer(index, fields.lengthBytes, fields.flags ?? 0, fields.next ?? 0);
  }

  /** All but the address. */
  setDescriptorBuffer(index: number, lengthBytes: number, flags: number, next: number): void {
    const at = this.descriptorAddress(index);
    this.#memory.writeU32(at + DESC_LEN, lengthBytes);
    this.setDescriptorLink(index, flags, next);
  }

  setDescriptorLink(index: number, flags: number, next: number): void {
    const at = this.descriptorAddress(index);
    this.#memory.writeU16(at + DESC_FLAGS, flags);
    this.#memory.writeU16(at + DESC_NEXT, next);
  }

  /** Guest address of a descriptor. */
  descriptorAddress(index: number): number {
    return this.addresses.desc + DESC_BYTES * index;
  }

  /** Makes a chain available: the entry first, then the index (2.7.13). */
  offer(head: number): void {
    this.#memory.writeU16(this.addresses.driver + AVAIL_RING + 2 * (this.#availIndex & this.#mask), head);
    this.setAvailIndex(this.#availIndex + 1);
  }

  setAvailIndex(index: number): void {
    this.#availIndex = index & INDEX_MASK;
    this.#memory.writeU16(this.addresses.driver + AVAIL_IDX, this.#availIndex);
  }

  setAvailFlags(flags: number): void {
    this.#memory.writeU16(this.addresses.driver + AVAIL_FLAGS, flags);
  }

  get usedIndex(): number {
    return this.#memory.readU16(this.addresses.device + USED_IDX);
  }

  get usedFlags(): number {
    return this.#memory.readU16(this.addresses.device + USED_FLAGS);
  }

  /** The head of the chain that the device gave back as its `index`th; the index counts freely. */
  usedId(index: number): number {
    return this.#memory.readU32(this.#usedEntry(index));
  }

  /** How many bytes the device says that it wrote into that chain. */
  usedLength(index: number): number {
    return this.#memory.readU32(this.#usedEntry(index) + 4);
  }

  #usedEntry(index: number): number {
    return this.addresses.device + USED_RING + USED_ELEM_BYTES * (index & this.#mask);
  }
}
