import type { BlockDevice } from '../blockdev/index.ts';
import { assertBytes, assertInteger, codeOf, describeValue, messageOf } from '../core/index.ts';
import { type Envelope, type EnvelopeMetadata, encode, wrap } from '../envelope/index.ts';
import { Compactor, type CompactorInput } from './compactor.ts';
import { fail, StateFsError, wrapDeviceError } from './errors.ts';
import { FrameCodec } from './frame.ts';
import { type StoreGeometry, storeGeometry } from './geometry.ts';
import { GroupCodec, type GroupOperation, type GroupPlan } from './group.ts';
import type { IndexEntry } from './index-entry.ts';
import { KeySpace } from './key-space.ts';
import { checkKey, checkPrefix, encodeKey } from './keys.ts';
import { DIGEST_BYTES, KIND_DELETE, KIND_LOST, KIND_PUT } from './layout.ts';
import { LiveSpace, reservedSectors } from './live-space.ts';
import { LogReader } from './log-reader.ts';
import { type CommitMode, LogWriter } from './log-writer.ts';
import { assertCommit, assertMs, type OpenOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { PayloadStore } from './payload.ts';
import { QuotaCounter, type QuotaUsage } from './quota.ts';
import { RecordReader } from './record-reader.ts';
import type { Row } from './recovery-table.ts';
import { type Damage, type Recovered, replay } from './replay.ts';
import { Snapshot, type SnapshotHost } from './snapshot.ts';
import { judgeSuperblocks, readSuperblocks, type SuperblockVerdict } from './superblock.ts';
import { SuperblockPair } from './superblock-pair.ts';
import { Transaction, type TransactionHost, type TransactionOptions } from './transaction.ts';

/** What a put may say beside key and payload. */
export interface PutOptions {
  /** Who put it, what for, and when; goes into the envelope. Default: '', '', and the clock's wall time. */
  readonly meta?: Partial<EnvelopeMetadata>;
  /** Default: the store's. */
  readonly commit?: CommitMode;
  /** Milliseconds for this operation; default: the budget's. */
  readonly deadlineMs?: number;
}

/** What a deletion may say beside the key. */
export interface DeleteOptions extends Omit<PutOptions, 'meta'> {
  /** False: durable only with the next sync or durable operation, like a `put`. Default true. */
  readonly durable?: boolean;
}

/** What a record says of itself, without its payload. */
export interface RecordInfo {
  readonly key: string;
  readonly payloadBytes: number;
  readonly digest: Uint8Array;
  readonly meta: EnvelopeMetadata;
  /** Number of the group that wrote it: higher is later. */
  readonly sequence: number;
}

export interface StoreStats {
  readonly keys: number;
  /** Bytes that neither log nor payloads take up. */
  readonly freeBytes: number;
  /** Bytes of the active region. */
  readonly regionBytes: number;
  /** Bytes that the live records take at most once they are moved; all else that is not free is dead. */
  readonly liveBytes: number;
  /** Whether compaction goes on, and how often it was finished since the store was opened. */
  readonly compacting: boolean;
  readonly compactions: number;
  /** What the keys of each quota take up, in the order of the options. */
  readonly quotas: readonly QuotaUsage[];
  readonly lastSequence: number;
  readonly epoch: number;
  readonly damage: readonly Damage[];
  /** How often each row of the recovery table applied when the store was opened. */
  readonly recoveryRows: ReadonlyMap<Row, number>;
}

/** What a step of compaction writes, unless told otherwise. */
const DEFAULT_STEP_BYTES = 65_536;
/** What a step beside a change writes at least. */
const MIN_STEP_BYTES = 8192;
/** Compaction begins by itself once it would gain this share of a region. */
const MIN_GAIN_SHARE = 1 / 32;
/** Most keys that one `list` returns unless told otherwise. */
const DEFAULT_LIST_LIMIT = 10_000;
const NO_BYTES: Uint8Array = new Uint8Array(0);
const NO_DIGEST: Uint8Array = new Uint8Array(DIGEST_BYTES);

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
  readonly #host: TransactionHost;
  readonly #snapshots = new Set<Snapshot>();
  readonly #snapshotHost: SnapshotHost;
  readonly #compactorInput: CompactorInput;
  /** While compaction goes on. */
  #compactor: Compactor | undefined;
  /** After compaction failed: it is not tried again by itself before the free space has fallen below this. */
  #retryBelowSectors = Number.POSITIVE_INFINITY;
  #compactionCount = 0;
  #isClosed = false;
  #hasToldLatch = false;

  /** Use {@link open}. */
  constructor(device: BlockDevice, options: ResolvedOptions) {
    const { rules } = options;
    this.#device = device;
    this.#options = { ...options, readOnly: options.readOnly || device.readOnly };
    try {
      // A store that was killed while the power stayed on left writes in the cache: recovery must report nothing that
      // a later cut could still take away.
      if (!this.#options.readOnly && rules.barriers.open) device.flush();
      const verdict = judgeSuperblocks(readSuperblocks(device, rules.checksums));
      this.#geometry = geometryOf(device, verdict);
      this.#codec = new FrameCodec(verdict.current.storeId, device.sectorBytes, rules.checksums);
      this.#payloads = new PayloadStore(device, this.#codec, this.#geometry);
      const space = new LiveSpace(this.#codec, this.#geometry, this.#payloads);
      this.#keys = new KeySpace(space, new QuotaCounter(options.quotas));
      this.#recovered = this.#replay(verdict);
      if (!rules.recoveredUsage) this.#keys.forgetUsage();
      const superblocks = new SuperblockPair(device, this.#geometry, verdict, rules);
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
      this.#host = this.#transactionHost();
      this.#snapshotHost = this.#hostSnapshots();
      this.#compactorInput = {
        device,
        groups,
        geometry: this.#geometry,
        payloads: this.#payloads,
        reader: this.#reader,
        writer: this.#writer,
        keys: this.#keys,
        rules,
        lostSequence: this.#recovered.lostSequence,
      };
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
    return this.#writer.inDoubt !== undefined;
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
    this.#end('get', key, startMs);
    return payload;
  }

  /**
   * What the record of `key` says of itself. Reads and verifies the record, not a payload that stands outside it.
   * @throws as {@link get}
   */
  stat(key: string): RecordInfo {
    const startMs = this.#begin();
    const info = this.#infoOf(this.#find(key));
    this.#end('stat', key, startMs);
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
    if (entry?.kind === KIND_LOST) return true;
    this.#checkStale(key, entry?.sequence ?? 0);
    return entry !== undefined;
  }

  /**
   * Deletes `key`, durably on return unless told otherwise; atomic like {@link putAtomic}.
   * @returns false where there was nothing to delete
   */
  delete(key: string, options: DeleteOptions = {}): boolean {
    const startMs = this.#begin();
    this.#checkChangeable();
    const operation = this.#prepareDelete(key);
    const settings = this.#settings('delete', startMs, options, options.durable ?? true);
    const existed = this.#keys.has(key);
    if (!existed && !this.#mayBeHidden()) return false;
    this.#write([operation], settings);
    this.#end('delete', key, startMs);
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
      if (typeof (result as { then?: unknown } | undefined)?.then === 'function') {
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
    const keys = this.#keys.sortedKeys();
    const found: string[] = [];
    for (let i = lowerBound(keys, prefix); i < keys.length && found.length < limit; i++) {
      const key = keys[i] as string;
      if (!key.startsWith(prefix)) break;
      found.push(key);
    }
    return found;
  }

  /**
   * Moves all live records to the other region and gives back the space of everything else. Finishes what is going on.
   * It takes as long as writing all live records; in `auto` mode there is no need to call it.
   * @throws StateFsError EIO, ENOSPC, EROFS; nothing is lost, and the log stays where it was
   */
  compact(): void {
    const startMs = this.#begin();
    this.#checkChangeable();
    this.#compactFully();
    this.#end('compact', undefined, startMs);
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
    this.#compactor ??= this.#startCompaction();
    const isDone = this.#stepCompaction(Math.ceil(maxBytes / this.#geometry.sectorBytes));
    this.#end('compactStep', undefined, startMs);
    return isDone;
  }

  /** Makes every put so far durable. @throws StateFsError EIO, after which the store refuses changes; EROFS */
  sync(): void {
    const startMs = this.#begin();
    this.#checkChangeable();
    if (this.#writer.hasUnflushed) this.#latching(() => this.#writer.flush('commit'));
    this.#end('sync', undefined, startMs);
  }

  /**
   * Makes everything durable and records that the log ends here, which makes the next open quicker and lets it tell a
   * damaged last record from a torn one. Closing twice is allowed. Without it nothing durable is lost either.
   * @throws StateFsError EIO, also where the store has latched and a put that no sync covered may be lost; it is closed
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (!this.#options.readOnly) this.#latching(() => this.#writer.close());
  }

  stats(): StoreStats {
    const { sectorBytes, regionSectorCount } = this.#geometry;
    return {
      keys: this.#keys.size,
      freeBytes: this.#writer.freeSectors * sectorBytes,
      regionBytes: regionSectorCount * sectorBytes,
      liveBytes: this.#keys.space.boundSectors * sectorBytes,
      compacting: this.#compactor !== undefined,
      compactions: this.#compactionCount,
      quotas: this.#keys.quotas.usage(),
      lastSequence: this.#writer.lastSequence,
      epoch: this.#writer.epoch,
      damage: this.#recovered.damage,
      recoveryRows: this.#recovered.rows,
    };
  }

  #replay(verdict: SuperblockVerdict): Recovered {
    const { frontierSector, activeRegion } = verdict.current;
    const reader = new LogReader(this.#device, this.#geometry.regionSectors[activeRegion], frontierSector);
    return replay({
      device: this.#device,
      reader,
      codec: this.#codec,
      geometry: this.#geometry,
      payloads: this.#payloads,
      keys: this.#keys,
      verdict,
      rules: this.#options.rules,
    });
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
    this.#end(operation, key, startMs);
  }

  #preparePut(key: string, given: Uint8Array, meta: Partial<EnvelopeMetadata>): GroupOperation {
    const keyBytes = encodeKey(key);
    assertBytes(given, 'payload');
    const { budgets, clock } = this.#options;
    if (given.length > budgets.payloadBytes) {
      fail(
        'E2BIG',
        `payload: expected at most ${budgets.payloadBytes} bytes, got ${given.length}: raise the budget or split it`,
      );
    }
    // Another thread may write to shared memory between the digest and the disk: the value would not verify any more.
    const payload = given.buffer instanceof SharedArrayBuffer ? new Uint8Array(given) : given;
    const { subject = '', purpose = '', ts = clock.wallMs() } = meta;
    const envelope = wrapPayload(payload, { subject, purpose, ts });
    return {
      kind: KIND_PUT,
      key,
      keyBytes,
      envelope: encode(envelope),
      payloadBytes: payload.length,
      payload,
      digest: envelope.digest,
    };
  }

  #prepareDelete(key: string): GroupOperation {
    const keyBytes = encodeKey(key);
    return {
      kind: KIND_DELETE,
      key,
      keyBytes,
      envelope: NO_BYTES,
      payloadBytes: 0,
      payload: NO_BYTES,
      digest: NO_DIGEST,
    };
  }

  /** @param startMs when the operation began, for its deadline */
  #settings(operation: string, startMs: number, options: DeleteOptions, durable: boolean): CommitSettings {
    const mode = options.commit ?? this.#options.commit;
    assertCommit(mode);
    return { mode, durable, beforeCommit: this.#deadline(operation, startMs, options.deadlineMs) };
  }

  /** Writes a group, and takes it into the index. */
  #write(operations: readonly GroupOperation[], settings: CommitSettings): void {
    const crossings = this.#keys.quotas.check(operations, (key) => this.#keys.get(key));
    const plan = this.#place(operations);
    const freeBefore = this.#writer.freeSectors;
    const entries = this.#latching(() => this.#writer.append(plan, settings));
    for (let i = 0; i < operations.length; i++) {
      const entry = entries[i];
      if (entry === undefined) {
        this.#delete((operations[i] as GroupOperation).key);
      } else {
        this.#keys.set(entry);
        this.#compactor?.noteSet(entry);
      }
    }
    for (const crossing of crossings) this.#options.onEvent({ type: 'quota', ...crossing });
    if (this.#options.compaction === 'auto') this.#compactBeside(freeBefore - this.#writer.freeSectors);
  }

  #delete(key: string): void {
    const was = this.#keys.get(key);
    if (was === undefined) return;
    this.#keys.delete(key);
    this.#compactor?.noteDelete(was, this.#writer.lastSequence);
  }

  /**
   * Does as much of compaction as a change of `sectors` has to pay for: so much that it is done before half of the space
   * that is left is used up. What fails here fails no change: the change has happened.
   */
  #compactBeside(sectors: number): void {
    if (this.#compactor === undefined && !this.#shouldCompact()) return;
    try {
      this.#compactor ??= this.#startCompaction();
      const share = (2 * sectors * this.#compactor.remainingSectors) / Math.max(1, this.#writer.freeSectors);
      this.#stepCompaction(Math.ceil(share + MIN_STEP_BYTES / this.#geometry.sectorBytes));
    } catch (error) {
      if (!(error instanceof StateFsError)) throw error;
    }
  }

  /** Once half of the space that compaction would leave is used up by what it would take away. */
  #shouldCompact(): boolean {
    if (this.#isPinned()) return false;
    const { freeSectors } = this.#writer;
    const { regionSectorCount } = this.#geometry;
    const freeAfter = regionSectorCount - this.#keys.space.boundSectors;
    return (
      freeSectors < freeAfter / 2 &&
      freeAfter - freeSectors >= regionSectorCount * MIN_GAIN_SHARE &&
      freeSectors < this.#retryBelowSectors
    );
  }

  /** A snapshot shows records in the region that compaction would write to. */
  #isPinned(): boolean {
    for (const { region } of this.#snapshots) if (region !== this.#writer.region) return true;
    return false;
  }

  #startCompaction(): Compactor {
    if (this.#isPinned()) {
      fail('EBUSY', 'compaction: an open snapshot shows records in the region that it needs: close the snapshot');
    }
    const compactor = this.#latching(() => new Compactor(this.#compactorInput));
    this.#tellCompaction('started');
    return compactor;
  }

  /** @returns whether it is done */
  #stepCompaction(sectors: number): boolean {
    const compactor = this.#compactor as Compactor;
    try {
      if (!this.#latching(() => compactor.step(sectors))) return false;
    } catch (error) {
      this.#compactor = undefined;
      this.#retryBelowSectors = this.#writer.freeSectors / 2;
      this.#tellCompaction('abandoned', error);
      throw error;
    }
    this.#compactor = undefined;
    this.#retryBelowSectors = Number.POSITIVE_INFINITY;
    this.#compactionCount++;
    this.#tellCompaction('finished');
    return true;
  }

  #compactFully(): void {
    this.#compactor ??= this.#startCompaction();
    while (!this.#stepCompaction(Number.POSITIVE_INFINITY));
  }

  #tellCompaction(phase: 'started' | 'finished' | 'abandoned', error?: unknown): void {
    const freeBytes = this.#writer.freeSectors * this.#geometry.sectorBytes;
    this.#options.onEvent({ type: 'compaction', phase, freeBytes, ...(error === undefined ? {} : { error }) });
  }

  /** @throws StateFsError ENOSPC, before anything is written */
  #place(operations: readonly GroupOperation[]): GroupPlan {
    let plan = this.#writer.plan(operations);
    let missing = this.#missingSectors(plan);
    let cause: unknown;
    // A copy that was going on may hold what has died since; a second one does not.
    for (let attempt = 0; missing > 0 && attempt < 2 && this.#wouldFit(plan); attempt++) {
      try {
        this.#compactFully();
      } catch (error) {
        this.#checkChangeable();
        cause = error;
      }
      plan = this.#writer.plan(operations);
      missing = this.#missingSectors(plan);
    }
    if (missing <= 0) return plan;
    const { sectorBytes } = this.#geometry;
    return fail(
      'ENOSPC',
      `the store is full: ${missing * sectorBytes} bytes are missing, with the reserve for deletes: ` +
        (cause === undefined ? 'delete something, or use a larger partition' : messageOf(cause)),
      cause,
    );
  }

  /** Whether a group would fit in a region that holds nothing but live records. */
  #wouldFit(plan: GroupPlan): boolean {
    if (this.#options.compaction !== 'auto') return false;
    if (plan.operations.every(({ operation }) => operation.kind === KIND_DELETE)) return true;
    const { keys, sectors } = this.#keys.space.boundAfter(plan.operations, (key) => this.#keys.get(key));
    const reserve = reservedSectors(this.#geometry, keys);
    const own = plan.endSector - plan.sector + this.#writer.freeSectors - (plan.payloadFloor - plan.endSector);
    const used = Math.max(sectors, this.#keys.space.boundSectors + own);
    return used + reserve <= this.#geometry.regionSectorCount;
  }

  /** Sectors that a group lacks, in its region or in the other one once it is moved there. */
  #missingSectors(plan: GroupPlan): number {
    const freeAfter = plan.payloadFloor - plan.endSector;
    if (plan.operations.every(({ operation }) => operation.kind === KIND_DELETE)) return -freeAfter;
    const after = this.#keys.space.boundAfter(plan.operations, (key) => this.#keys.get(key));
    const reserve = reservedSectors(this.#geometry, after.keys);
    return reserve + Math.max(-freeAfter, after.sectors - this.#geometry.regionSectorCount);
  }

  #transactionHost(): TransactionHost {
    return {
      maxBytes: this.#options.budgets.transactionBytes,
      sequenceOf: (key) => this.#keys.get(key)?.sequence ?? 0,
      has: (key) => this.has(key),
      get: (key) => this.get(key),
      preparePut: (key, payload, meta) => this.#preparePut(key, payload, meta),
      prepareDelete: (key) => this.#prepareDelete(key),
      commit: (operations, options) => this.#commit(operations, options),
      ended: (transaction) => this.#transactions.delete(transaction),
    };
  }

  #commit(operations: readonly GroupOperation[], options: TransactionOptions): void {
    const startMs = this.#begin();
    this.#checkChangeable();
    const settings = this.#settings('transaction', startMs, options, options.durable ?? true);
    const changing = operations.filter(
      ({ kind, key }) => kind !== KIND_DELETE || this.#keys.has(key) || this.#mayBeHidden(),
    );
    if (changing.length > 0) this.#write(changing, settings);
    this.#end('transaction', undefined, startMs);
  }

  #latching<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (this.#writer.inDoubt !== undefined && !this.#hasToldLatch) {
        this.#hasToldLatch = true;
        this.#options.onEvent({ type: 'latched', error: this.#writer.inDoubt });
      }
      throw error;
    }
  }

  #deadline(operation: string, startMs: number, own: number | undefined): () => void {
    const deadlineMs = own ?? this.#options.budgets.deadlineMs;
    assertMs(deadlineMs, 'deadlineMs');
    return () => {
      const elapsedMs = this.#options.clock.monotonicMs() - startMs;
      if (elapsedMs <= deadlineMs) return;
      fail(
        'EDEADLINE',
        `${operation}: expected to commit within ${deadlineMs} ms, but ${elapsedMs} had passed: the old value stays`,
      );
    };
  }

  #infoOf(entry: IndexEntry): RecordInfo {
    const { payloadBytes, digest, meta } = this.#reader.readEnvelope(entry);
    return { key: entry.key, payloadBytes, digest, meta, sequence: entry.sequence };
  }

  #find(key: string): IndexEntry {
    checkKey(key);
    const entry = this.#keys.get(key);
    this.#checkReadable(key, entry);
    if (entry === undefined) fail('ENOENT', `${key}: there is no such key`);
    return entry;
  }

  #checkList(): void {
    this.#checkOpen();
    if (this.#mayBeHidden() && !this.#options.acceptStale) {
      fail('EINTEGRITY', 'list: a committed group was lost with its keys: open with acceptStale to list what is left');
    }
  }

  #checkReadable(key: string, entry: IndexEntry | undefined): void {
    if (entry?.kind === KIND_LOST)
      fail('EINTEGRITY', `${key}: its newest value is unreadable: put it again, or restore it`);
    this.#checkStale(key, entry?.sequence ?? 0);
  }

  #hostSnapshots(): SnapshotHost {
    return {
      check: (key, entry) => {
        this.#checkOpen();
        this.#checkReadable(key, entry);
      },
      checkList: () => this.#checkList(),
      read: (entry) => this.#reader.read(entry),
      stat: (entry) => this.#infoOf(entry),
      ended: (snapshot) => this.#snapshots.delete(snapshot),
    };
  }

  /** A group was lost with its keys: any key may be one of them. */
  #mayBeHidden(): boolean {
    return this.#recovered.lostSequence > 0;
  }

  #checkStale(key: string, sequence: number): void {
    if (sequence >= this.#recovered.lostSequence || this.#options.acceptStale) return;
    fail(
      'EINTEGRITY',
      `${key}: group ${this.#recovered.lostSequence} was committed later and lost with its keys, so this value may be ` +
        'stale: put it again, or open with acceptStale to read it',
    );
  }

  #begin(): number {
    this.#checkOpen();
    return this.#options.clock.monotonicMs();
  }

  #end(operation: string, key: string | undefined, startMs: number): void {
    const elapsedMs = this.#options.clock.monotonicMs() - startMs;
    const budgetMs = this.#options.budgets.softLatencyMs;
    if (elapsedMs > budgetMs) this.#options.onEvent({ type: 'slow', operation, key, elapsedMs, budgetMs });
  }

  #checkOpen(): void {
    if (this.#isClosed) fail('ECLOSED', 'the store was closed: open it again to use it');
  }

  #checkChangeable(): void {
    if (this.#options.readOnly) fail('EROFS', 'the store is open read-only: open it for writing to change it');
    if (this.#writer.inDoubt !== undefined) {
      fail(
        'EIO',
        'a commit or flush failed and its outcome is in doubt: reopen the store to find out',
        this.#writer.inDoubt,
      );
    }
  }
}

/**
 * The geometry of the store on `device`.
 * @throws StateFsError EINVAL for a device with other sectors, EINTEGRITY where it is shorter than the store
 */
export function geometryOf(device: BlockDevice, { current }: SuperblockVerdict): StoreGeometry {
  if (current.sectorBytes !== device.sectorBytes) {
    fail(
      'EINVAL',
      `open: the store has sectors of ${current.sectorBytes} bytes, the device of ${device.sectorBytes}: attach it as it was`,
    );
  }
  if (current.sectorCount > device.sectorCount) {
    fail(
      'EINTEGRITY',
      `open: the store has ${current.sectorCount} sectors, the device ${device.sectorCount}: the image was cut short`,
    );
  }
  return storeGeometry(current.sectorBytes, current.sectorCount, current.unitBytes);
}

/** {@link wrap}, with its errors under the store's class. */
function wrapPayload(payload: Uint8Array, meta: EnvelopeMetadata): Envelope {
  try {
    return wrap(payload, meta);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'E2BIG' || code === 'EINVAL') throw new StateFsError(code, (error as Error).message, { cause: error });
    throw error;
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
