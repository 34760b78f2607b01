import type { BlockDevice } from '../blockdev/index.ts';
import { equalBytes } from '../core/index.ts';
import { sha256 } from '../envelope/index.ts';
import { fail, wrapDeviceError } from './errors.ts';
import { type FrameCodec, FrameHeader } from './frame.ts';
import type { StoreGeometry } from './geometry.ts';
import { entryOf, type GroupCodec, type GroupOperation, type GroupPlan, type PlannedOperation } from './group.ts';
import type { IndexEntry } from './index-entry.ts';
import { FEATURE_LONG_COMMITS, FLAG_ORDERED, FRAME_HEADER_BYTES, KIND_PUT } from './layout.ts';
import { borrowMemory, giveBackMemory, type Memory, NO_MEMORY } from './memory.ts';
import type { PayloadStore } from './payload.ts';
import type { Barrier, StoreRules } from './rules.ts';
import type { Superblock } from './superblock.ts';
import type { Frontier, SuperblockPair } from './superblock-pair.ts';

/**
 * How a put becomes durable. `ordered`: temp frames, flush, read back and verified, commit, flush. `checksummed`: temp
 * frames and commit together, one flush; recovery holds the temp frames to the digest in the commit.
 */
export type CommitMode = 'ordered' | 'checksummed';

/** How a group is to be appended. */
interface AppendOptions {
  readonly mode: CommitMode;
  /** Whether it is durable on return, or with the next flush. */
  readonly durable: boolean;
  /** Called last thing before the commit is issued; what it throws leaves the old bytes in place. */
  readonly beforeCommit: () => void;
}

/** The end of a log as it was found or made. */
export interface LogEnd {
  readonly tailSector: number;
  readonly payloadFloor: number;
  readonly lastSequence: number;
}

/** The stamp of the group at hand. */
class Stamp {
  epoch = 0;
  sequence = 0;
  durableSequence = 0;
  flags = 0;
}

/** Appends groups to the log of one life. */
export class LogWriter {
  readonly #device: BlockDevice;
  readonly #codec: FrameCodec;
  readonly #groups: GroupCodec;
  readonly #geometry: StoreGeometry;
  readonly #payloads: PayloadStore;
  readonly #superblocks: SuperblockPair;
  readonly #rules: StoreRules;
  #regionStart: number;
  /** For the group at hand, and for a temp frame of it that is read back; only while one is appended. */
  #staging: Memory = NO_MEMORY;
  #readBack: Memory = NO_MEMORY;
  readonly #header = new FrameHeader();
  readonly #stamp = new Stamp();
  #tailSector: number;
  #payloadFloor: number;
  /** The last sequence number given out, whether or not its group was committed. */
  #sequence: number;
  /** The last group that was issued as a whole, and the end of the log behind it. */
  #issuedSequence: number;
  /** The last group whose caller was told that it is there, durable or not yet. */
  #acknowledgedSequence: number;
  /** Every group up to this one is durable, and ends below `#durableSector`. */
  #durableSequence: number;
  #durableSector: number;
  #durableFloor: number;
  #hasLife = false;
  #inDoubt: unknown;

  constructor(
    device: BlockDevice,
    codec: FrameCodec,
    groups: GroupCodec,
    geometry: StoreGeometry,
    payloads: PayloadStore,
    superblocks: SuperblockPair,
    rules: StoreRules,
    end: LogEnd,
  ) {
    this.#device = device;
    this.#codec = codec;
    this.#groups = groups;
    this.#geometry = geometry;
    this.#payloads = payloads;
    this.#superblocks = superblocks;
    this.#rules = rules;
    this.#regionStart = geometry.regionSectors[superblocks.current.activeRegion];
    this.#tailSector = end.tailSector;
    this.#payloadFloor = end.payloadFloor;
    this.#sequence = end.lastSequence;
    this.#issuedSequence = end.lastSequence;
    this.#acknowledgedSequence = end.lastSequence;
    this.#durableSequence = end.lastSequence;
    this.#durableSector = end.tailSector;
    this.#durableFloor = end.payloadFloor;
  }

  /** Sectors that neither log nor payloads take up. */
  get freeSectors(): number {
    return this.#payloadFloor - this.#tailSector;
  }

  /** The region that holds the log. */
  get region(): 0 | 1 {
    return this.#superblocks.current.activeRegion;
  }

