import type { Clock } from '../core/index.ts';
import type { Shard } from './ledger.ts';
import type { StackOptions } from './session.ts';
import type { StrategyOptions } from './strategy.ts';
import type { Unit } from './unit.ts';

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
  /** Run every recovery, also one of which it is known what it does. Default false. */
  readonly plain?: boolean;
  readonly clock?: Clock;
  /** Called at each crash point, and now and then in between. */
  readonly onProgress?: (progress: Progress) => void;
  /** Explore only this machine's share of the crash points. Default: all. */
  readonly shard?: Shard;
  /** What was explored before, by this scenario with these options: it is not done again. */
  readonly done?: readonly Unit[];
  /** Called with each unit that was run to its end: what to keep for `done`. */
  readonly onUnit?: (unit: Unit) => void;
  /** Run nothing, only add up `done`. Default false. */
  readonly onlyDone?: boolean;
}

/** How far an exploration is. */
export interface Progress {
  /** Of the faults of the medium that may be in the workload, the one at hand: 0 is none. */
  readonly plan: number;
  /** How many there are, with none; undefined where several may come together: then nobody knows before the end. */
  readonly planCount: number | undefined;
  readonly crashPoint: number;
  readonly crashPointCount: number;
  readonly recoveries: number;
  readonly violations: number;
}
