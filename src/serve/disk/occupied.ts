import type { ServedDisk } from './served-disk.ts';

const PIECE_BYTES = 64 * 1024;

/**
 * Visits what a disk holds that is not zeros, in order, in pieces of at most 64 KiB: as it is read now, or as the
 * resolved cut left it.
 * @param visit the bytes are its only during the call
 */
export function visitOccupied(disk: ServedDisk, visit: (sector: number, bytes: Uint8Array) => void): void {
  const { sectorBytes, sectorCount } = disk;
  const piece = new Uint8Array(PIECE_BYTES);
  for (let sector = 0; sector < sectorCount; ) {
    const extent = disk.inspectExtent(sector, sectorCount - sector);
    if (extent < 0) {
      sector -= extent;
      continue;
    }
    const count = Math.min(extent, PIECE_BYTES / sectorBytes);
    const bytes = piece.subarray(0, count * sectorBytes);
    disk.inspect(sector, bytes);
    const first = firstOccupied(bytes, sectorBytes);
    if (first < count) visit(sector + first, bytes.subarray(first * sectorBytes, lastOccupied(bytes, sectorBytes)));
    sector += count;
  }
}

const ZEROS: Uint8Array = new Uint8Array(4096);

function isZero(bytes: Uint8Array, at: number, sectorBytes: number): boolean {
  return bytes[at] === 0 && Buffer.compare(bytes.subarray(at, at + sectorBytes), ZEROS.subarray(0, sectorBytes)) === 0;
}

function firstOccupied(bytes: Uint8Array, sectorBytes: number): number {
  let at = 0;
  while (at < bytes.length && isZero(bytes, at, sectorBytes)) at += sectorBytes;
  return at / sectorBytes;
}

/** Where zeros begin that go on to the end. */
function lastOccupied(bytes: Uint8Array, sectorBytes: number): number {
  let end = bytes.length;
  while (end > 0 && isZero(bytes, end - sectorBytes, sectorBytes)) end -= sectorBytes;
  return end;
}
