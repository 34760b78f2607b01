import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ARROWS, EXCEPTIONS, importsOf, violations } from './arrows.ts';
import { tokenize } from './tokens.ts';

const root = fileURLToPath(new URL('../../src/', import.meta.url));

function sourceFiles(): Map<string, string> {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' }).map((path) => path.replaceAll('\\', '/'));
  return new Map(paths.filter((path) => path.endsWith('.ts')).map((path) => [path, readFileSync(root + path, 'utf8')]));
}

describe('src', () => {
  const files = sourceFiles();

  test('imports along the arrows, through index.ts, without cycles, clocks, randomness, star or default exports', () => {
    expect(violations(files)).toEqual([]);
  });

  test('every folder has its arrows, and there is something to check', () => {
    const folders = new Set([...files.keys()].filter((path) => path.includes('/')).map((path) => path.split('/')[0]));
    expect([...folders].filter((folder) => !(folder !== undefined && folder in ARROWS))).toEqual([]);
    const edges = [...files.values()].flatMap((source) => importsOf(tokenize(source)));
    expect(edges.length).toBeGreaterThan(files.size);
  });
});

test('every exception is still used', () => {
  const files = sourceFiles();
  const stale = [...EXCEPTIONS].filter(([path, words]) => !files.get(path)?.includes(words));
  expect(stale).toEqual([]);
});

test('the arrows form no cycle', () => {
  const order = Object.keys(ARROWS);
  for (const [from, targets] of Object.entries(ARROWS)) {
    for (const to of targets) expect(order.indexOf(to)).toBeLessThan(order.indexOf(from));
  }
});

describe('each rule flags what breaks it', () => {
  const samples: [string, Record<string, string>, RegExp][] = [
    [
      'an arrow the wrong way',
      { 'core/a.ts': "import { x } from '../blockdev/index.ts';" },
      /core may not import blockdev/,
    ],
    [
      'a type import the wrong way',
      { 'explore/a.ts': "import type { x } from '../statefs/index.ts';" },
      /explore may not/,
    ],
    ['a re-export the wrong way', { 'faults/a.ts': "export { x } from '../virtio/index.ts';" }, /faults may not/],
    ['a dynamic import the wrong way', { 'core/a.ts': "await import('../cli/main.ts');" }, /core may not import cli/],
    ['an import for its effects', { 'core/a.ts': "import '../cli/main.ts';" }, /core may not import cli/],
    [
      'several lines',
      { 'core/a.ts': "import {\n  type A,\n  b as c,\n} from '../faults/index.ts';" },
      /core\/a.ts:1: core may not/,
    ],
    ['past index.ts', { 'blockdev/a.ts': "import { x } from '../core/errors.ts';" }, /goes past core\/index.ts/],
    ['no extension', { 'core/a.ts': "import { x } from './errors';" }, /has no .ts/],
    ['a folder without arrows', { 'extra/a.ts': "import { x } from '../core/index.ts';" }, /extra may not import core/],
    ['export *', { 'core/index.ts': "export * from './a.ts';" }, /export \*/],
    ['export * as', { 'core/index.ts': "export * as a from './a.ts';" }, /export \*/],
    ['export type *', { 'core/index.ts': "export type * from './a.ts';" }, /export \*/],
    ['a default export', { 'cli/main.ts': 'export default function main() {}' }, /default export/],
    ['Math.random', { 'faults/a.ts': 'const x = Math.random();' }, /a.ts:1: Math.random/],
    ['Date.now', { 'statefs/a.ts': '\nconst x = Date\n  .now();' }, /a.ts:2: Date.now/],
    ['new Date()', { 'statefs/a.ts': 'const x = new Date();' }, /newDate\(\)/],
    ['performance.now', { 'explore/a.ts': 'const f = performance.now;' }, /performance.now/],
    ['setTimeout', { 'virtio/a.ts': 'setTimeout(f, 1);' }, /setTimeout/],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: source text of a sample
    ['in a template', { 'virtio/a.ts': 'const s = `a ${{ b: `${Math.random()}` }} c`;' }, /Math.random/],
    [
      'a cycle of files',
      { 'core/a.ts': "import { b } from './b.ts';", 'core/b.ts': "import { a } from './a.ts';" },
      /cycle: core\/a.ts -> core\/b.ts -> core\/a.ts/,
    ],
  ];

  test.each(samples)('%s', (_name, files, message) => {
    const found = violations(new Map(Object.entries(files)));
    expect(found.length).toBe(1);
    expect(found[0]).toMatch(message);
  });

  test('and nothing else', () => {
    const clean = {
      'core/index.ts': "export { a, type B } from './a.ts';",
      'core/a.ts':
        "// Math.random()\n/* import x from '../cli/main.ts' */\nexport const a = 'Date.now() from'; export type B = 1;",
      'core/clock.ts': 'export const now = () => performance.now();',
      'blockdev/a.ts': "import { a } from '../core/index.ts';\nimport { readSync } from 'node:fs';\nimport.meta.url;",
      'blockdev/b.ts':
        // biome-ignore lint/suspicious/noTemplateCurlyInString: source text of a sample
        'const r = /Math.random() `/.test(`setTimeout(${a / 2 / 3}) setTimeout`); const d = new Date(5);',
      'blockdev/c.ts': "import type { D } from './d.ts';\nexport interface C {}",
      'blockdev/d.ts': "import type { C } from './c.ts';\nexport interface D {}",
      'cli/main.ts': "import { x } from '../testing/index.ts';\nsetTimeout(x, 1); export const from = 'a';",
    };
    expect(violations(new Map(Object.entries(clean)))).toEqual([]);
  });
});
