import { assertInteger, type Clock, describeValue, systemClock, type Work } from '../core/index.ts';
import type { MediaFaultKind } from '../faults/index.ts';
import type { ExploreOptions } from './explore-options.ts';
import { keptSectors } from './labels.ts';
import { Ledger, type Shard } from './ledger.ts';
import { differenceWhenRepeated } from './repeat.ts';
import type { CrashPointResult, ExploreResult, Nondeterminism, Violation } from './result.ts';
import type { Scenario } from './scenario.ts';
import { type PointSurvey, Session, strictly } from './session.ts';
import { linearityOf, type Strategy, strategyOf } from './strategy.ts';
import { type Case, encodeToken, type Level } from './token.ts';
import { runUnit, type Unit, type UnitLimits, type UnitStart } from './unit.ts';

/** What ends an exploration before everything is covered. */
export type Stop = 'violations' | 'recoveries' | 'time' | 'nondeterminism';

/** Which of the explorations of a scenario this is: those who share out its units must agree on it. Plain data. */
export interface Stage {
  /** See `StackOptions.plan`. */
  readonly plan: readonly number[];
  /** Of `--strategy random`. */
  readonly seed: number | undefined;
  /** Of the recorded workload: equal for all who explore the same. */
  readonly fingerprint: number;
}

/** Totals over units, in their order. */
interface Totals {
  recoveries: number;
  known: number;
  rechecks: number;
  violating: number;
  share: number;
  stopped: Stop | undefined;
  nondeterminism: Nondeterminism | undefined;
  readonly imagesByDepth: bigint[];
  readonly faults: Map<MediaFaultKind, number>;
  readonly points: Map<number, CrashPointResult>;
  readonly cases: { readonly point: number; readonly levels: readonly Level[] }[];
}

/**
 * One exploration, of one workload: what there is to run, and what comes of it. Who runs the units, in which order and where, makes no
 * difference to the result: it is added up in the order in which one thread would have run them.
 */
export class Exploration {
  readonly #session: Session;
  readonly #options: ExploreOptions;
  readonly #depth: number;
  readonly #shrinkRuns: number;
  readonly #maxViolations: number;
  /** With those of the units that were taken over: they are not run here. */
  #maxRecoveries: number;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #pointsBefore: number;
  #points: readonly PointSurvey[] = [];
  #strategy!: Strategy;
  #ledger!: Ledger;
  /** Of the units that were run, not of those taken over. */
  #recoveries = 0;
  #violating = 0;
  /** A limit that one thread has run into: nothing more is handed out. */
  #hasEnded = false;
  #ownPoints = 0;
  #adopted = 0;
  #stop: Stop | undefined;

