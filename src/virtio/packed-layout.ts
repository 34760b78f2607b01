/**
 * The packed virtqueue in guest memory (virtio 2.8): one ring of descriptors that both sides write, and for each side a
 * structure that says when it wants to be told. All little-endian. Flags and sizes that it has in common with the split
 * one are in split-layout.ts.
 */

/** struct pvirtq_desc (2.8.13): le64 addr, le32 len, le16 id, le16 flags. */
export const PACKED_ADDR = 0;
export const PACKED_LEN = 8;
export const PACKED_ID = 12;
export const PACKED_FLAGS = 14;

/** Flags that say whose a descriptor is, against the wrap counters (2.8.1). */
export const PACKED_F_AVAIL = 0x80;
export const PACKED_F_USED = 0x8000;

/** struct pvirtq_event_suppress (2.8.14): le16 offset with the wrap counter on top, le16 flags. */
export const EVENT_DESC = 0;
export const EVENT_FLAGS = 2;
export const EVENT_BYTES = 4;
/** Alignment of either structure (2.8.10.1). */
export const EVENT_ALIGN = 4;

/** Values of its flags (2.8.10); 3 is reserved. */
export const EVENT_F_ENABLE = 0;
export const EVENT_F_DISABLE = 1;
export const EVENT_F_DESC = 2;
export const EVENT_F_MASK = 3;

/** Top bit of a position: the wrap counter (2.8.14). */
export const WRAP_BIT = 0x8000;

/** A place in the ring as events have it: the entry, and the wrap counter above. */
export function packPosition(index: number, wrap: boolean): number {
  return wrap ? index | WRAP_BIT : index;
}

/** Flags of a descriptor that was made available while the wrap counter was `wrap` (2.8.1). */
export function availFlags(wrap: boolean): number {
  return wrap ? PACKED_F_AVAIL : PACKED_F_USED;
}

/** Flags of a descriptor that was used while the wrap counter was `wrap` (2.8.1). */
export function usedFlags(wrap: boolean): number {
  return wrap ? PACKED_F_AVAIL | PACKED_F_USED : 0;
}

/** Whether flags say that a descriptor is available to a device at that wrap counter. */
export function isAvail(flags: number, wrap: boolean): boolean {
  return (flags & (PACKED_F_AVAIL | PACKED_F_USED)) === availFlags(wrap);
}

/** Whether flags say that a descriptor is used, for a driver at that wrap counter. */
export function isUsed(flags: number, wrap: boolean): boolean {
  return (flags & (PACKED_F_AVAIL | PACKED_F_USED)) === usedFlags(wrap);
}

/**
 * Whether a move over `entryCount` entries that ended before `position` touched the one that the other side waits for.
 * @param event offset and wrap counter as the other side wrote them; an offset outside the ring is none that is touched
 * @param position where the next entry is written, packed
 */
export function passedPackedEvent(event: number, position: number, entryCount: number, size: number): boolean {
  // Both on a circle of two turns: the entries of a turn lie behind those of the turn before.
  const offset = event & ~WRAP_BIT;
  if (offset >= size) return false;
  const sameTurn = (event & WRAP_BIT) === (position & WRAP_BIT);
  const behind = (position & ~WRAP_BIT) - offset + (sameTurn ? 0 : size);
  return behind > 0 && behind <= entryCount;
}
