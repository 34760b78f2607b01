/**
 * The split virtqueue in guest memory (virtio 2.7): a descriptor table, an available ring that only the driver writes,
 * and a used ring that only the device writes. All little-endian.
 */

/** Largest queue (2.7). */
export const QUEUE_SIZE_LIMIT = 32768;

/** Alignment of the three parts (2.7, table). */
export const DESC_ALIGN = 16;
export const AVAIL_ALIGN = 2;
export const USED_ALIGN = 4;

/** struct virtq_desc (2.7.5): le64 addr, le32 len, le16 flags, le16 next. */
export const DESC_ADDR = 0;
export const DESC_LEN = 8;
export const DESC_FLAGS = 12;
export const DESC_NEXT = 14;
export const DESC_BYTES = 16;

/** Flags of a descriptor (2.7.5). */
export const DESC_F_NEXT = 1;
export const DESC_F_WRITE = 2;
export const DESC_F_INDIRECT = 4;

/** A chain may not be longer in total (2.7.5.2). */
export const CHAIN_BYTES_LIMIT = 0x1_0000_0000;

/** struct virtq_avail (2.7.6): le16 flags, le16 idx, le16 ring[], le16 used_event. */
export const AVAIL_FLAGS = 0;
export const AVAIL_IDX = 2;
export const AVAIL_RING = 4;
export const AVAIL_F_NO_INTERRUPT = 1;

/** struct virtq_used (2.7.8): le16 flags, le16 idx, struct {le32 id, le32 len} ring[], le16 avail_event. */
export const USED_FLAGS = 0;
export const USED_IDX = 2;
export const USED_RING = 4;
export const USED_ELEM_BYTES = 8;
export const USED_F_NO_NOTIFY = 1;

/** Both indices count freely and wrap at 2^16 (2.7.13.3). */
export const INDEX_MASK = 0xffff;

/** Bytes of each part (2.7, table; the event fields at the ends are counted in). */
export function descTableBytes(queueSize: number): number {
  return DESC_BYTES * queueSize;
}

export function availRingBytes(queueSize: number): number {
  return AVAIL_RING + 2 * queueSize + 2;
}

export function usedRingBytes(queueSize: number): number {
  return USED_RING + USED_ELEM_BYTES * queueSize + 2;
}

/** Where a queue lies and how large it is. Addresses are guest-physical; -1 is one above 2^53 - 1. */
export interface QueueAddresses {
  readonly size: number;
  readonly desc: number;
  /** The available ring ("driver area"). */
  readonly driver: number;
  /** The used ring ("device area"). */
  readonly device: number;
}

/** Lays the three parts out one behind the other, from `start` on. */
export function layOutQueue(start: number, size: number): QueueAddresses {
  const desc = alignUp(start, DESC_ALIGN);
  const driver = desc + descTableBytes(size);
  return { size, desc, driver, device: alignUp(driver + availRingBytes(size), USED_ALIGN) };
}

/** The first address behind a queue. */
export function queueEnd(queue: QueueAddresses): number {
  return queue.device + usedRingBytes(queue.size);
}

/** Rounds up to a multiple of `alignment`. */
export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
