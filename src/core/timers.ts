import type { VirtualClock } from './clock.ts';

/** Calls off what was to happen. Calling it off twice, or too late, does nothing. */
export type Cancel = () => void;

/** Where waiting comes in. Nothing outside this file sets the machine's timers. */
export interface Timers {
  /**
   * Calls `run` once, not before `delayMs` milliseconds have passed.
   * @param keepsAlive whether the process waits for it that has nothing else to do. Default true
   */
  after(delayMs: number, run: () => void, keepsAlive?: boolean): Cancel;
  /** Calls `run` once, when everything that is ready now has been handled. */
  soon(run: () => void): Cancel;
}

/** The machine's timers. */
export const systemTimers: Timers = {
  after: (delayMs, run, keepsAlive = true) => {
    const timer = setTimeout(run, delayMs);
    if (!keepsAlive) timer.unref();
    return () => clearTimeout(timer);
  },
  soon: (run) => {
    const immediate = setImmediate(run);
    return () => clearImmediate(immediate);
  },
};

interface Waiting {
  readonly dueMs: number;
  readonly run: () => void;
}

/** Timers of a virtual clock: nothing happens before {@link runDue} is called, and then in order. */
export class VirtualTimers implements Timers {
  readonly #clock: VirtualClock;
  /** In the order in which they are due; those due together in the order in which they were set. */
  readonly #waiting: Waiting[] = [];

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  /** How many wait. */
  get size(): number {
    return this.#waiting.length;
  }

  after(delayMs: number, run: () => void): Cancel {
    const dueMs = this.#clock.monotonicMs() + delayMs;
    const waiting: Waiting = { dueMs, run };
    const later = this.#waiting.findIndex((one) => one.dueMs > dueMs);
    this.#waiting.splice(later < 0 ? this.#waiting.length : later, 0, waiting);
    return () => {
      const at = this.#waiting.indexOf(waiting);
      if (at >= 0) this.#waiting.splice(at, 1);
    };
  }

  soon(run: () => void): Cancel {
    return this.after(0, run);
  }

  /** Runs everything that is due, and what that makes due. @returns how many ran */
  runDue(): number {
    let count = 0;
    while (this.#waiting.length > 0 && (this.#waiting[0] as Waiting).dueMs <= this.#clock.monotonicMs()) {
      (this.#waiting.shift() as Waiting).run();
      count++;
    }
    return count;
  }

  /** Moves the clock on by `ms`, stopping at each moment at which something is due to run it. */
  advance(ms: number): void {
    const endMs = this.#clock.monotonicMs() + ms;
    for (let next = this.#waiting[0]; next !== undefined && next.dueMs <= endMs; next = this.#waiting[0]) {
      this.#clock.advance(Math.max(0, next.dueMs - this.#clock.monotonicMs()));
      this.runDue();
    }
    this.#clock.advance(Math.max(0, endMs - this.#clock.monotonicMs()));
  }
}
