import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  checkWritable,
  type DeviceFeatures,
  type WriteOptions,
  type WriteZeroesOptions,
} from '../blockdev/index.ts';
import { assertInteger, DeviceError, viewOf } from '../core/index.ts';
import { BlkChannel, type VirtioBlkDriverOptions } from './blk-channel.ts';
import type { BlkTraits } from './blk-handshake.ts';
import {
  BLK_T_DISCARD,
  BLK_T_FLUSH,
  BLK_T_GET_ID,
  BLK_T_GET_LIFETIME,
  BLK_T_IN,
  BLK_T_OUT,
  BLK_T_SECURE_ERASE,
  BLK_T_WRITE_ZEROES,
  ID_BYTES,
  LIFETIME_BYTES,
  RANGE_BYTES,
  RANGE_COUNT,
  RANGE_F_UNMAP,
  RANGE_FLAGS,
  RANGE_SECTOR,
  UNIT_BYTES,
} from './blk-layout.ts';
import { type BlkLifetime, decodeLifetime } from './blk-lifetime.ts';
import type { BlkSlots } from './blk-slots.ts';
import { type GuestMemory, highWord, lowWord } from './memory.ts';
import type { RegisterBus } from './model.ts';

/** A request in flight: hand it to `finish` once `poll` returned it. */
export type Ticket = number;

/**
 * The virtio block driver (virtio 5.2) as a {@link BlockDevice}. It knows the device by its registers, its interrupt
 * line and guest memory, nothing else, and believes it no more than the device believes the driver.
 *
 * A transfer longer than one request is split, its requests in flight together. An I/O error that the device reports is
 * EIO. After a device that broke its own rules, never answered, or asked for a reset, every operation throws the same
 * EIO until `restart`; after a halt of the simulated machine ({@link RegisterBus.halted}), the error that it halted on.
 */
export class VirtioBlkDriver implements BlockDevice {
  readonly #channel: BlkChannel;
  readonly #slots: BlkSlots;
  #features: DeviceFeatures;
  /** Slots of the transfer under way, in the order of their chunks: a ring. */
  readonly #own: number[] = [];
  /** For each slot, the bytes that a ticket's read is to deliver; 0 for other tickets, -1 where it is no ticket. */
  readonly #ticketBytes: number[] = [];
  /** Tickets that are done and not yet polled, in the order of their completion. */
  readonly #doneTickets: Ticket[] = [];

