import { equalBytes, Sfc32 } from '../core/index.ts';
import type { DiskProfile } from './profiles.ts';
import { NO_NODE, VersionNodes } from './version-nodes.ts';
import { VersionPool } from './version-pool.ts';

/** How much memory of versions is in use; to be handed back to `rewind`. */
export interface VersionMark {
  readonly versions: number;
  readonly nodes: number;
}

/**
 * Versions made since a mark that are kept past a `rewind`: what one recovery writes the next writes again, and then has
 * the same number. 16 MiB of sectors of 512 bytes.
 */
const MAX_KEPT_VERSIONS = 1 << 15;

/**
 * The contents that sectors may have, and the lists of them. A version is a number: of bytes in a pool, or, negative, of
 * noise. A list is the number of its head; NO_NODE where there is one version only, which the caller knows.
 *
 * Where memory is not recycled, equal bytes are one version.
 */
export class VersionLists {
  readonly #profile: DiskProfile;
  readonly #recycle: boolean;
  #pool: VersionPool;
  #nodes = new VersionNodes();
  #noise = new Map<number, Uint8Array>();
  readonly #tornScratch: Uint8Array;
  #takenBack = 0;

  /** @param recycle reuse the memory of versions that are dropped */
  constructor(profile: DiskProfile, recycle: boolean) {
    this.#profile = profile;
    this.#recycle = recycle;
    this.#pool = new VersionPool(profile.sectorBytes, !recycle);
    this.#tornScratch = new Uint8Array(profile.sectorBytes);
  }

  /** Versions that memory is held for. */
  get size(): number {
    return this.#pool.size;
  }

