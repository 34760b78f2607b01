import { setU64, viewOf } from '../../core/index.ts';
import {
  BLK_DEVICE_ID,
  CONFIG,
  CONFIG_BYTES,
  F_RING_PACKED,
  type FeatureWords,
  featureWords,
  hasFeature,
  INTERRUPT_USED,
  MAGIC,
  MMIO_VERSION,
  REG_CONFIG,
  REG_DEVICE_FEATURES,
  REG_DEVICE_FEATURES_SEL,
  REG_DEVICE_ID,
  REG_DRIVER_FEATURES,
  REG_DRIVER_FEATURES_SEL,
  REG_INTERRUPT_STATUS,
  REG_MAGIC_VALUE,
  REG_QUEUE_DESC_HIGH,
  REG_QUEUE_DESC_LOW,
  REG_QUEUE_DEVICE_HIGH,
  REG_QUEUE_DEVICE_LOW,
  REG_QUEUE_DRIVER_HIGH,
  REG_QUEUE_DRIVER_LOW,
  REG_QUEUE_NOTIFY,
  REG_QUEUE_NUM,
  REG_QUEUE_NUM_MAX,
  REG_QUEUE_READY,
  REG_QUEUE_SEL,
  REG_STATUS,
  REG_VERSION,
  RegionMemory,
  type RegisterBus,
  STATUS_DRIVER_OK,
  setFeature,
} from '../../virtio/index.ts';
import { VhostUserFrontEnd } from './front-end.ts';
import type { Host, Mapping } from './host.ts';
import { F_PROTOCOL_FEATURES, PROTOCOL_F_INFLIGHT_SHMFD, PROTOCOL_FEATURES, REQUEST } from './protocol.ts';

/** A region of the machine's memory, in a file of its own. */
export interface MachineRegion {
  readonly guestAddress: number;
  readonly sizeBytes: number;
  /** Where it begins in its file. Default 0. */
  readonly mmapOffset?: number;
}

export interface VhostUserMachineOptions {
  readonly host: Host;
  /** Of the back end's socket. */
  readonly path: string;
  /** Default: 4 MiB from 0 on. */
  readonly regions?: readonly MachineRegion[];
  /** Queues that its driver finds. Default 1. */
  readonly queueCount?: number;
  /** Most entries of a queue. Default 128. */
  readonly queueSizeMax?: number;
  /** Whether what is in flight outlasts a back end that dies. Default true. */
  readonly inflight?: boolean;
}

/** What the machine knows of a queue. */
interface QueueState {
  size: number;
  desc: number;
  driver: number;
  device: number;
  ready: boolean;
  base: number;
  kick: number;
  call: number;
}

/** In the machine's own address space, memory lies this much further up. */
const USER_OFFSET = 0x5500_0000_0000;
/** Of a packed ring that is new: both positions at 0, both wrap counters 1. */
const PACKED_BASE = 0x8000_8000;
const USED_IDX = 2;

/**
 * A virtual machine as far as a vhost-user back end sees of one: memory that it shares, and the front end that turns the
 * registers of its block device into messages, as QEMU does. A driver finds a {@link RegisterBus}. For tests: they see
 * what a real one does not show.
 *
 * Registers answer at once, messages take their time: {@link settled} says when all that was set in motion is done.
 */
export class VhostUserMachine implements RegisterBus {
  readonly memory: RegionMemory = new RegionMemory();
  readonly halted: undefined = undefined;
  readonly #options: VhostUserMachineOptions;
  readonly #host: Host;
  readonly #regions: readonly MachineRegion[];
  readonly #files: number[] = [];
  readonly #mappings: Mapping[] = [];
  readonly #queues: readonly QueueState[];
  readonly #offered: FeatureWords = featureWords();
  readonly #accepted: FeatureWords = featureWords();
  readonly #config: Uint8Array = new Uint8Array(CONFIG_BYTES);
  #frontEnd: VhostUserFrontEnd;
  #settled: Promise<void> = Promise.resolve();
  #inflightFd = -1;
  #inflightPayload: Uint8Array = new Uint8Array(0);
  #status = 0;
  #deviceFeaturesSel = 0;
  #driverFeaturesSel = 0;
  #queueSel = 0;
  #hasInterrupt = false;
  #isDisposed = false;

