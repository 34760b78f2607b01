import { invariant, viewOf } from '../core/index.ts';

/** A stretch of memory, and a view of it. */
export interface Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** None yet. */
export const NO_MEMORY: Memory = memoryOf(0);

/** From 512 bytes, a sector, to 64 KiB, the largest piece that the store moves at once. */
const MIN_LOG2 = 9;
const MAX_LOG2 = 16;
/** A few stores at work inside each other's calls; more would only lie about. */
const MAX_IDLE = 4;
/** What was given back, by size. */
const idle: readonly Memory[][] = Array.from({ length: MAX_LOG2 - MIN_LOG2 + 1 }, () => []);

/**
 * Memory for one piece of work, the borrower's alone until it is given back. Opening a store costs some 20 KiB of it,
 * and an explorer opens one many thousand times a second: made anew each time, it would be the most of what it does.
 *
 * Work that fails need not give back: then it is garbage as any other.
 * @returns at least `byteCount` bytes, exactly so many where that is a power of two from 512 on; with anything in them
 */
export function borrowMemory(byteCount: number): Memory {
  const log2 = log2Of(byteCount);
  return idle[log2 - MIN_LOG2]?.pop() ?? memoryOf(log2 > MAX_LOG2 ? byteCount : 1 << log2);
}

/** Ends the borrower's use of it. */
export function giveBackMemory(memory: Memory): void {
  const ofItsSize = idle[log2Of(memory.bytes.length) - MIN_LOG2];
  if (ofItsSize === undefined) return;
  // Two would work in it.
  invariant(!ofItsSize.includes(memory), 'memory is given back once');
  if (ofItsSize.length < MAX_IDLE) ofItsSize.push(memory);
}

function log2Of(byteCount: number): number {
  return Math.max(MIN_LOG2, 32 - Math.clz32(byteCount - 1));
}

function memoryOf(byteCount: number): Memory {
  const bytes = new Uint8Array(byteCount);
  return { bytes, view: viewOf(bytes) };
}
