import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { VirtualClock } from '../../src/core/index.ts';
import { format, fsck, inspect, open } from '../../src/statefs/index.ts';
import { FEATURE_LONG_COMMITS, FEATURE_MOVED } from '../../src/statefs/layout.ts';
import { encodeSuperblock } from '../../src/statefs/superblock.ts';
import { bytes, codeThrown, deviceOf, imageOf } from './helpers.ts';

/** Set it to write what is missing: an image that exists is never written over, since older stores have it. */
const GENERATE = 'POWERCUT_GENERATE_GOLDEN';

const META = { subject: 'golden', purpose: 'transactions', ts: 1_700_000_000_123 };

/** Format 1 with transactions: commits of one frame and of two, a key deleted in one, an extent in another. */
function withTransactions(): { image: Uint8Array; content: Map<string, Uint8Array> } {
  const device = new MemoryDevice({ sectorCount: 512 });
  format(device, { storeId: Uint8Array.from({ length: 16 }, (_, i) => 0xb0 + i) });
  const content = new Map<string, Uint8Array>();
  const store = open(device, { clock: new VirtualClock() });
  const put = (count: number, keyOf: (i: number) => string, size: number, commit: 'ordered' | 'checksummed') =>
    store.transaction(
      (tx) => {
        for (let i = 0; i < count; i++) {
          tx.put(keyOf(i), bytes(size + i, size + i), { meta: META });
          content.set(keyOf(i), bytes(size + i, size + i));
        }
      },
      { commit },
    );
  put(3, (i) => `/state/short/${i}`, 30, 'ordered');
  put(7, (i) => `/state/long/${i}/${'k'.repeat(238)}`, 5, 'checksummed');
  store.transaction((tx) => {
    tx.delete('/state/short/1');
    tx.put('/state/extent', bytes(4000, 4), { meta: META });
  });
  content.delete('/state/short/1');
  content.set('/state/extent', bytes(4000, 4));
  store.close();
  return { image: imageOf(device), content };
}

/** Format 1 after compaction: moved records with their own sequence numbers, then groups of a new life behind them. */
function afterMove(): { image: Uint8Array; content: Map<string, Uint8Array> } {
  const device = new MemoryDevice({ sectorCount: 512 });
  format(device, { storeId: Uint8Array.from({ length: 16 }, (_, i) => 0xc0 + i) });
  const content = new Map<string, Uint8Array>();
  const store = open(device, { clock: new VirtualClock() });
  const put = (key: string, size: number): void => {
    store.putAtomic(key, bytes(size, size), { meta: META });
    content.set(key, bytes(size, size));
  };
  for (let i = 0; i < 5; i++) put(`/state/moved/${i}`, 10 + i);
  put('/state/moved/2', 50);
  put('/state/moved/extent', 3000);
  store.delete('/state/moved/3');
  content.delete('/state/moved/3');
  store.compact();
  put('/state/moved/0', 20);
  put('/state/new', 2500);
  store.close();
  return { image: imageOf(device), content };
}

/** Each released format, and each feature of it that a reader must know. */
const images = [
  { name: 'v1-transactions', features: FEATURE_LONG_COMMITS, generate: withTransactions },
  { name: 'v1-moved', features: FEATURE_MOVED, generate: afterMove },
];

describe.each(images)('the golden image $name', ({ name, features, generate }) => {
  const place = new URL(`./golden/${name}.img.gz`, import.meta.url);
  const { image, content } = generate();

  function golden(): Uint8Array {
    if (!existsSync(place)) {
      if (process.env[GENERATE] === undefined) throw new Error(`it is missing: set ${GENERATE}=1 once to write it`);
      writeFileSync(place, gzipSync(image, { level: 9 }));
    }
    return new Uint8Array(gunzipSync(readFileSync(place)));
  }

  it('is what the store writes today', () => {
    expect(Buffer.compare(golden(), image)).toBe(0);
  });

  it('reads as it always has, and is clean to fsck', () => {
    const store = open(deviceOf(golden()));
    expect(store.list()).toEqual([...content.keys()].sort());
    for (const [key, value] of content) {
      expect(Buffer.compare(store.get(key), value), key).toBe(0);
      expect(store.stat(key).meta).toEqual(META);
    }
    expect(fsck(deviceOf(golden()))).toMatchObject({ verdict: 'clean', check: { findings: [], closed: true } });
    const inUse = inspect(deviceOf(golden())).superblocks.find((copy) => copy.inUse);
    expect(inUse?.fields?.features).toBe(features);
  });

  it('with a feature that nobody knows yet is refused by all, and touched by none', () => {
    const device = deviceOf(golden());
    const { superblocks } = inspect(device);
    for (const { copy, fields } of superblocks) {
      const storeId = new Uint8Array(Buffer.from(fields?.storeId ?? '', 'hex'));
      const sector = new Uint8Array(512);
      encodeSuperblock({ ...(fields as NonNullable<typeof fields>), storeId, features: 0x40 }, copy, sector);
      device.write(copy * 8, sector);
    }
    const before = imageOf(device);
    expect(codeThrown(() => open(device))).toBe('EPROTO');
    expect(codeThrown(() => inspect(device))).toBe('EPROTO');
    const { verdict, check } = fsck(device, { repair: true });
    expect(verdict).toBe('beyond-repair');
    expect(check.findings).toMatchObject([{ code: 'EPROTO', lost: 'nothing', what: expect.stringContaining('0x40') }]);
    expect(Buffer.compare(imageOf(device), before)).toBe(0);
  });
});

it('every image in the folder is clean to fsck, and shown without a blank', () => {
  const folder = new URL('./golden/', import.meta.url);
  const names = readdirSync(folder);
  expect(names.length).toBeGreaterThan(1);
  for (const name of names) {
    const device = deviceOf(new Uint8Array(gunzipSync(readFileSync(new URL(name, folder)))));
    expect(fsck(device).verdict, name).toBe('clean');
    expect(
      inspect(device).groups.flatMap(({ blankSectors }) => blankSectors),
      name,
    ).toEqual([]);
  }
});
