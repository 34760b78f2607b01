import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf, equalBytes, messageOf, viewOf } from '../core/index.ts';
import { createSha256, type Sha256, sha256 } from '../envelope/index.ts';
import { fail, wrapDeviceError } from './errors.ts';
import { FrameHeader } from './frame.ts';
import { alignDown, alignUp, type StoreGeometry } from './geometry.ts';
import {
  entryOf,
  type GroupCodec,
  type GroupOperation,
  type GroupPlan,
  type PlannedCommit,
  type PlannedOperation,
} from './group.ts';
import { type IndexEntry, keyBytesOf } from './index-entry.ts';
import type { KeySpace } from './key-space.ts';
import {
  FLAG_MOVED,
  FRAME_HEADER_BYTES,
  KIND_DELETE,
  KIND_LOST,
  KIND_PUT,
  MAX_GROUP_OPERATIONS,
  TEMP_BYTES,
} from './layout.ts';
import type { LogWriter } from './log-writer.ts';
import { bareOperation } from './operations.ts';
import type { Extent, PayloadStore } from './payload.ts';
import type { RecordReader } from './record-reader.ts';
import type { StoreRules } from './rules.ts';

/** What a compactor works on. */
export interface CompactorInput {
  readonly device: BlockDevice;
  readonly groups: GroupCodec;
  readonly geometry: StoreGeometry;
  readonly payloads: PayloadStore;
  readonly reader: RecordReader;
  readonly writer: LogWriter;
  readonly keys: KeySpace;
  readonly rules: StoreRules;
  /** See {@link Superblock.lostSequence}. */
  readonly lostSequence: number;
}

/** A key that was copied and then deleted. */
interface Tombstone {
  readonly key: string;
  readonly sequence: number;
}

/** A payload that is being copied. */
interface ExtentCopy {
  readonly entry: IndexEntry;
  readonly operation: GroupOperation;
  readonly target: Extent;
  readonly sha: Sha256;
  frame: number;
}

const NO_BYTES: Uint8Array = new Uint8Array(0);
const SMALL_WORK = 1;
const WRONG_DIGEST = 'its payload does not match its SHA-256';

/**
 * Copies the live records to the other region, a bounded piece at a time, while changes go on in the active one; then
 * makes the copy the log. Nothing of it counts before that: a cut, an error or a restart on the way costs only the work.
 *
 * The index lists records in the order of the log. A change moves its key to the end, so that walking the index visits
 * whatever changes meanwhile, and what comes after its end is queued; beyond that only a deletion has to be remembered,
 * where the record, or an older one of the same key, was copied before.
 */
export class Compactor {
  readonly #in: CompactorInput;
  readonly #epoch: number;
  readonly #regionStart: number;
  readonly #source: Iterator<IndexEntry>;
  /** The walk over the index has come to its end; what was added since. */
  #isWalked = false;
  readonly #late: IndexEntry[] = [];
  readonly #target: KeySpace;
  readonly #header = new FrameHeader();
  /** Deleted since they were copied, in the order of deletion. */
  readonly #tombstones = new Map<string, Tombstone>();
  /** The next record of the walk, looked at already. */
  #ahead: IndexEntry | undefined;
  /** Records and deletions of one group of the log, still to be copied. */
  #run: (IndexEntry | Tombstone)[] = [];
  /** Number of the group that is being copied: all before it are done. */
  #cursor = 0;
  #copy: ExtentCopy | undefined;
  /** The group that is being filled, in memory. */
  #operations: PlannedOperation[] = [];
  #tempSectors = 0;
  #tailSector: number;
  #payloadFloor: number;
  #doneSectors = 0;

  /** @throws StateFsError EIO, after which the store may have latched */
  constructor(input: CompactorInput) {
    const { geometry, writer, keys } = input;
    this.#in = input;
    this.#epoch = writer.beginMove();
    this.#regionStart = geometry.regionSectors[writer.region === 0 ? 1 : 0];
    this.#tailSector = this.#regionStart;
    this.#payloadFloor = this.#regionStart + geometry.regionSectorCount;
    this.#source = keys.entries();
    this.#target = keys.fresh();
  }

