import { type GuestMemory, joinWords } from './memory.ts';

/**
 * One direction of a request, as the stream of bytes that it is: how the driver cut it into descriptors carries no
 * meaning (virtio 2.7.4.1). A position moves forward over it.
 *
 * A segment outside guest memory counts in the lengths and is touched by nobody: to read or write there fails.
 */
export class SegmentStream {
  /** Of all segments, reachable or not. */
  totalBytes = 0;
  /** Bytes from the position to the end of its segment; 0 at the end of the stream. Only the stream sets it. */
  contiguousBytes = 0;
  /** Guest address of the last byte; -1 where there is none, or none that may be touched. Only the stream sets it. */
  lastAddress = -1;
  readonly #memory: GuestMemory;
  /** Guest addresses; -1 where the segment must not be touched. The driver's word for both was read once, here. */
  readonly #addresses: number[] = [];
  readonly #lengths: number[] = [];
  #count = 0;
  /** Segment of the position, and its guest address; -1 where it must not be touched. */
  #index = 0;
  #address = -1;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  clear(): void {
    this.totalBytes = 0;
    this.lastAddress = -1;
    this.#count = 0;
    this.rewind();
  }

  /** @param address -1 for a segment that must not be touched */
  add(address: number, lengthBytes: number): void {
    // An empty segment carries nothing; left out, none of the steps below has to pass over it.
    if (lengthBytes === 0) return;
    this.#addresses[this.#count] = address;
    this.#lengths[this.#count++] = lengthBytes;
    this.totalBytes += lengthBytes;
    this.lastAddress = address < 0 ? -1 : address + lengthBytes - 1;
    if (this.#index === this.#count - 1) this.#enter(this.#index);
  }

  rewind(): void {
    this.#enter(0);
  }

  /** A view of the next bytes, all in one segment, and moves past them; undefined where they cannot be had. */
  takeView(lengthBytes: number): Uint8Array | undefined {
    if (lengthBytes > this.contiguousBytes) return undefined;
    const view = this.#address < 0 ? undefined : this.#memory.slice(this.#address, lengthBytes);
    this.#move(lengthBytes);
    return view;
  }

  /** Reads a little-endian 32-bit word and moves past it; -1 where the stream does not have it. */
  takeU32(): number {
    if (this.contiguousBytes < 4) return this.#takeSplitU32();
    const value = this.#address < 0 ? -1 : this.#memory.readU32(this.#address);
    this.#move(4);
    return value;
  }

  /** Reads a little-endian 64-bit word and moves past it; -1 where there is none, or one above 2^53 - 1. */
  takeU64(): number {
    if (this.contiguousBytes >= 8) {
      const value = this.#address < 0 ? -1 : this.#memory.readU64(this.#address);
      this.#move(8);
      return value;
    }
    const low = this.takeU32();
    const high = this.takeU32();
    return low < 0 || high < 0 ? -1 : joinWords(high, low);
  }

  /** Copies out the next bytes, across segments. False: not all could be had. */
  read(target: Uint8Array): boolean {
    return this.#copy(target, true);
  }

  /** Copies in, across segments. False: not all could be written. */
  write(source: Uint8Array): boolean {
    return this.#copy(source, false);
  }

  #copy(buffer: Uint8Array, toBuffer: boolean): boolean {
    for (let done = 0; done < buffer.length; ) {
      const lengthBytes = Math.min(this.contiguousBytes, buffer.length - done);
      const view = lengthBytes > 0 ? this.takeView(lengthBytes) : undefined;
      if (view === undefined) return false;
      if (toBuffer) buffer.set(view, done);
      else view.set(buffer.subarray(done, done + lengthBytes));
      done += lengthBytes;
    }
    return true;
  }

  #takeSplitU32(): number {
    let value = 0;
    for (let i = 0; i < 4; i++) {
      if (this.contiguousBytes === 0) return -1;
      const byte = this.#address < 0 ? -1 : this.#memory.readU8(this.#address);
      if (byte < 0) return -1;
      this.#move(1);
      value += byte * 2 ** (8 * i);
    }
    return value;
  }

  #move(lengthBytes: number): void {
    if (lengthBytes >= this.contiguousBytes) {
      this.#enter(this.#index + 1);
      return;
    }
    this.contiguousBytes -= lengthBytes;
    if (this.#address >= 0) this.#address += lengthBytes;
  }

  /** Puts the position at the start of a segment; behind the last one there is nothing. */
  #enter(index: number): void {
    const isThere = index < this.#count;
    this.#index = index;
    this.#address = isThere ? this.#addresses[index]! : -1;
    this.contiguousBytes = isThere ? this.#lengths[index]! : 0;
  }
}

/** A request as a queue hands it out. Reusable: a queue fills it in, over and over, and allocates nothing. */
export class DescriptorChain {
  /**
   * What the queue gets back when the request is done: of a split queue the index of the first descriptor, of a packed
   * one the buffer id.
   */
  id = 0;
  /** Which life of the queue the chain is from; the queue's own business. */
  generation = 0;
  /** Entries of the ring that it took up; the queue's own business. */
  entryCount = 0;
  /** Whether a descriptor cannot be served as it stands: outside memory, in the ring's own memory, out of order. */
  faulty = false;
  /** What the driver wrote: the device may only read it. */
  readonly readable: SegmentStream;
  /** What the driver wants written: the device may only write it. */
  readonly writable: SegmentStream;

  constructor(memory: GuestMemory) {
    this.readable = new SegmentStream(memory);
    this.writable = new SegmentStream(memory);
  }

  clear(id: number, generation: number): void {
    this.id = id;
    this.generation = generation;
    this.entryCount = 0;
    this.faulty = false;
    this.readable.clear();
    this.writable.clear();
  }

  /**
   * Makes this one stand for another when it is given back: what a queue wants to know then, without the segments. For
   * who serves requests first and gives them back later.
   */
  copyReturn(chain: DescriptorChain): void {
    this.id = chain.id;
    this.generation = chain.generation;
    this.entryCount = chain.entryCount;
    this.writable.totalBytes = chain.writable.totalBytes;
    this.writable.lastAddress = chain.writable.lastAddress;
  }
}
