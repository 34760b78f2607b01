import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  checkWritable,
  type DeviceFeatures,
  type WriteOptions,
  type WriteZeroesOptions,
} from '../../blockdev/index.ts';
import { assertInteger, DeviceError, invariant, Sfc32, undisturbed } from '../../core/index.ts';
import { ChoiceRecorder, type DiskProfile, DiskState, RandomChoices } from '../../faults/index.ts';
import type { Medium } from './medium.ts';
import {
  type CutCounts,
  type CutReport,
  type CutResolution,
  countResolution,
  decodeResolution,
  encodeResolution,
  fingerprintOf,
  recordedChoices,
} from './outcome.ts';
import { WriteLog } from './write-log.ts';

/** Versions of a sector before the disk writes the newest out by itself. */
const MAX_VERSIONS = 32;
/** Bytes that move to the medium at once. */
const RUN_BYTES = 64 * 1024;
/** Content is brought in from the medium in blocks of this size, or of the physical sector if that is larger. */
const BLOCK_BYTES = 4096;
export const MIN_CACHE_BYTES: number = 1024 * 1024;

/**
 * The volatile write cache of a served disk: the disk model of docs/disk-model.md over a medium of any size, with memory
 * bounded. What is durable lies on the medium; the versions written since lie here, and a cut leaves any of them.
 *
 * As real disks do, it writes out by itself what it has no room for: such writes are durable without a flush.
 *
 * Writes go to a log first, which a flush writes out: that is all there is to do until somebody asks what a cut could
 * leave, or discards, or the power fails. Then the log is handed over to the disk model, which knows every version.
 */
