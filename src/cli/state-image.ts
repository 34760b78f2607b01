import { existsSync, renameSync } from 'node:fs';
import { type BlockDevice, FileDevice, systemFileIo } from '../blockdev/index.ts';
import { format } from '../statefs/index.ts';

const SECTOR_BYTES = 512;

/** An image that is open, and whether it was made just now. */
export interface StateImage {
  readonly device: BlockDevice;
  readonly isNew: boolean;
}

/**
 * Opens the image of a store; where there is none, makes one first, under another name until it is whole, so that
 * whatever kills the program in between leaves no half an image.
 * @throws DeviceError EBUSY where another process has it open, and as FileDevice does; StateFsError EINVAL for a size
 *   that is too small
 */
export function openStateImage(path: string, sizeBytes: number): StateImage {
  const isNew = !existsSync(path);
  if (isNew) createStateImage(path, sizeBytes);
  return { device: FileDevice.open(path), isNew };
}

function createStateImage(path: string, sizeBytes: number): void {
  const unfinished = `${path}.new`;
  const device = FileDevice.create(unfinished, {
    sectorCount: Math.floor(sizeBytes / SECTOR_BYTES),
    overwrite: true,
  });
  try {
    format(device);
    renameSync(unfinished, path);
    systemFileIo.syncParent(path);
  } catch (error) {
    systemFileIo.unlink(unfinished);
    throw error;
  } finally {
    device.close();
  }
}
