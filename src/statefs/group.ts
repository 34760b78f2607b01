/** A group: several operations that take effect together. Where its frames go, and what they say. */
import type { FrameCodec, FrameHeader } from './frame.ts';
import { alignDown, alignUp, type StoreGeometry } from './geometry.ts';
import type { IndexEntry } from './index-entry.ts';
import {
  COMMIT_BYTES,
  FLAG_LAST,
  FRAME_COMMIT,
  FRAME_HEADER_BYTES,
  FRAME_TEMP,
  KIND_LOST,
  KIND_PUT,
} from './layout.ts';
import type { Extent, PayloadStore } from './payload.ts';
import { appendEntry, entryBytes, tempBodyBytes, writeCommitBody, writeTempBody } from './records.ts';

/** One operation. Buffers are the caller's and are not kept. */
export interface GroupOperation {
  readonly kind: number;
  readonly key: string;
  readonly keyBytes: Uint8Array;
  readonly envelope: Uint8Array;
  readonly payloadBytes: number;
  /** The payload; may be empty where it stands in an extent already. */
  readonly payload: Uint8Array;
  /** SHA-256 of the payload; zeros for a delete. */
  readonly digest: Uint8Array;
}

/** Where an operation goes. */
export interface PlannedOperation {
  readonly operation: GroupOperation;
  /** First sector of its temp frame, counted from that of the group. */
  readonly tempOffset: number;
  readonly tempBodyBytes: number;
  readonly tempSectors: number;
  readonly extent: Extent | undefined;
  /** Of a moved record: the sequence number that it always had. 0: that of the group. */
  readonly ownSequence: number;
}

/** A commit frame, with the entries `first` to `first + count - 1`. */
export interface PlannedCommit {
  readonly first: number;
  readonly count: number;
  /** First sector, counted from that of the group. */
  readonly offset: number;
  readonly sectors: number;
}

/** Where a group goes. */
export interface GroupPlan {
  readonly sector: number;
  readonly operations: readonly PlannedOperation[];
  readonly commits: readonly PlannedCommit[];
  readonly tempSectors: number;
  /** Of all its frames. */
  readonly sectors: number;
  /** First sector after it, at a unit. */
  readonly endSector: number;
  readonly payloadFloor: number;
}

/** What the frames of a group have in common. */
export interface GroupStamp {
  readonly epoch: number;
  readonly sequence: number;
  readonly durableSequence: number;
  /** Flags of every frame, beside those that follow from its place. */
  readonly flags: number;
}

/** Plans and seals groups. */
export class GroupCodec {
  readonly #codec: FrameCodec;
  readonly #geometry: StoreGeometry;
  readonly #payloads: PayloadStore;

  constructor(codec: FrameCodec, geometry: StoreGeometry, payloads: PayloadStore) {
    this.#codec = codec;
    this.#geometry = geometry;
    this.#payloads = payloads;
  }

