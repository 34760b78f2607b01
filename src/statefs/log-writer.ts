import type { BlockDevice } from '../blockdev/index.ts';
import { equalBytes, viewOf } from '../core/index.ts';
import { sha256 } from '../envelope/index.ts';
import { fail, wrapDeviceError } from './errors.ts';
import { type FrameCodec, FrameHeader } from './frame.ts';
import { alignDown, alignUp, type StoreGeometry } from './geometry.ts';
import {
  FLAG_LAST,
  FLAG_ORDERED,
  FRAME_COMMIT,
  FRAME_HEADER_BYTES,
  FRAME_TEMP,
  KIND_DELETE,
  RESERVED_DELETES,
} from './layout.ts';
import type { Extent, PayloadStore } from './payload.ts';
import { appendEntry, tempBodyBytes, writeCommitBody, writeTempBody } from './records.ts';
import type { IndexEntry, Recovered } from './replay.ts';
import type { Barrier, StoreRules } from './rules.ts';
import type { SuperblockPair } from './superblock-pair.ts';

/**
 * How a put becomes durable. `ordered`: temp frames, flush, read back and verified, commit, flush. `checksummed`: temp
 * frames and commit together, one flush; recovery holds the temp frames to the digest in the commit.
 */
export type CommitMode = 'ordered' | 'checksummed';

/** One operation to be appended. Buffers are the caller's and are not kept. */
interface Append {
  readonly kind: number;
  readonly key: string;
  readonly keyBytes: Uint8Array;
  readonly envelope: Uint8Array;
  readonly payload: Uint8Array;
  /** SHA-256 of the payload; zeros for a delete. */
  readonly digest: Uint8Array;
  readonly mode: CommitMode;
  /** Whether it is durable on return, or with the next flush. */
  readonly durable: boolean;
  /** Called last thing before the commit is issued; what it throws leaves the old bytes in place. */
  readonly beforeCommit: () => void;
}

const NOTHING = new Uint8Array(0);

/** Where an operation goes. */
interface Plan {
  readonly sector: number;
  readonly tempBodyBytes: number;
  readonly tempSectors: number;
  readonly commitSectors: number;
  readonly endSector: number;
  readonly extent: Extent | undefined;
  readonly payloadFloor: number;
}

/** Appends groups to the log of one life. */
export class LogWriter {
  readonly #device: BlockDevice;
  readonly #codec: FrameCodec;
  readonly #geometry: StoreGeometry;
  readonly #payloads: PayloadStore;
  readonly #superblocks: SuperblockPair;
  readonly #rules: StoreRules;
  readonly #regionStart: number;
  /** Made with the first append. */
  #staging: Uint8Array = NOTHING;
  #view: DataView = viewOf(NOTHING);
  #readBack: Uint8Array = NOTHING;
  #readBackView: DataView = viewOf(NOTHING);
  readonly #header = new FrameHeader();
  #tailSector: number;
  #payloadFloor: number;
  /** The last sequence number given out, whether or not its group was committed. */
  #sequence: number;
  /** The last group that was issued as a whole, and the end of the log behind it. */
  #issuedSequence: number;
  /** Every group up to this one is durable, and ends below `#durableSector`. */
  #durableSequence: number;
  #durableSector: number;
  #durableFloor: number;
  #hasLife = false;
  #inDoubt: unknown;

  constructor(
    device: BlockDevice,
    codec: FrameCodec,
    geometry: StoreGeometry,
    payloads: PayloadStore,
    superblocks: SuperblockPair,
    rules: StoreRules,
    recovered: Recovered,
  ) {
    this.#device = device;
    this.#codec = codec;
    this.#geometry = geometry;
    this.#payloads = payloads;
    this.#superblocks = superblocks;
    this.#rules = rules;
    this.#regionStart = geometry.regionSectors[superblocks.current.activeRegion];
    this.#tailSector = recovered.tailSector;
    this.#payloadFloor = recovered.payloadFloor;
    this.#sequence = recovered.lastSequence;
    this.#issuedSequence = recovered.lastSequence;
    this.#durableSequence = recovered.lastSequence;
    this.#durableSector = recovered.tailSector;
    this.#durableFloor = recovered.payloadFloor;
  }

