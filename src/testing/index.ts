export {
  type BenchmarkCase,
  type BenchmarkOptions,
  type BenchmarkOutcome,
  type BenchmarkStrategy,
  type BugFamily,
  benchmarkCases,
  benchmarkStrategies,
  runCase,
  type StrategyId,
} from './bugs/index.ts';
export type { ConformanceCase, DeviceConformanceOptions } from './device-case-types.ts';
export { deviceConformance } from './device-conformance.ts';
export {
  bootControl,
  brokenRules,
  deviceKey,
  keystoredService,
  largeValue,
  type ServiceBreak,
  type ServiceScenarioOptions,
  type ServiceWorkload,
  type StateFsScenarioOptions,
  type StateFsWorkload,
  serviceBreaks,
  serviceScenario,
  services,
  stateFsScenario,
  updatedService,
  workloads,
} from './scenarios/index.ts';
export {
  runSelfTest,
  type SelfTestOptions,
  type SelfTestReport,
  type SelfTestResult,
  type SelfTestVariant,
} from './selftest/index.ts';
