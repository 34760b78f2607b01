import { assertInteger } from '../core/index.ts';
import { HEADER_BYTES } from './blk-layout.ts';
import { alignUp, DESC_BYTES, layOutQueue, queueEnd } from './split-layout.ts';

/** How much guest memory the driver takes for itself. */
export interface DriverMemory {
  /** First guest address of the driver's memory. Default 0. */
  readonly start?: number;
  /** Requests that can be in flight at once, over all queues. Default 8. */
  readonly slotCount?: number;
  /** Bytes of data that one request can carry; a longer transfer is split. Default 65536. */
  readonly slotBytes?: number;
  /** Most entries of a ring. Default 128. */
  readonly ringSizeMax?: number;
  /** Most queues to use, where the device has several (MQ): the requests are spread over them. Default 1. */
  readonly queueCountMax?: number;
}

/** Header (16 bytes) and status byte of a slot, padded. */
export const SLOT_HEAD_BYTES = 32;
export const SLOT_STATUS: number = HEADER_BYTES;

/** @throws TypeError, RangeError */
export function resolveDriverMemory(options: DriverMemory): Required<DriverMemory> {
  const { start = 0, slotCount = 8, slotBytes = 65536, ringSizeMax = 128, queueCountMax = 1 } = options;
  assertInteger(start, 'start');
  assertInteger(slotCount, 'slotCount', 1, 1024);
  assertInteger(slotBytes, 'slotBytes', 4096, 2 ** 30);
  assertInteger(ringSizeMax, 'ringSizeMax', 4, 32768);
  assertInteger(queueCountMax, 'queueCountMax', 1, 256);
  return { start, slotCount, slotBytes, ringSizeMax, queueCountMax };
}

/** Where each part of the driver's memory begins: the rings, then heads, indirect tables and data of the slots. */
export interface DriverLayout {
  /** From one ring to the next, from `start` on. Of the two formats the split one is the larger. */
  readonly ringBytes: number;
  readonly heads: number;
  readonly tables: number;
  /** Most descriptors in a table. */
  readonly tableSize: number;
  readonly data: number;
  readonly end: number;
}

export function layOutDriverMemory(memory: Required<DriverMemory>): DriverLayout {
  const { start, slotCount, slotBytes, ringSizeMax, queueCountMax } = memory;
  const ringsStart = alignUp(start, DESC_BYTES);
  const ringBytes = alignUp(queueEnd(layOutQueue(ringsStart, ringSizeMax)) - ringsStart, DESC_BYTES);
  const heads = alignUp(ringsStart + queueCountMax * ringBytes, SLOT_HEAD_BYTES);
  const tables = heads + slotCount * SLOT_HEAD_BYTES;
  // No segment that is worth a descriptor is shorter than a sector.
  const tableSize = Math.min(ringSizeMax, Math.ceil(slotBytes / 512) + 2);
  const data = alignUp(tables + slotCount * tableSize * DESC_BYTES, 4096);
  return { ringBytes, heads, tables, tableSize, data, end: data + slotCount * slotBytes };
}

/** Bytes of guest memory that a driver with these options uses, from `start` on. */
export function driverMemoryBytes(options: DriverMemory = {}): number {
  const resolved = resolveDriverMemory(options);
  return layOutDriverMemory(resolved).end - resolved.start;
}
