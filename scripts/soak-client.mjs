/** One client of the soak, a process of its own: it puts, reads and deletes until it is told to stop. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Sfc32 } from '../dist/core/index.js';
import { StateFsClient, unixSocket } from '../dist/statefsd/index.js';
import { ABSENT, KeyModel, makeValue, versionOf } from './soak-model.mjs';

const [socket, index, keyCount, seed, pauseMs] = process.argv
  .slice(2)
  .map((text, i) => (i === 0 ? text : Number(text)));
const prng = new Sfc32(seed * 1000 + index);
const models = Array.from({ length: keyCount }, () => new KeyModel());
const counts = {
  operations: 0,
  putsAcked: 0,
  deletesAcked: 0,
  reads: 0,
  inDoubt: 0,
  doneAfterAll: 0,
  notDone: 0,
  repeated: 0,
  refused: 0,
  connectionsLost: 0,
};
const faults = [];
let isStopping = false;

process.on('message', () => {
  isStopping = true;
});
let hasStarted = false;
// The soak itself has died.
process.on('disconnect', () => process.exit(2));

const client = new StateFsClient({
  connect: unixSocket(socket),
  // Servers come back within a second here.
  backOff: { lastMs: 200 },
  onEvent: (event) => {
    if (event.type === 'lost') counts.connectionsLost++;
  },
});
/** Every second client asks again; the others read to see what became of a put. */
const asksAgain = index % 2 === 0;

function pathOf(key) {
  return `/state/apps/${index}/key-${key}`;
}

function sizeOfNext() {
  const kind = prng.below(20);
  if (kind === 0) return prng.below(65_536);
  return kind < 4 ? prng.below(4096) : prng.below(600);
}

async function put(key) {
  const model = models[key];
  const version = model.nextVersion++;
  const value = makeValue(index, key, version, sizeOfNext());
  const options = asksAgain ? { nonce: true } : {};
  const done = await attempt(model, version, () => client.putAtomic(pathOf(key), value, { purpose: 'soak' }, options));
  if (done === undefined) return;
  model.settle(version);
  counts.putsAcked++;
  if (done.repeated) counts.repeated++;
}

async function remove(key) {
  const model = models[key];
  const mayExist = [model.acked, ...model.maybe].some((version) => version !== ABSENT);
  const existed = await attempt(model, ABSENT, () => client.delete(pathOf(key)));
  if (existed === undefined) return;
  if (existed ? !mayExist : !model.allows(ABSENT)) {
    faults.push({
      path: pathOf(key),
      fault: existed ? 'came back' : 'lost',
      found: `existed: ${existed}`,
      ...model.toJSON(),
    });
  }
  model.settle(ABSENT);
  counts.deletesAcked++;
}

async function read(key) {
  const model = models[key];
  const wasDoubtful = model.maybe.size > 0;
  const before = model.acked;
  const value = await attempt(model, undefined, () => find(pathOf(key)));
  if (value === undefined) return;
  const version = value === ABSENT ? ABSENT : versionOf(index, key, value);
  const fault = model.faultOf(version);
  if (fault !== undefined) faults.push({ path: pathOf(key), fault, found: version, ...model.toJSON() });
  if (wasDoubtful) counts[version === before ? 'notDone' : 'doneAfterAll']++;
  model.settle(version ?? ABSENT);
  counts.reads++;
}

async function find(path) {
  try {
    return await client.get(path);
  } catch (error) {
    if (error.code === 'ENOENT') return ABSENT;
    throw error;
  }
}

/** @returns what `run` gave, or undefined where it failed; then the model knows whether it is in doubt */
async function attempt(model, version, run) {
  counts.operations++;
  try {
    return await run();
  } catch (error) {
    if (typeof error.inDoubt !== 'boolean') throw error;
    if (error.inDoubt) {
      counts.inDoubt++;
      model.doubt(version);
    } else {
      counts.refused++;
      // The disk is full, or the server is long away: give it time.
      await sleep(20);
    }
    return undefined;
  }
}

while (!isStopping) {
  const key = prng.below(keyCount);
  const kind = prng.below(10);
  // What is in doubt is looked at first, as a program would.
  if (models[key].maybe.size > 0 || kind >= 7) await read(key);
  else if (kind === 6) await remove(key);
  else await put(key);
  if (!hasStarted) process.send({ type: 'started' });
  hasStarted = true;
  if (pauseMs > 0) await sleep(prng.below(2 * pauseMs));
  if (faults.length > 20) break;
}
client.close();
process.send({ type: 'report', index, counts, faults, models }, () => process.exit(0));
