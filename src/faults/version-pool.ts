import { checksumOf, VersionIndex } from './version-index.ts';

/** Sectors a chunk: 128 KiB at 512 bytes. */
const CHUNK_SECTORS = 256;

/** The version that every sector has before it is written. */
export const ZERO_VERSION = 0;

/**
 * Contents of sectors, numbered. The bytes live in chunks; the view of a number is made once and kept, because making
 * one costs as much as copying a sector. Numbers are given out in order, or again after `release` or `rewind`.
 *
 * A pool that interns gives equal bytes the same number, so that to compare numbers is to compare bytes, exactly.
 */
export class VersionPool {
  readonly sectorBytes: number;
  readonly #views: Uint8Array[] = [];
  readonly #released: number[] = [];
  readonly #index: VersionIndex | undefined;
  readonly #viewOf = (version: number): Uint8Array => this.view(version);
  #chunk = new Uint8Array(0);
  #size = 1;

  /** @param interns equal bytes have one number; not to be mixed with `release` */
  constructor(sectorBytes: number, interns: boolean) {
    this.sectorBytes = sectorBytes;
    this.#index = interns ? new VersionIndex() : undefined;
    this.#grow();
    this.#index?.push(checksumOf(this.view(ZERO_VERSION)));
  }

  get interns(): boolean {
    return this.#index !== undefined;
  }

  /** Numbers given out so far; hand it to `rewind` to take back all that came later. */
  get size(): number {
    return this.#size;
  }

  /** The bytes of a version: the pool's own, not to be written nor kept. */
  view(version: number): Uint8Array {
    return this.#views[version]!;
  }

  /** Copies one sector of `source` in; a pool that interns may have it already. */
  add(source: Uint8Array, offsetBytes: number): number {
    const whole = source.length === this.sectorBytes;
    const sector = whole ? source : source.subarray(offsetBytes, offsetBytes + this.sectorBytes);
    return this.#index === undefined ? this.#copy(sector) : this.#intern(sector, this.#index);
  }

  /** Gives a number back for reuse; zeros stay, and what is below them is none of its numbers. Not to be mixed with `rewind`. */
  release(version: number): void {
    if (version > ZERO_VERSION) this.#released.push(version);
  }

  /** Takes back every number from `size` on. */
  rewind(size: number): void {
    this.#size = size;
    this.#index?.truncate(size);
  }

  /** Takes back every number. */
  reset(): void {
    this.#size = 1;
    this.#index?.truncate(1);
    this.#released.length = 0;
  }

  clone(): VersionPool {
    const copy = new VersionPool(this.sectorBytes, this.interns);
    for (let version = 1; version < this.#size; version++) copy.add(this.#views[version]!, 0);
    copy.#released.push(...this.#released);
    return copy;
  }

  #intern(sector: Uint8Array, index: VersionIndex): number {
    const checksum = checksumOf(sector);
    const known = index.find(sector, checksum, this.#viewOf);
    if (known >= 0) return known;
    index.push(checksum);
    return this.#copy(sector);
  }

  #copy(sector: Uint8Array): number {
    const version = this.#released.pop() ?? this.#take();
    this.#views[version]!.set(sector);
    return version;
  }

  #take(): number {
    const version = this.#size++;
    if (version === this.#views.length) this.#grow();
    return version;
  }

  #grow(): void {
    this.#chunk = new Uint8Array(CHUNK_SECTORS * this.sectorBytes);
    for (let i = 0; i < CHUNK_SECTORS; i++) {
      this.#views.push(this.#chunk.subarray(i * this.sectorBytes, (i + 1) * this.sectorBytes));
    }
  }
}
