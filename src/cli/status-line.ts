import type { Output } from './output.ts';

/** Nothing is shown before this, so that what is quick stays quiet. */
const QUIET_MS = 1000;
const TERMINAL_EVERY_MS = 100;
const LINE_EVERY_MS = 10_000;

/** Says how far something is: one line that redraws itself on a terminal, a line now and then elsewhere. */
export class StatusLine {
  readonly #output: Output;
  #nextMs: number;
  #isDrawn = false;

  constructor(output: Output) {
    this.#output = output;
    this.#nextMs = output.clock.monotonicMs() + QUIET_MS;
  }

  /** @param describe called, with the time, only where the line is due */
  update(describe: (nowMs: number) => string): void {
    const nowMs = this.#output.clock.monotonicMs();
    if (nowMs < this.#nextMs) return;
    const { isTerminal } = this.#output;
    this.#nextMs = nowMs + (isTerminal ? TERMINAL_EVERY_MS : LINE_EVERY_MS);
    const text = describe(nowMs);
    this.#output.err(isTerminal ? `\r\u001b[2K${text}` : `${text}\n`);
    this.#isDrawn = isTerminal;
  }

  /** Leaves no trace on a terminal. */
  end(): void {
    if (this.#isDrawn) this.#output.err('\r\u001b[2K');
    this.#isDrawn = false;
  }
}
