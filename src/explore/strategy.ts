import { assertInteger, describeValue, Sfc32 } from '../core/index.ts';
import { Bounded, DepthFirst, type Enumeration, RandomChoices, type Rest } from '../faults/index.ts';
import type { Snapshot } from './attempt.ts';
import type { StrategyName } from './result.ts';
import type { Linearity } from './token.ts';

export interface StrategyOptions {
  /**
   * - `exhaustive` (default): every image.
   * - `bounded`: at most `bound` deviations from "everything persisted" after each cut.
   * - `random`: `runs` cases drawn with `seed`.
   * - `prefix`: writes persist in order, whole; the power fails between them. What most tools do.
   * - `prefix-torn`: the same, and of the write under way any of its sectors.
   */
  readonly strategy?: StrategyName;
  /** Of `random`. Default 1. */
  readonly seed?: number;
  /** Of `random`: how many first cuts. Default 1000. */
  readonly runs?: number;
  /** Of `bounded`. Default 1. */
  readonly bound?: number;
}

/** Which cases a strategy visits. */
export interface Strategy {
  readonly name: StrategyName;
  readonly seed: number | undefined;
  /** Why a run to the end is not a complete one; undefined where it is. */
  readonly shortfall: string | undefined;
  /** What it visits from a crash point: the same, whatever was visited before. */
  at(crashPoint: number): PointStrategy;
}

/** A part of what an enumeration visits. */
type Part = Pick<Rest, 'start' | 'fixed'>;

/** Which cases a strategy visits from one crash point. */
export interface PointStrategy {
  /** How many runs there are; undefined: as many as the enumeration has. */
  readonly runs: number | undefined;
  /** The same of a cut in a recovery. */
  readonly runsInRecovery: number | undefined;
  /** The choices of a state's runs. @param part of them to be visited; by default all are */
  enumeration(part?: Part): Enumeration;
  /** Which of a recovery's cut points to go on from. */
  follow(snapshots: readonly Snapshot[]): readonly Snapshot[];
}

/** How writes persist where they do so in order; false: each sector for itself, as the disk model says. */
export function linearityOf(strategy: StrategyName | undefined): Linearity {
  if (strategy === 'prefix') return 'whole';
  return strategy === 'prefix-torn' ? 'torn' : false;
}

/** @throws TypeError, RangeError for options that make no strategy */
export function strategyOf(options: StrategyOptions, crashPointCount: number): Strategy {
  const name = options.strategy ?? 'exhaustive';
  if (name === 'random') return randomStrategy(options.seed ?? 1, options.runs ?? 1000, crashPointCount);
  const bound = options.bound ?? 1;
  if (name === 'exhaustive') return treeStrategy(name, undefined, (part) => new DepthFirst(undefined, part));
  if (name === 'prefix') {
    return treeStrategy(name, 'prefix: only writes that persist in order', (part) => new DepthFirst(undefined, part));
  }
  if (name === 'prefix-torn') {
    const shortfall = 'prefix-torn: only writes that persist in order, the last one torn';
    return treeStrategy(name, shortfall, (part) => new DepthFirst(undefined, part));
  }
  if (name === 'bounded') {
    assertInteger(bound, 'bound');
    const shortfall = `bounded: at most ${bound} deviations after each cut`;
    return treeStrategy(name, shortfall, (part) => new Bounded(bound, part));
  }
  throw new RangeError(
    `strategy: expected exhaustive, random, bounded, prefix or prefix-torn, got ${describeValue(name satisfies never)}`,
  );
}

function treeStrategy(
  name: StrategyName,
  shortfall: string | undefined,
  enumeration: (part?: Part) => Enumeration,
): Strategy {
  const everywhere: PointStrategy = {
    runs: undefined,
    runsInRecovery: undefined,
    enumeration,
    follow: (snapshots) => snapshots,
  };
  return { name, seed: undefined, shortfall, at: () => everywhere };
}

/** Crash points that are drawn one by one. */
const MAX_DRAWS = 1 << 20;

function randomStrategy(seed: number, runs: number, crashPointCount: number): Strategy {
  assertInteger(seed, 'seed');
  assertInteger(runs, 'runs', 1);
  const prng = new Sfc32(seed);
  // However many are asked for, the drawing ends: what is past MAX_DRAWS is shared out evenly.
  const share = Math.floor(Math.max(0, runs - MAX_DRAWS) / crashPointCount);
  const runsAt = new Array<number>(crashPointCount).fill(share);
  for (let left = runs - share * crashPointCount; left > 0; left--) runsAt[prng.below(crashPointCount)]!++;
  return {
    name: 'random',
    seed,
    shortfall: `random: a sample of ${runs} cuts`,
    at: (crashPoint) => drawn(new Sfc32(mixed(seed, crashPoint)), runsAt[crashPoint] ?? 0),
  };
}

/** One seed for each crash point, so that what is drawn at one does not depend on the others. */
function mixed(seed: number, crashPoint: number): number {
  const prng = new Sfc32(seed);
  const high = (prng.nextU32() ^ Math.imul(crashPoint + 1, 0x9e37_79b1)) & 0x1f_ffff;
  return high * 0x1_0000_0000 + ((prng.nextU32() ^ crashPoint) >>> 0);
}

function drawn(prng: Sfc32, runs: number): PointStrategy {
  return {
    runs,
    runsInRecovery: 1,
    enumeration: () => new RandomChoices(prng),
    follow: (snapshots) => {
      const at = prng.below(snapshots.length + 1);
      return snapshots.slice(at, at + 1);
    },
  };
}
