import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf, getU64, setU64, viewOf } from '../core/index.ts';
import { crc32c } from './checksum.ts';
import { fail } from './errors.ts';
import { type StoreGeometry, storeGeometry } from './geometry.ts';
import {
  FORMAT_VERSION,
  FRAME,
  FRAME_MAGIC,
  KNOWN_FEATURES,
  SUPERBLOCK,
  SUPERBLOCK_CRC_OFFSET,
  SUPERBLOCK_FLAG_CLEAN,
  SUPERBLOCK_MAGIC_HIGH,
  SUPERBLOCK_MAGIC_LOW,
  SUPERBLOCK_SPACING_BYTES,
} from './layout.ts';
import { borrowMemory, giveBackMemory, type Memory } from './memory.ts';
import { type StoreRules, soundRules } from './rules.ts';

/** What a superblock copy says. All sectors are sectors of the partition. */
export interface Superblock {
  readonly sectorBytes: number;
  readonly unitBytes: number;
  readonly sectorCount: number;
  readonly storeId: Uint8Array;
  readonly activeRegion: 0 | 1;
  readonly clean: boolean;
  /** Incompatible feature bits: what a reader must know. */
  readonly features: number;
  readonly generation: number;
  readonly epoch: number;
  readonly frontierSector: number;
  readonly frontierSequence: number;
  readonly payloadFloor: number;
  /** Lowest epoch of a frame in the active region: what stands there from an earlier use is older. */
  readonly regionEpoch: number;
  /** A group with unknown keys was lost at this number, in a log that was left behind; 0: none. */
  readonly lostSequence: number;
}

/** A copy that is not what it should be. */
type BadCopy =
  | { readonly state: 'misplaced'; readonly superblock: Superblock; readonly why: string }
  | { readonly state: 'blank' | 'damaged' | 'unreadable' | 'unknown'; readonly why: string };

/**
 * One copy, as found: `blank` has no magic; `damaged` has half of it, or has it and fails the checksum or makes no sense,
 * or there are frames of a store, and it should be there; `misplaced` is the other copy, whole.
 */
export type SuperblockCopy = { readonly state: 'valid'; readonly superblock: Superblock } | BadCopy;

/** Writes `superblock` as copy `copy` into `target`, one whole sector of the device. */
export function encodeSuperblock(
  superblock: Superblock,
  copy: 0 | 1,
  target: Uint8Array,
  view: DataView = viewOf(target),
): void {
  target.fill(0);
  view.setUint32(SUPERBLOCK.magicLow, SUPERBLOCK_MAGIC_LOW, true);
  view.setUint32(SUPERBLOCK.magicHigh, SUPERBLOCK_MAGIC_HIGH, true);
  view.setUint16(SUPERBLOCK.version, FORMAT_VERSION, true);
  view.setUint8(SUPERBLOCK.copy, copy);
  view.setUint8(SUPERBLOCK.flags, superblock.clean ? SUPERBLOCK_FLAG_CLEAN : 0);
  view.setUint32(SUPERBLOCK.incompatible, superblock.features, true);
  view.setUint32(SUPERBLOCK.sectorBytes, superblock.sectorBytes, true);
  view.setUint32(SUPERBLOCK.unitBytes, superblock.unitBytes, true);
  view.setUint32(SUPERBLOCK.activeRegion, superblock.activeRegion, true);
  setU64(view, SUPERBLOCK.sectorCount, superblock.sectorCount);
  target.set(superblock.storeId, SUPERBLOCK.storeId);
  setU64(view, SUPERBLOCK.generation, superblock.generation);
  setU64(view, SUPERBLOCK.epoch, superblock.epoch);
  setU64(view, SUPERBLOCK.frontierSector, superblock.frontierSector);
  setU64(view, SUPERBLOCK.frontierSequence, superblock.frontierSequence);
  setU64(view, SUPERBLOCK.payloadFloor, superblock.payloadFloor);
  setU64(view, SUPERBLOCK.regionEpoch, superblock.regionEpoch);
  setU64(view, SUPERBLOCK.lostSequence, superblock.lostSequence);
  view.setUint32(SUPERBLOCK_CRC_OFFSET, crc32c(target, 0, SUPERBLOCK_CRC_OFFSET, 0), true);
}

