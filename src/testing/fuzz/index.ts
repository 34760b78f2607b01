export { fuzzBreaks } from './breaks.ts';
export {
  type FuzzCase,
  type FuzzFaults,
  type FuzzPart,
  type FuzzSearch,
  type FuzzStep,
  fuzzCaseOf,
} from './case.ts';
export { Fuzzer, type FuzzerOptions, type FuzzFailure, type FuzzOutcome } from './fuzzer.ts';
export type { FuzzSpace } from './generate.ts';
export { FUZZ_SCENARIO, type FuzzScenarioOptions, fuzzScenario } from './scenario.ts';
export { describeFuzzStep } from './words.ts';
