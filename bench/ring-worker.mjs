/** One ring and one copy in a thread of their own, so that no call site sees a second kind of ring. */
import { parentPort, workerData } from 'node:worker_threads';
import { MemoryDevice } from '../dist/blockdev/index.js';
import { virtioStack } from '../dist/virtio/index.js';

const WRITE_BYTES = 4096;
const WRITE_SECTORS = WRITE_BYTES / 512;
/** 1 MiB of disk, written round and round: it fits the caches, as the ring's own memory does. */
const PLACE_COUNT = 256;

/** Time on the processor: what other programs take of it meanwhile does not count. */
function cpuMicros() {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Each has its own loop, so that each call site sees one class only. */
function copyLoop(device, source, count) {
  const start = cpuMicros();
  for (let i = 0; i < count; i++) {
    source[0] = i;
    device.write((i % PLACE_COUNT) * WRITE_SECTORS, source);
  }
  return ((cpuMicros() - start) * 1000) / count;
}

function ringLoop(driver, source, count) {
  const start = cpuMicros();
  for (let i = 0; i < count; i++) {
    source[0] = i;
    driver.write((i % PLACE_COUNT) * WRITE_SECTORS, source);
  }
  return ((cpuMicros() - start) * 1000) / count;
}

/** The last write of each place must have reached the memory behind it. */
function checkArrived(memory, source, count) {
  const found = new Uint8Array(WRITE_BYTES);
  for (let i = count - PLACE_COUNT; i < count; i++) {
    memory.read((i % PLACE_COUNT) * WRITE_SECTORS, found);
    source[0] = i;
    if (Buffer.compare(found, source) !== 0)
      throw new Error(`${workerData.name}: write ${i} did not arrive as it was sent`);
  }
}

const sectorCount = PLACE_COUNT * WRITE_SECTORS;
const plain = new MemoryDevice({ sectorCount });
const behind = new MemoryDevice({ sectorCount });
const { driver } = virtioStack(behind, { driver: { decline: workerData.decline } });
const source = Uint8Array.from({ length: WRITE_BYTES }, (_, i) => (i * 131) ^ (i >> 3));

/** Pairs of short loops: a thread that is put aside in one of them spoils that one only. */
parentPort.on('message', ({ pairCount, writeCount }) => {
  const pairs = [];
  for (let i = 0; i < pairCount; i++) {
    pairs.push({ copyNs: copyLoop(plain, source, writeCount), ringNs: ringLoop(driver, source, writeCount) });
  }
  checkArrived(plain, source, writeCount);
  checkArrived(behind, source, writeCount);
  parentPort.postMessage(pairs);
});
