import { type BlockDevice, type DeviceFeatures, MemoryDevice } from '../../src/blockdev/index.ts';
import {
  BlkDevice,
  type BlkDeviceOptions,
  F_EVENT_IDX,
  F_IN_ORDER,
  F_INDIRECT_DESC,
  F_NOTIFICATION_DATA,
  F_RING_PACKED,
  F_RING_RESET,
  F_VERSION_1,
  type FeatureWords,
  FlatMemory,
  featureWords,
  type GuestMemory,
  type MmioOptions,
  MmioTransport,
  type PackedDriverRing,
  type QueueAddresses,
  REG_DEVICE_FEATURES,
  REG_DEVICE_FEATURES_SEL,
  REG_DRIVER_FEATURES,
  REG_DRIVER_FEATURES_SEL,
  REG_INTERRUPT_ACK,
  REG_INTERRUPT_STATUS,
  REG_QUEUE_DESC_HIGH,
  REG_QUEUE_DESC_LOW,
  REG_QUEUE_DEVICE_HIGH,
  REG_QUEUE_DEVICE_LOW,
  REG_QUEUE_DRIVER_HIGH,
  REG_QUEUE_DRIVER_LOW,
  REG_QUEUE_NOTIFY,
  REG_QUEUE_NUM,
  REG_QUEUE_READY,
  REG_QUEUE_SEL,
  REG_STATUS,
  type SplitDriverRing,
  STATUS_ACKNOWLEDGE,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  STATUS_NEEDS_RESET,
  setFeature,
} from '../../src/virtio/index.ts';
import {
  type GuestQueue,
  guestQueue,
  PackedGuestQueue,
  type RingKind,
  type Segment,
  SplitGuestQueue,
  type Used,
} from './guest-queue.ts';

/** A backend that writes down what it is asked, and has the features it is given. */
export class LoggingDevice implements BlockDevice {
  readonly log: string[] = [];
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly readOnly: boolean;
  sectorCount: number;
  features: DeviceFeatures;
  /** Thrown by the next operation. */
  failure: unknown;
  readonly disk: MemoryDevice;

  constructor(
    options: {
      features?: Partial<DeviceFeatures>;
      sectorBytes?: number;
      physicalSectorBytes?: number;
      sectorCount?: number;
      readOnly?: boolean;
    } = {},
  ) {
    const { features, sectorBytes = 512, physicalSectorBytes = sectorBytes, sectorCount = 64 } = options;
    this.sectorBytes = sectorBytes;
    this.physicalSectorBytes = physicalSectorBytes;
    this.sectorCount = sectorCount;
    this.readOnly = options.readOnly ?? false;
    this.features = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: true, ...features };
    this.disk = new MemoryDevice({ sectorCount, sectorBytes });
  }

  read(sector: number, target: Uint8Array): void {
    this.#note(`read ${sector}+${target.length / this.sectorBytes}`);
    this.disk.read(sector, target);
  }

  write(sector: number, source: Uint8Array, options?: { fua?: boolean }): void {
    this.#note(`write ${sector}+${source.length / this.sectorBytes}${options?.fua === true ? ' fua' : ''}`);
    this.disk.write(sector, source);
  }

  flush(): void {
    this.#note('flush');
  }

  discard(sector: number, sectorCount: number): void {
    this.#note(`discard ${sector}+${sectorCount}`);
    this.disk.discard(sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number, options?: { unmap?: boolean }): void {
    this.#note(`zero ${sector}+${sectorCount}${options?.unmap === true ? ' unmap' : ''}`);
    this.disk.writeZeroes(sector, sectorCount);
  }

  close(): void {}

  /** What was logged since it was taken last. */
  take(): string[] {
    return this.log.splice(0);
  }

  #note(entry: string): void {
    this.log.push(entry);
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }
}

/** A descriptor to be: bytes that the device reads, or room that it writes, or fields as they are. */
export type Part =
  | { readonly give: Uint8Array | readonly number[] }
  | { readonly room: number }
  | { readonly address: number; readonly lengthBytes: number; readonly write?: boolean };

export interface Answer {
  /** The last byte of the last room; what it was before, 0xee, where nothing was written there. */
  readonly status: number;
  readonly usedLength: number;
  /** All rooms one after another, with the status byte. */
  readonly written: Uint8Array;
}

export interface GuestOptions {
  readonly backend?: BlockDevice;
  readonly device?: BlkDeviceOptions;
  readonly queueSize?: number;
  /** Format of the ring. Default split. */
  readonly ring?: RingKind;
  /** Feature bits of ring and transport that every negotiation accepts, beside the format's. */
  readonly ringBits?: readonly number[];
  readonly base?: number;
  readonly mmio?: MmioOptions;
  /** Puts something between the device and the memory. */
  readonly wrapMemory?: (memory: FlatMemory) => GuestMemory;
}