  /** Sectors that neither log nor payloads take up. */
  get freeSectors(): number {
    return this.#payloadFloor - this.#tailSector;
  }

  get epoch(): number {
    return this.#superblocks.current.epoch;
  }

  get lastSequence(): number {
    return this.#issuedSequence;
  }

  /** The error after which nothing more is written; undefined while all is well. */
  get inDoubt(): unknown {
    return this.#inDoubt;
  }

  /** Whether anything was issued that no flush has covered. */
  get hasUnflushed(): boolean {
    return this.#issuedSequence > this.#durableSequence;
  }

  /**
   * Appends one operation as a group of its own.
   * @param liveKeys how many keys would be live after it; a full store keeps room to delete some of them
   * @returns where it stands
   * @throws StateFsError ENOSPC or EROFS before anything is written; EIO, after which {@link inDoubt} tells whether the store
   *   may go on; whatever `beforeCommit` throws
   */
  append(operation: Append, liveKeys: number): IndexEntry {
    // Beyond, the number in the frame would not read back. Only a crafted image comes here.
    if (this.#sequence >= Number.MAX_SAFE_INTEGER) {
      fail('EROFS', 'the store has used up its 2^53 sequence numbers: copy its keys to a new one');
    }
    const plan = this.#plan(operation, liveKeys);
    this.#openLife();
    this.#advanceFrontier(plan.endSector);
    // Taken even if the append fails: no two groups of a life share a number.
    const sequence = ++this.#sequence;
    const extent = plan.extent === undefined ? undefined : { ...plan.extent, sequence, epoch: this.epoch };
    if (extent !== undefined)
      this.#guard('writing the payload', false, () => this.#payloads.write(extent, operation.payload));
    this.#sealTemp(operation, plan, extent);
    if (operation.mode === 'ordered') this.#issueOrdered(operation, plan, extent);
    else this.#issueChecksummed(operation, plan);
    this.#tailSector = plan.endSector;
    this.#payloadFloor = plan.payloadFloor;
    this.#issuedSequence = sequence;
    if (operation.durable) this.flush('commit');
    return this.#entryOf(operation, plan, extent, sequence);
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

  /** Records that the log ends here, if this life wrote anything. */
  close(): void {
    if (!this.#hasLife || this.#inDoubt !== undefined) return;
    const flush = (): void => this.flush('close');
    flush();
    this.#guard('closing', true, () => this.#superblocks.close(this.#frontier(), flush));
    flush();
  }

  #frontier(): { frontierSector: number; frontierSequence: number; payloadFloor: number } {
    return {
      frontierSector: this.#durableSector,
      frontierSequence: this.#durableSequence,
      payloadFloor: this.#durableFloor,
    };
  }

  #plan(operation: Append, liveKeys: number): Plan {
    const { sectorBytes, frameSectors, unitSectors } = this.#geometry;
    const sector = this.#tailSector;
    const fixed = tempBodyBytes(operation.keyBytes.length, operation.envelope.length, 0);
    const isInline = FRAME_HEADER_BYTES + fixed + operation.payload.length <= frameSectors * sectorBytes;
    const bodyBytes = isInline ? fixed + operation.payload.length : fixed;
    const tempSectors = this.#codec.sectorsFor(bodyBytes);
    const commitSectors = 1;
    const endSector = alignUp(sector + tempSectors + commitSectors, unitSectors, this.#regionStart);
    const extent = isInline ? undefined : this.#planExtent(operation.payload.length);
    const payloadFloor = extent?.extentSector ?? this.#payloadFloor;
    this.#checkSpace(operation, payloadFloor - endSector, liveKeys);
    return { sector, tempBodyBytes: bodyBytes, tempSectors, commitSectors, endSector, extent, payloadFloor };
  }

  #planExtent(payloadBytes: number): Extent {
    const sectors = this.#payloads.sectorsFor(payloadBytes);
    const extentSector = alignDown(this.#payloadFloor - sectors, this.#geometry.unitSectors, this.#regionStart);
    const extentFrames = this.#payloads.framesFor(payloadBytes);
    return { extentSector, extentFrames, payloadBytes, sequence: 0, epoch: 0 };
  }

  #checkSpace(operation: Append, freeAfter: number, liveKeys: number): void {
    const deleteSectors = alignUp(2, this.#geometry.unitSectors, 0);
    const reserve = operation.kind === KIND_DELETE ? 0 : Math.min(liveKeys, RESERVED_DELETES) * deleteSectors;
    if (freeAfter >= reserve) return;
    const bytes = this.#geometry.sectorBytes;
    fail(
      'ENOSPC',
      `the store is full: ${this.freeSectors * bytes} bytes are left, ${(this.freeSectors - freeAfter + reserve) * bytes} ` +
        'are needed with the reserve for deletes: use a larger partition',
    );
  }

  #openLife(): void {
    if (this.#hasLife) return;
    const frameBytes = this.#geometry.frameSectors * this.#geometry.sectorBytes;
    this.#staging = new Uint8Array(2 * frameBytes + this.#geometry.unitSectors * this.#geometry.sectorBytes);
    this.#view = viewOf(this.#staging);
    this.#readBack = new Uint8Array(frameBytes);
    this.#readBackView = viewOf(this.#readBack);
    const flush = (): void => this.flush('life');
    this.#guard('opening a new life of the log', true, () => this.#superblocks.openLife(this.#frontier(), flush));
    this.#hasLife = true;
  }

  /** Keeps the log within a stride of the recorded frontier: recovery searches no further for its end. */
  #advanceFrontier(endSector: number): void {
    const { strideSectors } = this.#geometry;
    if (endSector <= this.#superblocks.current.frontierSector + strideSectors) return;
    const flush = (): void => this.flush('commit');
    if (endSector > this.#durableSector + strideSectors) flush();
    this.#guard('recording the frontier', true, () => this.#superblocks.advance(this.#frontier(), flush));
  }

  #sealTemp(operation: Append, plan: Plan, extent: Extent | undefined): void {
    const { keyBytes, envelope, payload, kind } = operation;
    const inline = extent === undefined ? payload : undefined;
    const content = {
      kind,
      keyBytes,
      envelope,
      payloadBytes: payload.length,
      inline,
      extentFrames: extent?.extentFrames ?? 0,
      extentSector: extent?.extentSector ?? 0,
    };
    const bodyBytes = writeTempBody(this.#staging, this.#view, 0, content);
    this.#seal(0, FRAME_TEMP, FLAG_LAST, bodyBytes, plan.sector, plan.tempSectors + plan.commitSectors);
  }

  #sealCommit(operation: Append, plan: Plan, at: number): void {
    const content = { groupSector: plan.sector, payloadFloor: plan.payloadFloor, operationCount: 1 };
    let bodyBytes = writeCommitBody(this.#view, at, content);
    bodyBytes = appendEntry(this.#staging, this.#view, at, bodyBytes, {
      kind: operation.kind,
      keyBytes: operation.keyBytes,
      payloadBytes: operation.payload.length,
      extentSector: plan.extent?.extentSector ?? 0,
      digest: operation.digest,
    });
    const flags = operation.mode === 'ordered' ? FLAG_LAST | FLAG_ORDERED : FLAG_LAST;
    this.#seal(at, FRAME_COMMIT, flags, bodyBytes, plan.sector + plan.tempSectors, plan.commitSectors);
  }

  #seal(at: number, type: number, flags: number, bodyBytes: number, sector: number, windowSectors: number): void {
    const header = this.#header;
    header.type = type;
    header.flags = flags;
    header.bodyBytes = bodyBytes;
    header.epoch = this.epoch;
    header.index = 0;
    header.sequence = this.#sequence;
    header.sector = sector;
    header.durableSequence = this.#durableSequence;
    header.windowSectors = windowSectors;
    this.#codec.seal(this.#staging, this.#view, at, header);
  }

