import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  type DeviceFeatures,
  resolveGeometry,
  type WriteOptions,
  type WriteZeroesOptions,
} from '../blockdev/index.ts';
import { assertInteger, type Choices, DeviceError, Sfc32, undisturbed, type VirtualClock } from '../core/index.ts';
import { RandomChoices } from './choices.ts';
import { DiskState, type Resolution } from './disk-state.ts';
import type { LatencyPlan, OperationKind } from './latency.ts';
import { type MediaFault, type MediaFaultKind, type MediaOptions, resolveMedia } from './media.ts';
import { MediaOverlay, planFlush, planWrite, type WritePlan } from './media-overlay.ts';
import { type DiskProfile, type ProfileName, profileOf } from './profiles.ts';

export interface SimulatedDiskOptions {
  /** In sectors of the profile's `sectorBytes`. */
  readonly sectorCount: number;
  /** Default `nvme-512`. */
  readonly profile?: ProfileName | DiskProfile;
  /** Decides what a cut left, sector by sector, as it is read. Default: everything persisted. */
  readonly choices?: Choices;
  /** False: every write is durable when it returns. Default true. */
  readonly writeCache?: boolean;
  /** How long operations take, on `clock`. */
  readonly latency?: LatencyPlan;
  /** Faults of the medium that may fire, and what decides whether they do. */
  readonly media?: SimulatedMedia;
  /** Needed with `latency`, and for latency spikes and hung requests, which move it on. */
  readonly clock?: VirtualClock;
}

/** Faults of the medium of a live disk. */
export interface SimulatedMedia extends MediaOptions {
  readonly choices: Choices;
  /** How long a latency spike takes. Default 1000. */
  readonly spikeMs?: number;
  /** How long a request is waited for that never completes. Default 30,000. */
  readonly timeoutMs?: number;
}

/**
 * What a cut leaves of the writes that were not durable.
 * - `all-lost`, `all-kept`: nothing, or everything.
 * - `{ seed }`: a random version of each sector.
 * - `{ writesKept }`: the first so many write requests since the disk was made, in order and whole, and no later one:
 *   the linear crash of simple tools.
 * - `Choices`: as it says, for each sector when it is first read.
 */
export type CutOutcome =
  | 'all-lost'
  | 'all-kept'
  | { readonly seed: number }
  | { readonly writesKept: number }
  | Choices;

/** When the power is to fail: at the `nth` operation of a kind from now on, 1 the next. */
export interface ScheduledCut {
  readonly nth: number;
  /** Default `any`. */
  readonly of?: OperationKind | 'any';
  /**
   * `before`: the operation does not reach the disk. `during` (default): it is in flight: a write may have reached the
   * medium in part, a flush has promised nothing.
   */
  readonly when?: 'before' | 'during';
}

/** How often each kind of fault was really there. */
export interface FaultCounts {
  cuts: number;
  /** Sectors found to hold less than their newest version. */
  lostSectors: number;
  /** Sectors found torn inside. */
  tornSectors: number;
  /** Write requests of which some sectors were found kept and others lost. */
  tornWrites: number;
  damagedPhysicalSectors: number;
  delayedOperations: number;
  /** Faults of the medium, by kind; kinds that have not fired are absent. */
  media: Partial<Record<MediaFaultKind, number>>;
}

const KEPT = 1;
const LOST = 2;

/**
 * A disk with a volatile cache that loses power when told to, and lives on. See docs/disk-model.md.
 *
 * After {@link cut}, or a scheduled one, every operation throws DeviceError EPOWER, until {@link powerOn}.
 */