/** Reads what `source` (at least 512 bytes) says as copy `copy`. Never throws for what it reads. */
export function decodeSuperblock(
  source: Uint8Array,
  copy: 0 | 1,
  checksums = true,
  view: DataView = viewOf(source),
): SuperblockCopy {
  const hasLow = view.getUint32(SUPERBLOCK.magicLow, true) === SUPERBLOCK_MAGIC_LOW;
  const hasHigh = view.getUint32(SUPERBLOCK.magicHigh, true) === SUPERBLOCK_MAGIC_HIGH;
  if (!hasLow && !hasHigh) return { state: 'blank', why: 'it does not start with STATEFS' };
  // A bit of the magic has rotted: nobody must be told to format this.
  if (!hasLow || !hasHigh) return { state: 'damaged', why: 'half of its STATEFS is damaged' };
  const crc = crc32c(source, 0, SUPERBLOCK_CRC_OFFSET, 0);
  if (checksums && view.getUint32(SUPERBLOCK_CRC_OFFSET, true) !== crc) {
    return { state: 'damaged', why: 'its checksum does not match' };
  }
  const version = view.getUint16(SUPERBLOCK.version, true);
  if (version !== FORMAT_VERSION)
    return { state: 'unknown', why: `its format version is ${version}, not ${FORMAT_VERSION}` };
  const unknown =
    (view.getUint32(SUPERBLOCK.incompatible, true) & ~KNOWN_FEATURES) | view.getUint32(SUPERBLOCK.readCompatible, true);
  if (unknown !== 0)
    return { state: 'unknown', why: `it has the unknown feature bits 0x${(unknown >>> 0).toString(16)}` };
  const superblock = fieldsOf(source, view);
  const nonsense = nonsenseIn(superblock);
  if (nonsense !== undefined) return { state: 'damaged', why: nonsense };
  if (view.getUint8(SUPERBLOCK.copy) === copy) return { state: 'valid', superblock };
  return { state: 'misplaced', superblock, why: 'it is the other copy, in the wrong place' };
}

function fieldsOf(source: Uint8Array, view: DataView): Superblock {
  return {
    sectorBytes: view.getUint32(SUPERBLOCK.sectorBytes, true),
    unitBytes: view.getUint32(SUPERBLOCK.unitBytes, true),
    sectorCount: getU64(view, SUPERBLOCK.sectorCount),
    storeId: source.slice(SUPERBLOCK.storeId, SUPERBLOCK.storeId + 16),
    activeRegion: view.getUint32(SUPERBLOCK.activeRegion, true) === 0 ? 0 : 1,
    clean: (view.getUint8(SUPERBLOCK.flags) & SUPERBLOCK_FLAG_CLEAN) !== 0,
    features: view.getUint32(SUPERBLOCK.incompatible, true),
    generation: getU64(view, SUPERBLOCK.generation),
    epoch: getU64(view, SUPERBLOCK.epoch),
    frontierSector: getU64(view, SUPERBLOCK.frontierSector),
    frontierSequence: getU64(view, SUPERBLOCK.frontierSequence),
    payloadFloor: getU64(view, SUPERBLOCK.payloadFloor),
    regionEpoch: getU64(view, SUPERBLOCK.regionEpoch),
    lostSequence: getU64(view, SUPERBLOCK.lostSequence),
  };
}

