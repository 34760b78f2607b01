import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { junitOf } from '../../src/cli/junit.ts';
import { paintStoryLine, sizeOf, smallestOf } from '../../src/cli/story.ts';
import { VirtualClock } from '../../src/core/index.ts';
import { explore, type Scenario, type Violation } from '../../src/explore/index.ts';
import { run } from './helpers.ts';

const hasPython = spawnSync('python3', ['--version']).status === 0;
const folder = mkdtempSync(join(tmpdir(), 'powercut-junit-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Text as XML takes it back. */
function unescaped(text: string): string {
  return text
    .replaceAll('&#10;', '\n')
    .replaceAll('&#9;', '\t')
    .replaceAll('&quot;', '"')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&');
}

/** Every tag closes, attributes are quoted, and nothing stands between. @returns the names of the test cases */
function casesOf(xml: string): string[] {
  const open: string[] = [];
  const rest = xml
    .replace(/^<\?xml .*\?>\n/, '')
    .replace(/<(\/?)([a-z]+)((?: [a-z]+="[^"<]*")*)(\/?)>/g, (_all, closes, name, _attributes, empty) => {
      if (closes === '/') expect(open.pop()).toBe(name);
      else if (empty !== '/') open.push(name);
      return '';
    });
  expect(open).toEqual([]);
  expect(rest).not.toMatch(/[<>]/);
  return [...xml.matchAll(/<testcase classname="[^"]*" name="([^"]*)"/g)].map((match) => unescaped(match[1] as string));
}

const numbers = (xml: string) =>
  /<testsuite name="[^"]*" tests="(\d+)" failures="(\d+)" errors="(\d+)" skipped="(\d+)"/
    .exec(xml)
    ?.slice(1)
    .map(Number);

const torn: Scenario<string, number[]> = {
  name: 'a "torn" <record> & more',
  disk: { sectorCount: 8 },
  format: (device) => device.write(0, new Uint8Array(1024).fill(1)),
  workload(device, run) {
    run.begin('switch');
    device.write(0, new Uint8Array(1024).fill(2));
    device.flush();
    run.acknowledge('switch');
  },
  recover(device) {
    const record = new Uint8Array(1024);
    device.read(0, record);
    return [...new Set(record)];
  },
  invariant(found) {
    if (found.length > 1) throw new Error(`torn:\u0000 ${found.join(' & ')} ]]> <b>`);
  },
};

describe('JUnit XML', () => {
  it('has a case for each crash point, and what failed in its place', () => {
    const result = explore(torn, { clock: new VirtualClock() });
    const failures = result.violations.map(({ crashPoint, message }) => ({ crashPoint, message, text: 'one\ntwo' }));
    const xml = junitOf(result, failures, true);
    expect(casesOf(xml)).toEqual([
      ...result.points.map(({ index, label }) => `crash point ${index}: ${label}`),
      'every crash was explored',
    ]);
    const failing = result.points.filter(({ violations }) => violations > 0).length;
    expect(failing).toBeGreaterThan(0);
    expect(numbers(xml)).toEqual([result.points.length + 1, failing, 0, 0]);
    const message = /<failure type="violation" message="([^"]*)">/.exec(xml)?.[1] as string;
    expect(unescaped(message)).toMatch(/^torn:\ufffd (1 & 2|2 & 1) \]\]> <b>$/);
    expect(xml).toContain('name="a &quot;torn&quot; &lt;record&gt; &amp; more"');
  });

  it('an incomplete result is a skipped case, or a failure where completeness is asked for', () => {
    const result = explore(torn, { maxRecoveries: 1, shrinkRuns: 0 });
    expect(result.complete).toBe(false);
    expect(numbers(junitOf(result, [], false))?.slice(2)).toEqual([0, 1]);
    expect(numbers(junitOf(result, [], true))?.[3]).toBe(0);
    expect(junitOf(result, [], true)).toContain('<failure type="incomplete" message="incomplete: stopped after 1');
  });

  it('a recovery that is not deterministic is an error', () => {
    let calls = 0;
    const moody: Scenario = { ...torn, recover: () => calls++, invariant() {} } as Scenario;
    const xml = junitOf(explore(moody), [], false);
    expect(numbers(xml)?.[2]).toBe(1);
    expect(xml).toContain('<error type="nondeterminism"');
    casesOf(xml);
  });

  // Skipped: there is no python3 here.
  it.skipIf(!hasPython)('an XML parser agrees (needs python3)', () => {
    const path = join(folder, 'parsed.xml');
    writeFileSync(path, junitOf(explore(torn), [{ crashPoint: 0, message: '\ud800', text: '\u0007' }], true));
    const parse = "import sys, xml.dom.minidom as m; print(len(m.parse(sys.argv[1]).getElementsByTagName('testcase')))";
    const count = execFileSync('python3', ['-c', parse, path], { encoding: 'utf8' });
    expect(Number(count)).toBe(casesOf(readFileSync(path, 'utf8')).length);
  });
});

