import type { BlockDevice } from '../../blockdev/index.ts';
import { codeOf, equalBytes, VirtualClock } from '../../core/index.ts';
import { sha256 } from '../../envelope/index.ts';
import {
  type KeyValueContent,
  type KeyValueOp,
  KeyValueOracle,
  type RecoveryRun,
  type Run,
  type Scenario,
} from '../../explore/index.ts';
import {
  type CommitMode,
  type CompactionMode,
  format,
  open,
  type Quota,
  type StateFs,
  type StoreRules,
  soundRules,
} from '../../statefs/index.ts';

/** How the store of a scenario is run. */
export interface StateFsScenarioOptions {
  /** Default 'checksummed'. */
  readonly commit?: CommitMode;
  /** A store with a rule taken away, to see the explorer object. Default: the sound one. */
  readonly rules?: StoreRules;
}

/**
 * `compact-step` copies a few records, `compact` all that are left, and makes the copy the log. An unsynced put is begun
 * and never acknowledged. A refused operation is over quota: the store must say so, and nothing of it must show.
 */
export type WorkloadStep =
  | KeyValueOp
  | 'reopen'
  | 'compact'
  | 'compact-step'
  | { readonly unsynced: KeyValueOp }
  | { readonly refused: KeyValueOp };

/** What a scenario does to the store; everything else is the same for all of them. */
export interface StateFsWorkload {
  readonly name: string;
  readonly description: string;
  /** Size of the disk in units of 512 bytes. */
  readonly sectorCount: number;
  /** Puts and deletes that are done before the recording starts. */
  readonly before?: readonly KeyValueOp[];
  /** The operations of the workload, in order; each is acknowledged before the next. */
  readonly operations: readonly WorkloadStep[];
  readonly quotas?: readonly Quota[];
  /** Default auto; `manual`: only at the steps that say so, so that changes go on meanwhile. */
  readonly compaction?: CompactionMode;
  /** Every recovery compacts so often, after it has told what it found. Default 0. */
  readonly compactionsInRecovery?: number;
  /** A rule of the application's own over what is stored; throws where it is broken. */
  readonly rule?: (content: KeyValueContent) => void;
}

/** Every recovery puts here, to see that the store still takes and keeps a value. */
const PROBE_KEY = '/state/explore/probe';
/** The same in every run: time is no part of a scenario. */
const CLOCK = new VirtualClock(1_700_000_000_000);
const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => i);
/** A few records. */
const STEP_BYTES = 4096;
/** Above every payload of a scenario. */
const PAYLOAD_BYTES = 16 * 1024 * 1024;

/**
 * A workload on statefs, with the oracle of the store (docs/exploration.md): acknowledged puts and deletes are there,
 * byte for byte; the one in flight is entirely old or entirely new; no other key changed; what a recovery reported
 * stays so; a second recovery agrees; the store takes a new put afterwards, and keeps it.
 */
export function stateFsScenario(
  workload: StateFsWorkload,
  options: StateFsScenarioOptions = {},
): Scenario<KeyValueOp, KeyValueContent> {
  const { commit = 'checksummed', rules = soundRules } = options;
  const openStore = (device: BlockDevice): StateFs =>
    open(device, {
      commit,
      rules,
      clock: CLOCK,
      compaction: workload.compaction ?? 'auto',
      quotas: workload.quotas ?? [],
      budgets: { payloadBytes: PAYLOAD_BYTES },
    });
  const { before = [], rule } = workload;
  const initial = contentAfter(before);
  const oracle = new KeyValueOracle(initial);
  const values = new KnownValues();
  for (const op of partsOf([...before, ...workload.operations])) if (op.kind === 'put') values.intern(op.value);
  return {
    name: workload.name,
    description: workload.description,
    disk: { sectorCount: workload.sectorCount },
    format: (device) => {
      format(device, { storeId: STORE_ID });
      const store = openStore(device);
      for (const op of before) applyTo(store, op);
      store.close();
    },
    workload: (device, run) => runOperations(openStore, device, workload.operations, run),
    recover: (device, run) => recover(values, openStore, device, run, workload.compactionsInRecovery ?? 0),
    invariant: (content, history) => {
      oracle.check(content, history);
      rule?.(content);
    },
    describe: describeOperation,
  };
}

function runOperations(
  openStore: (device: BlockDevice) => StateFs,
  device: BlockDevice,
  operations: StateFsWorkload['operations'],
  run: Run<KeyValueOp>,
): void {
  let store = openStore(device);
  for (const op of operations) {
    if (op === 'reopen') {
      store.close();
      store = openStore(device);
      continue;
    }
    if (op === 'compact' || op === 'compact-step') {
      if (op === 'compact') store.compact();
      else store.compactStep(STEP_BYTES);
      continue;
    }
    if ('unsynced' in op) {
      run.begin(op.unsynced);
      if (op.unsynced.kind === 'put') store.put(op.unsynced.key, op.unsynced.value);
      continue;
    }
    if ('refused' in op) {
      runRefused(store, op.refused, run);
      continue;
    }
    run.begin(op);
    applyTo(store, op);
    run.acknowledge(op);
  }
}

