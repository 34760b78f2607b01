/**
 * One line of the audit: what was asked, what was decided, how it ended. The fields are stable (docs/security/audit.md).
 * There is none in which a payload, a value or a message could stand.
 */
export interface AuditRecord {
  /** 1, 2, 3, ... since the server started: a gap is a record that was lost. */
  readonly sequence: number;
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  readonly time: number;
  readonly event: AuditEvent;
  /** What the authority said; `none` where it was not asked. */
  readonly decision: AuditDecision;
  /** Who, known from the channel; '' for the server itself. */
  readonly subject: string;
  /** Name of the operation, or of what the server did. */
  readonly operation: string;
  /** Key or prefix, '' where there is none. */
  readonly path: string;
  /** Bytes of the payload that was put or got, 0 where there is none. */
  readonly size: number;
  /** SHA-256 of the payload, 64 hexadecimal digits; '' where there is none or the path is confidential. */
  readonly digest: string;
  /** `OK`, or the code of the error; '' as long as it is not known. */
  readonly code: string;
  /** Milliseconds that the request took, 0 as long as it is not known. */
  readonly duration: number;
}

/**
 * `intent`: a change that was allowed and is about to be made; only where a required sink has to have it before.
 * `outcome`: how a request ended. `policy`: another policy was put in force, or refused. `server`: start and stop.
 * `store`: what the store found out about itself.
 */
export type AuditEvent = 'intent' | 'outcome' | 'policy' | 'server' | 'store';
export type AuditDecision = 'allow' | 'deny' | 'none';

/** What the caller knows; the rest is filled in. */
export type AuditEntry = Omit<AuditRecord, 'sequence' | 'time' | 'event'>;

/** The fields, in the order in which they are written. */
export const AUDIT_FIELDS: readonly (keyof AuditRecord)[] = [
  'sequence',
  'time',
  'event',
  'decision',
  'subject',
  'operation',
  'path',
  'size',
  'digest',
  'code',
  'duration',
];

/** A record as one line of JSON, without the line's end. */
export function auditLine(record: AuditRecord): string {
  return JSON.stringify(record);
}
