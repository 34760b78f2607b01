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

/** What makes the checkpointing store sound; the benchmark takes one away. */
export interface CheckpointRules {
  /** Each record carries the generation of the checkpoint that it follows. */
  readonly generations: boolean;
  /** The frontier is where the next record goes. */
  readonly frontierIsNext: boolean;
  /** A checkpoint stands in an area of its own; otherwise in the log, behind the records that it stands for. */
  readonly ownArea: boolean;
  /** A log that is newer than the superblock is reported. */
  readonly noticesNewerLog: boolean;
}

export const soundCheckpoint: CheckpointRules = {
  generations: true,
  frontierIsNext: true,
  ownArea: true,
  noticesNewerLog: true,
};

const AREA_SECTORS = 3;
const AREAS = 2;
const LOG = AREAS + 2 * AREA_SECTORS;
/** After so many records the log starts at its beginning again, with a checkpoint. */
const RECORDS = 4;
const LOG_SECTORS = 12;
const RECORD_MAGIC = 0x4452_4352;
const AREA_MAGIC = 0x4153_4352;
const AT = { generation: SEALED_AT, kind: SEALED_AT + 4, value: SEALED_AT + 8 };
const KIND_PUT = 0;
const KIND_DELETE = 1;
/** Everything before it is void: a checkpoint in the log starts with it. */
const KIND_RESET = 2;
const AREA_BODY_AT = SEALED_AT + 8;
const AREA_SLOT_BYTES = 400;
const AREA_SLOTS = 3;

type LogChange = Change | { readonly kind: 'reset' };

/** A map in memory, a snapshot of it in one of two areas, and a log of what changed since. */
export function checkpointStore(rules: CheckpointRules = soundCheckpoint): Store {
  return {
    name: 'checkpointing store',
    sectorCount: LOG + LOG_SECTORS,
    format(device) {
      device.write(AREAS, areaOf(new Map(), 1));
      new SuperblockSlots(device, 0, 1, soundSlots).store();
    },
    open: (device) => new CheckpointStore(device, rules),
  };
}

class CheckpointStore implements OpenStore {
  readonly hasLatched = false;
  readonly #device: BlockDevice;
  readonly #rules: CheckpointRules;
  readonly #superblock: SuperblockSlots;
  readonly #values: Map<string, Uint8Array>;
  /** Where the next record goes. */
  #next: number;
  #hasLife = false;

