import { resized } from './version-nodes.ts';

/** What differs between two states of a disk: the slots that were touched, with their entries. */
export interface SlotDelta {
  readonly slots: Int32Array;
  readonly tops: Int32Array;
  readonly lists: Int32Array;
  readonly flags: Int32Array;
  readonly previous: Int32Array;
}

/** Numbers of a journal entry. */
const ENTRY = 5;

/**
 * The state of each sector in four arrays, with an undo journal: to try something costs what it touches, whatever the
 * size of the disk. A slot's first change after a checkpoint is journaled once.
 */
export class SlotTable {
  /** The version that a read returns. Means nothing while the sector is open. */
  top: Int32Array;
  /** Head of the list of versions; NO_NODE where `top` is the only one. */
  list: Int32Array;
  flags: Uint8Array;
  /** The version that was on top before the last write. */
  previous: Int32Array;
  /** The generation in which a slot was last journaled. */
  #journaled: Int32Array;
  /** Checkpoints made or undone. Until the first one every slot counts as journaled, and none is. */
  #generation = 0;
  /** Five numbers an entry: slot, top, list, flags, previous. */
  #journal: Int32Array = new Int32Array(1024);
  #journalLength = 0;

  constructor(slotCount: number) {
    this.top = new Int32Array(slotCount);
    this.list = new Int32Array(slotCount);
    this.flags = new Uint8Array(slotCount);
    this.previous = new Int32Array(slotCount);
    this.#journaled = new Int32Array(slotCount);
  }

  /** Makes room for `slotCount` slots. */
  grow(slotCount: number): void {
    if (slotCount <= this.top.length) return;
    const length = Math.max(slotCount, this.top.length * 2, 256);
    this.top = resized(this.top, length);
    this.list = resized(this.list, length);
    this.previous = resized(this.previous, length);
    this.#journaled = resized(this.#journaled, length);
    const flags = new Uint8Array(length);
    flags.set(this.flags);
    this.flags = flags;
  }

  /** To be called before a slot's entries change. */
  touch(slot: number): void {
    if (this.#journaled[slot] === this.#generation) return;
    this.#journaled[slot] = this.#generation;
    if (this.#journalLength + ENTRY > this.#journal.length)
      this.#journal = resized(this.#journal, this.#journal.length * 2);
    const at = this.#journalLength;
    this.#journal[at] = slot;
    this.#journal[at + 1] = this.top[slot]!;
    this.#journal[at + 2] = this.list[slot]!;
    this.#journal[at + 3] = this.flags[slot]!;
    this.#journal[at + 4] = this.previous[slot]!;
    this.#journalLength = at + ENTRY;
  }

  /** Starts journaling, or nests. Checkpoints are undone in the reverse order. */
  checkpoint(): number {
    this.#generation++;
    return this.#journalLength;
  }

  /** Restores every entry as it was at the checkpoint. */
  undo(checkpoint: number): void {
    const journal = this.#journal;
    for (let at = this.#journalLength - ENTRY; at >= checkpoint; at -= ENTRY) {
      const slot = journal[at]!;
      this.top[slot] = journal[at + 1]!;
      this.list[slot] = journal[at + 2]!;
      this.flags[slot] = journal[at + 3]!;
      this.previous[slot] = journal[at + 4]!;
    }
    this.#journalLength = checkpoint;
    this.#generation++;
  }

  /** The entries, as they are now, of all slots touched since the checkpoint. */
  capture(checkpoint: number): SlotDelta {
    const count = (this.#journalLength - checkpoint) / ENTRY;
    const slots = new Int32Array(count);
    const tops = new Int32Array(count);
    const lists = new Int32Array(count);
    const flags = new Int32Array(count);
    const previous = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      const slot = this.#journal[checkpoint + i * ENTRY]!;
      slots[i] = slot;
      tops[i] = this.top[slot]!;
      lists[i] = this.list[slot]!;
      flags[i] = this.flags[slot]!;
      previous[i] = this.previous[slot]!;
    }
    return { slots, tops, lists, flags, previous };
  }

  /** Sets the entries that a delta has. */
  apply(delta: SlotDelta): void {
    for (let i = 0; i < delta.slots.length; i++) {
      const slot = delta.slots[i]!;
      this.touch(slot);
      this.top[slot] = delta.tops[i]!;
      this.list[slot] = delta.lists[i]!;
      this.flags[slot] = delta.flags[i]!;
      this.previous[slot] = delta.previous[i]!;
    }
  }

  /** Every slot as it was in the beginning. Not while there is a checkpoint. */
  clear(): void {
    this.top.fill(0);
    this.list.fill(0);
    this.flags.fill(0);
  }

  clone(): SlotTable {
    const copy = new SlotTable(0);
    copy.top = this.top.slice();
    copy.list = this.list.slice();
    copy.flags = this.flags.slice();
    copy.previous = this.previous.slice();
    copy.#journaled = new Int32Array(this.top.length);
    return copy;
  }
}
