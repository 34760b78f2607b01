import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf, equalBytes } from '../core/index.ts';
import { sha256 } from '../envelope/index.ts';
import { FrameHeader } from './frame.ts';
import { alignUp } from './geometry.ts';
import { doesMatch, type Group, GroupReader, type GroupReaderInput, markBad, type Operation } from './group-reader.ts';
import type { KeySpace } from './key-space.ts';
import { FRAME_HEADER_BYTES, KIND_DELETE, KIND_LOST, KIND_PUT, TEMP_BYTES } from './layout.ts';
import type { LogEnd } from './log-writer.ts';
import type { CommitEntry } from './records.ts';
import { ACTIONS, decide, type PayloadState, type Row } from './recovery-table.ts';

/** Committed data that could not be read, as recovery or a read found it. */
export interface Damage {
  /** First sector of what is damaged, in the partition. */
  readonly sector: number;
  /** The keys that it concerns; empty where even they were lost. */
  readonly keys: readonly string[];
  readonly what: string;
  /**
   * False: the medium does not give, or has written over, the place where the log seems to end. What stood there may
   * have been a committed group, the last one or ones; or one that a cut has torn; or nothing.
   */
  readonly isCertain: boolean;
}

/** What recovery knows after reading the log, beside the index. */
export interface Recovered extends LogEnd {
  /** A group with unknown keys was lost at this sequence number: what is older may be stale. 0 when none was. */
  readonly lostSequence: number;
  readonly damage: readonly Damage[];
  /** The latest life whose frames are there and whose superblock is not: it was lost. 0: none. */
  readonly lostEpoch: number;
  /** How often each row of the decision table applied. */
  readonly rows: ReadonlyMap<Row, number>;
}

interface ReplayInput extends GroupReaderInput {
  readonly device: BlockDevice;
  /** Takes in what the log says. */
  readonly keys: KeySpace;
  /** Told of each group in the order of the log, the torn end too, with its row of the decision table. */
  readonly onGroup?: (group: Group, row: Row) => void;
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
  readonly #groups: GroupReader;
  readonly #header = new FrameHeader();
  readonly #damage: Damage[] = [];
  readonly #rows = new Map<Row, number>();
  /** Groups that are whole in the log, but that nothing yet proves to have been durable. */
  #unproven: Group[] = [];
  #at: number;
  #payloadFloor: number;
  #lostSequence: number;

  constructor(input: ReplayInput) {
    const { current } = input.verdict;
    this.#in = input;
    this.#groups = new GroupReader(input, (durableSequence) => this.#prove(durableSequence));
    this.#at = this.#groups.start;
    this.#payloadFloor = Math.min(this.#groups.regionEnd, current.payloadFloor);
    this.#lostSequence = current.lostSequence;
    if (current.lostSequence > 0) {
      const what = `group ${current.lostSequence} was lost with its keys before the log moved: older values may be stale`;
      this.#damage.push({ sector: this.#groups.start, keys: [], what, isCertain: true });
    }
  }

