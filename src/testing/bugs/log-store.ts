import type { BlockDevice } from '../../blockdev/index.ts';
import { CodedError, codeOf, viewOf } from '../../core/index.ts';
import type { KeyValueOp } from '../../explore/index.ts';
import { isSealed, putText, SEALED_AT, SECTOR, seal } from './sealed.ts';
import { SuperblockSlots, soundSlots } from './slots.ts';
import { type Change, changesOf, type Found, type OpenStore, type Store } from './store.ts';

/** What makes the log sound; the benchmark takes one away. */
export interface LogRules {
  /** The checksum covers the length of the value. */
  readonly coversLength: boolean;
  /** The checksum covers the address. */
  readonly coversAddress: boolean;
  /** No length is used before it was held to its bounds. */
  readonly checksLength: boolean;
  /** Nothing of a record is decoded before its checksum was checked. */
  readonly verifiesFirst: boolean;
  /** A torn tail ends the log; otherwise recovery fails. */
  readonly acceptsTornTail: boolean;
  /** The log goes on at its end, not behind the torn record that follows it. */
  readonly appendsAtEnd: boolean;
  /** What hides records of an earlier life behind the end: the life in each record, or a block of zeros behind the last. */
  readonly hides: 'lives' | 'zero block';
  /** A batch shows once its last record is there. */
  readonly batches: boolean;
  /** Sequence numbers go on from the highest in the log, not from the highest of a live key. */
  readonly seedsFromLog: boolean;
  /** A damaged record that later ones prove to have been durable is reported as a loss. */
  readonly reportsLoss: boolean;
  /** Looks past a bad record for later ones. */
  readonly looksAhead: boolean;
  /** An unreadable sector counts as a bad record; otherwise the store does not open. */
  readonly toleratesUnreadable: boolean;
  /** After a failed write nothing more is written; otherwise the log goes on behind what it meant to write. */
  readonly latches: boolean;
}

export const soundLog: LogRules = {
  coversLength: true,
  coversAddress: true,
  checksLength: true,
  verifiesFirst: true,
  acceptsTornTail: true,
  appendsAtEnd: true,
  hides: 'lives',
  batches: true,
  seedsFromLog: true,
  reportsLoss: true,
  looksAhead: true,
  toleratesUnreadable: true,
  latches: true,
};

const MAGIC = 0x4345_524c;
const AT = {
  life: SEALED_AT,
  sequence: SEALED_AT + 4,
  /** Every record up to this one was durable when this one was written. */
  durable: SEALED_AT + 8,
  flags: SEALED_AT + 12,
  keyBytes: SEALED_AT + 14,
  valueBytes: SEALED_AT + 16,
  value: SEALED_AT + 24,
};
const FLAG_FIRST = 1;
const FLAG_LAST = 2;
const FLAG_DELETE = 4;
/** The last two bytes of a record: where its key starts, which is behind the value. */
const TRAILER_BYTES = 2;
const MAX_RECORD_SECTORS = 8;
const START = 2;

interface LogRecord {
  readonly sector: number;
  readonly sectors: number;
  readonly life: number;
  readonly sequence: number;
  readonly durable: number;
  readonly flags: number;
  readonly key: string;
  readonly value: Uint8Array;
}

/** An append-only log of records with multi-record batches, each flushed; a new life of it starts with each opening. */
export function logStore(rules: LogRules = soundLog): Store {
  return {
    name: 'record log',
    sectorCount: 32,
    format(device) {
      const superblock = new SuperblockSlots(device, 0, 1, soundSlots);
      superblock.store();
      superblock.store();
    },
    open: (device) => new LogStore(device, rules),
  };
}

class LogStore implements OpenStore {
  hasLatched = false;
  readonly #device: BlockDevice;
  readonly #rules: LogRules;
  readonly #superblock: SuperblockSlots;
  readonly #values = new Map<string, { value: Uint8Array; sequence: number }>();
  /** Sequence numbers below it belong to a stretch of which something was lost. */
  #lostBelow = 0;
  #tail = START;
  #sequence = 0;
  #life = 0;
  #hasLife = false;

