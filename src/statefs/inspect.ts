import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf, viewOf } from '../core/index.ts';
import { FrameHeader } from './frame.ts';
import type { Group } from './group-reader.ts';
import {
  CONTINUATION_MARK,
  FLAG_LAST,
  FLAG_MOVED,
  FLAG_ORDERED,
  FRAME_CHECKPOINT,
  FRAME_COMMIT,
  FRAME_PAYLOAD,
  FRAME_TEMP,
  KIND_DELETE,
  KIND_PUT,
} from './layout.ts';
import { type CommitEntry, type CommitRecord, readCommitBody, readTempBody, type TempRecord } from './records.ts';
import { ACTIONS, type Row } from './recovery-table.ts';
import { soundRules } from './rules.ts';
import type { Superblock, SuperblockCopy } from './superblock.ts';
import { type Survey, survey } from './survey.ts';

/** An operation as a frame tells it. */
export interface OperationInfo {
  readonly kind: 'put' | 'delete' | 'lost';
  readonly key: string;
  readonly payloadBytes: number;
  /** First sector of the extent; 0 where the payload stands in the temp frame, or there is none. */
  readonly extentSector: number;
  /** Payload frames in the extent, of a temp frame; 0 where there is none. */
  readonly extentFrames: number;
  /** SHA-256 in hexadecimal, of a commit. */
  readonly digest: string | undefined;
}

/** A frame of the log. */
export interface FrameInfo {
  readonly sector: number;
  readonly sectorCount: number;
  readonly type: 'temp' | 'commit' | 'payload' | 'checkpoint' | 'unknown';
  readonly index: number;
  readonly sequence: number;
  readonly epoch: number;
  readonly durableSequence: number;
  readonly windowSectors: number;
  readonly bodyBytes: number;
  readonly last: boolean;
  readonly ordered: boolean;
  readonly moved: boolean;
  /** `damaged`: the header is whole and the body is not. `senseless`: all of it is whole, and says what no store writes. */
  readonly body: 'whole' | 'damaged' | 'senseless';
  /** What it says, where its body is whole. */
  readonly operations: readonly OperationInfo[];
}

/** A group as recovery judged it, with the frames that can be read of it. */
export interface GroupInfo {
  readonly sector: number;
  /** First sector behind it; that of its readable part where the log ends before it. */
  readonly endSector: number;
  readonly sequence: number;
  readonly epoch: number;
  /** Its row of the recovery table (docs/storage/statefs.md, "Recovery"). */
  readonly row: Row;
  /** Whether its operations, or what is left of them, are in effect. */
  readonly inEffect: boolean;
  /** What shows that it was durable. */
  readonly proof: 'none' | 'ordered' | 'durable';
  readonly frames: readonly FrameInfo[];
  /** Sectors of it in which no frame can be read, and that no frame covers. */
  readonly blankSectors: readonly number[];
}

/** A superblock copy as found. */
export interface SuperblockInfo {
  readonly copy: 0 | 1;
  readonly state: SuperblockCopy['state'];
  /** What is wrong with it; one that is misplaced may be in use all the same. */
  readonly why: string | undefined;
  readonly inUse: boolean;
  /** Undefined where it is not whole. `storeId` in hexadecimal. */
  readonly fields: (Omit<Superblock, 'storeId'> & { readonly storeId: string }) | undefined;
}

export interface Inspection {
  readonly sectorBytes: number;
  readonly sectorCount: number;
  readonly unitSectors: number;
  readonly superblocks: readonly SuperblockInfo[];
  readonly regionSectors: readonly [number, number];
  readonly regionSectorCount: number;
  readonly activeRegion: 0 | 1;
  /** First sector of the log, and the first behind it. */
  readonly logSector: number;
  readonly tailSector: number;
  /** Lowest sector of any payload outside the log. */
  readonly payloadFloor: number;
  readonly keys: number;
  readonly lastSequence: number;
  /** In the order of the log; its torn end too, where it has one. */
  readonly groups: readonly GroupInfo[];
}

/**
 * Shows the store on `device` as it stands: superblocks, then the log, group by group and frame by frame, each with what
 * recovery makes of it. Writes nothing. Holds a description of every frame of the log in memory.
 * @throws StateFsError as `open`
 */
export function inspect(device: BlockDevice): Inspection {
  const found: { readonly group: Group; readonly row: Row }[] = [];
  const view = survey(device, soundRules, (group, row) => {
    if (row !== 'end') found.push({ group, row });
  });
  const { geometry, verdict, recovered, keys } = view;
  const frames = new FrameLister(view);
  const { activeRegion } = verdict.current;
  return {
    sectorBytes: geometry.sectorBytes,
    sectorCount: geometry.sectorCount,
    unitSectors: geometry.unitSectors,
    superblocks: superblocksOf(view),
    regionSectors: geometry.regionSectors,
    regionSectorCount: geometry.regionSectorCount,
    activeRegion,
    logSector: geometry.regionSectors[activeRegion],
    tailSector: recovered.tailSector,
    payloadFloor: recovered.payloadFloor,
    keys: keys.size,
    lastSequence: recovered.lastSequence,
    groups: found.map(({ group, row }) => describeGroup(group, row, frames)),
  };
}

function superblocksOf({ copies, verdict }: Survey): SuperblockInfo[] {
  return ([0, 1] as const).map((copy) => {
    const found = copies[copy];
    const fields =
      'superblock' in found
        ? { ...found.superblock, storeId: Buffer.from(found.superblock.storeId).toString('hex') }
        : undefined;
    const why = found.state === 'valid' ? undefined : found.why;
    return { copy, state: found.state, why, inUse: verdict.currentCopy === copy, fields };
  });
}