  run(): Recovered {
    const { lostSuperblocks } = this.#in.rules;
    const end = lostSuperblocks ? this.#payloadFloor : this.#groups.searchEnd(0);
    while (this.#at < end && this.#at < this.#payloadFloor) {
      const group = this.#groups.read(this.#at);
      if (!this.#accept(group)) break;
    }
    this.#settleUnproven();
    return {
      lostSequence: this.#lostSequence,
      tailSector: this.#at,
      lastSequence: Math.max(this.#groups.lastSequence, this.#in.verdict.current.frontierSequence),
      payloadFloor: this.#payloadFloor,
      damage: this.#damage,
      lostEpoch: this.#groups.lostEpoch,
      rows: this.#rows,
    };
  }

  /** Takes a group in, moving on behind it. @returns false where the log ends before it */
  #accept(group: Group): boolean {
    if (group.commitState === 'whole' && group.temp === 'whole') {
      if (group.proof === 'none') {
        this.#unproven.push(group);
      } else {
        // Whatever flush shows this group covered those before it, too.
        this.#prove(group.sequence - 1);
        this.#judge(group, 'unread');
      }
      this.#advance(group);
      return true;
    }
    const action = ACTIONS[decide(group.temp, group.commitState, group.proof, 'unread')];
    if (action === 'tail') {
      this.#count(group, 'unread');
      this.#doubtTail(group);
      return false;
    }
    this.#settleUnproven();
    if (this.#at !== group.sector) return false;
    this.#judge(group, 'unread');
    this.#advance(group);
    return true;
  }

  #advance(group: Group): void {
    this.#at = alignUp(group.end, this.#in.geometry.unitSectors, this.#groups.start);
    this.#groups.lastSequence = Math.max(this.#groups.lastSequence, group.sequence);
    this.#groups.lastEpoch = Math.max(this.#groups.lastEpoch, group.epoch);
  }

  /** Judges the unproven groups by their payloads, in order; the first torn one ends the log. */
  #settleUnproven(): void {
    const groups = this.#unproven;
    this.#unproven = [];
    for (const group of groups) {
      const payload = this.#payloadState(group);
      if (payload === 'torn') {
        if (group.proof !== 'none') {
          this.#judge(group, 'unread');
          continue;
        }
        this.#count(group, payload);
        this.#doubtTail(group);
        this.#at = group.sector;
        this.#groups.lastSequence = group.sequence - 1;
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
    this.#in.onGroup?.(group, row);
    return row;
  }

  #judge(group: Group, payload: PayloadState): void {
    const action = ACTIONS[this.#count(group, payload)];
    switch (action) {
      case 'apply':
        for (let i = 0; i < group.operations.length; i++) {
          this.#apply(group, group.operations[i] as Operation, group.entries[i]);
        }
        break;
      case 'apply-damaged':
        this.#applyReadable(group, 'its commit is unreadable; later frames prove that it took effect');
        break;
      case 'damage-known':
        this.#applyReadable(group, 'temp frames of a committed group are unreadable');
        break;
      case 'damage-unknown':
        if (group.commitState === 'contradicts') this.#loseUnknown(group, 'its commit contradicts its temp frames');
        else this.#applyReadable(group, 'a committed group is unreadable');
        break;
    }
    this.#lowerFloor(group.payloadFloor);
  }

  #apply(group: Group, operation: Operation, entry: CommitEntry | undefined): void {
    const { temp, tempSector, tempBodyBytes, sequence } = operation;
    if (temp.kind === KIND_DELETE) {
      this.#in.keys.delete(temp.key);
      return;
    }
    this.#lowerFloor(temp.extentSector);
    this.#in.keys.set({
      kind: temp.kind === KIND_PUT ? KIND_PUT : KIND_LOST,
      key: temp.key,
      sequence,
      epoch: group.epoch,
      tempSector,
      tempBodyBytes,
      envelopeOffset: temp.envelopeOffset,
      envelopeBytes: temp.envelopeBytes,
      payloadBytes: temp.payloadBytes,
      extentFrames: temp.extentFrames,
      extentSector: temp.extentSector,
      digest: entry?.digest,
    });
  }

  /**
   * Applies what is left of a damaged group, operation by operation. Where only the commit tells of one, a deletion
   * takes effect all the same, and of a put the key is known. An operation that nothing tells of may have had any key.
   */
  #applyReadable(group: Group, what: string): void {
    const { operations, entries, operationCount } = group;
    const lost: string[] = [];
    let unknown = operationCount === 0;
    for (let i = 0; i < Math.max(operationCount, operations.length, entries.length); i++) {
      const operation = operations[i];
      const entry = entries[i];
      if (operation !== undefined && (entry === undefined || doesMatch(entry, operation))) {
        this.#apply(group, operation, entry);
      } else if (operation === undefined && entry !== undefined) {
        if (entry.kind === KIND_DELETE) this.#in.keys.delete(entry.key);
        else this.#setLost(group, entry.key, lost);
      } else {
        unknown = true;
      }
    }
    if (unknown) this.#loseUnknown(group, `${what}, and with it keys that it wrote`);
    else this.#report(group, lost.length > 0 ? lost : keysOf(group), what);
  }

  #setLost(group: Group, key: string, lost: string[]): void {
    lost.push(key);
    const keyBytes = Buffer.byteLength(key);
    this.#in.keys.set({
      kind: KIND_LOST,
      key,
      sequence: group.sequence,
      epoch: group.epoch,
      tempSector: group.sector,
      tempBodyBytes: TEMP_BYTES + keyBytes,
      envelopeOffset: FRAME_HEADER_BYTES + TEMP_BYTES + keyBytes,
      envelopeBytes: 0,
      payloadBytes: 0,
      extentFrames: 0,
      extentSector: 0,
      digest: undefined,
    });
  }

  #loseUnknown(group: Group, what: string): void {
    this.#lostSequence = Math.max(this.#lostSequence, group.sequence);
    this.#report(group, [], what);
  }

  #lowerFloor(sector: number): void {
    if (sector > 0) this.#payloadFloor = Math.min(this.#payloadFloor, sector);
  }

  #report(group: Group, keys: readonly string[], what: string): void {
    this.#damage.push({
      sector: group.sector,
      keys,
      what: `group ${group.sequence} at sector ${group.sector}: ${what}`,
      isCertain: true,
    });
  }

  /** Tells where the log was taken to end for another reason than that nothing, or a torn group, stands there. */
  #doubtTail(group: Group): void {
    const { badSector, badSectors, isOverwritten } = group;
    const isUnreadable = this.#in.rules.unreadable && this.#in.reader.hasUnreadable(badSector, badSectors);
    if (!isUnreadable && !isOverwritten) return;
    const why = isUnreadable
      ? `sector ${badSector} can't be read`
      : `a write meant for another place stands at sector ${badSector}`;
    const what = `the log seems to end at sector ${group.sector}, but ${why}: a last group may be lost`;
    this.#damage.push({ sector: badSector, keys: keysOf(group), what, isCertain: false });
  }

  #payloadState(group: Group): PayloadState {
    for (let i = 0; i < group.operations.length; i++) {
      const operation = group.operations[i] as Operation;
      const entry = group.entries[i] as CommitEntry;
      if (operation.temp.kind === KIND_PUT && !this.#isPayloadWhole(group, operation, entry)) return 'torn';
    }
    return 'whole';
  }

  #isPayloadWhole(group: Group, operation: Operation, entry: CommitEntry): boolean {
    try {
      return this.#looksWhole(group, operation, entry);
    } catch (error) {
      if (codeOf(error) !== 'EIO') throw error;
      if (!this.#in.rules.unreadable) return false;
    }
    try {
      return this.#looksWhole(group, operation, entry);
    } catch (error) {
      if (codeOf(error) !== 'EIO') throw error;
      // What can't be read and nothing proves to have been durable ends the log; but not in silence.
      this.#in.reader.checkDevice(error);
      this.#in.reader.noteUnreadable(operation.temp.extentSector);
      markBad(group, operation.temp.extentSector, 1);
      return false;
    }
  }

  #looksWhole(group: Group, operation: Operation, entry: CommitEntry): boolean {
    const { temp, sequence } = operation;
    const { payloads, rules } = this.#in;
    if (temp.extentFrames === 0) return !rules.checksums || equalBytes(this.#inlineDigest(operation), entry.digest);
    const extent = { ...temp, sequence, epoch: group.epoch };
    const onBad = (sector: number, header: FrameHeader): void => this.#groups.lookAtStray(group, sector, header);
    if (!payloads.isWhole(extent, onBad)) return false;
    return !rules.checksums || equalBytes(payloads.digest(extent), entry.digest);
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
}

function keysOf(group: Group): string[] {
  return group.operations.flatMap((operation) => (operation === undefined ? [] : [operation.temp.key]));
}
