import { codeOf, DeviceError, type ErrorCode, messageOf } from '../core/index.ts';

/** Our code for a code of the system, and what to do about it. Every other one is EIO. */
const SYSTEM_ERRORS: ReadonlyMap<string, readonly [ErrorCode, string]> = new Map([
  ['ENOENT', ['ENOENT', 'check the path, or create the image first']],
  ['ENOTDIR', ['ENOENT', 'a part of the path is no directory: check the path']],
  ['EACCES', ['EPERM', 'give this user access to the file, or open it read-only']],
  ['EPERM', ['EPERM', 'give this user access to the file, or open it read-only']],
  ['EEXIST', ['EINVAL', 'the file exists: open it, or pass overwrite: true to lose what it holds']],
  ['EISDIR', ['EINVAL', 'the path is a directory: name a file']],
  ['ELOOP', ['EINVAL', 'too many symbolic links: name the file itself']],
  ['ERR_INVALID_ARG_VALUE', ['EINVAL', 'name a path without zero bytes']],
  ['ENAMETOOLONG', ['EINVAL', 'shorten the path']],
  ['EROFS', ['EROFS', 'the file system is read-only: open the image read-only, or mount it for writing']],
  ['ENOSPC', ['ENOSPC', 'free space on the file system']],
  ['EDQUOT', ['EDQUOT', "raise the user's disk quota, or free space"]],
  ['EFBIG', ['E2BIG', 'ask for fewer sectors: the file system or the process limit allows no larger file']],
  ['EBUSY', ['EBUSY', 'another program uses the file: stop it']],
  ['ETXTBSY', ['EBUSY', 'the file is being executed: choose another']],
]);

/** The error of a system call, with one of our codes, the path, and how to mend it. `cause` keeps the original. */
export function deviceError(cause: unknown, doing: string, path: string): DeviceError {
  const [code, remedy] = SYSTEM_ERRORS.get(codeOf(cause) ?? '') ?? ['EIO', 'check the disk and the system log'];
  return new DeviceError(code, `${doing} ${path}: ${messageOf(cause)}: ${remedy}`, { cause });
}
