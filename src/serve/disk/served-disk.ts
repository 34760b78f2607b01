import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  checkWritable,
  type DeviceFeatures,
  type WriteOptions,
  type WriteZeroesOptions,
} from '../../blockdev/index.ts';
import { CodedError, DeviceError } from '../../core/index.ts';
import type { DiskProfile, OperationKind } from '../../faults/index.ts';
import { FaultRules } from './fault-rules.ts';
import { LatencyTable } from './latency.ts';
import type { Medium } from './medium.ts';
import { assertResolution, type CutReport, type CutResolution } from './outcome.ts';
import { type CutSchedule, ScheduledCut } from './scheduled-cut.ts';
import { VolatileCache } from './volatile-cache.ts';

export interface ServedDiskOptions {
  /**
   * What a cut may do to what was not flushed. Its sectors must be the medium's. Absent: no volatile cache, every write
   * is durable, and a cut loses nothing.
   */
  readonly profile?: DiskProfile;
  /** How much the volatile cache holds before it writes out by itself. Default 32 MiB. */
  readonly cacheBytes?: number;
  /** Default: as the medium. */
  readonly readOnly?: boolean;
}

/** `on`; `off` and undecided since a cut; `resolved`: still off, and what is left is decided. */
export type PowerState = 'on' | 'off' | 'resolved';

/** What became of the operations so far. */
export interface OperationCounts {
  reads: number;
  writes: number;
  flushes: number;
  discards: number;
  zeroings: number;
  failed: number;
  cuts: number;
}

/** Is told of what a disk was asked for and said to have done, whatever a fault made of it: what a trace is made from. Buffers are the caller's: copy them. */
export interface OperationObserver {
  wrote(operation: number, sector: number, source: Uint8Array, fua: boolean): void;
  zeroed(operation: number, kind: 'discard' | 'writeZeroes', sector: number, sectorCount: number): void;
  flushed(operation: number): void;
  /** Success of an operation, and of all that belong to the same request, was reported to the client. */
  acknowledged(operation: number): void;
  cut(): void;
}

const NOTHING_OPEN: CutReport = {
  undecidedSectors: 0,
  lostSectors: 0,
  tornSectors: 0,
  damagedPhysicalSectors: 0,
  token: undefined,
};

/**
 * A disk that clients of several connections share and a control socket disturbs: a medium, a volatile cache over it,
 * and a power switch. Closing it writes the cache out, as a disk does that is shut down in order.
 */
