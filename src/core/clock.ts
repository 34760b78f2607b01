import { assertInteger } from './guards.ts';

/** Where time comes in. Nothing outside this file reads the machine's clock. */
export interface Clock {
  /** Milliseconds on a clock that never goes back; only differences mean something. */
  monotonicMs(): number;
  /** Milliseconds since 1970-01-01T00:00:00Z, whole. */
  wallMs(): number;
}

/** The machine's clock. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
};

/** A clock that moves only when told to: simulated latency advances it, tests read it. */
export class VirtualClock implements Clock {
  #elapsedMs = 0;
  readonly #epochMs: number;

  /** @param epochMs the wall time, in milliseconds, at which the clock starts */
  constructor(epochMs = 0) {
    assertInteger(epochMs, 'epochMs');
    this.#epochMs = epochMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  wallMs(): number {
    return this.#epochMs + Math.floor(this.#elapsedMs);
  }

  /** Moves the clock on by `ms` (fractions allowed, never back). */
  advance(ms: number): void {
    if (typeof ms !== 'number') throw new TypeError(`ms: expected a number, got ${typeof ms}`);
    if (!(ms >= 0 && Number.isFinite(ms)))
      throw new RangeError(`ms: expected a finite number of at least 0, got ${ms}`);
    this.#elapsedMs += ms;
  }
}
