import { CodedError, describeValue } from '../core/index.ts';
import { isKey, KEY_ROOT, MAX_KEY_BYTES } from '../statefs/index.ts';
import { OPERATION_NAMES, type OperationName } from './operations.ts';
import type { Effect } from './path-rule.ts';
import { isOperation, scopeOf } from './permissions.ts';

/**
 * Who may do what where. Policies are data: see docs/security/policy.md for the file and its meaning. The first rule
 * that matches decides; where none does, the answer is no.
 */
export interface Policy {
  /** Everyone who has a channel. A subject that is not listed is denied everything. */
  readonly subjects: readonly string[];
  readonly rules: readonly PolicyRule[];
  /** Limits by subject or path; the first that matches holds. */
  readonly budgets: readonly PolicyBudget[];
}

export interface PolicyRule {
  /** For people: it is named in decisions. */
  readonly name?: string;
  /**
   * A subject, `*` for all of them, or a start and `{id}`: `app.{id}` is every subject that starts with `app.`, and
   * `{id}` in the path stands for the rest.
   */
  readonly subject: string;
  readonly operations: readonly OperationName[];
  /** A key, or a tree that ends in `/`. Of `sync`, `stats` and `reopen`: {@link KEY_ROOT}, they concern the store. */
  readonly path: string;
  readonly effect: Effect;
}

/** What a request may take. Fields left out are the store's. */
export interface PolicyBudget {
  /** As in a rule; default `*`. */
  readonly subject: string;
  /** As in a rule; default {@link KEY_ROOT}. */
  readonly path: string;
  readonly payloadBytes?: number;
  readonly softLatencyMs?: number;
  readonly deadlineMs?: number;
}

/** Most rules of a policy. */
export const MAX_POLICY_RULES = 1024;
/** Most budgets of a policy. */
export const MAX_POLICY_BUDGETS = 256;
/** Most subjects of a policy: each has a socket. */
export const MAX_POLICY_SUBJECTS = 1024;
/** Longest subject. It is the name of a socket, and a part of keys. */
export const MAX_SUBJECT_LENGTH = 64;
/** Longest name of a rule. */
export const MAX_RULE_NAME_LENGTH = 100;
/** Largest payload, and longest time, that a budget may name. */
const MAX_BUDGET_PAYLOAD_BYTES = 64 * 1024 * 1024;
const MAX_BUDGET_MS = 3_600_000;

/** Letters, digits, and between them `.`, `_`, `-`: safe as a file name and as a part of a key, never `.` or `..`. */
const SUBJECT = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/;
/** Stands for the rest of a subject. */
export const ID = '{id}';

/** Where in a policy something is wrong, so that a reader of files can say the line. */
export type PolicyPlace = readonly (string | number)[];

/** A policy that is refused: code EINVAL, or E2BIG over a cap. */
export class PolicyError extends CodedError {
  declare readonly code: 'EINVAL' | 'E2BIG';
  /** Fields and indexes that lead to the fault: `['rules', 3, 'effect']`. */
  readonly place: PolicyPlace;

  constructor(code: 'EINVAL' | 'E2BIG', place: PolicyPlace, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
    this.place = place;
  }
}

/** Whether `subject` can be one. */
export function isSubject(subject: string): boolean {
  return subject.length <= MAX_SUBJECT_LENGTH && SUBJECT.test(subject);
}

/**
 * Checks a policy, and returns one of its own that the caller can't change.
 * @throws PolicyError
 */
export function checkPolicy(value: unknown): Policy {
  const policy = fieldsOf(value, [], ['subjects', 'rules', 'budgets']);
  const subjects = listOf(policy['subjects'], ['subjects'], MAX_POLICY_SUBJECTS).map(checkSubject);
  const twice = subjects.findIndex((subject, at) => subjects.indexOf(subject) !== at);
  if (twice >= 0) bad(['subjects', twice], `${describeValue(subjects[twice])} is listed already: drop it here`);
  const rules = listOf(policy['rules'], ['rules'], MAX_POLICY_RULES).map((rule, at) => checkRule(rule, at, subjects));
  const budgets = listOf(policy['budgets'] ?? [], ['budgets'], MAX_POLICY_BUDGETS).map((budget, at) =>
    checkBudget(budget, at, subjects),
  );
  return Object.freeze({
    subjects: Object.freeze(subjects),
    rules: Object.freeze(rules),
    budgets: Object.freeze(budgets),
  });
}

