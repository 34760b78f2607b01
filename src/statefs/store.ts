import type { BlockDevice } from '../blockdev/index.ts';
import { assertBytes, assertInteger, codeOf, equalBytes, viewOf } from '../core/index.ts';
import { decode, type Envelope, type EnvelopeMetadata, encode, sha256, wrap } from '../envelope/index.ts';
import { fail, StateFsError, wrapDeviceError } from './errors.ts';
import { FrameCodec, FrameHeader } from './frame.ts';
import { type StoreGeometry, storeGeometry } from './geometry.ts';
import { checkKey, checkPrefix, encodeKey } from './keys.ts';
import { DIGEST_BYTES, FRAME_TEMP, KIND_DELETE, KIND_PUT } from './layout.ts';
import { LogReader } from './log-reader.ts';
import { type CommitMode, LogWriter } from './log-writer.ts';
import { assertCommit, assertMs, type OpenOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { PayloadStore } from './payload.ts';
import type { Row } from './recovery-table.ts';
import { type Damage, type IndexEntry, type Recovered, replay } from './replay.ts';
import { judgeSuperblocks, readSuperblocks, type SuperblockVerdict } from './superblock.ts';
import { SuperblockPair } from './superblock-pair.ts';

/** What a put may say beside key and payload. */
export interface PutOptions {
  /** Who put it, what for, and when; goes into the envelope. Default: '', '', and the clock's wall time. */
  readonly meta?: Partial<EnvelopeMetadata>;
  /** Default: the store's. */
  readonly commit?: CommitMode;
  /** Milliseconds for this operation; default: the budget's. */
  readonly deadlineMs?: number;
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
  readonly lastSequence: number;
  readonly epoch: number;
  readonly damage: readonly Damage[];
  /** How often each row of the recovery table applied when the store was opened. */
  readonly recoveryRows: ReadonlyMap<Row, number>;
}

/** Most keys that one `list` returns unless told otherwise. */
const DEFAULT_LIST_LIMIT = 10_000;
const NO_BYTES = new Uint8Array(0);
const NO_DIGEST = new Uint8Array(DIGEST_BYTES);

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
  readonly #index: Map<string, IndexEntry>;
  readonly #damagedKeys: Map<string, number>;
  readonly #recovered: Recovered;
  readonly #frame: Uint8Array;
  readonly #frameView: DataView;
  readonly #header = new FrameHeader();
  #sortedKeys: string[] | undefined;
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
      this.#recovered = this.#replay(verdict);
      const superblocks = new SuperblockPair(device, this.#geometry, verdict, rules);
      this.#writer = new LogWriter(
        device,
        this.#codec,
        this.#geometry,
        this.#payloads,
        superblocks,
        rules,
        this.#recovered,
      );
      this.#index = this.#recovered.index;
      this.#damagedKeys = this.#recovered.damagedKeys;
      this.#frame = new Uint8Array(this.#geometry.frameSectors * device.sectorBytes);
      this.#frameView = viewOf(this.#frame);
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
    const entry = this.#find(key);
    const { payload } = this.#read(entry);
    this.#end('get', key, startMs);
    return payload;
  }

  /**
   * What the record of `key` says of itself. Reads and verifies the record, not a payload that stands outside it.
   * @throws as {@link get}
   */
  stat(key: string): RecordInfo {
    const startMs = this.#begin();
    const entry = this.#find(key);
    const envelope = this.#readEnvelope(entry);
    this.#end('stat', key, startMs);
    const { payloadBytes, digest, meta } = envelope;
    return { key, payloadBytes, digest, meta, sequence: entry.sequence };
  }

  /**
   * Whether `key` has a value, damaged or not.
   * @throws StateFsError EINTEGRITY where damage leaves it unknown
   */
  has(key: string): boolean {
    this.#checkOpen();
    checkKey(key);
    if (this.#damagedKeys.has(key)) return true;
    const entry = this.#index.get(key);
    this.#checkStale(key, entry?.sequence ?? 0);
    return entry !== undefined;
  }

  /**
   * Deletes `key`, durably on return; atomic like {@link putAtomic}.
   * @returns false where there was nothing to delete
   */
  delete(key: string, options: Omit<PutOptions, 'meta'> = {}): boolean {
    const startMs = this.#begin();
    this.#checkChangeable();
    const keyBytes = encodeKey(key);
    const commit = options.commit ?? this.#options.commit;
    assertCommit(commit);
    const beforeCommit = this.#deadline('delete', startMs, options.deadlineMs);
    if (!this.#index.has(key) && !this.#damagedKeys.has(key) && !this.#mayBeHidden()) return false;
    this.#append(
      {
        kind: KIND_DELETE,
        key,
        keyBytes,
        envelope: NO_BYTES,
        payload: NO_BYTES,
        digest: NO_DIGEST,
        mode: commit,
        durable: true,
        beforeCommit,
      },
      this.#index.size - 1,
    );
    const existed = this.#index.delete(key);
    const wasDamaged = this.#damagedKeys.delete(key);
    this.#sortedKeys = undefined;
    this.#end('delete', key, startMs);
    return existed || wasDamaged;
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
    if (this.#mayBeHidden() && !this.#options.acceptStale) {
      fail('EINTEGRITY', 'list: a committed group was lost with its keys: open with acceptStale to list what is left');
    }
    this.#sortedKeys ??= [...this.#index.keys(), ...this.#damagedKeys.keys()].sort();
    const keys = this.#sortedKeys;
    const found: string[] = [];
    for (let i = lowerBound(keys, prefix); i < keys.length && found.length < limit; i++) {
      const key = keys[i] as string;
      if (!key.startsWith(prefix)) break;
      found.push(key);
    }
    return found;
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
   * damaged last record from a torn one. Closing twice is allowed. Without it nothing acknowledged is lost either.
   * @throws StateFsError EIO
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (!this.#options.readOnly) this.#latching(() => this.#writer.close());
  }

  stats(): StoreStats {
    const { sectorBytes, regionSectorCount } = this.#geometry;
    return {
      keys: this.#index.size + this.#damagedKeys.size,
      freeBytes: this.#writer.freeSectors * sectorBytes,
      regionBytes: regionSectorCount * sectorBytes,
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
    onEvent({ type: 'replayed', keys: this.#index.size, lastSequence, damage: damage.length });
  }

  #put(operation: string, key: string, given: Uint8Array, options: PutOptions, durable: boolean): void {
    const startMs = this.#begin();
    this.#checkChangeable();
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
    const commit = options.commit ?? this.#options.commit;
    assertCommit(commit);
    const beforeCommit = this.#deadline(operation, startMs, options.deadlineMs);
    const { subject = '', purpose = '', ts = clock.wallMs() } = options.meta ?? {};
    const envelope = wrapPayload(payload, { subject, purpose, ts });
    const liveKeys = this.#index.has(key) ? this.#index.size : this.#index.size + 1;
    const { digest } = envelope;
    const entry = this.#append(
      {
        kind: KIND_PUT,
        key,
        keyBytes,
        envelope: encode(envelope),
        payload,
        digest,
        mode: commit,
        durable,
        beforeCommit,
      },
      liveKeys,
    );
    if (!this.#index.has(key)) this.#sortedKeys = undefined;
    this.#index.set(key, entry);
    this.#damagedKeys.delete(key);
    this.#end(operation, key, startMs);
  }

  #append(operation: Parameters<LogWriter['append']>[0], liveKeys: number): IndexEntry {
    return this.#latching(() => this.#writer.append(operation, liveKeys));
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

  #find(key: string): IndexEntry {
    checkKey(key);
    if (this.#damagedKeys.has(key))
      fail('EINTEGRITY', `${key}: its newest value is unreadable: put it again, or restore it`);
    const entry = this.#index.get(key);
    this.#checkStale(key, entry?.sequence ?? 0);
    if (entry === undefined) fail('ENOENT', `${key}: there is no such key`);
    return entry;
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

  #read(entry: IndexEntry): { envelope: Envelope; payload: Uint8Array } {
    const envelope = this.#readEnvelope(entry);
    const payload = new Uint8Array(entry.payloadBytes);
    if (entry.extentFrames > 0) {
      this.#reading(entry, () => this.#payloads.read(entry, payload));
    } else {
      const start = entry.envelopeOffset + entry.envelopeBytes;
      payload.set(this.#frame.subarray(start, start + entry.payloadBytes));
    }
    const digest = this.#options.rules.checksums ? sha256(payload) : envelope.digest;
    if (!equalBytes(digest, envelope.digest)) this.#failDamaged(entry, 'its payload does not match its SHA-256');
    return { envelope, payload };
  }

  /** Reads and verifies the temp frame of `entry`, which stays in `#frame`, and its envelope. */
  #readEnvelope(entry: IndexEntry): Envelope {
    const sectors = this.#codec.sectorsFor(entry.tempBodyBytes);
    const frame = this.#frame.subarray(0, sectors * this.#geometry.sectorBytes);
    this.#reading(entry, () => this.#device.read(entry.tempSector, frame));
    const header = this.#header;
    const isRight =
      this.#codec.parse(this.#frame, this.#frameView, 0, entry.tempSector, header) &&
      header.type === FRAME_TEMP &&
      header.sequence === entry.sequence &&
      header.epoch === entry.epoch &&
      header.bodyBytes === entry.tempBodyBytes &&
      this.#codec.verify(this.#frame, this.#frameView, 0, header);
    if (!isRight) this.#failDamaged(entry, `its record at sector ${entry.tempSector} is damaged`);
    this.#codec.restore(this.#frameView, 0, header);
    return this.#decodeEnvelope(entry);
  }

  #decodeEnvelope(entry: IndexEntry): Envelope {
    const bytes = this.#frame.subarray(entry.envelopeOffset, entry.envelopeOffset + entry.envelopeBytes);
    let envelope: Envelope;
    try {
      envelope = decode(bytes);
    } catch (error) {
      return this.#failDamaged(entry, 'its envelope is damaged', error);
    }
    const isRight =
      envelope.payloadBytes === entry.payloadBytes &&
      (entry.digest === undefined || !this.#options.rules.checksums || equalBytes(envelope.digest, entry.digest));
    return isRight ? envelope : this.#failDamaged(entry, 'its envelope contradicts its commit');
  }

  #reading(entry: IndexEntry, run: () => void): void {
    try {
      run();
    } catch (error) {
      if (error instanceof StateFsError && error.code === 'EINTEGRITY') this.#failDamaged(entry, error.message, error);
      throw wrapDeviceError(error, entry.key);
    }
  }

  #failDamaged(entry: IndexEntry, what: string, cause?: unknown): never {
    this.#options.onEvent({ type: 'damage', damage: { sector: entry.tempSector, keys: [entry.key], what } });
    return fail('EINTEGRITY', `${entry.key}: ${what}: put it again, or restore it`, cause);
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

function geometryOf(device: BlockDevice, { current }: SuperblockVerdict): StoreGeometry {
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
