import { isDeepStrictEqual } from 'node:util';
import { assertInteger, type Choices, type Clock, systemClock } from '../core/index.ts';
import { ImageCount, NondeterminismError } from '../faults/index.ts';
import type { Attempt, Snapshot } from './attempt.ts';
import type { History } from './history.ts';
import type { CrashPointResult, ExploreResult, KeptSector, Nondeterminism, Violation } from './result.ts';
import { describeOp, type Scenario } from './scenario.ts';
import { CUT, runAsync, runSync, Session, type StackOptions, strictly, type Work } from './session.ts';
import { shrink } from './shrink.ts';
import { firstDifference, StepLog } from './steps.ts';
import { linearityOf, type Strategy, type StrategyOptions, strategyOf } from './strategy.ts';
import { encodeToken, type Level } from './token.ts';
import type { CrashPoint } from './trace.ts';

export interface ExploreOptions extends StackOptions, StrategyOptions {
  /** Power cuts in a row: 1 is the one in the workload, 2 one more in each recovery. From 1 to 16; default 2. */
  readonly depth?: number;
  /** Stop after so many recoveries. Default: no limit. */
  readonly maxRecoveries?: number;
  /** Stop after so many milliseconds. Default: no limit. */
  readonly timeMs?: number;
  /** Stop after so many recoveries that violate, at least 1. Default 5. */
  readonly maxViolations?: number;
  /** Recoveries to spend on making each violation small; 0: leave it as found. Default 300. */
  readonly shrinkRuns?: number;
  readonly clock?: Clock;
  /** Called at each crash point, and every 1024 recoveries. */
  readonly onProgress?: (progress: Progress) => void;
}

/** How far an exploration is. */
export interface Progress {
  readonly crashPoint: number;
  readonly crashPointCount: number;
  readonly recoveries: number;
  readonly violations: number;
}

/**
 * Runs the scenario's workload once and its recovery for every disk that a power cut can leave. Synchronous: so must the
 * scenario be.
 * @throws CodedError EINVAL for a scenario that is none or is asynchronous; whatever `format` or `workload` throws
 */
export function explore<Op, Observation>(
  scenario: Scenario<Op, Observation>,
  options: ExploreOptions = {},
): ExploreResult {
  return runSync(new Exploration(scenario as Scenario, options).run());
}

/** {@link explore} for a scenario whose members may return promises. Recoveries still run one after another. */
export async function exploreAsync<Op, Observation>(
  scenario: Scenario<Op, Observation>,
  options: ExploreOptions = {},
): Promise<ExploreResult> {
  return runAsync(new Exploration(scenario as Scenario, options).run());
}

/** How often progress is reported, in recoveries; a power of two. */
const PROGRESS_EVERY = 1024;

/** Repeats a list exactly: another question than before is nondeterminism. */
class RepeatedChoices implements Choices {
  readonly #values: readonly number[];
  #position = 0;

  constructor(values: readonly number[]) {
    this.#values = values;
  }

  choose(options: number, label: string): number {
    if (options <= 1) return 0;
    const at = this.#position++;
    const value = this.#values[at];
    if (value !== undefined && value < options) return value;
    throw new NondeterminismError(at, `got ${options} options for "${label}", which the first run was not asked`);
  }
}

class Exploration {
  readonly #session: Session;
  readonly #options: ExploreOptions;
  readonly #depth: number;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #maxViolations: number;
  readonly #points: CrashPointResult[] = [];
  readonly #imagesByDepth: bigint[];
  readonly #violations: Violation[] = [];
  /** Failing cases of the crash point at hand. */
  #failures: { levels: Level[] }[] = [];
  /** The cuts and choices that led to where the exploration is. */
  readonly #path: Level[] = [];
  #crashPointCount = 0;
  #recoveries = 0;
  #rechecks = 0;
  #violating = 0;
  #nondeterminism: Nondeterminism | undefined;
  /** Why the exploration ends early. */
  #stopped: string | undefined;

