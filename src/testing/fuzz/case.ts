import { CodedError, describeValue } from '../../core/index.ts';
import { explorableFaultKinds, type MediaFaultKind, type ProfileName, profiles } from '../../faults/index.ts';
import { type CommitMode, MAX_PAYLOAD_BYTES } from '../../statefs/index.ts';

/** One step of a random workload. Values are made from `seed`: no two seeds give the same bytes. */
export type FuzzStep =
  /** Durable on return. */
  | {
      readonly do: 'put';
      readonly key: string;
      readonly bytes: number;
      readonly seed: number;
      readonly commit: CommitMode;
    }
  /** Durable with the next sync, or the next durable operation. */
  | { readonly do: 'put-lazily'; readonly key: string; readonly bytes: number; readonly seed: number }
  | { readonly do: 'delete'; readonly key: string; readonly commit: CommitMode }
  /** All of its parts take effect, or none. */
  | { readonly do: 'transaction'; readonly parts: readonly FuzzPart[]; readonly commit: CommitMode }
  /** `reopen`: the store is closed and opened. `kill`: its process dies, the power stays on, and it is opened. */
  | { readonly do: 'sync' | 'reopen' | 'kill' };

/** A put within a transaction; without `bytes` and `seed`, a delete. */
export type FuzzPart =
  | { readonly key: string; readonly bytes: number; readonly seed: number }
  | { readonly key: string };

/** Which crashes of a workload to look at. */
export type FuzzSearch =
  | { readonly strategy: 'exhaustive'; readonly depth: number }
  | { readonly strategy: 'random'; readonly depth: number; readonly seed: number; readonly runs: number };

/** What the medium does wrong once, beside the cuts. */
export interface FuzzFaults {
  readonly kind: MediaFaultKind;
  /** So many times where it could happen first in the workload it does not. From there on it is tried at each. */
  readonly skip: number;
}

/** A random scenario, whole: the same case gives the same result on every machine. */
export interface FuzzCase {
  readonly profile: ProfileName;
  readonly through: 'virtio' | 'direct';
  /** Size of the disk. */
  readonly diskBytes: number;
  readonly search: FuzzSearch;
  /** Absent: the medium is sound. With it every put is durable, and a sync is a scrub. */
  readonly faults?: FuzzFaults;
  readonly steps: readonly FuzzStep[];
}

const STEP_KINDS = ['put', 'put-lazily', 'delete', 'transaction', 'sync', 'reopen', 'kill'] as const;
/** Bounds of what is read from a file or a token. */
const MAX_STEPS = 10_000;
const MAX_PARTS = 64;
const MAX_DISK_BYTES = 64 * 1024 * 1024;
const MAX_RUNS = 1_000_000;
const MAX_SKIP = 100_000;

/**
 * A case from parsed JSON.
 * @throws CodedError EINVAL naming what is wrong
 */
export function fuzzCaseOf(value: unknown): FuzzCase {
  const { profile, through, diskBytes, search, faults, steps } = recordOf(value, 'case');
  if (!Array.isArray(steps)) throw wrong('steps', 'a list', steps);
  if (steps.length > MAX_STEPS) throw wrong('steps', `at most ${MAX_STEPS}`, steps.length);
  return {
    profile: oneOf('profile', profile, Object.keys(profiles) as ProfileName[]),
    through: oneOf('through', through, ['virtio', 'direct']),
    diskBytes: count('diskBytes', diskBytes, 4096, MAX_DISK_BYTES),
    search: searchOf(search),
    ...(faults === undefined ? {} : { faults: faultsOf(faults) }),
    steps: steps.map((step: unknown, at) => stepOf(step, `steps[${at}]`)),
  };
}

function searchOf(value: unknown): FuzzSearch {
  const search = recordOf(value, 'search');
  const depth = count('search.depth', search['depth'], 1, 4);
  const strategy = oneOf('search.strategy', search['strategy'], ['exhaustive', 'random']);
  if (strategy === 'exhaustive') return { strategy, depth };
  const seed = count('search.seed', search['seed'], 0, Number.MAX_SAFE_INTEGER);
  return { strategy, depth, seed, runs: count('search.runs', search['runs'], 1, MAX_RUNS) };
}

function faultsOf(value: unknown): FuzzFaults {
  const faults = recordOf(value, 'faults');
  return {
    kind: oneOf('faults.kind', faults['kind'], explorableFaultKinds),
    skip: count('faults.skip', faults['skip'], 0, MAX_SKIP),
  };
}

function stepOf(value: unknown, label: string): FuzzStep {
  const step = recordOf(value, label);
  const kind = oneOf(`${label}.do`, step['do'], STEP_KINDS);
  if (kind === 'sync' || kind === 'reopen' || kind === 'kill') return { do: kind };
  const commitOf = () => oneOf<CommitMode>(`${label}.commit`, step['commit'], ['ordered', 'checksummed']);
  if (kind === 'transaction') {
    return { do: kind, parts: partsOf(step['parts'], `${label}.parts`), commit: commitOf() };
  }
  const key = keyOf(step, label);
  if (kind === 'delete') return { do: kind, key, commit: commitOf() };
  const content = contentOf(step, label);
  return kind === 'put' ? { do: kind, key, ...content, commit: commitOf() } : { do: kind, key, ...content };
}

function partsOf(value: unknown, label: string): FuzzPart[] {
  if (!Array.isArray(value)) throw wrong(label, 'a list', value);
  if (value.length < 1 || value.length > MAX_PARTS) throw wrong(label, `1 to ${MAX_PARTS} parts`, value.length);
  return value.map((each: unknown, at) => {
    const part = recordOf(each, `${label}[${at}]`);
    const key = keyOf(part, `${label}[${at}]`);
    return 'bytes' in part ? { key, ...contentOf(part, `${label}[${at}]`) } : { key };
  });
}

function keyOf({ key }: Readonly<Record<string, unknown>>, label: string): string {
  if (typeof key !== 'string') throw wrong(`${label}.key`, 'a string', key);
  return key;
}

function contentOf(value: Readonly<Record<string, unknown>>, label: string): { bytes: number; seed: number } {
  return {
    bytes: count(`${label}.bytes`, value['bytes'], 0, MAX_PAYLOAD_BYTES),
    seed: count(`${label}.seed`, value['seed'], 0, Number.MAX_SAFE_INTEGER),
  };
}

function recordOf(value: unknown, label: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw wrong(label, 'an object', value);
}

function oneOf<T extends string>(label: string, value: unknown, allowed: readonly T[]): T {
  if (allowed.includes(value as T)) return value as T;
  throw wrong(label, allowed.join(' or '), value);
}

function count(label: string, value: unknown, minimum: number, maximum: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= minimum && (value as number) <= maximum)
    return value as number;
  throw wrong(label, `a whole number from ${minimum} to ${maximum}`, value);
}

function wrong(label: string, expected: string, got: unknown): CodedError {
  return new CodedError('EINVAL', `fuzz case: ${label}: expected ${expected}, got ${describeValue(got)}`);
}
