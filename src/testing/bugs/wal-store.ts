import type { BlockDevice } from '../../blockdev/index.ts';
import { CodedError, viewOf } from '../../core/index.ts';
import type { KeyValueOp } from '../../explore/index.ts';
import { getText, putText, SECTOR } from './sealed.ts';
import { type Change, changesOf, type Found, intact, type OpenStore, type Store } from './store.ts';

/** What makes the write-ahead store sound; the benchmark takes one away. */
export interface WalRules {
  /** What stands between the entry and its commit: a flush of the device, or only a commit that is itself durable. */
  readonly barrier: 'flush' | 'fua';
  /** The entry is written before its commit. */
  readonly entryFirst: boolean;
  /** The log holds the new bytes, not their difference from the old ones. */
  readonly physical: boolean;
  /** A recovery flushes the homes before it drops the log. */
  readonly flushesInRecovery: boolean;
  /** So does a checkpoint. */
  readonly flushesInCheckpoint: boolean;
  /** A checkpoint writes every page that changed. */
  readonly writesAllPages: boolean;
}

export const soundWal: WalRules = {
  barrier: 'flush',
  entryFirst: true,
  physical: true,
  flushesInRecovery: true,
  flushesInCheckpoint: true,
  writesAllPages: true,
};

const KEYS = ['a', 'b', 'c', 'p'];
/** Two sectors, so that it can tear. */
const PAGE_SECTORS = 2;
const PAGE = PAGE_SECTORS * SECTOR;
/** An entry is the new page, and one sector that says which and that it is all there. */
const ENTRY_SECTORS = PAGE_SECTORS + 1;
const ENTRIES = 6;
const HEADER = 0;
const HOMES = 1;
const LOG = HOMES + KEYS.length * PAGE_SECTORS;
const COMMIT_MAGIC = 0x544d_4d43;
const VALUE_AT = 4;

/**
 * A redo log in front of pages at fixed places. An entry and its commit are told apart by a flush, not by a checksum;
 * the log's header says from which sequence number on it counts.
 */
export function walStore(rules: WalRules = soundWal): Store {
  return {
    name: 'write-ahead store',
    sectorCount: LOG + ENTRIES * ENTRY_SECTORS,
    format(device) {
      const header = new Uint8Array(SECTOR);
      viewOf(header).setUint32(0, 1, true);
      device.write(HEADER, header);
    },
    open: (device) => new WalStore(device, rules),
  };
}

class WalStore implements OpenStore {
  readonly hasLatched = false;
  readonly #device: BlockDevice;
  readonly #rules: WalRules;
  /** By number of their home; those in the log are not at home yet. */
  readonly #pages: Uint8Array[] = [];
  #inLog: number[] = [];
  #sequence: number;
  #entry = 0;

  constructor(device: BlockDevice, rules: WalRules) {
    this.#device = device;
    this.#rules = rules;
    const header = new Uint8Array(SECTOR);
    device.read(HEADER, header);
    this.#sequence = viewOf(header).getUint32(0, true);
    for (let home = 0; home < KEYS.length; home++) {
      const page = new Uint8Array(PAGE);
      device.read(homeOf(home), page);
      this.#pages.push(page);
    }
    this.#replay();
    if (this.#inLog.length > 0) this.#bringHome(rules.flushesInRecovery, true);
  }

  apply(op: KeyValueOp): void {
    const [change, another] = changesOf(op);
    if (change === undefined) return;
    if (another !== undefined) throw new CodedError('EINVAL', 'write-ahead store: it has no transactions');
    if (this.#entry === ENTRIES) this.checkpoint();
    this.#log(KEYS.indexOf(change.key), pageOf(change));
  }

  checkpoint(): void {
    if (this.#inLog.length > 0) this.#bringHome(this.#rules.flushesInCheckpoint, this.#rules.writesAllPages);
  }

  find(): Found {
    const values = new Map<string, Uint8Array>();
    for (const [home, page] of this.#pages.entries()) {
      const length = viewOf(page).getUint16(0, true);
      if (length > 0) values.set(getText(page, 2, 1), page.slice(VALUE_AT, VALUE_AT + length));
      if (length > PAGE - VALUE_AT) throw new Error(`write-ahead store: page ${home} is garbage`);
    }
    return intact(values);
  }

  close(): void {}

  #log(home: number, page: Uint8Array): void {
    const { entryFirst, barrier, physical } = this.#rules;
    if (home < 0) throw new CodedError('EINVAL', `write-ahead store: expected a key of ${KEYS.join(', ')}`);
    const at = LOG + this.#entry * ENTRY_SECTORS;
    const entry = physical ? page : difference(this.#pages[home]!, page);
    const commit = new Uint8Array(SECTOR);
    const view = viewOf(commit);
    view.setUint32(0, COMMIT_MAGIC, true);
    view.setUint32(4, this.#sequence, true);
    view.setUint32(8, home, true);
    if (entryFirst) this.#device.write(at, entry);
    else this.#device.write(at + PAGE_SECTORS, commit);
    if (barrier === 'flush') this.#device.flush();
    if (entryFirst) this.#device.write(at + PAGE_SECTORS, commit, { fua: barrier === 'fua' });
    else this.#device.write(at, entry);
    if (barrier === 'flush') this.#device.flush();
    this.#pages[home] = page;
    this.#noteEntry(home);
  }

  #noteEntry(home: number): void {
    if (!this.#inLog.includes(home)) this.#inLog.push(home);
    this.#sequence++;
    this.#entry++;
  }

  /** The entries that the header does not count as brought home, up to the first that is not committed. */
  #replay(): void {
    const commit = new Uint8Array(SECTOR);
    for (let entry = 0; entry < ENTRIES; entry++) {
      const at = LOG + entry * ENTRY_SECTORS;
      this.#device.read(at + PAGE_SECTORS, commit);
      const view = viewOf(commit);
      if (view.getUint32(0, true) !== COMMIT_MAGIC || view.getUint32(4, true) !== this.#sequence) return;
      const home = view.getUint32(8, true);
      const page = new Uint8Array(PAGE);
      this.#device.read(at, page);
      this.#pages[home] = this.#rules.physical ? page : difference(this.#pages[home]!, page);
      this.#noteEntry(home);
    }
  }

  /** Writes the pages in the log to their homes, then drops the log. */
  #bringHome(flushes: boolean, all: boolean): void {
    const pages = all || this.#inLog.length === 1 ? this.#inLog : this.#inLog.slice(0, -1);
    for (const home of pages) this.#device.write(homeOf(home), this.#pages[home]!);
    if (flushes) this.#device.flush();
    const header = new Uint8Array(SECTOR);
    viewOf(header).setUint32(0, this.#sequence, true);
    this.#device.write(HEADER, header);
    this.#device.flush();
    this.#inLog = [];
    this.#entry = 0;
  }
}

function homeOf(home: number): number {
  return HOMES + home * PAGE_SECTORS;
}

function pageOf(change: Change): Uint8Array {
  const page = new Uint8Array(PAGE);
  if (change.kind === 'delete') return page;
  viewOf(page).setUint16(0, change.value.length, true);
  putText(page, 2, change.key);
  page.set(change.value, VALUE_AT);
  return page;
}

/** What makes one of the other, whichever way. */
function difference(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, i) => byte ^ b[i]!);
}
