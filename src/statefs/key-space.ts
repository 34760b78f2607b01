import type { IndexEntry } from './index-entry.ts';
import { KIND_LOST } from './layout.ts';
import type { LiveSpace } from './live-space.ts';

/** One change of the key space: a record in place of any older one, or a deletion. */
export interface Change {
  readonly key: string;
  readonly entry: IndexEntry | undefined;
}

/**
 * The index: every live key with the place of its newest record, in the order in which they were written. Whatever
 * follows from it (space, sorted keys, usage) is kept up here.
 */
export class KeySpace {
  readonly space: LiveSpace;
  /** A change moves its key to the end, so that the order is that of the log. */
  #entries: Map<string, IndexEntry> = new Map();
  #sorted: string[] | undefined;
  #lostCount = 0;

  constructor(space: LiveSpace) {
    this.space = space;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Keys whose value is known to be damaged. */
  get lostCount(): number {
    return this.#lostCount;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  get(key: string): IndexEntry | undefined {
    return this.#entries.get(key);
  }

  /** In the order of the log. An iterator sees what is added while it runs, and not what is gone. */
  entries(): IterableIterator<IndexEntry> {
    return this.#entries.values();
  }

  set(entry: IndexEntry): void {
    if (!this.#drop(entry.key)) this.#sorted = undefined;
    this.#entries.set(entry.key, entry);
    this.#add(entry);
  }

  /** @returns whether it was there */
  delete(key: string): boolean {
    const was = this.#drop(key);
    if (was) this.#sorted = undefined;
    return was;
  }

  /** Keys in the order of their UTF-16 code units. Not to be changed. */
  sortedKeys(): readonly string[] {
    this.#sorted ??= [...this.#entries.keys()].sort();
    return this.#sorted;
  }

  #add(entry: IndexEntry): void {
    if (entry.kind === KIND_LOST) this.#lostCount++;
    this.space.add(entry);
  }

  #drop(key: string): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    this.#entries.delete(key);
    if (entry.kind === KIND_LOST) this.#lostCount--;
    this.space.remove(entry);
    return true;
  }
}
