import { assertInteger } from '../core/index.ts';

/**
 * Feature bits (virtio 2.2) as 32-bit words, the way the transport transfers them. Four words: the spec has allocated
 * bits up to 127.
 */
export type FeatureWords = Uint32Array;

const WORD_COUNT = 4;

/** Bits that belong to no device type (virtio 6). */
export const F_INDIRECT_DESC = 28;
export const F_EVENT_IDX = 29;
/** The device is no legacy one. We offer it and need it. */
export const F_VERSION_1 = 32;
export const F_RING_PACKED = 34;
export const F_IN_ORDER = 35;
export const F_NOTIFICATION_DATA = 38;
export const F_RING_RESET = 40;

/** What a queue can do, whatever the device and the transport: what VirtQueue hides from a device model. */
export const RING_FEATURES: readonly number[] = [F_INDIRECT_DESC, F_EVENT_IDX, F_RING_PACKED, F_IN_ORDER];

/** A set with exactly these bits. */
export function featureWords(bits: Iterable<number> = []): FeatureWords {
  const words = new Uint32Array(WORD_COUNT);
  for (const bit of bits) setFeature(words, bit);
  return words;
}

export function setFeature(words: FeatureWords, bit: number): void {
  assertInteger(bit, 'feature bit', 0, 32 * WORD_COUNT - 1);
  words[bit >>> 5] = words[bit >>> 5]! | (1 << (bit & 31));
}

export function hasFeature(words: FeatureWords, bit: number): boolean {
  return ((words[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
}