  constructor(device: BlockDevice, rules: CheckpointRules) {
    this.#device = device;
    this.#rules = rules;
    this.#superblock = new SuperblockSlots(device, 0, 1, soundSlots);
    if (!this.#superblock.load()) damaged('checkpointing store: both superblocks are lost');
    const view = viewOf(this.#superblock.bytes);
    this.#next = view.getUint32(SLOT_BODY_AT + 4, true);
    this.#values = rules.ownArea ? this.#readArea(view.getUint32(SLOT_BODY_AT, true)) : new Map();
    this.#replay();
    this.#checkLog();
  }

  apply(op: KeyValueOp): void {
    const changes = changesOf(op);
    if (changes.length > 1) throw new CodedError('EINVAL', 'checkpointing store: it has no transactions');
    for (const change of changes) {
      this.#openLife();
      if (this.#next >= RECORDS) this.#checkpointTo(0);
      this.#append(change);
      this.#device.flush();
      applyChange(this.#values, change);
    }
  }

  checkpoint(): void {
    this.#hasLife = true;
    this.#checkpointTo(this.#next);
  }

  find(): Found {
    return intact(this.#values);
  }

  close(): void {}

  /** A log that goes on starts with a checkpoint: if the superblock that was read was not the newest, it is now. */
  #openLife(): void {
    if (!this.#hasLife && this.#rules.ownArea) this.#checkpointTo(this.#next);
    this.#hasLife = true;
  }

  /** Writes a snapshot, then the superblock that names it and the place from which the log goes on. */
  #checkpointTo(frontier: number): void {
    const view = viewOf(this.#superblock.bytes);
    if (this.#rules.ownArea) {
      const area = 1 - view.getUint32(SLOT_BODY_AT, true);
      this.#device.write(areaSector(area), areaOf(this.#values, this.#superblock.generation + 1));
      view.setUint32(SLOT_BODY_AT, area, true);
      this.#next = frontier;
    } else {
      frontier = this.#next;
      this.#append({ kind: 'reset' });
      for (const [key, value] of this.#values) this.#append({ kind: 'put', key, value });
    }
    this.#device.flush();
    view.setUint32(SLOT_BODY_AT + 4, this.#rules.frontierIsNext ? frontier : frontier + 1, true);
    this.#superblock.store();
  }

  #append(change: LogChange): void {
    if (this.#next >= LOG_SECTORS) throw new CodedError('ENOSPC', 'checkpointing store: its log is full');
    const record = new Uint8Array(SECTOR);
    const view = viewOf(record);
    view.setUint32(AT.generation, this.#rules.ownArea ? this.#superblock.generation : 1, true);
    if (change.kind === 'reset') view.setUint8(AT.kind, KIND_RESET);
    else {
      view.setUint8(AT.kind, change.kind === 'put' ? KIND_PUT : KIND_DELETE);
      view.setUint8(AT.kind + 1, change.key.length);
      putText(record, AT.value, change.key);
    }
    if (change.kind === 'put') {
      view.setUint16(AT.kind + 2, change.value.length, true);
      record.set(change.value, AT.value + change.key.length);
    }
    seal(record, RECORD_MAGIC, this.#next);
    this.#device.write(LOG + this.#next++, record);
  }

  #replay(): void {
    for (let record = this.#read(); record !== undefined && this.#isOurs(record); record = this.#read()) {
      this.#take(record);
      this.#next++;
    }
  }

  #take(record: Uint8Array): void {
    const view = viewOf(record);
    const kind = view.getUint8(AT.kind);
    if (kind === KIND_RESET) {
      this.#values.clear();
      return;
    }
    const valueAt = AT.value + view.getUint8(AT.kind + 1);
    const key = getText(record, AT.value, valueAt - AT.value);
    if (kind === KIND_DELETE) this.#values.delete(key);
    else this.#values.set(key, record.slice(valueAt, valueAt + view.getUint16(AT.kind + 2, true)));
  }

  #isOurs(record: Uint8Array): boolean {
    if (!this.#rules.generations || !this.#rules.ownArea) return true;
    return viewOf(record).getUint32(AT.generation, true) === this.#superblock.generation;
  }

  /** The record at the place of the next one. */
  #read(): Uint8Array | undefined {
    if (this.#next >= LOG_SECTORS) return undefined;
    const record = new Uint8Array(SECTOR);
    this.#device.read(LOG + this.#next, record);
    return isSealed(record, RECORD_MAGIC, this.#next) ? record : undefined;
  }

  /**
   * A record of a later checkpoint says that there is a superblock that was not read; one of this checkpoint behind the
   * end, that there is a record before it: each is durable before the next.
   */
  #checkLog(): void {
    const end = this.#next;
    for (this.#next = 0; this.#next < LOG_SECTORS; this.#next++) {
      const record = this.#read();
      if (record === undefined) continue;
      const generation = viewOf(record).getUint32(AT.generation, true);
      if (generation > this.#superblock.generation && this.#rules.noticesNewerLog) {
        damaged(`checkpointing store: the log is of checkpoint ${generation}, the superblock of an earlier one`);
      }
      const isOurs = this.#rules.generations && this.#rules.ownArea && generation === this.#superblock.generation;
      if (isOurs && this.#next >= end)
        damaged(`checkpointing store: the log ends at ${end}, and goes on at ${this.#next}`);
    }
    this.#next = end;
  }

  #readArea(area: number): Map<string, Uint8Array> {
    const bytes = new Uint8Array(AREA_SECTORS * SECTOR);
    this.#device.read(areaSector(area), bytes);
    const view = viewOf(bytes);
    const isRight = isSealed(bytes, AREA_MAGIC, 0) && view.getUint32(SEALED_AT, true) === this.#superblock.generation;
    if (!isRight) damaged('checkpointing store: the snapshot is damaged');
    const values = new Map<string, Uint8Array>();
    for (let slot = 0; slot < AREA_SLOTS; slot++) {
      const at = AREA_BODY_AT + slot * AREA_SLOT_BYTES;
      const keyBytes = view.getUint8(at);
      if (keyBytes === 0) continue;
      const valueAt = at + 4 + keyBytes;
      values.set(getText(bytes, at + 4, keyBytes), bytes.slice(valueAt, valueAt + view.getUint16(at + 2, true)));
    }
    return values;
  }
}

function areaSector(area: number): number {
  return AREAS + area * AREA_SECTORS;
}

function areaOf(values: ReadonlyMap<string, Uint8Array>, generation: number): Uint8Array {
  const bytes = new Uint8Array(AREA_SECTORS * SECTOR);
  const view = viewOf(bytes);
  if (values.size > AREA_SLOTS) throw new CodedError('ENOSPC', `checkpointing store: ${AREA_SLOTS} keys at most`);
  view.setUint32(SEALED_AT, generation, true);
  for (const [slot, [key, value]] of [...values].entries()) {
    const at = AREA_BODY_AT + slot * AREA_SLOT_BYTES;
    view.setUint8(at, key.length);
    view.setUint16(at + 2, value.length, true);
    putText(bytes, at + 4, key);
    bytes.set(value, at + 4 + key.length);
  }
  seal(bytes, AREA_MAGIC, 0);
  return bytes;
}
