import { existsSync } from 'node:fs';
import { type BlockDevice, FileDevice } from '../blockdev/index.ts';
import { format } from '../statefs/index.ts';
import { putInPlace } from './new-file.ts';

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
  putInPlace(path, false, (unfinished) => {
    const device = FileDevice.create(unfinished, { sectorCount: Math.floor(sizeBytes / SECTOR_BYTES) });
    try {
      format(device);
    } finally {
      device.close();
    }
  });
}
