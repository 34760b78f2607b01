import type { BlockDevice } from '../blockdev/index.ts';
import { fail } from './errors.ts';
import type { StoreGeometry } from './geometry.ts';
import { MAX_EPOCH } from './layout.ts';
import type { StoreRules } from './rules.ts';
import { encodeSuperblock, eraseStaleCopies, type Superblock, type SuperblockVerdict } from './superblock.ts';

/** The place up to which the log is known to be durable. */
export interface Frontier {
  readonly frontierSector: number;
  readonly frontierSequence: number;
  readonly payloadFloor: number;
}

/**
 * Writes the two superblock copies in turn. At any moment one of them is durable: the older one is overwritten, and
 * only after a flush that followed the last write of the newer.
 */
export class SuperblockPair {
  readonly #device: BlockDevice;
  readonly #geometry: StoreGeometry;
  readonly #rules: StoreRules;
  #current: Superblock;
  #currentCopy: 0 | 1;
  #otherLost: boolean;
  /** The current copy was written, and no flush has followed yet. */
  #isUnflushed = false;

  constructor(device: BlockDevice, geometry: StoreGeometry, verdict: SuperblockVerdict, rules: StoreRules) {
    this.#device = device;
    this.#geometry = geometry;
    this.#rules = rules;
    this.#current = verdict.current;
    this.#currentCopy = verdict.currentCopy;
    this.#otherLost = verdict.otherLost;
  }

  get current(): Superblock {
    return this.#current;
  }

  /** To be told of each flush of the device. */
  flushed(): void {
    this.#isUnflushed = false;
  }

  /**
   * Opens a new life of the log, durably. Its epoch is the generation of the superblock that records it, so that no
   * two lives share one. A lost copy may have been one generation ahead: then both copies are written anew, so that
   * the life's epoch is higher than any that the lost one could have opened.
   * @param flush flushes the device
   * @throws StateFsError EROFS once the epochs are used up
   */
  openLife(frontier: Frontier, flush: () => void): void {
    if (this.#otherLost) {
      this.#write(frontier, this.#current.generation + 2, true, false);
      flush();
      // What was lost may have been lost by a format that was cut: it is finished here, before copy 0 is written.
      if (eraseStaleCopies(this.#device, this.#geometry.superblockSectors[1])) flush();
      this.#otherLost = false;
    }
    this.#write(frontier, this.#current.generation + 1, true, false);
    flush();
  }

  /** Records a new frontier. Durable with the next flush; losing it costs nothing. */
  advance(frontier: Frontier, flush: () => void): void {
    if (this.#isUnflushed) flush();
    this.#write(frontier, this.#current.generation + 1, false, false);
  }

  /** Records that the log ends at the frontier, all of which is durable. The caller flushes. */
  close(frontier: Frontier, flush: () => void): void {
    if (this.#isUnflushed) flush();
    this.#write(frontier, this.#current.generation + 1, false, true);
  }

  #write(frontier: Frontier, generation: number, isNewLife: boolean, clean: boolean): void {
    if (generation > MAX_EPOCH) fail('EROFS', 'the store has used up its 2^32 epochs: copy its keys to a new one');
    const epoch = isNewLife && this.#rules.epochs ? generation : this.#current.epoch;
    const copy = this.#currentCopy === 0 ? 1 : 0;
    const next: Superblock = { ...this.#current, ...frontier, generation, epoch, clean };
    const sector = new Uint8Array(this.#geometry.sectorBytes);
    encodeSuperblock(next, copy, sector);
    this.#device.write(this.#geometry.superblockSectors[copy], sector);
    this.#isUnflushed = true;
    this.#current = next;
    this.#currentCopy = copy;
  }
}
