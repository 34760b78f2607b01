import { DeviceError } from '../core/index.ts';
import {
  BLK_DEVICE_ID,
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
  UNIT_BYTES,
} from './blk-layout.ts';
import { type RingOptions, ringOptions } from './device-queue.ts';
import {
  F_NOTIFICATION_DATA,
  F_RING_PACKED,
  F_RING_RESET,
  F_VERSION_1,
  type FeatureWords,
  featureWords,
  hasFeature,
  RING_FEATURES,
} from './features.ts';
import { joinWords } from './memory.ts';
import {
  MAGIC,
  MMIO_VERSION,
  REG_CONFIG,
  REG_CONFIG_GENERATION,
  REG_DEVICE_FEATURES,
  REG_DEVICE_FEATURES_SEL,
  REG_DEVICE_ID,
  REG_DRIVER_FEATURES,
  REG_DRIVER_FEATURES_SEL,
  REG_MAGIC_VALUE,
  REG_STATUS,
  REG_VERSION,
} from './mmio-layout.ts';
import type { RegisterBus } from './model.ts';
import { STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_FAILED, STATUS_FEATURES_OK } from './status.ts';

/** Features that the driver knows what to do with. */
const UNDERSTOOD: FeatureWords = featureWords([
  F_VERSION_1,
  BLK_F_SIZE_MAX,
  BLK_F_SEG_MAX,
  BLK_F_RO,
  BLK_F_BLK_SIZE,
  BLK_F_FLUSH,
  BLK_F_TOPOLOGY,
  BLK_F_CONFIG_WCE,
  BLK_F_DISCARD,
  BLK_F_MQ,
  BLK_F_WRITE_ZEROES,
  BLK_F_LIFETIME,
  BLK_F_SECURE_ERASE,
  ...RING_FEATURES,
  F_NOTIFICATION_DATA,
  F_RING_RESET,
]);

/** The spec allots bits up to 127; the words above the second hold none that we understand. */
const FEATURE_WORD_COUNT = 2;

/** A device that never settles is given up on. */
const CONFIG_ATTEMPTS = 16;

/** A block device as its registers describe it, after negotiation. */
export interface BlkTraits {
  readonly readOnly: boolean;
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly sizeMaxBytes: number;
  readonly segMax: number;
  /** FLUSH requests work. */
  readonly flushes: boolean;
  /** Completed writes may be volatile. */
  readonly writeCache: boolean;
  /** The cache mode can be switched. */
  readonly switchesCache: boolean;
  /** Most units of 512 bytes in a discard, a multiple of the sector; 0: no discard. */
  readonly discardUnitsMax: number;
  /** Likewise for a write zeroes. */
  readonly zeroUnitsMax: number;
  /** Likewise for a secure erase. */
  readonly eraseUnitsMax: number;
  /** GET_LIFETIME works. */
  readonly hasLifetime: boolean;
  /** Queues that the device has. */
  readonly queueCount: number;
  readonly packed: boolean;
  readonly ringOptions: RingOptions;
  /** A notification tells where the ring stands (NOTIFICATION_DATA). */
  readonly notifiesWithData: boolean;
  /** A queue can be reset by itself (RING_RESET). */
  readonly resetsQueues: boolean;
}

/** Steps 1 to 6 of the initialisation (virtio 3.1.1, 4.2.3.1), and the configuration space. */
export class BlkHandshake {
  readonly #bus: RegisterBus;
  readonly #wanted: FeatureWords;
  readonly #offered: FeatureWords = featureWords();
  readonly #accepted: FeatureWords = featureWords();

  /** @param decline feature bits not to accept even where they are offered */
  constructor(bus: RegisterBus, decline: readonly number[]) {
    this.#bus = bus;
    const declined = featureWords(decline);
    this.#wanted = UNDERSTOOD.map((word, i) => word & ~declined[i]!);
  }

