export type { ConformanceCase, DeviceConformanceOptions } from './device-case-types.ts';
export { deviceConformance } from './device-conformance.ts';
export {
  bootControl,
  brokenRules,
  deviceKey,
  largeValue,
  type StateFsScenarioOptions,
  type StateFsWorkload,
  stateFsScenario,
  workloads,
} from './scenarios/index.ts';