const RING_BITS = [F_INDIRECT_DESC, F_EVENT_IDX, F_RING_PACKED, F_IN_ORDER, F_NOTIFICATION_DATA, F_RING_RESET];

export const GUEST_BYTES = 0x40000;
const HEAP_OFFSET = 0x4000;

/** A guest in the raw: memory, registers and a ring that take whatever a test puts there. */
export class Guest {
  readonly bytes: Uint8Array;
  readonly memory: FlatMemory;
  readonly backend: BlockDevice;
  readonly device: BlkDevice;
  readonly transport: MmioTransport;
  readonly base: number;
  readonly queue: QueueAddresses;
  readonly driver: GuestQueue;
  readonly #ringBits: readonly number[];
  readonly #used: Used[] = [];
  #heap: number;

  constructor(options: GuestOptions = {}) {
    this.bytes = new Uint8Array(GUEST_BYTES);
    this.base = options.base ?? 0;
    this.memory = new FlatMemory(this.bytes, this.base);
    this.backend = options.backend ?? new LoggingDevice();
    const seen = options.wrapMemory?.(this.memory) ?? this.memory;
    this.device = new BlkDevice(this.backend, seen, { id: 'disk-under-test', ...options.device });
    this.transport = new MmioTransport(this.device, seen, options.mmio);
    const kind = options.ring ?? 'split';
    this.#ringBits = [...(kind === 'packed' ? [F_RING_PACKED] : []), ...(options.ringBits ?? [])];
    this.driver = guestQueue(kind, this.memory, this.base + 0x1000, options.queueSize ?? 16);
    this.queue = this.driver.addresses;
    this.#heap = this.base + HEAP_OFFSET;
  }

  /** The ring in the raw, for tests of that format. */
  get ring(): SplitDriverRing {
    if (this.driver instanceof SplitGuestQueue) return this.driver.ring;
    throw new Error('this guest has a packed ring');
  }

  get packed(): PackedDriverRing {
    if (this.driver instanceof PackedGuestQueue) return this.driver.ring;
    throw new Error('this guest has a split ring');
  }

  /** What came back since the last initialisation, in order. */
  get used(): readonly Used[] {
    for (let used = this.driver.takeUsed(); used !== undefined; used = this.driver.takeUsed()) this.#used.push(used);
    return this.#used;
  }

  read(register: number): number {
    return this.transport.read(register, 4);
  }

  write(register: number, value: number): void {
    this.transport.write(register, 4, value);
  }

  get status(): number {
    return this.read(REG_STATUS);
  }

  get needsReset(): boolean {
    return (this.status & STATUS_NEEDS_RESET) !== 0;
  }

  get offered(): FeatureWords {
    const words = featureWords();
    for (let i = 0; i < words.length; i++) {
      this.write(REG_DEVICE_FEATURES_SEL, i);
      words[i] = this.read(REG_DEVICE_FEATURES);
    }
    return words;
  }

  /** All that is offered, without what changes the ring or the transport. */
  get offeredByDevice(): FeatureWords {
    const ringBits = featureWords(RING_BITS);
    return this.offered.map((word, i) => word & ~ringBits[i]!);
  }

  writeFeatures(words: FeatureWords): void {
    for (const [i, word] of words.entries()) {
      this.write(REG_DRIVER_FEATURES_SEL, i);
      this.write(REG_DRIVER_FEATURES, word);
    }
  }

