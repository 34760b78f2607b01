import type { ErrorCode } from '../core/index.ts';
import type { Row } from './recovery-table.ts';

/**
 * `residue`: what a power cut leaves behind, harmless and expected. `settled`: damage that concerns nothing live any
 * more. `damage`: everything else.
 */
export type Severity = 'residue' | 'settled' | 'damage';

/** What was found. Stable: a program may tell them apart by it. */
export type FindingKind =
  /** No store can be opened; `code` is what `open` would throw. */
  | 'not-openable'
  /** One superblock copy is blank, damaged or unreadable; the other serves. */
  | 'superblock-lost'
  /** One superblock copy is not the predecessor of the other: a format, or an opening after a loss, was cut short. */
  | 'superblock-stale'
  /** The log ends in a group that was never acknowledged as durable. */
  | 'torn-tail'
  /** A committed group is damaged; its keys are known. */
  | 'group-damaged'
  /** A committed group was lost with keys that nothing tells: whatever is older may be stale. */
  | 'keys-unknown'
  /** The value of a live key does not verify. */
  | 'value-lost'
  /** The medium does not give the value of a live key. */
  | 'value-unreadable'
  /** The medium does not give some of the log. */
  | 'log-unreadable'
  /** The log seems to end where a write that went astray stands: a last group may be lost. */
  | 'tail-in-doubt'
  /** A sequence number or address contradicts the superblock or another record. */
  | 'accounting';

/** What `repair` does about a finding; undefined where there is nothing that it can do. */
export type RepairAction = 'restore-superblock' | 'end-log' | 'write-anew' | 'delete-key';

export interface Finding {
  readonly kind: FindingKind;
  readonly severity: Severity;
  /** First sector of the partition that it concerns, and the same in bytes. */
  readonly sector: number;
  readonly offsetBytes: number;
  /** The keys that it concerns, as far as they are known. */
  readonly keys: readonly string[];
  readonly what: string;
  /** What can't be had any more, in words; 'nothing' where everything can. */
  readonly lost: string;
  readonly repair: RepairAction | undefined;
  /** Of 'not-openable'. */
  readonly code?: ErrorCode;
}

/** Where the bytes of the active region went; log, payloads and free are all of it. */
export interface SpaceAccount {
  readonly regionBytes: number;
  readonly logBytes: number;
  /** Of the log, temp frames of live records. */
  readonly liveLogBytes: number;
  readonly payloadBytes: number;
  /** Of the payloads, those of live records, alignment included. */
  readonly livePayloadBytes: number;
  readonly freeBytes: number;
}

/** One look at a store, which changed nothing. */
export interface CheckResult {
  readonly findings: readonly Finding[];
  /** Live keys, those with a lost value too. */
  readonly keys: number;
  /** Live values that verify, and their bytes. */
  readonly verifiedValues: number;
  readonly verifiedBytes: number;
  /** How often each row of the recovery table applied. */
  readonly rows: Readonly<Partial<Record<Row, number>>>;
  readonly lastSequence: number;
  /** Whether the store was closed after its last change. */
  readonly closed: boolean;
  /** Undefined where no store can be opened. */
  readonly space: SpaceAccount | undefined;
}

/**
 * `clean`: nothing is damaged that is live. `repairable`, `repaired`: what was damaged can be, was, put in order; see the
 * findings for what is lost. `beyond-repair`: something stays that no repair mends. `no-store`: this is no statefs image.
 */
export type Verdict = 'clean' | 'repairable' | 'repaired' | 'beyond-repair' | 'no-store';

export interface FsckReport {
  readonly verdict: Verdict;
  /** What was found at first. */
  readonly check: CheckResult;
  /** What repair did, one line each; empty where it was not asked for or had nothing to do. */
  readonly repairs: readonly string[];
  /** What was found after the repair; undefined where none was made. */
  readonly after: CheckResult | undefined;
}

/** The verdict over what a check found, with nothing repaired. */
export function verdictOf({ findings }: CheckResult): Verdict {
  const damage = findings.filter(({ severity }) => severity === 'damage');
  if (damage.length === 0) return 'clean';
  if (damage.some(({ code }) => code === 'EINVAL')) return 'no-store';
  return damage.every(({ repair }) => repair !== undefined) ? 'repairable' : 'beyond-repair';
}