  #issueOrdered(operation: Append, plan: Plan, extent: Extent | undefined): void {
    const tempBytes = plan.tempSectors * this.#geometry.sectorBytes;
    const group = this.#padded(plan, tempBytes);
    this.#guard('writing the temp frame', false, () => this.#device.write(plan.sector, group));
    this.flush('temp');
    this.#guard('verifying the temp frames', false, () => this.#verifyTemp(operation, plan, extent));
    operation.beforeCommit();
    this.#sealCommit(operation, plan, tempBytes);
    const commit = this.#staging.subarray(tempBytes, tempBytes + plan.commitSectors * this.#geometry.sectorBytes);
    this.#guard('writing the commit', true, () => this.#device.write(plan.sector + plan.tempSectors, commit));
  }

  #issueChecksummed(operation: Append, plan: Plan): void {
    operation.beforeCommit();
    const { sectorBytes } = this.#geometry;
    this.#sealCommit(operation, plan, plan.tempSectors * sectorBytes);
    const group = this.#padded(plan, (plan.tempSectors + plan.commitSectors) * sectorBytes);
    this.#guard('writing the group', true, () => this.#device.write(plan.sector, group));
  }

  /** The group with zeros up to the end of its last unit: whatever writes a part of one would have to read it first. */
  #padded(plan: Plan, usedBytes: number): Uint8Array {
    const bytes = (plan.endSector - plan.sector) * this.#geometry.sectorBytes;
    this.#staging.fill(0, usedBytes, bytes);
    return this.#staging.subarray(0, bytes);
  }

  /** What is about to be committed must read back as it was meant: the promise covers the disk, not our memory. */
  #verifyTemp(operation: Append, plan: Plan, extent: Extent | undefined): void {
    const back = this.#readBack.subarray(0, plan.tempSectors * this.#geometry.sectorBytes);
    this.#device.read(plan.sector, back);
    const isPayloadRight =
      this.#isTempRight(operation, plan) &&
      (extent === undefined || equalBytes(this.#payloads.digest(extent), operation.digest));
    if (isPayloadRight) return;
    fail(
      'EINTEGRITY',
      `the device returns other bytes at sector ${plan.sector} than were written: nothing was committed; check the disk`,
    );
  }

  /** Whether the temp frame reads back whole, and an inline payload with its digest. */
  #isTempRight(operation: Append, plan: Plan): boolean {
    const header = this.#header;
    const isWhole =
      this.#codec.parse(this.#readBack, this.#readBackView, 0, plan.sector, header) &&
      this.#codec.verify(this.#readBack, this.#readBackView, 0, header) &&
      header.sequence === this.#sequence &&
      header.bodyBytes === plan.tempBodyBytes;
    if (!isWhole || operation.kind === KIND_DELETE || plan.extent !== undefined) return isWhole;
    this.#codec.restore(this.#readBackView, 0, header);
    const end = FRAME_HEADER_BYTES + plan.tempBodyBytes;
    return equalBytes(sha256(this.#readBack.subarray(end - operation.payload.length, end)), operation.digest);
  }

  #entryOf(operation: Append, plan: Plan, extent: Extent | undefined, sequence: number): IndexEntry {
    return {
      key: operation.key,
      sequence,
      epoch: this.epoch,
      tempSector: plan.sector,
      tempBodyBytes: plan.tempBodyBytes,
      envelopeOffset:
        plan.tempBodyBytes +
        FRAME_HEADER_BYTES -
        operation.envelope.length -
        (extent === undefined ? operation.payload.length : 0),
      envelopeBytes: operation.envelope.length,
      payloadBytes: operation.payload.length,
      extentFrames: extent?.extentFrames ?? 0,
      extentSector: extent?.extentSector ?? 0,
      digest: operation.digest,
    };
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