export class ServedDisk implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures;
  readonly profile: DiskProfile | undefined;
  /** Whether to zero costs less than to write as many zeros: not where the medium is a file, which is written. */
  readonly zeroesFast: boolean;
  readonly counts: OperationCounts = {
    reads: 0,
    writes: 0,
    flushes: 0,
    discards: 0,
    zeroings: 0,
    failed: 0,
    cuts: 0,
  };
  /** How long success is held back by those who serve the disk. */
  readonly latency: LatencyTable = new LatencyTable();
  /** What the medium does wrong. */
  readonly faults: FaultRules;
  readonly #device: Medium;
  readonly #cache: VolatileCache | undefined;
  #power: PowerState = 'on';
  #generation = 0;
  #operation = 0;
  #closed = false;
  #scheduled: ScheduledCut | undefined;
  #observer: OperationObserver | undefined;
  readonly #listeners = new Set<(power: PowerState) => void>();
  readonly #releaseListeners = new Set<() => void>();
  readonly #readRaw = (sector: number, target: Uint8Array): void => this.#device.read(sector, target);

  /** @param medium is the disk's from now on, and closed with it */
  constructor(medium: Medium, options: ServedDiskOptions = {}) {
    const { profile, cacheBytes = 32 * 1024 * 1024 } = options;
    this.profile = profile;
    this.#cache = profile === undefined ? undefined : new VolatileCache(medium, profile, cacheBytes);
    this.#device = this.#cache ?? medium;
    this.sectorBytes = this.#device.sectorBytes;
    this.physicalSectorBytes = this.#device.physicalSectorBytes;
    this.sectorCount = this.#device.sectorCount;
    this.zeroesFast = medium.extent !== undefined;
    this.readOnly = medium.readOnly || (options.readOnly ?? false);
    this.features = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: this.#cache !== undefined };
    this.faults = new FaultRules(this.sectorBytes, this.sectorCount, () => {
      for (const listener of [...this.#releaseListeners]) listener();
    });
  }

  get power(): PowerState {
    return this.#power;
  }

  /** Counts the cuts. Who worked with the disk in an earlier generation does not know what it lost, and has to start anew. */
  get generation(): number {
    return this.#generation;
  }

  /** Number of the last operation that changed the disk or made it durable. */
  get operation(): number {
    return this.#operation;
  }

  get scheduledCut(): ScheduledCut | undefined {
    return this.#scheduled;
  }

  get dirtySectorCount(): number {
    return this.#cache?.dirtySectorCount ?? 0;
  }

  /** How often the cache wrote out by itself. */
  get writeOuts(): number {
    return this.#cache?.writeOuts ?? 0;
  }

  get observed(): boolean {
    return this.#observer !== undefined;
  }

  /** Who is told of every operation; undefined: nobody. */
  observe(observer: OperationObserver | undefined): void {
    this.#observer = observer;
  }

  /** Calls `listener` at each change of the power. @returns ends that */
  onPower(listener: (power: PowerState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls `listener` when requests that {@link hangs} held are to go on, or to fail. @returns ends that */
  onRelease(listener: () => void): () => void {
    this.#releaseListeners.add(listener);
    return () => this.#releaseListeners.delete(listener);
  }

  /**
   * Whether an operation never completes, until {@link onRelease}: for those who serve the disk to ask once for each,
   * before a read or a flush, after the rest. A flush has no sectors.
   */
  hangs(kind: OperationKind, sector: number, sectorCount: number): boolean {
    return !this.faults.none && this.faults.hangs(kind, sector, sectorCount);
  }

  /** For how many milliseconds the success of an operation is held back: for those who serve the disk to ask once for each. */
  delayMs(kind: OperationKind, sector: number, sectorCount: number): number {
    const delayMs = this.latency.of(kind);
    return this.faults.none ? delayMs : delayMs + this.faults.delayMs(kind, sector, sectorCount);
  }

  read(sector: number, target: Uint8Array): void {
    const sectorCount = checkTransfer(this, sector, target);
    const cut = this.#enter('read', sector, sectorCount);
    this.counts.reads++;
    try {
      if (this.faults.none) this.#device.read(sector, target);
      else this.faults.read(sector, target, this.#readRaw);
    } catch (error) {
      this.#fail(error);
    }
    if (cut) this.#cutInFlight();
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    const sectorCount = checkTransfer(this, sector, source);
    const cut = this.#enter('write', sector, sectorCount);
    const fua = options?.fua === true;
    this.counts.writes++;
    this.#operation++;
    try {
      // A write that the power fails in is not durable, whatever it asked for.
      const isDurable = fua && !cut && !this.faults.liesAboutFua;
      if (this.faults.none) this.#device.write(sector, source, isDurable ? options : undefined);
      else this.#writeFaulty(sector, source, isDurable ? options : undefined);
    } catch (error) {
      this.#fail(error);
    }
    this.#observer?.wrote(this.#operation, sector, source, fua);
    if (cut) this.#cutInFlight();
  }

  flush(): void {
    const cut = this.#enter('flush', 0, 0);
    this.counts.flushes++;
    if (cut) this.#cutInFlight();
    this.#operation++;
    try {
      if (this.faults.none) this.#device.flush();
      else this.#flushFaulty();
    } catch (error) {
      this.#fail(error);
    }
    this.#observer?.flushed(this.#operation);
  }

  discard(sector: number, sectorCount: number): void {
    this.#zero('discard', sector, sectorCount, undefined);
    this.counts.discards++;
  }

  writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void {
    this.#zero('writeZeroes', sector, sectorCount, options);
    this.counts.zeroings++;
  }

  /** See {@link Medium.extent}. */
  extent(sector: number, sectorCount: number): number {
    this.#checkUsable();
    return this.#device.extent?.(sector, sectorCount) ?? sectorCount;
  }

  /** Success of an operation was reported: for the trace. */
  acknowledge(operation: number): void {
    this.#observer?.acknowledged(operation);
  }

  /** Shuts the disk down in order: what the cache holds becomes durable, unless the power is off. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (this.#power === 'on' && !this.#device.readOnly) this.#device.flush();
    } finally {
      this.#device.close();
    }
  }

  /** The power fails, now. @throws CodedError EINVAL where it is off already */
  cut(): void {
    if (this.#power !== 'on')
      throw new CodedError('EINVAL', 'cut: the power is off already: bring the disk back first');
    // Where that fails, because the image can't be read, nothing has happened.
    this.#cache?.cut();
    this.#generation++;
    this.counts.cuts++;
    this.#scheduled = undefined;
    this.#observer?.cut();
    this.#switch('off');
    this.faults.powerFailed();
  }

  /** The power fails later; replaces what was scheduled before. Undefined: nothing is scheduled any more. */
  scheduleCut(schedule: CutSchedule | undefined): void {
    this.#scheduled = schedule === undefined ? undefined : new ScheduledCut(schedule);
  }

  /** Decides what the cut left. The power stays off. @throws CodedError EINVAL unless there is something to decide */
  resolve(outcome: CutResolution): CutReport {
    assertResolution(outcome);
    if (this.#power !== 'off') {
      const what = this.#power === 'on' ? 'the power is on' : 'the cut has been resolved';
      throw new CodedError('EINVAL', `resolve: ${what}: there is nothing to decide`);
    }
    const report = this.#cache?.resolve(outcome) ?? NOTHING_OPEN;
    this.#switch('resolved');
    return report;
  }

  /** The power comes back. @throws CodedError EINVAL where it is on, or the cut is not resolved */
  powerOn(): void {
    if (this.#power === 'on') throw new CodedError('EINVAL', 'on: the power is on');
    if (this.#power === 'off') throw new CodedError('EINVAL', 'on: say first what the cut left: resolve it');
    this.#switch('on');
  }

  /** Reads for whoever stands beside the machine: what is on the disk, power or not; counts as no operation. */
  inspect(sector: number, target: Uint8Array): void {
    if (this.#closed) throw closed();
    if (this.#power === 'off')
      throw new CodedError('EINVAL', 'the cut has not been resolved: what is left is not decided');
    checkTransfer(this, sector, target);
    this.#device.read(sector, target);
  }

  /** {@link inspect}'s map: like {@link extent}, power or not. */
  inspectExtent(sector: number, sectorCount: number): number {
    if (this.#closed) throw closed();
    return this.#device.extent?.(sector, sectorCount) ?? sectorCount;
  }

  #writeFaulty(sector: number, source: Uint8Array, options: WriteOptions | undefined): void {
    const plan = this.faults.planWrite(sector, source.length / this.sectorBytes);
    if (plan.sectorCount > 0) {
      this.faults.changing(plan.sector, plan.sectorCount, this.#readRaw);
      this.#device.write(plan.sector, source.subarray(0, plan.sectorCount * this.sectorBytes), options);
    }
    if (plan.error !== undefined) throw plan.error;
  }

  #flushFaulty(): void {
    const plan = this.faults.planFlush();
    if (plan === 'done') this.#device.flush();
    if (plan !== 'failure') return;
    this.#cache?.abandon();
    throw new DeviceError('EIO', 'flush-error: as it was asked for; what was to become durable is given up');
  }

  #zero(
    kind: 'discard' | 'writeZeroes',
    sector: number,
    sectorCount: number,
    options: WriteZeroesOptions | undefined,
  ): void {
    checkRange(this, sector, sectorCount);
    const cut = this.#enter(kind, sector, sectorCount);
    this.#operation++;
    try {
      const isLost = !this.faults.none && this.faults.losesZeros(sector, sectorCount);
      if (!isLost && !this.faults.none) this.faults.changing(sector, sectorCount, this.#readRaw);
      if (!isLost && kind === 'discard') this.#device.discard(sector, sectorCount);
      if (!isLost && kind === 'writeZeroes') this.#device.writeZeroes(sector, sectorCount, options);
    } catch (error) {
      this.#fail(error);
    }
    this.#observer?.zeroed(this.#operation, kind, sector, sectorCount);
    if (cut) this.#cutInFlight();
  }

  #checkUsable(): void {
    if (this.#closed) throw closed();
    if (this.#power !== 'on') throw new DeviceError('EPOWER', 'the disk has lost power: it has to be brought back');
  }

  /** @returns whether the power fails while the operation is in flight */
  #enter(kind: OperationKind, sector: number, sectorCount: number): boolean {
    this.#checkUsable();
    if (kind !== 'read' && kind !== 'flush') checkWritable(this);
    const scheduled = this.#scheduled;
    if (scheduled === undefined || !scheduled.counts(kind, sector, sectorCount)) return false;
    if (scheduled.schedule.when === 'before') this.#cutInFlight();
    return true;
  }

  #cutInFlight(): never {
    this.cut();
    throw new DeviceError('EPOWER', 'the disk lost power while this operation was in flight');
  }

  #fail(error: unknown): never {
    this.counts.failed++;
    throw error;
  }

  #switch(power: PowerState): void {
    this.#power = power;
    for (const listener of [...this.#listeners]) listener(power);
  }
}

function closed(): DeviceError {
  return new DeviceError('ECLOSED', 'the disk was shut down');
}
