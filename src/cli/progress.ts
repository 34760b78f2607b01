import type { Progress } from '../explore/index.ts';
import type { Output } from './output.ts';
import { StatusLine } from './status-line.ts';
import { formatCount } from './units.ts';

const BAR_CELLS = 24;

/** Shows how far an exploration is, with a bar on a terminal. */
export class ProgressLine {
  readonly #status: StatusLine;
  readonly #hasBar: boolean;
  readonly #startMs: number;

  constructor(output: Output) {
    this.#status = new StatusLine(output);
    this.#hasBar = output.isTerminal;
    this.#startMs = output.clock.monotonicMs();
  }

  update(progress: Progress): void {
    this.#status.update((nowMs) => {
      const text = describe(progress, nowMs - this.#startMs);
      return this.#hasBar ? `${bar(progress)} ${text}` : text;
    });
  }

  end(): void {
    this.#status.end();
  }
}

function describe(progress: Progress, elapsedMs: number): string {
  const rate = Math.round((progress.recoveries / elapsedMs) * 1000);
  const found = progress.violations === 0 ? '' : `, ${progress.violations} violations`;
  const at = `crash point ${Math.min(progress.crashPoint + 1, progress.crashPointCount)} of ${progress.crashPointCount}`;
  return `${planOf(progress)}${at}, ${formatCount(progress.recoveries)} recoveries (${formatCount(rate)}/s)${found}`;
}

/** Which fault of the medium the workload has, where it may have some. */
function planOf({ plan, planCount }: Progress): string {
  if (planCount === 1) return '';
  const of = planCount === undefined ? '' : ` of ${planCount - 1}`;
  return plan === 0 ? 'no fault in the workload: ' : `fault ${plan}${of} in the workload: `;
}

/** A workload is drawn anew for each fault; where nobody knows how many there are, for each alone. */
function bar({ plan, planCount, crashPoint, crashPointCount }: Progress): string {
  const here = crashPoint / Math.max(1, crashPointCount);
  const filled = Math.round((planCount === undefined ? here : (plan + here) / planCount) * BAR_CELLS);
  return `[${'#'.repeat(filled)}${'.'.repeat(BAR_CELLS - filled)}]`;
}
