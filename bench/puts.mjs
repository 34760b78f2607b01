import { mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { flushCounter } from './flushes.mjs';
import { Payloads } from './payloads.mjs';
import { rotated, summarize } from './stats.mjs';
import { contestants, openIn } from './stores.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

/**
 * `warmUp`: puts of each store before anything is measured, so that every code path is compiled by the best compiler and
 * every file has its final size: what a process that has run for a second does. V8 takes some thousands of puts for it. `turn`: puts of one store that are measured in a row before the next store has its turn.
 */
const SIZES = [
  { payloadBytes: 64, label: '64 B', warmUp: 6000, turn: 25 },
  { payloadBytes: 1024, label: '1 KiB', warmUp: 3000, turn: 25 },
  { payloadBytes: 65_536, label: '64 KiB', warmUp: 100, turn: 16 },
  { payloadBytes: 1_048_576, label: '1 MiB', warmUp: 32, turn: 8 },
];
/** Puts at the start of each turn that are not measured: they pay for what the store before left behind. */
const SETTLING_PUTS = 2;
/** Overwritten again and again. */
const KEYS = Array.from({ length: 16 }, (_, i) => `/state/bench/key-${String(i).padStart(2, '0')}`);
const BASELINE = 'statefs checksummed';
/** How many times as quick as the peer the baseline is to be, by the medians. */
const GOALS = { 'better-sqlite3': 1.0, lmdb: 1.8 };
const GOAL_UP_TO_BYTES = 1024;
/** statfs(2): a file system in memory, where fdatasync does nothing. */
const TMPFS_MAGIC = 0x01021994;

/** One store's way through the rounds. */
class Lane {
  error;
  samplesUs = [];
  /** Flushes of the disk a put, one figure a turn. */
  flushes = [];
  #store;
  #payloads;
  #nextKey = 0;

  constructor(contestant, payloadBytes) {
    this.contestant = contestant;
    this.#payloads = new Payloads(payloadBytes);
  }

  get name() {
    return this.contestant.name;
  }

  /** Opens the store and warms it up; every key is there afterwards. */
  async open(folder, { payloadBytes, warmUp, turn }) {
    this.#store = await openIn(this.contestant, folder, { keys: KEYS, payloadBytes });
    for (let done = 0; done < warmUp; done += turn) {
      for (let i = 0; i < turn; i++) await this.#put();
    }
  }

  /** Some puts unmeasured, then `turn` measured ones; then the last value is read back and compared. */
  async takeTurn({ turn }, countFlushes) {
    for (let i = 0; i < SETTLING_PUTS; i++) await this.#put();
    const flushesBefore = countFlushes?.();
    for (let i = 0; i < turn; i++) this.samplesUs.push(await this.#put());
    if (flushesBefore !== undefined) this.flushes.push((countFlushes() - flushesBefore) / turn);
    await this.#checkLast();
  }

  async close() {
    await this.#store?.close();
  }

  /** @returns microseconds */
  async #put() {
    const key = KEYS[this.#nextKey++ % KEYS.length];
    const payload = this.#payloads.next();
    const start = process.hrtime.bigint();
    const pending = this.#store.put(key, payload);
    if (pending !== undefined) await pending;
    return Number(process.hrtime.bigint() - start) / 1000;
  }

  async #checkLast() {
    const key = KEYS[(this.#nextKey - 1) % KEYS.length];
    const found = await this.#store.get(key);
    if (Buffer.compare(found, this.#payloads.current) !== 0) {
      throw new Error(`${key} reads back other bytes than were put`);
    }
  }
}

/** Runs a step of a lane. A peer that fails is left out from then on and says so in its row; the rest go on. */
async function attempt(lane, step) {
  if (lane.error !== undefined) return;
  try {
    await step(lane);
  } catch (error) {
    lane.error = error?.code === 'ERR_MODULE_NOT_FOUND' ? 'not installed' : `${error?.message ?? error}`.split('\n')[0];
  }
}

async function measureSize(size, folder, roundCount, countFlushes, progress) {
  const lanes = contestants.map((contestant) => new Lane(contestant, size.payloadBytes));
  mkdirSync(folder);
  progress(`puts of ${size.label}: setting up`);
  for (const lane of lanes) await attempt(lane, () => lane.open(folder, size));
  for (let round = 0; round < roundCount; round++) {
    if (round % 5 === 0) progress(`puts of ${size.label}: round ${round + 1} of ${roundCount}`);
    for (const lane of rotated(lanes, round)) await attempt(lane, () => lane.takeTurn(size, countFlushes));
  }
  for (const lane of lanes) await attempt(lane, () => lane.close());
  rmSync(folder, { recursive: true });
  return { ...size, rows: lanes.map(resultOf) };
}

function resultOf({ name, error, samplesUs, flushes }) {
  if (error !== undefined) return { name, error };
  const flushesAPut = flushes.length > 0 ? summarize(flushes).median : undefined;
  return { name, us: summarize(samplesUs), flushesAPut };
}

/**
 * @param {{ quick: boolean, folder: string, progress: (line: string) => void }} settings a folder on the file system
 *   to measure; a folder of our own is made in it, and removed at the end
 */
export async function measurePuts({ quick, folder, progress }) {
  mkdirSync(folder, { recursive: true });
  const own = mkdtempSync(join(folder, 'powercut-bench-'));
  const isInMemory = statfsSync(own).type === TMPFS_MAGIC;
  const roundCount = quick ? 6 : 24;
  const sizes = [];
  try {
    for (const size of SIZES) {
      sizes.push(
        await measureSize(size, join(own, String(size.payloadBytes)), roundCount, flushCounter(own), progress),
      );
    }
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
  return { roundCount, isInMemory, settings: contestants.map(({ name, settings }) => ({ name, settings })), sizes };
}

export function renderPuts({ roundCount, isInMemory, settings, sizes }) {
  const head = ['store', 'median us', 'p95 us', 'mean us', 'flushes/put', 'vs statefs', 'goal'];
  const parts = [
    `putAtomic on a file against its peers, each put durable when it returns (${roundCount} interleaved rounds; ` +
      `vs statefs: the median over that of ${BASELINE}, so that above 1 statefs is the quicker)`,
  ];
  if (isInMemory) parts.push('WARNING: this folder is in memory, where a flush costs nothing: pass --dir for a disk.');
  for (const size of sizes) {
    parts.push(`${size.label} (${size.turn} puts a turn)`);
    parts.push(formatTable(head, cellsOf(size)));
  }
  parts.push(settings.map((one) => `  ${one.name}: ${one.settings}`).join('\n'));
  return parts.join('\n\n');
}

function cellsOf({ payloadBytes, rows }) {
  const baseline = rows.find((row) => row.name === BASELINE);
  return rows.map((row) => {
    if (row.error !== undefined) return [row.name, row.error];
    const ratio = baseline?.us === undefined ? undefined : row.us.median / baseline.us.median;
    return [
      row.name,
      fixed(row.us.median),
      fixed(row.us.p95),
      fixed(row.us.mean),
      row.flushesAPut === undefined ? '-' : fixed(row.flushesAPut, 2),
      ratio === undefined ? '-' : times(ratio),
      goalCell(row.name, payloadBytes, ratio),
    ];
  });
}

function goalCell(name, payloadBytes, ratio) {
  const goal = payloadBytes <= GOAL_UP_TO_BYTES ? GOALS[name] : undefined;
  return goal === undefined || ratio === undefined ? '' : `${times(goal)} ${verdict(ratio >= goal)}`;
}
