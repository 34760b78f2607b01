import type { BlockDevice } from '../blockdev/index.ts';
import { assertString, type Choices, DeviceError } from '../core/index.ts';
import {
  BlkConfigSpace,
  type BlkLimits,
  capacityUnits,
  type OfferTerms,
  offerFeatures,
  resolveLimits,
} from './blk-config.ts';
import {
  BLK_DEVICE_ID,
  BLK_F_CONFIG_WCE,
  BLK_F_DISCARD,
  BLK_F_FLUSH,
  BLK_F_LIFETIME,
  BLK_F_MQ,
  BLK_F_SECURE_ERASE,
  BLK_F_WRITE_ZEROES,
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_S_UNSUPP,
  BLK_T_DISCARD,
  BLK_T_FLUSH,
  BLK_T_GET_ID,
  BLK_T_GET_LIFETIME,
  BLK_T_IN,
  BLK_T_OUT,
  BLK_T_SECURE_ERASE,
  BLK_T_WRITE_ZEROES,
  CONFIG,
  ID_BYTES,
  LIFETIME_BYTES,
  RANGE_F_UNMAP,
  UNIT_BYTES,
} from './blk-layout.ts';
import { type BlkLifetime, encodeLifetime } from './blk-lifetime.ts';
import { RangeList, type RangeRules } from './blk-ranges.ts';
import { BlkRequest } from './blk-request.ts';
import { SectorMover } from './blk-transfer.ts';
import { DescriptorChain } from './chain.ts';
import type { VirtQueue } from './device-queue.ts';
import { type FeatureWords, featureWords, hasFeature } from './features.ts';
import type { GuestMemory } from './memory.ts';
import type { DeviceModel } from './model.ts';

/** What a driver finds, and in which order requests complete. */
export interface BlkDeviceOptions extends BlkLimits {
  /** The string of GET_ID: up to 20 ASCII characters. Default `powercut`. */
  readonly id?: string;
  /** Feature bits that are not offered although they could be. */
  readonly withhold?: readonly number[];
  /** Whether the cache starts out as a write-back one. Default: as the backend has one. */
  readonly writeback?: boolean;
  /**
   * Picks which of the requests in flight is carried out and completed next, as `virtio completion order`; IN_ORDER is
   * not offered then. Without it: in the order in which they were made available.
   */
  readonly choices?: Choices;
  /**
   * Whether SECURE_ERASE is offered: to be set where zeros that were written and flushed leave nothing of what was there
   * before, as on our own disks. Default false.
   */
  readonly secureErase?: boolean;
  /** How worn the medium is, asked at each GET_LIFETIME; without it LIFETIME is not offered (virtio 5.2.6.2). */
  readonly lifetime?: () => BlkLifetime;
}

const UNMAP = { unmap: true };

/**
 * The virtio block device (virtio 5.2) over a {@link BlockDevice}. A request is parsed, carried out on the backend and
 * finished with a status byte; what is wrong with it is a status too, and so is every {@link DeviceError} of the
 * backend. Only a power cut (EPOWER), or what is no disk error at all, is thrown, for the transport to halt on.
 *
 * The backend stays the caller's: the device does not close it.
 */
export class BlkDevice implements DeviceModel {
  readonly deviceId: number = BLK_DEVICE_ID;
  readonly queueSizesMax: readonly number[];
  readonly offered: FeatureWords = featureWords();
  readonly #memory: GuestMemory;
  readonly #limits: Required<BlkLimits>;
  readonly #terms: OfferTerms;
  readonly #lifetime: (() => BlkLifetime) | undefined;
  readonly #writeback: boolean | undefined;
  readonly #choices: Choices | undefined;
  readonly #config = new BlkConfigSpace();
  readonly #id: Uint8Array;
  readonly #request = new BlkRequest();
  readonly #mover = new SectorMover();
  readonly #ranges: RangeList;
  readonly #negotiated: FeatureWords = featureWords();
  #isNegotiated = false;
  /** Chains held at once: one, unless completion is out of order. */
  readonly #held: DescriptorChain[] = [];
  #backend: BlockDevice;
  #onConfigChange: () => void = () => {};
  /** How a write is made durable before it completes: not at all, by FUA, or by a flush after it. */
  #throughFua = false;
  #throughFlush = false;

