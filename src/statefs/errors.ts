import { CodedError, DeviceError, type ErrorCode } from '../core/index.ts';

/**
 * Every error of the store. `code` is stable (see docs/storage/statefs.md for what each means and what to do), the
 * message says what was expected, what came and how to mend it, `cause` keeps the device's error.
 */
export class StateFsError extends CodedError {}

/** Shorthand that keeps throw sites to one line. */
export function fail(code: ErrorCode, message: string, cause?: unknown): never {
  throw new StateFsError(code, message, cause === undefined ? undefined : { cause });
}

/**
 * Runs a device operation; a {@link DeviceError} becomes a StateFsError of the same meaning. Anything else that is
 * thrown is not the medium speaking and passes through untouched.
 */
export function wrapDeviceError(error: unknown, doing: string): unknown {
  if (!(error instanceof DeviceError)) return error;
  const code: ErrorCode =
    error.code === 'EROFS' || error.code === 'EBUSY' || error.code === 'ENOSPC' ? error.code : 'EIO';
  return new StateFsError(code, `${doing}: ${error.message}`, { cause: error });
}
