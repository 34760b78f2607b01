import { messageOf } from '../core/index.ts';
import { Compactor, type CompactorInput } from './compactor.ts';
import { fail, StateFsError } from './errors.ts';
import type { GroupOperation, GroupPlan } from './group.ts';
import type { IndexEntry } from './index-entry.ts';
import type { Latch } from './latch.ts';
import { KIND_DELETE, KIND_PUT } from './layout.ts';
import { reservedSectors } from './live-space.ts';
import type { CompactionMode, StoreEvent } from './options.ts';

/** What a step beside a change writes at least. */
const MIN_STEP_BYTES = 8192;
/** Compaction begins by itself once it would gain this share of a region. */
const MIN_GAIN_SHARE = 1 / 32;

/** What the space of a store is kept with. */
export interface SpaceKeeperInput extends CompactorInput {
  readonly mode: CompactionMode;
  readonly latch: Latch;
  readonly onEvent: (event: StoreEvent) => void;
  /** Whether an open snapshot shows records in the region that compaction would write to. */
  readonly isPinned: () => boolean;
}

/** Finds the place for each change, and keeps compaction going so that there is one. */
export class SpaceKeeper {
  readonly #in: SpaceKeeperInput;
  /** While compaction goes on. */
  #compactor: Compactor | undefined;
  /** After compaction failed: it is not tried again by itself before the free space has fallen below this. */
  #retryBelowSectors = Number.POSITIVE_INFINITY;
  #compactionCount = 0;

  constructor(input: SpaceKeeperInput) {
    this.#in = input;
  }

  get isCompacting(): boolean {
    return this.#compactor !== undefined;
  }

  /** How often compaction was finished. */
  get compactionCount(): number {
    return this.#compactionCount;
  }

  /** To be told of each record that enters the index. */
  noteSet(entry: IndexEntry): void {
    this.#compactor?.noteSet(entry);
  }

  /** To be told of each deletion from the index. */
  noteDelete(was: IndexEntry): void {
    this.#compactor?.noteDelete(was, this.#in.writer.lastSequence);
  }

  /** A second copy of a record in the other region: where compaction has brought it, or where it was before the last move. */
  copyOf({ key, sequence }: IndexEntry): IndexEntry | undefined {
    const copy = this.#compactor?.copyOf(key) ?? this.#in.keys.leftBehind(key);
    return copy?.kind === KIND_PUT && copy.sequence === sequence ? copy : undefined;
  }

  /** Moves all live records to the other region; finishes what is going on. */
  compact(): void {
    this.#compactor ??= this.#start();
    while (!this.#step(Number.POSITIVE_INFINITY));
  }

  /** Does about `sectors` of it. @returns whether it is done */
  compactStep(sectors: number): boolean {
    this.#compactor ??= this.#start();
    return this.#step(sectors);
  }

  /**
   * Does as much of compaction as a change of `sectors` has to pay for: so much that it is done before half of the space
   * that is left is used up. What fails here fails no change: the change has happened.
   */
  compactBeside(sectors: number): void {
    if (this.#in.mode !== 'auto') return;
    if (this.#compactor === undefined && !this.#shouldCompact()) return;
    try {
      this.#compactor ??= this.#start();
      const share = (2 * sectors * this.#compactor.remainingSectors) / Math.max(1, this.#in.writer.freeSectors);
      this.#step(Math.ceil(share + MIN_STEP_BYTES / this.#in.geometry.sectorBytes));
    } catch (error) {
      if (!(error instanceof StateFsError)) throw error;
    }
  }

  /**
   * Where a group of these operations goes, if it comes next.
   * @throws StateFsError ENOSPC, before anything is written
   */
  place(operations: readonly GroupOperation[]): GroupPlan {
    const { writer, latch, geometry } = this.#in;
    let plan = writer.plan(operations);
    let missing = this.#missingSectors(plan);
    let cause: unknown;
    // A copy that was going on may hold what has died since; a second one does not.
    for (let attempt = 0; missing > 0 && attempt < 2 && this.#wouldFit(plan); attempt++) {
      try {
        this.compact();
      } catch (error) {
        latch.check();
        cause = error;
      }
      plan = writer.plan(operations);
      missing = this.#missingSectors(plan);
    }
    if (missing <= 0) return plan;
    return fail(
      'ENOSPC',
      `the store is full: ${missing * geometry.sectorBytes} bytes are missing, with the reserve for deletes: ` +
        (cause === undefined ? 'delete something, or use a larger partition' : messageOf(cause)),
      cause,
    );
  }

  /** Once half of the space that compaction would leave is used up by what it would take away. */
  #shouldCompact(): boolean {
    const { writer, geometry, keys, isPinned } = this.#in;
    if (isPinned()) return false;
    const { freeSectors } = writer;
    const { regionSectorCount } = geometry;
    const freeAfter = regionSectorCount - keys.space.boundSectors;
    return (
      freeSectors < freeAfter / 2 &&
      freeAfter - freeSectors >= regionSectorCount * MIN_GAIN_SHARE &&
      freeSectors < this.#retryBelowSectors
    );
  }

  #start(): Compactor {
    if (this.#in.isPinned()) {
      fail('EBUSY', 'compaction: an open snapshot shows records in the region that it needs: close the snapshot');
    }
    this.#in.keys.forgetLeftBehind();
    const compactor = this.#in.latch.run(() => new Compactor(this.#in));
    this.#tell('started');
    return compactor;
  }

  /** @returns whether it is done */
  #step(sectors: number): boolean {
    const compactor = this.#compactor as Compactor;
    try {
      if (!this.#in.latch.run(() => compactor.step(sectors))) return false;
    } catch (error) {
      this.#compactor = undefined;
      this.#retryBelowSectors = this.#in.writer.freeSectors / 2;
      this.#tell('abandoned', error);
      throw error;
    }
    this.#compactor = undefined;
    this.#retryBelowSectors = Number.POSITIVE_INFINITY;
    this.#compactionCount++;
    this.#tell('finished');
    return true;
  }

  #tell(phase: 'started' | 'finished' | 'abandoned', error?: unknown): void {
    const { writer, geometry, onEvent } = this.#in;
    const freeBytes = writer.freeSectors * geometry.sectorBytes;
    onEvent({ type: 'compaction', phase, freeBytes, ...(error === undefined ? {} : { error }) });
  }

  /** Whether a group would fit in a region that holds nothing but live records. */
  #wouldFit(plan: GroupPlan): boolean {
    const { mode, keys, geometry, writer } = this.#in;
    if (mode !== 'auto') return false;
    if (isDeletion(plan)) return true;
    const after = keys.space.boundAfter(plan.operations, (key) => keys.get(key));
    const reserve = reservedSectors(geometry, after.keys);
    const own = plan.endSector - plan.sector + writer.freeSectors - (plan.payloadFloor - plan.endSector);
    const used = Math.max(after.sectors, keys.space.boundSectors + own);
    return used + reserve <= geometry.regionSectorCount;
  }

  /** Sectors that a group lacks, in its region or in the other one once it is moved there. */
  #missingSectors(plan: GroupPlan): number {
    const { keys, geometry } = this.#in;
    const freeAfter = plan.payloadFloor - plan.endSector;
    if (isDeletion(plan)) return -freeAfter;
    const after = keys.space.boundAfter(plan.operations, (key) => keys.get(key));
    const reserve = reservedSectors(geometry, after.keys);
    return reserve + Math.max(-freeAfter, after.sectors - geometry.regionSectorCount);
  }
}

function isDeletion(plan: GroupPlan): boolean {
  return plan.operations.every(({ operation }) => operation.kind === KIND_DELETE);
}
