import { type BlockDevice, FileDevice } from '../blockdev/index.ts';
import { CodedError } from '../core/index.ts';
import { storeSectorBytes } from '../statefs/index.ts';
import { misuse } from './scenarios.ts';

const SECTOR_BYTES = 512;

/**
 * Runs `use` on the image at `path`, with the sectors that its store was formatted with; 512 bytes where it has none.
 * @throws CodedError EINVAL, one line, for what can't be opened or read
 */
export function withStoreImage<T>(path: string, readOnly: boolean, use: (device: BlockDevice) => T): T {
  try {
    return using(FileDevice.open(path, { readOnly, sectorBytes: SECTOR_BYTES }), (device) => {
      const sectorBytes = storeSectorBytes(device);
      if (sectorBytes === undefined || sectorBytes === SECTOR_BYTES) return use(device);
      device.close();
      return using(FileDevice.open(path, { readOnly, sectorBytes }), use);
    });
  } catch (error) {
    throw error instanceof CodedError
      ? misuse(`${path}: ${error.message}`.replace(`${path}: ${path}`, path), error)
      : error;
  }
}

function using<T>(device: FileDevice, use: (device: FileDevice) => T): T {
  try {
    return use(device);
  } finally {
    device.close();
  }
}
