import { assertInteger, type Clock, describeValue, systemClock } from '../core/index.ts';
import { MAX_PAYLOAD_BYTES } from './layout.ts';
import type { CommitMode } from './log-writer.ts';
import { checkQuotas, type Quota, type QuotaCrossing } from './quota.ts';
import type { Damage } from './replay.ts';
import { type StoreRules, soundRules } from './rules.ts';
import type { ScrubFinding } from './scrub-report.ts';

/** Limits of each operation. */
export interface Budgets {
  /** Largest payload in bytes, up to 64 MiB; over it E2BIG, before anything is written. Default 1 MiB. */
  readonly payloadBytes: number;
  /** An operation that takes longer gets a `slow` event, and succeeds. Milliseconds. Default 250. */
  readonly softLatencyMs: number;
  /**
   * A put or delete that has taken longer when its commit is about to be issued is given up with EDEADLINE, old bytes
   * in place. Once the commit is issued it can't fail it. Milliseconds; Infinity, the default, is off.
   */
  readonly deadlineMs: number;
}

/** The limits of a store: of each operation, and of what it holds in memory. */
export interface StoreBudgets extends Budgets {
  /** Most bytes of keys and payloads that one transaction holds; over it E2BIG. Default 4 MiB. */
  readonly transactionBytes: number;
  /** Most transactions that are open at a time; over it EBUSY. Default 16. */
  readonly openTransactions: number;
  /** Most snapshots that are open at a time; over it EBUSY. Default 4. */
  readonly openSnapshots: number;
}

/** What the store tells while it works. Fields are stable. */
export type StoreEvent =
  /** The log was read: how many keys are live, and what was found damaged. */
  | { readonly type: 'replayed'; readonly keys: number; readonly lastSequence: number; readonly damage: number }
  /** Committed data is unreadable. */
  | { readonly type: 'damage'; readonly damage: Damage }
  /** A superblock copy is unusable; the other one serves, and the next write restores both. */
  | { readonly type: 'superblock'; readonly what: string }
  /**
   * Compaction began; or made its copy the log; or was given up, for `error`, and will begin anew. `freeBytes` are left
   * in the region that holds the log.
   */
  | {
      readonly type: 'compaction';
      readonly phase: 'started' | 'finished' | 'abandoned';
      readonly freeBytes: number;
      readonly error?: unknown;
    }
  /** A scrub began, or came to its end: see {@link ScrubReport}. */
  | {
      readonly type: 'scrub';
      readonly phase: 'started' | 'finished';
      readonly verifiedBytes: number;
      readonly damaged: number;
      readonly mended: number;
    }
  /** A scrub found something damaged; or put it right, which `mended` says how. */
  | { readonly type: 'scrub-damage' | 'scrub-mended'; readonly finding: ScrubFinding }
  /** A soft limit of a quota was crossed; the change succeeded. */
  | ({ readonly type: 'quota' } & QuotaCrossing)
  /** The soft latency budget was exceeded. */
  | {
      readonly type: 'slow';
      readonly operation: string;
      readonly key: string | undefined;
      readonly elapsedMs: number;
      readonly budgetMs: number;
    }
  /** A commit or flush failed: what the disk holds is in doubt, and nothing more is written until the store is reopened. */
  | { readonly type: 'latched'; readonly error: unknown };

export type CompactionMode = 'auto' | 'manual';

export interface OpenOptions {
  /** Refuse every change. Implied by a read-only device. Default false. */
  readonly readOnly?: boolean;
  /** How puts and deletes commit unless told otherwise. Default 'checksummed'. */
  readonly commit?: CommitMode;
  /**
   * `auto`: compaction goes on in small steps beside the changes that make it necessary. `manual`: only where `compact`
   * or `compactStep` is called. Default auto.
   */
  readonly compaction?: CompactionMode;
  /** Limits for keys by prefix. They are not stored: give them with every open. Default none. */
  readonly quotas?: readonly Quota[];
  readonly budgets?: Partial<StoreBudgets>;
  /** Default: the machine's. */
  readonly clock?: Clock;
  /**
   * Called synchronously, outside any change of state. What it throws changes no outcome: an operation that succeeded
   * returns, and the error is raised from a microtask, as an uncaught one.
   */
  readonly onEvent?: (event: StoreEvent) => void;
  /**
   * Where a committed group was lost together with the keys that it wrote, any older value may be stale, and reading it
   * is refused with EINTEGRITY. True reads it all the same: for salvage. Default false.
   */
  readonly acceptStale?: boolean;
  /** For tests of the tests: see {@link StoreRules}. */
  readonly rules?: StoreRules;
}

