import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf, equalBytes } from '../core/index.ts';
import { sha256 } from '../envelope/index.ts';
import { type FrameCodec, FrameHeader } from './frame.ts';
import { alignUp, type StoreGeometry } from './geometry.ts';
import {
  FLAG_LAST,
  FLAG_ORDERED,
  FRAME_COMMIT,
  FRAME_TEMP,
  KIND_DELETE,
  KIND_PUT,
  MAX_GROUP_OPERATIONS,
} from './layout.ts';
import type { LogReader } from './log-reader.ts';
import type { PayloadStore } from './payload.ts';
import { type CommitEntry, type CommitRecord, readCommitBody, readTempBody, type TempRecord } from './records.ts';
import {
  ACTIONS,
  type CommitState,
  decide,
  type PayloadState,
  type Proof,
  type Row,
  type TempState,
} from './recovery-table.ts';
import type { StoreRules } from './rules.ts';
import type { SuperblockVerdict } from './superblock.ts';

/** Where a live record stands, and what proves its bytes. Never the bytes themselves. */
export interface IndexEntry {
  readonly key: string;
  readonly sequence: number;
  readonly epoch: number;
  readonly tempSector: number;
  readonly tempBodyBytes: number;
  readonly envelopeOffset: number;
  readonly envelopeBytes: number;
  readonly payloadBytes: number;
  readonly extentFrames: number;
  readonly extentSector: number;
  /** SHA-256 from the commit; undefined where the commit was lost and the envelope has to do. */
  readonly digest: Uint8Array | undefined;
}

/** Committed data that could not be read, as recovery or a read found it. */
export interface Damage {
  /** First sector of what is damaged, in the partition. */
  readonly sector: number;
  /** The keys that it concerns; empty where even they were lost. */
  readonly keys: readonly string[];
  readonly what: string;
}

/** What recovery knows after reading the log. */
export interface Recovered {
  readonly index: Map<string, IndexEntry>;
  /** Keys whose newest committed value is lost, with the sequence number of the loss. */
  readonly damagedKeys: Map<string, number>;
  /** A group with unknown keys was lost at this sequence number: what is older may be stale. 0 when none was. */
  readonly lostSequence: number;
  readonly tailSector: number;
  readonly lastSequence: number;
  readonly payloadFloor: number;
  readonly damage: readonly Damage[];
  /** How often each row of the decision table applied. */
  readonly rows: ReadonlyMap<Row, number>;
}

interface Operation {
  readonly temp: TempRecord;
  readonly tempSector: number;
  readonly tempBodyBytes: number;
}

/** A group, as far as it could be read. */
interface Group {
  readonly sector: number;
  temp: TempState;
  commitState: CommitState;
  proof: Proof;
  sequence: number;
  epoch: number;
  readonly operations: Operation[];
  commit: CommitRecord | undefined;
  /** First sector after what was read of it. */
  end: number;
  /** Sectors that its first frame says were issued with it: its own, commit and all. 0 where that frame is lost. */
  windowSectors: number;
}

/** Sectors at the start of a search that are read one by one, so that a torn tail is read no further than needed. */
const SINGLE_SECTORS = 8;

interface ReplayInput {
  readonly device: BlockDevice;
  readonly reader: LogReader;
  readonly codec: FrameCodec;
  readonly geometry: StoreGeometry;
  readonly payloads: PayloadStore;
  readonly verdict: SuperblockVerdict;
  readonly rules: StoreRules;
}

/**
 * Reads the log from the start of the active region to its end. Writes nothing, keeps no payload, allocates in
 * proportion to live keys, and gives the same result for the same bytes.
 */
export function replay(input: ReplayInput): Recovered {
  return new Replay(input).run();
}

class Replay {
  readonly #in: ReplayInput;
  readonly #start: number;
  readonly #regionEnd: number;
  readonly #frontier: number;
  /** No frame of this store stands further out than this: a new frontier would have been written first. */
  readonly #searchEnd: number;
  readonly #maxFrontierEpoch: number;
  readonly #header = new FrameHeader();
  readonly #index = new Map<string, IndexEntry>();
  readonly #damagedKeys = new Map<string, number>();
  readonly #damage: Damage[] = [];
  readonly #rows = new Map<Row, number>();
  /** Groups that are whole in the log, but that nothing yet proves to have been durable. */
  #unproven: Group[] = [];
  #at: number;
  #lastSequence = 0;
  #lastEpoch = 0;
  #payloadFloor: number;
  #lostSequence = 0;

