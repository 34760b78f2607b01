import { mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { flushCounter } from './flushes.mjs';
import { rotated, summarize } from './stats.mjs';
import { contestants, openIn } from './stores.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

/** Turn: how many puts of one store are measured in a row before the next store has its turn. */
const SIZES = [
  { payloadBytes: 64, label: '64 B', turn: 25 },
  { payloadBytes: 1024, label: '1 KiB', turn: 25 },
  { payloadBytes: 65_536, label: '64 KiB', turn: 16 },
  { payloadBytes: 1_048_576, label: '1 MiB', turn: 8 },
];
/** Puts at the start of each turn that are not measured: they pay for what the store before left behind. */
const SETTLING_PUTS = 2;
/** Overwritten again and again. */
const KEYS = Array.from({ length: 16 }, (_, i) => `/state/bench/key-${String(i).padStart(2, '0')}`);
const BASELINE = 'statefs checksummed';
/** How many times as quick as the peer statefs (checksummed) is to be, by the medians. */
const GOALS = { 'better-sqlite3': 1.0, lmdb: 1.8 };
const GOAL_UP_TO_BYTES = 1024;
const TMPFS_MAGIC = 0x01021994;

/** Payloads that don't compress, each different from the last. */
class Payloads {
  #counter = 0;
  #bytes;
  #view;

  constructor(payloadBytes) {
    this.#bytes = new Uint8Array(payloadBytes);
    this.#view = new DataView(this.#bytes.buffer);
    let state = 1;
    for (let i = 0; i < payloadBytes; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      this.#bytes[i] = state >>> 24;
    }
  }

  next() {
    this.#view.setUint32(0, ++this.#counter, true);
    return this.#bytes;
  }
}

class Lane {
  constructor(contestant, store, payloads, putCount) {
    this.name = contestant.name;
    this.payloads = payloads;
    this.samplesUs = new Float64Array(putCount);
    this.count = 0;
    this.flushes = [];
    this.store = store;
    this.nextKey = 0;
    this.error = undefined;
  }

  /** One turn: some puts unmeasured, then `turn` measured ones, then the last value is read back and compared. */
  async takeTurn(turn, payloadBytes, countFlushes) {
    this.store.prepare?.(turn + SETTLING_PUTS, payloadBytes);
    for (let i = 0; i < SETTLING_PUTS; i++) await this.#put();
    const flushesBefore = countFlushes?.() ?? 0;
    for (let i = 0; i < turn; i++) this.samplesUs[this.count++] = await this.#put();
    if (countFlushes !== undefined) this.flushes.push((countFlushes() - flushesBefore) / turn);
    await this.#check();
  }

  /** @returns microseconds */
  async #put() {
    const key = KEYS[this.nextKey++ % KEYS.length];
    const payload = this.payloads.next();
    const start = process.hrtime.bigint();
    const pending = this.store.put(key, payload);
    if (pending !== undefined) await pending;
    return Number(process.hrtime.bigint() - start) / 1000;
  }

  async #check() {
    const key = KEYS[(this.nextKey - 1) % KEYS.length];
    const found = await this.store.get(key);
    // The buffer still holds what was put last.
    if (Buffer.compare(found, this.payloads.current) !== 0) throw new Error(`${key} reads back other bytes than were put`);
  }
}

Object.defineProperty(Payloads.prototype, 'current', { get: undefined });
