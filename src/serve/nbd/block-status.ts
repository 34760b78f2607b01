import type { ServedDisk } from '../disk/served-disk.ts';
import { ALLOCATION_ID, CHUNK, CHUNK_BYTES, CHUNK_DONE, FLAG, STATE } from './protocol.ts';
import { putChunk, putU32 } from './replies.ts';
import type { ReplyBuffer } from './reply-stream.ts';
import type { Request } from './request.ts';

/** Extents in one reply. A client asks on from where a reply ends. */
const MAX_EXTENTS = 1024;
/** Bytes of the longest reply. */
export const BLOCK_STATUS_BYTES: number = CHUNK_BYTES + 4 + 8 * MAX_EXTENTS;

/** The reply to `NBD_CMD_BLOCK_STATUS` for `base:allocation`: what occupies no room is a hole, and reads as zeros. */
export function putBlockStatus(buffer: ReplyBuffer, request: Request, disk: ServedDisk): void {
  const start = buffer.length;
  putChunk(buffer, request, CHUNK_DONE, CHUNK.blockStatus, 0);
  putU32(buffer, ALLOCATION_ID);
  const most = (request.flags & FLAG.reqOne) === 0 ? MAX_EXTENTS : 1;
  const end = request.offset + request.length;
  let at = request.offset;
  for (let count = 0; count < most && at < end; count++) {
    const first = Math.floor(at / disk.sectorBytes);
    const extent = runFrom(disk, first, Math.ceil(end / disk.sectorBytes) - first);
    const to = Math.min(end, (first + Math.abs(extent)) * disk.sectorBytes);
    putU32(buffer, to - at);
    putU32(buffer, extent > 0 ? 0 : STATE.hole | STATE.zero);
    at = to;
  }
  buffer.view.setUint32(start + 16, buffer.length - start - CHUNK_BYTES);
}

/** As long as an extent goes on: the cache's map of it may be finer than what is alike. */
function runFrom(disk: ServedDisk, sector: number, sectorCount: number): number {
  let extent = disk.extent(sector, sectorCount);
  // Bounds the work for one extent; the next one may be of the same kind.
  for (let steps = 0; steps < MAX_EXTENTS && Math.abs(extent) < sectorCount; steps++) {
    const done = Math.abs(extent);
    const more = disk.extent(sector + done, sectorCount - done);
    if (more > 0 !== extent > 0) break;
    extent += more;
  }
  return extent;
}
