import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AbiFilter } from '../../src/statefsd/index.ts';
import { run } from './helpers.ts';

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'powercut-policy-command-'));
  file = join(folder, 'policy.toml');
  const page = readFileSync(new URL('../../docs/security/policy.md', import.meta.url), 'utf8');
  writeFileSync(file, /```toml\n(.*?)```/s.exec(page)?.[1] ?? '');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('powercut policy', () => {
  test('says what a file comes to', async () => {
    const { code, out, err } = await run('policy', file);
    expect([code, err]).toEqual([0, '']);
    expect(out).toBe(
      [
        `${file}: 3 subjects, 6 rules, 1 budgets`,
        '',
        'subject    rules that decide',
        'updated                    3',
        'keystored                  3',
        'app.calc                   4',
        '',
      ].join('\n'),
    );
    const { out: json } = await run('policy', file, '--json');
    expect(JSON.parse(json)).toMatchObject({ rules: 6, subjects: [{ subject: 'updated', filterRules: 3 }, {}, {}] });
  });

  test('prints the ABI filter of a subject, as a client reads it', async () => {
    const { code, out } = await run('policy', file, '--filter', 'app.calc');
    expect(code).toBe(0);
    const filter = AbiFilter.parse(out.trimEnd());
    expect([filter.subject, filter.allows('get', '/state/apps/calc/x')]).toEqual(['app.calc', true]);
  });

  test('says what would be decided, and why; the exit code is the answer', async () => {
    const path = '/state/keystore/device.key';
    expect(await run('policy', file, '--ask', 'keystored', 'get', path)).toMatchObject({
      code: 0,
      out: "allowed: rule 1 (/state/keystore/ is keystored's)\n",
    });
    expect(await run('policy', file, '--ask', 'app.calc', 'get', path)).toMatchObject({
      code: 1,
      out: "denied: rule 2 (and nobody else's)\n",
    });
    expect((await run('policy', file, '--ask', 'app.calc', 'sync')).code).toBe(0);
    const { out } = await run('policy', file, '--ask', 'app.calc', 'get', '/state/x', '--json');
    expect(JSON.parse(out)).toMatchObject({ allowed: false, rule: 'no rule allows it' });
  });

  test('a file that is no policy is misuse, with its line', async () => {
    writeFileSync(file, readFileSync(file, 'utf8').replace('effect = "allow"', 'effect = "permit"'));
    const { code, out, err } = await run('policy', file);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(
      /^powercut: .*policy\.toml:11: rule 1, effect: expected "allow" or "deny", got string "permit"\n$/,
    );
    writeFileSync(file, '#'.repeat(300_000));
    expect(await run('policy', file)).toMatchObject({ code: 2, err: expect.stringContaining('262144 bytes') });
    expect((await run('policy', join(folder, 'absent'))).code).toBe(2);
  });

  test('so is a question about nobody, or about nothing', async () => {
    const wrong = [
      ['--filter', 'app.unknown'],
      ['--ask', 'app.calc', 'set', '/state/x'],
      ['--ask', 'app.calc'],
    ];
    for (const words of [...wrong, ['--ask', 'a', 'get', 'b', 'c'], ['--filter', 'app.calc', '--json']]) {
      expect([words, (await run('policy', file, ...words)).code]).toEqual([words, 2]);
    }
  });
});
