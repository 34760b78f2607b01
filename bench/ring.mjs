import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { F_EVENT_IDX, F_IN_ORDER, F_INDIRECT_DESC, F_RING_PACKED } from '../dist/virtio/index.js';
import { rotated, summarize } from './stats.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

/** What the ring may add to the copy, nanoseconds. */
const GOAL_EXTRA_NS = 1000;

/** Rings, by the features that the driver does not take. The goal is set for the two formats as such. */
const RINGS = [
  { name: 'split', decline: [F_RING_PACKED, F_INDIRECT_DESC, F_EVENT_IDX, F_IN_ORDER], hasGoal: true },
  { name: 'packed', decline: [F_INDIRECT_DESC, F_EVENT_IDX, F_IN_ORDER], hasGoal: true },
  { name: 'packed, in order (the default)', decline: [F_INDIRECT_DESC, F_EVENT_IDX], hasGoal: true },
  { name: 'packed, all features', decline: [], hasGoal: false },
];

/** Writes in one loop, and pairs of loops, a copy and a ring, in one round. */
const WRITE_COUNT = 2000;
const PAIR_COUNT = 25;

async function runRound({ worker, pairs }) {
  worker.postMessage({ pairCount: PAIR_COUNT, writeCount: WRITE_COUNT });
  const [figures] = await once(worker, 'message');
  pairs.push(...figures);
}

/** @param {{ quick: boolean, progress: (line: string) => void }} settings */
export async function measureRing({ quick, progress }) {
  const roundCount = quick ? 7 : 25;
  const list = RINGS.map((ring) => {
    const worker = new Worker(new URL('./ring-worker.mjs', import.meta.url), { workerData: ring });
    return { ...ring, worker, pairs: [] };
  });
  try {
    progress('ring: warming up');
    for (const one of list) await runRound({ ...one, pairs: [] });
    for (let round = 0; round < roundCount; round++) {
      if (round % 5 === 0) progress(`ring: round ${round + 1} of ${roundCount}`);
      for (const one of rotated(list, round)) await runRound(one);
    }
  } finally {
    await Promise.all(list.map(({ worker }) => worker.terminate()));
  }
  const rings = list.map(({ name, hasGoal, pairs }) => ({
    name,
    hasGoal,
    copy: summarize(pairs.map(({ copyNs }) => copyNs)),
    ring: summarize(pairs.map(({ ringNs }) => ringNs)),
  }));
  return {
    writeBytes: 4096,
    writeCount: WRITE_COUNT,
    pairCount: roundCount * PAIR_COUNT,
    goalExtraNs: GOAL_EXTRA_NS,
    rings,
  };
}

export function renderRing({ rings, goalExtraNs, pairCount, writeCount }) {
  const micros = (ns) => `${fixed(ns / 1000, 2)} us`;
  const head = ['4 KiB write through', 'copy ns', 'ring ns', 'vs copy', 'over copy', 'best', 'goal'];
  const cells = rings.map(({ name, hasGoal, copy, ring }) => [
    name,
    fixed(copy.median, 0),
    fixed(ring.median, 0),
    times(ring.median / copy.median),
    micros(ring.median - copy.median),
    micros(ring.min - copy.min),
    hasGoal ? verdict(ring.median - copy.median < goalExtraNs) : '',
  ]);
  return [
    `A 4 KiB write through driver, ring, device into memory, against the plain copy (goal: under ` +
      `${fixed(goalExtraNs / 1000, 1)} us over it; processor time, medians of ${pairCount} interleaved pairs of ${fixed(writeCount, 0)} writes)`,
    formatTable(head, cells),
  ].join('\n\n');
}
