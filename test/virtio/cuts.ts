import type { Part } from './harness.ts';

/** Cuts a stream of bytes at these lengths; the rest is the last piece. */
export function cut(bytes: Uint8Array, lengths: readonly number[]): Part[] {
  const parts: Part[] = [];
  let at = 0;
  for (const length of [...lengths, bytes.length]) {
    parts.push({ give: bytes.subarray(at, at + length) });
    at = Math.min(bytes.length, at + length);
  }
  return parts;
}

/** Rooms of these lengths; the last has the rest. */
export function rooms(totalBytes: number, lengths: readonly number[]): Part[] {
  const parts: Part[] = lengths.map((room) => ({ room }));
  return [...parts, { room: totalBytes - lengths.reduce((sum, length) => sum + length, 0) }];
}