  /**
   * Where a group of `operations` goes at `sector`, with extents below `payloadFloor`.
   * @param regionStart what units are counted from
   */
  plan(operations: readonly GroupOperation[], sector: number, payloadFloor: number, regionStart: number): GroupPlan {
    const planned: PlannedOperation[] = [];
    let tempSectors = 0;
    let floor = payloadFloor;
    for (const operation of operations) {
      const one = this.#planOperation(operation, tempSectors, floor, regionStart);
      planned.push(one);
      tempSectors += one.tempSectors;
      if (one.extent !== undefined) floor = one.extent.extentSector;
    }
    const commits = this.planCommits(operations, tempSectors);
    const last = commits[commits.length - 1] as PlannedCommit;
    const sectors = last.offset + last.sectors;
    const endSector = alignUp(sector + sectors, this.#geometry.unitSectors, regionStart);
    return { sector, operations: planned, commits, tempSectors, sectors, endSector, payloadFloor: floor };
  }

  #planOperation(operation: GroupOperation, tempOffset: number, floor: number, start: number): PlannedOperation {
    const { sectorBytes, frameSectors, unitSectors } = this.#geometry;
    const { payloadBytes } = operation;
    const fixed = tempBodyBytes(operation.keyBytes.length, operation.envelope.length, 0);
    const isInline = FRAME_HEADER_BYTES + fixed + payloadBytes <= frameSectors * sectorBytes;
    const bodyBytes = isInline ? fixed + payloadBytes : fixed;
    let extent: Extent | undefined;
    if (!isInline) {
      const extentSector = alignDown(floor - this.#payloads.sectorsFor(payloadBytes), unitSectors, start);
      extent = {
        extentSector,
        extentFrames: this.#payloads.framesFor(payloadBytes),
        payloadBytes,
        sequence: 0,
        epoch: 0,
      };
    }
    const tempSectors = this.#codec.sectorsFor(bodyBytes);
    return { operation, tempOffset, tempBodyBytes: bodyBytes, tempSectors, extent, ownSequence: 0 };
  }

  /**
   * As many entries to a commit frame as fit.
   * @param offset first sector of the first one, counted from that of the group
   */
  planCommits(operations: readonly GroupOperation[], offset: number): PlannedCommit[] {
    const room = this.#geometry.frameSectors * this.#geometry.sectorBytes - FRAME_HEADER_BYTES;
    const commits: PlannedCommit[] = [];
    let first = 0;
    let bodyBytes = COMMIT_BYTES;
    const close = (end: number): void => {
      const sectors = this.#codec.sectorsFor(bodyBytes);
      commits.push({ first, count: end - first, offset, sectors });
      offset += sectors;
      first = end;
      bodyBytes = COMMIT_BYTES;
    };
    for (let i = 0; i < operations.length; i++) {
      const bytes = entryBytes((operations[i] as GroupOperation).keyBytes.length);
      if (bodyBytes + bytes > room) close(i);
      bodyBytes += bytes;
    }
    close(operations.length);
    return commits;
  }

  /** Seals the temp frames, the first at the start of `staging`. `plan`'s extents have their sequence and epoch. */
  sealTemps(staging: Uint8Array, view: DataView, plan: GroupPlan, stamp: GroupStamp, header: FrameHeader): void {
    const { sectorBytes } = this.#geometry;
    const lastIndex = plan.operations.length - 1;
    for (let index = 0; index <= lastIndex; index++) {
      const { operation, tempOffset, extent, ownSequence } = plan.operations[index] as PlannedOperation;
      const at = tempOffset * sectorBytes;
      const bodyBytes = writeTempBody(staging, view, at, {
        kind: operation.kind,
        keyBytes: operation.keyBytes,
        envelope: operation.envelope,
        payloadBytes: operation.payloadBytes,
        inline: extent === undefined ? operation.payload : undefined,
        extentFrames: extent?.extentFrames ?? 0,
        extentSector: extent?.extentSector ?? 0,
      });
      this.#fill(header, FRAME_TEMP, index === lastIndex, index, bodyBytes, stamp);
      if (ownSequence > 0) header.sequence = ownSequence;
      header.sector = plan.sector + tempOffset;
      header.windowSectors = plan.sectors - tempOffset;
      this.#codec.seal(staging, view, at, header);
    }
  }

  /** Seals the commit frames behind the temp frames in `staging`. */
  sealCommits(staging: Uint8Array, view: DataView, plan: GroupPlan, stamp: GroupStamp, header: FrameHeader): void {
    const { sector, payloadFloor, commits, operations } = plan;
    for (let index = 0; index < commits.length; index++) {
      const { first, count, offset } = commits[index] as PlannedCommit;
      const at = offset * this.#geometry.sectorBytes;
      const content = { groupSector: sector, payloadFloor, operationCount: operations.length, firstEntry: first };
      let bodyBytes = writeCommitBody(view, at, content);
      for (let i = first; i < first + count; i++) {
        const { operation, extent } = operations[i] as PlannedOperation;
        bodyBytes = appendEntry(staging, view, at, bodyBytes, {
          kind: operation.kind,
          keyBytes: operation.keyBytes,
          payloadBytes: operation.payloadBytes,
          extentSector: extent?.extentSector ?? 0,
          digest: operation.digest,
        });
      }
      this.#fill(header, FRAME_COMMIT, index === commits.length - 1, index, bodyBytes, stamp);
      header.sector = sector + offset;
      header.windowSectors = plan.sectors - offset;
      this.#codec.seal(staging, view, at, header);
    }
  }

  /** Fills in a header, all but its place. */
  #fill(
    header: FrameHeader,
    type: number,
    isLast: boolean,
    index: number,
    bodyBytes: number,
    { epoch, sequence, durableSequence, flags }: GroupStamp,
  ): void {
    header.type = type;
    header.flags = isLast ? flags | FLAG_LAST : flags;
    header.bodyBytes = bodyBytes;
    header.epoch = epoch;
    header.index = index;
    header.sequence = sequence;
    header.durableSequence = durableSequence;
  }
}

/** What the index keeps of an operation that was written; undefined for a delete. */
export function entryOf(
  planned: PlannedOperation,
  groupSector: number,
  sequence: number,
  epoch: number,
): IndexEntry | undefined {
  const { operation, tempOffset, tempBodyBytes: bodyBytes, extent, ownSequence } = planned;
  if (operation.kind !== KIND_PUT && operation.kind !== KIND_LOST) return undefined;
  const inlineBytes = extent === undefined ? operation.payloadBytes : 0;
  return {
    kind: operation.kind,
    key: operation.key,
    sequence: ownSequence > 0 ? ownSequence : sequence,
    epoch,
    tempSector: groupSector + tempOffset,
    tempBodyBytes: bodyBytes,
    envelopeOffset: FRAME_HEADER_BYTES + bodyBytes - operation.envelope.length - inlineBytes,
    envelopeBytes: operation.envelope.length,
    payloadBytes: operation.payloadBytes,
    extentFrames: extent?.extentFrames ?? 0,
    extentSector: extent?.extentSector ?? 0,
    digest: operation.digest,
  };
}