  /** What {@link negotiate} accepts. */
  wanted(bits?: readonly number[]): FeatureWords {
    const wanted = bits === undefined ? this.offeredByDevice : featureWords([F_VERSION_1, ...bits]);
    for (const bit of this.#ringBits) setFeature(wanted, bit);
    return wanted;
  }

  /** From reset to FEATURES_OK. @param bits beside VERSION_1; by default all that is offered but for the ring's own */
  negotiate(bits?: readonly number[]): void {
    this.write(REG_STATUS, 0);
    this.write(REG_STATUS, STATUS_ACKNOWLEDGE);
    this.write(REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    this.writeFeatures(this.wanted(bits));
    this.write(REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
  }

  setUpQueue(queue: QueueAddresses = this.queue, index = 0): void {
    this.write(REG_QUEUE_SEL, index);
    this.write(REG_QUEUE_NUM, queue.size);
    this.writeAddress(REG_QUEUE_DESC_LOW, REG_QUEUE_DESC_HIGH, queue.desc);
    this.writeAddress(REG_QUEUE_DRIVER_LOW, REG_QUEUE_DRIVER_HIGH, queue.driver);
    this.writeAddress(REG_QUEUE_DEVICE_LOW, REG_QUEUE_DEVICE_HIGH, queue.device);
    this.write(REG_QUEUE_READY, 1);
  }

  writeAddress(low: number, high: number, address: number): void {
    this.write(low, address >>> 0);
    this.write(high, Math.floor(address / 2 ** 32));
  }

  driverOk(): void {
    this.write(REG_STATUS, this.status | STATUS_DRIVER_OK);
  }

  /** The whole initialisation, on an empty ring. */
  up(bits?: readonly number[]): this {
    this.driver.clear();
    this.#used.length = 0;
    this.#heap = this.base + HEAP_OFFSET;
    this.negotiate(bits);
    this.setUpQueue();
    this.driverOk();
    return this;
  }

  notify(queue = 0): void {
    this.write(REG_QUEUE_NOTIFY, queue);
  }

  /** Reads and acknowledges the interrupt. */
  takeInterrupt(): number {
    const causes = this.read(REG_INTERRUPT_STATUS);
    this.write(REG_INTERRUPT_ACK, causes);
    return causes;
  }

  /** Guest memory, filled with 0xee. */
  alloc(lengthBytes: number): number {
    const address = this.#heap;
    this.#heap += lengthBytes;
    this.view(address, lengthBytes).fill(0xee);
    return address;
  }

  view(address: number, lengthBytes: number): Uint8Array {
    const view = this.memory.slice(address, lengthBytes);
    if (view === undefined) throw new Error('the test left guest memory');
    return view;
  }

  /** Puts buffers into memory for a chain. */
  lay(parts: readonly Part[]): { segments: Segment[]; rooms: Uint8Array[] } {
    const rooms: Uint8Array[] = [];
    const segments = parts.map((part) => {
      const segment = this.#place(part);
      if ('room' in part) rooms.push(this.view(segment.address, segment.lengthBytes));
      return segment;
    });
    return { segments, rooms };
  }

  /** Writes a chain into a split ring's table, in descriptors that follow each other; it is not offered. */
  build(parts: readonly Part[]): { head: number; rooms: Uint8Array[] } {
    const { segments, rooms } = this.lay(parts);
    if (!(this.driver instanceof SplitGuestQueue)) throw new Error('a packed ring has no chains that are not offered');
    return { head: this.driver.place(segments), rooms };
  }

  /** Makes a chain available. */
  offer(parts: readonly Part[]): { id: number; rooms: Uint8Array[] } {
    const { segments, rooms } = this.lay(parts);
    return { id: this.driver.offer(segments), rooms };
  }

  /** Starts over with descriptors and buffers, once nothing is in flight. */
  recycle(): void {
    this.driver.recycle();
    this.#heap = this.base + HEAP_OFFSET;
  }

  /** Sends one chain through, and takes what came back. */
  send(parts: readonly Part[]): Answer {
    this.recycle();
    const before = this.used.length;
    const { id, rooms } = this.offer(parts);
    this.notify();
    const [used, ...others] = this.used.slice(before);
    if (used === undefined || others.length > 0) throw new Error('the request did not come back once');
    if (used.id !== id) throw new Error('another request came back');
    const written = new Uint8Array(Buffer.concat(rooms));
    return { status: written.at(-1) ?? -1, usedLength: used.lengthBytes, written };
  }

  #place(part: Part): Segment {
    if ('address' in part) return { ...part, write: part.write ?? false };
    if ('room' in part) return { address: this.alloc(part.room), lengthBytes: part.room, write: true };
    const address = this.alloc(part.give.length);
    this.view(address, part.give.length).set(part.give);
    return { address, lengthBytes: part.give.length, write: false };
  }
}

/** The 16 bytes before every request. */
export function header(type: number, unit: number | bigint = 0, reserved = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, reserved, true);
  view.setBigUint64(8, BigInt(unit), true);
  return bytes;
}

/** A range of a discard or a write zeroes. */
export function range(unit: number | bigint, count: number, flags = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(unit), true);
  view.setUint32(8, count, true);
  view.setUint32(12, flags, true);
  return bytes;
}

export function pattern(lengthBytes: number, tag: number): Uint8Array {
  return Uint8Array.from({ length: lengthBytes }, (_, i) => (i * 7 + tag * 31 + (i >> 8)) & 0xff);
}

export function sectorOf(device: BlockDevice, sector: number, count = 1): Uint8Array {
  const bytes = new Uint8Array(count * device.sectorBytes);
  device.read(sector, bytes);
  return bytes;
}
