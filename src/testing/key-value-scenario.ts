import type { BlockDevice } from '../blockdev/index.ts';
import {
  type KeyValueContent,
  type KeyValueOp,
  KeyValueOracle,
  type RecoveryRun,
  type Run,
  type Scenario,
} from '../explore/index.ts';
import { describeOperation } from './scenarios/statefs-scenario.ts';

/** A key-value store, open on a disk. It has no memory beside that disk: a cut takes all of it. */
export interface KeyValueStore {
  /** Durable on return. */
  put(key: string, value: Uint8Array): void;
  /** Durable on return; of what is not there it does nothing. */
  delete(key: string): void;
  /** All of the operations, or none. Needed where a workload has transactions. */
  transaction?(ops: readonly KeyValueOp[]): void;
  /** All that it holds, in any order; read from the disk, or as found there when it was opened. */
  entries(): Iterable<readonly [key: string, value: Uint8Array]>;
  /** Ends this use, the power staying on. */
  close?(): void;
}

/** How to make the store under test. */
export interface KeyValueTarget {
  readonly name: string;
  /** In units of 512 bytes. */
  readonly sectorCount: number;
  /** Prepares an empty disk. */
  format(device: BlockDevice): void;
  /** Recovers from what it finds. */
  open(device: BlockDevice): KeyValueStore;
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
    workload: (device, run) => work(target, device, steps, run),
    recover: (device, run) => recover(target, device, run),
    invariant: (content, history) => oracle.check(content, history),
    describe: describeOperation,
  };
}

function work(target: KeyValueTarget, device: BlockDevice, steps: readonly KeyValueStep[], run: Run<KeyValueOp>): void {
  let store = target.open(device);
  for (const step of steps) {
    if (step === 'reopen') {
      store.close?.();
      store = target.open(device);
      continue;
    }
    // The same operation twice in a workload is two operations.
    const op = { ...step };
    run.begin(op);
    apply(store, op);
    run.acknowledge(op);
  }
}

function recover(
  target: KeyValueTarget,
  device: BlockDevice,
  run: RecoveryRun<KeyValueOp, KeyValueContent>,
): KeyValueContent {
  run.observe(contentOf(target.open(device)));
  const store = target.open(device);
  const content = contentOf(store);
  run.observe(content);
  const last = content.get(PROBE_KEY)?.[0] ?? 0;
  const probe: KeyValueOp = { kind: 'put', key: PROBE_KEY, value: new Uint8Array(PROBE_BYTES).fill(1 + last) };
  run.begin(probe);
  apply(store, probe);
  run.acknowledge(probe);
  return contentOf(target.open(device));
}

function apply(store: KeyValueStore, op: KeyValueOp): void {
  if (op.kind === 'put') store.put(op.key, op.value);
  else if (op.kind === 'delete') store.delete(op.key);
  else if (store.transaction === undefined) throw new TypeError('transaction: the store under test has none');
  else store.transaction(op.ops);
}

/** A copy: the store may go on to change what it gave. */
function contentOf(store: KeyValueStore): KeyValueContent {
  return new Map(Array.from(store.entries(), ([key, value]) => [key, value.slice()]));
}