  constructor(device: BlockDevice, rules: LogRules) {
    this.#device = device;
    this.#rules = rules;
    this.#superblock = new SuperblockSlots(device, 0, 1, soundSlots);
    if (!this.#superblock.load()) throw new CodedError('EINTEGRITY', 'log: both superblocks are lost');
    this.#replay();
    if (!rules.seedsFromLog) this.#sequence = Math.max(0, ...[...this.#values.values()].map((one) => one.sequence));
  }

  apply(op: KeyValueOp): void {
    if (this.hasLatched) throw new CodedError('EIO', 'log: a write has failed: open it again');
    this.#openLife();
    const changes = changesOf(op);
    const from = this.#sequence;
    for (const [i, change] of changes.entries()) {
      const flags = (i === 0 ? FLAG_FIRST : 0) | (i === changes.length - 1 ? FLAG_LAST : 0);
      this.#append(this.#encode(change, from + 1 + i, from, flags));
    }
    this.#guard(() => this.#device.flush());
    this.#sequence = from + changes.length;
    for (const [i, change] of changes.entries()) this.#take(change, from + 1 + i);
  }

  checkpoint(): void {}

  find(): Found {
    const values = new Map<string, Uint8Array>();
    const damaged = new Set<string>();
    for (const [key, { value, sequence }] of this.#values) {
      if (sequence < this.#lostBelow) damaged.add(key);
      else values.set(key, value);
    }
    return { values, damaged, hasUnknownLoss: this.#lostBelow > 0, refused: undefined };
  }

  close(): void {}

  #take(change: Change, sequence: number): void {
    if (change.kind === 'put') this.#values.set(change.key, { value: change.value, sequence });
    else this.#values.delete(change.key);
  }

  /** The superblock is a life's number: durable before its first record. */
  #openLife(): void {
    if (this.#hasLife || this.#rules.hides !== 'lives') return;
    this.#superblock.generation = Math.max(this.#superblock.generation, this.#life);
    this.#guard(() => this.#superblock.store());
    this.#life = this.#superblock.generation;
    this.#hasLife = true;
  }

  #append(record: Uint8Array): void {
    const sector = this.#tail;
    const end = sector + record.length / SECTOR;
    if (end + 1 > this.#device.sectorCount) throw new CodedError('ENOSPC', 'log: it is full');
    if (!this.#rules.latches) this.#tail = end;
    this.#guard(() => this.#device.write(sector, record));
    if (this.#rules.hides === 'zero block') this.#guard(() => this.#device.write(end, new Uint8Array(SECTOR)));
    this.#tail = end;
  }

  #guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (this.#rules.latches) this.hasLatched = true;
      throw error;
    }
  }

  #encode(change: Change, sequence: number, durable: number, flags: number): Uint8Array {
    const value = change.kind === 'put' ? change.value : new Uint8Array(0);
    const record = new Uint8Array(sectorsFor(value.length, change.key.length) * SECTOR);
    const view = viewOf(record);
    view.setUint32(AT.life, this.#life, true);
    view.setUint32(AT.sequence, sequence, true);
    view.setUint32(AT.durable, durable, true);
    view.setUint8(AT.flags, change.kind === 'put' ? flags : flags | FLAG_DELETE);
    view.setUint8(AT.keyBytes, change.key.length);
    record.set(value, AT.value);
    putText(record, AT.value + value.length, change.key);
    view.setUint16(record.length - TRAILER_BYTES, AT.value + value.length, true);
    if (this.#rules.coversLength) view.setUint32(AT.valueBytes, value.length, true);
    seal(record, MAGIC, this.#rules.coversAddress ? this.#tail : 0);
    view.setUint32(AT.valueBytes, value.length, true);
    return record;
  }

  #replay(): void {
    let batch: LogRecord[] = [];
    let life = 0;
    for (let at = START; at < this.#device.sectorCount; ) {
      const expected = this.#sequence + batch.length + 1;
      const record = this.#read(at);
      if (record !== undefined && record.sequence === expected && record.life >= life) {
        if ((record.flags & FLAG_FIRST) !== 0) batch = [];
        batch.push(record);
        life = record.life;
        at += record.sectors;
        if ((record.flags & FLAG_LAST) === 0 && this.#rules.batches) continue;
        this.#takeBatch(batch, at);
        batch = [];
        continue;
      }
      const next = this.#rules.looksAhead ? this.#evidenceAfter(at, this.#sequence + 1) : undefined;
      if (next === undefined) {
        this.#endAt(at);
        break;
      }
      // What stands there now was durable once, so what stood here was.
      if (this.#rules.reportsLoss) this.#lostBelow = next.sequence;
      this.#sequence = next.sequence - 1;
      batch = [];
      at = next.sector;
    }
    this.#life = Math.max(life, this.#superblock.generation);
  }

  #takeBatch(batch: readonly LogRecord[], end: number): void {
    for (const record of batch) {
      const { key, value, sequence, flags } = record;
      this.#take((flags & FLAG_DELETE) === 0 ? { kind: 'put', key, value } : { kind: 'delete', key }, sequence);
      this.#sequence = sequence;
    }
    this.#tail = end;
  }

  /** The log ends at its last whole batch; `bad` is where something else stands, or nothing. */
  #endAt(bad: number): void {
    const { acceptsTornTail, appendsAtEnd } = this.#rules;
    if (acceptsTornTail && appendsAtEnd) return;
    const header = new Uint8Array(SECTOR);
    this.#device.read(bad, header);
    const view = viewOf(header);
    const wasRecord = view.getUint32(0, true) === MAGIC && view.getUint32(AT.sequence, true) > this.#sequence;
    if (!wasRecord) return;
    if (!acceptsTornTail) throw new Error(`log: checksum mismatch in the record at sector ${bad}`);
    this.#tail = bad + Math.min(MAX_RECORD_SECTORS, sectorsFor(view.getUint32(AT.valueBytes, true), 1));
  }

  /** The first record of a batch after a bad one, if some record behind it shows that `sequence` was durable. */
  #evidenceAfter(bad: number, sequence: number): LogRecord | undefined {
    let resume: LogRecord | undefined;
    for (let at = bad; at < this.#device.sectorCount; ) {
      const record = this.#read(at);
      if (record === undefined || record.sequence <= sequence) {
        at += record?.sectors ?? 1;
        continue;
      }
      if ((record.flags & FLAG_FIRST) !== 0) resume ??= record;
      if (record.durable >= sequence) return resume ?? record;
      at += record.sectors;
    }
    return undefined;
  }

  #read(sector: number): LogRecord | undefined {
    try {
      return this.#decode(sector);
    } catch (error) {
      if (codeOf(error) === 'EIO' && this.#rules.toleratesUnreadable) return undefined;
      throw error;
    }
  }

  #decode(sector: number): LogRecord | undefined {
    const { checksLength, verifiesFirst, coversLength, coversAddress } = this.#rules;
    const header = new Uint8Array(SECTOR);
    this.#device.read(sector, header);
    const view = viewOf(header);
    if (view.getUint32(0, true) !== MAGIC) return undefined;
    const valueBytes = view.getUint32(AT.valueBytes, true);
    const keyBytes = view.getUint8(AT.keyBytes);
    const sectors = sectorsFor(valueBytes, keyBytes);
    const isSane = sectors <= MAX_RECORD_SECTORS && sector + sectors <= this.#device.sectorCount;
    if (checksLength && !isSane) return undefined;
    const bytes = this.#rest(sector, sectors, header);
    const whole = viewOf(bytes);
    const keyOf = () => {
      const keyAt = whole.getUint16(bytes.length - TRAILER_BYTES, true);
      return textIn(viewOf(bytes.subarray(AT.value)), keyAt - AT.value, keyBytes);
    };
    const early = verifiesFirst ? undefined : keyOf();
    if (!coversLength) whole.setUint32(AT.valueBytes, 0, true);
    if (!isSealed(bytes, MAGIC, coversAddress ? sector : 0)) return undefined;
    return {
      sector,
      sectors,
      life: view.getUint32(AT.life, true),
      sequence: view.getUint32(AT.sequence, true),
      durable: view.getUint32(AT.durable, true),
      flags: view.getUint8(AT.flags),
      key: early ?? keyOf(),
      value: bytes.slice(AT.value, AT.value + valueBytes),
    };
  }

  /** The record whose first sector is `header`, read sector by sector. */
  #rest(sector: number, sectors: number, header: Uint8Array): Uint8Array {
    let bytes = header;
    for (let read = 1; read < sectors; read++) {
      const longer = new Uint8Array((read + 1) * SECTOR);
      longer.set(bytes);
      this.#device.read(sector + read, longer.subarray(read * SECTOR));
      bytes = longer;
    }
    return bytes;
  }
}

/** @throws RangeError for a place outside the view */
function textIn(view: DataView, at: number, length: number): string {
  let text = '';
  for (let i = 0; i < length; i++) text += String.fromCharCode(view.getUint8(at + i));
  return text;
}

function sectorsFor(valueBytes: number, keyBytes: number): number {
  return Math.ceil((AT.value + valueBytes + keyBytes + TRAILER_BYTES) / SECTOR);
}
