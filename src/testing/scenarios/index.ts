import { bootControl } from './boot-control.ts';
import { compaction, regionReuse } from './compaction.ts';
import { deviceKey } from './device-key.ts';
import { keystoredService } from './keystored.ts';
import { largeValue } from './large-value.ts';
import { quota } from './quota.ts';
import type { ServiceWorkload } from './service-scenario.ts';
import type { StateFsWorkload } from './statefs-scenario.ts';
import { longTransaction, transaction } from './transactions.ts';
import { updatedService } from './updated.ts';

export { bootControl } from './boot-control.ts';
export { compaction, regionReuse } from './compaction.ts';
export { deviceKey } from './device-key.ts';
export { type ImportScenarioOptions, importBreaks, importScenario } from './import.ts';
export { keystoredService } from './keystored.ts';
export { largeValue } from './large-value.ts';
export { type MediaBreak, type MediaScenarioOptions, mediaBreaks, mediaScenario } from './media.ts';
export { quota } from './quota.ts';
export {
  type RepairCase,
  type RepairScenarioOptions,
  repairBreaks,
  repairCases,
  repairScenario,
  repairs,
} from './repair.ts';
export {
  type ScrubBreak,
  type ScrubCase,
  type ScrubScenarioOptions,
  scrubBreaks,
  scrubCases,
  scrubScenario,
  scrubs,
} from './scrub.ts';
export {
  type ServiceBreak,
  type ServiceScenarioOptions,
  type ServiceWorkload,
  serviceBreaks,
  serviceScenario,
} from './service-scenario.ts';
export {
  type StateFsScenarioOptions,
  type StateFsWorkload,
  stateFsScenario,
  type WorkloadStep,
} from './statefs-scenario.ts';
export { longTransaction, transaction } from './transactions.ts';
export { updatedService } from './updated.ts';
export { type BrokenRule, brokenRules } from './variants.ts';

/** The scenarios that ship with powercut, by name. */
export const workloads: Readonly<Record<string, (sizeBytes?: number) => StateFsWorkload>> = {
  'boot-control': () => bootControl,
  'device-key': () => deviceKey,
  'large-value': largeValue,
  transaction: () => transaction,
  'long-transaction': () => longTransaction,
  compaction: () => compaction,
  'region-reuse': () => regionReuse,
  quota: () => quota,
};

/** Services on the store that ship with powercut as scenarios, by name. */
export const services: Readonly<Record<string, ServiceWorkload>> = {
  updated: updatedService,
  keystored: keystoredService,
};
