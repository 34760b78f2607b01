import { type AbiFilter, deriveFilter, rulesFor, type SubjectRule } from './abi-filter.ts';
import type { OperationName } from './operations.ts';
import { covers, matches, targetOf } from './path-rule.ts';
import { operationBit } from './permissions.ts';
import { checkPolicy, ID, matchSubject, type Policy, type PolicyBudget } from './policy.ts';

/** What was decided, and by what. The same object for the same rule: compare `allowed`, keep nothing. */
export interface Decision {
  readonly allowed: boolean;
  /** For people: `rule 3 (its own folder)`, or why no rule was asked. */
  readonly rule: string;
}

const NO_RULE: Decision = { allowed: false, rule: 'no rule allows it' };
const NOT_LISTED: Decision = { allowed: false, rule: 'the policy does not list this subject' };
const MALFORMED: Decision = { allowed: false, rule: 'the path is malformed' };
const NO_OPERATION: Decision = { allowed: false, rule: 'there is no such operation' };

interface CompiledRule extends SubjectRule {
  readonly decision: Decision;
}

/**
 * The one place that says who may do what. Deny by default, first match wins, and a decision is a pure function of the
 * policy, the subject, the operation and the path.
 */
export class Authority {
  #policy: Policy;
  /** The rules of each listed subject, in order. */
  #rules: ReadonlyMap<string, readonly CompiledRule[]>;
  #generation = 1;

  /** @throws PolicyError for what is no policy */
  constructor(policy: Policy) {
    const checked = checkPolicy(policy);
    this.#rules = compile(checked);
    this.#policy = checked;
  }

  /** The policy in force. */
  get policy(): Policy {
    return this.#policy;
  }

  /** Goes up with every {@link replace}: a filter derived at another generation is out of date. */
  get generation(): number {
    return this.#generation;
  }

  /**
   * Puts another policy in force, as a whole or not at all.
   * @throws PolicyError, and the old one stays
   */
  replace(policy: Policy): void {
    const checked = checkPolicy(policy);
    this.#rules = compile(checked);
    this.#policy = checked;
    this.#generation++;
  }

  /**
   * Whether `subject`, known from its channel, may do it.
   * @param path the key; of `list` the prefix; of `sync`, `stats` and `reopen` empty
   */
  decide(subject: string, operation: OperationName, path: string): Decision {
    const bit = operationBit(operation);
    if (bit === 0) return NO_OPERATION;
    const rules = this.#rules.get(subject);
    if (rules === undefined) return NOT_LISTED;
    const target = targetOf(operation, path);
    if (target === undefined) return MALFORMED;
    for (const rule of rules) if (matches(rule, bit, target)) return rule.decision;
    return NO_RULE;
  }

  /** Whether a key may show in a list: it does where the subject may get it. */
  mayRead(subject: string, key: string): boolean {
    return this.decide(subject, 'get', key).allowed;
  }

  /** Of `keys`, those that the subject may read; a new array. */
  readable(subject: string, keys: readonly string[]): string[] {
    return keys.filter((key) => this.mayRead(subject, key));
  }

  /** The guardrail of a subject: see docs/security/abi-filters.md. */
  filterFor(subject: string): AbiFilter {
    return deriveFilter(this.#policy, subject);
  }

  /**
   * The first budget that matches, or undefined. Budgets limit, they don't permit: this is asked after {@link decide}.
   */
  budgetFor(subject: string, path: string): PolicyBudget | undefined {
    return this.#policy.budgets.find((budget) => {
      const id = matchSubject(budget.subject, subject);
      return id !== undefined && covers(budget.path.replaceAll(ID, id), path);
    });
  }
}

function compile(policy: Policy): Map<string, readonly CompiledRule[]> {
  const decisions = policy.rules.map(({ effect, name }, at): Decision => {
    return Object.freeze({
      allowed: effect === 'allow',
      rule: name === undefined ? `rule ${at + 1}` : `rule ${at + 1} (${name})`,
    });
  });
  const compiled = new Map<string, readonly CompiledRule[]>();
  for (const subject of policy.subjects) {
    // A filter has to exist for everyone; that it does is a part of what makes a policy valid.
    deriveFilter(policy, subject);
    const rules = rulesFor(policy, subject);
    compiled.set(
      subject,
      rules.map((rule) => ({ ...rule, decision: decisions[rule.index] as Decision })),
    );
  }
  return compiled;
}
