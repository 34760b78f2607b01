import process from 'node:process';
import { parentPort, workerData } from 'node:worker_threads';
import { invariant, messageOf, runAsync, systemClock } from '../core/index.ts';
import type { Stage } from './exploration.ts';
import type { Scenario } from './scenario.ts';
import { misuse, Session } from './session.ts';
import { linearityOf, type Strategy, strategyOf } from './strategy.ts';
import { runUnit } from './unit.ts';
import { loadExplorable, type UnitOrder, type WorkerAnswer, type WorkerOptions, type WorkerSetup } from './workers.ts';

/** The workload that a thread has recorded, and what it explores of it. */
interface Recorded {
  readonly session: Session;
  readonly strategy: Strategy;
}

/** A thread of an exploration: records the workload for itself, then runs the units that it is sent. */
async function main(): Promise<void> {
  const port = parentPort;
  invariant(port !== null, 'this file is the entry of a worker thread');
  const answer = (message: WorkerAnswer): void => port.postMessage(message);
  const { source, options } = workerData as WorkerSetup;
  const { scenario, through } = await loadExplorable(source);
  const stack = { ...options, ...(through === undefined ? {} : { through }) };
  let recorded = await record(scenario, stack);
  const { depth = 2, shrinkRuns = 300, plain = false } = options;
  const unitOptions = { depth, shrinkRuns, plain };
  const run = async ({ stage, start, violations, recoveries, timeMs }: UnitOrder): Promise<void> => {
    const startMs = systemClock.monotonicMs();
    const limits = { violations, recoveries, isTimeUp: () => systemClock.monotonicMs() - startMs >= timeMs };
    if (!isOf(recorded, stage)) recorded = await record(scenario, { ...stack, ...planned(stage) });
    const { session, strategy } = recorded;
    if (session.fingerprint !== stage.fingerprint) {
      throw misuse('scenario: its workload differs from thread to thread: look for clocks, randomness, shared state');
    }
    answer({ kind: 'unit', unit: await runAsync(runUnit(session, strategy, start, unitOptions, limits)) });
  };
  port.on('message', (order: UnitOrder) => {
    // A promise that never settles, with nothing left to wait for, ends the thread, and does not hold it for ever.
    port.unref();
    void run(order)
      .catch(fail)
      .finally(() => port.ref());
  });
  answer({ kind: 'ready' });
}

async function record(scenario: Scenario, options: WorkerOptions): Promise<Recorded> {
  const session = new Session(scenario, options, linearityOf(options.strategy));
  await runAsync(session.record());
  // Nothing else needs the number of crash points, and to count the images of large ones takes its time.
  const strategy = strategyOf(options, options.strategy === 'random' ? session.survey().length : 0);
  return { session, strategy };
}

function isOf({ session }: Recorded, { plan }: Stage): boolean {
  return session.plan.join() === plan.join();
}

function planned({ plan, seed }: Stage): Pick<WorkerOptions, 'plan' | 'seed'> {
  return { plan, ...(seed === undefined ? {} : { seed }) };
}

function fail(error: unknown): void {
  parentPort?.postMessage({ kind: 'failed', message: messageOf(error) } satisfies WorkerAnswer);
}

// A promise that a scenario forgot would end the thread without a word.
process.on('uncaughtException', fail);
await main().catch(fail);
