/**
 * Stable error codes of powercut. The code is the contract; the message is free text that says what was expected,
 * what came, and how to mend it.
 */
export type ErrorCode =
  | 'EINTEGRITY'
  | 'E2BIG'
  | 'EDEADLINE'
  | 'EPERM'
  | 'ENOENT'
  | 'EINVAL'
  | 'ENOSPC'
  | 'EIO'
  | 'EROFS'
  | 'EDQUOT'
  | 'EROLLBACK'
  | 'EBUSY'
  | 'EPROTO'
  /** A device that lost power, or was closed: nothing more is read from it or written to it. */
  | 'EPOWER'
  | 'ECLOSED'
  /** An operation that the device's manifest says it does not have. */
  | 'ENOTSUP';

/** An error with a stable {@link ErrorCode}. `cause` keeps the error underneath, where there is one. */
export class CodedError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** An error of a block device: EIO, EROFS, EINVAL (a range outside the device), EBUSY, EPOWER, ECLOSED or ENOTSUP. */
export class DeviceError extends CodedError {}

/** The message of anything that was thrown, never empty; what has no text of its own is thrown, too. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message || error.name : error) || 'an empty message';
  } catch {
    return `an ${typeof error} without a text`;
  }
}

/** The code of an error that has one: ours, or Node's system errors. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
