import type { ErrorCode } from '../core/index.ts';
import { StateFsError } from '../statefs/index.ts';

/** An error that reached a client: the same codes as in the store. */
export class StateFsClientError extends StateFsError {
  /**
   * Whether the change that was asked for took effect is not known: the answer was lost, or the server's disk failed
   * in the middle of a commit. False: it did not.
   */
  readonly inDoubt: boolean;

  constructor(code: ErrorCode, message: string, inDoubt = false, options?: { cause?: unknown }) {
    super(code, message, options);
    this.inDoubt = inDoubt;
  }
}
