import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { DeviceError, messageOf } from '../core/index.ts';

/** What a {@link FileDevice} asks of the system. Every call may throw a system error, and may move less than asked. */
export interface FileIo {
  /** @returns a descriptor */
  open(path: string, flags: number): number;
  /** @returns how many bytes were read; 0 at the end of the file */
  read(fd: number, target: Uint8Array, offset: number, lengthBytes: number, positionBytes: number): number;
  /** @returns how many bytes were written */
  write(fd: number, source: Uint8Array, offset: number, lengthBytes: number, positionBytes: number): number;
  /** Makes the content durable, and of the metadata what is needed to read it. */
  syncData(fd: number): void;
  /** Makes content and metadata durable. */
  sync(fd: number): void;
  stat(fd: number): { readonly isFile: boolean; readonly sizeBytes: number };
  truncate(fd: number, lengthBytes: number): void;
  unlink(path: string): void;
  /** Bytes that may still be written to the file system that holds `path`. */
  freeBytes(path: string): number;
  /** Makes the directory entry of `path` durable. */
  syncParent(path: string): void;
  /**
   * Takes a lock that the kernel drops when the descriptor is closed or its process dies.
   * @returns false where another open file holds one that does not allow it
   */
  tryLock(fd: number, shared: boolean): boolean;
  close(fd: number): void;
}

/** The machine's file system. */
export const systemFileIo: FileIo = {
  open: (path, flags) => fs.openSync(path, flags, 0o600),
  read: fs.readSync,
  write: fs.writeSync,
  syncData: fs.fdatasyncSync,
  sync: fs.fsyncSync,
  stat: (fd) => {
    const stats = fs.fstatSync(fd);
    return { isFile: stats.isFile(), sizeBytes: stats.size };
  },
  truncate: fs.ftruncateSync,
  unlink: fs.unlinkSync,
  freeBytes: (path) => {
    const { bavail, bsize } = fs.statfsSync(dirname(path));
    return bavail * bsize;
  },
  syncParent,
  tryLock: (fd, shared) => lockFunction()(fd, 0, 0, { shared }),
  close: fs.closeSync,
};

function syncParent(path: string): void {
  // Windows opens no directories; NTFS journals its entries.
  if (process.platform === 'win32') return;
  const fd = fs.openSync(dirname(path), fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

type TryLock = (fd: number, offset: number, length: number, options: { readonly shared: boolean }) => boolean;

let loadedTryLock: TryLock | undefined;

/** Loaded when the first lock is taken: a machine without a prebuilt binary can use everything else. */
function lockFunction(): TryLock {
  if (loadedTryLock !== undefined) return loadedTryLock;
  try {
    const native = createRequire(import.meta.url)('fs-native-extensions') as { readonly tryLock: TryLock };
    loadedTryLock = native.tryLock;
    return loadedTryLock;
  } catch (cause) {
    throw new DeviceError(
      'ENOTSUP',
      `no file locks on this machine (${messageOf(cause)}): pass lock: false, and see to it that one process writes`,
      { cause },
    );
  }
}
