import { isDeepStrictEqual } from 'node:util';
import type { Choices, Work } from '../core/index.ts';
import { type Enumeration, ImageCount, type MediaFaultKind, NondeterminismError, type Rest } from '../faults/index.ts';
import type { Attempt, Snapshot } from './attempt.ts';
import type { History } from './history.ts';
import { RecoveryTree } from './recovery-tree.ts';
import { CUT, countOne, type Session } from './session.ts';
import { shrink } from './shrink.ts';
import type { PointStrategy, Strategy } from './strategy.ts';
import type { Level } from './token.ts';
import type { CrashPoint } from './trace.ts';

/** A part of an exploration: the recoveries from one crash point in a part of its enumeration (see `Rest`). */
export interface UnitStart extends Rest {
  readonly point: number;
}

/**
 * What came out of a unit. Plain data: a unit may be run by another thread, on another machine, or on another day. It
 * depends on nothing but the scenario, the options, and its start.
 */
export interface Unit extends UnitStart {
  /** Which faults of the medium the workload has: see `StackOptions.plan`. */
  readonly plan: readonly number[];
  /** Recoveries run, those after cuts in recovery among them. */
  readonly recoveries: number;
  /** Of them, those that were not run, because it was known what they do. */
  readonly known: number;
  readonly rechecks: number;
  /** Recoveries that violated. */
  readonly violating: number;
  /** How often each kind of media fault fired in them. */
  readonly faults: Readonly<Partial<Record<MediaFaultKind, number>>>;
  /** By number of cuts, from two on: images of the states from which recoveries were run. */
  readonly imagesDeeper: readonly bigint[];
  /** Failing cases, made small; none twice. */
  readonly cases: readonly (readonly Level[])[];
  readonly nondeterminism: { readonly step: number; readonly message: string } | undefined;
  /** Where it goes on: units have about the same size, so that they can be shared out. */
  readonly rest: readonly Rest[];
  /** One of the limits ended it early. */
  readonly stoppedBy: 'violations' | 'recoveries' | 'time' | undefined;
}

/** What ends a unit before its end. */
export interface UnitLimits {
  readonly violations: number;
  readonly recoveries: number;
  isTimeUp(): boolean;
}

export interface UnitOptions {
  readonly depth: number;
  /** Recoveries to spend on making each violation small. */
  readonly shrinkRuns: number;
  /** Run every recovery, known or not. */
  readonly plain: boolean;
  /** Called now and then, with the recoveries and violations of this unit so far. */
  readonly onProgress?: ((point: number, recoveries: number, violating: number) => void) | undefined;
}

/** A unit ends with the first case after so many recoveries were run: enough that handing it out costs nothing. */
const UNIT_RUNS = 128;
/** Or after so many cases, run or known. */
const UNIT_RECOVERIES = 2048;
/** How often progress is reported, in recoveries. */
const PROGRESS_EVERY = 64;

function isPowerOfTwo(count: number): boolean {
  return (count & (count - 1)) === 0;
}

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

/** Runs one unit. */
export function* runUnit(
  session: Session,
  strategy: Strategy,
  start: UnitStart,
  options: UnitOptions,
  limits: UnitLimits,
): Work<Unit> {
  return yield* new UnitRun(session, strategy, start, options, limits).run();
}

class UnitRun {
  readonly #session: Session;
  readonly #strategy: PointStrategy;
  readonly #start: UnitStart;
  readonly #options: UnitOptions;
  readonly #limits: UnitLimits;
  readonly #point: CrashPoint;
  readonly #imagesDeeper: bigint[];
  readonly #failures: Level[][] = [];
  /** The cuts and choices that led to where the run is. */
  readonly #path: { choices: readonly number[]; cut: number }[] = [];
  #rest: readonly Rest[] = [];
  /** What recoveries did, in this unit: so that what a unit counts does not depend on others. */
  readonly #tree: RecoveryTree;
  readonly #faults = new Map<MediaFaultKind, number>();
  #recoveries = 0;
  #known = 0;
  #rechecks = 0;
  #violating = 0;
  #nondeterminism: { step: number; message: string } | undefined;
  #stoppedBy: Unit['stoppedBy'];

