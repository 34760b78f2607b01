import { type Clock, setU64, type Timers, viewOf } from '../../core/index.ts';
import {
  type BlkDevice,
  CONFIG,
  CONFIG_BYTES,
  F_RING_PACKED,
  type FeatureWords,
  featureWords,
  hasFeature,
  setFeature,
} from '../../virtio/index.ts';
import type { ServedDisk } from '../disk/served-disk.ts';
import type { DiskPort } from './disk-port.ts';
import type { EndWatch, Host, Mapping } from './host.ts';
import { type InflightTracker, inflightRegionBytes, inflightTracker, REGION_ALIGN } from './inflight.ts';
import { type MemoryTable, whyNotMappable } from './memory-table.ts';
import { type Message, MessageInput } from './message-input.ts';
import {
  CONFIG_BYTES_MAX,
  CONFIG_HEADER_BYTES,
  F_PROTOCOL_FEATURES,
  FLAG_NEED_REPLY,
  FLAG_REPLY,
  HEADER_BYTES,
  PAYLOAD_BYTES_MAX,
  PROTOCOL_F_REPLY_ACK,
  PROTOCOL_FEATURES,
  VERSION,
} from './protocol.ts';
import { type InflightFields, parseRequest, type RingAddressFields, type VhostRequest } from './request.ts';
import { RING_SIZE_MAX, VhostRing } from './ring.ts';
import type { VhostStatistics } from './statistics.ts';

/** Messages that are handled in one go; then it is the turn of others. */
const MESSAGES_MAX = 32;

/**
 * The cache mode that a driver chose. It outlasts a connection: a front end that comes back does not choose again, and who
 * was promised that a write is durable is not to learn otherwise.
 */
export interface CacheMode {
  isWriteThrough: boolean;
}

/** What a back end has for its front ends, one after the other. */
export interface SessionContext {
  readonly host: Host;
  readonly disk: ServedDisk;
  readonly port: DiskPort;
  readonly device: BlkDevice;
  readonly table: MemoryTable;
  readonly cacheMode: CacheMode;
  readonly queueCount: number;
  readonly allowsUnsealed: boolean;
  readonly statistics: VhostStatistics;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly onEvent: (message: string) => void;
  /** The session is over: its socket is closed. @param why in words, where the front end broke the protocol */
  readonly onEnd: (why: string | undefined) => void;
}

/** What a request comes to: done; refused, in words; or an answer of its own, with file descriptors to be sent along. */
type Outcome = undefined | string | { readonly payload: Uint8Array; readonly fds?: readonly number[] };

/**
 * One front end, from its connection to its end: the state machine of the protocol. Nothing that the front end says is
 * believed. What is refused gets its answer where it asked for one, and ends the connection otherwise.
 */
export class VhostSession {
  readonly #context: SessionContext;
  readonly #socket: number;
  readonly #input: MessageInput;
  readonly #endWatch: EndWatch | undefined;
  readonly #rings: readonly VhostRing[];
  readonly #reply: Uint8Array = new Uint8Array(HEADER_BYTES + PAYLOAD_BYTES_MAX);
  readonly #features: FeatureWords = featureWords();
  #protocolFeatures = 0;
  #inflight: Mapping | undefined;
  #inflightFields: InflightFields | undefined;
  /** Of the disk, when the first of the rings was started. */
  #generation = 0;
  #isOver = false;

