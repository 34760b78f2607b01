import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { VirtualClock } from '../../src/core/index.ts';
import { format, open } from '../../src/statefs/index.ts';
import { run } from './helpers.ts';

let folder: string;
let image: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'powercut-fsck-command-'));
  image = join(folder, 'state.img');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Writes an image with two keys, and what `damage` does to its device. */
function writeImage(damage: (device: MemoryDevice) => void = () => {}, sectorBytes = 512): void {
  const device = new MemoryDevice({ sectorCount: (128 * 1024) / sectorBytes, sectorBytes });
  format(device, { storeId: new Uint8Array(16).fill(7) });
  const store = open(device, { clock: new VirtualClock() });
  store.putAtomic('/state/boot', new Uint8Array(20).fill(1));
  store.putAtomic('/state/key', new Uint8Array(3000).fill(2));
  store.close();
  damage(device);
  const bytes = new Uint8Array(128 * 1024);
  device.read(0, bytes);
  writeFileSync(image, bytes);
}

const lose =
  (...sectors: number[]) =>
  (device: MemoryDevice): void => {
    for (const sector of sectors) device.write(sector, new Uint8Array(512));
  };

describe('powercut fsck', () => {
  test('a clean image: 0, with the space in a table that lines up', async () => {
    writeImage();
    const { code, out, err } = await run('fsck', image);
    expect([code, err]).toEqual([0, '']);
    expect(out).toBe(
      [
        `${image}: 2 keys, 2 values of 3020 bytes verified, last group 2, closed`,
        '',
        'space           bytes   share',
        'log              2048    3.3%',
        '  of it live     1024    1.7%',
        'payloads         3584    5.8%',
        '  of them live   3584    5.8%',
        'free            55808   90.8%',
        'region          61440  100.0%',
        '',
        'clean: nothing that is live is damaged',
        '',
      ].join('\n'),
    );
  });

  test('a dry run names what is lost and writes nothing; the repair does it', async () => {
    writeImage(lose(0, 133));
    const before = readFileSync(image);
    const dry = await run('fsck', image, '--repair', '--dry-run');
    expect(dry.code).toBe(1);
    expect(dry.out).toContain('DAMAGE superblock-lost at sector 0 (byte 0)');
    expect(dry.out).toContain('  lost:   the value of /state/key (3000 bytes, group 2)\n  repair: delete-key');
    expect(readFileSync(image).equals(before)).toBe(true);
    const plain = await run('fsck', image);
    expect(plain.code).toBe(1);
    expect(readFileSync(image).equals(before)).toBe(true);
    const repaired = await run('fsck', image, '--repair');
    expect(repaired.code).toBe(1);
    expect(repaired.out).toContain('restored the lost superblock copy\ndeleted /state/key: its value is lost\n');
    expect(repaired.out).toMatch(/repaired: 2 found, and checked again afterwards\n$/);
    expect((await run('fsck', image)).code).toBe(0);
  });

  test('--json has the whole report', async () => {
    writeImage(lose(133));
    const { code, out } = await run('fsck', image, '--json');
    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({
      image,
      verdict: 'repairable',
      check: { findings: [{ kind: 'value-lost', keys: ['/state/key'], repair: 'delete-key' }] },
    });
  });

  test('what is beyond repair, and what is no image: 2, with a line that says so', async () => {
    writeImage(lose(16, 17));
    const beyond = await run('fsck', image, '--repair');
    expect(beyond.code).toBe(2);
    expect(beyond.out).toMatch(/DAMAGE keys-unknown[\s\S]*beyond repair: 1 found/);
    writeFileSync(image, new Uint8Array(65_536));
    const none = await run('fsck', image);
    expect(none.code).toBe(2);
    expect(none.out).toMatch(/no statefs partition[\s\S]*no statefs image: nothing was checked\n$/);
    writeFileSync(image, 'hello');
    for (const place of [image, join(folder, 'nothing'), folder]) {
      const { code, err } = await run('fsck', place);
      expect([code, err.split('\n').length]).toEqual([2, 2]);
      expect(err).toContain(place);
    }
  });

  test('takes the sectors that the store has', async () => {
    writeImage(() => {}, 4096);
    expect((await run('fsck', image)).code).toBe(0);
  });
});

