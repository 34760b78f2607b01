import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { importsOf } from './arrows.ts';
import { tokenize } from './tokens.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const NOT_OURS = new Set(['node_modules', 'dist', '.git', 'coverage']);

function sourcesUnder(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (NOT_OURS.has(entry.name)) return [];
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sourcesUnder(path);
    return /\.[cm]?[jt]sx?$/.test(entry.name) ? [relative(root, path).replaceAll('\\', '/')] : [];
  });
}

/** Whether a file defines tests: it is named like one, or takes `test` or `it` from vitest. */
function definesTests(path: string, source: string): boolean {
  if (/\.(test|spec)\.[cm]?[jt]sx?$/.test(path)) return true;
  const tokens = tokenize(source);
  if (!importsOf(tokens).some((one) => one.specifier === 'vitest')) return false;
  return tokens.some(({ text }, i) => (text === 'test' || text === 'it') && tokens[i + 1]?.text === '(');
}

/** The files that the runner itself says it would run. */
async function filesThatRun(): Promise<Set<string>> {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const { stdout } = await promisify(execFile)(process.execPath, [vitest, 'list', '--filesOnly', '--json'], {
    cwd: root,
  });
  const listed = JSON.parse(stdout) as readonly { readonly file: string }[];
  return new Set(listed.map(({ file }) => relative(root, file).replaceAll('\\', '/')));
}

const RUNNERS = new Set(['test', 'it', 'describe', 'suite', 'bench']);
const REASON = /\/\/ Skipped: \S/;
const NAMED_REASON = /\.(?:skip|todo)\(\s*[`'"][^\n]*\([^)\n]+\)[`'"]/;

/** Tests that keep others from running, or don't run and don't say why. @returns one line each */
function silenced(path: string, source: string): string[] {
  const found: string[] = [];
  const lines = source.split('\n');
  const tokens = tokenize(source);
  for (const [i, { kind, text, line }] of tokens.entries()) {
    if (kind !== 'word') continue;
    const called = tokens[i - 1]?.text === '.' && isRunner(tokens.slice(0, i - 1));
    const option = tokens[i + 1]?.text === ':' && tokens[i + 2]?.text === 'true';
    if (!called && !option) continue;
    if (text === 'only') found.push(`${path}:${line}: only`);
    if (!/^(?:skip|todo|skipIf|runIf|fails)$/.test(text)) continue;
    const [before, here, after] = [lines[line - 2] ?? '', lines[line - 1] ?? '', lines[line] ?? ''];
    const explained = REASON.test(before) || REASON.test(here) || NAMED_REASON.test(`${here}\n${after}`);
    if (!explained) found.push(`${path}:${line}: ${text} without a reason`);
  }
  return found;
}

/** Whether the tokens end in `test`, or in a chain of modifiers on it. */
function isRunner(tokens: readonly { readonly text: string }[]): boolean {
  let i = tokens.length - 1;
  while (i > 1 && tokens[i - 1]?.text === '.') i -= 2;
  return RUNNERS.has(tokens[i]?.text ?? '');
}

describe('the repository', () => {
  const sources = sourcesUnder(root).map((path): [string, string] => [path, readFileSync(join(root, path), 'utf8')]);
  const tests = sources.filter(([path, source]) => definesTests(path, source));

  test('every file that defines tests is run', async () => {
    const run = await filesThatRun();
    expect(tests.map(([path]) => path).filter((path) => !run.has(path))).toEqual([]);
    expect(run.size).toBeGreaterThan(5);
  });

  test('no test is silenced without a reason', () => {
    expect(tests.flatMap(([path, source]) => silenced(path, source))).toEqual([]);
  });
});

describe('the checks see', () => {
  test.each([
    ['src/a.test.ts', ''],
    ['test/a.spec.ts', ''],
    ['test/a.test.mjs', ''],
    ['test/helpers.ts', "import { test } from 'vitest';\ntest('x', () => {});"],
  ])('tests in %s', (path, source) => {
    expect(definesTests(path, source)).toBe(true);
  });

  test('that a helper defines none', () => {
    expect(definesTests('test/helpers.ts', "import { expect } from 'vitest';\n/a/.test('a'); expect(1);")).toBe(true);
    expect(definesTests('test/helpers.ts', "import { expect } from 'vitest';\nexpect(1);")).toBe(false);
    expect(definesTests('test/helpers.ts', "const test = (x) => x; test('a');")).toBe(false);
  });

  test.each([
    "test.only('x', f);",
    "describe.only('x', f);",
    "test.concurrent.only('x', f);",
    "test('x', { only: true }, f);",
    "it.skip('x', f);",
    "test.todo('x');",
    "test.skipIf(isWindows)('x', f);",
    "describe('x', { skip: true }, f);",
  ])('%s', (source) => {
    expect(silenced('a.test.ts', source).length).toBe(1);
  });

  test.each([
    "// Skipped: the machine has no locks\ntest.skip('x', f);",
    "test.skipIf(isWindows)('x', f); // Skipped: no st_blocks there",
    "test.skip('x (the device is read-only)', f);",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: source text of a sample
    '      else test.skip(`${caseName} (${skip})`, run);',
    "const only = list.only('x'); // test.only('x')",
    "log('test.only(1)');",
    'iterator.skip(3);',
  ])('nothing wrong in %s', (source) => {
    expect(silenced('a.test.ts', source)).toEqual([]);
  });
});
