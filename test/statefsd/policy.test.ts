import { describe, expect, test } from 'vitest';
import {
  Authority,
  baselinePolicy,
  checkPolicy,
  OPERATION_NAMES,
  type OperationName,
  type Policy,
  PolicyError,
  type PolicyRule,
} from '../../src/statefsd/index.ts';

const rule = (over: Partial<Record<keyof PolicyRule, unknown>> = {}) => ({
  subject: 'updated',
  operations: ['get'],
  path: '/state/boot/',
  effect: 'allow',
  ...over,
});
const policy = (...rules: unknown[]): Policy => ({ subjects: ['updated'], rules: rules as PolicyRule[], budgets: [] });

function refusal(value: unknown): PolicyError {
  try {
    checkPolicy(value);
  } catch (error) {
    if (error instanceof PolicyError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('a policy is refused', () => {
  const cases: [string, unknown, (string | number)[], RegExp][] = [
    ['that is none', null, [], /expected a table/],
    ['with an unknown field', { ...policy(), extra: 1 }, ['extra'], /no such field: expected subjects, rules, budgets/],
    ['without subjects', { rules: [] }, ['subjects'], /expected a list, got undefined/],
    ['with a bad subject', { subjects: ['a/b'], rules: [] }, ['subjects', 0], /subject 1: expected at most 64 letters/],
    ['with a subject of dots', { subjects: ['..'], rules: [] }, ['subjects', 0], /letters and digits/],
    ['with a subject twice', { subjects: ['a', 'a'], rules: [] }, ['subjects', 1], /listed already/],
    ['with a rule that is none', policy('x'), ['rules', 0], /rule 1: expected a table/],
    [
      'with an unknown field in a rule',
      policy(rule(), rule({}), { ...rule(), efect: 1 }),
      ['rules', 2, 'efect'],
      /rule 3/,
    ],
    ['with a misspelt subject', policy(rule({ subject: 'updatd' })), ['rules', 0, 'subject'], /mend its spelling/],
    ['with {id} in the middle', policy(rule({ subject: 'a.{id}.b' })), ['rules', 0, 'subject'], /not in "subjects"/],
    ['with {id} alone', policy(rule({ subject: '{id}' })), ['rules', 0, 'subject'], /expected a name before/],
    [
      'with an unknown operation',
      policy(rule({ operations: ['get', 'set'] })),
      ['rules', 0, 'operations', 1],
      /put_atomic/,
    ],
    ['with no operation', policy(rule({ operations: [] })), ['rules', 0, 'operations'], /at least one/],
    ['with an unknown effect', policy(rule({ effect: 'permit' })), ['rules', 0, 'effect'], /"allow" or "deny"/],
    ['with a path elsewhere', policy(rule({ path: '/etc/' })), ['rules', 0, 'path'], /below \/state\//],
    ['with a wildcard', policy(rule({ path: '/state/boot/*' })), ['rules', 0, 'path'], /without wildcards/],
    ['with an empty part', policy(rule({ path: '/state//boot/' })), ['rules', 0, 'path'], /expected a key/],
    ['with ..', policy(rule({ path: '/state/boot/../' })), ['rules', 0, 'path'], /expected a key/],
    ['with {id} of nobody', policy(rule({ path: '/state/{id}/' })), ['rules', 0, 'path'], /needs a subject/],
    [
      'with {id} in a part',
      policy(rule({ subject: 'app.{id}', path: '/state/x{id}/' })),
      ['rules', 0, 'path'],
      /wildcards/,
    ],
    [
      'with a list of a key',
      policy(rule({ operations: ['list'], path: '/state/boot/a' })),
      ['rules', 0, 'operations', 0],
      /needs a tree/,
    ],
    ['with sync of a tree', policy(rule({ operations: ['sync'] })), ['rules', 0, 'operations', 0], /whole store/],
    ['with a name that is no text', policy(rule({ name: 1 })), ['rules', 0, 'name'], /expected a string/],
    ['with a budget without a limit', { ...policy(), budgets: [{}] }, ['budgets', 0], /expected a limit/],
    [
      'with a budget below 0',
      { ...policy(), budgets: [{ deadlineMs: -1 }] },
      ['budgets', 0, 'deadlineMs'],
      /whole number/,
    ],
  ];

  test.each(cases)('%s', (_name, value, place, message) => {
    const error = refusal(value);
    expect(error.code).toBe('EINVAL');
    expect(error.message).toMatch(message);
    expect(error.place).toEqual(place);
  });

  const big: [string, unknown, RegExp][] = [
    ['rules', policy(...new Array(1025).fill(rule())), /rules: expected at most 1024, got 1025/],
    ['subjects', { subjects: new Array(1025).fill('a'), rules: [] }, /subjects: expected at most 1024/],
    ['budgets', { ...policy(), budgets: new Array(257).fill({}) }, /budgets: expected at most 256/],
    ['path', policy(rule({ path: `/state/${'a'.repeat(255)}/` })), /rule 1, path: expected at most 255 bytes/],
    ['name', policy(rule({ name: 'n'.repeat(101) })), /rule 1, name: expected at most 100 characters/],
  ];

  test.each(big)('with too much: %s', (_name, value, message) => {
    const error = refusal(value);
    expect(error.code).toBe('E2BIG');
    expect(error.message).toMatch(message);
  });
});

describe('an authority', () => {
  const keyOperations: OperationName[] = ['put_atomic', 'put', 'get', 'delete'];

  test('keeps to the baseline: each has its own, and nothing else', () => {
    const authority = new Authority(baselinePolicy(['calc', 'a.b']));
    const owners: Record<string, string> = {
      '/state/keystore/device.key': 'keystored',
      '/state/boot/bootctl': 'updated',
      '/state/apps/calc/settings': 'app.calc',
      '/state/apps/a.b/settings': 'app.a.b',
      '/state/elsewhere': 'nobody',
    };
    for (const subject of [...authority.policy.subjects, 'app.unknown']) {
      for (const [path, owner] of Object.entries(owners)) {
        const got = keyOperations.filter((operation) => authority.decide(subject, operation, path).allowed);
        expect([subject, path, got]).toEqual([subject, path, subject === owner ? keyOperations : []]);
      }
    }
  });

  test('says which rule decided, or why none was asked', () => {
    const authority = new Authority(baselinePolicy(['calc']));
    const said = (subject: string, operation: OperationName, path: string) =>
      authority.decide(subject, operation, path).rule;
    expect(said('keystored', 'get', '/state/keystore/k')).toBe("rule 1 (/state/keystore/ is keystored's)");
    expect(said('app.calc', 'get', '/state/keystore/k')).toBe("rule 2 (and nobody else's)");
    expect(said('app.calc', 'get', '/state/other')).toBe('no rule allows it');
    expect(said('stranger', 'get', '/state/other')).toBe('the policy does not list this subject');
    expect(said('app.calc', 'get', '/state/apps/calc/../../keystore/k')).toBe('the path is malformed');
    expect(said('app.calc', 'format' as OperationName, '/state/other')).toBe('there is no such operation');
  });

  test('a tree ends where its last part ends, and a key is one key', () => {
    const authority = new Authority(
      policy(rule({ path: '/state/a/', operations: ['get', 'list'] }), rule({ path: '/state/b', operations: ['get'] })),
    );
    const may = (path: string, operation: OperationName = 'get') =>
      authority.decide('updated', operation, path).allowed;
    expect(['/state/a/x', '/state/a/x/y', '/state/b'].map((path) => may(path))).toEqual([true, true, true]);
    expect(['/state/a', '/state/ab', '/state/b/x', '/state/bc'].map((path) => may(path))).toEqual(Array(4).fill(false));
    expect(['/state/a/', '/state/a/x', '/state/a/x/'].map((path) => may(path, 'list'))).toEqual([true, true, true]);
    expect(['', '/state/', '/state/a', '/state/b'].map((path) => may(path, 'list'))).toEqual(Array(4).fill(false));
  });

  test('a list of everything needs a rule for everything, however it is asked for', () => {
    const authority = new Authority(policy(rule({ path: '/state/', operations: ['list'] })));
    for (const prefix of ['', '/', '/sta', '/state', '/state/', '/state/a'])
      expect(authority.decide('updated', 'list', prefix).allowed).toBe(true);
    expect(authority.decide('updated', 'list', '/etc').allowed).toBe(false);
  });

  test('shows of a list what the subject may get', () => {
    const authority = new Authority(
      policy(
        rule({ path: '/state/a/secret', effect: 'deny' }),
        rule({ path: '/state/a/', operations: ['get', 'list'] }),
        rule({ path: '/state/', operations: ['list'] }),
      ),
    );
    const keys = ['/state/a/open', '/state/a/secret', '/state/b'];
    expect(authority.readable('updated', keys)).toEqual(['/state/a/open']);
    expect(authority.readable('stranger', keys)).toEqual([]);
  });

  test('puts another policy in force as a whole, or keeps the old one', () => {
    const authority = new Authority(policy(rule()));
    const before = authority.policy;
    expect(() => authority.replace(policy(rule(), rule({ effect: 'permit' })))).toThrow(PolicyError);
    expect(authority.policy).toBe(before);
    expect(authority.generation).toBe(1);
    expect(authority.decide('updated', 'get', '/state/boot/x').allowed).toBe(true);
    authority.replace(policy(rule({ effect: 'deny' })));
    expect(authority.generation).toBe(2);
    expect(authority.decide('updated', 'get', '/state/boot/x').allowed).toBe(false);
  });

  test('is not changed by changing what it was made from', () => {
    const rules = [rule()];
    const authority = new Authority(policy(...rules));
    rules[0] = rule({ effect: 'deny' });
    expect(authority.decide('updated', 'get', '/state/boot/x').allowed).toBe(true);
    expect(() => Object.assign(authority.policy.rules[0] as object, { effect: 'deny' })).toThrow(TypeError);
  });

  test('finds the first budget that matches', () => {
    const budgets = [
      { subject: 'app.{id}', path: '/state/apps/{id}/', payloadBytes: 1 },
      { subject: '*', path: '/state/boot/', deadlineMs: 2 },
      { subject: 'updated', path: '/state/', softLatencyMs: 3 },
    ];
    const authority = new Authority({ subjects: ['updated', 'app.calc'], rules: [], budgets });
    const at = (subject: string, path: string) => {
      const found = authority.budgetFor(subject, path);
      return found === undefined ? -1 : authority.policy.budgets.indexOf(found);
    };
    expect(at('app.calc', '/state/apps/calc/x')).toBe(0);
    expect(at('app.calc', '/state/apps/calculator/x')).toBe(-1);
    expect(at('updated', '/state/boot/x')).toBe(1);
    expect(at('updated', '/state/x')).toBe(2);
  });

  test('knows every operation', () => {
    expect(OPERATION_NAMES).toEqual(['put_atomic', 'put', 'get', 'delete', 'list', 'sync', 'stats', 'reopen']);
  });
});
