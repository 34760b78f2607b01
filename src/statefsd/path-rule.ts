import { isKey, KEY_ROOT } from '../statefs/index.ts';
import type { OperationName } from './operations.ts';
import { operationBits, scopeOf } from './permissions.ts';

/** What a matching rule does. */
export type Effect = 'allow' | 'deny';

/**
 * A rule with its subject settled: the one form in which rules are matched, by the authority and by ABI filters.
 *
 * `path` ends in `/`: it covers every key below, and every `list` of a prefix that starts with it. Otherwise it covers
 * that one key. So `/state/apps/calc/` never covers `/state/apps/calculator/x`, and no rule does so by accident.
 */
export interface PathRule {
  readonly operationBits: number;
  readonly path: string;
  readonly effect: Effect;
}

/**
 * Whether a rule applies. The caller has seen to it that `target` is one of {@link targetOf}.
 * @param bit of the operation that is asked for
 */
export function matches(rule: PathRule, bit: number, target: string): boolean {
  if ((rule.operationBits & bit) === 0) return false;
  const { path } = rule;
  // A tree covers what is below it, not the key of its own name: `/state/a/` is no key.
  return path.charCodeAt(path.length - 1) === SLASH ? target.startsWith(path) : target === path;
}

/**
 * What a request is matched by: the key; the prefix of a `list`, where any start of {@link KEY_ROOT} means all of it; or
 * the root for what concerns the whole store. Undefined for a path that is malformed: no rule matches it.
 */
export function targetOf(operation: OperationName, path: string): string | undefined {
  const scope = scopeOf(operation);
  if (scope === 'store') return path === '' || path === KEY_ROOT ? KEY_ROOT : undefined;
  if (scope === 'key') return isKey(path) ? path : undefined;
  if (path.length < KEY_ROOT.length) return KEY_ROOT.startsWith(path) ? KEY_ROOT : undefined;
  // A start of some key: where its last part ends is open.
  return isKey(path) || isKey(`${path}x`) ? path : undefined;
}

/**
 * The same decisions with fewer rules: without rules that an earlier one always comes before, and without denials at
 * the end, where everything is denied anyway.
 */
export function simplify(rules: readonly PathRule[]): PathRule[] {
  const kept: PathRule[] = [];
  for (const rule of rules) {
    const left = rule.operationBits & ~coveredBits(kept, rule.path);
    if (left !== 0) kept.push(left === rule.operationBits ? rule : { ...rule, operationBits: left });
  }
  while (kept.at(-1)?.effect === 'deny') kept.pop();
  return kept;
}

/** The operations that earlier rules have decided for everything that `path` covers. */
function coveredBits(rules: readonly PathRule[], path: string): number {
  let bits = 0;
  for (const rule of rules) if (covers(rule.path, path)) bits |= rule.operationBits;
  return bits;
}

/** Whether everything that `inner` covers, `outer` covers too. */
export function covers(outer: string, inner: string): boolean {
  return outer.endsWith('/') ? inner.startsWith(outer) : outer === inner;
}

/** A rule as it is written down, with its operations as bits. */
export function toPathRule(operations: readonly OperationName[], path: string, effect: Effect): PathRule {
  return { operationBits: operationBits(operations), path, effect };
}

const SLASH = 0x2f;
