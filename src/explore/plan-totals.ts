import { type Clock, systemClock } from '../core/index.ts';
import { type MediaFaultKind, resolveMedia } from '../faults/index.ts';
import type { ExploreOptions } from './explore.ts';
import type { CrashPointResult, ExploreResult, Violation } from './result.ts';

/**
 * Adds up the explorations of one workload, each with other faults of the medium in it. Their limits are limits of them
 * together.
 */
export class PlanTotals {
  readonly #options: ExploreOptions;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #maxViolations: number;
  readonly #violations: Violation[] = [];
  readonly #points: CrashPointResult[] = [];
  readonly #faults = new Map<MediaFaultKind, number>();
  #plans = 0;
  #last: ExploreResult | undefined;
  #imagesByDepth: readonly bigint[] = [];
  #recoveries = 0;
  #known = 0;
  #rechecks = 0;
  #violating = 0;
  #moments = 0;

  constructor(options: ExploreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#startMs = this.#clock.monotonicMs();
    this.#maxViolations = options.maxViolations ?? 5;
  }

  get mayGoOn(): boolean {
    return this.#stopped() === undefined && this.#last?.nondeterminism === undefined;
  }

  /** What the next one may use up; the random strategy draws anew for each. */
  get left(): ExploreOptions {
    const { maxRecoveries, timeMs, strategy, seed = 1 } = this.#options;
    return {
      maxViolations: this.#maxViolations - this.#violating,
      ...(maxRecoveries === undefined ? {} : { maxRecoveries: maxRecoveries - this.#recoveries }),
      ...(timeMs === undefined ? {} : { timeMs: timeMs - this.#elapsedMs() }),
      ...(strategy === 'random' ? { seed: seed + this.#plans } : {}),
    };
  }

  add(result: ExploreResult): void {
    this.#plans++;
    this.#last = result;
    this.#violations.push(...result.violations);
    for (const point of result.points) this.#points.push({ ...point, index: this.#points.length });
    for (const [kind, count] of Object.entries(result.faults) as [MediaFaultKind, number][]) {
      this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + count);
    }
    this.#imagesByDepth = result.imagesByDepth.map((images, at) => images + (this.#imagesByDepth[at] ?? 0n));
    this.#recoveries += result.recoveries;
    this.#known += result.knownRecoveries;
    this.#rechecks += result.rechecks;
    this.#violating += result.violatingRecoveries;
    this.#moments += result.momentsCovered;
  }

  /** To be read after the last was added. */
  get result(): ExploreResult {
    const last = this.#last as ExploreResult;
    // What is said of the last one alone is right for all, but for the limits, of which it had the rest.
    const isLimit = last.incompleteReason?.startsWith('stopped') === true;
    const reason = this.#stopped() ?? (isLimit ? `stopped after ${this.#options.timeMs} ms` : last.incompleteReason);
    const incompleteReason = reason ?? this.#unfired();
    const complete = incompleteReason === undefined;
    return {
      ...last,
      ...(this.#options.strategy === 'random' ? { seed: this.#options.seed ?? 1 } : {}),
      complete,
      incompleteReason,
      coveredShare: complete ? 1 : undefined,
      clean: complete && this.#violating === 0,
      crashPoints: this.#points.length,
      momentsCovered: complete ? this.#moments : this.#points.length,
      images: this.#imagesByDepth[0] ?? 0n,
      imagesByDepth: this.#imagesByDepth,
      recoveries: this.#recoveries,
      knownRecoveries: this.#known,
      rechecks: this.#rechecks,
      faults: Object.fromEntries(this.#faults),
      violations: this.#violations,
      violatingRecoveries: this.#violating,
      points: this.#points,
      elapsedMs: this.#elapsedMs(),
    };
  }

  #stopped(): string | undefined {
    const { maxRecoveries, timeMs } = this.#options;
    if (this.#violating >= this.#maxViolations) return `stopped after ${this.#violating} violations`;
    if (maxRecoveries !== undefined && this.#recoveries >= maxRecoveries)
      return `stopped after ${maxRecoveries} recoveries`;
    return timeMs !== undefined && this.#elapsedMs() >= timeMs ? `stopped after ${timeMs} ms` : undefined;
  }

  /** A run that asked for a fault and had none of it has shown nothing about it. */
  #unfired(): string | undefined {
    const { media } = this.#options;
    const missing = media === undefined ? [] : resolveMedia(media).kinds.filter((kind) => !this.#faults.has(kind));
    return missing.length === 0 ? undefined : `no fault of this kind fired: ${missing.join(', ')}`;
  }

  #elapsedMs(): number {
    return this.#clock.monotonicMs() - this.#startMs;
  }
}
