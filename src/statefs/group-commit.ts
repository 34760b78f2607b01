import { systemTimers, type Timers } from '../core/index.ts';
import type { CommitMode } from './log-writer.ts';
import type { StateFs } from './store.ts';
import type { Transaction, TransactionOptions } from './transaction.ts';

/** How {@link GroupCommit} works. */
export interface GroupCommitOptions {
  /** Default `checksummed`, as for an unsynced put: one flush in all. */
  readonly commit?: CommitMode;
  /** Says when all that arrived together is to be made. Default: the machine's. */
  readonly timers?: Timers;
}

/** A caller. */
interface Caller {
  /** Runs the change. */
  readonly make: (transaction: Transaction) => void;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Lets callers that arrive together share one transaction and one flush: at the end of the turn of the event loop their
 * changes are made, in order, and become durable together; then they are told. What fails for one fails for it alone.
 */
export class GroupCommit {
  readonly #store: StateFs;
  readonly #timers: Timers;
  readonly #settings: TransactionOptions;
  #callers: Caller[] = [];

  constructor(store: StateFs, options: GroupCommitOptions = {}) {
    this.#store = store;
    this.#timers = options.timers ?? systemTimers;
    this.#settings = { commit: options.commit ?? 'checksummed', durable: false };
  }

  /**
   * Makes a change, whole or not at all.
   * @param change synchronous, and run later: what it uses is to stay as it is until then. It sees what those before it
   *   did. Run once more on its own where the store refuses what it and the others did as a whole
   * @returns what `change` returns, once that is durable
   * @throws (rejects with) what `change` throws; as {@link StateFs.transaction}; StateFsError EIO where the flush failed,
   *   after which the outcome of all changes that waited for it is in doubt until the store is reopened
   */
  async commit<T>(change: (transaction: Transaction) => T): Promise<T> {
    let result: T | undefined;
    await new Promise<void>((resolve, reject) => {
      const make = (transaction: Transaction): void => {
        result = transaction.attempt(() => change(transaction));
      };
      if (this.#callers.push({ make, resolve, reject }) === 1) this.#timers.soon(() => this.#commitAll());
    });
    return result as T;
  }

  #commitAll(): void {
    const callers = this.#callers;
    this.#callers = [];
    const made: Caller[] = [];
    try {
      for (let next = 0; next < callers.length; ) next += this.#commitSome(callers, next, made);
      this.#store.sync();
    } catch (error) {
      // Whoever was told already is not told again.
      for (const { reject } of callers) reject(error);
      return;
    }
    for (const { resolve } of made) resolve();
  }

  /**
   * Makes as many changes as one transaction holds.
   * @param made gets those whose change happened
   * @returns how many were made or refused: at least one
   */
  #commitSome(callers: readonly Caller[], first: number, made: Caller[]): number {
    const transaction = this.#store.begin(this.#settings);
    const together: Caller[] = [];
    let end = first;
    try {
      for (; end < callers.length; end++) {
        const caller = callers[end] as Caller;
        try {
          caller.make(transaction);
          together.push(caller);
        } catch (error) {
          // Too much for one transaction: the next one begins with it.
          if (together.length > 0 && (error as { code?: unknown }).code === 'E2BIG') break;
          caller.reject(error);
        }
      }
      transaction.commit();
      made.push(...together);
    } catch {
      for (const caller of together) this.#commitAlone(caller, made);
    } finally {
      transaction.abort();
    }
    return end - first;
  }

  /** After a transaction was refused: one whose own change is to blame is told so, and takes nobody else along. */
  #commitAlone(caller: Caller, made: Caller[]): void {
    try {
      this.#store.transaction((transaction) => caller.make(transaction), this.#settings);
      made.push(caller);
    } catch (error) {
      caller.reject(error);
    }
  }
}
