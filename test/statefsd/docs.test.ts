import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { resolveLimits } from '../../src/statefsd/limits.ts';
import { tables } from './tables.ts';

const doc = readFileSync(new URL('../../docs/statefsd.md', import.meta.url), 'utf8');

describe('docs/statefsd.md has what the code has:', () => {
  test.each(Object.entries(tables()))('%s', (_name, rows) => {
    // The table as a whole: a row too many is as wrong as one too few.
    expect(doc).toContain(`\n\n${rows}\n\n`);
  });

  test('every limit', () => {
    for (const name of Object.keys(resolveLimits())) expect(doc).toContain(`| \`${name}\``);
  });
});