  /**
   * Runs the whole initialisation.
   * @param memory the driver uses `driverMemoryBytes(options)` of it, from `options.start` on
   * @throws DeviceError EIO where the device is no block device, refuses, or leaves no room for a request
   */
  constructor(bus: RegisterBus, memory: GuestMemory, options: VirtioBlkDriverOptions = {}) {
    this.#channel = new BlkChannel(bus, memory, options, (slot) => {
      if (this.#ticketBytes[slot]! >= 0) this.#doneTickets.push(slot);
    });
    this.#slots = this.#channel.slots;
    this.#features = featuresOf(this.#channel.traits);
    this.#forgetTickets();
  }

  get sectorBytes(): number {
    return this.#channel.traits.sectorBytes;
  }

  get physicalSectorBytes(): number {
    return this.#channel.traits.physicalSectorBytes;
  }

  get sectorCount(): number {
    return this.#channel.sectorCount;
  }

  get readOnly(): boolean {
    return this.#channel.traits.readOnly;
  }

  get features(): DeviceFeatures {
    return this.#features;
  }

  /** Requests that can be in flight at once. */
  get slotCount(): number {
    return this.#slots.slotCount;
  }

  /** Queues in use. */
  get queueCount(): number {
    return this.#slots.queues.length;
  }

  /** Most bytes that one request carries: the limit of `submitRead` and `submitWrite`. */
  get requestBytesMax(): number {
    return this.#slots.chunkBytes;
  }

  /** Resets the device and initialises it anew, whatever state it or the driver is in. Tickets are void. */
  restart(): void {
    this.#channel.restart();
    this.#features = featuresOf(this.#channel.traits);
    this.#forgetTickets();
  }

  read(sector: number, target: Uint8Array): void {
    this.#channel.checkUsable();
    checkTransfer(this, sector, target);
    this.#transfer(BLK_T_IN, sector, target);
  }

  /** With `fua`, a write and a flush: virtio-blk has no FUA. */
  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#channel.checkUsable();
    checkWritable(this);
    checkTransfer(this, sector, source);
    const durable = options?.fua === true;
    if (durable && !this.#features.fua) throw notSupported('a FUA write', 'FLUSH');
    this.#transfer(BLK_T_OUT, sector, source);
    if (durable && this.#features.writeCache) this.flush();
  }

  flush(): void {
    this.#channel.checkUsable();
    if (!this.#features.flush) throw notSupported('flush', 'FLUSH');
    // Declined, there is no cache to flush (5.2.6.2, case 1).
    if (this.#channel.traits.flushes) this.#single(BLK_T_FLUSH, 0);
  }

  discard(sector: number, sectorCount: number): void {
    this.#channel.checkUsable();
    if (!this.#features.discard) throw notSupported('discard', 'DISCARD');
    checkWritable(this);
    checkRange(this, sector, sectorCount);
    this.#ranges(BLK_T_DISCARD, sector, sectorCount, this.#channel.traits.discardUnitsMax, 0);
  }

  writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void {
    this.#channel.checkUsable();
    if (!this.#features.writeZeroes) throw notSupported('writeZeroes', 'WRITE_ZEROES');
    checkWritable(this);
    checkRange(this, sector, sectorCount);
    const flags = options?.unmap === true ? RANGE_F_UNMAP : 0;
    this.#ranges(BLK_T_WRITE_ZEROES, sector, sectorCount, this.#channel.traits.zeroUnitsMax, flags);
  }

  /** Resets the device, so that it touches the memory no more. The backend behind it stays open. */
  close(): void {
    this.#channel.close();
  }

  /** The device's own name for itself (5.2.6). */
  getId(): string {
    this.#channel.checkUsable();
    const slot = this.#single(BLK_T_GET_ID, ID_BYTES);
    const field = this.#slots.data(slot, ID_BYTES);
    const end = field.indexOf(0);
    return Buffer.from(field.subarray(0, end < 0 ? ID_BYTES : end)).toString('latin1');
  }

  /** How worn the medium is. @throws DeviceError ENOTSUP where LIFETIME was not negotiated */
  getLifetime(): BlkLifetime {
    this.#channel.checkUsable();
    if (!this.#channel.traits.hasLifetime) throw notSupported('getLifetime', 'LIFETIME');
    const slot = this.#single(BLK_T_GET_LIFETIME, LIFETIME_BYTES);
    return decodeLifetime(this.#slots.data(slot, LIFETIME_BYTES));
  }

  /**
   * Erases sectors so that nothing of their content is left anywhere on the medium; durable when it returns.
   * @throws DeviceError ENOTSUP where SECURE_ERASE was not negotiated
   */
  secureErase(sector: number, sectorCount: number): void {
    this.#channel.checkUsable();
    if (this.#channel.traits.eraseUnitsMax === 0) throw notSupported('secureErase', 'SECURE_ERASE');
    checkWritable(this);
    checkRange(this, sector, sectorCount);
    this.#ranges(BLK_T_SECURE_ERASE, sector, sectorCount, this.#channel.traits.eraseUnitsMax, 0);
  }

  /**
   * Gives up what is in flight on one queue, and sets it up anew. Its tickets are void; what became of their requests is
   * not known.
   * @throws DeviceError ENOTSUP where RING_RESET was not negotiated
   */
  resetQueue(index: number): void {
    this.#channel.checkUsable();
    if (!this.#channel.traits.resetsQueues) throw notSupported('resetQueue', 'RING_RESET');
    assertInteger(index, 'index', 0, this.queueCount - 1);
    this.#channel.resetQueue(index, (slot) => {
      this.#ticketBytes[slot] = -1;
    });
  }

  /**
   * Switches the cache between write-back and write-through (CONFIG_WCE). What was written before stays volatile until
   * a flush (5.2.6.1).
   * @throws DeviceError ENOTSUP where that was not negotiated
   */
  setWriteCache(on: boolean): void {
    this.#channel.checkUsable();
    if (!this.#channel.traits.switchesCache) throw notSupported('setWriteCache', 'CONFIG_WCE');
    this.#features = featuresOf({ ...this.#channel.traits, writeCache: this.#channel.switchCache(on) });
  }

  /** Puts a read of `sectorCount` sectors in flight. @throws DeviceError EBUSY where all slots are taken */
  submitRead(sector: number, sectorCount: number): Ticket {
    this.#channel.checkUsable();
    checkRange(this, sector, sectorCount);
    const lengthBytes = sectorCount * this.sectorBytes;
    const slot = this.#channel.acquire(lengthBytes);
    this.#ticketBytes[slot] = lengthBytes;
    this.#submit(slot, BLK_T_IN, sector, lengthBytes);
    return slot;
  }

  /** Puts a write in flight; `source` is free at once. @throws DeviceError EBUSY where all slots are taken */
  submitWrite(sector: number, source: Uint8Array): Ticket {
    this.#channel.checkUsable();
    checkWritable(this);
    checkTransfer(this, sector, source);
    const slot = this.#channel.acquire(source.length);
    this.#slots.fill(slot, source);
    this.#ticketBytes[slot] = 0;
    this.#submit(slot, BLK_T_OUT, sector, source.length);
    return slot;
  }

  /** Puts a flush in flight: it covers what was done before, not what is in flight with it (5.2.6.2, case 3). */
  submitFlush(): Ticket {
    this.#channel.checkUsable();
    if (!this.#channel.traits.flushes) throw notSupported('submitFlush', 'FLUSH');
    const slot = this.#channel.acquire(0);
    this.#ticketBytes[slot] = 0;
    this.#submit(slot, BLK_T_FLUSH, 0, 0);
    return slot;
  }

  /** Notifies the device of what was submitted, and returns the next ticket that is done, if there is one. */
  poll(): Ticket | undefined {
    this.#channel.checkUsable();
    if (this.#doneTickets.length === 0) this.#channel.pump();
    return this.#doneTickets.shift();
  }

  /**
   * Ends a ticket that `poll` returned; its slot is free again.
   * @param target of a read: gets the data; exactly as long as what was asked for
   * @throws DeviceError EIO or ENOTSUP where the request failed
   */
  finish(ticket: Ticket, target?: Uint8Array): void {
    this.#channel.checkUsable();
    const readBytes = this.#ticketBytes[ticket] ?? -1;
    if (readBytes < 0 || !this.#slots.isDone(ticket) || this.#doneTickets.includes(ticket)) {
      throw new RangeError(`ticket: expected one that poll returned, got ${ticket}`);
    }
    if ((target?.length ?? 0) !== readBytes) {
      throw new RangeError(`target: expected ${readBytes} bytes, got ${target?.length ?? 'none'}`);
    }
    const failure = this.#slots.failure(ticket);
    if (failure === undefined) target?.set(this.#slots.data(ticket, readBytes));
    this.#slots.release(ticket);
    this.#ticketBytes[ticket] = -1;
    if (failure !== undefined) throw failure;
  }

  #forgetTickets(): void {
    this.#own.length = this.#slots.slotCount;
    this.#ticketBytes.length = this.#slots.slotCount;
    this.#ticketBytes.fill(-1);
    this.#doneTickets.length = 0;
  }

  #transfer(type: number, sector: number, buffer: Uint8Array): void {
    if (buffer.length <= this.#slots.chunkBytes) this.#transferWhole(type, sector, buffer);
    else this.#transferSplit(type, sector, buffer);
  }

  /** A transfer that is one request: most are, and it needs none of the bookkeeping below. */
  #transferWhole(type: number, sector: number, buffer: Uint8Array): void {
    const slot = this.#channel.acquire(buffer.length);
    if (type === BLK_T_OUT) this.#slots.fill(slot, buffer);
    this.#submit(slot, type, sector, buffer.length);
    this.#channel.wait(slot);
    const failure = this.#slots.failure(slot);
    if (type === BLK_T_IN && failure === undefined) this.#copyOut(slot, buffer, 0, buffer.length);
    this.#slots.release(slot);
    if (failure !== undefined) throw failure;
  }

  /** Splits a transfer over slots, all of them in flight together, and waits for it. */
  #transferSplit(type: number, sector: number, buffer: Uint8Array): void {
    const own = this.#own;
    let submittedBytes = 0;
    let finishedBytes = 0;
    let head = 0;
    let tail = 0;
    let failure: DeviceError | undefined;
    for (;;) {
      while (submittedBytes < buffer.length && failure === undefined) {
        const slot = this.#slots.acquire();
        if (slot < 0) break;
        own[tail++ % own.length] = slot;
        submittedBytes += this.#submitChunk(slot, type, sector, buffer, submittedBytes);
      }
      if (head === tail) break;
      const slot = own[head++ % own.length]!;
      this.#channel.wait(slot);
      const chunkFailure = this.#slots.failure(slot);
      const chunkBytes = Math.min(this.#slots.chunkBytes, buffer.length - finishedBytes);
      if (type === BLK_T_IN && chunkFailure === undefined) this.#copyOut(slot, buffer, finishedBytes, chunkBytes);
      finishedBytes += chunkBytes;
      failure ??= chunkFailure;
      this.#slots.release(slot);
    }
    if (failure !== undefined) throw failure;
    if (submittedBytes === 0) throw this.#channel.busy();
  }

  /** @returns how many bytes of the buffer the request covers */
  #submitChunk(slot: number, type: number, sector: number, buffer: Uint8Array, fromBytes: number): number {
    const lengthBytes = Math.min(this.#slots.chunkBytes, buffer.length - fromBytes);
    if (type === BLK_T_OUT) this.#slots.fill(slot, buffer.subarray(fromBytes, fromBytes + lengthBytes));
    this.#submit(slot, type, sector + fromBytes / this.sectorBytes, lengthBytes);
    return lengthBytes;
  }

  #copyOut(slot: number, target: Uint8Array, fromBytes: number, lengthBytes: number): void {
    target.set(this.#slots.data(slot, lengthBytes), fromBytes);
  }

  /** One request without a transfer of sectors. @returns its slot, released: its data stays until the next request */
  #single(type: number, roomBytes: number): number {
    const slot = this.#channel.acquire(roomBytes);
    this.#channel.submit(slot, type, 0, 0, roomBytes);
    return this.#endSingle(slot);
  }

  #endSingle(slot: number): number {
    this.#channel.wait(slot);
    const failure = this.#slots.failure(slot);
    this.#slots.release(slot);
    if (failure !== undefined) throw failure;
    return slot;
  }

  /** One range a request, of as many units as the device allows. */
  #ranges(type: number, sector: number, sectorCount: number, unitsMax: number, flags: number): void {
    const unitsPerSector = this.sectorBytes / UNIT_BYTES;
    const sectorsMax = unitsMax / unitsPerSector;
    for (let done = 0; done < sectorCount; done += sectorsMax) {
      const slot = this.#channel.acquire(RANGE_BYTES);
      const range = viewOf(this.#slots.data(slot, RANGE_BYTES));
      const unit = (sector + done) * unitsPerSector;
      range.setUint32(RANGE_SECTOR, lowWord(unit), true);
      range.setUint32(RANGE_SECTOR + 4, highWord(unit), true);
      range.setUint32(RANGE_COUNT, Math.min(sectorsMax, sectorCount - done) * unitsPerSector, true);
      range.setUint32(RANGE_FLAGS, flags, true);
      this.#channel.submit(slot, type, 0, RANGE_BYTES, 0);
      this.#endSingle(slot);
    }
  }

  #submit(slot: number, type: number, sector: number, lengthBytes: number): void {
    const unit = sector * (this.sectorBytes / UNIT_BYTES);
    this.#channel.submit(slot, type, unit, type === BLK_T_OUT ? lengthBytes : 0, type === BLK_T_IN ? lengthBytes : 0);
  }
}

function featuresOf(traits: BlkTraits): DeviceFeatures {
  const flush = traits.flushes || !traits.writeCache;
  return {
    flush,
    fua: flush,
    discard: traits.discardUnitsMax > 0,
    writeZeroes: traits.zeroUnitsMax > 0,
    writeCache: traits.writeCache,
  };
}

function notSupported(operation: string, feature: string): DeviceError {
  return new DeviceError('ENOTSUP', `${operation}: expected the feature ${feature} to be negotiated`);
}
