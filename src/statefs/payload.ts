import type { BlockDevice } from '../blockdev/index.ts';
import { viewOf } from '../core/index.ts';
import { createSha256 } from '../envelope/index.ts';
import { fail } from './errors.ts';
import { type FrameCodec, FrameHeader } from './frame.ts';
import type { StoreGeometry } from './geometry.ts';
import { FLAG_LAST, FRAME_HEADER_BYTES, FRAME_PAYLOAD } from './layout.ts';
import { NO_MEMORY } from './memory.ts';

/** Where the payload of a record stands outside the log, and which record wrote it. */
export interface Extent {
  readonly extentSector: number;
  readonly extentFrames: number;
  readonly payloadBytes: number;
  readonly sequence: number;
  readonly epoch: number;
}

/** Bytes moved to or from the device at once. */
const STAGING_BYTES = 65_536;

/** Payloads outside the log: a row of full frames, each bound to its record and place. */
export class PayloadStore {
  readonly #device: BlockDevice;
  readonly #codec: FrameCodec;
  readonly #sectorBytes: number;
  readonly #frameSectors: number;
  readonly #frameBytes: number;
  readonly #unitBytes: number;
  /** Most stores of small values never need it. */
  #staging: Uint8Array = NO_MEMORY.bytes;
  #view: DataView = NO_MEMORY.view;
  readonly #header = new FrameHeader();

  constructor(device: BlockDevice, codec: FrameCodec, geometry: StoreGeometry) {
    this.#device = device;
    this.#codec = codec;
    this.#sectorBytes = geometry.sectorBytes;
    this.#frameSectors = geometry.frameSectors;
    this.#frameBytes = geometry.frameSectors * geometry.sectorBytes;
    this.#unitBytes = geometry.unitSectors * geometry.sectorBytes;
  }

