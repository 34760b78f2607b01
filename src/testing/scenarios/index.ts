import { bootControl } from './boot-control.ts';
import { deviceKey } from './device-key.ts';
import { largeValue } from './large-value.ts';
import type { StateFsWorkload } from './statefs-scenario.ts';

export { bootControl } from './boot-control.ts';
export { deviceKey } from './device-key.ts';
export { largeValue } from './large-value.ts';
export { type StateFsScenarioOptions, type StateFsWorkload, stateFsScenario } from './statefs-scenario.ts';
export { brokenRules } from './variants.ts';

/** The scenarios that ship with powercut, by name. */
export const workloads: Readonly<Record<string, (sizeBytes?: number) => StateFsWorkload>> = {
  'boot-control': () => bootControl,
  'device-key': () => deviceKey,
  'large-value': largeValue,
};