/** A checksum says that the bytes are those written, not that a sound store wrote them: every number is looked at. */
function nonsenseIn(superblock: Superblock): string | undefined {
  const { sectorBytes, unitBytes, sectorCount, generation, epoch, frontierSequence } = superblock;
  if (!isPowerOfTwo(sectorBytes) || sectorBytes < 512 || sectorBytes > 4096) return `sectorBytes is ${sectorBytes}`;
  if (!isPowerOfTwo(unitBytes) || unitBytes < sectorBytes || unitBytes > 65536) return `unitBytes is ${unitBytes}`;
  if (generation < 1 || epoch < 1 || epoch > generation || frontierSequence < 0)
    return 'generation and epoch do not agree';
  if (superblock.regionEpoch < 0 || superblock.regionEpoch > epoch) return `regionEpoch is ${superblock.regionEpoch}`;
  if (superblock.lostSequence < 0) return 'lostSequence is past 2^53';
  if (sectorCount < 1) return 'sectorCount is 0 or past 2^53';
  let geometry: StoreGeometry;
  try {
    geometry = storeGeometry(sectorBytes, sectorCount, unitBytes);
  } catch {
    return `sectorCount is ${sectorCount}`;
  }
  const start = geometry.regionSectors[superblock.activeRegion];
  const end = start + geometry.regionSectorCount;
  const { frontierSector, payloadFloor } = superblock;
  const inside = frontierSector >= start && frontierSector <= payloadFloor && payloadFloor <= end;
  return inside ? undefined : 'its frontier lies outside the region';
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

/** What recovery takes from the two copies. */
export interface SuperblockVerdict {
  readonly current: Superblock;
  readonly currentCopy: 0 | 1;
  /** The other copy is not the predecessor of the current one: it may have been newer, and was lost. */
  readonly otherLost: boolean;
  /** Why the other copy is not used, where something is wrong with it. */
  readonly otherWhy: string | undefined;
}

/**
 * The decision table over the two copies (docs/storage/statefs.md, "Superblocks"). Copies are written in turn, each
 * durable before the next, so that their generations differ by one.
 *
 * | copy 0 | copy 1 | verdict |
 * |---|---|---|
 * | valid g | valid g+1 or g-1, same store | the higher; the other is its predecessor |
 * | valid g | valid, other generations, same store | the higher; a life was being opened after a loss: open it again |
 * | valid g | valid, another store | the higher: a format was cut before its second copy, or before its first |
 * | valid g | valid g | impossible: EINTEGRITY |
 * | valid g | misplaced, higher than g, same store | the misplaced one: its write went astray, onto g-1 or g+1 |
 * | valid | anything else | the valid one; what was lost may have been newer |
 * | unreadable | unreadable | EIO: the device, not the store |
 * | anything else | anything else | no store: EINVAL if neither has the magic, EPROTO for a newer format, else EINTEGRITY |
 *
 * @throws StateFsError as in the table
 */
export function judgeSuperblocks(
  copies: readonly [SuperblockCopy, SuperblockCopy],
  rules: Pick<StoreRules, 'strays' | 'unreadable'> = soundRules,
): SuperblockVerdict {
  const [first, second] = copies;
  for (const copy of copies) {
    if (copy.state === 'unknown') fail('EPROTO', `superblock: ${copy.why}: use a powercut that knows this format`);
  }
  if (first.state === 'valid') {
    if (second.state === 'valid') return judgeTwo(first.superblock, second.superblock);
    return judgeOne(first.superblock, 0, second, rules);
  }
  if (second.state === 'valid') return judgeOne(second.superblock, 1, first, rules);
  if (first.state === 'unreadable' && second.state === 'unreadable' && rules.unreadable) {
    fail('EIO', 'superblock: neither copy can be read: check the device and how it is attached, then open it again');
  }
  const why = `copy 0: ${first.why}; copy 1: ${second.why}`;
  if (first.state === 'blank' && second.state === 'blank') {
    fail('EINVAL', `superblock: this is no statefs partition (${why}): format it, or look for the right image`);
  }
  return fail('EINTEGRITY', `superblock: both copies are unusable (${why}): restore the image from a backup`);
}

function judgeTwo(first: Superblock, second: Superblock): SuperblockVerdict {
  if (first.generation === second.generation) {
    fail('EINTEGRITY', `superblock: both copies have generation ${first.generation}, which no store writes: run fsck`);
  }
  const currentCopy = first.generation > second.generation ? 0 : 1;
  const current = currentCopy === 0 ? first : second;
  const sameStore = Buffer.compare(first.storeId, second.storeId) === 0;
  const consecutive = Math.abs(first.generation - second.generation) === 1;
  return {
    current,
    currentCopy,
    // With a gap no frame of a lost epoch exists: the life that left it never began (see SuperblockPair.open).
    otherLost: !sameStore,
    otherWhy: sameStore && consecutive ? undefined : sameStore ? 'generation skips' : 'it belongs to another store',
  };
}

/** Of two copies `mine` alone is valid. */
function judgeOne(mine: Superblock, copy: 0 | 1, other: BadCopy, rules: Pick<StoreRules, 'strays'>): SuperblockVerdict {
  const isNewer =
    rules.strays &&
    other.state === 'misplaced' &&
    other.superblock.generation > mine.generation &&
    Buffer.compare(other.superblock.storeId, mine.storeId) === 0;
  const current = isNewer ? other.superblock : mine;
  return { current, currentCopy: isNewer === (copy === 0) ? 1 : 0, otherLost: true, otherWhy: other.why };
}

/**
 * The geometry of the store on `device`.
 * @throws StateFsError EINVAL for a device with other sectors, EINTEGRITY where it is shorter than the store
 */
export function geometryOf(device: BlockDevice, { current }: SuperblockVerdict): StoreGeometry {
  if (current.sectorBytes !== device.sectorBytes) {
    fail(
      'EINVAL',
      `open: the store has sectors of ${current.sectorBytes} bytes, the device of ${device.sectorBytes}: attach it as it was`,
    );
  }
  if (current.sectorCount > device.sectorCount) {
    fail(
      'EINTEGRITY',
      `open: the store has ${current.sectorCount} sectors, the device ${device.sectorCount}: the image was cut short`,
    );
  }
  return storeGeometry(current.sectorBytes, current.sectorCount, current.unitBytes);
}

/** The units that put copy 1 at places of their own. */
const SPACING_UNITS: readonly number[] = [4096, 8192, 16_384, 32_768, 65_536];

/**
 * Erases copies 1 that formats of other units left elsewhere: once copy 0 is lost, one of them would be found before the
 * store's own. No frame is touched: none starts like a superblock. Until copy 0 is durable they are the old store's.
 * @param ownSector where copy 1 of this store stands
 * @returns whether anything was written; it is the caller's to flush
 */
export function eraseStaleCopies(device: BlockDevice, ownSector: number): boolean {
  const buffer = borrowMemory(device.sectorBytes);
  let erased = false;
  for (const unit of SPACING_UNITS) {
    const sector = unit / device.sectorBytes;
    if (sector === ownSector || sector >= device.sectorCount) continue;
    if (readCopy(device, sector, 1, buffer, true).state !== 'valid') continue;
    device.write(sector, buffer.bytes.fill(0));
    erased = true;
  }
  giveBackMemory(buffer);
  return erased;
}

/** Reads both copies from a device. An unreadable sector is a lost copy, not a failure. */
export function readSuperblocks(device: BlockDevice, checksums = true): [SuperblockCopy, SuperblockCopy] {
  const buffer = borrowMemory(device.sectorBytes);
  const copies = readBoth(device, buffer, checksums);
  giveBackMemory(buffer);
  return copies;
}

function readBoth(device: BlockDevice, buffer: Memory, checksums: boolean): [SuperblockCopy, SuperblockCopy] {
  const first = readCopy(device, 0, 0, buffer, checksums);
  // The second copy's place follows from the unit, which the first copy tells; where it is lost, the places that
  // other units would give are tried.
  const units = first.state === 'valid' ? [first.superblock.unitBytes] : SPACING_UNITS;
  let second: SuperblockCopy = { state: 'blank', why: 'the device ends before it' };
  for (const unit of units) {
    const sector = Math.max(unit, SUPERBLOCK_SPACING_BYTES) / device.sectorBytes;
    if (sector >= device.sectorCount) break;
    const candidate = readCopy(device, sector, 1, buffer, checksums);
    if (second.state === 'blank' || candidate.state === 'valid') second = candidate;
    if (second.state === 'valid') break;
  }
  if (first.state !== 'blank' || second.state !== 'blank' || !hasLostBoth(device)) return [first, second];
  const lost = { state: 'damaged', why: 'it does not start with STATEFS, but frames of a store follow' } as const;
  return [lost, lost];
}

/** Where the first frames of a store stand, whatever its units are: below this. */
const FIRST_FRAMES_BYTES = 4 * 65_536;

/**
 * Whether there was a store on the device, whose superblocks are gone: nobody must be told to format it. Zeroes in place
 * of both are what an import leaves that was cut short: there is none yet.
 */
function hasLostBoth(device: BlockDevice): boolean {
  const buffer = new Uint8Array(device.sectorBytes);
  const view = viewOf(buffer);
  const places = [0, ...SPACING_UNITS.map((unit) => unit / device.sectorBytes)];
  const end = Math.min(device.sectorCount, FIRST_FRAMES_BYTES / device.sectorBytes);
  let hasContent = false;
  for (let sector = 0; sector < end; sector++) {
    try {
      device.read(sector, buffer);
    } catch (error) {
      if (codeOf(error) !== 'EIO') throw error;
      continue;
    }
    if (sector > 0 && view.getUint32(FRAME.magic, true) === FRAME_MAGIC) return hasContent;
    if (places.includes(sector)) hasContent ||= buffer.some((byte) => byte !== 0);
  }
  return false;
}

/** Reads one copy into `buffer`, a sector. An unreadable sector is a lost copy, not a failure. */
export function readCopy(
  device: BlockDevice,
  sector: number,
  copy: 0 | 1,
  buffer: Memory,
  checksums: boolean,
): SuperblockCopy {
  // An error that passes is no loss.
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      device.read(sector, buffer.bytes);
      return decodeSuperblock(buffer.bytes, copy, checksums, buffer.view);
    } catch (error) {
      if (codeOf(error) !== 'EIO') throw error;
    }
  }
  return { state: 'unreadable', why: 'the medium could not be read' };
}
