import type { BlockDevice } from '../blockdev/index.ts';
import { equalBytes } from '../core/index.ts';
import { fail } from './errors.ts';
import type { StoreGeometry } from './geometry.ts';
import { FEATURE_MOVED, MAX_EPOCH } from './layout.ts';
import { borrowMemory, giveBackMemory, type Memory } from './memory.ts';
import type { StoreRules } from './rules.ts';
import { encodeSuperblock, eraseStaleCopies, readCopy, type Superblock, type SuperblockVerdict } from './superblock.ts';

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
  /** The highest generation that may have been written and is not there; 0: both copies are what was written last. */
  #lostGeneration: number;
  /** The current copy was written, and no flush has followed yet. */
  #isUnflushed = false;

  /** @param lostEpoch a life that the log tells of and no superblock does, which was opened by one; 0: none */
  constructor(
    device: BlockDevice,
    geometry: StoreGeometry,
    verdict: SuperblockVerdict,
    rules: StoreRules,
    lostEpoch: number,
  ) {
    this.#device = device;
    this.#geometry = geometry;
    this.#rules = rules;
    this.#current = verdict.current;
    this.#currentCopy = verdict.currentCopy;
    this.#lostGeneration = Math.max(verdict.otherLost ? verdict.current.generation + 1 : 0, lostEpoch);
  }

  get current(): Superblock {
    return this.#current;
  }

  get currentCopy(): 0 | 1 {
    return this.#currentCopy;
  }

  /**
   * Reads both copies from the device.
   * @returns why each can't be used; undefined where it is as it was written
   */
  read(): readonly [string | undefined, string | undefined] {
    return [this.#whyWrong(0), this.#whyWrong(1)];
  }

  #whyWrong(copy: 0 | 1): string | undefined {
    const sector = borrowMemory(this.#geometry.sectorBytes);
    const why = this.#whyWrongIn(sector, copy);
    giveBackMemory(sector);
    return why;
  }

  /** @param sector to be read into */
  #whyWrongIn(sector: Memory, copy: 0 | 1): string | undefined {
    const found = readCopy(this.#device, this.#geometry.superblockSectors[copy], copy, sector, this.#rules.checksums);
    if (found.state !== 'valid') return found.why;
    if (copy === this.#currentCopy) {
      const expected = new Uint8Array(sector.bytes.length);
      encodeSuperblock(this.#current, copy, expected);
      return equalBytes(sector.bytes, expected) ? undefined : 'it is another one than was written';
    }
    // One of another store is what a format that was cut short leaves behind: no damage.
    const { generation, storeId } = found.superblock;
    const isNewer = equalBytes(storeId, this.#current.storeId) && generation >= this.#current.generation;
    return isNewer ? `its generation is ${generation}, past that of the other` : undefined;
  }

  /** Writes the current copy once more, in its own place, as it was: the other one is not touched. The caller flushes. */
  rewrite(): void {
    const sector = new Uint8Array(this.#geometry.sectorBytes);
    encodeSuperblock(this.#current, this.#currentCopy, sector);
    this.#device.write(this.#geometry.superblockSectors[this.#currentCopy], sector);
  }

  /** To be told of each flush of the device. */
  flushed(): void {
    this.#isUnflushed = false;
  }

  /**
   * Opens a new life of the log, durably. Its epoch is the generation of the superblock that records it, so that no
   * two lives share one. A lost copy may have been one generation ahead, or as far as frames of the life that it opened
   * say: then both copies are written anew, so that the life's epoch is higher than any that the lost one could have
   * opened.
   * @param flush flushes the device
   * @throws StateFsError EROFS once the epochs are used up, EIO where a lost copy can't be written anew
   */
  openLife(frontier: Frontier, flush: () => void): void {
    if (this.#lostGeneration > 0) {
      const generation = Math.max(this.#lostGeneration, this.#current.generation) + 1;
      this.#write({ ...frontier, ...this.#life(generation) }, generation);
      flush();
      if (this.#rules.verifiedRewrites) this.#checkWritten();
      // What was lost may have been lost by a format that was cut: it is finished here, before copy 0 is written.
      if (eraseStaleCopies(this.#device, this.#geometry.superblockSectors[1])) flush();
      this.#lostGeneration = 0;
    }
    const generation = this.#current.generation + 1;
    this.#write({ ...frontier, ...this.#life(generation) }, generation);
    flush();
  }

  /** The next write goes over what is the only good copy but for this one: it must not be one that the medium has lost. */
  #checkWritten(): void {
    const why = this.#whyWrong(this.#currentCopy);
    if (why === undefined) return;
    const copy = this.#currentCopy;
    fail('EIO', `superblock: copy ${copy} was written and is not there (${why}): copy the data to another medium`);
  }

  /** Records a new frontier. Durable with the next flush; losing it costs nothing. */
  advance(frontier: Frontier, flush: () => void): void {
    if (this.#isUnflushed) flush();
    this.#write({ ...frontier, clean: false }, this.#current.generation + 1);
  }

  /** Records, durably, that the store uses what not every reader knows. */
  addFeature(feature: number, frontier: Frontier, flush: () => void): void {
    if (this.#isUnflushed) flush();
    this.#write(
      { ...frontier, features: this.#current.features | feature, clean: false },
      this.#current.generation + 1,
    );
    flush();
  }

  /** Takes a new epoch, durably, for frames in the region that is not active. @returns it */
  reserveEpoch(frontier: Frontier, flush: () => void): number {
    if (this.#isUnflushed) flush();
    this.#write({ ...frontier, clean: false }, this.#current.generation + 1);
    flush();
    return this.#rules.epochs ? this.#current.generation : this.#current.epoch;
  }

  /**
   * Makes the log go on in the other region, with a new life, durably. Both copies say so before the first group there:
   * the one that still names the region left behind would be found if the other were lost.
   */
  move(moved: Frontier & Pick<Superblock, 'regionEpoch' | 'lostSequence'>, flush: () => void): void {
    if (this.#isUnflushed) flush();
    const activeRegion = this.#current.activeRegion === 0 ? 1 : 0;
    const features = this.#current.features | FEATURE_MOVED;
    const generation = this.#current.generation + 1;
    this.#write({ ...moved, ...this.#life(generation), activeRegion, features }, generation);
    flush();
    this.#write({}, this.#current.generation + 1);
    flush();
  }

  /** Records that the log ends at the frontier, all of which is durable. The caller flushes. */
  close(frontier: Frontier, flush: () => void): void {
    if (this.#isUnflushed) flush();
    this.#write({ ...frontier, clean: true }, this.#current.generation + 1);
  }

  /** What a superblock of that generation says that opens a life. */
  #life(generation: number): Pick<Superblock, 'epoch' | 'clean'> {
    return { epoch: this.#rules.epochs ? generation : this.#current.epoch, clean: false };
  }

  #write(changes: Partial<Superblock>, generation: number): void {
    if (generation > MAX_EPOCH) fail('EROFS', 'the store has used up its 2^32 epochs: copy its keys to a new one');
    const copy = this.#currentCopy === 0 ? 1 : 0;
    const next: Superblock = { ...this.#current, ...changes, generation };
    const sector = borrowMemory(this.#geometry.sectorBytes);
    encodeSuperblock(next, copy, sector.bytes, sector.view);
    this.#device.write(this.#geometry.superblockSectors[copy], sector.bytes);
    giveBackMemory(sector);
    this.#isUnflushed = true;
    this.#current = next;
    this.#currentCopy = copy;
  }
}
