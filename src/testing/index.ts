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
export { assertSurvivesEveryCrash, type CrashVerdict, crashVerdict } from './crash-verdict.ts';
export type { ConformanceCase, DeviceConformanceOptions } from './device-case-types.ts';
export { deviceConformance } from './device-conformance.ts';
export {
  FUZZ_SCENARIO,
  type FuzzCase,
  Fuzzer,
  type FuzzerOptions,
  type FuzzFailure,
  type FuzzOutcome,
  type FuzzPart,
  type FuzzScenarioOptions,
  type FuzzSearch,
  type FuzzSpace,
  type FuzzStep,
  fuzzCaseOf,
  fuzzScenario,
} from './fuzz/index.ts';
export {
  type KeyValueStep,
  type KeyValueStore,
  type KeyValueTarget,
  keyValueScenario,
} from './key-value-scenario.ts';
export { type CrashMatchers, crashMatchers } from './matchers.ts';
export {
  type BrokenRule,
  bootControl,
  brokenRules,
  compaction,
  deviceKey,
  keystoredService,
  largeValue,
  longTransaction,
  quota,
  type RepairCase,
  type RepairScenarioOptions,
  regionReuse,
  repairBreaks,
  repairCases,
  repairScenario,
  repairs,
  type ServiceBreak,
  type ServiceScenarioOptions,
  type ServiceWorkload,
  type StateFsScenarioOptions,
  type StateFsWorkload,
  serviceBreaks,
  serviceScenario,
  services,
  stateFsScenario,
  transaction,
  updatedService,
  type WorkloadStep,
  workloads,
} from './scenarios/index.ts';
export {
  runSelfTest,
  type SelfTestOptions,
  type SelfTestReport,
  type SelfTestResult,
  type SelfTestVariant,
} from './selftest/index.ts';
export {
  type FuzzArena,
  type FuzzTarget,
  fuzzVirtio,
  type VirtioFuzzFailure,
  type VirtioFuzzOptions,
  type VirtioFuzzReport,
} from './virtio-fuzz/index.ts';
