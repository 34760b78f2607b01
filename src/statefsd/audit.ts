import { assertInteger, type Clock, messageOf } from '../core/index.ts';
import { StateFsError } from '../statefs/index.ts';
import { type AuditEntry, type AuditEvent, type AuditRecord, auditLine } from './audit-record.ts';

/** Where records go, beside the ring. Synchronous: on return the sink has taken the record on, or it has thrown. */
export interface AuditSink {
  /** For messages. */
  readonly name: string;
  /** Where true, a change that this sink does not take is denied. */
  readonly required: boolean;
  /** @param line the record as one line of JSON, without the line's end */
  write(record: AuditRecord, line: string): void;
  /** Writes out what it holds. Called when the server closes. */
  close?(): void;
}

export interface AuditOptions {
  readonly clock: Clock;
  /** Records that the ring keeps. Default 4096. */
  readonly ringRecords?: number;
  readonly sinks?: readonly AuditSink[];
  /**
   * Trees of which no digest is recorded: a digest gives away whether a value is one that the reader guesses, and a
   * short secret is guessed. Default: `/state/keystore/`.
   */
  readonly confidential?: readonly string[];
}

export interface AuditStats {
  readonly recorded: number;
  /** Records that the ring no longer has. */
  readonly dropped: number;
  /** Times that a sink did not take a record. */
  readonly sinkFailures: number;
}

const DEFAULT_RING_RECORDS = 4096;
const DEFAULT_CONFIDENTIAL = ['/state/keystore/'];

/** Every decision and outcome, in a ring that forgets the oldest, and in sinks. */
export class Audit {
  readonly #clock: Clock;
  readonly #ring: (AuditRecord | undefined)[];
  readonly #sinks: readonly AuditSink[];
  readonly #confidential: readonly string[];
  #sequence = 0;
  #sinkFailures = 0;

  /** @throws TypeError, RangeError for what are no options */
  constructor(options: AuditOptions) {
    const ringRecords = options.ringRecords ?? DEFAULT_RING_RECORDS;
    assertInteger(ringRecords, 'ringRecords', 1, 1_000_000);
    this.#clock = options.clock;
    this.#ring = new Array<AuditRecord | undefined>(ringRecords).fill(undefined);
    this.#sinks = options.sinks ?? [];
    this.#confidential = options.confidential ?? DEFAULT_CONFIDENTIAL;
  }

  /** Whether a change needs {@link intent} before it is made. */
  get isRequired(): boolean {
    return this.#sinks.some((sink) => sink.required);
  }

  get stats(): AuditStats {
    const dropped = Math.max(0, this.#sequence - this.#ring.length);
    return { recorded: this.#sequence, dropped, sinkFailures: this.#sinkFailures };
  }

  /**
   * Records that an allowed change is about to be made, where a sink is required; otherwise does nothing. A slow sink
   * takes its time here, before the commit: it counts against the request's deadline.
   * @throws StateFsError EPERM where a required sink does not take it: the change must not be made
   */
  intent(entry: AuditEntry): void {
    if (!this.isRequired) return;
    const failed = this.#record('intent', entry);
    if (failed === undefined) return;
    throw new StateFsError(
      'EPERM',
      `denied: the required audit sink ${failed.sink.name} did not take the record: ${messageOf(failed.error)}`,
      { cause: failed.error },
    );
  }

  /** Records how a request ended, denied ones too. Best effort: it never throws, a failing sink is counted. */
  outcome(entry: AuditEntry): void {
    this.#record('outcome', entry);
  }

  /** Records what the server itself did, a policy put in force or refused, what the store told. Never throws. */
  tell(event: 'policy' | 'server' | 'store', operation: string, code: string, path = ''): void {
    const none = { size: 0, digest: '', duration: 0 };
    this.#record(event, { decision: 'none', subject: '', operation, path, code, ...none });
  }

  /** The newest records, oldest first; a new array. */
  recent(limit: number = this.#ring.length): AuditRecord[] {
    assertInteger(limit, 'limit');
    const count = Math.min(limit, this.#sequence, this.#ring.length);
    const found: AuditRecord[] = [];
    for (let i = this.#sequence - count; i < this.#sequence; i++) {
      found.push(this.#ring[i % this.#ring.length] as AuditRecord);
    }
    return found;
  }

  /** Closes the sinks. Never throws. */
  close(): void {
    for (const sink of this.#sinks) {
      try {
        sink.close?.();
      } catch {
        this.#sinkFailures++;
      }
    }
  }

  /** @returns the first required sink that did not take the record */
  #record(event: AuditEvent, entry: AuditEntry): { sink: AuditSink; error: unknown } | undefined {
    const record = this.#make(event, entry);
    this.#ring[this.#sequence % this.#ring.length] = record;
    this.#sequence++;
    if (this.#sinks.length === 0) return undefined;
    const line = auditLine(record);
    let failed: { sink: AuditSink; error: unknown } | undefined;
    for (const sink of this.#sinks) {
      try {
        sink.write(record, line);
      } catch (error) {
        this.#sinkFailures++;
        if (sink.required) failed ??= { sink, error };
      }
    }
    return failed;
  }

  /** Field by field: what else an entry may carry does not get in. */
  #make(event: AuditEvent, entry: AuditEntry): AuditRecord {
    const { path } = entry;
    return {
      sequence: this.#sequence + 1,
      time: this.#clock.wallMs(),
      event,
      decision: entry.decision,
      subject: entry.subject,
      operation: entry.operation,
      path,
      size: entry.size,
      digest: this.#confidential.some((tree) => path.startsWith(tree)) ? '' : entry.digest,
      code: entry.code,
      duration: entry.duration,
    };
  }
}
