import type { BlockDevice } from '../blockdev/index.ts';
import { assertInteger, describeValue, isThenable } from '../core/index.ts';
import type { EnvelopeMetadata } from '../envelope/index.ts';
import { fail, wrapDeviceError } from './errors.ts';
import { FrameCodec } from './frame.ts';
import type { StoreGeometry } from './geometry.ts';
import { GroupCodec, type GroupOperation } from './group.ts';
import type { IndexEntry } from './index-entry.ts';
import { KeySpace } from './key-space.ts';
import { checkKey, checkPrefix } from './keys.ts';
import { Latch } from './latch.ts';
import { Latency } from './latency.ts';
import { KIND_DELETE, MAX_PAYLOAD_BYTES } from './layout.ts';
import { LiveSpace } from './live-space.ts';
import { logReaderOf } from './log-reader.ts';
import { type CommitMode, LogWriter } from './log-writer.ts';
import { bareOperation, putOperation } from './operations.ts';
import { assertCommit, assertMs, type OpenOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { PayloadStore } from './payload.ts';
import { QuotaCounter } from './quota.ts';
import { RecordReader } from './record-reader.ts';
import { type Damage, type Recovered, replay } from './replay.ts';
import type { ScrubReport } from './scrub-report.ts';
import { Scrubber } from './scrubber.ts';
import { Snapshot, type SnapshotHost } from './snapshot.ts';
import { SpaceKeeper } from './space-keeper.ts';
import type { DeleteOptions, PutOptions, RecordInfo, StoreStats } from './store-types.ts';
import { geometryOf, judgeSuperblocks, readSuperblocks, type SuperblockVerdict } from './superblock.ts';
import { SuperblockPair } from './superblock-pair.ts';
import { Transaction, type TransactionHost, type TransactionOptions } from './transaction.ts';
import { Visibility } from './visibility.ts';

/** What a step of compaction or of a scrub reads or writes, unless told otherwise. */
const DEFAULT_STEP_BYTES = 65_536;
/** Most keys that one `list` returns unless told otherwise. */
const DEFAULT_LIST_LIMIT = 10_000;

/** How changes are to be committed, all checked. */
interface CommitSettings {
  readonly mode: CommitMode;
  readonly durable: boolean;
  readonly beforeCommit: () => void;
}

/**
 * Opens the store on `device`: reads the superblocks, replays the log, writes nothing before the first change. The
 * device stays the caller's: it is neither closed nor shared.
 * @throws StateFsError EINVAL for what is no statefs partition or a device with other sectors, EINTEGRITY where both
 *   superblocks are damaged or the image is cut short, EPROTO for a newer format, EIO
 */
export function open(device: BlockDevice, options: OpenOptions = {}): StateFs {
  return new StateFs(device, resolveOptions(options));
}

/**
 * A journaled, atomic, verified key-value store. Every operation is synchronous, and on return has happened or has
 * thrown: a {@link StateFsError} with a stable code, or a TypeError or RangeError for a wrong argument.
 */
export class StateFs {
  readonly #device: BlockDevice;
  readonly #options: ResolvedOptions;
  readonly #geometry: StoreGeometry;
  readonly #codec: FrameCodec;
  readonly #payloads: PayloadStore;
  readonly #writer: LogWriter;
  readonly #keys: KeySpace;
  readonly #reader: RecordReader;
  readonly #recovered: Recovered;
  readonly #transactions = new Set<Transaction>();
  /** Made with the first transaction. */
  #host: TransactionHost | undefined;
  readonly #snapshots = new Set<Snapshot>();
  /** Made with the first snapshot. */
  #snapshotHost: SnapshotHost | undefined;
  readonly #latch: Latch;
  readonly #latency: Latency;
  readonly #visibility: Visibility;
  readonly #keeper: SpaceKeeper;
  /** While a scrub goes on. */
  #scrubber: Scrubber | undefined;
  #scrubCount = 0;
  #lastScrub: ScrubReport | undefined;
  #isClosed = false;

  /** Use {@link open}. */
  constructor(device: BlockDevice, options: ResolvedOptions) {
    const { rules } = options;
    this.#device = device;
    this.#options = { ...options, readOnly: options.readOnly || device.readOnly };
    try {
      // A store that was killed while the power stayed on left writes in the cache: recovery must report nothing that
      // a later cut could still take away.
      if (!this.#options.readOnly && rules.barriers.open) device.flush();
      const verdict = judgeSuperblocks(readSuperblocks(device, rules.checksums), rules);
      this.#geometry = geometryOf(device, verdict);
      this.#codec = new FrameCodec(verdict.current.storeId, device.sectorBytes, rules.checksums);
      this.#payloads = new PayloadStore(device, this.#codec, this.#geometry);
      const space = new LiveSpace(this.#codec, this.#geometry, this.#payloads);
      this.#keys = new KeySpace(space, new QuotaCounter(options.quotas));
      this.#recovered = this.#replay(verdict);
      if (!rules.recoveredUsage) this.#keys.forgetUsage();
      const superblocks = new SuperblockPair(device, this.#geometry, verdict, rules, this.#recovered.lostEpoch);
      const groups = new GroupCodec(this.#codec, this.#geometry, this.#payloads);
      this.#writer = new LogWriter(
        device,
        this.#codec,
        groups,
        this.#geometry,
        this.#payloads,
        superblocks,
        rules,
        this.#recovered,
      );
      const onDamage = (damage: Damage): void => this.#options.onEvent({ type: 'damage', damage });
      this.#reader = new RecordReader(device, this.#codec, this.#geometry, this.#payloads, rules, onDamage);
      const { onEvent, acceptStale } = this.#options;
      this.#latch = new Latch(this.#writer, onEvent);
      this.#latency = new Latency(this.#options.clock, this.#options.budgets, onEvent);
      this.#visibility = new Visibility(this.#recovered.lostSequence, acceptStale);
      this.#keeper = this.#spaceKeeper(groups);
      this.#tellRecovery(verdict);
    } catch (error) {
      throw wrapDeviceError(error, 'open');
    }
  }

  get readOnly(): boolean {
    return this.#options.readOnly;
  }

  /** Whether a commit or flush failed, so that what the disk holds is in doubt and changes are refused until reopened. */
  get isLatched(): boolean {
    return this.#latch.isSet;
  }

  /**
   * Stores `payload` under `key`. On return it survives any later power cut; if it throws, the old value stays, now
   * and after any cut. The one exception is an EIO of the commit itself: the outcome is in doubt, the store refuses
   * further changes, and reopening decides.
   * @param payload read before return, not kept
   * @throws StateFsError E2BIG, EINVAL, ENOSPC, EDEADLINE, EROFS, EIO, EINTEGRITY
   */
  putAtomic(key: string, payload: Uint8Array, options: PutOptions = {}): void {
    this.#put('putAtomic', key, payload, options, true);
  }

  /**
   * Stores `payload` under `key`, whole or not at all like {@link putAtomic}, but durable only once {@link sync}, or
   * any durable operation after it, has returned. Unsynced puts survive a cut in the order in which they were made.
   */
  put(key: string, payload: Uint8Array, options: PutOptions = {}): void {
    this.#put('put', key, payload, { ...options, commit: 'checksummed' }, false);
  }

  /**
   * The value of `key`, a new array, read from the device and verified against its SHA-256 every time.
   * @throws StateFsError ENOENT, EINTEGRITY where the value is damaged or may be stale, EIO
   */
  get(key: string): Uint8Array {
    const startMs = this.#begin();
    const payload = this.#reader.read(this.#find(key));
    this.#latency.end('get', key, startMs);
    return payload;
  }

  /**
   * What the record of `key` says of itself. Reads and verifies the record, not a payload that stands outside it.
   * @throws as {@link get}
   */
  stat(key: string): RecordInfo {
    const startMs = this.#begin();
    const info = this.#infoOf(this.#find(key));
    this.#latency.end('stat', key, startMs);
    return info;
  }

  /**
   * Whether `key` has a value, damaged or not.
   * @throws StateFsError EINTEGRITY where damage leaves it unknown
   */
  has(key: string): boolean {
    this.#checkOpen();
    checkKey(key);
    const entry = this.#keys.get(key);
    this.#visibility.checkPresence(key, entry);
    return entry !== undefined;
  }

  /**
   * Deletes `key`, durably on return unless told otherwise; atomic like {@link putAtomic}. Where there is nothing to
   * delete, that is durable too: a deletion before this one may have waited for a flush.
   * @returns false where there was nothing to delete
   */
  delete(key: string, options: DeleteOptions = {}): boolean {
    const startMs = this.#begin();
    this.#checkChangeable();
    const operation = bareOperation(KIND_DELETE, key);
    const settings = this.#settings('delete', startMs, options, options.durable ?? true);
    const existed = this.#keys.has(key);
    if (existed || this.#visibility.mayBeHidden) this.#write([operation], settings);
    else if (settings.durable) this.#settle();
    this.#latency.end('delete', key, startMs);
    return existed;
  }

  /**
   * Runs `change` on a transaction and commits it: all of its puts and deletes take effect together, or none. If
   * `change` throws, nothing does.
   * @param change synchronous; reads through its argument see its own changes
   * @returns what `change` returns
   * @throws what `change` throws; else as {@link Transaction.commit}
   */
  transaction<T>(change: (transaction: Transaction) => T, options: TransactionOptions = {}): T {
    const transaction = this.begin(options);
    try {
      const result = change(transaction);
      if (isThenable(result)) {
        throw new TypeError('transaction: expected a synchronous function: use begin() to commit later');
      }
      transaction.commit();
      return result;
    } finally {
      transaction.abort();
    }
  }

  /**
   * Opens a transaction that the caller commits or aborts. Open ones hold memory of this process and nothing else.
   * @throws StateFsError EBUSY where too many are open, EROFS, EIO
   */
  begin(options: TransactionOptions = {}): Transaction {
    this.#checkOpen();
    this.#checkChangeable();
    if (typeof options !== 'object' || options === null) {
      throw new TypeError(`options: expected an object, got ${describeValue(options)}`);
    }
    if (options.commit !== undefined) assertCommit(options.commit);
    if (options.deadlineMs !== undefined) assertMs(options.deadlineMs, 'deadlineMs');
    const { openTransactions } = this.#options.budgets;
    if (this.#transactions.size >= openTransactions) {
      fail(
        'EBUSY',
        `transaction: ${openTransactions} are open, which is the most: commit or abort one, or raise ` +
          'budgets.openTransactions',
      );
    }
    this.#host ??= this.#hostTransactions();
    const transaction = new Transaction(this.#host, options);
    this.#transactions.add(transaction);
    return transaction;
  }

  /**
   * A consistent view of everything as it is now, that later changes and moves leave alone.
   * @throws StateFsError EBUSY where too many are open
   */
  snapshot(): Snapshot {
    this.#checkOpen();
    const { openSnapshots } = this.#options.budgets;
    if (this.#snapshots.size >= openSnapshots) {
      fail(
        'EBUSY',
        `snapshot: ${openSnapshots} are open, which is the most: close one, or raise budgets.openSnapshots`,
      );
    }
    this.#snapshotHost ??= this.#hostSnapshots();
    const snapshot = new Snapshot(
      this.#snapshotHost,
      this.#keys.share(),
      this.#writer.lastSequence,
      this.#writer.region,
    );
    this.#snapshots.add(snapshot);
    return snapshot;
  }

  /**
   * Keys that start with `prefix`, in the order of their UTF-16 code units.
   * @param limit at most so many, from the first on; default 10,000
   * @throws StateFsError EINVAL for what is no start of a key; EINTEGRITY where damage leaves the keys unknown
   */
  list(prefix = '', limit: number = DEFAULT_LIST_LIMIT): string[] {
    this.#checkOpen();
    checkPrefix(prefix);
    assertInteger(limit, 'limit', 0);
    this.#checkList();
    return this.#keys.list(prefix, limit);
  }

  /**
   * Moves all live records to the other region and gives back the space of everything else. Finishes what is going on.
   * It takes as long as writing all live records; in `auto` mode there is no need to call it.
   * @throws StateFsError EIO, ENOSPC, EROFS; nothing is lost, and the log stays where it was
   */
  compact(): void {
    const startMs = this.#begin();
    this.#checkChangeable();
    this.#keeper.compact();
    this.#latency.end('compact', undefined, startMs);
  }

  /**
   * Does a piece of {@link compact}: for whoever has nothing else to do just now.
   * @param maxBytes about how much to write; default 64 KiB
   * @returns whether compaction is done
   * @throws as {@link compact}
   */
  compactStep(maxBytes: number = DEFAULT_STEP_BYTES): boolean {
    const startMs = this.#begin();
    this.#checkChangeable();
    assertInteger(maxBytes, 'maxBytes', 1);
    const isDone = this.#keeper.compactStep(Math.ceil(maxBytes / this.#geometry.sectorBytes));
    this.#latency.end('compactStep', undefined, startMs);
    return isDone;
  }

  /**
   * Reads everything that the store is made of from the device, and verifies it: both superblock copies, every frame of
   * the log, every live value. What is damaged is told by events. What can be proven right is written anew, unless the
   * store is open read-only: a superblock copy; a value of which a second copy is known; all that is live, away from
   * damage in the log. Finishes what is going on.
   * @returns what it came to
   * @throws StateFsError EIO where the store has latched
   */
  scrub(): ScrubReport {
    const startMs = this.#begin();
    const report = this.#scrubSome(Number.POSITIVE_INFINITY) as ScrubReport;
    this.#latency.end('scrub', undefined, startMs);
    return report;
  }

  /**
   * Does a piece of {@link scrub}: for whoever has nothing else to do just now. Changes may be made between two steps.
   * @param maxBytes about how much to read or write; default 64 KiB. Where it meets damage in the log, a step goes on to
   *   the next whole group
   * @returns what the scrub came to; undefined while it goes on
   * @throws as {@link scrub}
   */
  scrubStep(maxBytes: number = DEFAULT_STEP_BYTES): ScrubReport | undefined {
    const startMs = this.#begin();
    assertInteger(maxBytes, 'maxBytes', 1);
    const report = this.#scrubSome(Math.ceil(maxBytes / this.#geometry.sectorBytes));
    this.#latency.end('scrubStep', undefined, startMs);
    return report;
  }

  /** Makes every put so far durable. @throws StateFsError EIO, after which the store refuses changes; EROFS */
  sync(): void {
    const startMs = this.#begin();
    this.#checkChangeable();
    this.#settle();
    this.#latency.end('sync', undefined, startMs);
  }

  /**
   * Makes everything durable and records that the log ends here, which makes the next open quicker and lets it tell a
   * damaged last record from a torn one. Closing twice is allowed. Without it nothing durable is lost either.
   * @throws StateFsError EIO, also where the store has latched and a put that no sync covered may be lost; it is closed
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (!this.#options.readOnly) this.#latch.run(() => this.#writer.close());
  }

  stats(): StoreStats {
    const { sectorBytes, regionSectorCount } = this.#geometry;
    return {
      keys: this.#keys.size,
      freeBytes: this.#writer.freeSectors * sectorBytes,
      regionBytes: regionSectorCount * sectorBytes,
      liveBytes: this.#keys.space.boundSectors * sectorBytes,
      compacting: this.#keeper.isCompacting,
      compactions: this.#keeper.compactionCount,
      scrubbing: this.#scrubber !== undefined,
      scrubbedBytes: (this.#scrubber ?? this.#lastScrub)?.verifiedBytes ?? 0,
      scrubs: this.#scrubCount,
      lastScrub: this.#lastScrub,
      quotas: this.#keys.quotas.usage(),
      lastSequence: this.#writer.lastSequence,
      epoch: this.#writer.epoch,
      damage: this.#recovered.damage,
      recoveryRows: this.#recovered.rows,
    };
  }

  #replay(verdict: SuperblockVerdict): Recovered {
    const reader = logReaderOf(this.#device, this.#geometry, verdict, this.#options.rules);
    const recovered = replay({
      device: this.#device,
      reader,
      codec: this.#codec,
      geometry: this.#geometry,
      payloads: this.#payloads,
      keys: this.#keys,
      verdict,
      rules: this.#options.rules,
    });
    reader.close();
    return recovered;
  }

  #tellRecovery(verdict: SuperblockVerdict): void {
    const { onEvent } = this.#options;
    const { damage, lastSequence } = this.#recovered;
    if (verdict.otherWhy !== undefined)
      onEvent({ type: 'superblock', what: `one copy is unusable: ${verdict.otherWhy}` });
    for (const one of damage) onEvent({ type: 'damage', damage: one });
    onEvent({ type: 'replayed', keys: this.#keys.size - this.#keys.lostCount, lastSequence, damage: damage.length });
  }

  #put(operation: string, key: string, payload: Uint8Array, options: PutOptions, durable: boolean): void {
    const startMs = this.#begin();
    this.#checkChangeable();
    const put = this.#preparePut(key, payload, options.meta ?? {});
    this.#write([put], this.#settings(operation, startMs, options, durable));
    this.#latency.end(operation, key, startMs);
  }

  #preparePut(key: string, payload: Uint8Array, meta: Partial<EnvelopeMetadata>): GroupOperation {
    const { budgets, clock } = this.#options;
    const { subject = '', purpose = '', ts = clock.wallMs() } = meta;
    return putOperation(key, payload, { subject, purpose, ts }, budgets.payloadBytes);
  }

  /** @param startMs when the operation began, for its deadline */
  #settings(operation: string, startMs: number, options: DeleteOptions, durable: boolean): CommitSettings {
    const mode = options.commit ?? this.#options.commit;
    assertCommit(mode);
    return { mode, durable, beforeCommit: this.#latency.deadline(operation, startMs, options.deadlineMs) };
  }

  /** Writes a group, and takes it into the index. */
  #write(operations: readonly GroupOperation[], settings: CommitSettings): void {
    const crossings = this.#keys.quotas.check(operations, (key) => this.#keys.get(key));
    const plan = this.#keeper.place(operations);
    const freeBefore = this.#writer.freeSectors;
    const entries = this.#latch.run(() => this.#writer.append(plan, settings));
    for (let i = 0; i < operations.length; i++) {
      const entry = entries[i];
      if (entry === undefined) {
        this.#delete((operations[i] as GroupOperation).key);
      } else {
        this.#keys.set(entry);
        this.#keeper.noteSet(entry);
      }
    }
    for (const crossing of crossings) this.#options.onEvent({ type: 'quota', ...crossing });
    this.#keeper.compactBeside(freeBefore - this.#writer.freeSectors);
  }

  /** Makes durable what is not yet. */
  #settle(): void {
    if (this.#writer.hasUnflushed) this.#latch.run(() => this.#writer.flush('commit'));
  }

  #delete(key: string): void {
    const was = this.#keys.get(key);
    if (was === undefined) return;
    this.#keys.delete(key);
    this.#keeper.noteDelete(was);
  }

  #scrubSome(sectors: number): ScrubReport | undefined {
    if (this.#scrubber === undefined) {
      this.#scrubber = this.#newScrubber();
      this.#options.onEvent({ type: 'scrub', phase: 'started', verifiedBytes: 0, damaged: 0, mended: 0 });
    }
    let report: ScrubReport | undefined;
    do report = this.#scrubber.step(sectors);
    while (report === undefined && sectors === Number.POSITIVE_INFINITY);
    if (report === undefined) return undefined;
    this.#scrubber = undefined;
    this.#scrubCount++;
    this.#lastScrub = report;
    const { verifiedBytes, damaged, mended } = report;
    this.#options.onEvent({ type: 'scrub', phase: 'finished', verifiedBytes, damaged, mended });
    return report;
  }

  #newScrubber(): Scrubber {
    const { rules, onEvent, readOnly } = this.#options;
    return new Scrubber({
      device: this.#device,
      codec: this.#codec,
      geometry: this.#geometry,
      payloads: this.#payloads,
      writer: this.#writer,
      keys: this.#keys,
      keeper: this.#keeper,
      latch: this.#latch,
      rules,
      readOnly,
      lostSequence: this.#recovered.lostSequence,
      onEvent,
      putAnew: (key, payload, meta) => {
        const settings = { mode: this.#options.commit, durable: true, beforeCommit: () => {} };
        this.#write([putOperation(key, payload, meta, MAX_PAYLOAD_BYTES)], settings);
      },
    });
  }

  /** A snapshot shows records in the region that compaction would write to. */
  #isPinned(): boolean {
    for (const { region } of this.#snapshots) if (region !== this.#writer.region) return true;
    return false;
  }

  #spaceKeeper(groups: GroupCodec): SpaceKeeper {
    const { compaction, onEvent } = this.#options;
    // One literal: every open makes one, and the explorer opens a store some thousand times a second.
    return new SpaceKeeper({
      device: this.#device,
      groups,
      geometry: this.#geometry,
      payloads: this.#payloads,
      reader: this.#reader,
      writer: this.#writer,
      keys: this.#keys,
      rules: this.#options.rules,
      lostSequence: this.#recovered.lostSequence,
      mode: compaction,
      latch: this.#latch,
      onEvent,
      isPinned: () => this.#isPinned(),
    });
  }

  #hostTransactions(): TransactionHost {
    return {
      maxBytes: this.#options.budgets.transactionBytes,
      sequenceOf: (key) => this.#keys.get(key)?.sequence ?? 0,
      has: (key) => this.has(key),
      get: (key) => this.get(key),
      preparePut: (key, payload, meta) => this.#preparePut(key, payload, meta),
      prepareDelete: (key) => bareOperation(KIND_DELETE, key),
      commit: (operations, options) => this.#commit(operations, options),
      ended: (transaction) => this.#transactions.delete(transaction),
    };
  }

  #commit(operations: readonly GroupOperation[], options: TransactionOptions): void {
    const startMs = this.#begin();
    this.#checkChangeable();
    const settings = this.#settings('transaction', startMs, options, options.durable ?? true);
    const changing = operations.filter(
      ({ kind, key }) => kind !== KIND_DELETE || this.#keys.has(key) || this.#visibility.mayBeHidden,
    );
    if (changing.length > 0) this.#write(changing, settings);
    else if (settings.durable) this.#settle();
    this.#latency.end('transaction', undefined, startMs);
  }

  #infoOf(entry: IndexEntry): RecordInfo {
    const { payloadBytes, digest, meta } = this.#reader.envelope(entry);
    return { key: entry.key, payloadBytes, digest, meta, sequence: entry.sequence };
  }

  #find(key: string): IndexEntry {
    checkKey(key);
    const entry = this.#keys.get(key);
    this.#visibility.check(key, entry);
    if (entry === undefined) fail('ENOENT', `${key}: there is no such key`);
    return entry;
  }

  #checkList(): void {
    this.#checkOpen();
    this.#visibility.checkList();
  }

  #hostSnapshots(): SnapshotHost {
    return {
      check: (key, entry) => {
        this.#checkOpen();
        this.#visibility.check(key, entry);
      },
      checkList: () => this.#checkList(),
      read: (entry) => this.#reader.read(entry),
      stat: (entry) => this.#infoOf(entry),
      ended: (snapshot) => this.#snapshots.delete(snapshot),
    };
  }

  #begin(): number {
    this.#checkOpen();
    return this.#latency.begin();
  }

  #checkOpen(): void {
    if (this.#isClosed) fail('ECLOSED', 'the store was closed: open it again to use it');
  }

  #checkChangeable(): void {
    if (this.#options.readOnly) fail('EROFS', 'the store is open read-only: open it for writing to change it');
    this.#latch.check();
  }
}
