/** Reading and writing the bodies of temp and commit frames. */
import { getU64, setU64 } from '../core/index.ts';
import { decodeKey } from './keys.ts';
import {
  COMMIT,
  COMMIT_BYTES,
  DIGEST_BYTES,
  ENTRY,
  ENTRY_BYTES,
  FRAME_HEADER_BYTES,
  KIND_LOST,
  KIND_PUT,
  MAX_GROUP_OPERATIONS,
  MAX_KEY_BYTES,
  MAX_PAYLOAD_BYTES,
  TEMP,
  TEMP_BYTES,
  TEMP_FLAG_EXTENT,
} from './layout.ts';

/** One operation as a temp frame tells it. Offsets count from the start of the frame. */
export interface TempRecord {
  readonly kind: number;
  readonly key: string;
  readonly envelopeOffset: number;
  readonly envelopeBytes: number;
  readonly payloadBytes: number;
  /** Payload frames in the extent; 0 where the payload follows the envelope. */
  readonly extentFrames: number;
  readonly extentSector: number;
}

/** One operation as a commit frame tells it. */
export interface CommitEntry {
  readonly kind: number;
  readonly key: string;
  readonly payloadBytes: number;
  readonly extentSector: number;
  /** SHA-256 of the payload, 32 bytes, the reader's own copy. */
  readonly digest: Uint8Array;
}

export interface CommitRecord {
  readonly groupSector: number;
  readonly payloadFloor: number;
  readonly operationCount: number;
  /** Number of the first entry among those of the group. */
  readonly firstEntry: number;
  readonly entries: readonly CommitEntry[];
}

/** What a writer puts into a temp frame. */
export interface TempContent {
  readonly kind: number;
  readonly keyBytes: Uint8Array;
  readonly envelope: Uint8Array;
  readonly payloadBytes: number;
  /** The payload, where it stands inline. */
  readonly inline: Uint8Array | undefined;
  readonly extentFrames: number;
  readonly extentSector: number;
}

/** Bytes of a temp frame's body. */
export function tempBodyBytes(keyBytes: number, envelopeBytes: number, inlineBytes: number): number {
  return TEMP_BYTES + keyBytes + envelopeBytes + inlineBytes;
}

/** Writes a temp frame's body at `at + 64`. @returns its length in bytes */
export function writeTempBody(buffer: Uint8Array, view: DataView, at: number, content: TempContent): number {
  const body = at + FRAME_HEADER_BYTES;
  view.setUint8(body + TEMP.kind, content.kind);
  view.setUint8(body + TEMP.flags, content.extentFrames > 0 ? TEMP_FLAG_EXTENT : 0);
  view.setUint16(body + TEMP.keyBytes, content.keyBytes.length, true);
  view.setUint16(body + TEMP.envelopeBytes, content.envelope.length, true);
  view.setUint16(body + TEMP.reserved, 0, true);
  view.setUint32(body + TEMP.payloadBytes, content.payloadBytes, true);
  view.setUint32(body + TEMP.extentFrames, content.extentFrames, true);
  setU64(view, body + TEMP.extentSector, content.extentSector);
  let end = body + TEMP_BYTES;
  buffer.set(content.keyBytes, end);
  end += content.keyBytes.length;
  buffer.set(content.envelope, end);
  end += content.envelope.length;
  if (content.inline !== undefined) {
    buffer.set(content.inline, end);
    end += content.inline.length;
  }
  return end - body;
}

/**
 * Reads a temp frame's body at `at + 64`, `bodyBytes` long and verified.
 * @returns undefined where it makes no sense, checksum or not
 */
export function readTempBody(
  buffer: Uint8Array,
  view: DataView,
  at: number,
  bodyBytes: number,
): TempRecord | undefined {
  if (bodyBytes < TEMP_BYTES) return undefined;
  const body = at + FRAME_HEADER_BYTES;
  const kind = view.getUint8(body + TEMP.kind);
  const keyBytes = view.getUint16(body + TEMP.keyBytes, true);
  const envelopeBytes = view.getUint16(body + TEMP.envelopeBytes, true);
  const payloadBytes = view.getUint32(body + TEMP.payloadBytes, true);
  const extentFrames = view.getUint32(body + TEMP.extentFrames, true);
  const extentSector = getU64(view, body + TEMP.extentSector);
  const inlineBytes = extentFrames > 0 ? 0 : payloadBytes;
  if (keyBytes > MAX_KEY_BYTES || payloadBytes > MAX_PAYLOAD_BYTES || extentSector < 0) return undefined;
  if (!isKind(kind) || (kind !== KIND_PUT && payloadBytes + envelopeBytes > 0)) return undefined;
  if (tempBodyBytes(keyBytes, envelopeBytes, inlineBytes) !== bodyBytes) return undefined;
  const keyStart = body + TEMP_BYTES;
  const key = decodeKey(buffer.subarray(keyStart, keyStart + keyBytes));
  if (key === undefined) return undefined;
  const envelopeOffset = FRAME_HEADER_BYTES + TEMP_BYTES + keyBytes;
  return { kind, key, envelopeOffset, envelopeBytes, payloadBytes, extentFrames, extentSector };
}

