import { assertBytes, isThenable } from '../core/index.ts';
import type { EnvelopeMetadata } from '../envelope/index.ts';
import { fail } from './errors.ts';
import type { GroupOperation } from './group.ts';
import { checkKey } from './keys.ts';
import { KIND_DELETE, MAX_GROUP_OPERATIONS } from './layout.ts';
import type { CommitMode } from './log-writer.ts';

/** How a transaction commits. */
export interface TransactionOptions {
  /** Default: the store's. */
  readonly commit?: CommitMode;
  /** False: durable only with the next sync or durable operation, so that many share one flush. Default true. */
  readonly durable?: boolean;
  /** Milliseconds for the commit; default: the budget's. */
  readonly deadlineMs?: number;
  /** For each put that says nothing else. */
  readonly meta?: Partial<EnvelopeMetadata>;
}

/** What a transaction needs of its store. */
export interface TransactionHost {
  /** Most bytes of keys and payloads. */
  readonly maxBytes: number;
  /** Number of the group that wrote the key; 0 where there is none. */
  sequenceOf(key: string): number;
  has(key: string): boolean;
  get(key: string): Uint8Array;
  preparePut(key: string, payload: Uint8Array, meta: Partial<EnvelopeMetadata>): GroupOperation;
  prepareDelete(key: string): GroupOperation;
  commit(operations: readonly GroupOperation[], options: TransactionOptions): void;
  /** The transaction has ended. */
  ended(transaction: Transaction): void;
}

/**
 * Several puts and deletes that take effect together, or not at all. Nothing is written before {@link commit}: a
 * transaction that is aborted, forgotten, or cut short by a restart leaves nothing behind.
 *
 * Reads see the transaction's own changes, and else the store as it is now. If a key that was read has been changed by
 * another since, {@link commit} refuses with EBUSY; keys that were only written are simply overwritten.
 */
export class Transaction {
  readonly #host: TransactionHost;
  readonly #options: TransactionOptions;
  /** In the order in which their keys were first changed. */
  readonly #operations = new Map<string, GroupOperation>();
  /** What was read from the store, with the number of the group that had written it. */
  readonly #reads = new Map<string, number>();
  #bytes = 0;
  /** While {@link attempt} runs: what the changed keys had before, newest last. */
  #undo: { readonly key: string; readonly was: GroupOperation | undefined }[] | undefined;
  #state: 'open' | 'committed' | 'aborted' = 'open';

  /** Use `begin` or `transaction` of the store. */
  constructor(host: TransactionHost, options: TransactionOptions) {
    this.#host = host;
    this.#options = options;
  }

  /** Keys that it changes. */
  get size(): number {
    return this.#operations.size;
  }

  /** Bytes of the keys and payloads that it holds. */
  get bytes(): number {
    return this.#bytes;
  }

  get state(): 'open' | 'committed' | 'aborted' {
    return this.#state;
  }

  /**
   * The value of `key`, a new array that the caller owns.
   * @throws StateFsError ENOENT, EINTEGRITY, EIO; EINVAL once the transaction has ended
   */
  get(key: string): Uint8Array {
    this.#checkOpen();
    const own = this.#operations.get(key);
    if (own === undefined) {
      checkKey(key);
      this.#noteRead(key);
      return this.#host.get(key);
    }
    if (own.kind === KIND_DELETE) fail('ENOENT', `${key}: this transaction deletes it`);
    return own.payload.slice();
  }

  /** Whether `key` has a value, seen from within. @throws as {@link get} */
  has(key: string): boolean {
    this.#checkOpen();
    const own = this.#operations.get(key);
    if (own !== undefined) return own.kind !== KIND_DELETE;
    checkKey(key);
    this.#noteRead(key);
    return this.#host.has(key);
  }

