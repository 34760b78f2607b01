import type { BlockDevice } from '../blockdev/index.ts';
import { readSuperblocks } from './superblock.ts';

/**
 * Bytes in a sector of the store on `device`, whose own sectors may be smaller: both copies stand at places in bytes.
 * @param device with sectors of 512 bytes
 * @returns undefined where neither superblock copy is readable
 */
export function storeSectorBytes(device: BlockDevice): number | undefined {
  for (const copy of readSuperblocks(device)) if (copy.state === 'valid') return copy.superblock.sectorBytes;
  return undefined;
}
