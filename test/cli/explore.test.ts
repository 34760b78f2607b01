import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { encodeToken } from '../../src/explore/index.ts';
import { run, runAt } from './helpers.ts';

const folder = mkdtempSync(join(tmpdir(), 'powercut-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe('powercut explore', () => {
  it('covers boot-control through virtio, and says so', async () => {
    const { code, out, err } = await run('explore');
    expect(code).toBe(0);
    expect(out).toMatch(/boot-control: checksummed commits, through a virtio-blk ring/);
    expect(out).toMatch(/COMPLETE: every power cut and every reachable image was covered/);
    expect(out).toMatch(/no violation/);
    expect(err).toBe('');
  });

  it('prints one object with the documented fields', async () => {
    const { code, out } = await run('explore', 'device-key', '--json', '--through', 'direct', '--commit', 'ordered');
    expect(code).toBe(0);
    const result = JSON.parse(out);
    expect(result).toMatchObject({
      scenario: 'device-key',
      strategy: 'exhaustive',
      depth: 2,
      commit: 'ordered',
      profile: 'nvme-512',
      through: 'direct',
      seed: null,
      complete: true,
      violations: [],
    });
    expect(result.images).toMatch(/^\d+$/);
    expect(BigInt(result.images)).toBe(
      result.points.reduce((sum: bigint, point: { images: string }) => sum + BigInt(point.images), 0n),
    );
    expect(result.crashPoints).toBe(result.points.length);
    expect(result.recoveries).toBeGreaterThan(result.crashPoints);
    expect(typeof result.elapsedMs).toBe('number');
  });

  it('gives the same result directly and through virtio', async () => {
    const results = [];
    for (const through of ['direct', 'virtio']) {
      const { out } = await run('explore', 'boot-control', '--json', '--through', through);
      const { elapsedMs: _time, through: _through, ...rest } = JSON.parse(out);
      results.push(rest);
    }
    expect(results[0]).toEqual(results[1]);
  });

  it.each([
    ['temp-flush', 'ordered'],
    ['commit-flush', 'checksummed'],
    ['checksum', 'checksummed'],
    ['epoch', 'checksummed'],
  ])('fails without %s, with a token that replay explains', async (rule, commit) => {
    const { code, out } = await run('explore', '--break', rule, '--json');
    expect(code).toBe(1);
    const result = JSON.parse(out);
    expect(result.commit).toBe(commit);
    const [violation] = result.violations;
    expect(violation.message).not.toBe('');
    const replayed = await run('replay', violation.token);
    expect(replayed.code).toBe(1);
    expect(replayed.out).toMatch(/POWER CUT/);
    expect(replayed.out).toMatch(/keeps its (old|newest)/);
    expect(replayed.out).toContain(`VIOLATION: ${violation.message}`);
    const json = JSON.parse((await run('replay', violation.token, '--json')).out);
    expect(json).toMatchObject({ scenario: 'boot-control', violation: violation.message });
  });

  it('prints the line that replays a violation', async () => {
    const { out } = await run('explore', '--break', 'epoch');
    const token = /replay it: npx powercut replay (\S+)/.exec(out)?.[1];
    expect((await run('replay', token as string)).code).toBe(1);
  });

  it('never calls a bounded, random, prefix or timed-out run complete', async () => {
    for (const options of [
      ['--strategy', 'bounded', '--bound', '1'],
      ['--strategy', 'random', '--seed', '7', '--runs', '50'],
      ['--strategy', 'prefix'],
      ['--max-recoveries', '5'],
    ]) {
      const { code, out } = await run('explore', ...options);
      expect(code, options.join(' ')).toBe(0);
      expect(out).toMatch(/INCOMPLETE: /);
      expect(out).not.toMatch(/^COMPLETE/m);
      expect((await run('explore', ...options, '--require-complete')).code).toBe(3);
    }
  });

  it('stops when its time is up, with progress on standard error and the result on standard output', async () => {
    let nowMs = 0;
    // Every look at the clock is half a second later than the one before.
    const clock = { monotonicMs: () => (nowMs += 500), wallMs: () => 0 };
    const { code, out, err } = await runAt(clock, ['explore', '--time', '4s', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ complete: false, incompleteReason: 'stopped after 4000 ms' });
    expect(err).toMatch(/^crash point \d+ of 15, /);
  });

  it('is reproducible with a seed', async () => {
    const once = async () => {
      const { out } = await run('explore', '--strategy', 'random', '--seed', '7', '--runs', '50', '--json');
      const { elapsedMs: _time, ...rest } = JSON.parse(out);
      return rest;
    };
    const first = await once();
    expect(first.seed).toBe(7);
    expect(await once()).toEqual(first);
  });
});

