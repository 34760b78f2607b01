import { assertString, CodedError, describeValue } from '../core/index.ts';
import { MAX_KEY_BYTES } from '../statefs/index.ts';
import { OPERATION_NAMES, type OperationName } from './operations.ts';
import { matches, type PathRule, simplify, targetOf, toPathRule } from './path-rule.ts';
import { isOperation, operationBit } from './permissions.ts';
import { ID, isSubject, matchSubject, type Policy, PolicyError } from './policy.ts';

/** Most rules of a filter. */
export const MAX_FILTER_RULES = 64;
/** Longest path of a filter's rule, in UTF-16 units: a key has no more. */
export const MAX_FILTER_PATH_LENGTH: number = MAX_KEY_BYTES;
/** Longest serialised filter, in UTF-16 units. */
export const MAX_FILTER_TEXT_LENGTH: number = 64 * 1024;
/** The one version of the serialised form. */
export const FILTER_VERSION = 1;

/** A rule that applies to one subject, with the place that it has in the policy. */
export interface SubjectRule extends PathRule {
  readonly index: number;
}

/** The rules of a policy that apply to `subject`, in order, with `{id}` filled in. */
export function rulesFor(policy: Policy, subject: string): SubjectRule[] {
  const found: SubjectRule[] = [];
  for (const [index, rule] of policy.rules.entries()) {
    const id = matchSubject(rule.subject, subject);
    if (id === undefined) continue;
    found.push({ index, ...toPathRule(rule.operations, rule.path.replaceAll(ID, id), rule.effect) });
  }
  return found;
}

/**
 * The rules of one subject, as a small table that a client asks before it sends anything. It is a guardrail, not a
 * boundary: it saves a round trip and tells the caller at once, while the server decides on its own.
 * Deny by default; the first match wins; immutable.
 */
export class AbiFilter {
  readonly subject: string;
  readonly #rules: readonly PathRule[];

  /** Use {@link deriveFilter} or {@link AbiFilter.parse}. */
  constructor(subject: string, rules: readonly PathRule[]) {
    this.subject = subject;
    this.#rules = rules;
  }

  get ruleCount(): number {
    return this.#rules.length;
  }

  /** Whether the call may be sent. Never true for what the authority of the same policy denies. */
  allows(operation: OperationName, path: string): boolean {
    const bit = operationBit(operation);
    if (bit === 0) return false;
    const target = targetOf(operation, path);
    if (target === undefined) return false;
    for (const rule of this.#rules) if (matches(rule, bit, target)) return rule.effect === 'allow';
    return false;
  }

  /** One line of JSON, the same for the same rules; {@link AbiFilter.parse} reads it back. */
  serialize(): string {
    const rules = this.#rules.map(({ operationBits, path, effect }) => ({
      operations: OPERATION_NAMES.filter((name) => (operationBits & operationBit(name)) !== 0),
      path,
      effect,
    }));
    return JSON.stringify({ version: FILTER_VERSION, subject: this.subject, rules });
  }

  /**
   * Reads a serialised filter. What it does not understand it refuses: a filter that lost a rule could allow too much.
   * @throws CodedError E2BIG over a cap, EINVAL for anything that {@link serialize} does not write, EPROTO for another
   *   version
   */
  static parse(text: string): AbiFilter {
    assertString(text, 'filter');
    if (text.length > MAX_FILTER_TEXT_LENGTH) {
      throw new CodedError(
        'E2BIG',
        `filter: expected at most ${MAX_FILTER_TEXT_LENGTH} characters, got ${text.length}`,
      );
    }
    const value = parseJson(text);
    if (value.version !== FILTER_VERSION) {
      throw new CodedError(
        'EPROTO',
        `filter: expected version ${FILTER_VERSION}, got ${describeValue(value.version)}: derive it again`,
      );
    }
    if (typeof value.subject !== 'string' || !isSubject(value.subject)) refuse('subject', value.subject);
    if (!Array.isArray(value.rules)) refuse('rules', value.rules);
    checkRuleCount(value.rules.length, value.subject);
    const filter = new AbiFilter(value.subject, value.rules.map(parseRule));
    // One spelling: nothing unknown, nothing in another order, nothing twice.
    if (filter.serialize() !== text) refuse('text', text);
    return filter;
  }
}

/**
 * The filter of a subject, derived from the very rules that the authority decides by, without those that never decide.
 * Of a subject that the policy does not list, it allows nothing.
 * @throws PolicyError E2BIG where more than {@link MAX_FILTER_RULES} rules are left
 */
export function deriveFilter(policy: Policy, subject: string): AbiFilter {
  const rules = policy.subjects.includes(subject) ? simplify(rulesFor(policy, subject)) : [];
  checkRuleCount(rules.length, subject);
  return new AbiFilter(
    subject,
    rules.map(({ operationBits, path, effect }) => ({ operationBits, path, effect })),
  );
}

function checkRuleCount(count: number, subject: string): void {
  if (count <= MAX_FILTER_RULES) return;
  throw new PolicyError(
    'E2BIG',
    ['rules'],
    `rules: expected at most ${MAX_FILTER_RULES} that apply to ${subject}, got ${count}: put its keys below fewer folders`,
  );
}

function parseJson(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CodedError('EINVAL', 'filter: expected a line of JSON: derive it again', { cause: error });
  }
  if (typeof value !== 'object' || value === null) refuse('text', value);
  return value as Record<string, unknown>;
}

function parseRule(value: unknown): PathRule {
  if (typeof value !== 'object' || value === null) refuse('rule', value);
  const { operations, path, effect } = value as Record<string, unknown>;
  if (!Array.isArray(operations) || !operations.every((name) => typeof name === 'string' && isOperation(name))) {
    refuse('operations', operations);
  }
  if (typeof path !== 'string' || path.length > MAX_FILTER_PATH_LENGTH) refuse('path', path);
  if (effect !== 'allow' && effect !== 'deny') refuse('effect', effect);
  return toPathRule(operations as OperationName[], path, effect);
}

function refuse(field: string, got: unknown): never {
  throw new CodedError('EINVAL', `filter ${field}: expected what serialize() writes, got ${describeValue(got)}`);
}