  /** @param pointsBefore how many crash points explorations before this one had: shards go on taking turns */
  constructor(scenario: Scenario, options: ExploreOptions, pointsBefore: number) {
    this.#options = options;
    this.#pointsBefore = pointsBefore;
    this.#depth = options.depth ?? 2;
    assertInteger(this.#depth, 'depth', 1, 16);
    this.#maxViolations = options.maxViolations ?? 5;
    assertInteger(options.maxRecoveries ?? 1, 'maxRecoveries', 1);
    this.#maxRecoveries = options.maxRecoveries ?? Number.POSITIVE_INFINITY;
    this.#shrinkRuns = options.shrinkRuns ?? 300;
    assertInteger(this.#shrinkRuns, 'shrinkRuns');
    if (this.#maxViolations !== Number.POSITIVE_INFINITY) assertInteger(this.#maxViolations, 'maxViolations', 1);
    checkShard(options.shard);
    this.#clock = options.clock ?? systemClock;
    this.#startMs = this.#clock.monotonicMs();
    this.#session = new Session(scenario, options, linearityOf(options.strategy));
  }

  /** Records the workload and lists its crash points. To be called first. */
  *prepare(): Work<void> {
    yield* this.#session.record();
    this.#points = this.#session.survey();
    this.#strategy = strategyOf(this.#options, this.#points.length);
    const { sharedEvents } = this.#session;
    const own = this.#points.filter(({ eventIndex }) => eventIndex >= sharedEvents);
    this.#ownPoints = own.length;
    this.#ledger = new Ledger(own, this.#options.shard, this.#pointsBefore);
    const adopted = this.#ledger.adopt((this.#options.done ?? []).filter(isRepeatable), (unit) => this.#ends(unit));
    this.#adopted = adopted.reduce((sum, unit) => sum + unit.recoveries, 0);
    this.#maxRecoveries += this.#adopted;
    if (this.#options.onlyDone === true) this.#hasEnded = true;
  }

  /** Records the workload once more. @returns what it does otherwise than before, in words */
  *repeat(): Work<string | undefined> {
    const again = new Session(this.#session.scenario, this.#options, linearityOf(this.#options.strategy));
    return yield* differenceWhenRepeated(this.#session, again);
  }

  /** How many operations of the workload were acknowledged. */
  get acknowledgedCount(): number {
    return this.#session.events.filter(({ kind }) => kind === 'acknowledge').length;
  }

  /** Which one this is; known once it is prepared. */
  get stage(): Stage {
    const { plan, fingerprint } = this.#session;
    return { plan, seed: this.#options.seed, fingerprint };
  }

  /** The plan after this one's; undefined: there is none. */
  get nextPlan(): readonly number[] | undefined {
    return this.#session.nextPlan;
  }

  /** How many faults may come first in the workload. */
  get firstFaultCount(): number {
    return this.#session.firstFaultCount;
  }

  /** How many crash points there are to explore, those of other shards among them. */
  get pointCount(): number {
    return this.#ownPoints;
  }

  /** Recoveries of units that were taken over. */
  get adoptedRecoveries(): number {
    return this.#adopted;
  }

  /** What ended it early, once its result was asked for. */
  get stop(): Stop | undefined {
    return this.#stop;
  }

  /** The next unit to be run; undefined: there is none, or a limit was reached. */
  take(): UnitStart | undefined {
    if (this.#hasEnded || this.#isTimeUp() || this.#hasReachedLimit()) return undefined;
    const start = this.#ledger.take();
    if (start !== undefined) this.#report(start.point, 0, 0);
    return start;
  }

  /** Runs a unit here, up to what is left of the limits. */
  *run(start: UnitStart): Work<Unit> {
    const limits = this.#limitsAfter(this.#violating, this.#recoveries);
    return yield* this.#runUnit(start, limits);
  }

  /** Takes in a unit that was run, here or elsewhere. */
  add(unit: Unit): void {
    this.#ledger.add(unit, this.#ends(unit));
    this.#recoveries += unit.recoveries;
    this.#violating += unit.violating;
    if (unit.stoppedBy === 'time' || unit.stoppedBy === 'recoveries') this.#hasEnded = true;
    if (isRepeatable(unit)) this.#options.onUnit?.(unit);
  }

  /** Adds everything up. */
  *result(): Work<ExploreResult> {
    const totals = yield* this.#total();
    const violations: Violation[] = [];
    if (totals.nondeterminism === undefined) {
      for (const { point, levels } of totals.cases) {
        const violation = yield* this.#describe(point, levels);
        if (violations.every(({ token }) => token !== violation.token)) violations.push(violation);
      }
    }
    this.#stop = totals.stopped;
    const stopped = totals.stopped && describeStop(totals.stopped, totals.violating, this.#options);
    const incompleteReason = stopped ?? this.#strategy.shortfall ?? this.#whatIsMissing();
    const complete = incompleteReason === undefined;
    const points = [...totals.points.values()];
    return {
      scenario: this.#session.scenario.name,
      strategy: this.#strategy.name,
      depth: this.#depth,
      profile: this.#session.profile.name,
      settings: this.#options.settings ?? {},
      seed: this.#strategy.seed,
      complete,
      incompleteReason,
      coveredShare: complete ? 1 : this.#shareOf(totals),
      clean: complete && totals.violating === 0,
      crashPoints: points.length,
      momentsCovered: complete ? this.#session.events.length + 1 - this.#session.sharedEvents : points.length,
      images: totals.imagesByDepth[0] ?? 0n,
      imagesByDepth: totals.imagesByDepth,
      recoveries: totals.recoveries,
      knownRecoveries: totals.known,
      rechecks: totals.rechecks,
      faults: Object.fromEntries(totals.faults),
      violations,
      violatingRecoveries: totals.violating,
      nondeterminism: totals.nondeterminism,
      unrepeatable: undefined,
      acknowledged: this.acknowledgedCount,
      points,
      elapsedMs: this.#elapsedMs(),
    };
  }

  /** The limits of a unit that is run elsewhere: it must not depend on what others are doing meanwhile. */
  limitsElsewhere(): { violations: number; recoveries: number; timeMs: number } {
    const { timeMs = Number.POSITIVE_INFINITY } = this.#options;
    return { violations: this.#maxViolations, recoveries: this.#maxRecoveries, timeMs: timeMs - this.#elapsedMs() };
  }

  /** Whether one thread, having run all that came before the first unit that is not done, would have ended. */
  #hasReachedLimit(): boolean {
    if (
      this.#violating < this.#maxViolations &&
      this.#recoveries < (this.#options.maxRecoveries ?? Number.POSITIVE_INFINITY)
    )
      return false;
    let [violating, recoveries] = [0, 0];
    for (const unit of this.#ledger.prefix) {
      violating += unit.violating;
      recoveries += unit.recoveries;
    }
    return violating >= this.#maxViolations || recoveries >= this.#maxRecoveries;
  }

  /** Whether one thread would end with this unit, whatever came before it. */
  #ends(unit: Unit): boolean {
    return unit.violating >= this.#maxViolations || unit.nondeterminism !== undefined;
  }

  #limitsAfter(violating: number, recoveries: number): UnitLimits {
    return {
      violations: this.#maxViolations - violating,
      recoveries: this.#maxRecoveries - recoveries,
      isTimeUp: () => this.#isTimeUp(),
    };
  }

  *#runUnit(start: UnitStart, limits: UnitLimits): Work<Unit> {
    const options = {
      depth: this.#depth,
      shrinkRuns: this.#shrinkRuns,
      plain: this.#options.plain ?? false,
      onProgress: (point: number, recoveries: number, violating: number) => this.#report(point, recoveries, violating),
    };
    return yield* runUnit(this.#session, this.#strategy, start, options, limits);
  }

  *#total(): Work<Totals> {
    const totals: Totals = {
      recoveries: 0,
      known: 0,
      rechecks: 0,
      violating: 0,
      share: 0,
      stopped: undefined,
      nondeterminism: undefined,
      imagesByDepth: new Array<bigint>(this.#depth).fill(0n),
      faults: new Map(this.#session.faultCounts),
      points: new Map(),
      cases: [],
    };
    for (const unit of this.#ledger.done) {
      if (totals.stopped !== undefined) break;
      this.#addUp(totals, yield* this.#asOneThread(unit, totals));
    }
    if (totals.stopped === undefined && this.#ledger.isOpen && this.#options.onlyDone !== true) {
      totals.stopped = this.#limitOf(totals);
    }
    return totals;
  }

  /** The unit as one thread would have run it: with what the units before it had left of the limits. */
  *#asOneThread(unit: Unit, { violating, recoveries }: Totals): Work<Unit> {
    const limits = this.#limitsAfter(violating, recoveries);
    const isAsWanted =
      unit.stoppedBy === 'violations'
        ? unit.violating === limits.violations
        : unit.violating < limits.violations && unit.recoveries <= limits.recoveries;
    if (isAsWanted) return unit;
    const again = yield* this.#runUnit(unit, { ...limits, isTimeUp: () => false });
    const expected = Math.min(unit.violating, limits.violations);
    if (again.stoppedBy !== undefined || again.violating >= expected || again.nondeterminism !== undefined)
      return again;
    const message = `${expected} recoveries violated the invariant, and ${again.violating} when they were run again`;
    return { ...again, nondeterminism: { step: 0, message } };
  }

  #addUp(totals: Totals, unit: Unit): void {
    totals.recoveries += unit.recoveries;
    totals.known += unit.known;
    totals.rechecks += unit.rechecks;
    totals.violating += unit.violating;
    if (unit.stoppedBy === undefined) totals.share += unit.rest.reduce((left, { share }) => left - share, unit.share);
    addCounts(totals.faults, unit.faults);
    for (const [at, images] of unit.imagesDeeper.entries()) totals.imagesByDepth[at + 1]! += images;
    for (const levels of unit.cases) totals.cases.push({ point: unit.point, levels });
    const { index, label, images } = this.#points[unit.point]!;
    const before = totals.points.get(index);
    if (before === undefined) totals.imagesByDepth[0]! += images;
    totals.points.set(index, {
      index,
      label,
      images,
      recoveries: (before?.recoveries ?? 0) + unit.recoveries,
      violations: (before?.violations ?? 0) + unit.violating,
    });
    if (unit.nondeterminism !== undefined) {
      totals.nondeterminism = { crashPoint: index, ...unit.nondeterminism };
      totals.stopped = 'nondeterminism';
    } else if (totals.violating >= this.#maxViolations) totals.stopped = 'violations';
    else if (unit.stoppedBy !== undefined) totals.stopped = this.#limitOf(totals);
  }

  #limitOf({ recoveries }: Totals): Stop {
    return recoveries >= this.#maxRecoveries ? 'recoveries' : 'time';
  }

  #whatIsMissing(): string | undefined {
    const { shard } = this.#options;
    if (this.#ledger.isOpen) return 'not all of it has been explored yet';
    if (shard === undefined || shard.count === 1) return undefined;
    return `shard ${shard.index + 1} of ${shard.count}: the other crash points are for the others`;
  }

  #shareOf(totals: Totals): number | undefined {
    return this.#strategy.name === 'random' ? undefined : totals.share / Math.max(1, this.#ownPoints);
  }

  *#describe(index: number, levels: readonly Level[]): Work<Violation> {
    const point = this.#session.seek(index);
    const outcome = yield* this.#session.runCase(point, levels, strictly, true);
    const token = encodeToken({
      scenario: this.#session.scenario.name,
      settings: this.#options.settings ?? {},
      profile: this.#session.profile.name,
      linear: this.#session.linear,
      ...this.#mediaPlan(),
      fingerprint: this.#session.fingerprint,
      crashPoint: index,
      levels,
    });
    return {
      token,
      message: outcome.violation ?? 'it did not fail again when it was repeated: the recovery is not deterministic',
      crashPoint: index,
      where: [this.#points[index]!.label, ...outcome.cuts],
      levels,
      plan: this.#session.plan,
      cuts: levels.length,
      kept: keptSectors(outcome.logs),
      history: outcome.history.events,
    };
  }

  #mediaPlan(): Pick<Case, 'media'> {
    const { media, plan } = this.#session;
    return media === undefined ? {} : { media: { options: media, plan } };
  }

  #report(crashPoint: number, recoveries: number, violations: number): void {
    this.#options.onProgress?.({
      plan: 0,
      planCount: 1,
      crashPoint,
      crashPointCount: this.#points.length,
      recoveries: this.#recoveries + recoveries,
      violations: this.#violating + violations,
    });
  }

  #isTimeUp(): boolean {
    const { timeMs } = this.#options;
    return timeMs !== undefined && this.#elapsedMs() >= timeMs;
  }

