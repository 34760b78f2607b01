export { StateFsError } from './errors.ts';
export { type ExportOptions, exportStore } from './export.ts';
export type { ExportSummary } from './export-format.ts';
export { type ExportedRecord, readExport } from './export-reader.ts';
export { type FormatOptions, format } from './format.ts';
export { type FsckOptions, fsck } from './fsck.ts';
export type { FsckProgress } from './fsck-check.ts';
export { type RepairRules, soundRepair } from './fsck-repair.ts';
export type {
  CheckResult,
  Finding,
  FindingKind,
  FsckReport,
  RepairAction,
  Severity,
  SpaceAccount,
  Verdict,
} from './fsck-report.ts';
export { GroupCommit, type GroupCommitOptions } from './group-commit.ts';
export { type ImportOptions, importStore } from './import.ts';
export {
  type FrameInfo,
  type GroupInfo,
  type Inspection,
  inspect,
  type OperationInfo,
  type SuperblockInfo,
} from './inspect.ts';
export { isKey, KEY_ROOT } from './keys.ts';
export { MAX_GROUP_OPERATIONS, MAX_KEY_BYTES, MAX_PAYLOAD_BYTES } from './layout.ts';
export type { CommitMode } from './log-writer.ts';
export {
  assertCommit,
  type Budgets,
  type CompactionMode,
  type OpenOptions,
  type StoreBudgets,
  type StoreEvent,
} from './options.ts';
export { storeSectorBytes } from './probe.ts';
export type { Quota, QuotaLimits, QuotaUsage } from './quota.ts';
export { ROWS as RECOVERY_ROWS, type Row as RecoveryRow } from './recovery-table.ts';
export type { Damage } from './replay.ts';
export { type Barrier, type ScrubRules, type StoreRules, soundRules } from './rules.ts';
export type { ScrubFinding, ScrubMend, ScrubPart, ScrubReport } from './scrub-report.ts';
export type { Snapshot } from './snapshot.ts';
export { open, type StateFs } from './store.ts';
export type { DeleteOptions, PutOptions, RecordInfo, StoreStats } from './store-types.ts';
export type { Transaction, TransactionOptions } from './transaction.ts';