  private constructor(options: VhostUserMachineOptions) {
    const { host, path, regions = [{ guestAddress: 0, sizeBytes: 4 << 20 }], queueCount = 1 } = options;
    this.#options = options;
    this.#host = host;
    this.#regions = regions;
    this.#frontEnd = new VhostUserFrontEnd(host, path);
    this.#queues = Array.from({ length: queueCount }, () => ({
      size: 0,
      desc: 0,
      driver: 0,
      device: 0,
      ready: false,
      base: 0,
      kick: host.createEvent(),
      call: host.createEvent(),
    }));
    this.memory.map(
      regions.map(({ guestAddress, sizeBytes, mmapOffset = 0 }) => {
        const file = host.createMemory('machine', mmapOffset + sizeBytes);
        this.#files.push(file);
        const mapping = host.map(file, mmapOffset, sizeBytes);
        if (mapping === undefined) throw new RangeError(`region: ${sizeBytes} bytes can't be mapped`);
        this.#mappings.push(mapping);
        return { base: guestAddress, bytes: mapping.pieces[0]! };
      }),
    );
  }

  /** Connects to a back end, and learns what it offers. */
  static async connect(options: VhostUserMachineOptions): Promise<VhostUserMachine> {
    const machine = new VhostUserMachine(options);
    try {
      await machine.#introduce();
    } catch (error) {
      machine.dispose();
      throw error;
    }
    return machine;
  }

  get frontEnd(): VhostUserFrontEnd {
    return this.#frontEnd;
  }

  /** All messages so far were sent, and those that have an answer were answered. */
  get settled(): Promise<void> {
    return this.#settled;
  }

  /** As the back end described it, with the machine's number of queues. */
  get config(): Uint8Array {
    return this.#config;
  }

  /** Connects again, to a back end that may be another one, and goes on where the last one stopped or died. */
  async reconnect(): Promise<void> {
    await this.#settled.catch(() => undefined);
    this.#frontEnd.close();
    this.#frontEnd = new VhostUserFrontEnd(this.#host, this.#options.path);
    await this.#introduce();
    // What a split ring's device gave back is told by the ring.
    for (const queue of this.#queues) {
      if (queue.ready && !this.#isPacked()) queue.base = this.memory.readU16(queue.device + USED_IDX);
    }
    if ((this.#status & STATUS_DRIVER_OK) !== 0) await this.#start();
  }

  /** Ends the connection, as a machine does that dies. Its memory stays the back end's until that notices. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#frontEnd.close();
    this.memory.map([]);
    for (const mapping of this.#mappings.splice(0)) mapping.unmap();
    const events = this.#queues.flatMap((queue) => [queue.kick, queue.call]);
    for (const fd of [...this.#files.splice(0), ...events, this.#inflightFd]) if (fd >= 0) this.#host.close(fd);
    this.#inflightFd = -1;
  }

  get interruptAsserted(): boolean {
    for (const { call } of this.#queues) if (this.#host.takeEvent(call) > 0) this.#hasInterrupt = true;
    return this.#hasInterrupt;
  }

  read(offset: number, widthBytes: number): number {
    if (offset >= REG_CONFIG) {
      const view = viewOf(this.#config);
      const at = offset - REG_CONFIG;
      if (widthBytes === 1) return view.getUint8(at);
      return widthBytes === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
    }
    switch (offset) {
      case REG_MAGIC_VALUE:
        return MAGIC;
      case REG_VERSION:
        return MMIO_VERSION;
      case REG_DEVICE_ID:
        return BLK_DEVICE_ID;
      case REG_DEVICE_FEATURES:
        return this.#offered[this.#deviceFeaturesSel] ?? 0;
      case REG_QUEUE_NUM_MAX:
        return this.#queue === undefined ? 0 : (this.#options.queueSizeMax ?? 128);
      case REG_QUEUE_READY:
        return this.#queue?.ready === true ? 1 : 0;
      case REG_STATUS:
        return this.#status;
      case REG_INTERRUPT_STATUS: {
        const causes = this.interruptAsserted ? INTERRUPT_USED : 0;
        this.#hasInterrupt = false;
        return causes;
      }
      default:
        return 0;
    }
  }

  write(offset: number, widthBytes: number, value: number): void {
    if (offset >= REG_CONFIG) this.#writeConfig(offset - REG_CONFIG, value);
    else if (widthBytes === 4) this.#writeRegister(offset, value);
  }

  #writeRegister(offset: number, value: number): void {
    switch (offset) {
      case REG_DEVICE_FEATURES_SEL:
        this.#deviceFeaturesSel = value;
        break;
      case REG_DRIVER_FEATURES_SEL:
        this.#driverFeaturesSel = value;
        break;
      case REG_DRIVER_FEATURES:
        this.#accepted[this.#driverFeaturesSel] = value;
        break;
      case REG_QUEUE_SEL:
        this.#queueSel = value;
        break;
      case REG_QUEUE_NOTIFY: {
        const queue = this.#queues[value & 0xffff];
        if (queue !== undefined) this.#host.sendEvent(queue.kick);
        break;
      }
      case REG_STATUS:
        this.#writeStatus(value);
        break;
      default:
        if (this.#queue !== undefined) writeQueue(this.#queue, offset, value);
    }
  }

  get #queue(): QueueState | undefined {
    return this.#queues[this.#queueSel];
  }

  #writeStatus(value: number): void {
    const wasLive = (this.#status & STATUS_DRIVER_OK) !== 0;
    this.#status = value;
    if (value === 0) {
      this.#hasInterrupt = false;
      for (const queue of this.#queues) queue.ready = false;
      if (wasLive) this.#then(() => this.#stop());
    } else if (!wasLive && (value & STATUS_DRIVER_OK) !== 0) {
      this.#then(() => {
        for (const queue of this.#queues) queue.base = this.#isPacked() ? PACKED_BASE : 0;
        return this.#start();
      });
    }
  }

  #writeConfig(offset: number, value: number): void {
    const payload = new Uint8Array(13);
    const view = viewOf(payload);
    view.setUint32(0, offset, true);
    view.setUint32(4, 1, true);
    view.setUint8(12, value);
    this.#then(async () => {
      if ((await this.#frontEnd.confirm(REQUEST.setConfig, payload)) === 0) this.#config[offset] = value;
    });
    this.#config[offset] = value;
  }

  /** One after another, whatever came before. */
  #then(run: () => Promise<void>): void {
    this.#settled = this.#settled.then(run);
    // Whoever awaits it learns of it.
    this.#settled.catch(() => undefined);
  }

  /** What a front end says first. */
  async #introduce(): Promise<void> {
    const frontEnd = this.#frontEnd;
    const offered = viewOf((await frontEnd.ask(REQUEST.getFeatures)).payload);
    this.#offered.set([offered.getUint32(0, true), offered.getUint32(4, true)]);
    // Bit 30 is between the two of us, not the driver's.
    this.#offered[0] = this.#offered[0]! & ~(1 << F_PROTOCOL_FEATURES);
    const protocol = viewOf((await frontEnd.ask(REQUEST.getProtocolFeatures)).payload).getUint32(0, true);
    const wanted = this.#options.inflight === false ? ~(1 << PROTOCOL_F_INFLIGHT_SHMFD) : -1;
    frontEnd.send(REQUEST.setProtocolFeatures, u64(protocol & PROTOCOL_FEATURES & wanted));
    await frontEnd.ask(REQUEST.getQueueNum);
    frontEnd.send(REQUEST.setOwner);
    const payload = new Uint8Array(12 + CONFIG_BYTES);
    viewOf(payload).setUint32(4, CONFIG_BYTES, true);
    const config = await frontEnd.ask(REQUEST.getConfig, payload);
    this.#config.set(config.payload.subarray(12));
    viewOf(this.#config).setUint16(CONFIG.numQueues, this.#queues.length, true);
  }

  async #start(): Promise<void> {
    const frontEnd = this.#frontEnd;
    const features = featureWords();
    features.set(this.#accepted);
    setFeature(features, F_PROTOCOL_FEATURES);
    frontEnd.send(REQUEST.setFeatures, words(features[0]!, features[1]!));
    frontEnd.send(REQUEST.setMemTable, this.#memoryTable(), this.#files);
    if (this.#options.inflight !== false) await this.#trackInflight();
    for (const [index, queue] of this.#queues.entries()) if (queue.ready) this.#startQueue(index, queue);
    // An answer: so that all of it has been done.
    await frontEnd.ask(REQUEST.getQueueNum);
  }

  async #trackInflight(): Promise<void> {
    const frontEnd = this.#frontEnd;
    if (this.#inflightFd < 0) {
      const payload = new Uint8Array(24);
      viewOf(payload).setUint16(16, this.#queues.length, true);
      viewOf(payload).setUint16(18, this.#options.queueSizeMax ?? 128, true);
      const reply = await frontEnd.ask(REQUEST.getInflightFd, payload);
      this.#inflightPayload = reply.payload;
      this.#inflightFd = reply.fds[0] ?? -1;
    }
    frontEnd.send(REQUEST.setInflightFd, this.#inflightPayload, [this.#inflightFd]);
  }

  #startQueue(index: number, queue: QueueState): void {
    const frontEnd = this.#frontEnd;
    frontEnd.send(REQUEST.setVringNum, words(index, queue.size));
    frontEnd.send(REQUEST.setVringBase, words(index, queue.base));
    frontEnd.send(REQUEST.setVringAddr, ringAddresses(index, queue));
    frontEnd.send(REQUEST.setVringKick, words(index, 0), [queue.kick]);
    frontEnd.send(REQUEST.setVringCall, words(index, 0), [queue.call]);
    frontEnd.send(REQUEST.setVringEnable, words(index, 1));
  }

  async #stop(): Promise<void> {
    for (const [index, queue] of this.#queues.entries()) {
      const reply = await this.#frontEnd.ask(REQUEST.getVringBase, words(index, 0));
      queue.base = viewOf(reply.payload).getUint32(4, true);
      this.#frontEnd.send(REQUEST.setVringEnable, words(index, 0));
    }
    // A machine that is reset has nothing in flight.
    if (this.#inflightFd >= 0) this.#host.close(this.#inflightFd);
    this.#inflightFd = -1;
  }

  #memoryTable(): Uint8Array {
    const payload = new Uint8Array(8 + 32 * this.#regions.length);
    const view = viewOf(payload);
    view.setUint32(0, this.#regions.length, true);
    for (const [i, { guestAddress, sizeBytes, mmapOffset = 0 }] of this.#regions.entries()) {
      const at = 8 + 32 * i;
      setU64(view, at, guestAddress);
      setU64(view, at + 8, sizeBytes);
      setU64(view, at + 16, guestAddress + USER_OFFSET);
      setU64(view, at + 24, mmapOffset);
    }
    return payload;
  }

  #isPacked(): boolean {
    return hasFeature(this.#accepted, F_RING_PACKED);
  }
}

function writeQueue(queue: QueueState, offset: number, value: number): void {
  switch (offset) {
    case REG_QUEUE_NUM:
      queue.size = value;
      break;
    case REG_QUEUE_READY:
      queue.ready = value === 1;
      break;
    case REG_QUEUE_DESC_LOW:
      queue.desc = withLow(queue.desc, value);
      break;
    case REG_QUEUE_DESC_HIGH:
      queue.desc = withHigh(queue.desc, value);
      break;
    case REG_QUEUE_DRIVER_LOW:
      queue.driver = withLow(queue.driver, value);
      break;
    case REG_QUEUE_DRIVER_HIGH:
      queue.driver = withHigh(queue.driver, value);
      break;
    case REG_QUEUE_DEVICE_LOW:
      queue.device = withLow(queue.device, value);
      break;
    case REG_QUEUE_DEVICE_HIGH:
      queue.device = withHigh(queue.device, value);
      break;
  }
}

const WORD = 2 ** 32;

function withLow(address: number, low: number): number {
  return Math.floor(address / WORD) * WORD + low;
}

function withHigh(address: number, high: number): number {
  return high * WORD + (address % WORD);
}

/** Two 32-bit words: the state of a ring, or a 64-bit number. */
function words(low: number, high: number): Uint8Array {
  const payload = new Uint8Array(8);
  viewOf(payload).setUint32(0, low, true);
  viewOf(payload).setUint32(4, high, true);
  return payload;
}

function u64(value: number): Uint8Array {
  return words(value, 0);
}

function ringAddresses(index: number, queue: QueueState): Uint8Array {
  const payload = new Uint8Array(40);
  const view = viewOf(payload);
  view.setUint32(0, index, true);
  setU64(view, 8, queue.desc + USER_OFFSET);
  setU64(view, 16, queue.device + USER_OFFSET);
  setU64(view, 24, queue.driver + USER_OFFSET);
  return payload;
}