  constructor(session: Session, strategy: Strategy, start: UnitStart, options: UnitOptions, limits: UnitLimits) {
    this.#session = session;
    this.#strategy = strategy.at(start.point);
    this.#start = start;
    this.#options = options;
    this.#limits = limits;
    this.#point = session.seek(start.point);
    this.#tree = new RecoveryTree(session.state);
    this.#imagesDeeper = new Array<bigint>(options.depth - 1).fill(0n);
  }

  *run(): Work<Unit> {
    const { state } = this.#session;
    const pending = state.pendingGroups();
    const before = state.checkpoint();
    state.cut();
    const images = new ImageCount();
    images.multiply(state, pending);
    const enumeration = this.#strategy.enumeration(this.#start);
    yield* this.#exploreState(this.#point.history.with(CUT), images, enumeration, this.#strategy.runs);
    state.undo(before);
    state.rewind(before);
    const cases = yield* this.#smallCases();
    const { point, start, fixed, share } = this.#start;
    return {
      plan: this.#session.plan,
      point,
      start,
      fixed,
      share,
      recoveries: this.#recoveries,
      known: this.#known,
      rechecks: this.#rechecks,
      violating: this.#violating,
      faults: Object.fromEntries(this.#faults),
      imagesDeeper: this.#imagesDeeper,
      cases,
      nondeterminism: this.#nondeterminism,
      rest: this.#rest,
      stoppedBy: this.#stoppedBy,
    };
  }

  get #isLongEnough(): boolean {
    return this.#recoveries - this.#known >= UNIT_RUNS || this.#recoveries >= UNIT_RECOVERIES;
  }

