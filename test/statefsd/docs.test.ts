import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import * as blockdev from '../../src/blockdev/index.ts';
import * as statefs from '../../src/statefs/index.ts';
import * as statefsd from '../../src/statefsd/index.ts';
import { resolveLimits } from '../../src/statefsd/limits.ts';
import { tables } from './tables.ts';

const AsyncFunction = (async () => {}).constructor as new (...parts: string[]) => (modules: object) => Promise<void>;

const doc = readFileSync(new URL('../../docs/statefsd.md', import.meta.url), 'utf8');

describe('docs/statefsd.md has what the code has:', () => {
  test.each(Object.entries(tables()))('%s', (_name, rows) => {
    // The table as a whole: a row too many is as wrong as one too few.
    expect(doc).toContain(`\n\n${rows}\n\n`);
  });

  test('every limit', () => {
    for (const name of Object.keys(resolveLimits())) expect(doc).toContain(`| \`${name}\``);
  });
});

test('the program in docs/statefsd.md runs, and what it puts is there', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pc-'));
  const program = (/```ts\n(import \{ FileDevice \}[\s\S]*?)```/.exec(doc) as RegExpExecArray)[1]!
    .replace(/import (\{[^}]*\}) from 'powercut\/(\w+)';/g, 'const $1 = modules.$2;')
    .replaceAll('/run/statefsd', join(folder, 's'))
    .replace("'state.img'", `'${join(folder, 'state.img')}'`);
  // Its lines as they stand, with the modules at hand.
  const run = new AsyncFunction('modules', program);
  try {
    await run({ blockdev, statefs, statefsd });
    const device = blockdev.FileDevice.open(join(folder, 'state.img'), { readOnly: true });
    const store = statefs.open(device, { readOnly: true });
    expect(store.list()).toEqual(['/state/apps/clock/zone', '/state/boot/slot']);
    expect(store.stat('/state/apps/clock/zone').meta).toMatchObject({ subject: 'app.clock', purpose: 'first start' });
    store.close();
    device.close();
    expect(existsSync(join(folder, 's/app.clock.sock'))).toBe(false);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