describe('powercut explore --junit', () => {
  it('writes the story of each violation and the line that replays it, and tells the smallest', async () => {
    const path = join(folder, 'broken.xml');
    const args = ['device-key', '--break', 'commit-flush', '--through', 'direct', '--depth', '1', '--junit', path];
    const { code, out } = await run('explore', ...args);
    expect(code).toBe(1);
    const xml = readFileSync(path, 'utf8');
    casesOf(xml);
    const text = unescaped(/<failure [^>]*>([\s\S]*?)<\/failure>/.exec(xml)?.[1] as string);
    expect(text).toMatch(
      /^scenario device-key[\s\S]*POWER CUT[\s\S]*recovery 1[\s\S]*VIOLATION: [\s\S]*replay it: npx/,
    );
    expect(out).toMatch(/^the smallest: 1 operation, 1 sector not as last written, 1 power cut$/m);
    const [, story] = out.split(/^the smallest: .*\n\n/m);
    expect(story).toMatch(/^ {2}scenario device-key[\s\S]*\n {2}POWER CUT[\s\S]*\n {2}VIOLATION: .*\n$/);
  });

  it('writes over nothing that it reads, and says what it can not write before anything is run', async () => {
    const script = join(folder, 'own.ts');
    const results = join(folder, 'results.jsonl');
    writeFileSync(script, 'export default {};');
    await run('explore', 'device-key', '--depth', '1', '--out', results);
    const before = readFileSync(results);
    for (const args of [
      ['explore', script, '--junit', script],
      ['explore', 'device-key', '--resume', results, '--junit', results],
      ['explore', 'device-key', '--out', join(folder, 'o'), '--junit', join(folder, 'o')],
      ['merge', results, '--junit', results],
      ['merge', results, '--junit', folder],
    ]) {
      const { code, out, err } = await run(...args);
      expect([args, code, out, err.trim().split('\n').length]).toEqual([args, 2, '', 1]);
      expect(err).toMatch(/--junit: /);
    }
    expect(readFileSync(script, 'utf8')).toBe('export default {};');
    expect(readFileSync(results).equals(before)).toBe(true);
    expect(existsSync(join(folder, 'o'))).toBe(false);
  });

  it('says so in one line where the file can not be written', async () => {
    const path = join(folder, 'absent', 'x.xml');
    const { code, err } = await run('explore', 'device-key', '--through', 'direct', '--depth', '1', '--junit', path);
    expect(code).toBe(2);
    expect(err).toMatch(/^powercut: --junit: .* can't be written: .*\n$/);
  });
});

describe('stories', () => {
  const output = { useColour: true } as Parameters<typeof paintStoryLine>[0];

  it.each([
    ['VIOLATION: x', '\u001b[31m'],
    ['POWER CUT before flush 1', '\u001b[33m'],
    ['    sector 3 keeps its old version (2 of 2)', '\u001b[33m'],
    ['    sector 3 keeps its newest version (1 of 2)', '\u001b[2m'],
    ['      from byte 0: newest 00', '\u001b[32m'],
    ['                   kept   01', '\u001b[31m'],
  ])('"%s" has a colour', (line, colour) => {
    expect(paintStoryLine(output, line).startsWith(colour)).toBe(true);
    expect(paintStoryLine({ ...output, useColour: false }, line)).toBe(line);
  });

  it('the smallest failure is that of the fewest operations, then deviations, then cuts', () => {
    const kept = (version: number) => ({ level: 0, sector: 0, kind: 'version' as const, version, versionCount: 3 });
    const make = (begins: number, versions: number[], cuts: number) =>
      ({
        history: new Array(begins).fill({ kind: 'begin', op: 1 }),
        kept: versions.map(kept),
        cuts,
      }) as unknown as Violation;
    const order = [make(1, [0, 1], 3), make(2, [0], 2), make(2, [1], 1), make(2, [2], 2), make(3, [], 1)];
    for (let drop = 0; drop < order.length; drop++) {
      expect(smallestOf(order.slice(drop).reverse())).toBe(order[drop]);
    }
    expect(smallestOf([])).toBeUndefined();
    expect(sizeOf(order[0]!)).toEqual({ operations: 1, deviations: 1 });
  });
});
