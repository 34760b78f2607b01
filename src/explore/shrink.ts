import type { Choices, Work } from '../core/index.ts';
import { Bounded } from '../faults/index.ts';
import { CUT, type Session } from './session.ts';
import { type Level, withoutTrailingZeros } from './token.ts';
import type { CrashPoint } from './trace.ts';

/** Repeats a list where it can, and takes the nearest option where it cannot: for lists that nobody recorded. */
class NearestChoices implements Choices {
  readonly #values: readonly number[];
  #position = 0;

  constructor(values: readonly number[]) {
    this.#values = values;
  }

  choose(options: number, _label: string): number {
    if (options <= 1) return 0;
    return Math.min(this.#values[this.#position++] ?? 0, options - 1);
  }
}

/**
 * Makes a failing case smaller: fewest deviations from "everything persisted", then fewest cuts, then shortest.
 * Deterministic. First greedy, change by change; then, for a single cut, all lists with fewer deviations, as far as
 * `maxRuns` goes.
 * @returns levels that fail, at this crash point
 */
export function* shrink(
  session: Session,
  point: CrashPoint,
  failing: readonly Level[],
  maxRuns: number,
): Work<readonly Level[]> {
  const shrinker = new Shrinker(session, point, failing, maxRuns);
  yield* shrinker.greedy();
  yield* shrinker.search();
  return shrinker.best;
}

class Shrinker {
  best: readonly Level[];
  readonly #session: Session;
  readonly #point: CrashPoint;
  #runsLeft: number;

  constructor(session: Session, point: CrashPoint, failing: readonly Level[], maxRuns: number) {
    this.#session = session;
    this.#point = point;
    this.best = failing;
    this.#runsLeft = maxRuns;
  }

  /** Tries each simpler neighbour, and starts over from the first that fails. */
  *greedy(): Work<void> {
    for (let improved = true; improved; ) {
      improved = false;
      for (const candidate of simpler(this.best)) {
        if (this.#runsLeft <= 0) return;
        improved = yield* this.#try(candidate);
        if (improved) break;
      }
    }
  }

  /** All lists with fewer deviations, fewest first. */
  *search(): Work<void> {
    if (this.best.length !== 1) return;
    const { state } = this.#session;
    for (let bound = 1; bound < deviationsOf(this.best); bound++) {
      const enumeration = new Bounded(bound);
      do {
        if (this.#runsLeft-- <= 0) return;
        const before = state.checkpoint();
        state.cut();
        const history = this.#point.history.with(CUT);
        const attempt = yield* this.#session.attempt({ history, choices: enumeration, captures: false });
        state.undo(before);
        state.rewind(before);
        if (attempt.nondeterminism !== undefined) return;
        if (attempt.violation !== undefined) {
          this.best = [{ choices: withoutTrailingZeros(attempt.choices), cut: -1 }];
          return;
        }
      } while (hasNext(enumeration));
    }
  }

  *#try(candidate: readonly Level[]): Work<boolean> {
    this.#runsLeft--;
    const nearest = (values: readonly number[]) => new NearestChoices(values);
    const outcome = yield* this.#session.runCase(this.#point, candidate, nearest, false);
    if (outcome.violation === undefined) return false;
    const levels = outcome.levels.map(({ choices, cut }) => ({ choices: withoutTrailingZeros(choices), cut }));
    if (compareCost(levels, this.best) >= 0) return false;
    this.best = levels;
    return true;
  }
}

/** A recovery that is not deterministic is reported elsewhere; here the search just ends. */
function hasNext(enumeration: Bounded): boolean {
  try {
    return enumeration.next();
  } catch {
    return false;
  }
}

/** Neighbours of a case with less in them. */
function* simpler(levels: readonly Level[]): Generator<readonly Level[]> {
  yield levels.map((level) => ({ ...level, choices: [] }));
  for (let i = 0; i < levels.length; i++) {
    if (levels.length > 1)
      yield levels.filter((_, at) => at !== i).map((l, at, all) => (at === all.length - 1 ? { ...l, cut: -1 } : l));
    const level = levels[i]!;
    const replaced = (change: Partial<Level>) =>
      levels.map((other, at) => (at === i ? { ...level, ...change } : other));
    for (let at = level.choices.length - 1; at >= 0; at--) {
      const value = level.choices[at]!;
      if (value > 0) yield replaced({ choices: level.choices.with(at, 0) });
      if (value > 1) yield replaced({ choices: level.choices.with(at, 1) });
    }
    if (level.cut > 0) yield replaced({ cut: 0 });
    if (level.cut > 1) yield replaced({ cut: level.cut - 1 });
  }
}

function deviationsOf(levels: readonly Level[]): number {
  return levels.reduce((sum, level) => sum + level.choices.filter((value) => value !== 0).length, 0);
}

function costOf(levels: readonly Level[]): number[] {
  const total = (of: (level: Level) => number) => levels.reduce((sum, level) => sum + of(level), 0);
  return [
    deviationsOf(levels),
    levels.length,
    total((level) => level.cut),
    total((level) => withoutTrailingZeros(level.choices).length),
    total((level) => level.choices.reduce((sum, value) => sum + value, 0)),
  ];
}

function compareCost(a: readonly Level[], b: readonly Level[]): number {
  const [costA, costB] = [costOf(a), costOf(b)];
  for (let i = 0; i < costA.length; i++) {
    if (costA[i] !== costB[i]) return costA[i]! - costB[i]!;
  }
  return 0;
}
