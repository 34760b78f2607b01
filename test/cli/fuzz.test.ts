import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/core/index.ts';
import { run, runAt } from './helpers.ts';

const folder = mkdtempSync(join(tmpdir(), 'powercut-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('powercut fuzz', () => {
  it('says what it did, and keeps what took recovery a new way', async () => {
    const corpus = join(folder, 'sound');
    const args = ['fuzz', '--runs', '4', '--seed', '9', '--max-recoveries', '20', '--corpus', corpus];
    const { code, out, err } = await run(...args);
    expect(out).toMatch(/^seed 9: 4 cases, every crash explored of \d$/m);
    expect(out).toMatch(/^(\d+) ways through recovery, \1 of them new$/m);
    expect(out).toMatch(/^no failure$/m);
    expect([code, err]).toEqual([0, '']);
    const kept = readdirSync(join(corpus, 'paths'));
    expect(kept.length).toBeGreaterThan(0);
    const entry = JSON.parse(readFileSync(join(corpus, 'paths', kept[0]!), 'utf8'));
    expect(entry.paths.length).toBeGreaterThan(0);
    // Known ways are not new a second time.
    const again = await run(...args, '--json');
    const known = Number(/^(\d+) ways/m.exec(out)?.[1]);
    const report = JSON.parse(again.out);
    expect(report.paths - report.newPaths).toBe(known);
  });

  it('keeps a failure, tries it first the next time, and says when it is mended', async () => {
    const corpus = join(folder, 'broken');
    const flags = ['fuzz', '--seed', '1', '--corpus', corpus, '--break', 'commit-flush', '--max-failures', '1'];
    const first = await run(...flags, '--runs', '20');
    expect(first.code).toBe(1);
    expect(first.out).toMatch(/^FAILURE: /m);
    const [, token] = /replay it: npx powercut replay (pc1\.\S+)$/m.exec(first.out) as unknown as [string, string];
    const [, file] = /kept in (.*\.json)$/m.exec(first.out) as unknown as [string, string];
    expect(existsSync(file)).toBe(true);

    const replayed = await run('replay', token);
    expect(replayed.code).toBe(1);
    const message = /^FAILURE: (.*)$/m.exec(first.out)?.[1];
    expect(replayed.out).toContain(`VIOLATION: ${message}`);

    const second = JSON.parse((await run(...flags, '--json', '--runs', '20')).out);
    expect(second).toMatchObject({ runs: 0, failures: [{ known: true, file, message, token }], mended: [] });

    const sound = await run('fuzz', '--seed', '1', '--corpus', corpus, '--runs', '1', '--max-recoveries', '20');
    expect(sound.code).toBe(0);
    expect(sound.out).toContain(`MENDED: ${file} no longer fails`);
  });

  it('finds under a fault what power cuts alone do not, shows the fault, and replays it', async () => {
    const junit = join(folder, 'fuzz.xml');
    const flags = ['fuzz', '--seed', '1', '--break', 'unreadable', '--profile', 'nvme-512', '--runs', '45'];
    const { code, out } = await run(...flags, '--faults', 'hung-request', '--max-failures', '1', '--junit', junit);
    expect(code).toBe(1);
    expect(out).toMatch(/^ {2}disk nvme-512, \d+ KiB, .*, with hung-request$/m);
    expect(out).toMatch(/hung request: /);
    const [, token] = /replay it: npx powercut replay (pc1\.\S+)$/m.exec(out) as unknown as [string, string];
    const message = /^FAILURE: (.*)$/m.exec(out)?.[1];
    expect((await run('replay', token)).out).toContain(`VIOLATION: ${message}`);
    const xml = readFileSync(junit, 'utf8');
    expect(xml).toMatch(/^<testsuite name="fuzz" tests="1" failures="1" errors="0" skipped="0" time="\d+\.\d{3}">$/m);
    expect(xml).toMatch(/<testcase classname="fuzz" name="failure 1: /);
    expect(xml).toContain(`npx powercut replay ${token}`);

    const sound = await run(...flags, '--faults', 'none', '--max-recoveries', '100', '--junit', junit);
    expect([sound.code, sound.err]).toEqual([0, '']);
    expect(readFileSync(junit, 'utf8')).toMatch(
      /failures="0".*\n.*\n(.*\n)*<testcase classname="fuzz" name="random cases"\/>/,
    );
  });

  it.each([
    [['--faults', 'moths'], /--faults <kinds>.*expected some of bit-rot, .*, got "moths"/],
    [['--faults', 'latency-spike'], /expected some of bit-rot/],
    [['--junit', join(folder, 'no', 'where.xml')], /--junit: .*where.xml can't be written/],
    [['--corpus', ''], /--corpus: expected the name of a folder, got none/],
  ])('%j is misuse, said before anything is run', async (args, message) => {
    const { code, out, err } = await run('fuzz', '--runs', '1', ...args);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(message);
    expect(err.trim().split('\n').length).toBe(1);
  });

  it('stops when its time is up', async () => {
    const clock = new VirtualClock();
    // Each look at the clock takes a second: a handful of them is all the time there is.
    const hurried = {
      wallMs: () => clock.wallMs(),
      monotonicMs: () => {
        clock.advance(1000);
        return clock.monotonicMs();
      },
    };
    const { code, err, out } = await runAt(hurried, ['fuzz', '--time', '12s', '--max-recoveries', '5', '--seed', '2']);
    expect(code).toBe(0);
    expect(Number(/(\d+) cases?,/.exec(out)?.[1])).toBeLessThan(12);
    expect(err).toMatch(/recoveries \(\d+\/s\), \d+ ways through recovery\n/);
  });

  it('a corpus with something else in it: one line, exit 2', async () => {
    const odd = join(folder, 'odd');
    mkdirSync(join(odd, 'failures', 'x.json'), { recursive: true });
    expect((await run('fuzz', '--runs', '1', '--corpus', odd)).err).toMatch(/x.json is no entry .*no regular file/);
    const file = join(folder, 'odder');
    mkdirSync(file);
    writeFileSync(join(file, 'paths'), '');
    const { code, err } = await run('fuzz', '--runs', '1', '--corpus', file);
    expect([code, err.trim().split('\n').length]).toEqual([2, 1]);
    expect(err).toMatch(/--corpus: .*paths can't be listed: ENOTDIR/);
  });

  it.each([
    ['no JSON', '{', /is no entry of a corpus: .*: mend or delete it\n$/],
    ['no case', '{}', /is no entry of a corpus: fuzz case: case: expected an object, got undefined/],
  ])('a corpus file that is %s: one line, exit 2', async (name, text, message) => {
    const corpus = join(folder, name.replace(' ', '-'));
    mkdirSync(join(corpus, 'failures'), { recursive: true });
    writeFileSync(join(corpus, 'failures', 'x.json'), text);
    const { code, err } = await run('fuzz', '--runs', '1', '--corpus', corpus);
    expect(code).toBe(2);
    expect(err).toMatch(message);
    expect(err.trim().split('\n').length).toBe(1);
  });
});
