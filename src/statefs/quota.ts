import { assertInteger, describeValue } from '../core/index.ts';
import { fail } from './errors.ts';
import type { GroupOperation } from './group.ts';
import { type IndexEntry, keyBytesOf } from './index-entry.ts';
import { checkPrefix } from './keys.ts';
import { KIND_DELETE } from './layout.ts';

/** What keys under a prefix may take up. */
export interface QuotaLimits {
  readonly keys?: number;
  /** Of keys in UTF-8 and payloads. */
  readonly bytes?: number;
}

/** Limits for all keys that start with `prefix`. Where prefixes overlap, each quota counts for itself. */
export interface Quota {
  readonly prefix: string;
  /** Crossing it is told by an event. */
  readonly soft?: QuotaLimits;
  /** What would cross it is refused with EDQUOT, before anything is written. */
  readonly hard?: QuotaLimits;
}

/** What the keys of a quota take up. */
export interface QuotaUsage {
  readonly prefix: string;
  readonly keys: number;
  readonly bytes: number;
}

/** A soft limit that a change crossed. */
export interface QuotaCrossing {
  readonly prefix: string;
  readonly resource: 'keys' | 'bytes';
  readonly used: number;
  readonly limit: number;
}

interface Count {
  keys: number;
  bytes: number;
}

const RESOURCES = ['keys', 'bytes'] as const;

/**
 * Counts what each quota's keys take up: one for each key, and the bytes of the key in UTF-8 and of its payload, wherever
 * they stand. So the same content gives the same counts, after any history, move or recovery. A value that was lost
 * counts as its key alone.
 */
export class QuotaCounter {
  readonly #quotas: readonly Quota[];
  readonly #counts: readonly Count[];

  constructor(quotas: readonly Quota[]) {
    this.#quotas = quotas;
    this.#counts = quotas.map(() => ({ keys: 0, bytes: 0 }));
  }

  /** Nothing counted yet. */
  fresh(): QuotaCounter {
    return new QuotaCounter(this.#quotas);
  }

  add(entry: IndexEntry): void {
    this.#count(entry.key, 1, keyBytesOf(entry) + entry.payloadBytes);
  }

  remove(entry: IndexEntry): void {
    this.#count(entry.key, -1, -keyBytesOf(entry) - entry.payloadBytes);
  }

  usage(): QuotaUsage[] {
    return this.#quotas.map(({ prefix }, i) => ({ prefix, ...(this.#counts[i] as Count) }));
  }

  /**
   * Holds a group of operations on different keys to the quotas. What takes up less than before is always allowed.
   * @param existing the record that an operation replaces
   * @returns the soft limits that it will cross
   * @throws StateFsError EDQUOT
   */
  check(
    operations: readonly GroupOperation[],
    existing: (key: string) => IndexEntry | undefined,
  ): readonly QuotaCrossing[] {
    if (this.#quotas.length === 0) return NO_CROSSINGS;
    return this.#quotas.flatMap((quota, i) => {
      const change = changeUnder(quota.prefix, operations, existing);
      return RESOURCES.flatMap((resource) => {
        const before = (this.#counts[i] as Count)[resource];
        return crossingOf(quota, resource, before, before + change[resource]);
      });
    });
  }

  #count(key: string, keys: number, bytes: number): void {
    for (let i = 0; i < this.#quotas.length; i++) {
      if (!key.startsWith((this.#quotas[i] as Quota).prefix)) continue;
      const count = this.#counts[i] as Count;
      count.keys += keys;
      count.bytes += bytes;
    }
  }
}

const NO_CROSSINGS: readonly QuotaCrossing[] = [];

function changeUnder(
  prefix: string,
  operations: readonly GroupOperation[],
  existing: (key: string) => IndexEntry | undefined,
): Count {
  const change: Count = { keys: 0, bytes: 0 };
  for (const { kind, key, keyBytes, payloadBytes } of operations) {
    if (!key.startsWith(prefix)) continue;
    const old = existing(key);
    if (old !== undefined) {
      change.keys--;
      change.bytes -= keyBytesOf(old) + old.payloadBytes;
    }
    if (kind === KIND_DELETE) continue;
    change.keys++;
    change.bytes += keyBytes.length + payloadBytes;
  }
  return change;
}

function crossingOf(quota: Quota, resource: 'keys' | 'bytes', before: number, after: number): QuotaCrossing[] {
  if (after <= before) return [];
  const { prefix, hard, soft } = quota;
  const most = hard?.[resource];
  if (most !== undefined && after > most) {
    fail(
      'EDQUOT',
      `quota of ${prefix}: expected at most ${most} ${resource}, got ${after}: delete some, or raise the quota`,
    );
  }
  const limit = soft?.[resource];
  if (limit === undefined || before > limit || after <= limit) return [];
  return [{ prefix, resource, used: after, limit }];
}

/** @throws TypeError, RangeError, StateFsError EINVAL for what are no quotas */
export function checkQuotas(quotas: readonly Quota[]): readonly Quota[] {
  if (!Array.isArray(quotas)) throw new TypeError(`quotas: expected an array, got ${describeValue(quotas)}`);
  for (const [i, quota] of quotas.entries()) {
    if (typeof quota !== 'object' || quota === null) {
      throw new TypeError(`quotas[${i}]: expected an object, got ${describeValue(quota)}`);
    }
    checkPrefix(quota.prefix);
    for (const level of ['soft', 'hard'] as const) {
      for (const resource of RESOURCES) {
        const limit = quota[level]?.[resource];
        if (limit !== undefined) assertInteger(limit, `quotas[${i}].${level}.${resource}`);
      }
    }
  }
  // The caller's array may change: ours must not.
  return quotas.map(({ prefix, soft, hard }) => ({
    prefix,
    ...(soft === undefined ? {} : { soft: { ...soft } }),
    ...(hard === undefined ? {} : { hard: { ...hard } }),
  }));
}
