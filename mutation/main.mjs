// Changes src one place at a time and sees whether a test fails. Slow: two or three mutants a second, and thousands of them.
// Usage: npm run mutants -- [--quick] [--force] FILE[:LINE-LINE] | FOLDER ...
// What was tested before, and whose source and tests did not change, is not tested again, unless --force.
// --quick leaves out the slow tests: what survives it is to be tested again without.
// Exit code: 0 if each survivor is explained in docs/testing/survivors, 1 if not, 2 for misuse.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { describer, explanationsOf, keyOf } from './explanations.mjs';
import { FOLDERS, workFiles } from './tests.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const pageOf = (folder) => `docs/testing/survivors/${folder.replace(/^src\//, '')}.md`;
const STRYKER = 'mutation/node_modules/@stryker-mutator/core/bin/stryker.js';

process.chdir(root);
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { force: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
});

function misuse(problem) {
  console.error(`mutants: ${problem}`);
  process.exit(2);
}

/** Stryker's pattern for an argument, with the folder whose tests judge it. */
function scopeOf(argument) {
  const path = argument.replace(/\/$/, '');
  const folder = Object.keys(FOLDERS).find((one) => path === one || path.startsWith(`${one}/`));
  const file = path.replace(/:\d+-\d+$/, '');
  if (folder === undefined || !existsSync(file)) {
    misuse(`expected a file or folder in ${Object.keys(FOLDERS).join(', ')}, got ${argument}`);
  }
  const isFolder = statSync(file).isDirectory();
  return {
    folder,
    pattern: isFolder ? `${path}/**/*.ts` : path,
    covers: (one) => one === file || one.startsWith(`${file}/`),
    isWhole: file === path,
  };
}

/** Runs Stryker. @returns the files of its report that `scopes` name */
function test(folder, scopes) {
  const mutate = scopes.map(({ pattern }) => pattern).join(',');
  const args = [
    STRYKER,
    'run',
    'mutation/stryker.config.mjs',
    '--mutate',
    mutate,
    ...(values.force ? ['--force'] : []),
  ];
  const { status } = spawnSync(process.execPath, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, MUTATION_FOLDER: folder, MUTATION_QUICK: values.quick ? '1' : '0' },
  });
  if (status !== 0) misuse(`Stryker ended with exit code ${status}`);
  const { files } = JSON.parse(readFileSync(workFiles(folder).report, 'utf8'));
  return Object.entries(files).filter(([file]) => scopes.some(({ covers }) => covers(file)));
}

const STATES = { Killed: 'killed', Timeout: 'killed', Survived: 'survived', NoCoverage: 'survived' };

/** Counts the mutants of one file. Survivors beyond those that the page explains are `unexplained`. */
function judge(file, { source, mutants }, explained) {
  const describe = describer(source);
  const counts = { mutants: 0, killed: 0, survived: 0, explained: 0, notRun: 0 };
  const survivors = new Map();
  for (const mutant of mutants) {
    if (mutant.status === 'Ignored') continue;
    counts.mutants++;
    const state = STATES[mutant.status] ?? 'notRun';
    counts[state]++;
    if (state !== 'survived') continue;
    const key = keyOf({ file: file.replace(/^src\//, ''), ...describe(mutant) });
    survivors.set(key, [...(survivors.get(key) ?? []), mutant.location.start.line]);
  }
  const unexplained = [];
  for (const [key, lines] of survivors) {
    const count = explained.get(key) ?? 0;
    counts.explained += Math.min(count, lines.length);
    if (lines.length > count)
      unexplained.push(`${key} (${file}:${lines.join(', ')}; ${lines.length}, explained ${count})`);
  }
  return { counts, survivors, unexplained };
}

if (positionals.length === 0) positionals.push(...Object.keys(FOLDERS));
const scopes = positionals.map(scopeOf);
const rows = [];
const problems = [];
for (const folder of new Set(scopes.map((scope) => scope.folder))) {
  const ours = scopes.filter((scope) => scope.folder === folder);
  const explained = explanationsOf(pageOf(folder));
  for (const [file, result] of test(folder, ours)) {
    const { counts, survivors, unexplained } = judge(file, result, explained);
    rows.push([file, ...Object.values(counts)]);
    problems.push(...unexplained);
    if (ours.some(({ covers, isWhole }) => isWhole && covers(file))) {
      const stale = [...explained.keys()].filter((key) => key.startsWith(`- \`${file.replace(/^src\//, '')}\` `));
      problems.push(
        ...stale.filter((key) => !survivors.has(key)).map((key) => `${key}: killed now, or gone: take it out`),
      );
    }
  }
}
const total = rows.reduce((sums, [, ...counts]) => sums.map((sum, i) => sum + counts[i]), [0, 0, 0, 0, 0]);
const HEAD = ['file', 'mutants', 'killed', 'survived', 'explained', 'not run'];
for (const row of [HEAD, ...rows, ['in all', ...total]]) {
  console.log(row.map((cell, i) => (i === 0 ? String(cell).padEnd(36) : String(cell).padStart(10))).join(''));
}
for (const problem of problems) console.log(problem);
console.log(
  problems.length === 0 ? 'each survivor is explained' : `${problems.length} not explained, or explained in vain`,
);
process.exitCode = problems.length === 0 ? 0 : 1;
