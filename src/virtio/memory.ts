import { assertBytes, assertInteger, viewOf } from '../core/index.ts';

const WORD = 0x1_0000_0000;

/**
 * Guest-physical memory, the one thing that driver and device share beside registers. Every access is checked, always:
 * addresses come from a driver that is not trusted, so a bad one is a value to handle and never an exception.
 *
 * An address is a safe integer, or -1 for what is no address at all: outside every region, like any other bad one.
 * Memory has one region or several; a range has to lie in one of them.
 *
 * Order: a peer in another thread or process may write this memory at any time. What it publishes is read with
 * `loadU16`, and what is published to it is written with `storeU16`: nothing moves over either, in both directions. The
 * other accesses promise no order between two of those.
 */
export interface GuestMemory {
  /** How many bytes from there on lie in the same region; 0 outside. */
  reach(address: number): number;
  /** Whether all of the range lies in one region. An empty range does where its address does. */
  contains(address: number, lengthBytes: number): boolean;
  /**
   * A view of a range, or undefined where the range is not all inside. It is guest memory itself: what is written
   * through it is seen by the guest, and what the guest changes is seen through it.
   */
  slice(address: number, lengthBytes: number): Uint8Array | undefined;
  /** The byte there, or -1 outside. */
  readU8(address: number): number;
  /** The little-endian word there, or -1 outside. */
  readU16(address: number): number;
  /** The little-endian word there, or -1 outside. */
  readU32(address: number): number;
  /** The little-endian 64-bit word there; -1 outside, and for a value above 2^53 - 1. */
  readU64(address: number): number;
  /** False outside: nothing was written. So for the wider ones. */
  writeU8(address: number, value: number): boolean;
  writeU16(address: number, value: number): boolean;
  writeU32(address: number, value: number): boolean;
  /** `value` is a safe, non-negative integer. */
  writeU64(address: number, value: number): boolean;
  /** As {@link readU16} of an even address, ordered (see above). */
  loadU16(address: number): number;
  /** As {@link writeU16} to an even address, ordered (see above). */
  storeU16(address: number, value: number): boolean;
}

/** Joins the two words of a 64-bit value; -1 where it is above 2^53 - 1. */
export function joinWords(high: number, low: number): number {
  // Almost always; and the sum would turn a small integer into a boxed double for all that is computed from it.
  if (high === 0) return low;
  return high > 0x1f_ffff ? -1 : high * WORD + low;
}

export function lowWord(value: number): number {
  return value >>> 0;
}

export function highWord(value: number): number {
  return Math.floor(value / WORD);
}

/** Atomics see memory in the machine's byte order, virtio is little-endian. */
const IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

export interface FlatMemoryOptions {
  /**
   * Another thread or process has this memory too: ordered accesses are then atomic. Default: whether the bytes are a
   * SharedArrayBuffer's. To be set for memory that was mapped, which no type tells.
   */
  readonly shared?: boolean;
}

/** Guest memory of one region. An access in the order of the program is all that one thread needs. */
export class FlatMemory implements GuestMemory {
  /** Guest-physical address of the first byte. */
  readonly base: number = 0;
  readonly sizeBytes: number = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** All of the buffer that holds the bytes, for atomic access; undefined where nobody else has it. */
  readonly #words: Uint16Array | undefined;
  /** Where the bytes begin in it. */
  readonly #wordsOffset: number = 0;
  /** The slice made last: making one costs more than a whole descriptor, and the next is often the same. */
  #slice: Uint8Array;
  #sliceAddress = -1;

