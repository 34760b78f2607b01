import { DeviceError } from '../core/index.ts';
import type { RingOptions } from './device-queue.ts';
import type { DriverMemory } from './driver-memory.ts';

/** What of a device bears on how its queues are used. */
export interface QueueTraits {
  readonly queueSizeMax: number;
  readonly sizeMaxBytes: number;
  readonly segMax: number;
  readonly sectorBytes: number;
  /** Queues to use. */
  readonly queueCount: number;
  readonly packed: boolean;
  readonly options: RingOptions;
}

/** How the slots use a device's queues. */
export interface SlotPlan {
  readonly queueCount: number;
  /** Entries of each. */
  readonly queueSize: number;
  readonly slotCount: number;
  /** Most slots of one queue. */
  readonly queueSlots: number;
  /** Most data in one request: whole sectors. */
  readonly chunkBytes: number;
  readonly segmentBytes: number;
  readonly segmentCount: number;
}

/**
 * Fits the wanted slots into the queues, so that all of them can be in flight: header, data segments and status of each
 * in the ring itself, or in a table of its own behind one descriptor. A chain is never longer than its queue (virtio
 * 2.7.5.3.1).
 * @param tableSize most descriptors in an indirect table
 * @throws DeviceError EIO where the device leaves no room for one sector in one request
 */
export function planSlots(device: QueueTraits, wanted: Required<DriverMemory>, tableSize: number): SlotPlan {
  const { sectorBytes, queueCount } = device;
  const { indirect } = device.options;
  const ringSize = floorPowerOfTwo(Math.min(device.queueSizeMax, wanted.ringSizeMax));
  const wantedSlots = Math.ceil(wanted.slotCount / queueCount);
  const segmentBytes = Math.min(device.sizeMaxBytes, wanted.slotBytes);
  // Many small segments would leave room for few requests: rather shorter requests, and all slots.
  const fairCount = Math.max(Math.ceil(sectorBytes / segmentBytes), Math.floor(ringSize / wantedSlots) - 2);
  const fullCount = Math.ceil(wanted.slotBytes / segmentBytes);
  const roomCount = indirect ? Math.min(ringSize, tableSize) - 2 : Math.min(fairCount, ringSize - 2);
  const segmentCount = Math.min(fullCount, device.segMax, roomCount);
  const roomBytes = Math.min(wanted.slotBytes, segmentCount * segmentBytes);
  const chunkBytes = roomBytes - (roomBytes % sectorBytes);
  if (!(segmentCount >= 1 && chunkBytes >= sectorBytes)) {
    const limits = `queue of ${device.queueSizeMax}, SEG_MAX ${device.segMax}, SIZE_MAX ${device.sizeMaxBytes}`;
    throw new DeviceError('EIO', `device limits: expected room for a sector of ${sectorBytes} bytes, got a ${limits}`);
  }
  const chainLength = segmentCount + 2;
  const queueSlots = Math.min(wantedSlots, indirect ? ringSize : Math.floor(ringSize / chainLength));
  const entryCount = indirect ? Math.max(queueSlots, chainLength) : queueSlots * chainLength;
  const queueSize = Math.min(ringSize, 2 * floorPowerOfTwo(entryCount - 1));
  const slotCount = Math.min(wanted.slotCount, queueSlots * queueCount);
  return { queueCount, queueSize, slotCount, queueSlots, chunkBytes, segmentBytes, segmentCount };
}

function floorPowerOfTwo(value: number): number {
  return value < 1 ? 0 : 2 ** (31 - Math.clz32(value));
}