/**
 * What boot-critical state needs: `keystored` alone has `/state/keystore/`, `updated` alone `/state/boot/`, and each
 * application, subject `app.ID`, its own `/state/apps/ID/`.
 * @param applications their ids
 */
export function baselinePolicy(applications: readonly string[] = []): Policy {
  const all: OperationName[] = ['put_atomic', 'put', 'get', 'delete', 'list'];
  const owned = (subject: string, path: string): PolicyRule[] => [
    { name: `${path} is ${subject}'s`, subject, operations: all, path, effect: 'allow' },
    { name: `and nobody else's`, subject: '*', operations: all, path, effect: 'deny' },
  ];
  return checkPolicy({
    subjects: ['updated', 'keystored', ...applications.map((id) => `app.${id}`)],
    rules: [
      ...owned('keystored', '/state/keystore/'),
      ...owned('updated', '/state/boot/'),
      { name: 'its own folder', subject: `app.${ID}`, operations: all, path: `/state/apps/${ID}/`, effect: 'allow' },
      { name: 'durability', subject: '*', operations: ['sync', 'stats'], path: KEY_ROOT, effect: 'allow' },
    ],
    budgets: [],
  });
}

/** What `{id}` stands for, where the pattern matches the subject; undefined where it does not, '' without an `{id}`. */
export function matchSubject(pattern: string, subject: string): string | undefined {
  if (pattern === '*' || pattern === subject) return '';
  if (!pattern.endsWith(ID)) return undefined;
  const start = pattern.slice(0, -ID.length);
  const id = subject.slice(start.length);
  // What stands in a path has to be a name: never empty, and neither `.` nor `..`.
  return subject.startsWith(start) && SUBJECT.test(id) ? id : undefined;
}

function checkSubject(value: unknown, at: number): string {
  const place = ['subjects', at];
  const subject = textOf(value, place);
  if (!isSubject(subject)) {
    bad(
      place,
      `expected at most ${MAX_SUBJECT_LENGTH} letters and digits, with . _ - between them, got ${describeValue(subject)}`,
    );
  }
  return subject;
}

function checkRule(value: unknown, at: number, subjects: readonly string[]): PolicyRule {
  const place = ['rules', at];
  const rule = fieldsOf(value, place, ['name', 'subject', 'operations', 'path', 'effect']);
  const subject = checkPattern(rule['subject'], [...place, 'subject'], subjects);
  const path = checkPath(rule['path'], [...place, 'path'], subject);
  const operations = checkOperations(rule['operations'], [...place, 'operations'], path);
  const effect = textOf(rule['effect'], [...place, 'effect']);
  if (effect !== 'allow' && effect !== 'deny')
    bad([...place, 'effect'], `expected "allow" or "deny", got ${describeValue(effect)}`);
  const name = rule['name'] === undefined ? undefined : textOf(rule['name'], [...place, 'name']);
  if (name !== undefined && name.length > MAX_RULE_NAME_LENGTH) {
    tooBig([...place, 'name'], `expected at most ${MAX_RULE_NAME_LENGTH} characters, got ${name.length}: shorten it`);
  }
  return Object.freeze({ ...(name === undefined ? {} : { name }), subject, operations, path, effect });
}

function checkPattern(value: unknown, place: PolicyPlace, subjects: readonly string[]): string {
  const pattern = textOf(value, place);
  if (pattern === '*') return pattern;
  const start = pattern.endsWith(ID) ? pattern.slice(0, -ID.length) : pattern;
  if (start !== pattern) {
    if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(start) && start.length < MAX_SUBJECT_LENGTH) return pattern;
    bad(place, `expected a name before ${ID}, as in "app.${ID}", got ${describeValue(pattern)}`);
  }
  if (subjects.includes(pattern)) return pattern;
  bad(place, `${describeValue(pattern)} is not in "subjects": add it there, or mend its spelling`);
}

function checkPath(value: unknown, place: PolicyPlace, subject: string): string {
  const path = textOf(value, place);
  if (path.length > MAX_KEY_BYTES)
    tooBig(place, `expected at most ${MAX_KEY_BYTES} bytes, got ${path.length} or more: shorten it`);
  // An {id} is a whole part of the path: what it stands for is a name, and can't reach out of its place.
  const plain = path
    .split('/')
    .map((part) => (part === ID ? 'id' : part))
    .join('/');
  if (plain !== path && !subject.endsWith(ID)) bad(place, `${ID} needs a subject that ends in ${ID}`);
  const isTree = path.endsWith('/');
  const isSound = path === KEY_ROOT || isKey(isTree ? plain.slice(0, -1) : plain);
  if (!isSound || /[{}*?[\]\\]/.test(plain)) {
    bad(
      place,
      `expected a key, or a tree that ends in "/", below ${KEY_ROOT}, without wildcards, got ${describeValue(path)}`,
    );
  }
  return path;
}

