import { cpus } from 'node:os';
import { Worker } from 'node:worker_threads';
import { assertInteger, type CodedError, runAsync, systemTimers } from '../core/index.ts';
import type { Exploration, Stage } from './exploration.ts';
import type { ExploreOptions } from './explore-options.ts';
import { Plans } from './plans.ts';
import type { ExploreResult } from './result.ts';
import type { Scenario } from './scenario.ts';
import { misuse, type StackOptions } from './session.ts';
import type { Unit, UnitStart } from './unit.ts';

/** Where each thread gets the scenario from: functions can't be sent to another one. */
export interface ExplorableSource {
  /** URL of a module that exports a function `explorable`: see {@link Explorable}. */
  readonly module: string;
  /** What `explorable` is called with; plain data. */
  readonly data: unknown;
}

/** Makes the scenario and its stack, in each thread anew: the same from the same data. */
export type Explorable = (data: unknown) => Explored | PromiseLike<Explored>;

export interface Explored {
  readonly scenario: Scenario;
  readonly through?: StackOptions['through'];
}

export interface WorkersOptions extends Omit<ExploreOptions, 'through'> {
  /** Threads; default: one for each processor. */
  readonly workers?: number;
}

/** What a thread needs beside the scenario: plain data of the options. */
export type WorkerOptions = Omit<
  ExploreOptions,
  'through' | 'clock' | 'onProgress' | 'onUnit' | 'done' | 'onlyDone' | 'shard' | 'timeMs' | 'maxRecoveries'
>;

export interface WorkerSetup {
  readonly source: ExplorableSource;
  readonly options: WorkerOptions;
}

/** To a thread: a unit to run, and what ends it early. */
export interface UnitOrder {
  readonly stage: Stage;
  readonly start: UnitStart;
  readonly violations: number;
  readonly recoveries: number;
  /** Milliseconds; Infinity: as long as it takes. */
  readonly timeMs: number;
}

/** From a thread. */
export type WorkerAnswer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'unit'; readonly unit: Unit }
  | { readonly kind: 'failed'; readonly message: string };

/** Loads the scenario of a source, in this thread. */
export async function loadExplorable({ module, data }: ExplorableSource): Promise<Explored> {
  const { explorable } = (await import(module)) as { explorable?: Explorable };
  if (typeof explorable !== 'function')
    throw misuse(`explorable: expected ${module} to export a function of that name`);
  return explorable(data);
}

/**
 * Explores with several threads. The result is the one that {@link exploreAsync} gives, but for `elapsedMs`, and for how
 * far it got where a time limit ended it.
 * @throws CodedError EINVAL as `exploreAsync` does, and where a thread records another workload than this one
 */
export async function exploreInWorkers(source: ExplorableSource, options: WorkersOptions = {}): Promise<ExploreResult> {
  const { workers: count = cpus().length, ...rest } = options;
  assertInteger(count, 'workers', 1, 256);
  // What is wrong with it is said by this thread.
  const { scenario, through } = await loadExplorable(source);
  const plans = new Plans(scenario, { ...rest, ...(through === undefined ? {} : { through }) });
  let exploration = plans.next();
  // They record the workload while this one does.
  const threads = Array.from({ length: count }, () => new Thread({ source, options: plainOptions(rest) }));
  try {
    for (; exploration !== undefined; exploration = plans.next()) {
      await runAsync(exploration.prepare());
      const pool = new Pool(exploration);
      await Promise.all(threads.map((thread) => pool.serve(thread)));
      plans.add(exploration, await runAsync(exploration.result()));
    }
    await runAsync(plans.finish());
  } finally {
    await Promise.all(threads.map((thread) => thread.end()));
  }
  return plans.result;
}

function plainOptions(options: Omit<WorkersOptions, 'workers'>): WorkerOptions {
  const { clock, onProgress, onUnit, done, onlyDone, shard, timeMs, maxRecoveries, ...plain } = options;
  return plain;
}

/** Shares out the units of one exploration. */
class Pool {
  readonly #exploration: Exploration;
  #busy = 0;
  /** Threads that wait until a unit of another one leaves some work. */
  #waiting: (() => void)[] = [];

  constructor(exploration: Exploration) {
    this.#exploration = exploration;
  }

  /** Keeps one thread at work until nothing is left. */
  async serve(thread: Thread): Promise<void> {
    await thread.ready;
    for (;;) {
      const start = this.#exploration.take();
      if (start !== undefined) await this.#runOn(thread, start);
      else if (this.#busy === 0) return;
      else await new Promise<void>((resolve) => void this.#waiting.push(resolve));
    }
  }

  async #runOn(thread: Thread, start: UnitStart): Promise<void> {
    this.#busy++;
    try {
      this.#exploration.add(
        await thread.run({ stage: this.#exploration.stage, start, ...this.#exploration.limitsElsewhere() }),
      );
    } finally {
      this.#busy--;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const wake of waiting) wake();
    }
  }
}

/** A unit looks at the time before each recovery. One that takes so much longer is taken for one that loops. */
const GRACE_MS = 120_000;

function neverEnds({ point }: UnitStart): CodedError {
  return misuse(`a recovery at crash point ${point} goes on ${GRACE_MS / 1000} s after the time was up: does it loop?`);
}

const IS_SOURCE = import.meta.url.endsWith('.ts');
const ENTRY = new URL(IS_SOURCE ? './worker-main.ts' : './worker-main.js', import.meta.url);

/** One thread, and the order that it is at work on. */
class Thread {
  /** It has the scenario. */
  readonly ready: Promise<unknown>;
  readonly #worker: Worker;
  #settle: { resolve(answer: WorkerAnswer): void; reject(error: Error): void } | undefined;

  constructor(setup: WorkerSetup) {
    // Sources are loaded as they are only where powercut itself is developed.
    const execArgv = IS_SOURCE ? ['--import', 'jiti/register'] : [];
    this.#worker = new Worker(ENTRY, { workerData: setup, execArgv });
    this.#worker.on('message', (answer: WorkerAnswer) => this.#settle?.resolve(answer));
    this.#worker.on('error', (error) => this.#settle?.reject(error));
    this.#worker.on('exit', () =>
      this.#settle?.reject(
        misuse(
          'a worker thread ended before its work did: a promise of the scenario never settles, or it calls process.exit',
        ),
      ),
    );
    this.ready = this.#answer('ready');
    // Whoever asks is told; where something else has failed before, nobody does.
    this.ready.catch(() => {});
  }

  async run(order: UnitOrder): Promise<Unit> {
    const answer = this.#answer('unit');
    this.#worker.postMessage(order);
    const { timeMs, start } = order;
    const cancel = Number.isFinite(timeMs)
      ? systemTimers.after(Math.max(0, timeMs) + GRACE_MS, () => this.#settle?.reject(neverEnds(start)))
      : undefined;
    try {
      return (await answer).unit;
    } finally {
      cancel?.();
    }
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  async #answer<Kind extends WorkerAnswer['kind']>(kind: Kind): Promise<Extract<WorkerAnswer, { kind: Kind }>> {
    const answer = await new Promise<WorkerAnswer>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    if (answer.kind === 'failed') throw misuse(answer.message);
    if (answer.kind !== kind) throw misuse(`a worker thread answered "${answer.kind}" where "${kind}" was expected`);
    return answer as Extract<WorkerAnswer, { kind: Kind }>;
  }
}
