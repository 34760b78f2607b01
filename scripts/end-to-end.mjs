// Packs the package, installs it in an empty folder, and uses it there as a stranger would: the command, a scenario
// of one's own, every export and its types. Prints one line a check, and `e2e: N passed, N failed` at the end.
//
// What it takes for granted of the command line:
// - `explore NAME|FILE --json` prints one JSON object on standard output; exit 0: complete and no violation, 1: a
//   violation, 2: a bad scenario, token or option, with one line on standard error.
// - `replay TOKEN` explains a violation from its token alone, run in the same folder: exit 0 or 1, never 2.
// - a scenario's file exports the scenario as its default.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url));
const TIMEOUT_MS = 240_000;
/** Subpaths that need a package of the user's own. */
const WITH_PEERS = ['powercut/testing/vitest', 'powercut/testing/fast-check'];
const IS_WINDOWS = process.platform === 'win32';

/** A record of two sectors, overwritten in place: a cut can leave half of it. */
const TORN_SCENARIO = scenarioSource('torn-record', 2);
/** The same in one sector, which the disk writes whole or not at all. */
const SOUND_SCENARIO = scenarioSource('one-sector-record', 1);

function scenarioSource(name, sectorCount) {
  return `import type { Scenario } from 'powercut/explore';

type Op = 'switch to 2';

const scenario: Scenario<Op, readonly number[]> = {
  name: '${name}',
  disk: { sectorCount: 64 },
  format(device) {
    device.write(0, new Uint8Array(${sectorCount} * device.sectorBytes).fill(1));
  },
  workload(device, run) {
    run.begin('switch to 2');
    device.write(0, new Uint8Array(${sectorCount} * device.sectorBytes).fill(2));
    device.flush();
    run.acknowledge('switch to 2');
  },
  recover(device) {
    const record = new Uint8Array(${sectorCount} * device.sectorBytes);
    device.read(0, record);
    return [...new Set(record)];
  },
  invariant(observed, history) {
    if (observed.length !== 1) throw new Error('the record is torn: ' + observed.join(' and '));
    const acknowledged = history.events.some((event) => event.kind === 'acknowledge');
    if (acknowledged && observed[0] !== 2) throw new Error('an acknowledged switch is lost');
  },
};

export default scenario;
`;
}

let passed = 0;
let failed = 0;

/** Runs one check; `body` throws where it fails, and may return something for the checks after it. */
function check(name, body) {
  try {
    const result = body();
    passed++;
    console.log(`e2e: ok   ${name}`);
    return result;
  } catch (error) {
    failed++;
    console.log(`e2e: FAIL ${name}\n${String(error?.message ?? error).replace(/^/gm, '       ')}`);
    return undefined;
  }
}

function expect(condition, message) {
  if (!condition) throw new Error(message);
}

function run(command, args, cwd, env = {}) {
  const options = { cwd, encoding: 'utf8', timeout: TIMEOUT_MS, shell: IS_WINDOWS, env: { ...process.env, ...env } };
  const { status, stdout, stderr, error } = spawnSync(command, args, { ...options, maxBuffer: 64 * 1024 * 1024 });
  if (error) throw error;
  return { status, stdout, stderr, what: `${command} ${args.join(' ')}` };
}

function mustSucceed(result) {
  expect(result.status === 0, `${result.what}: exit ${result.status}\n${result.stdout}\n${result.stderr}`);
  return result;
}

function parseOne(result) {
  try {
    return JSON.parse(result.stdout);
  } catch {
    throw new Error(
      `${result.what}: expected one JSON object, got:\n${result.stdout.slice(0, 2000)}\n${result.stderr}`,
    );
  }
}

/** The fields of `explore --json` that the README promises. */
function expectReport(report) {
  const types = {
    scenario: 'string',
    strategy: 'string',
    depth: 'number',
    commit: 'string',
    profile: 'string',
    through: 'string',
    complete: 'boolean',
    crashPoints: 'number',
    images: 'string',
    recoveries: 'number',
    elapsedMs: 'number',
  };
  for (const [field, type] of Object.entries(types)) {
    expect(typeof report[field] === type, `${field}: expected a ${type}, got ${JSON.stringify(report[field])}`);
  }
  expect('seed' in report, 'seed: absent');
  expect(/^[1-9]\d*$/.test(report.images), `images: expected a decimal string, got ${report.images}`);
  expect(Array.isArray(report.violations), 'violations: expected an array');
  expect(report.crashPoints > 0 && report.recoveries > 0, 'nothing was explored');
}