  get mark(): VersionMark {
    return { versions: this.#pool.size, nodes: this.#nodes.size };
  }

  /** How often versions were taken back: their numbers mean the same as long as this is the same. */
  get takenBack(): number {
    return this.#takenBack;
  }

  /**
   * Takes back all lists made since, and the versions.
   * @param keeps leave versions, up to some number, with their numbers: they are likely to be made again
   */
  rewind(mark: VersionMark, keeps: boolean): void {
    this.#nodes.rewind(mark.nodes);
    if (keeps && this.#pool.size - mark.versions <= MAX_KEPT_VERSIONS) return;
    this.#pool.rewind(mark.versions);
    this.#takenBack++;
  }

  /** The bytes of a version: not to be written nor kept. */
  view(version: number): Uint8Array {
    return version >= 0 ? this.#pool.view(version) : this.#noise.get(-1 - version)!;
  }

  /** A copy of one sector of `source` as a version. */
  add(source: Uint8Array, offsetBytes: number): number {
    return this.#pool.add(source, offsetBytes);
  }

  /** Takes back a version that turned out not to be needed. */
  forget(version: number): void {
    if (this.#recycle) this.#pool.release(version);
  }

  /** What a damaged sector reads as: noise, a function of its address. `slot` is what the version is known by. */
  noiseVersion(slot: number, sector: number): number {
    let noise = this.#noise.get(slot);
    if (noise === undefined) {
      noise = new Uint8Array(this.#profile.sectorBytes);
      new Sfc32(sector).fill(noise);
      this.#noise.set(slot, noise);
    }
    return this.#pool.interns ? this.#pool.add(noise, 0) : -1 - slot;
  }

  distinct(list: number): number {
    return list === NO_NODE ? 1 : this.#nodes.distinct[list]!;
  }

  /** The version at a node. */
  versionAt(node: number): number {
    return this.#nodes.version[node]!;
  }

  /** The number of the write that made a node: 0 for what was durable, negative where it tore. */
  stampAt(node: number): number {
    return this.#nodes.stamp[node]!;
  }

  /** The node of the `index`-th distinct version, newest first. */
  pick(list: number, index: number): number {
    return this.#nodes.pick(list, index);
  }

  /** The node of the newest untorn version of a write up to `limitStamp`, else the oldest. */
  newestUpTo(list: number, limitStamp: number): number {
    let node = list;
    for (; this.#nodes.older[node] !== NO_NODE; node = this.#nodes.older[node]!) {
      const stamp = this.#nodes.stamp[node]!;
      if (stamp >= 0 && stamp <= limitStamp) break;
    }
    return node;
  }

  /** Numbers of the untorn writes that are newer than `node`. */
  stampsBefore(list: number, node: number): number[] {
    const stamps: number[] = [];
    for (let newer = list; newer !== node; newer = this.#nodes.older[newer]!) {
      if (this.#nodes.stamp[newer]! > 0) stamps.push(this.#nodes.stamp[newer]!);
    }
    return stamps;
  }

  /** The version of the list, or `top` of a sector without one, with the bytes of `version`; else `version` itself. */
  twinOf(list: number, top: number, version: number): number {
    if (this.#pool.interns) return version;
    const bytes = this.view(version);
    if (list === NO_NODE) return equalBytes(this.view(top), bytes) ? top : version;
    return this.#twinIn(list, bytes) ?? version;
  }

  /**
   * Puts a version on top.
   * @param cutStamp number of the last write before the last cut: what is as old may be on the medium
   */
  push(list: number, top: number, version: number, stamp: number, cutStamp: number): number {
    let head = list === NO_NODE ? this.#nodes.push(top, NO_NODE, 0) : list;
    if (this.#profile.tearStepBytes > 0) head = this.#pushTorn(head, version, stamp, cutStamp);
    return this.#nodes.push(version, head, stamp);
  }

  /** Gives back the memory of a list of which only `kept` remains. */
  drop(list: number, kept: number): void {
    if (!this.#recycle) return;
    for (let node = list; node !== NO_NODE; node = this.#nodes.older[node]!) {
      const version = this.#nodes.version[node]!;
      // A version that is in the list again, further on, is given back there.
      if (version !== kept && !this.#nodes.holds(this.#nodes.older[node]!, version)) {
        this.#pool.release(version);
      }
    }
    this.#nodes.release(list);
  }

  /** Takes back all versions and lists, and keeps their memory. */
  reset(): void {
    this.#pool.reset();
    this.#nodes = new VersionNodes();
    this.#noise.clear();
  }

  clone(): VersionLists {
    const copy = new VersionLists(this.#profile, this.#recycle);
    copy.#pool = this.#pool.clone();
    copy.#nodes = this.#nodes.clone();
    copy.#noise = new Map(this.#noise);
    return copy;
  }

  #twinIn(list: number, bytes: Uint8Array): number | undefined {
    for (let node = list; node !== NO_NODE; node = this.#nodes.older[node]!) {
      const version = this.#nodes.version[node]!;
      if (equalBytes(this.view(version), bytes)) return version;
    }
    return undefined;
  }

  /** The tears of `version` over all that the medium may hold: the one before it, and what a cut or a flush left. */
  #pushTorn(head: number, version: number, stamp: number, cutStamp: number): number {
    let list = head;
    for (let node = head; node !== NO_NODE; node = this.#nodes.older[node]!) {
      const wasDurable = Math.abs(this.#nodes.stamp[node]!) <= cutStamp;
      if (node === head || wasDurable) list = this.#pushTornOver(list, version, this.#nodes.version[node]!, stamp);
    }
    return list;
  }

  #pushTornOver(head: number, version: number, old: number, stamp: number): number {
    const { tearStepBytes, sectorBytes } = this.#profile;
    const torn = this.#tornScratch;
    torn.set(this.view(old));
    let list = head;
    for (let cut = tearStepBytes; cut < sectorBytes; cut += tearStepBytes) {
      torn.set(this.view(version).subarray(cut - tearStepBytes, cut), cut - tearStepBytes);
      const tear = this.#addTorn(list, version, torn);
      if (tear !== version) list = this.#nodes.push(tear, list, -stamp);
    }
    return list;
  }

  /** @returns the torn version; `version` itself where it is that, or there already */
  #addTorn(list: number, version: number, torn: Uint8Array): number {
    if (this.#pool.interns) {
      const tear = this.#pool.add(torn, 0);
      return this.#nodes.holds(list, tear) ? version : tear;
    }
    const isThere = equalBytes(torn, this.view(version)) || this.#twinIn(list, torn) !== undefined;
    return isThere ? version : this.#pool.add(torn, 0);
  }
}
