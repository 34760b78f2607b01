import { execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FileDevice } from '../../src/blockdev/index.ts';
import { format, open } from '../../src/statefs/index.ts';
import { run } from './helpers.ts';

let folder: string;
const at = (name: string): string => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'powercut-export-'));
  writeStore('state.img', 256);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function writeStore(name: string, sectorCount: number): void {
  const device = FileDevice.create(at(name), { sectorCount });
  format(device);
  const store = open(device);
  store.putAtomic('/state/key', new Uint8Array(3000).fill(2), { meta: { ts: 5 } });
  store.putAtomic('/state/boot', new Uint8Array(20).fill(1), { meta: { ts: 5 } });
  store.close();
  device.close();
}

/** Flips a bit of the first sector that is full of `byte`. */
function spoil(name: string, byte: number): void {
  const image = readFileSync(at(name));
  const found = image.indexOf(Buffer.alloc(16, byte));
  image[found] = (image[found] as number) ^ 1;
  writeFileSync(at(name), image);
}

describe('powercut export and import', () => {
  test('move a store: equal contents, equal files; 0', async () => {
    const first = await run('export', at('state.img'), at('a.sfx'));
    expect([first.code, first.err]).toEqual([0, '']);
    expect(first.out).toMatch(/a\.sfx: 2 keys, \d+ bytes, contents [0-9a-f]{64}\n$/);
    const second = await run('import', at('a.sfx'), at('other.img'), '--json');
    expect([second.code, second.err]).toEqual([0, '']);
    const imported = JSON.parse(second.out);
    expect(imported).toMatchObject({ image: at('other.img'), keys: 2, payloadBytes: 3020, sizeBytes: 2 << 20 });
    expect(first.out).toContain(imported.sha256);
    const third = await run('export', at('other.img'), at('b.sfx'), '--json');
    expect(JSON.parse(third.out)).toMatchObject({ keys: 2, lost: [], sha256: imported.sha256 });
    expect(readFileSync(at('b.sfx'))).toEqual(readFileSync(at('a.sfx')));
    expect((await run('fsck', at('other.img'))).code).toBe(0);
    expect(readdirSync(folder).sort()).toEqual(['a.sfx', 'b.sfx', 'other.img', 'state.img']);
  });

  test('write over nothing unless told to', async () => {
    await run('export', at('state.img'), at('a.sfx'));
    const before = readFileSync(at('state.img'));
    for (const args of [
      ['export', at('state.img'), at('a.sfx')],
      ['import', at('a.sfx'), at('state.img')],
    ]) {
      const { code, err } = await run(...args);
      expect(code).toBe(2);
      expect(err).toMatch(/^powercut: \S+ exists: name another, or give --replace\n$/);
    }
    expect(readFileSync(at('state.img'))).toEqual(before);
    expect((await run('export', at('state.img'), at('a.sfx'), '--replace')).code).toBe(0);
    expect((await run('import', at('a.sfx'), at('state.img'), '--replace', '--size', '128K')).code).toBe(0);
    expect(readFileSync(at('state.img'))).toHaveLength(131_072);
    // An image that somebody has open is not replaced under their feet.
    const device = FileDevice.open(at('state.img'));
    const busy = await run('import', at('a.sfx'), at('state.img'), '--replace');
    device.close();
    expect(busy.code).toBe(2);
    expect(busy.err).toMatch(/in use|lock/);
  });

  test('replace files alone: no device, no pipe, no link, and never what is read', async () => {
    await run('export', at('state.img'), at('a.sfx'));
    execFileSync('mkfifo', [at('pipe')]);
    symlinkSync(at('a.sfx'), at('link'));
    linkSync(at('state.img'), at('same.img'));
    linkSync(at('a.sfx'), at('same.sfx'));
    const before = readFileSync(at('state.img'));
    for (const args of [
      ...['/dev/null', at('pipe'), at('link'), folder, at('state.img'), at('same.img')].map((to) => [
        'export',
        at('state.img'),
        to,
      ]),
      ...['/dev/null', at('pipe'), at('link'), at('a.sfx'), at('same.sfx')].map((to) => ['import', at('a.sfx'), to]),
      ['import', at('pipe'), at('new.img')],
      ['import', '/dev/zero', at('new.img')],
    ]) {
      const { code, err } = await run(...args, '--replace');
      expect([args, code, err.trim().split('\n').length]).toEqual([args, 2, 1]);
      expect(err).toMatch(/no regular file|made from/);
    }
    expect(lstatSync('/dev/null').isCharacterDevice()).toBe(true);
    expect(lstatSync(at('pipe')).isFIFO()).toBe(true);
    expect(readFileSync(at('state.img')).equals(before)).toBe(true);
  });

  test('what lies beside a file under an unfinished name stays', async () => {
    writeFileSync(at('mine'), 'mine');
    for (const name of ['a.sfx.part', 'b.img.part', 'b.img.new']) symlinkSync(at('mine'), at(name));
    const names = readdirSync(folder).length;
    expect((await run('export', at('state.img'), at('a.sfx'))).code).toBe(0);
    expect((await run('import', at('a.sfx'), at('b.img'))).code).toBe(0);
    expect(readFileSync(at('mine'), 'utf8')).toBe('mine');
    expect(readdirSync(folder).length).toBe(names + 2);
    expect(lstatSync(at('a.sfx')).mode & 0o777).toBe(0o600);
  });

  test('what is damaged: one line and 2, and no half a file; with --partial the rest, and 1', async () => {
    spoil('state.img', 1);
    const whole = await run('export', at('state.img'), at('a.sfx'));
    expect(whole.code).toBe(2);
    expect(whole.err).toMatch(/^powercut: [^\n]*\/state\/boot[^\n]*\n$/);
    expect(readdirSync(folder)).toEqual(['state.img']);
    const partial = await run('export', at('state.img'), at('a.sfx'), '--partial');
    expect(partial.code).toBe(1);
    expect(partial.out).toMatch(/^LOST \/state\/boot: .*\n.*: 1 key,/);
    const json = await run('export', at('state.img'), at('b.sfx'), '--partial', '--json');
    expect(JSON.parse(json.out)).toMatchObject({ keys: 1, lost: [{ key: '/state/boot' }] });
    spoil('a.sfx', 2);
    const damaged = await run('import', at('a.sfx'), at('other.img'));
    expect(damaged.code).toBe(2);
    expect(damaged.err).toMatch(/^powercut: the export is damaged at byte 16: the payload of \/state\/key[^\n]*\n$/);
    expect(existsSync(at('other.img'))).toBe(false);
  });

  test('misuse: one line, and 2', async () => {
    await run('export', at('state.img'), at('a.sfx'));
    writeFileSync(at('text'), 'no store'.repeat(64));
    for (const [args, message] of [
      [['export', at('none.img'), at('b.sfx')], /none\.img/],
      [['export', at('text'), at('b.sfx')], /text: .*statefs/],
      [['export', at('state.img'), join(folder, 'none', 'b.sfx')], /ENOENT/],
      [['import', at('none'), at('b.img')], /none/],
      [['import', at('text'), at('b.img')], /no export/],
      [['import', at('a.sfx'), at('b.img'), '--size', '8K'], /partition: expected at least/],
      [['import', at('a.sfx'), join(folder, 'none', 'b.img')], /none/],
      [['import', folder, at('b.img')], /no regular file/],
    ] as const) {
      const { code, err } = await run(...args);
      expect(code, args.join(' ')).toBe(2);
      expect(err).toMatch(/^powercut: [^\n]+\n$/);
      expect(err).toMatch(message);
    }
    expect(readdirSync(folder).sort()).toEqual(['a.sfx', 'state.img', 'text']);
  });
});
