import { Sfc32 } from '../../src/core/index.ts';
import type { DiskProfile, Resolution } from '../../src/faults/index.ts';

/** Parts of a sector that a write may tear between: eight, which under `harsh` are 64 bytes each. */
export const PARTS = 8;

/** What a sector holds: a number for each part; or noise, of the sector of that number. */
export type Content = readonly number[] | { readonly noiseOf: number };

const ZEROS: Content = new Array<number>(PARTS).fill(0);

/** A write, or a part of it, that may be on the medium. `stamp`: the number of the write; 0: durable; negative: torn. */
interface Version {
  readonly content: Content;
  readonly stamp: number;
}

interface Sector {
  /** What a read gives; nothing while it is open. */
  top: Content;
  previous: Content;
  /** Newest first; empty: only `top`. */
  versions: Version[];
  isOpen: boolean;
  isDamageOpen: boolean;
  isDirty: boolean;
  isDiscarded: boolean;
}

const same = (a: Content, b: Content): boolean => JSON.stringify(a) === JSON.stringify(b);

/** The bytes of a content. */
export function bytesOf(content: Content, sectorBytes: number): Uint8Array {
  const bytes = new Uint8Array(sectorBytes);
  if ('noiseOf' in content) new Sfc32(content.noiseOf).fill(bytes);
  else
    for (const [part, value] of content.entries())
      bytes.fill(value, (part * sectorBytes) / PARTS, ((part + 1) * sectorBytes) / PARTS);
  return bytes;
}

/**
 * The disk model of docs/disk-model.md as plainly as it can be said: everything is copied, nothing is shared, nothing is
 * undone but by going back to a copy. Questions are answered by `ask`.
 */
export class PlainDisk {
  ask: (options: number) => number = () => 0;
  readonly resolutions: Resolution[] = [];
  stamp = 0;
  #cutStamp = 0;
  #sectors = new Map<number, Sector>();
  readonly #profile: DiskProfile;
  readonly #groupSectors: number;
  /** Whether sectors have a place from the start; otherwise with the first write to their group. */
  readonly #dense: boolean;

  constructor(profile: DiskProfile, sectorCount: number, dense: boolean) {
    this.#profile = profile;
    this.#dense = dense;
    this.#groupSectors = profile.damagesPhysicalSector ? profile.physicalSectorBytes / profile.sectorBytes : 1;
    if (dense) for (let sector = 0; sector < sectorCount; sector++) this.#claim(sector);
  }

