import { type Clock, systemClock, type Work } from '../core/index.ts';
import { type MediaFaultKind, resolveMedia } from '../faults/index.ts';
import { addCounts, describeStop, Exploration, type Stop } from './exploration.ts';
import type { ExploreOptions } from './explore-options.ts';
import type { CrashPointResult, ExploreResult, Violation } from './result.ts';
import type { Scenario } from './scenario.ts';
import type { Unit } from './unit.ts';

/**
 * The explorations of one scenario, one after another: of its workload without a fault of the medium, then with each that
 * may happen in it. Their limits are limits of them together. Without faults there is only one.
 */
export class Plans {
  readonly #scenario: Scenario;
  readonly #options: ExploreOptions;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #maxViolations: number;
  readonly #done: ReadonlyMap<string, readonly Unit[]>;
  readonly #violations: Violation[] = [];
  readonly #points: CrashPointResult[] = [];
  readonly #faults = new Map<MediaFaultKind, number>();
  /** Of those that were explored. */
  #count = 0;
  #first: Exploration | undefined;
  #next: readonly number[] | undefined;
  #last: ExploreResult | undefined;
  #stop: Stop | undefined;
  /** Why one of them was incomplete. */
  #shortfall: string | undefined;
  #share = 0;
  #imagesByDepth: readonly bigint[] = [];
  #recoveries = 0;
  #adopted = 0;
  #known = 0;
  #rechecks = 0;
  #violating = 0;
  #unrepeatable: string | undefined;
  #moments = 0;
  /** Those of other shards among them. */
  #pointsBefore = 0;

  constructor(scenario: Scenario, options: ExploreOptions) {
    this.#scenario = scenario;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#startMs = this.#clock.monotonicMs();
    this.#maxViolations = options.maxViolations ?? 5;
    this.#next = options.plan ?? [];
    this.#done = byPlan(options.done ?? []);
  }

  /** The next one, to be prepared, run, and added; undefined: there is none, or a limit was reached. */
  next(): Exploration | undefined {
    const plan = this.#next;
    if (plan === undefined) return undefined;
    if (this.#count > 0) this.#stop ??= this.#limit;
    if (this.#stop !== undefined) return undefined;
    const done = this.#done.get(plan.join()) ?? [];
    const options = { ...this.#options, ...this.#left, plan, done };
    const exploration = new Exploration(this.#scenario, options, this.#pointsBefore);
    this.#first ??= exploration;
    return exploration;
  }

  add(exploration: Exploration, result: ExploreResult): void {
    const isSingle = this.#options.media === undefined;
    this.#count++;
    this.#last = result;
    this.#next = isSingle ? undefined : exploration.nextPlan;
    this.#stop = exploration.stop;
    this.#shortfall ??= exploration.stop === undefined ? result.incompleteReason : undefined;
    this.#violations.push(...result.violations);
    for (const point of result.points) {
      this.#points.push(isSingle ? point : { ...point, index: this.#points.length });
    }
    addCounts(this.#faults, result.faults);
    this.#imagesByDepth = result.imagesByDepth.map((images, at) => images + (this.#imagesByDepth[at] ?? 0n));
    this.#share += result.coveredShare ?? Number.NaN;
    this.#recoveries += result.recoveries;
    this.#adopted += exploration.adoptedRecoveries;
    this.#known += result.knownRecoveries;
    this.#rechecks += result.rechecks;
    this.#violating += result.violatingRecoveries;
    this.#moments += result.momentsCovered;
    this.#pointsBefore += exploration.pointCount;
  }

  /** To be called after the last was added: sees whether what was found can be replayed. */
  *finish(): Work<void> {
    if (this.#violations.length > 0) this.#unrepeatable = yield* (this.#first as Exploration).repeat();
  }

  /** To be read after that. */
  get result(): ExploreResult {
    const stopped = this.#stop && describeStop(this.#stop, this.#violating, this.#options);
    const incompleteReason = stopped ?? this.#shortfall ?? this.#unfired();
    const complete = incompleteReason === undefined;
    return {
      ...(this.#last as ExploreResult),
      seed: this.#options.strategy === 'random' ? (this.#options.seed ?? 1) : undefined,
      complete,
      incompleteReason,
      coveredShare: complete ? 1 : this.#coveredShare,
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
      unrepeatable: this.#unrepeatable,
      acknowledged: this.#first?.acknowledgedCount ?? 0,
      violatingRecoveries: this.#violating,
      points: this.#points,
      elapsedMs: this.#elapsedMs(),
    };
  }

  /** What the next one may use up; the random strategy draws anew for each. */
  get #left(): Partial<ExploreOptions> {
    const { maxRecoveries, timeMs, strategy, seed = 1, onProgress } = this.#options;
    const [recoveries, violations, plan] = [this.#recoveries, this.#violating, this.#count];
    return {
      maxViolations: this.#maxViolations - violations,
      ...(maxRecoveries === undefined ? {} : { maxRecoveries: maxRecoveries + this.#adopted - recoveries }),
      ...(timeMs === undefined ? {} : { timeMs: timeMs - this.#elapsedMs() }),
      ...(strategy === 'random' ? { seed: seed + plan } : {}),
      ...(onProgress === undefined
        ? {}
        : {
            onProgress: (now) =>
              onProgress({
                ...now,
                plan,
                planCount: this.#countAll,
                recoveries: recoveries + now.recoveries,
                violations: violations + now.violations,
              }),
          }),
    };
  }

  /** A limit that those before have used up. */
  get #limit(): Stop | undefined {
    const { maxRecoveries, timeMs } = this.#options;
    if (this.#violating >= this.#maxViolations) return 'violations';
    if (maxRecoveries !== undefined && this.#recoveries - this.#adopted >= maxRecoveries) return 'recoveries';
    return timeMs !== undefined && this.#elapsedMs() >= timeMs ? 'time' : undefined;
  }

  get #coveredShare(): number | undefined {
    const share = this.#share / (this.#countAll ?? Number.NaN);
    return Number.isNaN(share) ? undefined : share;
  }

  /**
   * How many there are to be; undefined where nobody knows before the end. Where only one fault may happen, it is one of
   * those that may come first.
   */
  get #countAll(): number | undefined {
    const { media, plan } = this.#options;
    if (media === undefined) return 1;
    if (this.#first === undefined || plan !== undefined || resolveMedia(media).maxFaults > 1) return undefined;
    return this.#first.firstFaultCount + 1;
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

function byPlan(units: readonly Unit[]): Map<string, Unit[]> {
  const groups = new Map<string, Unit[]>();
  for (const unit of units) {
    const key = unit.plan.join();
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [unit]);
    else group.push(unit);
  }
  return groups;
}
