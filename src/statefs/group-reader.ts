import { viewOf } from '../core/index.ts';
import { type FrameCodec, FrameHeader } from './frame.ts';
import type { StoreGeometry } from './geometry.ts';
import {
  CONTINUATION_MARK,
  FLAG_LAST,
  FLAG_MOVED,
  FLAG_ORDERED,
  FRAME_COMMIT,
  FRAME_TEMP,
  MAX_EPOCH,
  MAX_GROUP_OPERATIONS,
} from './layout.ts';
import type { LogReader } from './log-reader.ts';
import type { PayloadStore } from './payload.ts';
import { type CommitEntry, type CommitRecord, readCommitBody, readTempBody, type TempRecord } from './records.ts';
import type { CommitState, Proof, TempState } from './recovery-table.ts';
import type { StoreRules } from './rules.ts';
import type { SuperblockVerdict } from './superblock.ts';

/** One operation, with the place of its temp frame. */
export interface Operation {
  readonly temp: TempRecord;
  readonly tempSector: number;
  readonly tempBodyBytes: number;
  /** The group's; that of the record itself where it was moved. */
  readonly sequence: number;
}

/** A group, as far as it could be read. */
export class Group {
  readonly sector: number;
  temp: TempState = 'absent';
  commitState: CommitState = 'absent';
  proof: Proof = 'none';
  sequence: number;
  epoch: number;
  /** By number; what is missing was not readable. */
  readonly operations: (Operation | undefined)[] = [];
  readonly entries: (CommitEntry | undefined)[] = [];
  /** Operations of the whole group; 0 where nothing tells. */
  operationCount = 0;
  /** Lowest sector of any extent up to this group; 0 where nothing tells. */
  payloadFloor = 0;
  /** First sector after what was read of it. */
  end: number;
  /** First sector after all of its frames, as one of them says; 0 where none does. */
  windowEnd = 0;
  /** The sectors of the first frame that is not as it should be; none where all are. */
  badSector = 0;
  badSectors = 0;
  /** A frame that belongs elsewhere stands there: a write went astray. */
  isOverwritten = false;

  constructor(sector: number, sequence: number, epoch: number) {
    this.sector = sector;
    this.sequence = sequence;
    this.epoch = epoch;
    this.end = sector;
  }

  /** The temp frames that were read are of another group: what is known is that one of a later life should stand here. */
  forgetTemps(sequence: number, epoch: number): void {
    this.temp = 'absent';
    this.operations.length = 0;
    this.operationCount = 0;
    this.sequence = sequence;
    this.epoch = epoch;
    this.windowEnd = 0;
  }
}

export interface GroupReaderInput {
  readonly reader: LogReader;
  readonly codec: FrameCodec;
  readonly geometry: StoreGeometry;
  readonly payloads: PayloadStore;
  readonly verdict: SuperblockVerdict;
  readonly rules: StoreRules;
}

/** Sectors at the start of a search that are read one by one, so that a torn tail is read no further than needed. */
const SINGLE_SECTORS = 8;

/**
 * Reads the groups of a log, one at a time. Where a group may be the torn end of the log, its frames are read in order
 * and no further than the first bad one; where it is known to have been durable, every sector of it is looked at.
 */
export class GroupReader {
  readonly start: number;
  readonly regionEnd: number;
  /** The latest life that a frame behind the frontier tells of, where no superblock does: that one was lost. Else 0. */
  lostEpoch = 0;
  /** Of the groups taken in so far: what follows has higher numbers. */
  lastSequence = 0;
  lastEpoch = 0;
  readonly #in: GroupReaderInput;
  readonly #frontier: number;
  readonly #frontierSequence: number;
  readonly #reach: number;
  readonly #minFrontierEpoch: number;
  readonly #maxFrontierEpoch: number;
  readonly #prove: (durableSequence: number) => void;
  readonly #header = new FrameHeader();

