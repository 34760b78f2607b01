import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { viewOf } from '../../src/core/index.ts';
import {
  BOOT_RECORD_BYTES,
  type BootState,
  DEVICE_KEY_BYTES,
  DEVICE_KEY_PATH,
  encodeBootState,
  Keystored,
} from '../../src/statefsd/index.ts';
import { MemoryPort } from './memory-port.ts';

const page = readFileSync(new URL('../../docs/services.md', import.meta.url), 'utf8');

/** Offsets and sizes of a byte table, by the start of what it says. */
function table(title: string): { at: number; bytes: number; what: string }[] {
  const [, rest = ''] = page.split(`| offset | bytes | ${title} |\n|---|---|---|\n`);
  const rows = rest.slice(0, rest.indexOf('\n\n')).split('\n');
  return rows.map((row) => {
    const [, at, bytes, what = ''] = /^\| (\d+) \| (\d+) \| (.*) \|$/.exec(row) ?? [];
    return { at: Number(at), bytes: Number(bytes), what };
  });
}

function offsetOf(title: string, start: string): number {
  const row = table(title).find(({ what }) => what.startsWith(start));
  if (row === undefined) throw new Error(`there is no ${start}`);
  return row.at;
}

describe('docs/services.md', () => {
  test.each([
    ['boot record', BOOT_RECORD_BYTES],
    ['key record', DEVICE_KEY_BYTES],
  ])('the %s has every byte, once', (title, byteCount) => {
    let next = 0;
    for (const { at, bytes } of table(title)) {
      expect(at).toBe(next);
      next += bytes;
    }
    expect(next).toBe(byteCount);
  });

  test('the boot record is as it says', () => {
    const state: BootState = {
      generation: 0x01020304,
      a: { priority: 15, triesLeft: 3, isHealthy: false },
      b: { priority: 14, triesLeft: 0, isHealthy: true },
    };
    const record = encodeBootState(state);
    const at = (start: string) => offsetOf('boot record', start);
    expect(Buffer.from(record).toString('latin1', 0, 4)).toBe('PCBC');
    expect(record[at('version')]).toBe(1);
    expect([...record.subarray(at('slot a'), at('slot a') + 3)]).toEqual([15, 3, 0]);
    expect([...record.subarray(at('slot b'), at('slot b') + 3)]).toEqual([14, 0, 1]);
    expect(viewOf(record).getUint32(at('generation'), true)).toBe(state.generation);
  });

  test('the key record is as it says', async () => {
    const store = new MemoryPort();
    const seed = Uint8Array.from({ length: 32 }, (_, i) => i);
    const keystored = new Keystored(store, { generateSeed: () => seed.slice() });
    const first = await keystored.open();
    const second = await keystored.rotate();
    const record = store.values.get(DEVICE_KEY_PATH) as Uint8Array;
    const field = (start: string, bytes: number) => {
      const at = offsetOf('key record', start);
      return record.slice(at, at + bytes);
    };
    expect(Buffer.from(record).toString('latin1', 0, 4)).toBe('PCKS');
    expect([viewOf(field('version', 4)).getUint32(0, true), viewOf(field('generation', 4)).getUint32(0, true)]).toEqual(
      [1, 2],
    );
    expect(field('private key', 32)).toEqual(seed);
    expect(record.slice(offsetOf('key record', 'private key') + 32, offsetOf('key record', 'public key of'))).toEqual(
      second.publicKey,
    );
    expect(field('public key of', 32)).toEqual(first.publicKey);
    expect(field('its signature', 64)).toEqual(second.previous?.endorsement);
  });
});