  /** Makes the staging area as large as the extent can use. */
  #prepare(extent: Extent): void {
    const wanted = Math.max(extent.extentFrames * this.#frameBytes, this.#unitBytes);
    const bytes = Math.min(Math.ceil(wanted / this.#unitBytes) * this.#unitBytes, STAGING_BYTES);
    if (this.#staging.length >= bytes) return;
    this.#staging = new Uint8Array(bytes);
    this.#view = viewOf(this.#staging);
  }

  /** Bytes of payload in a full frame. */
  get chunkBytes(): number {
    return this.#frameBytes - FRAME_HEADER_BYTES;
  }

  framesFor(payloadBytes: number): number {
    return Math.ceil(payloadBytes / this.chunkBytes);
  }

  /** Sectors of an extent for `payloadBytes`: full frames, and a last one as long as it needs. */
  sectorsFor(payloadBytes: number): number {
    const full = this.framesFor(payloadBytes) - 1;
    return full * this.#frameSectors + this.#codec.sectorsFor(payloadBytes - full * this.chunkBytes);
  }

  /** Writes the frames. Not durable before the next flush. */
  write(extent: Extent, payload: Uint8Array): void {
    this.#prepare(extent);
    const perBatch = Math.floor(STAGING_BYTES / this.#frameBytes);
    for (let frame = 0; frame < extent.extentFrames; frame += perBatch) {
      const count = Math.min(perBatch, extent.extentFrames - frame);
      for (let i = 0; i < count; i++) this.#seal(extent, payload, frame + i, i * this.#frameBytes);
      const isLast = frame + count === extent.extentFrames;
      const batch = this.#batch(extent, frame, count);
      this.#device.write(extent.extentSector + frame * this.#frameSectors, isLast ? this.#padded(batch.length) : batch);
    }
  }

  /** The staging area up to `usedBytes`, with zeros up to the end of the unit: it need not be read to be written. */
  #padded(usedBytes: number): Uint8Array {
    const bytes = Math.ceil(usedBytes / this.#unitBytes) * this.#unitBytes;
    this.#staging.fill(0, usedBytes, bytes);
    return this.#staging.subarray(0, bytes);
  }

  /** The part of the staging area that `count` frames from `frame` on take, the last one of the extent as short as it is. */
  #batch(extent: Extent, frame: number, count: number): Uint8Array {
    const sectors = Math.min(
      count * this.#frameSectors,
      this.sectorsFor(extent.payloadBytes) - frame * this.#frameSectors,
    );
    return this.#staging.subarray(0, sectors * this.#sectorBytes);
  }

  #seal(extent: Extent, payload: Uint8Array, frame: number, at: number): void {
    const start = frame * this.chunkBytes;
    const chunk = payload.subarray(start, Math.min(start + this.chunkBytes, payload.length));
    this.#staging.set(chunk, at + FRAME_HEADER_BYTES);
    this.#sealChunk(extent, frame, at, chunk.length);
  }

  /** Seals the frame whose body stands in the staging area already. */
  #sealChunk(extent: Extent, frame: number, at: number, bodyBytes: number): void {
    const header = this.#header;
    header.type = FRAME_PAYLOAD;
    header.flags = frame === extent.extentFrames - 1 ? FLAG_LAST : 0;
    header.bodyBytes = bodyBytes;
    header.epoch = extent.epoch;
    header.index = frame;
    header.sequence = extent.sequence;
    header.sector = extent.extentSector + frame * this.#frameSectors;
    header.durableSequence = 0;
    header.windowSectors = 0;
    this.#codec.seal(this.#staging, this.#view, at, header);
  }

  /**
   * Reads an extent into `target`, `payloadBytes` long, every frame verified. The digest is the caller's to check.
   * @throws StateFsError EINTEGRITY naming the frame and sector that is not what was written
   */
  read(extent: Extent, target: Uint8Array): void {
    this.#eachChunk(extent, (frame, chunk) => target.set(chunk, frame * this.chunkBytes));
  }

  /**
   * Copies some frames of an extent to another of the same payload, verified on the way. Not durable before a flush.
   * @param first number of the first frame; a multiple of what the last call returned
   * @param take given each piece of the payload, in order; not to be kept
   * @returns how many frames were copied
   * @throws StateFsError as {@link read}
   */
  copy(source: Extent, target: Extent, first: number, take: (chunk: Uint8Array) => void): number {
    this.#prepare(source);
    const count = Math.min(Math.floor(STAGING_BYTES / this.#frameBytes), source.extentFrames - first);
    const batch = this.#batch(source, first, count);
    this.#device.read(source.extentSector + first * this.#frameSectors, batch);
    for (let i = 0; i < count; i++) {
      const at = i * this.#frameBytes;
      const chunk = this.#chunk(source, first + i, at);
      take(chunk);
      this.#sealChunk(target, first + i, at, chunk.length);
    }
    const isLast = first + count === source.extentFrames;
    const sector = target.extentSector + first * this.#frameSectors;
    this.#device.write(sector, isLast ? this.#padded(batch.length) : batch);
    return count;
  }

  /**
   * Verifies some frames of an extent; see {@link copy}.
   * @returns how many
   * @throws StateFsError as {@link read}
   */
  verify(extent: Extent, first: number, take: (chunk: Uint8Array) => void): number {
    this.#prepare(extent);
    const count = Math.min(Math.floor(STAGING_BYTES / this.#frameBytes), extent.extentFrames - first);
    this.#device.read(extent.extentSector + first * this.#frameSectors, this.#batch(extent, first, count));
    for (let i = 0; i < count; i++) take(this.#chunk(extent, first + i, i * this.#frameBytes));
    return count;
  }

  #eachChunk(extent: Extent, take: (frame: number, chunk: Uint8Array) => void): void {
    this.#prepare(extent);
    const perBatch = Math.floor(STAGING_BYTES / this.#frameBytes);
    for (let first = 0; first < extent.extentFrames; first += perBatch) {
      let frame = first;
      this.verify(extent, first, (chunk) => take(frame++, chunk));
    }
  }

  #chunk(extent: Extent, frame: number, at: number): Uint8Array {
    if (!this.#parse(extent, frame, at) || !this.#codec.verify(this.#staging, this.#view, at, this.#header)) {
      const sector = extent.extentSector + frame * this.#frameSectors;
      fail('EINTEGRITY', `payload frame ${frame} of ${extent.extentFrames} at sector ${sector} is damaged`);
    }
    this.#codec.restore(this.#view, at, this.#header);
    const start = at + FRAME_HEADER_BYTES;
    return this.#staging.subarray(start, start + this.#header.bodyBytes);
  }

  /** Parses the header in the staging area and holds it to what frame `frame` of `extent` must say. */
  #parse(extent: Extent, frame: number, at: number): boolean {
    const sector = extent.extentSector + frame * this.#frameSectors;
    const header = this.#header;
    const length = Math.min(this.chunkBytes, extent.payloadBytes - frame * this.chunkBytes);
    return (
      this.#codec.parse(this.#staging, this.#view, at, sector, header) &&
      header.type === FRAME_PAYLOAD &&
      header.index === frame &&
      header.bodyBytes === length &&
      header.sequence === extent.sequence &&
      header.epoch === extent.epoch
    );
  }

  /**
   * Whether every frame of an extent is whole, read with care: frame by frame, the header's sector before the rest, and
   * no further than the first bad one.
   * @param onStray given the frames that stand where one of the extent's should, each with its sector
   */
  isWhole(extent: Extent, onStray: (sector: number, header: FrameHeader) => void): boolean {
    this.#prepare(extent);
    for (let frame = 0; frame < extent.extentFrames; frame++) {
      const sector = extent.extentSector + frame * this.#frameSectors;
      this.#device.read(sector, this.#staging.subarray(0, this.#sectorBytes));
      if (!this.#parse(extent, frame, 0)) {
        this.#tellStrays(sector, 1, onStray);
        return false;
      }
      const bytes = this.#codec.sectorsFor(this.#header.bodyBytes) * this.#sectorBytes;
      if (bytes > this.#sectorBytes) this.#device.read(sector + 1, this.#staging.subarray(this.#sectorBytes, bytes));
      if (this.#codec.verify(this.#staging, this.#view, 0, this.#header)) continue;
      this.#tellStrays(sector, bytes / this.#sectorBytes, onStray);
      return false;
    }
    return true;
  }

  #tellStrays(sector: number, sectors: number, onStray: (sector: number, header: FrameHeader) => void): void {
    const header = this.#header;
    for (let i = 0; i < sectors; i++) {
      if (this.#codec.parseAnywhere(this.#staging, this.#view, i * this.#sectorBytes, header))
        onStray(sector + i, header);
    }
  }

  /**
   * The SHA-256 of an extent's payload, every frame verified.
   * @throws StateFsError as {@link read}
   */
  digest(extent: Extent): Uint8Array {
    const sha = createSha256();
    this.#eachChunk(extent, (_frame, chunk) => sha.update(chunk));
    return sha.digest();
  }
}
