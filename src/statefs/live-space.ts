import type { FrameCodec } from './frame.ts';
import { alignUp, type StoreGeometry } from './geometry.ts';
import type { PlannedOperation } from './group.ts';
import { type IndexEntry, keyBytesOf } from './index-entry.ts';
import {
  COMMIT_BYTES,
  ENTRY_BYTES,
  FRAME_HEADER_BYTES,
  KIND_DELETE,
  MAX_GROUP_OPERATIONS,
  MAX_KEY_BYTES,
  RESERVED_DELETES,
} from './layout.ts';
import type { PayloadStore } from './payload.ts';

/**
 * How much of a region the live records need once they are moved: an upper bound, from sums that each change of the
 * index keeps up. A change is let in only if all that would then be live fits into the other region.
 */
export class LiveSpace {
  readonly #codec: FrameCodec;
  readonly #geometry: StoreGeometry;
  readonly #payloads: PayloadStore;
  /** Bytes of entries that a full commit frame holds at least. */
  readonly #frameEntryBytes: number;
  #count = 0;
  /** Of temp frames and extents. */
  #sectors = 0;
  #entryBytes = 0;

  constructor(codec: FrameCodec, geometry: StoreGeometry, payloads: PayloadStore) {
    this.#codec = codec;
    this.#geometry = geometry;
    this.#payloads = payloads;
    const frameBytes = geometry.frameSectors * geometry.sectorBytes;
    this.#frameEntryBytes = frameBytes - FRAME_HEADER_BYTES - COMMIT_BYTES - ENTRY_BYTES - MAX_KEY_BYTES;
  }

  /** Nothing is live. */
  fresh(): LiveSpace {
    return new LiveSpace(this.#codec, this.#geometry, this.#payloads);
  }

  add(entry: IndexEntry): void {
    this.#count++;
    this.#sectors += this.sectorsOf(entry);
    this.#entryBytes += ENTRY_BYTES + keyBytesOf(entry);
  }

  remove(entry: IndexEntry): void {
    this.#count--;
    this.#sectors -= this.sectorsOf(entry);
    this.#entryBytes -= ENTRY_BYTES + keyBytesOf(entry);
  }

  /** What a region must have for the live records. */
  get boundSectors(): number {
    return this.#bound(this.#count, this.#sectors, this.#entryBytes);
  }

  /**
   * The same, with `operations` done.
   * @param existing the entry that each of them replaces
   */
  boundAfter(
    operations: readonly PlannedOperation[],
    existing: (key: string) => IndexEntry | undefined,
  ): { readonly keys: number; readonly sectors: number } {
    let count = this.#count;
    let sectors = this.#sectors;
    let bytes = this.#entryBytes;
    for (const { operation, tempSectors, extent } of operations) {
      const { key, keyBytes, kind } = operation;
      const old = existing(key);
      if (old !== undefined) {
        count--;
        sectors -= this.sectorsOf(old);
        bytes -= ENTRY_BYTES + keyBytesOf(old);
      }
      if (kind === KIND_DELETE) continue;
      count++;
      sectors += tempSectors + (extent === undefined ? 0 : this.#extentSectors(extent.payloadBytes));
      bytes += ENTRY_BYTES + keyBytes.length;
    }
    return { keys: count, sectors: this.#bound(count, sectors, bytes) };
  }

  #bound(count: number, sectors: number, entryBytes: number): number {
    if (count === 0) return 0;
    const { frameSectors, unitSectors } = this.#geometry;
    // Two groups in a row hold more operations together than one may: so many groups at most.
    const groups = Math.floor((2 * count) / MAX_GROUP_OPERATIONS) + 1;
    const commitSectors = Math.ceil((entryBytes * frameSectors) / this.#frameEntryBytes) + 2 * groups;
    return sectors + commitSectors + groups * (unitSectors - 1);
  }

  /** Sectors of the entry's temp frame and extent. */
  sectorsOf(entry: IndexEntry): number {
    const extent = entry.extentFrames > 0 ? this.#extentSectors(entry.payloadBytes) : 0;
    return this.#codec.sectorsFor(entry.tempBodyBytes) + extent;
  }

  #extentSectors(payloadBytes: number): number {
    return alignUp(this.#payloads.sectorsFor(payloadBytes), this.#geometry.unitSectors, 0);
  }
}

/** Sectors that are kept free for the deletion of some of `liveKeys` keys: a full store still deletes. */
export function reservedSectors(geometry: StoreGeometry, liveKeys: number): number {
  const deleteSectors = alignUp(2, geometry.unitSectors, 0);
  // Two will do, since compaction turns what they delete into room for more; a small region can't spare many.
  const share = Math.floor(geometry.regionSectorCount / 8 / deleteSectors);
  return Math.min(liveKeys, Math.max(2, Math.min(RESERVED_DELETES, share))) * deleteSectors;
}
