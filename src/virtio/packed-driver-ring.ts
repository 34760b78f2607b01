import { invariant, setU64, viewOf } from '../core/index.ts';
import type { GuestMemory } from './memory.ts';
import {
  availFlags,
  EVENT_ALIGN,
  EVENT_BYTES,
  EVENT_DESC,
  EVENT_FLAGS,
  PACKED_ADDR,
  PACKED_FLAGS,
  PACKED_ID,
  PACKED_LEN,
  packPosition,
} from './packed-layout.ts';
import type { DescriptorFields } from './split-driver-ring.ts';
import { alignUp, DESC_ALIGN, DESC_BYTES, type QueueAddresses } from './split-layout.ts';

/** Lays the three parts of a packed queue out one behind the other, from `start` on. */
export function layOutPackedQueue(start: number, size: number): QueueAddresses {
  const desc = alignUp(start, DESC_ALIGN);
  const driver = alignUp(desc + DESC_BYTES * size, EVENT_ALIGN);
  return { size, desc, driver, device: driver + EVENT_BYTES };
}

/**
 * The driver's side of a packed virtqueue (virtio 2.8), raw: it puts into the ring what it is told to, valid or not. The
 * block driver is built on it, and so are tests that play a hostile driver.
 */
export class PackedDriverRing {
  readonly addresses: QueueAddresses;
  readonly #memory: GuestMemory;
  /** The ring and both event structures. */
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #next = 0;
  #wrap = true;
  #chainCount = 0;
  #chainFirst = 0;
  #chainFlags = 0;

  /**
   * Zeroes the ring's memory, as a driver does before it hands it over (2.8.13).
   * @param addresses inside `memory`, as {@link layOutPackedQueue} makes them
   */
  constructor(memory: GuestMemory, addresses: QueueAddresses) {
    const bytes = memory.slice(addresses.desc, addresses.device + EVENT_BYTES - addresses.desc);
    invariant(bytes !== undefined, 'a driver lays its ring out inside guest memory');
    this.addresses = addresses;
    this.#memory = memory;
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  /** Where the next descriptor goes: the entry, and the wrap counter in bit 15. */
  get position(): number {
    return packPosition(this.#next, this.#wrap);
  }

  clear(): void {
    this.#bytes.fill(0);
    this.#next = 0;
    this.#wrap = true;
    this.#chainCount = 0;
  }

  /**
   * Puts a descriptor behind the last one. The first of a chain becomes available with {@link offer} only (2.8.6).
   * @param flags all but those of the wrap counter
   */
  append(address: number, lengthBytes: number, id: number, flags: number): void {
    const whole = flags | availFlags(this.#wrap);
    const at = DESC_BYTES * this.#next;
    setU64(this.#view, at + PACKED_ADDR, address);
    this.#view.setUint32(at + PACKED_LEN, lengthBytes, true);
    this.#view.setUint16(at + PACKED_ID, id, true);
    if (this.#chainCount++ > 0) {
      this.#view.setUint16(at + PACKED_FLAGS, whole, true);
    } else {
      this.#chainFirst = this.#next;
      this.#chainFlags = whole;
    }
    if (++this.#next === this.addresses.size) {
      this.#next = 0;
      this.#wrap = !this.#wrap;
    }
  }

  /** Makes what was appended available. @returns how many descriptors that are */
  offer(): number {
    const count = this.#chainCount;
    this.#chainCount = 0;
    if (count > 0) this.setFlags(this.#chainFirst, this.#chainFlags);
    return count;
  }

  /** Writes one as it is, flags of the wrap counter and all. */
  setDescriptor(index: number, fields: DescriptorFields & { readonly id?: number }): void {
    const at = DESC_BYTES * index;
    setU64(this.#view, at + PACKED_ADDR, fields.address);
    this.#view.setUint32(at + PACKED_LEN, fields.lengthBytes, true);
    this.#view.setUint16(at + PACKED_ID, fields.id ?? 0, true);
    this.setFlags(index, fields.flags ?? 0);
  }

  setFlags(index: number, flags: number): void {
    this.#memory.storeU16(this.addresses.desc + DESC_BYTES * index + PACKED_FLAGS, flags);
  }

  flags(index: number): number {
    return this.#memory.loadU16(this.addresses.desc + DESC_BYTES * index + PACKED_FLAGS);
  }

  id(index: number): number {
    return this.#view.getUint16(DESC_BYTES * index + PACKED_ID, true);
  }

  lengthBytes(index: number): number {
    return this.#view.getUint32(DESC_BYTES * index + PACKED_LEN, true);
  }

  /** When the driver wants to be told of used descriptors (2.8.10): the place first, then what makes it valid. */
  setDriverEvent(position: number, flags: number): void {
    this.#memory.storeU16(this.addresses.driver + EVENT_DESC, position);
    this.#memory.storeU16(this.addresses.driver + EVENT_FLAGS, flags);
  }

  /** When the device wants to be told of available ones. */
  get deviceEventFlags(): number {
    return this.#memory.loadU16(this.addresses.device + EVENT_FLAGS);
  }

  get deviceEventPosition(): number {
    return this.#memory.loadU16(this.addresses.device + EVENT_DESC);
  }
}

/** Writes a descriptor into an indirect table (virtio 2.8.7): all but WRITE is reserved in its flags, and its id is. */
export function writePackedTableEntry(
  table: DataView,
  at: number,
  address: number,
  lengthBytes: number,
  flags: number,
): void {
  setU64(table, at + PACKED_ADDR, address);
  table.setUint32(at + PACKED_LEN, lengthBytes, true);
  table.setUint16(at + PACKED_ID, 0, true);
  table.setUint16(at + PACKED_FLAGS, flags, true);
}
