import { getU64, setU64, viewOf } from '../../core/index.ts';
import {
  DESC_BYTES,
  type DescriptorChain,
  type GuestMemory,
  PACKED_F_AVAIL,
  PACKED_F_USED,
  type QueueAddresses,
  type QueuePosition,
} from '../../virtio/index.ts';

/*
 * The area in which a back end tracks what it took and has not given back, kept by the front end while back ends come
 * and go. Layouts and steps are those of the protocol's documentation, "Inflight I/O tracking". Every store has to be in
 * memory in the order of the program: so it is for whoever looks after this process has been killed.
 */

/** Of a region: features (64 bits), version, number of entries; then what the format needs. */
const VERSION_AT = 8;
const ENTRIES_AT = 10;
const VERSION = 1;

const SPLIT_LAST_BATCH = 12;
const SPLIT_USED = 14;
const SPLIT_HEADER_BYTES = 16;
/** Of an entry: in flight (8 bits), next of the batch (16), counter (64). */
const SPLIT_ENTRY_BYTES = 16;
const SPLIT_NEXT = 6;
const SPLIT_COUNTER = 8;

const PACKED_USED = 16;
const PACKED_OLD_USED = 18;
const PACKED_WRAP = 20;
const PACKED_OLD_WRAP = 21;
const PACKED_HEADER_BYTES = 32;
const PACKED_ENTRY_BYTES = 32;

/** Id and length of a descriptor, in the first entry. */
const PACKED_SAVED_ID: number = PACKED_HEADER_BYTES + 16;
const PACKED_SAVED_LEN: number = PACKED_HEADER_BYTES + 20;

/** Regions begin at multiples of this. */
export const REGION_ALIGN = 64;

/** Offsets in guest memory: the used ring's index, and the fields of a packed descriptor. */
const USED_IDX = 2;
const PACKED_LEN = 8;
const PACKED_ID = 12;
const PACKED_FLAGS = 14;
const WRAP_BIT = 0x8000;

/** Where a queue goes on, as its tracker knows. */
export interface Resumption {
  readonly position: QueuePosition;
  /** First descriptors of requests to be taken again, in the order in which they were taken first. */
  readonly again: readonly number[];
}

/** What one queue keeps in its region. */
export interface InflightTracker {
  /**
   * Looks at what the region says, and mends what a back end left half done.
   * @returns undefined where no back end has used it so far; a string: why it can't be gone on with
   */
  resume(memory: GuestMemory, addresses: QueueAddresses): Resumption | string | undefined;
  /** Where the queue begins, where nothing was known. */
  begin(position: Required<QueuePosition>): void;
  /** A request was taken for the first time. */
  took(chain: DescriptorChain): void;
  /** It is about to be given back: before the driver can see it. */
  giving(chain: DescriptorChain): void;
  /** It has been given back. */
  gave(chain: DescriptorChain): void;
}

/** Bytes of one queue's region. */
export function inflightRegionBytes(queueSize: number, packed: boolean): number {
  const bytes = packed
    ? PACKED_HEADER_BYTES + queueSize * PACKED_ENTRY_BYTES
    : SPLIT_HEADER_BYTES + queueSize * SPLIT_ENTRY_BYTES;
  return Math.ceil(bytes / REGION_ALIGN) * REGION_ALIGN;
}

/** @param bytes {@link inflightRegionBytes} of them, from a multiple of {@link REGION_ALIGN} on */
export function inflightTracker(bytes: Uint8Array, queueSize: number, packed: boolean): InflightTracker {
  return packed ? new PackedInflight(bytes, queueSize) : new SplitInflight(bytes, queueSize);
}

class SplitInflight implements InflightTracker {
  readonly #view: DataView;
  readonly #queueSize: number;
  #counter = 1;
  #used = 0;

  constructor(bytes: Uint8Array, queueSize: number) {
    this.#view = viewOf(bytes);
    this.#queueSize = queueSize;
  }

