// A million overwrites of 16 keys on a partition of 1 MiB: does the store run for years? Prints how much is written for
// each put, the longest pause, memory, and how long opening takes compared with a store that is young.
// Usage: node --expose-gc scripts/endurance.mjs [--puts 1000000] [--break leak|no-compaction]
//
//   --break leak            keeps every value: memory grows, which has to be noticed
//   --break no-compaction   nothing takes dead records away
//
// Exit codes: 0 it does; 1 it does not: a put failed, memory or what opening reads has grown, a put wrote too much at
// once; 2 misuse.
import { parseArgs } from 'node:util';
import { MemoryDevice } from '../dist/blockdev/index.js';
import { format, open } from '../dist/statefs/index.js';

const { values } = parseArgs({
  options: { puts: { type: 'string', default: '1000000' }, break: { type: 'string' } },
});
const puts = Number(values.puts);
if (!Number.isSafeInteger(puts) || puts < 1000) {
  console.error(`endurance: --puts: expected a number of at least 1000, got ${values.puts}`);
  process.exit(2);
}
if (![undefined, 'leak', 'no-compaction'].includes(values.break)) {
  console.error(`endurance: --break: expected leak or no-compaction, got ${values.break}`);
  process.exit(2);
}
if (globalThis.gc === undefined) {
  console.error('endurance: give node --expose-gc: memory is measured after a collection');
  process.exit(2);
}
const KEYS = 16;
const VALUE_BYTES = 64;
const YOUNG = 1000;
/** What memory and the sectors read by opening may be more at the end. */
const HEAP_SLACK_BYTES = 4 * 1024 * 1024;
const READS_FACTOR = 2;
/** The most that one put may write, with its share of compaction. */
const MAX_WRITTEN_BYTES = 64 * 1024;

/** A memory device that counts what is written. */
class CountingDevice extends MemoryDevice {
  writtenBytes = 0;

  write(sector, source, options) {
    this.writtenBytes += source.length;
    super.write(sector, source, options);
  }
}

const device = new CountingDevice({ sectorCount: 2048 });
format(device);
const kept = [];
const store = open(device, { compaction: values.break === 'no-compaction' ? 'manual' : 'auto' });
const value = new Uint8Array(VALUE_BYTES);
const written = { atStart: device.writtenBytes, most: 0 };
let longestMs = 0;
let young = { openMs: 0, reads: 0 };
let heapAtYoung = 0;
const startMs = performance.now();
let toldMs = startMs;
for (let i = 1; i <= puts; i++) {
  new DataView(value.buffer).setUint32(0, i, true);
  const before = device.writtenBytes;
  const beforeMs = performance.now();
  put(i);
  const nowMs = performance.now();
  longestMs = Math.max(longestMs, nowMs - beforeMs);
  written.most = Math.max(written.most, device.writtenBytes - before);
  if (i === YOUNG) {
    young = reopened();
    heapAtYoung = heapBytes();
  }
  if (nowMs - toldMs > 1000) {
    toldMs = nowMs;
    process.stderr.write(`endurance: ${i} of ${puts} puts\n`);
  }
}
store.sync();
const seconds = (performance.now() - startMs) / 1000;
const old = reopened();
const heapAtEnd = heapBytes();
const perPut = (device.writtenBytes - written.atStart) / puts;
const { compactions, freeBytes, regionBytes } = store.stats();
for (let i = puts - KEYS + 1; i <= puts; i++) {
  const got = new DataView(store.get(`/state/key/${i % KEYS}`).buffer).getUint32(0, true);
  if (got !== i) throw new Error(`key ${i % KEYS}: expected value ${i}, got ${got}`);
}
const rows = [
  ['puts', `${puts} of ${VALUE_BYTES} bytes to ${KEYS} keys, in ${seconds.toFixed(1)} s`],
  ['written', `${perPut.toFixed(0)} bytes a put, of which 1024 are the group of the put itself`],
  [
    'write amplification',
    `${(perPut / 1024).toFixed(2)} over the log alone, ${(perPut / VALUE_BYTES).toFixed(1)} over the payload`,
  ],
  ['compactions', `${compactions}; ${freeBytes} of ${regionBytes} bytes are free`],
  ['longest pause', `${longestMs.toFixed(1)} ms; the most that one put wrote: ${written.most} bytes`],
  ['heap', `${mib(heapAtYoung)} after ${YOUNG} puts, ${mib(heapAtEnd)} at the end`],
  [
    'open',
    `${young.openMs.toFixed(2)} ms and ${young.reads} sectors read after ${YOUNG} puts, ${old.openMs.toFixed(2)} ms and ${old.reads} at the end`,
  ],
];
for (const [name, text] of rows) console.log(`${name.padEnd(20)} ${text}`);
store.close();
const heapGrowth = heapAtEnd - heapAtYoung;
const faults = [
  heapGrowth > HEAP_SLACK_BYTES && `memory grew by ${mib(heapGrowth)}`,
  old.reads > READS_FACTOR * young.reads && `opening reads ${old.reads} sectors, and read ${young.reads} at first`,
  written.most > MAX_WRITTEN_BYTES && `one put wrote ${written.most} bytes`,
].filter(Boolean);
for (const fault of faults) console.error(`endurance: ${fault}`);
if (faults.length > 0) process.exitCode = 1;

function put(i) {
  if (values.break === 'leak') kept.push(value.slice());
  try {
    store.put(`/state/key/${i % KEYS}`, value);
  } catch (error) {
    console.error(`endurance: put ${i}: ${error.message}`);
    process.exit(1);
  }
}

/** The best of several, with what was read. */
function reopened() {
  let reads = 0;
  const view = {
    sectorBytes: device.sectorBytes,
    physicalSectorBytes: device.physicalSectorBytes,
    sectorCount: device.sectorCount,
    readOnly: true,
    features: device.features,
    read: (sector, target) => {
      reads += target.length / device.sectorBytes;
      device.read(sector, target);
    },
  };
  let openMs = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 20; run++) {
    reads = 0;
    const beforeMs = performance.now();
    open(view, { readOnly: true });
    openMs = Math.min(openMs, performance.now() - beforeMs);
  }
  return { openMs, reads };
}

function heapBytes() {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

function mib(bytes) {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
