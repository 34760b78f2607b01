import type { BlockDevice } from '../../blockdev/index.ts';
import { codeOf, viewOf } from '../../core/index.ts';
import { isSealed, SEALED_AT, SECTOR, seal } from './sealed.ts';
import { damaged } from './store.ts';

/** What makes a pair of superblocks sound. */
export interface SlotRules {
  /** The older copy is overwritten, never the newer. */
  readonly alternates: boolean;
  /** There are two copies. */
  readonly hasTwoCopies: boolean;
  /** One copy in a flush window. */
  readonly oneAtATime: boolean;
  /** A flush follows before the switch counts. */
  readonly flushes: boolean;
  /** A copy says which one it is, and is believed only there. */
  readonly checksPlace: boolean;
}

export const soundSlots: SlotRules = {
  alternates: true,
  hasTwoCopies: true,
  oneAtATime: true,
  flushes: true,
  checksPlace: true,
};

const MAGIC = 0x544f_4c53;
const GENERATION_AT = SEALED_AT;
const SLOT_AT = SEALED_AT + 4;
/** Where the caller's part of a superblock starts. */
export const SLOT_BODY_AT: number = SEALED_AT + 8;

/** A superblock in two copies, which are written in turn; the valid one with the higher generation counts. */
export class SuperblockSlots {
  /** Of the copy that counts, 0 where there is none. */
  generation = 0;
  /** The copy that counts. The owner changes what is from {@link SLOT_BODY_AT} on, and writes it. */
  readonly bytes: Uint8Array;
  readonly #device: BlockDevice;
  readonly #first: number;
  readonly #rules: SlotRules;
  #slot = 1;

  /**
   * @param first first sector of the first copy; the second follows it
   * @param sectors of each copy
   */
  constructor(device: BlockDevice, first: number, sectors: number, rules: SlotRules) {
    this.#device = device;
    this.#first = first;
    this.#rules = rules;
    this.bytes = new Uint8Array(sectors * SECTOR);
  }

  /**
   * Reads both copies.
   * @returns whether one of them is valid
   * @throws CodedError EINTEGRITY where a newer one stands in the wrong place: the one before it is no longer true
   */
  load(): boolean {
    this.generation = 0;
    let misplaced = 0;
    const copy = new Uint8Array(this.bytes.length);
    for (const slot of [0, 1]) {
      if (!this.#read(slot, copy)) continue;
      const generation = viewOf(copy).getUint32(GENERATION_AT, true);
      if (this.#rules.checksPlace && viewOf(copy).getUint32(SLOT_AT, true) !== slot) {
        misplaced = generation;
        continue;
      }
      if (generation <= this.generation) continue;
      this.generation = generation;
      this.#slot = slot;
      this.bytes.set(copy);
    }
    if (misplaced > this.generation) damaged(`superblock: generation ${misplaced} stands in the wrong place`);
    return this.generation > 0;
  }

  /**
   * Makes the changed superblock count.
   * @param flushes whether durably
   */
  store(flushes: boolean = this.#rules.flushes): void {
    const { hasTwoCopies, oneAtATime, alternates } = this.#rules;
    this.generation++;
    const other = 1 - this.#slot;
    if (!oneAtATime) this.#write(this.#slot);
    this.#slot = hasTwoCopies ? (alternates ? other : this.#slot) : 0;
    this.#write(this.#slot);
    if (flushes) this.#device.flush();
  }

  #write(slot: number): void {
    const view = viewOf(this.bytes);
    view.setUint32(GENERATION_AT, this.generation, true);
    view.setUint32(SLOT_AT, slot, true);
    // In its last sector as well: a copy of several sectors is never half old and half new unnoticed, nor the same.
    view.setUint32(this.bytes.length - 4, this.generation, true);
    seal(this.bytes, MAGIC, 0);
    this.#device.write(this.#sectorOf(slot), this.bytes);
  }

  #read(slot: number, into: Uint8Array): boolean {
    try {
      this.#device.read(this.#sectorOf(slot), into);
    } catch (error) {
      // A copy that can't be read is lost, and there is another one.
      if (codeOf(error) !== 'EIO') throw error;
      return false;
    }
    return isSealed(into, MAGIC, 0);
  }

  #sectorOf(slot: number): number {
    return this.#first + (slot * this.bytes.length) / SECTOR;
  }
}
