import { type Choices, invariant, undisturbed } from '../core/index.ts';
import { afterPowerCut, type MediaState, mended, noMediaFaults } from './media.ts';
import type { DiskProfile } from './profiles.ts';
import { SectorIndex } from './sector-index.ts';
import { type SlotDelta, SlotTable } from './slot-table.ts';
import { VersionLists, type VersionMark } from './version-lists.ts';
import { NO_NODE } from './version-nodes.ts';
import { ZERO_VERSION } from './version-pool.ts';

/** Which version the sector has is decided when it is first read. */
const OPEN = 1;
/** Whether its physical sector was damaged is open, too. */
const DAMAGE_OPEN = 2;
/** Has a write that no flush has covered. */
const DIRTY = 4;
/** Discarded: a flush does not decide whether it kept its content. */
const DISCARDED = 8;
/** Is in the list of slots for the next flush or cut. */
const LISTED = 16;

/** How an open sector, or its physical sector, turned out when it was first touched. */
export interface Resolution {
  /** The first of the physical sector for `damaged` and `intact`. */
  readonly sector: number;
  /** `version`: one of its versions; `damaged` or `intact`: the fate of its physical sector. */
  readonly kind: 'version' | 'damaged' | 'intact';
  /** The version kept, 0 the newest. */
  readonly index: number;
  /** Of how many. */
  readonly versionCount: number;
  /** Number of the write that the kept version comes from; 0 for what was durable; negative where that write tore. */
  readonly stamp: number;
  /** Numbers of the later writes to this sector, which did not make it. */
  readonly lostStamps: readonly number[];
}

/** A state to come back to. Owned by the one who made it. */
export interface Checkpoint {
  readonly journal: number;
  readonly pending: readonly number[];
  readonly dirtyCount: number;
  readonly stamp: number;
  readonly cutStamp: number;
  readonly memory: VersionMark;
  readonly media: MediaState;
}

/** What a run changed, up to a moment: enough to go back there. Valid until the arenas are rewound below it. */
export interface StateDelta {
  readonly slots: SlotDelta;
  readonly pending: readonly number[];
  readonly dirtyCount: number;
  readonly stamp: number;
  readonly cutStamp: number;
  readonly media: MediaState;
}

/**
 * The disk model: for each sector what is durable and the versions written since, newest first; after a cut, which of
 * them it is stays open until somebody reads it. Live disks and the exploration share it.
 *
 * Versions are distinct by exact comparison of their bytes. Ranges are the caller's to check.
 */
export class DiskState {
  readonly profile: DiskProfile;
  readonly sectorCount: number;
  /** Answers what is open. */
  choices: Choices = undisturbed;
  /** Is told of every answer. */
  onResolve: ((resolution: Resolution) => void) | undefined;
  /** What is wrong with the medium. Kept with the rest of the state; MediaOverlay gives it its effect. */
  media: MediaState = noMediaFaults;
  readonly #sectorBytes: number;
  /** Sectors that are damaged together. */
  readonly #groupSectors: number;
  readonly #recycle: boolean;
  #index: SectorIndex;
  #versions: VersionLists;
  #table: SlotTable;
  #scratch = new Uint8Array(0);
  #pending: number[] = [];
  #dirtyCount = 0;
  #stamp = 0;
  #cutStamp = 0;

  /** @param recycle reuse the memory of versions that are gone; a state that is explored keeps them */
  constructor(profile: DiskProfile, sectorCount: number, recycle: boolean) {
    this.profile = profile;
    this.sectorCount = sectorCount;
    this.#sectorBytes = profile.sectorBytes;
    this.#groupSectors = profile.damagesPhysicalSector ? profile.physicalSectorBytes / profile.sectorBytes : 1;
    this.#recycle = recycle;
    this.#index = new SectorIndex(sectorCount, this.#groupSectors);
    this.#versions = new VersionLists(profile, recycle);
    this.#table = new SlotTable(this.#index.slotCount);
  }