function checkOperations(value: unknown, place: PolicyPlace, path: string): readonly OperationName[] {
  const operations = listOf(value, place, OPERATION_NAMES.length).map((name, at) => {
    const operation = textOf(name, [...place, at]);
    if (!isOperation(operation)) {
      bad([...place, at], `expected one of ${OPERATION_NAMES.join(', ')}, got ${describeValue(operation)}`);
    }
    const scope = scopeOf(operation);
    if (scope === 'store' && path !== KEY_ROOT) {
      bad([...place, at], `${operation} concerns the whole store: give it a rule of its own, with path "${KEY_ROOT}"`);
    }
    if (scope === 'prefix' && !path.endsWith('/')) {
      bad([...place, at], `${operation} needs a tree: end the path in "/", or give the key a rule without it`);
    }
    return operation;
  });
  if (operations.length === 0) bad(place, 'expected at least one operation, got none: add one, or drop the rule');
  return Object.freeze(operations);
}

function checkBudget(value: unknown, at: number, subjects: readonly string[]): PolicyBudget {
  const place = ['budgets', at];
  const limitNames = ['payloadBytes', 'softLatencyMs', 'deadlineMs'] as const;
  const budget = fieldsOf(value, place, ['subject', 'path', ...limitNames]);
  const subject = checkPattern(budget['subject'] ?? '*', [...place, 'subject'], subjects);
  const path = checkPath(budget['path'] ?? KEY_ROOT, [...place, 'path'], subject);
  const limits: { -readonly [name in (typeof limitNames)[number]]?: number } = {};
  for (const name of limitNames) {
    const maximum = name === 'payloadBytes' ? MAX_BUDGET_PAYLOAD_BYTES : MAX_BUDGET_MS;
    if (budget[name] !== undefined) limits[name] = countOf(budget[name], [...place, name], maximum);
  }
  if (Object.keys(limits).length === 0) bad(place, `expected a limit: one of ${limitNames.join(', ')}`);
  return Object.freeze({ subject, path, ...limits });
}

function fieldsOf(value: unknown, place: PolicyPlace, known: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    bad(place, `expected a table with ${known.join(', ')}, got ${describeValue(value)}`);
  }
  const unknown = Object.keys(value).find((field) => !known.includes(field));
  if (unknown !== undefined) {
    bad([...place, unknown], `there is no such field: expected ${known.join(', ')}; drop it, or mend its spelling`);
  }
  return value as Record<string, unknown>;
}

function listOf(value: unknown, place: PolicyPlace, maximum: number): unknown[] {
  if (!Array.isArray(value)) bad(place, `expected a list, got ${describeValue(value)}`);
  if (value.length > maximum) tooBig(place, `expected at most ${maximum}, got ${value.length}: drop some`);
  return value;
}

function textOf(value: unknown, place: PolicyPlace): string {
  if (typeof value === 'string') return value;
  bad(place, `expected a string, got ${describeValue(value)}`);
}

function countOf(value: unknown, place: PolicyPlace, maximum: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= maximum) return value;
  bad(place, `expected a whole number from 0 to ${maximum}, got ${describeValue(value)}`);
}

function bad(place: PolicyPlace, message: string): never {
  throw new PolicyError('EINVAL', place, `${nameOf(place)}: ${message}`);
}

function tooBig(place: PolicyPlace, message: string): never {
  throw new PolicyError('E2BIG', place, `${nameOf(place)}: ${message}`);
}

/** `rules[3].effect`, counted from 1 as people do: `rule 4, effect`. */
function nameOf(place: PolicyPlace): string {
  const [list, at, ...fields] = place;
  if (list === undefined) return 'policy';
  if (typeof at !== 'number') return String(list);
  const one = `${String(list).replace(/s$/, '')} ${at + 1}`;
  const rest = fields.map((field) => (typeof field === 'number' ? `${field + 1}` : field)).join(' ');
  return rest === '' ? one : `${one}, ${rest}`;
}
