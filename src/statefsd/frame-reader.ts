import { viewOf } from '../core/index.ts';
import { FRAME_OVERHEAD_BYTES, HEADER_BYTES } from './operations.ts';

/** What {@link FrameReader.next} found. */
export type RawFrame =
  /** A whole frame with its header. The bytes are the reader's gift: it keeps no view. */
  | { readonly kind: 'frame'; readonly bytes: Uint8Array }
  /**
   * A frame of more than the cap. Only its head was kept: everything before a payload stands in it. The rest is thrown
   * away as it comes.
   */
  | { readonly kind: 'oversize'; readonly bytes: Uint8Array; readonly frameBytes: number }
  /** No frame has such a length: what follows can't be told apart. */
  | { readonly kind: 'broken'; readonly message: string };

const LENGTH_BYTES = 4;
/** What a partial frame gets at first; it grows with what really arrived, never with what a length says. */
const FIRST_BYTES = 1024;
const NOTHING = new Uint8Array(0);

/** Cuts a stream of bytes into frames. Memory is bounded by twice the bytes that arrived, and by the cap. */
export class FrameReader {
  /** Longest frame that is kept, header included. */
  capBytes: number;
  readonly #largestBytes: number;
  /** Bytes that no frame was taken from yet. */
  #rest: Uint8Array = NOTHING;
  /** The start of a frame that has not arrived in full. */
  #partial: Uint8Array = NOTHING;
  #partialBytes = 0;
  #skipBytes = 0;
  #isBroken = false;

  /** @param largestBytes longer frames than this break the connection; up to it they are read past */
  constructor(capBytes: number, largestBytes: number) {
    this.capBytes = capBytes;
    this.#largestBytes = largestBytes;
  }

  /** Whether a frame has begun to arrive and not ended. */
  get isPartial(): boolean {
    return this.#partialBytes > 0 || this.#skipBytes > 0;
  }

  /** Takes on `chunk`, which is kept until its frames were taken: the caller must not change it. */
  push(chunk: Uint8Array): void {
    if (this.#rest.length === 0) {
      this.#rest = chunk;
      return;
    }
    const joined = new Uint8Array(this.#rest.length + chunk.length);
    joined.set(this.#rest);
    joined.set(chunk, this.#rest.length);
    this.#rest = joined;
  }

  /** The next frame, or undefined until more bytes arrive. */
  next(): RawFrame | undefined {
    if (this.#isBroken) return undefined;
    this.#skip();
    if (this.#rest.length === 0) return undefined;
    if (this.#partialBytes === 0) {
      const whole = this.#takeWhole();
      if (whole !== undefined) return whole;
    }
    return this.#takePartial();
  }

  #skip(): void {
    const count = Math.min(this.#skipBytes, this.#rest.length);
    if (count === 0) return;
    this.#skipBytes -= count;
    this.#rest = this.#rest.subarray(count);
  }

  /** The usual case: all of a frame has arrived at once, and a view of it does. */
  #takeWhole(): RawFrame | undefined {
    if (this.#rest.length < LENGTH_BYTES) return undefined;
    const frameBytes = viewOf(this.#rest).getUint32(0, true) + LENGTH_BYTES;
    if (frameBytes < HEADER_BYTES || frameBytes > this.capBytes || frameBytes > this.#rest.length) return undefined;
    const bytes = this.#rest.subarray(0, frameBytes);
    this.#rest = this.#rest.subarray(frameBytes);
    return { kind: 'frame', bytes };
  }

  #takePartial(): RawFrame | undefined {
    if (!this.#gather(LENGTH_BYTES)) return undefined;
    const frameBytes = viewOf(this.#partial).getUint32(0, true) + LENGTH_BYTES;
    if (frameBytes < HEADER_BYTES || frameBytes > this.#largestBytes) {
      this.#isBroken = true;
      this.#drop();
      const range = `${HEADER_BYTES - LENGTH_BYTES} to ${this.#largestBytes - LENGTH_BYTES}`;
      return { kind: 'broken', message: `length: expected ${range}, got ${frameBytes - LENGTH_BYTES}` };
    }
    const isOversize = frameBytes > this.capBytes;
    const wanted = isOversize ? Math.min(frameBytes, FRAME_OVERHEAD_BYTES) : frameBytes;
    if (!this.#gather(wanted)) return undefined;
    const bytes = this.#partial.subarray(0, wanted);
    this.#partial = NOTHING;
    this.#partialBytes = 0;
    if (!isOversize) return { kind: 'frame', bytes };
    this.#skipBytes = frameBytes - wanted;
    return { kind: 'oversize', bytes, frameBytes };
  }

  /** Moves bytes over until the partial frame has `wanted`. @returns whether it has */
  #gather(wanted: number): boolean {
    const count = Math.min(wanted - this.#partialBytes, this.#rest.length);
    if (count > 0) {
      this.#reserve(this.#partialBytes + count);
      this.#partial.set(this.#rest.subarray(0, count), this.#partialBytes);
      this.#partialBytes += count;
      this.#rest = this.#rest.subarray(count);
    }
    return this.#partialBytes >= wanted;
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#partial.length) return;
    const grown = new Uint8Array(Math.max(FIRST_BYTES, bytes, 2 * this.#partialBytes));
    grown.set(this.#partial.subarray(0, this.#partialBytes));
    this.#partial = grown;
  }

  #drop(): void {
    this.#rest = NOTHING;
    this.#partial = NOTHING;
    this.#partialBytes = 0;
  }
}
