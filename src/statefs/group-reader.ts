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

  constructor(sector: number, sequence: number, epoch: number) {
    this.sector = sector;
    this.sequence = sequence;
    this.epoch = epoch;
    this.end = sector;
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
  /** No frame of this store stands further out than this: a new frontier would have been written first. */
  readonly searchEnd: number;
  readonly start: number;
  readonly regionEnd: number;
  /** Of the groups taken in so far: what follows has higher numbers. */
  lastSequence = 0;
  lastEpoch = 0;
  readonly #in: GroupReaderInput;
  readonly #frontier: number;
  readonly #frontierSequence: number;
  readonly #maxFrontierEpoch: number;
  readonly #prove: (durableSequence: number) => void;
  readonly #header = new FrameHeader();

  /** @param prove told of each number up to which a frame says that all groups were durable before it */
  constructor(input: GroupReaderInput, prove: (durableSequence: number) => void) {
    const { geometry, verdict } = input;
    const { current } = verdict;
    this.#in = input;
    this.#prove = prove;
    this.start = geometry.regionSectors[current.activeRegion];
    this.regionEnd = this.start + geometry.regionSectorCount;
    this.#frontier = current.frontierSector;
    this.#frontierSequence = current.frontierSequence;
    // A lost copy may have recorded one frontier more, behind a group of any size.
    const { strideSectors, groupSectors } = geometry;
    const reach = verdict.otherLost ? 2 * strideSectors + groupSectors : current.clean ? 0 : strideSectors;
    this.searchEnd = Math.min(this.#frontier + reach, this.regionEnd);
    this.#maxFrontierEpoch = verdict.otherLost ? current.generation + 1 : current.epoch;
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
      if (!this.#parse(sector, FRAME_TEMP, index) || !this.#goesOn(group, sector)) return;
      if (index === 0) this.#prove(header.durableSequence);
      this.#noteFrame(group, sector);
      group.temp = 'broken';
      const isLast = (header.flags & FLAG_LAST) !== 0;
      if (!this.#readTemp(group, sector)) return;
      if (!isLast) continue;
      group.operationCount = index + 1;
      group.temp = 'whole';
      return;
    }
  }

  /** Whether the temp frame whose header was just parsed may be the next one of the group. */
  #goesOn(group: Group, sector: number): boolean {
    const { index, sequence, epoch, flags } = this.#header;
    if (index === 0) return sequence > this.lastSequence && this.#isEpochRight(sector, epoch);
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
      if (!this.#parse(sector, FRAME_COMMIT, index)) break;
      if (header.sequence !== sequence || header.epoch !== group.epoch) break;
      this.#prove(header.durableSequence);
      const isOrdered = (header.flags & FLAG_ORDERED) !== 0;
      const isLast = (header.flags & FLAG_LAST) !== 0;
      const sectors = this.#in.codec.sectorsFor(header.bodyBytes);
      const commit = this.#readCommitBody(sector);
      // One of another group says nothing of this one, unless it stands where this one's own must.
      if (commit === undefined || (group.temp !== 'whole' && commit.groupSector !== group.sector)) break;
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
    if (group.proof === 'none') {
      evidence = this.#searchProof(group);
      if (group.proof === 'none') return;
    }
    this.#salvage(group, evidence);
  }

  /** @returns the sector of the frame that proves the group durable */
  #searchProof(group: Group): number {
    let from = group.sector + 1;
    if (group.windowEnd > 0) {
      // Its own frames were issued together: of them only an ordered commit proves anything.
      if (group.temp !== 'whole' && this.#readOwnCommits(group, group.windowEnd)) return group.sector;
      from = Math.max(group.windowEnd, from);
    }
    for (let sector = from; sector < this.searchEnd; ) {
      const step =
        sector - from < SINGLE_SECTORS
          ? 1
          : Math.min(sector - from, this.#in.reader.windowSectors, this.searchEnd - sector);
      this.#in.reader.load(sector, step);
      const end = sector + step;
      while (sector < end) {
        const sighting = this.#sight(sector, group);
        if (sighting === undefined) {
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
    if (!codec.parse(reader.buffer, reader.view, at, sector, header)) return undefined;
    if (header.type !== FRAME_TEMP && header.type !== FRAME_COMMIT) return undefined;
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
    const limit = Math.max(this.#frontier, this.searchEnd);
    let next = 0;
    for (let sector = group.sector; sector < (group.windowEnd || limit) && next === 0; sector++) {
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
    const isKnown = group.temp !== 'absent' || group.windowEnd > 0;
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
   * Frames past the frontier belong to the current life; before it to any earlier one, never going back, and to none
   * that used the region before the log moved here.
   */
  #isEpochRight(sector: number, epoch: number): boolean {
    if (!this.#in.rules.epochs) return true;
    const { current } = this.#in.verdict;
    if (epoch < this.lastEpoch || epoch < current.regionEpoch) return false;
    if (sector < this.#frontier) return epoch <= current.epoch;
    return epoch >= current.epoch && epoch <= this.#maxFrontierEpoch;
  }
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