  get epoch(): number {
    return this.#superblocks.current.epoch;
  }

  get lastSequence(): number {
    return this.#issuedSequence;
  }

  /** The superblock that is current, as it was written. */
  get superblock(): Superblock {
    return this.#superblocks.current;
  }

  /** Where the log ends: everything before was issued whole, durable or not. */
  get end(): LogEnd {
    return { tailSector: this.#tailSector, payloadFloor: this.#payloadFloor, lastSequence: this.#issuedSequence };
  }

  /** The error after which nothing more is written; undefined while all is well. */
  get inDoubt(): unknown {
    return this.#inDoubt;
  }

  /** Whether anything was issued that no flush has covered. */
  get hasUnflushed(): boolean {
    return this.#issuedSequence > this.#durableSequence;
  }

  /** Where a group of these operations goes, if it comes next. */
  plan(operations: readonly GroupOperation[]): GroupPlan {
    return this.#groups.plan(operations, this.#tailSector, this.#payloadFloor, this.#regionStart);
  }

  /**
   * Appends a group that {@link plan} has placed since the last change.
   * @returns what the index keeps of each operation; undefined for a delete
   * @throws StateFsError EIO, after which {@link inDoubt} tells whether the store may go on; EINTEGRITY where temp
   *   frames read back wrong; EROFS once numbers are used up; whatever `beforeCommit` throws
   */
  append(plan: GroupPlan, options: AppendOptions): (IndexEntry | undefined)[] {
    this.#checkSequence();
    this.openLife();
    this.#allowLongCommits(plan);
    this.#advanceFrontier(plan.endSector);
    // Taken even if the append fails: no two groups of a life share a number.
    const sequence = ++this.#sequence;
    const stamp = this.#stamp;
    stamp.epoch = this.epoch;
    stamp.sequence = sequence;
    stamp.durableSequence = this.#durableSequence;
    stamp.flags = 0;
    const placed = this.#writePayloads(plan);
    this.#makeRoom(placed);
    this.#groups.sealTemps(this.#staging.bytes, this.#staging.view, placed, stamp, this.#header);
    if (options.mode === 'ordered') this.#issueOrdered(placed, options.beforeCommit);
    else this.#issueChecksummed(placed, options.beforeCommit);
    this.#clearUp();
    this.#tailSector = plan.endSector;
    this.#payloadFloor = plan.payloadFloor;
    this.#issuedSequence = sequence;
    if (options.durable) this.flush('commit');
    this.#acknowledgedSequence = sequence;
    return placed.operations.map((operation) => entryOf(operation, plan.sector, sequence, stamp.epoch));
  }

  /** Makes everything issued so far durable. A failed flush may have dropped anything: the store latches. */
  flush(barrier: Barrier): void {
    if (!this.#rules.barriers[barrier]) return;
    this.#guard('flushing', true, () => this.#device.flush());
    this.#superblocks.flushed();
    // At the barrier between temp frames and commit the group itself is not issued yet.
    this.#durableSequence = this.#issuedSequence;
    this.#durableSector = this.#tailSector;
    this.#durableFloor = this.#payloadFloor;
  }

  /**
   * Makes everything durable and records that the log ends here, if this life wrote anything.
   * @throws StateFsError EIO where that cannot be: the latch may have come with nobody told, from compaction beside a put
   */
  close(): void {
    if (!this.#hasLife) return;
    if (this.#inDoubt !== undefined) {
      if (this.#acknowledgedSequence <= this.#durableSequence) return;
      fail('EIO', 'close: puts that no sync covered are in doubt: reopen the store to find out', this.#inDoubt);
    }
    const flush = (): void => this.flush('close');
    flush();
    this.#guard('closing', true, () => this.#superblocks.close(this.#frontier(), flush));
    flush();
  }

  /** Opens the life of the log, durably, before its first write. */
  openLife(): void {
    if (this.#hasLife) return;
    const flush = (): void => this.flush('life');
    this.#guard('opening a new life of the log', true, () => this.#superblocks.openLife(this.#frontier(), flush));
    this.#hasLife = true;
  }

  /**
   * Opens the life if need be, and takes an epoch for frames in the other region.
   * @returns it
   */
  beginMove(): number {
    this.openLife();
    const flush = (): void => this.flush('life');
    let epoch = 0;
    this.#guard('starting compaction', true, () => {
      epoch = this.#superblocks.reserveEpoch(this.#frontier(), flush);
    });
    return epoch;
  }

  /**
   * Goes on in the other region, where all that is live stands by now. Everything issued so far becomes durable.
   * @param regionEpoch of the frames there
   * @param lostSequence see {@link Superblock.lostSequence}
   */
  move(tailSector: number, payloadFloor: number, regionEpoch: number, lostSequence: number): void {
    this.flush('move');
    const frontier = { frontierSector: tailSector, frontierSequence: this.#issuedSequence, payloadFloor };
    const flush = (): void => {
      if (!this.#rules.barriers.moved) return;
      this.#device.flush();
      this.#superblocks.flushed();
    };
    const moved = { ...frontier, regionEpoch: this.#rules.epochs ? regionEpoch : 0, lostSequence };
    this.#guard('moving the log', true, () => this.#superblocks.move(moved, flush));
    this.#regionStart = this.#geometry.regionSectors[this.#superblocks.current.activeRegion];
    this.#tailSector = tailSector;
    this.#payloadFloor = payloadFloor;
    this.#durableSequence = this.#issuedSequence;
    this.#durableSector = tailSector;
    this.#durableFloor = payloadFloor;
  }

  /** See {@link SuperblockPair.read}. */
  readSuperblocks(): readonly [string | undefined, string | undefined] {
    return this.#superblocks.read();
  }

  /**
   * Writes superblock copies anew, durably. Never the last one that is right: the older copy is replaced in turn, and the
   * newer one in its own place, or in turn once the older is right again.
   * @param wrong those that do not read as they were written
   */
  mendSuperblocks(wrong: readonly (0 | 1)[]): void {
    const pair = this.#superblocks;
    const newer = pair.currentCopy;
    const flush = (): void => this.flush('scrub');
    const inTurn = (): void => {
      if (!this.#hasLife) {
        this.openLife();
        return;
      }
      pair.advance(this.#frontier(), flush);
      flush();
    };
    this.#guard('writing a superblock anew', true, () => {
      const isOlderWrong = wrong.some((copy) => copy !== newer);
      if (isOlderWrong) inTurn();
      if (!wrong.includes(newer)) return;
      if (isOlderWrong || !this.#rules.scrub.ownPlace) inTurn();
      else {
        pair.rewrite();
        flush();
      }
    });
  }

  #frontier(): Frontier {
    return {
      frontierSector: this.#durableSector,
      frontierSequence: this.#durableSequence,
      payloadFloor: this.#durableFloor,
    };
  }

  #checkSequence(): void {
    // Beyond, the number in the frame would not read back. Only a crafted image comes here.
    if (this.#sequence < Number.MAX_SAFE_INTEGER) return;
    fail('EROFS', 'the store has used up its 2^53 sequence numbers: copy its keys to a new one');
  }

  /** Readers before transactions know only commits of one sector. */
  #allowLongCommits(plan: GroupPlan): void {
    if (plan.sectors - plan.tempSectors === 1 || (this.#superblocks.current.features & FEATURE_LONG_COMMITS) !== 0)
      return;
    const flush = (): void => this.flush('life');
    this.#guard('recording a feature', true, () =>
      this.#superblocks.addFeature(FEATURE_LONG_COMMITS, this.#frontier(), flush),
    );
  }

  /** Keeps the log within a stride of the recorded frontier: recovery searches no further for its end. */
  #advanceFrontier(endSector: number): void {
    const { strideSectors } = this.#geometry;
    if (endSector <= this.#superblocks.current.frontierSector + strideSectors) return;
    const flush = (): void => this.flush('commit');
    if (this.hasUnflushed && endSector > this.#durableSector + strideSectors) flush();
    this.#guard('recording the frontier', true, () => this.#superblocks.advance(this.#frontier(), flush));
  }

  /** Writes the payloads that stand outside the log. @returns the plan, its extents under their group's number */
  #writePayloads(plan: GroupPlan): GroupPlan {
    if (plan.operations.every(({ extent }) => extent === undefined)) return plan;
    const { sequence, epoch } = this.#stamp;
    const operations = plan.operations.map((planned): PlannedOperation => {
      if (planned.extent === undefined) return planned;
      const extent = { ...planned.extent, sequence, epoch };
      this.#guard('writing the payload', false, () => this.#payloads.write(extent, planned.operation.payload));
      return { ...planned, extent };
    });
    return { ...plan, operations };
  }

  /** Sees to memory for the group. */
  #makeRoom(plan: GroupPlan): void {
    const { sectorBytes, frameSectors, unitSectors } = this.#geometry;
    const bytes = Math.max(plan.endSector - plan.sector, 2 * frameSectors + unitSectors) * sectorBytes;
    this.#staging = borrowMemory(bytes);
    this.#readBack = borrowMemory(frameSectors * sectorBytes);
  }

  #clearUp(): void {
    giveBackMemory(this.#staging);
    giveBackMemory(this.#readBack);
    this.#staging = NO_MEMORY;
    this.#readBack = NO_MEMORY;
  }

  #issueOrdered(plan: GroupPlan, beforeCommit: () => void): void {
    const { sectorBytes } = this.#geometry;
    const tempBytes = plan.tempSectors * sectorBytes;
    const temps = this.#padded(plan, tempBytes);
    this.#guard('writing the temp frames', false, () => this.#device.write(plan.sector, temps));
    this.flush('temp');
    this.#guard('verifying the temp frames', false, () => this.#verifyTemps(plan));
    beforeCommit();
    this.#stamp.flags = FLAG_ORDERED;
    // That flush covered every group before: recovery takes them in before this one, as the log has them.
    this.#stamp.durableSequence = this.#durableSequence;
    this.#sealCommits(plan);
    const commit = this.#staging.bytes.subarray(tempBytes, plan.sectors * sectorBytes);
    this.#guard('writing the commit', true, () => this.#device.write(plan.sector + plan.tempSectors, commit));
  }

  #issueChecksummed(plan: GroupPlan, beforeCommit: () => void): void {
    beforeCommit();
    this.#sealCommits(plan);
    const group = this.#padded(plan, plan.sectors * this.#geometry.sectorBytes);
    this.#guard('writing the group', true, () => this.#device.write(plan.sector, group));
  }

  #sealCommits(plan: GroupPlan): void {
    this.#groups.sealCommits(this.#staging.bytes, this.#staging.view, plan, this.#stamp, this.#header);
  }

  /** The group with zeros up to the end of its last unit: whatever writes a part of one would have to read it first. */
  #padded(plan: GroupPlan, usedBytes: number): Uint8Array {
    const bytes = (plan.endSector - plan.sector) * this.#geometry.sectorBytes;
    this.#staging.bytes.fill(0, usedBytes, bytes);
    return this.#staging.bytes.subarray(0, bytes);
  }

  /** What is about to be committed must read back as it was meant: the promise covers the disk, not our memory. */
  #verifyTemps(plan: GroupPlan): void {
    for (const planned of plan.operations) {
      const sector = plan.sector + planned.tempOffset;
      this.#device.read(sector, this.#readBack.bytes.subarray(0, planned.tempSectors * this.#geometry.sectorBytes));
      const { extent, operation } = planned;
      const isRight =
        this.#isTempRight(planned, sector) &&
        (extent === undefined || equalBytes(this.#payloads.digest(extent), operation.digest));
      if (isRight) continue;
      fail(
        'EINTEGRITY',
        `the device returns other bytes at sector ${sector} than were written: nothing was committed; check the disk`,
      );
    }
  }

  /** Whether the temp frame reads back whole, and an inline payload with its digest. */
  #isTempRight({ operation, tempBodyBytes, extent }: PlannedOperation, sector: number): boolean {
    const header = this.#header;
    const { bytes, view } = this.#readBack;
    const isWhole =
      this.#codec.parse(bytes, view, 0, sector, header) &&
      this.#codec.verify(bytes, view, 0, header) &&
      header.sequence === this.#sequence &&
      header.bodyBytes === tempBodyBytes;
    if (!isWhole || operation.kind !== KIND_PUT || extent !== undefined) return isWhole;
    this.#codec.restore(view, 0, header);
    const end = FRAME_HEADER_BYTES + tempBodyBytes;
    return equalBytes(sha256(bytes.subarray(end - operation.payloadBytes, end)), operation.digest);
  }

  /** Runs a device operation; with `latches`, its failure leaves in doubt what the disk holds, and ends this life. */
  #guard(doing: string, latches: boolean, run: () => void): void {
    try {
      run();
    } catch (error) {
      const wrapped = wrapDeviceError(error, doing);
      if (latches) this.#inDoubt ??= wrapped;
      throw wrapped;
    }
  }
}
