import type { ServedDisk } from '../disk/served-disk.ts';
import { MAX_PAYLOAD_BYTES, TRANSMISSION } from './protocol.ts';

/** A disk as NBD clients see it. */
export interface NbdExport {
  /** What clients ask for; the empty name always is this export, too. */
  readonly name: string;
  /** For people: `NBD_INFO_DESCRIPTION`. */
  readonly description: string;
  readonly disk: ServedDisk;
}

export function exportBytes(exported: NbdExport): number {
  return exported.disk.sectorCount * exported.disk.sectorBytes;
}

/** The three numbers of `NBD_INFO_BLOCK_SIZE`: a sector, what costs no read before the write, the longest payload. */
export function blockSizes(exported: NbdExport): readonly [minimum: number, preferred: number, maximum: number] {
  const { sectorBytes, physicalSectorBytes } = exported.disk;
  return [sectorBytes, Math.max(4096, physicalSectorBytes), MAX_PAYLOAD_BYTES];
}

/**
 * What the export offers. All connections share one disk and one cache, so a flush on one covers all
 * (`NBD_FLAG_CAN_MULTI_CONN`).
 */
export function transmissionFlags(exported: NbdExport, structured: boolean): number {
  const { disk } = exported;
  let flags = TRANSMISSION.hasFlags | TRANSMISSION.sendFlush | TRANSMISSION.sendFua | TRANSMISSION.canMultiConn;
  flags |= TRANSMISSION.sendCache;
  if (structured) flags |= TRANSMISSION.sendDf;
  if (disk.readOnly) return flags | TRANSMISSION.readOnly;
  return flags | TRANSMISSION.sendTrim | TRANSMISSION.sendWriteZeroes | TRANSMISSION.sendFastZero;
}
