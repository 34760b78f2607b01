/** The same bytes, not as a Buffer: its `slice` is no copy, and it prints and compares unlike a Uint8Array. */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