  /** Sectors with a write that no flush has covered. */
  get dirtyCount(): number {
    return this.#dirtyCount;
  }

  /** Number of the last write. */
  get stamp(): number {
    return this.#stamp;
  }

  /** Versions that memory is held for. */
  get memoryVersions(): number {
    return this.#versions.size;
  }

  /** Fills `target` from `sector` on; decides what is open there. */
  read(sector: number, target: Uint8Array): void {
    const table = this.#table;
    const { dense } = this.#index;
    for (let at = 0; at < target.length; at += this.#sectorBytes, sector++) {
      const slot = dense ? sector : this.#index.find(sector);
      if (slot < 0) {
        target.fill(0, at, at + this.#sectorBytes);
        continue;
      }
      if ((table.flags[slot]! & OPEN) !== 0) this.#resolve(slot);
      target.set(this.#versions.view(table.top[slot]!), at);
    }
  }

  /** Decides what is open in these sectors, as a read does. */
  touch(sector: number, sectorCount: number): void {
    for (let i = 0; i < sectorCount; i++) {
      const slot = this.#index.find(sector + i);
      if (slot >= 0 && (this.#table.flags[slot]! & OPEN) !== 0) this.#resolve(slot);
    }
  }

  /** Adds a version to each sector that `source` covers. */
  write(sector: number, source: Uint8Array): void {
    this.#stamp++;
    for (let at = 0; at < source.length; at += this.#sectorBytes) {
      const version = this.#versions.add(source, at);
      if (!this.#stage(this.#claim(sector++), version)) this.#versions.forget(version);
    }
  }

  /** Adds a version of zeros to each sector. */
  writeZeroes(sector: number, sectorCount: number): void {
    this.#stamp++;
    this.#forWritten(sector, sectorCount, (written) => this.#stage(this.#claim(written), ZERO_VERSION));
  }

  /** The sectors read as zeros from now on; after a cut, flushed or not, as zeros or as before, until written again. */
  discard(sector: number, sectorCount: number): void {
    this.#stamp++;
    this.#forWritten(sector, sectorCount, (written) => this.#discard(this.#claim(written)));
  }

  /** A flush: what is newest is durable. */
  settleAll(): void {
    let kept = 0;
    for (let i = 0; i < this.#pending.length; i++) {
      const slot = this.#pending[i]!;
      this.#settle(slot);
      if ((this.#table.flags[slot]! & DISCARDED) !== 0) this.#pending[kept++] = slot;
      else this.#setFlags(slot, this.#table.flags[slot]! & ~LISTED);
    }
    this.#pending.length = kept;
  }

  /** A flush that failed for good: what was to become durable is given up; no later flush decides about it. */
  abandon(): void {
    for (const slot of this.#pending) {
      const flags = this.#table.flags[slot]!;
      if ((flags & DIRTY) === 0) continue;
      this.#dirtyCount--;
      this.#setFlags(slot, (flags & ~DIRTY) | DISCARDED);
    }
  }

  /** FUA, write-through: what is newest in these sectors is durable. */
  settle(sector: number, sectorCount: number): void {
    for (let i = 0; i < sectorCount; i++) {
      const slot = this.#index.find(sector + i);
      if (slot >= 0) this.#settle(slot);
    }
  }

  /** The power fails: each unsettled sector becomes open. */
  cut(): void {
    const table = this.#table;
    const pending = this.#pending;
    this.#pending = [];
    for (const slot of pending) {
      const flags = table.flags[slot]!;
      if ((flags & DIRTY) !== 0 && this.#groupSectors > 1) this.#openGroup(slot);
      const open = table.list[slot] === NO_NODE ? 0 : OPEN;
      this.#setFlags(slot, (table.flags[slot]! & ~(DIRTY | DISCARDED | LISTED)) | open);
    }
    this.#dirtyCount = 0;
    this.#cutStamp = this.#stamp;
    this.media = afterPowerCut(this.media);
  }

  /**
   * Decides every open sector, without asking: the newest version that `limitStamp` allows, untorn, else the oldest.
   * Nothing is damaged.
   */
  resolveAll(limitStamp: number): void {
    const { list, flags } = this.#table;
    for (let slot = 0; slot < this.#index.slotCount; slot++) {
      if ((flags[slot]! & OPEN) === 0) continue;
      this.#setFlags(slot, flags[slot]! & ~DAMAGE_OPEN);
      if (list[slot] === NO_NODE) this.#setFlags(slot, flags[slot]! & ~OPEN);
      else this.#keepUpTo(slot, limitStamp);
    }
  }

  /** How many versions a sector has: 1 when it is settled. */
  versionCount(sector: number): number {
    const slot = this.#index.find(sector);
    return slot < 0 ? 1 : this.#distinct(slot);
  }

  /** A copy of the `index`-th version of a sector, 0 the newest. */
  versionBytes(sector: number, index: number): Uint8Array {
    const slot = this.#index.find(sector);
    if (slot < 0) return new Uint8Array(this.#sectorBytes);
    const head = this.#table.list[slot]!;
    const version =
      head === NO_NODE ? this.#table.top[slot]! : this.#versions.versionAt(this.#versions.pick(head, index));
    return this.#versions.view(version).slice();
  }

  /** Whether a sector that is decided reads as zeros for certain: never written, or only with zeros. */
  isBlank(sector: number): boolean {
    const slot = this.#index.find(sector);
    if (slot < 0) return true;
    return this.#table.top[slot] === ZERO_VERSION && this.#table.list[slot] === NO_NODE;
  }

  /** The number of the version that a read of a decided sector gives. */
  topVersion(sector: number): number {
    const slot = this.#index.find(sector);
    return slot < 0 ? ZERO_VERSION : this.#table.top[slot]!;
  }

  /** Whether reads of the sectors from `sector` on, all decided, give these versions: `count` of `versions` from `at`. */
  hasVersions(sector: number, versions: Int32Array, at: number, count: number): boolean {
    for (let i = 0; i < count; i++) if (this.topVersion(sector + i) !== versions[at + i]) return false;
    return true;
  }

  /** What the sector held before its last write; undefined where memory is reused and it is not remembered. */
  previousBytes(sector: number): Uint8Array | undefined {
    const slot = this.#index.find(sector);
    return slot < 0 || this.#recycle ? undefined : this.#versions.view(this.#table.previous[slot]!).slice();
  }

  /** Sectors that a flush or a cut now would decide: written or discarded since. */
  pendingSectors(): number[] {
    return this.#pendingSlots().map((slot) => this.#index.sectorOf(slot));
  }

  /** The first sector of each group that is decided together and has one of `sectors`. */
  groupsOf(sectors: readonly number[]): Set<number> {
    return new Set(sectors.map((sector) => sector - (sector % this.#groupSectors)));
  }

  /** The groups that a flush or a cut now would decide, each once, by their first slots. */
  pendingGroups(): ArrayLike<number> {
    return this.#groupsOfSlots(this.#pendingSlots());
  }

  /** The groups that a delta changes, each once, by their first slots. */
  changedGroups(delta: StateDelta): ArrayLike<number> {
    return this.#groupsOfSlots(delta.slots.slots);
  }

  /** After a cut: in how many ways a group can turn out. */
  imagesOfGroup(firstSlot: number): number | bigint {
    if (this.#groupSectors === 1) return this.#distinct(firstSlot);
    let images: number | bigint = 1;
    for (let slot = firstSlot; slot < firstSlot + this.#groupSectors; slot++) {
      images = product(images, this.#distinct(slot));
    }
    if ((this.#table.flags[firstSlot]! & DAMAGE_OPEN) === 0) return images;
    return typeof images === 'bigint' ? images + 1n : images + 1;
  }

  /** Starts, or nests, an undo scope. */
  checkpoint(): Checkpoint {
    invariant(!this.#recycle, 'a state that recycles its memory cannot go back');
    const pending = this.#pending;
    this.#pending = pending.slice();
    return {
      journal: this.#table.checkpoint(),
      pending,
      dirtyCount: this.#dirtyCount,
      stamp: this.#stamp,
      cutStamp: this.#cutStamp,
      memory: this.#versions.mark,
      media: this.media,
    };
  }

  /** Goes back. What was written since stays in memory, so that deltas taken since stay valid, until `rewind`. */
  undo(checkpoint: Checkpoint): void {
    this.#table.undo(checkpoint.journal);
    this.#pending = checkpoint.pending.slice();
    this.#dirtyCount = checkpoint.dirtyCount;
    this.#stamp = checkpoint.stamp;
    this.#cutStamp = checkpoint.cutStamp;
    this.media = checkpoint.media;
  }

  /**
   * Takes back the memory of what was written since.
   * @param keeps leave versions that are likely to be written again, within bounds, so that they keep their numbers
   */
  rewind(checkpoint: Checkpoint, keeps: boolean = false): void {
    this.#versions.rewind(checkpoint.memory, keeps);
  }

  /** As long as this is the same, the same version number means the same bytes. */
  get versionLife(): number {
    return this.#versions.takenBack;
  }

  /** What changed since the checkpoint. */
  capture(checkpoint: Checkpoint): StateDelta {
    return {
      slots: this.#table.capture(checkpoint.journal),
      pending: this.#pending.slice(),
      dirtyCount: this.#dirtyCount,
      stamp: this.#stamp,
      cutStamp: this.#cutStamp,
      media: this.media,
    };
  }

  /** Goes from the checkpoint's state to the captured one. */
  apply(delta: StateDelta): void {
    this.#table.apply(delta.slots);
    this.#pending = delta.pending.slice();
    this.#dirtyCount = delta.dirtyCount;
    this.#stamp = delta.stamp;
    this.#cutStamp = delta.cutStamp;
    this.media = delta.media;
  }

  /** Bytes to read into, with anything in them: the caller's until the next call. */
  scratch(byteCount: number): Uint8Array {
    if (this.#scratch.length < byteCount) this.#scratch = new Uint8Array(byteCount);
    return this.#scratch.subarray(0, byteCount);
  }

  /** Keeps the bytes of `source` for {@link replayWrite}: a version for each sector. */
  intern(source: Uint8Array): readonly number[] {
    const versions: number[] = [];
    for (let at = 0; at < source.length; at += this.#sectorBytes) versions.push(this.#versions.add(source, at));
    return versions;
  }

  /** A write of interned versions. */
  replayWrite(sector: number, versions: readonly number[]): void {
    this.#stamp++;
    for (let i = 0; i < versions.length; i++) this.#stage(this.#claim(sector + i), versions[i]!);
  }

  /** A copy of the bytes of an interned version. */
  internedBytes(version: number): Uint8Array {
    return this.#versions.view(version).slice();
  }

  /** Forgets everything: each sector is zeros, and durable. The memory is kept, for what comes. */
  reset(): void {
    invariant(this.#recycle, 'a state that is explored is not forgotten');
    this.#index = new SectorIndex(this.sectorCount, this.#groupSectors);
    this.#versions.reset();
    this.#table.clear();
    this.#pending = [];
    this.#dirtyCount = 0;
    this.#stamp = 0;
    this.#cutStamp = 0;
    this.media = noMediaFaults;
  }

  clone(): DiskState {
    const copy = new DiskState(this.profile, this.sectorCount, this.#recycle);
    copy.#index = this.#index.clone();
    copy.#versions = this.#versions.clone();
    copy.#table = this.#table.clone();
    copy.#pending = this.#pending.slice();
    copy.#dirtyCount = this.#dirtyCount;
    copy.#stamp = this.#stamp;
    copy.#cutStamp = this.#cutStamp;
    copy.media = this.media;
    return copy;
  }

  #claim(sector: number): number {
    if (this.#index.dense) return sector;
    const slot = this.#index.claim(sector);
    this.#table.grow(this.#index.slotCount);
    return slot;
  }

  #distinct(slot: number): number {
    return this.#versions.distinct(this.#table.list[slot]!);
  }

  #setFlags(slot: number, flags: number): void {
    if (this.#table.flags[slot] === flags) return;
    this.#table.touch(slot);
    this.#table.flags[slot] = flags;
  }

  /**
   * Visits the sectors of a range; of a disk too large for a slot a sector, those that have one. The others read as
   * zeros already, and a request to zero the rest of such a disk must not cost its size.
   */
  #forWritten(sector: number, sectorCount: number, visit: (sector: number) => void): void {
    const { dense, slotCount } = this.#index;
    if (dense || sectorCount < slotCount) {
      for (let i = sector; i < sector + sectorCount; i++) if (this.#index.find(i) >= 0) visit(i);
      return;
    }
    for (let slot = 0; slot < slotCount; slot++) {
      const written = this.#index.sectorOf(slot);
      if (written >= sector && written < sector + sectorCount) visit(written);
    }
  }

  /** A discard is no write under way: it makes nothing dirty, and a flush has nothing to make durable. */
  #discard(slot: number): void {
    const wasDirty = this.#table.flags[slot]! & DIRTY;
    this.#stage(slot, ZERO_VERSION);
    if (wasDirty === 0) this.#dirtyCount--;
    this.#table.flags[slot] = (this.#table.flags[slot]! & ~DIRTY) | wasDirty | DISCARDED;
  }

  /**
   * Makes `version` the newest of the slot.
   * @returns false where an equal version serves instead
   */
  #stage(slot: number, version: number): boolean {
    const table = this.#table;
    // To write part of a physical sector, the disk reads the rest of it first: its fate shows here at the latest.
    if ((table.flags[slot]! & DAMAGE_OPEN) !== 0) this.#decideDamage(slot);
    table.touch(slot);
    const flags = table.flags[slot]!;
    const [list, top] = [table.list[slot]!, table.top[slot]!];
    const twin = this.#versions.twinOf(list, top, version);
    if (this.media.active.length > 0) {
      // A harmed version that a cut may bring back is still harmed then.
      this.media = mended(this.media, this.#index.sectorOf(slot), this.#recycle ? undefined : twin);
    }
    if (twin !== top) table.previous[slot] = top;
    if (twin !== top || (flags & OPEN) !== 0) {
      table.list[slot] = this.#versions.push(list, top, twin, this.#stamp, this.#cutStamp);
      table.top[slot] = twin;
    }
    if ((flags & DIRTY) === 0) this.#dirtyCount++;
    if ((flags & LISTED) === 0) this.#pending.push(slot);
    table.flags[slot] = (flags & ~(OPEN | DISCARDED)) | DIRTY | LISTED;
    return twin === version;
  }

  /** The slot keeps its top only, unless it was discarded. */
  #settle(slot: number): void {
    const table = this.#table;
    const flags = table.flags[slot]!;
    if ((flags & DIRTY) === 0) return;
    this.#dirtyCount--;
    table.touch(slot);
    table.flags[slot] = flags & ~DIRTY;
    if ((flags & DISCARDED) === 0) this.#dropList(slot);
  }

  /** Only `top` remains of the slot's list. */
  #dropList(slot: number): void {
    this.#versions.drop(this.#table.list[slot]!, this.#table.top[slot]!);
    this.#table.list[slot] = NO_NODE;
  }

  #pendingSlots(): number[] {
    return this.#pending.filter((slot) => (this.#table.flags[slot]! & (DIRTY | DISCARDED)) !== 0);
  }

  #groupsOfSlots(slots: ArrayLike<number>): ArrayLike<number> {
    if (this.#groupSectors === 1) return slots;
    const groups = new Set<number>();
    for (let i = 0; i < slots.length; i++) groups.add(this.#firstOfGroup(slots[i]!));
    return [...groups];
  }

  #firstOfGroup(slot: number): number {
    return slot - (slot % this.#groupSectors);
  }

  #openGroup(slot: number): void {
    const first = this.#firstOfGroup(slot);
    for (let i = first; i < first + this.#groupSectors; i++) {
      this.#setFlags(i, this.#table.flags[i]! | OPEN | DAMAGE_OPEN);
    }
  }

  #resolve(slot: number): void {
    const versionCount = this.#distinct(slot);
    const damageOpen = (this.#table.flags[slot]! & DAMAGE_OPEN) !== 0;
    const index = damageOpen
      ? this.choices.choose(versionCount + 1, 'sector version, or damage')
      : this.choices.choose(versionCount, 'sector version');
    if (index === versionCount) {
      this.#damageGroup(slot);
      return;
    }
    if (damageOpen) this.#spareGroup(slot);
    if (versionCount > 1) this.#keep(slot, this.#versions.pick(this.#table.list[slot]!, index), index);
  }

  #decideDamage(slot: number): void {
    if (this.choices.choose(2, 'physical sector intact, or damaged') === 1) {
      this.#damageGroup(slot);
    } else {
      this.#spareGroup(slot);
    }
  }

  #damageGroup(slot: number): void {
    const first = this.#firstOfGroup(slot);
    const table = this.#table;
    for (let i = first; i < first + this.#groupSectors; i++) {
      table.touch(i);
      table.top[i] = this.#versions.noiseVersion(i, this.#index.sectorOf(i));
      this.#dropList(i);
      table.flags[i] = table.flags[i]! & ~(OPEN | DAMAGE_OPEN);
    }
    this.#reportGroup(slot, 'damaged');
  }

  #spareGroup(slot: number): void {
    const first = this.#firstOfGroup(slot);
    for (let i = first; i < first + this.#groupSectors; i++) {
      const settled = this.#table.list[i] === NO_NODE ? OPEN : 0;
      this.#setFlags(i, this.#table.flags[i]! & ~(DAMAGE_OPEN | settled));
    }
    this.#reportGroup(slot, 'intact');
  }

  #keep(slot: number, node: number, index: number): void {
    const table = this.#table;
    if (this.onResolve !== undefined) this.#reportVersion(slot, node, index);
    table.touch(slot);
    table.top[slot] = this.#versions.versionAt(node);
    table.flags[slot] = table.flags[slot]! & ~OPEN;
    this.#dropList(slot);
  }

  #keepUpTo(slot: number, limitStamp: number): void {
    const head = this.#table.list[slot]!;
    const node = this.#versions.newestUpTo(head, limitStamp);
    this.#keep(slot, node, this.#versions.distinct(head) - this.#versions.distinct(node));
  }

  #reportVersion(slot: number, kept: number, index: number): void {
    const lostStamps = this.#versions.stampsBefore(this.#table.list[slot]!, kept);
    const sector = this.#index.sectorOf(slot);
    const versionCount = this.#distinct(slot);
    const stamp = this.#versions.stampAt(kept);
    this.onResolve?.({ sector, kind: 'version', index, versionCount, stamp, lostStamps });
  }

  #reportGroup(slot: number, kind: 'damaged' | 'intact'): void {
    const sector = this.#index.sectorOf(this.#firstOfGroup(slot));
    this.onResolve?.({ sector, kind, index: 0, versionCount: 1, stamp: 0, lostStamps: [] });
  }
}

/** A product that does not lose a digit. */
function product(a: number | bigint, b: number): number | bigint {
  if (typeof a === 'number' && a * b < Number.MAX_SAFE_INTEGER) return a * b;
  return BigInt(a) * BigInt(b);
}