  /**
   * Will store `payload`, of which a copy is kept until the end, under `key`.
   * @throws StateFsError E2BIG, EINVAL; the transaction stays open, without this change
   */
  put(key: string, payload: Uint8Array, options: { readonly meta?: Partial<EnvelopeMetadata> } = {}): void {
    this.#checkOpen();
    checkKey(key);
    assertBytes(payload, 'payload');
    this.#checkRoom(key, payload.length);
    const meta = { ...this.#options.meta, ...options.meta };
    this.#take(this.#host.preparePut(key, payload.slice(), meta));
  }

  /** Will delete `key`. @returns whether it has a value, seen from within */
  delete(key: string): boolean {
    const existed = this.has(key);
    this.#checkRoom(key, 0);
    this.#take(this.#host.prepareDelete(key));
    return existed;
  }

  /**
   * Runs `change`, a part of the whole: if it throws, what it changed is undone, and the transaction goes on without.
   * @param change synchronous; not to attempt anything itself
   * @returns what `change` returns
   * @throws what `change` throws
   */
  attempt<T>(change: () => T): T {
    this.#checkOpen();
    if (this.#undo !== undefined) fail('EINVAL', 'transaction: expected one attempt at a time, got one within another');
    const bytes = this.#bytes;
    const undo: { readonly key: string; readonly was: GroupOperation | undefined }[] = [];
    this.#undo = undo;
    try {
      const result = change();
      if (isThenable(result))
        throw new TypeError('attempt: expected a synchronous function, got one that returns a promise');
      return result;
    } catch (error) {
      for (const { key, was } of undo.reverse()) {
        if (was === undefined) this.#operations.delete(key);
        else this.#operations.set(key, was);
      }
      this.#bytes = bytes;
      throw error;
    } finally {
      this.#undo = undefined;
    }
  }

  /**
   * Makes all of it take effect, durably unless told otherwise, with everything before it. If it throws, nothing did, with the one exception of an
   * EIO of the commit itself, as for a put; and the transaction is over in any case.
   * @throws StateFsError EBUSY where a key that was read has changed, ENOSPC, EDQUOT, EDEADLINE, EROFS, EIO, EINTEGRITY
   */
  commit(): void {
    this.#checkOpen();
    this.#end('aborted');
    for (const [key, sequence] of this.#reads) {
      if (this.#host.sequenceOf(key) === sequence) continue;
      fail(
        'EBUSY',
        `transaction: ${key} was changed by another since it was read here: nothing was written; run it again`,
      );
    }
    this.#host.commit([...this.#operations.values()], this.#options);
    this.#state = 'committed';
  }

  /** Gives it up: nothing was written, and nothing will be. Allowed at any time. */
  abort(): void {
    if (this.#state === 'open') this.#end('aborted');
  }

  #end(state: 'aborted'): void {
    this.#state = state;
    this.#host.ended(this);
  }

  #noteRead(key: string): void {
    if (!this.#reads.has(key)) this.#reads.set(key, this.#host.sequenceOf(key));
  }

  #checkRoom(key: string, payloadBytes: number): void {
    const own = this.#operations.get(key);
    if (own === undefined && this.#operations.size >= MAX_GROUP_OPERATIONS) {
      fail('E2BIG', `transaction: expected at most ${MAX_GROUP_OPERATIONS} keys: commit it, and go on in another`);
    }
    const bytes = this.#bytes - (own === undefined ? 0 : bytesOf(own)) + Buffer.byteLength(key) + payloadBytes;
    const { maxBytes } = this.#host;
    if (bytes > maxBytes) {
      fail(
        'E2BIG',
        `transaction: expected at most ${maxBytes} bytes of keys and payloads, got ${bytes}: raise ` +
          'budgets.transactionBytes, or split it',
      );
    }
  }

  #take(operation: GroupOperation): void {
    const own = this.#operations.get(operation.key);
    this.#undo?.push({ key: operation.key, was: own });
    if (own !== undefined) this.#bytes -= bytesOf(own);
    this.#bytes += bytesOf(operation);
    this.#operations.set(operation.key, operation);
  }

  #checkOpen(): void {
    if (this.#state === 'open') return;
    fail('EINVAL', `transaction: it is ${this.#state}: begin another`);
  }
}

function bytesOf({ keyBytes, payloadBytes }: GroupOperation): number {
  return keyBytes.length + payloadBytes;
}
