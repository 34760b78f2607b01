import { MemoryDevice } from '../../blockdev/index.ts';
import {
  assertInteger,
  messageOf,
  Sfc32,
  setU64,
  systemTimers,
  VirtualClock,
  VirtualTimers,
  viewOf,
} from '../../core/index.ts';
import { profiles } from '../../faults/index.ts';
import { DESC_F_NEXT, DESC_F_WRITE, F_RING_PACKED, F_VERSION_1, VirtioBlkDriver } from '../../virtio/index.ts';
import { ServedDisk } from '../disk/served-disk.ts';
import { VhostUserMachine } from './machine.ts';
import { MemoryHost } from './memory-host.ts';
import { FLAG_NEED_REPLY, HEADER_BYTES, PROTOCOL_FEATURES, REQUEST, VERSION } from './protocol.ts';
import { VhostUserServer, type VhostUserServerOptions } from './server.ts';

export interface VhostFuzzOptions {
  /** Front ends, each with a life of its own. */
  readonly episodeCount: number;
  /** Of the first; each next one has the next number. */
  readonly seed: number;
  readonly onProgress?: (episodeCount: number) => void;
  /** For tests of the fuzzer: a server in the place of the real one. */
  readonly startServer?: (options: VhostUserServerOptions) => Promise<VhostUserServer>;
}

export interface VhostFuzzReport {
  readonly episodeCount: number;
  readonly messageCount: number;
  /** How many messages were answered, connections ended by the back end, rings broken, requests served. */
  readonly answerCount: number;
  readonly droppedCount: number;
  readonly brokenRingCount: number;
  readonly requestCount: number;
  /** The most that was mapped at once, in bytes. */
  readonly mappedBytesMax: number;
  readonly failure: { readonly seed: number; readonly what: string } | undefined;
}

const PATH = 'fuzz.sock';
const OPERATIONS = 60;
/** Sizes of the files that a hostile front end has. */
const FILE_BYTES = 0x8000;
const USER = 0x7000_0000;
const KIND_NAMES = Object.keys(REQUEST) as (keyof typeof REQUEST)[];

/**
 * Hostile front ends against the back end, in memory: messages that are well formed, nearly so, and not at all, in any
 * order, with file descriptors of every kind; rings full of anything; power cuts in between. What must hold: nothing is
 * thrown, no file descriptor and no mapping is left, nothing is mapped that a file has not got, nobody touches what has
 * been unmapped, and the next front end, an honest one, is served.
 */
export async function fuzzVhostUser(options: VhostFuzzOptions): Promise<VhostFuzzReport> {
  const { episodeCount, seed, onProgress, startServer = (each) => VhostUserServer.start(each) } = options;
  assertInteger(episodeCount, 'episodeCount', 1);
  assertInteger(seed, 'seed', 0, Number.MAX_SAFE_INTEGER - episodeCount);
  const totals = {
    messageCount: 0,
    answerCount: 0,
    droppedCount: 0,
    brokenRingCount: 0,
    requestCount: 0,
    mappedBytesMax: 0,
  };
  for (let i = 0; i < episodeCount; i++) {
    const episode = new Episode(seed + i);
    try {
      await episode.run(startServer);
    } catch (error) {
      return { ...totals, episodeCount: i + 1, failure: { seed: seed + i, what: messageOf(error) } };
    }
    totals.messageCount += episode.messageCount;
    totals.answerCount += episode.answerCount;
    totals.droppedCount += episode.server?.statistics.clientsDropped ?? 0;
    totals.brokenRingCount += episode.server?.statistics.queuesBroken ?? 0;
    totals.requestCount += episode.server?.statistics.requests ?? 0;
    totals.mappedBytesMax = Math.max(totals.mappedBytesMax, episode.mappedBytesMax);
    onProgress?.(i + 1);
  }
  return { ...totals, episodeCount, failure: undefined };
}

/** Address, length and flags of the descriptors of a write. */
const CHAIN = [
  [0x4000, 16, DESC_F_NEXT],
  [0x5000, 512, DESC_F_NEXT],
  [0x6000, 1, DESC_F_WRITE],
] as const;

class Episode {
  messageCount = 0;
  answerCount = 0;
  mappedBytesMax = 0;
  server: VhostUserServer | undefined;
  readonly #random: Sfc32;
  readonly #host = new MemoryHost();
  readonly #clock = new VirtualClock();
  readonly #timers = new VirtualTimers(this.#clock);
  readonly #disk = new ServedDisk(new MemoryDevice({ sectorCount: 64 }), { profile: profiles['nvme-512'] });
  readonly #files: number[];
  readonly #others: number[];
  readonly #scratch = new Uint8Array(4096);
  #socket = -1;