describe('misuse', () => {
  const token = 'pc1.AAAA';
  it.each([
    ['an unknown scenario', ['explore', 'nothing'], /expected one of boot-control, device-key, large-value/],
    ['a name of Object.prototype', ['explore', 'constructor'], /expected one of/],
    ['a file that is not there', ['explore', './nowhere.ts'], /there is no file/],
    ['a depth of 0', ['explore', '--depth', '0'], /from 1 to 16/],
    ['a depth that is no number', ['explore', '--depth', '1e1'], /whole number/],
    ['an unknown profile', ['explore', '--profile', 'floppy'], /nvme-512/],
    ['an unknown option', ['explore', '--nonsense'], /unknown option/],
    ['a surplus argument', ['explore', 'boot-control', 'more'], /too many arguments/],
    ['an unknown command', ['explode'], /unknown command/],
    ['no command', [], /expected a command/],
    ['a size for a scenario that has its own', ['explore', 'boot-control', '--size', '1K'], /large-value takes one/],
    ['a size that is too large', ['explore', 'large-value', '--size', '1000M'], /--size/],
    ['a size of nothing', ['explore', 'large-value', '--size', '0'], /a size such as/],
    ['a unit that there is not', ['explore', '--time', '5x'], /a time such as/],
    ['a rule that there is not', ['explore', '--break', 'toString'], /--break: expected one of/],
    ['a rule without its mode', ['explore', '--break', 'temp-flush', '--commit', 'checksummed'], /--commit ordered/],
    ['a seed without random', ['explore', '--seed', '1'], /--strategy random/],
    ['a token that is none', ['replay', token], /token/],
    ['an empty token', ['replay', ''], /token/],
    ['a huge token', ['replay', `pc1.${'A'.repeat(100_000)}`], /token/],
    ['no token', ['replay'], /missing required argument/],
  ] as const)('%s: one clear line and exit code 2', async (_name, args, message) => {
    const { code, out, err } = await run(...args);
    expect(code).toBe(2);
    expect(err).toMatch(message);
    expect(out).toBe('');
  });

  it.each([
    ['a syntax error', 'export const scenario = {;', /can't be loaded/],
    ['an exception', 'throw new Error("at load");', /at load/],
    ['no export', 'export const other = 1;', /expected a scenario/],
    [
      'a part missing',
      'export default { name: "x", disk: { sectorCount: 8 }, format() {}, workload() {}, recover() {} };',
      /"invariant"/,
    ],
    [
      'no disk',
      'export default { name: "x", format() {}, workload() {}, recover() { return 1 }, invariant() {} };',
      /disk/,
    ],
    ['a throwing function', 'export default () => { throw new Error("made badly") };', /made badly/],
    [
      'a workload that throws',
      'export default { name: "x", disk: { sectorCount: 8 }, format() {}, workload() { throw new Error("broke") }, recover() { return 1 }, invariant() {} };',
      /broke/,
    ],
  ])('a scenario file with %s: one clear line and exit code 2', async (name, text, message) => {
    const { code, err } = await run('explore', file(`${name.replaceAll(' ', '-')}.ts`, text));
    expect(err).toMatch(message);
    expect(code).toBe(2);
    expect(err.trim().split('\n').length).toBe(1);
  });

  const parts = 'name: "x", disk: { sectorCount: 8 }, format() {}, workload() {}, invariant() {}, recover: () => 1';
  it.each([
    ['an asynchronous invariant', `{ ${parts}, async invariant() {} }`, /invariant.*synchronous/],
    ['a device error of its own', `{ ${parts}, workload: (d) => d.read(9, new Uint8Array(512)) }`, /range.*\.ts:1\)/],
    ['what has no text thrown', `{ ${parts}, workload() { throw Object.create(null) } }`, /without a text/],
  ])('a scenario with %s: one line that names the scenario, and 2', async (name, text, message) => {
    const { code, err } = await run('explore', file(`${name.replaceAll(' ', '-')}.ts`, `export default ${text};`));
    expect(err).toMatch(message);
    expect(err).toMatch(/scenario/);
    expect(err.trim().split('\n').length).toBe(1);
    expect(code).toBe(2);
  });

  it('takes a scenario of a CommonJS file, under each name', async () => {
    for (const [name, to] of Object.entries({
      whole: 'module.exports',
      named: 'exports.scenario',
      main: 'exports.default',
    })) {
      expect((await run('explore', file(`${name}.cjs`, `${to} = { ${parts} };`))).code, name).toBe(0);
    }
  });

  it('names operations that JSON does not hold', async () => {
    const text = `const loop = {}; loop.loop = loop;
      export default { ${parts}, workload(disk, run) { for (const op of [5n, loop, Symbol('s')]) { run.begin(op); run.acknowledge(op); } } };`;
    expect(await run('explore', file('operations.ts', text))).toMatchObject({ code: 0, err: '' });
  });

  it('runs no script for the name in a token', async () => {
    const mark = join(folder, 'mark');
    const path = file(
      'evil.mjs',
      `import { writeFileSync } from 'node:fs'; writeFileSync(${JSON.stringify(mark)}, '');`,
    );
    const levels = [{ choices: [], cut: -1 }];
    const rest = { settings: {}, profile: 'nvme-512', linear: false, fingerprint: 0, crashPoint: 0, levels };
    const { code, err } = await run('replay', encodeToken({ scenario: path, ...rest }));
    expect(code).toBe(2);
    expect(err).toMatch(/--scenario/);
    expect(existsSync(mark)).toBe(false);
  });

  it('says in one line which scenario failed in a replay, and prints a path as one word', async () => {
    const path = file('with space.ts', BROKEN);
    const { out } = await run('explore', path);
    expect(out).toContain(` --scenario '${path}'`);
    const token = /replay (pc1\S+)/.exec(out)?.[1] as string;
    const broken = file(
      'throws.ts',
      BROKEN.replace('format: (disk) =>', 'format: () => { throw new Error("no") }, other: (disk) =>'),
    );
    const { code, err } = await run('replay', token, '--scenario', broken);
    expect(code).toBe(2);
    expect(err).toMatch(/^powercut: scenario .*throws\.ts: .*no/);
  });

  it('draws any number of random runs at once', async () => {
    const most = String(Number.MAX_SAFE_INTEGER);
    const { code } = await run('explore', '--strategy', 'random', '--runs', most, '--max-recoveries', '3');
    expect(code).toBe(0);
  });

  it('asks for the file of a token of a scenario file', async () => {
    const path = file('broken.ts', BROKEN);
    const { code, out } = await run('explore', path, '--json');
    expect(code).toBe(1);
    const { token } = JSON.parse(out).violations[0];
    const asked = await run('replay', token);
    expect(asked.code).toBe(2);
    expect(asked.err).toMatch(/--scenario/);
    const replayed = await run('replay', token, '--scenario', path);
    expect(replayed.code).toBe(1);
    expect(replayed.out).toMatch(/VIOLATION: lost/);
  });
});

const BROKEN = `
import type { Scenario } from 'powercut/explore';
const sector: Uint8Array = new Uint8Array(512);
export default {
  name: 'broken',
  disk: { sectorCount: 8 },
  format: (disk) => disk.write(0, sector.fill(0)),
  workload: async (disk, run) => { run.begin('one'); disk.write(0, sector.fill(1)); await null; run.acknowledge('one'); },
  recover: async (disk) => { disk.read(0, sector); await null; return sector[0]; },
  invariant: (found, history) => { if (history.last?.kind === 'cut' && history.previous?.last?.kind === 'acknowledge' && found !== 1) throw new Error('lost'); },
} satisfies Scenario<string, number>;
`;

describe('help', () => {
  it('has examples and exit codes', async () => {
    for (const command of ['explore', 'replay']) {
      const { code, out } = await run(command, '--help');
      expect(code).toBe(0);
      expect(out).toMatch(/Example/);
      expect(out).toMatch(/Exit codes/);
    }
    expect((await run('--version')).out).toBe('0.0.0-test\n');
  });
});
