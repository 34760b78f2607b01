import type { Clock } from '../core/index.ts';
import { fail } from './errors.ts';
import { assertMs, type Budgets, type StoreEvent } from './options.ts';

/** Holds operations to the budgets of time. */
export class Latency {
  readonly #clock: Clock;
  readonly #budgets: Budgets;
  readonly #onEvent: (event: StoreEvent) => void;

  constructor(clock: Clock, budgets: Budgets, onEvent: (event: StoreEvent) => void) {
    this.#clock = clock;
    this.#budgets = budgets;
    this.#onEvent = onEvent;
  }

  /** When an operation begins, in milliseconds of the clock. */
  begin(): number {
    return this.#clock.monotonicMs();
  }

  /** To be told of each operation that was done: a slow one is an event. */
  end(operation: string, key: string | undefined, startMs: number): void {
    const elapsedMs = this.#clock.monotonicMs() - startMs;
    const budgetMs = this.#budgets.softLatencyMs;
    if (elapsedMs > budgetMs) this.#onEvent({ type: 'slow', operation, key, elapsedMs, budgetMs });
  }

  /**
   * What to call before the commit of an operation is issued: throws EDEADLINE where it is too late for it.
   * @param own the operation's deadline in milliseconds; default: the budget's
   */
  deadline(operation: string, startMs: number, own: number | undefined): () => void {
    const deadlineMs = own ?? this.#budgets.deadlineMs;
    assertMs(deadlineMs, 'deadlineMs');
    return () => {
      const elapsedMs = this.#clock.monotonicMs() - startMs;
      if (elapsedMs <= deadlineMs) return;
      fail(
        'EDEADLINE',
        `${operation}: expected to commit within ${deadlineMs} ms, but ${elapsedMs} had passed: the old value stays`,
      );
    };
  }
}
