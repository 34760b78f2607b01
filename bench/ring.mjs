import { MemoryDevice } from '../dist/blockdev/index.js';
import { virtioStack } from '../dist/virtio/index.js';
import { rotated, summarize } from './stats.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

const WRITE_BYTES = 4096;
const WRITE_SECTORS = WRITE_BYTES / 512;
/** 1 MiB of disk, written round and round: it fits the caches, as the ring's own memory does. */
const PLACE_COUNT = 256;
/** What the ring may add to the copy, nanoseconds. */
const GOAL_EXTRA_NS = 1000;

/** Each has its own loop, so that each call site sees one class only. */
function copyLoop(device, source, count) {
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    source[0] = i;
    device.write((i % PLACE_COUNT) * WRITE_SECTORS, source);
  }
  return Number(process.hrtime.bigint() - start) / count;
}

function ringLoop(driver, source, count) {
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    source[0] = i;
    driver.write((i % PLACE_COUNT) * WRITE_SECTORS, source);
  }
  return Number(process.hrtime.bigint() - start) / count;
}

/** The last write of each place must have reached the memory behind it. */
function checkArrived(name, memory, source, count) {
  const found = new Uint8Array(WRITE_BYTES);
  for (let i = count - PLACE_COUNT; i < count; i++) {
    memory.read((i % PLACE_COUNT) * WRITE_SECTORS, found);
    source[0] = i;
    if (Buffer.compare(found, source) !== 0) throw new Error(`${name}: write ${i} did not arrive as it was sent`);
  }
}

function randomBlock() {
  return Uint8Array.from({ length: WRITE_BYTES }, (_, i) => (i * 131) ^ (i >> 3));
}

/** @param {{ quick: boolean, progress: (line: string) => void }} settings */
export function measureRing({ quick, progress }) {
  const roundCount = quick ? 7 : 25;
  const count = quick ? 20_000 : 100_000;
  const sectorCount = PLACE_COUNT * WRITE_SECTORS;
  const plain = new MemoryDevice({ sectorCount });
  const behind = new MemoryDevice({ sectorCount });
  const { driver } = virtioStack(behind);
  const source = randomBlock();
  const list = [
    { name: 'copy', run: () => copyLoop(plain, source, count), memory: plain, ns: [] },
    { name: 'ring', run: () => ringLoop(driver, source, count), memory: behind, ns: [] },
  ];
  progress('ring: warming up');
  for (const one of list) one.run();
  for (let round = 0; round < roundCount; round++) {
    if (round % 5 === 0) progress(`ring: round ${round + 1} of ${roundCount}`);
    for (const one of rotated(list, round)) {
      one.ns.push(one.run());
      checkArrived(one.name, one.memory, source, count);
    }
  }
  const [copy, ring] = list.map(({ ns }) => summarize(ns));
  return { writeBytes: WRITE_BYTES, writesARound: count, roundCount, goalExtraNs: GOAL_EXTRA_NS, copy, ring };
}

export function renderRing({ copy, ring, goalExtraNs, roundCount, writesARound }) {
  const extra = (of) => ring[of] - copy[of];
  const head = ['4 KiB write', 'median ns', 'best ns', 'median vs copy', 'median over copy', 'goal'];
  const cells = [
    ['MemoryDevice.write (the copy)', fixed(copy.median, 0), fixed(copy.min, 0), times(1), '', ''],
    [
      'driver, ring, device, MemoryDevice',
      fixed(ring.median, 0),
      fixed(ring.min, 0),
      times(ring.median / copy.median),
      `${fixed(extra('median') / 1000, 2)} us`,
      verdict(extra('median') < goalExtraNs),
    ],
  ];
  return [
    `A 4 KiB write through the full ring against the plain copy (goal: under ${fixed(goalExtraNs / 1000, 1)} us over it; ` +
      `${roundCount} interleaved rounds of ${fixed(writesARound, 0)})`,
    formatTable(head, cells),
  ].join('\n\n');
}
