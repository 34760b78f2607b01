import type { BlockDevice } from '../../src/blockdev/index.ts';
import { equalBytes, VirtualClock } from '../../src/core/index.ts';
import type { History, KeyValueContent, KeyValueOp, RecoveryRun, Run, Scenario } from '../../src/explore/index.ts';
import { type CommitMode, format, open, type StateFs, type StoreRules, soundRules } from '../../src/statefs/index.ts';

/**
 * `put`: not durable by itself. `kill`: the program dies with the power on, and what the next one reads is shown to the
 * world. `close`: and opened again.
 */
export type LazyStep =
  | { readonly kind: 'put' | 'putAtomic'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string }
  | 'sync'
  | 'kill'
  | 'close';

export interface LazyOptions {
  readonly commit?: CommitMode;
  readonly rules?: StoreRules;
}

type Contents = readonly KeyValueContent[];
type LazyHistory = History<KeyValueOp, KeyValueContent>;

const CLOCK = new VirtualClock(1_700_000_000_000);
const STORE_ID = new Uint8Array(16).fill(0x77);
const PROBE_KEY = '/state/probe';

/** Scripts that use what `stateFsScenario` does not: unsynced puts, `close`, and a program that dies with the power on. */
export function lazyScenario(
  name: string,
  steps: readonly LazyStep[],
  { commit = 'checksummed', rules = soundRules }: LazyOptions = {},
): Scenario<KeyValueOp, KeyValueContent> {
  const start = (device: BlockDevice): StateFs => open(device, { commit, rules, clock: CLOCK });
  return {
    name,
    disk: { sectorCount: 1024 },
    format: (device) => format(device, { storeId: STORE_ID }),
    workload: (device, run) => work(() => start(device), steps, run),
    recover: (device, run) => recover(() => start(device), run),
    invariant: (content, history) => checkPrefix(content, history),
    describe: (op) => (op.kind === 'transaction' ? op.kind : `${op.kind} ${op.key}`),
  };
}

function work(start: () => StateFs, steps: readonly LazyStep[], run: Run<KeyValueOp>): void {
  let store = start();
  const pending: KeyValueOp[] = [];
  const settle = (): void => {
    for (const op of pending.splice(0)) run.acknowledge(op);
  };
  for (const step of steps) {
    if (typeof step === 'object') {
      const op = operationOf(step);
      pending.push(op);
      run.begin(op);
      apply(store, step);
      if (step.kind !== 'put') settle();
      continue;
    }
    if (step === 'sync') store.sync();
    if (step === 'close') store.close();
    if (step !== 'sync') store = start();
    if (step === 'kill') contentOf(store);
    settle();
  }
}

function operationOf(step: Exclude<LazyStep, string>): KeyValueOp {
  return step.kind === 'delete' ? step : { kind: 'put', key: step.key, value: step.value };
}

function apply(store: StateFs, step: Exclude<LazyStep, string>): void {
  if (step.kind === 'delete') store.delete(step.key);
  else if (step.kind === 'put') store.put(step.key, step.value);
  else store.putAtomic(step.key, step.value);
}

/** Looks, tells, and goes on to work: with a put of its own, which must be there for whoever recovers next. */
function recover(start: () => StateFs, run: RecoveryRun<KeyValueOp, KeyValueContent>): KeyValueContent {
  const store = start();
  const content = contentOf(store);
  run.observe(content);
  const last = content.get(PROBE_KEY)?.[0] ?? 0;
  const probe: KeyValueOp = { kind: 'put', key: PROBE_KEY, value: Uint8Array.of(last + 1) };
  run.begin(probe);
  store.putAtomic(PROBE_KEY, probe.value);
  run.acknowledge(probe);
  return contentOf(start());
}

function contentOf(store: StateFs): KeyValueContent {
  return new Map(store.list().map((key) => [key, store.get(key)]));
}

/**
 * Holds a content to the promise of unsynced puts: of what was not acknowledged, some first part is there, in order.
 * Acknowledging an operation acknowledges all that began before it.
 */
export function checkPrefix(content: KeyValueContent, history: LazyHistory): void {
  let settled: Contents = [new Map()];
  let pending: KeyValueOp[] = [];
  for (const event of history) {
    if (event.kind === 'begin') pending.push(event.op);
    else if (event.kind === 'cut') {
      settled = settled.flatMap((one) => prefixes(one, pending));
      pending = [];
    } else if (event.kind === 'acknowledge') {
      const done = pending.splice(0, pending.indexOf(event.op) + 1);
      settled = settled.map((one) => applied(one, done));
    } else if (event.kind === 'observe') {
      settled = settled.filter((one) => prefixes(one, pending).some((other) => isEqual(other, event.observation)));
    }
  }
  const allowed = settled.flatMap((one) => prefixes(one, pending));
  if (allowed.some((one) => isEqual(one, content))) return;
  throw new Error(`found ${describeContent(content)}; allowed: ${allowed.map(describeContent).join(' or ')}`);
}

function prefixes(content: KeyValueContent, ops: readonly KeyValueOp[]): Contents {
  return [content, ...ops.map((_, i) => applied(content, ops.slice(0, i + 1)))];
}

function applied(content: KeyValueContent, ops: readonly KeyValueOp[]): KeyValueContent {
  const result = new Map(content);
  for (const op of ops) {
    if (op.kind === 'put') result.set(op.key, op.value);
    else if (op.kind === 'delete') result.delete(op.key);
  }
  return result;
}

function isEqual(a: KeyValueContent, b: KeyValueContent): boolean {
  if (a.size !== b.size) return false;
  return [...a].every(([key, value]) => {
    const other = b.get(key);
    return other !== undefined && equalBytes(value, other);
  });
}

function describeContent(content: KeyValueContent): string {
  return `{${[...content].map(([key, value]) => `${key}: ${value.length} bytes`).join(', ')}}`;
}
