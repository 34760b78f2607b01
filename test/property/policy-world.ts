import fc from 'fast-check';
import { type Prng, Sfc32 } from '../../src/core/index.ts';
import { OPERATION_NAMES, type OperationName, type Policy, type PolicyRule } from '../../src/statefsd/index.ts';

/** Subjects that requests come from; the last is in no policy. */
export const SUBJECTS = ['updated', 'keystored', 'app.calc', 'app.calculator', 'app.a.b', 'stranger'];
const LISTED = SUBJECTS.slice(0, -1);

/** Names of parts: some start like others, so that a rule which forgets where a part ends is noticed. */
const PARTS = ['a', 'ab', 'b', 'calc', 'calculator', 'a.b', 'boot', '{id}'];
const KEY_OPERATIONS: OperationName[] = ['put_atomic', 'put', 'get', 'delete'];
const TREE_OPERATIONS: OperationName[] = [...KEY_OPERATIONS, 'list'];

const place = fc.record({
  parts: fc.array(fc.constantFrom(...PARTS), { maxLength: 3 }),
  isTree: fc.boolean(),
});

const rule: fc.Arbitrary<PolicyRule> = fc
  .record({
    subject: fc.constantFrom('*', 'app.{id}', 'app.a.{id}', ...LISTED),
    place,
    store: fc.nat({ max: 9 }),
    operations: fc.subarray(TREE_OPERATIONS, { minLength: 1 }),
    storeOperations: fc.subarray<OperationName>(['sync', 'stats', 'reopen'], { minLength: 1 }),
    effect: fc.constantFrom('allow', 'allow', 'deny'),
  })
  .map(({ subject, place: { parts, isTree }, store, operations, storeOperations, effect }): PolicyRule => {
    if (store === 0) return { subject, operations: storeOperations, path: '/state/', effect };
    const named = parts.map((part) => (part === '{id}' && !subject.endsWith('{id}') ? 'a' : part));
    const path = `/state/${named.join('/')}${named.length === 0 ? '' : isTree ? '/' : ''}`;
    const fitting = path.endsWith('/') ? operations : operations.filter((name) => name !== 'list');
    return { subject, operations: fitting.length === 0 ? ['get'] : fitting, path, effect };
  });

/** Any valid policy; most rules of most policies matter to some request. */
export const policies: fc.Arbitrary<Policy> = fc
  .array(rule, { maxLength: 24 })
  .map((rules) => ({ subjects: LISTED, rules, budgets: [] }));

export interface Request {
  readonly subject: string;
  readonly operation: OperationName;
  readonly path: string;
}

const MALFORMED = [
  '',
  '/',
  '/sta',
  '/state',
  '/state/',
  '/state//a',
  '/state/a/../b',
  '/state/./a',
  'state/a',
  '/etc/x',
];

/** Requests that hit rules, miss them by a letter, and are malformed. */
export function drawRequest(prng: Prng): Request {
  const subject = pick(prng, SUBJECTS);
  const operation = pick(prng, OPERATION_NAMES);
  if (operation === 'sync' || operation === 'stats' || operation === 'reopen') {
    return { subject, operation, path: prng.below(8) === 0 ? '/state/a' : '' };
  }
  if (prng.below(16) === 0) return { subject, operation, path: pick(prng, MALFORMED) };
  const own = subject.startsWith('app.') ? subject.slice(4) : 'a';
  const parts: string[] = [];
  const depth = prng.below(4) + (operation === 'list' ? 0 : 1);
  for (let i = 0; i < depth; i++) parts.push(pick(prng, PARTS).replace('{id}', own));
  const path = `/state/${parts.join('/')}`;
  return { subject, operation, path: operation === 'list' && depth > 0 && prng.below(4) > 0 ? `${path}/` : path };
}

/** A thousand of them, say, the same for the same seed. */
export function* requests(seed: number, count: number): Generator<Request> {
  const prng = new Sfc32(seed);
  for (let i = 0; i < count; i++) yield drawRequest(prng);
}

/** What docs/security/policy.md says, in the most direct way, part by part of the path, and none of the code's. */
export function reference(policy: Policy, { subject, operation, path }: Request): boolean {
  if (!policy.subjects.includes(subject)) return false;
  const wholeStore = ['sync', 'stats', 'reopen'].includes(operation);
  if (wholeStore && path !== '' && path !== '/state/') return false;
  const target = wholeStore || (operation === 'list' && '/state/'.startsWith(path)) ? '/state/' : path;
  // A prefix may end anywhere in the last part.
  if (!wholeStore && target === path && !isWellFormed(operation === 'list' ? `${path}x` : path)) return false;
  for (const one of policy.rules) {
    const id = idOf(one.subject, subject);
    if (id === undefined || !one.operations.includes(operation)) continue;
    if (isBelow(target, one.path.split('{id}').join(id))) return one.effect === 'allow';
  }
  return false;
}

function isWellFormed(path: string): boolean {
  const [empty, state, ...parts] = path.split('/');
  const areNames = parts.length > 0 && parts.every((part) => part !== '' && part !== '.' && part !== '..');
  return empty === '' && state === 'state' && areNames;
}

function idOf(pattern: string, subject: string): string | undefined {
  if (pattern === '*' || pattern === subject) return '';
  const [start = '', end] = pattern.split('{id}');
  const fits = end === '' && subject.startsWith(start) && /^[a-z]/.test(subject.slice(start.length));
  return fits ? subject.slice(start.length) : undefined;
}

/** A tree has an empty last part: everything before it has to be there, and a further part. */
function isBelow(target: string, path: string): boolean {
  const [wanted, got] = [path.split('/'), target.split('/')];
  const isTree = wanted.at(-1) === '';
  if (!isTree) return wanted.length === got.length && wanted.every((part, i) => part === got[i]);
  return got.length >= wanted.length && wanted.slice(0, -1).every((part, i) => part === got[i]);
}

function pick<T>(prng: Prng, list: readonly T[]): T {
  return list[prng.below(list.length)] as T;
}
