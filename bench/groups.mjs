import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { flushCounter } from './flushes.mjs';
import { Payloads } from './payloads.mjs';
import { measureRounds } from './rounds.mjs';
import { contestants, openIn } from './stores.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

const PAYLOAD_BYTES = 256;
const KEYS_A_TRANSACTION = 4;
const WRITERS = 8;
const KEYS_A_WRITER = 16;
const WARM_UP_TURNS = 150;
/** Times the rate of better-sqlite3, doing the same. */
const GOAL = 1.0;
const BASELINE = 'statefs checksummed';
const GOAL_PEER = 'better-sqlite3';

const keyOf = (writer, number) => `/state/writer-${writer}/key-${String(number % KEYS_A_WRITER).padStart(2, '0')}`;
const KEYS = Array.from({ length: WRITERS * KEYS_A_WRITER }, (_, i) => keyOf(i % WRITERS, Math.floor(i / WRITERS)));

/** What is done, in so many operations a turn; of the stores those take part that can. */
const LOADS = [
  {
    name: 'transactions',
    title: `transactions of ${KEYS_A_TRANSACTION} keys`,
    turn: 16,
    canRun: (store) => store.transaction !== undefined,
    runOf: (store) => {
      const payloads = Array.from({ length: KEYS_A_TRANSACTION }, () => new Payloads(PAYLOAD_BYTES));
      let next = 0;
      return async (count) => {
        for (let i = 0; i < count; i++) {
          const pending = store.transaction(payloads.map((one) => [KEYS[next++ % KEYS.length], one.next()]));
          if (pending !== undefined) await pending;
        }
      };
    },
  },
  {
    name: 'writers',
    title: `puts by ${WRITERS} writers at a time, which share flushes`,
    turn: 96,
    canRun: (store) => store.putBesides !== undefined,
    runOf: (store) => {
      const writers = Array.from({ length: WRITERS }, (_, writer) => writerOf(store, writer));
      return (count) => Promise.all(writers.map((write) => write(count / WRITERS)));
    },
  },
];

/** One writer: each put is awaited before the next. */
function writerOf(store, writer) {
  const payloads = new Payloads(PAYLOAD_BYTES);
  let next = 0;
  return async (count) => {
    for (let i = 0; i < count; i++) await store.putBesides(keyOf(writer, next++), payloads.next());
  };
}

async function measureLoad(load, folder, { roundCount, progress }) {
  mkdirSync(folder);
  const [lanes, rows] = [[], []];
  try {
    for (const contestant of contestants) {
      const lane = await laneOf(contestant, load, folder, rows);
      if (lane !== undefined) lanes.push(lane);
    }
    const flushCount = flushCounter(folder);
    const measured = await measureRounds(
      lanes.map((lane) => Object.assign(lane, { flushCount })),
      {
        roundCount,
        warmUpTurns: WARM_UP_TURNS,
        turn: load.turn,
        progress: (round) => progress(`${load.name}: round ${round + 1} of ${roundCount}`),
      },
    );
    const baseline = lanes.find(({ name }) => name === BASELINE);
    for (const { lane, perSecond, flushesEach, ratioTo } of measured) {
      rows.push({ name: lane.name, perSecond, flushesEach, statefsRatio: 1 / ratioTo(baseline) });
    }
    return { name: load.name, title: load.title, turn: load.turn, rows };
  } finally {
    for (const { store } of lanes) await store.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A store, filled; undefined where it has no such operation. One that can't be opened says so in its row. */
async function laneOf(contestant, load, folder, rows) {
  try {
    const store = await openIn(contestant, folder, { keys: KEYS, payloadBytes: PAYLOAD_BYTES });
    if (load.canRun(store)) return { name: contestant.name, store, run: load.runOf(store) };
    await store.close();
  } catch (error) {
    const message = error?.code === 'ERR_MODULE_NOT_FOUND' ? 'not installed' : `${error?.message ?? error}`;
    rows.push({ name: contestant.name, error: message.split('\n')[0] });
  }
  return undefined;
}

/** @param {{ quick: boolean, folder: string, progress: (line: string) => void }} settings as for the puts */
export async function measureGroups({ quick, folder, progress }) {
  mkdirSync(folder, { recursive: true });
  const own = mkdtempSync(join(folder, 'groups-'));
  const roundCount = quick ? 8 : 40;
  const loads = [];
  try {
    for (const load of LOADS) {
      progress(`${load.name}: setting up`);
      loads.push(await measureLoad(load, join(own, load.name), { roundCount, progress }));
    }
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
  return { roundCount, payloadBytes: PAYLOAD_BYTES, loads };
}

export function renderGroups({ roundCount, payloadBytes, loads }) {
  const head = ['store', 'a second', 'flushes each', 'statefs vs it', 'goal'];
  const parts = loads.map(({ title, rows }) => `${title}\n\n${formatTable(head, rows.map(cellsOf))}`);
  return [
    `Changes of several keys and by several writers, ${payloadBytes} B a value, durable when reported (${roundCount} ` +
      'interleaved rounds; statefs vs it: the rate of statefs checksummed over its, the median of the rounds)',
    ...parts,
  ].join('\n\n');
}

function cellsOf({ name, error, perSecond, flushesEach, statefsRatio }) {
  if (error !== undefined) return [name, error];
  return [
    name,
    fixed(perSecond, 0),
    flushesEach === undefined ? '-' : fixed(flushesEach, 2),
    times(statefsRatio),
    name === GOAL_PEER ? `${times(GOAL)} ${verdict(statefsRatio >= GOAL)}` : '',
  ];
}
