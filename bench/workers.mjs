import { isDeepStrictEqual } from 'node:util';
import { exploreInWorkers } from '../dist/explore/index.js';
import { rotated, summarize } from './stats.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

/** Recoveries a second of two threads, to those of one. */
const GOAL = 1.7;
const WORKERS = [1, 2];
/**
 * The first is so long that the start of a thread, and the compilation of everything in each, weigh little; the others tell
 * what these cost. `plain`: each recovery is run, also one that is known.
 */
const SCENARIOS = [
  { name: 'boot-control', depth: 6, commit: 'ordered', plain: true },
  { name: 'boot-control', depth: 5, commit: 'ordered', plain: true },
  { name: 'media', depth: 2, commit: 'ordered', plain: false, media: { kinds: ['bit-rot'] } },
];
const QUICK_SCENARIOS = [{ name: 'boot-control', depth: 4, commit: 'ordered', plain: true }];

const MODULE = new URL('../dist/cli/worker-scenario.js', import.meta.url).href;

/** One whole exploration. @returns what it found, and its milliseconds */
async function runOnce({ name, depth, commit, plain, media }, workers) {
  const data = { name, through: 'direct', commit, sizeBytes: undefined, broken: undefined };
  const { elapsedMs: _, ...result } = await exploreInWorkers(
    { module: MODULE, data },
    { workers, depth, plain, ...(media === undefined ? {} : { media }) },
  );
  if (!result.clean) throw new Error(`${name}: expected a complete run without violations`);
  return result;
}

/** @param {{ quick: boolean, progress: (line: string) => void }} settings */
export async function measureWorkers({ quick, progress }) {
  const roundCount = quick ? 1 : 3;
  const rows = [];
  for (const scenario of quick ? QUICK_SCENARIOS : SCENARIOS) {
    const elapsed = new Map(WORKERS.map((workers) => [workers, []]));
    let expected;
    for (let round = 0; round < roundCount; round++) {
      progress(`workers: ${scenario.name}, round ${round + 1} of ${roundCount}`);
      for (const workers of rotated(WORKERS, round)) {
        const start = performance.now();
        const result = await runOnce(scenario, workers);
        elapsed.get(workers).push(performance.now() - start);
        expected ??= result;
        if (!isDeepStrictEqual(result, expected)) throw new Error(`${scenario.name}: ${workers} threads differ`);
      }
    }
    const [one, two] = WORKERS.map((workers) => elapsed.get(workers));
    const ratios = one.map((ms, round) => ms / two[round]);
    rows.push({
      ...scenario,
      recoveries: expected.recoveries,
      oneMs: summarize(one).median,
      twoMs: summarize(two).median,
      median: summarize(ratios).median,
      best: Math.max(...ratios),
    });
  }
  return { goal: GOAL, roundCount, rows };
}

export function renderWorkers({ goal, roundCount, rows }) {
  const head = ['scenario', 'depth', 'recoveries', 'one ms', 'two ms', 'median', 'best', 'goal'];
  const cells = rows.map(({ name, depth, recoveries, oneMs, twoMs, median, best }) => [
    name,
    String(depth),
    fixed(recoveries, 0),
    fixed(oneMs, 0),
    fixed(twoMs, 0),
    times(median),
    times(best),
    verdict(best >= goal),
  ]);
  return [
    `Two threads to one: whole explorations with their start, the results equal (goal: ${times(goal)} where two processors ` +
      `are free; ${roundCount} interleaved rounds)`,
    formatTable(head, cells, 1),
  ].join('\n\n');
}