describe('powercut inspect', () => {
  test('shows superblocks and frames in tables that line up', async () => {
    writeImage(lose(133));
    const { code, out, err } = await run('inspect', image);
    expect([code, err]).toEqual([0, '']);
    expect(out.split('\n').map((line) => line.replace(/[0-9a-f]{12}/, 'DIGEST......'))).toEqual([
      `${image}: 256 sectors of 512 bytes, units of 1; regions 16..135 and 136..255, region 0 is active`,
      '',
      'copy  state   generation  epoch  region  frontier  group  payloads  closed  features',
      '   0  valid            3      3       0        16      0       136  no           0x0',
      '   1  in use           4      3       0        20      2       129  yes          0x0',
      '',
      'sector  size  frame     flags  group  epoch  durable  says                                                             recovery',
      '    16     1  temp 0    L          1      3        0  put /state/boot, 20 bytes',
      '    17     1  commit 0  L          1      3        0  /state/boot DIGEST......                                         committed',
      '    18     1  temp 0    L          2      3        1  put /state/key, 3000 bytes, 2 payload frames from sector 129 on',
      '    19     1  commit 0  L          2      3        1  /state/key DIGEST......                                          committed',
      '',
      'log: sectors 16..19, 2 groups, last group 2, 2 keys; free up to 128',
      '',
    ]);
  });

  test('shows damage, and prints one object with --json', async () => {
    writeImage(lose(8, 16));
    const { code, out } = await run('inspect', image);
    expect(code).toBe(0);
    expect(out).toMatch(/^ {3}1 {2}blank +-/m);
    expect(out).toContain('copy 1: it does not start with STATEFS');
    expect(out).toMatch(/^ {4}16 {5}1 {2}- .*no frame$/m);
    expect(out).toMatch(/temp-lost$/m);
    const { out: json } = await run('inspect', image, '--json');
    expect(JSON.parse(json)).toMatchObject({ image, groups: [{ row: 'temp-lost', blankSectors: [16] }, {}] });
  });

  test('what is no store: 2, with one line', async () => {
    writeFileSync(image, new Uint8Array(65_536));
    const { code, out, err } = await run('inspect', image);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(/^powercut: .*state\.img: superblock: this is no statefs partition.*\n$/);
  });
});

describe('powercut explore repair-...', () => {
  test('explores the repair, and the broken one is caught and replayed', async () => {
    const sound = await run('explore', 'repair-superblock-newer', '--require-complete');
    expect(sound.code).toBe(0);
    const broken = await run('explore', 'repair-superblock-newer', '--break', 'new-life', '--json');
    expect(broken.code).toBe(1);
    const [token] = /pc1\.[\w.-]+/.exec(broken.out) ?? [''];
    expect((await run('replay', token)).code).toBe(1);
    expect((await run('explore', 'repair-payload', '--break', 'epoch')).err).toMatch(
      /--break: expected one of new-life,/,
    );
    expect((await run('explore', 'repair-payload', '--profile', '4kn')).code).toBe(2);
  });
});

describe('powercut scrub', () => {
  test('a clean image: 0, and not a byte written', async () => {
    writeImage();
    const before = readFileSync(image);
    const { code, out, err } = await run('scrub', image, '--repair');
    expect([code, err]).toEqual([0, '']);
    expect(out).toBe(`${image}: 2 values verified, 7680 bytes read\n\nclean: everything verifies\n`);
    expect(readFileSync(image).equals(before)).toBe(true);
  });

  test('what can be put right: 1, said without --repair and done with it', async () => {
    writeImage(lose(0));
    const before = readFileSync(image);
    const dry = await run('scrub', image);
    expect(dry.code).toBe(1);
    expect(dry.out).toContain('DAMAGE superblock at sector 0 (byte 0)');
    expect(dry.out).toMatch(/mendable: 1 found; --repair puts all of it right\n$/);
    expect(readFileSync(image).equals(before)).toBe(true);
    const { code, out } = await run('scrub', image, '--repair');
    expect(code).toBe(1);
    expect(out).toContain('  lost:   nothing\n  mended: rewritten');
    expect((await run('scrub', image)).code).toBe(0);
    expect((await run('fsck', image)).code).toBe(0);
  });

  test('what is lost: 2, with its key; it stays reported', async () => {
    writeImage(lose(133));
    for (const flags of [[], ['--repair']]) {
      const { code, out } = await run('scrub', image, '--json', ...flags);
      expect(code).toBe(2);
      expect(JSON.parse(out)).toMatchObject({
        image,
        verdict: 'lost',
        damaged: 1,
        mended: 0,
        findings: [{ part: 'value', keys: ['/state/key'], lost: 'the value of /state/key (3000 bytes, group 2)' }],
      });
    }
  });

  test('no store, or no file: 2', async () => {
    writeImage(lose(0, 8));
    const { code, out } = await run('scrub', image);
    expect([code, out.startsWith('no statefs image: ')]).toEqual([2, true]);
    expect((await run('scrub', image, '--json')).out).toContain('"verdict":"no-store"');
    expect((await run('scrub', join(folder, 'none.img'))).code).toBe(2);
  });
});