  /** @param prove told of each number up to which a frame says that all groups were durable before it */
  constructor(input: GroupReaderInput, prove: (durableSequence: number) => void) {
    const { geometry, verdict, rules } = input;
    const { current } = verdict;
    this.#in = input;
    this.#prove = prove;
    this.start = geometry.regionSectors[current.activeRegion];
    this.regionEnd = this.start + geometry.regionSectorCount;
    this.#frontier = current.frontierSector;
    this.#frontierSequence = current.frontierSequence;
    // A lost copy may have recorded one frontier more, behind a group of any size.
    const { strideSectors, groupSectors } = geometry;
    const isOver = current.clean && !verdict.otherLost && !rules.lostSuperblocks;
    this.#reach = verdict.otherLost ? 2 * strideSectors + groupSectors : isOver ? 0 : strideSectors;
    // A life that was closed left nothing behind its frontier but what it gave up.
    this.#minFrontierEpoch = current.clean && rules.lostSuperblocks ? current.epoch + 1 : current.epoch;
    const latest = verdict.otherLost ? current.generation + 1 : current.epoch;
    this.#maxFrontierEpoch = rules.lostSuperblocks ? MAX_EPOCH : latest;
  }

  /** First sector behind all that may tell of a group at `sector`: a new frontier would have been written before it. */
  searchEnd(sector: number): number {
    const { rules, geometry } = this.#in;
    // Even where that was lost.
    const beyond = rules.lostSuperblocks && sector >= this.#frontier ? sector + geometry.strideSectors : 0;
    return Math.min(Math.max(this.#frontier + this.#reach, beyond), this.regionEnd);
  }

  /** Reads what stands at `sector`, where the log goes on, with whatever further on tells about it. */
  read(sector: number): Group {
    // Numbers up to the frontier's are given out, whether or not their groups were moved along.
    if (sector >= this.#frontier) this.lastSequence = Math.max(this.lastSequence, this.#frontierSequence);
    const group = new Group(sector, this.lastSequence + 1, this.lastEpoch);
    if (sector < this.#frontier) group.proof = 'durable';
    this.#readTemps(group);
    if (group.temp === 'whole') this.#readCommits(group, group.end, group.sequence);
    const isSettled = group.temp === 'whole' && (group.commitState === 'whole' || group.commitState === 'contradicts');
    if (!isSettled) this.#search(group);
    return group;
  }

  #readTemps(group: Group): void {
    const header = this.#header;
    for (let index = 0; index < MAX_GROUP_OPERATIONS; index++) {
      const sector = group.end;
      if (!this.#parse(sector, FRAME_TEMP, index) || !this.#goesOn(group, sector)) {
        this.#noteBad(group, sector, 0);
        return;
      }
      if (index === 0) this.#prove(header.durableSequence);
      this.#noteFrame(group, sector);
      group.temp = 'broken';
      const isLast = (header.flags & FLAG_LAST) !== 0;
      const { bodyBytes } = header;
      if (!this.#readTemp(group, sector)) {
        this.#noteBad(group, sector, bodyBytes);
        return;
      }
      if (!isLast) continue;
      group.operationCount = index + 1;
      group.temp = 'whole';
      return;
    }
  }

  /** Remembers the first frame of a group that is not as it should be; what of it was read has been. */
  #noteBad(group: Group, sector: number, bodyBytes: number): void {
    if (group.badSectors > 0 || sector >= this.regionEnd) return;
    const { codec, geometry } = this.#in;
    const sectors = codec.sectorsFor(bodyBytes);
    const isRead = sectors <= geometry.frameSectors && sector + sectors <= this.regionEnd;
    markBad(group, sector, isRead ? sectors : 1);
  }

  /** Whether the temp frame whose header was just parsed may be the next one of the group. */
  #goesOn(group: Group, sector: number): boolean {
    const { index, sequence, epoch, flags } = this.#header;
    if (index === 0) {
      if (sequence <= this.lastSequence || !this.#isEpochRight(sector, epoch)) return false;
      this.#noteEpoch(sector, epoch);
      return true;
    }
    const isMoved = (flags & FLAG_MOVED) !== 0;
    return epoch === group.epoch && (isMoved ? sequence >= group.sequence : sequence === group.sequence);
  }

  /** Takes from the header just parsed what it says of the whole group. */
  #noteFrame(group: Group, sector: number): void {
    const { sequence, epoch, windowSectors } = this.#header;
    group.sequence = sequence;
    group.epoch = epoch;
    const end = sector + windowSectors;
    if (windowSectors > 0 && end <= this.regionEnd) group.windowEnd = Math.max(group.windowEnd, end);
  }

  /** Reads the temp frame whose header was just parsed. @returns whether it is whole and makes sense */
  #readTemp(group: Group, sector: number): boolean {
    const { reader, codec, geometry } = this.#in;
    const header = this.#header;
    const { index, sequence, bodyBytes } = header;
    const sectors = codec.sectorsFor(bodyBytes);
    if (sectors > geometry.frameSectors || sector + sectors > this.regionEnd) return false;
    group.end = Math.max(group.end, sector + sectors);
    const at = reader.load(sector, sectors);
    if (!codec.verify(reader.buffer, reader.view, at, header)) return false;
    const temp = readTempBody(reader.buffer, reader.view, at, bodyBytes);
    if (temp === undefined || !this.#isExtentRight(temp, group.sector)) return false;
    group.operations[index] = { temp, tempSector: sector, tempBodyBytes: bodyBytes, sequence };
    return true;
  }

  /** An extent must be as long as its payload needs and lie between the log and the end of the region. */
  #isExtentRight(temp: TempRecord, groupSector: number): boolean {
    const { payloads } = this.#in;
    if (temp.extentFrames === 0) return temp.extentSector === 0;
    if (temp.extentFrames !== payloads.framesFor(temp.payloadBytes)) return false;
    const end = temp.extentSector + payloads.sectorsFor(temp.payloadBytes);
    return temp.extentSector > groupSector && end <= this.regionEnd;
  }

