import { getU64, setU64 } from '../core/index.ts';
import { crc32c } from './checksum.ts';
import { CONTINUATION_MARK, FRAME, FRAME_HEADER_BYTES, FRAME_MAGIC } from './layout.ts';

/** The fields of a frame's header, filled in by {@link FrameCodec.parse}; reused, so read them before the next call. */
export class FrameHeader {
  type = 0;
  flags = 0;
  bodyBytes = 0;
  epoch = 0;
  index = 0;
  sequence = 0;
  sector = 0;
  durableSequence = 0;
  windowSectors = 0;
}

/**
 * Seals frames and checks them. A frame is bound to its store (the checksum's seed), place, epoch, sequence, type and
 * length; at each sector edge inside it stands a mark instead of the user's bytes, which the header keeps.
 */
export class FrameCodec {
  readonly #seed: number;
  readonly #sectorBytes: number;
  readonly #checksums: boolean;

  /**
   * @param storeId 16 bytes that seed every checksum
   * @param checksums false only in a variant that shows what happens without
   */
  constructor(storeId: Uint8Array, sectorBytes: number, checksums = true) {
    this.#seed = crc32c(storeId, 0, storeId.length, 0);
    this.#sectorBytes = sectorBytes;
    this.#checksums = checksums;
  }

  /** Sectors that a frame with a body of `bodyBytes` takes. */
  sectorsFor(bodyBytes: number): number {
    return Math.ceil((FRAME_HEADER_BYTES + bodyBytes) / this.#sectorBytes);
  }

  /**
   * Completes the frame whose body already stands at `at + 64` in `buffer`: header, marks, checksums, zero padding.
   * `buffer` is changed in place up to the frame's last sector.
   */
  seal(buffer: Uint8Array, view: DataView, at: number, header: FrameHeader): void {
    const end = at + FRAME_HEADER_BYTES + header.bodyBytes;
    const sectors = this.sectorsFor(header.bodyBytes);
    buffer.fill(0, end, at + sectors * this.#sectorBytes);
    view.setUint32(at + FRAME.magic, FRAME_MAGIC, true);
    view.setUint8(at + FRAME.type, header.type);
    view.setUint8(at + FRAME.flags, header.flags);
    view.setUint16(at + FRAME.bodyBytes, header.bodyBytes, true);
    view.setUint32(at + FRAME.epoch, header.epoch, true);
    view.setUint32(at + FRAME.index, header.index, true);
    setU64(view, at + FRAME.sequence, header.sequence);
    setU64(view, at + FRAME.sector, header.sector);
    setU64(view, at + FRAME.durableSequence, header.durableSequence);
    view.setUint32(at + FRAME.windowSectors, header.windowSectors, true);
    this.#displace(view, at, sectors);
    view.setUint32(at + FRAME.bodyCrc, crc32c(buffer, at + FRAME_HEADER_BYTES, end, this.#seed), true);
    view.setUint32(at + FRAME.headerCrc, this.#headerCrc(buffer, at), true);
  }

  /**
   * Reads the header at `at`. Nothing of it is to be believed unless this says true, and then its body may still be
   * torn: see {@link verify}.
   * @param sector where the frame was read from; a frame that names another place is refused
   */
  parse(buffer: Uint8Array, view: DataView, at: number, sector: number, into: FrameHeader): boolean {
    return this.parseAnywhere(buffer, view, at, into) && into.sector === sector;
  }

  /** The same, of a frame that may stand in another place than it names: `into.sector` has the place. */
  parseAnywhere(buffer: Uint8Array, view: DataView, at: number, into: FrameHeader): boolean {
    if (view.getUint32(at + FRAME.magic, true) !== FRAME_MAGIC) return false;
    if (this.#checksums && view.getUint32(at + FRAME.headerCrc, true) !== this.#headerCrc(buffer, at)) return false;
    into.type = view.getUint8(at + FRAME.type);
    into.flags = view.getUint8(at + FRAME.flags);
    into.bodyBytes = view.getUint16(at + FRAME.bodyBytes, true);
    into.epoch = view.getUint32(at + FRAME.epoch, true);
    into.index = view.getUint32(at + FRAME.index, true);
    into.sequence = getU64(view, at + FRAME.sequence);
    into.sector = getU64(view, at + FRAME.sector);
    into.durableSequence = getU64(view, at + FRAME.durableSequence);
    into.windowSectors = view.getUint32(at + FRAME.windowSectors, true);
    return into.sector >= 0 && into.sequence > 0 && into.durableSequence >= 0;
  }

  /** Whether the body of a frame that {@link parse} accepted is the one that was sealed. */
  verify(buffer: Uint8Array, view: DataView, at: number, header: FrameHeader): boolean {
    if (!this.#checksums) return true;
    const start = at + FRAME_HEADER_BYTES;
    return crc32c(buffer, start, start + header.bodyBytes, this.#seed) === view.getUint32(at + FRAME.bodyCrc, true);
  }

  /**
   * Puts the user's bytes back over the marks, in place. The frame can't be verified again, and its inner sectors
   * must not be searched for frames any more.
   */
  restore(view: DataView, at: number, header: FrameHeader): void {
    const sectors = this.sectorsFor(header.bodyBytes);
    for (let edge = 1; edge < sectors; edge++) {
      const word = view.getUint32(at + FRAME.displaced + 4 * (edge - 1), true);
      view.setUint32(at + edge * this.#sectorBytes, word, true);
    }
  }

  #displace(view: DataView, at: number, sectors: number): void {
    for (let edge = 1; edge < 4; edge++) {
      const place = at + FRAME.displaced + 4 * (edge - 1);
      if (edge < sectors) {
        view.setUint32(place, view.getUint32(at + edge * this.#sectorBytes, true), true);
        view.setUint32(at + edge * this.#sectorBytes, CONTINUATION_MARK, true);
      } else {
        view.setUint32(place, 0, true);
      }
    }
  }

  #headerCrc(buffer: Uint8Array, at: number): number {
    return crc32c(buffer, at, at + FRAME.headerCrc, this.#seed);
  }
}
