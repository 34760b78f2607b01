import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

/** A scenario of one sector, for what differs from others in its workload. */
const sectorScenario = (workload: string, rest = ''): string => `
  const sector = new Uint8Array(512);
  let lives = 0;
  export default {
    name: 'sector', disk: { sectorCount: 16 }, ${rest}
    format: (disk) => disk.write(0, sector.fill(0)),
    workload: (disk, run) => { ${workload} },
    recover: (disk) => (disk.read(0, sector), sector[0]),
    invariant: (found, history) => {
      if (history.events.some(({ kind }) => kind === 'acknowledge') && found === 0) throw new Error('lost');
    },
  };`;

describe('powercut explore', () => {
  it('warns where nothing was acknowledged, so that no loss was looked for', async () => {
    const never = file('never.ts', sectorScenario("run.begin('a'); disk.write(0, sector.fill(1));"));
    const { code, out } = await run('explore', never);
    expect(code).toBe(0);
    expect(out).toMatch(/^WARNING: the workload acknowledged nothing, .*call run.acknowledge\(op\)/m);
    const flushed = "run.begin('a'); disk.write(0, sector.fill(1)); disk.flush(); run.acknowledge('a');";
    const told = await run('explore', file('told.ts', sectorScenario(flushed)));
    expect([told.code, told.out.includes('WARNING')]).toEqual([0, false]);
  });

  it('warns where the workload is another one each time: its tokens can not be replayed', async () => {
    const workload = "run.begin('a'); disk.write(0, sector.fill(++lives)); run.acknowledge('a');";
    const { code, out } = await run('explore', file('restless.ts', sectorScenario(workload)));
    expect(code).toBe(1);
    expect(out).toMatch(
      /^WARNING: the tokens can't be replayed, .*: step 2 is write sector 0, and then the same with other/m,
    );
    const longer =
      "run.begin('a'); disk.write(0, sector.fill(1)); if (++lives > 1) disk.flush(); run.acknowledge('a');";
    const other = JSON.parse((await run('explore', file('longer.ts', sectorScenario(longer)), '--json')).out);
    expect(other).toMatchObject({ acknowledged: 1, unrepeatable: 'step 3 is acknowledge a, and then flush' });
    const same = "run.begin('a'); disk.write(0, sector.fill(1)); run.acknowledge('a');";
    const steady = JSON.parse((await run('explore', file('steady.ts', sectorScenario(same)), '--json')).out);
    expect(steady).toMatchObject({ violatingRecoveries: 1, unrepeatable: null });
  });

  it('refuses faults for a scenario whose invariant does not know them', async () => {
    const flushed = "run.begin('a'); disk.write(0, sector.fill(1)); disk.flush(); run.acknowledge('a');";
    const path = file('faultless.ts', sectorScenario(flushed, 'knowsFaults: false,'));
    expect((await run('explore', path)).code).toBe(0);
    const { code, err } = await run('explore', path, '--faults', 'bit-rot');
    expect(code).toBe(2);
    expect(err).toMatch(/the invariant of sector does not know what faults may do/);
    expect(err.trim().split('\n').length).toBe(1);
  });

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

  it('shows a table by crash point, and a summary of what was covered', async () => {
    const { out } = await run('explore', 'device-key', '--through', 'direct', '--depth', '1');
    const { points, images, recoveries } = JSON.parse(
      (await run('explore', 'device-key', '--through', 'direct', '--depth', '1', '--json')).out,
    );
    expect(out).toMatch(/^ *# +the power fails +images +recoveries +violations$/m);
    for (const { index, label, images: count, recoveries: runs } of points) {
      const cells = [index, label.replaceAll(/[().]/g, '\\$&'), count, runs, 0];
      expect(out).toMatch(new RegExp(`^ *${cells.join(' +')}$`, 'm'));
    }
    expect(out).toContain(`${points.length} crash points, ${images} reachable disk images after one cut\n`);
    expect(out).toMatch(new RegExp(`^${recoveries} recoveries( \\(\\d+ known from others\\))? in 0 ms$`, 'm'));
  });

  it('cuts a long table short, unless --all', async () => {
    const path = file(
      'long.ts',
      `export default {
        name: 'long',
        disk: { sectorCount: 8 },
        format() {},
        workload(disk) { for (let i = 0; i < 50; i++) { disk.write(0, new Uint8Array(512).fill(i)); disk.flush(); } },
        recover: () => 1,
        invariant() {},
      };`,
    );
    const rows = (out: string) => out.split('\n').filter((line) => /^ *\d+ +(?:before|at) /.test(line)).length;
    const [some, all] = [(await run('explore', path)).out, (await run('explore', path, '--all')).out];
    expect(rows(some)).toBe(40);
    expect(rows(all)).toBe(50);
    expect(some).toContain('... and 10 more crash points (--all shows them)');
    expect(all).not.toContain('more crash points');
  });

  it.each([
    [['--depth', '3'], { depth: 3, complete: true, imagesByDepth: Array(3).fill(expect.stringMatching(/^[1-9]\d*$/)) }],
    [['--commit', 'ordered'], { commit: 'ordered', complete: true }],
    [['--profile', '4kn'], { profile: '4kn', complete: true }],
    [['--profile', '512e'], { profile: '512e', complete: true }],
    [['--strategy', 'bounded', '--bound', '2'], { strategy: 'bounded', complete: false }],
    [['--strategy', 'prefix'], { strategy: 'prefix', complete: false }],
    [['--break', 'epoch', '--max-violations', '1'], { violatingRecoveries: 1, complete: false }],
  ])('takes %j', async (options, expected) => {
    const result = JSON.parse((await run('explore', 'device-key', '--through', 'direct', '--json', ...options)).out);
    expect(result).toMatchObject(expected);
  });

  it('takes a size for large-value: twice the value, twice the frames', async () => {
    const imagesOf = async (size: string) =>
      BigInt(JSON.parse((await run('explore', 'large-value', '--size', size, '--depth', '1', '--json')).out).images);
    const [small, large] = [await imagesOf('8K'), await imagesOf('16384')];
    expect(large.toString(2).length).toBeGreaterThan(1.8 * small.toString(2).length);
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

  it('draws a bar on a terminal, and clears it', async () => {
    let nowMs = 0;
    const clock = { monotonicMs: () => (nowMs += 500), wallMs: () => 0 };
    const { err } = await runAt(clock, ['explore', '--time', '4s', '--json'], true);
    const [start, ...drawn] = err.split('\r\u001b[2K');
    expect([start, drawn.pop()]).toEqual(['', '']);
    expect(drawn.length).toBeGreaterThan(0);
    for (const bar of drawn) expect(bar).toMatch(/^\[#*\.*\] crash point \d+ of 15, \d+ recoveries \(\d+\/s\)$/);
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

describe("a scenario of one's own", () => {
  it('is told without the commit mode of a store that it does not have', async () => {
    const { out } = await run('explore', file('two-slots.ts', twoSlots('disk.flush();')));
    expect(out).toMatch(/^two-slot counter: through a virtio-blk ring, disk nvme-512/);
    expect(out).toMatch(/^COMPLETE/m);
  });

  it('that violates: says how many cases are left, and how to see more', async () => {
    const path = file('no-flush.ts', twoSlots(''));
    const { out } = await run('explore', path, '--max-violations', '3');
    expect(out).toMatch(/^INCOMPLETE: stopped after 3 violations \(--max-violations N goes on\)$/m);
    expect(out).toMatch(/^3 recoveries violate the invariant; made small they are 2 cases$/m);
    expect(out.match(/^VIOLATION/gm)).toHaveLength(2);
    const one = await run('explore', path, '--max-violations', '1');
    expect(one.out).toMatch(/^1 recovery violates the invariant$/m);
  });

  it('is replayed as the documentation shows it: what was not durable, and what was observed', async () => {
    const path = file('no-flush.ts', twoSlots(''));
    const { violations } = JSON.parse((await run('explore', path, '--json')).out);
    const { token } = violations.find(({ message }: { message: string }) => message === 'expected 20, got 10');
    const { out } = await run('replay', token, '--scenario', path);
    const page = readFileSync(new URL('../../docs/testing/index.md', import.meta.url), 'utf8');
    const shown = /^```\n( {2}begin 10\n[\s\S]*?)```/m.exec(page)?.[1];
    expect(out.split('\n').slice(2).join('\n')).toBe(shown);
  });

  it('marks a write as durable once a durable write of its sectors covers it', async () => {
    const workload = `run.begin(1); disk.write(0, sector(1)); disk.write(1, sector(1)); disk.write(0, sector(2), { fua: true });`;
    const path = file(
      'covered.ts',
      `const sector = (byte) => new Uint8Array(512).fill(byte);
      export default { name: 'covered', disk: { sectorCount: 8 }, format() {},
        workload(disk, run) { ${workload} run.acknowledge(1); },
        recover(disk) { const found = sector(0); disk.read(1, found); return found[0]; },
        invariant(found, history) { if (found === 0 && history.inFlight.length === 0 && history.length > 1) throw new Error('lost'); } };`,
    );
    const { violations } = JSON.parse((await run('explore', path, '--json', '--through', 'direct')).out);
    const { out } = await run('replay', violations[0].token, '--scenario', path);
    expect(out).toMatch(/^ {2}write sector 0$/m);
    expect(out).toMatch(/^ {2}write sector 1 \(not durable yet\)$/m);
    expect(out).toMatch(/^ {2}durable write sector 0$/m);
  });

  it('whose recovery throws: replay names file and line', async () => {
    const path = file(
      'throws.ts',
      `export default { name: 'throws', disk: { sectorCount: 8 }, format() {}, workload() {},
        recover(disk) {
          return disk.none.such;
        }, invariant() {} };`,
    );
    const { violations } = JSON.parse((await run('explore', path, '--json')).out);
    const { code, out } = await run('replay', violations[0].token, '--scenario', path);
    expect(code).toBe(1);
    expect(out).toMatch(/^VIOLATION: recovery failed: .*\n {2}thrown at .*throws\.ts:3\n$/m);
  });

  it('that reads outside of its disk, or by the wrong sector size: file and line', async () => {
    const source = (sector: number) =>
      `export default { name: 'x', disk: { sectorCount: 64 }, format() {}, recover() { return 1; }, invariant() {},
        workload(disk) {
          disk.write(${sector}, new Uint8Array(512));
        } };`;
    const outside = await run('explore', file('outside.ts', source(64)));
    expect(outside.code).toBe(2);
    expect(outside.err).toMatch(
      /outside\.ts: .* expected sectors inside 0\.\.63, got 1 from 64 \(.*outside\.ts:3\)\n$/,
    );
    const small = await run('explore', file('small.ts', source(0)), '--profile', '4kn');
    expect(small.code).toBe(2);
    expect(small.err).toMatch(/whole sectors of 4096 bytes, got 512 bytes \(.*small\.ts:3\)\n$/);
  });
});

/** A counter in two slots with a sequence number and a CRC: sound, if `flush` is one. */
function twoSlots(flush: string): string {
  return `
import { crc32 } from 'node:zlib';
import type { BlockDevice } from 'powercut/blockdev';
import type { Scenario } from 'powercut/explore';
const SLOTS = [0, 8];
function read(disk: BlockDevice) {
  let newest = { sequence: 0, value: 0 };
  for (const slot of SLOTS) {
    const sector = new Uint8Array(disk.sectorBytes);
    disk.read(slot, sector);
    const view = new DataView(sector.buffer);
    const [sequence, value, crc] = [0, 4, 8].map((at) => view.getUint32(at, true)) as [number, number, number];
    if (crc === crc32(sector.subarray(0, 8)) && sequence > newest.sequence) newest = { sequence, value };
  }
  return newest;
}
function write(disk: BlockDevice, value: number) {
  const sequence = read(disk).sequence + 1;
  const sector = new Uint8Array(disk.sectorBytes);
  const view = new DataView(sector.buffer);
  view.setUint32(0, sequence, true);
  view.setUint32(4, value, true);
  view.setUint32(8, crc32(sector.subarray(0, 8)), true);
  disk.write(SLOTS[sequence % 2]!, sector);
  ${flush}
}
export const scenario: Scenario<number, number> = {
  name: 'two-slot counter',
  disk: { sectorCount: 16 },
  format() {},
  workload(disk, run) {
    for (const value of [10, 20, 30]) { run.begin(value); write(disk, value); run.acknowledge(value); }
  },
  recover: (disk) => read(disk).value,
  invariant(found, history) {
    const done = history.events.filter((event) => event.kind === 'acknowledge');
    const allowed = [done.at(-1)?.op ?? 0, ...history.inFlight];
    if (!allowed.includes(found)) throw new Error(\`expected \${allowed.join(' or ')}, got \${found}\`);
  },
};
`;
}

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
    ['an option that is nearly one', ['explore', '--dept', '1'], /unknown option.*Did you mean --depth/],
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
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(out).toBe('');
  });

  it.each([
    ['a syntax error', '\n\nexport const scenario = {;', /can't be loaded.*a-syntax-error\.ts:3:/],
    ['an exception', 'throw new Error("at load");', /at load/],
    ['no export', 'export const other = 1, two = 2;', /expected a scenario .*, got undefined; it exports other, two$/m],
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

  it('a token of a scenario that throws by now: one clear line and exit code 2', async () => {
    const path = file('changing.ts', BROKEN);
    const { token } = JSON.parse((await run('explore', path, '--json')).out).violations[0];
    file('changing.ts', BROKEN.replace("run.begin('one');", "throw new Error('changed');"));
    const { code, err } = await run('replay', token, '--scenario', path);
    expect(err).toMatch(/^powercut: scenario .*changed.*\n$/);
    expect(code).toBe(2);
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
    const rest = { settings: {}, profile: 'nvme-512', linear: false as const, fingerprint: 0, crashPoint: 0, levels };
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
