import type { BlockDevice, WriteOptions } from '../blockdev/index.ts';
import type { SegmentStream } from './chain.ts';

/** Made once: a write-through request allocates nothing for it. */
const FUA: WriteOptions = { fua: true };

/**
 * Moves whole sectors between a backend and a guest's segments: straight from or to guest memory where a segment holds
 * whole sectors, through a scratch sector where the driver cut one in pieces.
 */
export class SectorMover {
  #scratch = new Uint8Array(512);

  /**
   * @param lengthBytes a multiple of the backend's sector
   * @returns false where the stream ended early or can't be reached
   */
  read(backend: BlockDevice, sector: number, into: SegmentStream, lengthBytes: number): boolean {
    const { sectorBytes } = backend;
    for (let done = 0; done < lengthBytes; ) {
      const directBytes = wholeSectors(into, lengthBytes - done, sectorBytes);
      const target = directBytes > 0 ? into.takeView(directBytes) : this.#scratchOf(sectorBytes);
      if (target === undefined) return false;
      backend.read(sector, target);
      if (directBytes === 0 && !into.write(target)) return false;
      done += target.length;
      sector += target.length / sectorBytes;
    }
    return true;
  }

  /** As {@link read}, the other way. With `fua`, all of it is durable on return. */
  write(backend: BlockDevice, sector: number, from: SegmentStream, lengthBytes: number, fua: boolean): boolean {
    const { sectorBytes } = backend;
    for (let done = 0; done < lengthBytes; ) {
      const directBytes = wholeSectors(from, lengthBytes - done, sectorBytes);
      const source = directBytes > 0 ? from.takeView(directBytes) : this.#scratchOf(sectorBytes);
      if (source === undefined || (directBytes === 0 && !from.read(source))) return false;
      if (fua) backend.write(sector, source, FUA);
      else backend.write(sector, source);
      done += source.length;
      sector += source.length / sectorBytes;
    }
    return true;
  }

  #scratchOf(sectorBytes: number): Uint8Array {
    if (this.#scratch.length !== sectorBytes) this.#scratch = new Uint8Array(sectorBytes);
    return this.#scratch;
  }
}

/** How many of the next bytes are whole sectors in one segment. */
function wholeSectors(stream: SegmentStream, leftBytes: number, sectorBytes: number): number {
  const bytes = Math.min(stream.contiguousBytes, leftBytes);
  return bytes - (bytes % sectorBytes);
}
