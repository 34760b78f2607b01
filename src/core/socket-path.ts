import { CodedError } from './errors.ts';

/** What every system's `sockaddr_un` has room for: 104 bytes on macOS, 108 on Linux, with the zero at the end. */
const MAX_SOCKET_PATH_BYTES = 103;

/**
 * A longer path is cut short by some systems, without a word.
 * @throws CodedError E2BIG
 */
export function assertSocketPath(path: string): void {
  const length = Buffer.byteLength(path);
  if (length <= MAX_SOCKET_PATH_BYTES) return;
  throw new CodedError(
    'E2BIG',
    `socket ${path}: expected a path of at most ${MAX_SOCKET_PATH_BYTES} bytes, got ${length}: name a shorter directory`,
  );
}
