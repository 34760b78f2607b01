import type { BlockDevice } from '../../blockdev/index.ts';
import { codeOf, messageOf, VirtualClock } from '../../core/index.ts';
import {
  type KeyValueContent,
  type KeyValueOp,
  KeyValueOracle,
  type RecoveryRun,
  type Run,
  type Scenario,
} from '../../explore/index.ts';
import { type CommitMode, format, open, type StateFs, type StoreRules, soundRules } from '../../statefs/index.ts';
import { contentOf, KnownValues } from '../scenarios/statefs-scenario.ts';
import type { FuzzCase, FuzzPart, FuzzStep } from './case.ts';
import { bytesOf, faultyScenario } from './faulty-scenario.ts';
import { PathWatch } from './recovery-path.ts';
import { describeFuzzStep, describeOp } from './words.ts';

/** The name of every random scenario; a token's settings hold the case. */
export const FUZZ_SCENARIO = 'fuzz';

export interface FuzzScenarioOptions {
  /** A store with a rule taken away. Default: the sound one. */
  readonly rules?: StoreRules;
  /** Told, at each recovery of the exploration, which way it went. */
  readonly onPath?: (path: string) => void;
}

const PROBE_KEY = '/state/fuzz/probe';
const PROBE_BYTES = 40;
const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => 0x40 + i);
/** The same in every run: time is no part of a scenario. */
const CLOCK = new VirtualClock(1_700_000_000_000);

/** The scenario of a case: {@link powerScenario}, or with faults {@link faultyScenario}. */
export function fuzzScenario(theCase: FuzzCase, options: FuzzScenarioOptions = {}): Scenario {
  const scenario =
    theCase.faults === undefined ? powerScenario(theCase, options) : faultyScenario(theCase, FUZZ_SCENARIO, options);
  return scenario as Scenario;
}

/**
 * A random workload on statefs, with power cuts alone. What is checked: acknowledged operations are there, byte for byte;
 * lazy puts survive in their order; nothing else changed; a second recovery agrees with the first; a cut is never taken
 * for damage; the store takes a new put afterwards; a full store still deletes. An operation of the workload that fails as it must not is held
 * against the recoveries after it: so it is a violation like any other.
 */
function powerScenario(theCase: FuzzCase, options: FuzzScenarioOptions): Scenario<KeyValueOp, KeyValueContent> {
  const { rules = soundRules, onPath } = options;
  const values = new KnownValues();
  const oracle = new KeyValueOracle(new Map(), { inOrder: true });
  let workFailure: string | undefined;
  const watch = new PathWatch();
  const openStore = (device: BlockDevice): StateFs =>
    open(device, { rules, clock: CLOCK, onEvent: (event) => watch.note(event) });
  const look = (device: BlockDevice): [StateFs, KeyValueContent] => {
    watch.begin();
    const store = openStore(device);
    const stats = store.stats();
    onPath?.(watch.path(stats));
    const [damage] = stats.damage;
    if (damage !== undefined) throw new Error(`a cut was taken for damage: ${damage.what}`);
    return [store, contentOf(store, values)];
  };
  return {
    name: FUZZ_SCENARIO,
    description: 'a random workload on statefs',
    disk: { sectorCount: theCase.diskBytes / 512 },
    format: (device) => format(device, { storeId: STORE_ID }),
    workload: (device, run) => {
      workFailure = new Worker(openStore, device, run, values).workThrough(theCase.steps);
    },
    recover: (device, run) => recover(look, device, run),
    invariant: (content, history) => {
      if (workFailure !== undefined) throw new Error(workFailure);
      oracle.check(content, history);
    },
    describe: describeOp,
  };
}

/** Runs the steps, and tells which operations are durable by what the store promises. */
class Worker {
  readonly #open: (device: BlockDevice) => StateFs;
  readonly #device: BlockDevice;
  readonly #run: Run<KeyValueOp>;
  readonly #values: KnownValues;
  #store: StateFs;
  /** Lazy puts that no durable operation has followed. */
  #pending: KeyValueOp[] = [];

  constructor(
    openStore: (device: BlockDevice) => StateFs,
    device: BlockDevice,
    run: Run<KeyValueOp>,
    values: KnownValues,
  ) {
    this.#open = openStore;
    this.#device = device;
    this.#run = run;
    this.#values = values;
    this.#store = openStore(device);
  }

