import process from 'node:process';
import { parentPort, workerData } from 'node:worker_threads';
import { invariant, messageOf, runAsync, systemClock } from '../core/index.ts';
import { Session } from './session.ts';
import { linearityOf, strategyOf } from './strategy.ts';
import { runUnit } from './unit.ts';
import { loadExplorable, type UnitOrder, type WorkerAnswer, type WorkerSetup } from './workers.ts';

/** A thread of an exploration: records the workload for itself, then runs the units that it is sent. */
async function main(): Promise<void> {
  const port = parentPort;
  invariant(port !== null, 'this file is the entry of a worker thread');
  const answer = (message: WorkerAnswer): void => port.postMessage(message);
  const { source, options } = workerData as WorkerSetup;
  const { scenario, through } = await loadExplorable(source);
  const stack = { ...options, ...(through === undefined ? {} : { through }) };
  const session = new Session(scenario, stack, linearityOf(options.strategy));
  await runAsync(session.record());
  // Nothing else needs the number of crash points, and to count the images of large ones takes its time.
  const strategy = strategyOf(options, options.strategy === 'random' ? session.survey().length : 0);
  const { depth = 2, shrinkRuns = 300, plain = false } = options;
  const unitOptions = { depth, shrinkRuns, plain };
  const run = async ({ start, violations, recoveries, timeMs }: UnitOrder): Promise<void> => {
    const startMs = systemClock.monotonicMs();
    const limits = { violations, recoveries, isTimeUp: () => systemClock.monotonicMs() - startMs >= timeMs };
    answer({ kind: 'unit', unit: await runAsync(runUnit(session, strategy, start, unitOptions, limits)) });
  };
  port.on('message', (order: UnitOrder) => void run(order).catch(fail));
  answer({ kind: 'ready', fingerprint: session.fingerprint });
}

function fail(error: unknown): void {
  parentPort?.postMessage({ kind: 'failed', message: messageOf(error) } satisfies WorkerAnswer);
}

// A promise that a scenario forgot would end the thread without a word.
process.on('uncaughtException', fail);
await main().catch(fail);