  /** Sectors that are left to be copied, as far as one can say. */
  get remainingSectors(): number {
    return Math.max(0, this.#in.keys.space.boundSectors - this.#doneSectors);
  }

  /** The copy of `key` that was written already, durable or not. */
  copyOf(key: string): IndexEntry | undefined {
    return this.#target.get(key);
  }

  /** To be told of each record that enters the index. */
  noteSet(entry: IndexEntry): void {
    // A walk that has come to its end does not go on by itself.
    if (this.#isWalked) this.#late.push(entry);
  }

  /** To be told of each deletion from the index. */
  noteDelete(was: IndexEntry, sequence: number): void {
    if (!this.#in.rules.tombstones || !this.#mayHoldCopy(was)) return;
    this.#tombstones.delete(was.key);
    this.#tombstones.set(was.key, { key: was.key, sequence });
  }

  /** Of the record itself, or, where that is newer than what was copied, of one that it had replaced. */
  #mayHoldCopy({ key, sequence }: IndexEntry): boolean {
    if (sequence <= this.#cursor || this.#target.has(key)) return true;
    return this.#operations.some(({ operation }) => operation.key === key);
  }

  /**
   * Copies some more; makes the copy the log once nothing is left.
   * @param sectors about how many to write
   * @returns whether it is done
   * @throws StateFsError EIO, ENOSPC where the copy does not fit: then it is to be given up. If the store has not
   *   latched, nothing has happened.
   */
  step(sectors: number): boolean {
    try {
      for (let work = 0; work < sectors; ) {
        const done = this.#copySome();
        if (done === 0) return this.#finish();
        work += done;
      }
      return false;
    } catch (error) {
      throw wrapDeviceError(error, 'compaction');
    }
  }

  /** @returns about how many sectors were written; 0 where nothing is left */
  #copySome(): number {
    if (this.#copy !== undefined) return this.#copyFrames(this.#copy);
    if (this.#run.length === 0 && !this.#nextRun()) return 0;
    const next = this.#run.shift() as IndexEntry | Tombstone;
    if ('kind' in next) {
      // What was replaced or deleted since it was looked at comes again, or is gone.
      return this.#in.keys.get(next.key) === next ? this.#takeRecord(next) : SMALL_WORK;
    }
    if (this.#in.keys.has(next.key)) return SMALL_WORK;
    const operation = bareOperation(KIND_DELETE, next.key);
    return this.#take(operation, next.sequence, undefined);
  }

  /** Collects what one group of the log left: it goes into one group again. @returns false where nothing is left */
  #nextRun(): boolean {
    this.#ahead ??= this.#nextRecord();
    const [tombstone] = this.#tombstones.values();
    const sequence = Math.min(
      this.#ahead?.sequence ?? Number.POSITIVE_INFINITY,
      tombstone?.sequence ?? Number.POSITIVE_INFINITY,
    );
    if (sequence === Number.POSITIVE_INFINITY) return false;
    for (; this.#ahead?.sequence === sequence; this.#ahead = this.#nextRecord()) this.#run.push(this.#ahead);
    for (const [key, deleted] of this.#tombstones) {
      if (deleted.sequence !== sequence) break;
      this.#tombstones.delete(key);
      this.#run.push(deleted);
    }
    if (this.#operations.length + this.#run.length > MAX_GROUP_OPERATIONS) this.#closeGroup();
    this.#cursor = sequence;
    return true;
  }

  #nextRecord(): IndexEntry | undefined {
    if (!this.#isWalked) {
      const { done, value } = this.#source.next();
      if (done !== true) return value;
      this.#isWalked = true;
    }
    return this.#late.shift();
  }

  #takeRecord(entry: IndexEntry): number {
    if (entry.kind === KIND_LOST) return this.#takeLost(entry);
    try {
      return this.#takeReadable(entry);
    } catch (error) {
      // What the medium can't read it may read later: only what is read and wrong is given up, and stays reported.
      if (codeOf(error) !== 'EINTEGRITY') throw error;
      return this.#takeLost(entry);
    }
  }

  #takeLost(entry: IndexEntry): number {
    return this.#take(bareOperation(KIND_LOST, entry.key), entry.sequence, undefined);
  }

  #takeReadable(entry: IndexEntry): number {
    const { reader, rules } = this.#in;
    const { digest } = reader.readEnvelope(entry);
    const keyStart = FRAME_HEADER_BYTES + TEMP_BYTES;
    const isInline = entry.extentFrames === 0;
    const operation: GroupOperation = {
      kind: KIND_PUT,
      key: entry.key,
      keyBytes: reader.frame.slice(keyStart, keyStart + keyBytesOf(entry)),
      envelope: reader.frame.slice(entry.envelopeOffset, entry.envelopeOffset + entry.envelopeBytes),
      payloadBytes: entry.payloadBytes,
      payload: isInline ? reader.inlinePayload(entry).slice() : NO_BYTES,
      digest,
    };
    reader.done();
    if (!isInline) return this.#startCopy(entry, operation);
    if (rules.checksums && !equalBytes(sha256(operation.payload), digest))
      return this.#takeDamaged(entry, WRONG_DIGEST);
    return this.#take(operation, entry.sequence, undefined);
  }

  #startCopy(entry: IndexEntry, operation: GroupOperation): number {
    const { payloads, geometry } = this.#in;
    const { extentFrames, payloadBytes, sequence } = entry;
    const sectors = payloads.sectorsFor(payloadBytes);
    const extentSector = alignDown(this.#payloadFloor - sectors, geometry.unitSectors, this.#regionStart);
    this.#checkRoom(this.#groupEnd(), extentSector);
    const target: Extent = { extentSector, extentFrames, payloadBytes, sequence, epoch: this.#epoch };
    this.#copy = { entry, operation, target, sha: createSha256(), frame: 0 };
    return SMALL_WORK;
  }

  #copyFrames(copy: ExtentCopy): number {
    const { payloads, geometry, rules, keys } = this.#in;
    const { entry, operation, target, sha } = copy;
    if (keys.get(entry.key) !== entry) {
      this.#copy = undefined;
      return SMALL_WORK;
    }
    try {
      const frames = payloads.copy(entry, target, copy.frame, (chunk) => sha.update(chunk));
      copy.frame += frames;
      if (copy.frame < entry.extentFrames) return frames * geometry.frameSectors;
    } catch (error) {
      if (codeOf(error) !== 'EINTEGRITY') throw error;
      this.#copy = undefined;
      return this.#takeDamaged(entry, messageOf(error));
    }
    this.#copy = undefined;
    if (rules.checksums && !equalBytes(sha.digest(), operation.digest)) return this.#takeDamaged(entry, WRONG_DIGEST);
    this.#payloadFloor = target.extentSector;
    return this.#take(operation, entry.sequence, target);
  }

  #takeDamaged(entry: IndexEntry, what: string): number {
    this.#in.reader.report(entry, what);
    return this.#takeLost(entry);
  }

  /** Puts an operation into the group at hand. */
  #take(operation: GroupOperation, ownSequence: number, extent: Extent | undefined): number {
    const inlineBytes = extent === undefined ? operation.payloadBytes : 0;
    const tempBodyBytes = TEMP_BYTES + operation.keyBytes.length + operation.envelope.length + inlineBytes;
    const { sectorBytes } = this.#in.geometry;
    const tempSectors = Math.ceil((FRAME_HEADER_BYTES + tempBodyBytes) / sectorBytes);
    const tempOffset = this.#tempSectors;
    this.#operations.push({ operation, tempOffset, tempBodyBytes, tempSectors, extent, ownSequence });
    this.#tempSectors += tempSectors;
    this.#doneSectors += tempSectors + (extent === undefined ? 0 : this.#in.payloads.sectorsFor(extent.payloadBytes));
    return tempSectors;
  }

