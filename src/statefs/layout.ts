/**
 * The bytes of statefs, format version 1, in one place. docs/storage/statefs.md shows these tables; a test holds the
 * two together. Everything is little-endian. Offsets are derived from sizes and never written by hand.
 */
import { invariant } from '../core/index.ts';

/** A field: name, size in bytes, meaning. */
export type Field = readonly [name: string, bytes: number, meaning: string];

function offsetsOf<Name extends string>(fields: readonly (readonly [Name, number, string])[]): Record<Name, number> {
  const offsets = {} as Record<Name, number>;
  let offset = 0;
  for (const [name, bytes] of fields) {
    offsets[name] = offset;
    offset += bytes;
  }
  return offsets;
}

/** The bytes that a list of fields takes up. */
function sizeOf(fields: readonly Field[]): number {
  return fields.reduce((sum, [, bytes]) => sum + bytes, 0);
}

export const FORMAT_VERSION = 1;

/** Bytes of a superblock that carry meaning; the checksum covers all of them. */
const SUPERBLOCK_BYTES = 512;
/** "STATEFS" and a zero byte, as two little-endian words. */
export const SUPERBLOCK_MAGIC_LOW = 0x54415453;
export const SUPERBLOCK_MAGIC_HIGH = 0x00534645;

export const SUPERBLOCK_FIELDS = [
  ['magicLow', 4, 'the letters STAT'],
  ['magicHigh', 4, 'the letters EFS and a zero byte'],
  ['version', 2, 'format version: 1'],
  ['copy', 1, 'which copy this is: 0 or 1'],
  ['flags', 1, 'bit 0: clean, the log ends exactly at the frontier'],
  ['incompatible', 4, 'feature bits that a reader must know: bit 0 moved, bit 1 long commits'],
  ['readCompatible', 4, 'feature bits that a writer must know: 0'],
  ['sectorBytes', 4, 'bytes in a sector of the device that was formatted'],
  ['unitBytes', 4, 'alignment of groups and extents: no two share a physical sector'],
  ['activeRegion', 4, 'the region that holds the log: 0 or 1'],
  ['sectorCount', 8, 'sectors of the partition'],
  ['storeId', 16, 'drawn at format; its CRC32-C seeds the checksum of every frame'],
  ['generation', 8, 'counts superblock writes; the higher of two valid copies is current'],
  ['epoch', 8, 'the life of the log that may append from the frontier on'],
  ['frontierSector', 8, 'every group below this sector was durable when this copy was written'],
  ['frontierSequence', 8, 'the last sequence number below the frontier'],
  ['payloadFloor', 8, 'lowest sector of any extent named below the frontier'],
  ['regionEpoch', 8, 'lowest epoch of a frame in the active region; 0: any'],
  ['lostSequence', 8, 'a group with unknown keys was lost at this number and left behind by a move; 0: none'],
] as const;

export const SUPERBLOCK: Readonly<Record<(typeof SUPERBLOCK_FIELDS)[number][0], number>> = offsetsOf(SUPERBLOCK_FIELDS);
/** CRC32-C of bytes 0..507, at the end. Bytes in between are zero. */
export const SUPERBLOCK_CRC_OFFSET: number = SUPERBLOCK_BYTES - 4;
export const SUPERBLOCK_FLAG_CLEAN = 1;

/** The log has moved to the other region at least once: region 1 may be active, and groups may hold moved records. */
export const FEATURE_MOVED = 1;
/** A transaction whose commit takes more than one sector was written. */
export const FEATURE_LONG_COMMITS = 2;
/** What a reader of this version knows. */
export const KNOWN_FEATURES: number = FEATURE_MOVED | FEATURE_LONG_COMMITS;

/** Words of a frame that its header keeps for the sector edges inside it: a frame has at most this many and one sectors. */
const DISPLACED_WORDS = 3;

export const FRAME_FIELDS = [
  ['magic', 4, 'the bytes SFrm'],
  ['type', 1, '1 temp, 2 commit, 3 payload, 4 checkpoint (reserved)'],
  ['flags', 1, 'bit 0: last of its type in the group; bit 1: ordered commit; bit 2: moved'],
  ['bodyBytes', 2, 'bytes after the header'],
  ['epoch', 4, 'the life of the log that wrote it'],
  ['index', 4, 'number of the frame among those of its type in the group, from 0'],
  ['sequence', 8, 'number of the group; grows along the log'],
  ['sector', 8, 'where the frame stands'],
  ['durableSequence', 8, 'every group up to this one was durable before this frame was issued'],
  ['windowSectors', 4, 'sectors from this frame to the end of what was issued with it'],
  ['displaced', 12, 'the first word of sectors 1, 2, 3 of the frame, where a mark stands instead'],
  ['bodyCrc', 4, 'CRC32-C of the body as it stands on the disk'],
  ['headerCrc', 4, 'CRC32-C of the header up to here'],
] as const;

