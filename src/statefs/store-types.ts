/** What the store takes and gives, beside keys and payloads. */
import type { EnvelopeMetadata } from '../envelope/index.ts';
import type { CommitMode } from './log-writer.ts';
import type { QuotaUsage } from './quota.ts';
import type { Row } from './recovery-table.ts';
import type { Damage } from './replay.ts';
import type { ScrubReport } from './scrub-report.ts';

/** What a put may say beside key and payload. */
export interface PutOptions {
  /** Who put it, what for, and when; goes into the envelope. Default: '', '', and the clock's wall time. */
  readonly meta?: Partial<EnvelopeMetadata>;
  /** Default: the store's. */
  readonly commit?: CommitMode;
  /** Milliseconds for this operation; default: the budget's. */
  readonly deadlineMs?: number;
}

/** What a deletion may say beside the key. */
export interface DeleteOptions extends Omit<PutOptions, 'meta'> {
  /** False: durable only with the next sync or durable operation, like a `put`. Default true. */
  readonly durable?: boolean;
}

/** What a record says of itself, without its payload. */
export interface RecordInfo {
  readonly key: string;
  readonly payloadBytes: number;
  readonly digest: Uint8Array;
  readonly meta: EnvelopeMetadata;
  /** Number of the group that wrote it: higher is later. */
  readonly sequence: number;
}

export interface StoreStats {
  readonly keys: number;
  /** Bytes that neither log nor payloads take up. */
  readonly freeBytes: number;
  /** Bytes of the active region. */
  readonly regionBytes: number;
  /** Bytes that the live records take at most once they are moved; all else that is not free is dead. */
  readonly liveBytes: number;
  /** Whether compaction goes on, and how often it was finished since the store was opened. */
  readonly compacting: boolean;
  readonly compactions: number;
  /** Whether a scrub goes on, and how many bytes it has verified; how often one was finished since the store was opened. */
  readonly scrubbing: boolean;
  readonly scrubbedBytes: number;
  readonly scrubs: number;
  /** What the last one came to. */
  readonly lastScrub: ScrubReport | undefined;
  /** What the keys of each quota take up, in the order of the options. */
  readonly quotas: readonly QuotaUsage[];
  readonly lastSequence: number;
  readonly epoch: number;
  readonly damage: readonly Damage[];
  /** How often each row of the recovery table applied when the store was opened. */
  readonly recoveryRows: ReadonlyMap<Row, number>;
}
