import { crc32 } from 'node:zlib';
import { viewOf } from '../../core/index.ts';

/** The benchmark's own stores know sectors of this size only. */
export const SECTOR = 512;

/** Where {@link seal} puts its two words. */
const MAGIC_AT = 0;
const CRC_AT = 4;
/** Where the content of something sealed starts. */
export const SEALED_AT = 8;

/**
 * Marks whole sectors with a magic number and a CRC-32 over everything in them.
 * @param seed what the checksum is bound to beside the bytes, such as their address
 */
export function seal(bytes: Uint8Array, magic: number, seed: number): void {
  const view = viewOf(bytes);
  view.setUint32(MAGIC_AT, magic, true);
  view.setUint32(CRC_AT, crcOf(bytes, seed), true);
}

/** Whether {@link seal} made this of it. */
export function isSealed(bytes: Uint8Array, magic: number, seed: number): boolean {
  const view = viewOf(bytes);
  return view.getUint32(MAGIC_AT, true) === magic && view.getUint32(CRC_AT, true) === crcOf(bytes, seed);
}

function crcOf(bytes: Uint8Array, seed: number): number {
  return crc32(bytes.subarray(SEALED_AT), crc32(bytes.subarray(MAGIC_AT, CRC_AT), seed));
}

/** Strings of keys: ASCII, so that their length is their number of bytes. */
export function putText(target: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) target[at + i] = text.charCodeAt(i);
}

export function getText(source: Uint8Array, at: number, length: number): string {
  return String.fromCharCode(...source.subarray(at, at + length));
}
