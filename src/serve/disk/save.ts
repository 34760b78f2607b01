import { closeSync, fsyncSync, ftruncateSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { CodedError, messageOf } from '../../core/index.ts';
import { visitOccupied } from './occupied.ts';
import type { ServedDisk } from './served-disk.ts';

/**
 * Saves what the disk holds as an image file with holes where it holds zeros. The disk stands still meanwhile, so it is
 * one moment's.
 * @returns its size in bytes
 * @throws CodedError EINVAL where the file exists or can't be made, or a cut is not resolved; EIO where it can't be written
 */
export function saveImage(disk: ServedDisk, path: string): number {
  const fd = create(path);
  const sizeBytes = disk.sectorCount * disk.sectorBytes;
  try {
    visitOccupied(disk, (sector, bytes) => {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(fd, bytes, done, bytes.length - done, sector * disk.sectorBytes + done);
      }
    });
    ftruncateSync(fd, sizeBytes);
    fsyncSync(fd);
  } catch (cause) {
    unlinkSync(path);
    if (cause instanceof CodedError) throw cause;
    throw new CodedError('EIO', `save ${path}: ${messageOf(cause)}`, { cause });
  } finally {
    closeSync(fd);
  }
  return sizeBytes;
}

function create(path: string): number {
  try {
    return openSync(path, 'wx', 0o600);
  } catch (cause) {
    throw new CodedError('EINVAL', `save: ${messageOf(cause)}: name a file that does not exist`, { cause });
  }
}
