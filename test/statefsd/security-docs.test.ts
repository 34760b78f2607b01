import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  AbiFilter,
  AUDIT_FIELDS,
  baselinePolicy,
  MAX_FILTER_PATH_LENGTH,
  MAX_FILTER_RULES,
  MAX_POLICY_FILE_BYTES,
  OPERATION_NAMES,
  OPERATIONS,
  parsePolicy,
} from '../../src/statefsd/index.ts';

const page = (name: string) => readFileSync(new URL(`../../docs/security/${name}.md`, import.meta.url), 'utf8');

function block(text: string, language: string): string {
  const found = new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 's').exec(text)?.[1];
  if (found === undefined) throw new Error(`there is no ${language} in it`);
  return found;
}

describe('docs/security', () => {
  test('policy.md shows the baseline', () => {
    const { budgets, ...policy } = parsePolicy(block(page('policy'), 'toml'));
    const { budgets: _none, ...baseline } = baselinePolicy(['calc']);
    expect(policy).toEqual(baseline);
    expect(budgets).toHaveLength(1);
  });

  test('policy.md names every operation, by what it is asked of', () => {
    const rows = page('policy')
      .split('\n')
      .filter((line) => line.startsWith('| `'));
    const row = (start: string) => rows.find((line) => line.startsWith(start)) ?? '';
    for (const name of OPERATION_NAMES) {
      const { scope } = OPERATIONS[name];
      const expected = { key: '| `put_atomic`', prefix: '| `list`', store: '| `sync`' }[scope];
      expect(row(expected)).toContain(`\`${name}\``);
    }
  });

  test('its caps are those of the code', () => {
    expect(page('policy')).toContain(`Caps: ${MAX_POLICY_FILE_BYTES / 1024} KiB of file`);
    expect(page('policy')).toContain(`${MAX_FILTER_RULES} rules that apply to one subject`);
    expect(page('abi-filters')).toContain(
      `at most ${MAX_FILTER_RULES} rules, ${MAX_FILTER_PATH_LENGTH} characters a path`,
    );
  });

  test('abi-filters.md shows a filter that is one', () => {
    const filter = AbiFilter.parse(block(page('abi-filters'), 'json').trimEnd());
    expect(filter.allows('get', '/state/apps/calc/x')).toBe(true);
  });

  test('audit.md has the fields of a record, in their order', () => {
    const rows = [...page('audit').matchAll(/^\| `(\w+)` \| (?:number|string) \|/gm)];
    expect(rows.map(([, field]) => field)).toEqual([...AUDIT_FIELDS]);
  });
});