  constructor(backend: BlockDevice, memory: GuestMemory, options: BlkDeviceOptions = {}) {
    this.#memory = memory;
    this.#limits = resolveLimits(options);
    this.#lifetime = options.lifetime;
    this.#terms = {
      withhold: options.withhold ?? [],
      queueCount: this.#limits.queueCount,
      reorders: options.choices !== undefined,
      secureErase: options.secureErase === true,
      lifetime: options.lifetime !== undefined,
    };
    this.#writeback = options.writeback;
    this.#choices = options.choices;
    this.#id = encodeId(options.id ?? 'powercut');
    this.#ranges = new RangeList(this.#limits.rangeCountMax);
    this.queueSizesMax = Array.from({ length: this.#limits.queueCount }, () => this.#limits.queueSizeMax);
    this.#backend = backend;
    this.attach(backend);
  }

  /** Puts another disk behind the device. For a device that is off or reset: a driver at work would not notice. */
  attach(backend: BlockDevice): void {
    this.#backend = backend;
    offerFeatures(this.offered, backend, this.#terms);
    this.#config.describe(backend, this.offered, this.#limits);
    this.reset();
  }

  /** 5.2.2: without MQ there is one queue. */
  get queueCount(): number {
    return this.#isNegotiated && !this.#has(BLK_F_MQ) ? 1 : this.queueSizesMax.length;
  }

  /** The backend's size, or whether it can deallocate, changed: tells the driver (5.2.6.2). */
  backendChanged(): void {
    this.#config.describeChanging(this.#backend, this.offered);
    this.#onConfigChange();
  }

  connect(onConfigChange: () => void): void {
    this.#onConfigChange = onConfigChange;
  }

  /** Every subset is one that the device works with: what it offers depends on nothing else but VERSION_1. */
  accepts(_features: FeatureWords): boolean {
    return true;
  }

  negotiated(features: FeatureWords): void {
    this.#negotiated.set(features);
    this.#isNegotiated = true;
    // 5.2.5.2: a driver that can't flush gets no write-back cache.
    if (!this.#has(BLK_F_FLUSH)) this.#config.writeback = false;
    this.#chooseWriteMode();
  }

  reset(): void {
    this.#negotiated.fill(0);
    this.#isNegotiated = false;
    const offersWce = hasFeature(this.offered, BLK_F_CONFIG_WCE);
    this.#config.writeback = offersWce && (this.#writeback ?? this.#backend.features.writeCache);
    this.#chooseWriteMode();
  }

  readConfig(offset: number, widthBytes: number): number {
    return this.#config.read(offset, widthBytes);
  }

  /** Only the cache mode is the driver's, as a byte of 0 or 1 (5.2.5, 5.2.6.1). */
  writeConfig(offset: number, widthBytes: number, value: number): void {
    if (offset !== CONFIG.writeback || widthBytes !== 1 || value > 1) return;
    if (!this.#has(BLK_F_CONFIG_WCE) || !this.#has(BLK_F_FLUSH)) return;
    this.#config.writeback = value === 1;
    this.#chooseWriteMode();
  }

  process(_queueIndex: number, queue: VirtQueue): number {
    if (this.#choices !== undefined) return this.#processReordered(queue, this.#choices);
    const chain = this.#chain(0);
    let count = 0;
    // Bounded even if the driver adds requests while they are served.
    while (count < queue.size && queue.pop(chain)) {
      this.#serve(chain, queue);
      count++;
    }
    return count;
  }

  #processReordered(queue: VirtQueue, choices: Choices): number {
    const held = this.#held;
    let count = 0;
    while (count < queue.size && queue.pop(this.#chain(count))) count++;
    for (let left = count; left > 0; left--) {
      const pick = left > 1 ? choices.choose(left, 'virtio completion order') : 0;
      const chain = held[pick]!;
      // Reset while another of them was served, the queue has nothing to be carried out any more (2.6.1).
      if (queue.owns(chain)) this.#serve(chain, queue);
      // The others keep their order; the object goes behind them for the next batch.
      held.copyWithin(pick, pick + 1, left);
      held[left - 1] = chain;
    }
    return count;
  }

  #chain(index: number): DescriptorChain {
    let chain = this.#held[index];
    if (chain === undefined) {
      chain = new DescriptorChain(this.#memory);
      this.#held.push(chain);
    }
    return chain;
  }

  #serve(chain: DescriptorChain, queue: VirtQueue): void {
    const request = this.#request;
    request.parse(chain);
    // Without a status byte there is no way to answer, so nothing is carried out either.
    queue.push(chain, request.statusAddress < 0 ? 0 : this.#answer(chain, request));
  }

  /** @returns how many writable bytes, from the first on, are written: what lies before the status counts or hides it */
  #answer(chain: DescriptorChain, request: BlkRequest): number {
    const status = chain.faulty ? BLK_S_IOERR : this.#execute(chain, request);
    const { type } = request;
    const fillsRoom = type === BLK_T_IN || type === BLK_T_GET_ID || type === BLK_T_GET_LIFETIME;
    const dataBytes = status === BLK_S_OK && fillsRoom ? request.roomBytes : 0;
    if (!this.#memory.writeU8(request.statusAddress, status)) return dataBytes;
    return dataBytes === request.roomBytes ? dataBytes + 1 : dataBytes;
  }

  #execute(chain: DescriptorChain, request: BlkRequest): number {
    try {
      return this.#dispatch(chain, request);
    } catch (error) {
      if (error instanceof DeviceError && error.code !== 'EPOWER') return BLK_S_IOERR;
      throw error;
    }
  }

  #dispatch(chain: DescriptorChain, request: BlkRequest): number {
    switch (request.type) {
      case BLK_T_IN:
        return this.#read(chain, request);
      case BLK_T_OUT:
        return this.#write(chain, request);
      case BLK_T_FLUSH:
        return this.#flush();
      case BLK_T_GET_ID:
        return this.#getId(chain, request);
      case BLK_T_DISCARD:
        return this.#discard(chain, request);
      case BLK_T_WRITE_ZEROES:
        return this.#writeZeroes(chain, request);
      case BLK_T_SECURE_ERASE:
        return this.#secureErase(chain, request);
      case BLK_T_GET_LIFETIME:
        return this.#getLifetime(chain, request);
      case -1:
        return BLK_S_IOERR;
      default:
        return BLK_S_UNSUPP;
    }
  }

  #read(chain: DescriptorChain, request: BlkRequest): number {
    const lengthBytes = request.roomBytes;
    if (request.givenBytes !== 0 || !this.#isTransfer(request.unit, lengthBytes)) return BLK_S_IOERR;
    const sector = (request.unit * UNIT_BYTES) / this.#backend.sectorBytes;
    return statusOf(this.#mover.read(this.#backend, sector, chain.writable, lengthBytes));
  }

  #write(chain: DescriptorChain, request: BlkRequest): number {
    const lengthBytes = request.givenBytes;
    // 5.2.6.2: to a read-only device nothing is written.
    if (this.#backend.readOnly || request.roomBytes !== 0) return BLK_S_IOERR;
    if (!this.#isTransfer(request.unit, lengthBytes)) return BLK_S_IOERR;
    const sector = (request.unit * UNIT_BYTES) / this.#backend.sectorBytes;
    const done = this.#mover.write(this.#backend, sector, chain.readable, lengthBytes, this.#throughFua);
    if (this.#throughFlush) this.#backend.flush();
    return statusOf(done);
  }

  /** The sector field means nothing here (5.2.6); what else the driver attached is left alone. */
  #flush(): number {
    if (!this.#has(BLK_F_FLUSH)) return BLK_S_UNSUPP;
    if (this.#backend.features.flush) this.#backend.flush();
    return BLK_S_OK;
  }

  #getId(chain: DescriptorChain, request: BlkRequest): number {
    if (request.roomBytes !== ID_BYTES) return BLK_S_IOERR;
    return statusOf(chain.writable.write(this.#id));
  }

  #discard(chain: DescriptorChain, request: BlkRequest): number {
    const status = this.#parseRanges(chain, request, BLK_F_DISCARD, 0);
    if (status !== BLK_S_OK) return status;
    const { sectorBytes } = this.#backend;
    const unitsPerSector = sectorBytes / UNIT_BYTES;
    for (let i = 0; i < this.#ranges.count; i++) {
      this.#backend.discard(this.#ranges.unit(i) / unitsPerSector, this.#ranges.unitCount(i) / unitsPerSector);
    }
    return BLK_S_OK;
  }

  #writeZeroes(chain: DescriptorChain, request: BlkRequest): number {
    const status = this.#parseRanges(chain, request, BLK_F_WRITE_ZEROES, RANGE_F_UNMAP);
    if (status !== BLK_S_OK) return status;
    const unitsPerSector = this.#backend.sectorBytes / UNIT_BYTES;
    for (let i = 0; i < this.#ranges.count; i++) {
      const sector = this.#ranges.unit(i) / unitsPerSector;
      const sectorCount = this.#ranges.unitCount(i) / unitsPerSector;
      if (this.#ranges.mayUnmap(i)) this.#backend.writeZeroes(sector, sectorCount, UNMAP);
      else this.#backend.writeZeroes(sector, sectorCount);
    }
    // Zeros have no FUA in the backend's contract.
    if ((this.#throughFua || this.#throughFlush) && this.#backend.features.flush) this.#backend.flush();
    return BLK_S_OK;
  }

  /** Zeros over what was there, durable before the status: the old content is in no cache and on no medium then. */
  #secureErase(chain: DescriptorChain, request: BlkRequest): number {
    const status = this.#parseRanges(chain, request, BLK_F_SECURE_ERASE, 0);
    if (status !== BLK_S_OK) return status;
    const unitsPerSector = this.#backend.sectorBytes / UNIT_BYTES;
    for (let i = 0; i < this.#ranges.count; i++) {
      this.#backend.writeZeroes(this.#ranges.unit(i) / unitsPerSector, this.#ranges.unitCount(i) / unitsPerSector);
    }
    if (this.#backend.features.flush) this.#backend.flush();
    return BLK_S_OK;
  }

  #getLifetime(chain: DescriptorChain, request: BlkRequest): number {
    if (!this.#has(BLK_F_LIFETIME) || this.#lifetime === undefined) return BLK_S_UNSUPP;
    if (request.roomBytes !== LIFETIME_BYTES) return BLK_S_IOERR;
    return statusOf(chain.writable.write(encodeLifetime(this.#lifetime())));
  }

  #parseRanges(chain: DescriptorChain, request: BlkRequest, feature: number, knownFlags: number): number {
    if (this.#backend.readOnly) return BLK_S_IOERR;
    if (!this.#has(feature)) return BLK_S_UNSUPP;
    if (request.roomBytes !== 0) return BLK_S_IOERR;
    const rules: RangeRules = {
      countMax: this.#limits.rangeCountMax,
      unitsMax: this.#limits.rangeUnitsMax,
      unitsPerSector: this.#backend.sectorBytes / UNIT_BYTES,
      capacityUnits: capacityUnits(this.#backend),
      knownFlags,
    };
    return this.#ranges.parse(chain.readable, request.givenBytes, rules);
  }

  /** Whether a transfer is whole sectors of the disk, and inside it. */
  #isTransfer(unit: number, lengthBytes: number): boolean {
    const { sectorBytes } = this.#backend;
    if (lengthBytes % sectorBytes !== 0 || (unit * UNIT_BYTES) % sectorBytes !== 0) return false;
    return unit >= 0 && lengthBytes / UNIT_BYTES <= capacityUnits(this.#backend) - unit;
  }

  /** When a completed write has to be durable (5.2.6.2, cases 1 and 2), and how this backend does that. */
  #chooseWriteMode(): void {
    const { writeCache, fua, flush } = this.#backend.features;
    const writeback = this.#has(BLK_F_CONFIG_WCE) ? this.#config.writeback : this.#has(BLK_F_FLUSH);
    const through = !writeback && writeCache;
    this.#throughFua = through && fua;
    this.#throughFlush = through && !fua && flush;
  }

  #has(bit: number): boolean {
    return hasFeature(this.#negotiated, bit);
  }
}

function statusOf(done: boolean): number {
  return done ? BLK_S_OK : BLK_S_IOERR;
}

/** @throws TypeError, RangeError for what is no id of 5.2.6 */
function encodeId(id: string): Uint8Array {
  assertString(id, 'id');
  const field = new Uint8Array(ID_BYTES);
  const bytes = Buffer.from(id, 'latin1');
  if (!/^[\x20-\x7e]*$/.test(id) || bytes.length > ID_BYTES) {
    throw new RangeError(`id: expected up to ${ID_BYTES} printable ASCII characters, got ${JSON.stringify(id)}`);
  }
  field.set(bytes);
  return field;
}