  get #hasEnded(): boolean {
    return this.#stoppedBy !== undefined || this.#nondeterminism !== undefined;
  }

  /** Runs the recovery on every image of the state, which a cut has just left. */
  *#exploreState(history: History, images: ImageCount, enumeration: Enumeration, runs: number | undefined): Work<void> {
    const { state } = this.#session;
    const level: { choices: readonly number[]; cut: number } = { choices: [], cut: -1 };
    this.#path.push(level);
    const isTop = this.#path.length === 1;
    const captures = this.#path.length < this.#options.depth;
    for (let run = 0; run !== runs && this.#mayGoOn(); run++) {
      const before = state.checkpoint();
      const { sharedCount } = enumeration;
      const attempt = yield* this.#attempt(history, enumeration, captures, sharedCount);
      state.undo(before);
      this.#account(attempt, level);
      if (this.#isSample(attempt) && !this.#hasEnded) yield* this.#recheck(history, attempt);
      state.undo(before);
      for (const snapshot of this.#strategy.follow(attempt.snapshots)) {
        if (this.#hasEnded) break;
        level.choices = attempt.choices.slice(0, snapshot.choiceCount);
        level.cut = snapshot.ordinal;
        yield* this.#exploreSnapshot(snapshot, images);
      }
      state.rewind(before, true);
      if (this.#hasEnded) break;
      if (isTop && runs === undefined && this.#isLongEnough) {
        this.#rest = enumeration.rest();
        break;
      }
      if (!this.#next(enumeration)) break;
    }
    this.#path.pop();
  }

  /** The power failed again, in a recovery. */
  *#exploreSnapshot(snapshot: Snapshot, images: ImageCount): Work<void> {
    const { state } = this.#session;
    const before = state.checkpoint();
    const groups = state.changedGroups(snapshot.delta);
    const imagesHere = images.clone();
    imagesHere.divide(state, groups);
    state.apply(snapshot.delta);
    state.cut();
    imagesHere.multiply(state, groups);
    this.#imagesDeeper[this.#path.length - 1]! += imagesHere.product;
    const { runsInRecovery } = this.#strategy;
    const enumeration = this.#strategy.enumeration();
    yield* this.#exploreState(snapshot.history.with(CUT), imagesHere, enumeration, runsInRecovery);
    state.undo(before);
  }

  #next(enumeration: Enumeration): boolean {
    try {
      return enumeration.next();
    } catch (error) {
      if (!(error instanceof NondeterminismError)) throw error;
      this.#differs(error.step, error.message);
      return false;
    }
  }

  #attempt(history: History, choices: Enumeration, captures: boolean, sharedCount: number): Work<Attempt> {
    const tree = this.#treeFor(this.#recoveries + 1);
    const use = this.#options.plain ? 'runs' : 'known';
    return this.#session.attempt({ history, choices, captures, sharedCount, tree, use });
  }

  /** Where every recovery is run, only those that are run twice have to be noted. */
  #treeFor(count: number): RecoveryTree | undefined {
    return this.#options.plain && !this.#isCounted(count) ? undefined : this.#tree;
  }

  /**
   * Whether a recovery is run again, and compared: the first of every unit, at a crash point's start every 2^k-th, and
   * the first of every unit that was known.
   */
  #isSample({ isFromMemory }: Attempt): boolean {
    return this.#isCounted(this.#recoveries) || (isFromMemory && this.#known === 1);
  }

  #isCounted(count: number): boolean {
    return count === 1 || (this.#start.start.length === 0 && isPowerOfTwo(count));
  }

  #account(attempt: Attempt, level: { choices: readonly number[]; cut: number }): void {
    this.#recoveries++;
    if (attempt.isFromMemory) this.#known++;
    for (const { kind } of attempt.faults) countOne(this.#faults, kind);
    if (this.#recoveries % PROGRESS_EVERY === 0) this.#report();
    if (attempt.nondeterminism !== undefined) {
      this.#differs(attempt.nondeterminism.step, attempt.nondeterminism.message);
    } else if (attempt.violation !== undefined) {
      level.choices = attempt.choices;
      level.cut = -1;
      this.#violating++;
      this.#failures.push(this.#path.map(({ choices, cut }) => ({ choices, cut })));
      if (this.#violating >= this.#limits.violations) this.#stoppedBy = 'violations';
    }
  }

  /** Runs the same case again, or for the first time where it was known, and compares. */
  *#recheck(history: History, first: Attempt): Work<void> {
    this.#rechecks++;
    const again = (tree: RecoveryTree, use: 'runs' | 'repeats') => {
      const choices = new RepeatedChoices(first.choices);
      return this.#session.attempt({ history, choices, captures: false, tree, use });
    };
    let tree = this.#tree;
    if (tree.isFull) {
      tree = new RecoveryTree(this.#session.state);
      const before = this.#session.state.checkpoint();
      yield* again(tree, 'runs');
      this.#session.state.undo(before);
    }
    const second = yield* again(tree, 'repeats');
    if (second.nondeterminism !== undefined) {
      this.#differs(second.nondeterminism.step, second.nondeterminism.message);
    } else if (!isDeepStrictEqual(first.choices, second.choices) || first.violation !== second.violation) {
      this.#differs(first.choices.length, `it ended with "${first.violation}", then with "${second.violation}"`);
    }
  }

  #differs(step: number, message: string): void {
    this.#nondeterminism ??= { step, message };
  }

  #mayGoOn(): boolean {
    if (this.#recoveries >= this.#limits.recoveries) this.#stoppedBy ??= 'recoveries';
    else if (this.#limits.isTimeUp()) this.#stoppedBy ??= 'time';
    return !this.#hasEnded;
  }

  /** The failing cases, each made small, none twice. */
  *#smallCases(): Work<(readonly Level[])[]> {
    const cases: (readonly Level[])[] = [];
    if (this.#nondeterminism !== undefined) return cases;
    for (const levels of this.#failures) {
      const small = yield* shrink(this.#session, this.#point, levels, this.#options.shrinkRuns);
      if (!cases.some((known) => isDeepStrictEqual(known, small))) cases.push(small);
    }
    return cases;
  }

  #report(): void {
    this.#options.onProgress?.(this.#start.point, this.#recoveries, this.#violating);
  }
}
