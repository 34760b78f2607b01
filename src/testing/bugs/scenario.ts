import type { BlockDevice } from '../../blockdev/index.ts';
import { codeOf, messageOf } from '../../core/index.ts';
import type { KeyValueOp, RecoveryRun, Run, Scenario } from '../../explore/index.ts';
import { RESTART, StoreOracle } from './oracle.ts';
import { changesOf, type Found, intact, type OpenStore, type Step, type Store } from './store.ts';

const PROBE_BYTES = 40;

/** How a store is put to the test. */
export interface StoreScenarioOptions {
  /** Of the scenario; replay tokens have it. */
  readonly name: string;
  /** See {@link StoreOracle}. Default false. */
  readonly mayRefuse?: boolean;
  /** Every recovery puts here, to see that the store still takes and keeps a value. Default `p`. */
  readonly probeKey?: string;
}

/**
 * The scenario that all stores of the benchmark share: the steps, one after the other, each acknowledged before the
 * next. A recovery observes all that there is, observes it again after opening once more, puts a value, and observes
 * that, opened once more.
 */
export function storeScenario(
  store: Store,
  steps: readonly Step[],
  options: StoreScenarioOptions,
): Scenario<KeyValueOp, Found> {
  const oracle = new StoreOracle(options.mayRefuse ?? false);
  const { probeKey = 'p' } = options;
  const keys = [probeKey];
  for (const step of steps) {
    if (typeof step === 'string') continue;
    for (const { key } of changesOf(step)) if (!keys.includes(key)) keys.push(key);
  }
  return {
    name: options.name,
    description: store.name,
    disk: { sectorCount: store.sectorCount },
    format: (device) => store.format(device),
    workload: (device, run) => work(store, device, steps, run),
    recover: (device, run) => recover(store, device, keys, probeKey, run),
    invariant: (found, history) => oracle.check(found, history),
    describe: describeOperation,
  };
}

function work(store: Store, device: BlockDevice, steps: readonly Step[], run: Run<KeyValueOp>): void {
  // A store that reports damage and does not open ends its own use.
  sparingly(() => workThrough(store, device, steps, run));
}

function workThrough(store: Store, device: BlockDevice, steps: readonly Step[], run: Run<KeyValueOp>): void {
  let open = openPersistently(store, device);
  const reopened = (): OpenStore => {
    run.begin(RESTART);
    const again = openPersistently(store, device);
    run.acknowledge(RESTART);
    return again;
  };
  for (const step of steps) {
    if (open.hasLatched) open = reopened();
    if (step === 'reopen' || step === 'kill') {
      if (step === 'reopen') sparingly(() => open.close());
      open = reopened();
    } else if (step === 'checkpoint') {
      sparingly(() => open.checkpoint());
    } else {
      attempt(step, run, open);
    }
  }
}

/** A full store refuses, and then nothing has changed. */
function attempt(op: KeyValueOp, run: Pick<Run<KeyValueOp>, 'begin' | 'acknowledge' | 'fail'>, open: OpenStore): void {
  run.begin(op);
  try {
    if (sparingly(() => open.apply(op))) run.acknowledge(op);
  } catch (error) {
    if (codeOf(error) !== 'ENOSPC') throw error;
    run.fail(op);
  }
}

/** An error of the medium leaves the operation in doubt. @returns whether there was none */
function sparingly(run: () => void): boolean {
  try {
    run();
    return true;
  } catch (error) {
    if (isReported(error)) return false;
    throw error;
  }
}

/** A fault that goes by itself must not keep anybody out for good. */
function openPersistently(store: Store, device: BlockDevice): OpenStore {
  try {
    return store.open(device);
  } catch (error) {
    if (codeOf(error) !== 'EIO') throw error;
    return store.open(device);
  }
}

function isReported(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'EIO' || code === 'EINTEGRITY';
}

function recover(
  store: Store,
  device: BlockDevice,
  keys: readonly string[],
  probeKey: string,
  run: RecoveryRun<KeyValueOp, Found>,
): Found | undefined {
  let open: OpenStore | undefined;
  const look = (): Found => {
    open = undefined;
    try {
      open = openPersistently(store, device);
    } catch (error) {
      const isBlank = codeOf(error) === 'EINVAL';
      if (!isReported(error) && !isBlank) throw error;
      return { ...refusal(error), isBlank };
    }
    try {
      return open.find(keys);
    } catch (error) {
      if (!isReported(error)) throw error;
      open = undefined;
      return refusal(error);
    }
  };
  const first = look();
  run.observe(first);
  run.observe(look());
  if (open === undefined) return undefined;
  const probe: KeyValueOp = { kind: 'put', key: probeKey, value: nextProbe(first.values.get(probeKey)) };
  attempt(probe, run, open);
  return look();
}

function refusal(error: unknown): Found {
  return { ...intact(new Map()), refused: messageOf(error) };
}

/** One more than the last, so that every probe differs from the one before it. */
function nextProbe(last: Uint8Array | undefined): Uint8Array {
  return new Uint8Array(PROBE_BYTES).fill(1 + (last?.[0] ?? 0));
}

function describeOperation(op: KeyValueOp): string {
  if (op === RESTART) return 'restart';
  if (op.kind === 'put') return `put ${op.key} (${op.value.length} bytes of ${op.value[0]})`;
  if (op.kind === 'delete') return `delete ${op.key}`;
  return `{ ${op.ops.map(describeOperation).join(', ')} }`;
}
