import type { BlockDevice } from '../blockdev/index.ts';
import { assertInteger, assertPowerOfTwo, setU64, viewOf } from '../core/index.ts';
import {
  BLK_F_BLK_SIZE,
  BLK_F_CONFIG_WCE,
  BLK_F_DISCARD,
  BLK_F_FLUSH,
  BLK_F_LIFETIME,
  BLK_F_MQ,
  BLK_F_RO,
  BLK_F_SECURE_ERASE,
  BLK_F_SEG_MAX,
  BLK_F_SIZE_MAX,
  BLK_F_TOPOLOGY,
  BLK_F_WRITE_ZEROES,
  CONFIG,
  CONFIG_BYTES,
  UNIT_BYTES,
} from './blk-layout.ts';
import { F_IN_ORDER, F_VERSION_1, type FeatureWords, hasFeature, RING_FEATURES, setFeature } from './features.ts';
import { QUEUE_SIZE_LIMIT } from './split-layout.ts';

/** What a device tells of itself. It is advice for honest drivers; what protects the device is checked elsewhere. */
export interface BlkLimits {
  /** Most entries of a queue: a power of two up to 32768. Default 128. */
  readonly queueSizeMax?: number;
  /** How many queues there are; above 1, MQ is offered. Default 1, at most 256. */
  readonly queueCount?: number;
  /** SIZE_MAX: most bytes in one data segment. Default 1 MiB. */
  readonly sizeMaxBytes?: number;
  /** SEG_MAX: most data segments in a request. Default `queueSizeMax - 2`, at least 1. */
  readonly segMax?: number;
  /** Most units of 512 bytes in one range of a discard or a write zeroes. Default 2^22, 2 GiB. */
  readonly rangeUnitsMax?: number;
  /** Most ranges in one discard or write zeroes. Default 16. */
  readonly rangeCountMax?: number;
}

const DEFAULT_QUEUE_SIZE_MAX = 128;

/**
 * Fills in defaults and checks.
 * @throws TypeError, RangeError for limits that make no device
 */
export function resolveLimits(limits: BlkLimits): Required<BlkLimits> {
  const queueSizeMax = limits.queueSizeMax ?? DEFAULT_QUEUE_SIZE_MAX;
  assertPowerOfTwo(queueSizeMax, 'queueSizeMax', 1, QUEUE_SIZE_LIMIT);
  const resolved = {
    queueSizeMax,
    queueCount: limits.queueCount ?? 1,
    sizeMaxBytes: limits.sizeMaxBytes ?? 1 << 20,
    segMax: limits.segMax ?? Math.max(1, queueSizeMax - 2),
    rangeUnitsMax: limits.rangeUnitsMax ?? 1 << 22,
    rangeCountMax: limits.rangeCountMax ?? 16,
  };
  assertInteger(resolved.queueCount, 'queueCount', 1, 256);
  assertInteger(resolved.sizeMaxBytes, 'sizeMaxBytes', 1, 0xffff_ffff);
  assertInteger(resolved.segMax, 'segMax', 1, 0xffff_ffff);
  // A multiple of every sector size, so that a range of this length is aligned; never 0 (a guest was once made to
  // crash by that).
  assertInteger(resolved.rangeUnitsMax / 8, 'rangeUnitsMax / 8', 1, 0x1fff_ffff);
  assertInteger(resolved.rangeCountMax, 'rangeCountMax', 1, 4096);
  return resolved;
}

/** What decides on the offer beside the backend. */
export interface OfferTerms {
  readonly withhold: readonly number[];
  readonly queueCount: number;
  /** Requests may complete in another order than they came in. */
  readonly reorders: boolean;
  readonly secureErase: boolean;
  readonly lifetime: boolean;
}

/** Sets in `offered` what a device over this backend can keep the promise of. */
export function offerFeatures(offered: FeatureWords, backend: BlockDevice, terms: OfferTerms): void {
  const { flush, writeCache, discard, writeZeroes } = backend.features;
  offered.fill(0);
  const offer = (bit: number, can: boolean): void => {
    if (can && !terms.withhold.includes(bit)) setFeature(offered, bit);
  };
  setFeature(offered, F_VERSION_1);
  offer(BLK_F_SIZE_MAX, true);
  offer(BLK_F_SEG_MAX, true);
  offer(BLK_F_BLK_SIZE, true);
  offer(BLK_F_TOPOLOGY, true);
  if (backend.readOnly) setFeature(offered, BLK_F_RO);
  // Only a cache that cannot be flushed leaves nothing to offer (5.2.6.2, note).
  offer(BLK_F_FLUSH, flush || !writeCache);
  // 5.2.5.2: never without FLUSH.
  offer(BLK_F_CONFIG_WCE, hasFeature(offered, BLK_F_FLUSH));
  offer(BLK_F_DISCARD, discard && !backend.readOnly);
  offer(BLK_F_WRITE_ZEROES, writeZeroes && !backend.readOnly);
  offer(BLK_F_SECURE_ERASE, terms.secureErase && writeZeroes && !backend.readOnly);
  offer(BLK_F_LIFETIME, terms.lifetime);
  offer(BLK_F_MQ, terms.queueCount > 1);
  for (const bit of RING_FEATURES) offer(bit, bit !== F_IN_ORDER || !terms.reorders);
}

