import { explore } from '../dist/explore/index.js';
import { bootControl, stateFsScenario } from '../dist/testing/index.js';
import { virtioThrough } from '../dist/virtio/index.js';
import { rotated, summarize } from './stats.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

/** Recoveries a second, with everything verified. */
const GOAL_PER_SECOND = 10_000;
/** Depth 2 is what users run; depth 3 has enough recoveries that start-up weighs little. */
const DEPTHS = [2, 3];
const COMMITS = ['checksummed', 'ordered'];

function contestants() {
  const list = [];
  for (const depth of DEPTHS) {
    for (const commit of COMMITS) {
      for (const through of ['direct', 'virtio']) {
        for (const plain of [false, true]) {
          const options = { depth, plain, ...(through === 'virtio' ? { through: virtioThrough() } : {}) };
          list.push({
            depth,
            commit,
            through,
            plain,
            options,
            perSecond: [],
            recoveries: 0,
            known: 0,
            images: '',
            repeats: 1,
          });
        }
      }
    }
  }
  return list;
}

/** Runs one whole exploration. @returns its milliseconds */
function runOnce(contestant) {
  const { depth, commit, through, options } = contestant;
  const scenario = stateFsScenario(bootControl, { commit });
  const start = performance.now();
  const result = explore(scenario, options);
  const elapsedMs = performance.now() - start;
  if (!result.clean) {
    throw new Error(
      `boot-control ${commit} depth ${depth} ${through}: expected a complete run without violations, got ` +
        `${result.violations.length} violations, ${result.incompleteReason ?? 'complete'}`,
    );
  }
  contestant.recoveries = result.recoveries;
  contestant.known = result.knownRecoveries;
  contestant.images = String(result.images);
  return elapsedMs;
}

/** Repeats the exploration until the sample is long enough to mean something. */
function sample(contestant) {
  let elapsedMs = 0;
  for (let i = 0; i < contestant.repeats; i++) elapsedMs += runOnce(contestant);
  return (contestant.recoveries * contestant.repeats * 1000) / elapsedMs;
}

/** @param {{ quick: boolean, progress: (line: string) => void }} settings */
export function measureRecoveries({ quick, progress }) {
  const sampleMs = quick ? 100 : 400;
  const roundCount = quick ? 3 : 9;
  const list = contestants();
  progress('recoveries: warming up');
  for (let i = 0; i < 2; i++) {
    for (const one of list) one.repeats = Math.max(1, Math.ceil(sampleMs / runOnce(one)));
  }
  for (let round = 0; round < roundCount; round++) {
    progress(`recoveries: round ${round + 1} of ${roundCount}`);
    for (const one of rotated(list, round)) one.perSecond.push(sample(one));
  }
  return {
    goalPerSecond: GOAL_PER_SECOND,
    roundCount,
    rows: list.map(({ depth, commit, through, plain, perSecond, recoveries, known, images, repeats }) => ({
      depth,
      commit,
      through,
      plain,
      recoveriesARun: recoveries,
      knownARun: known,
      images,
      runsASample: repeats,
      bestPerSecond: Math.max(...perSecond),
      medianPerSecond: summarize(perSecond).median,
    })),
  };
}

export function renderRecoveries({ goalPerSecond, roundCount, rows }) {
  const plainOf = (row) =>
    rows.find(({ plain, depth, commit, through }) =>
      [plain, depth === row.depth, commit === row.commit, through === row.through].every(Boolean),
    );
  const cells = rows.map((row) => [
    row.commit,
    String(row.depth),
    row.through,
    fixed(row.recoveriesARun, 0),
    row.plain ? '-' : fixed(row.knownARun, 0),
    fixed(row.medianPerSecond, 0),
    fixed(row.bestPerSecond, 0),
    times(row.medianPerSecond / plainOf(row).medianPerSecond),
    times(row.bestPerSecond / goalPerSecond),
    verdict(row.bestPerSecond >= goalPerSecond),
  ]);
  const head = [
    ...['commit', 'depth', 'through', 'recoveries', 'known', 'median/s', 'best/s', 'vs running all', 'best vs goal'],
    'goal',
  ];
  return [
    `Recoveries a second: boot-control, every image, everything verified (goal: ${fixed(goalPerSecond, 0)}; ` +
      `${roundCount} interleaved rounds; known: not run, because others have done the same; where none is, all are run)`,
    formatTable(head, cells, 1),
  ].join('\n\n');
}