  constructor(scenario: Scenario, options: ExploreOptions) {
    this.#options = options;
    this.#depth = options.depth ?? 2;
    assertInteger(this.#depth, 'depth', 1, 16);
    this.#maxViolations = options.maxViolations ?? 5;
    assertInteger(options.maxRecoveries ?? 1, 'maxRecoveries', 1);
    assertInteger(options.shrinkRuns ?? 1, 'shrinkRuns');
    if (this.#maxViolations !== Number.POSITIVE_INFINITY) assertInteger(this.#maxViolations, 'maxViolations', 1);
    this.#clock = options.clock ?? systemClock;
    this.#startMs = this.#clock.monotonicMs();
    this.#imagesByDepth = new Array<bigint>(this.#depth).fill(0n);
    this.#session = new Session(scenario, options, linearityOf(options.strategy));
  }

  *run(): Work<ExploreResult> {
    const session = this.#session;
    yield* session.record();
    this.#crashPointCount = session.countCrashPoints();
    const strategy = strategyOf(this.#options, this.#crashPointCount);
    const player = session.player();
    for (let point = player.next(); point !== undefined; point = player.next()) {
      yield* this.#explorePoint(point, strategy);
      if (this.#stopped !== undefined) break;
    }
    return this.#result(strategy);
  }

  *#explorePoint(point: CrashPoint, strategy: Strategy): Work<void> {
    const { state } = this.#session;
    const recoveriesBefore = this.#recoveries;
    const violatingBefore = this.#violating;
    this.#report(point.index);
    const pending = state.groupsOf(state.pendingSectors());
    const before = state.checkpoint();
    state.cut();
    const images = new ImageCount();
    images.multiply(state, pending);
    this.#imagesByDepth[0]! += images.product;
    yield* this.#exploreState(point, point.history.with(CUT), images, strategy, strategy.runsAt(point.index));
    state.undo(before);
    state.rewind(before);
    this.#points.push({
      index: point.index,
      label: this.#label(point),
      images: images.product,
      recoveries: this.#recoveries - recoveriesBefore,
      violations: this.#violating - violatingBefore,
    });
    yield* this.#settleFailures(point);
  }

  /** Runs the recovery on every image of the state, which a cut has just left. */
  *#exploreState(
    point: CrashPoint,
    history: History,
    images: ImageCount,
    strategy: Strategy,
    runs: number | undefined,
  ): Work<void> {
    const { state } = this.#session;
    const enumeration = strategy.enumeration();
    const level: { choices: number[]; cut: number } = { choices: [], cut: -1 };
    const captures = this.#path.length + 1 < this.#depth;
    this.#path.push(level);
    for (let run = 0; run !== runs && this.#mayGoOn(); run++) {
      const before = state.checkpoint();
      const isSample = this.#isSample(run);
      const log = isSample ? new StepLog() : undefined;
      const { sharedCount } = enumeration;
      const attempt = yield* this.#session.attempt({ history, choices: enumeration, captures, sharedCount, log });
      state.undo(before);
      this.#account(point, attempt, level);
      if (log !== undefined && this.#stopped === undefined) yield* this.#recheck(point, history, attempt, log);
      state.undo(before);
      for (const snapshot of strategy.follow(attempt.snapshots)) {
        if (this.#stopped !== undefined) break;
        level.choices = attempt.choices.slice(0, snapshot.choiceCount);
        level.cut = snapshot.ordinal;
        yield* this.#exploreSnapshot(point, snapshot, images, strategy);
      }
      state.rewind(before);
      if (!this.#next(point, enumeration)) break;
    }
    this.#path.pop();
  }

  /** The power failed again, in a recovery. */
  *#exploreSnapshot(point: CrashPoint, snapshot: Snapshot, images: ImageCount, strategy: Strategy): Work<void> {
    const { state } = this.#session;
    const before = state.checkpoint();
    const groups = state.groupsOf(state.sectorsOf(snapshot.delta));
    const imagesHere = images.clone();
    imagesHere.divide(state, groups);
    state.apply(snapshot.delta);
    state.cut();
    imagesHere.multiply(state, groups);
    this.#imagesByDepth[this.#path.length]! += imagesHere.product;
    const runs = strategy.name === 'random' ? 1 : undefined;
    yield* this.#exploreState(point, snapshot.history.with(CUT), imagesHere, strategy, runs);
    state.undo(before);
  }

  #next(point: CrashPoint, enumeration: { next(): boolean }): boolean {
    if (this.#stopped !== undefined) return false;
    try {
      return enumeration.next();
    } catch (error) {
      if (!(error instanceof NondeterminismError)) throw error;
      this.#differs(point, error.step, error.message);
      return false;
    }
  }

  /** The first run of every crash point and every 2^k-th of all are run twice. */
  #isSample(run: number): boolean {
    const count = this.#recoveries + 1;
    return (run === 0 && this.#path.length === 1) || (count & (count - 1)) === 0;
  }

  #account(point: CrashPoint, attempt: Attempt, level: { choices: number[]; cut: number }): void {
    this.#recoveries++;
    if ((this.#recoveries & (PROGRESS_EVERY - 1)) === 0) this.#report(point.index);
    if (attempt.nondeterminism !== undefined) {
      this.#differs(point, attempt.nondeterminism.step, attempt.nondeterminism.message);
    } else if (attempt.violation !== undefined) {
      level.choices = attempt.choices;
      level.cut = -1;
      this.#violating++;
      this.#failures.push({ levels: this.#path.map(({ choices, cut }) => ({ choices, cut })) });
      if (this.#violating >= this.#maxViolations) this.#stop(`stopped after ${this.#violating} violations`);
    }
  }

  /** Runs the same case again, and compares. */
  *#recheck(point: CrashPoint, history: History, first: Attempt, log: StepLog): Work<void> {
    this.#rechecks++;
    const again = new StepLog();
    const choices = new RepeatedChoices(first.choices);
    const second = yield* this.#session.attempt({ history, choices, captures: false, log: again });
    const difference = firstDifference(log.steps, again.steps);
    if (difference !== undefined) {
      const { step, first: was, second: is } = difference;
      this.#differs(point, step, `step ${step} of the recovery was "${was}", then "${is}"`);
    } else if (second.nondeterminism !== undefined) {
      this.#differs(point, second.nondeterminism.step, second.nondeterminism.message);
    } else if (!isDeepStrictEqual(first.choices, second.choices) || first.violation !== second.violation) {
      this.#differs(point, log.steps.length, `it ended with "${first.violation}", then with "${second.violation}"`);
    }
  }

  #differs(point: CrashPoint, step: number, message: string): void {
    this.#nondeterminism ??= { crashPoint: point.index, step, message };
    this.#stop('the recovery is not deterministic');
  }

  #stop(reason: string): void {
    this.#stopped ??= reason;
  }

  #mayGoOn(): boolean {
    const { maxRecoveries, timeMs } = this.#options;
    if (maxRecoveries !== undefined && this.#recoveries >= maxRecoveries) {
      this.#stop(`stopped after ${maxRecoveries} recoveries`);
    }
    if (timeMs !== undefined && this.#elapsedMs() >= timeMs) this.#stop(`stopped after ${timeMs} ms`);
    return this.#stopped === undefined;
  }

  /** Makes this crash point's failures small, and reports each once. */
  *#settleFailures(point: CrashPoint): Work<void> {
    const failures = this.#failures;
    this.#failures = [];
    if (this.#nondeterminism !== undefined) return;
    for (const { levels } of failures) {
      const small = yield* shrink(this.#session, point, levels, this.#options.shrinkRuns ?? 300);
      const violation = yield* this.#describe(point, small);
      if (this.#violations.every(({ token }) => token !== violation.token)) this.#violations.push(violation);
    }
  }

  *#describe(point: CrashPoint, levels: readonly Level[]): Work<Violation> {
    const outcome = yield* this.#session.runCase(point, levels, strictly, true);
    const token = encodeToken({
      scenario: this.#session.scenario.name,
      settings: this.#options.settings ?? {},
      profile: this.#session.profile.name,
      linear: this.#session.linear,
      fingerprint: this.#session.fingerprint,
      crashPoint: point.index,
      levels,
    });
    return {
      token,
      message: outcome.violation ?? 'it did not fail again when it was repeated: the recovery is not deterministic',
      crashPoint: point.index,
      where: [this.#label(point), ...outcome.cuts],
      levels,
      cuts: levels.length,
      kept: keptSectors(outcome.logs),
      history: outcome.history.events,
    };
  }

  #label(point: CrashPoint): string {
    return labelOf(this.#session.scenario, point);
  }

  #report(crashPoint: number): void {
    this.#options.onProgress?.({
      crashPoint,
      crashPointCount: this.#crashPointCount,
      recoveries: this.#recoveries,
      violations: this.#violating,
    });
  }