function describeGroup(group: Group, row: Row, lister: FrameLister): GroupInfo {
  const { sector, sequence, epoch, proof } = group;
  const endSector = Math.max(group.end, group.windowEnd);
  const { frames, blankSectors } = lister.list(sector, endSector);
  const inEffect = ACTIONS[row] !== 'tail';
  return { sector, endSector, sequence, epoch, row, inEffect, proof, frames, blankSectors };
}

/** Lists the frames in a stretch of the log. */
class FrameLister {
  readonly #survey: Survey;
  readonly #frame: Uint8Array;
  readonly #view: DataView;
  readonly #header = new FrameHeader();

  constructor(found: Survey) {
    const { frameSectors, sectorBytes } = found.geometry;
    this.#survey = found;
    this.#frame = new Uint8Array(frameSectors * sectorBytes);
    this.#view = viewOf(this.#frame);
  }

  list(from: number, to: number): { frames: FrameInfo[]; blankSectors: number[] } {
    const frames: FrameInfo[] = [];
    const blankSectors: number[] = [];
    for (let sector = from; sector < to; ) {
      const frame = this.#at(sector);
      if (frame !== undefined) frames.push(frame);
      else if (!this.#isPadding()) blankSectors.push(sector);
      sector += frame?.sectorCount ?? 1;
    }
    return { frames, blankSectors };
  }

  /** Of a group that was looked for and not found every sector counts; of zeros up to a unit none does. */
  #isPadding(): boolean {
    return this.#survey.geometry.unitSectors > 1 && this.#sector().every((byte) => byte === 0);
  }

  #sector(): Uint8Array {
    return this.#frame.subarray(0, this.#survey.geometry.sectorBytes);
  }

  #at(sector: number): FrameInfo | undefined {
    const { codec, geometry } = this.#survey;
    const header = this.#header;
    this.#read(sector, 1);
    if (!codec.parse(this.#frame, this.#view, 0, sector, header)) return undefined;
    const sectorCount = codec.sectorsFor(header.bodyBytes);
    const isReadable = sectorCount <= geometry.frameSectors && sector + sectorCount <= geometry.sectorCount;
    if (isReadable) this.#read(sector, sectorCount);
    const isWhole = isReadable && codec.verify(this.#frame, this.#view, 0, header);
    const operations = isWhole ? this.#operations() : [];
    return {
      sector,
      // Of a damaged frame the next one is looked for in its own sectors: its length may be what is wrong.
      sectorCount: isWhole ? sectorCount : this.#reach(sectorCount),
      type: typeName(header.type),
      index: header.index,
      sequence: header.sequence,
      epoch: header.epoch,
      durableSequence: header.durableSequence,
      windowSectors: header.windowSectors,
      bodyBytes: header.bodyBytes,
      last: (header.flags & FLAG_LAST) !== 0,
      ordered: (header.flags & FLAG_ORDERED) !== 0,
      moved: (header.flags & FLAG_MOVED) !== 0,
      body: !isWhole ? 'damaged' : operations === undefined ? 'senseless' : 'whole',
      operations: operations ?? [],
    };
  }

  /** Sectors of a damaged frame: itself, and those behind it that start with the mark of an inner sector. */
  #reach(sectorCount: number): number {
    const { sectorBytes, frameSectors } = this.#survey.geometry;
    const most = Math.min(sectorCount, frameSectors);
    let reach = 1;
    while (reach < most && this.#view.getUint32(reach * sectorBytes, true) === CONTINUATION_MARK) reach++;
    return reach;
  }

  #operations(): OperationInfo[] | undefined {
    const { codec } = this.#survey;
    const header = this.#header;
    codec.restore(this.#view, 0, header);
    if (header.type === FRAME_TEMP) {
      const temp = readTempBody(this.#frame, this.#view, 0, header.bodyBytes);
      return temp === undefined ? undefined : [ofTemp(temp)];
    }
    if (header.type !== FRAME_COMMIT) return [];
    const commit: CommitRecord | undefined = readCommitBody(this.#frame, this.#view, 0, header.bodyBytes);
    return commit?.entries.map(ofEntry);
  }

  #read(sector: number, count: number): void {
    const { device, geometry } = this.#survey;
    const target = this.#frame.subarray(0, count * geometry.sectorBytes);
    try {
      device.read(sector, target);
    } catch (error) {
      if (codeOf(error) !== 'EIO') throw error;
      target.fill(0);
    }
  }
}

const TYPE_NAMES: Readonly<Record<number, FrameInfo['type']>> = {
  [FRAME_TEMP]: 'temp',
  [FRAME_COMMIT]: 'commit',
  [FRAME_PAYLOAD]: 'payload',
  [FRAME_CHECKPOINT]: 'checkpoint',
};

function typeName(type: number): FrameInfo['type'] {
  return TYPE_NAMES[type] ?? 'unknown';
}

function kindName(kind: number): OperationInfo['kind'] {
  return kind === KIND_PUT ? 'put' : kind === KIND_DELETE ? 'delete' : 'lost';
}

function ofTemp({ kind, key, payloadBytes, extentSector, extentFrames }: TempRecord): OperationInfo {
  return { kind: kindName(kind), key, payloadBytes, extentSector, extentFrames, digest: undefined };
}

function ofEntry({ kind, key, payloadBytes, extentSector, digest }: CommitEntry): OperationInfo {
  const hex = kind === KIND_PUT ? Buffer.from(digest).toString('hex') : undefined;
  return { kind: kindName(kind), key, payloadBytes, extentSector, extentFrames: 0, digest: hex };
}