  constructor(input: ReplayInput) {
    const { geometry, verdict } = input;
    const { current } = verdict;
    this.#in = input;
    this.#start = geometry.regionSectors[current.activeRegion];
    this.#regionEnd = this.#start + geometry.regionSectorCount;
    this.#frontier = current.frontierSector;
    // A lost copy may have recorded one frontier more.
    const strides = verdict.otherLost ? 2 : 1;
    const clean = current.clean && !verdict.otherLost;
    const reach = clean ? this.#frontier : this.#frontier + strides * geometry.strideSectors;
    this.#searchEnd = Math.min(reach, this.#regionEnd);
    this.#maxFrontierEpoch = verdict.otherLost ? current.generation + 1 : current.epoch;
    this.#at = this.#start;
    this.#payloadFloor = Math.min(this.#regionEnd, current.payloadFloor);
  }

  run(): Recovered {
    while (this.#at < Math.max(this.#frontier, this.#searchEnd) && this.#at < this.#payloadFloor) {
      const group = this.#readGroup();
      if (!this.#accept(group)) break;
    }
    this.#settleUnproven();
    return {
      index: this.#index,
      damagedKeys: this.#damagedKeys,
      lostSequence: this.#lostSequence,
      tailSector: this.#at,
      lastSequence: Math.max(this.#lastSequence, this.#in.verdict.current.frontierSequence),
      payloadFloor: this.#payloadFloor,
      damage: this.#damage,
      rows: this.#rows,
    };
  }

  /** Takes a group in, moving on behind it. @returns false where the log ends before it */
  #accept(group: Group): boolean {
    if (group.commitState === 'whole' && group.temp === 'whole') {
      if (group.proof === 'none') this.#unproven.push(group);
      else this.#judge(group, 'unread');
      this.#advance(group);
      return true;
    }
    const action = ACTIONS[decide(group.temp, group.commitState, group.proof, 'unread')];
    if (action === 'tail') {
      this.#count(group, 'unread');
      return false;
    }
    this.#settleUnproven();
    if (this.#at !== group.sector) return false;
    this.#judge(group, 'unread');
    this.#advance(group);
    return true;
  }

  #advance(group: Group): void {
    this.#at = alignUp(group.end, this.#in.geometry.unitSectors, this.#start);
    this.#lastSequence = Math.max(this.#lastSequence, group.sequence);
    this.#lastEpoch = Math.max(this.#lastEpoch, group.epoch);
  }

  /** Judges the unproven groups by their payloads, in order; the first torn one ends the log. */
  #settleUnproven(): void {
    const groups = this.#unproven;
    this.#unproven = [];
    for (const group of groups) {
      const payload = this.#payloadState(group);
      if (payload === 'torn') {
        this.#count(group, payload);
        this.#at = group.sector;
        this.#lastSequence = group.sequence - 1;
        return;
      }
      this.#judge(group, payload);
    }
  }