  resume(memory: GuestMemory, addresses: QueueAddresses): Resumption | string | undefined {
    const known = whyUnknown(this.#view, this.#queueSize, addresses);
    if (known !== 'known') return known;
    // Outside of guest memory it is -1, and the queue will not start.
    const used = memory.loadU16(addresses.device + USED_IDX) & 0xffff;
    this.#endBatch(used);
    const again: { head: number; counter: number }[] = [];
    for (let head = 0; head < addresses.size; head++) {
      const at = entryAt(head);
      if (this.#view.getUint8(at) !== 0) again.push({ head, counter: getU64(this.#view, at + SPLIT_COUNTER) });
    }
    again.sort((a, b) => a.counter - b.counter);
    this.#used = used;
    this.#counter = Math.max(1, (again.at(-1)?.counter ?? 0) + 1);
    return { position: { avail: (used + again.length) & 0xffff, used }, again: again.map(({ head }) => head) };
  }

  begin({ used }: Required<QueuePosition>): void {
    const view = this.#view;
    this.#used = used;
    view.setUint16(ENTRIES_AT, this.#queueSize, true);
    view.setUint16(SPLIT_USED, used, true);
    view.setUint16(VERSION_AT, VERSION, true);
  }

  took({ id }: DescriptorChain): void {
    setU64(this.#view, entryAt(id) + SPLIT_COUNTER, this.#counter++);
    this.#view.setUint8(entryAt(id), 1);
  }

  giving({ id }: DescriptorChain): void {
    this.#view.setUint16(entryAt(id) + SPLIT_NEXT, this.#view.getUint16(SPLIT_LAST_BATCH, true), true);
    this.#view.setUint16(SPLIT_LAST_BATCH, id, true);
  }

  gave({ id }: DescriptorChain): void {
    this.#used = (this.#used + 1) & 0xffff;
    this.#view.setUint8(entryAt(id), 0);
    this.#view.setUint16(SPLIT_USED, this.#used, true);
  }

  /** What was given back, but not noted as such when the back end died, is not to be done again. */
  #endBatch(used: number): void {
    const view = this.#view;
    const count = (used - view.getUint16(SPLIT_USED, true)) & 0xffff;
    let head = view.getUint16(SPLIT_LAST_BATCH, true);
    // No batch is longer than the queue, whatever the area says.
    for (let i = 0; i < Math.min(count, this.#queueSize) && head < this.#queueSize; i++) {
      view.setUint8(entryAt(head), 0);
      head = view.getUint16(entryAt(head) + SPLIT_NEXT, true);
    }
    view.setUint16(SPLIT_USED, used, true);
  }
}

function entryAt(head: number): number {
  return SPLIT_HEADER_BYTES + head * SPLIT_ENTRY_BYTES;
}

/**
 * Of a packed ring, requests come back in the order in which they were taken, so that all that is in flight lies from the
 * next used entry on, and the region has to tell which that is. One descriptor may not be whole: the one that was being
 * made a used one. What stood there is in the first entry of the region meanwhile.
 */
class PackedInflight implements InflightTracker {
  readonly #view: DataView;
  readonly #queueSize: number;
  #memory: GuestMemory | undefined;
  #desc = 0;
  #ringSize = 0;
  /** As a ring has positions: the wrap counter in bit 15. */
  #used = 0;
  readonly #positions: BigUint64Array;
  readonly #word: BigUint64Array = new BigUint64Array(1);
  readonly #words: Uint32Array = new Uint32Array(this.#word.buffer);

  constructor(bytes: Uint8Array, queueSize: number) {
    this.#view = viewOf(bytes);
    this.#positions = new BigUint64Array(bytes.buffer, bytes.byteOffset + PACKED_USED, 1);
    this.#queueSize = queueSize;
  }

  resume(memory: GuestMemory, addresses: QueueAddresses): Resumption | string | undefined {
    this.#memory = memory;
    this.#desc = addresses.desc;
    this.#ringSize = addresses.size;
    const known = whyUnknown(this.#view, this.#queueSize, addresses);
    if (known !== 'known') return known;
    for (let i = 0; i < this.#queueSize; i++) {
      if (this.#view.getUint8(PACKED_HEADER_BYTES + i * PACKED_ENTRY_BYTES) === 0) continue;
      return 'requests are in flight that another kind of back end took, in an order of its own';
    }
    const old = this.#read(PACKED_OLD_USED, PACKED_OLD_WRAP);
    let position = this.#read(PACKED_USED, PACKED_WRAP);
    if (position !== old) {
      const descriptor = addresses.desc + DESC_BYTES * (old & ~WRAP_BIT);
      const flags = memory.loadU16(descriptor + PACKED_FLAGS);
      const availableFlags = (old & WRAP_BIT) !== 0 ? PACKED_F_AVAIL : PACKED_F_USED;
      // Still available: the driver has not seen it used, so it is not. Otherwise it is, or even offered anew.
      if ((flags & (PACKED_F_AVAIL | PACKED_F_USED)) === availableFlags) {
        this.#restore(memory, descriptor);
        position = old;
      }
    }
    this.#used = position;
    this.#write(position, position);
    return { position: { avail: position, used: position }, again: [] };
  }

  begin({ used }: Required<QueuePosition>): void {
    this.#used = used;
    this.#view.setUint16(ENTRIES_AT, this.#queueSize, true);
    this.#write(used, used);
    this.#view.setUint16(VERSION_AT, VERSION, true);
  }

  took(_chain: DescriptorChain): void {}

  giving({ entryCount }: DescriptorChain): void {
    const old = this.#used;
    const index = old & ~WRAP_BIT;
    this.#save(this.#desc + DESC_BYTES * index);
    const next = index + entryCount;
    this.#used = next >= this.#ringSize ? (next - this.#ringSize) | (~old & WRAP_BIT) : next | (old & WRAP_BIT);
    this.#write(this.#used, old);
  }

  gave(_chain: DescriptorChain): void {
    this.#write(this.#used, this.#used);
  }

  #read(index: number, wrap: number): number {
    return this.#view.getUint16(index, true) | (this.#view.getUint8(wrap) !== 0 ? WRAP_BIT : 0);
  }

  /** All four fields in one store: whoever comes after is not to find an index with the wrap counter of another. */
  #write(used: number, old: number): void {
    const words = this.#words;
    words[0] = (used & ~WRAP_BIT) | ((old & ~WRAP_BIT) << 16);
    words[1] = (used >>> 15) | ((old >>> 15) << 8);
    Atomics.store(this.#positions, 0, this.#word[0]!);
  }

  /** What a used entry is about to be written over: all but the address, and the flags, which are written last. */
  #save(descriptor: number): void {
    const memory = this.#memory;
    this.#view.setUint16(PACKED_SAVED_ID, memory?.readU16(descriptor + PACKED_ID) ?? 0, true);
    this.#view.setUint32(PACKED_SAVED_LEN, memory?.readU32(descriptor + PACKED_LEN) ?? 0, true);
  }

  #restore(memory: GuestMemory, descriptor: number): void {
    memory.writeU16(descriptor + PACKED_ID, this.#view.getUint16(PACKED_SAVED_ID, true));
    memory.writeU32(descriptor + PACKED_LEN, this.#view.getUint32(PACKED_SAVED_LEN, true));
  }
}

/** `known` where a back end has used the region as we would. */
function whyUnknown(view: DataView, queueSize: number, { size }: QueueAddresses): 'known' | string | undefined {
  if (size > queueSize) return `a ring of ${size} entries, tracked as one of ${queueSize}`;
  const version = view.getUint16(VERSION_AT, true);
  if (version === 0) return undefined;
  return version === VERSION ? 'known' : `version ${version} of the area that tracks it`;
}
