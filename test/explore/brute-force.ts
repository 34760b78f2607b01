import type { BlockDevice, WriteOptions } from '../../src/blockdev/index.ts';
import { Sfc32 } from '../../src/core/index.ts';
import type { DiskProfile } from '../../src/faults/index.ts';

/**
 * The disk model again, as plainly as it can be written: whole images as strings, every image built, every moment a
 * crash point. Shares no code with what it checks. Sectors are strings of 512 latin-1 characters.
 */
export type Image = readonly string[];

const ZEROS = '\0'.repeat(512);

export class BruteDisk implements BlockDevice {
  readonly sectorBytes = 512;
  readonly physicalSectorBytes: number;
  readonly readOnly = false;
  readonly features = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: true };
  /** Called at every moment at which the power may fail. */
  moment: () => void = () => {};
  readonly #profile: DiskProfile;
  readonly #durable: string[];
  /** Writes since it was durable, oldest first. */
  readonly #writes: string[][];
  /** What else a cut may leave: torn versions, and what a discard leaves open. */
  readonly #others: Set<string>[];
  readonly #dirty: boolean[];
  readonly #discarded: boolean[];

  constructor(image: Image, profile: DiskProfile) {
    this.#profile = profile;
    this.physicalSectorBytes = profile.physicalSectorBytes;
    this.#durable = [...image];
    this.#writes = image.map(() => []);
    this.#others = image.map(() => new Set());
    this.#dirty = image.map(() => false);
    this.#discarded = image.map(() => false);
  }

  get sectorCount(): number {
    return this.#durable.length;
  }

  read(sector: number, target: Uint8Array): void {
    for (let i = 0; i * 512 < target.length; i++) {
      target.set(Buffer.from(this.#newest(sector + i), 'latin1'), i * 512);
    }
    this.moment();
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.moment();
    const count = source.length / 512;
    for (let i = 0; i < count; i++) {
      this.#write(sector + i, Buffer.from(source.subarray(i * 512, (i + 1) * 512)).toString('latin1'));
    }
    this.moment();
    if (options?.fua === true) for (let i = 0; i < count; i++) this.#settle(sector + i);
    this.moment();
  }

  writeZeroes(sector: number, sectorCount: number): void {
    for (let i = 0; i < sectorCount; i++) this.#write(sector + i, ZEROS);
    this.moment();
  }

  discard(sector: number, sectorCount: number): void {
    for (let s = sector; s < sector + sectorCount; s++) {
      const dirty = this.#dirty[s]!;
      this.#write(s, ZEROS);
      this.#dirty[s] = dirty;
      this.#discarded[s] = true;
    }
    this.moment();
  }

  flush(): void {
    this.moment();
    for (let s = 0; s < this.sectorCount; s++) this.#settle(s);
    this.moment();
  }

  close(): void {}

  /** Every image that a cut now can leave, each once. */
  images(): Image[] {
    const group = this.#profile.damagesPhysicalSector ? this.#profile.physicalSectorBytes / 512 : 1;
    let images: string[][] = [[]];
    for (let first = 0; first < this.sectorCount; first += group) {
      const sectors = Array.from({ length: group }, (_, i) => first + i);
      let parts: string[][] = [[]];
      for (const s of sectors) parts = parts.flatMap((part) => this.#versions(s).map((version) => [...part, version]));
      if (group > 1 && sectors.some((s) => this.#dirty[s])) parts.push(sectors.map(noise));
      images = images.flatMap((image) => parts.map((part) => [...image, ...part]));
    }
    return [...new Map(images.map((image) => [image.join(''), image])).values()];
  }

  #newest(sector: number): string {
    return this.#writes[sector]!.at(-1) ?? this.#durable[sector]!;
  }

  #versions(sector: number): string[] {
    return [...new Set([this.#durable[sector]!, ...this.#writes[sector]!, ...this.#others[sector]!])];
  }

  #write(sector: number, bytes: string): void {
    const before = this.#newest(sector);
    const step = this.#profile.tearStepBytes;
    if (step > 0 && bytes !== before) {
      for (const old of [before, this.#durable[sector]!]) {
        for (let cut = step; cut < 512; cut += step) this.#others[sector]!.add(bytes.slice(0, cut) + old.slice(cut));
      }
    }
    this.#writes[sector]!.push(bytes);
    this.#dirty[sector] = true;
    this.#discarded[sector] = false;
  }

  #settle(sector: number): void {
    this.#dirty[sector] = false;
    if (this.#discarded[sector]) return;
    this.#durable[sector] = this.#newest(sector);
    this.#writes[sector] = [];
    this.#others[sector]!.clear();
  }
}

export function blankImage(sectorCount: number): Image {
  return new Array<string>(sectorCount).fill(ZEROS);
}

function noise(sector: number): string {
  const bytes = new Uint8Array(512);
  new Sfc32(sector).fill(bytes);
  return Buffer.from(bytes).toString('latin1');
}