function checkPackage(folder, packed) {
  const installed = join(folder, 'node_modules/powercut');
  const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  check('every export of package.json is in the package', () => {
    const files = Object.values(manifest.exports).flatMap((target) =>
      typeof target === 'string' ? target : Object.values(target),
    );
    const absent = [...files, ...Object.values(manifest.bin)].filter((file) => !existsSync(join(installed, file)));
    expect(absent.length === 0, `absent: ${absent.join(', ')}`);
  });
  check('the package holds what it runs with, and no sources or tests', () => {
    const paths = packed.files.map(({ path }) => path);
    for (const path of ['package.json', 'README.md', 'dist/cli/main.js'])
      expect(paths.includes(path), `${path} is absent`);
    const stray = paths.filter(
      (path) => /^(src|test|bench|scripts|\.ci)\//.test(path) || path.endsWith('.tsbuildinfo'),
    );
    expect(stray.length === 0, `stray: ${stray.slice(0, 5).join(', ')}`);
  });
  return Object.keys(manifest.exports)
    .filter((key) => key !== './package.json')
    .map((key) => key.replace('.', 'powercut'))
    .filter((path) => !WITH_PEERS.includes(path));
}

/** The guide, done as it says: its files, in a folder with vitest and fast-check. */
function checkGuide(folder, tarball) {
  const guide = readFileSync(join(REPOSITORY, 'docs/guide.md'), 'utf8');
  const repair = /```ts\n\/\/ store\.ts: instead .*\n([\s\S]*?)```/.exec(guide)?.[1];
  const store = () => readFileSync(join(folder, 'store.ts'), 'utf8');
  const installed = check('the guide: an empty folder, and what it installs', () => {
    mkdirSync(folder);
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'guide', private: true, type: 'module' }));
    const flags = ['--no-audit', '--no-fund', '--prefer-offline', '--save-dev'];
    mustSucceed(run('npm', ['install', ...flags, tarball, 'vitest@4', 'fast-check@4', '@types/node@20'], folder));
    for (const [, name, text] of guide.matchAll(/```ts\n\/\/ ([\w.]+)\n([\s\S]*?)```/g)) {
      writeFileSync(join(folder, name), text);
    }
    return true;
  });
  if (installed === undefined) return;
  check('the guide: explore finds the bug of its store, and its tests fail', () => {
    const result = powercut(folder, 'explore', './crash.ts', '--depth', '1');
    expect(result.status === 1, `expected exit 1, got ${result.status}\n${result.stdout}\n${result.stderr}`);
    const shown = /what explore prints -->\n```\n([\s\S]*?)```/.exec(guide)?.[1];
    expect(result.stdout.includes(shown), `not as the guide shows it:\n${result.stdout}`);
    expect(run('npx', ['--no-install', 'vitest', 'run'], folder).status === 1, 'its tests pass with the bug in it');
  });
  check('the guide: mended, explore is clean, and its tests pass', () => {
    writeFileSync(join(folder, 'store.ts'), store().replace(/^ *if \(padded.length > 0\) this.*\n/m, repair));
    mustSucceed(powercut(folder, 'explore', './crash.ts', '--require-complete'));
    mustSucceed(run('npx', ['--no-install', 'vitest', 'run'], folder));
  });
  check('the guide: its files pass a strict compiler', () => {
    const tsc = join(REPOSITORY, 'node_modules/typescript/bin/tsc');
    const options =
      '--noEmit --strict --module NodeNext --moduleResolution NodeNext --target ES2023 --types node --skipLibCheck true --allowImportingTsExtensions';
    const files = ['crash.ts', 'crash.test.ts', 'live.test.ts'];
    mustSucceed(run(process.execPath, [tsc, ...options.split(' '), ...files], folder));
  });
}

function checkImports(folder, subpaths) {
  check(`every subpath imports: ${subpaths.length} of them`, () => {
    const code = subpaths.map(
      (path) => `if (Object.keys(await import('${path}')).length === 0) throw new Error('${path} is empty');`,
    );
    writeFileSync(join(folder, 'imports.mjs'), code.join('\n'));
    mustSucceed(run(process.execPath, ['imports.mjs'], folder));
  });
  check('the types serve a strict consumer', () => {
    const lines = subpaths.map((path, i) => `import * as m${i} from '${path}';\nexport const n${i}: object = m${i};`);
    writeFileSync(join(folder, 'consumer.ts'), lines.join('\n'));
    const tsc = join(REPOSITORY, 'node_modules/typescript/bin/tsc');
    const options =
      '--noEmit --strict --module NodeNext --moduleResolution NodeNext --target ES2023 --types node --skipLibCheck false';
    const typeRoots = ['--typeRoots', join(REPOSITORY, 'node_modules/@types')];
    const files = ['consumer.ts', 'torn.ts', 'sound.ts'];
    mustSucceed(run(process.execPath, [tsc, ...options.split(' '), ...typeRoots, ...files], folder));
  });
}

