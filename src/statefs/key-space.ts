import type { IndexEntry } from './index-entry.ts';
import { KIND_LOST } from './layout.ts';
import type { LiveSpace } from './live-space.ts';
import { QuotaCounter } from './quota.ts';
import type { SharedEntries } from './snapshot.ts';

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
  #space: LiveSpace;
  #quotas: QuotaCounter;
  /** A change moves its key to the end, so that the order is that of the log. */
  #entries: Map<string, IndexEntry> = new Map();
  #sorted: string[] | undefined;
  #lostCount = 0;
  /** Entries as they were before the log moved, where their records still stand. */
  #leftBehind: ReadonlyMap<string, IndexEntry> | undefined;
  /** Show the entries as they are; to be given a copy before they change. */
  #shares: SharedEntries[] = [];

  constructor(space: LiveSpace, quotas: QuotaCounter = new QuotaCounter([])) {
    this.#space = space;
    this.#quotas = quotas;
  }

  /** What the live records need. */
  get space(): LiveSpace {
    return this.#space;
  }

  /** What the keys of each quota take up. */
  get quotas(): QuotaCounter {
    return this.#quotas;
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

  /** The entries as they are now, and stay: copied once, before the next change. */
  share(): SharedEntries {
    const shared: SharedEntries = { entries: this.#entries };
    this.#shares.push(shared);
    return shared;
  }

  set(entry: IndexEntry): void {
    this.#unshare();
    if (!this.#drop(entry.key)) this.#sorted = undefined;
    this.#entries.set(entry.key, entry);
    this.#add(entry);
  }

  /** @returns whether it was there */
  delete(key: string): boolean {
    this.#unshare();
    const was = this.#drop(key);
    if (was) this.#sorted = undefined;
    return was;
  }

  /** An empty one, to be filled and then {@link takeOver taken over}. */
  fresh(): KeySpace {
    return new KeySpace(this.#space.fresh(), this.#quotas.fresh());
  }

  /** Takes the entries of `other`, which has the same keys: only their places are others. */
  takeOver(other: KeySpace): void {
    // Whoever shares the old entries keeps them: nothing changes those any more.
    this.#shares = [];
    this.#leftBehind = this.#entries;
    this.#entries = other.#entries;
    this.#space = other.#space;
    this.#quotas = other.#quotas;
    this.#lostCount = other.#lostCount;
  }

  /** Keys in the order of their UTF-16 code units. Not to be changed. */
  #sortedKeys(): readonly string[] {
    this.#sorted ??= [...this.#entries.keys()].sort();
    return this.#sorted;
  }

  /** Keys that start with `prefix`, at most `limit`, in the order of their UTF-16 code units. */
  list(prefix: string, limit: number): string[] {
    const keys = this.#sortedKeys();
    const found: string[] = [];
    for (let i = lowerBound(keys, prefix); i < keys.length && found.length < limit; i++) {
      const key = keys[i] as string;
      if (!key.startsWith(prefix)) break;
      found.push(key);
    }
    return found;
  }

  /** The record of `key` in the region that the log has left. */
  leftBehind(key: string): IndexEntry | undefined {
    return this.#leftBehind?.get(key);
  }

  /** To be called before anything is written to the region that the log has left. */
  forgetLeftBehind(): void {
    this.#leftBehind = undefined;
  }

  /** For a variant that forgets what it holds. */
  forgetUsage(): void {
    this.#quotas = this.#quotas.fresh();
  }

  #unshare(): void {
    if (this.#shares.length === 0) return;
    const copy = new Map(this.#entries);
    for (const shared of this.#shares) shared.entries = copy;
    this.#shares = [];
  }

  #add(entry: IndexEntry): void {
    if (entry.kind === KIND_LOST) this.#lostCount++;
    this.#space.add(entry);
    this.#quotas.add(entry);
  }

  #drop(key: string): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    this.#entries.delete(key);
    if (entry.kind === KIND_LOST) this.#lostCount--;
    this.#space.remove(entry);
    this.#quotas.remove(entry);
    return true;
  }
}

/** Index of the first key that is not less than `prefix`. */
function lowerBound(keys: readonly string[], prefix: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < prefix) low = middle + 1;
    else high = middle;
  }
  return low;
}