  /** Reads the commit frames from `sector` on, up to the last or the first that is not whole. */
  #readCommits(group: Group, sector: number, sequence: number): void {
    const header = this.#header;
    for (let index = 0; index < MAX_GROUP_OPERATIONS; index++) {
      const isNext = this.#parse(sector, FRAME_COMMIT, index);
      if (isNext && index === 0 && this.#isOfLaterLife(group, sector)) sequence = group.sequence;
      if (!isNext || header.sequence !== sequence || header.epoch !== group.epoch) {
        this.#noteBad(group, sector, 0);
        break;
      }
      this.#prove(header.durableSequence);
      const isOrdered = (header.flags & FLAG_ORDERED) !== 0;
      const isLast = (header.flags & FLAG_LAST) !== 0;
      const { bodyBytes } = header;
      const sectors = this.#in.codec.sectorsFor(bodyBytes);
      const commit = this.#readCommitBody(sector);
      // One of another group says nothing of this one, unless it stands where this one's own must.
      if (commit === undefined || (group.temp !== 'whole' && commit.groupSector !== group.sector)) {
        this.#noteBad(group, sector, bodyBytes);
        break;
      }
      takeEntries(group, commit);
      sector += sectors;
      group.end = Math.max(group.end, sector);
      group.sequence = sequence;
      group.commitState = 'broken';
      if (!isLast) continue;
      group.commitState = judgeCommit(group, commit);
      if (isOrdered && group.commitState !== 'broken' && group.proof === 'none') group.proof = 'ordered';
      return;
    }
    if (!this.#in.rules.wholeTransactions && group.temp === 'whole' && group.commitState === 'broken') {
      group.operationCount = group.operations.length = group.entries.length;
      group.commitState = 'whole';
    }
  }

  /**
   * Whether the commit frame whose header was just parsed is of a group that was to stand where the temp frames of an
   * earlier life were left: writing its own over them went wrong. Then it is that group that is read from here on.
   */
  #isOfLaterLife(group: Group, sector: number): boolean {
    const { epoch, sequence } = this.#header;
    const isLater = group.temp !== 'absent' && epoch > group.epoch && sequence > this.lastSequence;
    if (!isLater || !this.#in.rules.strays || !this.#isEpochRight(sector, epoch)) return false;
    if (this.#readCommitBody(sector)?.groupSector !== group.sector) return false;
    this.#noteEpoch(sector, epoch);
    group.forgetTemps(sequence, epoch);
    return true;
  }

  /** Reads the body of the commit frame whose header was just parsed. */
  #readCommitBody(sector: number): CommitRecord | undefined {
    const { reader, codec, geometry } = this.#in;
    const header = this.#header;
    const sectors = codec.sectorsFor(header.bodyBytes);
    if (sectors > geometry.frameSectors || sector + sectors > this.regionEnd) return undefined;
    const at = reader.load(sector, sectors);
    if (!codec.verify(reader.buffer, reader.view, at, header)) return undefined;
    let commit: CommitRecord | undefined;
    if (sectors === 1) {
      commit = readCommitBody(reader.buffer, reader.view, at, header.bodyBytes);
    } else {
      // The window stays as it was read, to be looked at again.
      const frame = reader.buffer.slice(at, at + sectors * geometry.sectorBytes);
      const view = viewOf(frame);
      codec.restore(view, 0, header);
      commit = readCommitBody(frame, view, 0, header.bodyBytes);
    }
    return commit !== undefined && this.#isFloorRight(commit, sector, sectors) ? commit : undefined;
  }

