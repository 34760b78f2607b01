import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Payloads } from './payloads.mjs';
import { openLanes } from './service-lanes.mjs';
import { rotated, summarize } from './stats.mjs';
import { fixed, formatTable, times } from './table.mjs';

const PAYLOAD_BYTES = 256;
const MANY_WRITERS = 8;
/** Puts of one lane in a row, before the next lane has its turn. */
const TURN = 96;
const WARM_UP_TURNS = 3;
const KEYS = 16;

/** One lane's figures, a value a turn. */
class Measured {
  putsPerSecond = [];
  flushesPerPut = [];
  #lane;
  #payloads = new Payloads(PAYLOAD_BYTES);

  constructor(lane) {
    this.#lane = lane;
  }

  get lane() {
    return this.#lane;
  }

  async takeTurn(isMeasured) {
    const { writers, flushCount } = this.#lane;
    const flushesBefore = await flushCount();
    const startMs = performance.now();
    await Promise.all(Array.from({ length: writers }, (_, writer) => this.#write(writer, TURN / writers)));
    const elapsedMs = performance.now() - startMs;
    if (!isMeasured) return;
    this.putsPerSecond.push((TURN * 1000) / elapsedMs);
    this.flushesPerPut.push(((await flushCount()) - flushesBefore) / TURN);
  }

  /** One writer: each put is awaited before the next. */
  async #write(writer, count) {
    for (let i = 0; i < count; i++) {
      await this.#lane.put(writer, `/state/${writer}/key-${i % KEYS}`, this.#payloads.next());
    }
  }
}

/** @param {{ quick: boolean, folder: string, progress: (line: string) => void }} settings as for the puts */
export async function measureService({ quick, folder, progress }) {
  mkdirSync(folder, { recursive: true });
  const own = mkdtempSync(join(folder, 'service-'));
  const roundCount = quick ? 8 : 40;
  progress('service: setting up');
  const all = (await openLanes(own, MANY_WRITERS)).map((lane) => new Measured(lane));
  try {
    for (let i = 0; i < WARM_UP_TURNS; i++) for (const one of all) await one.takeTurn(false);
    for (let round = 0; round < roundCount; round++) {
      if (round % 10 === 0) progress(`service: round ${round + 1} of ${roundCount}`);
      for (const one of rotated(all, round)) await one.takeTurn(true);
    }
  } finally {
    for (const { lane } of all) await lane.close();
    rmSync(own, { recursive: true, force: true });
  }
  return { roundCount, payloadBytes: PAYLOAD_BYTES, turn: TURN, rows: all.map((one) => rowOf(one, all[0])) };
}

/** Ratios are taken within a round, so that what the machine does meanwhile meets both sides. */
function rowOf({ lane, putsPerSecond, flushesPerPut }, baseline) {
  const { name, writers } = lane;
  const ratios = putsPerSecond.map((rate, round) => rate / baseline.putsPerSecond[round]);
  return {
    name,
    writers,
    putsPerSecond: summarize(putsPerSecond).median,
    ratio: summarize(ratios).median,
    flushesPerPut: summarize(flushesPerPut).median,
  };
}

export function renderService({ roundCount, payloadBytes, turn, rows }) {
  const head = ['way to the store', 'writers', 'puts/s', 'flushes/put', 'vs direct'];
  const cells = rows.map(({ name, writers, putsPerSecond, flushesPerPut, ratio }) => [
    name,
    String(writers),
    fixed(putsPerSecond, 0),
    fixed(flushesPerPut, 2),
    times(ratio),
  ]);
  const [one, many] = rows.filter(({ name }) => name === 'over a Unix socket');
  return [
    `statefsd: durable puts of ${payloadBytes} B through policy and audit (${roundCount} interleaved rounds of ${turn} puts; ` +
      'vs direct: puts/s over those of the store called directly, the median of the rounds)',
    formatTable(head, cells),
    `over the socket, ${many.writers} writers make ${times(many.putsPerSecond / one.putsPerSecond)} the puts of one, with ` +
      `${fixed(one.flushesPerPut / many.flushesPerPut)} puts to a flush`,
  ].join('\n\n');
}
