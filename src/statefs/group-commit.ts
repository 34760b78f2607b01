import { systemTimers, type Timers } from '../core/index.ts';
import type { StateFs } from './store.ts';

/** How {@link GroupCommit} works. */
export interface GroupCommitOptions {
  /** Says when all that arrived together has been made. Default: the machine's. */
  readonly timers?: Timers;
}

interface Waiting {
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Lets callers that arrive together share one flush: each change is made at once and in order, then all that were made
 * in one turn of the event loop are synced together, and their callers told.
 *
 * Made for changes that are not durable on their own: `put`, `delete` and `transaction` with `durable: false`.
 */
export class GroupCommit {
  readonly #store: StateFs;
  readonly #timers: Timers;
  #waiting: Waiting[] = [];

  constructor(store: StateFs, options: GroupCommitOptions = {}) {
    this.#store = store;
    this.#timers = options.timers ?? systemTimers;
  }

  /**
   * Makes a change before it returns: reads see it from then on, like those of an unsynced put.
   * @param change synchronous. Where it throws, what it had changed by then stays, as yet undurable: let several changes
   *   that belong together be one `transaction`
   * @returns what `change` returns, once it is durable
   * @throws (rejects with) what `change` throws; StateFsError EIO where the flush failed, after which the outcome of all
   *   changes that waited for it is in doubt until the store is reopened
   */
  async commit<T>(change: (store: StateFs) => T): Promise<T> {
    const result = change(this.#store);
    if (typeof (result as { then?: unknown } | undefined)?.then === 'function') {
      throw new TypeError('commit: expected a synchronous function, got one that returns a promise');
    }
    await new Promise<void>((resolve, reject) => {
      if (this.#waiting.push({ resolve, reject }) === 1) this.#timers.soon(() => this.#sync());
    });
    return result;
  }

  #sync(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    try {
      this.#store.sync();
    } catch (error) {
      for (const { reject } of waiting) reject(error);
      return;
    }
    for (const { resolve } of waiting) resolve();
  }
}
