export { explore, exploreAsync } from './explore.ts';
export type { ExploreOptions, Progress } from './explore-options.ts';
export { History, type HistoryEvent } from './history.ts';
export {
  type KeyValueContent,
  type KeyValueOp,
  KeyValueOracle,
  type KeyValueOracleOptions,
} from './key-value-oracle.ts';
export type { Shard } from './ledger.ts';
export { renderStory } from './render.ts';
export { replay, replayAsync, type Story, type StoryLevel } from './replay.ts';
export type {
  CrashPointResult,
  ExploreResult,
  KeptSector,
  Nondeterminism,
  StrategyName,
  Violation,
} from './result.ts';
export type { RecoveryRun, Run, Scenario } from './scenario.ts';
export type { StackOptions } from './session.ts';
export { deviationsIn, type ShrinkOptions, type SmallFailure, shrinkSteps } from './shrink-operations.ts';
export { describeStep, type Step } from './steps.ts';
export type { StrategyOptions } from './strategy.ts';
export { type Case, decodeToken, encodeToken, type Level, type Linearity } from './token.ts';
export type { Unit, UnitStart } from './unit.ts';
export {
  type Explorable,
  type ExplorableSource,
  type Explored,
  exploreInWorkers,
  type WorkersOptions,
} from './workers.ts';