function runRefused(store: StateFs, op: KeyValueOp, run: Run<KeyValueOp>): void {
  run.begin(op);
  try {
    applyTo(store, op);
  } catch (error) {
    if (codeOf(error) !== 'EDQUOT') throw error;
    run.fail(op);
    return;
  }
  // It was let through: the scenario's rule says what is wrong with that.
  run.acknowledge(op);
}

function recover(
  values: KnownValues,
  openStore: (device: BlockDevice) => StateFs,
  device: BlockDevice,
  run: RecoveryRun<KeyValueOp, KeyValueContent>,
  compactions: number,
): KeyValueContent {
  const store = openStore(device);
  const content = contentOf(store, values);
  run.observe(content);
  checkAgrees(openStore(device), content);
  for (let i = 0; i < compactions; i++) store.compact();
  const probe: KeyValueOp = { kind: 'put', key: PROBE_KEY, value: nextProbe(content.get(PROBE_KEY)) };
  run.begin(probe);
  applyTo(store, probe);
  run.acknowledge(probe);
  return contentOf(openStore(device), values);
}

/** One more than the last, so that every probe differs from the one before it. */
function nextProbe(last: Uint8Array | undefined): Uint8Array {
  return Uint8Array.of(1 + (last?.[0] ?? 0));
}

function applyTo(store: StateFs, op: KeyValueOp): void {
  if (op.kind === 'put') store.putAtomic(op.key, op.value);
  else if (op.kind === 'delete') store.delete(op.key);
  else {
    store.transaction((transaction) => {
      for (const part of op.ops) {
        if (part.kind === 'put') transaction.put(part.key, part.value);
        else if (part.kind === 'delete') transaction.delete(part.key);
      }
    });
  }
}

/** Everything that the store gives, read and verified. */
export function contentOf(store: StateFs, values: KnownValues): KeyValueContent {
  const content = new Map<string, Uint8Array>();
  for (const key of store.list()) content.set(key, values.intern(store.get(key)));
  return content;
}

/**
 * The few values that come back in every recovery, one array for each: so that comparing two contents is comparing
 * identities. Which array stands for a value changes no result.
 */
export class KnownValues {
  readonly #byLength = new Map<number, Uint8Array[]>();

  intern(value: Uint8Array): Uint8Array {
    const alike = this.#byLength.get(value.length);
    const known = alike?.find((other) => equalBytes(other, value));
    if (known !== undefined) return known;
    if (alike === undefined) this.#byLength.set(value.length, [value]);
    else if (alike.length < MAX_ALIKE) alike.push(value);
    return value;
  }
}

/** Values of one length that are remembered; a broken store may return any number of wrong ones. */
const MAX_ALIKE = 32;

/** A second recovery of the same disk must give the same keys with the same digests; the bytes were verified already. */
function checkAgrees(store: StateFs, content: KeyValueContent): void {
  const keys = store.list();
  const agrees =
    keys.length === content.size &&
    keys.every((key) => {
      const value = content.get(key);
      return value !== undefined && equalBytes(store.stat(key).digest, digestOf(value));
    });
  if (!agrees) throw new Error('a second recovery of the same disk gives other content');
}

/** Digests of values that {@link intern} knows. */
const digests = new WeakMap<Uint8Array, Uint8Array>();

function digestOf(value: Uint8Array): Uint8Array {
  let digest = digests.get(value);
  if (digest === undefined) {
    digest = sha256(value);
    digests.set(value, digest);
  }
  return digest;
}

/** The puts and deletes, those in transactions too. */
function partsOf(operations: StateFsWorkload['operations']): KeyValueOp[] {
  return operations.flatMap((op) => {
    if (typeof op === 'string') return [];
    if ('unsynced' in op) return partsOf([op.unsynced]);
    if ('refused' in op) return [];
    return op.kind === 'transaction' ? partsOf(op.ops) : [op];
  });
}

function contentAfter(operations: readonly KeyValueOp[]): KeyValueContent {
  const content = new Map<string, Uint8Array>();
  for (const op of partsOf(operations)) {
    if (op.kind === 'put') content.set(op.key, op.value);
    else if (op.kind === 'delete') content.delete(op.key);
  }
  return content;
}

export function describeOperation(op: KeyValueOp): string {
  if (op.kind === 'delete') return `delete ${op.key}`;
  if (op.kind === 'transaction') return `transaction of ${op.ops.length}`;
  return `putAtomic ${op.key} (${op.value.length} bytes)`;
}
