#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { fuzzVirtio } from '../dist/testing/index.js';

const USAGE = `A hostile guest against the virtio block device. Build first: npm run build.

  node scripts/fuzz-virtio.mjs [--operations N] [--seed N] [--json]

  --operations N  hostile operations in all (default 1000000)
  --seed N        of the first episode of 200 operations; each next one has the next number (default 1)
  --json          one JSON object on standard output

What must hold: no exception leaves the device, nothing outside guest memory is touched, the work for one operation is
bounded by the queue, and after a reset the device answers. Exit codes: 0 it held, 1 it did not (with the line that
repeats it), 2 misuse.

Example: npm run fuzz:virtio -- --operations 100000 --seed 42`;

function count(text, label) {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`--${label}: expected a positive integer, got '${text}'`);
  return value;
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      operations: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  return {
    operationCount: count(values.operations, 'operations'),
    seed: count(values.seed, 'seed'),
    json: values.json,
    help: values.help,
  };
}

/** A line about every second, on standard error. */
function progressLine(total) {
  let shownAt = process.hrtime.bigint();
  return (done) => {
    const now = process.hrtime.bigint();
    if (now - shownAt < 1_000_000_000n) return;
    shownAt = now;
    process.stderr.write(`fuzz:virtio ${done} of ${total} operations (${Math.floor((100 * done) / total)} %)\n`);
  };
}

function render({ operationCount, episodeCount, accessCount, accessCountMax, diskOperationCount, breaks, failure }) {
  const lines = [
    `operations            ${operationCount} in ${episodeCount} episodes`,
    `accesses to memory    ${accessCount}, at most ${accessCountMax} in one operation`,
    `disk operations       ${diskOperationCount}`,
    `rings that broke      ${[...breaks.values()].reduce((sum, n) => sum + n, 0)}, for ${breaks.size} reasons:`,
    ...[...breaks].sort(([, a], [, b]) => b - a).map(([why, n]) => `  ${String(n).padStart(8)}  ${why}`),
  ];
  if (failure !== undefined) {
    lines.push(
      `VIOLATION after ${failure.operationCount} operations of the episode with seed ${failure.seed}: ${failure.what}`,
      `  repeat it: npm run fuzz:virtio -- --seed ${failure.seed} --operations 200`,
    );
  } else {
    lines.push('no exception, no stray access, no unbounded work; every device answered after its reset');
  }
  return lines.join('\n');
}

let options;
try {
  options = readOptions();
} catch (error) {
  console.error(`${error.message}\n\n${USAGE}`);
  process.exit(2);
}
if (options.help) {
  console.log(USAGE);
} else {
  const report = fuzzVirtio({ ...options, onProgress: progressLine(options.operationCount) });
  console.log(options.json ? JSON.stringify({ ...report, breaks: Object.fromEntries(report.breaks) }) : render(report));
  process.exitCode = report.failure === undefined ? 0 : 1;
}
