import { crc32 } from 'node:zlib';
import { equalBytes } from '../core/index.ts';
import { resized } from './version-nodes.ts';

/**
 * Finds a version by its bytes: a checksum says where to look, and the bytes decide. Entries are taken out in the reverse
 * order, so that a chain is one number a version.
 */
export class VersionIndex {
  /** By checksum: the newest version with it, or one with another that shares the place; -1: none. */
  #heads: Int32Array = new Int32Array(1024).fill(-1);
  /** By version: the next older one at the same place. */
  #older: Int32Array = new Int32Array(1024);
  /** By version. */
  #checksums: Int32Array = new Int32Array(1024);
  #size = 0;

  /** Versions that are in it: those below this number. */
  get size(): number {
    return this.#size;
  }

  /** The version with these bytes; -1: there is none. */
  find(bytes: Uint8Array, checksum: number, view: (version: number) => Uint8Array): number {
    let version = this.#heads[checksum & (this.#heads.length - 1)]!;
    for (; version >= 0; version = this.#older[version]!) {
      if (this.#checksums[version] === checksum && equalBytes(view(version), bytes)) return version;
    }
    return -1;
  }

  /** Takes in the next version. */
  push(checksum: number): void {
    const version = this.#size++;
    if (version === this.#older.length) this.#grow();
    this.#checksums[version] = checksum;
    this.#link(version);
  }

  /** Leaves only the first `size` versions. */
  truncate(size: number): void {
    while (this.#size > size) {
      const version = --this.#size;
      this.#heads[this.#checksums[version]! & (this.#heads.length - 1)] = this.#older[version]!;
    }
  }

  #link(version: number): void {
    const place = this.#checksums[version]! & (this.#heads.length - 1);
    this.#older[version] = this.#heads[place]!;
    this.#heads[place] = version;
  }

  #grow(): void {
    const length = this.#older.length * 2;
    this.#older = resized(this.#older, length);
    this.#checksums = resized(this.#checksums, length);
    this.#heads = new Int32Array(length).fill(-1);
    for (let version = 0; version < this.#size - 1; version++) this.#link(version);
  }
}

/** What {@link VersionIndex} keys bytes by. */
export function checksumOf(bytes: Uint8Array): number {
  return crc32(bytes) | 0;
}
