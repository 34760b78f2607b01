import { CodedError, messageOf, toHex } from '../core/index.ts';
import type { Budgets } from '../statefs/index.ts';
import { StateFsError } from '../statefs/index.ts';
import type { AuditDecision, AuditEntry } from './audit-record.ts';
import { encodeError, encodeResponse, type Request, type ResponseFields } from './codec.ts';
import { OPERATIONS, type OperationName, STATUSES, type StatusName } from './operations.ts';

type Result = { -readonly [Name in keyof ResponseFields<OperationName>]: unknown } & { slowMs?: number };

/** One request on its way to its answer. */
export class Job {
  readonly subject: string;
  readonly request: Request;
  /** On the service's monotonic clock. */
  readonly arrivedMs: number;
  /** Bytes of the frame, where it was too long to be kept: the request's payload is then empty. */
  readonly oversizeBytes: number | undefined;
  budgets: Budgets | undefined;
  decision: AuditDecision = 'none';
  /** Bytes of the payload, for the audit. */
  sizeBytes = 0;
  /** SHA-256 of the payload, for the audit. */
  digest: Uint8Array | undefined;
  /** Of a put that is asked for again: it is known now whether it had been done. */
  isEarlierKnown = false;
  /** It was carried out, and must not be answered before the next flush. */
  awaitsSync = false;
  #status: StatusName = 'OK';
  #inDoubt = false;
  #message = '';
  #result: Result | undefined;

  constructor(subject: string, request: Request, arrivedMs: number, oversizeBytes?: number) {
    this.subject = subject;
    this.request = request;
    this.arrivedMs = arrivedMs;
    this.oversizeBytes = oversizeBytes;
  }

  get isDone(): boolean {
    return this.#status === 'OK';
  }

  /** The key, the prefix, or '' for what concerns the whole store. */
  get path(): string {
    const { fields } = this.request;
    if ('path' in fields) return fields.path;
    return 'prefix' in fields ? fields.prefix : '';
  }

  /** Settles it well. */
  succeed<Name extends OperationName>(_operation: Name, result: ResponseFields<Name>): void {
    this.#result = { ...result } as Result;
  }

  /** Settles it with the error that was thrown. @returns false where that was no error that a caller can cause */
  fail(error: unknown, inDoubt: boolean): boolean {
    const isExpected = error instanceof CodedError;
    this.#status = statusOf(error);
    this.#inDoubt = inDoubt;
    this.#message = isExpected ? messageOf(error) : 'the server met a defect of its own: see its log';
    this.awaitsSync = false;
    return isExpected;
  }

  /** What the audit is told of it, after so many milliseconds. */
  auditEntry(durationMs: number, isSettled = true): AuditEntry {
    return {
      decision: this.decision,
      subject: this.subject,
      operation: this.request.operation,
      path: this.path,
      size: this.sizeBytes,
      digest: this.digest === undefined ? '' : toHex(this.digest),
      code: isSettled ? this.#status : '',
      duration: isSettled ? durationMs : 0,
    };
  }

  /** The frame of the answer. @param slowMs how long it took, where over the soft budget; otherwise 0 */
  answer(slowMs: number): Uint8Array {
    const { operation, nonce } = this.request;
    if (this.#status !== 'OK') {
      return encodeError(operation, nonce, { status: this.#status, inDoubt: this.#inDoubt, message: this.#message });
    }
    const result = this.#result as Result;
    if ('slowMs' in result) result.slowMs = Math.min(Math.ceil(slowMs), 0xffff_ffff);
    return encodeResponse(operation, nonce, result as unknown as ResponseFields<OperationName>);
  }
}

/** Whether an operation changes what the store holds. */
export function isChange(operation: OperationName): boolean {
  return OPERATIONS[operation].changes;
}

/** The status of an error that was thrown. Devices have codes that the wire has not: to the caller they are all EIO. */
function statusOf(error: unknown): Exclude<StatusName, 'OK'> {
  const code = error instanceof CodedError ? error.code : 'EIO';
  return code in STATUSES ? (code as Exclude<StatusName, 'OK'>) : 'EIO';
}

/** Shorthand that keeps throw sites to one line. */
export function refuse(code: Exclude<StatusName, 'OK'>, message: string): never {
  throw new StateFsError(code, message);
}
