import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Payloads } from './payloads.mjs';
import { measureRounds } from './rounds.mjs';
import { openLanes } from './service-lanes.mjs';
import { fixed, formatTable, times } from './table.mjs';

const PAYLOAD_BYTES = 256;
const MANY_WRITERS = 8;
/** Puts of one lane in a row, before the next lane has its turn. */
const TURN = 96;
const WARM_UP_TURNS = 3;
const KEYS = 16;

/** @param {{ quick: boolean, folder: string, progress: (line: string) => void }} settings as for the puts */
export async function measureService({ quick, folder, progress }) {
  mkdirSync(folder, { recursive: true });
  const own = mkdtempSync(join(folder, 'service-'));
  const roundCount = quick ? 8 : 40;
  progress('service: setting up');
  const lanes = (await openLanes(own, MANY_WRITERS)).map((lane) => ({ ...lane, run: runOf(lane) }));
  try {
    const rows = await measureRounds(lanes, {
      roundCount,
      warmUpTurns: WARM_UP_TURNS,
      turn: TURN,
      progress: (round) => progress(`service: round ${round + 1} of ${roundCount}`),
    });
    return { roundCount, payloadBytes: PAYLOAD_BYTES, turn: TURN, rows: rows.map((row) => rowOf(row, lanes[0])) };
  } finally {
    for (const lane of lanes) await lane.close();
    rmSync(own, { recursive: true, force: true });
  }
}

/** So many puts, by all writers of the lane at a time; each awaits a put before its next. */
function runOf({ writers, put }) {
  const payloads = new Payloads(PAYLOAD_BYTES);
  const write = async (writer, count) => {
    for (let i = 0; i < count; i++) await put(writer, `/state/${writer}/key-${i % KEYS}`, payloads.next());
  };
  return (count) => Promise.all(Array.from({ length: writers }, (_, writer) => write(writer, count / writers)));
}

function rowOf({ lane, perSecond, flushesEach, ratioTo }, baseline) {
  const { name, writers } = lane;
  return { name, writers, putsPerSecond: perSecond, ratio: ratioTo(baseline), flushesPerPut: flushesEach };
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
