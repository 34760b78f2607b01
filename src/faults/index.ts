export {
  Bounded,
  type Choice,
  ChoiceRecorder,
  DepthFirst,
  type Enumeration,
  NondeterminismError,
  RandomChoices,
  RecordedChoices,
  type Rest,
} from './choices.ts';
export { type Checkpoint, DiskState, type Resolution, type StateDelta } from './disk-state.ts';
export { ImageCount } from './image-count.ts';
export { chosenLatency, fixedLatency, type LatencyPlan, type OperationKind, randomLatency } from './latency.ts';
export {
  describeFault,
  explorableFaultKinds,
  formatMedia,
  isPassing,
  type MediaFault,
  type MediaFaultKind,
  type MediaOptions,
  type MediaState,
  type MediaZone,
  mediaFaultKinds,
  parseMedia,
  resolveMedia,
} from './media.ts';
export {
  type FaultListener,
  type FlushPlan,
  MediaOverlay,
  planFlush,
  planWrite,
  type WritePlan,
} from './media-overlay.ts';
export { type DiskProfile, type ProfileName, profileOf, profiles } from './profiles.ts';
export {
  type CutOutcome,
  type FaultCounts,
  type ScheduledCut,
  SimulatedDisk,
  type SimulatedDiskOptions,
  type SimulatedMedia,
} from './simulated-disk.ts';
