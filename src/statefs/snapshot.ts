import { assertInteger } from '../core/index.ts';
import { fail } from './errors.ts';
import type { IndexEntry } from './index-entry.ts';
import { checkKey, checkPrefix } from './keys.ts';
import type { RecordInfo } from './store-types.ts';

/** Entries of a key space as they were at one moment. The key space copies them before its next change. */
export interface SharedEntries {
  entries: ReadonlyMap<string, IndexEntry>;
}

/** What a snapshot needs of its store. */
export interface SnapshotHost {
  /** @throws StateFsError where the store was closed, or damage hides what the key's value is */
  check(key: string, entry: IndexEntry | undefined): void;
  /** @throws StateFsError where damage hides which keys there are */
  checkList(): void;
  read(entry: IndexEntry): Uint8Array;
  stat(entry: IndexEntry): RecordInfo;
  ended(snapshot: Snapshot): void;
}

/**
 * All keys and values as they were when it was taken, whatever is put, deleted or moved since. Reading verifies, as it does
 * in the store. It holds the index of that moment in memory, and keeps compaction from writing to the region that its
 * records stand in: close it soon.
 */
export class Snapshot {
  /** Of the last group that it shows. */
  readonly sequence: number;
  /** The region that its records stand in. */
  readonly region: 0 | 1;
  readonly #host: SnapshotHost;
  readonly #shared: SharedEntries;
  #sorted: readonly string[] | undefined;
  #isClosed = false;

  /** Use `snapshot` of the store. */
  constructor(host: SnapshotHost, shared: SharedEntries, sequence: number, region: 0 | 1) {
    this.#host = host;
    this.#shared = shared;
    this.sequence = sequence;
    this.region = region;
  }

  get size(): number {
    return this.#shared.entries.size;
  }

  /** As `get` of the store. */
  get(key: string): Uint8Array {
    return this.#host.read(this.#find(key));
  }

  /** As `stat` of the store. */
  stat(key: string): RecordInfo {
    return this.#host.stat(this.#find(key));
  }

  /** As `has` of the store. */
  has(key: string): boolean {
    this.#checkOpen();
    checkKey(key);
    return this.#shared.entries.has(key);
  }

  /** Keys that start with `prefix`, sorted; all of them unless `limit` says otherwise. */
  list(prefix = '', limit: number = Number.MAX_SAFE_INTEGER): string[] {
    this.#checkOpen();
    checkPrefix(prefix);
    assertInteger(limit, 'limit', 0);
    this.#host.checkList();
    this.#sorted ??= [...this.#shared.entries.keys()].sort();
    return this.#sorted.filter((key) => key.startsWith(prefix)).slice(0, limit);
  }

  /** Lets go of it. Allowed at any time. */
  close(): void {
    this.#isClosed = true;
    this.#host.ended(this);
  }

  #find(key: string): IndexEntry {
    this.#checkOpen();
    checkKey(key);
    const entry = this.#shared.entries.get(key);
    this.#host.check(key, entry);
    return entry ?? fail('ENOENT', `${key}: there was no such key when the snapshot was taken`);
  }

  #checkOpen(): void {
    if (this.#isClosed) fail('ECLOSED', 'the snapshot was closed: take another');
  }
}
