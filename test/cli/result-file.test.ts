import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from '@node-rs/crc32';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { run } from './helpers.ts';

const folder = mkdtempSync(join(tmpdir(), 'powercut-results-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const fresh = (): string => join(folder, `${count++}.jsonl`);
const BASE = ['explore', 'device-key', '--through', 'direct'];
const MEDIA = ['explore', 'media', '--through', 'direct', '--depth', '1', '--faults', 'lost-write,latent-error'];

/** A line as the file has it. */
function sealed(json: string): string {
  return `${json.slice(0, -1)},"crc32":"${crc32(json).toString(16).padStart(8, '0')}"}\n`;
}

async function jsonOf(...args: string[]): Promise<unknown> {
  const { out } = await run(...args, '--json');
  return { ...JSON.parse(out), elapsedMs: 0 };
}

describe('shards and merge', () => {
  it.each([
    ['a sound store', BASE],
    ['a broken one', [...BASE, '--break', 'epoch', '--max-violations', '3']],
    ['a medium that does wrong', MEDIA],
  ])('give the result of one run: %s', async (_name, words) => {
    const files = [fresh(), fresh(), fresh()];
    for (const [at, file] of files.entries()) await run(...words, '--shard', `${at + 1}/3`, '--out', file);
    const merged = await jsonOf('merge', ...files.reverse());
    expect(merged).toEqual(await jsonOf(...words));
  });

  it('and threads on a medium that does wrong', async () => {
    expect(await jsonOf(...MEDIA, '--workers', '2')).toEqual(await jsonOf(...MEDIA));
  });

  it('say what is missing', async () => {
    const file = fresh();
    expect(await run(...BASE, '--shard', '1/2', '--out', file, '--require-complete')).toMatchObject({ code: 3 });
    const { code, out } = await run('merge', file, '--require-complete');
    expect(code).toBe(3);
    expect(out).toMatch(/INCOMPLETE: not all .*\nabout \d+ % covered: /);
  });

  it('refuse files of different explorations', async () => {
    const [one, other] = [fresh(), fresh()];
    await run(...BASE, '--shard', '1/2', '--out', one);
    await run(...BASE, '--depth', '1', '--shard', '2/2', '--out', other);
    const { code, err } = await run('merge', one, other);
    expect(code).toBe(2);
    expect(err).toMatch(/another exploration.*depth is 1, not 2/);
    await run(...MEDIA, '--shard', '1/2', '--out', fresh());
    await run(...MEDIA, '--max-faults', '2', '--max-recoveries', '9', '--out', other.replace('.', '-2.'));
    const faulty = await run('merge', join(folder, `${count - 1}.jsonl`), other.replace('.', '-2.'));
    expect(faulty.code).toBe(2);
    expect(faulty.err).toMatch(/another exploration.*maxFaults is /);
  });
});

describe('an interrupted run', () => {
  it('goes on where it stopped, with the result of one run', async () => {
    const file = fresh();
    expect((await run(...BASE, '--max-recoveries', '40', '--resume', file)).out).toMatch(/INCOMPLETE/);
    const before = readFileSync(file, 'utf8').length;
    expect(await jsonOf(...BASE, '--resume', file)).toEqual(await jsonOf(...BASE));
    expect(readFileSync(file, 'utf8').length).toBeGreaterThan(before);
    expect(await jsonOf('merge', file)).toEqual(await jsonOf(...BASE));
  });

  it('may have been killed in the midst of a line', async () => {
    const file = fresh();
    await run(...BASE, '--out', file);
    truncateSync(file, readFileSync(file).length - 7);
    expect(await jsonOf(...BASE, '--resume', file)).toEqual(await jsonOf(...BASE));
    expect(await jsonOf('merge', file)).toEqual(await jsonOf(...BASE));
  });

  it('is not mixed with another one', async () => {
    const file = fresh();
    await run(...BASE, '--out', file);
    const { code, err } = await run(...BASE, '--profile', 'harsh', '--resume', file);
    expect(code).toBe(2);
    expect(err).toMatch(/profile is "nvme-512", not "harsh"/);
    expect((await run(...BASE, '--out', file)).err).toMatch(/there is a file already.*--resume/);
  });
});

describe('what is no result file gets one line and exit code 2', () => {
  it.each([
    ['nothing', ''],
    ['text', 'hello\n'],
    ['another version', '{"powercut":2,"scenario":"device-key","flags":{}}\n'],
    ['a list', '[1,2,3]\n'],
    ['no header', sealed('{"point":0,"start":[]}')],
    ['flags that are none', sealed('{"powercut":3,"scenario":"device-key","flags":null}')],
    ['no end of a line', sealed('{"powercut":3,"scenario":"device-key","flags":{}}').trim()],
  ])('%s', async (_name, text) => {
    const file = fresh();
    writeFileSync(file, text);
    const { code, err } = await run('merge', file);
    expect([code, err.trim().split('\n').length]).toEqual([2, 1]);
  });

  it.each(['{}', 'null', '{"point":-1}', '{"point":0,"start":["a"]}', '"__proto__"'])('a unit %s', async (line) => {
    const file = fresh();
    await run(...BASE, '--max-recoveries', '1', '--out', file);
    const whole = readFileSync(file);
    for (const text of [`${line}\n`, sealed(line)]) {
      writeFileSync(file, whole);
      appendFileSync(file, text);
      const { code, err } = await run('merge', file);
      expect([code, err.trim().split('\n').length]).toEqual([2, 1]);
    }
  });

  it('any byte that is not as it was written', async () => {
    const file = fresh();
    await run(...BASE, '--depth', '1', '--out', file);
    const whole = readFileSync(file);
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 2), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const damaged = Uint8Array.from(whole);
        damaged[at]! ^= flip;
        writeFileSync(file, damaged);
        const { code, err } = await run('merge', file);
        expect([code, err.trim().split('\n').length]).toEqual([2, 1]);
      }),
      { numRuns: 200 },
    );
  });

  it('a pipe', async () => {
    const file = fresh();
    execFileSync('mkfifo', [file]);
    for (const words of [
      ['merge', file],
      [...BASE, '--resume', file],
    ]) {
      const { code, err } = await run(...words);
      expect([code, err.trim().split('\n').length]).toEqual([2, 1]);
    }
  });

  it('a unit of which more was said than is so is no complete result', async () => {
    const file = fresh();
    await run(...BASE, '--out', file);
    const [header, ...units] = readFileSync(file, 'utf8').trim().split('\n');
    const raised = JSON.parse(units[3]!.replace(/,"crc32":"\w+"/, '')) as Record<string, unknown>;
    const forged = sealed(JSON.stringify({ ...raised, violating: 9 }));
    writeFileSync(file, [header, ...units.slice(0, 3), forged.trim(), ...units.slice(4), ''].join('\n'));
    const { code, out } = await run('merge', file);
    expect(code).not.toBe(0);
    expect(out).toMatch(/INCOMPLETE/);
  });

  it('a script outside of the folder', async () => {
    const file = fresh();
    writeFileSync(file, sealed('{"powercut":3,"scenario":"/tmp/evil.ts","flags":{"depth":1}}'));
    const { code, err } = await run('merge', file);
    expect(code).toBe(2);
    expect(err).toMatch(/--scenario/);
  });

  it.each(['0/3', '4/3', '1', 'a/b', '1/0'])('a shard %s', async (text) => {
    const { code, err } = await run(...BASE, '--shard', text);
    expect([code, err.trim().split('\n').length]).toEqual([2, 1]);
  });
});
