import type { BlockDevice } from '../../blockdev/index.ts';
import { CodedError, viewOf } from '../../core/index.ts';
import type { KeyValueOp } from '../../explore/index.ts';
import { getText, isSealed, putText, SEALED_AT, SECTOR, seal } from './sealed.ts';
import { SLOT_BODY_AT, SuperblockSlots, soundSlots } from './slots.ts';
import {
  applyChange,
  type Change,
  changesOf,
  damaged,
  type Found,
  intact,
  type OpenStore,
  type Store,
} from './store.ts';

/** What makes the segmented log sound; the benchmark takes one away. */
export interface SegmentRules {
  /** A hole ends the log, even where the next segment has records. */
  readonly endsAtHole: boolean;
  /** A new segment is durable before the superblock counts it. */
  readonly growsFirst: boolean;
  /** The superblock that counts a new segment is durable before the segment is used. */
  readonly syncsSize: boolean;
}

export const soundSegments: SegmentRules = { endsAtHole: true, growsFirst: true, syncsSize: true };

const SEGMENTS = 2;
const RECORDS = 2;
const SEGMENT_SECTORS = RECORDS + 1;
const MAX_SEGMENTS = 6;
const SEGMENT_MAGIC = 0x4745_5347;
const RECORD_MAGIC = 0x4352_5347;
const AT = { sequence: SEALED_AT, flags: SEALED_AT + 4, keyBytes: SEALED_AT + 5, valueBytes: SEALED_AT + 6 };
const BODY_AT = SEALED_AT + 8;
const FLAG_LAST = 1;
const FLAG_DELETE = 2;

/** A log in small segments; the superblock counts them. What is behind the end is wiped before the log goes on. */
export function segmentStore(rules: SegmentRules = soundSegments): Store {
  return {
    name: 'segmented log',
    sectorCount: SEGMENTS + MAX_SEGMENTS * SEGMENT_SECTORS,
    format(device) {
      device.write(SEGMENTS, segmentHeader(0));
      const superblock = new SuperblockSlots(device, 0, 1, soundSlots);
      viewOf(superblock.bytes).setUint32(SLOT_BODY_AT, 1, true);
      superblock.store();
    },
    open: (device) => new SegmentStore(device, rules),
  };
}

class SegmentStore implements OpenStore {
  readonly hasLatched = false;
  readonly #device: BlockDevice;
  readonly #rules: SegmentRules;
  readonly #superblock: SuperblockSlots;
  readonly #values = new Map<string, Uint8Array>();
  #segments: number;
  /** How many records there are, and so the number of the last one. */
  #records = 0;
  #isWiped = false;

  constructor(device: BlockDevice, rules: SegmentRules) {
    this.#device = device;
    this.#rules = rules;
    this.#superblock = new SuperblockSlots(device, 0, 1, soundSlots);
    if (!this.#superblock.load()) damaged('segmented log: both superblocks are lost');
    this.#segments = viewOf(this.#superblock.bytes).getUint32(SLOT_BODY_AT, true);
    const header = new Uint8Array(SECTOR);
    for (let segment = 0; segment < this.#segments; segment++) {
      device.read(sectorOf(segment), header);
      if (!isSealed(header, SEGMENT_MAGIC, segment)) damaged(`segmented log: segment ${segment} has no header`);
    }
    this.#replay();
  }

  apply(op: KeyValueOp): void {
    const changes = changesOf(op);
    this.#wipe();
    const grown = this.#segments;
    while (this.#records + changes.length > this.#segments * RECORDS) this.#grow();
    for (const [i, change] of changes.entries()) {
      this.#device.write(placeOf(this.#records), this.#encode(change, i === changes.length - 1));
      this.#records++;
      applyChange(this.#values, change);
    }
    this.#device.flush();
    if (!this.#rules.syncsSize && grown < this.#segments) this.#count(false);
  }

  checkpoint(): void {}

  find(): Found {
    return intact(this.#values);
  }

  close(): void {}

  #grow(): void {
    if (this.#segments === MAX_SEGMENTS) throw new CodedError('ENOSPC', 'segmented log: it is full');
    this.#device.write(sectorOf(this.#segments), segmentHeader(this.#segments));
    this.#segments++;
    if (this.#rules.growsFirst) this.#device.flush();
    if (this.#rules.syncsSize) this.#count(true);
  }

  #count(flushes: boolean): void {
    viewOf(this.#superblock.bytes).setUint32(SLOT_BODY_AT, this.#segments, true);
    this.#superblock.store(flushes);
  }

  /** Durably, so that no record from before a cut follows one from after it. */
  #wipe(): void {
    if (this.#isWiped) return;
    const zeros = new Uint8Array(SECTOR);
    for (let record = this.#records; record < this.#segments * RECORDS; record++) {
      this.#device.write(placeOf(record), zeros);
    }
    this.#device.flush();
    this.#isWiped = true;
  }

  #encode(change: Change, isLast: boolean): Uint8Array {
    const record = new Uint8Array(SECTOR);
    const view = viewOf(record);
    const value = change.kind === 'put' ? change.value : new Uint8Array(0);
    view.setUint32(AT.sequence, this.#records + 1, true);
    view.setUint8(AT.flags, (isLast ? FLAG_LAST : 0) | (change.kind === 'put' ? 0 : FLAG_DELETE));
    view.setUint8(AT.keyBytes, change.key.length);
    view.setUint16(AT.valueBytes, value.length, true);
    putText(record, BODY_AT, change.key);
    record.set(value, BODY_AT + change.key.length);
    seal(record, RECORD_MAGIC, 0);
    return record;
  }

  #replay(): void {
    const record = new Uint8Array(SECTOR);
    let batch: Change[] = [];
    for (let at = 0; at < this.#segments * RECORDS; at++) {
      this.#device.read(placeOf(at), record);
      const view = viewOf(record);
      if (!isSealed(record, RECORD_MAGIC, 0) || view.getUint32(AT.sequence, true) !== at + 1) {
        if (this.#rules.endsAtHole) return;
        // On with the next segment.
        at += RECORDS - 1 - (at % RECORDS);
        continue;
      }
      const flags = view.getUint8(AT.flags);
      batch.push(changeIn(record, flags));
      if ((flags & FLAG_LAST) === 0) continue;
      for (const change of batch) applyChange(this.#values, change);
      batch = [];
      this.#records = at + 1;
    }
  }
}

function changeIn(record: Uint8Array, flags: number): Change {
  const view = viewOf(record);
  const keyBytes = view.getUint8(AT.keyBytes);
  const key = getText(record, BODY_AT, keyBytes);
  if ((flags & FLAG_DELETE) !== 0) return { kind: 'delete', key };
  const start = BODY_AT + keyBytes;
  return { kind: 'put', key, value: record.slice(start, start + view.getUint16(AT.valueBytes, true)) };
}

function segmentHeader(segment: number): Uint8Array {
  const header = new Uint8Array(SECTOR);
  seal(header, SEGMENT_MAGIC, segment);
  return header;
}

function sectorOf(segment: number): number {
  return SEGMENTS + segment * SEGMENT_SECTORS;
}

/** The sector of a record. */
function placeOf(record: number): number {
  return sectorOf(Math.floor(record / RECORDS)) + 1 + (record % RECORDS);
}