export const FRAME: Readonly<Record<(typeof FRAME_FIELDS)[number][0], number>> = offsetsOf(FRAME_FIELDS);
export const FRAME_HEADER_BYTES = 64;
/** "SFrm". */
export const FRAME_MAGIC = 0x6d724653;
/** "SFc." stands at each sector edge inside a frame: bytes of users never do, so no payload can pose as a frame. */
export const CONTINUATION_MARK = 0x2e634653;

export const FRAME_TEMP = 1;
export const FRAME_COMMIT = 2;
export const FRAME_PAYLOAD = 3;
export const FRAME_CHECKPOINT = 4;

export const FLAG_LAST = 1;
export const FLAG_ORDERED = 2;
/** The group was moved by compaction: each temp frame keeps the sequence number that its record always had. */
export const FLAG_MOVED = 4;

export const TEMP_FIELDS = [
  ['kind', 1, '1 put, 2 delete, 3 lost'],
  ['flags', 1, 'bit 0: the payload stands in an extent'],
  ['keyBytes', 2, 'bytes of the key'],
  ['envelopeBytes', 2, 'bytes of the envelope; 0 for a delete'],
  ['reserved', 2, 'zero'],
  ['payloadBytes', 4, 'bytes of the payload'],
  ['extentFrames', 4, 'payload frames in the extent; 0 where it stands inline'],
  ['extentSector', 8, 'first sector of the extent; 0 where it stands inline'],
] as const;

export const TEMP: Readonly<Record<(typeof TEMP_FIELDS)[number][0], number>> = offsetsOf(TEMP_FIELDS);
/** Key, envelope and an inline payload follow. */
export const TEMP_BYTES: number = sizeOf(TEMP_FIELDS);

export const COMMIT_FIELDS = [
  ['groupSector', 8, 'first sector of the group that it commits'],
  ['payloadFloor', 8, 'lowest sector of any extent up to this group'],
  ['entryCount', 2, 'entries in this frame'],
  ['operationCount', 2, 'operations of the whole group'],
  ['firstEntry', 2, 'number of the first entry among those of the group'],
  ['reserved', 2, 'zero'],
] as const;

export const COMMIT: Readonly<Record<(typeof COMMIT_FIELDS)[number][0], number>> = offsetsOf(COMMIT_FIELDS);
export const COMMIT_BYTES: number = sizeOf(COMMIT_FIELDS);

export const ENTRY_FIELDS = [
  ['kind', 1, '1 put, 2 delete, 3 lost'],
  ['reserved', 1, 'zero'],
  ['keyBytes', 2, 'bytes of the key'],
  ['payloadBytes', 4, 'bytes of the payload'],
  ['extentSector', 8, 'as in the temp frame'],
  ['digest', 32, 'SHA-256 of the payload; zeros without one'],
] as const;

export const ENTRY: Readonly<Record<(typeof ENTRY_FIELDS)[number][0], number>> = offsetsOf(ENTRY_FIELDS);
/** The key follows. */
export const ENTRY_BYTES: number = sizeOf(ENTRY_FIELDS);

export const KIND_PUT = 1;
export const KIND_DELETE = 2;
/** A key whose value was found damaged by compaction: it is carried along, so that the loss stays reported. */
export const KIND_LOST = 3;
export const TEMP_FLAG_EXTENT = 1;
export const DIGEST_BYTES = 32;

/** Distance of the two superblock copies: never in one physical sector, nor in one 4 KiB page. */
export const SUPERBLOCK_SPACING_BYTES = 4096;
/** A frame is at most this long, or one sector where sectors are larger. */
export const FRAME_TARGET_BYTES = 2048;
/** A new frontier is recorded before the log runs further than this past the last one: it bounds the search for a tail. */
export const FRONTIER_STRIDE_BYTES = 32_768;
/** Operations in one group. */
export const MAX_GROUP_OPERATIONS = 64;
/** Longest key, in bytes of UTF-8. */
export const MAX_KEY_BYTES = 255;
/** No payload is larger, whatever the budget says. */
export const MAX_PAYLOAD_BYTES: number = 64 * 1024 * 1024;
/** Epochs are 32-bit in frames. */
export const MAX_EPOCH = 0xffff_ffff;
/** Deletes that a full store has room for without compaction, at most: see `reservedSectors`. */
export const RESERVED_DELETES = 16;

invariant(sizeOf(FRAME_FIELDS) === FRAME_HEADER_BYTES, 'the frame header fills 64 bytes');
invariant(sizeOf(SUPERBLOCK_FIELDS) <= SUPERBLOCK_CRC_OFFSET, 'the superblock leaves room for its checksum');
invariant(
  FRAME_HEADER_BYTES + COMMIT_BYTES + ENTRY_BYTES + MAX_KEY_BYTES <= 512,
  'the commit of one operation fits into the smallest sector: it is never torn between sectors',
);
invariant(
  FRAME_TARGET_BYTES / 512 - 1 === DISPLACED_WORDS,
  'the longest frame has a displaced word for each edge inside',
);