/** The device's configuration space (5.2.4): bytes, read by the driver in pieces. */
export class BlkConfigSpace {
  readonly #bytes: Uint8Array = new Uint8Array(CONFIG_BYTES);
  readonly #view: DataView = viewOf(this.#bytes);

  /** Fields of features that are not offered stay 0, as does the padding (5.2.5.2). */
  describe(backend: BlockDevice, offered: FeatureWords, limits: Required<BlkLimits>): void {
    const view = this.#view;
    this.#bytes.fill(0);
    const put = (bit: number, offset: number, value: number): void => {
      if (hasFeature(offered, bit)) view.setUint32(offset, value, true);
    };
    put(BLK_F_SIZE_MAX, CONFIG.sizeMax, limits.sizeMaxBytes);
    put(BLK_F_SEG_MAX, CONFIG.segMax, limits.segMax);
    put(BLK_F_BLK_SIZE, CONFIG.blkSize, backend.sectorBytes);
    put(BLK_F_DISCARD, CONFIG.maxDiscardSectors, limits.rangeUnitsMax);
    put(BLK_F_DISCARD, CONFIG.maxDiscardSeg, limits.rangeCountMax);
    put(BLK_F_DISCARD, CONFIG.discardSectorAlignment, backend.sectorBytes / UNIT_BYTES);
    put(BLK_F_WRITE_ZEROES, CONFIG.maxWriteZeroesSectors, limits.rangeUnitsMax);
    put(BLK_F_WRITE_ZEROES, CONFIG.maxWriteZeroesSeg, limits.rangeCountMax);
    put(BLK_F_SECURE_ERASE, CONFIG.maxSecureEraseSectors, limits.rangeUnitsMax);
    put(BLK_F_SECURE_ERASE, CONFIG.maxSecureEraseSeg, limits.rangeCountMax);
    put(BLK_F_SECURE_ERASE, CONFIG.secureEraseSectorAlignment, backend.sectorBytes / UNIT_BYTES);
    if (hasFeature(offered, BLK_F_MQ)) view.setUint16(CONFIG.numQueues, limits.queueCount, true);
    if (hasFeature(offered, BLK_F_TOPOLOGY)) this.#describeTopology(backend);
    this.describeChanging(backend, offered);
  }

  /** What may change while a driver is at work: the capacity, and whether a write zeroes may deallocate (5.2.6.2). */
  describeChanging(backend: BlockDevice, offered: FeatureWords): void {
    setU64(this.#view, CONFIG.capacity, capacityUnits(backend));
    const mayUnmap = hasFeature(offered, BLK_F_WRITE_ZEROES) && backend.features.discard;
    this.#view.setUint8(CONFIG.writeZeroesMayUnmap, mayUnmap ? 1 : 0);
  }

  get writeback(): boolean {
    return this.#view.getUint8(CONFIG.writeback) !== 0;
  }

  set writeback(on: boolean) {
    this.#view.setUint8(CONFIG.writeback, on ? 1 : 0);
  }

  read(offset: number, widthBytes: number): number {
    if (offset < 0 || offset + widthBytes > CONFIG_BYTES) return 0;
    if (widthBytes === 1) return this.#view.getUint8(offset);
    return widthBytes === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint32(offset, true);
  }

  #describeTopology(backend: BlockDevice): void {
    const blocks = backend.physicalSectorBytes / backend.sectorBytes;
    this.#view.setUint8(CONFIG.physicalBlockExp, Math.log2(blocks));
    this.#view.setUint16(CONFIG.minIoSize, blocks, true);
  }
}

/** The disk's size in the protocol's units of 512 bytes. */
export function capacityUnits(backend: BlockDevice): number {
  return backend.sectorCount * (backend.sectorBytes / UNIT_BYTES);
}
