export type { SelfTestVariant } from './machine.ts';
export { runSelfTest, type SelfTestOptions, type SelfTestReport, type SelfTestResult } from './selftest.ts';
