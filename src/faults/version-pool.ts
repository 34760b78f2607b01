/** Sectors a chunk: 128 KiB at 512 bytes. */
const CHUNK_SECTORS = 256;

/** The version that every sector has before it is written. */
export const ZERO_VERSION = 0;

/**
 * Contents of sectors, numbered. The bytes live in chunks; the view of a number is made once and kept, because making
 * one costs as much as copying a sector. Numbers are given out in order, or again after `release` or `rewind`.
 */
export class VersionPool {
  readonly sectorBytes: number;
  readonly #views: Uint8Array[] = [];
  readonly #released: number[] = [];
  #chunk = new Uint8Array(0);
  #size = 1;

  constructor(sectorBytes: number) {
    this.sectorBytes = sectorBytes;
    this.#grow();
  }

  /** Numbers given out so far; hand it to `rewind` to take back all that came later. */
  get size(): number {
    return this.#size;
  }

  /** The bytes of a version: the pool's own, not to be written nor kept. */
  view(version: number): Uint8Array {
    return this.#views[version]!;
  }

  /** Copies one sector of `source` in. */
  add(source: Uint8Array, offsetBytes: number): number {
    const version = this.#released.pop() ?? this.#take();
    const whole = source.length === this.sectorBytes;
    this.#views[version]!.set(whole ? source : source.subarray(offsetBytes, offsetBytes + this.sectorBytes));
    return version;
  }

  /** Gives a number back for reuse. Not to be mixed with `rewind`. */
  release(version: number): void {
    if (version !== ZERO_VERSION) this.#released.push(version);
  }

  /** Takes back every number from `size` on. */
  rewind(size: number): void {
    this.#size = size;
  }

  /** Takes back every number. */
  reset(): void {
    this.#size = 1;
    this.#released.length = 0;
  }

  clone(): VersionPool {
    const copy = new VersionPool(this.sectorBytes);
    for (let version = 1; version < this.#size; version++) copy.add(this.#views[version]!, 0);
    copy.#released.push(...this.#released);
    return copy;
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
