import { assertInteger } from '../core/index.ts';
import { LIFETIME_BYTES, PRE_EOL_MAX, WEAR_MAX } from './blk-layout.ts';

/** How worn a medium is (virtio 5.2.6; the metrics are those of JESD84-B50). */
export interface BlkLifetime {
  /** Reserved blocks that are used up: 0 unknown, 1 less than 80 %, 2 80 %, 3 90 %. */
  readonly preEol: number;
  /** Wear of the SLC cells: 0 unknown, 1 to 10 tenths of the lifetime that are used, 11 past its end. */
  readonly typA: number;
  /** Likewise of the MLC cells. */
  readonly typB: number;
}

/**
 * The three words of struct virtio_blk_lifetime.
 * @throws TypeError, RangeError for a value that is reserved: a device must not send one (5.2.6.2)
 */
export function encodeLifetime({ preEol, typA, typB }: BlkLifetime): Uint8Array {
  assertInteger(preEol, 'preEol', 0, PRE_EOL_MAX);
  assertInteger(typA, 'typA', 0, WEAR_MAX);
  assertInteger(typB, 'typB', 0, WEAR_MAX);
  const bytes = new Uint8Array(LIFETIME_BYTES);
  bytes.set([preEol, 0, typA, 0, typB, 0]);
  return bytes;
}

/** As {@link encodeLifetime}, backwards. Reserved values come through as they are. */
export function decodeLifetime(bytes: Uint8Array): BlkLifetime {
  const word = (at: number): number => bytes[at]! | (bytes[at + 1]! << 8);
  return { preEol: word(0), typA: word(2), typB: word(4) };
}
