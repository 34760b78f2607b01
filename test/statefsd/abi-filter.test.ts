import { describe, expect, test } from 'vitest';
import {
  AbiFilter,
  Authority,
  baselinePolicy,
  checkPolicy,
  deriveFilter,
  MAX_FILTER_RULES,
  type Policy,
} from '../../src/statefsd/index.ts';
import { codeThrown } from './code-thrown.ts';

/** A subject with `count` rules of its own, none of which can be left out. */
function manyRules(count: number): Policy {
  const rules = Array.from({ length: count }, (_, i) => ({
    subject: 'a',
    operations: ['get' as const],
    path: `/state/${i}/`,
    effect: 'allow' as const,
  }));
  return { subjects: ['a'], rules, budgets: [] };
}

describe('a filter', () => {
  test('has the rules of its subject that decide something, and no other', () => {
    const filter = deriveFilter(baselinePolicy(['calc']), 'app.calc');
    expect(JSON.parse(filter.serialize())).toEqual({
      version: 1,
      subject: 'app.calc',
      rules: [
        { operations: ['put_atomic', 'put', 'get', 'delete', 'list'], path: '/state/keystore/', effect: 'deny' },
        { operations: ['put_atomic', 'put', 'get', 'delete', 'list'], path: '/state/boot/', effect: 'deny' },
        { operations: ['put_atomic', 'put', 'get', 'delete', 'list'], path: '/state/apps/calc/', effect: 'allow' },
        { operations: ['sync', 'stats'], path: '/state/', effect: 'allow' },
      ],
    });
    expect(filter.allows('put_atomic', '/state/apps/calc/x')).toBe(true);
    expect(filter.allows('put_atomic', '/state/apps/calculator/x')).toBe(false);
    expect(filter.allows('sync', '')).toBe(true);
    expect(filter.allows('reopen', '')).toBe(false);
    expect(filter.allows('format' as 'get', '/state/apps/calc/x')).toBe(false);
  });

  test('of a stranger allows nothing', () => {
    const filter = deriveFilter(baselinePolicy(), 'stranger');
    expect(filter.ruleCount).toBe(0);
    expect(filter.allows('stats', '')).toBe(false);
  });

  test('leaves out what an earlier rule decides, and denials at the end', () => {
    const all = { subject: 'a', path: '/state/x/', effect: 'allow' } as const;
    const filter = deriveFilter(
      checkPolicy({
        subjects: ['a'],
        rules: [
          { ...all, operations: ['get'] },
          { ...all, operations: ['get', 'put'], path: '/state/x/y', effect: 'deny' },
          { ...all, operations: ['get'], path: '/state/x/z/', effect: 'deny' },
          { ...all, operations: ['put'] },
          { ...all, operations: ['delete'], effect: 'deny' },
        ],
        budgets: [],
      }),
      'a',
    );
    expect(JSON.parse(filter.serialize()).rules).toEqual([
      { operations: ['get'], path: '/state/x/', effect: 'allow' },
      { operations: ['put'], path: '/state/x/y', effect: 'deny' },
      { operations: ['put'], path: '/state/x/', effect: 'allow' },
    ]);
  });

  test(`has at most ${MAX_FILTER_RULES} rules, and a policy that needs more is refused`, () => {
    expect(deriveFilter(manyRules(MAX_FILTER_RULES), 'a').ruleCount).toBe(MAX_FILTER_RULES);
    expect(codeThrown(() => new Authority(manyRules(MAX_FILTER_RULES)))).toBe('none');
    expect(codeThrown(() => deriveFilter(manyRules(MAX_FILTER_RULES + 1), 'a'))).toBe('E2BIG');
    expect(codeThrown(() => new Authority(manyRules(MAX_FILTER_RULES + 1)))).toBe('E2BIG');
  });

  test('comes back from its text, letter by letter', () => {
    const text = deriveFilter(baselinePolicy(['calc']), 'app.calc').serialize();
    expect(AbiFilter.parse(text).serialize()).toBe(text);
  });

  const one = '{"operations":["get"],"path":"/state/a","effect":"allow"}';
  const texts: [string, string, string][] = [
    ['no JSON', '{', 'EINVAL'],
    ['no object', 'null', 'EINVAL'],
    ['another version', '{"version":2,"subject":"a","rules":[]}', 'EPROTO'],
    ['a bad subject', '{"version":1,"subject":"../a","rules":[]}', 'EINVAL'],
    ['no rules', '{"version":1,"subject":"a"}', 'EINVAL'],
    ['a rule that is none', '{"version":1,"subject":"a","rules":[1]}', 'EINVAL'],
    ['an unknown operation', `{"version":1,"subject":"a","rules":[${one.replace('get', 'set')}]}`, 'EINVAL'],
    ['an unknown effect', `{"version":1,"subject":"a","rules":[${one.replace('allow', 'ask')}]}`, 'EINVAL'],
    ['a long path', `{"version":1,"subject":"a","rules":[${one.replace('/a', `/${'a'.repeat(255)}`)}]}`, 'EINVAL'],
    ['an unknown field', `{"version":1,"subject":"a","rules":[],"more":1}`, 'EINVAL'],
    ['an unknown field in a rule', `{"version":1,"subject":"a","rules":[${one.replace('}', ',"x":1}')}]}`, 'EINVAL'],
    ['another order of fields', '{"subject":"a","version":1,"rules":[]}', 'EINVAL'],
    ['a field twice', '{"version":1,"version":1,"subject":"a","rules":[]}', 'EINVAL'],
    ['blanks', ' {"version":1,"subject":"a","rules":[]}', 'EINVAL'],
    ['too many rules', `{"version":1,"subject":"a","rules":[${Array(65).fill(one).join(',')}]}`, 'E2BIG'],
    ['too much text', ' '.repeat(70_000), 'E2BIG'],
  ];

  test.each(texts)('is not read from %s', (_name, text, code) => {
    expect(codeThrown(() => AbiFilter.parse(text))).toBe(code);
  });

  test('a rule of one is read', () => {
    expect(AbiFilter.parse(`{"version":1,"subject":"a","rules":[${one}]}`).allows('get', '/state/a')).toBe(true);
  });

  test('is not read from what is no text', () => {
    expect(() => AbiFilter.parse(1 as unknown as string)).toThrow(TypeError);
  });
});
