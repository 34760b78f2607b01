import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VirtualClock } from '../../src/core/index.ts';
import {
  Audit,
  Authority,
  baselinePolicy,
  loadPolicy,
  PolicyError,
  parsePolicy,
  reloadPolicy,
} from '../../src/statefsd/index.ts';

const GOOD = `# who may do what
version = 1
subjects = ["updated", "app.calc"]

[[rules]]
name = "boot control"
subject = "updated"
operations = ["put_atomic", "get"]
path = "/state/boot/"
effect = "allow"

[[rules]]
subject = "app.{id}"
operations = [
  "get",
  "list",
]
path = "/state/apps/{id}/"
effect = "allow"

[[budgets]]
subject = "app.{id}"
payloadBytes = 4096
`;

function refusal(text: string): PolicyError {
  try {
    parsePolicy(text, 'p.toml');
  } catch (error) {
    if (error instanceof PolicyError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('a policy file', () => {
  test('gives a policy', () => {
    const policy = parsePolicy(GOOD);
    expect(policy.subjects).toEqual(['updated', 'app.calc']);
    expect(policy.rules.map(({ path }) => path)).toEqual(['/state/boot/', '/state/apps/{id}/']);
    expect(policy.budgets).toEqual([{ subject: 'app.{id}', path: '/state/', payloadBytes: 4096 }]);
    expect(new Authority(policy).decide('app.calc', 'list', '/state/apps/calc/').allowed).toBe(true);
  });

  test('may have no rule: nobody may do anything', () => {
    expect(parsePolicy('version = 1\nsubjects = []\n').rules).toEqual([]);
  });

  const wrong: [string, string, string, string][] = [
    ['a version', 'version = 1', 'version = 2', 'p.toml:2: version: expected 1, got number 2: start the file'],
    ['no version', 'version = 1', '', 'p.toml:1: version: expected 1, got undefined'],
    ['an effect', 'effect = "allow"', 'effect = "permit"', 'p.toml:10: rule 1, effect: expected "allow" or "deny"'],
    ['a subject', 'subject = "updated"', 'subject = "updatd"', 'p.toml:7: rule 1, subject: string "updatd" is not in'],
    [
      'an operation in several lines',
      '  "list",',
      '  "lost",',
      'p.toml:14: rule 2, operations 2: expected one of put_',
    ],
    ['a path', 'path = "/state/apps/{id}/"', 'path = "/apps/"', 'p.toml:18: rule 2, path: expected a key, or a tree'],
    [
      'a field',
      'payloadBytes',
      'payload_bytes',
      'p.toml:23: budget 1, payload_bytes: there is no such field: expected',
    ],
    ['a table', '[[budgets]]', '[[budget]]', 'p.toml:21: budget: there is no such field: expected subjects, rules'],
    ['a missing field', 'effect = "allow"', '', 'p.toml:5: rule 1, effect: expected a string, got undefined'],
    ['a limit', '4096', '4096.5', 'p.toml:23: budget 1, payloadBytes: expected a whole number from 0 to'],
    ['its syntax', 'subject = "updated"', 'subject = ', 'p.toml:7: expected TOML (https://toml.io), got:'],
    ['a key twice', 'name = "boot control"', 'subject = "updated"', 'p.toml:7: expected TOML'],
  ];

  test.each(wrong)('that is wrong in %s is refused, with its line', (_what, from, to, message) => {
    expect(GOOD).toContain(from);
    const error = refusal(GOOD.replace(from, to));
    expect(error.code).toBe('EINVAL');
    expect(error.message.slice(0, message.length)).toBe(message);
  });

  test('is found at its line in a long one, after statements of many lines', () => {
    const comment = '#\n'.repeat(200);
    const list = `subjects = [\n${'"a",\n'.repeat(1)}${'# more\n'.repeat(40)}]`;
    const rule = '[[rules]]\nsubject = "a"\noperations = ["get"]\npath = "/state/x"\neffect = "allow"\n';
    const text = `version = 1\n${comment}${list}\n${rule.repeat(60)}${rule.replace('/state/x', '/x')}`;
    const line = text.split('\n').indexOf('path = "/x"') + 1;
    expect(refusal(text).message).toContain(`p.toml:${line}: rule 61, path:`);
  });

  test('is refused where it is too large, or nested', () => {
    expect(refusal('#'.repeat(300_000)).code).toBe('E2BIG');
    expect(refusal(`version = 1\nsubjects = ${'['.repeat(100_000)}`).code).toBe('EINVAL');
    expect(() => parsePolicy(1 as unknown as string)).toThrow(TypeError);
  });

  test('can name no prototype', () => {
    expect(refusal(`${GOOD}__proto__ = 1\n`).message).toContain('there is no such field');
    expect(refusal(`${GOOD}constructor = 1\n`).message).toContain('there is no such field');
  });
});

describe('on disk', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'powercut-policy-'));
    path = join(folder, 'policy.toml');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test('it is loaded', () => {
    writeFileSync(path, GOOD);
    expect(loadPolicy(path)).toEqual(parsePolicy(GOOD));
  });

  test('one that is absent, a folder, too large or no UTF-8 is refused by name', () => {
    const code = (bytes?: Uint8Array) => {
      if (bytes !== undefined) writeFileSync(path, bytes);
      try {
        loadPolicy(bytes === undefined ? join(folder, 'absent') : path);
      } catch (error) {
        if (error instanceof PolicyError && error.message.startsWith(folder)) return error.code;
        throw error;
      }
      return 'accepted';
    };
    expect(code()).toBe('EINVAL');
    expect(code(new Uint8Array(256 * 1024 + 1).fill(0x23))).toBe('E2BIG');
    expect(code(Uint8Array.of(0xff))).toBe('EINVAL');
    expect(() => loadPolicy(folder)).toThrow(PolicyError);
  });

  test('a reload takes a valid one, keeps the old one otherwise, and is audited', () => {
    const authority = new Authority(baselinePolicy());
    const audit = new Audit({ clock: new VirtualClock() });
    const before = authority.policy;
    writeFileSync(path, GOOD.replace('"allow"', '"permit"'));
    const refused = reloadPolicy(authority, path, audit);
    expect(refused.ok).toBe(false);
    expect(!refused.ok && refused.error.message).toContain(`${path}:10: rule 1, effect`);
    expect(authority.policy).toBe(before);
    writeFileSync(path, GOOD);
    expect(reloadPolicy(authority, path, audit)).toEqual({ ok: true, rules: 2, subjects: 2 });
    expect(authority.decide('app.calc', 'get', '/state/apps/calc/x').allowed).toBe(true);
    rmSync(path);
    expect(reloadPolicy(authority, path, audit).ok).toBe(false);
    expect(audit.recent().map(({ event, operation, code, path: where }) => [event, operation, code, where])).toEqual([
      ['policy', 'reload', 'EINVAL', path],
      ['policy', 'reload', 'OK', path],
      ['policy', 'reload', 'EINVAL', path],
    ]);
  });
});