export class VolatileCache implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: true };
  readonly #medium: Medium;
  readonly #profile: DiskProfile;
  readonly #maxVersions: number;
  readonly #blockSectors: number;
  readonly #run: Uint8Array;
  /** What was written last, and not handed over to the state. */
  readonly #log: WriteLog;
  /** The most versions that the log makes of the state when it is handed over. */
  #logVersions = 0;
  /** Whether a block that the log writes to is resident. */
  #logOverlaps = false;
  readonly #state: DiskState;
  /** Numbers of the blocks whose content is in the state. */
  readonly #resident = new Set<number>();
  /** Sectors discarded, and zeroed on the medium by a flush since; a cut may still bring their old content back. */
  #trimmed = new Set<number>();
  /** Sectors staged since the state was made: bounds the lists of versions that alternate. */
  #staged = 0;
  /** Groups that a cut left undecided, in order: the first sector of each. */
  #open: number[] | undefined;
  /** Whether the state has something that a flush has to put on the medium. */
  #isSettled = true;
  #writeOuts = 0;
  #closed = false;

  /** @param cacheBytes how much may wait to be written, at least {@link MIN_CACHE_BYTES} */
  constructor(medium: Medium, profile: DiskProfile, cacheBytes: number) {
    assertInteger(cacheBytes, 'cacheBytes', MIN_CACHE_BYTES);
    invariant(medium.sectorBytes === profile.sectorBytes, 'the medium has the sectors of the profile');
    this.sectorBytes = profile.sectorBytes;
    this.physicalSectorBytes = profile.physicalSectorBytes;
    this.sectorCount = medium.sectorCount;
    this.readOnly = medium.readOnly;
    this.#medium = medium;
    this.#profile = profile;
    this.#maxVersions = Math.floor(cacheBytes / profile.sectorBytes);
    this.#blockSectors = Math.max(BLOCK_BYTES, profile.physicalSectorBytes) / profile.sectorBytes;
    this.#run = new Uint8Array(RUN_BYTES);
    this.#log = new WriteLog(profile.sectorBytes);
    this.#state = new DiskState(profile, medium.sectorCount, true);
  }

  /** Sectors with a write that is not durable. */
  get dirtySectorCount(): number {
    this.#handOver();
    return this.#state.dirtyCount;
  }

  /** How often the cache was full. */
  get writeOuts(): number {
    return this.#writeOuts;
  }

  /** Whether a cut has not been resolved yet. */
  get undecided(): boolean {
    return this.#open !== undefined;
  }

  /** How many contents a sector may have after a cut now, or has after the cut that was. */
  versionCount(sector: number): number {
    this.#handOver();
    return this.#state.versionCount(sector);
  }

  read(sector: number, target: Uint8Array): void {
    this.#checkUsable();
    const end = sector + checkTransfer(this, sector, target);
    for (let from = sector; from < end; ) {
      const logged = this.#log.extent(from, end - from);
      const to = from + Math.abs(logged);
      const part = from === sector && to === end ? target : this.#part(target, from - sector, to - sector);
      if (logged > 0) this.#log.read(from, part);
      else this.#readOlder(from, to, part);
      from = to;
    }
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#checkUsable();
    checkWritable(this);
    const sectorCount = checkTransfer(this, sector, source);
    const fua = options?.fua === true;
    const overlaps = this.#isAnyResident(sector, sectorCount);
    if (fua && !overlaps && this.#log.extent(sector, sectorCount) === -sectorCount) {
      this.#medium.write(sector, source, options);
      return;
    }
    this.#makeRoom(sector, sectorCount);
    this.#log.add(sector, source);
    this.#logVersions += this.#mostVersions(sector, sectorCount);
    this.#logOverlaps ||= overlaps;
    if (!fua) return;
    this.#handOver();
    this.#medium.write(sector, source, options);
    this.#state.settle(sector, sectorCount);
  }

  flush(): void {
    this.#checkUsable();
    if (this.readOnly) return;
    if (this.#isSettled && !this.#logOverlaps) {
      this.#log.writeTo(this.#medium);
      this.#medium.flush();
      this.#emptyLog();
      return;
    }
    this.#handOver();
    this.#writeOut();
    this.#medium.flush();
    this.#state.settleAll();
    // What a flush leaves are discards.
    this.#trimmed = new Set(this.#state.pendingSectors());
    if (this.#trimmed.size === 0) this.#restart();
    this.#isSettled = true;
  }

  /** A flush that failed for good: what waits is read as it was written, and no later flush makes it durable. */
  abandon(): void {
    this.#checkUsable();
    this.#handOver();
    this.#state.abandon();
    this.#isSettled = false;
  }

  discard(sector: number, sectorCount: number): void {
    this.#checkUsable();
    checkWritable(this);
    checkRange(this, sector, sectorCount);
    this.#handOver();
    this.#forOccupied(sector, sectorCount, (from, count) => this.#state.discard(from, count));
  }

  writeZeroes(sector: number, sectorCount: number, _options?: WriteZeroesOptions): void {
    this.#checkUsable();
    checkWritable(this);
    checkRange(this, sector, sectorCount);
    this.#handOver();
    this.#forOccupied(sector, sectorCount, (from, count) => this.#state.writeZeroes(from, count));
  }

  /** What is not durable is lost. */
  close(): void {
    this.#closed = true;
    this.#medium.close();
  }

  /** See {@link Medium.extent}; what is in the cache occupies room. */
  extent(sector: number, sectorCount: number): number {
    const alike = this.#medium.extent?.(sector, sectorCount) ?? sectorCount;
    if (alike > 0) return alike;
    const logged = this.#log.extent(sector, -alike);
    if (logged > 0) return logged;
    const end = sector - logged;
    const isResident = this.#isResident(sector);
    const to = this.#endOfAlike(sector, end, isResident);
    return isResident ? to - sector : sector - to;
  }

  /** The power fails: what was not durable is undecided until {@link resolve}. */
  cut(): void {
    if (this.#open !== undefined) return;
    this.#handOver();
    const groups = this.#state.groupsOf(this.#state.pendingSectors());
    this.#open = [...groups].sort((a, b) => a - b);
    this.#state.cut();
  }

  /**
   * Decides what the cut left, and puts it on the medium.
   * @throws CodedError EINVAL for a token that is none, or of another cut; then nothing is decided
   */
  resolve(outcome: CutResolution): CutReport {
    invariant(this.#open !== undefined, 'a cut is resolved once');
    const sectors = this.#openSectors(this.#open);
    const state = this.#state;
    const undecidedSectors = sectors.filter((sector) => state.versionCount(sector) > 1).length;
    const counts: CutCounts = { lostSectors: 0, tornSectors: 0, damagedPhysicalSectors: 0 };
    let token: string | undefined;
    if (outcome === 'all-lost' || outcome === 'all-kept') {
      state.resolveAll(outcome === 'all-lost' ? -1 : Number.POSITIVE_INFINITY);
      if (outcome === 'all-lost') counts.lostSectors = undecidedSectors;
      this.#settleOn(sectors);
    } else {
      const fingerprint = fingerprintOf(sectors, (sector) => state.versionCount(sector));
      const source =
        'token' in outcome
          ? recordedChoices(decodeResolution(outcome.token, fingerprint))
          : new RandomChoices(new Sfc32(outcome.seed));
      const recorder = new ChoiceRecorder(source);
      state.choices = recorder;
      state.onResolve = (resolution) => countResolution(counts, resolution);
      this.#settleOn(sectors);
      token = encodeResolution(fingerprint, recorder.values);
    }
    this.#open = undefined;
    return { undecidedSectors, ...counts, token };
  }

  /** Reads what the log does not have. */
  #readOlder(sector: number, end: number, target: Uint8Array): void {
    for (let from = sector; from < end; ) {
      const isResident = this.#isResident(from);
      const to = this.#endOfAlike(from, end, isResident);
      const part = from === sector && to === end ? target : this.#part(target, from - sector, to - sector);
      if (isResident) this.#state.read(from, part);
      else this.#medium.read(from, part);
      from = to;
    }
  }

  /** Lets the state know what the log has. Where the medium can't be read, nothing is changed. */
  #handOver(): void {
    if (this.#log.size === 0) return;
    this.#isSettled = false;
    const { sectorBytes } = this;
    this.#log.replay((sector, bytes) => this.#load(sector, bytes.length / sectorBytes));
    this.#log.replay((sector, bytes) => {
      this.#staged += bytes.length / sectorBytes;
      this.#forgetTrimmed(sector, bytes.length / sectorBytes);
      this.#state.write(sector, bytes);
    });
    this.#emptyLog();
  }

  #emptyLog(): void {
    this.#log.clear();
    this.#logVersions = 0;
    this.#logOverlaps = false;
  }

  /** How many versions a write makes at most: its own, and what is durable of the blocks that it touches. */
  #mostVersions(sector: number, sectorCount: number): number {
    const first = Math.floor(sector / this.#blockSectors);
    const last = Math.floor((sector + sectorCount - 1) / this.#blockSectors);
    return sectorCount + (last - first + 1) * this.#blockSectors;
  }

  #checkUsable(): void {
    if (this.#closed) throw new DeviceError('ECLOSED', 'the device was closed: open it again to use it');
    if (this.#open !== undefined) throw new DeviceError('EPOWER', 'the disk has lost power: resolve the cut first');
  }

  #openSectors(groups: readonly number[]): number[] {
    const { damagesPhysicalSector, physicalSectorBytes } = this.#profile;
    const groupSectors = damagesPhysicalSector ? physicalSectorBytes / this.sectorBytes : 1;
    const sectors: number[] = [];
    for (const first of groups) {
      const end = Math.min(first + groupSectors, this.sectorCount);
      for (let sector = first; sector < end; sector++) sectors.push(sector);
    }
    return sectors;
  }

  /** Puts these sectors, in order, on the medium as they are read now, and starts anew. */
  #settleOn(sectors: readonly number[]): void {
    this.#copyOut(sectors);
    if (sectors.length > 0) this.#medium.flush();
    this.#restart();
  }

  #restart(): void {
    this.#isSettled = true;
    this.#staged = 0;
    this.#state.choices = undisturbed;
    this.#state.onResolve = undefined;
    if (this.#resident.size === 0) return;
    this.#state.reset();
    this.#resident.clear();
    this.#trimmed.clear();
  }

  /** Puts what is dirty on the medium; the medium's own flush is the caller's. */
  #writeOut(): void {
    const pending = this.#state.pendingSectors();
    const sectors = this.#trimmed.size === 0 ? pending : pending.filter((sector) => !this.#trimmed.has(sector));
    this.#copyOut(sectors.sort((a, b) => a - b));
  }

  #copyOut(sectors: readonly number[]): void {
    const most = RUN_BYTES / this.sectorBytes;
    for (let i = 0; i < sectors.length; ) {
      const first = sectors[i]!;
      let count = 1;
      while (count < most && sectors[i + count] === first + count) count++;
      const part = this.#part(this.#run, 0, count);
      this.#state.read(first, part);
      this.#medium.write(first, part);
      i += count;
    }
  }

  /** Bounds what the cache holds before a write is added. */
  #makeRoom(sector: number, sectorCount: number): void {
    const versions = this.#logVersions + this.#state.memoryVersions + this.#mostVersions(sector, sectorCount);
    const staged = this.#staged + this.#log.size + sectorCount;
    if (versions > this.#maxVersions || staged > 4 * this.#maxVersions) {
      this.#writeOuts++;
      this.flush();
      this.#restart();
      return;
    }
    for (let i = sector; i < sector + sectorCount; i++) {
      const older = this.#resident.size === 0 ? 1 : this.#state.versionCount(i);
      if (this.#log.depth(i) + older < MAX_VERSIONS) continue;
      this.#handOver();
      if (this.#state.versionCount(i) < MAX_VERSIONS) continue;
      this.#writeOuts++;
      this.#copyOut([i]);
      this.#state.settle(i, 1);
    }
  }

  /** Brings what is durable of these sectors' blocks in from the medium. */
  #load(sector: number, sectorCount: number): void {
    const last = Math.floor((sector + sectorCount - 1) / this.#blockSectors);
    for (let block = Math.floor(sector / this.#blockSectors); block <= last; block++) {
      if (this.#resident.has(block)) continue;
      const first = block * this.#blockSectors;
      const count = Math.min(this.#blockSectors, this.sectorCount - first);
      // The state reads as zeros where nothing was written, as holes do.
      if ((this.#medium.extent?.(first, count) ?? count) !== -count) {
        const part = this.#part(this.#run, 0, count);
        this.#medium.read(first, part);
        this.#state.write(first, part);
        this.#state.settle(first, count);
      }
      this.#resident.add(block);
    }
  }

  /** Visits the parts of a range that may hold something else than zeros, loaded. */
  #forOccupied(sector: number, sectorCount: number, visit: (from: number, count: number) => void): void {
    const end = sector + sectorCount;
    for (let from = sector; from < end; ) {
      const to = Math.min(end, this.#endOfBlock(from));
      const isHole = !this.#isResident(from) && (this.#medium.extent?.(from, to - from) ?? 1) === from - to;
      if (!isHole) {
        this.#makeRoom(from, to - from);
        this.#load(from, to - from);
        this.#forgetTrimmed(from, to - from);
        this.#isSettled = false;
        visit(from, to - from);
      }
      from = to;
    }
  }

  #forgetTrimmed(sector: number, sectorCount: number): void {
    if (this.#trimmed.size === 0) return;
    for (let i = sector; i < sector + sectorCount; i++) this.#trimmed.delete(i);
  }

  #isResident(sector: number): boolean {
    return this.#resident.size > 0 && this.#resident.has(Math.floor(sector / this.#blockSectors));
  }

  #isAnyResident(sector: number, sectorCount: number): boolean {
    if (this.#resident.size === 0) return false;
    const end = sector + sectorCount;
    return this.#isResident(sector) || this.#endOfAlike(sector, end, false) < end;
  }

  #endOfBlock(sector: number): number {
    return sector - (sector % this.#blockSectors) + this.#blockSectors;
  }

  /** Where the sectors from `from` on stop to be alike in being resident, at most `end`. */
  #endOfAlike(from: number, end: number, isResident: boolean): number {
    if (this.#resident.size === 0) return end;
    let to = this.#endOfBlock(from);
    while (to < end && this.#isResident(to) === isResident) to += this.#blockSectors;
    return Math.min(to, end);
  }

  #part(bytes: Uint8Array, fromSector: number, toSector: number): Uint8Array {
    return bytes.subarray(fromSector * this.sectorBytes, toSector * this.sectorBytes);
  }
}