export class SimulatedDisk implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly = false;
  readonly features: DeviceFeatures;
  readonly profile: DiskProfile;
  readonly #options: SimulatedDiskOptions;
  readonly #resolved: Required<MediaOptions> | undefined;
  #state: DiskState;
  #media: MediaOverlay | undefined;
  /** What sectors held before their last write, for stale reads; empty where none may fire. */
  #previous = new Map<number, Uint8Array>();
  #powered = true;
  #closed = false;
  #scheduled: Required<ScheduledCut> | undefined;
  #remaining = 0;
  #counts: FaultCounts;
  /** Of each write since the disk was made: whether sectors of it were found kept, lost. Emptied by a cut. */
  #fates = new Map<number, number>();

  /** @throws TypeError, RangeError for options that make no disk */
  constructor(options: SimulatedDiskOptions) {
    this.profile = profileOf(options.profile ?? 'nvme-512');
    const geometry = resolveGeometry({ ...this.profile, sectorCount: options.sectorCount });
    if (options.latency !== undefined && options.clock === undefined) {
      throw new TypeError('clock: expected a VirtualClock beside latency, got none: time has to pass somewhere');
    }
    this.sectorBytes = geometry.sectorBytes;
    this.physicalSectorBytes = geometry.physicalSectorBytes;
    this.sectorCount = geometry.sectorCount;
    const writeCache = options.writeCache ?? true;
    this.features = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache };
    this.#options = options;
    this.#counts = noFaults();
    this.#resolved = options.media === undefined ? undefined : resolveMedia(options.media);
    if (this.#resolved !== undefined && options.clock === undefined && this.#resolved.kinds.some(takesTime)) {
      throw new TypeError('clock: expected a VirtualClock beside faults that take time, got none');
    }
    this.#state = this.#adopt(new DiskState(this.profile, options.sectorCount, true));
  }

  get powered(): boolean {
    return this.#powered;
  }

  /** Faults that really happened, so far. */
  get counts(): Readonly<FaultCounts> {
    return this.#counts;
  }

  /** Kinds of media faults that were asked for and have not fired: a run that ends so has shown nothing about them. */
  get mediaPending(): readonly MediaFaultKind[] {
    return this.#resolved?.kinds.filter((kind) => this.#counts.media[kind] === undefined) ?? [];
  }

  /** Whether a scheduled cut has not come yet: a run that asked for one and ends so has tested nothing. */
  get cutPending(): boolean {
    return this.#scheduled !== undefined;
  }

  /** Write requests so far, of any kind: the measure of `writesKept`. */
  get writeCount(): number {
    return this.#state.stamp;
  }

  /** Sectors with a write that no flush has covered. */
  get dirtySectorCount(): number {
    return this.#state.dirtyCount;
  }

  /** Versions of sectors that memory is held for: bounded by what is written between two flushes. */
  get memoryVersions(): number {
    return this.#state.memoryVersions;
  }

  read(sector: number, target: Uint8Array): void {
    this.#checkUsable();
    const sectorCount = checkTransfer(this, sector, target);
    const cut = this.#enter('read', sectorCount);
    if (this.#media === undefined) this.#state.read(sector, target);
    else this.#media.read(sector, target);
    if (cut) this.#cutInFlight();
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#checkUsable();
    const sectorCount = checkTransfer(this, sector, source);
    const cut = this.#enter('write', sectorCount);
    const plan = planWrite(this.#media, sector, sectorCount);
    if (plan.sectorCount > 0) {
      this.#remember(plan);
      this.#state.write(plan.sector, source.subarray(0, plan.sectorCount * this.sectorBytes));
    }
    if (cut) this.#cutInFlight();
    if (plan.error !== undefined) throw plan.error;
    const isDurable = options?.fua === true || !this.features.writeCache;
    if (isDurable) this.#state.settle(plan.sector, plan.sectorCount);
  }

  flush(): void {
    this.#checkUsable();
    if (this.#enter('flush', 0)) this.#cutInFlight();
    const plan = planFlush(this.#media);
    if (plan.outcome === 'done') this.#state.settleAll();
    if (plan.outcome === 'abandon') this.#state.abandon();
    if ('error' in plan) throw plan.error;
  }

  discard(sector: number, sectorCount: number): void {
    this.#checkUsable();
    checkRange(this, sector, sectorCount);
    const cut = this.#enter('discard', sectorCount);
    this.#state.discard(sector, sectorCount);
    if (cut) this.#cutInFlight();
  }

  writeZeroes(sector: number, sectorCount: number, _options?: WriteZeroesOptions): void {
    this.#checkUsable();
    checkRange(this, sector, sectorCount);
    const cut = this.#enter('writeZeroes', sectorCount);
    const plan = planWrite(this.#media, sector, sectorCount);
    if (plan.sectorCount > 0) {
      this.#remember(plan);
      this.#state.writeZeroes(plan.sector, plan.sectorCount);
    }
    if (cut) this.#cutInFlight();
    if (plan.error !== undefined) throw plan.error;
    if (!this.features.writeCache) this.#state.settle(plan.sector, plan.sectorCount);
  }

  close(): void {
    this.#closed = true;
  }

  /** Opens the disk again after `close`, for the next user of the same medium. */
  reopen(): void {
    this.#closed = false;
  }

  /** The power fails, now. Twice is once. */
  cut(): void {
    if (!this.#powered) return;
    this.#powered = false;
    this.#scheduled = undefined;
    this.#counts.cuts++;
    this.#fates.clear();
    this.#state.cut();
  }

  /** The power fails later. Replaces what was scheduled before. */
  scheduleCut(cut: ScheduledCut): void {
    assertInteger(cut.nth, 'nth', 1);
    this.#remaining = cut.nth;
    this.#scheduled = { nth: cut.nth, of: cut.of ?? 'any', when: cut.when ?? 'during' };
  }

  /** The power is back. What the cut left is decided by `outcome`, or by the disk's own choices. */
  powerOn(outcome?: CutOutcome): void {
    if (this.#powered) return;
    this.#powered = true;
    this.#closed = false;
    const state = this.#state;
    this.#media = this.#overlayOn(state);
    if (outcome === undefined) return;
    if (outcome === 'all-lost') state.resolveAll(-1);
    else if (outcome === 'all-kept') state.resolveAll(Number.POSITIVE_INFINITY);
    else if ('choose' in outcome) state.choices = outcome;
    else if ('seed' in outcome) state.choices = new RandomChoices(new Sfc32(outcome.seed));
    else state.resolveAll(outcome.writesKept);
  }

  /** How many versions a sector may still have: after a cut, the alternatives; before, what a cut now would leave. */
  versionCount(sector: number): number {
    checkRange(this, sector, 1);
    return this.#state.versionCount(sector);
  }

  /** A disk of its own with the same content, durable and not, power state and counts; a scheduled cut is not copied. */
  clone(): SimulatedDisk {
    const copy = new SimulatedDisk(this.#options);
    copy.#state = copy.#adopt(this.#state.clone());
    copy.#state.choices = this.#state.choices;
    copy.#powered = this.#powered;
    copy.#closed = this.#closed;
    copy.#counts = { ...this.#counts, media: { ...this.#counts.media } };
    copy.#previous = new Map(this.#previous);
    copy.#fates = new Map(this.#fates);
    return copy;
  }

  #adopt(state: DiskState): DiskState {
    state.choices = this.#options.choices ?? undisturbed;
    state.onResolve = (resolution) => this.#count(resolution);
    this.#media = this.#overlayOn(state);
    return state;
  }

  /** A disk's faults are decided anew each time it is powered on; what has gone wrong with the medium stays. */
  #overlayOn(state: DiskState): MediaOverlay | undefined {
    if (this.#resolved === undefined) return undefined;
    const { choices } = this.#options.media!;
    const note = (fault: MediaFault) => this.#fire(fault);
    return new MediaOverlay(state, this.#resolved, note, {
      choices,
      previous: (sector) => this.#previous.get(sector),
    });
  }

  #fire({ kind }: MediaFault): void {
    this.#counts.media[kind] = (this.#counts.media[kind] ?? 0) + 1;
    const { media, clock } = this.#options;
    if (kind === 'latency-spike') clock!.advance(media!.spikeMs ?? 1000);
    if (kind === 'hung-request') clock!.advance(media!.timeoutMs ?? 30_000);
  }

  /** Keeps what a write is about to replace. */
  #remember(plan: WritePlan): void {
    if (this.#resolved?.kinds.includes('stale-read') !== true) return;
    for (let sector = plan.sector; sector < plan.sector + plan.sectorCount; sector++) {
      this.#previous.set(sector, this.#state.versionBytes(sector, 0));
    }
  }

  #checkUsable(): void {
    if (!this.#powered) throw new DeviceError('EPOWER', 'the disk has lost power: powerOn() brings it back');
    if (this.#closed) throw new DeviceError('ECLOSED', 'the disk was closed: reopen() it to use it');
  }

  /**
   * Every operation passes here first: time passes, and a scheduled cut may come.
   * @returns whether the power fails while the operation is in flight
   */
  #enter(kind: OperationKind, sectorCount: number): boolean {
    if (this.#options.latency !== undefined) this.#delay(this.#options.latency.latencyMs(kind, sectorCount));
    const scheduled = this.#scheduled;
    if (scheduled === undefined || (scheduled.of !== 'any' && scheduled.of !== kind)) return false;
    if (--this.#remaining > 0) return false;
    if (scheduled.when === 'before') this.#cutInFlight();
    return true;
  }

  #delay(ms: number): void {
    if (ms === 0) return;
    this.#counts.delayedOperations++;
    this.#options.clock!.advance(ms);
  }

  #cutInFlight(): never {
    this.cut();
    throw new DeviceError('EPOWER', 'the disk lost power while this operation was in flight');
  }

  #count(resolution: Resolution): void {
    const counts = this.#counts;
    if (resolution.kind === 'damaged') counts.damagedPhysicalSectors++;
    if (resolution.index > 0) counts.lostSectors++;
    if (resolution.stamp < 0) counts.tornSectors++;
    for (const stamp of resolution.lostStamps) this.#fate(stamp, LOST);
    if (resolution.stamp > 0) this.#fate(resolution.stamp, KEPT);
  }

  #fate(stamp: number, fate: number): void {
    const before = this.#fates.get(stamp) ?? 0;
    const now = before | fate;
    if (now === before) return;
    this.#fates.set(stamp, now);
    if (now === (KEPT | LOST)) this.#counts.tornWrites++;
  }
}

/** Faults during which time passes. */
function takesTime(kind: MediaFaultKind): boolean {
  return kind === 'latency-spike' || kind === 'hung-request';
}

function noFaults(): FaultCounts {
  return {
    cuts: 0,
    lostSectors: 0,
    tornSectors: 0,
    tornWrites: 0,
    damagedPhysicalSectors: 0,
    delayedOperations: 0,
    media: {},
  };
}