  /**
   * @param memory how many bytes to allocate, or the bytes themselves, which then are the guest's from here on
   * @param base guest-physical address of the first byte; may lie above 4 GiB
   * @throws TypeError, RangeError, also where what is even to the guest is odd in the buffer of shared memory
   */
  constructor(memory: number | Uint8Array, base = 0, options: FlatMemoryOptions = {}) {
    if (typeof memory === 'number') assertInteger(memory, 'memory', 1, 2 ** 32);
    else assertBytes(memory, 'memory');
    this.#bytes = typeof memory === 'number' ? new Uint8Array(memory) : memory;
    this.#view = viewOf(this.#bytes);
    this.#slice = this.#bytes.subarray(0, 0);
    this.sizeBytes = this.#bytes.length;
    assertInteger(base, 'base', 0, Number.MAX_SAFE_INTEGER - this.sizeBytes);
    this.base = base;
    const { buffer, byteOffset } = this.#bytes;
    if ((options.shared ?? buffer instanceof SharedArrayBuffer) && IS_LITTLE_ENDIAN) {
      if ((byteOffset - base) % 2 !== 0) {
        throw new RangeError(`base: expected one that is even as the bytes' offset is, got ${base} for ${byteOffset}`);
      }
      // Of an odd last byte no word begins.
      this.#words = new Uint16Array(buffer, 0, Math.floor(buffer.byteLength / 2));
      this.#wordsOffset = byteOffset;
    }
  }

  reach(address: number): number {
    const offset = offsetIn(this, address, 1);
    return offset < 0 ? 0 : this.sizeBytes - offset;
  }

  contains(address: number, lengthBytes: number): boolean {
    return offsetIn(this, address, lengthBytes) >= 0;
  }

  slice(address: number, lengthBytes: number): Uint8Array | undefined {
    const offset = offsetIn(this, address, lengthBytes);
    if (offset < 0) return undefined;
    if (address !== this.#sliceAddress || lengthBytes !== this.#slice.length) {
      this.#slice = this.#bytes.subarray(offset, offset + lengthBytes);
      this.#sliceAddress = address;
    }
    return this.#slice;
  }

  readU8(address: number): number {
    const offset = offsetIn(this, address, 1);
    return offset < 0 ? -1 : this.#view.getUint8(offset);
  }

  readU16(address: number): number {
    const offset = offsetIn(this, address, 2);
    return offset < 0 ? -1 : this.#view.getUint16(offset, true);
  }

  readU32(address: number): number {
    const offset = offsetIn(this, address, 4);
    return offset < 0 ? -1 : this.#view.getUint32(offset, true);
  }

  readU64(address: number): number {
    const offset = offsetIn(this, address, 8);
    if (offset < 0) return -1;
    return joinWords(this.#view.getUint32(offset + 4, true), this.#view.getUint32(offset, true));
  }

  writeU8(address: number, value: number): boolean {
    const offset = offsetIn(this, address, 1);
    if (offset < 0) return false;
    this.#view.setUint8(offset, value);
    return true;
  }

  writeU16(address: number, value: number): boolean {
    const offset = offsetIn(this, address, 2);
    if (offset < 0) return false;
    this.#view.setUint16(offset, value, true);
    return true;
  }

  writeU32(address: number, value: number): boolean {
    const offset = offsetIn(this, address, 4);
    if (offset < 0) return false;
    this.#view.setUint32(offset, value, true);
    return true;
  }

  writeU64(address: number, value: number): boolean {
    const offset = offsetIn(this, address, 8);
    if (offset < 0) return false;
    this.#view.setUint32(offset, lowWord(value), true);
    this.#view.setUint32(offset + 4, highWord(value), true);
    return true;
  }

  loadU16(address: number): number {
    const offset = offsetIn(this, address, 2);
    if (offset < 0) return -1;
    if (this.#words === undefined) return this.#view.getUint16(offset, true);
    return Atomics.load(this.#words, (this.#wordsOffset + offset) >>> 1);
  }

  storeU16(address: number, value: number): boolean {
    const offset = offsetIn(this, address, 2);
    if (offset < 0) return false;
    if (this.#words === undefined) this.#view.setUint16(offset, value, true);
    else Atomics.store(this.#words, (this.#wordsOffset + offset) >>> 1, value);
    return true;
  }
}

/**
 * Where a range starts in the buffer; -1 where not all of it is inside. No sum here can overflow or wrap.
 *
 * A function, not a private method: those check the class of their object at each of a request's 40 calls.
 */
function offsetIn(memory: FlatMemory, address: number, lengthBytes: number): number {
  const offset = address - memory.base;
  return address >= 0 && offset >= 0 && lengthBytes >= 0 && offset <= memory.sizeBytes - lengthBytes ? offset : -1;
}