export interface ResolvedOptions {
  readonly readOnly: boolean;
  readonly commit: CommitMode;
  readonly compaction: CompactionMode;
  readonly quotas: readonly Quota[];
  readonly budgets: StoreBudgets;
  readonly clock: Clock;
  readonly onEvent: (event: StoreEvent) => void;
  readonly acceptStale: boolean;
  readonly rules: StoreRules;
}

const DEFAULT_PAYLOAD_BYTES = 1024 * 1024;
const DEFAULT_SOFT_LATENCY_MS = 250;
const DEFAULT_TRANSACTION_BYTES = 4 * 1024 * 1024;
const DEFAULT_OPEN_TRANSACTIONS = 16;
const DEFAULT_OPEN_SNAPSHOTS = 4;

function ignoreEvent(): void {}

/** A put that threw would mean that the old bytes stay: no listener may turn success into that. */
function guarded(onEvent: (event: StoreEvent) => void): (event: StoreEvent) => void {
  return (event) => {
    try {
      onEvent(event);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  };
}

/**
 * @throws TypeError, RangeError for what are no options
 */
export function resolveOptions(options: OpenOptions): ResolvedOptions {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`options: expected an object, got ${describeValue(options)}`);
  }
  const { budgets = {} } = options;
  const payloadBytes = budgets.payloadBytes ?? DEFAULT_PAYLOAD_BYTES;
  assertInteger(payloadBytes, 'budgets.payloadBytes', 0, MAX_PAYLOAD_BYTES);
  const softLatencyMs = budgets.softLatencyMs ?? DEFAULT_SOFT_LATENCY_MS;
  const deadlineMs = budgets.deadlineMs ?? Number.POSITIVE_INFINITY;
  assertMs(softLatencyMs, 'budgets.softLatencyMs');
  assertMs(deadlineMs, 'budgets.deadlineMs');
  const transactionBytes = budgets.transactionBytes ?? DEFAULT_TRANSACTION_BYTES;
  assertInteger(transactionBytes, 'budgets.transactionBytes', 0);
  const openTransactions = budgets.openTransactions ?? DEFAULT_OPEN_TRANSACTIONS;
  assertInteger(openTransactions, 'budgets.openTransactions', 1);
  const openSnapshots = budgets.openSnapshots ?? DEFAULT_OPEN_SNAPSHOTS;
  assertInteger(openSnapshots, 'budgets.openSnapshots', 1);
  const commit = options.commit ?? 'checksummed';
  assertCommit(commit);
  const compaction = options.compaction ?? 'auto';
  if (compaction !== 'auto' && compaction !== 'manual') {
    throw new RangeError(`compaction: expected 'auto' or 'manual', got ${describeValue(compaction)}`);
  }
  return {
    readOnly: options.readOnly ?? false,
    commit,
    compaction,
    quotas: checkQuotas(options.quotas ?? []),
    budgets: { payloadBytes, softLatencyMs, deadlineMs, transactionBytes, openTransactions, openSnapshots },
    clock: options.clock ?? systemClock,
    onEvent: guarded(options.onEvent ?? ignoreEvent),
    acceptStale: options.acceptStale ?? false,
    rules: options.rules ?? soundRules,
  };
}

/** @throws TypeError or RangeError unless `value` is a commit mode */
export function assertCommit(value: unknown): asserts value is CommitMode {
  if (typeof value !== 'string') throw new TypeError(`commit: expected a string, got ${describeValue(value)}`);
  if (value !== 'ordered' && value !== 'checksummed') {
    throw new RangeError(`commit: expected 'ordered' or 'checksummed', got ${describeValue(value)}`);
  }
}

/** @throws TypeError or RangeError unless `value` is a span of time: 0 to Infinity */
export function assertMs(value: unknown, label: string): asserts value is number {
  if (typeof value !== 'number') throw new TypeError(`${label}: expected milliseconds, got ${describeValue(value)}`);
  if (!(value >= 0)) throw new RangeError(`${label}: expected milliseconds of at least 0, got ${value}`);
}