  /** First sector after the group at hand, if it were closed now. */
  #groupEnd(): number {
    if (this.#operations.length === 0) return this.#tailSector;
    const commits = this.#planCommits();
    const last = commits[commits.length - 1];
    return this.#tailSector + (last === undefined ? 0 : last.offset + last.sectors);
  }

  #planCommits(): PlannedCommit[] {
    return this.#in.groups.planCommits(
      this.#operations.map(({ operation }) => operation),
      this.#tempSectors,
    );
  }

  #checkRoom(tailSector: number, payloadFloor: number): void {
    if (tailSector <= payloadFloor) return;
    fail('ENOSPC', 'compaction: too much was written meanwhile for the copy to fit: it starts anew');
  }

  /** Writes the group at hand. Not durable before the next flush. */
  #closeGroup(): void {
    if (this.#operations.length === 0) return;
    const { device, groups, geometry } = this.#in;
    const operations = this.#operations;
    const commits = this.#planCommits();
    const sectors = this.#groupEnd() - this.#tailSector;
    const sector = this.#tailSector;
    const endSector = alignUp(sector + sectors, geometry.unitSectors, this.#regionStart);
    const payloadFloor = this.#payloadFloor;
    this.#checkRoom(endSector, payloadFloor);
    const plan: GroupPlan = {
      sector,
      operations,
      commits,
      tempSectors: this.#tempSectors,
      sectors,
      endSector,
      payloadFloor,
    };
    const staging = new Uint8Array((endSector - sector) * geometry.sectorBytes);
    const view = viewOf(staging);
    const stamp = { epoch: this.#epoch, sequence: this.#cursor, durableSequence: 0, flags: FLAG_MOVED };
    groups.sealTemps(staging, view, plan, stamp, this.#header);
    groups.sealCommits(staging, view, plan, stamp, this.#header);
    device.write(sector, staging);
    for (const planned of operations) {
      const entry = entryOf(planned, sector, stamp.sequence, stamp.epoch);
      if (entry !== undefined) this.#target.set(entry);
      else this.#target.delete(planned.operation.key);
    }
    this.#tailSector = endSector;
    this.#operations = [];
    this.#tempSectors = 0;
  }

  #finish(): boolean {
    this.#closeGroup();
    const { writer, keys, lostSequence } = this.#in;
    writer.move(this.#tailSector, this.#payloadFloor, this.#epoch, lostSequence);
    keys.takeOver(this.#target);
    return true;
  }
}