  /**
   * Resets the device and negotiates, up to FEATURES_OK.
   * @throws DeviceError EIO where this is no block device, or one that refuses
   */
  negotiate(): BlkTraits {
    const bus = this.#bus;
    this.#identify();
    bus.write(REG_STATUS, 4, 0);
    if (bus.read(REG_STATUS, 4) !== 0) throw this.giveUp('the device does not finish its reset');
    bus.write(REG_STATUS, 4, STATUS_ACKNOWLEDGE);
    bus.write(REG_STATUS, 4, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    this.#exchangeFeatures();
    const status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
    bus.write(REG_STATUS, 4, status);
    if ((bus.read(REG_STATUS, 4) & STATUS_FEATURES_OK) === 0) throw this.giveUp('the device refuses the features');
    return this.#describe();
  }

  /** Reads the size again: it may have changed (5.2.6.1). */
  readSectorCount(sectorBytes: number): number {
    return this.#consistently(() => this.#sectorCount(sectorBytes));
  }

  /** Reads the cache mode (5.2.5). */
  readWriteback(): boolean {
    return this.#bus.read(REG_CONFIG + CONFIG.writeback, 1) !== 0;
  }

  /** Tells the device that it was given up (3.1.1). The error is the caller's to throw. */
  giveUp(why: string): DeviceError {
    this.#bus.write(REG_STATUS, 4, this.#bus.read(REG_STATUS, 4) | STATUS_FAILED);
    return new DeviceError('EIO', `virtio-blk initialisation: ${why}`);
  }

  #identify(): void {
    this.#expectRegister(REG_MAGIC_VALUE, 'MagicValue', MAGIC);
    this.#expectRegister(REG_VERSION, 'Version', MMIO_VERSION);
    this.#expectRegister(REG_DEVICE_ID, 'DeviceID', BLK_DEVICE_ID);
  }

