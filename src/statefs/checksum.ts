import { crc32c as native } from '@node-rs/crc32';

/**
 * CRC32-C (Castagnoli; RFC 3720 appendix B.4), continued from `seed`.
 * @param seed 0, or the checksum of what came before
 */
export function crc32c(bytes: Uint8Array, seed: number): number {
  return native(bytes, seed);
}
