import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FileDevice } from '../dist/blockdev/index.js';
import { format, open } from '../dist/statefs/index.js';
import { Payloads } from './payloads.mjs';
import { rotated, summarize } from './stats.mjs';
import { fixed, formatTable, times } from './table.mjs';

const PAYLOAD_BYTES = 64;
/** Room for each record twice, each in a physical block of its own, with the reserve for deletes. */
const IMAGE_BYTES_PER_RECORD = 16 * 1024;
const WORKER = fileURLToPath(new URL('opening-worker.mjs', import.meta.url));
const run = promisify(execFile);

/** Logs that hold the same records: as they were put one by one, and as compaction leaves them. */
const LOGS = [
  { name: 'put one by one', prepare: () => {} },
  { name: 'compacted', prepare: (store) => store.compact() },
];

/** An image with so many live records. */
function makeImage(path, recordCount, prepare) {
  const device = FileDevice.create(path, { sectorCount: (recordCount * IMAGE_BYTES_PER_RECORD) / 512 });
  format(device);
  const store = open(device, { compaction: 'manual' });
  const payloads = new Payloads(PAYLOAD_BYTES);
  for (let i = 0; i < recordCount; i++) store.put(`/state/records/record-${i}`, payloads.next());
  store.sync();
  prepare(store);
  store.close();
  device.close();
}

/** In a process of its own: memory is that of one task, and nothing is compiled before. */
async function runWorker(task, path) {
  const { stdout } = await run(process.execPath, ['--expose-gc', WORKER, task, path]);
  return JSON.parse(stdout);
}

/** @param {{ quick: boolean, folder: string, progress: (line: string) => void }} settings as for the puts */
export async function measureOpening({ quick, folder, progress }) {
  const recordCount = quick ? 10_000 : 100_000;
  const roundCount = quick ? 3 : 9;
  mkdirSync(folder, { recursive: true });
  const own = mkdtempSync(join(folder, 'opening-'));
  try {
    const rows = [];
    for (const [number, { name, prepare }] of LOGS.entries()) {
      progress(`opening: writing ${recordCount} records, ${name}`);
      const path = join(own, `${number}.img`);
      makeImage(path, recordCount, prepare);
      rows.push({ name, ...(await measureLog(path, roundCount, (round) => progress(`opening: ${name}, ${round}`))) });
      rmSync(path);
    }
    return { recordCount, roundCount, payloadBytes: PAYLOAD_BYTES, rows };
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

async function measureLog(path, roundCount, progress) {
  const [opened, plain] = [[], []];
  for (let round = 0; round < roundCount; round++) {
    progress(`round ${round + 1} of ${roundCount}`);
    for (const task of rotated(['open', 'read'], round)) {
      (task === 'open' ? opened : plain).push(await runWorker(task, path));
    }
  }
  const median = (figures, pick) => summarize(figures.map(pick)).median;
  return {
    readBytes: opened[0].readBytes,
    openMs: median(opened, ({ elapsedMs }) => elapsedMs),
    readMs: median(plain, ({ elapsedMs }) => elapsedMs),
    ratio: summarize(opened.map(({ elapsedMs }, round) => elapsedMs / plain[round].elapsedMs)).median,
    heldBytes: median(opened, ({ heldBytes }) => heldBytes),
  };
}

export function renderOpening({ recordCount, roundCount, payloadBytes, rows }) {
  const head = ['log', 'read', 'open ms', 'plain read ms', 'open vs read', 'memory', 'a record', 'memory vs bytes'];
  const cells = rows.map(({ name, readBytes, openMs, readMs, ratio, heldBytes }) => [
    name,
    mib(readBytes),
    fixed(openMs),
    fixed(readMs),
    times(ratio),
    mib(heldBytes),
    `${fixed(heldBytes / recordCount, 0)} B`,
    times(heldBytes / readBytes),
  ]);
  return [
    `Opening a store of ${fixed(recordCount, 0)} live records of ${payloadBytes} B in a new process, everything verified, ` +
      `against reading the same bytes of the same file (${roundCount} rounds; memory: what the open store holds)`,
    formatTable(head, cells),
  ].join('\n\n');
}

function mib(bytes) {
  return `${fixed(bytes / 1024 / 1024)} MiB`;
}