  /** Without giving up on it: what is no virtio block device is not to be written to (4.2.3.1.1). */
  #expectRegister(offset: number, name: string, expected: number): void {
    const value = this.#bus.read(offset, 4);
    if (value === expected) return;
    throw new DeviceError(
      'EIO',
      `virtio-blk initialisation: ${name}: expected 0x${expected.toString(16)}, got 0x${value.toString(16)}`,
    );
  }

  #exchangeFeatures(): void {
    const bus = this.#bus;
    for (let word = 0; word < FEATURE_WORD_COUNT; word++) {
      bus.write(REG_DEVICE_FEATURES_SEL, 4, word);
      this.#offered[word] = bus.read(REG_DEVICE_FEATURES, 4);
      this.#accepted[word] = this.#offered[word]! & this.#wanted[word]!;
      bus.write(REG_DRIVER_FEATURES_SEL, 4, word);
      bus.write(REG_DRIVER_FEATURES, 4, this.#accepted[word]!);
    }
    if (!this.#has(F_VERSION_1)) throw this.giveUp('the device does not offer VERSION_1: a legacy device');
  }

  #describe(): BlkTraits {
    return this.#consistently(() => {
      const sectorBytes = this.#sectorBytes();
      const switchesCache = this.#has(BLK_F_CONFIG_WCE) && this.#has(BLK_F_FLUSH);
      return {
        // 5.2.5: it is read-only where the bit is offered, accepted or not.
        readOnly: hasFeature(this.#offered, BLK_F_RO),
        sectorBytes,
        physicalSectorBytes: this.#physicalSectorBytes(sectorBytes),
        sectorCount: this.#sectorCount(sectorBytes),
        // Absent, the first limits nothing, and the second says nothing of more than one segment.
        sizeMaxBytes: this.#limit(BLK_F_SIZE_MAX, CONFIG.sizeMax, 0xffff_ffff),
        segMax: this.#limit(BLK_F_SEG_MAX, CONFIG.segMax, 1),
        flushes: this.#has(BLK_F_FLUSH),
        writeCache: this.#writeCache(),
        switchesCache,
        discardUnitsMax: this.#rangeUnits(BLK_F_DISCARD, CONFIG.maxDiscardSectors, sectorBytes),
        zeroUnitsMax: this.#rangeUnits(BLK_F_WRITE_ZEROES, CONFIG.maxWriteZeroesSectors, sectorBytes),
        eraseUnitsMax: this.#rangeUnits(BLK_F_SECURE_ERASE, CONFIG.maxSecureEraseSectors, sectorBytes),
        hasLifetime: this.#has(BLK_F_LIFETIME),
        queueCount: this.#queueCount(),
        packed: this.#has(F_RING_PACKED),
        ringOptions: ringOptions(this.#accepted),
        notifiesWithData: this.#has(F_NOTIFICATION_DATA),
        resetsQueues: this.#has(F_RING_RESET),
      };
    });
  }

  /** Fields may change between two reads: then all are read again (2.5.1). */
  #consistently<T>(read: () => T): T {
    for (let attempt = 0; attempt < CONFIG_ATTEMPTS; attempt++) {
      const before = this.#bus.read(REG_CONFIG_GENERATION, 4);
      const value = read();
      if (this.#bus.read(REG_CONFIG_GENERATION, 4) === before) return value;
    }
    throw this.giveUp(`the configuration changed during each of ${CONFIG_ATTEMPTS} readings`);
  }

  /** 5.2.5.1: a cache is to be expected wherever FLUSH was negotiated, unless the cache mode says otherwise. */
  #writeCache(): boolean {
    if (this.#has(BLK_F_CONFIG_WCE)) return this.readWriteback();
    // Offered and declined, the device writes through. Not offered, it promises nothing (5.2.6.2).
    return this.#has(BLK_F_FLUSH) || !hasFeature(this.#offered, BLK_F_FLUSH);
  }

  #sectorBytes(): number {
    if (!this.#has(BLK_F_BLK_SIZE)) return UNIT_BYTES;
    const bytes = this.#config32(CONFIG.blkSize);
    const isSector = bytes >= UNIT_BYTES && bytes <= 4096 && (bytes & (bytes - 1)) === 0;
    if (!isSector) throw this.giveUp(`blk_size: expected a power of two from 512 to 4096, got ${bytes}`);
    return bytes;
  }

  #physicalSectorBytes(sectorBytes: number): number {
    if (!this.#has(BLK_F_TOPOLOGY)) return sectorBytes;
    const exponent = this.#bus.read(REG_CONFIG + CONFIG.physicalBlockExp, 1);
    if (exponent > 16) throw this.giveUp(`physical_block_exp: expected up to 16, got ${exponent}`);
    return sectorBytes * 2 ** exponent;
  }

  #sectorCount(sectorBytes: number): number {
    const units = joinWords(this.#config32(CONFIG.capacity + 4), this.#config32(CONFIG.capacity));
    const sectorCount = Math.floor((units * UNIT_BYTES) / sectorBytes);
    if (sectorCount < 1) throw this.giveUp(`capacity: expected 1 to 2^53 - 1 units of 512 bytes, got ${units}`);
    return sectorCount;
  }

  #queueCount(): number {
    if (!this.#has(BLK_F_MQ)) return 1;
    const count = this.#bus.read(REG_CONFIG + CONFIG.numQueues, 2);
    if (count < 1) throw this.giveUp(`num_queues: expected at least 1, got ${count}`);
    return count;
  }

  #limit(bit: number, offset: number, absent: number): number {
    // A device that says 0 says nothing.
    return (this.#has(bit) ? this.#config32(offset) : 0) || absent;
  }

  #rangeUnits(bit: number, offset: number, sectorBytes: number): number {
    if (!this.#has(bit)) return 0;
    const units = this.#config32(offset);
    return units - (units % (sectorBytes / UNIT_BYTES));
  }

  #config32(offset: number): number {
    return this.#bus.read(REG_CONFIG + offset, 4);
  }

  #has(bit: number): boolean {
    return hasFeature(this.#accepted, bit);
  }
}