  constructor(seed: number) {
    this.#random = new Sfc32(seed);
    const host = this.#host;
    this.#files = [0, 1, 2].map(() => host.createFile(FILE_BYTES, true));
    this.#others = [host.createEvent(), host.createEvent(), host.createFile(FILE_BYTES, false), host.listen('other')];
  }

  async run(startServer: (options: VhostUserServerOptions) => Promise<VhostUserServer>): Promise<void> {
    const host = this.#host;
    const ownCount = host.openCount;
    const [disk, clock, timers] = [this.#disk, this.#clock, this.#timers];
    const onCut = this.#chance(2) ? 'stall' : 'disconnect';
    const server = await startServer({ disk, path: PATH, host, clock, timers, queueCount: 2, onCut });
    this.server = server;
    for (let i = 0; i < OPERATIONS; i++) {
      this.#step();
      this.#turn();
    }
    this.#hangUp();
    this.#powerOn();
    this.#turn();
    check(
      host.openCount === ownCount + 1,
      `${host.openCount - ownCount - 1} file descriptors are left of a front end that went`,
    );
    check(host.mappedBytes === 0, `${host.mappedBytes} bytes are still mapped`);
    await this.#honest();
    server.close();
    check(host.openCount === ownCount, 'a file descriptor is left of a server that was closed');
    check(host.watchCount === 0, 'something is still watched');
  }

  #step(): void {
    if (this.#disk.power !== 'on' && this.#chance(3)) this.#powerOn();
    if (this.#socket < 0 || this.#chance(60)) {
      this.#hangUp();
      this.#socket = this.#host.connect(PATH);
      if (this.#chance(4)) return;
      this.#introduce();
      return;
    }
    switch (this.#random.below(14)) {
      case 13:
      case 12:
      case 11:
        this.#offer();
        break;
      case 10:
      case 0:
        this.#host.sendEvent(this.#pick(this.#others));
        break;
      case 1:
        this.#scribble();
        break;
      case 2:
        this.#clock.advance(5);
        break;
      case 3:
        this.#power();
        break;
      case 4:
        this.#startRing(this.#pick([0, 0, 1, 1, 2]));
        break;
      case 5:
        if (this.#chance(8)) this.#sendGarbage();
        else this.#startRing(0);
        break;
      default:
        this.#sendMessage(this.#pick(KIND_NAMES));
    }
  }

  /** What an honest one says first, so that the rest gets anywhere. */
  #introduce(): void {
    const features = viewOf(new Uint8Array(8));
    features.setUint32(0, 0x7000_0000 | (1 << 9), true);
    features.setUint32(4, (1 << (F_VERSION_1 - 32)) | (this.#chance(2) ? 1 << (F_RING_PACKED - 32) : 0), true);
    this.#send(REQUEST.setProtocolFeatures, bytesOf(PROTOCOL_FEATURES, 0));
    this.#send(REQUEST.setFeatures, new Uint8Array(features.buffer));
    this.#send(REQUEST.setMemTable, this.#table(2, false), this.#files.slice(0, 2));
  }

  #startRing(index: number): void {
    this.#send(REQUEST.getVringBase, bytesOf(index, 0));
    if (this.#chance(2)) this.#send(REQUEST.setMemTable, this.#table(2, false), this.#files.slice(0, 2));
    const size = this.#pick([1, 4, 16, 16, 16, 1024]);
    this.#send(REQUEST.setVringNum, bytesOf(index, size));
    this.#send(REQUEST.setVringBase, bytesOf(index, this.#pick([0, 0x8000_8000, 3])));
    const addresses = new Uint8Array(40);
    const view = viewOf(addresses);
    view.setUint32(0, index, true);
    for (const [i, at] of [0x1000, 0x2000, 0x3000].entries()) setU64(view, 8 + 8 * i, USER + at + 0x400 * index);
    this.#send(REQUEST.setVringAddr, addresses);
    this.#send(REQUEST.setVringKick, bytesOf(index, 0), [this.#others[0]!]);
    this.#send(REQUEST.setVringCall, bytesOf(index, 0), [this.#others[1]!]);
    this.#send(REQUEST.setVringEnable, bytesOf(index, 1));
  }

  /** A message of a kind, with fields that are plausible, or not. */
  #sendMessage(kind: keyof typeof REQUEST): void {
    const payload = this.#payload(kind);
    if (this.#chance(12)) payload[this.#random.below(Math.max(1, payload.length))] = this.#random.below(256);
    const cut = this.#chance(15) ? payload.subarray(0, this.#random.below(payload.length + 1)) : payload;
    this.#send(REQUEST[kind], cut, this.#fds(kind, payload));
  }

  #payload(kind: keyof typeof REQUEST): Uint8Array {
    const index = this.#pick([0, 0, 0, 1, 1, 1, 2]);
    switch (kind) {
      case 'setMemTable':
        return this.#table(this.#random.below(4), this.#chance(2));
      case 'setVringAddr': {
        const payload = new Uint8Array(40);
        payload[0] = index;
        for (const at of [8, 16, 24]) setU64(viewOf(payload), at, this.#address());
        return payload;
      }
      case 'getConfig':
      case 'setConfig': {
        const sizeBytes = this.#pick([0, 1, 60, 256]);
        const payload = new Uint8Array(12 + sizeBytes);
        viewOf(payload).setUint32(0, this.#pick([0, 32, 200, 0xffff_ffff]), true);
        viewOf(payload).setUint32(4, sizeBytes, true);
        return payload;
      }
      case 'getInflightFd':
      case 'setInflightFd': {
        const payload = new Uint8Array(24);
        const view = viewOf(payload);
        setU64(view, 0, this.#pick([0, 4096, FILE_BYTES, 2 ** 40]));
        setU64(view, 8, this.#pick([0, 0, 64, 3, 2 ** 40]));
        view.setUint16(16, this.#pick([0, 1, 2, 2, 65_535]), true);
        view.setUint16(18, this.#pick([0, 16, 128, 1024, 65_535]), true);
        return payload;
      }
      case 'getFeatures':
      case 'setOwner':
      case 'resetOwner':
      case 'getProtocolFeatures':
      case 'getQueueNum':
      case 'resetDevice':
        return new Uint8Array(0);
      default:
        return bytesOf(index, this.#pick([0, 1, 16, 0x8000_8000, this.#random.nextU32()]));
    }
  }

  #fds(kind: keyof typeof REQUEST, payload: Uint8Array): number[] {
    const any = [...this.#files, ...this.#others, this.#socket];
    if (this.#chance(10)) return Array.from({ length: this.#random.below(10) }, () => this.#pick(any));
    if (kind === 'setMemTable') return Array.from({ length: payload[0] ?? 0 }, () => this.#pick(any));
    if (kind === 'setInflightFd') return [this.#pick(any)];
    const isOfRing = kind === 'setVringKick' || kind === 'setVringCall' || kind === 'setVringErr';
    return isOfRing && (payload[1]! & 1) === 0 ? [this.#pick(any)] : [];
  }

  #table(count: number, isWild: boolean): Uint8Array {
    const payload = new Uint8Array(8 + 32 * count);
    const view = viewOf(payload);
    view.setUint32(0, count, true);
    for (let i = 0; i < count; i++) {
      const at = 8 + 32 * i;
      const guest = isWild ? this.#address() : i * FILE_BYTES;
      setU64(view, at, guest);
      setU64(view, at + 8, isWild ? this.#pick([0, 1, 0x1001, FILE_BYTES, 2 ** 45]) : FILE_BYTES);
      setU64(view, at + 16, isWild ? USER + this.#address() : USER + guest);
      setU64(view, at + 24, isWild ? this.#pick([0, 1, 0x1000, 2 ** 45]) : 0);
    }
    return payload;
  }

  #address(): number {
    return this.#pick([
      0,
      1,
      0x1000,
      0x7ff0,
      FILE_BYTES,
      USER + 0x1000,
      USER + 0x2002,
      2 ** 40,
      Number.MAX_SAFE_INTEGER,
    ]);
  }

  /** Anything into what may be a ring, or the area that tracks it. */
  #scribble(): void {
    const bytes = this.#host.contentOf(this.#pick(this.#files))!;
    for (let i = 0; i < 24; i++) {
      const at = 0x1000 * this.#random.below(4) + 0x400 * this.#random.below(2) + 2 * this.#random.below(64);
      viewOf(bytes).setUint16(at, this.#pick([0, 1, 2, 3, 4, 16, 0x80, 0x8000, this.#random.below(0x1_0000)]), true);
    }
  }

  /** A write that makes sense, in the places of a ring that was started as {@link #startRing} does; then a kick. */
  #offer(): void {
    const bytes = this.#host.contentOf(this.#files[0]!)!;
    const view = viewOf(bytes);
    const ring = 0x400 * this.#random.below(2);
    // Header, a sector, status.
    bytes.fill(0, 0x4000, 0x4010);
    view.setUint32(0x4000, 1, true);
    const isPacked = this.#chance(2);
    for (const [i, [address, lengthBytes, flags]] of CHAIN.entries()) {
      const at = 0x1000 + ring + 16 * i;
      setU64(view, at, address);
      view.setUint32(at + 8, lengthBytes, true);
      view.setUint16(at + (isPacked ? 14 : 12), flags | (isPacked ? 0x80 : 0), true);
      view.setUint16(at + (isPacked ? 12 : 14), isPacked ? 0 : i + 1, true);
    }
    if (!isPacked) {
      view.setUint16(0x3004 + ring + 2 * (view.getUint16(0x3002 + ring, true) % 16), 0, true);
      view.setUint16(0x3002 + ring, view.getUint16(0x3002 + ring, true) + 1, true);
    }
    this.#host.sendEvent(this.#others[0]!);
  }

  #sendGarbage(): void {
    const bytes = this.#scratch.subarray(0, 1 + this.#random.below(40));
    this.#random.fill(bytes);
    // Half of them with a header that begins well.
    if (this.#chance(2)) bytes.set(bytesOf(this.#random.below(40), VERSION).subarray(0, bytes.length));
    this.messageCount++;
    this.#host.send(this.#socket, bytes, this.#chance(3) ? [this.#pick(this.#others)] : []);
  }

  #send(request: number, payload: Uint8Array, fds: readonly number[] = []): void {
    const message = new Uint8Array(HEADER_BYTES + payload.length);
    message.set(bytesOf(request, VERSION | (this.#chance(5) ? 0 : FLAG_NEED_REPLY)));
    viewOf(message).setUint32(8, payload.length, true);
    message.set(payload, HEADER_BYTES);
    this.messageCount++;
    // Now and then it arrives in two pieces.
    const at = this.#chance(8) ? 1 + this.#random.below(message.length - 1) : message.length;
    this.#host.send(this.#socket, message.subarray(0, at), fds);
    if (at < message.length) this.#host.send(this.#socket, message.subarray(at), []);
  }

  #power(): void {
    if (this.#disk.power !== 'on') this.#powerOn();
    else if (this.#chance(4)) this.#disk.cut();
    else if (this.#chance(2)) this.#disk.latency.set({ read: 3, write: 7 });
    else this.#disk.latency.set({});
  }

  #powerOn(): void {
    if (this.#disk.power === 'off') this.#disk.resolve({ seed: this.#random.below(1000) });
    if (this.#disk.power !== 'on') this.#disk.powerOn();
  }

  /** The back end has its turn, and its answers are read. */
  #turn(): void {
    this.#host.run();
    this.#timers.runDue();
    this.#host.run();
    this.mappedBytesMax = Math.max(this.mappedBytesMax, this.#host.mappedBytes);
    // Eight regions, each no longer than its file; twice, while a table takes the place of another.
    check(this.#host.mappedBytes <= 9 * FILE_BYTES, `${this.#host.mappedBytes} bytes are mapped`);
    const fds: number[] = [];
    while (this.#socket >= 0 && this.#host.receive(this.#socket, this.#scratch, fds) > 0) this.answerCount++;
    for (const fd of fds) this.#host.close(fd);
    if (this.#socket >= 0 && !this.#host.isOpen(this.#socket)) this.#hangUp();
  }

  #hangUp(): void {
    if (this.#socket >= 0) this.#host.close(this.#socket);
    this.#socket = -1;
  }

  /** After all that, our own driver in a machine that keeps to the rules. */
  async #honest(): Promise<void> {
    this.#disk.latency.set({});
    const host = this.#host;
    const regions = [{ guestAddress: 0, sizeBytes: 1 << 16 }];
    const connecting = VhostUserMachine.connect({ host, path: PATH, regions, queueSizeMax: 16 });
    const machine = await this.#await(connecting);
    try {
      const driver = new VirtioBlkDriver(machine, machine.memory, { slotCount: 2, slotBytes: 4096, ringSizeMax: 16 });
      await this.#await(machine.settled);
      const ticket = driver.submitWrite(7, new Uint8Array(512).fill(0xa5));
      let done = driver.poll();
      for (let turns = 0; done === undefined && turns < 20; turns++) {
        this.#turn();
        done = driver.poll();
      }
      check(done === ticket, 'the front end that came after was not served');
      driver.finish(ticket);
      const found = new Uint8Array(512);
      this.#disk.read(7, found);
      check(found[511] === 0xa5, 'what the front end that came after wrote is not on the disk');
    } finally {
      machine.dispose();
    }
    this.#turn();
  }

  async #await<T>(promise: Promise<T>): Promise<T> {
    let isSettled = false;
    const settled = promise.finally(() => {
      isSettled = true;
    });
    settled.catch(() => undefined);
    for (let turns = 0; !isSettled; turns++) {
      check(turns < 1000, 'the front end that came after waits for ever');
      this.#turn();
      await new Promise<void>((resolve) => systemTimers.soon(resolve));
    }
    return await settled;
  }

  #chance(of: number): boolean {
    return this.#random.below(of) === 0;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }
}

function bytesOf(low: number, high: number): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setUint32(0, low, true);
  viewOf(bytes).setUint32(4, high, true);
  return bytes;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}
