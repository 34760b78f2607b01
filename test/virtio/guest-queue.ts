import {
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  EVENT_F_DISABLE,
  EVENT_F_ENABLE,
  type GuestMemory,
  layOutPackedQueue,
  layOutQueue,
  PACKED_F_AVAIL,
  PACKED_F_USED,
  PackedDriverRing,
  type QueueAddresses,
  SplitDriverRing,
} from '../../src/virtio/index.ts';

export type RingKind = 'split' | 'packed';
export const RINGS: readonly RingKind[] = ['split', 'packed'];

/** A descriptor to be. */
export interface Segment {
  readonly address: number;
  readonly lengthBytes: number;
  readonly write: boolean;
}

/** What a driver sees of a request that was given back. */
export interface Used {
  readonly id: number;
  readonly lengthBytes: number;
}

/** A driver's queue for tests, of either format: honest, but for `spoil`. */
export interface GuestQueue {
  readonly addresses: QueueAddresses;
  clear(): void;
  /** Starts over with descriptors, once nothing is in flight. */
  recycle(): void;
  /** Puts a chain into the ring and makes it available. @returns what comes back with it */
  offer(segments: readonly Segment[]): number;
  /** Makes one available that is a single descriptor, which names a table. */
  offerTable(address: number, lengthBytes: number, flags?: number): number;
  takeUsed(): Used | undefined;
  /** Tells the device whether to notify. */
  suppress(on: boolean): void;
  /** Does to the ring what only a reset mends. */
  spoil(): void;
}

export function guestQueue(kind: RingKind, memory: GuestMemory, start: number, size: number): GuestQueue {
  return kind === 'split' ? new SplitGuestQueue(memory, start, size) : new PackedGuestQueue(memory, start, size);
}

function flagsOf(segments: readonly Segment[], index: number): number {
  return (segments[index]!.write ? DESC_F_WRITE : 0) | (index + 1 < segments.length ? DESC_F_NEXT : 0);
}

export class SplitGuestQueue implements GuestQueue {
  readonly ring: SplitDriverRing;
  #nextDescriptor = 0;
  #nextUsed = 0;

  constructor(memory: GuestMemory, start: number, size: number) {
    this.ring = new SplitDriverRing(memory, layOutQueue(start, size));
  }

  get addresses(): QueueAddresses {
    return this.ring.addresses;
  }

  clear(): void {
    this.ring.clear();
    this.#nextDescriptor = 0;
    this.#nextUsed = 0;
  }

  recycle(): void {
    this.#nextDescriptor = 0;
  }

  /** Writes a chain into the table, in descriptors that follow each other. @returns its head */
  place(segments: readonly Segment[]): number {
    const head = this.#nextDescriptor;
    const mask = this.addresses.size - 1;
    for (const [i, { address, lengthBytes }] of segments.entries()) {
      const next = i + 1 < segments.length ? (head + i + 1) & mask : 0;
      this.ring.setDescriptor((head + i) & mask, { address, lengthBytes, flags: flagsOf(segments, i), next });
    }
    this.#nextDescriptor = (head + segments.length) & mask;
    return head;
  }

  offer(segments: readonly Segment[]): number {
    const head = this.place(segments);
    this.ring.offer(head);
    return head;
  }

  offerTable(address: number, lengthBytes: number, flags = 0): number {
    const head = this.#nextDescriptor++;
    this.ring.setDescriptor(head, { address, lengthBytes, flags: flags | DESC_F_INDIRECT });
    this.ring.offer(head);
    return head;
  }

  takeUsed(): Used | undefined {
    if (this.ring.usedIndex === this.#nextUsed) return undefined;
    const used = { id: this.ring.usedId(this.#nextUsed), lengthBytes: this.ring.usedLength(this.#nextUsed) };
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    return used;
  }

  suppress(on: boolean): void {
    this.ring.setAvailFlags(on ? 1 : 0);
  }

  spoil(): void {
    this.ring.offer(0xffff);
  }
}

export class PackedGuestQueue implements GuestQueue {
  readonly ring: PackedDriverRing;
  readonly #lengths = new Map<number, number>();
  #nextId = 0;
  #nextUsed = 0;
  #usedWrap = true;

  constructor(memory: GuestMemory, start: number, size: number) {
    this.ring = new PackedDriverRing(memory, layOutPackedQueue(start, size));
    this.ring.clear();
  }

  get addresses(): QueueAddresses {
    return this.ring.addresses;
  }

  clear(): void {
    this.ring.clear();
    this.#lengths.clear();
    this.#nextId = 0;
    this.#nextUsed = 0;
    this.#usedWrap = true;
  }

  /** A packed ring goes on where it stands. */
  recycle(): void {}

  offer(segments: readonly Segment[]): number {
    const id = this.#nextId++ & 0xffff;
    for (const [i, { address, lengthBytes }] of segments.entries()) {
      this.ring.append(address, lengthBytes, id, flagsOf(segments, i));
    }
    this.#lengths.set(id, this.ring.offer());
    return id;
  }

  offerTable(address: number, lengthBytes: number, flags = 0): number {
    const id = this.#nextId++ & 0xffff;
    this.ring.append(address, lengthBytes, id, flags | DESC_F_INDIRECT);
    this.#lengths.set(id, this.ring.offer());
    return id;
  }

  takeUsed(): Used | undefined {
    const flags = this.ring.flags(this.#nextUsed);
    const mark = PACKED_F_AVAIL | PACKED_F_USED;
    if ((flags & mark) !== (this.#usedWrap ? mark : 0)) return undefined;
    const id = this.ring.id(this.#nextUsed);
    const lengthBytes = (flags & DESC_F_WRITE) === 0 ? 0 : this.ring.lengthBytes(this.#nextUsed);
    const next = this.#nextUsed + (this.#lengths.get(id) ?? 1);
    this.#usedWrap = this.#usedWrap !== next >= this.addresses.size;
    this.#nextUsed = next % this.addresses.size;
    return { id, lengthBytes };
  }

  suppress(on: boolean): void {
    this.ring.setDriverEvent(0, on ? EVENT_F_DISABLE : EVENT_F_ENABLE);
  }

  spoil(): void {
    this.ring.append(0x8000, 16, 0, DESC_F_INDIRECT | DESC_F_NEXT);
    this.ring.offer();
  }
}
