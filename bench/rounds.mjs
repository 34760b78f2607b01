import { performance } from 'node:perf_hooks';
import { rotated, summarize } from './stats.mjs';

/**
 * What takes turns with others in one run.
 * @typedef {object} Lane
 * @property {string} name
 * @property {(count: number) => Promise<void> | void} run does so many operations
 * @property {() => number | Promise<number>} [flushCount] flushes of the disk so far
 */

/** One lane's figures, a value a turn. */
class Measured {
  perSecond = [];
  flushesEach = [];

  constructor(lane) {
    this.lane = lane;
  }

  async takeTurn(count, isMeasured) {
    const { run, flushCount } = this.lane;
    const flushesBefore = await flushCount?.();
    const startMs = performance.now();
    await run(count);
    const elapsedMs = performance.now() - startMs;
    if (!isMeasured) return;
    this.perSecond.push((count * 1000) / elapsedMs);
    if (flushCount !== undefined) this.flushesEach.push(((await flushCount()) - flushesBefore) / count);
  }
}

/**
 * Lets every lane take a turn in each round, in rotating order.
 * @param {Lane[]} lanes
 * @param {{ roundCount: number, warmUpTurns: number, turn: number, progress: (round: number) => void }} settings
 * @returns a row for each lane. `ratioTo(other)`: its rate over the other's, taken within a round, so that what the
 *   machine does meanwhile meets both; the median of the rounds
 */
export async function measureRounds(lanes, { roundCount, warmUpTurns, turn, progress }) {
  const all = lanes.map((lane) => new Measured(lane));
  for (let i = 0; i < warmUpTurns; i++) for (const one of all) await one.takeTurn(turn, false);
  for (let round = 0; round < roundCount; round++) {
    if (round % 10 === 0) progress(round);
    for (const one of rotated(all, round)) await one.takeTurn(turn, true);
  }
  return all.map(({ lane, perSecond, flushesEach }) => ({
    lane,
    perSecond: summarize(perSecond).median,
    flushesEach: flushesEach.length === 0 ? undefined : summarize(flushesEach).median,
    ratioTo: (other) => {
      const rates = all.find((one) => one.lane === other).perSecond;
      return summarize(perSecond.map((rate, round) => rate / rates[round])).median;
    },
  }));
}
