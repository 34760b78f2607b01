import type { MediaFaultKind } from '../faults/index.ts';
import type { HistoryEvent } from './history.ts';
import type { Level } from './token.ts';

export type StrategyName = 'exhaustive' | 'random' | 'bounded' | 'prefix' | 'prefix-torn';

/** A sector whose content was open after the cut, and what it turned out to hold. */
export interface KeptSector {
  /** 0: after the first cut; 1: after the cut in the first recovery; and so on. */
  readonly level: number;
  readonly sector: number;
  /** `damaged`: the physical sector that starts here is noise. `intact`: it is not. */
  readonly kind: 'version' | 'damaged' | 'intact';
  /** 0 the newest. */
  readonly version: number;
  readonly versionCount: number;
}

/** One failing case, made as small as could be found. */
export interface Violation {
  /** Replays it. */
  readonly token: string;
  /** What the invariant, or the recovery, said. */
  readonly message: string;
  readonly crashPoint: number;
  /** Where the power failed: in the workload, then in each recovery. */
  readonly where: readonly string[];
  readonly levels: readonly Level[];
  /** What was chosen in the workload: which faults of the medium fired there. Empty: none. */
  readonly plan: readonly number[];
  /** Number of power cuts. */
  readonly cuts: number;
  /** What was open and was read, in that order. */
  readonly kept: readonly KeptSector[];
  readonly history: readonly HistoryEvent<unknown, unknown>[];
}

/** Two runs of the same recovery on the same image that differ. */
export interface Nondeterminism {
  readonly crashPoint: number;
  /** The first differing step. */
  readonly step: number;
  readonly message: string;
}

export interface CrashPointResult {
  readonly index: number;
  readonly label: string;
  /** Images that a cut here can leave. */
  readonly images: bigint;
  /** Recoveries run, those after cuts in recovery among them. */
  readonly recoveries: number;
  /** Recoveries that violated. */
  readonly violations: number;
}

/** What an exploration covered and found. */
export interface ExploreResult {
  readonly scenario: string;
  readonly strategy: StrategyName;
  readonly depth: number;
  readonly profile: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly seed: number | undefined;
  /** Every image at every crash point was covered, at every depth asked for. */
  readonly complete: boolean;
  /** Why not; undefined where it is. */
  readonly incompleteReason: string | undefined;
  /**
   * How much was covered, from 0 to 1: each crash point weighs the same, and so do all answers to a question. An
   * estimate where it is not complete; undefined for `random`, which covers no share of anything.
   */
  readonly coveredShare: number | undefined;
  /** Complete, no violation, no nondeterminism. */
  readonly clean: boolean;
  /** Crash points explored. */
  readonly crashPoints: number;
  /** Moments of the workload at which a cut is covered by them: before, between and after all its events. */
  readonly momentsCovered: number;
  /** Images reachable by one cut: the sum over the crash points explored. */
  readonly images: bigint;
  /** By number of cuts, the first entry is `images`: the sum over the states from which recoveries were run. */
  readonly imagesByDepth: readonly bigint[];
  /** Cases judged: recoveries run, and those of which it was known what they do. */
  readonly recoveries: number;
  /** Of the recoveries those that were not run: see docs/exploration.md, "Less work for the same proof". */
  readonly knownRecoveries: number;
  /** Recoveries repeated to see whether they agree; not among `recoveries`. */
  readonly rechecks: number;
  /** How often each kind of media fault fired, in workloads and in recoveries; empty where none was asked for. */
  readonly faults: Readonly<Partial<Record<MediaFaultKind, number>>>;
  readonly violations: readonly Violation[];
  /** Recoveries that violated; several may come down to one entry of `violations`. */
  readonly violatingRecoveries: number;
  readonly nondeterminism: Nondeterminism | undefined;
  /**
   * What the workload does otherwise when it is run again, in words: its tokens can't be replayed. Looked for where there
   * is a violation; undefined: nothing.
   */
  readonly unrepeatable: string | undefined;
  /** Operations of the workload that were acknowledged. With none, the invariant was never told what must survive. */
  readonly acknowledged: number;
  readonly points: readonly CrashPointResult[];
  readonly elapsedMs: number;
}
