import { fail } from './errors.ts';
import type { LogWriter } from './log-writer.ts';
import type { StoreEvent } from './options.ts';

/** Tells, once, that a commit or flush failed, and refuses changes from then on. */
export class Latch {
  readonly #writer: LogWriter;
  readonly #onEvent: (event: StoreEvent) => void;
  #hasTold = false;

  constructor(writer: LogWriter, onEvent: (event: StoreEvent) => void) {
    this.#writer = writer;
    this.#onEvent = onEvent;
  }

  get isSet(): boolean {
    return this.#writer.inDoubt !== undefined;
  }

  /** Runs what may fail in a way that leaves the outcome in doubt. */
  run<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (this.isSet && !this.#hasTold) {
        this.#hasTold = true;
        this.#onEvent({ type: 'latched', error: this.#writer.inDoubt });
      }
      throw error;
    }
  }

  /** @throws StateFsError EIO once it is set */
  check(): void {
    if (!this.isSet) return;
    fail(
      'EIO',
      'a commit or flush failed and its outcome is in doubt: reopen the store to find out',
      this.#writer.inDoubt,
    );
  }
}