function powercut(folder, ...args) {
  return run('npx', ['--no-install', 'powercut', ...args], folder, { NO_COLOR: '1', npm_config_loglevel: 'error' });
}

function checkReadyScenario(folder) {
  check('explore boot-control: complete, no violation, exit 0', () => {
    const result = mustSucceed(powercut(folder, 'explore', 'boot-control', '--json'));
    const report = parseOne(result);
    expectReport(report);
    expect(report.scenario === 'boot-control', `scenario: ${report.scenario}`);
    expect(report.complete === true, 'the exploration is not complete');
    expect(report.violations.length === 0, `violations: ${JSON.stringify(report.violations).slice(0, 500)}`);
  });
}

function checkSelfTest(folder) {
  check('selftest: every promise of the stack is seen kept', () => {
    const { ok, markers } = parseOne(mustSucceed(powercut(folder, 'selftest', '--json')));
    expect(ok === true && markers.length === 6, JSON.stringify(markers));
  });
}

function checkOwnScenarios(folder) {
  check("explore a sound scenario of one's own: complete, exit 0", () => {
    const report = parseOne(mustSucceed(powercut(folder, 'explore', './sound.ts', '--json')));
    expectReport(report);
    expect(report.complete && report.violations.length === 0, JSON.stringify(report).slice(0, 500));
  });
  const token = check('explore a broken one: exit 1, and a token for each violation', () => {
    const result = powercut(folder, 'explore', './torn.ts', '--json');
    expect(result.status === 1, `expected exit 1, got ${result.status}\n${result.stdout}\n${result.stderr}`);
    const report = parseOne(result);
    expectReport(report);
    expect(report.violations.length > 0, 'exit 1 without a violation');
    for (const violation of report.violations) expect(/^\S+$/.test(violation.token), `token: ${violation.token}`);
    return report.violations[0].token;
  });
  check('replay TOKEN explains it', () => {
    expect(token !== undefined, 'there is no token to replay');
    const result = powercut(folder, 'replay', token);
    expect(result.status === 0 || result.status === 1, `exit ${result.status}\n${result.stdout}\n${result.stderr}`);
    expect(/the record is torn/.test(result.stdout), `the violation is not in:\n${result.stdout}\n${result.stderr}`);
  });
}

function checkMisuse(folder) {
  const misuses = [
    ['an unknown scenario', ['explore', 'no-such-scenario']],
    ['a file that is absent', ['explore', './absent.ts']],
    ['a file that exports no scenario', ['explore', './imports.mjs']],
    ['an unknown option', ['explore', 'boot-control', '--no-such-option']],
    ['a bad value', ['explore', 'boot-control', '--depth', 'deep']],
    ['a bad token', ['replay', 'no-such-token']],
  ];
  for (const [name, args] of misuses) {
    check(`${name}: one line, exit 2`, () => {
      const result = powercut(folder, ...args);
      expect(result.status === 2, `expected exit 2, got ${result.status}\n${result.stdout}\n${result.stderr}`);
      const lines = result.stderr.trim().split('\n');
      expect(lines.length === 1 && lines[0] !== '', `expected one line on standard error, got:\n${result.stderr}`);
    });
  }
}

function main(folder) {
  const packed = check('npm pack', () => {
    const { stdout } = mustSucceed(run('npm', ['pack', '--json', '--pack-destination', folder], REPOSITORY));
    // A build step may print before the JSON.
    return JSON.parse(stdout.slice(stdout.indexOf('[')))[0];
  });
  if (packed === undefined) return;
  const user = join(folder, 'user');
  const installed = check('npm install of the tarball in an empty folder', () => {
    mkdirSync(user);
    writeFileSync(join(user, 'package.json'), JSON.stringify({ name: 'user', private: true, type: 'module' }));
    const flags = ['--no-audit', '--no-fund', '--prefer-offline'];
    mustSucceed(run('npm', ['install', ...flags, join(folder, packed.filename)], user));
    writeFileSync(join(user, 'torn.ts'), TORN_SCENARIO);
    writeFileSync(join(user, 'sound.ts'), SOUND_SCENARIO);
    return true;
  });
  if (installed === undefined) return;
  checkImports(user, checkPackage(user, packed));
  check('powercut --help', () => {
    const { stdout } = mustSucceed(powercut(user, '--help'));
    expect(/explore/.test(stdout) && /replay/.test(stdout), stdout);
  });
  checkReadyScenario(user);
  checkSelfTest(user);
  checkOwnScenarios(user);
  checkMisuse(user);
  checkGuide(join(folder, 'guide'), join(folder, packed.filename));
}

const folder = mkdtempSync(join(tmpdir(), 'powercut-e2e-'));
try {
  main(folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`e2e: ${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