  /** A frame issued after a flush proves every group up to its `durableSequence`. */
  #prove(durableSequence: number): void {
    while (this.#unproven.length > 0 && (this.#unproven[0] as Group).sequence <= durableSequence) {
      const group = this.#unproven.shift() as Group;
      group.proof = 'durable';
      this.#judge(group, 'unread');
    }
  }

  #count(group: Group, payload: PayloadState): Row {
    const row = decide(group.temp, group.commitState, group.proof, payload);
    this.#rows.set(row, (this.#rows.get(row) ?? 0) + 1);
    return row;
  }

  #judge(group: Group, payload: PayloadState): void {
    const action = ACTIONS[this.#count(group, payload)];
    switch (action) {
      case 'apply':
        this.#apply(group);
        break;
      case 'apply-damaged':
        this.#apply(group);
        this.#report(group, keysOf(group), 'its commit is unreadable; later frames prove that it took effect');
        break;
      case 'damage-known':
        this.#applyDamage(group, group.commit as CommitRecord);
        break;
      case 'damage-unknown':
        this.#lostSequence = Math.max(this.#lostSequence, group.sequence);
        this.#report(group, [], 'a committed group is unreadable, and with it the keys that it wrote');
        break;
    }
  }

  #apply(group: Group): void {
    for (let i = 0; i < group.operations.length; i++) {
      const { temp, tempSector, tempBodyBytes } = group.operations[i] as Operation;
      this.#damagedKeys.delete(temp.key);
      if (temp.kind === KIND_DELETE) {
        this.#index.delete(temp.key);
        continue;
      }
      this.#lowerFloor(temp.extentSector);
      this.#index.set(temp.key, {
        key: temp.key,
        sequence: group.sequence,
        epoch: group.epoch,
        tempSector,
        tempBodyBytes,
        envelopeOffset: temp.envelopeOffset,
        envelopeBytes: temp.envelopeBytes,
        payloadBytes: temp.payloadBytes,
        extentFrames: temp.extentFrames,
        extentSector: temp.extentSector,
        digest: group.commit?.entries[i]?.digest,
      });
    }
    if (group.commit !== undefined) this.#lowerFloor(group.commit.payloadFloor);
  }

  /** The temp frames are lost, the commit tells the keys: a delete takes effect all the same, a put is damaged. */
  #applyDamage(group: Group, commit: CommitRecord): void {
    for (const entry of commit.entries) {
      this.#index.delete(entry.key);
      if (entry.kind === KIND_PUT) this.#damagedKeys.set(entry.key, group.sequence);
      else this.#damagedKeys.delete(entry.key);
    }
    this.#lowerFloor(commit.payloadFloor);
    const keys = commit.entries.filter((entry) => entry.kind === KIND_PUT).map((entry) => entry.key);
    this.#report(group, keys, 'the temp frames of a committed group are unreadable');
  }

  #lowerFloor(sector: number): void {
    if (sector > 0) this.#payloadFloor = Math.min(this.#payloadFloor, sector);
  }

  #report(group: Group, keys: readonly string[], what: string): void {
    this.#damage.push({
      sector: group.sector,
      keys,
      what: `group ${group.sequence} at sector ${group.sector}: ${what}`,
    });
  }

  #payloadState(group: Group): PayloadState {
    for (let i = 0; i < group.operations.length; i++) {
      const operation = group.operations[i] as Operation;
      const entry = group.commit?.entries[i] as CommitEntry;
      if (operation.temp.kind === KIND_PUT && !this.#isPayloadWhole(group, operation, entry)) return 'torn';
    }
    return 'whole';
  }

  #isPayloadWhole(group: Group, operation: Operation, entry: CommitEntry): boolean {
    const { temp } = operation;
    try {
      if (temp.extentFrames > 0) {
        const extent = { ...temp, sequence: group.sequence, epoch: group.epoch };
        if (!this.#in.payloads.isWhole(extent)) return false;
        return !this.#in.rules.checksums || equalBytes(this.#in.payloads.digest(extent), entry.digest);
      }
      return !this.#in.rules.checksums || equalBytes(this.#inlineDigest(operation), entry.digest);
    } catch (error) {
      // What can't be read and nothing proves to have been durable is a torn tail.
      if (codeOf(error) === 'EIO') return false;
      throw error;
    }
  }

  #inlineDigest(operation: Operation): Uint8Array {
    const { reader, codec, geometry } = this.#in;
    const { temp, tempSector } = operation;
    const sectors = codec.sectorsFor(operation.tempBodyBytes);
    const at = reader.load(tempSector, sectors);
    const copy = reader.buffer.slice(at, at + sectors * geometry.sectorBytes);
    const header = this.#header;
    header.bodyBytes = operation.tempBodyBytes;
    codec.restore(new DataView(copy.buffer), 0, header);
    const start = temp.envelopeOffset + temp.envelopeBytes;
    return sha256(copy.subarray(start, start + temp.payloadBytes));
  }

  /** Reads what stands at the place where the log goes on, with whatever further on tells about it. */
  #readGroup(): Group {
    const group: Group = {
      sector: this.#at,
      temp: 'absent',
      commitState: 'absent',
      proof: 'none',
      sequence: this.#lastSequence + 1,
      epoch: this.#lastEpoch,
      operations: [],
      commit: undefined,
      end: this.#at,
      windowSectors: 0,
    };
    if (this.#at < this.#frontier) group.proof = 'durable';
    this.#readTemps(group);
    if (group.temp === 'whole') this.#readCommit(group);
    if (group.commitState === 'contradicts' || (group.temp === 'whole' && group.commitState === 'whole')) return group;
    this.#search(group);
    if (group.commit !== undefined && group.temp !== 'whole') group.commitState = 'whole';
    // Only its own commit could have shown an order; without one there is none to show.
    return group;
  }

  #readTemps(group: Group): void {
    const header = this.#header;
    let whole = true;
    for (let index = 0; index < MAX_GROUP_OPERATIONS; index++) {
      const sector = group.end;
      if (!this.#parse(sector, FRAME_TEMP, index)) break;
      if (index === 0) {
        if (header.sequence <= this.#lastSequence || !this.#isEpochRight(sector, header.epoch)) break;
        group.sequence = header.sequence;
        group.epoch = header.epoch;
        group.windowSectors = header.windowSectors;
        this.#prove(header.durableSequence);
      } else if (header.sequence !== group.sequence || header.epoch !== group.epoch) break;
      group.temp = 'broken';
      const isLast = (header.flags & FLAG_LAST) !== 0;
      whole = this.#readTemp(group, sector) && whole;
      if (isLast) {
        if (whole) group.temp = 'whole';
        break;
      }
    }
  }

  /** Reads the temp frame whose header was just parsed. @returns whether it is whole and makes sense */
  #readTemp(group: Group, sector: number): boolean {
    const { reader, codec, geometry } = this.#in;
    const header = this.#header;
    const sectors = codec.sectorsFor(header.bodyBytes);
    if (sectors > geometry.frameSectors || sector + sectors > this.#regionEnd) return false;
    group.end = sector + sectors;
    const at = reader.load(sector, sectors);
    if (!codec.verify(reader.buffer, reader.view, at, header)) return false;
    const temp = readTempBody(reader.buffer, reader.view, at, header.bodyBytes);
    if (temp === undefined || !this.#isExtentRight(temp)) return false;
    group.operations.push({ temp, tempSector: sector, tempBodyBytes: header.bodyBytes });
    return true;
  }

  /** An extent must be as long as its payload needs and lie between the log and the end of the region. */
  #isExtentRight(temp: TempRecord): boolean {
    const { payloads } = this.#in;
    if (temp.extentFrames === 0) return temp.extentSector === 0;
    if (temp.extentFrames !== payloads.framesFor(temp.payloadBytes)) return false;
    const end = temp.extentSector + payloads.sectorsFor(temp.payloadBytes);
    return temp.extentSector > this.#at && end <= this.#regionEnd;
  }

  #readCommit(group: Group): void {
    if (!this.#parse(group.end, FRAME_COMMIT, 0)) return;
    const header = this.#header;
    if (header.sequence !== group.sequence || header.epoch !== group.epoch) return;
    this.#prove(header.durableSequence);
    const isOrdered = (header.flags & FLAG_ORDERED) !== 0;
    const sectors = this.#in.codec.sectorsFor(header.bodyBytes);
    const commit = this.#readCommitBody(group.end);
    if (commit === undefined) return;
    group.commit = commit;
    group.end += sectors;
    group.commitState = doesMatch(group, commit) ? 'whole' : 'contradicts';
    if (isOrdered && group.proof === 'none') group.proof = 'ordered';
  }

  /** Reads the body of the commit frame whose header was just parsed. */
  #readCommitBody(sector: number): CommitRecord | undefined {
    const { reader, codec, geometry } = this.#in;
    const header = this.#header;
    const sectors = codec.sectorsFor(header.bodyBytes);
    if (sectors > geometry.frameSectors || sector + sectors > this.#regionEnd) return undefined;
    const at = reader.load(sector, sectors);
    if (!codec.verify(reader.buffer, reader.view, at, header)) return undefined;
    const commit = readCommitBody(reader.buffer, reader.view, at, header.bodyBytes);
    return commit !== undefined && this.#isFloorRight(commit, sector, sectors) ? commit : undefined;
  }

  /** The log ends below the floor: a floor that is too low would hide what follows. */
  #isFloorRight(commit: CommitRecord, sector: number, sectors: number): boolean {
    const { current } = this.#in.verdict;
    // No extent that is named below the frontier stands lower than the superblock says.
    const lowest = sector < this.#frontier ? current.payloadFloor : sector + sectors;
    return commit.payloadFloor >= lowest && commit.payloadFloor <= this.#regionEnd && commit.groupSector < sector;
  }

  /**
   * Looks past a group that is not whole: for its own commit, for proof that it was durable, and, where there is
   * proof, for the place where the log goes on.
   */
  #search(group: Group): void {
    const from = Math.max(group.end, group.sector + (group.temp === 'absent' ? 1 : 0));
    let evidence = group.sector;
    if (group.proof === 'none') {
      evidence = this.#searchProof(group, from);
      if (group.proof === 'none') return;
    }
    const ownEnd = Math.max(group.sector + group.windowSectors, group.end + 1);
    this.#searchResume(group, from, evidence);
    // It takes effect, so that nothing else would tell of further groups lost behind it: they are looked at by themselves.
    if (group.temp === 'whole' && group.commit === undefined) group.end = Math.min(group.end, ownEnd);
  }

  /** @returns the sector of the frame that proves the group durable */
  #searchProof(group: Group, from: number): number {
    for (let sector = from; sector < this.#searchEnd; ) {
      const step =
        sector - from < SINGLE_SECTORS
          ? 1
          : Math.min(sector - from, this.#in.reader.windowSectors, this.#searchEnd - sector);
      this.#in.reader.load(sector, step);
      const end = sector + step;
      while (sector < end) {
        const sighting = this.#sight(sector, group);
        if (sighting === undefined) {
          sector++;
          continue;
        }
        if (sighting.durableSequence > this.#lastSequence && sighting.durableSequence >= group.sequence) {
          group.proof = 'durable';
          return sector;
        }
        this.#noteCommit(group, sector);
        if (group.proof !== 'none') return sector;
        // Issued together with the group, like all up to the end of its window: nothing there proves anything.
        sector += Math.max(1, sighting.windowSectors);
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
    const floor = group.temp === 'absent' ? this.#lastSequence + 1 : group.sequence;
    if (header.sequence < floor || !this.#isEpochRight(sector, header.epoch)) return undefined;
    this.#prove(header.durableSequence);
    return header;
  }

  /** If the frame just sighted is the group's own commit, takes it in. */
  #noteCommit(group: Group, sector: number): void {
    const header = this.#header;
    if (header.type !== FRAME_COMMIT || group.commit !== undefined) return;
    const { sequence, epoch, flags } = header;
    if (group.temp !== 'absent' && sequence !== group.sequence) return;
    const sectors = this.#in.codec.sectorsFor(header.bodyBytes);
    const commit = this.#readCommitBody(sector);
    if (commit === undefined || commit.groupSector !== group.sector) return;
    group.commit = commit;
    group.sequence = sequence;
    group.epoch = epoch;
    group.end = sector + sectors;
    if ((flags & FLAG_ORDERED) !== 0 && group.proof === 'none') group.proof = 'ordered';
  }

  /** Finds where the log goes on after a group that was durable and is damaged. */
  #searchResume(group: Group, from: number, evidence: number): void {
    const { unitSectors } = this.#in.geometry;
    const end = Math.max(this.#frontier, this.#searchEnd);
    for (let sector = from; group.commit === undefined && sector < end; sector++) {
      if (this.#sight(sector, group) === undefined) continue;
      const header = this.#header;
      if (header.type === FRAME_TEMP) {
        const startsGroup = header.index === 0 && header.sequence > group.sequence - (group.temp === 'absent' ? 1 : 0);
        if (startsGroup && (sector - this.#start) % unitSectors === 0 && sector > group.sector) {
          group.end = sector;
          return;
        }
        continue;
      }
      this.#noteCommit(group, sector);
      if (group.commit !== undefined) return;
      const other = this.#readCommitBody(sector);
      if (other !== undefined && other.groupSector > group.sector && other.groupSector <= sector) {
        group.end = other.groupSector;
        return;
      }
    }
    // Nothing follows: the log goes on where what is known to have been durable ends.
    if (group.commit === undefined) {
      group.end = Math.max(group.end + 1, group.sector < this.#frontier ? this.#frontier : evidence + 1);
    }
  }

  #parse(sector: number, type: number, index: number): boolean {
    const { reader, codec } = this.#in;
    if (sector >= this.#regionEnd) return false;
    const at = reader.load(sector, 1);
    const header = this.#header;
    return (
      codec.parse(reader.buffer, reader.view, at, sector, header) && header.type === type && header.index === index
    );
  }

  /** Frames past the frontier belong to the current life; before it to any earlier one, never going back. */
  #isEpochRight(sector: number, epoch: number): boolean {
    if (!this.#in.rules.epochs) return true;
    const { current } = this.#in.verdict;
    if (epoch < this.#lastEpoch) return false;
    if (sector < this.#frontier) return epoch <= current.epoch;
    return epoch >= current.epoch && epoch <= this.#maxFrontierEpoch;
  }
}

function keysOf(group: Group): string[] {
  return group.operations.map((operation) => operation.temp.key);
}

function doesMatch(group: Group, commit: CommitRecord): boolean {
  if (commit.groupSector !== group.sector || commit.operationCount !== group.operations.length) return false;
  return commit.entries.every((entry, i) => {
    const temp = group.operations[i]?.temp;
    return (
      temp !== undefined &&
      temp.kind === entry.kind &&
      temp.key === entry.key &&
      temp.payloadBytes === entry.payloadBytes &&
      temp.extentSector === entry.extentSector
    );
  });
}