  #elapsedMs(): number {
    return this.#clock.monotonicMs() - this.#startMs;
  }

  #result(strategy: Strategy): ExploreResult {
    const incompleteReason = this.#stopped ?? strategy.shortfall;
    const complete = incompleteReason === undefined;
    return {
      scenario: this.#session.scenario.name,
      strategy: strategy.name,
      depth: this.#depth,
      profile: this.#session.profile.name,
      settings: this.#options.settings ?? {},
      seed: strategy.seed,
      complete,
      incompleteReason,
      clean: complete && this.#violating === 0,
      crashPoints: this.#points.length,
      momentsCovered: complete ? this.#session.events.length + 1 : this.#points.length,
      images: this.#imagesByDepth[0] ?? 0n,
      imagesByDepth: this.#imagesByDepth,
      recoveries: this.#recoveries,
      rechecks: this.#rechecks,
      violations: this.#violations,
      violatingRecoveries: this.#violating,
      nondeterminism: this.#nondeterminism,
      points: this.#points,
      elapsedMs: this.#elapsedMs(),
    };
  }
}

/** Where a crash point is, with what was in flight. */
export function labelOf(scenario: Scenario, point: CrashPoint): string {
  const { inFlight, last } = point.history;
  if (inFlight.length > 0) {
    return `${point.where}, ${inFlight.map((op) => describeOp(scenario, op)).join(' and ')} in flight`;
  }
  if (last?.kind === 'acknowledge') return `${point.where}, after ${describeOp(scenario, last.op)}`;
  if (last?.kind === 'fail') return `${point.where}, after ${describeOp(scenario, last.op)} failed`;
  return point.where;
}

/** What the recoveries found the open sectors to be. */
export function keptSectors(logs: readonly StepLog[]): KeptSector[] {
  return logs.flatMap((log, level) =>
    log.steps.flatMap((step) => {
      if (step.kind !== 'keep') return [];
      const { sector, kind, index, versionCount } = step.resolution;
      return [{ level, sector, kind, version: index, versionCount }];
    }),
  );
}
