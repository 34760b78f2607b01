import type { BlockDevice } from '../blockdev/index.ts';
import { runWork, settled, type Work } from '../core/index.ts';
import {
  type KeyValueContent,
  type KeyValueOp,
  KeyValueOracle,
  type RecoveryRun,
  type Run,
  type Scenario,
} from '../explore/index.ts';
import { describeOperation } from './scenarios/statefs-scenario.ts';

/** At once, or when its promise is fulfilled. */
type Maybe<T> = T | PromiseLike<T>;
type Entry = readonly [key: string, value: Uint8Array];

/**
 * A key-value store, open on a disk. It has no memory beside that disk: a cut takes all of it. Whatever it returns may
 * be a promise; the scenario is asynchronous then, for `exploreAsync` and the matchers.
 */
export interface KeyValueStore {
  /** Durable when it returns, or when its promise is fulfilled. */
  put(key: string, value: Uint8Array): Maybe<void>;
  /** Durable likewise; of what is not there it does nothing. */
  delete(key: string): Maybe<void>;
  /** All of the operations, or none. Needed where a workload has transactions. */
  transaction?(ops: readonly KeyValueOp[]): Maybe<void>;
  /** All that it holds, in any order; read from the disk, or as found there when it was opened. */
  entries(): Maybe<Iterable<Entry>> | AsyncIterable<Entry>;
  /** Ends this use, the power staying on. */
  close?(): Maybe<void>;
}

/** How to make the store under test. */
export interface KeyValueTarget {
  readonly name: string;
  /** In units of 512 bytes. */
  readonly sectorCount: number;
  /** Prepares an empty disk. */
  format(device: BlockDevice): Maybe<void>;
  /** Recovers from what it finds. */
  open(device: BlockDevice): Maybe<KeyValueStore>;
}

/** One step of a workload. `reopen`: the store is closed and opened, the power staying on. */
export type KeyValueStep = KeyValueOp | 'reopen';

const PROBE_KEY = 'powercut-probe';
const PROBE_BYTES = 40;

/**
 * The crash test of a key-value store: the steps, each acknowledged before the next. After every crash the store must
 * hold what was acknowledged, byte for byte, of what was in flight all or nothing, and nothing else; opened again it
 * must hold the same; and it must take and keep a new value.
 */
export function keyValueScenario(
  target: KeyValueTarget,
  steps: readonly KeyValueStep[],
): Scenario<KeyValueOp, KeyValueContent> {
  const oracle = new KeyValueOracle();
  return {
    name: target.name,
    disk: { sectorCount: target.sectorCount },
    format: (device) => target.format(device),
    workload: (device, run) => runWork(work(target, device, steps, run)),
    recover: (device, run) => runWork(recover(target, device, run)),
    invariant: (content, history) => oracle.check(content, history),
    describe: (op) => (op.kind === 'put' ? `put ${op.key} (${op.value.length} bytes)` : describeOperation(op)),
    knowsFaults: false,
  };
}

function* work(
  target: KeyValueTarget,
  device: BlockDevice,
  steps: readonly KeyValueStep[],
  run: Run<KeyValueOp>,
): Work<void> {
  let store = yield* settled(target.open(device));
  for (const step of steps) {
    if (step === 'reopen') {
      yield* settled(store.close?.());
      store = yield* settled(target.open(device));
      continue;
    }
    // The same operation twice in a workload is two operations.
    const op = { ...step };
    run.begin(op);
    yield* settled(apply(store, op));
    run.acknowledge(op);
  }
}

function* recover(
  target: KeyValueTarget,
  device: BlockDevice,
  run: RecoveryRun<KeyValueOp, KeyValueContent>,
): Work<KeyValueContent> {
  run.observe(yield* contentOf(yield* settled(target.open(device))));
  const store = yield* settled(target.open(device));
  const content = yield* contentOf(store);
  run.observe(content);
  const last = content.get(PROBE_KEY)?.[0] ?? 0;
  const probe: KeyValueOp = { kind: 'put', key: PROBE_KEY, value: new Uint8Array(PROBE_BYTES).fill(1 + last) };
  run.begin(probe);
  yield* settled(apply(store, probe));
  run.acknowledge(probe);
  return yield* contentOf(yield* settled(target.open(device)));
}

function apply(store: KeyValueStore, op: KeyValueOp): Maybe<void> {
  if (op.kind === 'put') return store.put(op.key, op.value);
  if (op.kind === 'delete') return store.delete(op.key);
  if (store.transaction === undefined) throw new TypeError('transaction: the store under test has none');
  return store.transaction(op.ops);
}

/** A copy: the store may go on to change what it gave. */
function* contentOf(store: KeyValueStore): Work<KeyValueContent> {
  const content = new Map<string, Uint8Array>();
  const given = store.entries();
  if (Symbol.asyncIterator in given) {
    const entries = given[Symbol.asyncIterator]();
    for (;;) {
      const next = yield* settled(entries.next());
      if (next.done === true) return content;
      content.set(next.value[0], next.value[1].slice());
    }
  }
  for (const [key, value] of yield* settled(given)) content.set(key, value.slice());
  return content;
}