  /** The log ends below the floor: a floor that is too low would hide what follows. */
  #isFloorRight(commit: CommitRecord, sector: number, sectors: number): boolean {
    const { current } = this.#in.verdict;
    // No extent that is named below the frontier stands lower than the superblock says.
    const lowest = sector < this.#frontier ? current.payloadFloor : sector + sectors;
    return commit.payloadFloor >= lowest && commit.payloadFloor <= this.regionEnd && commit.groupSector < sector;
  }

  /** Looks past a group that is not whole for proof that it was durable; where there is some, saves what can be. */
  #search(group: Group): void {
    let evidence = group.sector;
    if (group.proof === 'none') this.#lookForStrays(group);
    if (group.proof === 'none') {
      evidence = this.#searchProof(group);
      if (group.proof === 'none') return;
    }
    this.#salvage(group, evidence);
  }

  /**
   * What a write that went astray has put over the group proves it, if it was issued once the group was durable. Only
   * what has been read anyway is looked at.
   */
  #lookForStrays(group: Group): void {
    const { reader, codec } = this.#in;
    const header = this.#header;
    const { badSector, badSectors } = group;
    for (let sector = badSector; sector < badSector + badSectors; sector++) {
      const at = reader.load(sector, 1);
      if (codec.parseAnywhere(reader.buffer, reader.view, at, header)) this.lookAtStray(group, sector, header);
    }
  }

  /** Looks at a frame that was read at `sector`, where one of the group should stand. */
  lookAtStray(group: Group, sector: number, header: FrameHeader): void {
    if (!this.#isStray(sector, header)) return;
    if (!group.isOverwritten) markBad(group, sector, 1);
    group.isOverwritten = true;
    this.#takeStray(group, header);
  }

  /** Whether a frame that was read at `sector` was written elsewhere by this life of the log, or a later one. */
  #isStray(sector: number, header: FrameHeader): boolean {
    return this.#in.rules.strays && header.sector !== sector && header.epoch >= this.#minFrontierEpoch;
  }

  /** Takes from a frame in the wrong place what it says of the groups before it. */
  #takeStray(group: Group, { sector, epoch, durableSequence }: FrameHeader): void {
    // Copies in the other region count the groups of this one, but say nothing of them.
    if (sector < this.#frontier || sector >= this.regionEnd) return;
    this.#noteEpoch(sector, epoch);
    this.#prove(durableSequence);
    if (durableSequence >= group.sequence) group.proof = 'durable';
  }

  #noteEpoch(sector: number, epoch: number): void {
    if (sector < this.#frontier || epoch <= this.#in.verdict.current.epoch || !this.#in.rules.lostSuperblocks) return;
    this.lostEpoch = Math.max(this.lostEpoch, epoch);
  }

  /** @returns the sector of the frame that proves the group durable */
  #searchProof(group: Group): number {
    const searchEnd = this.searchEnd(group.sector);
    let from = group.sector + 1;
    if (group.windowEnd > 0) {
      // Its own frames were issued together: of them only an ordered commit proves anything.
      if (group.temp !== 'whole' && this.#readOwnCommits(group, group.windowEnd)) return group.sector;
      from = Math.max(group.windowEnd, from);
    }
    for (let sector = from; sector < searchEnd; ) {
      const step =
        sector - from < SINGLE_SECTORS ? 1 : Math.min(sector - from, this.#in.reader.windowSectors, searchEnd - sector);
      this.#in.reader.load(sector, step);
      const end = sector + step;
      while (sector < end) {
        const sighting = this.#sight(sector, group);
        if (sighting === undefined) {
          if (group.proof !== 'none') return sector;
          sector++;
          continue;
        }
        const { durableSequence, type, index } = sighting;
        if (durableSequence > this.lastSequence && durableSequence >= group.sequence) {
          group.proof = 'durable';
          return sector;
        }
        // Issued together with the group, like all up to the end of its window: nothing there proves anything.
        const next = sector + Math.max(1, sighting.windowSectors);
        const isOwn = group.windowEnd === 0 && (type === FRAME_COMMIT || index > 0);
        if (isOwn && this.#readOwnCommits(group, next)) return sector;
        sector = next;
      }
    }
    return group.sector;
  }

  /** Parses `sector` as a temp or commit frame of this log, after the group. */
  #sight(sector: number, group: Group): FrameHeader | undefined {
    const { reader, codec } = this.#in;
    const header = this.#header;
    const at = reader.load(sector, 1);
    if (!codec.parseAnywhere(reader.buffer, reader.view, at, header)) return undefined;
    if (header.sector !== sector) {
      if (this.#isStray(sector, header)) this.#takeStray(group, header);
      return undefined;
    }
    if (header.type !== FRAME_TEMP && header.type !== FRAME_COMMIT) return undefined;
    // Even one that no group of this log may be: its life is not to be taken again.
    this.#noteEpoch(sector, header.epoch);
    const floor = group.temp === 'absent' ? this.lastSequence + 1 : group.sequence;
    if (header.sequence < floor || !this.#isEpochRight(sector, header.epoch)) return undefined;
    this.#prove(header.durableSequence);
    return header;
  }

  /**
   * Reads the commit frames that end at `end`, if they are the group's. Found from their end: between it and the group's
   * start, where any frame may be torn, nothing else has to be read.
   * @returns whether they prove the group
   */
  #readOwnCommits(group: Group, end: number): boolean {
    const { reader, codec, geometry } = this.#in;
    const header = this.#header;
    if (end > this.regionEnd) return false;
    for (let sector = end - 1; sector > group.sector && sector >= end - geometry.frameSectors; sector--) {
      const at = reader.load(sector, 1);
      if (reader.view.getUint32(at, true) === CONTINUATION_MARK) continue;
      if (!codec.parse(reader.buffer, reader.view, at, sector, header)) return false;
      const { type, sequence, epoch, index, bodyBytes, flags } = header;
      const isLast = type === FRAME_COMMIT && sector + codec.sectorsFor(bodyBytes) === end;
      const isNext = group.temp === 'absent' ? sequence > this.lastSequence : sequence >= group.sequence;
      if (!isLast || !isNext || !this.#isEpochRight(sector, epoch)) return false;
      // Of several sectors that may be torn none is read that can prove nothing.
      if ((flags & FLAG_ORDERED) === 0 && (index > 0 || sector < end - 1)) return false;
      // All commit frames but the last are as long as a frame can be.
      const first = sector - index * geometry.frameSectors;
      if (first <= group.sector) return false;
      if (group.temp === 'absent') group.epoch = epoch;
      this.#readCommits(group, first, sequence);
      return group.proof !== 'none';
    }
    return false;
  }

  /** Takes all that is readable of a group that was durable and is damaged, and finds where the log goes on. */
  #salvage(group: Group, evidence: number): void {
    const limit = Math.max(this.#frontier, this.searchEnd(group.sector));
    let next = 0;
    // Past its window as well: the commit of a later life may stand there, whose temp frames did not get here.
    for (let sector = group.sector; sector < limit && next === 0; sector++) {
      const isPast = group.windowEnd > 0 && sector >= group.windowEnd;
      if (isPast && isFull(group.entries, group.operationCount)) break;
      next = this.#salvageSector(group, sector);
    }
    judgeSalvaged(group);
    if (group.windowEnd > 0) group.end = group.windowEnd;
    else if (next > 0) group.end = next;
    // Nothing follows: the log goes on where what is known to have been durable ends.
    else group.end = Math.max(group.end + 1, group.sector < this.#frontier ? this.#frontier : evidence + 1);
  }

  /** @returns where the next group starts, if this sector shows it; else 0 */
  #salvageSector(group: Group, sector: number): number {
    const { reader, codec, geometry } = this.#in;
    const header = this.#header;
    const at = reader.load(sector, 1);
    if (!codec.parse(reader.buffer, reader.view, at, sector, header)) return 0;
    const { type, index, sequence, epoch, flags } = header;
    if (sequence <= this.lastSequence || !this.#isEpochRight(sector, epoch)) return 0;
    // A commit that was read, too, tells the life: temp frames of an earlier one are not taken back.
    let isKnown = group.temp !== 'absent' || group.windowEnd > 0 || group.entries.length > 0;
    if (type === FRAME_TEMP) {
      const isFirst = index === 0;
      if (isFirst && sector > group.sector && (sector - this.start) % geometry.unitSectors === 0) return sector;
      if (isFirst !== (sector === group.sector) || index >= MAX_GROUP_OPERATIONS) return 0;
      if (isKnown && epoch !== group.epoch) return 0;
      if (!isKnown || (flags & FLAG_MOVED) !== 0 || sequence === group.sequence) {
        this.#noteFrame(group, sector);
        if ((flags & FLAG_LAST) !== 0) group.operationCount = index + 1;
        this.#readTemp(group, sector);
      }
      return 0;
    }
    if (type !== FRAME_COMMIT) return 0;
    const windowSectors = header.windowSectors;
    const commit = this.#readCommitBody(sector);
    if (commit === undefined) return 0;
    if (commit.groupSector > group.sector) return commit.groupSector;
    if (this.#isOfLaterLife(group, sector)) isKnown = false;
    if (commit.groupSector !== group.sector || (isKnown && epoch !== group.epoch)) return 0;
    group.sequence = Math.max(sequence, isKnown ? group.sequence : 0);
    group.epoch = epoch;
    if (sector + windowSectors <= this.regionEnd) group.windowEnd = Math.max(group.windowEnd, sector + windowSectors);
    takeEntries(group, commit);
    return 0;
  }

  #parse(sector: number, type: number, index: number): boolean {
    const { reader, codec } = this.#in;
    if (sector >= this.regionEnd) return false;
    const at = reader.load(sector, 1);
    const header = this.#header;
    return (
      codec.parse(reader.buffer, reader.view, at, sector, header) && header.type === type && header.index === index
    );
  }

  /**
   * Frames past the frontier belong to the current life, or to a later one whose superblock was lost; before it to any
   * earlier one, never going back, and to none that used the region before the log moved here.
   */
  #isEpochRight(sector: number, epoch: number): boolean {
    if (!this.#in.rules.epochs) return true;
    const { current } = this.#in.verdict;
    if (epoch < this.lastEpoch || epoch < current.regionEpoch) return false;
    if (sector < this.#frontier) return epoch <= current.epoch;
    return epoch >= this.#minFrontierEpoch && epoch <= this.#maxFrontierEpoch;
  }
}

/** Marks what ends the log at this group. */
export function markBad(group: Group, sector: number, sectors: number): void {
  group.badSector = sector;
  group.badSectors = sectors;
}

function takeEntries(group: Group, commit: CommitRecord): void {
  for (let i = 0; i < commit.entries.length; i++) group.entries[commit.firstEntry + i] = commit.entries[i];
  group.payloadFloor = commit.payloadFloor;
  group.operationCount = commit.operationCount;
}

/** The verdict over a commit whose last frame was just taken in. */
function judgeCommit(group: Group, last: CommitRecord): CommitState {
  const { operations, entries } = group;
  if (!isFull(entries, last.operationCount)) return group.temp === 'whole' ? 'contradicts' : 'broken';
  if (group.temp !== 'whole') return 'whole';
  if (last.groupSector !== group.sector || last.operationCount !== operations.length) return 'contradicts';
  return entries.every((entry, i) => doesMatch(entry as CommitEntry, operations[i] as Operation))
    ? 'whole'
    : 'contradicts';
}

function judgeSalvaged(group: Group): void {
  const { operations, entries, operationCount } = group;
  if (isFull(operations, operationCount)) group.temp = 'whole';
  else group.temp = operations.length > 0 || group.temp !== 'absent' ? 'broken' : 'absent';
  if (isFull(entries, operationCount)) group.commitState = 'whole';
  else group.commitState = entries.length > 0 ? 'broken' : 'absent';
  if (group.temp !== 'whole' || group.commitState !== 'whole') return;
  const isMatch = entries.every((entry, i) => doesMatch(entry as CommitEntry, operations[i] as Operation));
  if (!isMatch) group.commitState = 'contradicts';
}

function isFull(list: readonly unknown[], count: number): boolean {
  if (count === 0 || list.length !== count) return false;
  for (let i = 0; i < count; i++) if (list[i] === undefined) return false;
  return true;
}

/** Whether a commit's entry tells of the same operation as a temp frame. */
export function doesMatch(entry: CommitEntry, { temp }: Operation): boolean {
  return (
    temp.kind === entry.kind &&
    temp.key === entry.key &&
    temp.payloadBytes === entry.payloadBytes &&
    temp.extentSector === entry.extentSector
  );
}
