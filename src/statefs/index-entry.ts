import { FRAME_HEADER_BYTES, type KIND_LOST, type KIND_PUT, TEMP_BYTES } from './layout.ts';

/** Where a live record stands, and what proves its bytes. Never the bytes themselves. */
export interface IndexEntry {
  /** `KIND_LOST`: the key is there, and its value is damaged; the frame may not be. */
  readonly kind: typeof KIND_PUT | typeof KIND_LOST;
  readonly key: string;
  readonly sequence: number;
  readonly epoch: number;
  readonly tempSector: number;
  readonly tempBodyBytes: number;
  readonly envelopeOffset: number;
  readonly envelopeBytes: number;
  readonly payloadBytes: number;
  readonly extentFrames: number;
  readonly extentSector: number;
  /** SHA-256 from the commit; undefined where the commit was lost and the envelope has to do. */
  readonly digest: Uint8Array | undefined;
}

/** Bytes of UTF-8 in the entry's key. */
export function keyBytesOf(entry: IndexEntry): number {
  return entry.envelopeOffset - FRAME_HEADER_BYTES - TEMP_BYTES;
}