  /** @returns what went wrong with the power on; undefined: nothing did */
  workThrough(steps: readonly FuzzStep[]): string | undefined {
    for (const [at, step] of steps.entries()) {
      try {
        this.#do(step);
      } catch (error) {
        return `the workload's step ${at + 1}, ${describeFuzzStep(step)}, failed: ${messageOf(error)}`;
      }
    }
    return undefined;
  }

  #do(step: FuzzStep): void {
    if (step.do === 'put') {
      const { commit } = step;
      this.#put(step, true, (key, value) => this.#store.putAtomic(key, value, { commit }));
    } else if (step.do === 'put-lazily') {
      this.#put(step, false, (key, value) => this.#store.put(key, value));
    } else if (step.do === 'delete') {
      this.#delete(step.key, step.commit);
    } else if (step.do === 'transaction') {
      this.#transact(step.parts, step.commit);
    } else {
      this.#makeDurable(step.do);
      this.#settle();
    }
  }

  #makeDurable(how: 'sync' | 'reopen' | 'kill'): void {
    if (how === 'sync') {
      this.#store.sync();
      return;
    }
    if (how === 'reopen') this.#store.close();
    // After a kill, what was written is in the disk's cache; opening makes it durable before it reports anything.
    this.#store = this.#open(this.#device);
  }

  #put(
    { key, bytes, seed }: { key: string; bytes: number; seed: number },
    isDurable: boolean,
    store: (key: string, value: Uint8Array) => void,
  ): void {
    const op = { kind: 'put', key, value: this.#valueOf(bytes, seed) } as const;
    this.#attempt(op, isDurable, () => store(key, op.value));
  }

  #transact(parts: readonly FuzzPart[], commit: CommitMode): void {
    const ops = parts.map((part): KeyValueOp => {
      const { key } = part;
      return 'bytes' in part
        ? { kind: 'put', key, value: this.#valueOf(part.bytes, part.seed) }
        : { kind: 'delete', key };
    });
    this.#attempt({ kind: 'transaction', ops }, this.#changesAnything(ops), () =>
      this.#store.transaction(
        (transaction) => {
          for (const op of ops) {
            if (op.kind === 'put') transaction.put(op.key, op.value);
            else if (op.kind === 'delete') transaction.delete(op.key);
          }
        },
        { commit },
      ),
    );
  }

  /** One that deletes what is not there, and nothing else, writes nothing: it makes nothing before it durable. */
  #changesAnything(ops: readonly KeyValueOp[]): boolean {
    return ops.some((op) => op.kind === 'put' || (op.kind === 'delete' && this.#store.has(op.key)));
  }

  /** Runs what changes the store; a full one may refuse it, and then nothing has changed. */
  #attempt(op: KeyValueOp, isDurable: boolean, change: () => void): void {
    this.#run.begin(op);
    try {
      change();
    } catch (error) {
      if (codeOf(error) !== 'ENOSPC') throw error;
      this.#run.fail(op);
      return;
    }
    this.#pending.push(op);
    if (isDurable) this.#settle();
  }

  #valueOf(bytes: number, seed: number): Uint8Array {
    return this.#values.intern(bytesOf({ bytes, seed }));
  }

  #delete(key: string, commit: CommitMode): void {
    if (!this.#store.has(key)) {
      if (this.#store.delete(key, { commit })) throw new Error('it deleted what was not there');
      return;
    }
    const op: KeyValueOp = { kind: 'delete', key };
    this.#run.begin(op);
    if (!this.#store.delete(key, { commit })) throw new Error('it did not find what was there');
    this.#pending.push(op);
    this.#settle();
  }

  #settle(): void {
    for (const op of this.#pending) this.#run.acknowledge(op);
    this.#pending = [];
  }
}

function recover(
  look: (device: BlockDevice) => [StateFs, KeyValueContent],
  device: BlockDevice,
  run: RecoveryRun<KeyValueOp, KeyValueContent>,
): KeyValueContent {
  run.observe(look(device)[1]);
  const [store, content] = look(device);
  run.observe(content);
  const last = content.get(PROBE_KEY)?.[0] ?? 0;
  const probe: KeyValueOp = { kind: 'put', key: PROBE_KEY, value: new Uint8Array(PROBE_BYTES).fill(1 + last) };
  run.begin(probe);
  try {
    store.putAtomic(PROBE_KEY, probe.value);
    run.acknowledge(probe);
  } catch (error) {
    if (codeOf(error) !== 'ENOSPC') throw error;
    run.fail(probe);
  }
  return look(device)[1];
}
