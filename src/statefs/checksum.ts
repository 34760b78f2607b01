import { crc32c as native } from '@node-rs/crc32';

/** Up to so many bytes a table is faster than the call into native code, and makes no object. */
const MAX_TABLE_BYTES = 128;
/** Reversed, as RFC 3720 has it. */
const POLYNOMIAL = 0x82f6_3b78;
/** Four tables of 256: what a byte does to the checksum from 0, 1, 2 and 3 bytes away. */
const TABLES: Int32Array = tables();

/**
 * CRC32-C (Castagnoli; RFC 3720 appendix B.4) of the bytes from `start` up to `end`, continued from `seed`.
 * @param seed 0, or the checksum of what came before
 */
export function crc32c(bytes: Uint8Array, start: number, end: number, seed: number): number {
  return end - start > MAX_TABLE_BYTES ? native(bytes.subarray(start, end), seed) : byTable(bytes, start, end, seed);
}

function byTable(bytes: Uint8Array, start: number, end: number, seed: number): number {
  let crc = ~seed;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      TABLES[768 + (crc & 0xff)]! ^
      TABLES[512 + ((crc >>> 8) & 0xff)]! ^
      TABLES[256 + ((crc >>> 16) & 0xff)]! ^
      TABLES[crc >>> 24]!;
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ TABLES[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

function tables(): Int32Array {
  const made = new Int32Array(4 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ POLYNOMIAL;
    made[byte] = crc;
  }
  for (let at = 256; at < made.length; at++) {
    const nearer = made[at - 256]!;
    made[at] = (nearer >>> 8) ^ made[nearer & 0xff]!;
  }
  return made;
}
