/** 2^32. */
const WORD = 0x1_0000_0000;

/**
 * Reads a little-endian 64-bit field as a safe integer. Two 32-bit reads cost a tenth of a BigInt.
 * @returns -1 where the field is over 2^53 - 1: no field of ours may be that large, and guests lie.
 */
export function getU64(view: DataView, offsetBytes: number): number {
  const high = view.getUint32(offsetBytes + 4, true);
  return high > 0x1f_ffff ? -1 : high * WORD + view.getUint32(offsetBytes, true);
}

/** Writes a safe, non-negative integer as a little-endian 64-bit field. */
export function setU64(view: DataView, offsetBytes: number, value: number): void {
  view.setUint32(offsetBytes, value >>> 0, true);
  // Almost always 0, and a comparison is a tenth of a division.
  view.setUint32(offsetBytes + 4, value < WORD ? 0 : Math.floor(value / WORD), true);
}

/** A DataView over exactly the bytes of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Byte equality. For public data: not constant in time. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  // Below some 100 bytes a loop beats the call into native code.
  if (a.length > 96) return Buffer.compare(a, b) === 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