/** What a writer puts into a commit frame. */
export interface CommitContent {
  readonly groupSector: number;
  readonly payloadFloor: number;
  readonly operationCount: number;
  readonly firstEntry: number;
}

/** Starts a commit frame's body at `at + 64`; {@link appendEntry} adds to it. @returns its length in bytes */
export function writeCommitBody(view: DataView, at: number, content: CommitContent): number {
  const body = at + FRAME_HEADER_BYTES;
  setU64(view, body + COMMIT.groupSector, content.groupSector);
  setU64(view, body + COMMIT.payloadFloor, content.payloadFloor);
  view.setUint16(body + COMMIT.entryCount, 0, true);
  view.setUint16(body + COMMIT.operationCount, content.operationCount, true);
  view.setUint16(body + COMMIT.firstEntry, content.firstEntry, true);
  view.setUint16(body + COMMIT.reserved, 0, true);
  return COMMIT_BYTES;
}

/** What a writer says of one operation in a commit frame. */
export interface EntryContent {
  readonly kind: number;
  readonly keyBytes: Uint8Array;
  readonly payloadBytes: number;
  readonly extentSector: number;
  readonly digest: Uint8Array;
}

/** Adds an entry to the commit body at `at + 64`, `bodyBytes` long so far. @returns the new length in bytes */
export function appendEntry(
  buffer: Uint8Array,
  view: DataView,
  at: number,
  bodyBytes: number,
  entry: EntryContent,
): number {
  const body = at + FRAME_HEADER_BYTES;
  const start = body + bodyBytes;
  view.setUint8(start + ENTRY.kind, entry.kind);
  view.setUint8(start + ENTRY.reserved, 0);
  view.setUint16(start + ENTRY.keyBytes, entry.keyBytes.length, true);
  view.setUint32(start + ENTRY.payloadBytes, entry.payloadBytes, true);
  setU64(view, start + ENTRY.extentSector, entry.extentSector);
  buffer.set(entry.digest, start + ENTRY.digest);
  buffer.set(entry.keyBytes, start + ENTRY_BYTES);
  const count = view.getUint16(body + COMMIT.entryCount, true);
  view.setUint16(body + COMMIT.entryCount, count + 1, true);
  return bodyBytes + ENTRY_BYTES + entry.keyBytes.length;
}

/**
 * Reads a commit frame's body at `at + 64`, `bodyBytes` long and verified.
 * @returns undefined where it makes no sense, checksum or not
 */
export function readCommitBody(
  buffer: Uint8Array,
  view: DataView,
  at: number,
  bodyBytes: number,
): CommitRecord | undefined {
  if (bodyBytes < COMMIT_BYTES) return undefined;
  const body = at + FRAME_HEADER_BYTES;
  const groupSector = getU64(view, body + COMMIT.groupSector);
  const payloadFloor = getU64(view, body + COMMIT.payloadFloor);
  const entryCount = view.getUint16(body + COMMIT.entryCount, true);
  const operationCount = view.getUint16(body + COMMIT.operationCount, true);
  if (groupSector < 0 || payloadFloor < 0) return undefined;
  const firstEntry = view.getUint16(body + COMMIT.firstEntry, true);
  if (entryCount < 1 || firstEntry + entryCount > operationCount) return undefined;
  if (operationCount > MAX_GROUP_OPERATIONS) return undefined;
  const entries: CommitEntry[] = [];
  const end = body + bodyBytes;
  let start = body + COMMIT_BYTES;
  for (let i = 0; i < entryCount; i++) {
    const entry = readEntry(buffer, view, start, end);
    if (entry === undefined) return undefined;
    entries.push(entry.entry);
    start = entry.end;
  }
  return start === end ? { groupSector, payloadFloor, operationCount, firstEntry, entries } : undefined;
}

function isKind(kind: number): boolean {
  return kind >= KIND_PUT && kind <= KIND_LOST;
}

/** Bytes that an entry takes in a commit frame. */
export function entryBytes(keyBytes: number): number {
  return ENTRY_BYTES + keyBytes;
}

function readEntry(
  buffer: Uint8Array,
  view: DataView,
  start: number,
  end: number,
): { entry: CommitEntry; end: number } | undefined {
  if (start + ENTRY_BYTES > end) return undefined;
  const keyBytes = view.getUint16(start + ENTRY.keyBytes, true);
  const entryEnd = start + ENTRY_BYTES + keyBytes;
  if (entryEnd > end || keyBytes > MAX_KEY_BYTES) return undefined;
  const kind = view.getUint8(start + ENTRY.kind);
  const key = decodeKey(buffer.subarray(start + ENTRY_BYTES, entryEnd));
  const extentSector = getU64(view, start + ENTRY.extentSector);
  if (key === undefined || extentSector < 0 || !isKind(kind)) return undefined;
  const digestStart = start + ENTRY.digest;
  const entry: CommitEntry = {
    kind,
    key,
    payloadBytes: view.getUint32(start + ENTRY.payloadBytes, true),
    extentSector,
    digest: buffer.slice(digestStart, digestStart + DIGEST_BYTES),
  };
  return { entry, end: entryEnd };
}
