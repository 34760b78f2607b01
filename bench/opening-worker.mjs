/**
 * One task of the benchmark of opening: opens the store in an image, or reads the bytes that opening it reads, plainly
 * and in large pieces. Prints milliseconds, bytes read and memory as JSON.
 */

import { closeSync, openSync, readSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { FileDevice, systemFileIo } from '../dist/blockdev/index.js';
import { open } from '../dist/statefs/index.js';

const PIECE_BYTES = 1024 * 1024;

const [task, path] = process.argv.slice(2);
console.log(JSON.stringify(task === 'open' ? openStore() : readBytes(countedOpen().readBytes)));

function openStore() {
  const before = heldBytes();
  const { store, elapsedMs, readBytes } = countedOpen();
  const held = heldBytes() - before;
  // Held until here, so that it is counted.
  store.close();
  return { elapsedMs, readBytes, heldBytes: held };
}

function countedOpen() {
  let readBytes = 0;
  const io = {
    ...systemFileIo,
    read: (...args) => {
      const count = systemFileIo.read(...args);
      readBytes += count;
      return count;
    },
  };
  const device = FileDevice.open(path, { readOnly: true, io });
  const startMs = performance.now();
  const store = open(device, { readOnly: true });
  return { store, elapsedMs: performance.now() - startMs, readBytes };
}

/** From the start on: the log lies in one piece, and where a file is read from the page cache makes no difference. */
function readBytes(count) {
  const fd = openSync(path, 'r');
  const piece = new Uint8Array(PIECE_BYTES);
  const startMs = performance.now();
  for (let position = 0; position < count; position += PIECE_BYTES) {
    readSync(fd, piece, 0, Math.min(PIECE_BYTES, count - position), position);
  }
  const elapsedMs = performance.now() - startMs;
  closeSync(fd);
  return { elapsedMs, readBytes: count };
}

function heldBytes() {
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
