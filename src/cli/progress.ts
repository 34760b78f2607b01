import type { Clock } from '../core/index.ts';
import type { Progress } from '../explore/index.ts';
import type { Output } from './output.ts';
import { formatCount } from './units.ts';

/** Nothing is shown before this, so that what is quick stays quiet. */
const QUIET_MS = 1000;
const TERMINAL_EVERY_MS = 100;
const LINE_EVERY_MS = 10_000;
const BAR_CELLS = 24;

/** Shows how far an exploration is: a bar that redraws itself on a terminal, a line now and then elsewhere. */
export class ProgressLine {
  readonly #output: Output;
  readonly #clock: Clock;
  readonly #startMs: number;
  #nextMs: number;
  #isDrawn = false;

  constructor(output: Output) {
    this.#output = output;
    this.#clock = output.clock;
    this.#startMs = this.#clock.monotonicMs();
    this.#nextMs = this.#startMs + QUIET_MS;
  }

  update(progress: Progress): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs < this.#nextMs) return;
    const { isTerminal } = this.#output;
    this.#nextMs = nowMs + (isTerminal ? TERMINAL_EVERY_MS : LINE_EVERY_MS);
    const text = describe(progress, nowMs - this.#startMs);
    this.#output.err(isTerminal ? `\r\u001b[2K${bar(progress)} ${text}` : `${text}\n`);
    this.#isDrawn = isTerminal;
  }

  end(): void {
    if (this.#isDrawn) this.#output.err('\r\u001b[2K');
    this.#isDrawn = false;
  }
}

function describe(progress: Progress, elapsedMs: number): string {
  const rate = Math.round((progress.recoveries / elapsedMs) * 1000);
  const found = progress.violations === 0 ? '' : `, ${progress.violations} violations`;
  const at = `crash point ${Math.min(progress.crashPoint + 1, progress.crashPointCount)} of ${progress.crashPointCount}`;
  return `${at}, ${formatCount(progress.recoveries)} recoveries (${formatCount(rate)}/s)${found}`;
}

function bar(progress: Progress): string {
  const filled = Math.round((progress.crashPoint / Math.max(1, progress.crashPointCount)) * BAR_CELLS);
  return `[${'#'.repeat(filled)}${'.'.repeat(BAR_CELLS - filled)}]`;
}