  copy(): PlainDisk {
    const copy = new PlainDisk(this.#profile, 0, this.#dense);
    copy.become(this);
    return copy;
  }

  become(other: PlainDisk): void {
    this.stamp = other.stamp;
    this.#cutStamp = other.#cutStamp;
    this.#sectors = new Map(
      [...other.#sectors].map(([sector, one]) => [sector, { ...one, versions: [...one.versions] }]),
    );
  }

  /** Places are kept when the state goes back. */
  goBackTo(other: PlainDisk): void {
    const places = [...this.#sectors.keys()];
    this.become(other);
    for (const sector of places) this.#claim(sector);
  }

  get dirtyCount(): number {
    return [...this.#sectors.values()].filter(({ isDirty }) => isDirty).length;
  }

  get pending(): number[] {
    return [...this.#sectors]
      .filter(([, { isDirty, isDiscarded }]) => isDirty || isDiscarded)
      .map(([sector]) => sector)
      .sort((a, b) => a - b);
  }

  groupOf(sector: number): number {
    return sector - (sector % this.#groupSectors);
  }

  hasPlace(sector: number): boolean {
    return this.#sectors.has(sector);
  }

  top(sector: number): Content {
    return this.#sectors.get(sector)?.top ?? ZEROS;
  }

  previous(sector: number): Content | undefined {
    return this.#sectors.get(sector)?.previous;
  }

  isOpen(sector: number): boolean {
    const one = this.#sectors.get(sector);
    return one?.isOpen === true && (one.isDamageOpen || distinct(one).length > 1);
  }

  /** Those that it may turn out to have, newest first. */
  versions(sector: number): Content[] {
    const one = this.#sectors.get(sector);
    return one === undefined ? [ZEROS] : distinct(one);
  }

  hasList(sector: number): boolean {
    return (this.#sectors.get(sector)?.versions.length ?? 0) > 0;
  }

  imagesOfGroup(first: number): bigint {
    let images = 1n;
    for (let i = 0; i < this.#groupSectors; i++) images *= BigInt(this.versions(first + i).length);
    return this.#sectors.get(first)?.isDamageOpen === true ? images + 1n : images;
  }

  write(sector: number, contents: readonly Content[]): void {
    this.stamp++;
    for (const [i, content] of contents.entries()) this.#stage(sector + i, this.#claim(sector + i), content);
  }

  writeZeroes(sector: number, sectorCount: number): void {
    this.stamp++;
    for (const [at, one] of this.#within(sector, sectorCount)) this.#stage(at, one, ZEROS);
  }

  discard(sector: number, sectorCount: number): void {
    this.stamp++;
    for (const [at, one] of this.#within(sector, sectorCount)) {
      const { isDirty } = one;
      this.#stage(at, one, ZEROS);
      one.isDirty = isDirty;
      one.isDiscarded = true;
    }
  }

  flush(): void {
    for (const one of this.#sectors.values()) settle(one);
  }

  settle(sector: number, sectorCount: number): void {
    for (let i = 0; i < sectorCount; i++) {
      const one = this.#sectors.get(sector + i);
      if (one !== undefined) settle(one);
    }
  }

  abandon(): void {
    for (const one of this.#sectors.values()) {
      if (!one.isDirty) continue;
      one.isDirty = false;
      one.isDiscarded = true;
    }
  }

  cut(): void {
    for (const [sector, one] of this.#sectors) {
      if (!one.isDirty || this.#groupSectors === 1) continue;
      for (const [, other] of this.#group(sector)) other.isOpen = other.isDamageOpen = true;
    }
    for (const one of this.#sectors.values()) {
      if (!one.isDirty && !one.isDiscarded) continue;
      if (one.versions.length > 0) one.isOpen = true;
      one.isDirty = one.isDiscarded = false;
    }
    this.#cutStamp = this.stamp;
  }

  /** @returns what is read */
  read(sector: number): Content {
    const one = this.#sectors.get(sector);
    if (one === undefined) return ZEROS;
    if (one.isOpen) this.#resolve(sector, one);
    return one.top;
  }

  resolveAll(limitStamp: number): void {
    for (const [sector, one] of this.#sectors) {
      if (!one.isOpen) continue;
      one.isDamageOpen = false;
      const { versions } = one;
      const kept = versions.find(({ stamp }) => stamp >= 0 && stamp <= limitStamp) ?? versions.at(-1);
      if (kept === undefined) {
        one.isOpen = false;
        continue;
      }
      const at = versions.indexOf(kept);
      this.#keep(sector, one, at, distinct(one).length - distinct({ ...one, versions: versions.slice(at) }).length);
    }
  }

  #claim(sector: number): Sector {
    for (const [at] of this.#group(sector, true)) {
      if (this.#sectors.has(at)) continue;
      const none = { isOpen: false, isDamageOpen: false, isDirty: false, isDiscarded: false };
      this.#sectors.set(at, { top: ZEROS, previous: ZEROS, versions: [], ...none });
    }
    return this.#sectors.get(sector) as Sector;
  }

  #group(sector: number, withMissing = false): [number, Sector][] {
    const first = this.groupOf(sector);
    const all = Array.from({ length: this.#groupSectors }, (_, i) => first + i);
    return all
      .filter((at) => withMissing || this.#sectors.has(at))
      .map((at) => [at, this.#sectors.get(at) as Sector] as [number, Sector]);
  }

  /**
   * Those with a place, in the order in which what is open among them is asked about: by address, or where the range has
   * more sectors than there are places, as the places were given out.
   */
  #within(sector: number, sectorCount: number): [number, Sector][] {
    const found = [...this.#sectors].filter(([at]) => at >= sector && at < sector + sectorCount);
    return this.#dense || sectorCount < this.#sectors.size ? found.sort(([a], [b]) => a - b) : found;
  }

  #stage(sector: number, one: Sector, content: Content): void {
    if (one.isDamageOpen) {
      if (this.ask(2) === 1) this.#damage(sector);
      else this.#spare(sector);
    }
    const isOther = !same(content, one.top);
    if (isOther || one.isOpen) {
      const before: Version[] = one.versions.length > 0 ? one.versions : [{ content: one.top, stamp: 0 }];
      one.versions = [{ content, stamp: this.stamp }, ...this.#torn(before, content), ...before];
    }
    if (isOther) one.previous = one.top;
    one.top = content;
    one.isOpen = one.isDiscarded = false;
    one.isDirty = true;
  }

  /** The tears of a write over what may be on the medium: the version before it, and what a cut or a flush left. */
  #torn(before: readonly Version[], content: Content): Version[] {
    if (this.#profile.tearStepBytes === 0) return [];
    const torn: Version[] = [];
    for (const [at, { content: old, stamp }] of before.entries()) {
      if (at > 0 && stamp !== 0 && Math.abs(stamp) > this.#cutStamp) continue;
      for (let part = 1; part < PARTS; part++) {
        const tear = spliced(content, old, part);
        const isThere = [...torn, ...before].some((known) => same(known.content, tear)) || same(tear, content);
        if (!isThere) torn.unshift({ content: tear, stamp: -this.stamp });
      }
    }
    return torn;
  }

  #resolve(sector: number, one: Sector): void {
    const versions = distinct(one);
    const options = versions.length + (one.isDamageOpen ? 1 : 0);
    const index = options > 1 ? this.ask(options) : 0;
    if (index === versions.length) {
      this.#damage(sector);
      return;
    }
    if (one.isDamageOpen) this.#spare(sector);
    const kept = versions[index] as Content;
    if (versions.length === 1) return;
    const at = one.versions.findIndex(({ content }) => same(content, kept));
    this.#keep(sector, one, at, index);
  }

  #keep(sector: number, one: Sector, at: number, index: number): void {
    const { content, stamp } = one.versions[at] as Version;
    const newer = one.versions.slice(0, at);
    this.resolutions.push({
      sector,
      kind: 'version',
      index,
      versionCount: distinct(one).length,
      stamp,
      lostStamps: newer.map((version) => version.stamp).filter((lost) => lost > 0),
    });
    one.top = content;
    one.versions = [];
    one.isOpen = false;
  }

  #damage(sector: number): void {
    for (const [at, one] of this.#group(sector)) {
      one.top = { noiseOf: at };
      one.versions = [];
      one.isOpen = one.isDamageOpen = false;
    }
    this.#tellGroup(sector, 'damaged');
  }

  #spare(sector: number): void {
    for (const [, one] of this.#group(sector)) {
      one.isDamageOpen = false;
      if (one.versions.length === 0) one.isOpen = false;
    }
    this.#tellGroup(sector, 'intact');
  }

  #tellGroup(sector: number, kind: 'damaged' | 'intact'): void {
    const whole = { index: 0, versionCount: 1, stamp: 0, lostStamps: [] };
    this.resolutions.push({ sector: this.groupOf(sector), kind, ...whole });
  }
}

function settle(one: Sector): void {
  if (!one.isDirty) return;
  one.isDirty = false;
  if (!one.isDiscarded) one.versions = [];
}

function distinct({ versions, top }: Sector): Content[] {
  const contents = versions.length === 0 ? [top] : versions.map(({ content }) => content);
  return contents.filter((content, at) => contents.findIndex((other) => same(other, content)) === at);
}

/** The first parts of one content and the rest of another. */
function spliced(content: Content, old: Content, part: number): Content {
  if (!('noiseOf' in old) && !('noiseOf' in content)) return [...content.slice(0, part), ...old.slice(part)];
  throw new Error('no profile both tears and damages');
}