  /** @param socket is the session's from here on */
  constructor(socket: number, context: SessionContext) {
    this.#socket = socket;
    this.#context = context;
    const { host, table, device, disk, port, clock, timers, statistics, onEvent } = context;
    this.#input = new MessageInput(host, socket);
    this.#generation = disk.generation;
    const canServe = (): boolean => disk.power === 'on' && disk.generation === this.#generation;
    const serving = { memory: table.memory, disk, port, clock, statistics };
    this.#rings = Array.from(
      { length: context.queueCount },
      (_, index) => new VhostRing(index, { host, table, device, serving, timers, statistics, canServe, onEvent }),
    );
    this.#endWatch = host.watch(socket, () => this.#receive());
  }

  /** Whether the front end is still there. */
  get isAlive(): boolean {
    return !this.#isOver && this.#context.host.isOpen(this.#socket);
  }

  /** The power of the disk changed. */
  powerChanged(): void {
    for (const ring of this.#rings) {
      if (this.#context.disk.power === 'on') ring.process();
      else ring.dropHeld();
    }
  }

  /** The disk lets go what hangs. */
  released(): void {
    for (const ring of this.#rings) ring.released();
  }

  /** Ends the connection, as if the back end had died: what is in flight is not given back. @param why in words */
  end(why?: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { host, table, device, onEnd } = this.#context;
    this.#endWatch?.();
    for (const ring of this.#rings) ring.dispose();
    this.#input.closeFds();
    host.close(this.#socket);
    this.#dropInflight();
    table.clear();
    device.reset();
    onEnd(why);
  }

  #receive(): void {
    for (let count = 0; count < MESSAGES_MAX && !this.#isOver; count++) {
      const input = this.#input.next();
      if (input === 'wait') return;
      if (input === 'end') this.end();
      else if ('broken' in input) this.end(input.broken);
      else this.#handle(input);
    }
  }

  #handle(message: Message): void {
    const { header, payload, fds } = message;
    const request = parseRequest(header, payload, fds.length);
    if (typeof request === 'string') {
      this.end(request);
      return;
    }
    const outcome = this.#carryOut(request, message);
    this.#input.closeFds();
    if (typeof outcome === 'object') {
      this.#send(header.request, outcome.payload, outcome.fds);
      return;
    }
    const wantsReply = (header.flags & FLAG_NEED_REPLY) !== 0 && this.#hasProtocol(PROTOCOL_F_REPLY_ACK);
    if (outcome !== undefined) this.#context.onEvent(`refused ${request.type}: ${outcome}`);
    if (wantsReply) this.#send(header.request, u64(outcome === undefined ? 0 : 1));
    else if (outcome !== undefined) this.end(`${request.type}: ${outcome}`);
  }

  #carryOut(request: VhostRequest, { header, fds }: Message): Outcome {
    switch (request.type) {
      case 'getFeatures':
        return { payload: this.#offered() };
      case 'setFeatures':
        return this.#setFeatures(request.low, request.high);
      case 'getProtocolFeatures':
        return { payload: u64(PROTOCOL_FEATURES) };
      case 'setProtocolFeatures':
        return this.#setProtocolFeatures(request.low, request.high);
      case 'setOwner':
        return undefined;
      case 'resetOwner':
        this.#stopAll();
        return undefined;
      case 'resetDevice':
        this.#resetDevice();
        return undefined;
      case 'getQueueNum':
        return { payload: u64(this.#rings.length) };
      case 'setMemTable':
        return this.#setMemTable(request.regions, fds);
      case 'getConfig':
        return { payload: this.#config(request.offset, request.sizeBytes) };
      case 'setConfig':
        return this.#setConfig(request.offset, request.flags, request.bytes);
      case 'getInflightFd':
        return this.#getInflight(request.inflight, header.payloadBytes);
      case 'setInflightFd':
        return this.#setInflight(request.inflight, fds[0]!);
      case 'setLogBase':
      case 'setLogFd':
        return 'what is written is not logged for a migration: this feature was not offered';
      case 'unknown':
        return `request ${request.request} is unknown, or of a feature that was not offered`;
      default:
        return this.#carryOutOnRing(request, fds);
    }
  }

  /** What concerns one ring. */
  #carryOutOnRing(
    request:
      | Extract<VhostRequest, { readonly index: number }>
      | Extract<VhostRequest, { readonly type: 'setVringAddr' }>,
    fds: number[],
  ): Outcome {
    const index = request.type === 'setVringAddr' ? request.addresses.index : request.index;
    const ring = this.#rings[index];
    if (ring === undefined) return `queue ${index}: there are ${this.#rings.length}`;
    switch (request.type) {
      case 'setVringNum':
        return setSize(ring, request.value);
      case 'setVringBase':
        if (!ring.isStopped) return RUNNING;
        ring.base = request.value;
        return undefined;
      case 'getVringBase':
        return { payload: state(index, ring.stop()) };
      case 'setVringEnable':
        if (request.value > 1) return `expected 0 or 1, got ${request.value}`;
        ring.enabled = request.value === 1;
        return undefined;
      case 'setVringAddr':
        return setAddresses(ring, request.addresses);
      case 'setVringKick':
        return this.#start(ring, index, fds);
      case 'setVringCall':
      case 'setVringErr':
        return this.#setEvent(ring, request.type, fds);
    }
  }

  #start(ring: VhostRing, index: number, fds: number[]): Outcome {
    const why = this.#whyNoEvent(fds);
    if (why !== undefined) return why;
    // Who starts from nothing knows what the last cut left, or does not mind.
    if (this.#rings.every((each) => each.isStopped)) this.#generation = this.#context.disk.generation;
    if (!hasFeature(this.#features, F_PROTOCOL_FEATURES)) ring.enabled = true;
    const inflight = this.#tracker(index);
    if (typeof inflight === 'string') return inflight;
    return ring.start(fds.pop() ?? -1, { features: this.#features, inflight });
  }

  #setEvent(ring: VhostRing, type: 'setVringCall' | 'setVringErr', fds: number[]): Outcome {
    const why = this.#whyNoEvent(fds);
    if (why !== undefined) return why;
    const fd = fds.pop() ?? -1;
    if (type === 'setVringCall') ring.setCall(fd);
    else ring.setErr(fd);
    return undefined;
  }

  #whyNoEvent(fds: readonly number[]): string | undefined {
    const isEvent = fds.every((fd) => this.#context.host.inspect(fd)?.kind === 'event');
    return isEvent ? undefined : 'expected an event counter or a pipe';
  }

  /** The device's, with the bit that says that there is more to negotiate. */
  #offered(): Uint8Array {
    const offered = featureWords();
    offered.set(this.#context.device.offered);
    setFeature(offered, F_PROTOCOL_FEATURES);
    const payload = new Uint8Array(8);
    const view = viewOf(payload);
    view.setUint32(0, offered[0]!, true);
    view.setUint32(4, offered[1]!, true);
    return payload;
  }

  #setFeatures(low: number, high: number): Outcome {
    const { device } = this.#context;
    const wanted = featureWords();
    wanted.set([low, high]);
    const beyond = featureWords([F_PROTOCOL_FEATURES]).map((own, i) => wanted[i]! & ~(device.offered[i]! | own));
    if (beyond.some((word) => word !== 0)) return 'features that were not offered';
    // Asked for again as they are, they change nothing.
    if (wanted.every((word, i) => word === this.#features[i])) return undefined;
    if (!this.#areStopped()) return RUNNING;
    this.#features.set(wanted);
    device.reset();
    device.negotiated(wanted);
    if (this.#context.cacheMode.isWriteThrough) device.writeConfig(CONFIG.writeback, 1, 0);
    return undefined;
  }

  #setProtocolFeatures(low: number, high: number): Outcome {
    if (high !== 0 || (low & ~PROTOCOL_FEATURES) !== 0) return 'protocol features that were not offered';
    this.#protocolFeatures = low;
    return undefined;
  }

  #setMemTable(regions: Parameters<MemoryTable['replace']>[0], fds: readonly number[]): Outcome {
    const why = this.#context.table.replace(regions, fds);
    if (why === undefined) for (const ring of this.#rings) ring.remapped();
    return why;
  }

  /** Offset, size and flags as asked for, and the bytes; beyond the end there are zeros. */
  #config(offset: number, sizeBytes: number): Uint8Array {
    // An error has no payload.
    if (offset > CONFIG_BYTES_MAX - sizeBytes) return new Uint8Array(0);
    const payload = new Uint8Array(CONFIG_HEADER_BYTES + sizeBytes);
    const view = viewOf(payload);
    view.setUint32(0, offset, true);
    view.setUint32(4, sizeBytes, true);
    for (let i = 0; i < sizeBytes && offset + i < CONFIG_BYTES; i++) {
      payload[CONFIG_HEADER_BYTES + i] = this.#configByte(offset + i);
    }
    return payload;
  }

  #configByte(offset: number): number {
    const { device, cacheMode } = this.#context;
    return offset === CONFIG.writeback && cacheMode.isWriteThrough ? 0 : device.readConfig(offset, 1);
  }

  /** Only the cache mode is the driver's to set. It may come before the features, which a VMM sends when rings start. */
  #setConfig(offset: number, flags: number, bytes: Uint8Array): Outcome {
    const { device, cacheMode } = this.#context;
    if (flags !== 0) return 'the configuration of another device can not be taken over';
    if (offset !== CONFIG.writeback || bytes.length !== 1 || bytes[0]! > 1)
      return 'only writeback can be set, to 0 or 1';
    cacheMode.isWriteThrough = bytes[0] === 0;
    device.writeConfig(offset, 1, bytes[0]!);
    return undefined;
  }

  /** Makes an area of zeros that tracks what is in flight. The front end keeps it, and hands it out again. */
  #getInflight({ queueCount, queueSize }: InflightFields, payloadBytes: number): Outcome {
    const why = this.#whyNoInflight(queueCount, queueSize);
    if (why !== undefined) return why;
    const { host } = this.#context;
    const sizeBytes = queueCount * inflightRegionBytes(queueSize, this.#isPacked());
    const fd = host.createMemory('powercut-inflight', sizeBytes);
    const payload = new Uint8Array(payloadBytes);
    const view = viewOf(payload);
    setU64(view, 0, sizeBytes);
    view.setUint16(16, queueCount, true);
    view.setUint16(18, queueSize, true);
    return { payload, fds: [fd] };
  }

  #setInflight(fields: InflightFields, fd: number): Outcome {
    const { queueCount, queueSize, offsetBytes, sizeBytes } = fields;
    const { host, allowsUnsealed } = this.#context;
    if (!this.#areStopped()) return RUNNING;
    const neededBytes = queueCount * inflightRegionBytes(queueSize, this.#isPacked());
    const why =
      this.#whyNoInflight(queueCount, queueSize) ??
      (offsetBytes % REGION_ALIGN === 0
        ? undefined
        : `expected a multiple of ${REGION_ALIGN}, got offset ${offsetBytes}`) ??
      (sizeBytes < neededBytes ? `expected ${neededBytes} bytes, got ${sizeBytes}` : undefined) ??
      whyNotMappable(host, fd, offsetBytes, neededBytes, allowsUnsealed);
    if (why !== undefined) return why;
    const mapping = host.map(fd, offsetBytes, neededBytes);
    if (mapping === undefined) return 'the area can not be mapped';
    this.#dropInflight();
    this.#inflight = mapping;
    this.#inflightFields = fields;
    return undefined;
  }

  #whyNoInflight(queueCount: number, queueSize: number): string | undefined {
    if (queueCount < 1 || queueCount > this.#rings.length)
      return `expected 1 to ${this.#rings.length} queues, got ${queueCount}`;
    if (queueSize < 1 || queueSize > RING_SIZE_MAX) return `expected 1 to ${RING_SIZE_MAX} entries, got ${queueSize}`;
    return undefined;
  }

  #tracker(index: number): InflightTracker | string | undefined {
    const fields = this.#inflightFields;
    if (this.#inflight === undefined || fields === undefined) return undefined;
    if (index >= fields.queueCount) return `queue ${index} is not tracked: the area is for ${fields.queueCount}`;
    const regionBytes = inflightRegionBytes(fields.queueSize, this.#isPacked());
    const region = this.#inflight.pieces[0]!.subarray(index * regionBytes, (index + 1) * regionBytes);
    if (region.length < regionBytes) return 'the area is for another format of rings';
    return inflightTracker(region, fields.queueSize, this.#isPacked());
  }

  #resetDevice(): void {
    this.#stopAll();
    for (const ring of this.#rings) ring.enabled = false;
    this.#dropInflight();
    this.#features.fill(0);
    this.#context.cacheMode.isWriteThrough = false;
    this.#context.device.reset();
  }

  #stopAll(): void {
    for (const ring of this.#rings) ring.stop();
  }

  #areStopped(): boolean {
    return this.#rings.every((ring) => ring.isStopped);
  }

  #dropInflight(): void {
    // No ring has a view of it by now.
    this.#inflight?.unmap();
    this.#inflight = undefined;
    this.#inflightFields = undefined;
  }

  #isPacked(): boolean {
    return hasFeature(this.#features, F_RING_PACKED);
  }

  #hasProtocol(bit: number): boolean {
    return (this.#protocolFeatures & (1 << bit)) !== 0;
  }

  /** Sends an answer; the file descriptors that go with it are closed here. */
  #send(request: number, payload: Uint8Array, fds: readonly number[] = []): void {
    const { host } = this.#context;
    const view = viewOf(this.#reply);
    view.setUint32(0, request, true);
    view.setUint32(4, VERSION | FLAG_REPLY, true);
    view.setUint32(8, payload.length, true);
    this.#reply.set(payload, HEADER_BYTES);
    const isSent = host.send(this.#socket, this.#reply.subarray(0, HEADER_BYTES + payload.length), fds);
    for (const fd of fds) host.close(fd);
    // An answer is never longer than what came, so that only who does not read has no room for it.
    if (!isSent) this.end('it does not take its answers');
  }
}

const RUNNING = 'not while a ring runs';

function setSize(ring: VhostRing, size: number): Outcome {
  if (!ring.isStopped) return RUNNING;
  if (size < 1 || size > RING_SIZE_MAX) return `expected 1 to ${RING_SIZE_MAX} entries, got ${size}`;
  ring.size = size;
  return undefined;
}

function setAddresses(ring: VhostRing, addresses: RingAddressFields): Outcome {
  // Bit 0: to log what is written to the used ring.
  if (addresses.flags !== 0) return 'what is written is not logged for a migration: this feature was not offered';
  if (!ring.isStopped) return RUNNING;
  ring.addresses = addresses;
  return undefined;
}

/** A 64-bit answer. */
function u64(value: number): Uint8Array {
  const payload = new Uint8Array(8);
  setU64(viewOf(payload), 0, value);
  return payload;
}

/** The state of a ring: its index, and a number. */
function state(index: number, value: number): Uint8Array {
  const payload = new Uint8Array(8);
  viewOf(payload).setUint32(0, index, true);
  viewOf(payload).setUint32(4, value, true);
  return payload;
}