  #elapsedMs(): number {
    return this.#clock.monotonicMs() - this.#startMs;
  }
}

/** Why an exploration ended early, for people. */
export function describeStop(stop: Stop, violating: number, { maxRecoveries, timeMs }: ExploreOptions): string {
  if (stop === 'nondeterminism') return 'the recovery is not deterministic';
  if (stop === 'violations') return `stopped after ${violating} violations`;
  return stop === 'recoveries' ? `stopped after ${maxRecoveries} recoveries` : `stopped after ${timeMs} ms`;
}

/** Adds counts of faults to others. */
export function addCounts(totals: Map<MediaFaultKind, number>, counts: ExploreResult['faults']): void {
  for (const [kind, count] of Object.entries(counts) as [MediaFaultKind, number][]) {
    totals.set(kind, (totals.get(kind) ?? 0) + count);
  }
}

/** Whether it would come out alike another day: not where it was this run's budget that ended it. */
function isRepeatable({ stoppedBy }: Unit): boolean {
  return stoppedBy === undefined || stoppedBy === 'violations';
}

/** @throws TypeError, RangeError for what is no shard */
function checkShard(shard: Shard | undefined): void {
  if (shard === undefined) return;
  if (typeof shard !== 'object' || shard === null) {
    throw new TypeError(`shard: expected { index, count }, got ${describeValue(shard)}`);
  }
  assertInteger(shard.count, 'shard.count', 1);
  assertInteger(shard.index, 'shard.index', 0, shard.count - 1);
}
